"""What received bytes are: sound, an error page, or neither. Pure: no I/O, no clock.

Doubt never discards: whatever may be a recording is kept and flagged. Only what is plainly something else (a page of
HTML, XML, JSON or plain words, or nothing at all) is refused (DESIGN §3, reliability §3.2).
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

_MAGIC = 16  # bytes that tell every container
_HEAD = 4096  # bytes that tell a page
_TOLERANCE = timedelta(seconds=2)
_TOLERANCE_RATIO = 0.001
_UNRECORDED = timedelta(minutes=5)
"""How much of a call may be ringing, menus and waiting before it is worth a second look."""

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MARKUP = re.compile(r"<(?:[a-z]|!--|!doctype|\?xml)", re.IGNORECASE)
_HTML = re.compile(r"<!doctype\s+html|<(?:html|head|body|title|script|meta|h1|div|p|center)[\s>]", re.IGNORECASE)
_JSON = re.compile(r'[\[{]\s*(?:["\[{\]}]|-?\d|true\b|false\b|null\b|\Z)')
_PAGE_TYPE = re.compile(
    r"text/html|(?:application|text)/(?:[\w.-]+\+)?(?:json|xml)|application/xhtml\+xml", re.IGNORECASE
)
_LOW = bytes(range(0x20))  # quiet sound has no others
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a body of `size` bytes turned out to be.

    `whole`: True, the container ends where the body ends; False, it promises more; None, it cannot tell. `page`: the
    kind of text that it plainly is ("html", "xml", "json", "text"), None for everything else.
    """

    size: int
    media: MediaFacts
    whole: bool | None
    page: str | None


class Sniffer:
    """Looks at a body as it streams by. Keeps 4 KiB of it, whatever its size; never raises."""

    def __init__(self) -> None:
        self._size = 0
        self._head = b""
        self._page: str | None = None
        self._walk: Follower | None = None
        self._words = _Words()

    @property
    def page(self) -> str | None:
        """The kind of page that this plainly is, once enough has come to tell by the start alone."""
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
        """The verdict on everything that came. Nothing more may be fed."""
        nothing = Findings(self._size, MediaFacts(container=None), None, None)
        page = self._page = self._page or (_page(self._head, ended=True) if self._size <= _HEAD else None)
        if self._walk is None and self._size >= _MAGIC:
            self._walk = self._follow()
        shape = None if self._walk is None else self._walk.shape()
        sound = shape is not None and shape.media.container is not None
        if page == "text" and sound:
            page = None  # a head of letters, and frames of silence
        if page is None and not sound and self._words.only:
            page = "text"
        if page is not None or shape is None:
            return replace(nothing, page=page)
        return Findings(self._size, shape.media, False if self._words.stripped else shape.whole, None)


class _Words:
    """Tells a body that is text to its end, and one that lost the eighth bit of every byte, as a transfer in text mode does."""

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
        """True for a body of readable words alone."""
        return self._readable and self._letters > 0

    @property
    def stripped(self) -> bool:
        """True for a body of any length without a byte over 127, silence apart: no encoder of sound writes such a one."""
        return self._seven_bits and self._size > 1000 and self._letters * 4 > self._size


def _page(head: bytes, *, ended: bool) -> str | None:
    """The kind of page that begins so. Plain words are told from sound only when they are the whole body."""
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
    """The first 4 KiB behind gzip: an error page may come packed, and a bomb is not let off."""
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
    """The doubts to write on a body. `declared` is the listing's duration, with `at_most` an upper bound
    only (JustCall states the call's, with its ringing); `framed`: a cut would have been noticed.

    Raises `UnacceptableMediaError` for what is plainly no recording; with `quarantine`, a page is kept and marked
    instead, because at the deadline it is all that there is. Nothing at all is never kept.
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
    """Why this is plainly no recording, if it is none."""
    if found.size == 0:
        return "the body is empty"
    if found.page is not None:
        return f"a page ({found.page}) came instead of audio"
    if found.media.container is None and _PAGE_TYPE.match(content_type or ""):
        return "what came is labelled as a page and is no audio"
    return None


def agree(measured: timedelta, declared: timedelta) -> bool:
    """Whether two lengths are the same, as far as providers and encoders are exact.

    Two seconds: the coarsest that a provider documents is whole seconds, and an encoder adds less than half a one. Beside that
    the clocks of switch and server may drift apart, by a thousandth at worst: 3.6 s in an hour.
    """
    return abs(measured - declared) <= _TOLERANCE + declared * _TOLERANCE_RATIO


def _within(measured: timedelta, call: timedelta) -> bool:
    """A recording shorter than its call, by no more than a call may go unrecorded."""
    return measured <= call <= measured + max(_UNRECORDED, call / 2)
