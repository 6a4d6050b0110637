"""Resolves host names in threads of each party's own.

A name server that hangs keeps a thread for up to half a minute, and nothing can call it off. In the threads that all
parts of the process share, a few such names would stop the database's readers, too.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

_THREADS = 4
_NUMBERS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Names(AbstractResolver):
    """The resolver of one party, for its HTTP client. Further names of the same party wait while all its threads
    hang."""

    def __init__(self, party: str) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"names-{party}")

    async def addresses(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC, flags: int = 0
    ) -> list[tuple[socket.AddressFamily, int, tuple[Any, ...]]]:
        """Return the family, the protocol and the address of each socket that may be opened. Raises `OSError`."""
        ask = functools.partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=flags)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [(family, protocol, address) for family, _, protocol, _, address in found]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See `AbstractResolver.resolve`."""
        found = await self.addresses(host, port, family, socket.AI_ADDRCONFIG)
        return [
            ResolveResult(
                hostname=host, host=_text(address), port=address[1], family=kind, proto=protocol, flags=_NUMBERS
            )
            for kind, protocol, address in found
        ]

    async def close(self) -> None:
        """Release the threads that do not hang; those that do end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _text(address: tuple[Any, ...]) -> str:
    """Return an address with the zone that a link-local one needs."""
    zone = f"%{address[3]}" if len(address) > 3 and address[3] and "%" not in str(address[0]) else ""
    return f"{address[0]}{zone}"
