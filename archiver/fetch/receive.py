"""Takes a download into a sink, once, while counting, hashing and looking at the bytes.

Plaintext is never held beyond two pieces of about 1 MiB: a thread works on one piece (SHA-256, sniffing and the sink's
own work, together) while the other is read from the network.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeAlias

from archiver.clock import Clock
from archiver.errors import CutShortError, TooLargeError, TooSlowError, UnavailableError
from archiver.fetch.media import Sniffer, judge
from archiver.providers.port import Media
from archiver.recording import Flag, Received

_PIECE = 1 << 20
_MOST_CHUNKS = 1024  # a slow stream of single bytes must not make a piece of a million objects

OpenMedia: TypeAlias = Callable[[int, str | None], AbstractAsyncContextManager[Media]]


class Sink(Protocol):
    """The receiver of plaintext: a `Sealer`. Called from one thread at a time; may block."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`, or raise."""


@dataclass(frozen=True, slots=True)
class ReceiveLimits:
    """The limits of one download. `max_size`: bytes of one recording. `resumes`: how often one download may go on after
    a cut."""

    max_size: int
    resumes: int = 3


async def receive(
    open_media: OpenMedia,
    sink: Sink,
    *,
    declared: timedelta | None,
    at_most: bool = False,
    limits: ReceiveLimits,
    clock: Clock,
    executor: Executor,
    quarantine: bool = False,
) -> Received:
    """Download into `sink` and say what came.

    `declared`: the duration by the listing, when the listing gives one; with `at_most` it is the call's duration, and a
    shorter recording is no surprise.

    `open_media(offset, etag)` starts the download at `offset`, pinned by the ETag when there is one. A cut is resumed
    only where length and a strong ETag were stated and the rest is granted from that very byte; otherwise the caller
    starts again from 0 with a new sink. `quarantine`: the deadline has come, and the provider may never send anything
    better. An error page is kept and flagged then; so is a body that ended early, went on too long or broke off
    (`length_unverified` and `cut`).

    Raises what `open_media`, `Media.chunks` and the sink raise; `CutShortError` (less or more came than was stated),
    `TooLargeError`, `UnacceptableMediaError` (an error page, noticed within the first piece). After any of these errors
    the sink has taken a part and must be thrown away. No thread uses the sink once this function returns, raises or is
    cancelled.
    """
    started_at = clock.now()
    body = _Body(sink, executor, declared, limits.max_size, at_most=at_most, quarantine=quarantine)
    resumed = 0
    while True:
        offset = body.size
        try:
            async with open_media(offset, body.head.etag if offset and body.head else None) as media:
                body.admit(media)
                await body.pour(media)
            break
        except (CutShortError, UnavailableError, TooSlowError, TooLargeError) as failed:
            # A try that brought nothing would bring nothing again; the caller knows better when to try again.
            brought = body.size > offset and isinstance(failed, CutShortError | UnavailableError)
            if body.sink_failed:
                raise
            if brought and resumed < limits.resumes and body.resumable:
                resumed += 1
            elif quarantine and body.size:
                body.cut = True
                break
            else:
                raise
    assert body.head is not None
    return Received(
        size=body.size,
        plaintext_sha256=body.digest.hexdigest(),
        status=body.head.status,
        content_type=body.head.content_type,
        etag=body.head.etag,
        media=body.sniffer.findings().media,
        flags=body.flags(),
        started_at=started_at,
        finished_at=clock.now(),
        resumed=resumed,
        cut=body.cut,
    )


@dataclass(frozen=True, slots=True)
class _Head:
    """The statements of the first answer; every later answer must agree with them."""

    status: int
    content_type: str | None
    content_encoding: str | None
    length: int | None
    etag: str | None
    framed: bool


