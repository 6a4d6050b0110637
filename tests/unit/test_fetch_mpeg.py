"""MP3 and MP2 made by hand, frame by frame: their lengths, what encoders state, and what is lost between frames."""

from __future__ import annotations

import pytest

from archiver.fetch.mpeg import Mpeg, id3_length
from archiver.fetch.walk import Shape
from tests.fetch_walks import NOTHING, shape, walked

JUNK = b"\x55"


def frame(header: str = "fb90c0", size: int = 417) -> bytes:
    """One frame; without a size, of MPEG 1 layer III at 128 kbit/s and 44.1 kHz, mono."""
    return (b"\xff" + bytes.fromhex(header)).ljust(size, JUNK)


FRAME = frame()
BIG = frame("fbe0c0", 1044)  # at 320 kbit/s


def mp3(frames: int, *, whole: bool | None, rate: int = 44100, channels: int = 1, samples: int = 1152) -> Shape:
    return shape("mp3", "mp3", rate, channels, round(frames * samples / rate * 1_000_000) / 1_000_000, whole=whole)


def mpeg(body: bytes) -> Shape:
    return walked(Mpeg, body)


@pytest.mark.parametrize(
    ("header", "size", "samples", "rate"),
    [
        ("fb10c0", 104, 1152, 44100),
        ("fb90c0", 417, 1152, 44100),
        ("fb91c0", 417, 1152, 44100),
        ("fb92c0", 418, 1152, 44100),
        ("fb93c0", 418, 1152, 44100),
        ("fa90c0", 417, 1152, 44100),
        ("fb94c0", 384, 1152, 48000),
        ("fb98c0", 576, 1152, 32000),
        ("fbe0c0", 1044, 1152, 44100),
        ("f310c0", 26, 576, 22050),
        ("f380c0", 208, 576, 22050),
        ("f384c0", 192, 576, 24000),
        ("f388c0", 288, 576, 16000),
        ("e380c0", 417, 576, 11025),
        ("e384c0", 384, 576, 12000),
        ("e388c0", 576, 576, 8000),
        ("e288c0", 576, 576, 8000),
        ("fd80c0", 417, 1152, 44100),
        ("fc82c0", 418, 1152, 44100),
        ("fde0c0", 1253, 1152, 44100),
        ("f580c0", 417, 1152, 22050),
        ("e588c0", 1152, 1152, 8000),
    ],
)
def test_each_header_announces_its_frame(header: str, size: int, samples: int, rate: int) -> None:
    name = "mp2" if header[1] in "dc5" else "mp3"
    lasts = round(7 * samples / rate * 1_000_000) / 1_000_000
    assert mpeg(frame(header, size) * 7) == shape(name, name, rate, 1, lasts, whole=True)
    assert mpeg((frame(header, size) * 7)[:-1]) == shape(name, name, rate, 1, lasts, whole=False)


@pytest.mark.parametrize(
    "header",
    ["f990c0", "eb90c0", "ff90c0", "f190c0", "fb00c0", "fbf0c0", "fb9cc0", "7b90c0", "db90c0", "1b90c0"],
)
def test_headers_of_no_kind_begin_no_frame(header: str) -> None:
    assert mpeg(frame(header) * 7) == NOTHING
    assert mpeg((b"\xfe" + FRAME[1:]) * 7) == NOTHING


@pytest.mark.parametrize(("fourth", "channels"), [("00", 2), ("40", 2), ("80", 2), ("c0", 1), ("ff", 1)])
def test_channels_are_in_the_fourth_byte(fourth: str, channels: int) -> None:
    assert mpeg(frame(f"fb90{fourth}") * 3) == mp3(3, whole=True, channels=channels)


def test_padding_and_a_checksum_change_from_frame_to_frame() -> None:
    body = (FRAME + frame("fb92c0", 418) + frame("fa90c0") + frame("fa93c0", 418)) * 25
    assert mpeg(body) == mp3(100, whole=True)


