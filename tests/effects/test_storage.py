"""What the keys of `storage` do, as the storage itself is asked and shows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Account, month_of_calls, samples
from archiver.demo.simulators.server import Simulator
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.acceptance.test_archive import s3
from tests.fixtures_s3 import NewBucket
from tests.lying_s3 import Answer, Call, LyingS3, Onward


@pytest.fixture
async def plivo() -> AsyncIterator[dict[str, Simulator]]:
    """One provider with two calls."""
    clock = SystemClock()
    sim = fleet.fleet(clock, samples(), count=0)["plivo"]
    sim.account = Account(month_of_calls("plivo", seed=5, count=2, audio=samples(), until=clock.now(), days=5))
    async with sim:
        yield {"plivo": sim}


def behind(lying_s3: LyingS3, new_bucket: NewBucket, folder: Path, more: str) -> str:
    """The storage section for a fresh bucket that is reached through the proxy, with `more` keys."""
    from dataclasses import replace

    section = s3(replace(new_bucket(), endpoint=lying_s3.endpoint), folder)
    return section.replace("[{", f"[{{{more}, ")


async def once(archive: Archive) -> None:
    told = await asyncio.to_thread(archiver, "-c", archive.path, "run", "--once")
    assert told.returncode == 0, told.stderr


def named(headers: dict[str, str], name: str) -> str | None:
    return next((value for header, value in headers.items() if header.lower() == name), None)


@pytest.mark.effect("storage[](s3).storage_class")
async def test_storage_class_is_that_of_recordings_and_of_nothing_that_is_read_at_any_time(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    asked: dict[str, str | None] = {}

    def note(call: Call, onward: Onward) -> Answer | None:
        if call.operation in {"PutObject", "CreateMultipartUpload"}:
            asked[call.path] = named(call.headers, "x-amz-storage-class")
        return onward(call.without("x-amz-storage-class"))

    lying_s3.lie(note)
    storage = behind(lying_s3, new_bucket, tmp_path, "storage_class: GLACIER_IR")
    await once(make_archive(tmp_path, plivo, sqlite_url, storage))
    kinds: dict[str, set[str | None]] = {}
    for path, storage_class in asked.items():
        kinds.setdefault(path.split("/")[3], set()).add(storage_class)
    assert kinds.pop("recordings") == {"GLACIER_IR"}
    assert kinds == {"canary": {None}, "custody": {None}, "catalogue": {None}}


OWNER = "111122223333"


def owned(call: Call, onward: Onward) -> Answer | None:
    """What AWS does with a bucket of that owner."""
    if named(call.headers, "x-amz-expected-bucket-owner") in {None, OWNER}:
        return onward(call.without("x-amz-expected-bucket-owner"))
    return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")


@pytest.mark.effect("storage[](s3).bucket_owner")
async def test_every_call_names_the_owner_and_a_bucket_of_another_owner_gets_nothing(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    lying_s3.lie(owned)
    archive = make_archive(
        tmp_path, plivo, sqlite_url, behind(lying_s3, new_bucket, tmp_path, f'bucket_owner: "{OWNER}"')
    )
    await once(archive)
    assert {row["state"] for row in await archive.rows()} == {"archived"}
    owners = [named(headers, "x-amz-expected-bucket-owner") for headers in lying_s3.headers]
    assert set(owners) == {OWNER, "000000000000"}
    assert owners.count("000000000000") == 1  # the probe's own question, whether owners are checked at all
    # The same name, but somebody else's bucket.
    archive.path.write_text(archive.path.read_text().replace(OWNER, "444455556666"))
    before = len(lying_s3.calls)
    told = await asyncio.to_thread(archiver, "-c", archive.path, "check", "--online")
    assert told.returncode == 69
    assert "may not use this bucket" in told.stdout
    assert "PutObject" not in lying_s3.calls[before:]


async def test_a_storage_that_ignores_the_expected_owner_is_said_to_do_so(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    lying_s3.lie(lambda call, onward: onward(call.without("x-amz-expected-bucket-owner")))
    storage = behind(lying_s3, new_bucket, tmp_path, f'bucket_owner: "{OWNER}"')
    archive = make_archive(tmp_path, plivo, sqlite_url, storage)
    told = await asyncio.to_thread(archiver, "-c", archive.path, "check", "--online")
    assert "bucket_owner protects nothing here" in told.stdout


@pytest.mark.effect("storage[](s3).sse.mode", "storage[](s3).sse.key_id")
async def test_every_upload_asks_for_the_encryption_that_is_said(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    asked: set[tuple[str | None, str | None]] = set()

    def note(call: Call, onward: Onward) -> Answer | None:
        if call.operation in {"PutObject", "CreateMultipartUpload"}:
            asked.add(
                (
                    named(call.headers, "x-amz-server-side-encryption"),
                    named(call.headers, "x-amz-server-side-encryption-aws-kms-key-id"),
                )
            )
        return onward(call.without("x-amz-server-side-encryption"))

    lying_s3.lie(note)
    storage = behind(lying_s3, new_bucket, tmp_path, "sse: {mode: 'aws:kms', key_id: alias/acme}")
    await once(make_archive(tmp_path, plivo, sqlite_url, storage))
    assert asked == {("aws:kms", "alias/acme")}
