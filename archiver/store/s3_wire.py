"""Makes the plain calls of one bucket without the SDK: PUT, HEAD and GET over kept connections. Blocking.

The SDK spends 2 ms on each call, whatever its size. Only the plain case is done here, in a bucket whose properties were
proved (docs/adr/0012-raw-requests-beside-the-sdk.md): a request that the SDK would have made in the same words, and an
answer of 200. `call` returns None for all else, and then the SDK makes the call. A PUT is sent once: its answer, if it
is not plain, is read by the SDK, and a PUT without an answer is a failure, after which the vault looks.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from archiver.clock import Clock, SystemClock
from archiver.store.s3_answer import Unreadable, no_page
from archiver.store.s3_client import CONNECT_SECONDS, READ_SECONDS, S3Options
from archiver.store.s3_connection import Connection, Connections, EndedEarlyError
from archiver.store.s3_message import PlainHead, Request, Site, plain, request_of, signed, status_of
from archiver.store.s3_site import Keyring, Stage, find, signing_time, trust

REST_SECONDS = 60.0
"""The time for which the SDK makes a kind of call after this module came into trouble with it."""
_ASK_SECONDS = 20.0  # for an answer to a question, which the SDK then asks once more
_ODD_SECONDS = 10.0  # for the rest of an answer whose head has come
_ELSEWHERE = frozenset({301, 302, 307, 400})
_GUARDS = frozenset({"if-none-match", "x-amz-checksum-sha256"})


class Body:
    """The body of an answer to GET, read in pieces."""

    def __init__(self, connection: Connection, length: int, done: Callable[[Connection], None]) -> None:
        self._connection: Connection | None = connection
        self._left = length
        self._done = done
        self._end()

    def read(self, most: int) -> bytes:
        """Return up to `most` bytes; empty at the end. Raises `OSError`, also for a body that is shorter than
        stated."""
        if self._connection is None or not self._left:
            return b""
        wanted = min(most, self._left)
        try:
            piece = self._connection.read(wanted)
        except BaseException:
            self.close()
            raise
        if len(piece) < wanted:
            self.close()
            raise EndedEarlyError("the connection ended in the midst of the answer")
        self._left -= len(piece)
        self._end()
        return piece

    def close(self) -> None:
        """Leave the rest of the body, and the connection with it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _end(self) -> None:
        if not self._left and self._connection is not None:
            self._done(self._connection)
            self._connection = None


