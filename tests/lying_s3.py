"""A real S3 server behind a proxy that lies: the bucket that takes the lock header and drops it, the answer that never comes.

SigV4 signs the host, so the proxy signs each request anew for the server behind it. A fault is a function over one call and
the way on; it may change the request, the answer, both, or cut the connection by returning None.
"""

from __future__ import annotations

import http.client
import http.server
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from archiver.recording import Secret

_HOP = {"host", "authorization", "x-amz-date", "connection", "expect", "content-length", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Call:
    """One request, before it is signed for the server behind."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def operation(self) -> str:
        """The S3 operation's name, as far as the faults tell them apart."""
        query = self.query
        parts = self.path.strip("/").count("/")
        if parts == 0:
            return "ListObjectVersions" if "versions" in query else f"{self.method} bucket"
        for word, names in _SUBRESOURCES.items():
            if word in query:
                return names.get(self.method, "")
        return {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[self.method]

    def without(self, *prefixes: str) -> Call:
        kept = {name: value for name, value in self.headers.items() if not name.lower().startswith(prefixes)}
        return replace(self, headers=kept)

    def with_headers(self, headers: dict[str, str]) -> Call:
        return replace(self.without(*(name.lower() for name in headers)), headers=self.headers | headers)


_SUBRESOURCES = {
    "retention": {"PUT": "PutObjectRetention"},
    "legal-hold": {"PUT": "PutObjectLegalHold"},
    "uploads": {"POST": "CreateMultipartUpload"},
    "uploadId": {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"},
}
UPLOADS = {"PutObject", "CreateMultipartUpload"}
_LOCK = "x-amz-object-lock"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    promised: int | None = None

    def without(self, *names: str) -> Answer:
        return replace(self, headers={k: v for k, v in self.headers.items() if k.lower() not in names})


Onward = Callable[[Call], Answer | None]
Fault = Callable[[Call, Onward], Answer | None]


@dataclass
class LyingS3:
    """The proxy. `faults` apply from the first to the last, outermost first; `calls` lists the operations seen."""

    backend: str
    access_key: Secret
    secret_key: Secret
    faults: list[Fault] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def lie(self, *faults: Fault) -> None:
        self.faults.extend(faults)

    def answer(self, call: Call) -> Answer | None:
        self.calls.append(call.operation)
        self.headers.append(call.headers)
        onward: Onward = self.forward
        for fault in reversed(self.faults):
            onward = _bound(fault, onward)
        return onward(call)

    def forward(self, call: Call) -> Answer:
        """Sign the call for the server behind, send it, read the whole answer."""
        request = AWSRequest(method=call.method, url=self.backend + call.target, headers=call.headers, data=call.body)
        keys = Credentials(self.access_key.reveal(), self.secret_key.reveal())
        S3SigV4Auth(keys, "s3", "us-east-1").add_auth(request)
        connection = http.client.HTTPConnection(urlsplit(self.backend).netloc, timeout=60)
        try:
            connection.request(call.method, call.target, call.body, dict(request.headers.items()))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()


def _bound(fault: Fault, onward: Onward) -> Onward:
    return lambda call: fault(call, onward)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    proxy: LyingS3

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        answer = self.server.proxy.answer(Call(self.command, self.path, headers, body))
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        length: int | None = len(answer.body) if answer.promised is None else answer.promised
        if self.command == "HEAD":
            length = None
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() == "content-length" and self.command == "HEAD":
                length = int(value)
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.close_connection = answer.promised is not None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Quiet."""


# --- faults ---------------------------------------------------------------------------------------------------


def _limited(fault: Fault, operations: set[str], times: int | None) -> Fault:
    left = [times]

    def limited(call: Call, onward: Onward) -> Answer | None:
        if call.operation not in operations or left[0] == 0:
            return onward(call)
        if left[0] is not None:
            left[0] -= 1
        return fault(call, onward)

    return limited


def refuse(operation: str, status: int, code: str, times: int | None = None) -> Fault:
    """Answer with an error, and do nothing."""
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return _limited(lambda *_: Answer(status, {"Content-Type": "application/xml"}, body), {operation}, times)


def lose_request(operation: str, times: int | None = 1) -> Fault:
    """Cut the connection before anything is done."""
    return _limited(lambda *_: None, {operation}, times)


def lose_answer(operation: str, times: int | None = 1) -> Fault:
    """Do it, and cut the connection instead of answering."""

    def lost(call: Call, onward: Onward) -> Answer | None:
        onward(call)

    return _limited(lost, {operation}, times)


def drop_lock(*operations: str) -> Fault:
    """Take the lock headers of an upload and forget them."""
    return _limited(lambda call, onward: onward(call.without(_LOCK)), set(operations) or UPLOADS, None)


def ignore_retention() -> Fault:
    """Say yes to PutObjectRetention and do nothing."""
    return ignore("PutObjectRetention")


def pretend_lock() -> Fault:
    """Drop every lock, and show on HEAD what was asked for: only a deletion finds out."""
    asked: dict[str, dict[str, str]] = {}

    def pretend(call: Call, onward: Onward) -> Answer | None:
        if call.operation in UPLOADS:
            locks = {name: value for name, value in call.headers.items() if name.lower().startswith(_LOCK)}
            asked.setdefault(call.path, locks)
            return onward(call.without(_LOCK))
        if call.operation == "PutObjectRetention":
            return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        answer = onward(call)
        if call.operation == "HeadObject" and answer is not None and answer.status == 200:
            return replace(answer, headers=answer.headers | asked.get(call.path, {}))
        return answer

    return pretend


def governance_instead() -> Fault:
    """Lock in governance mode whatever was asked."""

    def weaken(call: Call, onward: Onward) -> Answer | None:
        locked = any(name.lower().startswith(_LOCK) for name in call.headers)
        return onward(call.with_headers({f"{_LOCK}-mode": "GOVERNANCE"}) if locked else call)

    return _limited(weaken, UPLOADS, None)


def shorter_retention(by: timedelta) -> Fault:
    """Keep a date that is earlier than asked, and do not move it afterwards."""

    def shorten(call: Call, onward: Onward) -> Answer | None:
        name = f"{_LOCK}-retain-until-date"
        lowered = {header.lower(): value for header, value in call.headers.items()}
        if name not in lowered:
            return onward(call)
        date = datetime.fromisoformat(lowered[name]) - by
        return onward(call.with_headers({name: date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}))

    return _limited(shorten, UPLOADS, None)


def refuse_large(limit: int) -> Fault:
    """413 to bodies beyond a limit, as a proxy before the storage does."""

    def refuse_it(call: Call, onward: Onward) -> Answer | None:
        return Answer(413, {}, b"<html>too large</html>") if len(call.body) > limit else onward(call)

    return refuse_it


def finish_late(operation: str, may: threading.Event, done: threading.Event) -> Fault:
    """Answer nothing, and do it only when it `may`; `done` tells when it was."""

    def late(call: Call, onward: Onward) -> Answer | None:
        def finish() -> None:
            may.wait(60)
            onward(call)
            done.set()

        threading.Thread(target=finish, daemon=True).start()
        return None

    return _limited(late, {operation}, 1)


def no_version_id(*operations: str) -> Fault:
    """Leave the version id out of the answer."""

    def strip(call: Call, onward: Onward) -> Answer | None:
        answer = onward(call)
        if answer is None:
            return None
        body = re.sub(rb"<VersionId>[^<]*</VersionId>", b"", answer.body)
        return replace(answer.without("x-amz-version-id"), body=body)

    return _limited(strip, set(operations) or {"PutObject", "CompleteMultipartUpload"}, None)


def accept_then_delete() -> Fault:
    """Store without a lock, answer that all is well, and delete."""

    def vanish(call: Call, onward: Onward) -> Answer | None:
        answer = onward(call.without(_LOCK))
        if answer is not None and answer.status == 200:
            version = answer.headers.get("x-amz-version-id") or answer.headers.get("X-Amz-Version-Id")
            onward(Call("DELETE", f"{call.path}?versionId={version}", {}, b""))
        return answer

    return _limited(vanish, {"PutObject"}, None)


def ignore_checksums() -> Fault:
    """Take any bytes for any checksum, and keep none."""

    def ignore(call: Call, onward: Onward) -> Answer | None:
        return onward(call.without("x-amz-checksum", "content-md5", "x-amz-sdk-checksum"))

    return _limited(ignore, {*UPLOADS, "UploadPart"}, None)


def parrot_checksums() -> Fault:
    """Take any bytes for any checksum, and show on HEAD the one that was sent (as Dell ECS did)."""
    sent: dict[str, str] = {}

    def parrot(call: Call, onward: Onward) -> Answer | None:
        if call.operation == "PutObject":
            lowered = {name.lower(): value for name, value in call.headers.items()}
            sent.setdefault(call.path, lowered.get("x-amz-checksum-sha256", ""))
            return onward(call.without("x-amz-checksum", "content-md5"))
        answer = onward(call)
        if call.operation == "HeadObject" and answer is not None and sent.get(call.path):
            return replace(answer, headers=answer.headers | {"x-amz-checksum-sha256": sent[call.path]})
        return answer

    return parrot


def damage_upload(operation: str = "PutObject") -> Fault:
    """Change a byte on the way in, out of sight of any checksum."""

    def damage(call: Call, onward: Onward) -> Answer | None:
        return onward(replace(call, body=_flipped(call.body)).without("x-amz-checksum", "content-md5"))

    return _limited(damage, {operation}, None)


def cut_upload() -> Fault:
    """Keep all but the last byte, out of sight of any checksum."""

    def cut(call: Call, onward: Onward) -> Answer | None:
        return onward(replace(call, body=call.body[:-1]).without("x-amz-checksum", "content-md5"))

    return _limited(cut, {"PutObject"}, None)


def flip_on_wire(operation: str = "PutObject", times: int | None = None) -> Fault:
    """Change a byte on the way in and leave the checksum: an honest server refuses it."""
    return _limited(lambda call, onward: onward(replace(call, body=_flipped(call.body))), {operation}, times)


def flip_on_read() -> Fault:
    """Change a byte of what is read."""

    def flip(call: Call, onward: Onward) -> Answer | None:
        answer = onward(call)
        return replace(answer, body=_flipped(answer.body)) if answer and answer.status == 200 else answer

    return _limited(flip, {"GetObject"}, None)


def cut_on_read(after: int) -> Fault:
    """End the connection in the midst of a body."""

    def cut(call: Call, onward: Onward) -> Answer | None:
        answer = onward(call)
        if answer is None or answer.status != 200:
            return answer
        return replace(answer, body=answer.body[:after], promised=len(answer.body))

    return _limited(cut, {"GetObject"}, None)


def ignore_conditions() -> Fault:
    """Take If-None-Match and store all the same."""
    return lambda call, onward: onward(call.without("if-none-match"))


def refuse_conditions() -> Fault:
    """501 to If-None-Match, as Backblaze B2 and Swift do."""

    def refuse_it(call: Call, onward: Onward) -> Answer | None:
        if any(name.lower() == "if-none-match" for name in call.headers):
            return Answer(501, {}, b"<Error><Code>NotImplemented</Code></Error>")
        return onward(call)

    return refuse_it


def refuse_unsigned_payload() -> Fault:
    """Insist on a signature over the body."""

    def refuse_it(call: Call, onward: Onward) -> Answer | None:
        lowered = {name.lower(): value for name, value in call.headers.items()}
        if lowered.get("x-amz-content-sha256") == "UNSIGNED-PAYLOAD" and call.body:
            return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        return onward(call)

    return refuse_it


def shift_clock(by: timedelta) -> Fault:
    """Tell another time than it is."""

    def shift(call: Call, onward: Onward) -> Answer | None:
        answer = onward(call)
        date = format_datetime(datetime.now(UTC) + by, usegmt=True)
        return (
            replace(answer.without("date"), headers=answer.without("date").headers | {"Date": date}) if answer else None
        )

    return shift


def destroy_on_overwrite() -> Fault:
    """Say that versioning is on, and keep no old version of what is overwritten without a lock."""

    def destroy(call: Call, onward: Onward) -> Answer | None:
        query = urlsplit(call.target).query
        if call.operation in {"GetObject", "HeadObject"} and "versionId" in query:
            return onward(replace(call, target=call.path))
        return onward(call)

    return destroy


def _flipped(body: bytes) -> bytes:
    return bytes([body[0] ^ 1]) + body[1:] if body else body


def fail_after(operation: str, status: int) -> Fault:
    """Do it, and answer once with an error."""
    body = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>no</Message></Error>'

    def fail(call: Call, onward: Onward) -> Answer | None:
        onward(call)
        return Answer(status, {"Content-Type": "application/xml"}, body)

    return _limited(fail, {operation}, 1)


def ignore(operation: str) -> Fault:
    """Say yes and do nothing."""
    return _limited(lambda *_: Answer(200, {}, b""), {operation}, None)


def refuse_checksum_mode() -> Fault:
    """400 to x-amz-checksum-mode, as Backblaze B2 does."""

    def refuse_it(call: Call, onward: Onward) -> Answer | None:
        if any(name.lower() == "x-amz-checksum-mode" for name in call.headers):
            return Answer(400, {}, b"")
        return onward(call)

    return _limited(refuse_it, {"HeadObject"}, None)


def drop_encryption() -> Fault:
    """Take the SSE headers of an upload and forget them, as the Ceph gateway does."""
    return _limited(lambda call, onward: onward(call.without("x-amz-server-side")), UPLOADS, None)
