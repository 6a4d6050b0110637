"""One bucket, one blocking method per S3 verb, no policy: what S3 answered, in the archiver's words.

What only looks is repeated by the client once; what has an effect is sent once, because a repeat that we do not see may leave a
second version behind.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Any, TypeVar

from archiver import errors
from archiver.recording import Lock, LockMode
from archiver.store.port import Version
from archiver.store.s3_client import MIB, Refused, S3Options, connect, new_session, translated

_T = TypeVar("_T")

STANDARD = "STANDARD"
"""The storage class that is not asked for, since not every server knows the word."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a HEAD of one version showed. `sha256` only when the storage keeps it over the whole object."""

    version_id: str | None
    size: int
    sha256: str | None
    lock: Lock
    encryption: str | None


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


class Bucket:
    """The verbs. Blocking, safe for use by several threads. Raises `Refused` for an answer, `DestinationError` for none."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._session = new_session(options)
        self._asks_checksum = True
        self.answers = 0  # no lock: whoever reads it only asks whether it changes
        self.sign_payloads(options.sign_payload or False)

    @property
    def name(self) -> str:
        return self._options.bucket

    def sign_payloads(self, on: bool) -> None:
        """Build the clients, with or without a signature over each body (a third hash pass, which some servers insist on).

        Calls under way keep the client that they began with.
        """
        options = self._options
        self.signs = on
        self._once = connect(self._session, options, sign=on, attempts=1)
        self._twice = connect(self._session, options, sign=on, attempts=2)

    def close(self) -> None:
        self._once.close()
        self._twice.close()

    # --- the bucket -------------------------------------------------------------------------------------------

    def clock_skew(self, now: Callable[[], datetime]) -> timedelta:
        """How far the storage's clock is ahead of ours, to about a second, by the Date header of an answer."""
        before = now()
        answer = self._call("HeadBucket", self._twice.head_bucket)
        middle = before + (now() - before) / 2
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return email.utils.parsedate_to_datetime(date) - middle if date else timedelta(0)

    def refuses_owner(self, owner: str) -> bool:
        """True when the storage refuses a call that expects this account to own the bucket."""
        try:
            with translated("HeadBucket"):
                self._twice.head_bucket(Bucket=self.name, ExpectedBucketOwner=owner)
        except Refused as refused:
            if refused.passing:
                raise
            return True
        return False

    def versioning(self) -> str:
        """`Enabled`, `Suspended` or `Off`."""
        return str(self._call("GetBucketVersioning", self._twice.get_bucket_versioning).get("Status", "Off"))

    def object_lock(self) -> bool:
        """True when the bucket says that it was made with Object Lock."""
        try:
            answer = self._call("GetObjectLockConfiguration", self._twice.get_object_lock_configuration)
        except Refused as refused:
            if refused.passing:
                raise
            return False
        return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    # --- objects ----------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        body: IO[bytes] | bytes,
        digests: Digests,
        *,
        lock: Lock | None = None,
        if_absent: bool = False,
        tags: str | None = None,
        storage_class: str = STANDARD,
    ) -> str | None:
        """Store a body, once. Returns the version id when the answer has one. `tags` is a URL query, for lifecycle rules."""
        fields = {
            **self._object_fields(lock, storage_class),
            **digests.fields(),
            **({"IfNoneMatch": "*"} if if_absent else {}),
        }
        if tags is not None:
            fields["Tagging"] = tags
        answer = self._call("PutObject", self._once.put_object, Key=key, Body=body, **fields)
        return _version(answer)

    def head(self, key: str, version_id: str | None) -> Head | None:
        """What the storage says of this version (None: the current one). None when there is no such thing."""
        fields = _named(version_id)
        try:
            if self._asks_checksum:
                fields["ChecksumMode"] = "ENABLED"
            answer = self._call("HeadObject", self._twice.head_object, Key=key, **fields)
        except Refused as refused:
            if refused.status in {404, 405}:
                return None
            if refused.status in {400, 501} and self._asks_checksum:
                self._asks_checksum = False
                return self.head(key, version_id)
            raise
        return _head(answer)

    def read(self, key: str, version_id: str | None) -> Generator[bytes, None, None]:
        """The bytes of this version in pieces of up to 1 MiB. Raises `NotFoundError`."""
        try:
            answer = self._call("GetObject", self._twice.get_object, Key=key, **_named(version_id))
        except Refused as refused:
            if refused.status in {404, 405}:
                raise errors.NotFoundError("the storage does not have this object version") from refused
            raise
        body = answer["Body"]
        with contextlib.closing(body), translated("GetObject"):
            while piece := body.read(MIB):
                yield piece

    def versions(self, prefix: str, after: str = "") -> Generator[list[Version], None, None]:
        """Every version and delete marker under `prefix`, a page at a time; by key, newest first within a key.

        With `after`, only of the keys that sort behind it.
        """
        marker = {"KeyMarker": after} if after else {}
        while True:
            answer = self._call("ListObjectVersions", self._twice.list_object_versions, Prefix=prefix, **marker)
            found = [_listed(each, marker=False) for each in answer.get("Versions", ())]
            found += [_listed(each, marker=True) for each in answer.get("DeleteMarkers", ())]
            yield sorted(found, key=lambda each: (each.key, not each.is_latest, -each.modified_at.timestamp()))
            if not answer.get("IsTruncated"):
                return
            marker = {"KeyMarker": answer["NextKeyMarker"]}
            if answer.get("NextVersionIdMarker"):
                marker["VersionIdMarker"] = answer["NextVersionIdMarker"]

    def delete(self, key: str, version_id: str | None = None, *, bypass: bool = False) -> None:
        """Delete one version; without a version id, put a delete marker. `bypass` asks to override governance mode."""
        fields: dict[str, Any] = {**_named(version_id), **({"BypassGovernanceRetention": True} if bypass else {})}
        self._call("DeleteObject", self._once.delete_object, Key=key, **fields)

    # --- locks ------------------------------------------------------------------------------------------------

    def retain(
        self, key: str, version_id: str | None, mode: LockMode, until: datetime, *, bypass: bool = False
    ) -> None:
        """Set the retention of one version."""
        fields: dict[str, Any] = {**_named(version_id), **({"BypassGovernanceRetention": True} if bypass else {})}
        retention = {"Mode": mode.value.upper(), "RetainUntilDate": until}
        self._call("PutObjectRetention", self._once.put_object_retention, Key=key, Retention=retention, **fields)

    def hold(self, key: str, version_id: str | None, on: bool) -> None:
        """Set or lift the legal hold of one version."""
        status = {"Status": "ON" if on else "OFF"}
        self._call(
            "PutObjectLegalHold", self._once.put_object_legal_hold, Key=key, LegalHold=status, **_named(version_id)
        )

    # --- multipart --------------------------------------------------------------------------------------------

    def create_upload(self, key: str, lock: Lock | None, storage_class: str = STANDARD) -> str:
        """Begin a multipart upload; returns its id."""
        answer = self._call(
            "CreateMultipartUpload",
            self._once.create_multipart_upload,
            Key=key,
            ChecksumAlgorithm="CRC32",
            **self._object_fields(lock, storage_class),
        )
        return str(answer["UploadId"])

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes, digests: Digests) -> Part:
        """Send one part. Sending the same part again replaces it, so this one may be repeated by the client."""
        answer = self._call(
            "UploadPart",
            self._twice.upload_part,
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            **digests.fields(),
        )
        return Part(number, str(answer["ETag"]), answer.get("ChecksumCRC32"))

    def complete_upload(self, key: str, upload_id: str, parts: list[Part], *, if_absent: bool) -> str | None:
        """Make the object out of its parts, once. Returns the version id when the answer has one."""
        named = [
            {"PartNumber": each.number, "ETag": each.etag, **({"ChecksumCRC32": each.crc32} if each.crc32 else {})}
            for each in parts
        ]
        answer = self._call(
            "CompleteMultipartUpload",
            self._once.complete_multipart_upload,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": named},
            **({"IfNoneMatch": "*"} if if_absent else {}),
        )
        return _version(answer)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts. One that is not there any more is success."""
        try:
            self._call("AbortMultipartUpload", self._twice.abort_multipart_upload, Key=key, UploadId=upload_id)
        except Refused as refused:
            if refused.status != 404:
                raise

    def uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Unfinished uploads under `prefix`: key, upload id, when they began."""
        with translated("ListMultipartUploads"):
            pages = self._twice.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.name, Prefix=prefix, **self._owner()
            )
            for page in pages:
                for each in page.get("Uploads", ()):
                    yield each["Key"], each["UploadId"], each["Initiated"]

    # --- within -----------------------------------------------------------------------------------------------

    def _object_fields(self, lock: Lock | None, storage_class: str) -> dict[str, Any]:
        options = self._options
        fields: dict[str, Any] = {"ContentType": "application/octet-stream"}
        if storage_class != STANDARD:
            fields["StorageClass"] = storage_class
        if options.sse:
            fields["ServerSideEncryption"] = options.sse
        if options.sse_key_id:
            fields["SSEKMSKeyId"] = options.sse_key_id
        if lock and lock.mode is not LockMode.OFF and lock.retain_until is not None:
            fields["ObjectLockMode"] = lock.mode.value.upper()
            fields["ObjectLockRetainUntilDate"] = lock.retain_until
        if lock and lock.legal_hold:
            fields["ObjectLockLegalHoldStatus"] = "ON"
        return fields

    def _call(self, operation: str, call: Callable[..., _T], **fields: Any) -> _T:
        try:
            with translated(operation):
                answer = call(Bucket=self.name, **self._owner(), **fields)
        except Refused:
            self.answers += 1
            raise
        self.answers += 1
        return answer

    def _owner(self) -> dict[str, str]:
        """With every call, so that a bucket of the same name in another account gets nothing of ours, and gives nothing."""
        owner = self._options.bucket_owner
        return {} if owner is None else {"ExpectedBucketOwner": owner}


