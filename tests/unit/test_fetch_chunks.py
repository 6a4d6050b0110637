"""AU, AIFF, CAF, VOC, ASF and SPHERE made by hand: where each header says what, and what did not come."""

from __future__ import annotations

import struct

import pytest

from archiver.fetch.chunks import ASF, Aiff, Asf, Au, Caf, Sphere, Voc
from archiver.fetch.walk import Shape
from tests.fetch_walks import NOTHING, shape, walked

JUNK = b"\x55"


# --- AU -------------------------------------------------------------------------------------------------------------


def au(
    came: int, *, start: int = 32, stated: int | None = None, code: int = 3, rate: int = 8000, channels: int = 2
) -> bytes:
    head = b".snd" + struct.pack(">5I", start, came if stated is None else stated, code, rate, channels)
    return head + JUNK * (start - 24 + came)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (au(32_000), shape("au", "pcm_s16be", 8000, 2, 1, whole=True)),
        (au(32_000, start=24), shape("au", "pcm_s16be", 8000, 2, 1, whole=True)),
        (au(32_000, stated=16_000), shape("au", "pcm_s16be", 8000, 2, 0.5, whole=True)),
        (au(16_000, stated=16_001), shape("au", "pcm_s16be", 8000, 2, 0.5, whole=False)),
        (au(16_000, stated=0xFFFFFFFF), shape("au", "pcm_s16be", 8000, 2, 0.5)),
        (au(16_000, stated=0xFFFFFFFE), shape("au", "pcm_s16be", 8000, 2, 0.5, whole=False)),
        (au(16_000, code=1), shape("au", "pcm_mulaw", 8000, 2, 1, whole=True)),
        (au(16_000, code=2), shape("au", "pcm_s8", 8000, 2, 1, whole=True)),
        (au(64_000, code=6), shape("au", "pcm_f32be", 8000, 2, 1, whole=True)),
        (au(16_000, code=27), shape("au", "pcm_alaw", 8000, 2, 1, whole=True)),
        (au(16_000, code=23), shape("au", "au_23", 8000, 2, whole=True)),
        (au(0), shape("au", "pcm_s16be", 8000, 2, 0, whole=True)),
        (au(99)[:28], shape("au", "pcm_s16be", 8000, 2, 0, whole=False)),
        (au(99)[:23], shape("au", "au_0", 0, 0, 0, whole=True)),
    ],
)
def test_au_states_all_in_its_header(body: bytes, expected: Shape) -> None:
    assert walked(Au, body) == expected


# --- AIFF -----------------------------------------------------------------------------------------------------------