def test_bit_rates_change_from_frame_to_frame() -> None:
    assert mpeg((FRAME + BIG + frame("fb10c0", 104)) * 5) == mp3(15, whole=True)


def test_three_frames_are_sound_and_fewer_only_when_they_are_all() -> None:
    assert mpeg(b"") == NOTHING
    assert mpeg(FRAME[:64]) == NOTHING
    assert mpeg(FRAME) == mp3(1, whole=True)
    assert mpeg(FRAME * 2) == mp3(2, whole=True)
    assert mpeg(FRAME * 2 + JUNK) == NOTHING
    assert mpeg(JUNK + FRAME * 2) == NOTHING
    assert mpeg(FRAME * 3 + JUNK) == mp3(3, whole=None)
    assert mpeg(JUNK + FRAME * 3) == mp3(3, whole=True)


def test_half_of_the_body_must_be_sound() -> None:
    assert mpeg(FRAME * 3 + JUNK * 1251) == mp3(3, whole=None)
    assert mpeg(FRAME * 3 + JUNK * 1252) == NOTHING
    assert mpeg(JUNK * 1251 + FRAME * 3) == mp3(3, whole=True)
    assert mpeg(JUNK * 1252 + FRAME * 3) == NOTHING


# --- tags -----------------------------------------------------------------------------------------------------------


def id3(length: int, flags: int = 0) -> bytes:
    size = bytes([length >> 21 & 127, length >> 14 & 127, length >> 7 & 127, length & 127])
    return b"ID3\x04\0" + bytes([flags]) + size + JUNK * length + (JUNK * 10 if flags & 0x10 else b"")


@pytest.mark.parametrize(
    ("header", "length"),
    [
        ("494433 0400 00 00000000", 10),
        ("494433 0400 00 0000007f", 137),
        ("494433 0400 00 00000100", 138),
        ("494433 0400 00 00010000", 16394),
        ("494433 0400 00 01000000", 2097162),
        ("494433 0400 00 7f7f7f7f", 268435465),
        ("494433 0400 00 ffffffff", 268435465),
        ("494433 0400 10 00000001", 21),
        ("494433 0400 ef 00000001", 11),
        ("494433 0400 00 00000001 ff", 11),
        ("494433 0400 00 000001", None),
        ("494434 0400 00 00000001", None),
    ],
)
def test_an_id3_header_states_its_length_in_sevens_of_bits(header: str, length: int | None) -> None:
    assert id3_length(bytes.fromhex(header)) == length


def test_id3_tags_before_between_and_behind_are_no_sound() -> None:
    assert mpeg(id3(3000) + FRAME * 3) == mp3(3, whole=True)
    assert mpeg(id3(500) + id3(2500, 0x10) + FRAME * 3) == mp3(3, whole=True)
    assert mpeg(FRAME * 3 + id3(3000) + FRAME * 3) == mp3(6, whole=True)
    assert mpeg(FRAME * 3 + id3(3000)) == mp3(3, whole=True)
    assert mpeg((FRAME * 3 + id3(3000))[:-1]) == mp3(3, whole=False)
    assert mpeg(id3(200)) == NOTHING
    assert mpeg(id3(200)[:150]) == NOTHING


APE = b"APETAGEX" + b"\xd0\x07\0\0" + (100).to_bytes(4, "little") + JUNK * 116


@pytest.mark.parametrize(
    ("tag", "whole"),
    [
        (b"TAG" + JUNK * 125, True),
        (b"TAG" + JUNK * 20, True),  # its end is missing, all sound is here
        (b"TAG" + JUNK * 125 + b"TAG" + JUNK * 125, True),
        (b"TAG" + JUNK * 126, True),
        (APE, True),
        (APE[:100], True),
        (APE[:32], True),
        (APE[:20], None),
        (APE + b"TAG" + JUNK * 125, True),
        (b"LYRICSBEGIN" + JUNK * 90, True),
        (bytes(10), True),
        (bytes(300), True),
        (bytes(9), None),
        (b"\0\0" + JUNK * 20, None),
        (b"TIG" + JUNK * 125, None),
        (JUNK * 40, None),
    ],
)
def test_a_tag_behind_the_last_frame_belongs_to_the_file(tag: bytes, whole: bool | None) -> None:
    assert mpeg(FRAME * 4 + tag) == mp3(4, whole=whole)


