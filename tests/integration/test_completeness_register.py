"""The register of gaps on both databases: opened once, closed by itself, acknowledged with a reason, each in custody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine

from archiver import errors
from archiver.clock import SystemChance
from archiver.completeness import register
from archiver.completeness.gap import Code, Gap, Grade
from archiver.custody import history
from archiver.custody.event import ARCHIVE, parse
from archiver.custody.ledger import Ledger
from archiver.demo.simulators import MovableClock

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
REC = "rec:0190f3c2-0000-7000-8000-000000000001"
LATE = Gap("p", REC, Code.NOT_READY, Grade.OPEN, "no audio yet", {"attempts": 4}, START)
EMPTY = Gap("p", "listing:empty", Code.SUSPICIOUS_EMPTY, Grade.OPEN, "an empty listing")


class Desk:
    """A register over one connection."""

    def __init__(self, conn: Connection) -> None:
        self.conn, self.clock, self.chance = conn, MovableClock(START), SystemChance()
        self.ledger = Ledger.open(self.clock, self.chance)

    def look(self, *found: Gap, source: str = register.JOURNAL) -> register.Changes:
        self.clock.move(timedelta(minutes=10))
        return register.refresh(self.conn, self.ledger, self.chance, "p", found, self.clock.now(), source=source)

    def told(self, subject: str) -> list[tuple[object, object]]:
        events = [parse(each.raw) for each in history.entries(self.conn, subject)]
        return [(each.data["status"], each.data["code"]) for each in events]


@pytest.fixture
def desk(database: Engine) -> Iterator[Desk]:
    with database.begin() as conn:
        yield Desk(conn)


def test_gap_is_opened_once_and_closes_by_itself(desk: Desk) -> None:
    assert desk.look(LATE) == register.Changes(1, 0, 0, 0)
    assert desk.look(LATE) == register.Changes(0, 0, 0, 0)
    (row,) = register.open_gaps(desk.conn)
    assert row["opened_at"] != row["seen_at"]
    assert desk.look() == register.Changes(0, 0, 1, 0)
    assert register.open_gaps(desk.conn) == []
    assert desk.told(REC) == [("opened", "not_ready"), ("closed", "not_ready")]
    (row,) = register.open_gaps(desk.conn, closed=True)
    assert row["closed_at"] is not None


def test_gap_that_comes_back_is_a_new_one(desk: Desk) -> None:
    desk.look(LATE)
    desk.look()
    desk.look(LATE)
    assert len(register.of_subject(desk.conn, REC)) == 2
    assert len(register.open_gaps(desk.conn)) == 1


def test_what_is_only_watched_is_listed_and_no_event_until_it_is_certain(desk: Desk) -> None:
    denied = replace(LATE, code=Code.GONE, grade=Grade.WATCHED)
    desk.look(denied)
    assert desk.told(REC) == []
    assert [each["grade"] for each in register.open_gaps(desk.conn)] == ["watched"]
    desk.look(replace(denied, grade=Grade.OPEN))
    assert desk.told(REC) == [("opened", "gone_at_provider")]


def test_explained_gap_is_not_registered(desk: Desk) -> None:
    assert desk.look(replace(LATE, grade=Grade.EXPLAINED)).opened == 0
    assert register.open_gaps(desk.conn) == []


def test_one_source_does_not_close_what_another_found(desk: Desk) -> None:
    lost = Gap("p", "object:primary/k", Code.MISSING_HERE, Grade.OPEN, "gone")
    desk.look(lost, source="reconcile:primary")
    desk.look(LATE)
    assert {each["code"] for each in register.open_gaps(desk.conn)} == {"missing_here", "not_ready"}
    desk.look(source="reconcile:primary")
    assert [each["code"] for each in register.open_gaps(desk.conn)] == ["not_ready"]


def test_acknowledgement_is_custody_and_its_reason_can_be_erased(desk: Desk) -> None:
    desk.look(EMPTY)
    (row,) = register.open_gaps(desk.conn)
    done = register.acknowledge(
        desk.conn, desk.ledger, str(row["id"])[:13], "r.ortega", "Confirmed with Jordan Lee", desk.clock.now()
    )
    assert done == [row["id"]]
    (row,) = register.open_gaps(desk.conn)
    assert (row["acked_by"], row["ack_reason"]) == ("r.ortega", "Confirmed with Jordan Lee")
    *_, entry = history.entries(desk.conn, ARCHIVE)
    assert b"Jordan" not in entry.raw
    assert b"ortega" not in entry.raw
    assert history.private(desk.conn, ARCHIVE, entry.seq)["ack"].data["reason"] == "Confirmed with Jordan Lee"


def test_new_reason_ends_the_acknowledgement(desk: Desk) -> None:
    desk.look(LATE)
    register.acknowledge(desk.conn, desk.ledger, REC, "me", "it will come", desk.clock.now())
    desk.look(LATE)
    assert register.open_gaps(desk.conn)[0]["acked_at"] is not None
    desk.look(replace(LATE, code=Code.GONE))
    assert register.open_gaps(desk.conn)[0]["acked_at"] is None
    assert [status for status, _ in desk.told(REC)] == ["opened", "acknowledged", "reclassified"]


def test_only_what_is_open_and_nobody_acknowledged_is_unsettled(desk: Desk) -> None:
    others = [replace(EMPTY, subject=f"listing:{n}") for n in range(3)]
    watched = replace(LATE, subject="rec:0190f3c2-0000-7000-8000-000000000002", grade=Grade.WATCHED)
    desk.look(LATE, EMPTY, *others, watched)
    storage = Gap("", "object:primary/k", Code.ORPHAN, Grade.OPEN, "nobody's")
    register.refresh(desk.conn, desk.ledger, desk.chance, None, [storage], START, source="reconcile:primary")
    register.acknowledge(desk.conn, desk.ledger, EMPTY.subject, "me", "known", desk.clock.now())
    assert register.unsettled(desk.conn) == {"p": {"not_ready": 1, "suspicious_empty": 3}, "": {"orphan": 1}}
    desk.look(others[0])
    assert register.unsettled(desk.conn) == {"p": {"suspicious_empty": 1}, "": {"orphan": 1}}


@pytest.mark.parametrize(("wanted", "reason", "refusal"), [
    ("", "known", errors.NotFoundError),
    ("nothing", "known", errors.NotFoundError),
    (REC, "  ", errors.NotAllowedError),
])  # fmt: skip
def test_acknowledgement_without_a_reason_or_of_nothing_is_refused(
    desk: Desk, wanted: str, reason: str, refusal: type[errors.ArchiverError]
) -> None:
    desk.look(LATE, EMPTY)
    with pytest.raises(refusal):
        register.acknowledge(desk.conn, desk.ledger, wanted, "me", reason, desk.clock.now())


def test_look_whose_answer_was_lost_changes_nothing_when_done_again(database: Engine) -> None:
    with database.begin() as conn:
        desk = Desk(conn)
        desk.look(LATE, EMPTY)
    with database.connect() as conn:  # refused: rolled back
        Desk(conn).look()
        conn.rollback()
    with database.begin() as conn:
        assert len(register.open_gaps(conn)) == 2
        assert Desk(conn).look(LATE, EMPTY) == register.Changes(0, 0, 0, 0)