def chunk(name: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return (
        name
        + (len(body) if length is None else length).to_bytes(4)
        + body
        + (b"\0" if length is None and len(body) & 1 else b"")
    )


def comm(
    kind: bytes = b"",
    *,
    frames: int = 8000,
    bits: int = 16,
    exponent: int = 0x400B,
    mantissa: int = 8000 << 51,
    more: bytes = b"",
) -> bytes:
    return chunk(b"COMM", struct.pack(">HIHHQ", 2, frames, bits, exponent, mantissa) + kind + more)


SSND = chunk(b"SSND", JUNK * 320)


def aiff(*chunks: bytes) -> bytes:
    return b"FORM\xff\xff\xff\xffAIFC" + b"".join(chunks)


def s16(lasts: float | None, whole: bool, codec: str = "pcm_s16be", rate: int = 8000) -> Shape:
    return shape("aiff", codec, rate, 2, lasts, whole=whole)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (aiff(comm(), SSND), s16(1, True)),
        (aiff(chunk(b"NAME", b"abc"), comm(), chunk(b"ANNO", b"a"), SSND), s16(1, True)),
        (aiff(SSND, comm()), s16(1, True)),
        (aiff(comm(), SSND)[:-160], s16(0.5, False)),
        (aiff(comm(), SSND) + JUNK * 50, s16(1, True)),
        (aiff(comm(), chunk(b"SSND")), s16(0, True)),
        (aiff(comm(frames=0x01000000), SSND), s16(0x01000000 / 8000, True)),
        (aiff(comm(b"NONE"), SSND), s16(1, True)),
        (aiff(comm(b"NONE\0", more=JUNK * 9), SSND), s16(1, True)),
        (aiff(comm(b"sowt"), SSND), s16(1, True, "pcm_s16le")),
        (aiff(comm(b"ulaw"), SSND), s16(1, True, "pcm_mulaw")),
        (aiff(comm(b"ULAW"), SSND), s16(1, True, "pcm_mulaw")),
        (aiff(comm(b"alaw"), SSND), s16(1, True, "pcm_alaw")),
        (aiff(comm(b"ima4"), SSND), s16(1, True, "ima4")),
        (aiff(comm(b"GSM "), SSND), s16(1, True, "gsm")),
        (aiff(comm(bits=24), SSND), s16(1, True, "pcm_s24be")),
        (aiff(comm(exponent=0xC00B), SSND), s16(None, True, rate=0)),
        (aiff(comm(exponent=0x400A), SSND), s16(2, True, rate=4000)),
        (aiff(comm(exponent=0x3FFF, mantissa=1 << 63), SSND), s16(8000, True, rate=1)),
        (aiff(comm(exponent=0x3FFE, mantissa=3 << 62), SSND), s16(None, True, rate=0)),
        (aiff(comm(exponent=0x4020, mantissa=1 << 63), SSND), s16(8000 / 2**33, True, rate=2**33)),
        (aiff(comm(exponent=0x4021, mantissa=1 << 63), SSND), s16(None, True, rate=0)),
        (aiff(comm()), shape("aiff", "pcm_s16be", 8000, 2, whole=False)),
        (aiff(chunk(b"COMM", JUNK * 17), SSND), shape(None, whole=True)),
        (aiff(chunk(b"COMM"), comm(), SSND), s16(1, True)),
        (aiff(comm(b"sowt", more=JUNK * 40)[:30]), shape("aiff", "pcm_s16le", 8000, 2, whole=False)),
        (aiff(), shape(None, whole=False)),
    ],
)  # fmt: skip
def test_aiff_states_frames_and_rate(body: bytes, expected: Shape) -> None:
    assert walked(Aiff, body) == expected


# --- CAF ------------------------------------------------------------------------------------------------------------


def caf_chunk(name: bytes, body: bytes, length: int | None = None) -> bytes:
    return name + (len(body) if length is None else length).to_bytes(8, signed=True) + body


def desc(kind: bytes = b"lpcm", rate: float = 8000.0, size: int = 4, frames: int = 1) -> bytes:
    return caf_chunk(b"desc", struct.pack(">d4s5I", rate, kind, 9, size, frames, 2, 16))


PAKT = caf_chunk(b"pakt", (5).to_bytes(8) + (16_000).to_bytes(8) + JUNK * 8 + JUNK * 30)
DATA = caf_chunk(b"data", JUNK * 4 + JUNK * 32_000)


def caf(*chunks: bytes) -> bytes:
    return b"caff\0\x01\0\0" + b"".join(chunks)


