"""An open download: bytes exactly as sent, never more or slower than allowed; a body that was cut short is always
noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
from aiohttp.http import HttpProcessingError

from archiver.clock import Clock
from archiver.errors import CutShortError, TooLargeError, TooSlowError, UnavailableError
from archiver.providers.http_answer import STATED_LENGTH, codings, kept_headers, media_type
from archiver.providers.http_faults import LIBRARY_ERRORS, fault

KIB = 1024
MIB = 1024 * KIB
PIECE = MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits on what one answer may cost. Sizes are in bytes.

    `answer_time` bounds a whole API answer, and of a download everything before its body: a peer that drips headers or
    sends 100 Continue for ever would otherwise keep the connection. `minimum_rate` is bytes per second, over every
    `rate_window` of time spent waiting for the peer (our own slowness does not count); with `max_size` it bounds a
    download's time.
    """

    connect_timeout: timedelta = timedelta(seconds=30)
    read_timeout: timedelta = timedelta(seconds=30)
    answer_time: timedelta = timedelta(seconds=120)
    max_answer: int = 16 * MIB
    max_size: int = 2 * KIB * MIB
    minimum_rate: int = 8 * KIB
    rate_window: timedelta = timedelta(seconds=60)
    max_redirects: int = 3


_BEYOND = timedelta(seconds=3)
"""The time to wait for bytes beyond the stated length, where every byte is wanted (`to_the_end`)."""

_LIBRARY = timedelta(seconds=1)
"""The delay that lets the library's own timer come first. The library has stopped that timer by mistake before, and
then the download would wait for ever."""


class Download:
    """`archiver.providers.port.Media` over one HTTP response.

    `to_the_end`: the response knows no length of its own; the stated length is only passed on, and bytes beyond it are
    taken too.
    """

    __slots__ = (
        "_clock",
        "_host",
        "_limits",
        "_response",
        "_to_the_end",
        "content_encoding",
        "content_type",
        "etag",
        "framed",
        "headers",
        "length",
        "offset",
        "status",
    )

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        headers: Mapping[str, str],
        *,
        host: str,
        offset: int,
        limits: Limits,
        clock: Clock,
        to_the_end: bool = False,
    ) -> None:
        """Raise `TooLargeError` when the declared length is more than `limits.max_size`, except with `to_the_end`."""
        self._response = response
        self._host = host
        self._limits = limits
        self._clock = clock
        self.headers: Mapping[str, str] = kept_headers(headers)
        self.status = response.status
        self.content_type = media_type(headers)
        encoding = self.headers.get("content-encoding")
        self.content_encoding = encoding if codings(encoding) else None
        self.etag = self.headers.get("etag")
        stated = headers.get(STATED_LENGTH, "")[:18]
        known = response.content_length
        self.length = int(stated) if known is None and stated.isascii() and stated.isdigit() else known
        self.offset = offset
        self._to_the_end = to_the_end
        chunked = headers.get("transfer-encoding", "").lower().endswith("chunked")
        self.framed = self.length is not None or chunked
        if not to_the_end and self.length is not None and offset + self.length > limits.max_size:
            raise TooLargeError(f"{host} declares {offset + self.length} bytes, {limits.max_size} are allowed")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield pieces of up to 1 MiB. Raises `CutShortError` (also when the connection breaks after the first bytes,
        and when more bytes came than were declared), `TooSlowError`, `TooLargeError`, `UnavailableError`."""
        connection = self._response.connection
        protocol = connection.protocol if connection is not None else None
        pace = _Pace(self._limits.minimum_rate, self._limits.rate_window.total_seconds())
        received = 0
        while True:
            asked_at = self._clock.monotonic()
            piece = await self._piece(received)
            if not piece:
                break
            received += len(piece)
            if self.offset + received > self._limits.max_size:
                raise TooLargeError(f"{self._host} sent more than the {self._limits.max_size} bytes allowed")
            if self.length is not None and received > self.length and not self._to_the_end:
                raise CutShortError(f"{self._host} sent more than the {self.length} bytes that it declared")
            if not pace.holds(len(piece), self._clock.monotonic() - asked_at):
                raise TooSlowError(f"{self._host} sent less than {self._limits.minimum_rate} bytes per second")
            yield piece
        if self.length is not None and received < self.length:
            raise CutShortError(f"{self._host} sent {received} of {self.length} bytes")
        if protocol is not None and isinstance(protocol.exception(), HttpProcessingError):
            # bytes beyond the end: the framing is wrong, so nobody knows where the recording ends
            raise CutShortError(f"{self._host} sent more than the {received} bytes that it declared")

    async def _piece(self, received: int) -> bytes:
        beyond = self._to_the_end and self.length is not None and received >= self.length
        wait = _BEYOND if beyond else self._limits.read_timeout + _LIBRARY
        try:
            async with asyncio.timeout(wait.total_seconds()):
                return await self._response.content.read(PIECE)
        except TimeoutError:
            if beyond:
                return b""  # the server keeps the connection open, and all stated bytes have come
            seconds = self._limits.read_timeout.total_seconds()
            raise TooSlowError(f"{self._host} sent nothing for {seconds:g} s after {received} bytes") from None
        except aiohttp.ClientPayloadError:
            of = f" of {self.length}" if self.length is not None else ""
            raise CutShortError(f"{self._host} sent {received}{of} bytes") from None
        except LIBRARY_ERRORS as exc:
            # `CutShortError` counts as an attempt: the server may fail at this very recording.
            failed = CutShortError if received else UnavailableError
            raise failed(f"{self._host}: {fault(exc).sentence} after {received} bytes") from None


@dataclass(slots=True)
class _Pace:
    """Bytes received against seconds waited, window by window."""

    rate: int
    window: float
    seconds: float = 0.0
    size: int = 0

    def holds(self, size: int, seconds: float) -> bool:
        self.size += size
        self.seconds += seconds
        if self.seconds < self.window:
            return True
        enough = self.size >= self.rate * self.seconds
        self.size, self.seconds = 0, 0.0
        return enough
