"""A process that ends in good order says so, last of all; whoever has its key afterwards writes nothing that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, text

from archiver import errors
from archiver.clock import SystemChance
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Type
from archiver.custody.ledger import Appended, Draft, Ledger
from archiver.database import reading
from archiver.schedule import lease
from archiver.store.port import Shelf
from archiver.translog import reader
from archiver.translog.keeper import Keeper, Parts
from archiver.translog.reader import newest_checkpoint
from archiver.translog.sequencer import Sequencer
from archiver.verify.finding import Kind, Verification
from archiver.verify.leaves import Findings, Leaves, Trust
from tests.broken_shelf import BrokenShelf
from tests.custody_examples import HOST_KEY
from tests.custody_log import HOSTS, SUBJECTS, CustodyLog, MovableClock, check_shelf, custody_log, folder_shelf
from tests.log_trees import LOG


def until(now: datetime) -> datetime:
    return now + timedelta(days=400)


def keeper(archive: CustodyLog, ledger: Ledger | None = None) -> Keeper:
    writing = ledger or archive.ledger
    sequencer = Sequencer(writing, HOSTS, archive.log_id)
    parts = Parts(archive.writer, writing, sequencer, archive.publisher, None, archive.log_id)
    return Keeper(parts, "replica-a", archive.clock, timedelta(seconds=10), until)


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    return await folder_shelf(tmp_path / "shelf")


@pytest.fixture
async def archive(database_url: str, shelf: Shelf, tmp_path: Path) -> AsyncIterator[CustodyLog]:
    async with custody_log(database_url, tmp_path / "notary.db", [shelf], clock=MovableClock()) as archive:
        yield archive


def state(archive: CustodyLog) -> tuple[int, list[str], int]:
    """How many wait, the reasons of what was refused, and how many leaves are published."""
    with reading(archive.engine) as conn:
        newest = newest_checkpoint(conn, archive.log_id, published=True)
        return reader.waiting(conn), [each.reason for each in reader.quarantined(conn)], newest.size if newest else 0


async def test_retirement_is_the_last_leaf_and_published_with_all_before_it(archive: CustodyLog, shelf: Shelf) -> None:
    await archive.append(300)
    assert await keeper(archive).catch_up(HOST_KEY) is None
    events = archive.all_events()
    assert (events[-1].type, events[-1].data) == (Type.WRITER_RETIRED, {"writer": archive.ledger.writer})
    assert state(archive) == (0, [], len(events))
    assert await check_shelf(shelf) == len(events) == 303
    archive.check_chains()
    with reading(archive.engine) as conn:
        assert len(list(reader.checkpoints(conn, archive.log_id))) == 1  # a sweep signs once


async def test_who_keeps_the_log_for_ever_retires_behind_what_still_waits(archive: CustodyLog) -> None:
    keeping = keeper(archive)
    await keeping.catch_up()
    await archive.append(5)
    await keeping.retire(HOST_KEY)
    assert archive.all_events()[-1].type == Type.WRITER_RETIRED
    assert state(archive) == (0, [], archive.tree()[0])


async def test_where_another_keeps_the_log_the_retirement_waits_for_it(archive: CustodyLog) -> None:
    await archive.writer.run(lambda conn: lease.acquire(conn, "sequencer", "replica-b", timedelta(minutes=1)))
    await archive.append(5)
    await keeper(archive).retire(HOST_KEY)
    assert state(archive) == (7, [], 0)
    with reading(archive.engine) as conn:
        assert b"writer.retired" in history.entries(conn, ARCHIVE)[-1].raw


async def test_no_anomaly_is_written_in_the_name_of_a_writer_that_has_retired(
    archive: CustodyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged row comes at the very end: it is left, with the retirement, to the next process."""
    retire = archive.ledger.retire

    def forge_and_retire(conn: Connection, host_key: Ed25519PrivateKey) -> Appended:
        forged = """INSERT INTO custody_pending (subject_no, seq, entry) SELECT subject_no, 900, entry
            FROM custody_subject, custody_event WHERE subject = :s AND leaf_index = 0"""
        conn.execute(text(forged), {"s": SUBJECTS[0]})
        monkeypatch.setattr(archive.ledger, "retire", retire)
        return retire(conn, host_key)

    await archive.append(5)
    monkeypatch.setattr(archive.ledger, "retire", forge_and_retire)
    keeping = keeper(archive)
    assert await keeping.catch_up(HOST_KEY) is None
    assert state(archive)[:2] == (1, [])  # the forged row went with the transaction that could not tell of it
    with reading(archive.engine) as conn:
        assert b"writer.retired" in history.entries(conn, ARCHIVE)[-1].raw
    archive.check_chains()


