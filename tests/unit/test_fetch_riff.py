"""WAVE and AVI made by hand: what each header states, and what stands behind the sound."""

from __future__ import annotations

import struct
from functools import partial

import pytest

from archiver.fetch.riff import Avi, Riff, Wave64
from archiver.fetch.walk import Shape
from tests.fetch_walks import NOTHING, shape, walked

SECOND = b"\xff" * 16_000  # of 16 bits, mono, 8 kHz


def chunk(name: bytes, body: bytes = b"", length: int | None = None, order: str = "<") -> bytes:
    stated = len(body) if length is None else length
    return name + struct.pack(f"{order}I", stated) + body + (b"\0" if length is None and stated & 1 else b"")


def fmt(
    tag: int = 1,
    channels: int = 1,
    rate: int = 8000,
    byte_rate: int = 999,
    block: int = 2,
    bits: int = 16,
    more: bytes = b"",
    order: str = "<",
) -> bytes:
    return chunk(
        b"fmt ", struct.pack(f"{order}HHIIHH", tag, channels, rate, byte_rate, block, bits) + more, order=order
    )


def wave(*chunks: bytes) -> bytes:
    return b"RIFF\0\0\0\0WAVE" + b"".join(chunks)


PCM = partial(shape, "wav", "pcm_s16le", 8000, 1)
DATA = chunk(b"data", SECOND)


@pytest.mark.parametrize(
    ("behind", "whole"),
    [
        (b"", True),
        (chunk(b"LIST", b"\xff\xff\xff") + chunk(b"id3 ", b"\xff\xff"), True),
        (chunk(b"LIST", b"\xff\xff\xff\xff"), True),
        (bytes(16), True),
        (bytes(24), True),
        (bytes(8) + b"\xff" * 8, False),
        (b"ID3\x04" + b"\xff" * 20, True),
        (b"TAG\xff" + b"\xff" * 20, True),
        (b"TAG\xff" + b"\xff" * 5, True),
        (b"TIG\xff" + b"\xff" * 20, False),
        (b"\xff" * 8, False),
        (b"\x01abc" + bytes(4), False),
        (b"ab\n " + bytes(4), False),
        (b"\0", True),
        (b"\xff" * 2, False),
        (b"\xff" * 7, False),
        (chunk(b"LIST", b"", 1), True),
        (chunk(b"LIST", b"") + b"\xff\xff", False),
        (chunk(b"LIST", b"ab") + b"\xff" * 8, False),
    ],
)
def test_only_chunks_padding_and_tags_may_follow_the_sound(behind: bytes, whole: bool) -> None:
    assert walked(Riff, wave(fmt(), DATA) + behind) == PCM(1, whole=whole)


@pytest.mark.parametrize(
    ("stated", "came", "lasts", "whole"),
    [
        (16_000, 16_000, 1, True),
        (16_000, 8000, 0.5, False),
        (15_999, 16_000, 15_999 / 16_000, True),
        (16_001, 16_000, 1, False),
        (16_000, 0, 0, False),
        (0, 0, 0, True),
        (0, 16_000, 1, None),
        (0, 1, 1 / 16_000, False),
        (1, 1, 1 / 16_000, True),
        (0, 15_999, 15_999 / 16_000, False),
        (0x7FFFEFFF, 16_000, 1, False),
        (0x7FFFF000, 16_000, 1, None),
        (0x7FFFF000, 0, 0, None),
        (0xFFFFFFFF, 16_000, 1, None),
        (0xFFFFFFFF, 15_999, 15_999 / 16_000, False),
    ],
)
def test_the_sound_is_as_long_as_stated_and_never_longer_than_what_came(
    stated: int, came: int, lasts: float, whole: bool | None
) -> None:
    assert walked(Riff, wave(fmt(), chunk(b"data", SECOND[:came], stated))) == PCM(lasts, whole=whole)


@pytest.mark.parametrize(
    ("tag", "block", "whole"),
    [(1, 2, False), (1, 16, False), (1, 17, None), (1, 0, None), (7, 2, False), (2, 2, None), (0x55, 2, None)],
)
def test_a_streamed_body_that_ends_within_a_sample_is_cut(tag: int, block: int, whole: bool | None) -> None:
    body = wave(fmt(tag, block=block), chunk(b"data", SECOND[:15_999], 0xFFFFFFFF))
    assert walked(Riff, body).whole is whole