def base64_of(digest: bytes) -> str:
    """A digest as S3 headers carry it."""
    return base64.b64encode(digest).decode()


def _named(version_id: str | None) -> dict[str, Any]:
    return {} if version_id is None else {"VersionId": version_id}


def _version(answer: Mapping[str, Any]) -> str | None:
    """A bucket without versioning answers nothing or the word null; neither names a version."""
    version = answer.get("VersionId")
    return None if version in {None, "", "null"} else str(version)


def _head(answer: Mapping[str, Any]) -> Head:
    checksum = answer.get("ChecksumSHA256")
    # A composite checksum is a hash over the parts' hashes ("…-3"): it says nothing of the whole.
    if checksum is not None and ("-" in checksum or answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT"):
        checksum = None
    mode = answer.get("ObjectLockMode")
    lock = Lock(
        LockMode.read(mode, LockMode.OFF),  # a mode that we do not know protects nothing that we know of
        answer.get("ObjectLockRetainUntilDate") if mode else None,
        answer.get("ObjectLockLegalHoldStatus") == "ON",
    )
    return Head(
        _version(answer),
        int(answer["ContentLength"]),
        base64.b64decode(checksum).hex() if checksum else None,
        lock,
        answer.get("ServerSideEncryption"),
    )


def _listed(entry: Mapping[str, Any], *, marker: bool) -> Version:
    return Version(
        entry["Key"],
        _version(entry),
        int(entry.get("Size", 0)),
        entry["LastModified"],
        bool(entry.get("IsLatest")),
        marker,
    )
