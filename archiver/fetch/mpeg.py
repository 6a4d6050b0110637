"""MPEG audio layer III, followed frame by frame without keeping it. Pure.

ISO/IEC 11172-3 and 13818-3 for the frame header, LAME's Xing/Info and Fraunhofer's VBRI for the lengths that an
encoder states, ID3v2 for what may stand before. The bulk is stepped over by a compiled pattern, one C call for a run
of frames of equal bit rate, so that an hour of audio costs milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from archiver.fetch.containers import DONE, Shape, seconds
from archiver.recording import MediaFacts

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # MPEG 1, 2, 2.5
_KBITS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
_AFTERWORDS = (b"TAG", b"APE", b"LYR", b"\0\0\0")  # ID3v1, APEv2, Lyrics3, padding
_FIRST_NEED = 64  # a frame header with the Xing or VBRI fields behind it
_NEED = 10  # an ID3v2 header; no frame is shorter
_PATIENCE = 256 << 10  # bytes without a frame after which this is no MP3
_STREAK = 3  # frames in a row that chance does not make


@dataclass(frozen=True, slots=True)
class _Frame:
    size: int
    samples: int
    rate: int
    exact: float  # mean size at this bit rate; padding makes up the fraction
    run: re.Pattern[bytes]  # as many whole frames of this rate and bit rate as follow one another


@lru_cache(maxsize=1024)
def _frame(second: int, third: int) -> _Frame | None:
    """The frame that these header bytes announce, if they are a layer III header with a stated bit rate."""
    version, layer = second >> 3 & 3, second >> 1 & 3
    bits, rate = third >> 4, third >> 2 & 3
    if second >> 5 != 7 or version == 1 or layer != 1 or not 0 < bits < 15 or rate == 3:
        return None
    hertz = _RATES[version][rate]
    samples = 1152 if version == 3 else 576
    exact = samples / 8 * (_KBITS_1 if version == 3 else _KBITS_2)[bits - 1] * 1000 / hertz
    plain, base = int(exact), third & ~0x03
    pattern = b"(?s:\\xff[\\x%02x\\x%02x](?:[\\x%02x\\x%02x].{%d}|[\\x%02x\\x%02x].{%d}))*+" % (
        *(second & ~1, second | 1),
        *(base, base | 1, plain - 3),
        *(base | 2, base | 3, plain - 2),
    )
    return _Frame(plain + (third >> 1 & 1), samples, hertz, exact, re.compile(pattern))


class Mpeg:
    """Walks an MP3: counts its time, and knows whether it ends where a frame ends."""

    def __init__(self) -> None:
        self.at = 0
        self.need = _FIRST_NEED
        self._first: _Frame | None = None
        self._kind = (0, 0)
        self._channels = 0
        self._samples = 0  # of streaks that were believed
        self._bytes = 0
        self._streak = [0, 0, 0]  # frames, samples, bytes since the last loss of sync
        self._tags = 0
        self._lost = 0
        self._end = 0  # where the last frame ends
        self._stated: tuple[int, int, int] | None = None  # where, bytes, samples: from Xing or VBRI
        self._afterword = False

    def step(self, window: bytes, here: int) -> None:
        head = window[here : here + 4]
        if head[:3] == b"ID3":
            self._skip_id3(window[here : here + 10])
        elif self._end == self.at and self._end and head[:3] in _AFTERWORDS:
            self._afterword, self.at = True, DONE
        elif (frame := self._recognise(head)) is None:
            self._resync(window, here)
        elif self._first is None and (stated := _stated(window[here : here + _FIRST_NEED])) is not None:
            self._begin(frame, head)
            self._stated = (self.at, stated[0], stated[1] * frame.samples)
            self.at += stated[0]
            self._end = self.at
        else:
            if self._first is None:
                self._begin(frame, head)
            self._take(frame, window, here)

    def _recognise(self, head: bytes) -> _Frame | None:
        if head[0] != 0xFF:
            return None
        if self._first is not None and (head[1] & ~1, head[2] & 0x0C) != self._kind:
            return None  # layer, version and sample rate do not change within a stream
        return _frame(head[1], head[2])

    def _begin(self, frame: _Frame, head: bytes) -> None:
        self._first, self._kind, self.need = frame, (head[1] & ~1, head[2] & 0x0C), _NEED
        self._channels = 1 if head[3] >> 6 == 3 else 2

    def _take(self, frame: _Frame, window: bytes, here: int) -> None:
        matched = frame.run.match(window, here)
        length = matched.end() - here if matched is not None else 0
        frames = max(round(length / frame.exact), 1)
        self.at += length or frame.size
        self._end = self.at
        streak = self._streak
        streak[0] += frames
        streak[1] += frames * frame.samples
        streak[2] += length or frame.size

    def _skip_id3(self, header: bytes) -> None:
        length = 10 + (10 if header[5] & 0x10 else 0)
        length += (header[6] & 127) << 21 | (header[7] & 127) << 14 | (header[8] & 127) << 7 | header[9] & 127
        self._tags += length
        self.at += length

    def _resync(self, window: bytes, here: int) -> None:
        """Sync is lost: keep what was believable, look for the next header, and give up in time."""
        believed = self._streak[0] >= _STREAK
        if believed:
            self._samples += self._streak[1]
            self._bytes += self._streak[2]
        self._streak = [0, 0, 0]
        if not (self._bytes or self._stated):
            self._first, self.need = None, _FIRST_NEED
        found = _SYNC.search(window, here + 1)
        gap = (found.start() if found else max(len(window) - 1, here + 1)) - here
        self._lost += gap
        self.at = self.at + gap if self._bytes or self._stated or self._lost < _PATIENCE else DONE

    def shape(self, size: int) -> Shape:
        frames, samples, audio = self._streak
        cut = self._end > size
        if not (frames >= _STREAK or (frames and self._end == size and not self._lost)):
            samples = audio = 0
        samples += self._samples
        audio += self._bytes
        if self._stated is not None:
            start, length, stated = self._stated
            came = min(size - start, length)
            samples += stated * came // length
            audio += came
        if self._first is None or 2 * audio < size - min(self._tags, size):
            return Shape(MediaFacts(container=None), whole=None)
        media = MediaFacts("mp3", "mp3", self._first.rate, self._channels, seconds(samples, self._first.rate))
        return Shape(media, whole=False if cut else True if self._end == size or self._afterword else None)


def _stated(start: bytes) -> tuple[int, int] | None:
    """Bytes and frames of the whole stream, if the first frame states both and they are possible together."""
    where = max(start.find(b"Xing"), start.find(b"Info"))
    if where >= 0 and len(start) >= where + 16 and start[where + 7] & 3 == 3:
        frames, length = int.from_bytes(start[where + 8 : where + 12]), int.from_bytes(start[where + 12 : where + 16])
    elif start[36:40] == b"VBRI" and len(start) >= 54:
        length, frames = int.from_bytes(start[46:50]), int.from_bytes(start[50:54])
    else:
        return None
    return (length, frames) if 20 * frames <= length <= 2900 * frames and frames else None
