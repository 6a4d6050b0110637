"""Reads WAVE in its four containers (RIFF, RIFX, RF64, Wave64) and AVI, which is made of the same chunks. Pure."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import timedelta

from archiver.fetch.walk import DONE, Shape, lasting, seconds
from archiver.recording import MediaFacts

_CODECS = {1: "pcm_s{}le", 3: "pcm_f{}le", 6: "pcm_alaw", 7: "pcm_mulaw", 2: "adpcm_ms", 0x11: "adpcm_ima"}
_CODECS |= {0x31: "gsm_ms", 0x40: "g721", 0x45: "g726", 0x50: "mp2", 0x55: "mp3", 0x65: "g722", 0x83: "g729"}
_CODECS |= {0x28F: "g722", 0x42: "g723_1", 0xFF: "aac", 0x706D: "aac"}
_PLAIN = frozenset({1, 3, 6, 7})  # formats with a fixed count of bytes a sample
_IN_BLOCKS = frozenset({2, 0x11, 0x31})  # the format says how many samples a block holds
_G722 = frozenset({0x65, 0x28F})  # 64 kbit/s, whatever the header says
_STREAMED = 0x7FFFF000  # writers that cannot seek back leave 0, this or more (SoX, FFmpeg, FreeSWITCH)


class Riff:
    """RIFF/WAVE, RIFX and RF64: `fmt ` states the rate, `data` the length.

    Only chunks may follow the sound. Anything else there means that bytes were added or lost on the way, as in a
    text-mode transfer.
    """

    def __init__(self, order: str = "<") -> None:
        self.at, self.need = 0, 12
        self._order = order
        self._media = MediaFacts("wav")
        self._tag = 0
        self._rate = 0
        self._byte_rate = 0
        self._block = 1
        self._block_samples = 0
        self._samples = 0  # by the `fact` chunk
        self._long_size: int | None = None
        self._data: tuple[int, int] | None = None  # position, stated length
        self._torn = False

    def _number(self, field: bytes) -> int:
        return int.from_bytes(field, "little" if self._order == "<" else "big")

    def step(self, window: bytes, here: int) -> None:
        if self.at == 0:
            self.at, self.need = 12, 8
            return
        name, length = window[here : here + 4], self._number(window[here + 4 : here + 8])
        if self._data is not None:
            self._behind(name, length)
            return
        if name in (b"fmt ", b"ds64", b"fact") and self.need == 8:
            self.need = 8 + min(length, 40)
            if self.need > 8:
                return
        body, self.need = window[here + 8 : here + 48], 8
        self._chunk(name, body[:length], length)

    def _behind(self, name: bytes, length: int) -> None:
        """Look at the bytes after the sound: another chunk, padding of zeros, or a tag that a tool appended. Anything
        else is damage.
        """
        if name[:3] in (b"ID3", b"TAG"):
            self.at = DONE
        elif name == b"\0\0\0\0":
            self.at += 8
        elif name.isascii() and name.decode().isprintable():
            self.at += 8 + length + (length & 1)
        else:
            self._torn, self.at = True, DONE

    def _chunk(self, name: bytes, body: bytes, length: int) -> None:
        if name == b"fmt " and length >= 16:
            self._format(body)
        elif name == b"ds64" and length >= 16:
            self._long_size = self._number(body[8:16])
        elif name == b"fact" and length >= 4:
            self._samples = self._number(body[:4])
        elif name == b"data":
            if length == 0xFFFFFFFF and self._long_size is not None:
                length = self._long_size
            self._data = (self.at + 8, length)
        self.at += 8 + length + (length & 1)
        if self._data is not None and (length == 0 or length >= _STREAMED) and self._long_size is None:
            self.at = DONE

    def _format(self, body: bytes) -> None:
        tag, channels, rate, byte_rate, block, bits = struct.unpack_from(f"{self._order}HHIIHH", body)
        if tag in _IN_BLOCKS and len(body) >= 20:
            self._block_samples = self._number(body[18:20])
        if tag == 0xFFFE and len(body) >= 26:
            tag = self._number(body[24:26])
        codec = _CODECS.get(tag, f"wave_{tag:#06x}").format(bits)
        if self._order == ">":
            codec = codec.replace("le", "be")
        self._media = MediaFacts("wav", "pcm_u8" if codec.startswith("pcm_s8") else codec, rate, channels)
        self._tag, self._rate, self._block = tag, rate, max(block, 1)
        self._byte_rate = rate * block if tag in _PLAIN else 8000 * channels if tag in _G722 else byte_rate

    def shape(self, size: int) -> Shape:
        if self._data is None:
            return Shape(replace(self._media, duration=timedelta(0)), whole=False)
        start, stated = self._data
        came = max(size - start, 0)
        unset = stated == 0 and came > 0
        streamed = unset or (stated >= _STREAMED and stated > came and self._long_size is None)
        length = came if streamed else min(stated, came)
        whole = None if streamed else stated <= came and not self._torn and not self._left_over(size)
        if streamed and self._tag in _PLAIN and self._block <= 16 and came % self._block:
            whole = False
        return Shape(replace(self._media, duration=self._lasting(length, stated)), whole=whole)

    def _left_over(self, size: int) -> bool:
        """Say whether 2 to 7 bytes are left over, too few for a chunk. A single byte is only padding that a writer did
        not count.
        """
        return self.at != DONE and 1 < size - self.at < 8

    def _lasting(self, length: int, stated: int) -> timedelta | None:
        if length and self._block_samples:
            blocks = -(-length // self._block) if self._tag != 0x31 else length / self._block
            return seconds(round(blocks * self._block_samples), self._rate)
        if length and self._samples and stated and self._tag not in _PLAIN | _G722:
            return seconds(self._samples * length // max(stated, length), self._rate)
        return lasting(length, self._byte_rate)


class Wave64(Riff):
    """Sony's Wave64: the same chunks, named by GUIDs of 16 bytes, with lengths of 8 bytes, each at a multiple of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.need = 40

    def step(self, window: bytes, here: int) -> None:
        if self.at == 0:
            self.at, self.need = 40, 24
            return
        name, length = window[here : here + 4], self._number(window[here + 16 : here + 24]) - 24
        if length < 0:
            self.at = DONE
            return
        if name in (b"fmt ", b"fact") and self.need == 24:
            self.need = 24 + min(length, 40)
            if self.need > 24:
                return
        body, self.need, start = window[here + 24 : here + 64], 24, self.at
        self._chunk(name, body[:length], length)
        if self._data is not None:
            self._data, self.at = (start + 24, length), DONE
        else:
            self.at = start + (24 + length + 7) // 8 * 8


class Avi:
    """RIFF/AVI, in which sound without pictures comes too. The walk follows the container to its end and knows no
    duration."""

    def __init__(self) -> None:
        self.at, self.need = 12, 12
        self._has_data = False

    def step(self, window: bytes, here: int) -> None:
        name, length = window[here : here + 4], int.from_bytes(window[here + 4 : here + 8], "little")
        self._has_data = self._has_data or (name, window[here + 8 : here + 12]) == (b"LIST", b"movi")
        self.at += 8 + length + (length & 1)

    def shape(self, size: int) -> Shape:
        if not self._has_data:
            return Shape(MediaFacts(container=None), whole=None)
        return Shape(MediaFacts("avi"), whole=False if self.at > size else True if self.at == size else None)
