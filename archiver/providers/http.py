"""The HTTP client for providers: one client per provider account, whose credentials are sent to their own origin only.

Every request passes the same checks: the rate budget, the egress policy on the URL and again on the connected address,
time and size limits. No exception of the HTTP library leaves this module.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlencode

import aiohttp

from archiver.clock import Clock
from archiver.errors import (
    AnswerTooLargeError,
    ConfigurationError,
    LinkRefusedError,
    ListingError,
    NotReadyError,
    RecordingGoneError,
    ThrottledError,
    UnavailableError,
)
from archiver.providers import egress, http_answer
from archiver.providers.egress import Origin, Target
from archiver.providers.http_answer import Answer
from archiver.providers.http_media import PIECE, Download, Limits
from archiver.providers.http_transport import Observe, Pay, Proxy, Transport
from archiver.providers.port import Budget
from archiver.recording import Json

__all__ = ["Answer", "Download", "HttpClient", "Limits", "Proxy", "UnlimitedBudget"]

_DEFAULT_LIMITS = Limits()
_DEFAULT_PAUSE = 5.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
LISTING = "list"
"""The endpoint whose answers may be large."""
MAX_SMALL_ANSWER = 4 << 20
"""The most bytes of an answer about one thing: a recording, a login, a deletion."""
_SAID_TO_ANYONE = frozenset({"accept", "accept-encoding", "user-agent", "range", "if-range"})
_NOT_YET = frozenset({202, 204, 205, 409, 423, 425})
_PASSING = frozenset({407, 408, 416, 421})
"""Client errors that say nothing of the recording: of a proxy, a time-out, a range, a wrongly routed connection."""
_OWN_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "compliance-archiver"}


class UnlimitedBudget:
    """A `Budget` without a rate, for one process: only a pause that the provider asked for holds requests."""

    def __init__(self) -> None:
        self._until = 0.0

    async def take(self, cost: int = 1) -> None:  # noqa: ARG002 - any number of requests may go
        while (left := self._until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110 - a pause may grow meanwhile
            await asyncio.sleep(left)

    async def pause(self, wait: timedelta) -> None:
        self._until = max(self._until, asyncio.get_running_loop().time() + wait.total_seconds())


class HttpClient:
    """Requests to one provider's API and downloads from its hosts. Safe for concurrent use within one event loop.

    `origin` is scheme, host and port of the API; `media_hosts` are further hosts that links may lead to (`host`,
    `host:port`, `*.suffix`). `ca_bundle` replaces the system's certificate authorities. With `proxy`, every request
    goes through it. `jitter` gives numbers in [0, 1) that spread the default pause over many clients. `observe` is told
    of every exchange: endpoint, status or kind of failure, seconds. Raises `ConfigurationError` for invalid settings.
    """

    def __init__(
        self,
        *,
        provider: str,
        origin: str,
        media_hosts: Sequence[str] = (),
        allow_http: bool = False,
        allow_private_addresses: bool = False,
        budget: Budget,
        clock: Clock,
        limits: Limits = _DEFAULT_LIMITS,
        observe: Observe | None = None,
        hear: Callable[[datetime], None] | None = None,
        ca_bundle: Path | None = None,
        proxy: Proxy | None = None,
        jitter: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._policy = egress.policy(
            provider, origin, media_hosts, allow_http=allow_http, allow_private_addresses=allow_private_addresses
        )
        self._budget = budget
        self._clock = clock
        self._hear = hear
        self._limits = limits
        self._jitter = jitter
        self._transport = Transport(self._policy, limits, clock, observe, ca_bundle, proxy)

    async def request(
        self,
        method: str,
        path: str,
        *,
        endpoint: str,
        params: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        json_body: Json = None,
        cost: int = 1,
    ) -> Answer:
        """Ask the API and read the whole answer. Waits for the budget first; never follows a redirect.

        `path` is percent-encoded by the caller and joined to the origin. Raises `ThrottledError` on 429, after pausing
        the budget; `UnavailableError` on 5xx, 408 and everything that goes wrong below HTTP; `ListingError` on a
        redirect or an encoding other than gzip and deflate; `AnswerTooLargeError` on more than `max_answer` bytes,
        encoded or not, or, of anything but a listing, on more than `MAX_SMALL_ANSWER`; `EgressRefusedError` when the
        address is refused. The caller judges every other status. An answer that is not valid HTTP is asked for again,
        and then read as browsers do.
        """
        target = Target(self._policy.origin, egress.api_path(path), urlencode(params, quote_via=quote))
        sent = self._headers(headers or {})
        data = None
        if json_body is not None:
            data = json.dumps(json_body, allow_nan=False).encode()
            sent["Content-Type"] = "application/json"
        await self._budget.take(cost)
        host = target.origin.host
        most = self._limits.max_answer if endpoint == LISTING else min(self._limits.max_answer, MAX_SMALL_ANSWER)
        with self._transport.exchange(endpoint, host) as seen:
            async with asyncio.timeout(self._limits.answer_time.total_seconds()):
                pay = partial(self._budget.take, cost)
                async with await self._transport.ask(method, target, sent, data, pay) as response:
                    seen.append(response.status)
                    body = await self._body(response, host, most)
        answered = http_answer.flatten(response.headers.items())
        answer = Answer(response.status, answered, body, http_answer.http_date(answered.get("date")))
        if self._hear is not None and answer.date is not None and "age" not in answered:  # not from a cache
            self._hear(answer.date)
        answer = await self._judged(answer)
        return await asyncio.to_thread(http_answer.decoded, answer, host, most)

    @asynccontextmanager
    async def media(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        credentials: Mapping[str, str] | None = None,
        credential_origins: Collection[str] = (),
        offset: int = 0,
        etag: str | None = None,
        counts_against_budget: bool = False,
        to_the_end: bool = False,
        endpoint: str = "media",
    ) -> AsyncIterator[Download]:
        """Open a download, following up to `max_redirects` redirects within the egress policy.

        `credentials` are sent to `credential_origins` only; of `headers`, another origin sees only what is said to
        anyone (Accept, User-Agent). With `offset` and a strong `etag` the rest is asked for; `Download.offset` tells
        what was granted. `to_the_end`: no stated length is believed, and all bytes until the connection ends are the
        body. An answer that is not valid HTTP is asked for again, and then read as browsers do.

        Raises `RecordingGoneError` (404), `NotReadyError` (202, 204, 205, 409, 423, 425), `ThrottledError` (429),
        `UnavailableError` (407, 408, 416, 421, 5xx and failures below HTTP), `LinkRefusedError` (every other 4xx: an
        unknown status means the same as 400), `TooLargeError`, `EgressRefusedError`.
        """
        target = self._policy.check(url)
        trusted = egress.origins(credential_origins)
        resume = {"Range": f"bytes={offset}-", "If-Range": etag or ""} if offset and http_answer.is_strong(etag) else {}

        def to(origin: Origin) -> dict[str, str]:
            public = self._headers({**(headers or {}), **resume})
            if origin != target.origin:
                public = {name: value for name, value in public.items() if name.lower() in _SAID_TO_ANYONE}
            return public | (self._clean(credentials or {}) if origin in trusted else {})

        async def pay() -> None:
            if counts_against_budget:
                await self._budget.take()

        await pay()
        response, last = await self._follow(target, to, endpoint, pay, to_the_end=to_the_end)
        if resume and not _granted(response, offset):
            # the part cannot be had (416, or another part than asked for): the whole is asked for instead
            response.close()
            resume.clear()
            response, last = await self._follow(target, to, endpoint, pay, to_the_end=to_the_end)
        try:
            host = last.origin.host
            answered = http_answer.flatten(response.headers.items())
            counted = counts_against_budget or last.origin == self._policy.origin
            await self._accept(response.status, host, answered, counted=counted, ranged=bool(resume))
            start = offset if resume and response.status == 206 else 0
            yield Download(
                response,
                answered,
                host=host,
                offset=start,
                limits=self._limits,
                clock=self._clock,
                to_the_end=to_the_end,
            )
        finally:
            response.close()

    async def throttle(self, wait: timedelta) -> None:
        """Pause the budget for `wait` (at most 1 hour), because the provider asked for a pause in an answer's body."""
        await self._budget.pause(min(wait, http_answer.MAX_WAIT))

    async def aclose(self) -> None:
        """Close every connection; open downloads fail."""
        await self._transport.aclose()

    # --- one exchange -----------------------------------------------------------------------------------------------

    async def _follow(
        self, start: Target, headers: Callable[[Origin], dict[str, str]], endpoint: str, pay: Pay, *, to_the_end: bool
    ) -> tuple[aiohttp.ClientResponse, Target]:
        """Return the first answer that is no redirect, and its target. The body is unread."""
        target = start
        for _ in range(self._limits.max_redirects + 1):
            host = target.origin.host
            with self._transport.exchange(endpoint, host) as seen:
                async with asyncio.timeout(self._limits.answer_time.total_seconds()):
                    response = await self._transport.download(
                        target, headers(target.origin), pay, to_the_end=to_the_end
                    )
                    seen.append(response.status)
            if response.status not in _REDIRECTS:
                return response, target
            location = response.headers.get("Location")
            response.close()
            if location is None:
                raise UnavailableError(f"{host} redirects without saying where")
            target = self._policy.follow(target, location)
        raise UnavailableError(f"{start.origin.host} leads through more than {self._limits.max_redirects} redirects")

    async def _body(self, response: aiohttp.ClientResponse, host: str, most: int) -> bytes:
        body = bytearray()
        try:
            while piece := await response.content.read(PIECE):
                body += piece
                if len(body) > most:
                    raise AnswerTooLargeError(f"{host} answered with more than {most} bytes")
        except aiohttp.ClientPayloadError:
            # A wrong length, or no last chunk: what ends like a JSON document goes to the parser, which refuses half of
            # one.
            if not body.rstrip().endswith((b"}", b"]")):
                raise
        return bytes(body)

    # --- judging ----------------------------------------------------------------------------------------------------

    async def _judged(self, answer: Answer) -> Answer:
        """Return the answer, if the caller is to judge its status."""
        host, status, headers = self._policy.origin.host, answer.status, answer.headers
        if status == 429:
            raise await self._throttled(host, headers, pause=True)
        if status in {407, 408} or status >= 500:
            raise _unavailable(host, status, headers, self._clock)
        if 300 <= status < 400:
            raise ListingError(f"{host} answered {status}: calls to the API are not redirected")
        if wait := http_answer.wait_due(headers, self._clock.now()):
            await self._budget.pause(wait)
        return answer

    async def _accept(self, status: int, host: str, headers: Mapping[str, str], *, counted: bool, ranged: bool) -> None:
        """Return for an answer that carries a recording; raise for every other."""
        said = f"{host} answered {status}"
        if status == 206 and (ranged or http_answer.is_whole_range(headers)):
            return
        if http_answer.has_content(status):
            return
        if status == 404:
            raise RecordingGoneError(said)
        if status in _NOT_YET:
            raise NotReadyError(said, retry_after=http_answer.retry_after(headers, self._clock.now()))
        if status == 429:
            raise await self._throttled(host, headers, pause=counted)
        if 400 <= status < 500 and status not in _PASSING:
            raise LinkRefusedError(said)
        raise _unavailable(host, status, headers, self._clock)

    async def _throttled(self, host: str, headers: Mapping[str, str], *, pause: bool) -> ThrottledError:
        default = timedelta(seconds=_DEFAULT_PAUSE * (1 + self._jitter()))
        wait = http_answer.wait_asked(headers, self._clock.now(), default)
        if pause:
            await self._budget.pause(wait)
        return ThrottledError(f"{host} answered 429, waiting {wait.total_seconds():g} s", retry_after=wait)

    # --- headers ----------------------------------------------------------------------------------------------------

    def _headers(self, given: Mapping[str, str]) -> dict[str, str]:
        return _OWN_HEADERS | self._clean(given)

    def _clean(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return header values without the newline that ends every secret kept in a file. Raises
        `ConfigurationError`."""
        cleaned = {name: value.strip() for name, value in given.items()}
        for name, value in cleaned.items():
            if not _HEADER_VALUE.fullmatch(value):
                raise ConfigurationError(
                    f"{self._policy.provider}: the value for header {name} holds characters that no header may; "
                    "is there a line break in a credential?"
                )
        return cleaned


_HEADER_VALUE = re.compile(r"[ -~]*")


def _granted(response: aiohttp.ClientResponse, offset: int) -> bool:
    if response.status == 206:
        return http_answer.range_start(http_answer.flatten(response.headers.items())) == offset
    return response.status != 416


def _unavailable(host: str, status: int, headers: Mapping[str, str], clock: Clock) -> UnavailableError:
    return UnavailableError(f"{host} answered {status}", retry_after=http_answer.retry_after(headers, clock.now()))