class Wire:
    """The plain calls of one bucket. Safe for use by several threads; says nothing until it is `trusted`."""

    def __init__(
        self,
        session: Any,
        client: Any,
        options: S3Options,
        *,
        signs: bool,
        hear: Callable[[str | None], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.trusted = False
        self._session = session
        self._stage = Stage(client)
        self._options = options
        self._signs = signs
        self._hear = hear
        self._clock = clock or SystemClock()
        self._binding = threading.Lock()
        self._bound: _Bound | None = None
        self._impossible = False
        self._rests: dict[str, float] = {}  # by operation: until when the SDK makes these calls

    def call(self, operation: str, fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Make a call, and return its answer in the SDK's fields; None when this call is the SDK's.

        Raises what the SDK raises for a refused PUT, and `OSError` or `Unreadable` for a PUT without an answer.
        """
        if not self.trusted or self._clock.monotonic() < self._rests.get(operation, 0.0):
            return None
        bound = self._bound or self._bind()
        request = None if bound is None else request_of(bound.site, operation, fields)
        if bound is None or request is None:
            return None
        if operation == "PutObject":
            return self._put(bound, request, fields)
        return self._ask(bound, request, operation)

    def close(self) -> None:
        self.trusted = False
        if self._bound is not None:
            self._bound.connections.close()

    # --- within -----------------------------------------------------------------------------------------------

    def _bind(self) -> _Bound | None:
        """Find the bucket's site, once. The thread that comes first does it; the others leave their calls to the
        SDK."""
        if self._impossible or not self._binding.acquire(blocking=False):
            return None
        try:
            if self._bound is None:
                self._bound = self._found()
                self._impossible = self._bound is None
            return self._bound
        finally:
            self._binding.release()

    def _found(self) -> _Bound | None:
        keyring = Keyring(self._session, self._options)
        keys = keyring.now()
        site = None if keys is None else find(self._stage, self._options, keys, signs=self._signs)
        if site is None:
            return None
        try:
            context = trust(self._session, self._options) if site.tls else None
        except OSError:
            return None  # the SDK says what is wrong with the certificates
        return _Bound(site, keyring, Connections(site, self._options.threads, self._clock, CONNECT_SECONDS, context))

    def _put(self, bound: _Bound, request: Request, fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
        body: IO[bytes] | bytes = fields["Body"]
        size = _size(body)
        if not request.headers.keys() >= _GUARDS or size is None or size > self._options.multipart_threshold:
            return None
        head = bound.signed(request, size)
        connection = None if head is None else self._connected(bound, "PutObject")
        if head is None or connection is None:
            return None
        with self._closed_on_failure(connection, "PutObject"):
            connection.patience(READ_SECONDS)
            try:
                connection.send(head, body, size)
            except OSError:
                odd = connection.early("PUT")
                if odd is None or odd.status < 300:
                    raise
                self._rest("PutObject")
            else:
                came = connection.head()
                found = plain(came)
                if found is not None and found.length == 0:
                    self._over(found, bound, connection)
                    return found.fields()
                connection.patience(_ODD_SECONDS)
                odd = connection.odd("PUT", came)
        connection.close()
        if odd.status in _ELSEWHERE:
            self._bound = None  # the SDK may learn of another region now
        if not isinstance(body, bytes):
            body.seek(0)
        answer: Mapping[str, Any] = self._stage.answered("PutObject", {"Bucket": self._options.bucket, **fields}, odd)
        return answer

    def _ask(self, bound: _Bound, request: Request, operation: str) -> Mapping[str, Any] | None:
        """Make a call without effects. A kept connection that turns out to be closed is replaced once."""
        for fresh in (False, True):
            head = bound.signed(request, None)
            connection = None if head is None else self._connected(bound, operation, fresh=fresh)
            if head is None or connection is None:
                return None
            try:
                with self._closed_on_failure(connection, None):
                    connection.patience(_ASK_SECONDS)
                    connection.send(head)
                    came = connection.head()
            except OSError as failed:
                if connection.used and not fresh and not isinstance(failed, TimeoutError):
                    continue
                self._rest(operation)
                return None
            found = plain(came)
            if found is None:
                connection.close()
                if status_of(came) in {0, 200}:
                    self._rest(operation)
                return None
            return self._answer(bound, connection, operation, found)
        return None

    def _answer(self, bound: _Bound, connection: Connection, operation: str, found: PlainHead) -> Mapping[str, Any]:
        with self._closed_on_failure(connection, None):
            no_page(operation, found.headers)
        if operation == "HeadObject":
            self._over(found, bound, connection)
            return found.fields()
        if self._hear is not None:
            self._hear(found.headers.get("date"))
        connection.patience(READ_SECONDS)
        done = bound.connections.give if found.kept else Connection.close
        return {**found.fields(), "Body": Body(connection, found.length, done)}

    def _over(self, found: PlainHead, bound: _Bound, connection: Connection) -> None:
        if found.kept:
            bound.connections.give(connection)
        else:
            connection.close()
        if self._hear is not None:
            self._hear(found.headers.get("date"))

    def _connected(self, bound: _Bound, operation: str, *, fresh: bool = False) -> Connection | None:
        """Return a connection; None where there is none to be had: the SDK says why."""
        try:
            return bound.connections.take(fresh=fresh)
        except OSError:
            self._rest(operation)
            return None

    @contextlib.contextmanager
    def _closed_on_failure(self, connection: Connection, operation: str | None) -> Iterator[None]:
        """Close the connection whatever fails, and leave calls of this operation to the SDK for a while."""
        try:
            yield
        except BaseException as failed:
            connection.close()
            if operation is not None:
                self._rest(operation)
            if isinstance(failed, http.client.HTTPException) and not isinstance(failed, OSError):
                raise Unreadable(f"{operation}: the answer cannot be read ({type(failed).__name__})") from failed
            raise

    def _rest(self, operation: str) -> None:
        self._rests[operation] = self._clock.monotonic() + REST_SECONDS


@dataclass(frozen=True, slots=True)
class _Bound:
    """A bucket that was found: its site, keys and connections."""

    site: Site
    keyring: Keyring
    connections: Connections

    def signed(self, request: Request, size: int | None) -> bytes | None:
        """Return the head of a request with the keys of this moment; None where there are none."""
        keys = self.keyring.now()
        return None if keys is None else signed(request, self.site, keys, signing_time(), size)


def _size(body: object) -> int | None:
    """Return the size of a body that is sent from its start; None for one that only the SDK can send."""
    if isinstance(body, bytes):
        return len(body)
    if isinstance(body, io.BytesIO):
        return body.getbuffer().nbytes if body.tell() == 0 else None
    if isinstance(body, io.BufferedReader):
        return os.fstat(body.fileno()).st_size if body.tell() == 0 else None
    return None
