"""Bodies that a provider may send, good and bad, and a download to send them by."""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archiver.errors import ArchiverError, CutShortError

AUDIO = Path(__file__).parent / "data" / "audio"
INDEX = {
    name: timedelta(seconds=float(duration))
    for name, _, duration, _ in (line.split("\t") for line in (AUDIO / "INDEX.tsv").read_text().splitlines())
}
MP3 = (AUDIO / "justcall-128k-mono-44100.mp3").read_bytes()
VBR = (AUDIO / "kazoo-vbr-mono-8000.mp3").read_bytes()
WAV = (AUDIO / "vobiz-pcm16-stereo-8000.wav").read_bytes()
ULAW = (AUDIO / "g711-mulaw-mono-8000.wav").read_bytes()


# --- good bodies ----------------------------------------------------------------------------------------------------


def untagged(mp3: bytes) -> bytes:
    """The same audio as an encoder writes it that cannot seek back: no ID3, no Xing frame."""
    first = mp3.index(b"\xff", 10 + int.from_bytes(mp3[6:10]))
    following = mp3.index(mp3[first : first + 2], first + 40)
    return mp3[following:]


def wav(
    pcm: bytes, *, rate: int = 8000, tag: int = 1, bits: int = 16, data: int | None = None, riff: int | None = None
) -> bytes:
    """A mono WAV; `data` and `riff` override the stated sizes, as streaming writers do."""
    block = bits // 8
    stated = len(pcm) if data is None else data
    head = struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", min(36 + stated, 0xFFFFFFFF) if riff is None else riff, b"WAVEfmt ", 16,
                       tag, 1, rate, rate * block, block, bits, b"data", stated)  # fmt: skip
    return head + pcm


