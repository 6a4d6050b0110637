"""An S3 server in memory, as strict as Object Lock asks, and what each vendor's one does otherwise.

It costs milliseconds where a real server costs seconds: what SeaweedFS proves to the probe, this one proves, too.
Faults are those of `tests.lying_s3`: a vendor is a handful of them. The facts are from public reports; the comments name them.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from archiver.recording import LockMode, Secret
from archiver.store.s3 import S3Options
from tests.lying_s3 import Answer, Call, Fault, LyingS3, Onward

XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass
class Kept:
    """One version, or a delete marker."""

    version: str
    body: bytes = b""
    marker: bool = False
    mode: str = ""
    until: datetime | None = None
    hold: bool = False
    checksum: str = ""
    tags: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class MemoryS3(LyingS3):
    """One bucket with versioning and Object Lock."""

    objects: dict[str, list[Kept]] = field(default_factory=dict)
    uploads: dict[str, tuple[Call, dict[int, bytes]]] = field(default_factory=dict)
    made: int = 0

    def forward(self, call: Call) -> Answer:
        answer = self._do(call)
        return replace(
            answer,
            headers={"Date": format_datetime(datetime.now(UTC), usegmt=True), "x-amz-request-id": "1"} | answer.headers,
        )

    # --- operations -------------------------------------------------------------------------------------------

    def _do(self, call: Call) -> Answer:
        bucket, _, key = unquote(call.path).strip("/").partition("/")
        query = {name: values[0] for name, values in call.query.items()}
        if bucket != "bucket":
            return refused(404, "NoSuchBucket")
        if not key:
            return self._bucket(call, query)
        if "uploads" in query or "uploadId" in query:
            return self._multipart(call, key, query)
        if "retention" in query or "legal-hold" in query:
            return self._lock(call, key, query)
        return {"PUT": self._put, "GET": self._get, "HEAD": self._get, "DELETE": self._delete}[call.method](
            call, key, query
        )

    def _bucket(self, call: Call, query: dict[str, str]) -> Answer:
        if call.method == "HEAD":
            return Answer(200, {}, b"")
        if "versioning" in query:
            return document(f"<VersioningConfiguration {XMLNS}><Status>Enabled</Status></VersioningConfiguration>")
        if "object-lock" in query:
            enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
            return document(f"<ObjectLockConfiguration {XMLNS}>{enabled}</ObjectLockConfiguration>")
        if "uploads" in query:
            shown = "".join(
                f"<Upload><Key>{escape(unquote(begun.path).strip('/').partition('/')[2])}</Key><UploadId>{name}</UploadId>"
                f"<Initiated>{iso(datetime.now(UTC))}</Initiated></Upload>"
                for name, (begun, _) in self.uploads.items()
            )
            kind = "ListMultipartUploadsResult"
            return document(f"<{kind}><IsTruncated>false</IsTruncated>{shown}</{kind}>")
        prefix, names_only = query.get("prefix", ""), "versions" not in query
        entries = []
        for key in sorted(self.objects):
            newest = True
            for kept in reversed(self.objects[key]):
                if key.startswith(prefix) and not (names_only and (kept.marker or not newest)):
                    entries.append(_entry(key, kept, newest, names_only))
                newest = False
        kind = "ListBucketResult" if names_only else "ListVersionsResult"
        return document(f"<{kind} {XMLNS}><IsTruncated>false</IsTruncated>{''.join(entries)}</{kind}>")

    def _put(self, call: Call, key: str, _: dict[str, str]) -> Answer:
        headers = lowered(call)
        if (bad := _damaged(headers, call.body)) is not None:
            return bad
        if headers.get("if-none-match") == "*" and self._current(key) is not None:
            return refused(412, "PreconditionFailed")
        return self._keep(key, headers, call.body)

    def _keep(self, key: str, headers: Mapping[str, str], body: bytes, checksum: str | None = None) -> Answer:
        if (
            "x-amz-object-lock-mode" in headers
            and not any(name == "content-md5" or name.startswith("x-amz-checksum-") for name in headers)
            and checksum is None
        ):
            return refused(400, "InvalidRequest")
        kept = Kept(
            self._version(),
            body,
            mode=headers.get("x-amz-object-lock-mode", ""),
            until=_time(headers.get("x-amz-object-lock-retain-until-date")),
            hold=headers.get("x-amz-object-lock-legal-hold") == "ON",
            checksum=headers.get("x-amz-checksum-sha256", "") if checksum is None else checksum,
            tags=headers.get("x-amz-tagging", ""),
        )
        self.objects.setdefault(key, []).append(kept)
        return Answer(200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"', "x-amz-version-id": kept.version}, b"")

    def _get(self, call: Call, key: str, query: dict[str, str]) -> Answer:
        kept, headers = self._find(key, query), lowered(call)
        if kept is None or kept.marker:
            return refused(404, "NoSuchKey")
        shown = {
            "Content-Type": "application/octet-stream", "Content-Length": str(len(kept.body)), "x-amz-version-id": kept.version,
            "ETag": '"x"', "Last-Modified": format_datetime(kept.at, usegmt=True),
        }  # fmt: skip
        if kept.mode and kept.until:
            shown |= {"x-amz-object-lock-mode": kept.mode, "x-amz-object-lock-retain-until-date": iso(kept.until)}
        if kept.hold:
            shown["x-amz-object-lock-legal-hold"] = "ON"
        if kept.checksum and headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            shown["x-amz-checksum-sha256"] = kept.checksum
        if headers.get("range") == "bytes=0-0" and kept.body:
            return Answer(206, shown | {"Content-Range": f"bytes 0-0/{len(kept.body)}"}, kept.body[:1])
        return Answer(200, shown, b"" if call.method == "HEAD" else kept.body)

    def _delete(self, call: Call, key: str, query: dict[str, str]) -> Answer:
        if "versionId" not in query:
            self.objects.setdefault(key, []).append(Kept(self._version(), marker=True))
            return Answer(204, {}, b"")
        kept = self._find(key, query)
        if kept is None:
            return Answer(204, {}, b"")
        if kept.hold or (kept.until and kept.until > datetime.now(UTC) and not _bypassed(kept, call)):
            return refused(403, "AccessDenied")
        self.objects[key].remove(kept)
        return Answer(204, {}, b"")

    def _lock(self, call: Call, key: str, query: dict[str, str]) -> Answer:
        if (bad := _damaged(lowered(call), call.body)) is not None:
            return bad
        kept = self._find(key, query)
        if kept is None:
            return refused(404, "NoSuchKey")
        told = {each.tag.rpartition("}")[2]: each.text or "" for each in ElementTree.fromstring(call.body).iter()}
        if "legal-hold" in query:
            kept.hold = told["Status"] == "ON"
            return Answer(200, {}, b"")
        until = _time(told["RetainUntilDate"])
        assert until is not None
        weaker = bool(kept.until) and (
            until < kept.until or (kept.mode == "COMPLIANCE" and told["Mode"] != "COMPLIANCE")
        )
        if weaker and not _bypassed(kept, call):
            return refused(403, "AccessDenied")
        kept.mode, kept.until = told["Mode"], until
        return Answer(200, {}, b"")

    def _multipart(self, call: Call, key: str, query: dict[str, str]) -> Answer:
        if "uploads" in query:
            self.made += 1
            self.uploads[f"u{self.made}"] = (call, {})
            body = f"<InitiateMultipartUploadResult><UploadId>u{self.made}</UploadId></InitiateMultipartUploadResult>"
            return document(body)
        begun, parts = self.uploads.get(query["uploadId"], (None, {}))
        if begun is None:
            return refused(404, "NoSuchUpload")
        if call.method == "DELETE":
            del self.uploads[query["uploadId"]]
            return Answer(204, {}, b"")
        if call.method == "PUT":
            headers = lowered(call)
            if (bad := _damaged(headers, call.body)) is not None:
                return bad
            parts[int(query["partNumber"])] = call.body
            shown = {n: v for n, v in headers.items() if n.startswith("x-amz-checksum-crc32")}
            return Answer(200, {"ETag": f'"p{query["partNumber"]}"', **shown}, b"")
        if lowered(call).get("if-none-match") == "*" and self._current(key) is not None:
            return refused(412, "PreconditionFailed")
        del self.uploads[query["uploadId"]]
        self._keep(key, lowered(begun), b"".join(parts[each] for each in sorted(parts)), checksum="")
        return document("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")

    # --- within -----------------------------------------------------------------------------------------------

    def _version(self) -> str:
        self.made += 1
        return f"v{self.made}"

    def _current(self, key: str) -> Kept | None:
        newest = (self.objects.get(key) or [None])[-1]
        return None if newest is None or newest.marker else newest

    def _find(self, key: str, query: dict[str, str]) -> Kept | None:
        if "versionId" not in query:
            return self._current(key)
        return next((each for each in self.objects.get(key, ()) if each.version == query["versionId"]), None)


@dataclass
class Unversioned(MemoryS3):
    """The same without versions and locks: what is put replaces, what is deleted is gone."""

    def _version(self) -> str:
        return "null"

    def _keep(self, key: str, headers: Mapping[str, str], body: bytes, checksum: str | None = None) -> Answer:
        self.objects.pop(key, None)
        answer = super()._keep(key, headers, body, checksum)
        return answer.without("x-amz-version-id")

    def _get(self, call: Call, key: str, query: dict[str, str]) -> Answer:
        return super()._get(call, key, query).without("x-amz-version-id")

    def _delete(self, call: Call, key: str, query: dict[str, str]) -> Answer:
        self.objects.pop(key, None)
        return Answer(204, {}, b"")


def options_for(server: LyingS3, mode: LockMode = LockMode.COMPLIANCE) -> S3Options:
    """How to reach the bucket of a server in memory."""
    return S3Options(
        id="odd", bucket="bucket", endpoint=server.endpoint, prefix="calls/", access_key=Secret("a"), secret_key=Secret("b"),
        lock_mode=mode, addressing="path", multipart_threshold=50_000, part_size=50_000, single_limit=50_000,
    )  # fmt: skip


def memory_s3(kind: type[MemoryS3] = MemoryS3, faults: list[Fault] | None = None) -> MemoryS3:
    return kind("", Secret("a"), Secret("b"), faults or [])


# --- what vendors do otherwise --------------------------------------------------------------------------------


def refusing(status: int, code: str, when: Callable[[Call], bool]) -> Fault:
    """Refuse what `when` holds of, and do nothing."""
    return lambda call, onward: refused(status, code) if when(call) else onward(call)


def asked(*words: str) -> Callable[[Call], bool]:
    """True for calls with one of these in the query or among the names of headers."""
    return lambda call: any(
        word in call.query or any(name.startswith(word) for name in lowered(call)) for word in words
    )


def changing(header: str, change: Callable[[str], str | None], *operations: str) -> Fault:
    """Spell a header of an answer otherwise, or leave it out."""

    def fault(call: Call, onward: Onward) -> Answer | None:
        answer = onward(call)
        if answer is None or (operations and call.operation not in operations):
            return answer
        found = {name: value for name, value in answer.headers.items() if name.lower() == header}
        left = answer.without(header)
        for name, value in found.items():
            if (said := change(value)) is not None:
                left = replace(left, headers=left.headers | {name: said})
        return left

    return fault


def wording(*changes: tuple[bytes, bytes], to: str = "") -> Fault:
    """Say it otherwise in the body of an answer, where the query has the word `to`."""

    def fault(call: Call, onward: Onward) -> Answer | None:
        answer = onward(call)
        if answer is None or to not in call.target or call.operation == "GetObject":
            return answer
        for said, otherwise in changes:
            answer = replace(answer, body=answer.body.replace(said, otherwise))
        return answer

    return fault


def saying(body: bytes, status: int = 200, **headers: str) -> Callable[..., Fault]:
    """An answer in place of those to these operations."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def make(*operations: str) -> Fault:
        return lambda call, onward: Answer(status, named, body) if call.operation in operations else onward(call)

    return make


