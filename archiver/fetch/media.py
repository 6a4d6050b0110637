"""Judges received bytes: sound, an error page, or neither. Pure: no I/O, no clock.

Doubt never discards: bytes that may be a recording are kept and flagged. Only a body that is plainly something else (a
page of HTML, XML, JSON or plain words, or nothing at all) is refused.
"""

from __future__ import annotations

import codecs
import re
import zlib
from dataclasses import dataclass, replace
from datetime import timedelta

from archiver.errors import UnacceptableMediaError
from archiver.fetch.probe import choose
from archiver.fetch.walk import Follower
from archiver.recording import Flag, MediaFacts

_MAGIC = 16  # as many bytes as identify every container
_HEAD = 4096  # as many bytes as identify a page
_TOLERANCE = timedelta(seconds=2)
_TOLERANCE_RATIO = 0.001
_UNRECORDED = timedelta(minutes=5)
"""The part of a call that may be ringing, menus and waiting before the difference is worth a second look."""

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MARKUP = re.compile(r"<(?:[a-z]|!--|!doctype|\?xml)", re.IGNORECASE)
_HTML = re.compile(r"<!doctype\s+html|<(?:html|head|body|title|script|meta|h1|div|p|center)[\s>]", re.IGNORECASE)
_JSON = re.compile(r'[\[{]\s*(?:["\[{\]}]|-?\d|true\b|false\b|null\b|\Z)')
_PAGE_TYPE = re.compile(
    r"text/html|(?:application|text)/(?:[\w.-]+\+)?(?:json|xml)|application/xhtml\+xml", re.IGNORECASE
)
_LOW = bytes(range(0x20))  # quiet sound has no other bytes
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}")


@dataclass(frozen=True, slots=True)
class Findings:
    """The verdict on a body of `size` bytes.

    `whole`: True when the container ends where the body ends; False when it promises more; None when it does not say.
    `page`: the kind of text that the body plainly is ("html", "xml", "json", "text"), None for everything else.
    """

    size: int
    media: MediaFacts
    whole: bool | None
    page: str | None


class Sniffer:
    """Looks at a body as it streams by. Keeps 4 KiB of the body, whatever its size; never raises."""

    def __init__(self) -> None:
        self._size = 0
        self._head = b""
        self._page: str | None = None
        self._walk: Follower | None = None
        self._words = _Words()

    @property
    def page(self) -> str | None:
        """The kind of page that the body plainly is, once enough has come to tell by its start alone."""
        return self._page

    def feed(self, piece: bytes) -> None:
        self._size += len(piece)
        self._words.feed(piece)
        if self._walk is not None:
            self._walk.feed(piece)
            return
        room = _HEAD - len(self._head)
        self._head += piece[:room]
        if len(self._head) == _HEAD:
            self._page = _page(self._head, ended=False)
            self._walk = self._follow()
            self._walk.feed(piece[room:])

    def _follow(self) -> Follower:
        walk = Follower(choose(self._head))
        walk.feed(self._head)
        return walk

    def findings(self) -> Findings:
        """Return the verdict on all bytes that came. No more bytes may be fed afterwards."""
        nothing = Findings(self._size, MediaFacts(container=None), None, None)
        page = self._page = self._page or (_page(self._head, ended=True) if self._size <= _HEAD else None)
        if self._walk is None and self._size >= _MAGIC:
            self._walk = self._follow()
        shape = None if self._walk is None else self._walk.shape()
        sound = shape is not None and shape.media.container is not None
        if page == "text" and sound:
            page = None  # a header of letters, then frames of silence
        if page is None and not sound and self._words.only:
            page = "text"
        if page is not None or shape is None:
            return replace(nothing, page=page)
        return Findings(self._size, shape.media, False if self._words.stripped else shape.whole, None)


class _Words:
    """Recognises a body that is text to its end, and a body that lost the eighth bit of every byte in a text-mode
    transfer."""

    def __init__(self) -> None:
        self._seven_bits = True
        self._text = codecs.getincrementaldecoder("utf-8")()
        self._readable = True
        self._size = 0
        self._letters = 0

    def feed(self, piece: bytes) -> None:
        if self._readable:
            try:
                self._readable = not _CONTROL.search(self._text.decode(piece))
            except UnicodeDecodeError:
                self._readable = False
        self._seven_bits = self._seven_bits and piece.isascii()
        if self._seven_bits:
            self._size += len(piece)
            self._letters += len(piece.translate(None, _LOW))

    @property
    def only(self) -> bool:
        """True for a body that holds only readable words."""
        return self._readable and self._letters > 0

    @property
    def stripped(self) -> bool:
        """True for a body over 1000 bytes without a byte over 127, unless mostly silence: no sound encoder writes such
        a body."""
        return self._seven_bits and self._size > 1000 and self._letters * 4 > self._size


