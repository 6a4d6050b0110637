"""What verification leaves on record, on both databases: by what depth, when, with which result, and until when it stands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine

from archiver.clock import SystemChance
from archiver.completeness import verified
from archiver.completeness.verified import Depth, Integrity, Verified
from archiver.custody import history
from archiver.custody.event import ARCHIVE, parse
from archiver.custody.ledger import Ledger
from archiver.demo.simulators import MovableClock

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEN_YEARS = timedelta(days=3653)


class Desk:
    """Verifications, an hour each, one after the other."""

    def __init__(self, conn: Connection) -> None:
        self.conn, self.clock = conn, MovableClock(START)
        self.ledger = Ledger.open(self.clock, SystemChance())

    def verify(self, depth: Depth, **failures: int) -> Verified:
        began = self.clock.now()
        self.clock.move(HOUR)
        done = Verified(depth, began, self.clock.now(), 9, 8, failures)
        verified.keep(self.conn, self.ledger, done, {"opened": 7, "unreachable": 0})
        return done

    def integrity(self) -> Integrity:
        return verified.integrity(self.conn, self.clock.now())


@pytest.fixture
def desk(database: Engine) -> Iterator[Desk]:
    with database.begin() as conn:
        yield Desk(conn)


def test_nothing_is_claimed_before_anything_was_verified(desk: Desk) -> None:
    assert desk.integrity() == Integrity(None, None, {})


def test_verification_is_said_in_custody_with_depth_and_result(desk: Desk) -> None:
    desk.verify(Depth.SAMPLE, sealed_digest_differs=2)
    (entry,) = history.entries(desk.conn, ARCHIVE)
    event = parse(entry.raw)
    assert (event.type, event.outcome) == ("reconcile.completed", "failed")
    assert event.data == {
        "kind": "verification", "depth": "sample", "recordings": 9, "objects_read": 8, "opened": 7, "unreachable": 0,
        "failures": {"sealed_digest_differs": 2},
    }  # fmt: skip


def test_last_and_last_full_are_told_apart(desk: Desk) -> None:
    full = desk.verify(Depth.FULL)
    last = desk.verify(Depth.NAMED)
    assert desk.integrity() == Integrity(full, last, {})


def test_failure_stands_until_everything_is_verified_anew(desk: Desk) -> None:
    desk.verify(Depth.FULL, object_missing=3)
    for depth in (Depth.SAMPLE, Depth.NAMED, Depth.PARTLY):
        desk.verify(depth)
        assert desk.integrity().failures == {"object_missing": 3}, depth
    desk.verify(Depth.SAMPLE, object_missing=1, log_leaf=2)
    assert desk.integrity().failures == {"object_missing": 3, "log_leaf": 2}
    desk.verify(Depth.FULL)
    assert desk.integrity().failures == {}


def test_verification_by_a_clock_that_ran_ahead_proves_nothing_and_what_it_found_stands(desk: Desk) -> None:
    full = desk.verify(Depth.FULL)
    desk.clock.move(TEN_YEARS)
    desk.verify(Depth.FULL, does_not_open=1)
    desk.clock.move(-TEN_YEARS)
    assert desk.integrity() == Integrity(full, full, {"does_not_open": 1})
    last = desk.verify(Depth.FULL)
    assert desk.integrity() == Integrity(last, last, {}), "the chain knows which of the two came later"