@pytest.mark.parametrize("tag", [b"TAG" + JUNK * 125, APE, bytes(3), bytes(90), b"TAG" + JUNK * 125 + APE + bytes(20)])
def test_another_stream_may_follow_a_tag(tag: bytes) -> None:
    assert mpeg(FRAME * 3 + tag + FRAME * 4) == mp3(7, whole=True)
    assert mpeg((FRAME * 3 + tag + FRAME * 4)[:-1]) == mp3(7, whole=False)
    assert mpeg(FRAME * 3 + tag + FRAME * 4 + JUNK) == mp3(7, whole=None)
    assert mpeg(FRAME * 3 + tag + FRAME * 4 + tag + bytes(10)) == mp3(7, whole=True)


def test_what_follows_the_second_stream_is_looked_at_as_closely() -> None:
    assert mpeg(FRAME * 3 + APE + FRAME * 3 + bytes(10)) == mp3(6, whole=True)


def test_tags_do_not_count_as_lost_sound() -> None:
    assert mpeg(FRAME * 3 + bytes(2000)) == mp3(3, whole=True)
    assert mpeg(FRAME * 3 + APE * 20) == mp3(3, whole=True)
    assert mpeg(FRAME * 3 + (b"TAG" + JUNK * 125) * 20) == mp3(3, whole=True)


def test_a_tag_at_the_start_is_no_afterword() -> None:
    assert mpeg(b"TAG" + JUNK * 125 + FRAME * 3 + JUNK) == mp3(3, whole=None)
    assert mpeg(id3(20) + APE + xing(3, frames=9) + FRAME * 3) == mp3(3, whole=False)


# --- what encoders state --------------------------------------------------------------------------------------------


def xing(
    flags: int, *, frames: int = 0, length: int = 0, at: int = 36, name: bytes = b"Xing", size: int = 417
) -> bytes:
    fields = (frames.to_bytes(4) if flags & 1 else b"") + (length.to_bytes(4) if flags & 2 else b"")
    head = FRAME[:4].ljust(at, b"\0") + name + bytes([0xFF, 0xFF, 0xFF, flags]) + fields
    return head.ljust(size, b"\xff")


def vbri(length: int, frames: int, at: int = 36) -> bytes:
    head = FRAME[:4].ljust(at, JUNK) + b"VBRI" + b"\xff" * 6 + length.to_bytes(4) + frames.to_bytes(4)
    return head.ljust(417, b"\xff")


WHOLE = 417 * 6  # the frame that states and five of sound


@pytest.mark.parametrize(
    ("first", "whole"),
    [
        (xing(3, frames=5, length=WHOLE), True),
        (xing(3, frames=7, length=WHOLE), True),
        (xing(3, frames=8, length=WHOLE), False),
        (xing(3, frames=5, length=WHOLE + 1), False),
        (xing(3, frames=5, length=WHOLE - 1), True),
        (xing(3, frames=5, length=WHOLE + 1, name=b"Info"), False),
        (xing(3, frames=8, name=b"Info"), False),
        (xing(1, frames=7), True),
        (xing(1, frames=8), False),
        (xing(2, length=WHOLE), True),
        (xing(2, length=WHOLE + 1), False),
        (xing(0), True),
        (xing(0xFC), True),
        (xing(0xFD, frames=8), False),
        (xing(0xFE, length=WHOLE + 1), False),
        (xing(3, frames=100, length=2000), False),
        (xing(3, frames=100, length=1999), True),  # impossible together
        (xing(3, frames=1, length=2900), False),
        (xing(3, frames=1, length=2901), True),
        (xing(3, frames=0, length=WHOLE + 1), False),
        (xing(3, frames=8, length=0), False),
        (xing(3, frames=8, length=WHOLE, at=21), False),
        (xing(3, frames=8, length=WHOLE, at=48), False),
        (xing(3, frames=5, length=WHOLE + 1, at=48), False),
        (xing(2, length=3000), False),
        (xing(3, frames=8, at=21)[:40] + xing(0, at=40)[40:], False),  # the first of two counts
        (xing(3, frames=8, at=21, name=b"Info")[:40] + xing(0, at=40, name=b"Info")[40:], False),
        (vbri(1 << 24, 0), False),
        (vbri(0, 1 << 24), False),
        (vbri(WHOLE, 5), True),
        (vbri(WHOLE, 7), True),
        (vbri(WHOLE, 8), False),
        (vbri(WHOLE + 1, 5), False),
    ],
)
def test_what_the_first_frame_states_is_compared_with_what_came(first: bytes, whole: bool) -> None:
    assert mpeg(first + FRAME * 5) == mp3(5, whole=whole)