@pytest.mark.parametrize(
    ("tag", "codec", "lasts"),
    [
        (1, "pcm_s16le", 1),
        (3, "pcm_f16le", 1),
        (6, "pcm_alaw", 1),
        (7, "pcm_mulaw", 1),
        (2, "adpcm_ms", 4),
        (0x11, "adpcm_ima", 4),
        (0x31, "gsm_ms", 4),
        (0x50, "mp2", 4),
        (0x55, "mp3", 4),
        (0x65, "g722", 2),
        (0x28F, "g722", 2),
        (0x83, "g729", 4),
        (0xFF, "aac", 4),
        (0x99, "wave_0x0099", 4),
        (0xFFFE, "wave_0xfffe", 4),
    ],
)
def test_the_length_is_by_the_bytes_a_second_of_the_format(tag: int, codec: str, lasts: float) -> None:
    assert walked(Riff, wave(fmt(tag, byte_rate=4000), DATA)) == shape("wav", codec, 8000, 1, lasts, whole=True)


def test_two_channels_take_twice_the_bytes() -> None:
    assert walked(Riff, wave(fmt(0x65, channels=2), DATA)) == shape("wav", "g722", 8000, 2, 1, whole=True)
    body = wave(fmt(channels=2, rate=16_000, block=4), DATA)
    assert walked(Riff, body) == shape("wav", "pcm_s16le", 16_000, 2, 0.25, whole=True)
    assert walked(Riff, wave(fmt(bits=8, block=1), DATA)) == shape("wav", "pcm_u8", 8000, 1, 2, whole=True)
    assert walked(Riff, wave(fmt(bits=8, block=0), DATA)).media.duration is None


@pytest.mark.parametrize(
    ("more", "codec"),
    [
        (bytes(8) + b"\x07\0", "pcm_mulaw"),
        (bytes(8) + b"\x07\0" + b"\xff" * 14, "pcm_mulaw"),
        (bytes(8) + b"\x07\0" + b"\xff" * 15 + b"\0", "pcm_mulaw"),
        (bytes(8) + b"\x65\x01" + b"\xff" * 30, "wave_0x0165"),
        (bytes(8) + b"\x07", "wave_0xfffe"),
    ],
)
def test_an_extensible_format_names_its_codec_behind(more: bytes, codec: str) -> None:
    assert walked(Riff, wave(fmt(0xFFFE, more=more), DATA)).media.codec == codec


@pytest.mark.parametrize(
    ("tag", "block", "samples", "came", "lasts"),
    [
        (0x11, 256, 505, 512, 1010 / 8000),
        (0x11, 256, 505, 513, 1515 / 8000),  # a block that was begun
        (2, 256, 500, 100, 500 / 8000),
        (0x31, 65, 320, 130, 640 / 8000),
        (0x31, 65, 320, 100, 492 / 8000),
        (0x11, 256, 0, 512, 0.128),  # not stated: by the bytes a second
        (0x55, 256, 505, 512, 0.128),  # a field of another format
        (0x11, 256, 505, 0, 0),
        (0x11, 256, 0x0101, 256, 257 / 8000),
    ],
)
def test_a_block_holds_as_many_samples_as_the_format_states(
    tag: int, block: int, samples: int, came: int, lasts: float
) -> None:
    codec = {0x11: "adpcm_ima", 2: "adpcm_ms", 0x31: "gsm_ms", 0x55: "mp3"}[tag]
    for more in (b"", b"\xff"):
        head = fmt(tag, byte_rate=4000, block=block, more=struct.pack("<HH", 2, samples) + more)
        body = wave(head, chunk(b"data", SECOND[:came]))
        assert walked(Riff, body) == shape("wav", codec, 8000, 1, lasts, whole=True)


def test_a_block_format_without_room_for_its_samples_is_timed_by_its_bytes() -> None:
    body = wave(fmt(0x11, byte_rate=4000, more=b"\0\0\xff"), DATA)
    assert walked(Riff, body) == shape("wav", "adpcm_ima", 8000, 1, 4, whole=True)


FACT = chunk(b"fact", struct.pack("<I", 24_000))


@pytest.mark.parametrize(
    ("tag", "fact", "stated", "came", "lasts"),
    [
        (0x55, FACT, 16_000, 16_000, 3),
        (0x55, FACT, 16_000, 8000, 1.5),
        (0x55, FACT, 8000, 9000, 3),
        (0x55, FACT, 0, 16_000, 4),
        (0x55, FACT, 0x7FFFF000, 16_000, 0),
        (0x55, FACT, 1, 1, 3),
        (0x55, chunk(b"fact", b"\xff\xff\xff"), 16_000, 16_000, 4),
        (0x55, chunk(b"fact", struct.pack("<II", 24_000, 5)), 16_000, 16_000, 3),
        (0x55, chunk(b"fact", struct.pack("<I", 24_000) + b"\xff" * 50), 16_000, 16_000, 3),
        (0x55, chunk(b"fact"), 16_000, 16_000, 4),
        (0x55, FACT, 16_000, 0, 0),
        (1, FACT, 16_000, 16_000, 1),
        (0x65, FACT, 16_000, 16_000, 2),
    ],
)
def test_the_count_of_samples_times_what_is_compressed(
    tag: int, fact: bytes, stated: int, came: int, lasts: float
) -> None:
    found = walked(Riff, wave(fmt(tag, byte_rate=4000), fact, chunk(b"data", SECOND[:came], stated)))
    assert found.media.duration is not None
    assert found.media.duration.total_seconds() == lasts


