"""A process starts although another one was stopped within a transaction, and says who holds it up if it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from archiver import errors
from archiver.assembly.log import enrol
from archiver.clock import Clock, SystemChance, SystemClock
from archiver.custody.ledger import Ledger
from archiver.database import Writer, create_engine, read
from archiver.translog import reader
from tests.custody_examples import HOST_KEY
from tests.custody_log import MovableClock
from tests.fixtures_db import Server


@contextmanager
def stopped(url: str, *, for_seconds: int) -> Iterator[None]:
    """A process that holds the archive's chain and does nothing more; the server ends its session after a while."""
    options = f"-c idle_in_transaction_session_timeout={for_seconds}s"
    engine = create_engine(make_url(url).update_query_dict({"options": options}).render_as_string(False), None)
    conn = engine.connect()
    conn.execute(text("SELECT 1 FROM custody_subject WHERE subject = 'archive' FOR UPDATE"))
    try:
        yield
    finally:
        conn.invalidate()
        conn.close()
        engine.dispose()


async def start(url: str, clock: Clock) -> int:
    """What a start does to the log; how many events wait then."""
    quick = make_url(url).update_query_dict({"options": "-c lock_timeout=4s"}).render_as_string(False)
    engine = create_engine(quick, None)
    writer = Writer(engine)
    try:
        await enrol(Ledger.open(clock, SystemChance()), HOST_KEY, engine, writer, clock)
        return await read(engine, reader.waiting)
    finally:
        writer.close()
        engine.dispose()


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    url = postgresql.create(migrated=True)
    yield url
    postgresql.drop(url)


async def test_start_waits_until_the_server_ends_the_session_of_who_was_stopped(url: str) -> None:
    assert await start(url, SystemClock()) == 1
    began = time.monotonic()
    with stopped(url, for_seconds=6):
        assert await start(url, SystemClock()) == 2
    assert 4 < time.monotonic() - began < 15


class Hurried(MovableClock):
    """Each reading is minutes later."""

    def monotonic(self) -> float:
        self.later += timedelta(minutes=5)
        return super().monotonic()


async def test_start_that_cannot_wait_any_longer_says_who_holds_it_up(url: str) -> None:
    assert await start(url, SystemClock()) == 1
    with stopped(url, for_seconds=60), pytest.raises(errors.UnavailableError) as said:
        await start(url, Hurried())
    assert "another process (archiver at " in str(said.value)
    assert "has held a transaction open since" in str(said.value)
