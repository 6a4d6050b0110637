"""MP4, Matroska and FLV made by hand, box by box: where each fact stands, and what is promised and did not come."""

from __future__ import annotations

import struct

import pytest

from archiver.fetch.boxes import Flv, Matroska, Mp4
from archiver.fetch.walk import Shape
from tests.fetch_walks import NOTHING, shape, walked

JUNK = b"\x55"


def box(name: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return (8 + len(body) if length is None else length).to_bytes(4) + name + body


def versioned(name: bytes, short: bytes, long: bytes, *, wide: bool = False, lead: int = 8) -> bytes:
    """A box of which version 1 has eight bytes for each of two instants, where version 0 has four."""
    return box(name, (b"\x01\0\0\0" + JUNK * 2 * lead + long) if wide else (bytes(4) + JUNK * lead + short))


def mvhd(length: int, scale: int = 1000, *, wide: bool = False) -> bytes:
    return versioned(
        b"mvhd", struct.pack(">II", scale, length & 0xFFFFFFFF), struct.pack(">IQ", scale, length), wide=wide
    )


def stsd(codec: bytes = b"mp4a", channels: int = 2, rate: int = 8000) -> bytes:
    entry = JUNK * 4 + codec + JUNK * 16 + channels.to_bytes(2) + JUNK * 6 + rate.to_bytes(2) + JUNK * 20
    return box(b"stsd", JUNK * 8 + entry)


def tkhd(track: int, *, wide: bool = False) -> bytes:
    return versioned(b"tkhd", track.to_bytes(4) + JUNK * 8, track.to_bytes(4) + JUNK * 8, wide=wide)


def mdhd(scale: int, *, wide: bool = False) -> bytes:
    return versioned(b"mdhd", scale.to_bytes(4) + JUNK * 8, scale.to_bytes(4) + JUNK * 8, wide=wide)


def trak(*boxes: bytes) -> bytes:
    *heads, last = boxes
    return box(b"trak", b"".join(heads) + box(b"mdia", box(b"minf", box(b"stbl", last))))


FTYP = box(b"ftyp", b"M4A \0\0\0\0")
MDAT = box(b"mdat", b"\xff" * 90)
MOOV = box(b"moov", mvhd(9500) + trak(stsd()))


def aac(lasts: float | None, whole: bool | None) -> Shape:
    return shape("mp4", "aac", 8000, 2, lasts, whole=whole)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (FTYP + MOOV + MDAT, aac(9.5, True)),
        (FTYP + MDAT + MOOV, aac(9.5, True)),
        (MOOV + box(b"mdat"), aac(9.5, True)),
        (MOOV + MDAT + box(b"free", JUNK * 30), aac(9.5, True)),
        (MOOV + MDAT[:-1], aac(9.5, False)),
        (MOOV + MDAT + box(b"free", JUNK * 30, 39), aac(9.5, False)),
        (MOOV + MDAT + JUNK, aac(9.5, None)),
        (MOOV + MDAT + JUNK * 7, aac(9.5, None)),
        (MOOV + MDAT + bytes(8), aac(9.5, None)),
        (MOOV + MDAT + b"\0\0\0\x07free", aac(9.5, None)),
        (MOOV + MDAT + b"\0\0\0\x08fr\xe9e", aac(9.5, None)),
        (MOOV + bytes(8), aac(9.5, False)),
        (MDAT + bytes(8), shape("mp4", whole=False)),
        (FTYP + MOOV, aac(9.5, False)),
        (FTYP + MDAT, shape("mp4", whole=False)),
        (FTYP + MDAT + box(b"moov", trak(stsd())), aac(None, False)),
        (MDAT + box(b"moov", mvhd(9500)), shape("mp4", lasts=9.5, whole=True)),
        (MDAT + box(b"moov", mvhd(9500), 100), shape("mp4", lasts=9.5, whole=False)),
        (MDAT + box(b"moov", mvhd(9500), 37), shape("mp4", lasts=9.5, whole=False)),
        (MDAT + box(b"moov", box(b"trak", b"", 9) + mvhd(9500)), shape("mp4", lasts=9.5, whole=True)),
        (MDAT + box(b"moov", mvhd(9500, wide=True)), shape("mp4", lasts=9.5, whole=True)),
        (MDAT + box(b"moov", mvhd(1 << 33, 1 << 31, wide=True)), shape("mp4", lasts=4, whole=True)),
        (MDAT + box(b"moov", mvhd(0xC0000000, 0x80000000)), shape("mp4", lasts=1.5, whole=True)),
        (box(b"moof", box(b"mfhd")) + MDAT + bytes(8), shape("mp4", whole=False)),
        (MOOV + b"\0\0\0\x01mdat" + (16).to_bytes(8), aac(9.5, True)),
        (MDAT + box(b"moov", mvhd(0)), shape("mp4", lasts=0, whole=True)),
        (MDAT + box(b"moov", mvhd(5, 0)), shape("mp4", whole=False)),
        (MDAT + box(b"moov", box(b"mvhd")), shape("mp4", whole=False)),
        (MDAT + box(b"moov", box(b"mvhd", bytes(7))), shape("mp4", whole=False)),
        (MOOV + b"\0\0\0\x01mdat" + (16 + 20).to_bytes(8) + JUNK * 20, aac(9.5, True)),
        (MOOV + b"\0\0\0\x01mdat" + (16 + 21).to_bytes(8) + JUNK * 20, aac(9.5, False)),
        (MOOV + b"\0\0\0\x01mdat" + (1 << 33).to_bytes(8) + JUNK * 20, aac(9.5, False)),
        (MOOV + b"\0\0\0\x01mdat" + (7).to_bytes(8) + JUNK * 20, aac(9.5, False)),
        (b"\0\0\0\x01moov" + (16).to_bytes(8) + mvhd(9500) + MDAT, None),
        (b"", shape("mp4", whole=False)),
    ],
)
def test_the_movie_states_its_length_and_the_last_box_the_end(body: bytes, expected: Shape | None) -> None:
    found = walked(Mp4, body)
    if expected is not None:
        assert found == expected


