"""Group commit: what is kept, what is undone, and who is told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, Text, func, insert, select, text, update

from archiver.database import Writer, create_engine, read
from archiver.errors import ArchiverError, LeaseLostError, OutcomeUnknownError, UnavailableError
from tests.cutting_proxy import Cut, CuttingProxy
from tests.fixtures_db import Server

notes = Table("notes", MetaData(), Column("token", Text, primary_key=True), Column("hits", Integer, nullable=False))


@pytest.fixture
def writer(database: Engine) -> Iterator[Writer]:
    with database.begin() as conn:
        notes.create(conn)
    writer = Writer(database)
    yield writer
    writer.close()


def note(conn: Connection, token: str) -> str:
    """A change as they all must be: it finds by its token that it was done before."""
    if conn.execute(select(notes.c.token).where(notes.c.token == token)).first() is None:
        conn.execute(insert(notes).values(token=token, hits=1))
    return token


def tokens(engine: Engine) -> list[str]:
    with engine.connect() as conn:
        return list(conn.execute(select(notes.c.token).order_by(notes.c.token)).scalars())


class Gate:
    """Keeps the writer busy, so that what is asked for meanwhile becomes one group."""

    def __init__(self, writer: Writer) -> None:
        self._entered, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=writer.run_sync, args=(self._wait,))
        self._thread.start()
        assert self._entered.wait(10)

    def _wait(self, conn: Connection) -> None:
        self._entered.set()
        assert self._go.wait(10)

    def open(self) -> None:
        self._go.set()
        self._thread.join(10)


async def _together(writer: Writer, *fns: Any) -> list[Any]:
    gate = Gate(writer)
    tasks = [asyncio.ensure_future(writer.run(fn)) for fn in fns]
    await asyncio.sleep(0)  # each has asked when it has begun
    await asyncio.to_thread(gate.open)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_changes_that_wait_together_are_committed_together(database: Engine, writer: Writer) -> None:
    def transaction(conn: Connection, name: str) -> object:
        note(conn, name)
        return id(conn)

    seen = await _together(writer, *(lambda conn, n=n: transaction(conn, f"{n:03}") for n in range(50)))
    assert len(set(seen)) == 1
    assert len(tokens(database)) == 50


async def test_one_refused_change_undoes_only_itself(database: Engine, writer: Writer) -> None:
    def refused(conn: Connection) -> None:
        note(conn, "half")
        raise LeaseLostError("somebody else has it")

    def broken(conn: Connection) -> None:
        note(conn, "broken")
        conn.execute(text("SELECT no_such_column FROM notes"))

    answers = await _together(writer, lambda c: note(c, "a"), refused, broken, lambda c: note(c, "b"))
    assert answers[0] == "a"
    assert isinstance(answers[1], LeaseLostError)
    assert isinstance(answers[2], ArchiverError)
    assert answers[3] == "b"
    assert tokens(database) == ["a", "b"]


async def test_refused_change_alone_leaves_nothing(database: Engine, writer: Writer) -> None:
    def refused(conn: Connection) -> None:
        note(conn, "half")
        raise KeyError("half")

    with pytest.raises(KeyError):
        await writer.run(refused)
    assert tokens(database) == []
    assert await writer.run(lambda conn: note(conn, "next")) == "next"


async def test_cancelled_caller_does_not_interrupt_its_change(database: Engine, writer: Writer) -> None:
    gate = Gate(writer)
    task = asyncio.ensure_future(writer.run(lambda conn: note(conn, "wanted")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(gate.open)
    await writer.run(lambda conn: None)
    assert tokens(database) == ["wanted"]


async def test_close_finishes_what_was_asked_for_and_takes_no_more(database: Engine, writer: Writer) -> None:
    gate = Gate(writer)
    tasks = [asyncio.ensure_future(writer.run(lambda conn, n=n: note(conn, f"{n:03}"))) for n in range(250)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(asyncio.to_thread(writer.close))
    await asyncio.sleep(0.05)  # so that close() has begun to wait, which nothing tells
    await asyncio.to_thread(gate.open)
    await closing
    await asyncio.gather(*tasks)
    assert len(tokens(database)) == 250
    with pytest.raises(UnavailableError, match="closed"):
        await writer.run(lambda conn: None)


@pytest.fixture
def proxied(postgresql: Server) -> Iterator[tuple[CuttingProxy, Engine]]:
    url = postgresql.create(migrated=True)
    with CuttingProxy(url) as proxy:
        engine = create_engine(proxy.url, None)
        with engine.begin() as conn:
            notes.create(conn)
        yield proxy, engine
        engine.dispose()
    postgresql.drop(url)


@pytest.mark.parametrize(("cut", "kept"), [(Cut.REFUSED, []), (Cut.LOST, ["one", "two"])])
async def test_answer_to_commit_lost_is_unknown_and_running_again_by_token_does_it_once(
    proxied: tuple[CuttingProxy, Engine], cut: Cut, kept: list[str]
) -> None:
    proxy, engine = proxied
    writer = Writer(engine)
    fns = [lambda conn: note(conn, "one"), lambda conn: note(conn, "two")]
    proxy.arm(cut)
    answers = await _together(writer, *fns)
    assert [type(answer) for answer in answers] == [OutcomeUnknownError, OutcomeUnknownError]
    assert answers[0] is not answers[1]
    assert tokens(engine) == kept
    assert [await writer.run(fn) for fn in fns] == ["one", "two"]
    assert await read(engine, lambda conn: conn.execute(select(func.count(), func.sum(notes.c.hits))).one()) == (2, 2)
    await asyncio.to_thread(writer.close)


async def test_connection_lost_in_the_middle_is_made_good_alone(database: Engine, writer: Writer) -> None:
    if database.dialect.name == "sqlite":
        return
    lost = []

    def loses(conn: Connection) -> str:
        note(conn, "first")
        if not lost:
            lost.append(True)
            pid = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with database.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        return note(conn, "second")

    assert await _together(writer, lambda c: note(c, "a"), loses, lambda c: note(c, "b")) == ["a", "second", "b"]
    assert tokens(database) == ["a", "b", "first", "second"]


async def test_deadlock_victim_is_run_again_alone(database: Engine, writer: Writer) -> None:
    if database.dialect.name == "sqlite":
        return
    with database.begin() as conn:
        conn.execute(insert(notes), [{"token": "left", "hits": 0}, {"token": "right", "hits": 0}])
    tries: list[int] = []
    holding, locked = threading.Event(), threading.Event()
    rivals: list[int] = []

    def hit(conn: Connection, token: str) -> None:
        conn.execute(update(notes).where(notes.c.token == token).values(hits=notes.c.hits + 1))

    def rival() -> None:
        with database.begin() as conn:
            conn.exec_driver_sql("SET LOCAL deadlock_timeout = '10min'")  # so that the other one is the victim
            rivals.append(conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
            hit(conn, "right")
            holding.set()
            assert locked.wait(60)
            hit(conn, "left")

    def waits(pid: int) -> bool:
        with database.connect() as conn:
            asked = text("SELECT wait_event_type FROM pg_stat_activity WHERE pid = :pid")
            return conn.execute(asked, {"pid": pid}).scalar_one() == "Lock"

    def ours(conn: Connection) -> int:
        tries.append(1)
        hit(conn, "left")
        locked.set()
        while len(tries) == 1 and not waits(rivals[0]):  # PostgreSQL looks for a deadlock once in each wait
            time.sleep(0.01)
        hit(conn, "right")
        return len(tries)

    thread = threading.Thread(target=rival)
    thread.start()
    assert await asyncio.to_thread(holding.wait, 60)
    assert await writer.run(ours) == 2
    thread.join(60)
    with database.connect() as conn:
        assert conn.execute(select(notes.c.hits)).scalars().all() == [2, 2]


async def test_key_inserted_by_another_at_the_same_time_is_found_at_the_second_try(
    database: Engine, writer: Writer
) -> None:
    if database.dialect.name == "sqlite":
        return
    tries: list[int] = []

    def late(conn: Connection) -> str:
        found = conn.execute(select(notes.c.token).where(notes.c.token == "same")).first()
        if not tries:
            with database.begin() as other:
                other.execute(insert(notes).values(token="same", hits=7))
        tries.append(1)
        return "found" if found else note_anyway(conn)

    def note_anyway(conn: Connection) -> str:
        conn.execute(insert(notes).values(token="same", hits=1))
        return "inserted"

    assert await writer.run(late) == "found"


@pytest.mark.parametrize("done", [False, True])
async def test_disk_error_at_commit_is_unknown_and_running_again_by_token_does_it_once(
    sqlite_only: tuple[Engine, Writer], monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    engine, writer = sqlite_only
    real = engine.dialect.do_commit

    def failing(connection: Any) -> None:
        monkeypatch.undo()
        if done:
            real(connection)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(engine.dialect, "do_commit", failing)
    with pytest.raises(OutcomeUnknownError, match="disk I/O error"):
        await writer.run(lambda conn: note(conn, "one"))
    assert tokens(engine) == (["one"] if done else [])
    assert await writer.run(lambda conn: note(conn, "one")) == "one"
    assert tokens(engine) == ["one"]


@pytest.fixture
def sqlite_only(tmp_path: Any) -> Iterator[tuple[Engine, Writer]]:
    (tmp_path / "notes.db").touch()
    engine = create_engine("sqlite:///notes.db", tmp_path)
    with engine.begin() as conn:
        notes.create(conn)
    writer = Writer(engine)
    yield engine, writer
    writer.close()
    engine.dispose()


async def test_busy_sqlite_file_is_unavailable_for_all_who_wait_and_not_once_for_each(tmp_path: Any) -> None:
    path = tmp_path / "notes.db"
    path.touch()
    engine = create_engine("sqlite:///notes.db", tmp_path)
    with engine.begin() as conn:
        notes.create(conn)
    other = sqlite3.connect(path, isolation_level=None)
    with engine.connect() as conn:  # the pool keeps this connection for the writer
        conn.exec_driver_sql("PRAGMA busy_timeout = 200")
    other.execute("BEGIN IMMEDIATE")
    writer = Writer(engine)
    answers = await asyncio.gather(
        *(writer.run(lambda conn, n=n: note(conn, str(n))) for n in range(20)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {UnavailableError}
    other.execute("ROLLBACK")
    other.close()
    assert await writer.run(lambda conn: note(conn, "now")) == "now"
    writer.close()
    engine.dispose()


async def test_unreachable_database_fails_every_caller(postgresql: Server) -> None:
    url = postgresql.create()
    engine = create_engine(url, None)
    writer = Writer(engine)
    assert await writer.run(lambda conn: conn.execute(text("SELECT 1")).scalar_one()) == 1
    postgresql.drop(url)
    answers = await asyncio.gather(
        *(writer.run(lambda conn: note(conn, "x")) for _ in range(5)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {UnavailableError}
    writer.close()
    engine.dispose()
