"""The daemon reads every copy again within the stated time, finds what a storage lost, and says how far it is."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from archiver.assembly.process import Assembly
from archiver.clock import SystemClock
from archiver.completeness.verified import Depth, integrity
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Type, parse
from archiver.daemon.rereading import Rereading
from archiver.daemon.supervise import Daemon
from archiver.database import create_engine
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.errors import DestinationError
from archiver.ingest import day_counts, fixity
from archiver.ingest.tables import copy, recording_day
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver

DIRECTORY = "[{id: primary, kind: directory, path: copies}]"
QUARTER = timedelta(days=90)


async def _archived(folder: Path, url: str, count: int = 3, more: str = "") -> Archive:
    sim = fleet.fleet(SystemClock(), samples(), seed=11, count=count)["kazoo"]
    async with sim:
        archive = make_archive(folder, {"kazoo": sim}, url, DIRECTORY, more=more)
        await archive.sweep()
    assert {row["state"] for row in await archive.rows()} == {"archived"}
    return archive


def _stored(archive: Archive, ago: timedelta) -> None:
    """Makes every copy as old as that, never read since."""
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    with engine.begin() as conn:
        conn.execute(update(copy).values(stored_at=SystemClock().now() - ago, verified_at=None))
    engine.dispose()


async def _turn(archive: Archive, every: timedelta = QUARTER, times: int = 1) -> list[datetime | None]:
    """Lets the daemon's duty have its turns; returns when each copy was last read."""
    a = await archive.assemble()
    try:
        await _ready(a)
        duty = Rereading(a, a.destinations[0], every, lambda: False)
        for _ in range(times):
            await duty.turn()
        await Daemon(a)._duties.leave()
        return list(await a.read(lambda conn: list(conn.execute(select(copy.c.verified_at)).scalars())))
    finally:
        await a.aclose()


async def _ready(a: Assembly) -> None:
    await a.enrol()
    for each in a.destinations:
        await Daemon(a)._duties.probe(each, force=True)


