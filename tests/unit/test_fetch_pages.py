"""Ogg and FLAC made by hand: pages with their granules, frames with their numbers and checksums."""

from __future__ import annotations

import struct

import pytest

from archiver.fetch.pages import Flac, Ogg
from archiver.fetch.walk import Follower, Shape
from tests.fetch_walks import NOTHING, shape, walked

JUNK = b"\x55"


def page(granule: int, body: bytes = JUNK * 30, flags: int = 0, serial: int = 7, table: bytes | None = None) -> bytes:
    sizes = bytes([255] * (len(body) // 255) + [len(body) % 255]) if table is None else table
    head = b"OggS\0" + bytes([flags]) + struct.pack("<qI", granule, serial) + JUNK * 8 + bytes([len(sizes)])
    return head + sizes + body


def opus(skip: int = 312, channels: int = 2) -> bytes:
    return b"OpusHead\x01" + bytes([channels]) + struct.pack("<H", skip) + JUNK * 7


OPUS = page(0, opus(), 2)
VORBIS = b"\x01vorbis" + bytes(4) + b"\x03" + (16_000).to_bytes(4, "little") + JUNK * 14
SPEEX = b"Speex   " + JUNK * 28 + (8000).to_bytes(4, "little") + JUNK * 8 + (2).to_bytes(4, "little") + JUNK * 28
FLAC_IN_OGG = b"\x7fFLAC\x01\0\0\x01fLaC" + bytes(4) + JUNK * 10 + (44100 << 44 | 5 << 41 | 99).to_bytes(8) + JUNK * 16
SECOND = 48_000 + 312
NONE = shape("ogg", whole=True)


def ogg(lasts: float | None, whole: bool | None) -> Shape:
    return shape("ogg", "opus", 48000, 2, lasts, whole=whole)


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ((OPUS, page(SECOND, flags=4)), ogg(1, True)),
        ((OPUS, page(9), page(SECOND, JUNK * 600, 4)), ogg(1, True)),
        ((OPUS, page(SECOND)), ogg(1, None)),
        ((OPUS, page(SECOND, flags=1)), ogg(1, None)),
        ((OPUS, page(9), page(SECOND, flags=5)), ogg(1, True)),
        ((OPUS, page(SECOND), OPUS, page(SECOND), OPUS, page(SECOND, flags=4)), ogg(3, True)),
        ((OPUS, page(SECOND, flags=4), JUNK * 26), ogg(1, None)),
        ((OPUS, page(SECOND, flags=4), JUNK * 27), ogg(1, False)),
        ((OPUS, page(SECOND, flags=4), b"OggS\x01" + JUNK * 22), ogg(1, False)),
        ((OPUS, page(SECOND, flags=4)[:-1]), ogg(1, False)),
        ((OPUS, page(SECOND, flags=4), page(9)), ogg(1, None)),
        ((OPUS, page(SECOND), page(-1, flags=4)), ogg(1, True)),
        ((OPUS, page(SECOND, flags=4), page(SECOND * 9, serial=8)), ogg(1, True)),
        ((OPUS, page(SECOND), page(0, flags=4, serial=8)), ogg(1, None)),
        ((OPUS, page(300, flags=4)), ogg(0, True)),
        ((OPUS, page(312 + 24, flags=4)), ogg(0.0005, True)),
        ((OPUS,), ogg(0, None)),
        ((page(0, opus(), 6),), ogg(0, True)),
        ((page(0, opus(0x0201), 2), page(0x0201 + 48, flags=4)), ogg(0.001, True)),
        ((page(0, opus(channels=1), 2), page(SECOND, flags=4)), shape("ogg", "opus", 48000, 1, 1, whole=True)),
        ((page(0, VORBIS, 2), page(8000, flags=4)), shape("ogg", "vorbis", 16000, 3, 0.5, whole=True)),
        ((page(0, SPEEX, 2), page(8000, flags=4)), shape("ogg", "speex", 8000, 2, 1, whole=True)),
        ((page(0, SPEEX[:52], 2), page(8000, flags=4)), shape("ogg", "speex", 8000, 2, 1, whole=True)),
        ((page(0, SPEEX[:51], 2), page(8000, flags=4)), NONE),
        ((page(0, FLAC_IN_OGG, 2), page(22050, flags=4)), shape("ogg", "flac", 44100, 6, 0.5, whole=True)),
        ((page(0, FLAC_IN_OGG[:35], 2), page(22050, flags=4)), shape("ogg", "flac", 44100, 6, 0.5, whole=True)),
        ((page(0, FLAC_IN_OGG[:34], 2), page(22050, flags=4)), NONE),
        ((page(0, b"theora" + JUNK * 60, 2), page(8000, flags=4)), NONE),
        ((page(0, opus()), page(8000, flags=4)), shape("ogg")),
        ((page(5, opus(), 0, 0x01000007), page(0, opus(), 2), page(SECOND, flags=4)), ogg(1, True)),
        ((page(0, opus() + JUNK * 300, 2), page(SECOND, flags=4)), ogg(1, True)),
        ((page(0, opus(), 3), page(SECOND, flags=5)), ogg(1, True)),
        ((page(0, b"", 2), page(SECOND, flags=4)), NONE),
        ((page(0, JUNK * 9, 2, table=b"\x04\x05"), OPUS, page(SECOND, flags=4)), ogg(1, True)),
        # streams joined end to end
        ((OPUS, page(SECOND, flags=4), page(0, opus(), 2, 9), page(SECOND * 2, flags=4, serial=9)), ogg(3.0065, True)),
        ((OPUS, page(SECOND, flags=4), OPUS, page(SECOND, flags=4)), ogg(2, True)),
        ((OPUS, page(SECOND, flags=4), page(0, VORBIS, 2, 9), page(8000, flags=4, serial=9)), ogg(1.5, True)),
        ((OPUS, page(SECOND, flags=4), page(0, VORBIS, 2, 9), page(8000, serial=9)), ogg(1.5, None)),
        ((OPUS, page(SECOND, flags=4), page(0, opus(), 2, 9), page(99, flags=4)), ogg(1, None)),
        ((OPUS, page(0, VORBIS, 2, 9), page(8000, flags=4, serial=9), page(SECOND, flags=4)), ogg(1, True)),  # side by side
        ((page(0, b"fishead" + JUNK * 60, 2, 9), OPUS, page(9999, serial=9), page(SECOND, flags=4)), ogg(1, True)),
        ((), shape("ogg")),
    ],
)  # fmt: skip
def test_ogg_is_as_long_as_its_last_granule_says(pages: tuple[bytes, ...], expected: Shape) -> None:
    body = b"".join(pages)
    found = walked(Ogg, body)
    if body:
        assert found == expected


