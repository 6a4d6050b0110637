"""Whole sweeps beside a storage that answers oddly, is slow for a moment, or knows half of S3."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Account, month_of_calls, samples
from archiver.demo.simulators.server import Simulator
from archiver.errors import Exit
from tests.acceptance.archive import make_archive
from tests.acceptance.cli import archiver
from tests.integration.test_s3_vendors import VENDORS
from tests.lying_s3 import Answer
from tests.memory_s3 import MemoryS3, changing, memory_s3


@pytest.fixture
async def plivo() -> AsyncIterator[dict[str, Simulator]]:
    """One provider with two calls."""
    clock = SystemClock()
    sim = fleet.fleet(clock, samples(), count=0)["plivo"]
    sim.account = Account(month_of_calls("plivo", seed=5, count=2, audio=samples(), until=clock.now(), days=5))
    async with sim:
        yield {"plivo": sim}


def section(server: MemoryS3, folder: Path, mode: str = "compliance", more: str = "") -> str:
    (folder / "s3").write_text("b")
    (folder / "s3").chmod(0o400)
    return (
        f'{{id: odd, kind: s3, endpoint: "{server.endpoint}", bucket: bucket, prefix: calls/, addressing: path, '
        f"access_key: a, secret_key: file:s3, object_lock: {{mode: {mode}}}{more}}}"
    )


async def test_optional_storage_that_answers_oddly_is_told_everywhere_and_costs_the_good_one_nothing(
    plivo: dict[str, Simulator], sqlite_url: str, tmp_path: Path
) -> None:
    with memory_s3(faults=[changing("x-amz-object-lock-retain-until-date", lambda _: "soon")]) as server:
        storage = (
            f"[{{id: good, kind: directory, path: copies}}, {section(server, tmp_path, more=', required: false')}]"
        )
        archive = make_archive(tmp_path, plivo, sqlite_url, storage)
        told = await asyncio.to_thread(archiver, "-c", archive.path, "run", "--once")
        assert told.returncode == Exit.UNFINISHED, told.stderr  # copies are owed
        assert {row["state"] for row in await archive.rows()} == {"archived"}
        sentence = "the date of the lock is no time that can be read"
        assert sentence in told.stderr
        assert "Traceback" not in told.stderr
        status = await asyncio.to_thread(archiver, "-c", archive.path, "status", "-o", "json")
        assert sentence in json.loads(status.stdout)["data"]["storages"]["odd"]["problem"]
        assert sentence in (await asyncio.to_thread(archiver, "-c", archive.path, "status")).stdout


async def test_one_503_to_one_canary_does_not_keep_the_sweep_from_storing(
    plivo: dict[str, Simulator], sqlite_url: str, tmp_path: Path
) -> None:
    busy = [Answer(503, {"Retry-After": "0"}, b"<Error><Code>SlowDown</Code></Error>")]
    with memory_s3() as server:
        server.lie(lambda call, onward: busy.pop() if busy and call.operation == "PutObject" else onward(call))
        archive = make_archive(tmp_path, plivo, sqlite_url, section(server, tmp_path))
        assert (await archive.sweep()).exit_code == Exit.OK
        assert not busy
        assert {row["state"] for row in await archive.rows()} == {"archived"}


@pytest.mark.parametrize("vendor", ["Swift", "JuiceFS"])
async def test_log_is_published_where_tags_or_versions_are_unknown(
    plivo: dict[str, Simulator], sqlite_url: str, tmp_path: Path, vendor: str
) -> None:
    it = VENDORS[vendor]
    with memory_s3(it.kind, list(it.faults)) as server:
        archive = make_archive(tmp_path, plivo, sqlite_url, section(server, tmp_path, "off"))
        assert (await archive.sweep()).exit_code == Exit.OK
        assert server.objects["calls/custody/checkpoint"]
        told = await asyncio.to_thread(archiver, "-c", archive.path, "verify", "--all")
        assert told.returncode == Exit.OK, told.stdout


async def test_sweep_tells_of_a_worker_that_broke_and_the_next_one_finishes_its_work(
    plivo: dict[str, Simulator], sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours, which no party can be blamed for: told, not swallowed as "75 and no line"."""

    def bug(*_: object) -> str:
        raise ZeroDivisionError

    archive = make_archive(tmp_path, plivo, sqlite_url, "[{id: good, kind: directory, path: copies}]")
    with monkeypatch.context() as broken:
        broken.setattr("archiver.ingest.storing.layout.recording_key", bug)
        with pytest.raises(ZeroDivisionError):
            await archive.sweep()
    assert {row["state"] for row in await archive.rows()} == {"spooled"}
    assert (await archive.sweep()).exit_code == Exit.OK
    assert {row["state"] for row in await archive.rows()} == {"archived"}