def _said(archive: Archive, *words: str, code: int) -> str:
    done = archiver("-c", archive.path, *words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


async def _told(archive: Archive) -> list[dict[str, Any]]:
    a = await archive.assemble()
    try:
        events = await a.read(lambda conn: [parse(each.raw) for each in history.entries(conn, ARCHIVE)])
    finally:
        await a.aclose()
    return [dict(each.data) for each in events if each.type == Type.RECONCILED and each.data.get("depth") == "rolling"]


async def test_copies_that_were_not_read_for_the_stated_time_are_read_and_others_are_not(
    tmp_path: Path, database_url: str
) -> None:
    archive = await _archived(tmp_path, database_url)
    assert await _turn(archive) == [None] * 3
    _stored(archive, timedelta(days=82))  # a tenth of the time is left to catch up
    assert None not in await _turn(archive)
    assert await _told(archive) == []  # a sound day is told once a day


async def test_a_byte_that_the_storage_lost_is_found_told_at_once_and_stays_until_all_is_verified(
    tmp_path: Path, sqlite_url: str
) -> None:
    archive = await _archived(tmp_path, sqlite_url)
    hurt = next(each for each in (tmp_path / "copies" / "recordings").rglob("*") if each.stat().st_size > 10_000)
    hurt.chmod(0o600)
    hurt.write_bytes(hurt.read_bytes()[:-1] + b"!")
    _stored(archive, QUARTER)
    read = await _turn(archive, times=2)
    assert read.count(None) == 1
    (told,) = await _told(archive)  # once, though the second turn came to the same copy
    assert (told["failures"], told["storage"], told["recordings"]) == ({"sealed_digest_differs": 1}, "primary", 3)
    assert "verification found 1" in _said(archive, "status", "--check", code=65)
    _said(archive, "verify", "--all", code=65)


async def test_a_storage_that_does_not_answer_leaves_copies_due_and_tells_no_failure(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = await _archived(tmp_path, sqlite_url)
    _stored(archive, QUARTER)
    a = await archive.assemble()
    try:
        await _ready(a)

        async def away(*_args: Any) -> None:
            raise DestinationError("connection refused")

        monkeypatch.setattr(a.destinations[0].store, "inspect", away, raising=False)
        await Rereading(a, a.destinations[0], QUARTER, lambda: False).turn()
        found = await a.read(lambda conn: fixity.due(conn, "primary", SystemClock().now(), 10))
        assert len(found) == 3
        assert (await a.read(lambda conn: integrity(conn, SystemClock().now()))).failures == {}
    finally:
        await a.aclose()


async def test_a_failure_is_told_though_the_storage_stops_answering_right_after_it(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = await _archived(tmp_path, sqlite_url)
    for each in (tmp_path / "copies" / "recordings").rglob("*"):
        if each.is_file() and each.stat().st_size > 10_000:
            each.chmod(0o600)
            each.write_bytes(each.read_bytes()[:-1] + b"!")
    _stored(archive, QUARTER)
    a = await archive.assemble()
    try:
        await _ready(a)
        store = a.destinations[0].store
        inspect, asked = store.inspect, 0

        async def once(*named: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked > 1:
                raise DestinationError("connection refused")
            return await inspect(*named)

        monkeypatch.setattr(store, "inspect", once, raising=False)
        await Rereading(a, a.destinations[0], QUARTER, lambda: False).turn()
        found = await a.read(lambda conn: integrity(conn, SystemClock().now()))
        assert found.failures == {"sealed_digest_differs": 1}
    finally:
        await a.aclose()


async def test_counts_that_somebody_changed_are_made_anew_by_the_daily_duty(tmp_path: Path, database_url: str) -> None:
    archive = await _archived(tmp_path, database_url)
    a = await archive.assemble()
    try:
        await _ready(a)
        await a.writer.run(lambda conn: conn.execute(update(recording_day).values(n=recording_day.c.n + 7)).rowcount)
        await Daemon(a)._duties.daily()
        assert await a.read(day_counts.wrong) == []
        assert await a.read(day_counts.states) == {"kazoo": {"archived": 3}}
    finally:
        await a.aclose()


async def test_a_day_of_sound_readings_is_signed_into_custody(tmp_path: Path, sqlite_url: str) -> None:
    archive = await _archived(tmp_path, sqlite_url)
    _stored(archive, QUARTER)
    a = await archive.assemble()
    try:
        await _ready(a)
        duty = Rereading(a, a.destinations[0], QUARTER, lambda: False)
        await duty.turn()
        duty._tally.since -= timedelta(days=1)
        await duty.turn()
        last = (await a.read(lambda conn: integrity(conn, SystemClock().now()))).last
        shown = await a.metrics_text()
    finally:
        await a.aclose()
    assert last is not None
    assert (last.depth, last.recordings, last.failures) == (Depth.ROLLING, 3, {})
    (told,) = await _told(archive)
    assert told["bytes_read"] > 0
    read_at = next(line for line in shown.decode().splitlines() if line.startswith("archiver_copy_oldest_reading"))
    assert abs(float(read_at.rpartition(" ")[2]) - time.time()) < 600


async def test_of_two_replicas_one_reads(tmp_path: Path, sqlite_url: str) -> None:
    archive = await _archived(tmp_path, sqlite_url)
    _stored(archive, QUARTER)
    a = await archive.assemble()
    try:
        await _ready(a)
        from archiver.schedule import lease

        await a.writer.run(lambda conn: lease.acquire(conn, "verify primary", "another", timedelta(minutes=3)))
        await Rereading(a, a.destinations[0], QUARTER, lambda: False).turn()
        assert len(await a.read(lambda conn: fixity.due(conn, "primary", SystemClock().now(), 10))) == 3
    finally:
        await a.aclose()


async def test_status_says_how_old_the_oldest_reading_is_and_verify_all_makes_it_new(
    tmp_path: Path, database_url: str
) -> None:
    archive = await _archived(tmp_path, database_url)
    _stored(archive, timedelta(days=97))
    late = _said(archive, "status", "--check", code=3)
    assert "primary: a copy was last read whole 97 d ago, and each is to be read within 90 d" in late
    state = json.loads(_said(archive, "-o", "json", "status", code=0))
    assert state["data"]["storages"]["primary"]["read_every_seconds"] == QUARTER.total_seconds()
    _said(archive, "verify", "--all", code=0)
    assert "every copy read whole within the last" in _said(archive, "status", "--check", code=0)


@pytest.mark.effect("verify.every")
async def test_the_running_daemon_reads_again_within_the_time_that_the_configuration_states(
    tmp_path: Path, sqlite_url: str
) -> None:
    archive = await _archived(tmp_path, sqlite_url, more="verify: {every: 1s}")
    log = (tmp_path / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "archiver", "-c", str(archive.path), "run", stdout=log, stderr=log
    )
    try:
        deadline = time.monotonic() + 60
        while any(each["verified_at"] is None for row in await archive.rows() for each in row["copies"]):  # type: ignore[attr-defined]
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            await asyncio.sleep(0.3)  # another process's database: nobody tells
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
        log.close()
    _stored(archive, timedelta(days=2))
    assert "is to be read within" in _said(archive, "status", code=0)
    archive.path.write_text(archive.path.read_text().replace("every: 1s", "every: never"))
    assert "is to be read within" not in _said(archive, "status", code=0)