async def test_retirement_whose_answer_was_lost_may_be_said_twice(
    archive: CustodyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = []
    run = archive.writer.run

    async def losing(fn: Callable[[Connection], object]) -> object:
        done = await run(fn)
        if fn.__name__ == "last" and not lost:
            lost.append(fn)
            raise errors.OutcomeUnknownError("lost")
        return done

    await archive.append(5)
    monkeypatch.setattr(archive.writer, "run", losing)
    assert await keeper(archive).catch_up(HOST_KEY) is None
    monkeypatch.undo()
    assert lost
    await archive.integrate()
    assert Counter(event.type for event in archive.all_events())[Type.WRITER_RETIRED] == 2
    assert state(archive)[:2] == (0, [])
    archive.check_chains()


async def test_storage_that_is_away_keeps_nobody_from_retiring(database_url: str, shelf: Shelf, tmp_path: Path) -> None:
    def down(name: str) -> None:
        raise errors.DestinationError("away")

    broken = BrokenShelf(shelf, before=down, reading=down)
    async with custody_log(database_url, tmp_path / "notary.db", [broken]) as archive:
        await archive.append(5)
        problem = await keeper(archive).catch_up(HOST_KEY)
        assert problem is not None
        assert "away" in problem
        assert state(archive) == (7, [], 0)


async def test_host_key_that_was_changed_meanwhile_retires_nobody(archive: CustodyLog) -> None:
    await archive.append(5)
    assert await keeper(archive).catch_up(Ed25519PrivateKey.generate()) is None
    assert state(archive)[:2] == (0, [])
    assert archive.all_events()[-1].type != Type.WRITER_RETIRED


async def test_event_behind_its_writers_retirement_is_refused_by_log_and_verifiers(archive: CustodyLog) -> None:
    """Somebody kept the session key."""
    await archive.append(5)
    await keeper(archive).catch_up(HOST_KEY)
    size = archive.tree()[0]
    await archive.writer.run(
        lambda conn: archive.ledger.append_many(
            conn, [Draft(SUBJECTS[0], Type.FIXITY_CHECKED, {}), Draft(ARCHIVE, Type.CONFIG_CHANGED, {})]
        )
    )
    with reading(archive.engine) as conn:
        leaves = list(reader.entries(conn, archive.log_id, 0, size))
        late = [each.raw for subject in (SUBJECTS[0], ARCHIVE) for each in history.entries(conn, subject)[-1:]]
    result = Verification()
    heard = Leaves(Trust(LOG.key, HOSTS), Findings(result, "log"))
    for index, entry in enumerate([*leaves, *late]):
        heard.hear(index, entry, Kind.LOG_LEAF, f"leaf {index}")
    assert [each.detail.split(":")[0] for each in result.findings] == [f"leaf {size}", f"leaf {size + 1}"]
    assert all(f"was retired at leaf {size - 1}" in each.detail for each in result.findings)

    following = Ledger.open(archive.clock, SystemChance())
    await archive.writer.run(lambda conn: following.enroll(conn, HOST_KEY))
    await keeper(archive, following).catch_up()
    assert state(archive)[1] == ["writer", "writer"]
