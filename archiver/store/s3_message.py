"""Writes requests to S3 as bytes, and reads the heads of plain answers. Pure: no I/O, no clock.

Calls and answers have the fields of the SDK, so that the callers read both in the same way. What is not plain is None:
then the SDK makes the request, or reads the answer.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from archiver import __version__
from archiver.store.s3_signature import EMPTY_SHA256, UNSIGNED, Keys, Scope, authorization

METHODS: Mapping[str, str] = {"PutObject": "PUT", "HeadObject": "HEAD", "GetObject": "GET"}
MOST_HEADERS = 100

# The fields of a call that are headers, and those of an answer. Any other field is left to the SDK.
ASKED: Mapping[str, str] = {
    "ContentType": "content-type",
    "ContentMD5": "content-md5",
    "IfNoneMatch": "if-none-match",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ChecksumMode": "x-amz-checksum-mode",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ObjectLockRetainUntilDate": "x-amz-object-lock-retain-until-date",
    "ObjectLockLegalHoldStatus": "x-amz-object-lock-legal-hold",
    "StorageClass": "x-amz-storage-class",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
}
TOLD: Mapping[str, str] = {
    "VersionId": "x-amz-version-id",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ChecksumType": "x-amz-checksum-type",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ObjectLockRetainUntilDate": "x-amz-object-lock-retain-until-date",
    "ObjectLockLegalHoldStatus": "x-amz-object-lock-legal-hold",
    "ServerSideEncryption": "x-amz-server-side-encryption",
}
_PLACES = frozenset({"Key", "Body", "VersionId"})
_PRINTABLE = re.compile(r"[!-~]([ -~]*[!-~])?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(r"\d{1,15}")


@dataclass(frozen=True, slots=True)
class Site:
    """The place of a bucket: where requests go, and for which region they are signed.

    `path` stands before the key, encoded: empty where the bucket is in the host's name. `signs`: bodies are signed.
    """

    tls: bool
    host: str
    port: int
    path: str
    scope: Scope
    signs: bool

    @property
    def authority(self) -> str:
        """The host, and the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, not signed yet. `headers` are those that a signature covers, without date and keys."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


def encoded_key(key: str) -> str:
    """Return a key as a URL has it."""
    return quote(key, safe="/-._~")


def request_of(site: Site, operation: str, fields: Mapping[str, Any]) -> Request | None:
    """Return the request for a call with the SDK's fields; None for a call that only the SDK can make."""
    method = METHODS.get(operation)
    if method is None or not fields.keys() <= (ASKED.keys() | _PLACES):
        return None
    headers = {"host": site.authority}
    for name, value in fields.items():
        if name in _PLACES:
            continue
        text = _time(value) if isinstance(value, datetime) else value
        if not isinstance(text, str) or not _PRINTABLE.fullmatch(text):
            return None
        headers[ASKED[name]] = text
    digest = _payload(site, method, headers)
    if digest is None:
        return None
    headers["x-amz-content-sha256"] = digest
    version = fields.get("VersionId")
    query = "" if version is None else f"versionId={quote(str(version), safe='-._~')}"
    return Request(method, f"{site.path}/{encoded_key(fields['Key'])}", query, headers)


def signed(request: Request, site: Site, keys: Keys, at: datetime, size: int | None) -> bytes:
    """Return the head of a request, signed. `size` is that of the body; None where there is none."""
    headers = {**request.headers, "x-amz-date": at.strftime("%Y%m%dT%H%M%SZ")}
    if keys.token is not None:
        headers["x-amz-security-token"] = keys.token
    proof = authorization(request.method, request.path, request.query, headers, keys, site.scope)
    query = f"?{request.query}" if request.query else ""
    length = f"content-length: {size}\r\n" if size is not None else "accept-encoding: identity\r\n"
    stated = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"{request.method} {request.path}{query} HTTP/1.1\r\n{stated}{length}"
        f"user-agent: compliance-archiver/{__version__}\r\nauthorization: {proof}\r\n\r\n"
    ).encode("ascii")


@dataclass(frozen=True, slots=True)
class PlainHead:
    """The head of an answer that is 200, plainly spelled, and names the length of its body."""

    headers: Mapping[str, str]
    length: int

    @property
    def kept(self) -> bool:
        """True when the connection stays open behind this answer."""
        return self.headers.get("connection", "keep-alive").lower() == "keep-alive"

    def fields(self) -> dict[str, Any]:
        """Return the answer in the SDK's fields."""
        told: dict[str, Any] = {name: self.headers[each] for name, each in TOLD.items() if each in self.headers}
        return told | {"ContentLength": self.length}


def status_of(head: bytes) -> int:
    """Return the status in the head of an answer; 0 where it is none of HTTP/1.1."""
    found = re.match(rb"HTTP/1\.1 (\d{3})[ \r]", head)
    return int(found[1]) if found else 0


def plain(head: bytes) -> PlainHead | None:
    """Read the head of an answer, up to its empty line; None for any that leaves room for another reading."""
    if status_of(head) != 200 or not head.endswith(b"\r\n\r\n"):
        return None
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")[1:]
    if len(lines) > MOST_HEADERS:
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if not colon or not _NAME.fullmatch(name) or "\r" in value or "\n" in value or "\0" in value:
            return None
        if headers.setdefault(name, value) != value:
            return None
    length = headers.get("content-length", "")
    if "transfer-encoding" in headers or "content-encoding" in headers or not _LENGTH.fullmatch(length):
        return None
    return PlainHead(headers, int(length))


def _payload(site: Site, method: str, headers: Mapping[str, str]) -> str | None:
    """Return the digest to sign for the body. That of an object to put is the checksum that goes along."""
    if not site.signs:
        return UNSIGNED
    if method != "PUT":
        return EMPTY_SHA256
    try:
        digest = base64.b64decode(headers.get("x-amz-checksum-sha256", ""), validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 32 else None


def _time(instant: datetime) -> str | None:
    """Write a time as the SDK does, which writes parts of a second otherwise."""
    plain_time = instant.tzinfo is not None and instant.microsecond == 0
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if plain_time else None
