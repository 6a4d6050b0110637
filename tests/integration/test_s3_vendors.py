"""Each vendor that can be imitated, through the probe and then through everything that the archiver asks of a storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.s3 import S3Options, S3Store
from archiver.store.s3_upload import PARTIAL
from tests.lying_s3 import Answer, Call, Fault, drop_encryption, drop_lock, ignore_conditions, refuse_conditions
from tests.memory_s3 import (
    MemoryS3,
    Unversioned,
    asked,
    changing,
    lowered,
    memory_s3,
    options_for,
    refusing,
    wording,
)
from tests.sealed_files import listed, pattern, read_all, sealed_file

KEY = "recordings/2026/05/ab/abcdef"
COMPLIANCE, GOVERNANCE, OFF = LockMode.COMPLIANCE, LockMode.GOVERNANCE, LockMode.OFF
WITHOUT_LOCKS = {
    "versioning-enabled",
    "object-lock-enabled",
    "protection",
    "old-version-kept",
    "delete-marker-hides-nothing",
}


@dataclass(frozen=True)
class Vendor:
    """Faults over an honest server, and what the probe must find. `lacks`: checks that fail; `ways`: how the profile differs."""

    faults: tuple[Fault, ...] = ()
    mode: LockMode = COMPLIANCE
    kind: type[MemoryS3] = MemoryS3
    lacks: frozenset[str] = frozenset()
    ways: dict[str, bool] = field(default_factory=dict)


def checksums(call: Call) -> bool:
    return any(name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum")) for name in lowered(call))


def a_lock_without_md5(call: Call) -> bool:
    return bool({"retention", "legal-hold"} & call.query.keys()) and "content-md5" not in lowered(call)


def milliseconds(date: str) -> str:
    return str(int(datetime.fromisoformat(date).timestamp() * 1000))


UNVERSIONED = {"conditional_single": True, "conditional_multipart": True}
NO_QUESTIONS = (refusing(501, "NotImplemented", asked("versioning", "object-lock", "versions")),)
VENDORS = {
    "AWS": Vendor(),
    "AWS, governance": Vendor(mode=GOVERNANCE),
    "Wasabi": Vendor(
        # UploadPart wants the algorithm named at create (barman#1064)
        (
            refusing(
                400, "InvalidRequest", lambda call: call.operation == "CreateMultipartUpload" and not checksums(call)
            ),
        )
    ),
    "Backblaze B2 of 2025": Vendor(
        # x-amz-checksum-* and checksum mode (cyberduck#16107, xen-orchestra#8358), tagging (velero-plugin-for-aws#304)
        (
            refusing(400, "InvalidArgument", asked("x-amz-checksum-", "x-amz-sdk-checksum")),
            refusing(400, "InvalidArgument", asked("x-amz-tagging")),
            refuse_conditions(),
        ),
        lacks=frozenset({"sha256-kept", "put-once-single", "put-once-multipart", "takes-tags"}),
        ways={"md5": True, "sha256": False, "shows_checksum": False, "lock_md5": True, "tags": False},
    ),
    "MinIO of old, Storj": Vendor(
        # MissingContentMD5 on retention and legal hold (minio#12118, storj/docs#551)
        (refusing(400, "MissingContentMD5", a_lock_without_md5),),
        ways={"lock_md5": True},
    ),
    "Hetzner": Vendor(
        # XAmzContentSHA256Mismatch on UploadPart (home-assistant#144015)
        (refusing(400, "XAmzContentSHA256Mismatch", lambda call: call.operation == "UploadPart"),),
        lacks=frozenset({"multipart"}),
        ways={"multipart": False},
    ),
    "OVH": Vendor(
        # CRC32 refused (icechunk#2115)
        (refusing(400, "InvalidRequest", lambda call: "x-amz-checksum-crc32" in lowered(call)),),
        lacks=frozenset({"multipart"}),
        ways={"multipart": False, "lock_md5": True},
    ),
    "Alibaba OSS": Vendor(
        # If-None-Match 501 (walgit#67)
        (refuse_conditions(),),
        lacks=frozenset({"put-once-single", "put-once-multipart"}),
    ),
    "StorageGRID": Vendor((ignore_conditions(),), lacks=frozenset({"put-once-single", "put-once-multipart"})),
    "Ceph": Vendor(
        (drop_lock("CreateMultipartUpload"), ignore_conditions(), drop_encryption()),
        lacks=frozenset({"lock-kept-on-multipart", "put-once-single", "put-once-multipart"}),
    ),
    "NooBaa": Vendor((changing("x-amz-object-lock-retain-until-date", milliseconds),)),
    "versitygw": Vendor((changing("x-amz-object-lock-retain-until-date", lambda date: date[:19]),)),
    "Cloudflare R2": Vendor(
        # no lock headers, tagging 501 (velero#9931), HEAD without a length (async-aws#2077)
        (
            refusing(501, "NotImplemented", asked("x-amz-tagging", "versioning", "object-lock", "versions")),
            changing("content-length", lambda _: None, "HeadObject"),
        ),
        OFF,
        Unversioned,
        WITHOUT_LOCKS | {"takes-tags"},
        {"tags": False},
    ),
    "Garage": Vendor(
        # ListObjectVersions missing, GetBucketVersioning a stub (stu#18)
        (
            refusing(501, "NotImplemented", asked("versions", "object-lock")),
            changing("x", lambda _: None),
        ),
        OFF,
        Unversioned,
        (WITHOUT_LOCKS - {"versioning-enabled"}),
    ),
    "Swift": Vendor(
        (refusing(501, "NotImplemented", asked("x-amz-tagging", "object-lock", "if-none-match")),),
        OFF,
        Unversioned,
        (WITHOUT_LOCKS - {"versioning-enabled"}) | {"takes-tags", "put-once-single", "put-once-multipart"},
        {"tags": False},
    ),
    "rclone": Vendor(
        # as rclone 1.75 does: documents under other names, a listing in place of what it does not know
        (
            refusing(501, "NotImplemented", asked("versions")),
            wording((b"MultipartUploadResult", b"MultipartUpload"), (b"ObjectLockConfiguration", b"ListBucketResult")),
            wording((b"<IsTruncated>false</IsTruncated>", b""), to="uploads"),
        ),
        OFF,
        Unversioned,
        WITHOUT_LOCKS - {"versioning-enabled"},
    ),
    "JuiceFS": Vendor(NO_QUESTIONS, OFF, Unversioned, WITHOUT_LOCKS),
    "names in place of versions": Vendor(
        (
            refusing(405, "MethodNotAllowed", asked("versioning", "object-lock")),
            lambda call, onward: onward(_names(call)),
        ),
        OFF,
        Unversioned,
        WITHOUT_LOCKS,
    ),
    "questions not allowed": Vendor(
        (refusing(403, "AccessDenied", asked("versioning", "object-lock")),),
        lacks=frozenset({"versioning-enabled", "object-lock-enabled"}),
    ),
    "tags not allowed": Vendor(
        (refusing(403, "AccessDenied", asked("x-amz-tagging")),), lacks=frozenset({"takes-tags"}), ways={"tags": False}
    ),
}


def _names(call: Call) -> Call:
    """A server that does not know the word takes `?versions` for a listing of names."""
    from dataclasses import replace

    return replace(call, target=call.target.replace("versions&", "&").replace("?versions", "?"))


@asynccontextmanager
async def store_at(server: MemoryS3, options: S3Options) -> AsyncIterator[S3Store]:
    made = S3Store(options, SystemClock(), SystemChance())
    try:
        yield made
    finally:
        await made.aclose()


@pytest.mark.parametrize("name", VENDORS)
async def test_vendor_is_proved_and_serves_the_whole_archive(name: str, tmp_path: Path) -> None:
    vendor = VENDORS[name]
    with memory_s3(vendor.kind, list(vendor.faults)) as server:
        async with store_at(server, options_for(server, vendor.mode)) as store:
            report = await store.probe()
            assert report.trusted, report
            assert {each.name for each in report.checks if not each.ok} == vendor.lacks, report
            found = {each: getattr(store.profile, each) for each in vendor.ways}
            assert found == vendor.ways
            await serves(store, tmp_path, tagged=store.profile.tags, server=server)


async def serves(store: S3Store, folder: Path, *, tagged: bool, server: MemoryS3) -> None:
    """One recording whole and one in parts, their locks made longer and held; and a log."""
    soon, later = datetime.now(UTC) + timedelta(days=2), datetime.now(UTC) + timedelta(days=3)
    lock = Lock(store.lock_mode, None if store.lock_mode is OFF else soon)
    for size in (1000, 120_000):
        file = sealed_file(folder, pattern(size))
        stored = await file.put(store, f"{KEY}{size}", lock)
        again = await file.put(store, f"{KEY}{size}", lock)
        assert (again.version_id, again.sealed_sha256) == (stored.version_id, file.sealed_sha256)
        assert await read_all(store, stored) == file.path.read_bytes()
        if store.lock_mode is not OFF:
            assert (await store.extend(stored.key, stored.version_id, later)).retain_until == later.replace(
                microsecond=0
            ) + timedelta(seconds=1)
            assert (await store.hold(stored.key, stored.version_id, True)).legal_hold
            assert not (await store.hold(stored.key, stored.version_id, False)).legal_hold
    assert [each.key[-7:] for each in await listed(store)] == ["def1000", "f120000"]
    store._bucket.create_upload("calls/left-by-a-death", None, checksums=store.profile.sha256)
    assert [await store.sweep_uploads(timedelta(seconds=-5)) for _ in range(2)] == [1, 0]
    shelf = store.shelf()
    until = None if store.lock_mode is OFF else soon
    await shelf.put_new("checkpoints/1", b"one", until)
    await shelf.put_current("tile/0/000.p/5", b"part")
    await shelf.put_current("checkpoint", b"two")
    assert await shelf.read("checkpoints/1") == b"one"
    assert await shelf.read("checkpoints/2") is None
    assert await shelf.read_current("checkpoint") == b"two"
    assert [each async for each in shelf.names("")] == ["checkpoint", "checkpoints/1", "tile/0/000.p/5"]
    tags = server.objects["calls/custody/tile/0/000.p/5"][-1].tags
    assert tags == (PARTIAL if tagged else "")


@pytest.mark.parametrize("name", ["Cloudflare R2", "Garage", "JuiceFS"])
async def test_vendor_without_locks_is_not_trusted_with_them_and_says_why(name: str) -> None:
    vendor = VENDORS[name]
    with memory_s3(vendor.kind, list(vendor.faults)) as server:
        async with store_at(server, options_for(server)) as store:
            report = await store.probe()
    assert not report.trusted
    fatal = {each.name: each.detail for each in report.checks if each.fatal and not each.ok}
    assert fatal.keys() & {"lists-versions", "object-lock-enabled"}, report


async def test_question_that_is_forbidden_is_not_a_no() -> None:
    with memory_s3(faults=[refusing(403, "AccessDenied", asked("versioning", "object-lock"))]) as server:
        async with store_at(server, options_for(server)) as store:
            report = await store.probe()
    told = {each.name: each for each in report.checks}
    assert "not allowed to ask" in told["object-lock-enabled"].detail
    assert "s3:GetBucketObjectLockConfiguration" in told["object-lock-enabled"].detail
    assert "without Object Lock" not in told["object-lock-enabled"].detail
    assert report.trusted, "what was tried holds"


async def test_bucket_without_object_lock_says_no_and_is_not_trusted() -> None:
    with memory_s3(faults=[refusing(404, "ObjectLockConfigurationNotFoundError", asked("object-lock"))]) as server:
        async with store_at(server, options_for(server)) as store:
            report = await store.probe()
    assert [each.detail for each in report.checks if each.name == "object-lock-enabled"] == [
        "the bucket was made without Object Lock"
    ]
    assert not report.trusted


async def test_versions_that_may_not_be_listed_are_a_missing_right_by_name() -> None:
    with memory_s3(faults=[refusing(403, "AccessDenied", asked("versions"))]) as server:
        async with store_at(server, options_for(server)) as store:
            report = await store.probe()
    assert not report.trusted
    assert any("s3:ListBucketVersions" in each.detail for each in report.checks)


@pytest.mark.parametrize("what", ["extending", "holding"])
async def test_lock_that_cannot_be_made_longer_or_held_is_seen_by_the_probe(what: str) -> None:
    word = {"extending": "retention", "holding": "legal-hold"}[what]
    with memory_s3(faults=[refusing(400, "MalformedXML", asked(word))]) as server:
        async with store_at(server, options_for(server)) as store:
            report = await store.probe()
    assert {each.name for each in report.checks if not each.ok} == {
        {"extending": "extending-works", "holding": "legal-hold-works"}[what]
    }


class Shortens(MemoryS3):
    """Takes any retention in the place of any other."""

    def _lock(self, call: Call, key: str, query: dict[str, str]) -> Answer:
        for kept in self.objects.get(key, ()) if "retention" in query else ():
            kept.mode, kept.until = "", None
        return super()._lock(call, key, query)


@pytest.mark.parametrize("name", ["AWS", "MinIO of old, Storj", "Backblaze B2 of 2025"])
async def test_lock_that_can_be_shortened_is_found_out_in_the_way_that_locks_are_taken_there(name: str) -> None:
    """An attack that is refused for its checksum proves nothing."""
    with memory_s3(Shortens, list(VENDORS[name].faults)) as server:
        async with store_at(server, options_for(server)) as store:
            report = await store.probe()
    assert not report.trusted
    assert [each.name for each in report.checks if each.fatal and not each.ok] == ["shortening-refused"]
