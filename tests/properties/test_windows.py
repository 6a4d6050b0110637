"""Windows and coverage: whatever was covered so far, one poll's windows leave no instant of the whole unlooked-at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from archiver.recording import Window
from archiver.schedule.window import Bounds, deep_windows, due_windows, holes, merge, split

ORIGIN = datetime(2026, 1, 1, tzinfo=UTC)
minutes = st.integers(0, 200_000).map(lambda n: ORIGIN + timedelta(minutes=n))
spans = st.tuples(minutes, minutes).map(lambda pair: Window(min(pair), max(pair)))


def covers(spans: list[Window], instant: datetime) -> bool:
    return any(each.since <= instant < each.until for each in spans)


@given(st.lists(spans, max_size=12), minutes)
def test_merging_changes_no_instant(some: list[Window], instant: datetime) -> None:
    merged = list(merge(some))
    assert covers(merged, instant) == covers(some, instant)
    assert all(left.until < right.since for left, right in pairwise(merged))


@given(st.lists(spans, max_size=12), spans, minutes)
def test_an_instant_is_in_a_hole_exactly_when_nothing_covers_it(
    covered: list[Window], whole: Window, instant: datetime
) -> None:
    inside = whole.since <= instant < whole.until
    assert covers(list(holes(covered, whole)), instant) == (inside and not covers(covered, instant))


@given(spans, st.integers(1, 40_000))
def test_pieces_are_short_enough_and_touch(span: Window, longest_minutes: int) -> None:
    longest = timedelta(minutes=longest_minutes)
    pieces = split(span, longest)
    assert pieces[0].since == span.since
    assert pieces[-1].until == span.until
    assert all(piece.until - piece.since <= longest for piece in pieces)
    assert all(left.until == right.since for left, right in pairwise(pieces))


@given(
    st.lists(spans, max_size=8), minutes, st.integers(0, 10_000), st.integers(1, 50_000), st.integers(0, 60), minutes
)
def test_after_one_poll_nothing_settled_was_never_looked_at(
    covered: list[Window], now: datetime, overlap: int, longest: int, settle: int, earliest: datetime
) -> None:
    bounds = Bounds(earliest, timedelta(minutes=longest), timedelta(minutes=settle))
    windows = due_windows(covered, now, bounds, timedelta(minutes=overlap))
    end = now - bounds.settle
    assert all(window.until - window.since <= bounds.longest for window in windows)
    assert all(earliest <= window.since and window.until <= end for window in windows)
    if earliest < end:
        assert holes([*covered, *windows], Window(earliest, end)) == ()


def test_an_outage_of_91_days_is_walked_in_pieces_newest_stretch_first() -> None:
    now = ORIGIN + timedelta(days=200)
    covered = [Window(ORIGIN, now - timedelta(days=91))]
    windows = due_windows(covered, now, Bounds(ORIGIN, timedelta(days=30)), timedelta(hours=24))
    assert windows[0].since == now - timedelta(days=92)
    assert max(each.until for each in windows) == now
    assert holes([*covered, *windows], Window(ORIGIN, now)) == ()


def test_a_first_poll_looks_at_today_before_the_back_fill() -> None:
    now = ORIGIN + timedelta(days=100)
    windows = due_windows([], now, Bounds(ORIGIN, timedelta(days=30)), timedelta(hours=24))
    assert windows[0] == Window(now - timedelta(hours=24), now)
    assert windows[1].since == ORIGIN


@given(minutes, st.integers(0, 200_000), st.integers(60, 50_000), minutes)
def test_deep_walk_leaves_no_instant_out_ends_in_the_past_and_goes_newest_first(
    before: datetime, back: int, longest: int, earliest: datetime
) -> None:
    bounds, span = Bounds(earliest, timedelta(minutes=longest)), timedelta(minutes=back)
    windows = deep_windows(before, span, bounds)
    since = max(earliest, before - span)
    if since >= before:
        assert windows == ()
        return
    assert merge(windows) == (Window(since, before),)
    assert all(each.until - each.since <= bounds.longest for each in windows)
    assert all(newer.since == older.until for newer, older in pairwise(windows))


@given(
    st.lists(spans, max_size=8),
    minutes,
    st.integers(0, 10_000),
    st.integers(1, 50_000),
    minutes,
    st.integers(0, 200_000),
)
def test_deep_walk_behind_an_ordinary_poll_touches_it_and_shows_nothing_twice(
    covered: list[Window], now: datetime, overlap: int, longest: int, earliest: datetime, back: int
) -> None:
    bounds = Bounds(earliest, timedelta(minutes=longest))
    due = due_windows(covered, now, bounds, timedelta(minutes=overlap))
    if not due:
        return
    deep = deep_windows(due[0].since, timedelta(minutes=back), bounds)
    assert all(each.until <= due[0].since for each in deep)
    assert not deep or deep[0].until == due[0].since


def test_deep_walk_of_three_months_is_asked_for_in_months() -> None:
    before = ORIGIN + timedelta(days=200)
    windows = deep_windows(before, timedelta(days=92), Bounds(ORIGIN, timedelta(days=31)))
    assert [(before - each.until).days for each in windows] == [0, 30, 61]
    assert [(each.until - each.since).days for each in windows] == [30, 31, 31]
