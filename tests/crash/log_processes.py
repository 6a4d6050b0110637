"""Writers and integrators of one log, as processes to be killed: forked, so that the next one is there within milliseconds.

Run as `python -m tests.crash.log_processes hammer URL EVENTS ACKNOWLEDGED SEED` or `… die URL STATEMENT`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from archiver.clock import SystemChance, SystemClock
from archiver.custody.event import Type
from archiver.custody.keys import public_hex
from archiver.custody.ledger import Draft, Ledger
from archiver.database import create_engine
from archiver.errors import ArchiverError
from archiver.translog.sequencer import Sequencer
from tests.custody_examples import HOST_KEY

HOSTS = frozenset({public_hex(HOST_KEY)})
LOG = 1
WRITERS, INTEGRATORS = 8, 3
KILL_EVERY = 0.15  # seconds
SUBJECTS = 64


def change(conn: Connection, ledger: Ledger, name: str, subjects: list[str]) -> None:
    """A business change and its events, which carry its name as `op`."""
    conn.execute(text("INSERT INTO work VALUES (:name, :events)"), {"name": name, "events": len(subjects)})
    ledger.append_many(
        conn, [Draft(subject, Type.HOLD_PLACED, {"n": n}, op=name) for n, subject in enumerate(subjects)]
    )


def enrolled(engine: Engine) -> Ledger:
    ledger = Ledger.open(SystemClock(), SystemChance())
    with engine.begin() as conn:
        ledger.enroll(conn, HOST_KEY)
    return ledger


def write(url: str, acknowledged: Path, seed: int) -> NoReturn:
    """Change after change; each is acknowledged once it is committed."""
    engine, chance = create_engine(url, None), random.Random(seed)
    ledger, ids = enrolled(engine), SystemChance()
    said = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)
    while True:
        name = ids.uuid()
        subjects = [f"hold:{chance.randrange(SUBJECTS)}" for _ in range(chance.randint(1, 9))]
        with engine.begin() as conn:
            change(conn, ledger, name, subjects)
        os.write(said, f"{name} {len(subjects)}\n".encode())


def integrate(url: str, seed: int) -> NoReturn:
    """Batch after batch, of any size."""
    engine, chance = create_engine(url, None), random.Random(seed)
    sequencer = Sequencer(enrolled(engine), HOSTS, LOG)
    while True:
        with engine.begin() as conn:
            taken = sequencer.integrate(conn, chance.choice([1, 10, 100, 1000])).taken
        if not taken:
            time.sleep(0.02)  # other processes fill the queue, and may be killed before they could tell


def fork(work: Callable[[], NoReturn]) -> int:
    """A process that does `work`, again when the database turned it away, until it is killed."""
    if pid := os.fork():
        return pid
    while True:
        try:
            work()
        except (SQLAlchemyError, ArchiverError) as failed:  # a lock held too long: what a daemon would come back from
            print(type(failed).__name__, file=sys.stderr)
        except BaseException as bug:  # noqa: BLE001  a forked process must not go on as its parent
            print(repr(bug), file=sys.stderr, flush=True)
            os._exit(1)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"ended by itself: {status}"


def hammer(url: str, events: int, acknowledged: Path, seed: int) -> None:
    """Writers, integrators and a killer, until `events` are acknowledged; then what is left is integrated."""
    chance = random.Random(seed)
    roles = ["write"] * WRITERS + ["integrate"] * INTEGRATORS

    def start(role: str) -> int:
        number = chance.getrandbits(32)
        return fork(lambda: write(url, acknowledged, number) if role == "write" else integrate(url, number))

    running = [(start(role), role) for role in roles]
    kills = 0
    while sum(int(line.split()[1]) for line in acknowledged.read_text().splitlines()) < events:
        time.sleep(KILL_EVERY)  # a kill must fall anywhere, not where an event would put it
        at = chance.randrange(len(running))
        pid, role = running[at]
        kill(pid)
        running[at] = (start(role), role)
        kills += 1
    for pid, role in running:
        if role == "write":
            kill(pid)
    began = time.monotonic()
    while waiting(url):
        assert time.monotonic() - began < 120, "the queue does not empty"
        time.sleep(0.05)  # only the database knows what is left
    for pid, role in running:
        if role == "integrate":
            kill(pid)
    print(kills)


def waiting(url: str) -> bool:
    engine = create_engine(url, None)
    with engine.connect() as conn:
        found = conn.execute(text("SELECT 1 FROM custody_pending LIMIT 1")).first()
    engine.dispose()
    return found is not None


def die(url: str, statement: int) -> NoReturn:
    """One batch, and SIGKILL before its statement of that number; 0 means before COMMIT, -1 after it."""
    engine = create_engine(url, None)
    sequencer = Sequencer(enrolled(engine), HOSTS, LOG)
    arm(engine, statement, lambda: os.kill(os.getpid(), signal.SIGKILL))
    with engine.begin() as conn:
        sequencer.integrate(conn)
    os._exit(0)


def arm(engine: Engine, statement: int, act: Callable[[], None]) -> None:
    """Let `act` happen before the statement of that number; 0 means before COMMIT, -1 after it, with its answer unheard."""
    seen = 0

    def count(_conn: object, _cursor: object, sql: str, *_rest: object) -> None:
        nonlocal seen
        seen += not sql.startswith("BEGIN")
        if seen == statement > 0:
            act()

    commit: Callable[[Any], None] = engine.dialect.do_commit

    def commits(connection: object) -> None:
        if statement == 0:
            act()
        commit(connection)
        if statement == -1:
            act()

    event.listen(engine, "before_cursor_execute", count)
    engine.dialect.do_commit = commits  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["hammer", url, events, acknowledged, seed]:
            hammer(url, int(events), Path(acknowledged), int(seed))
        case ["die", url, statement]:
            die(url, int(statement))