def crc8(data: bytes) -> int:
    """By division of polynomials: another way than the reader's."""
    rest = int.from_bytes(data) << 8
    for bit in range(rest.bit_length() - 1, 7, -1):
        if rest >> bit & 1:
            rest ^= 0x107 << (bit - 8)
    return rest


def number(value: int) -> bytes:
    """As UTF-8 writes it, up to 36 bits."""
    if value < 0x80:
        return bytes([value])
    more = next(n for n in range(1, 7) if value < 1 << (5 * n + 6))
    lead = 0xFF << (7 - more) & 0xFF | value >> 6 * more
    return bytes([lead, *(0x80 | value >> 6 * n & 63 for n in reversed(range(more)))])


def frame(
    at: int, size_code: int = 12, rate_code: int = 0, *, variable: bool = False, more: bytes = b"", last: int = 0,
    wrong: int = 0, body: bytes = JUNK * 60, coded: bytes = b"",
) -> bytes:  # fmt: skip
    head = bytes([0xFF, 0xF9 if variable else 0xF8, size_code << 4 | rate_code, last]) + (coded or number(at)) + more
    return head + bytes([crc8(head) ^ wrong]) + body


def flac(
    *frames: bytes, total: int = 0, rate: int = 8000, channels: int = 1, block: int = 4096, blocks: bytes = b""
) -> bytes:
    info = block.to_bytes(2) + JUNK * 8 + (rate << 44 | (channels - 1) << 41 | 15 << 36 | total).to_bytes(8) + JUNK * 16
    return b"fLaC" + (b"\0" if blocks else b"\x80") + b"\0\0\x22" + info + blocks + b"".join(frames)


def lasting(samples: int, whole: bool | None = None, rate: int = 8000, channels: int = 1) -> Shape:
    return shape("flac", "flac", rate, channels, samples / rate, whole=whole)


