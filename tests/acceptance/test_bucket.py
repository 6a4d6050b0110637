"""What a bucket is asked, given and relieved of by whole sweeps; requests are counted by the proxy before a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from archiver.clock import SystemClock
from archiver.config.load import load
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Account, month_of_calls, samples
from archiver.demo.simulators.server import Simulator
from archiver.errors import Exit
from archiver.store.s3 import S3Options
from archiver.store.s3_bucket import Bucket
from tests import lying_s3 as lies
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.acceptance.test_archive import s3
from tests.fixtures_s3 import NewBucket
from tests.lying_s3 import LyingS3


@pytest.fixture
async def plivo() -> AsyncIterator[dict[str, Simulator]]:
    """One provider with two calls."""
    clock = SystemClock()
    sim = fleet.fleet(clock, samples(), count=0)["plivo"]
    sim.account = Account(month_of_calls("plivo", seed=5, count=2, audio=samples(), until=clock.now(), days=5))
    async with sim:
        yield {"plivo": sim}


@pytest.fixture
def options(lying_s3: LyingS3, new_bucket: NewBucket) -> S3Options:
    """A fresh bucket behind the proxy."""
    return replace(new_bucket(), endpoint=lying_s3.endpoint)


@pytest.fixture
def archive(plivo: dict[str, Simulator], options: S3Options, sqlite_url: str, tmp_path: Path) -> Archive:
    return make_archive(tmp_path, plivo, sqlite_url, s3(options, tmp_path))


async def run(archive: Archive, *arguments: str) -> tuple[int, dict[str, object]]:
    told = await asyncio.to_thread(archiver, "-c", archive.path, *arguments, "-o", "json")
    return told.returncode, json.loads(told.stdout or "{}").get("data", {})


def probed_at(status: dict[str, object]) -> datetime:
    return datetime.fromisoformat(status["storages"]["primary"]["probed_at"])  # type: ignore[index]


async def test_idle_sweep_within_the_hour_asks_the_storage_next_to_nothing_and_status_says_how_old_the_proof_is(
    archive: Archive, lying_s3: LyingS3
) -> None:
    assert (await archive.sweep()).exit_code == 0
    assert "PutObjectRetention" in lying_s3.calls
    lying_s3.calls.clear()
    began = SystemClock().now()
    code, status = await run(archive, "run", "--once")
    assert code == 0
    assert not {"PutObjectRetention", "PutObjectLegalHold", "CreateMultipartUpload", "DeleteObject"} & {*lying_s3.calls}
    assert len(lying_s3.calls) <= 12, lying_s3.calls
    assert probed_at(status) < began


async def test_sweep_with_another_configuration_has_the_storage_prove_itself_again(
    archive: Archive, lying_s3: LyingS3
) -> None:
    await archive.sweep()
    archive.path.write_text(archive.path.read_text().replace("mode: compliance", "mode: governance"))
    archive.config = load(archive.path, resolve_secrets=True)
    lying_s3.calls.clear()
    await archive.sweep()
    assert "PutObjectRetention" in lying_s3.calls


async def test_log_is_not_written_to_a_storage_that_is_not_trusted_until_it_proves_itself(
    archive: Archive, options: S3Options, lying_s3: LyingS3
) -> None:
    """Neither by a sweep nor by a command that comes after it; what was not written is made up for."""
    lying_s3.lie(lies.drop_lock(), lies.ignore_retention())
    sweep = await archive.sweep()
    assert sweep.exit_code == Exit.UNAVAILABLE
    assert "not trusted" in str(sweep.log_behind)
    code, _ = await run(archive, "verify")
    assert code == 0
    assert await asyncio.to_thread(keys_in, options, "custody/") == []
    lying_s3.faults.clear()
    assert (await archive.sweep()).exit_code == 0
    assert "calls/custody/checkpoint" in await asyncio.to_thread(keys_in, options, "custody/")


def keys_in(options: S3Options, prefix: str) -> list[str]:
    bucket = Bucket(options)
    try:
        return [each.key for page in bucket.versions(f"calls/{prefix}") for each in page]
    finally:
        bucket.close()


async def test_default_retention_of_the_bucket_is_told_of_everywhere_and_locks_neither_less_nor_what_is_not_to_stay(
    archive: Archive, options: S3Options
) -> None:
    """The configuration keeps recordings for two days; whoever owns the bucket wants thirty."""
    bucket, began = Bucket(options), SystemClock().now()
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}
    bucket._once.put_object_lock_configuration(
        Bucket=bucket.name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    assert (await archive.sweep()).exit_code == 0
    shown = {
        each.key: bucket.head(each.key, each.version_id)
        for page in await asyncio.to_thread(lambda: list(bucket.versions("calls/")))
        for each in page
        if not each.is_delete_marker
    }
    bucket.close()
    until = {key: head.lock.retain_until for key, head in shown.items() if head and head.lock.retain_until}
    assert until.keys() == shown.keys()
    short = {key for key, date in until.items() if date < began + timedelta(days=30)}
    assert {key.split("/")[1] for key in until if key not in short} == {"recordings", "catalogue", "custody"}
    assert {key for key in short if not key.startswith("calls/canary/")} == {"calls/custody/checkpoint"}
    assert all(until[key] < SystemClock().now() + timedelta(days=1, minutes=5) for key in short)
    for row in await archive.rows():
        (copy,) = row["copies"]  # type: ignore[misc]
        assert datetime.fromisoformat(copy["retain_until"]) == until[copy["key"]], "what is shown is what is recorded"
    for command in (["doctor"], ["status"], ["check", "--online"]):
        told = await asyncio.to_thread(archiver, "-c", archive.path, *command)
        assert "the bucket locks by itself, for 30 days in compliance mode" in told.stdout, command
    assert (
        "storage  primary  passed its probe" in (await asyncio.to_thread(archiver, "-c", archive.path, "status")).stdout
    )
    assert (await run(archive, "verify"))[0] == 0
