"""Listings against their totals, against what they showed before, against the account's habits."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.completeness import listing
from archiver.completeness.gap import Code, Gap, Grade
from archiver.completeness.listing import Listed, Walk
from archiver.recording import Window

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SHOWN = Window(NOW - DAY, NOW)
TODAY = date(2026, 11, 21)


def codes(found: list[Gap]) -> list[tuple[Code, Grade]]:
    return [(each.code, each.grade) for each in found]


def walk(total: int | None, seen: int) -> Walk:
    return Walk("account", SHOWN, NOW, NOW - timedelta(hours=1), total, max(seen, 1), seen, "ab" * 32)


@pytest.mark.parametrize(
    ("total", "seen", "expected"),
    [
        (None, 7, []),
        (7, 7, []),
        (8, 7, [(Code.NEVER_LISTED, Grade.OPEN)]),
        (2, 3, [(Code.TOTAL_DIFFERS, Grade.WATCHED)]),
    ],
)
def test_total_that_the_pages_do_not_bear_out_is_said(
    total: int | None, seen: int, expected: list[tuple[Code, Grade]]
) -> None:
    assert codes(listing.totals("p", [walk(total, seen)])) == expected


def listed(count: int, missing: int, *, party: str = "42", safe: bool = True) -> list[Listed]:
    return [Listed(f"{party}-{n}", party, safe, n >= missing) for n in range(count)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (listed(20, 0), []),
        (listed(20, 1), [(Code.NO_LONGER_LISTED, Grade.WATCHED)]),
        (listed(20, 1, safe=False), [(Code.NO_LONGER_LISTED, Grade.OPEN)]),
        (listed(20, 4), [(Code.HISTORY_GONE, Grade.OPEN)]),
        (listed(20, 20), [(Code.HISTORY_GONE, Grade.OPEN)]),
        (listed(9, 9, party="a") + listed(9, 0, party="b"), [(Code.CREDENTIALS_NARROWED, Grade.OPEN)]),
        (listed(9, 9, party="") + listed(9, 0, party="b"), [(Code.HISTORY_GONE, Grade.OPEN)]),
        (listed(1, 1, party="a") + listed(9, 0, party="b"), [(Code.NO_LONGER_LISTED, Grade.WATCHED)]),
    ],
)
def test_what_is_no_longer_listed_is_told_by_how_much_and_of_whom(
    rows: list[Listed], expected: list[tuple[Code, Grade]]
) -> None:
    assert codes(listing.unlisted("p", SHOWN, rows)) == expected


def test_users_that_vanished_are_named_by_digest_only() -> None:
    rows = listed(9, 9, party="jordan@example.net") + listed(9, 0, party="b")
    (found,) = listing.unlisted("p", SHOWN, rows)
    assert "jordan" not in repr(found)
    assert found.evidence["users_not_listed"] == 1


def test_only_what_every_scope_should_show_is_judged() -> None:
    late = Walk("b", Window(NOW - DAY / 2, NOW - DAY / 4), NOW, NOW - DAY / 3, None, 0, 0, "")
    shared = listing.span([walk(None, 0), late])
    assert shared is not None
    window, before = shared
    assert window.since > NOW - DAY / 2
    assert window.until == NOW - DAY / 4
    assert before == NOW - DAY / 3
    assert listing.span([]) is None
    assert listing.span([late, Walk("c", Window(NOW - 2 * DAY, NOW - DAY), NOW, NOW, None, 0, 0, "")]) is None


def test_empty_listing_that_the_poller_did_not_believe_is_a_gap() -> None:
    said = "calls 2026-11-20 12:00: The listing is unusable: an empty listing where 7 recordings were listed before"
    (found,) = listing.empty("p", said, NOW)
    assert (found.code, found.grade) == (Code.SUSPICIOUS_EMPTY, Grade.OPEN)
    assert listing.empty("p", "HTTP 503", NOW) == []
    assert listing.empty("p", None, NOW) == []


def test_time_from_the_future_is_said() -> None:
    assert listing.clock("p", NOW + timedelta(minutes=1), NOW) == []
    (found,) = listing.clock("p", NOW + DAY, NOW)
    assert found.code is Code.CLOCK_JUMPED
    assert found.evidence == {"newest": f"{found.until:%Y-%m-%dT%H:%M:%SZ}"}


def habit(weeks: int, workday: int, weekend: int = 0) -> dict[date, int]:
    days = [TODAY - timedelta(days=n) for n in range(1, 7 * weeks + 1)]
    return {day: workday if day.weekday() < 5 else weekend for day in days}


def judged(counts: dict[date, int]) -> list[tuple[Code, Grade]]:
    return codes(listing.volume("p", counts, counts))


def test_nothing_where_there_always_was_something_is_an_alarm() -> None:
    assert judged(habit(6, 12, 8) | {TODAY: 0}) == [(Code.VOLUME_ZERO, Grade.OPEN)]


def test_quiet_account_takes_several_silent_days_to_alarm() -> None:
    counts = habit(8, 2, 2)
    silent = []
    for days in range(1, 6):
        now = counts | {TODAY - timedelta(days=n): 0 for n in range(days)}
        silent.append(bool(judged(now)))
    assert silent == [False, False, False, True, True]


def test_closed_weekends_are_no_alarm_and_a_closed_workday_is() -> None:
    saturday = TODAY
    assert saturday.weekday() == 5
    assert judged(habit(6, 30) | {saturday: 0}) == []
    friday = saturday - DAY
    assert judged({day: n for day, n in habit(6, 30).items() if day < friday} | {friday: 0}) == [
        (Code.VOLUME_ZERO, Grade.OPEN)
    ]


def test_a_fifth_of_the_usual_is_an_alarm_of_its_own() -> None:
    assert judged(habit(6, 100, 100) | {TODAY: 15}) == [(Code.VOLUME_DROPPED, Grade.OPEN)]
    assert judged(habit(6, 100, 100) | {TODAY: 60}) == []


@given(st.lists(st.integers(60, 140), min_size=1, max_size=63))
def test_account_that_goes_on_as_ever_never_alarms(counts: list[int]) -> None:
    assert judged({TODAY - timedelta(days=n): count for n, count in enumerate(counts)}) == []
