"""Downloads over real HTTP, cut wherever they can be cut (reliability §3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.errors import CutShortError, UnacceptableMediaError, UnavailableError
from archiver.fetch.receive import ReceiveLimits, receive
from archiver.fetch.spool import Spool
from archiver.providers.http import HttpClient, UnlimitedBudget
from archiver.recording import Flag, Received
from tests.fetch_bodies import HTML, INDEX, MP3, untagged

TEN = INDEX["justcall-128k-mono-44100.mp3"]
BARE = untagged(MP3)


class MediaHost:
    """An HTTP/1.1 server that frames its body as told and hangs up after `cuts` bytes of each answer in turn."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.framing = "length"
        self.etag: str | None = '"v1"'
        self.content_type = "audio/mpeg"
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[MediaHost]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        asked = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        self.ranges.append(asked.get("range"))
        start = 0
        if "range" in asked and asked.get("if-range") == self.etag:
            start = int(asked["range"].removeprefix("bytes=").removesuffix("-"))
        head = [f"HTTP/1.1 {206 if start else 200} OK", f"Content-Type: {self.content_type}", "Connection: close"]
        head += [f"ETag: {self.etag}"] if self.etag else []
        head += [f"Content-Range: bytes {start}-{len(self.body) - 1}/{len(self.body)}"] if start else []
        rest = self.body[start:]
        head += {"length": [f"Content-Length: {len(rest)}"], "chunked": ["Transfer-Encoding: chunked"], "close": []}[
            self.framing
        ]
        writer.write("\r\n".join([*head, "", ""]).encode())
        cut = self.cuts.pop(0) if self.cuts else None
        sent = rest if cut is None else rest[:cut]
        if self.framing == "chunked":
            for at in range(0, len(sent), 40_000):
                piece = sent[at : at + 40_000]
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            sent = b"0\r\n\r\n" if cut is None else b""
        writer.write(sent)
        writer.close()


@pytest.fixture
async def host() -> AsyncIterator[MediaHost]:
    async with MediaHost(MP3).serving() as served:
        yield served


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


async def download(
    host: MediaHost, tmp_path: Path, executor: ThreadPoolExecutor, declared: timedelta | None = TEN
) -> tuple[Received, bytes]:
    """Through the real client into a part of a real spool."""
    spool = Spool(tmp_path / "spool", 64 << 20, clock=SystemClock(), chance=SystemChance())
    origin = f"http://127.0.0.1:{host.port}"
    client = HttpClient(
        provider="test",
        origin=origin,
        allow_http=True,
        allow_private_addresses=True,
        budget=UnlimitedBudget(),
        clock=SystemClock(),
    )

    @asynccontextmanager
    async def opened(offset: int, etag: str | None) -> AsyncIterator[Any]:
        async with client.media(f"{origin}/recording", offset=offset, etag=etag) as media:
            yield media

    try:
        with spool.part() as part:
            got = await receive(
                opened,
                part.file,
                declared=declared,
                limits=ReceiveLimits(1 << 30),
                clock=SystemClock(),
                executor=executor,
            )
            return got, spool.commit(part).read_bytes()
    finally:
        await client.aclose()
        assert not list((tmp_path / "spool").glob("*.part"))


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_whole_download_arrives_byte_for_byte(
    framing: str, host: MediaHost, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    host.framing = framing
    got, content = await download(host, tmp_path, executor)
    assert content == MP3
    assert (got.status, got.content_type, got.etag, got.flags) == (200, "audio/mpeg", '"v1"', frozenset())


async def test_cut_at_64_offsets_with_length_and_etag_is_resumed(
    host: MediaHost, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    for part in range(64):
        cut = 1 + (len(MP3) - 2) * part // 63
        host.cuts, host.ranges = [cut], []
        got, content = await download(host, tmp_path, executor)
        assert content == MP3
        assert (got.resumed, host.ranges) == (1, [None, f"bytes={cut}-"])


@pytest.mark.parametrize(("framing", "etag"), [("length", None), ("length", 'W/"v1"'), ("chunked", '"v1"')])
async def test_cut_that_cannot_be_pinned_is_an_error_at_every_offset(
    framing: str, etag: str | None, host: MediaHost, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    host.framing, host.etag = framing, etag
    for part in range(21):
        host.cuts, host.ranges = [1 + len(MP3) * part // 22], []
        with pytest.raises((CutShortError, UnavailableError)):
            await download(host, tmp_path, executor)
        assert host.ranges == [None]


async def test_read_to_close_cut_at_64_offsets_is_kept_with_a_doubt(
    host: MediaHost, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    host.framing, host.body = "close", BARE
    for part in range(64):
        cut = 1 + int(len(BARE) * 0.7) * part // 64
        host.cuts = [cut]
        try:
            got, content = await download(host, tmp_path, executor)
        except UnacceptableMediaError:
            assert cut < 100  # a few bytes of a frame look like nothing
            continue
        assert content == BARE[:cut]
        assert Flag.LENGTH_UNVERIFIED in got.flags


async def test_recording_replaced_between_cut_and_resume_is_not_joined(
    host: MediaHost, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    host.cuts = [50_000]

    async def replace() -> None:
        while not host.ranges:  # noqa: ASYNC110 - the server tells in no other way
            await asyncio.sleep(0)
        host.etag, host.body = '"v2"', MP3[::-1]

    replacing = asyncio.create_task(replace())
    with pytest.raises(CutShortError, match="asked from byte 50000, got from 0"):
        await download(host, tmp_path, executor)
    await replacing


async def test_error_page_with_200_leaves_nothing_in_the_spool(
    host: MediaHost, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    host.body, host.content_type = HTML * 10_000, "audio/mpeg"
    with pytest.raises(UnacceptableMediaError, match="html"):
        await download(host, tmp_path, executor)
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["spool.id"]
