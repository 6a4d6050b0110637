"""Rows of frames made by hand: what each first byte and header says, and what stands between two of them."""

from __future__ import annotations

from functools import partial

import pytest

from archiver.fetch.frames import (
    AMR_NARROW,
    AMR_WIDE,
    GSM,
    Frame,
    Frames,
    TransportStream,
    Voice,
    _amr,
    ac3,
    adts,
    free_format,
    loas,
)
from tests.fetch_walks import NOTHING, shape, walked

JUNK = b"\x55"

# --- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "frame"),
    [
        ("fff1 6c 40 0c 9f fc", Frame(100, 1024, 8000, 1)),
        ("fff9 6c 40 0c 9f fc", Frame(100, 1024, 8000, 1)),
        ("fff0 6c 40 0c 80 fc", Frame(100, 1024, 8000, 1)),
        ("fff1 50 80 0c 9f fd", Frame(100, 2048, 44100, 2)),
        ("fff1 50 80 0c 9f ff", Frame(100, 4096, 44100, 2)),
        ("fff1 51 00 0c 9f fc", Frame(100, 1024, 44100, 4)),
        ("fff1 51 c0 0c 9f fc", Frame(100, 1024, 44100, 7)),
        ("fff1 50 00 0c 9f fc", Frame(100, 1024, 44100, 1)),
        ("fff1 00 40 0c 9f fc", Frame(100, 1024, 96000, 1)),
        ("fff1 30 40 0c 9f fc", Frame(100, 1024, 7350, 1)),
        ("fff1 34 40 0c 9f fc", None),
        ("fff1 6c 43 ff ff fc", Frame(8191, 1024, 8000, 1)),
        ("fff1 6c 7c 0c 9f fc", Frame(100, 1024, 8000, 1)),
        ("fff1 6c 40 01 1f fc", Frame(8, 1024, 8000, 1)),
        ("fff1 6c 40 00 ff fc", None),
        ("fef1 6c 40 0c 9f fc", None),
        ("ffe1 6c 40 0c 9f fc", None),
        ("fff3 6c 40 0c 9f fc", None),
        ("fff5 6c 40 0c 9f fc", None),
        ("ff71 6c 40 0c 9f fc", None),
    ],
)
def test_adts_headers(head: str, frame: Frame | None) -> None:
    assert adts(bytes.fromhex(head)) == frame


@pytest.mark.parametrize(
    ("head", "frame"),
    [
        ("56e064", Frame(103, 1024, 0)),
        ("56ffff", Frame(8194, 1024, 0)),
        ("56e100", Frame(259, 1024, 0)),
        ("56c064", None),
        ("56a064", None),
        ("566064", None),
        ("57e064", None),
    ],
)
def test_loas_headers(head: str, frame: Frame | None) -> None:
    assert loas(bytes.fromhex(head)) == frame


@pytest.mark.parametrize(
    ("head", "frame"),
    [
        ("0b77 ffff 00", Frame(128, 1536, 48000, 2)),
        ("0b77 ffff 01", Frame(128, 1536, 48000, 2)),
        ("0b77 ffff 1c", Frame(1536, 1536, 48000, 2)),
        ("0b77 ffff 40", Frame(138, 1536, 44100, 2)),
        ("0b77 ffff 41", Frame(140, 1536, 44100, 2)),
        ("0b77 ffff 5c", Frame(1670, 1536, 44100, 2)),
        ("0b77 ffff 81", Frame(192, 1536, 32000, 2)),
        ("0b77 ffff 25", Frame(2560, 1536, 48000, 2)),
        ("0b77 ffff 26", None),
        ("0b77 ffff 3f", None),
        ("0b77 ffff c0", None),
        ("0b78 ffff 00", None),
        ("0c77 ffff 00", None),
    ],
)
def test_ac3_headers(head: str, frame: Frame | None) -> None:
    assert ac3(bytes.fromhex(head)) == frame


# --- a row of frames ------------------------------------------------------------------------------------------------


def frame(size: int = 100, head: str = "fff16c40000000") -> bytes:
    raw = bytearray(bytes.fromhex(head))
    raw[3] |= size >> 11
    raw[4], raw[5] = size >> 3 & 255, (size & 7) << 5 | 31
    return bytes(raw).ljust(size, JUNK)


aac = partial(Frames, "adts", "aac", adts, 7)
ONE = frame()


def lasting(frames: int, *, whole: bool) -> object:
    return shape("adts", "aac", 8000, 1, frames * 0.128, whole=whole)


