"""Follows sound that is a plain row of frames, each of which states its own length. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from archiver.fetch.walk import DONE, Shape, seconds
from archiver.recording import MediaFacts

_ENOUGH = 3  # so many frames in a row do not come about by chance
_AFTERWORDS = (b"TAG", b"APE", b"ID3")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its size in bytes, its count of samples, and the sample rate."""

    size: int
    samples: int
    rate: int
    channels: int = 1


Measure: TypeAlias = Callable[[bytes], Frame | None]


class Frames:
    """Follows frames whose first `need` bytes `measure` reads. Anything between two frames is damage."""

    def __init__(self, container: str, codec: str, measure: Measure, need: int, start: int = 0) -> None:
        self.at, self.need = start, need
        self._names = container, codec
        self._measure = measure
        self._first: Frame | None = None
        self._frames = 0
        self._time = 0.0
        self._afterword = False

    def step(self, window: bytes, here: int) -> None:
        frame = self._measure(window[here : here + self.need])
        if frame is None or frame.size < 1:
            self._afterword = window[here : here + 3] in _AFTERWORDS
            self.at = DONE
            return
        self._first = self._first or frame
        self._frames += 1
        self._time += frame.samples / frame.rate if frame.rate else 0
        self.at += frame.size

    def shape(self, size: int) -> Shape:
        first, whole = self._first, self.at == size
        if first is None or not (self._frames >= _ENOUGH or whole):
            return Shape(MediaFacts(container=None), whole=None)
        container, codec = self._names
        lasts = seconds(round(self._time * 1_000_000), 1_000_000) if first.rate else None
        media = MediaFacts(container, codec, first.rate or None, first.channels, lasts)
        return Shape(media, whole=whole or self._afterword)


class Voice:
    """Frames of 20 ms whose first byte states their length, as telephones write them: AMR (RFC 4867) and GSM 06.10."""

    def __init__(self, name: str, rate: int, sizes: Sequence[int], start: int = 0) -> None:
        self.at, self.need = start, 1
        self._media = MediaFacts(name, name, rate, 1)
        self._sizes = sizes
        self._frames = 0

    def step(self, window: bytes, here: int) -> None:
        """Take all frames in the window at once: an hour of sound is 180,000 frames."""
        sizes, at, end = self._sizes, here, len(window)
        while at < end and (size := sizes[window[at]]):
            at += size
            self._frames += 1
        self.at += at - here
        if at < end:
            self.at = DONE

    def shape(self, size: int) -> Shape:
        if not self._frames:
            return Shape(MediaFacts(container=None), whole=None)
        return Shape(replace(self._media, duration=seconds(self._frames, 50)), whole=self.at == size)


def _amr(sizes: Sequence[int]) -> Sequence[int]:
    """Return the frame length for each first byte: four bits are the mode, and three bits must be zero."""
    kinds = [*sizes, *([0] * (14 - len(sizes))), 1, 1]
    return [0 if byte & 0x83 else kinds[byte >> 3 & 15] for byte in range(256)]


AMR_NARROW = _amr((13, 14, 16, 18, 20, 21, 27, 32, 6))
AMR_WIDE = _amr((18, 24, 33, 37, 41, 47, 51, 59, 61, 6))
GSM = [33 if byte >> 4 == 0xD else 0 for byte in range(256)]


_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


def adts(head: bytes) -> Frame | None:
    """Read the header of a streamed AAC frame (ADTS, ISO/IEC 13818-7) from its first 7 bytes."""
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 >= len(_ADTS_RATES):
        return None
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    rate, channels = _ADTS_RATES[head[2] >> 2 & 15], (head[2] & 1) << 2 | head[3] >> 6
    return Frame(size, 1024 * ((head[6] & 3) + 1), rate, channels or 1) if size > 7 else None


def loas(head: bytes) -> Frame | None:
    """Read the header of an AAC frame in LATM from its first 3 bytes. Only a decoder could tell its duration."""
    if head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return None
    return Frame(((head[1] & 31) << 8 | head[2]) + 3, 1024, 0)


_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_RATES = (48000, 44100, 32000)


def ac3(head: bytes) -> Frame | None:
    """Read the header of an AC-3 frame from its first 5 bytes."""
    rate, code = head[4] >> 6, head[4] & 63
    if head[:2] != b"\x0b\x77" or rate == 3 or code >> 1 >= len(_AC3_KBITS):
        return None
    hertz = _AC3_RATES[rate]
    words = 96000 * _AC3_KBITS[code >> 1] // hertz + (code & 1 if hertz == 44100 else 0)
    return Frame(2 * words, 1536, hertz, 2)


def free_format(head: bytes) -> Measure | None:
    """Return a measure for MP3 frames that do not state their bit rate: the first headers' distance gives their
    length."""
    if len(head) < 4 or not _is_free(head):
        return None
    pattern, version = head[:2], head[1] >> 3 & 3
    second = head.find(pattern, 24)
    while 0 <= second < len(head) - 4 and not (head[second + 2] & 0xFD == head[2] & 0xFD and _is_free(head[second:])):
        second = head.find(pattern, second + 1)
    if not 0 <= second < len(head) - 4:
        return None
    apart = second - (head[2] >> 1 & 1)
    rate = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}[version][head[2] >> 2 & 3]

    def measure(each: bytes) -> Frame | None:
        if each[:2] != pattern or each[2] & 0xFC != head[2] & 0xFC:
            return None
        return Frame(apart + (each[2] >> 1 & 1), 1152 if version == 3 else 576, rate, 1 if each[3] >> 6 == 3 else 2)

    return measure


def _is_free(head: bytes) -> bool:
    layer_3 = head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] >> 3 & 3 != 1
    return layer_3 and head[2] >> 4 == 0 and head[2] >> 2 & 3 != 3


class TransportStream:
    """MPEG-TS: packets of 188 bytes, each beginning with 0x47. The walk follows the packets and knows no duration."""

    def __init__(self) -> None:
        self.at, self.need = 0, 1

    def step(self, window: bytes, here: int) -> None:
        packets = window[here::188]
        good = len(packets) - len(packets.lstrip(b"\x47"))
        self.at = DONE if good < len(packets) else self.at + 188 * good

    def shape(self, size: int) -> Shape:
        return Shape(MediaFacts("mpegts"), whole=self.at == size)