def lpcm(lasts: float | None, whole: bool | None, codec: str = "pcm_16", rate: int = 8000) -> Shape:
    return shape("caf", codec, rate, 2, lasts, whole=whole)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (caf(desc(), DATA), lpcm(1, True)),
        (caf(desc(), caf_chunk(b"free", JUNK * 9), DATA, caf_chunk(b"info", JUNK * 50)), lpcm(1, True)),
        (caf(desc(), DATA)[:-16_000], lpcm(0.5, False)),
        (caf(desc(), DATA)[:-1], lpcm(7999 / 8000, False)),
        (caf(desc(), DATA, caf_chunk(b"info", JUNK * 50, 51)), lpcm(1, False)),
        (caf(desc(), DATA, b"\xe9nfo" + bytes(40)), lpcm(1, True)),
        (caf(desc(), DATA, b"info" + b"\xff" * 40), lpcm(1, True)),
        (caf(desc(), caf_chunk(b"data", JUNK * 32_004, -1)), lpcm(1, None)),
        (caf(desc(), caf_chunk(b"data", JUNK * 4, 4)), lpcm(0, True)),
        (caf(desc(), caf_chunk(b"data", JUNK * 2, -1)), lpcm(0, None)),
        (caf(desc(size=2), DATA), lpcm(2, True)),
        (caf(desc(frames=3), DATA), lpcm(3, True)),
        (caf(desc(size=0), DATA), lpcm(None, True)),
        (caf(desc(frames=0), DATA), lpcm(None, True)),
        (caf(desc(size=0), PAKT, DATA), lpcm(2, True)),
        (caf(desc(frames=0), DATA, PAKT), lpcm(2, True)),
        (caf(desc(), DATA, PAKT), lpcm(1, True)),
        (caf(desc(size=0), PAKT, DATA)[:-1], lpcm(None, False)),
        (caf(desc(size=0), PAKT, caf_chunk(b"data", JUNK * 32_004, -1)), lpcm(None, None)),
        (caf(desc(b"ulaw"), DATA), lpcm(1, True, "pcm_mulaw")),
        (caf(desc(b"alaw"), DATA), lpcm(1, True, "pcm_alaw")),
        (caf(desc(b"AAC "), DATA), lpcm(1, True, "aac")),
        (caf(desc(rate=0.75), DATA), lpcm(8000, True, rate=1)),
        (caf(desc(rate=0.0), DATA), lpcm(None, True, rate=0)),
        (caf(desc(rate=-5.0), DATA), lpcm(None, True, rate=0)),
        (caf(desc(rate=1e6), DATA), lpcm(None, True, rate=0)),
        (caf(desc()), lpcm(None, False)),
        (caf(), shape("caf", whole=False)),
        (caf(DATA), shape("caf", whole=True)),
    ],
)  # fmt: skip
def test_caf_counts_packets(body: bytes, expected: Shape) -> None:
    assert walked(Caf, body) == expected


# --- VOC ------------------------------------------------------------------------------------------------------------


def blk(kind: int, body: bytes, length: int | None = None) -> bytes:
    return bytes([kind]) + (len(body) if length is None else length).to_bytes(3, "little") + body


def new(rate: int = 8000, bits: int = 16, channels: int = 2, codec: int = 4, came: int = 32_000) -> bytes:
    return blk(9, struct.pack("<IBBH", rate, bits, channels, codec) + JUNK * 4 + JUNK * came)


