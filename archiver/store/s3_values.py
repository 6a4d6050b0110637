"""The values that go into a call to S3 and come out of it. Pure: no I/O, no clock."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archiver.recording import Lock, LockMode
from archiver.store.s3_answer import Unreadable, instant, sha256_of, version_of
from archiver.store.s3_default import DefaultRetention

STANDARD = "STANDARD"
"""The storage class that is never asked for by name, since not every server knows the word."""


@dataclass(frozen=True, slots=True)
class Head:
    """The answer to a HEAD of one version. `sha256` only when the storage keeps it over the whole object."""

    version_id: str | None
    size: int
    sha256: str | None
    lock: Lock
    encryption: str | None


@dataclass(frozen=True, slots=True)
class LockRules:
    """A bucket's rules for locks, as the bucket states them."""

    enabled: bool
    default: DefaultRetention | None = None


@dataclass(frozen=True, slots=True)
class Digests:
    """The checksums to send with a body, base64 as S3 wants them. At least one, or AWS refuses the lock with 400."""

    sha256: str | None = None
    crc32: str | None = None
    md5: str | None = None

    def fields(self) -> dict[str, str]:
        named = {"ChecksumSHA256": self.sha256, "ChecksumCRC32": self.crc32, "ContentMD5": self.md5}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Part:
    """One uploaded part of a multipart upload."""

    number: int
    etag: str
    crc32: str | None


def base64_of(digest: bytes) -> str:
    """Encode a digest as S3 headers carry it."""
    return base64.b64encode(digest).decode()


def version_in(answer: Mapping[str, Any]) -> str | None:
    """Return the version that an answer names."""
    return version_of(answer.get("VersionId"))


def word_in(answer: Mapping[str, Any], name: str, otherwise: str) -> str:
    """Return the text that an answer must have under this name. Raises `Unreadable` with `otherwise` where it is
    missing."""
    if not answer.get(name):
        raise Unreadable(otherwise)
    return str(answer[name])


def headers_of(answer: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the headers of an answer, their names in lower case."""
    headers: Mapping[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


def head_of(answer: Mapping[str, Any], size: int | None) -> Head:
    """Read an answer to HEAD; `size` is used where the answer does not state the object's size. Raises `Unreadable`."""
    mode = answer.get("ObjectLockMode")
    until = answer.get("ObjectLockRetainUntilDate") if mode else None
    lock = Lock(
        LockMode.read(mode, LockMode.OFF),  # an unknown mode counts as no protection
        instant(until, "HeadObject: the date of the lock") if until is not None else None,
        answer.get("ObjectLockLegalHoldStatus") == "ON",
    )
    return Head(
        version_in(answer),
        int(answer["ContentLength"]) if size is None else size,
        sha256_of(answer.get("ChecksumSHA256"), answer.get("ChecksumType")),
        lock,
        answer.get("ServerSideEncryption"),
    )
