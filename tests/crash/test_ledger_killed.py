"""SIGKILL while events are appended: what was acknowledged is there, whole chains only."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from archiver.custody import history
from archiver.custody.chain import check_chain, enrolled_writers
from archiver.custody.event import ARCHIVE, verify
from archiver.custody.keys import public_hex
from archiver.database import reading
from tests.custody_examples import HOST_KEY

ROOT = Path(__file__).parents[2]

APPEND = """
import asyncio, sys
from sqlalchemy import text
from archiver.clock import SystemChance, SystemClock
from archiver.custody.ledger import Draft, Ledger
from archiver.database import Writer, create_engine
from tests.custody_examples import HOST_KEY

async def main():
    ledger, chance = Ledger.open(SystemClock(), SystemChance()), SystemChance()
    writer = Writer(create_engine(sys.argv[1], None))
    await writer.run(lambda conn: ledger.enroll(conn, HOST_KEY))

    def change(conn, name):
        conn.execute(text("INSERT INTO work VALUES (:name)"), {"name": name})
        return ledger.append_many(conn, [Draft(f"hold:{name}", "hold.placed"), Draft("hold:shared", "hold.placed")])

    async def work():
        while True:
            name = chance.uuid()
            await writer.run(lambda conn: change(conn, name))
            print(name, flush=True)

    await asyncio.gather(*(work() for _ in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 40, 203])
def test_killed_while_appending_loses_nothing_acknowledged_and_leaves_whole_chains(
    database: Engine, database_url: str, acknowledged: int
) -> None:
    with database.begin() as conn:
        conn.execute(text("CREATE TABLE work (name text)"))
    said: list[str] = []
    for _ in range(2):  # the second process goes on where the first died
        with subprocess.Popen(
            [sys.executable, "-c", APPEND, database_url], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            said += [process.stdout.readline().strip() for _ in range(acknowledged)]
            process.kill()
            said += [line.strip() for line in process.stdout if len(line) == 37]

    with reading(database) as conn:
        done = Counter(conn.execute(text("SELECT name FROM work")).scalars())
        hosts = {public_hex(HOST_KEY)}
        writers = enrolled_writers(history.entries(conn, ARCHIVE), hosts)
        subjects = history.subjects(conn, limit=10_000)
        for subject in subjects:
            entries = history.entries(conn, subject)
            assert check_chain(subject, entries, writers, hosts, history.head(conn, subject)) == []
        shared = [verify(entry.raw) for entry in history.entries(conn, "hold:shared")]
    assert set(said) <= set(done)
    assert set(done.values()) == {1}
    assert {f"hold:{name}" for name in done} == set(subjects) - {ARCHIVE, "hold:shared"}
    assert len(shared) == len(done)
    assert len(writers) == 2
