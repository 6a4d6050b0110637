"""Chooses the walk for a body by its first bytes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from archiver.fetch.boxes import Flv, Matroska, Mp4
from archiver.fetch.chunks import ASF, Aiff, Asf, Au, Caf, Sphere, Voc
from archiver.fetch.frames import (
    AMR_NARROW,
    AMR_WIDE,
    GSM,
    Frames,
    Measure,
    TransportStream,
    Voice,
    ac3,
    adts,
    free_format,
    loas,
)
from archiver.fetch.mpeg import Mpeg, id3_length
from archiver.fetch.pages import Flac, Ogg
from archiver.fetch.riff import Avi, Riff, Wave64
from archiver.fetch.walk import Known, Shape, Walk
from archiver.recording import MediaFacts

_ISO = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"styp"})


def choose(head: bytes) -> Walk:
    """Return the walk for a body that begins with `head`. A body that matches nothing else may still be MP3, which has
    no magic number.
    """
    for start, words, walk in _MAGIC:
        if head.startswith(start) and head[8 : 8 + len(words)] == words:
            return walk()
    if head[4:8] in _ISO:
        return Mp4()
    if head.startswith(b"riff") and head[24:28] == b"wave":
        return Wave64()
    return _frames(head)


def _frames(head: bytes) -> Walk:
    """Return the walk for a kind without a header of its own, recognised by frames that follow one another."""
    if head.startswith(b"#!AMR-WB\n"):
        return Voice("amr", 16000, AMR_WIDE, 9)
    if head.startswith(b"#!AMR\n"):
        return Voice("amr", 8000, AMR_NARROW, 6)
    if len(head) > 188 and not head[::188].strip(b"\x47"):
        return TransportStream()
    for name, codec, measure, need, least in (
        ("adts", "aac", adts, 7, 1),
        ("loas", "aac", loas, 3, 2),
        ("ac3", "ac3", ac3, 5, 2),
    ):
        if _follow(head, measure, need) >= least:
            return Frames(name, codec, measure, need)
    if len(head) > 8 * 33 and all(GSM[byte] for byte in head[::33]):
        return Voice("gsm", 8000, GSM)
    free = free_format(head)
    return Mpeg() if free is None else Frames("mp3", "mp3", free, 4)


def _follow(head: bytes, measure: Measure, need: int) -> int:
    """Count the frames that follow one another to the end of `head`; 0 when anything else stands between them."""
    at = found = 0
    while at + need <= len(head):
        frame = measure(head[at : at + need])
        if frame is None or frame.size < 1:
            return 0
        at, found = at + frame.size, found + 1
    return found


class Tagged:
    """Any other kind of body behind ID3v2 tags, which some tools put before every file."""

    def __init__(self) -> None:
        self.at, self.need = 0, 10
        self._base = 0
        self._inner: Walk | None = None

    def step(self, window: bytes, here: int) -> None:
        if self._inner is None:
            if (length := id3_length(window[here : here + 10])) is not None:
                self.at, self.need = self.at + length, 10
                return
            if self.need == 10:
                self.need = 64
                return
            self._base = self.at
            inner = choose(window[here : here + 4096])
        else:
            inner = self._inner
            inner.step(window, here)
        self._inner = inner
        self.at, self.need = self._base + inner.at, inner.need

    def shape(self, size: int) -> Shape:
        if self._inner is None:
            return Shape(MediaFacts(container=None), whole=None)
        return self._inner.shape(size - self._base)


def _ircam() -> Walk:
    return Known(MediaFacts("ircam"))


_MAGIC: Sequence[tuple[bytes, bytes, Callable[[], Walk]]] = (  # the first bytes; the bytes from the eighth on; the walk
    (b"ID3", b"", Tagged),
    (b"RIFF", b"WAVE", Riff),
    (b"RF64", b"WAVE", Riff),
    (b"RIFX", b"WAVE", partial(Riff, ">")),
    (b"RIFF", b"AVI ", Avi),
    (b"FORM", b"AIFF", Aiff),
    (b"FORM", b"AIFC", Aiff),
    (b".snd", b"", Au),
    (b"caff", b"", Caf),
    (b"fLaC", b"", Flac),
    (b"OggS", b"", Ogg),
    (b"\x1a\x45\xdf\xa3", b"", Matroska),
    (b"FLV\x01", b"", Flv),
    (b"NIST_1A\n", b"", Sphere),
    (ASF, b"", Asf),
    (b"Creative Voice File\x1a", b"", Voc),
    (b"\x64\xa3\x01\0", b"", _ircam),
    (b"\x64\xa3\x02\0", b"", _ircam),
    (b"\0\x01\xa3\x64", b"", _ircam),
    (b"\0\x02\xa3\x64", b"", _ircam),
)
