"""A clock that was wrong and is right again, on both databases: what it covered and what it put off is reckoned anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, delete, select, update

from archiver.clock import SystemChance
from archiver.custody.ledger import Ledger
from archiver.demo.simulators import MovableClock
from archiver.ingest import covered_spans, journal, listing_pages
from archiver.ingest.covered_spans import Walked
from archiver.ingest.tables import coverage, listing_window, recording
from archiver.recording import Audio, Listing, RecordingRef, Window
from archiver.schedule.window import merge

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TEN_YEARS = 3653 * DAY
OVERLAP = DAY


def cover(conn: Connection, since: datetime, until: datetime, at: datetime, scope: str = "a") -> None:
    walked = Walked(scope, Window(since, until), 1, 0, None, "ab" * 32)
    covered_spans.cover(conn, SystemChance(), "p", walked, at)


def recount(conn: Connection, now: datetime, scope: str = "a") -> tuple[Window, ...]:
    return covered_spans.recount(conn, "p", scope, now + OVERLAP)


def test_what_a_clock_ahead_covered_is_not_believed_and_what_was_covered_before_is(database: Engine) -> None:
    with database.begin() as conn:
        cover(conn, NOW - 9 * DAY, NOW, NOW)
        cover(conn, NOW - DAY, NOW + TEN_YEARS, NOW + TEN_YEARS)
        assert recount(conn, NOW + TEN_YEARS) == (Window(NOW - 9 * DAY, NOW + TEN_YEARS),), "it cannot know better"
        assert recount(conn, NOW + HOUR) == (Window(NOW - 9 * DAY, NOW),)
        assert covered_spans.covered(conn, "p", "a") == (Window(NOW - 9 * DAY, NOW),)


def test_what_was_walked_by_a_clock_ahead_is_not_believed_even_of_the_past(database: Engine) -> None:
    """It asked for days that are over, and may have been told what it wanted to hear."""
    with database.begin() as conn:
        cover(conn, NOW - 9 * DAY, NOW - 8 * DAY, NOW)
        cover(conn, NOW - 8 * DAY, NOW - DAY, NOW + TEN_YEARS)
        assert recount(conn, NOW) == (Window(NOW - 9 * DAY, NOW - 8 * DAY),)


def test_listings_count_again_when_their_time_has_come(database: Engine) -> None:
    with database.begin() as conn:
        cover(conn, NOW, NOW + 3 * DAY, NOW + 3 * DAY)
        assert recount(conn, NOW) == ()
        assert recount(conn, NOW + 3 * DAY) == (Window(NOW, NOW + 3 * DAY),)


def test_recounting_one_scope_leaves_the_others_alone(database: Engine) -> None:
    with database.begin() as conn:
        for scope in ("a", "b"):
            cover(conn, NOW, NOW + TEN_YEARS, NOW + TEN_YEARS, scope)
        assert recount(conn, NOW) == ()
        assert covered_spans.covered(conn, "p", "b") == (Window(NOW, NOW + TEN_YEARS),)
        assert covered_spans.covered(conn, "p", "a") == ()


def test_recount_that_is_rolled_back_has_changed_nothing(database: Engine) -> None:
    with database.begin() as conn:
        cover(conn, NOW, NOW + TEN_YEARS, NOW + TEN_YEARS)
    with database.connect() as conn:
        recount(conn, NOW)
        conn.rollback()
        assert covered_spans.covered(conn, "p", "a") == (Window(NOW, NOW + TEN_YEARS),)


_HOURS = st.integers(0, 400)
_WALKS = st.lists(st.tuples(_HOURS, st.integers(1, 100), st.integers(0, 500)), max_size=8)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(walks=_WALKS, now=_HOURS)
def test_after_recounting_nothing_is_covered_that_no_believable_listing_shows(
    database: Engine, walks: Sequence[tuple[int, int, int]], now: int
) -> None:
    """Nor anything but that, wherever the newest of them is not what is covered; and doing it twice changes nothing."""
    latest = NOW + now * HOUR + OVERLAP
    with database.begin() as conn:
        conn.execute(delete(coverage))
        conn.execute(delete(listing_window))
        believable = []
        for since, lasts, at in walks:
            span = Window(NOW + since * HOUR, NOW + (since + lasts) * HOUR)
            cover(conn, span.since, span.until, NOW + at * HOUR)
            if max(span.until, NOW + at * HOUR) <= latest:
                believable.append(span)
        known = covered_spans.covered(conn, "p", "a")
        newest = max((each.until for each in believable), default=None)
        after = recount(conn, NOW + now * HOUR)
        assert after == covered_spans.covered(conn, "p", "a")
        if newest != (known[-1].until if known else None):
            assert after == merge(believable)
        assert all(each.until <= latest for each in after)
        assert recount(conn, NOW + now * HOUR) == after


@pytest.mark.parametrize(("rests_until", "owner", "freed"), [
    (NOW + TEN_YEARS, None, True),
    (NOW + 8 * DAY, None, True),
    (NOW + 7 * DAY, None, False),  # as long as a rest may be
    (NOW - HOUR, None, False),
    (None, None, False),
    (NOW + TEN_YEARS, "replica", False),  # in work: whoever has it decides
])  # fmt: skip
def test_only_what_rests_longer_than_any_rest_is_looked_at_again(
    database: Engine, rests_until: datetime | None, owner: str | None, freed: bool
) -> None:
    clock, chance = MovableClock(NOW), SystemChance()
    listing = Listing(RecordingRef("p", "call"), "r", Audio.PRESENT, NOW, NOW, None, b"{}", "d" * 64)
    with database.begin() as conn:
        listing_pages.note_page(conn, Ledger.open(clock, chance), chance, [listing], NOW, lambda _: None)
        rests = {"state": "waiting", "ready": False, "next_attempt_at": rests_until, "owner": owner}
        conn.execute(update(recording).values(**rests))
        assert journal.wake_misdated(conn, "another", NOW + 7 * DAY) == 0
        assert journal.wake_misdated(conn, "p", NOW + 7 * DAY) == int(freed)
        row = conn.execute(select(recording.c.ready, recording.c.next_attempt_at)).one()
        assert (row.ready, row.next_attempt_at) == ((True, None) if freed else (False, rests_until))
        assert journal.wake_misdated(conn, "p", NOW + 7 * DAY) == 0, "once"
