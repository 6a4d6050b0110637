"""Guards the two HTTP servers: silent clients are disconnected, and many clients cannot starve the archiver's work.

One request to a connection, complete within ten seconds, answered or given up within thirty; a fixed number of
connections at once; and only under one of our names, so that no web page can have a visitor's browser ask us under a
name of its own (DNS rebinding). An IP address counts as ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from aiohttp import web

from archiver.errors import ArchiverError, UnavailableError

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_SECONDS = 10.0
ANSWER_SECONDS = 30.0
CONNECTIONS = 64
_CLOSING_SECONDS = 2.0
_LOOPBACK = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


class Door:
    """Serves one application on one address. `names`: our names beside loopback, the address and this host's name."""

    def __init__(self, app: web.Application, *, names: Iterable[str] = ()) -> None:
        self._names = _LOOPBACK | {each.lower().rstrip(".") for each in (socket.gethostname(), *names)}
        self._asked: set[object] = set()

        @web.middleware
        async def at_the_door(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._at_the_door(request, handler)

        app.middlewares.insert(0, at_the_door)
        app.on_response_prepare.append(_plain_headers)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSING_SECONDS,
            keepalive_timeout=REQUEST_SECONDS, max_headers=64,
        )  # fmt: skip
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen; return the port, which differs from `port` when that is 0. Raises `UnavailableError`."""
        self._names |= {host.lower()}
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._enter, host, port, backlog=CONNECTIONS, reuse_address=True
            )
        except OSError as problem:
            await self._runner.cleanup()
            why = os.strerror(problem.errno) if problem.errno and problem.errno > 0 else "no such address"
            raise UnavailableError(f"{host}:{port}: {why}") from problem
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Close the listener and its connections, within seconds, even those in use."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _enter(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        if len(server.connections) >= CONNECTIONS:
            return _Full()
        made = server()
        loop = asyncio.get_running_loop()
        loop.call_later(REQUEST_SECONDS, self._unless_asked, made)
        loop.call_later(ANSWER_SECONDS, made.force_close)
        return made

    def _unless_asked(self, connection: web.RequestHandler) -> None:
        if connection not in self._asked:
            connection.force_close()

    async def _at_the_door(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = request.protocol
        await request.read()  # a client that sends no whole body in time is disconnected, too
        self._asked.add(connection)
        try:
            if not self._is_ours(request.headers.get("Host", "")):
                return _last(web.Response(status=421, text="this server has another name\n"))
            return _last(await handler(request))
        except ArchiverError as failed:
            return _last(web.Response(status=503, text=f"{failed.sentence}\n"))
        finally:
            self._asked.discard(connection)

    def _is_ours(self, host: str) -> bool:
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if not name or name.rstrip(".") in self._names:  # HTTP/1.0 sends no name, and browsers do not speak it
            return True
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return False


class Kept(Generic[T]):
    """One answer for all requests within `seconds`, made once however many ask at once. Raises the errors of `make`."""

    def __init__(self, make: Callable[[], Awaitable[T]], now: Callable[[], float], seconds: float = 3.0) -> None:
        self._make = make
        self._now = now
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._kept: tuple[float, T] | None = None

    async def get(self) -> T:
        async with self._lock:
            if self._kept is None or self._now() - self._kept[0] >= self._seconds:
                try:
                    async with asyncio.timeout(REQUEST_SECONDS):
                        made = await self._make()
                except TimeoutError:
                    raise UnavailableError("the database has not answered in time") from None
                self._kept = (self._now(), made)
            return self._kept[1]


class _Full(asyncio.Protocol):
    """Closes a connection at once when too many are open, and keeps no descriptor for it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _last(response: web.StreamResponse) -> web.StreamResponse:
    response.force_close()
    return response


async def _plain_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "archiver"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
