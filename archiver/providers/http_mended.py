"""Mends answers whose head breaks the rules of HTTP, so that the library reads them as curl, requests and browsers do.

Only a second try comes here, after the strict reader has refused an answer, and it uses a connection of its own that
carries nothing else: the framing of such a body can decide over that body alone, never over the next one (no
smuggling). Everything but the head (addresses, TLS, time, size, redirects, the body itself) stays with the same library
and the same guards.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from archiver.providers.http_answer import MAX_HEAD, STATED_LENGTH

_END = re.compile(rb"\r?\n\r?\n|\r\r")
_LINE = re.compile(r"\r\n|\n|\r")
_STATUS = re.compile(r"\s*(?:HTTP/?\s*(\d)(?:\.\d)?|ICY)\s+(\d{3})(?!\d)(.*)", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_INTERIM = re.compile(rb"HTTP/1\.1 1(?!01)\d\d ")
_STATED = re.compile(rb"^%s: (\d+)\r$" % STATED_LENGTH.encode(), re.MULTILINE)
_MAX_BODY = 2**62


def head_ends(received: bytes) -> int:
    """Return the place where the body begins; -1 while the head is not complete. Any pair of line ends is an empty
    line."""
    start = len(received) - len(received.lstrip(b"\r\n"))
    found = _END.search(received, start)
    return -1 if found is None else found.end()


def mended(head: bytes, *, to_the_end: bool = False) -> bytes:
    """Return the head as RFC 9112 wants it. A head without any status line is returned as it came, for the strict
    reader to refuse.

    A line that is no header field is left out. Beside "chunked" a length does not count; one length stated twice is one
    length; several lengths, or a text that is no number, count as none, and the body ends with the connection.
    `to_the_end`: no length is believed, and all bytes until the connection ends are the body; the stated length is
    passed on under another name.
    """
    first, *lines = _LINE.split(head.decode("latin-1").lstrip("\r\n"))
    status = _STATUS.fullmatch(first)
    if status is None:
        return head
    fields = _fields(lines)
    codings = [
        each.strip().lower() for name, value in fields if name == "transfer-encoding" for each in value.split(",")
    ]
    chunked = "chunked" in codings and set(codings) <= {"chunked", "identity", ""}
    lengths = {each.strip() for name, value in fields if name == "content-length" for each in value.split(",")}
    length = _length(lengths)
    kept = [(name, value) for name, value in fields if name not in _FRAMING]
    if chunked or length is None:
        kept.append(("connection", "close"))
    if chunked:
        kept.append(("transfer-encoding", "chunked"))
    elif "chunked" in codings:
        kept.append(("transfer-encoding", ", ".join(each for each in codings if each)))
    elif length is not None:
        kept.append((STATED_LENGTH, str(length)) if to_the_end else ("content-length", str(length)))
    said = f"HTTP/1.1 {status[2]} {_CONTROL.sub(' ', status[3]).strip()[:200]}"
    return "\r\n".join([said, *(f"{name}: {value}" for name, value in kept), "", ""]).encode("latin-1")


_FRAMING = frozenset({"transfer-encoding", "content-length", "connection", "keep-alive", STATED_LENGTH})


def _fields(lines: list[str]) -> list[tuple[str, str]]:
    """Return names in lower case with their values; a line that begins with a space continues the value before it."""
    fields: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        name, clean = name.rstrip(" \t"), _CONTROL.sub(" ", value).strip()
        if line[:1] in (" ", "\t"):
            if fields:
                fields[-1] = (fields[-1][0], f"{fields[-1][1]} {_CONTROL.sub(' ', line).strip()}")
        elif colon and _NAME.fullmatch(name):
            fields.append((name.lower(), clean))
    return fields


def _length(stated: set[str]) -> int | None:
    if len(stated) != 1:
        return None
    (text,) = stated
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 and int(text) < _MAX_BODY else None


class _Prompt(ResponseHandler):
    """The library's protocol, which also tells the reader of a body when the body's framing breaks.

    The library's own protocol lets the reader wait for ever when that happens in a later segment than the head's.
    """

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        body, broken = self._payload, self.exception()
        if broken is not None and body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the framing is broken"))


class _Mending(_Prompt):
    """The library's protocol, which is given a mended head and then the body as it comes."""

    def __init__(self, *args: Any, to_the_end: bool, **more: Any) -> None:
        super().__init__(*args, **more)
        self._to_the_end = to_the_end
        self._head: bytes | None = b""

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            super().data_received(data)
            return
        data, self._head = self._head + data, b""
        while (end := head_ends(data)) >= 0:
            head, data = self._mended(data[:end], len(data) - end), data[end:]
            if not _INTERIM.match(head):
                self._head = None
                super().data_received(head)
                if data:
                    super().data_received(data)
                return
        if len(data) > MAX_HEAD:
            self._head = None
            super().data_received(data)  # the strict reader refused it: a line too long, or too many lines
            return
        self._head = data

    def _mended(self, head: bytes, came: int) -> bytes:
        """Let a body that is already longer than its length be read on, so that its reader can notice."""
        short = mended(head, to_the_end=True)
        stated = _STATED.search(short)
        return short if self._to_the_end or (stated and int(stated[1]) < came) else mended(head)


class Connector(aiohttp.TCPConnector):
    """Connections of one kind. A connection with `mending` carries one answer and is never used again."""

    def __init__(self, *, mending: bool, to_the_end: bool = False, **more: Any) -> None:
        super().__init__(**more)
        made: Callable[..., ResponseHandler] = _Prompt
        if mending:
            made = functools.partial(_Mending, to_the_end=to_the_end)
        self._factory = functools.partial(made, loop=self._loop)
