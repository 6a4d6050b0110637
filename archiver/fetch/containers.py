"""Audio containers, followed through the body by their own structure without keeping it. Pure.

Every container but the simplest is a row of headers, each telling where the next one is. A walk looks at the headers
only; the follower brings it their bytes as the body streams by, so that any size costs the memory of one header.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from archiver.recording import MediaFacts

DONE = sys.maxsize
_LONGEST_HEADER = 512
_MOST_STEPS = 1_000_000  # about seven hours of frames; a body made to waste time gets no more than this
_LONGEST_SECONDS = 10 * 366 * 86400  # more is a poisoned header, not a recording


@dataclass(frozen=True, slots=True)
class Shape:
    """What the container says, now that the body has ended.

    `whole`: True, it ends where the body ends; False, it promises more than came; None, it cannot tell.
    """

    media: MediaFacts
    whole: bool | None


class Walk(Protocol):
    """Reads headers. `at` is where the next one begins (DONE: no more), `need` how many bytes of it are wanted."""

    at: int
    need: int

    def step(self, window: bytes, here: int) -> None:
        """Read the header at `window[here]` (`need` bytes or more are there), and move `at` on or raise `need`."""

    def shape(self, size: int) -> Shape:
        """What is known, when the body was `size` bytes long."""


def seconds(units: int, per_second: float) -> timedelta | None:
    """A duration, or None when the numbers are no duration of anything."""
    if per_second <= 0 or units < 0 or units / per_second > _LONGEST_SECONDS:
        return None
    return timedelta(seconds=units / per_second)


def lasting(size: int, per_second: float) -> timedelta | None:
    """The duration of `size` bytes of sound: none at all lasts no time, whatever their rate is said to be."""
    return seconds(size, per_second) if size else timedelta(0)


class Follower:
    """Takes a walk through a body that comes in pieces of any size."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._carry = b""
        self._steps = 0
        self._size = 0

    def feed(self, piece: bytes) -> None:
        if self._carry:
            self._run(self._carry + piece[:_LONGEST_HEADER], self._size - len(self._carry))
        self._run(piece, self._size)
        self._size += len(piece)
        rest = self._size - self._walk.at
        if rest <= 0:
            self._carry = b""
        else:
            self._carry = piece[-rest:] if rest <= len(piece) else self._carry[len(piece) - rest :] + piece

    def _run(self, window: bytes, start: int) -> None:
        walk = self._walk
        while start <= walk.at <= start + len(window) - walk.need:
            self._steps += 1
            if self._steps > _MOST_STEPS:
                walk.at = DONE
                return
            walk.step(window, walk.at - start)

    def shape(self) -> Shape:
        exhausted = self._steps > _MOST_STEPS
        shape = self._walk.shape(self._size)
        return Shape(replace(shape.media, duration=None), whole=None) if exhausted else shape


class Known:
    """A container that is told by its first bytes and not followed."""

    def __init__(self, media: MediaFacts) -> None:
        self.at, self.need = DONE, 1
        self._media = media

    def step(self, window: bytes, here: int) -> None:
        """Never asked: there is nothing to follow."""

    def shape(self, size: int) -> Shape:  # noqa: ARG002 - the port's signature
        return Shape(self._media, whole=None)


_WAVE_CODECS = {1: "pcm_s{}le", 3: "pcm_f{}le", 6: "pcm_alaw", 7: "pcm_mulaw", 2: "adpcm_ms", 0x11: "adpcm_ima"}
_WAVE_CODECS |= {0x31: "gsm_ms", 0x40: "g721", 0x55: "mp3", 0x65: "g722", 0x83: "g729"}
_STREAMED = 0x7FFFF000  # writers that cannot seek back leave 0, this or more (SoX, FFmpeg, FreeSWITCH)


