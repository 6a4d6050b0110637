"""The download: once into the sink, resumed only when nothing can be mixed up, never more than two pieces in memory."""

from __future__ import annotations

import asyncio
import hashlib
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from archiver.errors import (
    CutShortError,
    LinkRefusedError,
    SpoolFullError,
    TooLargeError,
    TooSlowError,
    UnacceptableMediaError,
    UnavailableError,
)
from archiver.fetch.receive import OpenMedia, ReceiveLimits, receive
from archiver.recording import Flag, Received
from tests.fetch_bodies import HTML, INDEX, MP3, START, WAV, Answer, Origin, StillClock, untagged, wav

TEN = INDEX["justcall-128k-mono-44100.mp3"]
LONG = wav(random.Random(0).randbytes(5_000_000))
LONG_LASTS = timedelta(seconds=312.5)


class Kept:
    """A sink that keeps what it is given, or fails at a byte."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.data = bytearray()
        self.largest = 0
        self.busy = threading.Lock()
        self._fails_at = fails_at

    def write(self, data: bytes, /) -> None:
        assert self.busy.acquire(blocking=False), "two threads in one sink"
        try:
            self.data += data
            self.largest = max(self.largest, len(data))
            if self._fails_at is not None and len(self.data) >= self._fails_at:
                raise SpoolFullError("no room")
        finally:
            self.busy.release()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def sink() -> Kept:
    return Kept()


async def fetch(
    source: OpenMedia,
    sink: Kept,
    executor: ThreadPoolExecutor,
    declared: timedelta | None = TEN,
    *,
    max_size: int = 10_000_000,
    resumes: int = 3,
    quarantine: bool = False,
) -> Received:
    return await receive(
        source,
        sink,
        declared=declared,
        limits=ReceiveLimits(max_size, resumes),
        clock=StillClock(),
        executor=executor,
        quarantine=quarantine,
    )


def one(answer: Answer) -> OpenMedia:
    """A provider that always gives this answer, wherever it is asked to start."""

    @asynccontextmanager
    async def source(_offset: int, _etag: str | None) -> AsyncIterator[Answer]:
        yield answer

    return source


@pytest.mark.parametrize("chunk", [1000, 65_536, 1 << 20])
async def test_whole_body_reaches_the_sink_hashed_and_judged(
    chunk: int, sink: Kept, executor: ThreadPoolExecutor
) -> None:
    got = await fetch(Origin(LONG, chunk=chunk), sink, executor, LONG_LASTS)
    assert bytes(sink.data) == LONG
    assert got.size == len(LONG)
    assert got.plaintext_sha256 == hashlib.sha256(LONG).hexdigest()
    assert (got.status, got.content_type, got.etag, got.resumed, got.flags) == (
        200,
        "audio/mpeg",
        '"v1"',
        0,
        frozenset(),
    )
    assert (got.media.container, got.media.duration) == ("wav", LONG_LASTS)
    assert START < got.started_at < got.finished_at


# --- cuts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(64))
async def test_cut_with_length_and_strong_etag_is_resumed_to_the_same_bytes(
    part: int, executor: ThreadPoolExecutor
) -> None:
    cut = 1 + len(MP3) * part // 64
    origin, sink = Origin(MP3, cut, chunk=5000), Kept()
    got = await fetch(origin, sink, executor)
    assert bytes(sink.data) == MP3
    assert got.plaintext_sha256 == hashlib.sha256(MP3).hexdigest()
    assert (got.resumed, got.flags) == (1, frozenset())
    assert origin.asked == [(0, None), (cut, '"v1"')]
    assert origin.open == 0


@pytest.mark.parametrize("part", range(64))
async def test_cut_unframed_body_is_kept_with_a_doubt(part: int, executor: ThreadPoolExecutor) -> None:
    body = untagged(MP3)[: 1000 + (len(MP3) - 40_000) * part // 64]
    got = await fetch(one(Answer(body, None, framed=False)), Kept(), executor)
    assert Flag.LENGTH_UNVERIFIED in got.flags


@pytest.mark.parametrize(
    ("etag", "stated"), [(None, True), ('W/"v1"', True), ("", True), ('"v1"', False), (None, False)]
)
async def test_cut_without_length_or_strong_etag_is_not_resumed(
    etag: str | None, stated: bool, sink: Kept, executor: ThreadPoolExecutor
) -> None:
    origin = Origin(MP3, 50_000, etag=etag, stated=stated)
    with pytest.raises(CutShortError):
        await fetch(origin, sink, executor)
    assert len(origin.asked) == 1


async def test_range_ignored_on_resume_is_an_error_not_a_mixture(sink: Kept, executor: ThreadPoolExecutor) -> None:
    origin = Origin(MP3, 50_000, ranges=False)
    with pytest.raises(CutShortError, match="asked from byte 50000, got from 0"):
        await fetch(origin, sink, executor)
    assert bytes(sink.data) == MP3[:50_000]


async def test_range_unasked_for_is_an_error(sink: Kept, executor: ThreadPoolExecutor) -> None:
    with pytest.raises(CutShortError, match="asked from byte 0, got from 7"):
        await fetch(one(Answer(MP3[7:], len(MP3) - 7, offset=7)), sink, executor)
    assert not sink.data


@pytest.mark.parametrize(("etag", "longer"), [('"v2"', 0), ('"v1"', 9)])
async def test_another_version_on_resume_is_an_error(
    etag: str, longer: int, sink: Kept, executor: ThreadPoolExecutor
) -> None:
    @asynccontextmanager
    async def changing(offset: int, _etag: str | None) -> AsyncIterator[Answer]:
        if offset == 0:
            yield Answer(MP3[:50_000], len(MP3), etag='"v1"', end=CutShortError("reset"))
        else:
            yield Answer(MP3[offset:], len(MP3) - offset + longer, offset=offset, etag=etag)

    with pytest.raises(CutShortError, match="another version"):
        await fetch(changing, sink, executor)


async def test_resumes_are_counted_and_end(sink: Kept, executor: ThreadPoolExecutor) -> None:
    origin = Origin(MP3, 30_000, 30_000, 30_000, 30_000)
    with pytest.raises(CutShortError):
        await fetch(origin, sink, executor, resumes=3)
    assert len(origin.asked) == 4
    assert (await fetch(Origin(MP3, 30_000, 30_000, 30_000), Kept(), executor, resumes=3)).resumed == 3


async def test_resume_that_brings_nothing_is_not_repeated(sink: Kept, executor: ThreadPoolExecutor) -> None:
    origin = Origin(MP3, 30_000, 0)
    with pytest.raises(CutShortError):
        await fetch(origin, sink, executor, resumes=100)
    assert len(origin.asked) == 2


@pytest.mark.parametrize("error", [TooSlowError("1 B/s"), LinkRefusedError("403 mid-body")])
async def test_other_failures_mid_body_are_the_callers(
    error: TooSlowError | LinkRefusedError, sink: Kept, executor: ThreadPoolExecutor
) -> None:
    with pytest.raises(type(error)):
        await fetch(one(Answer(MP3[:9000], len(MP3), etag='"v1"', end=error)), sink, executor)


async def test_source_unavailable_at_first_is_the_callers(sink: Kept, executor: ThreadPoolExecutor) -> None:
    asked = []

    @asynccontextmanager
    async def down(offset: int, _etag: str | None) -> AsyncIterator[Answer]:
        asked.append(offset)
        raise UnavailableError("connection refused")
        yield

    with pytest.raises(UnavailableError):
        await fetch(down, sink, executor)
    assert asked == [0]


async def test_fewer_bytes_than_announced_is_a_cut_even_when_the_client_is_silent(
    sink: Kept, executor: ThreadPoolExecutor
) -> None:
    with pytest.raises(CutShortError, match="9000 of 162630"):
        await fetch(one(Answer(MP3[:9000], len(MP3))), sink, executor)


@pytest.mark.parametrize("length", [0, 5, 1_100_000, len(LONG) - 1])
async def test_more_bytes_than_announced_is_an_error_and_never_resumed(
    length: int, sink: Kept, executor: ThreadPoolExecutor
) -> None:
    asked = []

    @asynccontextmanager
    async def generous(offset: int, _etag: str | None) -> AsyncIterator[Answer]:
        asked.append(offset)
        yield Answer(LONG, length, etag='"v1"')

    with pytest.raises(CutShortError, match="more came"):
        await fetch(generous, sink, executor)
    assert asked == [0]


async def test_failure_after_the_last_announced_byte_is_not_resumed(sink: Kept, executor: ThreadPoolExecutor) -> None:
    asked = []

    @asynccontextmanager
    async def overlong(offset: int, _etag: str | None) -> AsyncIterator[Answer]:
        asked.append(offset)
        yield Answer(MP3, len(MP3), etag='"v1"', end=UnavailableError("sent more than it declared"))

    with pytest.raises(UnavailableError):
        await fetch(overlong, sink, executor)
    assert asked == [0]


# --- size -----------------------------------------------------------------------------------------------------------


async def test_announced_giant_is_refused_before_its_first_byte(sink: Kept, executor: ThreadPoolExecutor) -> None:
    with pytest.raises(TooLargeError):
        await fetch(one(Answer(MP3, 10 << 30)), sink, executor)
    assert not sink.data


async def test_endless_body_is_stopped_at_the_limit(sink: Kept, executor: ThreadPoolExecutor) -> None:
    class Endless(Answer):
        async def chunks(self) -> AsyncIterator[bytes]:
            while True:
                yield bytes(self.chunk)

    with pytest.raises(TooLargeError):
        await fetch(one(Endless(b"", None)), sink, executor, max_size=3_000_000)
    assert len(sink.data) <= 3_000_000


async def test_200_mb_pass_within_64_mib_of_memory() -> None:
    script = """
import asyncio, resource, sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from archiver.fetch.receive import ReceiveLimits, receive
from tests.fetch_bodies import Answer, StillClock, untagged, MP3
from tests.unit.test_fetch_receive import one

class Generated(Answer):
    async def chunks(self):
        body = untagged(MP3)
        piece = body * (1_000_000 // len(body))
        for _ in range(200_000_000 // len(piece)):
            yield piece[:-1] + piece[-1:]      # a fresh copy, as from a socket

class Null:
    def write(self, data): return len(data)

async def main():
    with ThreadPoolExecutor(2) as pool:
        return await receive(one(Generated(b"", None)), Null(), declared=None,
            limits=ReceiveLimits(2 << 30), clock=StillClock(), executor=pool)

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
got = asyncio.run(main())
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert got.size > 190_000_000 and got.media.duration > timedelta(hours=3), got
print((after - before) // 1024)
"""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64


# --- content --------------------------------------------------------------------------------------------------------


async def test_error_page_is_refused(sink: Kept, executor: ThreadPoolExecutor) -> None:
    with pytest.raises(UnacceptableMediaError, match="html"):
        await fetch(Origin(HTML), sink, executor)


async def test_large_error_page_is_refused_before_any_of_it_is_sealed(sink: Kept, executor: ThreadPoolExecutor) -> None:
    origin = Origin(HTML + b"<p>more</p>" * 1_000_000)
    with pytest.raises(UnacceptableMediaError, match="html"):
        await fetch(origin, sink, executor, max_size=100 << 20)
    assert not sink.data
    assert origin.open == 0


async def test_error_page_is_kept_at_the_deadline(sink: Kept, executor: ThreadPoolExecutor) -> None:
    page = HTML + b"<p>more</p>" * 300_000
    got = await fetch(Origin(page), sink, executor, quarantine=True)
    assert bytes(sink.data) == page
    assert got.flags == {Flag.QUARANTINED, Flag.NOT_AUDIO}


async def test_empty_body_is_refused(sink: Kept, executor: ThreadPoolExecutor) -> None:
    for answer in (Answer(b"", 0), Answer(b"", None, framed=False)):
        with pytest.raises(UnacceptableMediaError, match="empty"):
            await fetch(one(answer), sink, executor)


async def test_empty_pieces_between_are_nothing(sink: Kept, executor: ThreadPoolExecutor) -> None:
    class Stuttering(Answer):
        async def chunks(self) -> AsyncIterator[bytes]:
            for start in range(0, len(self.body), 9000):
                yield b""
                yield self.body[start : start + 9000]
            yield b""

    got = await fetch(one(Stuttering(WAV, len(WAV))), sink, executor, None)
    assert bytes(sink.data) == WAV
    assert got.flags == frozenset()


async def test_one_byte_at_a_time_is_the_same_recording(sink: Kept, executor: ThreadPoolExecutor) -> None:
    got = await fetch(Origin(b"[" + bytes(5000), chunk=1), sink, executor, None)
    assert got.flags == {Flag.NOT_AUDIO}


# --- the sink and the thread ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails_at", [1, 1_500_000, len(LONG)])
async def test_sink_refusing_is_the_error_that_is_raised(fails_at: int, executor: ThreadPoolExecutor) -> None:
    origin = Origin(LONG)
    with pytest.raises(SpoolFullError):
        await fetch(origin, Kept(fails_at), executor, None)
    assert origin.open == 0
    assert len(origin.asked) == 1


async def test_next_piece_is_read_while_the_last_is_sealed(executor: ThreadPoolExecutor) -> None:
    """The reader gets one piece ahead of a sink that stands still, and no further."""
    gate, ahead, reading = threading.Event(), asyncio.Event(), 0

    class Slow(Kept):
        def write(self, data: bytes, /) -> None:
            assert gate.wait(30)
            super().write(data)

    class Counted(Answer):
        async def chunks(self) -> AsyncIterator[bytes]:
            nonlocal reading
            for _ in range(8):
                reading += 1
                if reading == 2:
                    ahead.set()
                yield bytes(1 << 20)

    task = asyncio.create_task(fetch(one(Counted(b"", None)), Slow(), executor, None))
    await ahead.wait()
    await asyncio.sleep(0.1)  # that nothing more is read has no event: time for what should not happen
    read_ahead = reading
    gate.set()
    await task
    assert (read_ahead, reading) == (2, 8)


async def test_cancelled_download_leaves_no_thread_in_the_sink(executor: ThreadPoolExecutor) -> None:
    entered, gate = threading.Event(), threading.Event()

    class Slow(Kept):
        def write(self, data: bytes, /) -> None:
            entered.set()
            assert gate.wait(30)
            super().write(data)

    sink, origin = Slow(), Origin(LONG)
    task = asyncio.create_task(fetch(origin, sink, executor, None))
    await asyncio.to_thread(entered.wait)
    task.cancel()
    await asyncio.sleep(0.05)  # time for what should not happen
    task.cancel()
    await asyncio.sleep(0.05)  # time for what should not happen
    assert not task.done()  # the thread is still in the sink
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    taken = len(sink.data)
    await asyncio.sleep(0.05)  # time for what should not happen
    assert len(sink.data) == taken
    assert origin.open == 0
