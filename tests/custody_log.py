"""A custody log with everything that publishes it: a real database, a notary, shelves. For tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from archiver.clock import Clock, SystemChance, SystemClock
from archiver.custody.chain import check_chain, enrolled_writers
from archiver.custody.event import ARCHIVE, Event, verify
from archiver.custody.history import entries, head, subjects
from archiver.custody.keys import public_hex
from archiver.custody.ledger import Draft, Ledger
from archiver.database import Writer, create_engine, reading
from archiver.store.directory import DirectoryStore
from archiver.store.port import Shelf
from archiver.translog import reader
from archiver.translog.notary import Notary
from archiver.translog.published_log import PublishedLog, newest_checkpoint
from archiver.translog.publisher import Publisher
from archiver.translog.sequencer import Sequencer, open_log
from archiver.translog.witness import Witness
from tests.custody_examples import HOST_KEY
from tests.log_trees import LOG, ORIGIN

HOSTS = frozenset({public_hex(HOST_KEY)})
SUBJECTS = [f"rec:01937f2c-8b7e-7c3a-9d1e-{number:012x}" for number in range(40)]


class MovableClock:
    """The real time, and as much later as told."""

    def __init__(self) -> None:
        self.later = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.later

    def monotonic(self) -> float:
        return self.now().timestamp()


async def folder_shelf(path: Path, *, required: bool = True) -> Shelf:
    store = DirectoryStore(path.name, path, clock=SystemClock(), chance=SystemChance(), required=required)
    await store.probe()
    return store.shelf()


@dataclass
class CustodyLog:
    """One archive. `grow` writes and integrates events; `publisher` publishes them."""

    engine: Engine
    writer: Writer
    ledger: Ledger
    log_id: int
    notary: Notary
    publisher: Publisher
    shelves: Sequence[Shelf]
    clock: Clock
    written: int = 0
    events: list[tuple[str, int]] = field(default_factory=list)

    async def append(self, count: int) -> None:
        """Write `count` events, round about the subjects."""
        drafts = [
            Draft(SUBJECTS[(self.written + n) % len(SUBJECTS)], "recording.fixity_checked", {"n": self.written + n})
            for n in range(count)
        ]
        done = await self.writer.run(lambda conn: self.ledger.append_many(conn, drafts))
        self.written += count
        self.events += [(each.subject, each.seq) for each in done]

    async def integrate(self) -> int:
        """Empty the queue; returns the tree's size."""
        sequencer = Sequencer(self.ledger, HOSTS, self.log_id)
        while True:
            done = await self.writer.run(sequencer.integrate)
            if done.taken < 1000:
                return done.size

    async def grow(self, count: int) -> int:
        await self.append(count)
        return await self.integrate()

    def tree(self) -> tuple[int, bytes]:
        with reading(self.engine) as conn:
            return reader.tree(conn, self.log_id)

    def all_events(self) -> list[Event]:
        """Every leaf's event, its signature checked."""
        with reading(self.engine) as conn:
            size, _ = reader.tree(conn, self.log_id)
            return [verify(each) for each in reader.entries(conn, self.log_id, 0, size)]

    def check_chains(self) -> None:
        """Every subject's chain is whole, up to its head."""
        with reading(self.engine) as conn:
            writers = enrolled_writers(entries(conn, ARCHIVE), HOSTS)
            for subject in subjects(conn, limit=1000):
                assert check_chain(subject, entries(conn, subject), writers, HOSTS, head(conn, subject)) == []


@asynccontextmanager
async def custody_log(
    url: str,
    notary_path: Path,
    shelves: Sequence[Shelf],
    witnesses: Sequence[Witness] = (),
    *,
    clock: Clock | None = None,
    enrol: bool = True,
) -> AsyncIterator[CustodyLog]:
    """An archive process on this database, notary and shelves. Nothing is started yet: see `Publisher.start`."""
    clock = clock or SystemClock()
    engine = create_engine(url, None)
    writer = Writer(engine)
    ledger = Ledger.open(clock, SystemChance())
    notary = Notary(notary_path, LOG, clock)
    try:
        log_id = await writer.run(lambda conn: open_log(conn, ORIGIN, clock.now()))
        if enrol:
            await writer.run(lambda conn: ledger.enroll(conn, HOST_KEY))
        publisher = Publisher(engine, writer, log_id, notary, shelves, clock, witnesses)
        yield CustodyLog(engine, writer, ledger, log_id, notary, publisher, shelves, clock)
    finally:
        await asyncio.to_thread(writer.close)
        engine.dispose()


async def check_shelf(shelf: Shelf, size: int | None = None) -> int:
    """Read the whole published log as a stranger would, every leaf proved; returns its size."""
    found = await newest_checkpoint(shelf, LOG.key)
    assert found is not None
    checkpoint = found.checkpoint
    assert size is None or checkpoint.size == size
    published = await PublishedLog.open(shelf, checkpoint.size, checkpoint.root)
    count = 0
    for index in range((checkpoint.size + 255) // 256):
        count += len([verify(entry) for entry in await published.entries(index)])
    assert count == checkpoint.size
    return count