def test_frames_are_counted_to_the_end() -> None:
    assert walked(aac, ONE * 3) == lasting(3, whole=True)
    assert walked(aac, ONE + frame(77) + frame(400)) == lasting(3, whole=True)
    assert walked(aac, (ONE * 3)[:-1]) == lasting(3, whole=False)
    assert walked(aac, ONE * 3 + ONE[:6]) == lasting(3, whole=False)
    assert walked(aac, ONE + frame(head="fff15c80000000") * 2) == shape("adts", "aac", 8000, 1, 0.22088, whole=True)
    assert walked(aac, b"") == NOTHING


def test_three_frames_are_sound_and_fewer_only_when_they_are_all() -> None:
    assert walked(aac, ONE) == lasting(1, whole=True)
    assert walked(aac, ONE * 2) == lasting(2, whole=True)
    assert walked(aac, ONE[:-1]) == NOTHING
    assert walked(aac, ONE * 2 + JUNK * 9) == NOTHING
    assert walked(aac, ONE * 3 + JUNK * 9) == lasting(3, whole=False)
    assert walked(aac, JUNK * 9 + ONE * 3) == NOTHING


@pytest.mark.parametrize(
    ("behind", "whole"),
    [(b"TAG", True), (b"APE", True), (b"ID3", True), (b"TIG", False), (b"TA\x55", False), (b"\0\0\0", False)],
)
def test_only_a_tag_may_stand_behind(behind: bytes, whole: bool) -> None:
    assert walked(aac, ONE * 3 + behind + JUNK * 50) == lasting(3, whole=whole)


def test_a_start_may_be_left_out() -> None:
    assert walked(partial(Frames, "adts", "aac", adts, 7, 11), JUNK * 11 + ONE * 3) == lasting(3, whole=True)


def test_without_a_rate_nothing_is_timed() -> None:
    body = b"\x56\xe0\x64".ljust(103, JUNK) * 4
    assert walked(partial(Frames, "loas", "aac", loas, 3), body) == shape("loas", "aac", None, 1, whole=True)


def test_a_frame_without_bytes_is_none() -> None:
    for size in (0, -1):
        assert walked(lambda size=size: Frames("x", "y", lambda _: Frame(size, 1, 1), 1), JUNK * 9) == NOTHING
    assert walked(lambda: Frames("x", "y", lambda _: Frame(1, 4, 8), 1), JUNK * 8) == shape(
        "x", "y", 8, 1, 4, whole=True
    )


# --- telephones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (AMR_NARROW, [13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 1, 1]),
        (AMR_WIDE, [18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1]),
    ],
)
def test_four_bits_of_a_first_byte_are_the_mode(sizes: list[int], expected: list[int]) -> None:
    assert [sizes[mode << 3] for mode in range(16)] == expected
    assert [sizes[mode << 3 | 4] for mode in range(16)] == expected
    for odd in (1, 2, 128):
        assert {sizes[mode << 3 | odd] for mode in range(16)} == {0}
    assert len(sizes) == 256


def test_modes_without_a_length_are_none() -> None:
    """The tables are made when the module is loaded: here they are made once more."""
    assert [_amr(range(1, 5))[byte] for byte in (0, 8, 24, 32, 104, 112, 120, 124)] == [1, 2, 4, 0, 0, 1, 1, 1]
    assert _amr((13, 14, 16, 18, 20, 21, 27, 32, 6)) == AMR_NARROW


def test_gsm_frames_begin_with_one_nibble() -> None:
    assert [byte for byte in range(256) if GSM[byte]] == list(range(0xD0, 0xE0))
    assert GSM[0xD5] == 33
    assert len(GSM) == 256


AMR = partial(Voice, "amr", 8000, AMR_NARROW, 6)


def test_telephone_frames_last_a_fiftieth_of_a_second() -> None:
    body = b"#!AMR\n" + (b"\x3c" + JUNK * 31) * 20 + b"\x7c" * 5
    assert walked(AMR, body) == shape("amr", "amr", 8000, 1, 0.5, whole=True)
    assert walked(AMR, body + b"\x3c") == shape("amr", "amr", 8000, 1, 0.52, whole=False)
    assert walked(AMR, body + b"\x3c" + JUNK * 30) == shape("amr", "amr", 8000, 1, 0.52, whole=False)
    assert walked(AMR, body + b"\xff") == shape("amr", "amr", 8000, 1, 0.5, whole=False)
    assert walked(AMR, body + b"\xff" + body[6:]) == shape("amr", "amr", 8000, 1, 0.5, whole=False)
    assert walked(AMR, b"#!AMR\n") == NOTHING
    assert walked(AMR, b"#!AMR\n\xff") == NOTHING
    assert walked(partial(Voice, "gsm", 8000, GSM), (b"\xd5" + JUNK * 32) * 3) == shape(
        "gsm", "gsm", 8000, 1, 0.06, whole=True
    )


