"""Reads containers of nested boxes: ISO base media (MP4, M4A, 3GP, MOV), Matroska (WebM), FLV. Pure."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

from archiver.fetch.walk import DONE, Shape, seconds
from archiver.recording import MediaFacts

_OPENED = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex"})
_READ = {b"mvhd": 40, b"stsd": 52, b"tkhd": 32, b"mdhd": 32, b"trex": 32, b"tfhd": 40, b"tfdt": 20, b"trun": 32}


class Mp4:
    """ISO base media (ISO/IEC 14496-12): `mvhd` states the duration, `stsd` the codec, the last box the end.

    A fragmented file tells its time piece by piece (`moof`), in units of its track.
    """

    def __init__(self) -> None:
        self.at, self.need = 0, 8
        self._media = MediaFacts("mp4")
        self._promised = 0  # where the boxes that were looked into end
        self._has_data = False
        self._has_movie = False
        self._scale: dict[int, int] = {}  # by track
        self._usual: dict[int, int] = {}  # length of a sample, by track
        self._track = 0
        self._sample = 0
        self._begins: int | None = None
        self._fragments: dict[int, int] = {}  # the end of each track's fragments

    def step(self, window: bytes, here: int) -> None:
        length, name = int.from_bytes(window[here : here + 4]), window[here + 4 : here + 8]
        body = b""
        if length == 1 or name in _READ:
            wanted = 16 if length == 1 else min(_READ[name], max(length, 8))
            if self.need < wanted:
                self.need = wanted
                return
            body, self.need = window[here + 8 : here + self.need], 8
            length = int.from_bytes(body[:8]) if length == 1 else length
        if length < 8 or not name.isascii():
            self.at = DONE  # 0 means "to the end of the body", and the rest is damage
        elif name in _OPENED:
            self._promised = max(self._promised, self.at + length)
            self.at += 8  # a box of boxes: look inside
            self._has_movie = self._has_movie or name == b"moov"
        else:
            if len(body) >= 8 and name in _READ:
                self._read(name, body + bytes(52))
            self._has_data = self._has_data or name == b"mdat"
            self.at += length

    def _read(self, name: bytes, body: bytes) -> None:
        long = body[0] == 1
        match name:
            case b"mvhd":
                scale, length = struct.unpack_from(">IQ" if long else ">II", body, 20 if long else 12)
                self._media = replace(self._media, duration=seconds(length, scale))
            case b"stsd":
                self._sample_entry(body[8:])
            case b"tkhd":
                self._track = int.from_bytes(body[20:24] if long else body[12:16])
            case b"mdhd":
                self._scale[self._track] = int.from_bytes(body[20:24] if long else body[12:16])
            case b"trex":
                self._usual[int.from_bytes(body[4:8])] = int.from_bytes(body[12:16])
            case b"tfhd":
                self._fragment(body)
            case b"tfdt":
                self._begins = int.from_bytes(body[4:12] if long else body[4:8])
            case b"trun":
                self._run(body)

    def _sample_entry(self, entry: bytes) -> None:
        codecs = {
            b"mp4a": "aac",
            b"Opus": "opus",
            b"alac": "alac",
            b"samr": "amr",
            b"sawb": "amr-wb",
            b"ulaw": "pcm_mulaw",
        }
        codec = codecs.get(entry[4:8])
        channels, rate = int.from_bytes(entry[24:26]), int.from_bytes(entry[32:34])
        self._media = replace(self._media, codec=codec, channels=channels, sample_rate=rate)

    def _fragment(self, body: bytes) -> None:
        flags, self._track, at = int.from_bytes(body[1:4]), int.from_bytes(body[4:8]), 8
        at += 8 * (flags & 1) + 4 * (flags >> 1 & 1)
        self._sample = int.from_bytes(body[at : at + 4]) if flags & 8 else self._usual.get(self._track, 0)
        self._begins = None

    def _run(self, body: bytes) -> None:
        """Add a run of samples to its track. The first stated sample length stands for all: only the last sample of
        sound differs.
        """
        flags, count = int.from_bytes(body[1:4]), int.from_bytes(body[4:8])
        at = 8 + 4 * (flags & 1) + 4 * (flags >> 2 & 1)
        each = int.from_bytes(body[at : at + 4]) if flags & 0x100 else self._sample
        begins = self._fragments.get(self._track, 0) if self._begins is None else self._begins
        self._fragments[self._track] = begins + count * each
        self._begins = None

    def _lasts(self) -> MediaFacts:
        reach = [seconds(units, self._scale.get(track, 0)) for track, units in self._fragments.items()]
        known = [each for each in [*reach, self._media.duration] if each is not None]
        return replace(self._media, duration=max(known)) if known else self._media

    def shape(self, size: int) -> Shape:
        media = self._lasts()
        if self.at == DONE:
            return Shape(media, whole=None if self._has_data and self._has_movie else False)
        if max(self.at, self._promised) > size or media.duration is None or not self._has_data:
            return Shape(media, whole=False)
        return Shape(media, whole=True if self.at == size else None)


_MASTERS = frozenset({  # Segment, Info, Tracks, Cluster, TrackEntry, Audio, BlockGroup
    0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0xAE, 0xE1, 0xA0,
})  # fmt: skip
_WIDE = frozenset({0x2AD7B1, 0x4489, 0x86, 0xB5})  # what is read of these may be longer than a header
_LAG = 2.0  # seconds by which the last block may begin before the end


class Matroska:
    """Matroska and WebM (RFC 9559): nested elements. `Info` states the duration; where it does not, the last block
    does."""

    def __init__(self) -> None:
        self.at, self.need = 0, 14
        self._media = MediaFacts("matroska")
        self._promised = 0
        self._scale = 1_000_000  # nanoseconds
        self._stated: float | None = None
        self._cluster = 0
        self._last: int | None = None

    def step(self, window: bytes, here: int) -> None:
        name, behind = _vint(window, here, keep=True)
        length, behind = _vint(window, here + behind, keep=False, so_far=behind)
        if not name:
            self.at = DONE
            return
        if name in _WIDE and self.need < (wanted := min(behind + length, 24)):
            self.need = wanted
            return
        self.need = 14
        unknown = length == -1
        body = window[here + behind : here + 24]
        if name in _MASTERS:
            if not unknown:
                self._promised = max(self._promised, self.at + behind + length)
            self.at += behind
            return
        if unknown:
            self.at = DONE
            return
        self._element(name, body[:length])
        self.at += behind + length

    def _element(self, name: int, body: bytes) -> None:
        number = int.from_bytes(body[:8])
        match name:
            case 0x2AD7B1:  # TimestampScale
                self._scale = number or 1_000_000
            case 0x4489:  # Duration
                self._stated = _real(body)
            case 0x86:  # CodecID
                codec = body.decode("latin-1").removeprefix("A_").lower()
                self._media = replace(self._media, codec={"mpeg/l3": "mp3"}.get(codec, codec))
            case 0xB5:  # SamplingFrequency
                rate = _real(body)
                self._media = replace(self._media, sample_rate=round(rate) if 0 < rate < 1e6 else None)
            case 0x9F:  # Channels
                self._media = replace(self._media, channels=number)
            case 0xE7:  # Timestamp of a cluster
                self._cluster = number
            case 0xA3 | 0xA1 if len(body) >= 4:  # SimpleBlock, Block
                behind = _vint(body, 0, keep=False)[1]
                offset = int.from_bytes(body[behind : behind + 2], signed=True)
                self._last = max(self._last or 0, self._cluster + offset)

    def shape(self, size: int) -> Shape:
        if self._last is None:
            return Shape(self._media, whole=False)
        to_seconds = self._scale / 1e9
        reached = self._last * to_seconds
        stated = None if self._stated is None else self._stated * to_seconds
        cut = max(self.at, self._promised) > size or (stated is not None and stated > reached + _LAG)
        lasts = reached if stated is None or cut else stated
        duration = seconds(round(lasts * 1000), 1000) if 0 <= lasts < 1e10 else None
        whole = False if cut else True if self.at == size and stated is not None else None
        return Shape(replace(self._media, duration=duration), whole=whole)


def _vint(window: bytes, at: int, *, keep: bool, so_far: int = 0) -> tuple[int, int]:
    """Read a number of variable length; return it and the count of bytes up to its end. The number is -1 (unknown)
    where all its bits are set.
    """
    width = 9 - window[at].bit_length()
    if width > 8:
        return 0, so_far + 1
    value = int.from_bytes(window[at : at + width])
    if not keep:
        value &= (1 << 7 * width) - 1
        value = -1 if value == (1 << 7 * width) - 1 else value
    return value, so_far + width


def _real(body: bytes) -> float:
    if len(body) not in (4, 8):
        return 0.0
    value: float = struct.unpack(">f" if len(body) == 4 else ">d", body)[0]
    return value if math.isfinite(value) else 0.0


class Flv:
    """Flash video, in which streaming servers keep calls: tags that each state their time in milliseconds."""

    def __init__(self) -> None:
        self.at, self.need = 13, 11
        self._last: int | None = None

    def step(self, window: bytes, here: int) -> None:
        kind, length = window[here], int.from_bytes(window[here + 1 : here + 4])
        if kind & 0x1F not in (8, 9, 18):
            self.at = DONE
            return
        if kind & 0x1F == 8:
            self._last = int.from_bytes(window[here + 4 : here + 7]) | window[here + 7] << 24
        self.at += 11 + length + 4

    def shape(self, size: int) -> Shape:
        if self._last is None:
            return Shape(MediaFacts(container=None), whole=None)
        return Shape(MediaFacts("flv", duration=seconds(self._last, 1000)), whole=self.at == size)
