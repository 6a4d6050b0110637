"""Reads Ogg and FLAC, the formats of free encoders. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from archiver.fetch.walk import DONE, Shape, seconds
from archiver.recording import MediaFacts


class Ogg:
    """Ogg pages (RFC 3533). The last granule position is the length (RFC 7845 for Opus); streams joined end to end add
    up."""

    def __init__(self) -> None:
        self.at, self.need = 0, 27
        self._serial = b""
        self._media = MediaFacts("ogg")
        self._clock = 0  # granules a second
        self._skip = 0
        self._granule = 0
        self._ended = False
        self._before = 0.0  # seconds of the streams before this one

    def step(self, window: bytes, here: int) -> None:
        if window[here : here + 5] != b"OggS\0":
            self.at = DONE
            return
        table = 27 + window[here + 26]
        begins = bool(window[here + 5] & 2) and (not self._clock or self._granule > 0)
        wanted = table + (64 if begins else 0)
        length = sum(window[here + 27 : here + table]) if self.need >= table else 0
        if begins and self.need >= table:
            wanted = table + min(64, length)  # the first page of a stream holds only its header
        if self.need < wanted:
            self.need = wanted if self.need >= table or not begins else table
            return
        self.need = 27
        serial = window[here + 14 : here + 18]
        if begins:
            self._next(serial, window[here + table : here + wanted])
        if serial == self._serial:
            granule = int.from_bytes(window[here + 6 : here + 14], "little", signed=True)
            self._granule = max(self._granule, granule)
            self._ended = bool(window[here + 5] & 4)
        self.at += table + length

    def _next(self, serial: bytes, start: bytes) -> None:
        """Begin another stream: after the end of the first one, or in place of a stream that holds no sound."""
        self._before += self._lasts()
        self._serial, self._granule, self._skip = serial, 0, 0
        first = self._media if self._before else None
        self._codec(start)
        if first is not None:
            self._media = first

    def _codec(self, start: bytes) -> None:
        if start[:8] == b"OpusHead":
            self._clock, self._skip = 48000, int.from_bytes(start[10:12], "little")
            self._media = MediaFacts("ogg", "opus", 48000, start[9])
        elif start[:7] == b"\x01vorbis":
            self._clock = int.from_bytes(start[12:16], "little")
            self._media = MediaFacts("ogg", "vorbis", self._clock, start[11])
        elif start[:8] == b"Speex   " and len(start) >= 52:
            self._clock = int.from_bytes(start[36:40], "little")
            self._media = MediaFacts("ogg", "speex", self._clock, int.from_bytes(start[48:52], "little"))
        elif start[:5] == b"\x7fFLAC" and len(start) >= 35:
            packed = int.from_bytes(start[27:35])
            self._clock = packed >> 44
            self._media = MediaFacts("ogg", "flac", self._clock, (packed >> 41 & 7) + 1)

    def _lasts(self) -> float:
        return max(self._granule - self._skip, 0) / self._clock if self._clock else 0.0

    def shape(self, size: int) -> Shape:
        lasts = seconds(round((self._before + self._lasts()) * 1_000_000), 1_000_000) if self._clock else None
        whole = False if self.at > size else True if self.at == size and self._ended else None
        return Shape(replace(self._media, duration=lasts), whole=whole)


_LOOKS = 50_000  # headers, true and false, plus one for every 256 bytes: bounds the time that a crafted body can waste
_FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9][^\x00\x0f]")
_FLAC_SIZES = (
    {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}
)


class Flac:
    """FLAC (RFC 9639): STREAMINFO states the full length, and the number in the last frame's header shows how far the
    body got.

    A frame states no length, so the walk searches for headers and believes those whose checksum holds.
    """

    def __init__(self) -> None:
        self.at, self.need = 0, 42
        self._media = MediaFacts(container=None)
        self._total = 0
        self._block = 0
        self._reached = 0  # samples, up to the end of the last frame that was seen
        self._in_frames = False
        self._looks = 0

    def step(self, window: bytes, here: int) -> None:
        if self._in_frames:
            self._search(window, here)
        elif self.at == 0:
            self._begin(window, here)
        else:
            self._past(window[here], int.from_bytes(window[here + 1 : here + 4]))

    def _begin(self, window: bytes, here: int) -> None:
        packed = int.from_bytes(window[here + 18 : here + 26])
        rate, channels, self._total = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
        self._block = int.from_bytes(window[here + 8 : here + 10])
        self.at, self.need = 4, 4
        if window[here + 4] & 127 == 0 and rate:
            self._media = MediaFacts("flac", "flac", rate, channels)
            self._past(window[here + 4], 34)
        else:
            self.at = DONE

    def _past(self, kind: int, length: int) -> None:
        """Step to the next metadata block, or to the first frame."""
        self.at += 4 + length
        if kind & 128:
            self._in_frames, self.need = True, 16

    def _search(self, window: bytes, here: int) -> None:
        last = len(window) - self.need
        for found in _FLAC_SYNC.finditer(window, here):
            self._looks += 1
            if found.start() > last or self._looks > _LOOKS + (self.at >> 8):
                break
            # Random bytes can form a header too, but none that continues where the last frame ended.
            head = window[found.start() : found.start() + self.need]
            self._reached += _flac_frame(head, self._block, self._reached)
        self.at += last + 1 - here

    def shape(self, size: int) -> Shape:
        rate = self._media.sample_rate or 0
        if not self._reached:
            return Shape(MediaFacts(container=None), whole=False if self.at > size else None)
        cut = self._total > self._reached + self._block  # a last frame of silence may be too short to be found
        samples = min(self._reached, self._total or self._reached)
        return Shape(replace(self._media, duration=seconds(samples, rate)), whole=False if cut else None)


def _flac_frame(head: bytes, fixed: int, begins: int) -> int:
    """Return the count of samples in the frame that this header announces; 0 unless the frame begins with sample
    `begins`."""
    number, length = head[4], 5
    if head[3] & 1 or number == 0xFF or 0x80 <= number < 0xC0:
        return 0
    if number >= 0x80:
        more = 7 - (number ^ 0xFF).bit_length()
        number &= 0x3F >> more
        for each in head[5 : 5 + more]:
            number = number << 6 | each & 0x3F
        length += more
    if (number if head[1] & 1 else number * fixed) != begins:
        return 0
    size_code = head[2] >> 4
    samples = _FLAC_SIZES.get(size_code, 0)
    if size_code in (6, 7):
        samples = int.from_bytes(head[length : length + size_code - 5]) + 1
        length += size_code - 5
    length += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    return samples if length < len(head) and _crc8(head[:length]) == head[length] else 0


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc
