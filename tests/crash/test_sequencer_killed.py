"""Death and lost answers between queue and log: every event is there once, whatever happened to those who carried it.

`ARCHIVER_HAMMER_EVENTS` says how long the hammer goes on: 50000 for a release, 2500 when it is not set.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from archiver.clock import SystemChance, SystemClock
from archiver.custody import history
from archiver.custody.chain import check_chain, enrolled_writers
from archiver.custody.event import ARCHIVE
from archiver.custody.ledger import Ledger
from archiver.database import Writer, create_engine, reading
from archiver.errors import OutcomeUnknownError
from archiver.translog import reader
from archiver.translog.sequencer import Sequencer, open_log
from tests.crash.log_processes import HOSTS, LOG, arm, change
from tests.custody_examples import HOST_KEY, SUBJECT
from tests.cutting_proxy import Cut, CuttingProxy
from tests.log_oracle import check_log

ROOT = Path(__file__).parents[2]
EVENTS = int(os.environ.get("ARCHIVER_HAMMER_EVENTS", "2500"))


@pytest.fixture
def engine(database: Engine) -> Engine:
    """A database with an open log, and a table of business changes: name, and how many events witness it."""
    with database.begin() as conn:
        open_log(conn, "archive.example/custody", SystemClock().now())
        conn.execute(text("CREATE TABLE work (name text, events integer)"))
    return database


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    ledger = Ledger.open(SystemClock(), SystemChance())
    with engine.begin() as conn:
        ledger.enroll(conn, HOST_KEY)
    return ledger


def run(*arguments: object, expected: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.log_processes", *map(str, arguments)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == expected, done.stderr
    return done.stdout


def drain(engine: Engine, ledger: Ledger) -> None:
    sequencer = Sequencer(ledger, HOSTS, LOG)
    while True:
        with engine.begin() as conn:
            if not sequencer.integrate(conn).taken:
                return


def check(engine: Engine) -> Counter[str]:
    """Log, tree and chains are whole, nobody was refused, and every change that was kept has its events: how many by name."""
    events = check_log(engine)
    with reading(engine) as conn:
        work = Counter({row.name: int(row.events) for row in conn.execute(text("SELECT name, events FROM work"))})
        assert reader.waiting(conn) == 0
        assert list(reader.quarantined(conn)) == []
        writers = enrolled_writers(history.entries(conn, ARCHIVE), HOSTS)
        for subject in history.subjects(conn):
            assert (
                check_chain(subject, history.entries(conn, subject), writers, HOSTS, history.head(conn, subject)) == []
            )
    assert {event.type for event in events} <= {"writer.enrolled", "hold.placed"}
    assert Counter(event.op for event in events if event.op) == work
    return work


# --- the hammer ----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300 + EVENTS // 20)
def test_hammer_of_eight_writers_three_integrators_and_a_killer_loses_and_doubles_nothing(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    acknowledged = tmp_path / "acknowledged"
    acknowledged.touch()
    kills = int(run("hammer", database_url, EVENTS, acknowledged, EVENTS))
    said = Counter({name: int(number) for name, number in map(str.split, acknowledged.read_text().splitlines())})
    kept = check(engine)
    assert said <= kept
    assert sum(said.values()) >= EVENTS
    assert kills >= 5


# --- the crash table, row by row -----------------------------------------------------------------------------------


@contextmanager
def commit_cut(engine: Engine, url: str, cut: Cut) -> Iterator[tuple[Engine, Callable[[], None]]]:
    """An engine to work with, and what arms it: the next COMMIT never arrives, or its answer does not."""
    if engine.dialect.name == "postgresql":
        with CuttingProxy(url) as proxy:
            cuttable = create_engine(proxy.url, None)
            yield cuttable, lambda: proxy.arm(cut)
            cuttable.dispose()
        return
    cuttable = create_engine(url, None)
    armed: list[bool] = []

    def fails_once() -> None:
        if armed:
            armed.clear()
            raise engine.dialect.loaded_dbapi.OperationalError("disk I/O error")

    arm(cuttable, 0 if cut is Cut.REFUSED else -1, fails_once)
    yield cuttable, lambda: armed.append(True)
    cuttable.dispose()


@pytest.mark.parametrize("cut", list(Cut))
def test_worker_who_does_not_hear_of_its_commit_finds_by_the_head_what_became_of_it(
    engine: Engine, database_url: str, ledger: Ledger, cut: Cut
) -> None:
    with commit_cut(engine, database_url, cut) as (cuttable, armed):
        writer = Writer(cuttable)

        def work(conn: Connection) -> None:
            change(conn, ledger, "job", [SUBJECT.replace("rec:", "hold:")])

        armed()
        with pytest.raises(OutcomeUnknownError):
            writer.run_sync(work)
        with reading(engine) as conn:
            there = history.head(conn, SUBJECT.replace("rec:", "hold:")) is not None
        assert there is (cut is Cut.LOST)
        if not there:
            writer.run_sync(work)
        writer.close()
    drain(engine, ledger)
    assert check(engine) == {"job": 1}


@pytest.mark.parametrize("cut", list(Cut))
def test_integrator_who_does_not_hear_of_its_commit_goes_on_as_if_nothing_were(
    engine: Engine, database_url: str, ledger: Ledger, cut: Cut
) -> None:
    with engine.begin() as conn:
        change(conn, ledger, "job", ["hold:1", "hold:2"] * 200)
    with commit_cut(engine, database_url, cut) as (cuttable, armed):
        writer, sequencer = Writer(cuttable), Sequencer(ledger, HOSTS, LOG)
        armed()
        with pytest.raises(OutcomeUnknownError):
            writer.run_sync(lambda conn: sequencer.integrate(conn, 300))
        assert len(check_log(engine)) == (300 if cut is Cut.LOST else 0)
        assert writer.run_sync(lambda conn: sequencer.integrate(conn, 300)).size == (401 if cut is Cut.LOST else 300)
        writer.close()
    drain(engine, ledger)
    assert check(engine) == {"job": 400}


def test_integrator_refused_at_any_statement_leaves_nothing_of_its_batch(
    engine: Engine, database_url: str, ledger: Ledger
) -> None:
    with engine.begin() as conn:
        change(conn, ledger, "first", ["hold:1"] * 300)
    drain(engine, ledger)
    with engine.begin() as conn:
        change(conn, ledger, "second", ["hold:1", "hold:2"] * 150)
    before = tables(engine)
    tried = 0
    while True:
        tried += 1
        failing = create_engine(database_url, None)
        arm(failing, tried, refuse)
        try:
            with failing.begin() as conn:
                Sequencer(ledger, HOSTS, LOG).integrate(conn)
        except OperationalError:
            assert tables(engine) == before, tried
        else:
            break
        finally:
            failing.dispose()
    assert tried > 10
    assert check(engine) == {"first": 300, "second": 300}


def refuse() -> None:
    raise OperationalError("refused", None, Exception())


def tables(engine: Engine) -> list[object]:
    with reading(engine) as conn:
        return [
            conn.execute(text(f"SELECT * FROM {name} ORDER BY 1, 2, 3")).all()
            for name in ("custody_event", "custody_subject_event", "custody_tile", "custody_tree", "custody_pending",
                         "custody_quarantine", "custody_writer", "custody_subject")
        ]  # fmt: skip


DIE_IN_WORKER = """
import os, signal, sys
from archiver.database import create_engine
from tests.crash.log_processes import arm, change, enrolled
engine = create_engine(sys.argv[1], None)
ledger = enrolled(engine)
arm(engine, int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL))
with engine.begin() as conn:
    change(conn, ledger, "job", ["hold:1", "hold:2", "hold:1"])