class Riff:
    """RIFF/WAVE and RF64: `fmt ` tells the rate, `data` the length."""

    def __init__(self) -> None:
        self.at, self.need = 0, 12
        self._media = MediaFacts("wav")
        self._byte_rate = 0
        self._stated = 0
        self._long_size: int | None = None
        self._data: tuple[int, int] | None = None  # where, stated length

    def step(self, window: bytes, here: int) -> None:
        if self.at == 0:
            self._stated = int.from_bytes(window[here + 4 : here + 8], "little")
            self.at, self.need = 12, 8
            return
        name, length = window[here : here + 4], int.from_bytes(window[here + 4 : here + 8], "little")
        if name in (b"fmt ", b"ds64") and self.need == 8:
            self.need = 8 + min(length, 40)
            if self.need > 8:
                return
        body, self.need = window[here + 8 : here + 48], 8
        if name == b"fmt " and length >= 16:
            self._format(body[:length])
        elif name == b"ds64" and length >= 16:
            self._long_size = int.from_bytes(body[8:16], "little")
        elif name == b"data":
            if length == 0xFFFFFFFF and self._long_size is not None:
                length = self._long_size
            self._data, self.at = (self.at + 8, length), DONE
            return
        self.at += 8 + length + (length & 1)

    def _format(self, body: bytes) -> None:
        tag, channels, rate, byte_rate, block, bits = struct.unpack_from("<HHIIHH", body)
        if tag == 0xFFFE and len(body) >= 26:
            tag = int.from_bytes(body[24:26], "little")
        codec = _WAVE_CODECS.get(tag, f"wave_{tag:#06x}").format(bits)
        self._media = MediaFacts("wav", "pcm_u8" if codec == "pcm_s8le" else codec, rate, channels)
        self._byte_rate = rate * block if tag in (1, 3, 6, 7) else byte_rate

    def shape(self, size: int) -> Shape:
        if self._data is None:
            return Shape(replace(self._media, duration=timedelta(0)), whole=False)
        start, stated = self._data
        came = size - start
        unset = stated == 0 and self._stated + 8 != size
        streamed = unset or (stated >= _STREAMED and stated > came and self._long_size is None)
        length = came if streamed else min(stated, came)
        whole = None if streamed else stated <= came
        return Shape(replace(self._media, duration=lasting(length, self._byte_rate)), whole=whole)


_AU_CODECS = {1: ("pcm_mulaw", 1), 2: ("pcm_s8", 1), 3: ("pcm_s16be", 2), 6: ("pcm_f32be", 4), 27: ("pcm_alaw", 1)}


class Au:
    """Sun/NeXT audio: one header of 24 bytes."""

    def __init__(self) -> None:
        self.at, self.need = 0, 24
        self._fields = (24, 0, 0, 0, 0)

    def step(self, window: bytes, here: int) -> None:
        self._fields = struct.unpack_from(">5I", window, here + 4)
        self.at = DONE

    def shape(self, size: int) -> Shape:
        start, stated, encoding, rate, channels = self._fields
        codec, width = _AU_CODECS.get(encoding, (f"au_{encoding}", 0))
        came = max(size - start, 0)
        streamed = stated == 0xFFFFFFFF
        duration = lasting(came if streamed else min(stated, came), rate * channels * width)
        return Shape(MediaFacts("au", codec, rate, channels, duration), whole=None if streamed else stated <= came)


class Flac:
    """FLAC: STREAMINFO is always first (RFC 9639 §8.2). Frames carry no length, so a cut is not seen."""

    def __init__(self) -> None:
        self.at, self.need = 0, 42
        self._media = MediaFacts(container=None)

    def step(self, window: bytes, here: int) -> None:
        self.at = DONE
        packed = int.from_bytes(window[here + 18 : here + 26])
        rate, channels, samples = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
        if window[here + 4] & 127 == 0 and rate:
            self._media = MediaFacts("flac", "flac", rate, channels, seconds(samples, rate) if samples else None)

    def shape(self, size: int) -> Shape:  # noqa: ARG002 - the port's signature
        return Shape(self._media, whole=None)


