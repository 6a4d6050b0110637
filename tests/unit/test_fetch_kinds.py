"""Whatever a stock decoder opens is audio, cut or mangled sound is not whole, and nothing else is audio.

The samples and what ffmpeg or sox made of each are in tests/data/kinds, with the script that made them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import zipfile
import zlib
from base64 import encodebytes
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from archiver.errors import UnacceptableMediaError
from archiver.fetch.media import Findings, Sniffer, judge
from archiver.recording import Flag
from tests.fetch_bodies import MP3, ULAW, WAV, untagged, wav

KINDS = Path(__file__).parent.parent / "data" / "kinds"
INDEX = {
    name: (float(seconds), digest)
    for name, _, seconds, _, digest in (line.split("\t") for line in (KINDS / "INDEX.tsv").read_text().splitlines())
}
UNTIMED = {"aac.ts", "latm.loas", "mulaw.avi", "pcm-s16.ircam"}
CUT_UNSEEN = {"pcm-s16.ircam"}
NEAR = 0.25
"""Seconds: encoders of MP3 and AAC add a frame or two, which decoders leave out where a header tells them."""


def sniff(body: bytes, step: int = 1 << 20) -> Findings:
    sniffer = Sniffer()
    for start in range(0, len(body), step):
        sniffer.feed(body[start : start + step])
    return sniffer.findings()


def flags(body: bytes, seconds: float, content_type: str = "application/octet-stream") -> set[Flag]:
    declared = timedelta(seconds=seconds)
    return set(
        judge(sniff(body), declared=declared, status=200, content_type=content_type, content_encoding=None, framed=True)
    )


@pytest.mark.parametrize("name", INDEX)
def test_whatever_a_stock_decoder_opens_is_audio_of_the_decoders_length(name: str) -> None:
    seconds, digest = INDEX[name]
    body = (KINDS / name).read_bytes()
    assert hashlib.sha256(body).hexdigest() == digest
    for step in (7, 1000, 1 << 20):
        found = sniff(body, step)
        assert found.media.container is not None
        assert found.page is None
        assert found.whole is not False
        assert (found.media.duration is None) == (name in UNTIMED)
        if found.media.duration is not None:
            assert abs(found.media.duration.total_seconds() - seconds) < NEAR
    assert flags(body, seconds) == set()


@pytest.mark.parametrize("name", sorted(INDEX.keys() - CUT_UNSEEN))
def test_without_its_last_third_it_is_seen_to_be_cut(name: str) -> None:
    body, seconds = (KINDS / name).read_bytes(), INDEX[name][0]
    found = sniff(body[: len(body) * 7 // 10 - 1])
    lasts = found.media.duration
    short = lasts is not None and lasts.total_seconds() < 0.9 * seconds
    assert found.whole is False or short or found.media.container is None


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("call.mp3", MP3)
    return packed.getvalue()


TRACE = "java.lang.IllegalStateException: object store timed out\n" + "".join(
    f"\tat com.example.Fetch.step{line}(Fetch.java:{line})\n" for line in range(120)
)
PIXELS = zlib.compress(random.Random(4).randbytes(20_000))
OTHERS: Mapping[str, bytes] = {
    "stack trace of 6 kB": TRACE.encode(),
    "text of 300 kB": b"The recording is not available at the moment.\n" * 6500,
    "text in UTF-8 of 20 kB": "Die Aufnahme ist zurzeit nicht verfügbar.\n".encode() * 500,
    "text in UTF-16": TRACE.encode("utf-16"),
    "text in UTF-16 without a mark": TRACE.encode("utf-16-le"),
    "csv": b"id,call,seconds\n" + b"".join(b"%d,c-%d,%d\n" % (n, n, n) for n in range(1000)),
    "html": b"<!doctype html><html><body>" + b"<p>Sign in</p>" * 1000,
    "xml": b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>",
    "json": b'{"error": "' + b"x" * 6000 + b'"}',
    "base64 of the recording": encodebytes(MP3),
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\x08\2\0\0\0" + PIXELS,
    "png of a case": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40,
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xdb\0\x43\0" + PIXELS,
    "gif": b"GIF89a\1\0\1\0\x80\0\0" + PIXELS,
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + PIXELS,
    "zip": zipped(),
    "gzip of the recording": gzip.compress(WAV, mtime=0),
    "zeros": bytes(50_000),
    "all ones": b"\xff" * 50_000,
    "noise of 3 kB": random.Random(1).randbytes(3000),
    "noise of 300 kB": random.Random(2).randbytes(300_000),
    "utf-8 over an mp3": MP3.decode("utf-8", "replace").encode(),
    "wav of zero bytes": wav(b""),
    "id3 and nothing behind": b"ID3\x04\0\0\0\0\x07\x68" + bytes(1000),
    "sealed by somebody": b"\x30\x82\x10\0\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"
    + random.Random(3).randbytes(4000),
    "elf": b"\x7fELF\2\1\1" + random.Random(5).randbytes(9000),
    "riff of something else": b"RIFF\xf8\x0f\0\0WEBPVP8 " + random.Random(6).randbytes(4000),
    "riff of clicks": b"RIFF\0\1\0\0AVI LIST" + random.Random(7).randbytes(4000),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_no_decoder_opens_is_refused_or_marked_as_no_audio(name: str) -> None:
    try:
        assert Flag.NOT_AUDIO in flags(OTHERS[name], 10)
    except UnacceptableMediaError as refused:
        assert "page" in str(refused)  # noqa: PT017  either way is right, and each must say so


@pytest.mark.parametrize("seed", range(40))
def test_noise_is_no_audio_whatever_it_begins_with(seed: int) -> None:
    chance = random.Random(seed)
    start = chance.choice([b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80", b"\xd0", b"\x47", b"\x0b\x77", b"\x56\xe0", b""])
    assert Flag.NOT_AUDIO in flags(start + chance.randbytes(chance.randrange(2_000, 60_000)), 10)


MANGLERS: Mapping[str, Callable[[bytes], bytes]] = {
    "LF became CRLF": lambda body: body.replace(b"\n", b"\r\n"),
    "CRLF became LF": lambda body: body.replace(b"\r\n", b"\n"),
    "CR was left out": lambda body: body.replace(b"\r", b""),
    "the eighth bit was stripped": lambda body: bytes(byte & 0x7F for byte in body),
    "it was read as UTF-8": lambda body: body.decode("utf-8", "replace").encode(),
    "it was read as ASCII": lambda body: body.decode("ascii", "replace").replace("\ufffd", "?").encode(),
}


def speech(tag: int, bits: int) -> bytes:
    """A second of bytes as speech has them: all values, CR LF among them."""
    return wav(random.Random(tag).randbytes(3000) + b"\r\n\n" + random.Random(bits).randbytes(4997), tag=tag, bits=bits)


@pytest.mark.parametrize("how", MANGLERS)
@pytest.mark.parametrize("what", ["pcm", "mu-law", "a-law", "real pcm", "real mu-law", "mp3"])
def test_sound_mangled_by_a_transfer_in_text_mode_is_not_whole(what: str, how: str) -> None:
    whole = {
        "pcm": speech(1, 16), "mu-law": speech(7, 8), "a-law": speech(6, 8), "real pcm": WAV, "real mu-law": ULAW, "mp3": MP3,
    }[what]  # fmt: skip
    mangled = MANGLERS[how](whole)
    found = sniff(mangled)
    assert mangled == whole or found.whole is False or found.media.container is None or _no_sound(found)
    assert sniff(whole).whole is True


def _no_sound(found: Findings) -> bool:
    return found.media.duration == timedelta(0) or found.page is not None


def test_silence_and_quiet_are_whole_though_they_have_few_bits() -> None:
    for body in (wav(bytes(16_000)), wav(b"\1\0\0\0\2\0" * 3000)):
        assert sniff(body).whole is True


@pytest.mark.parametrize("stated", ["frames", "bytes", "both"])
def test_mp3_that_is_shorter_than_its_own_header_says_is_truncated(stated: str) -> None:
    """Cut where a frame ends, so that nothing but the header of the encoder knows."""
    body = bytearray(MP3)
    xing = max(body.find(b"Xing"), body.find(b"Info"))
    frames, length = body[xing + 8 : xing + 12], body[xing + 12 : xing + 16]
    if stated == "frames":
        body[xing + 4 : xing + 12] = b"\0\0\0\1" + frames
    elif stated == "bytes":
        body[xing + 4 : xing + 12] = b"\0\0\0\2" + length
    second = body.find(body[body.index(b"\xff\xfb") : body.index(b"\xff\xfb") + 2], xing)
    cut = second
    while cut < len(body) * 3 // 4:
        cut += 417 + (body[cut + 2] >> 1 & 1)  # 128 kbit/s at 44.1 kHz, and one more where it is padded
    assert sniff(bytes(body)).whole is True
    assert sniff(bytes(body[:cut])).whole is False
    assert sniff(bytes(untagged(MP3)[: cut - second])).whole is True