def test_chunks_before_the_sound_are_stepped_over_with_their_padding() -> None:
    for odd in (b"\xff", b"\xff" * 3, b"\xff" * 100, b""):
        assert walked(Riff, wave(chunk(b"LIST", odd), fmt(), chunk(b"cue ", odd), DATA)) == PCM(1, whole=True)


def test_a_format_that_is_too_short_says_nothing() -> None:
    assert walked(Riff, wave(chunk(b"fmt ", b"\x01" * 15), DATA)) == shape("wav", whole=True)
    assert walked(Riff, wave(chunk(b"fmt "), fmt(), DATA)) == PCM(1, whole=True)
    assert walked(Riff, wave(fmt(more=b"\xff" * 60), DATA)) == PCM(1, whole=True)


def test_a_format_of_which_enough_came_is_read() -> None:
    assert walked(Riff, wave(fmt(more=b"\xff" * 60))[: 12 + 8 + 40]) == PCM(0, whole=False)
    assert walked(Wave64, wave64(long(b"fmt ", FORMAT + b"\xff" * 64))[: 40 + 24 + 40]) == PCM(0, whole=False)


def test_sound_without_a_format_has_no_known_length() -> None:
    assert walked(Riff, wave(FACT, DATA)) == shape("wav", whole=True)
    assert walked(Riff, wave(chunk(b"data", SECOND, 0))) == shape("wav")


def test_long_streamed_silence_is_not_searched_for_chunks() -> None:
    assert walked(Riff, wave(fmt(), chunk(b"data", bytes(1_600_000), 0))) == PCM(100)


def test_two_gigabytes_that_came_in_full_are_whole() -> None:
    walk = Riff()
    body = wave(fmt(), chunk(b"data", b"", 0x7FFFF000))
    for here in (0, 12, 12, 36):
        walk.step(body, here)
    assert walk.shape(44 + 0x7FFFF000) == PCM(0x7FFFF000 / 16_000, whole=True)
    assert walk.shape(43 + 0x7FFFF000).whole is False


def test_a_body_without_sound_is_not_whole() -> None:
    assert walked(Riff, wave(fmt())) == PCM(0, whole=False)
    assert walked(Riff, wave()) == shape("wav", lasts=0, whole=False)
    assert walked(Riff, wave(fmt(), chunk(b"date", SECOND))) == PCM(0, whole=False)


def ds64(length: int, size: int = 28) -> bytes:
    return chunk(b"ds64", struct.pack("<QQ", 0x123456789, length).ljust(size, b"\xff")[:size])


@pytest.mark.parametrize(
    ("long", "stated", "lasts", "whole"),
    [
        (ds64(16_000), 0xFFFFFFFF, 1, True),
        (ds64(16_000, 16), 0xFFFFFFFF, 1, True),
        (ds64(8000), 0xFFFFFFFF, 0.5, False),  # and then comes something else
        (ds64(16_001), 0xFFFFFFFF, 1, False),
        (ds64(1 << 33), 0xFFFFFFFF, 1, False),
        (ds64(0), 0xFFFFFFFF, 1, None),
        (ds64(8000), 16_000, 1, True),
        (ds64(8000), 0xFFFFFFFE, 1, False),
        (ds64(8000, 15), 0xFFFFFFFF, 1, None),
    ],
)
def test_rf64_states_its_length_in_a_chunk_before(long: bytes, stated: int, lasts: float, whole: bool | None) -> None:
    assert walked(Riff, wave(long, fmt(), chunk(b"data", SECOND, stated))) == PCM(lasts, whole=whole)


def test_rf64_goes_on_behind_its_sound() -> None:
    body = wave(ds64(16_000), fmt(), chunk(b"data", SECOND, 0xFFFFFFFF))
    assert walked(Riff, body + b"\xff" * 8) == PCM(1, whole=False)
    assert walked(Riff, body + chunk(b"LIST", b"ab")) == PCM(1, whole=True)