@pytest.mark.parametrize(
    "first",
    [
        xing(3, frames=8, length=WHOLE, at=49),
        xing(3, frames=8, length=WHOLE, name=b"Xing"[:3]),
        vbri(WHOLE, 8).replace(b"VBRI", b"VBRJ"),
        vbri(WHOLE, 8, at=35),
        vbri(WHOLE, 8, at=37),
    ],
)
def test_a_first_frame_that_states_nothing_is_sound(first: bytes) -> None:
    body = first[:417].ljust(417, b"\xff") + FRAME * 5
    assert mpeg(body) == mp3(6, whole=True)


def test_a_statement_counts_from_its_frame_and_once() -> None:
    body = id3(1000) + xing(3, frames=5, length=WHOLE) + FRAME * 5
    assert mpeg(body) == mp3(5, whole=True)
    body = id3(1000) + xing(3, frames=5, length=WHOLE + 1) + FRAME * 5
    assert mpeg(body) == mp3(5, whole=False)
    assert mpeg(FRAME + xing(3, frames=99) + FRAME * 5) == mp3(7, whole=True)
    assert mpeg(xing(3, frames=5, length=WHOLE)) == NOTHING


def test_after_a_statement_the_sound_is_waited_for() -> None:
    stated = xing(3, frames=300, length=300 * 1044)
    assert mpeg(stated + JUNK * 263_000 + BIG * 300).media.duration == mp3(300, whole=None).media.duration
    for head in ("fb90c0", "fb91cc", "fa90c0"):
        body = bytes.fromhex("ff" + head) + xing(1, frames=5)[4:] + JUNK + FRAME * 5
        assert mpeg(body) == mp3(5, whole=True)
    assert mpeg(xing(1, frames=5) + JUNK + frame("f384c0", 192) * 50) == NOTHING
    assert mpeg(FRAME.replace(JUNK, b"\xff") + JUNK * 263_000 + BIG * 300) == NOTHING


# --- what is lost ---------------------------------------------------------------------------------------------------


def test_after_a_quarter_of_a_megabyte_without_frames_it_is_no_mp3() -> None:
    most = 256 << 10
    assert mpeg(JUNK * (most - 1) + BIG * 300) == mp3(300, whole=True)
    assert mpeg(JUNK * most + BIG * 300) == NOTHING
    assert mpeg(BIG * 300 + JUNK * most + BIG * 3) == mp3(303, whole=False)


def test_bytes_lost_between_frames_are_stepped_over() -> None:
    for lost in (1, 2, 9, 10, 50, 417, 500):
        assert mpeg(FRAME * 4 + JUNK * lost + FRAME * 5) == mp3(9, whole=True)
        assert mpeg((FRAME * 4 + JUNK * lost + FRAME * 5)[:-1]) == mp3(9, whole=False)
        assert mpeg(FRAME * 4 + JUNK * lost + frame("fa91c0") * 5) == mp3(9, whole=True)
        assert mpeg(frame("fa91c0") * 4 + JUNK * lost + FRAME * 5) == mp3(9, whole=True)


