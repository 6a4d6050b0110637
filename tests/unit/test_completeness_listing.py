"""Listings against their totals, against what they showed before, against the account's habits."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.completeness import listing
from archiver.completeness.gap import Code, Gap, Grade
from archiver.completeness.listing import Listed, Walk
from archiver.recording import Json, Window

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
    found = listing.totals("p", [walk(None, 9), walk(total, seen)])
    assert codes(found) == expected
    for each in found:
        assert (each.provider, each.subject, each.since, each.until) == ("p", "total:account", SHOWN.since, SHOWN.until)
        assert each.evidence == {"total": total, "listed": seen, "listing_sha256": "ab" * 32}
        assert each.detail.startswith(f"the provider counts {total} and lists {seen}: ")
        assert each.code is Code.TOTAL_DIFFERS or each.detail.endswith(f": {(total or 0) - seen} never shown")


def test_a_total_that_is_less_than_the_ids_but_not_less_than_the_rows_is_no_contradiction() -> None:
    """More ids than rows were seen since the walk began: some came after the provider counted."""
    assert listing.totals("p", [replace(walk(5, 7), rows=5)]) == []
    assert codes(listing.totals("p", [replace(walk(4, 7), rows=5)])) == [(Code.TOTAL_DIFFERS, Grade.WATCHED)]
    assert listing.totals("p", [replace(walk(5, 5), rows=9)]) == []


def listed(count: int, missing: int, *, party: str = "42", safe: bool = True) -> list[Listed]:
    return [Listed(f"{party}-{n}", party, safe, n >= missing) for n in range(count)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (listed(20, 0), []),
        (listed(20, 1), [(Code.NO_LONGER_LISTED, Grade.WATCHED)]),
        (listed(20, 1, safe=False), [(Code.NO_LONGER_LISTED, Grade.OPEN)]),
        (listed(20, 3), [(Code.NO_LONGER_LISTED, Grade.WATCHED)]),
        (listed(20, 4), [(Code.HISTORY_GONE, Grade.OPEN)]),
        (listed(5, 2), [(Code.NO_LONGER_LISTED, Grade.WATCHED)]),
        (listed(5, 3), [(Code.HISTORY_GONE, Grade.OPEN)]),
        (listed(9, 2, safe=False), [(Code.NO_LONGER_LISTED, Grade.OPEN)] * 2),
        (listed(9, 9, safe=False), [(Code.NO_LONGER_LISTED, Grade.OPEN)] * 9 + [(Code.HISTORY_GONE, Grade.OPEN)]),
        (listed(2, 2, party="a") + listed(9, 0, party="b"), [(Code.CREDENTIALS_NARROWED, Grade.OPEN)]),
        (listed(9, 9, party="a") + listed(9, 9, party="b"), [(Code.HISTORY_GONE, Grade.OPEN)]),
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
    digest = hashlib.sha256(b"jordan@example.net").hexdigest()[:16]
    evidence: dict[str, Json] = {"users": 2, "users_not_listed": 1, "recordings": 9, "sha256": [digest]}
    said = "nothing of 1 of 2 users is listed any more (9 known recordings)"
    assert found == Gap(
        "p", "listing:users", Code.CREDENTIALS_NARROWED, Grade.OPEN, said, evidence, SHOWN.since, SHOWN.until
    )


def test_of_many_users_that_vanished_fifty_are_named() -> None:
    rows = [each for n in range(60) for each in listed(2, 2, party=f"u{n}")] + listed(2, 0, party="b")
    (found,) = listing.unlisted("p", SHOWN, rows)
    names = found.evidence["sha256"]
    assert isinstance(names, list)
    assert (found.evidence["users_not_listed"], len(names)) == (60, 50)


def test_what_is_no_longer_listed_is_named_with_the_span_in_which_it_should_be() -> None:
    within = (SHOWN.since, SHOWN.until)
    lost = "listed before, not any more, and not archived"
    (one,) = listing.unlisted("p", SHOWN, listed(9, 1, safe=False))
    assert one == Gap("p", "rec:42-0", Code.NO_LONGER_LISTED, Grade.OPEN, lost, {}, *within)
    evidence: dict[str, Json] = {"known": 9, "not_listed": 1, "safe": 1}
    watched = "1 archived recording(s) are no longer listed; nothing of them is missing here"
    assert listing.unlisted("p", SHOWN, listed(9, 1)) == [
        Gap("p", "listing:history", Code.NO_LONGER_LISTED, Grade.WATCHED, watched, evidence, *within)
    ]
    gone = "9 of 9 recordings that were listed before have disappeared from the listing"
    evidence = {"known": 9, "not_listed": 9, "safe": 9}
    assert listing.unlisted("p", SHOWN, listed(9, 9)) == [
        Gap("p", "listing:history", Code.HISTORY_GONE, Grade.OPEN, gone, evidence, *within)
    ]
    assert listing.unlisted("p", SHOWN, []) == []


def test_spans_that_nobody_enumerated_are_gaps_of_their_scope() -> None:
    hole = Window(NOW - DAY, NOW)
    said = "never listed to its last page: 2026-11-20 12:00 to 2026-11-21 12:00 UTC"
    assert listing.never_listed("p", {"calls": [hole], "none": []}) == [
        Gap(
            "p",
            "span:calls@2026-11-20T12:00:00Z",
            Code.NEVER_LISTED,
            Grade.OPEN,
            said,
            {"scope": "calls"},
            NOW - DAY,
            NOW,
        )
    ]


def test_only_what_every_scope_should_show_is_judged() -> None:
    late = Walk("b", Window(NOW - DAY / 2, NOW - DAY / 4), NOW, NOW - DAY / 3, None, 0, 0, "")
    shared = listing.span([walk(None, 0), late])
    assert shared is not None
    window, before = shared
    assert window == Window(NOW - DAY / 2 + DAY / 16, NOW - DAY / 4)
    assert before == NOW - DAY / 3
    assert listing.span([walk(None, 0)]) == (Window(NOW - DAY + timedelta(hours=2), NOW), NOW - timedelta(hours=1))
    assert listing.span([replace(late, window=Window(NOW, NOW))]) is None
    assert listing.span([]) is None
    assert listing.span([late, Walk("c", Window(NOW - 2 * DAY, NOW - DAY), NOW, NOW, None, 0, 0, "")]) is None


def test_empty_listing_that_the_poller_did_not_believe_is_a_gap() -> None:
    said = "calls 2026-11-20 12:00: The listing is unusable: an empty listing where 7 recordings were listed before"
    (found,) = listing.empty("p", said, NOW)
    shown = "an empty listing where 7 recordings were listed before"
    assert found == Gap("p", "listing:empty", Code.SUSPICIOUS_EMPTY, Grade.OPEN, shown, {}, None, NOW)
    (long,) = listing.empty("p", said + "x" * 500, NOW)
    assert len(long.detail) == 200
    assert listing.empty("p", "HTTP 503", NOW) == []
    assert listing.empty("p", None, NOW) == []


def test_time_from_the_future_is_said() -> None:
    assert listing.clock("p", NOW + timedelta(minutes=1), NOW) == []
    assert listing.clock("p", NOW + timedelta(minutes=5), NOW) == []
    assert listing.clock("p", None, NOW) == []
    later = NOW + timedelta(minutes=5, seconds=1)
    (found,) = listing.clock("p", later, NOW)
    said = "the journal holds times up to 2026-11-21T12:05:01Z, ahead of this clock: one of the two was wrong"
    evidence: dict[str, Json] = {"newest": "2026-11-21T12:05:01Z"}
    assert found == Gap("p", "clock", Code.CLOCK_JUMPED, Grade.OPEN, said, evidence, NOW, later)


def habit(weeks: int, workday: int, weekend: int = 0) -> dict[date, int]:
    days = [TODAY - timedelta(days=n) for n in range(1, 7 * weeks + 1)]
    return {day: workday if day.weekday() < 5 else weekend for day in days}


def judged(counts: dict[date, int]) -> list[tuple[Code, Grade]]:
    return codes(listing.volume("p", counts, counts))


def test_nothing_where_there_always_was_something_is_an_alarm() -> None:
    assert judged(habit(6, 12, 8) | {TODAY: 0}) == [(Code.VOLUME_ZERO, Grade.OPEN)]
    counts = habit(6, 4, 4) | {TODAY: 0, TODAY - DAY: 0}
    said = "no recording on 2 day(s) since 2026-11-20, where some 8 were to be expected"
    evidence: dict[str, Json] = {"day": "2026-11-20", "expected": 8, "listed": 0}
    since = datetime(2026, 11, 20, tzinfo=UTC)
    assert listing.volume("p", counts, counts) == [
        Gap("p", "volume:2026-11-20", Code.VOLUME_ZERO, Grade.OPEN, said, evidence, since, since + DAY)
    ]


def test_a_day_that_no_count_names_is_one_without_recordings_and_a_day_not_listed_is_none() -> None:
    counts = habit(6, 12, 12)
    assert codes(listing.volume("p", counts, [*counts, TODAY])) == [(Code.VOLUME_ZERO, Grade.OPEN)]
    assert listing.volume("p", counts | {TODAY: 0}, counts) == []
    assert listing.volume("p", {}, []) == []


@pytest.mark.parametrize(
    ("weeks", "alarms"),
    [
        ([9], False),  # one week is no habit
        ([9, 9], True),
        ([9, 9, 9, 0], False),  # 6.75 to be expected is not seven
        ([7, 7], True),
        ([6, 7], False),
        ([10, 10, 10, 0], True),  # one of four was silent too
        ([20, 20, 0], False),  # one of three
        ([9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0], True),  # what lies more than eight weeks back is forgotten
    ],
)
def test_a_habit_is_of_the_same_weekday_in_the_eight_weeks_before(weeks: list[int], alarms: bool) -> None:
    counts = {TODAY - timedelta(weeks=n + 1): count for n, count in enumerate(weeks)} | {TODAY: 0}
    assert bool(judged(counts)) is alarms


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
    assert judged(habit(6, 100, 100) | {TODAY: 17}) == [(Code.VOLUME_DROPPED, Grade.OPEN)]
    assert judged(habit(6, 100, 100) | {TODAY: 18}) == []  # 20 less the root's 2
    assert judged(habit(6, 20, 20) | {TODAY: 3}) == [(Code.VOLUME_DROPPED, Grade.OPEN)]
    assert judged(habit(6, 19, 19) | {TODAY: 1}) == []  # too few for chance to be told from a fault
    counts = habit(6, 100, 100) | {TODAY: 17}
    (found,) = listing.volume("p", counts, counts)
    assert (found.subject, found.detail) == (
        "volume:2026-11-21", "17 recordings on 2026-11-21, where some 100 were to be expected",
    )  # fmt: skip
    assert found.evidence == {"day": "2026-11-21", "expected": 100, "listed": 17}


@given(st.lists(st.integers(60, 140), min_size=1, max_size=63))
def test_account_that_goes_on_as_ever_never_alarms(counts: list[int]) -> None:
    assert judged({TODAY - timedelta(days=n): count for n, count in enumerate(counts)}) == []
