"""Makes connections to one provider's hosts, with everything switched off that the library does of its own accord.

No redirect is followed, no cookie kept, no proxy or netrc read from the environment, no body decompressed, no
certificate left unchecked; a socket exists only for an address that the egress policy allows.
"""

from __future__ import annotations

import enum
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from archiver.clock import Clock
from archiver.errors import ConfigurationError, EgressRefusedError, UnavailableError
from archiver.names import Names
from archiver.providers.egress import Policy, Target
from archiver.providers.http_answer import MAX_HEAD
from archiver.providers.http_faults import LIBRARY_ERRORS, AddressRefused, fault
from archiver.providers.http_media import PIECE, Limits
from archiver.providers.http_mended import Connector
from archiver.recording import Secret

Observe: TypeAlias = "Callable[[str, int | str, float], None]"
Pay: TypeAlias = "Callable[[], Awaitable[None]]"


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxy that requests go through: its origin, and the credentials that only the proxy is sent."""

    url: str
    user: str = ""
    password: Secret | None = None

    def options(self) -> dict[str, Any]:
        """Return the library's options for this proxy. Raises `ConfigurationError` for credentials that no header can
        carry."""
        if self.password is None:
            return {"proxy": URL(self.url)}
        user, password = self.user.strip(), self.password.reveal().strip()
        if ":" in user or not (user + password).isprintable():
            raise ConfigurationError("proxy: user or password hold characters that no header may")
        shown = aiohttp.encode_basic_auth(user, password)
        # The library sends this as `Proxy-Authorization`: on the CONNECT alone, where there is one.
        return {"proxy": URL(self.url), "proxy_headers": {"Authorization": shown}}


class Reading(enum.Enum):
    """The way in which an answer is read: strictly (`SHARED`, `ALONE`), with a `MENDED` head, or `TO_THE_END` without a
    stated length."""

    SHARED = "shared"
    ALONE = "alone"
    MENDED = "mended"
    TO_THE_END = "to the end"


class Transport:
    """Sends requests to targets that the policy has checked.

    API calls share connections. A download has its own connection, closed after it: bytes that a broken server sends
    beyond the end of a body can then never be taken for the next recording. The callers bound the number of
    connections.

    An answer that the strict reader refuses as invalid HTTP is asked for once more, and read as browsers would
    (`http_mended`).
    """

    def __init__(
        self,
        policy: Policy,
        limits: Limits,
        clock: Clock,
        observe: Observe | None,
        ca_bundle: Path | None,
        proxy: Proxy | None = None,
    ) -> None:
        self._policy = policy
        self._limits = limits
        self._clock = clock
        self._observe = observe
        self._through = proxy.options() if proxy is not None else {}
        self._own_tls = None if ca_bundle is None else _tls(policy.provider, ca_bundle)
        self._names = Names(policy.provider)
        self._sessions: dict[Reading, aiohttp.ClientSession] = {}
        self._closed = False

    async def ask(
        self, method: str, target: Target, headers: Mapping[str, str], data: bytes | None, pay: Pay | None = None
    ) -> aiohttp.ClientResponse:
        """Return the head of an API answer. `pay` is awaited before a second request that is read leniently; without
        `pay`, no second request is sent.

        The library repeats an idempotent request once, by itself, when the connection ended before an answer: the usual
        fate of a kept connection that the server has just closed.
        """
        return await self._send(Reading.SHARED, pay, method, target, headers, data)

    async def download(
        self, target: Target, headers: Mapping[str, str], pay: Pay, *, to_the_end: bool = False
    ) -> aiohttp.ClientResponse:
        """Return the head of an answer that may be a recording. `to_the_end`: all bytes until the connection ends are
        its body."""
        return await self._send(Reading.TO_THE_END if to_the_end else Reading.ALONE, pay, "GET", target, headers, None)

    async def _send(
        self,
        reading: Reading,
        pay: Pay | None,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        data: bytes | None,
    ) -> aiohttp.ClientResponse:
        await self._judge(target)
        session = self._sessions.get(reading) or self._session(reading)
        try:
            return await session.request(
                method, _url(target), headers=headers, data=data, allow_redirects=False, **self._through
            )
        except (aiohttp.ClientResponseError, HttpProcessingError) as exc:
            if pay is None or reading not in _STRICT or fault(exc).code != "protocol":
                raise
        await pay()
        return await self._send(Reading.MENDED, pay, method, target, headers, data)

    @contextmanager
    def exchange(self, endpoint: str, host: str) -> Iterator[list[int | str]]:
        """Translate the library's exceptions within the block, and tell the observer how the exchange went.

        The block adds the status to the list. Raises `EgressRefusedError` or `UnavailableError`.
        """
        if self._closed:
            raise UnavailableError(f"the client of {self._policy.provider} is closed")
        seen: list[int | str] = []
        started = self._clock.monotonic()
        try:
            yield seen
        except LIBRARY_ERRORS as exc:
            found = fault(exc)
            seen.append(found.code)
            if found.code == "egress":
                raise EgressRefusedError(f"{host} has an address that may not be reached: {found.sentence}") from None
            raise UnavailableError(f"{host}: {found.sentence}") from None
        finally:
            if seen and self._observe is not None:
                self._observe(endpoint, seen[-1], self._clock.monotonic() - started)

    async def aclose(self) -> None:
        """Close every connection; open downloads fail."""
        self._closed = True
        for session in self._sessions.values():
            await session.close()
        await self._names.close()

    def _session(self, reading: Reading) -> aiohttp.ClientSession:
        """Return the session, made on first use, because it belongs to the running event loop."""
        guards: dict[str, Any] = {"ssl": self._tls(), "limit": 0, "resolver": self._names}
        guards["socket_factory"] = self._guarded_socket
        lines: dict[str, Any] = {}
        if reading not in _STRICT:
            lines = {"max_line_size": MAX_HEAD, "max_field_size": MAX_HEAD, "max_headers": 1000}
        connector = Connector(
            mending=reading not in _STRICT,
            to_the_end=reading is Reading.TO_THE_END,
            force_close=reading is not Reading.SHARED,
            **guards,
        )
        self._sessions[reading] = session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=self._limits.connect_timeout.total_seconds(),
                sock_read=self._limits.read_timeout.total_seconds(),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=PIECE,
            **lines,
        )
        return session

    def _tls(self) -> ssl.SSLContext:
        """Return the TLS context, made on first use: reading the system's certificates takes longer than most commands
        that connect to nobody."""
        self._own_tls = self._own_tls or _tls(self._policy.provider, None)
        return self._own_tls

    async def _judge(self, target: Target) -> None:
        """Judge the target's address behind a proxy by this host's DNS, because no socket shows it there.

        A name that only the proxy can resolve is the proxy's to judge; host and scheme have passed the policy already.
        """
        if not self._through:
            return
        try:
            found = await self._names.addresses(target.origin.host, target.origin.port)
        except OSError:
            return
        for *_, address in found:
            if problem := self._policy.address_problem(str(address[0])):
                raise AddressRefused(problem)

    def _guarded_socket(self, info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        """Judge the address of a socket before it connects: address literals as well as every answer of DNS."""
        family, kind, protocol, _, address = info
        if self._through:  # every socket goes to the proxy, whose address the operator chose
            return socket.socket(family=family, type=kind, proto=protocol)
        if problem := self._policy.address_problem(str(address[0])):
            raise AddressRefused(problem)
        return socket.socket(family=family, type=kind, proto=protocol)


_STRICT = frozenset({Reading.SHARED, Reading.ALONE})


def _url(target: Target) -> URL:
    """Return the very parts that were checked: nothing is parsed or quoted again, so a signature stays as it was
    signed."""
    origin = target.origin
    return URL.build(
        scheme=origin.scheme,
        host=origin.authority,
        port=origin.port,
        path=target.path,
        query_string=target.query,
        encoded=True,
    )


def _tls(provider: str, ca_bundle: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as exc:
        raise ConfigurationError(f"{provider}: ca_bundle cannot be used: {exc.strerror or exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