class Ogg:
    """Ogg pages (RFC 3533) of the first logical stream; the last granule position is the length (RFC 7845 for Opus)."""

    def __init__(self) -> None:
        self.at, self.need = 0, 27
        self._serial = b""
        self._media = MediaFacts("ogg")
        self._clock = 0  # granules a second
        self._skip = 0
        self._granule = 0
        self._ended = False

    def step(self, window: bytes, here: int) -> None:
        if window[here : here + 5] != b"OggS\0":
            self.at = DONE
            return
        table = 27 + window[here + 26]
        wanted = table + (0 if self._serial else 20)
        if self.need < wanted:
            self.need = wanted
            return
        self.need = 27
        serial = window[here + 14 : here + 18]
        if not self._serial:
            self._serial = serial
            self._codec(window[here + table : here + table + 20])
        if serial == self._serial:
            granule = int.from_bytes(window[here + 6 : here + 14], "little", signed=True)
            self._granule = max(self._granule, granule)
            self._ended = bool(window[here + 5] & 4)
        self.at += table + sum(window[here + 27 : here + table])

    def _codec(self, start: bytes) -> None:
        if start[:8] == b"OpusHead":
            self._clock, self._skip = 48000, int.from_bytes(start[10:12], "little")
            self._media = MediaFacts("ogg", "opus", 48000, start[9])
        elif start[:7] == b"\x01vorbis":
            self._clock = int.from_bytes(start[12:16], "little")
            self._media = MediaFacts("ogg", "vorbis", self._clock, start[11])
        else:
            self._media = MediaFacts("ogg", "speex" if start[:8] == b"Speex   " else None)

    def shape(self, size: int) -> Shape:
        duration = seconds(max(self._granule - self._skip, 0), self._clock)
        whole = False if DONE > self.at > size else True if self.at == size and self._ended else None
        return Shape(replace(self._media, duration=duration), whole=whole)


class Mp4:
    """ISO base media boxes (ISO/IEC 14496-12): `mvhd` tells the time, `stsd` the codec, the last box the end."""

    def __init__(self) -> None:
        self.at, self.need = 0, 8
        self._media = MediaFacts("mp4")
        self._promised = 0  # where the boxes that were looked into end
        self._has_data = False

    def step(self, window: bytes, here: int) -> None:
        length, name = int.from_bytes(window[here : here + 4]), window[here + 4 : here + 8]
        wanted = 16 if length == 1 else {b"mvhd": 40, b"stsd": 52}.get(name, 8)
        if self.need < wanted:
            self.need = wanted
            return
        self.need = 8
        if length == 1:
            length = int.from_bytes(window[here + 8 : here + 16])
        if length < 8 or not name.isascii():
            self.at = DONE  # 0 means "to the end of the body", and the rest is damage
        elif name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            self._promised = max(self._promised, self.at + length)
            self.at += 8  # a box of boxes: look inside
        else:
            if name == b"mvhd":
                self._movie(window[here + 8 : here + 40])
            elif name == b"stsd":
                self._sample(window[here + 16 : here + 52])
            self._has_data = self._has_data or name == b"mdat"
            self.at += length

    def _movie(self, body: bytes) -> None:
        scale, length = struct.unpack_from(">IQ", body, 20) if body[0] == 1 else struct.unpack_from(">II", body, 12)
        self._media = replace(self._media, duration=seconds(length, scale))

    def _sample(self, entry: bytes) -> None:
        codec = {b"mp4a": "aac", b"Opus": "opus", b"alac": "alac", b"samr": "amr"}.get(entry[4:8])
        channels, rate = int.from_bytes(entry[24:26]), int.from_bytes(entry[32:34])
        self._media = replace(self._media, codec=codec, channels=channels, sample_rate=rate)

    def shape(self, size: int) -> Shape:
        if self.at == DONE:
            return Shape(self._media, whole=None)
        if max(self.at, self._promised) > size or self._media.duration is None or not self._has_data:
            return Shape(self._media, whole=False)
        return Shape(self._media, whole=True if self.at == size else None)