THREE = (frame(0), frame(1), frame(2))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (flac(*THREE), lasting(3 * 4096)),
        (flac(*THREE, total=3 * 4096), lasting(3 * 4096)),
        (flac(*THREE, total=10_000), lasting(10_000)),
        (flac(*THREE, total=4 * 4096), lasting(3 * 4096)),
        (flac(*THREE, total=4 * 4096 + 1), lasting(3 * 4096, False)),
        (flac(*THREE, total=(1 << 36) - 1), lasting(3 * 4096, False)),
        (flac(*THREE, rate=44100, channels=8), lasting(3 * 4096, None, 44100, 8)),
        (flac(*THREE, blocks=b"\x04\0\x01\x02" + JUNK * 258 + b"\x81\0\0\x05" + JUNK * 5), lasting(3 * 4096)),
        (flac(*THREE, blocks=b"\x81\0\0\0"), lasting(3 * 4096)),
        (flac(*THREE, blocks=b"\x81\x01\0\0" + JUNK * 65536), lasting(3 * 4096)),
        (flac(frame(0), frame(1, wrong=1), frame(2)), lasting(4096)),
        (flac(frame(0), frame(2)), lasting(4096)),
        (flac(frame(1)), NOTHING),
        (flac(frame(0), frame(1, 0)), lasting(4096)),
        (flac(frame(0, coded=b"\x80")), NOTHING),
        (flac(frame(0, coded=b"\xbf\x80")), NOTHING),
        (flac(frame(0, coded=b"\xff" + b"\x80" * 7)), NOTHING),
        (flac(frame(0, coded=b"\xc0\x80")), lasting(4096)),  # longer than it need be
        (flac(JUNK * 99, frame(0), JUNK * 999, frame(1), b"\xff\xf8\x55" * 50, frame(2)), lasting(3 * 4096)),
        (flac(frame(0), frame(1, last=1), frame(2)), lasting(4096)),
        (flac(frame(0), frame(1, last=8)), lasting(2 * 4096)),
        (flac(frame(0), frame(1, size_code=6, more=b"\x7f")), lasting(4096 + 128)),
        (flac(frame(0), frame(1, size_code=7, more=b"\x01\x7f")), lasting(4096 + 384)),
        (flac(frame(0), frame(1, 12, 12, more=b"\x08")), lasting(2 * 4096)),
        (flac(frame(0), frame(1, 12, 13, more=b"\x1f\x40")), lasting(2 * 4096)),
        (flac(frame(0), frame(1, 12, 14, more=b"\x1f\x40")), lasting(2 * 4096)),
        (flac(frame(0), frame(1, 7, 14, more=b"\x01\x7f\x1f\x40")), lasting(4096 + 384)),
        (flac(frame(0), frame(1, 12, 11)), lasting(2 * 4096)),
        (flac(frame(0, body=b"")), NOTHING),
        (flac(frame(0, body=JUNK * 9)), NOTHING),
        (flac(frame(0, body=JUNK * 10)), lasting(4096)),
        (flac(), NOTHING),
        (flac()[:-1], NOTHING),
        (flac(*THREE, rate=0), shape(None, whole=False)),
        (b"fLaC\x81\0\0\x22" + flac(*THREE)[8:], shape(None, whole=False)),
        (flac(blocks=b"\x81\0\0\x05" + JUNK * 4), shape(None, whole=False)),
        (flac(blocks=b"\x01\0\0\x05" + JUNK * 5 + b"\x81\0\0\x05" + JUNK * 4), shape(None, whole=False)),
    ],
)  # fmt: skip
def test_flac_reaches_as_far_as_its_frames_follow_one_another(body: bytes, expected: Shape) -> None:
    assert walked(Flac, body) == expected


@pytest.mark.parametrize(
    ("code", "samples"),
    [
        (1, 192),
        (2, 576),
        (3, 1152),
        (4, 2304),
        (5, 4608),
        (8, 256),
        (9, 512),
        (10, 1024),
        (11, 2048),
        (12, 4096),
        (15, 32768),
    ],
)
def test_each_code_stands_for_a_count_of_samples(code: int, samples: int) -> None:
    assert walked(Flac, flac(frame(0, code), frame(1, code), block=samples)) == lasting(2 * samples)


@pytest.mark.parametrize(
    "at", [0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x1FFFFF, 0x200000, 0x3FFFFFF, 0x4000000, 0x7FFFFFFF, 1 << 35]
)
def test_numbers_of_any_length_are_read(at: int) -> None:
    walk = Flac()
    walk.step(flac(), 0)
    walk._reached = at
    body = frame(at, variable=True)
    walk.step(body, 0)
    assert walk._reached == at + 4096
    walk._reached = at + 1
    walk.step(body, 0)
    assert walk._reached == at + 1


def test_a_variable_stream_counts_samples() -> None:
    body = flac(frame(0, variable=True), frame(4096, 11, variable=True), frame(6144, variable=True))
    assert walked(Flac, body) == lasting(6144 + 4096)
    assert walked(Flac, flac(frame(0, variable=True), frame(1, variable=True))) == lasting(4096)


def test_a_body_full_of_false_headers_is_given_up_in_time() -> None:
    false = b"\xff\xf8\x55\x00\x85"
    for most, blocks in ((50_000, b""), (50_256, b"\x81\x01\0\0" + JUNK * 65536)):
        for more, found in ((-1, lasting(4096)), (0, NOTHING)):
            follower = Follower(Flac())
            follower.feed(flac(false * (most + more), frame(0), blocks=blocks))
            assert follower.shape() == found