"""


@pytest.mark.parametrize(("point", "kept"), [(0, {}), (-1, {"job": 3})], ids=["before COMMIT", "COMMIT unheard"])
def test_worker_killed_at_its_commit_leaves_all_its_events_or_none(
    engine: Engine, database_url: str, ledger: Ledger, point: int, kept: dict[str, int]
) -> None:
    command = [sys.executable, "-c", DIE_IN_WORKER, database_url, str(point)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    drain(engine, ledger)
    assert check(engine) == kept
    if not kept:
        with engine.begin() as conn:
            change(conn, ledger, "job", ["hold:1", "hold:2", "hold:1"])
        drain(engine, ledger)
        assert check(engine) == {"job": 3}


@pytest.mark.parametrize("point", [2, 7, 9, 11, 0, -1])
def test_integrator_killed_in_its_transaction_or_at_its_commit_is_followed_by_the_next(
    engine: Engine, database_url: str, ledger: Ledger, point: int
) -> None:
    with engine.begin() as conn:
        change(conn, ledger, "job", ["hold:1", "hold:2"] * 150)
    run("die", database_url, point, expected=-9)
    assert len(check_log(engine)) == (302 if point == -1 else 0)  # two were enrolled
    began = time.monotonic()
    drain(engine, ledger)
    assert time.monotonic() - began < 5  # seconds until whoever comes next has caught up
    assert check(engine) == {"job": 300}