def lowered(call: Call) -> dict[str, str]:
    return {name.lower(): value for name, value in call.headers.items()}


def refused(status: int, code: str, **more: str) -> Answer:
    told = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    body = f"<Error><Code>{code}</Code><Message>no</Message>{told}</Error>"
    return Answer(status, {"Content-Type": "application/xml"}, body.encode())


def document(text: str) -> Answer:
    return Answer(200, {"Content-Type": "application/xml"}, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode())


def iso(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _bypassed(kept: Kept, call: Call) -> bool:
    asked_for = lowered(call).get("x-amz-bypass-governance-retention", "").lower() == "true"
    return kept.mode == "GOVERNANCE" and asked_for


def _damaged(headers: Mapping[str, str], body: bytes) -> Answer | None:
    digests = {
        "x-amz-checksum-sha256": hashlib.sha256(body).digest(),
        "x-amz-checksum-crc32": zlib.crc32(body).to_bytes(4, "big"),
        "content-md5": hashlib.md5(body).digest(),
    }
    for name, digest in digests.items():
        if name in headers and headers[name] != base64.b64encode(digest).decode():
            return refused(400, "BadDigest")
    return None


def _entry(key: str, kept: Kept, newest: bool, names_only: bool) -> str:
    kind = "Contents" if names_only else "DeleteMarker" if kept.marker else "Version"
    size = "" if kept.marker else f"<Size>{len(kept.body)}</Size>"
    version = "" if names_only else f"<VersionId>{kept.version}</VersionId><IsLatest>{str(newest).lower()}</IsLatest>"
    return f"<{kind}><Key>{escape(key)}</Key>{version}<LastModified>{iso(kept.at)}</LastModified>{size}</{kind}>"