def test_one_byte_in_a_hundred_may_be_lost_and_three_thousand() -> None:
    most = 3000 + 10 * 1044 // 100
    assert mpeg(BIG * 5 + JUNK * most + BIG * 5) == mp3(10, whole=True)
    assert mpeg(BIG * 5 + JUNK * (most + 1) + BIG * 5) == mp3(10, whole=False)
    half = JUNK * (most // 2)
    assert mpeg(BIG * 3 + half + BIG * 4 + half + BIG * 3) == mp3(10, whole=True)
    assert mpeg(BIG * 3 + half + BIG * 4 + half + JUNK + BIG * 3) == mp3(10, whole=False)
    assert mpeg(JUNK + BIG * 5 + JUNK * most + BIG * 5) == mp3(10, whole=True)
    assert mpeg(BIG * 10 + JUNK * (most + 1) + BIG + JUNK * 20) == mp3(10, whole=None)
    assert mpeg(BIG * 10 + JUNK * (most + 1)) == mp3(10, whole=None)
    assert mpeg(JUNK * (most + 1) + BIG * 10) == mp3(10, whole=True)


def test_two_frames_among_junk_are_lost_too() -> None:
    left = 3000 + 10 * 1044 // 100 - 2 * 1044
    assert mpeg(BIG * 5 + JUNK * 10 + BIG * 2 + JUNK * (left - 10) + BIG * 5) == mp3(10, whole=True)
    assert mpeg(BIG * 5 + JUNK * 10 + BIG * 2 + JUNK * (left - 9) + BIG * 5) == mp3(10, whole=False)
    assert mpeg(BIG * 5 + JUNK * 10 + BIG * 3 + JUNK * (left - 9) + BIG * 5) == mp3(13, whole=True)
    assert mpeg(BIG * 5 + JUNK * 10 + BIG * 2) == mp3(5, whole=True)


def test_a_header_among_junk_at_the_start_is_forgotten() -> None:
    body = frame("f384c0", 192) + JUNK * 30 + frame("fb90ff") * 5
    assert mpeg(body) == mp3(5, whole=True)
    body = frame("f38400", 192) + JUNK * 30 + xing(1, frames=8) + FRAME * 5
    assert mpeg(body) == mp3(5, whole=False)


@pytest.mark.parametrize("header", ["f390c0", "fd90c0", "fb94c0", "e390c0"])
def test_after_a_loss_only_frames_of_the_same_kind_are_believed(header: str) -> None:
    other = bytes.fromhex("ff" + header)
    assert mpeg(FRAME * 5 + JUNK + other + JUNK * 500) == mp3(5, whole=None)
    sizes = {"f390c0": 261, "fd90c0": 522, "fb94c0": 384, "e390c0": 522}
    assert mpeg(BIG * 5 + JUNK + frame(header, sizes[header]) * 5) == mp3(5, whole=None)


def test_a_stream_of_another_kind_may_be_joined_on() -> None:
    body = FRAME * 4 + frame("f384ff", 192) * 5
    lasts = round((4 * 1152 / 44100 + 5 * 576 / 24000) * 1_000_000) / 1_000_000
    assert mpeg(body) == shape("mp3", "mp3", 44100, 1, lasts, whole=True)
    assert mpeg(body + JUNK + frame("f284ff", 192) * 3).media.duration == shape(
        "", lasts=round((4 * 1152 / 44100 + 8 * 576 / 24000) * 1_000_000) / 1_000_000
    ).media.duration  # fmt: skip


def test_a_false_header_right_behind_is_not_believed_for_long() -> None:
    false = b"\xff\xfb\x00\xc0" + JUNK * 100
    assert mpeg(FRAME * 5 + false + FRAME * 5) == mp3(10, whole=True)
    assert mpeg(FRAME * 5 + JUNK + b"\xff" + JUNK * 9 + FRAME * 5) == mp3(10, whole=True)
