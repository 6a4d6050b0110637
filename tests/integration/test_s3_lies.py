"""Buckets that lie. Each lie is found twice: by the probe before anything is stored, and by the read-back of each object."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.port import ProbeReport
from archiver.store.s3 import S3Options, S3Store
from tests import lying_s3 as lies
from tests.lying_s3 import Fault, LyingS3
from tests.sealed_files import listed, pattern, read_all, sealed_file

KEY = "recordings/2026/05/ab/abcdef"
MIB = 1024 * 1024
SINGLE, MULTIPART = 1000, 11 * MIB


@pytest.fixture
def options(lying_s3: LyingS3, s3_options: S3Options) -> S3Options:
    return replace(
        s3_options, endpoint=lying_s3.endpoint, multipart_threshold=5 * MIB, single_limit=5 * MIB, part_size=5 * MIB
    )


@pytest.fixture
async def store(options: S3Options) -> AsyncIterator[S3Store]:
    made = S3Store(options, SystemClock(), SystemChance())
    yield made
    await made.aclose()


@pytest.fixture
def lock() -> Lock:
    return Lock(LockMode.COMPLIANCE, datetime.now(UTC) + timedelta(days=2))


def failed(report: ProbeReport, *, fatal: bool = True) -> set[str]:
    return {each.name for each in report.checks if not each.ok and each.fatal is fatal}


def dropped_and_kept_off(*operations: str) -> Callable[[], list[Fault]]:
    return lambda: [lies.drop_lock(*operations), lies.refuse("PutObjectRetention", 403, "AccessDenied")]


UNTRUSTED: dict[str, tuple[Callable[[], list[Fault]], set[str]]] = {
    "lock headers dropped": (dropped_and_kept_off(), {"locked-as-asked", "deletion-refused"}),
    "lock headers dropped, retention ignored": (
        lambda: [lies.drop_lock(), lies.ignore_retention()],
        {"locked-as-asked", "deletion-refused"},
    ),
    "lock of parts dropped": (dropped_and_kept_off("CreateMultipartUpload"), {"locked-as-asked", "deletion-refused"}),
    "lock shown and not kept": (lambda: [lies.pretend_lock()], {"deletion-refused", "bypass-refused"}),
    "governance instead of compliance": (lambda: [lies.governance_instead()], {"locked-as-asked", "bypass-refused"}),
    "shorter retention": (
        lambda: [lies.shorter_retention(timedelta(hours=20)), lies.ignore_retention()],
        {"locked-as-asked"},
    ),
    "accepted and deleted": (lambda: [lies.accept_then_delete()], {"reads-back"}),
    "other bytes read": (lambda: [lies.flip_on_read()], {"reads-back"}),
    "other bytes kept": (lambda: [lies.damage_upload()], {"reads-back"}),
    "no version id at all": (
        lambda: [lies.no_version_id("PutObject", "HeadObject", "ListObjectVersions", "CompleteMultipartUpload")],
        {"locked-as-asked"},
    ),
    "clock ahead": (lambda: [lies.shift_clock(timedelta(minutes=6))], {"clock-agrees"}),
    "clock behind": (lambda: [lies.shift_clock(timedelta(minutes=-6))], {"clock-agrees"}),
    "overwriting destroys": (lambda: [lies.destroy_on_overwrite()], {"old-version-kept"}),
}


@pytest.mark.parametrize("lie", UNTRUSTED)
async def test_probe_does_not_trust(store: S3Store, lying_s3: LyingS3, lie: str) -> None:
    faults, found = UNTRUSTED[lie]
    lying_s3.lie(*faults())
    report = await store.probe()
    assert not report.trusted
    assert found <= failed(report), report


WORKED_AROUND: dict[str, tuple[Callable[[], list[Fault]], set[str]]] = {
    "lock headers dropped, retention kept": (
        lambda: [lies.drop_lock()],
        {"lock-kept-on-put", "lock-kept-on-multipart"},
    ),
    "lock of parts dropped (Ceph gateway)": (
        lambda: [lies.drop_lock("CreateMultipartUpload")],
        {"lock-kept-on-multipart"},
    ),
    "no version id in answers": (lambda: [lies.no_version_id()], set()),
    "no version id in answers and on HEAD": (
        lambda: [lies.no_version_id("PutObject", "CompleteMultipartUpload", "HeadObject")],
        set(),
    ),
    "checksums ignored": (lambda: [lies.ignore_checksums()], {"sha256-kept", "wrong-checksum-refused"}),
    "checksums parroted (Dell ECS)": (lambda: [lies.parrot_checksums()], {"wrong-checksum-refused"}),
    "conditions ignored (Ceph gateway)": (
        lambda: [lies.ignore_conditions()],
        {"put-once-single", "put-once-multipart"},
    ),
    "conditions not implemented (B2)": (lambda: [lies.refuse_conditions()], {"put-once-single", "put-once-multipart"}),
    "unsigned bodies refused": (lambda: [lies.refuse_unsigned_payload()], set()),
    "checksum mode refused (B2)": (lambda: [lies.refuse_checksum_mode()], {"sha256-kept"}),
    "multipart not implemented": (lambda: [lies.refuse("CreateMultipartUpload", 501, "NotImplemented")], {"multipart"}),
}


@pytest.mark.parametrize("size", [SINGLE, MULTIPART])
@pytest.mark.parametrize("weakness", WORKED_AROUND)
async def test_weakness_is_found_and_worked_around(
    store: S3Store, lying_s3: LyingS3, lock: Lock, tmp_path: Path, weakness: str, size: int
) -> None:
    faults, found = WORKED_AROUND[weakness]
    lying_s3.lie(*faults())
    report = await store.probe()
    assert report.trusted, report
    assert failed(report, fatal=False) == found
    file = sealed_file(tmp_path, pattern(size))
    stored = await file.put(store, KEY, lock)
    again = await file.put(store, KEY, lock)
    lying_s3.faults.clear()
    assert again.version_id == stored.version_id
    assert [each.version_id for each in await listed(store)] == [stored.version_id]
    seen = await store.inspect(stored.key, stored.version_id)
    assert seen is not None
    assert (seen.lock_mode, seen.retain_until) == (LockMode.COMPLIANCE, stored.retain_until)
    assert seen.retain_until is not None
    assert lock.retain_until is not None
    assert seen.retain_until >= lock.retain_until
    assert await read_all(store, stored) == file.path.read_bytes()


NOT_LOCKED: dict[str, Callable[[], list[Fault]]] = {
    "lock headers dropped": dropped_and_kept_off(),
    "lock headers dropped, retention ignored": lambda: [lies.drop_lock(), lies.ignore_retention()],
    "governance instead of compliance": lambda: [lies.governance_instead()],
    "shorter retention": lambda: [lies.shorter_retention(timedelta(hours=1)), lies.ignore_retention()],
    "no version id at all": lambda: [
        lies.no_version_id("PutObject", "CompleteMultipartUpload", "HeadObject", "ListObjectVersions")
    ],
}


@pytest.mark.parametrize("size", [SINGLE, MULTIPART])
@pytest.mark.parametrize("lie", NOT_LOCKED)
async def test_bucket_that_begins_to_lie_stores_nothing_as_locked(
    store: S3Store, lying_s3: LyingS3, lock: Lock, tmp_path: Path, lie: str, size: int
) -> None:
    assert (await store.probe()).trusted
    lying_s3.lie(*NOT_LOCKED[lie]())
    with pytest.raises(errors.NotLockedError):
        await sealed_file(tmp_path, pattern(size)).put(store, KEY, lock)


DAMAGED: dict[str, Callable[[], list[Fault]]] = {
    "accepted and deleted": lambda: [lies.accept_then_delete()],
    "other bytes kept, checksum not kept": lambda: [lies.damage_upload()],
    "last byte lost": lambda: [lies.cut_upload()],
    "changed on the way, refused by the store": lambda: [lies.flip_on_wire()],
}


@pytest.mark.parametrize("lie", DAMAGED)
async def test_damage_is_found_by_the_read_back(
    store: S3Store, lying_s3: LyingS3, lock: Lock, tmp_path: Path, lie: str
) -> None:
    assert (await store.probe()).trusted
    lying_s3.lie(*DAMAGED[lie]())
    with pytest.raises(errors.VerificationError):
        await sealed_file(tmp_path, pattern(SINGLE)).put(store, KEY, lock)


@pytest.mark.parametrize("lie", ["part damaged", "read damaged", "part changed on the way"])
async def test_damaged_part_is_found(store: S3Store, lying_s3: LyingS3, lock: Lock, tmp_path: Path, lie: str) -> None:
    assert (await store.probe()).trusted
    faults = {
        "part damaged": lies.damage_upload("UploadPart"),
        "read damaged": lies.flip_on_read(),
        "part changed on the way": lies.flip_on_wire("UploadPart"),
    }
    lying_s3.lie(faults[lie])
    with pytest.raises(errors.VerificationError):
        await sealed_file(tmp_path, pattern(MULTIPART)).put(store, KEY, lock)


async def test_parroted_checksum_does_not_prove_the_bytes(
    store: S3Store, lying_s3: LyingS3, lock: Lock, tmp_path: Path
) -> None:
    """The storage shows the right SHA-256 over the wrong bytes; since it also took a wrong one, it is not believed."""
    lying_s3.lie(lies.parrot_checksums())
    assert (await store.probe()).trusted
    lying_s3.lie(lies.flip_on_wire())
    with pytest.raises(errors.VerificationError, match="full-read"):
        await sealed_file(tmp_path, pattern(SINGLE)).put(store, KEY, lock)


async def test_hold_that_is_ignored_is_not_called_set(
    store: S3Store, lying_s3: LyingS3, lock: Lock, tmp_path: Path
) -> None:
    stored = await sealed_file(tmp_path, b"x").put(store, KEY, lock)
    lying_s3.lie(lies.ignore("PutObjectLegalHold"))
    with pytest.raises(errors.NotLockedError):
        await store.hold(stored.key, stored.version_id, True)


async def test_extension_that_is_ignored_is_not_called_done(
    store: S3Store, lying_s3: LyingS3, lock: Lock, tmp_path: Path
) -> None:
    stored = await sealed_file(tmp_path, b"x").put(store, KEY, lock)
    lying_s3.lie(lies.ignore_retention())
    assert stored.retain_until is not None
    with pytest.raises(errors.NotLockedError):
        await store.extend(stored.key, stored.version_id, stored.retain_until + timedelta(days=1))


async def test_hold_that_protects_nothing_is_told(store: S3Store, lying_s3: LyingS3) -> None:
    lying_s3.lie(lies.ignore("PutObjectLegalHold"))
    report = await store.probe()
    assert report.trusted
    assert failed(report, fatal=False) == {"legal-hold-works"}


async def test_probe_cut_off_is_no_verdict(store: S3Store, lying_s3: LyingS3) -> None:
    lying_s3.lie(lies.refuse("GetObject", 503, "SlowDown"))
    with pytest.raises(errors.DestinationError):
        await store.probe()


async def test_encryption_that_is_not_applied_is_told(lying_s3: LyingS3, options: S3Options) -> None:
    store = S3Store(replace(options, sse="AES256"), SystemClock(), SystemChance())
    assert failed(await store.probe(), fatal=False) == set()
    lying_s3.lie(lies.drop_encryption())
    assert failed(await store.probe(), fatal=False) == {"encryption-kept"}
    await store.aclose()
