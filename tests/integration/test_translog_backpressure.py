"""A long queue slows listing down while the log moves, and nothing at all while it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from archiver.clock import SystemClock
from archiver.database import read
from archiver.ingest.backpressure import LONGEST, Backpressure
from archiver.translog import reader
from archiver.translog.keeper import Keeper, Parts
from archiver.translog.sequencer import Sequencer
from tests.custody_log import HOSTS, CustodyLog, custody_log, folder_shelf
from tests.log_oracle import tamper


def until(now: datetime) -> datetime:
    return now + timedelta(days=400)


@pytest.fixture
async def archive(database_url: str, tmp_path: Path) -> AsyncIterator[CustodyLog]:
    shelf = await folder_shelf(tmp_path / "shelf")
    async with custody_log(database_url, tmp_path / "notary.db", [shelf]) as archive:
        yield archive


def keeper(archive: CustodyLog) -> Keeper:
    sequencer = Sequencer(archive.ledger, HOSTS, archive.log_id)
    parts = Parts(archive.writer, archive.ledger, sequencer, archive.publisher, None, archive.log_id)
    return Keeper(parts, "replica-a", archive.clock, timedelta(seconds=10), until)


def at_the_mark(archive: CustodyLog) -> Backpressure:
    return Backpressure(lambda: read(archive.engine, reader.backlog), SystemClock())


async def waited(backpressure: Backpressure) -> float:
    began = time.monotonic()
    await backpressure.wait()
    return time.monotonic() - began


async def waiting(archive: CustodyLog) -> int:
    return await read(archive.engine, reader.waiting)


async def test_queue_below_the_mark_holds_nobody_up(archive: CustodyLog) -> None:
    await archive.append(reader.BACKLOG - 2)  # with the enrolment, one below the mark
    assert await read(archive.engine, reader.backlog) is None
    backpressure = at_the_mark(archive)
    assert await waited(backpressure) < LONGEST.total_seconds() / 2
    await archive.append(1)
    assert await read(archive.engine, reader.backlog) == 1


async def test_listing_waits_while_the_log_moves_and_goes_on_below_the_mark(archive: CustodyLog) -> None:
    await archive.append(reader.BACKLOG + 700)
    backpressure = at_the_mark(archive)
    waits = asyncio.create_task(backpressure.wait())
    await asyncio.sleep(0.3)  # time for what should not happen
    assert not waits.done()
    await keeper(archive).relieve()
    assert (
        reader.BACKLOG - 256 <= await waiting(archive) < reader.BACKLOG
    )  # a sweep takes no more than it must before its end
    await asyncio.wait_for(waits, LONGEST.total_seconds())


async def test_log_that_cannot_be_kept_holds_nobody_up(archive: CustodyLog) -> None:
    """As when its rows were tampered with: recordings are listed and saved all the same, and nothing waits twice."""
    await archive.grow(3)
    tamper(archive.engine, "custody_tree", "UPDATE custody_tree SET size = size - 1")
    await archive.append(reader.BACKLOG)
    keeping = keeper(archive)
    await keeping.relieve()
    assert keeping.problem is not None
    backpressure = at_the_mark(archive)
    assert 1.5 < await waited(backpressure) < LONGEST.total_seconds()
    await archive.append(1)
    assert await waited(backpressure) < LONGEST.total_seconds() / 2
    assert await waiting(archive) == reader.BACKLOG + 1


async def test_slow_log_holds_nobody_up_for_long(archive: CustodyLog) -> None:
    await archive.append(reader.BACKLOG + 200)
    sequencer = Sequencer(archive.ledger, HOSTS, archive.log_id)

    async def slowly() -> None:
        while True:
            await archive.writer.run(lambda conn: sequencer.integrate(conn, 1))
            await asyncio.sleep(0.3)  # slow on purpose

    taking = asyncio.create_task(slowly())
    took = await waited(at_the_mark(archive))
    taking.cancel()
    assert LONGEST.total_seconds() <= took
    assert await waiting(archive) > reader.BACKLOG, "it waited until the log was below the mark"