class _Body:
    """The bytes that came so far. Digest, sniffer and sink see them, in this order."""

    def __init__(
        self,
        sink: Sink,
        executor: Executor,
        declared: timedelta | None,
        max_size: int,
        *,
        at_most: bool,
        quarantine: bool,
    ) -> None:
        self.size = 0
        self.cut = False
        """True when a body is kept although it broke off, or is shorter or longer than was stated."""
        self.sink_failed = False
        self.head: _Head | None = None
        self.digest = hashlib.sha256()
        self.sniffer = Sniffer()
        self._overrun = False
        self._sink = sink
        self._executor = executor
        self._declared = declared
        self._at_most = at_most
        self._max_size = max_size
        self._quarantine = quarantine

    @property
    def resumable(self) -> bool:
        """True while the rest can be asked for without any chance of joining two different bodies."""
        head = self.head
        if head is None or head.length is None or self.size >= head.length or self._overrun:
            return False
        return head.etag is not None and head.etag.startswith('"')  # W/"…" promises likeness, not the same bytes

    def admit(self, media: Media) -> None:
        """Accept a first answer as it is, and a later answer only if it is the rest of the same body."""
        total = None if media.length is None else media.offset + media.length
        if media.offset != self.size:
            raise CutShortError(f"asked from byte {self.size}, got from {media.offset}")
        if self.size and self.head is not None:
            if media.etag != self.head.etag or total not in (None, self.head.length):
                raise CutShortError("the rest belongs to another version of the recording")
            return
        if total is not None and total > self._max_size and not self._quarantine:
            raise TooLargeError(f"{total} bytes announced, {self._max_size} allowed")
        self.head = _Head(
            media.status, media.content_type, media.content_encoding, total, media.etag, framed=media.framed
        )

    async def pour(self, media: Media) -> None:
        """Take every byte that `media` brings. While one piece is worked on, the next is read."""
        loop = asyncio.get_running_loop()
        job: asyncio.Future[None] | None = None
        taken = self.size
        try:
            async with aclosing(_pieces(media.chunks())) as pieces:
                async for piece in pieces:
                    if job is not None:
                        await _settled(job)
                        job = None
                    taken += sum(map(len, piece))
                    self._check(taken)
                    job = loop.run_in_executor(self._executor, self._absorb, piece)
        finally:
            if job is not None:
                await _settled(job)
        assert self.head is not None
        if self.head.length is not None and self.size < self.head.length:
            raise CutShortError(f"{self.size} of {self.head.length} bytes came")

    def _check(self, taken: int) -> None:
        assert self.head is not None
        if self.head.length is not None and taken > self.head.length:
            self._overrun = True
            if not self._quarantine:
                raise CutShortError(f"{self.head.length} bytes announced, more came")
            self.cut = True
        if taken > self._max_size:
            raise TooLargeError(f"more than {self._max_size} bytes came")

    def _absorb(self, piece: list[bytes]) -> None:
        """Do all the work on one piece in a single hop to a thread: hashing and sealing release the interpreter
        lock."""
        for chunk in piece:
            self.digest.update(chunk)
            self.sniffer.feed(chunk)
        if self.sniffer.page is not None:
            self.flags()  # refuses a page before it is sealed, unless it is wanted
        # Until the sink has taken the whole piece: a body that the digest has seen and the sink has not cannot go on.
        self.sink_failed = True
        for chunk in piece:
            self._sink.write(chunk)
            self.size += len(chunk)
        self.sink_failed = False

    def flags(self) -> frozenset[Flag]:
        assert self.head is not None
        flags = judge(
            self.sniffer.findings(),
            declared=self._declared,
            at_most=self._at_most,
            status=self.head.status,
            content_type=self.head.content_type,
            content_encoding=self.head.content_encoding,
            framed=self.head.framed,
            quarantine=self._quarantine,
        )
        return flags | {Flag.LENGTH_UNVERIFIED} if self.cut and Flag.QUARANTINED not in flags else flags


async def _pieces(chunks: AsyncIterator[bytes]) -> AsyncGenerator[list[bytes], None]:
    """Gather chunks into pieces of 1 MiB, so that small chunks do not cost a thread hop each.

    The bytes before a cut are a piece too: after them the rest may be asked for.
    """
    piece: list[bytes] = []
    weight = 0
    try:
        async for chunk in chunks:
            if chunk:
                piece.append(chunk)
                weight += len(chunk)
            if weight >= _PIECE or len(piece) == _MOST_CHUNKS:
                yield piece
                piece, weight = [], 0
    except (CutShortError, UnavailableError, TooSlowError, TooLargeError):
        if piece:
            yield piece
        raise
    if piece:
        yield piece


async def _settled(job: asyncio.Future[None]) -> None:
    """Wait until the job has ended, even when cancelled meanwhile: its thread goes on and must not meet a closed
    sink."""
    cancelled: asyncio.CancelledError | None = None
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled
    job.result()
