"""Follows MPEG audio layers II and III frame by frame without keeping the sound. Pure.

The sources are ISO/IEC 11172-3 and 13818-3 for the frame header, LAME's Xing/Info and Fraunhofer's VBRI for the lengths
that an encoder states, and ID3v2 for tags before the sound. A compiled pattern steps over the bulk, one C call for a
run of frames of equal bit rate, so that an hour of audio costs milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from archiver.fetch.walk import DONE, Shape, seconds
from archiver.recording import MediaFacts

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # MPEG 1, 2, 2.5
_KBITS = {  # key: the layer bits of the header (1: III, 2: II), and whether the stream is MPEG 1
    (1, True): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (1, False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, True): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (2, False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xf4\xf5\xfa\xfb\xfc\xfd]")
_NOT_ZERO = re.compile(rb"[^\0]")
_FIRST_NEED = 64  # a frame header with the Xing or VBRI fields behind it
_NEED = 10  # an ID3v2 header; no frame is shorter
_PATIENCE = 256 << 10  # after so many bytes without a frame the body is no MP3
_STREAK = 3  # so many frames in a row do not come about by chance
_SLACK = 2  # encoders miscount their own frames by so many
_TORN, _TORN_SHARE = 3000, 100  # where streams were joined: bytes that may be lost, and one byte in so many


@dataclass(frozen=True, slots=True)
class _Frame:
    size: int
    samples: int
    rate: int
    exact: float  # mean size at this bit rate; padding makes up the fraction
    run: re.Pattern[bytes]  # matches as many whole frames of this sample rate and bit rate as follow one another


@lru_cache(maxsize=1024)
def _frame(second: int, third: int) -> _Frame | None:
    """Return the frame that these header bytes announce; None unless they are a layer II or III header with a stated
    bit rate."""
    version, layer = second >> 3 & 3, second >> 1 & 3
    bits, rate = third >> 4, third >> 2 & 3
    if second >> 5 != 7 or version == 1 or layer not in (1, 2) or not 0 < bits < 15 or rate == 3:
        return None
    hertz = _RATES[version][rate]
    samples = 1152 if version == 3 or layer == 2 else 576
    exact = samples / 8 * _KBITS[layer, version == 3][bits - 1] * 1000 / hertz
    plain, base = int(exact), third & ~0x03
    pattern = b"(?s:\\xff[\\x%02x\\x%02x](?:[\\x%02x\\x%02x].{%d}|[\\x%02x\\x%02x].{%d}))*+" % (
        *(second & ~1, second | 1),
        *(base, base | 1, plain - 3),
        *(base | 2, base | 3, plain - 2),
    )
    return _Frame(plain + (third >> 1 & 1), samples, hertz, exact, re.compile(pattern))


@dataclass(slots=True)
class _Streak:
    """A run of frames without a loss of sync between them."""

    frames: int = 0
    time: float = 0.0
    bytes: int = 0

    def add(self, frames: int, time: float, size: int) -> None:
        self.frames += frames
        self.time += time
        self.bytes += size


class Mpeg:
    """Walks an MP3: adds up its duration, and knows whether the body ends where a frame ends.

    Recordings joined end to end count as one, even of different sample rates. An encoder's statement of the length is
    compared with the frames that came, and never believed instead of them.
    """

    def __init__(self) -> None:
        self.at = 0
        self.need = _FIRST_NEED
        self._first: _Frame | None = None
        self._layer = 1
        self._kind = (0, 0)
        self._channels = 0
        self._sound = _Streak()  # all frames that were believed
        self._streak = _Streak()  # the frames since the last loss of sync
        self._tags = 0
        self._lost = 0
        self._unsure = 0  # bytes lost since the last frame that was believed
        self._torn = 0  # bytes lost between frames that were believed
        self._end = 0  # where the last frame or tag ends
        self._stated: tuple[int, int] | None = None  # end of the stream and its frames, from Xing or VBRI
        self._afterword = False

    def step(self, window: bytes, here: int) -> None:
        head = window[here : here + 4]
        if head[:3] == b"ID3" and (length := id3_length(window[here : here + 10])) is not None:
            self._skip(length)
        elif self._end == self.at and self._end and self._is_tag(window, here):
            pass
        elif (frame := self._recognise(head)) is None:
            self._resync(window, here)
        elif self._first is None and (stated := _stated(window[here : here + _FIRST_NEED])) is not None:
            self._begin(frame, head)
            length, frames = stated
            self._stated = self.at + length, frames
            self._skip(frame.size)
        else:
            if self._first is None:
                self._begin(frame, head)
            self._take(frame, window, here)

    def _recognise(self, head: bytes) -> _Frame | None:
        """Return the frame at this position. Layer, version and sample rate change only where another stream is joined
        on."""
        if head[0] != 0xFF:
            return None
        if self._first is not None and self.at != self._end and (head[1] & ~1, head[2] & 0x0C) != self._kind:
            return None
        return _frame(head[1], head[2])

    def _begin(self, frame: _Frame, head: bytes) -> None:
        self._first, self.need, self._kind = frame, _NEED, (head[1] & ~1, head[2] & 0x0C)
        self._layer, self._channels = head[1] >> 1 & 3, 1 if head[3] >> 6 == 3 else 2

    def _take(self, frame: _Frame, window: bytes, here: int) -> None:
        matched = frame.run.match(window, here)
        length = matched.end() - here if matched is not None else 0
        frames = max(round(length / frame.exact), 1)
        self._kind = (window[here + 1] & ~1, window[here + 2] & 0x0C)
        self.at += length or frame.size
        self._end, self._afterword = self.at, False
        self._streak.add(frames, frames * frame.samples / frame.rate, length or frame.size)
        if self._unsure and self._streak.frames >= _STREAK:
            self._torn, self._unsure = self._torn + self._unsure, 0

    def _skip(self, length: int) -> None:
        """Step over bytes that are no sound but belong to the file, such as a tag."""
        self._tags += length
        self.at += length
        self._end = self.at

    def _is_tag(self, window: bytes, here: int) -> bool:
        """Step over a tag or padding behind the last frame; another stream may follow. False when there is none."""
        match window[here : here + 3]:
            case b"TAG":  # ID3v1
                self._skip(128)
            case b"APE" if len(window) - here >= 32:
                self.need = _NEED if self._first else _FIRST_NEED
                self._skip(32 + int.from_bytes(window[here + 12 : here + 16], "little"))
            case b"APE":
                self.need = 32
                return True
            case b"LYR":
                self.at = DONE
            case b"\0\0\0":
                found = _NOT_ZERO.search(window, here)
                self._skip((found.start() if found else len(window)) - here)
            case _:
                return False
        self._afterword = True
        return True

    def _resync(self, window: bytes, here: int) -> None:
        """Handle a loss of sync: keep the frames that were believable, look for the next header, and give up in
        time."""
        streak, self._streak = self._streak, _Streak()
        if streak.frames >= _STREAK:
            self._sound.add(streak.frames, streak.time, streak.bytes)
        elif self._sound.bytes:
            self._unsure += streak.bytes
        if not (self._sound.bytes or self._stated):
            self._first, self.need = None, _FIRST_NEED
        found = _SYNC.search(window, here + 1)
        gap = (found.start() if found else len(window) - 1) - here
        self._lost += gap
        self._unsure += gap if self._sound.bytes else 0
        self.at = self.at + gap if self._sound.bytes or self._stated or self._lost < _PATIENCE else DONE

    def shape(self, size: int) -> Shape:
        streak, sound = self._streak, replace(self._sound)
        if streak.frames >= _STREAK or (streak.frames and self._end == size and not self._lost):
            sound.add(streak.frames, streak.time, streak.bytes)
        if self._first is None or not sound.frames or 2 * sound.bytes < size - min(self._tags, size):
            return Shape(MediaFacts(container=None), whole=None)
        name = "mp3" if self._layer == 1 else "mp2"
        lasts = seconds(round(sound.time * 1_000_000), 1_000_000)
        media = MediaFacts(name, name, self._first.rate, self._channels, lasts)
        return Shape(media, self._whole(size, sound))

    def _whole(self, size: int, sound: _Streak) -> bool | None:
        end, frames = self._stated or (0, 0)
        short = end > size or sound.frames + _SLACK < frames
        torn = self._torn > _TORN + sound.bytes // _TORN_SHARE
        if short or torn or (self._end > size and not self._afterword):
            return False
        return True if self._end == size or self._afterword else None


def id3_length(header: bytes) -> int | None:
    """Return the length of the ID3v2 tag that begins with these ten bytes; None when they begin no tag."""
    if header[:3] != b"ID3" or len(header) < 10:
        return None
    length = 10 + (10 if header[5] & 0x10 else 0)
    return length + ((header[6] & 127) << 21 | (header[7] & 127) << 14 | (header[8] & 127) << 7 | header[9] & 127)


def _stated(start: bytes) -> tuple[int, int] | None:
    """Return the bytes (0: unstated) and frames of the whole stream, if the first frame states them and both are
    possible together.
    """
    where = max(start.find(b"Xing"), start.find(b"Info"))
    length = 0
    if where >= 0 and len(start) >= where + 16:
        flags, behind = start[where + 7], where + 8
        frames = int.from_bytes(start[behind : behind + 4]) if flags & 1 else 0
        if flags & 2:
            behind += 4 * (flags & 1)
            length = int.from_bytes(start[behind : behind + 4])
    elif start[36:40] == b"VBRI":
        length, frames = int.from_bytes(start[46:50]), int.from_bytes(start[50:54])
    else:
        return None
    if length and frames and not 20 * frames <= length <= 2900 * frames:
        return 0, 0
    return length, frames