def test_rifx_is_the_same_in_the_other_order_of_bytes() -> None:
    big = partial(chunk, order=">")
    body = wave(fmt(order=">"), big(b"LIST", b"ab"), big(b"data", SECOND))
    assert walked(partial(Riff, ">"), body) == shape("wav", "pcm_s16be", 8000, 1, 1, whole=True)
    assert walked(partial(Riff, ">"), body[:-8000]) == shape("wav", "pcm_s16be", 8000, 1, 0.5, whole=False)
    long = wave(big(b"ds64", struct.pack(">QQ", 9, 8000)), fmt(order=">"), big(b"data", SECOND, 0xFFFFFFFF))
    assert walked(partial(Riff, ">"), long) == shape("wav", "pcm_s16be", 8000, 1, 0.5, whole=False)


# --- Wave64 ---------------------------------------------------------------------------------------------------------


def long(name: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    stated = 24 + len(body) if length is None else length
    return name + b"\xf3" * 12 + struct.pack("<Q", stated) + body + bytes(-len(body) % 8)


def wave64(*chunks: bytes) -> bytes:
    return b"riff" + bytes(20) + b"wave" + bytes(12) + b"".join(chunks)


FORMAT = fmt()[8:]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((long(b"fmt ", FORMAT), long(b"data", SECOND)), PCM(1, whole=True)),
        ((long(b"fmt ", FORMAT), long(b"data", SECOND, 24 + 16_001)), PCM(1, whole=False)),
        ((long(b"fmt ", FORMAT), long(b"data", SECOND, 24 + 8000)), PCM(0.5, whole=True)),
        ((long(b"fmt ", FORMAT), long(b"data", SECOND, 24)), PCM(1, whole=None)),
        ((long(b"fmt ", FORMAT), long(b"data", SECOND), b"\xff" * 40), PCM(1, whole=True)),
        ((long(b"list", b"abc"), long(b"fmt ", FORMAT), long(b"data", SECOND)), PCM(1, whole=True)),
        ((long(b"list", b"a" * 8), long(b"fmt ", FORMAT), long(b"data", SECOND)), PCM(1, whole=True)),
        ((long(b"list", b"a" * 9), long(b"fmt ", FORMAT), long(b"data", SECOND)), PCM(1, whole=True)),
        ((long(b"list"), long(b"fmt ", FORMAT), long(b"data", SECOND)), PCM(1, whole=True)),
        ((long(b"fmt "), long(b"fmt ", FORMAT), long(b"data", SECOND)), PCM(1, whole=True)),
        ((long(b"fmt ", FORMAT + b"\xff" * 64), long(b"data", SECOND)), PCM(1, whole=True)),
        ((long(b"fmt ", FORMAT), long(b"list", b"", 23), long(b"data", SECOND)), PCM(0, whole=False)),
        ((long(b"fmt ", FORMAT), long(b"list", b"", 25), long(b"data", SECOND)), PCM(0, whole=False)),
        ((long(b"fmt ", FORMAT),), PCM(0, whole=False)),
        (
            (long(b"fmt ", fmt(0x55, byte_rate=4000)[8:]), long(b"fact", FACT[8:]), long(b"data", SECOND)),
            shape("wav", "mp3", 8000, 1, 3, whole=True),
        ),
        (
            (long(b"fmt ", fmt(0xFFFE, more=bytes(8) + b"\x07\0")[8:]), long(b"data", SECOND)),
            shape("wav", "pcm_mulaw", 8000, 1, 1, whole=True),
        ),
    ],
)
def test_wave64_has_the_same_chunks_in_longer_headers(chunks: tuple[bytes, ...], expected: Shape) -> None:
    assert walked(Wave64, wave64(*chunks)) == expected


# --- AVI ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((chunk(b"LIST", b"movi" + b"\xff" * 9),), shape("avi", whole=True)),
        ((chunk(b"LIST", b"hdrl"), chunk(b"LIST", b"movi"), chunk(b"idx1", b"\xff" * 5)), shape("avi", whole=True)),
        ((chunk(b"LIST", b"movi", 5),), shape("avi", whole=False)),
        ((chunk(b"LIST", b"movi" + b"\xff" * 96), b"\xff" * 11), shape("avi", whole=None)),
        ((chunk(b"LIST", b"hdrl"),), NOTHING),
        ((chunk(b"LISt", b"movi"),), NOTHING),
        ((), NOTHING),
    ],
)
def test_avi_is_followed_to_its_end(chunks: tuple[bytes, ...], expected: Shape) -> None:
    assert walked(Avi, b"RIFF\xff\xff\xff\xffAVI " + b"".join(chunks)) == expected
