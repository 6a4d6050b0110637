"""What each server proves. Not by brand in the product, but known here, so that a change in either is seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.port import ProbeReport
from archiver.store.s3 import S3Options, S3Store
from archiver.store.s3_upload import Profile
from tests.fixtures_s3 import NewBucket, bucket_at
from tests.sealed_files import listed, sealed_file


async def probed(options: S3Options) -> tuple[ProbeReport, Profile]:
    store = S3Store(options, SystemClock(), SystemChance())
    try:
        return await store.probe(), store.profile
    finally:
        await store.aclose()


def failing(report: ProbeReport) -> dict[str, bool]:
    """Names of failed checks, and whether each is fatal."""
    return {each.name: each.fatal for each in report.checks if not each.ok}


@pytest.mark.parametrize("mode", [LockMode.COMPLIANCE, LockMode.GOVERNANCE])
async def test_seaweedfs_proves_everything(new_bucket: NewBucket, mode: LockMode) -> None:
    report, profile = await probed(new_bucket(lock_mode=mode))
    assert failing(report) == {}
    assert len(report.checks) >= 16
    assert profile == Profile(conditional_single=True, conditional_multipart=True, checksum_proves=True)


async def test_moto_is_not_trusted_in_compliance_mode(moto: str) -> None:
    report, profile = await probed(bucket_at(moto))
    weak = {"sha256-kept": False, "wrong-checksum-refused": False, "lock-kept-on-multipart": False}
    assert failing(report) == weak | {"shortening-refused": True}
    assert not report.trusted
    assert profile.md5, "moto takes a lock only with Content-MD5"
    assert not profile.checksum_proves


async def test_moto_is_trusted_in_governance_mode_with_warnings(moto: str) -> None:
    report, _ = await probed(bucket_at(moto, lock_mode=LockMode.GOVERNANCE))
    assert report.trusted
    assert failing(report)["shortening-refused"] is False


@pytest.mark.parametrize("mode", [LockMode.COMPLIANCE, LockMode.GOVERNANCE])
async def test_bucket_without_object_lock_is_not_trusted(new_bucket: NewBucket, mode: LockMode) -> None:
    report, _ = await probed(new_bucket(locked=False, lock_mode=mode))
    assert {"versioning-enabled", "object-lock-enabled"} <= {name for name, fatal in failing(report).items() if fatal}


async def test_bucket_without_object_lock_will_do_when_locks_are_off(new_bucket: NewBucket) -> None:
    report, _ = await probed(new_bucket(locked=False))
    assert report.trusted
    assert failing(report)["protection"] is False


async def test_bucket_that_is_not_there_gives_no_verdict(s3_options: S3Options) -> None:
    with pytest.raises(errors.DestinationError, match="404"):
        await probed(replace(s3_options, bucket="no-such-bucket"))


async def test_wrong_secret_gives_no_verdict(s3_options: S3Options) -> None:
    assert s3_options.access_key is not None
    with pytest.raises(errors.DestinationError, match="403") as refused:
        await probed(replace(s3_options, secret_key=s3_options.access_key))
    assert s3_options.access_key.reveal() not in str(refused.value)


async def test_probe_leaves_only_the_two_locked_canaries(s3_options: S3Options) -> None:
    store = S3Store(s3_options, SystemClock(), SystemChance())
    await store.probe()
    left = await listed(store, "")
    assert [(each.key.startswith("calls/canary/"), each.is_delete_marker) for each in left] == [(True, False)] * 2
    for each in left:
        seen = await store.inspect(each.key, each.version_id)
        assert seen is not None
        assert seen.retain_until is not None
        assert seen.retain_until < datetime.now(UTC) + timedelta(days=1, minutes=1)
    assert await store.sweep_uploads(timedelta(seconds=-5)) == 0
    await store.aclose()


async def test_probe_leaves_nothing_when_locks_are_off(new_bucket: NewBucket) -> None:
    store = S3Store(new_bucket(lock_mode=LockMode.OFF), SystemClock(), SystemChance())
    await store.probe()
    assert await listed(store, "") == []
    await store.aclose()


async def test_versions_are_listed_over_many_pages(
    s3_options: S3Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = S3Store(s3_options, SystemClock(), SystemChance())
    client = store._bucket._twice
    whole_page = client.list_object_versions
    monkeypatch.setattr(client, "list_object_versions", lambda **fields: whole_page(MaxKeys=2, **fields))
    file = sealed_file(tmp_path, b"x")
    until = Lock(LockMode.COMPLIANCE, datetime.now(UTC) + timedelta(days=1))
    keys = [f"recordings/k{n}" for n in range(5)]
    for key in keys:
        await file.put(store, key, until)
        store._bucket.delete(f"calls/{key}")
    found = await listed(store)
    assert [(each.key, each.is_delete_marker) for each in found] == [
        (f"calls/{key}", marker) for key in keys for marker in (True, False)
    ]
    await store.aclose()
