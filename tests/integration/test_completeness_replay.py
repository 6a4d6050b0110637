"""The register of gaps and the heads of the statements, made anew from the events alone: as they were, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, select

from archiver.clock import SystemChance
from archiver.completeness import register
from archiver.completeness.gap import Code, Gap, Grade
from archiver.completeness.tables import gap
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Event, parse
from archiver.custody.ledger import Ledger
from archiver.demo.simulators import MovableClock
from archiver.ingest.tables import reject
from archiver.recovery import completeness_replay

NOW = datetime(2028, 2, 29, 12, tzinfo=UTC)
LATER = timedelta(hours=1)
REC = "rec:01937f2c-8b7e-7c3a-9d1e-2f6a5b4c3d2e"
COLUMNS = (
    "id",
    "provider",
    "source",
    "subject",
    "code",
    "grade",
    "evidence",
    "since",
    "until",
    "acked_by",
    "ack_reason",
)


def a_gap(subject: str, code: Code = Code.NOT_READY, grade: Grade = Grade.OPEN) -> Gap:
    return Gap("p", subject, code, grade, "said by a person", {"bytes": 7}, NOW - LATER, NOW)


class Desk:
    """A register that is kept as the daemon keeps it."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.clock = MovableClock(NOW)
        self.chance = SystemChance()
        self.ledger = Ledger.open(self.clock, self.chance)

    def look(self, *found: Gap, source: str = register.JOURNAL) -> None:
        self.clock.move(LATER)
        register.refresh(self.conn, self.ledger, self.chance, "p", found, self.clock.now(), source=source)

    def ack(self, subject: str) -> None:
        self.clock.move(LATER)
        register.acknowledge(self.conn, self.ledger, subject, "uid-7", "the phone was off", self.clock.now())

    def events(self) -> list[Event]:
        found = [parse(each.raw) for subject in (ARCHIVE, REC) for each in history.entries(self.conn, subject)]
        return sorted(found, key=lambda event: event.at)

    def open(self) -> list[tuple[Any, ...]]:
        rows = self.conn.execute(
            select(gap).where(gap.c.closed_at.is_(None), gap.c.grade == Grade.OPEN).order_by(gap.c.id)
        )
        return [(*(getattr(row, name) for name in COLUMNS), row.acked_at is not None) for row in rows]

    def lose(self) -> None:
        self.conn.execute(delete(gap))
        self.conn.execute(delete(reject))


@pytest.fixture
def desk(database: Engine) -> Iterator[Desk]:
    with database.begin() as conn:
        yield Desk(conn)


def lived(desk: Desk) -> None:
    """A gap opens, changes its reason, is acknowledged; another closes; one is only watched before it is open."""
    span, thing = "span:account@2028-02-28T00:00:00Z", "object:primary/recordings/k"
    desk.look(a_gap(REC), a_gap(span, Code.NEVER_LISTED), a_gap("listing:account", Code.TOTAL_DIFFERS, Grade.WATCHED))
    desk.look(a_gap(thing, Code.MISSING_HERE), source="reconcile:primary")
    desk.look(a_gap(REC, Code.NOT_FETCHED), a_gap("listing:account", Code.TOTAL_DIFFERS))
    desk.ack(REC)
    desk.ack("listing:account")
    desk.look(
        a_gap(REC, Code.NOT_FETCHED),
        a_gap("listing:account", Code.TOTAL_DIFFERS),
        a_gap("reject:ab", Code.ROW_NOT_UNDERSTOOD),
    )


def test_register_made_anew_from_the_events_is_the_one_that_was(desk: Desk) -> None:
    lived(desk)
    before = desk.open()
    assert len(before) == 4
    desk.lose()
    completeness_replay.follow(desk.conn, desk.events())
    completeness_replay.restore_reasons(desk.conn)
    assert desk.open() == before
    # Hearing it all once more, as after a death, changes nothing; nor does it over the register of an older backup.
    completeness_replay.follow(desk.conn, desk.events())
    completeness_replay.restore_reasons(desk.conn)
    assert desk.open() == before
    # Whoever looks next goes on with these gaps, and says nothing anew.
    said = len(desk.events())
    desk.look(
        a_gap(REC, Code.NOT_FETCHED),
        a_gap("listing:account", Code.TOTAL_DIFFERS),
        a_gap("reject:ab", Code.ROW_NOT_UNDERSTOOD),
    )
    assert (desk.open(), len(desk.events())) == (before, said)


def test_register_of_a_backup_is_brought_up_to_the_events_that_came_since(desk: Desk) -> None:
    lived(desk)
    before, events = desk.open(), desk.events()
    for point in range(len(events)):
        desk.lose()
        completeness_replay.follow(desk.conn, events[:point])
        completeness_replay.follow(desk.conn, events[max(0, point - 2) :])
        completeness_replay.restore_reasons(desk.conn)
        assert desk.open() == before, point


def test_row_that_nobody_understood_stays_open_though_what_was_in_it_is_lost(desk: Desk) -> None:
    desk.look(a_gap("reject:ab", Code.ROW_NOT_UNDERSTOOD))
    opened = desk.events()
    desk.look()
    closed = desk.events()
    desk.lose()
    completeness_replay.follow(desk.conn, opened)
    kept = desk.conn.execute(select(reject)).one()
    assert (kept.provider, kept.digest, kept.first_seen_at) == ("p", "ab", NOW - LATER)
    completeness_replay.follow(desk.conn, closed)
    assert desk.conn.execute(select(reject)).all() == []
    assert desk.open() == []


def test_gap_of_before_its_events_named_who_looks_for_it_is_closed_by_the_right_one(desk: Desk) -> None:
    for subject, code, source in (
        ("object:primary/recordings/k", Code.MISSING_HERE, "reconcile:primary"),
        (REC, Code.CHAIN_GAP, "reconcile:custody"),
        (REC, Code.NOT_READY, "journal"),
    ):
        desk.lose()
        desk.look(a_gap(subject, code), source=source)
        (event,) = desk.events()[-1:]
        older = Event(**{name: getattr(event, name) for name in Event.__slots__} | {"data": dict(event.data)})
        del older.data["source"]  # type: ignore[attr-defined]  # a dict, made above
        desk.lose()
        completeness_replay.follow(desk.conn, [older])
        assert [row[2] for row in desk.open()] == [source]