# --- MP3 of a free format -------------------------------------------------------------------------------------------


def free(head: str = "fffb00c0", size: int = 200) -> bytes:
    return bytes.fromhex(head).ljust(size, JUNK)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (free() * 4, Frame(200, 1152, 44100, 1)),
        (free("fffb0000") * 4, Frame(200, 1152, 44100, 2)),
        (free("fffb0040") * 4, Frame(200, 1152, 44100, 2)),
        (free("fffa00c0") * 4, Frame(200, 1152, 44100, 1)),
        (free("fffb04c0") * 4, Frame(200, 1152, 48000, 1)),
        (free("fffb08c0") * 4, Frame(200, 1152, 32000, 1)),
        (free("fff300c0") * 4, Frame(200, 576, 22050, 1)),
        (free("fff308c0") * 4, Frame(200, 576, 16000, 1)),
        (free("ffe300c0") * 4, Frame(200, 576, 11025, 1)),
        (free("fff304c0") * 4, Frame(200, 576, 24000, 1)),
        (free("ffe304c0") * 4, Frame(200, 576, 12000, 1)),
        (free("ffe308c0") * 4, Frame(200, 576, 8000, 1)),
        (free("fffb01c0") * 4, Frame(200, 1152, 44100, 1)),
        (free("fffb02c0", 201) + free() * 3, Frame(201, 1152, 44100, 1)),
        (free() + free("fffb02c0", 201) * 3, Frame(200, 1152, 44100, 1)),
        (free(size=24) * 4, Frame(24, 1152, 44100, 1)),
        (free(size=23) * 4, Frame(46, 1152, 44100, 1)),
        (free(size=100)[:-50] + b"\xff\xfb\x90" + free(size=47) + free(size=100), Frame(53, 1152, 44100, 1)),
        (free(size=50) + b"\xff\xfb\x04\xc0" + JUNK * 46 + free(size=100), Frame(100, 1152, 44100, 1)),
        (free(size=50) + b"\xff\xfb\x01\xc0" + JUNK * 46 + free(size=100), Frame(100, 1152, 44100, 1)),
        (free(size=50) + free(size=5), Frame(50, 1152, 44100, 1)),
        (free(size=50) + free(size=4), None),
        (free(size=50), None),
        (free(size=50)[:3], None),
        (free("fffb00c0", 4), None),
        (free("fffb10c0") * 4, None),
        (free("fffb0cc0") * 4, None),
        (free("ffeb00c0") * 4, None),
        (free("fffd00c0") * 4, None),
        (free("ffff00c0") * 4, None),
        (free("ff7b00c0") * 4, None),
        (free("fefb00c0") * 4, None),
    ],
)
def test_the_distance_of_the_first_two_headers_is_the_length_of_a_free_format(
    frames: bytes, expected: Frame | None
) -> None:
    measure = free_format(frames)
    assert (measure and measure(frames[:4])) == expected


def test_frames_of_a_free_format_are_measured_by_their_padding() -> None:
    measure = free_format(free() * 4)
    assert measure is not None
    assert measure(bytes.fromhex("fffb00ff")) == Frame(200, 1152, 44100, 1)
    assert measure(bytes.fromhex("fffb0240")) == Frame(201, 1152, 44100, 2)
    assert measure(bytes.fromhex("fffb01c0")) == Frame(200, 1152, 44100, 1)
    for other in ("fffb04c0", "fffb10c0", "fffa00c0", "fefb00c0", "fffb80c0"):
        assert measure(bytes.fromhex(other)) is None


# --- MPEG-TS --------------------------------------------------------------------------------------------------------

PACKET = b"\x47" + JUNK * 187


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (PACKET * 5, True),
        (PACKET, True),
        (PACKET * 5 + PACKET[:100], False),
        (PACKET * 4 + PACKET[:187], False),
        (PACKET * 5 + b"\x48" + PACKET[1:], False),
        (PACKET * 2 + b"\x48" + PACKET[1:] + PACKET * 2, False),
        (PACKET * 5 + b"\x48", False),
        (PACKET * 5 + b"\x47", False),
    ],
)
def test_packets_follow_one_another_to_the_end(body: bytes, whole: bool) -> None:
    assert walked(TransportStream, body) == shape("mpegts", whole=whole)