def _page(head: bytes, *, ended: bool) -> str | None:
    """Return the kind of page that begins with `head`, if any. Plain words count as a page only when they are the whole
    body."""
    if head[:2] == b"\x1f\x8b":
        head = _unzipped(head)
    text = _decoded(head).lstrip("\ufeff \t\r\n\f\0")
    if _MARKUP.match(text):
        return "html" if _HTML.search(text) else "xml"
    if _CONTROL.search(text):
        return None
    if _JSON.match(text):
        return "json"
    return "text" if ended and head and "\ufffd" not in text else None


def _decoded(head: bytes) -> str:
    if head[:2] == b"\xff\xfe" or (head[1:2] == b"\0" and head[:1] in b"<{["):
        return head.decode("utf-16-le", errors="replace")
    if head[:2] == b"\xfe\xff" or (head[:1] == b"\0" and head[1:2] in (b"<", b"{", b"[")):
        return head.decode("utf-16-be", errors="replace")
    return head.decode(errors="replace")


def _unzipped(head: bytes) -> bytes:
    """Return the first 4 KiB behind gzip: an error page may come compressed, and a decompression bomb gets no
    further."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    except zlib.error:
        return head


def judge(
    found: Findings,
    *,
    declared: timedelta | None,
    at_most: bool = False,
    status: int,
    content_type: str | None,
    content_encoding: str | None,
    framed: bool,
    quarantine: bool = False,
) -> frozenset[Flag]:
    """Return the doubts to record on a body.

    `declared` is the listing's duration; with `at_most` it is only an upper bound (JustCall states the call's duration,
    with its ringing). `framed`: the transfer would have shown a cut.

    Raises `UnacceptableMediaError` for a body that is plainly no recording; with `quarantine`, a page is kept and
    marked instead, because at the deadline there is nothing else to keep. An empty body is never kept.
    """
    if refused := _refusal(found, content_type):
        if not (quarantine and found.size):
            kind = match[0] if (match := _MEDIA_TYPE.match(content_type or "")) else "unstated"
            raise UnacceptableMediaError(f"{refused}: status {status}, type {kind}, {found.size} bytes")
        return frozenset({Flag.QUARANTINED, Flag.NOT_AUDIO})
    flags: set[Flag] = set()
    measured = found.media.duration
    if content_encoding is not None and content_encoding.strip().lower() not in ("", "identity"):
        flags.add(Flag.CONTENT_ENCODED)
    elif found.media.container is None or measured == timedelta(0):
        flags.add(Flag.NOT_AUDIO)
    if found.whole is False:
        flags.add(Flag.TRUNCATED)
    agrees = measured is not None and declared is not None and agree(measured, declared)
    if measured is not None and declared is not None and not (agrees or (at_most and _within(measured, declared))):
        flags.add(Flag.DURATION_MISMATCH)
    if not framed and not (found.whole and agrees):
        flags.add(Flag.LENGTH_UNVERIFIED)
    return frozenset(flags)


def _refusal(found: Findings, content_type: str | None) -> str | None:
    """Return why the body is plainly no recording; None when it may be one."""
    if found.size == 0:
        return "the body is empty"
    if found.page is not None:
        return f"a page ({found.page}) came instead of audio"
    if found.media.container is None and _PAGE_TYPE.match(content_type or ""):
        return "what came is labelled as a page and is no audio"
    return None


def agree(measured: timedelta, declared: timedelta) -> bool:
    """Say whether two lengths are the same, as far as providers and encoders are exact.

    The tolerance is two seconds: the coarsest unit that a provider documents is whole seconds, and an encoder adds less
    than half a second. In addition the clocks of switch and server may drift apart, by a thousandth at worst: 3.6 s in
    an hour.
    """
    return abs(measured - declared) <= _TOLERANCE + declared * _TOLERANCE_RATIO


def _within(measured: timedelta, call: timedelta) -> bool:
    """Say whether a recording is shorter than its call, by no more than a call may go unrecorded."""
    return measured <= call <= measured + max(_UNRECORDED, call / 2)
