"""Uploads the bytes of one file as one version: in a single PUT, or in parts.

One hash pass over the sealed bytes was made when they were sealed; its SHA-256 goes along as a value and the storage
checks it. A storage proved not to check it gets an MD5 too. Parts carry a CRC-32 each, an order of magnitude cheaper
than a SHA-256: a CRC-32 only guards the transfer, since no checksum over parts proves the whole and the object is read
back and hashed anyway.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from archiver import errors
from archiver.recording import Lock
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_client import S3Options
from archiver.store.s3_default import DefaultRetention
from archiver.store.s3_refusal import Refused
from archiver.store.s3_values import STANDARD, Digests, Part, base64_of

PARTIAL = "partial=1"
"""The tag of the log's partial tiles, so that a lifecycle rule can remove them."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The properties that the probe proved of one bucket; they decide the way of sending. The defaults trust nothing.

    `conditional_single`, `conditional_multipart`: a create on condition of absence is refused when the key exists.
    `sha256`: takes `x-amz-checksum-*`; without, only Content-MD5 guards the transfer.
    `shows_checksum`: takes a HEAD that asks for the checksum.
    `lock_md5`: takes retention and legal hold only with Content-MD5. `tags`: takes tags.
    `checksum_proves`: a wrong SHA-256 is refused, and the right one is kept over the whole object.
    `md5`: send an MD5 as well. `multipart`: uploads in parts work. `default`: the bucket's own default retention.
    """

    conditional_single: bool = False
    conditional_multipart: bool = False
    checksum_proves: bool = False
    md5: bool = False
    multipart: bool = True
    sha256: bool = True
    shows_checksum: bool = True
    lock_md5: bool = False
    tags: bool = True
    default: DefaultRetention | None = None

    @property
    def proves_itself(self) -> bool:
        """True when the storage refuses a second version and wrong bytes, and shows the digest that it keeps: then
        plain calls need not go through the SDK."""
        return self.conditional_single and self.checksum_proves and self.shows_checksum


@dataclass(frozen=True, slots=True)
class Item:
    """One object on its way: the arguments of `put_once`. `source` is a file, or the bytes of a small object."""

    key: str
    source: Path | bytes
    size: int
    sha256: str
    lock: Lock
    storage_class: str = STANDARD


def in_parts(item: Item, profile: Profile, options: S3Options, single_limit: int | None = None) -> bool:
    """Tell whether this object goes up in parts.

    A proved SHA-256 over the whole is worth a large PUT: no checksum over parts proves the whole, which is read back
    then.
    """
    limit = options.multipart_threshold
    if profile.checksum_proves:
        limit = max(limit, options.single_limit if single_limit is None else single_limit)
    return profile.multipart and item.size > limit


def upload_single(bucket: Bucket, item: Item, profile: Profile) -> str | None:
    """Send one PUT, streamed from the file in small pieces. Returns the version id when the answer has one."""
    with _opened(item) as file:
        md5 = base64_of(hashlib.file_digest(file, _md5).digest()) if profile.md5 else None
        file.seek(0)
        digests = Digests(sha256=base64_of(bytes.fromhex(item.sha256)) if profile.sha256 else None, md5=md5)
        return bucket.put(
            item.key, file, digests, lock=item.lock, if_absent=profile.conditional_single,
            storage_class=item.storage_class,
        )  # fmt: skip


def upload_parts(
    bucket: Bucket, item: Item, profile: Profile, part_size: int, creating: Callable[[], None] = lambda: None
) -> str | None:
    """Send an object in parts, one part in memory at a time. Returns the version id, if told.

    `creating` is called before the object may come into being. A failed upload is dropped, unless its completion may
    have taken effect: then it stays for the caller to look, and its remains for the sweep.
    """
    upload_id = bucket.create_upload(item.key, item.lock, item.storage_class, checksums=profile.sha256)
    try:
        parts = _send_parts(bucket, item, profile, part_size, upload_id)
    except errors.ArchiverError:
        _drop(bucket, item.key, upload_id)
        raise
    creating()
    try:
        return bucket.complete_upload(item.key, upload_id, parts, if_absent=profile.conditional_multipart)
    except Refused as refused:
        if not refused.passing:
            _drop(bucket, item.key, upload_id)
        raise


def part_digests(data: bytes, profile: Profile) -> Digests:
    """Return the checksums that guard one part in transit."""
    crc32 = base64_of(zlib.crc32(data).to_bytes(4, "big")) if profile.sha256 else None
    return Digests(crc32=crc32, md5=base64_of(_md5(data).digest()) if profile.md5 else None)


def digests_of(data: bytes, profile: Profile) -> Digests:
    """Return the checksums that guard a small object in transit, as this storage takes them."""
    sha256 = base64_of(hashlib.sha256(data).digest()) if profile.sha256 else None
    return Digests(sha256=sha256, md5=base64_of(_md5(data).digest()) if profile.md5 else None)


def _send_parts(bucket: Bucket, item: Item, profile: Profile, part_size: int, upload_id: str) -> list[Part]:
    parts: list[Part] = []
    with _opened(item) as file:
        while data := file.read(part_size):
            parts.append(bucket.upload_part(item.key, upload_id, len(parts) + 1, data, part_digests(data, profile)))
    return parts


def _drop(bucket: Bucket, key: str, upload_id: str) -> None:
    with contextlib.suppress(errors.DestinationError):
        bucket.abort_upload(key, upload_id)


@contextlib.contextmanager
def _opened(item: Item) -> Iterator[io.BufferedReader | io.BytesIO]:
    """Open the file, and check its size: a spool that lost bytes is found here, before they are locked for years."""
    if isinstance(item.source, bytes):
        yield io.BytesIO(item.source)
        return
    try:
        file = item.source.open("rb")
    except OSError as failed:
        raise errors.VerificationError(f"the file to store cannot be opened: {failed.strerror}") from failed
    with file:
        size = os.fstat(file.fileno()).st_size
        if size != item.size:
            raise errors.VerificationError(f"the file to store has {size} bytes, it was sealed with {item.size}")
        yield file


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)