@pytest.mark.parametrize(
    ("codec", "name"),
    [(b"mp4a", "aac"), (b"Opus", "opus"), (b"alac", "alac"), (b"samr", "amr"), (b"sawb", "amr-wb"), (b"ulaw", "pcm_mulaw"),
     (b"what", None)],
)  # fmt: skip
def test_the_sample_entry_states_codec_channels_and_rate(codec: bytes, name: str | None) -> None:
    moov = box(b"moov", mvhd(1000) + trak(stsd(codec, 257, 44100)))
    assert walked(Mp4, moov + MDAT) == shape("mp4", name, 44100, 257, 1, whole=True)


def fragment(
    track: int, count: int, *, usual: int | None = None, each: int | None = None, begins: int | None = None,
    offsets: bool = False, wide: bool = False,
) -> bytes:  # fmt: skip
    flags = (3 if offsets else 0) | (8 if usual is not None else 0)
    head = flags.to_bytes(4) + track.to_bytes(4) + (JUNK * 12 if offsets else b"")
    tfhd = box(b"tfhd", head + (b"" if usual is None else usual.to_bytes(4)))
    tfdt = b""
    if begins is not None:
        tfdt = box(b"tfdt", (b"\x01\0\0\0" + begins.to_bytes(8)) if wide else (bytes(4) + begins.to_bytes(4)))
    flags = (5 if offsets else 0) | (0x100 if each is not None else 0)
    run = (
        flags.to_bytes(4)
        + count.to_bytes(4)
        + (JUNK * 8 if offsets else b"")
        + (b"" if each is None else each.to_bytes(4))
    )
    return box(b"moof", box(b"mfhd", JUNK * 8) + box(b"traf", tfhd + tfdt + box(b"trun", run))) + MDAT


def trex(track: int, usual: int) -> bytes:
    return box(b"mvex", box(b"trex", bytes(4) + track.to_bytes(4) + JUNK * 4 + usual.to_bytes(4) + JUNK * 8))


def movie(*tracks: tuple[int, int], wide: bool = False) -> bytes:
    heads = [trak(tkhd(track, wide=wide), mdhd(scale, wide=wide), stsd()) for track, scale in tracks]
    return box(b"moov", b"".join(heads) + trex(1, 160) + trex(0x01000002, 50))


ONE, TWO = (1, 8000), (0x01000002, 1000)


