"""Sends to one configured URL and to nothing else: no redirect, no proxy, no cookie, and never a link-local address.

The URL is a secret, since anyone who knows it can write there. So it appears in no error and in no log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from archiver.clock import Clock
from archiver.errors import ConfigurationError, EgressRefusedError, ThrottledError, UnavailableError
from archiver.providers import egress
from archiver.providers.http_answer import flatten, retry_after
from archiver.providers.http_media import Limits
from archiver.providers.http_transport import Transport
from archiver.recording import Secret

_LIMITS = Limits(connect_timeout=timedelta(seconds=10), read_timeout=timedelta(seconds=20))
_LONGEST = timedelta(seconds=30)
_HEADERS = {"User-Agent": "compliance-archiver", "Accept-Encoding": "identity"}


class Post:
    """Sends to one URL. Private addresses are allowed, since an operator named them; plain http only with
    `allow_http`."""

    def __init__(
        self,
        name: str,
        url: Secret,
        clock: Clock,
        *,
        allow_http: bool = False,
        ca_bundle: Path | None = None,
        longest: timedelta = _LONGEST,
    ) -> None:
        """Connects to nothing yet. Raises `ConfigurationError` for an invalid URL, or for http without `allow_http`."""
        try:
            self._target = egress.take_apart(url.reveal())
        except EgressRefusedError as exc:
            raise ConfigurationError(f"{name}: {exc.detail}") from None
        origin = self._target.origin
        if origin.scheme == "http" and not allow_http:
            raise ConfigurationError(f"{name}: its URL is http and allow_http is off")
        rules = egress.policy(name, str(origin), (), allow_http=allow_http, allow_private_addresses=True)
        self._clock = clock
        self._host = origin.host
        self._longest = longest
        self._transport = Transport(rules, _LIMITS, clock, None, ca_bundle)

    async def send(self, method: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> None:
        """Sends one request. Raises `ThrottledError` or `UnavailableError` unless the answer is 2xx; its body is not
        read."""
        try:
            with self._transport.exchange("notify", self._host) as seen:
                async with asyncio.timeout(self._longest.total_seconds()):
                    answer = await self._transport.ask(method, self._target, {**_HEADERS, **(headers or {})}, body)
                    seen.append(answer.status)
        except EgressRefusedError as refused:
            raise UnavailableError(refused.detail) from None
        status = answer.status
        wait = retry_after(flatten(answer.headers.items()), self._clock.now())
        answer.close()
        if status == 429 or (wait is not None and status == 503):
            raise ThrottledError(f"{self._host} answered {status}", retry_after=wait)
        if not 200 <= status < 300:
            raise UnavailableError(f"{self._host} answered {status}")

    async def aclose(self) -> None:
        await self._transport.aclose()
