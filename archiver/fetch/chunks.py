"""Reads other containers made of a header and then the sound: AU, AIFF, CAF, VOC, ASF, SPHERE. Pure."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

from archiver.fetch.walk import DONE, Shape, lasting, seconds
from archiver.recording import MediaFacts

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


class Aiff:
    """AIFF and AIFF-C: `COMM` states the duration, `SSND` holds the sound; chunks as in RIFF, but big-endian."""

    def __init__(self) -> None:
        self.at, self.need = 12, 8
        self._media = MediaFacts(container=None)
        self._frames = 0
        self._data: tuple[int, int] | None = None  # position, stated length

    def step(self, window: bytes, here: int) -> None:
        name, length = window[here : here + 4], int.from_bytes(window[here + 4 : here + 8])
        if name == b"COMM" and self.need == 8 and length >= 18:
            self.need = 8 + min(length, 22)
            return
        if name == b"COMM" and length >= 18:
            self._common(window[here + 8 : here + self.need])
        elif name == b"SSND":
            self._data = (self.at + 8, length)
        self.need = 8
        self.at += 8 + length + (length & 1)

    def _common(self, body: bytes) -> None:
        channels, self._frames, bits, exponent, mantissa = struct.unpack_from(">HIHHQ", body)
        rate = round(mantissa * 2.0 ** ((exponent & 0x7FFF) - 16446)) if 0x3FFF <= exponent <= 0x4020 else 0
        kind = body[18:22].decode("latin-1").strip().lower()
        codec = {"": f"pcm_s{bits}be", "none": f"pcm_s{bits}be", "sowt": f"pcm_s{bits}le", "ulaw": "pcm_mulaw"}.get(
            kind, {"alaw": "pcm_alaw"}.get(kind, kind)
        )
        self._media = MediaFacts("aiff", codec, rate, channels)

    def shape(self, size: int) -> Shape:
        if self._data is None:
            return Shape(self._media, whole=False)
        start, stated = self._data
        came = min(size - start, stated)
        frames = self._frames * came // stated if stated else 0
        duration = seconds(frames, self._media.sample_rate or 0)
        return Shape(replace(self._media, duration=duration), whole=came == stated)


class Caf:
    """Apple's Core Audio Format: `desc` states the rate and the packets, `pakt` the length where packets differ."""

    def __init__(self) -> None:
        self.at, self.need = 8, 12
        self._media = MediaFacts("caf")
        self._packet = (0, 0)  # bytes and frames of a packet; 0: packets differ
        self._frames = 0
        self._data: tuple[int, int] | None = None  # position, stated length; -1: to the end

    def step(self, window: bytes, here: int) -> None:
        name, length = window[here : here + 4], int.from_bytes(window[here + 4 : here + 12], signed=True)
        wanted = {b"desc": 44, b"pakt": 36}.get(name, 12)
        if self.need < wanted:
            self.need = wanted
            return
        self.need = 12
        if name == b"desc":
            rate, kind, _, size, frames, channels, bits = struct.unpack_from(">d4s5I", window, here + 12)
            codec = kind.decode("latin-1").strip().lower()
            codec = {"lpcm": f"pcm_{bits}", "ulaw": "pcm_mulaw", "alaw": "pcm_alaw"}.get(codec, codec)
            self._media = MediaFacts("caf", codec, round(rate) if 0 < rate < 1e6 else 0, channels)
            self._packet = (size, frames)
        elif name == b"pakt":
            self._frames = int.from_bytes(window[here + 20 : here + 28])
        elif name == b"data":
            self._data = (self.at + 16, length - 4 if length >= 0 else -1)  # an edit count comes first
        if length < 0 or not name.isascii():
            self.at = DONE
        else:
            self.at += 12 + length

    def shape(self, size: int) -> Shape:
        if self._data is None:
            return Shape(self._media, whole=False)
        start, stated = self._data
        streamed = stated < 0
        came = max(size - start if streamed else min(size - start, stated), 0)
        length, frames = self._packet
        if length and frames:
            duration = seconds(came // length * frames, self._media.sample_rate or 0)
        elif self._frames and came == stated:
            duration = seconds(self._frames, self._media.sample_rate or 0)
        else:
            duration = None
        cut = came < stated or (self.at != DONE and self.at > size)
        return Shape(replace(self._media, duration=duration), whole=False if cut else None if streamed else True)


class Voc:
    """Creative Voice: blocks of sound, the last followed by a zero."""

    def __init__(self) -> None:
        self.at, self.need = 26, 1
        self._media = MediaFacts("voc")
        self._rate = 0
        self._width = 1
        self._time = 0.0
        self._blocks: list[tuple[int, int, float]] = []  # end of the block, its length, bytes a second

    def step(self, window: bytes, here: int) -> None:
        kind = window[here]
        if kind == 0:
            self.at, self.need = DONE, 1
            return
        if self.need == 1:
            self.need = 16 if kind == 9 else 6 if kind == 1 else 4
            return
        length = int.from_bytes(window[here + 1 : here + 4], "little")
        head = 0
        if kind == 1:
            self._rate, self._width, head = 1_000_000 // (256 - window[here + 4]), 1, 2
            self._media = MediaFacts("voc", "pcm_u8", self._rate, 1)
        elif kind == 9:
            rate, bits, channels, codec = struct.unpack_from("<IBBH", window, here + 4)
            name = {0: "pcm_u8", 4: "pcm_s16le", 6: "pcm_alaw", 7: "pcm_mulaw"}.get(codec, f"voc_{codec}")
            self._rate, self._width, head = rate, max(channels * bits // 8, 1), 12
            self._media = MediaFacts("voc", name, rate, channels)
        self.at += 4 + length
        self.need = 1
        if kind in (1, 2, 9) and len(self._blocks) < 10_000:
            self._blocks.append((self.at, max(length - head, 0), self._rate * self._width))

    def shape(self, size: int) -> Shape:
        if not self._blocks:
            return Shape(MediaFacts(container=None), whole=None)
        spent = sum(max(length - max(end - size, 0), 0) / rate for end, length, rate in self._blocks if rate)
        whole = True if self.at == DONE else self.at <= size
        return Shape(replace(self._media, duration=seconds(round(spent * 1000), 1000)), whole=whole)


_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


class Asf:
    """ASF, the container of WMA: objects named by GUIDs. The file properties state duration and size, unless it was
    streamed."""

    def __init__(self) -> None:
        self.at, self.need = 0, 30
        self._media = MediaFacts("asf")
        self._promised = 0
        self._live = True
        self._end = 0  # end of the header object
        self._has_data = False

    def step(self, window: bytes, here: int) -> None:
        name, length = window[here : here + 16], int.from_bytes(window[here + 16 : here + 24], "little")
        if name == ASF:
            self._end, self.at, self.need = self.at + length, self.at + 30, 24
            return
        if name == _ASF_FILE and self.need == 24:
            self.need = 104
            return
        if name == _ASF_FILE:
            size, ticks, preroll, flags = struct.unpack_from("<16xQ8x8xQ8xQI", window, here + 24)
            self._live = bool(flags & 1)
            if not self._live:
                length_ms = ticks // 10_000 - preroll
                self._promised = size
                self._media = replace(self._media, duration=seconds(max(length_ms, 0), 1000))
        elif name == _ASF_DATA:
            self._has_data = True
        self.need = 24
        self.at = DONE if length < 24 or (name == _ASF_DATA and self._live) else self.at + length

    def shape(self, size: int) -> Shape:
        if not self._has_data:
            return Shape(self._media, whole=False)
        cut = self._promised > size or (self.at != DONE and self.at > size)
        return Shape(self._media, whole=False if cut else None if self._live else True)


_SPHERE = re.compile(rb"(sample_count|sample_rate|channel_count|sample_n_bytes) -i (\d{1,10})")
_SPHERE_CODEC = re.compile(rb"sample_coding -s\d+ ([a-z-]{1,20})")


class Sphere:
    """NIST SPHERE, which speech tools write: a text header that states its own length."""

    def __init__(self) -> None:
        self.at, self.need = 0, 400
        self._media = MediaFacts("sphere")
        self._numbers: dict[bytes, int] = {}
        self._start = 1024

    def step(self, window: bytes, here: int) -> None:
        self.at = DONE
        head = window[here : here + 1024]
        self._start = int(head[8:16].strip() or b"1024") if head[8:16].strip().isdigit() else 1024
        self._numbers = {name: int(value) for name, value in _SPHERE.findall(head)}
        coding = _SPHERE_CODEC.search(head)
        self._media = MediaFacts(
            "sphere",
            coding[1].decode() if coding else "pcm",
            self._numbers.get(b"sample_rate"),
            self._numbers.get(b"channel_count", 1),
        )

    def shape(self, size: int) -> Shape:
        count, rate = self._numbers.get(b"sample_count", 0), self._numbers.get(b"sample_rate", 0)
        width = self._numbers.get(b"sample_n_bytes", 1) * self._numbers.get(b"channel_count", 1)
        came = max(size - self._start, 0)
        lasts = seconds(min(count, came // max(width, 1)), rate) if count else lasting(came, rate * width)
        return Shape(replace(self._media, duration=lasts), whole=count * width <= came if count else None)