@pytest.mark.parametrize(
    ("pieces", "lasts"),
    [
        ((fragment(1, 50),), 1),
        ((fragment(1, 50), fragment(1, 25)), 1.5),
        ((fragment(1, 50, usual=320),), 2),
        ((fragment(1, 50, each=80),), 0.5),
        ((fragment(1, 50, usual=320, each=80),), 0.5),
        ((fragment(1, 50, usual=320), fragment(1, 50)), 3),
        ((fragment(1, 50, usual=320, offsets=True),), 2),
        ((fragment(1, 50, each=80, offsets=True),), 0.5),
        ((fragment(1, 50, offsets=True),), 1),
        ((fragment(1, 50, usual=0x01010101, each=80),), 0.5),
        ((fragment(1, 1, each=0x01000000),), 0x01000000 / 8000),
        ((fragment(1, 0x01000001, each=1),), 0x01000001 / 8000),
        ((fragment(1, 50, begins=80_000),), 11),
        ((fragment(1, 50, begins=0x01000000),), (0x01000000 + 8000) / 8000),
        ((fragment(1, 50, begins=80_000, wide=True),), 11),
        ((fragment(1, 50, begins=1 << 32, wide=True),), ((1 << 32) + 8000) / 8000),
        ((fragment(1, 50, begins=80_000), fragment(1, 50)), 12),
        ((fragment(1, 50, begins=80_000), fragment(1, 50, begins=0)), 1),
        ((fragment(0x01000002, 60),), 3),
        ((fragment(0x01000002, 60), fragment(1, 50)), 3),
        ((fragment(1, 50), fragment(0x01000002, 60)), 3),
        ((fragment(1, 500), fragment(0x01000002, 60)), 10),
        ((fragment(3, 50, usual=9),), None),
        ((fragment(3, 50), fragment(1, 50)), 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wide", [False, True])
def test_a_fragmented_file_tells_its_time_piece_by_piece(
    pieces: tuple[bytes, ...], lasts: float | None, wide: bool
) -> None:
    body = FTYP + movie(ONE, TWO, wide=wide) + b"".join(pieces)
    assert walked(Mp4, body) == aac(lasts, lasts is not None)
    assert walked(Mp4, body[:-1]) == aac(lasts, False)


@pytest.mark.parametrize("wide", [False, True])
def test_numbers_of_a_fragment_may_be_large(wide: bool) -> None:
    large = 0x02000000
    assert walked(Mp4, movie((1, large), wide=wide) + fragment(1, 50, each=large)) == aac(50, True)
    moov = box(b"moov", trak(tkhd(1, wide=wide), mdhd(8000, wide=wide), stsd()) + trex(1, large))
    assert walked(Mp4, moov + fragment(1, 1)) == aac(large / 8000, True)
    assert walked(Mp4, movie((1, 1 << 31), wide=wide) + fragment(1, 0, begins=1 << 56, wide=True)) == aac(1 << 25, True)
    assert walked(Mp4, movie((5, 8000), wide=wide) + fragment(5, 8000)) == aac(0, True)


def test_two_runs_of_a_fragment_follow_one_another() -> None:
    run = box(b"trun", bytes(4) + (50).to_bytes(4))
    tfhd = box(b"tfhd", bytes(4) + (1).to_bytes(4))
    tfdt = box(b"tfdt", bytes(4) + (8000).to_bytes(4))
    moof = box(b"moof", box(b"traf", tfhd + tfdt + run + run) + box(b"traf", tfhd + run))
    assert walked(Mp4, movie(ONE) + moof + MDAT) == aac(4, True)
    lost = box(b"moof", box(b"traf", tfhd + tfdt + tfhd + run))
    assert walked(Mp4, movie(ONE) + lost + MDAT) == aac(1, True)
    unstated = box(b"moof", box(b"traf", run))
    assert walked(Mp4, box(b"moov", trak(mdhd(10), stsd())) + unstated + MDAT) == aac(0, True)


def test_the_longer_of_movie_and_fragments_counts() -> None:
    moov = movie(ONE)
    for length, lasts in ((500, 1), (2500, 2.5)):
        body = box(b"moov", mvhd(length) + moov[8:]) + fragment(1, 50)
        assert walked(Mp4, body) == aac(lasts, True)


# --- Matroska -------------------------------------------------------------------------------------------------------


def el(name: str, body: bytes = b"", *, size: str = "", width: int = 1) -> bytes:
    stated = bytes.fromhex(size) or (len(body) | 1 << 7 * width).to_bytes(width)
    return bytes.fromhex(name) + stated + body


EBML = el("1a45dfa3", JUNK * 31)
SCALE, DURATION, TRACKS, CLUSTER = "2ad7b1", "4489", "1654ae6b", "1f43b675"


def block(offset: int, name: str = "a3", track: bytes = b"\x81") -> bytes:
    return el(name, track + offset.to_bytes(2, signed=True) + b"\x80" + JUNK * 20)


def track(codec: bytes = b"A_OPUS", rate: bytes = struct.pack(">d", 48000.0), channels: int = 2) -> bytes:
    sound = el("e1", el("b5", rate) + el("9f", bytes([channels])))
    return el(TRACKS, el("ae", el("86", codec) + sound), width=2)


def info(*elements: bytes) -> bytes:
    return el("1549a966", b"".join(elements))


STATED = info(el(SCALE, (1_000_000).to_bytes(3)), el(DURATION, struct.pack(">d", 5000.0)))


LIVE = EBML + el("18538067", size="01ffffffffffffff")


def segment(*elements: bytes, width: int = 4) -> bytes:
    return EBML + el("18538067", b"".join(elements), width=width)


def cluster(time: int, *blocks: bytes) -> bytes:
    return el(CLUSTER, el("e7", time.to_bytes(2)) + b"".join(blocks), width=3)


def mkv(lasts: float | None, whole: bool | None, codec: str = "opus", rate: int | None = 48000) -> Shape:
    return shape("matroska", codec, rate, 2, lasts, whole=whole)


LAST = cluster(4000, block(-10), block(500))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (segment(STATED, track(), LAST), mkv(5, True)),
        (segment(STATED, track(), cluster(1000, block(0)), LAST, width=8), mkv(5, True)),
        (segment(STATED, track(), LAST, el("ec", JUNK * 40)), mkv(5, True)),
        (segment(STATED, track(), LAST)[:-1], mkv(4.5, False)),
        (segment(STATED, track(), LAST) + JUNK, mkv(5, None)),
        (segment(STATED, track(), cluster(3000, block(0))), mkv(5, True)),
        (segment(STATED, track(), cluster(2999, block(0))), mkv(2.999, False)),
        (segment(STATED, track(), LAST, cluster(100, block(0))), mkv(5, True)),
        (segment(STATED, track(), cluster(4000, block(500), block(-1000))), mkv(5, True)),
        (segment(STATED, track(), cluster(4000, el("a0", block(500, "a1")))), mkv(5, True)),
        (segment(STATED, track(), cluster(4000, block(500, track=b"\x40\x81"))), mkv(5, True)),
        (segment(STATED, track(), cluster(4000, el("a3", b"\x81\x01\xf4"), el("ec", JUNK * 20))),
         shape("matroska", "opus", 48000, 2, whole=False)),
        (segment(STATED, track(), cluster(4000, el("a3", b"\x81\x01\xf4\x80"), el("ec", JUNK * 20))), mkv(5, True)),
        (segment(STATED, track(), LAST, el("ec", JUNK * 12)), mkv(5, True)),
        (segment(info(), track(), LAST), mkv(4.5, None)),
        (segment(info(), track(), el(CLUSTER, el("e7", (10**10).to_bytes(5)) + block(0))), mkv(10_000_000, None)),
        (segment(info(el(SCALE, bytes(3))), track(), el(CLUSTER, el("e7", (10**10).to_bytes(5)) + block(0))),
         mkv(10_000_000, None)),
        (segment(info(), track(), el(CLUSTER, block(500))), mkv(0.5, None)),
        (segment(info(), track(), cluster(0, block(0))), mkv(0, None)),
        (segment(info(el(SCALE, b"\xff" * 8), el(DURATION, struct.pack(">d", -1e308))), track(), LAST), mkv(None, True)),
        (LIVE + info() + track() + el(CLUSTER, cluster(4000, block(500))[7:], size="9f"),
         mkv(4.5, False)),
        (segment(info(el(SCALE, (2_000_000).to_bytes(3))), track(), LAST), mkv(9, None)),
        (segment(info(el(SCALE, bytes(3))), track(), LAST), mkv(4.5, None)),
        (segment(info(el(DURATION, struct.pack(">f", 5000.0))), track(), LAST), mkv(5, True)),
        (segment(info(el(DURATION, bytes(3))), track(), LAST), mkv(0, True)),
        (segment(info(el(DURATION, struct.pack(">d", float("inf")))), track(), LAST), mkv(0, True)),
        (segment(info(el(DURATION, struct.pack(">d", -1.0))), track(), LAST), mkv(None, True)),
        (segment(info(el(DURATION, struct.pack(">d", 5000.0), width=8)), track(), LAST), mkv(5, True)),
        (segment(STATED, track(), el(CLUSTER, size="ff"), el("e7", (4000).to_bytes(2)), block(500)), mkv(5, True)),
        (LIVE + STATED + track() + LAST, mkv(5, True)),
        (segment(STATED, track(), LAST, el("ec", size="ff"), JUNK * 40), mkv(4.5, False)),
        (segment(STATED, track(), LAST, bytes(40)), mkv(4.5, False)),
        (segment(STATED, track(), LAST, b"\xec" + bytes(40)), mkv(4.5, False)),
        (segment(STATED, track(), el("ec", JUNK * 40)), shape("matroska", "opus", 48000, 2, whole=False)),
        (segment(STATED), shape("matroska", whole=False)),
        (segment(STATED, track(b"A_MPEG/L3"), LAST), mkv(5, True, "mp3")),
        (segment(STATED, track(b"A_PCM/INT/LIT"), LAST), mkv(5, True, "pcm/int/lit")),
        (segment(STATED, track(b"V_VP8"), LAST), mkv(5, True, "v_vp8")),
        (segment(STATED, track(rate=struct.pack(">f", 8000.4)), LAST), mkv(5, True, rate=8000)),
        (segment(STATED, track(rate=struct.pack(">f", 0.0)), LAST), mkv(5, True, rate=None)),
        (segment(STATED, track(rate=struct.pack(">f", 1e6)), LAST), mkv(5, True, rate=None)),
        (segment(STATED, track(rate=struct.pack(">f", 0.75)), LAST), mkv(5, True, rate=1)),
        (segment(STATED, track(rate=b"\x45" * 5), LAST), mkv(5, True, rate=None)),
    ],
)  # fmt: skip
def test_matroska_is_as_long_as_stated_if_its_blocks_come_near(body: bytes, expected: Shape) -> None:
    assert walked(Matroska, body) == expected


def test_a_master_that_promises_more_than_came_is_cut() -> None:
    whole = segment(STATED, track(), el(CLUSTER, el("e7", (4000).to_bytes(2)) + block(500), size="4100"))
    assert walked(Matroska, whole) == mkv(4.5, False)
    assert walked(Matroska, EBML + el("18538067", STATED + track() + LAST, size="10010000")) == mkv(4.5, False)


# --- FLV ------------------------------------------------------------------------------------------------------------


def tag(kind: int, time: int, body: bytes = JUNK * 20, length: int | None = None) -> bytes:
    stated = len(body) if length is None else length
    return (
        bytes([kind])
        + stated.to_bytes(3)
        + (time & 0xFFFFFF).to_bytes(3)
        + bytes([time >> 24])
        + bytes(3)
        + body
        + JUNK * 4
    )


FLV = b"FLV\x01\x04\0\0\0\x09\0\0\0\0"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ((tag(18, 0), tag(8, 0), tag(8, 1500)), shape("flv", lasts=1.5, whole=True)),
        ((tag(8, 1500), tag(9, 1600)), shape("flv", lasts=1.5, whole=True)),
        ((tag(8, 0x0201F4 + (3 << 24)),), shape("flv", lasts=(0x0201F4 + (3 << 24)) / 1000, whole=True)),
        ((tag(0x28, 1500),), shape("flv", lasts=1.5, whole=True)),
        ((tag(8, 1500), tag(8, 1700, length=21)), shape("flv", lasts=1.7, whole=False)),
        ((tag(8, 1500, JUNK * 300), tag(8, 1700, length=300)), shape("flv", lasts=1.7, whole=False)),
        ((tag(8, 1500, JUNK * 0x102), tag(8, 1700)), shape("flv", lasts=1.7, whole=True)),
        ((tag(8, 1500, JUNK * 70_000), tag(8, 1700)), shape("flv", lasts=1.7, whole=True)),
        ((tag(8, 1500), tag(10, 1700)), shape("flv", lasts=1.5, whole=False)),
        ((tag(8, 1500), JUNK * 11), shape("flv", lasts=1.5, whole=False)),
        ((tag(8, 1500), b"\x08"), shape("flv", lasts=1.5, whole=False)),
        ((tag(8, 0),), shape("flv", lasts=0, whole=True)),
        ((tag(9, 1500),), NOTHING),
        ((), NOTHING),
    ],
)
def test_flv_is_as_long_as_its_last_sound_says(tags: tuple[bytes, ...], expected: Shape) -> None:
    assert walked(Flv, FLV + b"".join(tags)) == expected