def ogg_opus(seconds: int, *, ended: bool = True) -> bytes:
    """Ogg pages with an Opus head; a page a second."""

    def page(flags: int, granule: int, payload: bytes) -> bytes:
        lacing = bytes([255] * (len(payload) // 255) + [len(payload) % 255])
        return struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 7, 0, 0, len(lacing)) + lacing + payload

    body = page(2, 0, struct.pack("<8sBBHIhB", b"OpusHead", 1, 2, 312, 48000, 0, 0)) + page(
        0, 0, b"OpusTags" + bytes(8)
    )
    for second in range(1, seconds + 1):
        last = ended and second == seconds
        body += page(4 if last else 0, second * 48000 + 312, random.Random(second).randbytes(4000))
    return body


def mp4(seconds: int, *, moov_first: bool, payload: int = 5000) -> bytes:
    """ISO base media with one AAC track."""

    def box(name: bytes, *content: bytes) -> bytes:
        body = b"".join(content)
        return struct.pack(">I4s", 8 + len(body), name) + body

    mvhd = box(b"mvhd", struct.pack(">4xIIII", 0, 0, 1000, seconds * 1000), bytes(80))
    entry = struct.pack(">I4s6xH8xHHI", 36, b"mp4a", 1, 1, 16, 0) + struct.pack(">I", 8000 << 16)
    stsd = box(b"stsd", struct.pack(">II", 0, 1), entry)
    moov = box(b"moov", mvhd, box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", stsd)))))
    mdat = box(b"mdat", random.Random(1).randbytes(payload))
    ftyp = box(b"ftyp", b"M4A \0\0\0\0M4A mp42")
    return ftyp + (moov + mdat if moov_first else mdat + moov)


def flac(seconds: int) -> bytes:
    """FLAC of noise, in frames of 1,000 samples with honest headers."""
    packed = 8000 << 44 | 0 << 41 | 15 << 36 | seconds * 8000
    body = b"fLaC" + b"\x80\0\0\x22" + (1000).to_bytes(2) * 2 + bytes(6) + packed.to_bytes(8) + bytes(16)
    for number in range(seconds * 8):
        coded = bytes([number]) if number < 128 else bytes([0xC0 | number >> 6, 0x80 | number & 63])
        head = b"\xff\xf8\x70\x08" + coded + (999).to_bytes(2)
        body += head + bytes([_crc8(head)]) + random.Random(number).randbytes(100)
    return body


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 7 if value & 128 else value << 1) & 255
    return value


# --- bad bodies -----------------------------------------------------------------------------------------------------

HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Your session has expired.</body></html>"
XML = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>'
JSON = json.dumps({"error": "not found", "status": 404}).encode()
PAGES: Mapping[str, bytes] = {
    "html": HTML,
    "html after blank lines": b"\r\n\r\n   " + HTML,
    "html with a byte order mark": b"\xef\xbb\xbf" + HTML,
    "html in utf-16": HTML.decode().encode("utf-16"),
    "html in utf-16 without a mark": HTML.decode().encode("utf-16-le"),
    "html in latin-1": HTML.replace(b"expired", "abgelaufen für heute".encode("latin-1")),
    "html upper case": HTML.upper(),
    "html comment first": b"<!-- proxy error -->" + HTML,
    "html of 300 kB": HTML + b"<p>padding</p>" * 20_000,
    "xml": XML,
    "xml without declaration": XML[XML.index(b"<Error") :],
    "soap fault": b'<soap:Envelope xmlns:soap="x"><soap:Body/></soap:Envelope>',
    "json object": JSON,
    "json array": b'[{"message": "unauthorized"}]',
    "json pretty": json.dumps({"data": None, "error": {"code": 1}}, indent=4).encode(),
    "json empty": b"{}",
    "json of 300 kB": json.dumps([{"row": n} for n in range(20_000)]).encode(),
    "json cut short": JSON[:17],
    "plain words": b"404 page not found\n",
    "plain words utf-8": "Zugriff verweigert – bitte anmelden".encode(),
    "html gzipped": gzip.compress(HTML, mtime=0),
    "json gzipped": gzip.compress(JSON, mtime=0),
}


@dataclass(frozen=True)
class Bad:
    name: str
    body: bytes
    declared: timedelta
    framed: bool = True


def bad_bodies() -> Iterator[Bad]:
    """Over 500 bodies of which none is a sound recording of the declared length. The same ones every time."""
    chance = random.Random("bad bodies")
    ten = timedelta(seconds=10)
    for name, page in PAGES.items():
        for label in ("mp3", "wav", "none"):
            yield Bad(f"{name} as {label}", page, ten)
    yield Bad("0 bytes", b"", ten)
    for size in (0, 1, 1000, 200_000):
        syncsafe = bytes((size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127))
        yield Bad(f"id3-only {size}", b"ID3\x04\0\0" + syncsafe + bytes(size), ten)
        yield Bad(f"id3 that promises more {size}", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(size), ten)
        yield Bad(f"zeros {size}", bytes(size + 1), ten)
        yield Bad(f"one value {size}", b"\xff" * (size + 1), ten)
        yield Bad(f"wav header with 0 data, stated {size}", wav(b"", data=size), ten)
        yield Bad(f"au header with 0 data, stated {size}", b".snd" + struct.pack(">5I", 24, size, 1, 8000, 1), ten)
    yield Bad("wav header with 0 data, streamed", wav(b"", data=0xFFFFFFFF, riff=0xFFFFFFFF), ten)
    yield Bad("wav with no chunks", b"RIFF\x04\0\0\0WAVE" + bytes(40), ten)
    for size in (1, 15, 16, 17, 100, 1000, 4096, 65_536, 300_000):
        for round_ in range(8):
            yield Bad(f"encrypted noise {size} #{round_}", chance.randbytes(size), ten)
    for name, magic in {
        "png": b"\x89PNG\r\n\x1a\n",
        "zip": b"PK\x03\x04",
        "pdf": b"%PDF-1.7\n%\xe2\xe3",
        "avi": b"RIFF\0\1\0\0AVI LIST",
    }.items():
        for size in (50, 5000, 100_000):
            yield Bad(f"{name} {size}", magic + chance.randbytes(size), ten)
    for name, whole, declared in (
        ("mp3", MP3, INDEX["justcall-128k-mono-44100.mp3"]),
        ("wav", WAV, INDEX["vobiz-pcm16-stereo-8000.wav"]),
    ):
        for _ in range(64):
            cut = chance.randrange(1, len(whole) - 200)
            yield Bad(f"{name} cut at {cut}", whole[:cut], declared)
            yield Bad(f"{name} cut at {cut}, unframed", whole[:cut], declared, framed=False)
    for name, whole in (
        ("untagged mp3", untagged(MP3)),
        ("vbr", untagged(VBR)),
        ("mulaw", ULAW),
        ("opus", ogg_opus(9)),
        ("m4a", mp4(9, moov_first=True)),
    ):
        for part in range(1, 16):
            cut = len(whole) * part // 24
            yield Bad(f"{name} cut at {cut}, unframed", whole[:cut], ten, framed=False)
    for seconds in (0, 1, 5, 13, 14, 60, 3600):
        yield Bad(f"duration off: {seconds} s declared", MP3, timedelta(seconds=seconds))
    yield Bad("silence, much shorter than declared", wav(bytes(16_000)), ten)


# --- a download -----------------------------------------------------------------------------------------------------

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


class StillClock:
    """Time that moves a second whenever it is looked at."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> datetime:
        self._looks += 1
        return START + timedelta(seconds=self._looks)

    def monotonic(self) -> float:
        return float(self._looks)


class CountedChance:
    """Identifiers that are told apart by a number."""

    def __init__(self, start: int = 0) -> None:
        self._number = start

    def token(self, size: int) -> bytes:
        return bytes(size)

    def uuid(self) -> str:
        self._number += 1
        return f"01890000-0000-7000-8000-{self._number:012x}"


@dataclass
class Answer:
    """The port's `Media` over bytes in memory; `end` is raised when they are out."""

    body: bytes
    length: int | None
    offset: int = 0
    etag: str | None = None
    framed: bool = True
    status: int = 200
    content_type: str | None = "audio/mpeg"
    content_encoding: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    end: ArchiverError | None = None
    chunk: int = 65_536

    async def chunks(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), self.chunk):
            yield self.body[start : start + self.chunk]
        if self.end is not None:
            raise self.end


class Origin:
    """Serves one body; the first `len(cuts)` answers are cut after so many bytes. Grants ranges unless told not to."""

    def __init__(
        self,
        body: bytes,
        *cuts: int,
        etag: str | None = '"v1"',
        stated: bool = True,
        ranges: bool = True,
        chunk: int = 65_536,
    ) -> None:
        self.body = body
        self.cuts = list(cuts)
        self.etag = etag
        self.stated = stated
        self.ranges = ranges
        self.chunk = chunk
        self.asked: list[tuple[int, str | None]] = []
        self.open = 0

    @asynccontextmanager
    async def __call__(self, offset: int, etag: str | None) -> AsyncIterator[Answer]:
        self.asked.append((offset, etag))
        granted = offset if self.ranges and etag == self.etag else 0
        rest = self.body[granted:]
        cut = self.cuts.pop(0) if self.cuts else None
        self.open += 1
        try:
            yield Answer(
                rest if cut is None else rest[:cut],
                len(rest) if self.stated else None,
                offset=granted,
                etag=self.etag,
                status=206 if granted else 200,
                end=None if cut is None else CutShortError("connection closed"),
                chunk=self.chunk,
            )
        finally:
            self.open -= 1
