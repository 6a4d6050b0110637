"""Calls S3 for one bucket: one blocking method per S3 verb, no policy, answers in the archiver's words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import datetime, timedelta
from typing import IO, Any

from archiver import errors
from archiver.recording import Lock, LockMode
from archiver.store.port import Version
from archiver.store.s3_answer import Marker, Page, Unreadable, Walk, date_of, total_of
from archiver.store.s3_calls import Calls
from archiver.store.s3_client import MIB, translated
from archiver.store.s3_default import stated
from archiver.store.s3_refusal import Refused
from archiver.store.s3_values import STANDARD, Digests, Head, LockRules, Part, head_of, headers_of, version_in, word_in


class Bucket(Calls):
    """The verbs of one bucket. Blocking, safe for use by several threads. Raises `Refused` for a refusal,
    `DestinationError` for no answer."""

    # --- the bucket -------------------------------------------------------------------------------------------

    def clock_skew(self, now: Callable[[], datetime]) -> timedelta | None:
        """Return by how much the storage's clock is ahead of ours, to about a second; None where no answer tells a
        time.

        The time is the Date header of an answer to HEAD, also of an answer that does not allow this call.
        """
        before = now()
        try:
            answer: Mapping[str, Any] = self._call("HeadBucket", self._twice.head_bucket)
        except Refused as refused:
            answer = self._told(
                "HeadBucket", refused, "ListObjectVersions", self._twice.list_object_versions, MaxKeys=1
            )
        middle = before + (now() - before) / 2
        date = date_of(headers_of(answer))
        return date - middle if date else None

    def refuses_owner(self, owner: str) -> bool:
        """Tell whether the storage refuses a call that expects this account to own the bucket."""
        try:
            with translated("HeadBucket"):
                self._twice.head_bucket(Bucket=self.name, ExpectedBucketOwner=owner)
        except Refused as refused:
            if refused.passing:
                raise
            return True
        return False

    def versioning(self) -> str:
        """Return `Enabled`, `Suspended` or `Off`."""
        return str(self._call("GetBucketVersioning", self._twice.get_bucket_versioning).get("Status", "Off"))

    def lock_rules(self) -> LockRules:
        """Return the bucket's lock rules: whether it was made with Object Lock, and its default retention.

        Raises `Refused` where these keys may not ask, or the storage does not know the question.
        """
        try:
            answer = self._call("GetObjectLockConfiguration", self._twice.get_object_lock_configuration)
        except Refused as refused:
            if refused.passing or refused.forbidden or refused.unsupported:
                raise
            return LockRules(False)
        rules = answer.get("ObjectLockConfiguration", {})
        return LockRules(rules.get("ObjectLockEnabled") == "Enabled", stated(rules.get("Rule")))

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
        """Store a body, once. Returns the version id when the answer has one. `tags` is a URL query, for lifecycle
        rules."""
        fields = {
            **self._object_fields(lock, storage_class),
            **digests.fields(),
            **({"IfNoneMatch": "*"} if if_absent else {}),
        }
        if tags is not None:
            fields["Tagging"] = tags
        answer = self._call("PutObject", self._once.put_object, Key=key, Body=body, **fields)
        return version_in(answer)

    def head(self, key: str, version_id: str | None, *, checksum: bool = False) -> Head | None:
        """Return the storage's statement of this version (None: the current one). None when there is no such object.

        `checksum` also asks for the checksum that the storage keeps; some storages refuse the whole call for that.
        """
        fields = _named(version_id)
        if checksum:
            fields["ChecksumMode"] = "ENABLED"
        try:
            answer = self._call("HeadObject", self._twice.head_object, Key=key, **fields)
        except Refused as refused:
            if refused.status in {404, 405}:
                return None
            if checksum:
                raise
            fields = {"Key": key, "Range": "bytes=0-0", **_named(version_id)}
            self._told("HeadObject", refused, "GetObject", self._twice.get_object, **fields)["Body"].close()
            raise
        return head_of(answer, self._size_of(key, version_id) if "ContentLength" not in answer else None)

    def _size_of(self, key: str, version_id: str | None) -> int:
        """Return the size by reading a part of the object, for an answer to HEAD without a length, as compressing
        proxies give it."""
        answer = self._call("GetObject", self._twice.get_object, Key=key, Range="bytes=0-0", **_named(version_id))
        answer["Body"].close()
        size = total_of(answer.get("ContentRange"))
        if size is None:
            raise Unreadable("HeadObject: the storage does not say how large the object is")
        return size

    def read(self, key: str, version_id: str | None) -> Generator[bytes, None, None]:
        """Yield the bytes of this version in pieces of up to 1 MiB. Raises `NotFoundError`."""
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
        """Yield every version and delete marker under `prefix`, a page at a time; by key, newest first within a key.

        With `after`, only the keys that sort behind it.
        """
        try:
            yield from self._versions("ListObjectVersions", self._twice.list_object_versions, prefix, after)
        except Refused as refused:
            if not refused.unsupported or self._options.lock_mode is not LockMode.OFF:
                raise
            # Where nothing is locked and no versions are kept, the storage can list only names.
            yield from self._versions("ListObjects", self._twice.list_objects, prefix, after)

    def _versions(
        self, operation: str, call: Callable[..., Any], prefix: str, after: str
    ) -> Generator[list[Version], None, None]:
        for page in self._pages(operation, call, prefix, Marker(after)):
            if page.names_only and operation == "ListObjectVersions":
                raise Refused(operation, "NotImplemented", 501)
            found = [each for each in page.versions if each.key.startswith(prefix)]
            yield sorted(found, key=lambda each: (each.key, not each.is_latest, -each.modified_at.timestamp()))

    def _pages(self, operation: str, call: Callable[..., Any], prefix: str, at: Marker) -> Generator[Page, None, None]:
        """Yield a listing, page by page, to an end that the storage states. Raises `Unreadable` for a listing that does
        not advance."""
        walk = Walk(operation, at)
        key_marker, part_marker = _MARKERS[operation]
        onward: Marker | None = at
        while onward is not None:
            fields = {key_marker: onward.key} if onward.key else {}
            if onward.part is not None and part_marker:
                fields[part_marker] = onward.part
            page: Page = self._call(operation, call, Prefix=prefix, **fields)["Page"]
            yield page
            onward = walk.onward(page)

    def delete(self, key: str, version_id: str | None = None, *, bypass: bool = False) -> None:
        """Delete one version; without a version id, put a delete marker. `bypass` asks to override governance mode."""
        fields: dict[str, Any] = {**_named(version_id), **({"BypassGovernanceRetention": True} if bypass else {})}
        self._call("DeleteObject", self._once.delete_object, Key=key, **fields)

    # --- locks ------------------------------------------------------------------------------------------------

    def retain(
        self,
        key: str,
        version_id: str | None,
        mode: LockMode,
        until: datetime,
        *,
        bypass: bool = False,
        md5: bool = False,
    ) -> None:
        """Set the retention of one version. `md5`: guarded by Content-MD5, and by nothing else."""
        fields: dict[str, Any] = {
            **_named(version_id),
            **({"BypassGovernanceRetention": True} if bypass else {}),
            **_guard(md5),
        }
        retention = {"Mode": mode.value.upper(), "RetainUntilDate": until}
        self._call("PutObjectRetention", self._once.put_object_retention, Key=key, Retention=retention, **fields)

    def hold(self, key: str, version_id: str | None, on: bool, *, md5: bool = False) -> None:
        """Set or lift the legal hold of one version. `md5`: guarded by Content-MD5, and by nothing else."""
        fields = {"LegalHold": {"Status": "ON" if on else "OFF"}, **_named(version_id), **_guard(md5)}
        self._call("PutObjectLegalHold", self._once.put_object_legal_hold, Key=key, **fields)

    # --- multipart --------------------------------------------------------------------------------------------

    def create_upload(
        self, key: str, lock: Lock | None, storage_class: str = STANDARD, *, checksums: bool = True
    ) -> str:
        """Begin a multipart upload; returns its id. `checksums`: its parts carry a CRC-32."""
        answer = self._call(
            "CreateMultipartUpload",
            self._once.create_multipart_upload,
            Key=key,
            **({"ChecksumAlgorithm": "CRC32"} if checksums else {}),
            **self._object_fields(lock, storage_class),
        )
        return word_in(answer, "UploadId", "CreateMultipartUpload: the upload has no id")

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes, digests: Digests) -> Part:
        """Send one part. Sending the same part again replaces it, so the client may repeat this call."""
        answer = self._call(
            "UploadPart",
            self._twice.upload_part,
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            **digests.fields(),
        )
        return Part(number, word_in(answer, "ETag", "UploadPart: the part has no ETag"), answer.get("ChecksumCRC32"))

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
        return version_in(answer)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts. An upload that is already gone is success."""
        try:
            self._call("AbortMultipartUpload", self._twice.abort_multipart_upload, Key=key, UploadId=upload_id)
        except Refused as refused:
            if refused.status != 404:
                raise

    def uploads(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Yield unfinished uploads under `prefix`: key, upload id, time of their beginning."""
        for page in self._pages("ListMultipartUploads", self._twice.list_multipart_uploads, prefix, Marker()):
            for each in page.uploads:
                if each.key.startswith(prefix):
                    yield each.key, each.upload_id, each.began_at

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


def _named(version_id: str | None) -> dict[str, Any]:
    return {} if version_id is None else {"VersionId": version_id}


def _guard(md5: bool) -> dict[str, str]:
    """Return a placeholder for Content-MD5; the client computes the digest over the document that it makes."""
    return {"ContentMD5": "to be computed"} if md5 else {}


_MARKERS: Mapping[str, tuple[str, str]] = {
    "ListObjectVersions": ("KeyMarker", "VersionIdMarker"),
    "ListMultipartUploads": ("KeyMarker", "UploadIdMarker"),
    "ListObjects": ("Marker", ""),
}