VOC = b"Creative Voice File\x1a" + JUNK * 6
OLD = blk(1, bytes([256 - 125, 0]) + JUNK * 8000)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (VOC + OLD + b"\0", shape("voc", "pcm_u8", 8000, 1, 1, whole=True)),
        (VOC + OLD + b"\0" + JUNK * 50, shape("voc", "pcm_u8", 8000, 1, 1, whole=True)),
        (VOC + OLD, shape("voc", "pcm_u8", 8000, 1, 1, whole=True)),
        (VOC + OLD[:-4000], shape("voc", "pcm_u8", 8000, 1, 0.5, whole=False)),
        (VOC + OLD[:-1], shape("voc", "pcm_u8", 8000, 1, 1, whole=False)),
        (VOC + OLD + blk(2, JUNK * 4000) + b"\0", shape("voc", "pcm_u8", 8000, 1, 1.5, whole=True)),
        (VOC + OLD + blk(2, JUNK * 4000)[:-2000], shape("voc", "pcm_u8", 8000, 1, 1.25, whole=False)),
        (VOC + blk(5, b"hello") + OLD + blk(3, JUNK * 3) + b"\0", shape("voc", "pcm_u8", 8000, 1, 1, whole=True)),
        (VOC + OLD + OLD + b"\0", shape("voc", "pcm_u8", 8000, 1, 2, whole=True)),
        (VOC + new() + b"\0", shape("voc", "pcm_s16le", 8000, 2, 1, whole=True)),
        (VOC + new() + blk(2, JUNK * 16_000) + b"\0", shape("voc", "pcm_s16le", 8000, 2, 1.5, whole=True)),
        (VOC + new(bits=8, channels=1, codec=0, came=8000) + b"\0", shape("voc", "pcm_u8", 8000, 1, 1, whole=True)),
        (VOC + new(bits=8, channels=1, codec=6, came=8000) + b"\0", shape("voc", "pcm_alaw", 8000, 1, 1, whole=True)),
        (VOC + new(bits=8, channels=1, codec=7, came=8000) + b"\0", shape("voc", "pcm_mulaw", 8000, 1, 1, whole=True)),
        (VOC + new(bits=4, channels=1, codec=0x200, came=8000) + b"\0", shape("voc", "voc_512", 8000, 1, 1, whole=True)),
        (VOC + new(rate=0) + b"\0", shape("voc", "pcm_s16le", 0, 2, 0, whole=True)),
        (VOC + new(came=80_000) + b"\0", shape("voc", "pcm_s16le", 8000, 2, 2.5, whole=True)),
        (VOC + OLD + new(came=16_000) + b"\0", shape("voc", "pcm_s16le", 8000, 2, 1.5, whole=True)),
        (VOC + OLD + blk(2, b"", 0)[:3], shape("voc", "pcm_u8", 8000, 1, 1, whole=True)),
        (VOC + OLD + blk(2, JUNK * 8)[:-8] + b"", shape("voc", "pcm_u8", 8000, 1, 1, whole=False)),
        (VOC + blk(5, b"hello") + b"\0", NOTHING),
        (VOC + b"\0", NOTHING),
        (VOC, NOTHING),
    ],
)  # fmt: skip
def test_voc_adds_up_its_blocks(body: bytes, expected: Shape) -> None:
    assert walked(Voc, body) == expected


# --- ASF ------------------------------------------------------------------------------------------------------------

FILE, ASF_DATA = "a1dcab8c47a9cf118ee400c00c205365", "3626b2758e66cf11a6d900aa0062ce6c"


def obj(name: str, body: bytes = b"", length: int | None = None) -> bytes:
    return bytes.fromhex(name) + (24 + len(body) if length is None else length).to_bytes(8, "little") + body


def file(size: int, ticks: int = 53_000_000, preroll: int = 300, flags: int = 2) -> bytes:
    body = JUNK * 16 + struct.pack("<Q", size) + JUNK * 16 + struct.pack("<Q", ticks) + JUNK * 8
    return obj(FILE, body + struct.pack("<QI", preroll, flags) + JUNK * 12)


def asf(*objects: bytes) -> bytes:
    return ASF + (30 + sum(map(len, objects))).to_bytes(8, "little") + JUNK * 6 + b"".join(objects)


OTHER, PACKETS = obj("bb" * 16, JUNK * 10), obj(ASF_DATA, JUNK * 300)
SIZE = 30 + 104 + 34 + 324


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (asf(file(SIZE), OTHER) + PACKETS, shape("asf", lasts=5, whole=True)),
        (asf(OTHER, file(SIZE)) + PACKETS, shape("asf", lasts=5, whole=True)),
        (asf(file(SIZE + 1), OTHER) + PACKETS, shape("asf", lasts=5, whole=False)),
        (asf(file(SIZE), OTHER) + PACKETS[:-1], shape("asf", lasts=5, whole=False)),
        (asf(file(0), OTHER) + PACKETS[:-1], shape("asf", lasts=5, whole=False)),
        (asf(file(0), OTHER) + PACKETS + JUNK * 20, shape("asf", lasts=5, whole=True)),
        (asf(file(0), OTHER) + PACKETS + obj("cc" * 16, b"", 23), shape("asf", lasts=5, whole=True)),
        (asf(file(0), OTHER) + PACKETS + obj("cc" * 16, b"", 25), shape("asf", lasts=5, whole=False)),
        (asf(file(0), OTHER) + PACKETS + obj("cc" * 16), shape("asf", lasts=5, whole=True)),
        (asf(file(SIZE, flags=3), OTHER) + PACKETS, shape("asf")),
        (asf(file(SIZE + 9, flags=1), OTHER) + PACKETS[:-1], shape("asf")),
        (asf(file(SIZE, ticks=53_009_999), OTHER) + PACKETS, shape("asf", lasts=5, whole=True)),
        (asf(file(SIZE, ticks=2_990_000), OTHER) + PACKETS, shape("asf", lasts=0, whole=True)),
        (asf(OTHER) + PACKETS, shape("asf")),
        (asf(file(0), OTHER), shape("asf", lasts=5, whole=False)),
        (asf(file(0)), shape("asf", lasts=5, whole=False)),
        (asf(), shape("asf", whole=False)),
    ],
)  # fmt: skip
def test_asf_states_its_size_unless_it_was_streamed(body: bytes, expected: Shape) -> None:
    assert walked(Asf, body) == expected


# --- SPHERE ---------------------------------------------------------------------------------------------------------


def sphere(fields: str, came: int = 0, *, start: str = "   1024", room: int = 1024) -> bytes:
    return f"NIST_1A\n{start}\n{fields}end_head\n".encode().ljust(room) + JUNK * came


FIELDS = "channel_count -i 2\nsample_rate -i 8000\nsample_n_bytes -i 2\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (sphere(FIELDS + "sample_count -i 8000\n", 32_000), shape("sphere", "pcm", 8000, 2, 1, whole=True)),
        (sphere(FIELDS + "sample_count -i 8000\n", 31_999), shape("sphere", "pcm", 8000, 2, 7999 / 8000, whole=False)),
        (sphere(FIELDS + "sample_count -i 4000\n", 32_000), shape("sphere", "pcm", 8000, 2, 0.5, whole=True)),
        (sphere(FIELDS, 32_000), shape("sphere", "pcm", 8000, 2, 1)),
        (sphere(FIELDS + "sample_coding -s4 ulaw\n", 32_000), shape("sphere", "ulaw", 8000, 2, 1)),
        (sphere(FIELDS + "sample_coding -s26 pcm,embedded-shorten-v2.00\n", 32_000), shape("sphere", "pcm", 8000, 2, 1)),
        (sphere("sample_rate -i 8000\n", 8000), shape("sphere", "pcm", 8000, 1, 1)),
        (sphere("sample_rate -i 8000\nsample_count -i 8000\n", 8000), shape("sphere", "pcm", 8000, 1, 1, whole=True)),
        (sphere("sample_count -i 8000\n", 8000), shape("sphere", "pcm", None, 1, whole=True)),
        (sphere("", 8000), shape("sphere", "pcm", None, 1)),
        (sphere(FIELDS + "sample_count -i 8000\n", 0), shape("sphere", "pcm", 8000, 2, 0, whole=False)),
        (sphere(FIELDS, 32_000, start="   2048", room=2048), shape("sphere", "pcm", 8000, 2, 1)),
        (sphere(FIELDS, 32_000, start="what ev"), shape("sphere", "pcm", 8000, 2, 1)),
        (sphere(FIELDS, 32_000, start="       "), shape("sphere", "pcm", 8000, 2, 1)),
        (sphere(FIELDS, 32_000, start="    512", room=512), shape("sphere", "pcm", 8000, 2, 1)),
        (sphere("sample_n_bytes -i 0\nsample_rate -i 8000\nsample_count -i 8\n", 4),
         shape("sphere", "pcm", 8000, 1, 4 / 8000, whole=True)),
        (sphere(FIELDS, room=400), shape("sphere", "pcm", 8000, 2, 0)),
        (sphere(FIELDS, room=399), shape("sphere", lasts=0)),
    ],
)  # fmt: skip
def test_sphere_is_read_from_its_text(body: bytes, expected: Shape) -> None:
    assert walked(Sphere, body) == expected
