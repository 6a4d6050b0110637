"""Who keeps the log: one replica at a time, for ever, whatever rests in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from archiver import errors
from archiver.clock import SystemClock
from archiver.database import reading
from archiver.schedule import lease
from archiver.store.port import Shelf
from archiver.translog import reader
from archiver.translog.keeper import LEASE, Keeper, Parts
from archiver.translog.sequencer import Sequencer
from tests.broken_shelf import BrokenShelf
from tests.custody_log import HOSTS, CustodyLog, MovableClock, check_shelf, custody_log, folder_shelf


def until(now: datetime) -> datetime:
    return now + timedelta(days=400)


def keeper(archive: CustodyLog, name: str = "replica-a") -> Keeper:
    sequencer = Sequencer(archive.ledger, HOSTS, archive.log_id)
    parts = Parts(archive.writer, archive.ledger, sequencer, archive.publisher, None, archive.log_id)
    return Keeper(parts, name, archive.clock, timedelta(seconds=10), until)


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    return await folder_shelf(tmp_path / "shelf")


@pytest.fixture
async def archive(database_url: str, shelf: Shelf, tmp_path: Path) -> AsyncIterator[CustodyLog]:
    async with custody_log(database_url, tmp_path / "notary.db", [shelf], clock=MovableClock()) as archive:
        yield archive


async def test_everything_that_waits_is_in_the_log_and_published(archive: CustodyLog, shelf: Shelf) -> None:
    await archive.append(700)
    assert await keeper(archive).catch_up() is None
    with reading(archive.engine) as conn:
        assert reader.waiting(conn) == 0
    size, _ = archive.tree()
    assert await check_shelf(shelf) == size == 702  # with the writer's enrolment and the first heartbeat


async def test_a_second_replica_leaves_the_log_alone_until_the_lease_is_given_back(archive: CustodyLog) -> None:
    await archive.append(3)
    assert await keeper(archive, "replica-a").catch_up() is None
    await archive.append(3)
    size, _ = archive.tree()
    assert await keeper(archive, "replica-b").catch_up() is None
    assert archive.tree()[0] == size
    await archive.writer.run(lambda conn: lease.leave(conn, "replica-a"))
    assert await keeper(archive, "replica-b").catch_up() is None
    assert archive.tree()[0] == size + 3


async def test_while_the_storage_is_away_events_wait_and_are_published_when_it_is_back(
    database_url: str, shelf: Shelf, tmp_path: Path
) -> None:
    away = True

    def down(name: str) -> None:
        if away:
            raise errors.DestinationError("away")

    broken = BrokenShelf(shelf, before=down, reading=down)
    async with custody_log(database_url, tmp_path / "notary.db", [broken]) as archive:
        await archive.append(5)
        problem = await keeper(archive).catch_up()
        assert problem is not None
        assert "away" in problem
        assert archive.tree()[0] == 0  # nothing grows before it is known what was published
        away = False
        assert await keeper(archive).catch_up() is None
        assert await check_shelf(shelf) == archive.tree()[0] == 7


async def test_a_database_that_lost_what_was_published_ends_the_process(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Callable[[str], str]
) -> None:
    async with custody_log(database_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.append(20)
        await keeper(archive).catch_up()
    old = backup(database_url)
    async with custody_log(database_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.append(20)
        await archive.writer.run(lambda conn: lease.leave(conn, "replica-a"))
        await keeper(archive).catch_up()
    async with custody_log(old, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        await archive.writer.run(lambda conn: lease.leave(conn, "replica-a"))
        with pytest.raises(errors.RolledBackError):
            await keeper(archive).catch_up()


async def test_partial_tiles_are_locked_once_a_day_however_often_the_process_starts(
    archive: CustodyLog, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(archive.clock, MovableClock)
    pinned: list[int] = []
    pin = archive.publisher.pin

    async def noting(size: int, lock: datetime | None) -> None:
        pinned.append(size)
        await pin(size, lock)

    monkeypatch.setattr(archive.publisher, "pin", noting)
    for _ in range(4):
        await archive.append(1)
        await keeper(archive).catch_up()
    assert len(pinned) == 1
    archive.clock.later = timedelta(days=1)
    await archive.append(1)
    await keeper(archive).catch_up()
    assert len(pinned) == 2


async def test_silence_is_visible_a_heartbeat_each_hour(archive: CustodyLog) -> None:
    assert isinstance(archive.clock, MovableClock)
    for hours in (0, 0, 1, 2):
        archive.clock.later = timedelta(hours=hours)
        await keeper(archive).catch_up()
    assert [event.type for event in archive.all_events()].count("log.heartbeat") == 3


async def test_the_lease_goes_by_the_databases_clock(archive: CustodyLog) -> None:
    await keeper(archive).catch_up()
    with archive.engine.begin() as conn:
        from archiver.schedule.tables import lease as leases

        held = conn.execute(select(leases).where(leases.c.name == LEASE)).one()
    assert held.holder == "replica-a"
    assert abs(held.until - SystemClock().now()) < timedelta(seconds=65)
