"""Keeps connections to one storage open between requests, and moves bytes over them. Blocking.

A connection serves one request at a time. It is kept only behind an answer that was read to its end; whatever else
happened, it is closed. `Connections` may be used by several threads.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import select
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import IO

from archiver.clock import Clock
from archiver.store.s3_message import Site

LARGEST_HEAD = 64 * 1024
LARGEST_ODD_BODY = 1024 * 1024
IDLE_SECONDS = 15.0
"""The time after which an idle connection is not used again: storages close theirs after 20 s and more."""
_PIECE = 256 * 1024
_EARLY_SECONDS = 2.0
_MORE = getattr(socket, "MSG_MORE", 0)


class EndedEarlyError(ConnectionError):
    """The connection ended in the midst of an answer."""


@dataclass(frozen=True, slots=True)
class OddAnswer:
    """An answer that is whole and not plain: the SDK says what it means."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection. `used`: it has served a request before."""

    def __init__(self, sock: socket.socket) -> None:
        self.used = False
        self.idle_since = 0.0
        self._sock = sock
        self._ahead = b""  # bytes of an answer behind its head

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    def sound(self) -> bool:
        """Tell whether an idle connection is still open, with nothing unasked-for in it."""
        try:
            if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
                return False
            poll = select.poll()
            poll.register(self._sock, select.POLLIN | select.POLLHUP | select.POLLERR)
            return not poll.poll(0)
        except (OSError, ValueError):
            return False

    def patience(self, seconds: float) -> None:
        """Set how long each step may take."""
        self._sock.settimeout(seconds)

    def send(self, head: bytes, body: IO[bytes] | bytes | None = None, size: int = 0) -> None:
        """Send a request, its body from the start. Raises `OSError`, also for a body that has become shorter."""
        if not body or not size:
            self._sock.sendall(head)
            return
        plain = not isinstance(self._sock, ssl.SSLSocket)
        if plain and isinstance(body, io.BufferedReader):
            self._sock.sendall(head, _MORE)
            if self._sock.sendfile(body, 0, size) != size:
                raise EndedEarlyError("the file became shorter while it was sent")
            return
        source = io.BytesIO(body) if isinstance(body, bytes) else body
        source.seek(0)
        left = size - len(first := source.read(min(size, _PIECE)))
        self._sock.sendall(head + first)
        while left:
            piece = source.read(min(left, _PIECE))
            if not piece:
                raise EndedEarlyError("the file became shorter while it was sent")
            self._sock.sendall(piece)
            left -= len(piece)

    def head(self) -> bytes:
        """Return the head of the answer, up to its empty line, or as much as came of one that is too long.

        Raises `EndedEarlyError` when the connection ends before that.
        """
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0 and len(data) <= LARGEST_HEAD:
            more = self._sock.recv(LARGEST_HEAD)
            if not more:
                raise EndedEarlyError("closed before an answer came" if not data else "closed within an answer")
            data += more
        head, self._ahead = (data[: end + 4], data[end + 4 :]) if end >= 0 else (data, b"")
        return head

    def read(self, most: int) -> bytes:
        """Return up to `most` bytes of the answer's body, as many as there are until its end. Empty at the end."""
        if len(self._ahead) >= most:
            piece, self._ahead = self._ahead[:most], self._ahead[most:]
            return piece
        buffer = bytearray(most)
        there = len(self._ahead)
        buffer[:there], self._ahead = self._ahead, b""
        with memoryview(buffer) as view:
            while there < most and (count := self._sock.recv_into(view[there:])):
                there += count
            return bytes(view[:there])

    @property
    def ahead(self) -> bool:
        """True when bytes came that no request asked for."""
        return bool(self._ahead)

    def odd(self, method: str, head: bytes) -> OddAnswer:
        """Read an answer whose head is not plain, with the standard library's patience for spellings.

        Raises `OSError` and `http.client.HTTPException`.
        """
        source = _Again(head + self._ahead, self._sock)
        answer = http.client.HTTPResponse(source, method=method)  # type: ignore[arg-type]  # it only calls makefile
        answer.begin()
        body = answer.read(LARGEST_ODD_BODY + 1)
        if len(body) > LARGEST_ODD_BODY:
            raise http.client.HTTPException("the answer is too long")
        return OddAnswer(answer.status, {name: str(value) for name, value in answer.getheaders()}, body)

    def early(self, method: str) -> OddAnswer | None:
        """Return the answer of a server that answered and closed while the body was still on its way."""
        try:
            self.patience(_EARLY_SECONDS)
            return self.odd(method, self.head())
        except (OSError, http.client.HTTPException):
            return None


class Connections:
    """The kept connections to one storage, at most `most` of them. The newest is used first."""

    def __init__(
        self, site: Site, most: int, clock: Clock, connect_seconds: float, context: ssl.SSLContext | None
    ) -> None:
        self._site = site
        self._most = most
        self._clock = clock
        self._connect_seconds = connect_seconds
        self._context = context
        self._kept: deque[Connection] = deque()
        self._closed = False

    def take(self, *, fresh: bool = False) -> Connection:
        """Return a connection for one request. Raises `OSError`: then nothing was sent."""
        while not fresh and self._kept:
            try:
                kept = self._kept.pop()
            except IndexError:  # another thread took it
                break
            if self._clock.monotonic() - kept.idle_since < IDLE_SECONDS and kept.sound():
                return kept
            kept.close()
        return self._connect()

    def give(self, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end."""
        connection.used = True
        connection.idle_since = self._clock.monotonic()
        if self._closed or connection.ahead or len(self._kept) >= self._most:
            connection.close()
        else:
            self._kept.append(connection)

    def close(self) -> None:
        self._closed = True
        while self._kept:
            self._kept.pop().close()

    def _connect(self) -> Connection:
        sock = socket.create_connection((self._site.host, self._site.port), self._connect_seconds)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_hostname=self._site.host)
        except BaseException:
            sock.close()
            raise
        return Connection(sock)


class _Again(io.RawIOBase):
    """Bytes that were read already, and then those of the socket."""

    def __init__(self, first: bytes, sock: socket.socket) -> None:
        self._first = memoryview(first)
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the buffer of a BufferedReader
        if not self._first:
            return self._sock.recv_into(buffer)
        count = min(len(buffer), len(self._first))
        buffer[:count] = self._first[:count]
        self._first = self._first[count:]
        return count
