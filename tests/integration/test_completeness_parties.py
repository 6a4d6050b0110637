"""What hit a party's wall is in the register until the same call has gone well again, whichever process saw it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection

from archiver.clock import SystemChance
from archiver.completeness import parties, register
from archiver.custody import history
from archiver.custody.event import ARCHIVE, parse
from archiver.custody.keys import generate_signing_key
from archiver.custody.ledger import Ledger
from archiver.database import create_engine
from archiver.demo.simulators import MovableClock
from archiver.wall import QUIET, Kind, Party, Walls

START = datetime(2026, 11, 30, 12, tzinfo=UTC)
STORE = Party(Kind.STORAGE, "primary")
MINUTE = timedelta(minutes=1)


class Desk:
    """A register, and a process whose walls are hit."""

    def __init__(self, conn: Connection) -> None:
        self.conn, self.clock, self.chance = conn, MovableClock(START), SystemChance()
        self.ledger = Ledger.open(self.clock, self.chance)
        self.ledger.enroll(conn, generate_signing_key(self.chance))
        self.configured = {Kind.STORAGE: frozenset({"primary"})}
        self.restart()

    def restart(self) -> None:
        self.walls = Walls(self.clock)

    def keep(self, *, ending: bool = False) -> tuple[int, int] | None:
        """How many gaps opened and closed; None when nothing was written."""
        done = parties.keep(
            self.conn, self.ledger, self.chance, self.walls, self.clock.now(), self.configured, ending=ending
        )
        return None if done is None else (done.opened, done.closed)

    def fail(self, times: int = 3) -> None:
        for _ in range(times):
            self.walls.note(STORE, "probe", "storage primary: nothing can be made of it")

    def told(self) -> list[object]:
        events = [parse(each.raw) for each in history.entries(self.conn, ARCHIVE)]
        return [each.data["status"] for each in events if each.data.get("code") == "answer_not_understood"]


@pytest.fixture
def desk(sqlite_url: str) -> Iterator[Desk]:
    engine = create_engine(sqlite_url, None)
    with engine.begin() as conn:
        yield Desk(conn)
    engine.dispose()


def test_trouble_is_one_gap_until_the_call_has_gone_well_for_a_while(desk: Desk) -> None:
    assert desk.keep() is None
    desk.fail()
    assert desk.keep() == (1, 0)
    assert desk.keep() is None  # nothing is written while nothing changes
    (gap,) = register.of_source(desk.conn, parties.SOURCE)
    assert (gap["provider"], gap["subject"], gap["grade"]) == ("primary", "storage:primary/probe", "open")
    assert register.unsettled(desk.conn) == {"primary": {"answer_not_understood": 1}}
    for _ in range(5):  # it comes and goes: one trouble
        desk.clock.move(2 * MINUTE)
        desk.walls.went_well(STORE, "probe")
        desk.fail(1)
        assert desk.keep() == (0, 0)
    desk.walls.went_well(STORE, "probe")
    desk.clock.move(QUIET)
    assert desk.keep() == (0, 1)
    assert desk.keep() is None
    assert desk.told() == ["opened", "closed"]


def test_passing_fault_is_none_unless_the_process_ends_with_it(desk: Desk) -> None:
    desk.fail(1)
    assert desk.keep() is None
    assert desk.keep(ending=True) == (1, 0)


def test_gap_that_another_process_told_stays_until_the_call_has_gone_well_in_this_one(desk: Desk) -> None:
    desk.fail()
    desk.keep()
    desk.restart()
    desk.clock.move(timedelta(hours=5))
    assert desk.keep() is None
    desk.walls.went_well(STORE, "inspect")  # another call proves nothing
    assert desk.keep() is None
    desk.walls.went_well(STORE, "probe")
    assert desk.keep() == (0, 1)


def test_gap_that_another_replica_still_tells_is_not_closed_by_one_that_is_served(desk: Desk) -> None:
    desk.fail()
    desk.keep()
    desk.restart()
    desk.walls.went_well(STORE, "probe")
    desk.clock.move(MINUTE)
    assert desk.keep() is None


def test_party_that_is_no_longer_configured_closes_its_gap(desk: Desk) -> None:
    desk.fail()
    desk.keep()
    desk.restart()
    desk.configured[Kind.STORAGE] = frozenset({"second"})
    assert desk.keep() == (0, 1)
