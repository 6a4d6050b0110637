"""Which spans are listed next, in figures: one table for each rule, days counted from a first of January."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from archiver.recording import Window
from archiver.schedule.window import Bounds, beginning, deep_windows, due_windows, holes, merge, split

DAY = timedelta(days=1)


def day(number: float) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + number * DAY


def spans(*pairs: tuple[float, float]) -> tuple[Window, ...]:
    return tuple(Window(day(since), day(until)) for since, until in pairs)


@pytest.mark.parametrize(
    ("some", "merged"),
    [
        ((), ()),
        (((2, 3), (0, 1)), ((0, 1), (2, 3))),
        (((0, 1), (1, 2)), ((0, 2),)),  # touching spans become one
        (((0, 5), (1, 2), (2, 3)), ((0, 5),)),
        (((0, 2), (1, 3), (3, 4), (5, 6)), ((0, 4), (5, 6))),
        (((1, 1), (3, 2)), ()),  # what spans nothing covers nothing
        (((0, 1), (1, 1), (2, 3)), ((0, 1), (2, 3))),
    ],
)
def test_coverage_is_disjoint_and_in_order(some: tuple[tuple[float, float], ...], merged: object) -> None:
    assert merge(spans(*some)) == spans(*merged)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("covered", "missing"),
    [
        ((), ((2, 8),)),
        (((2, 8),), ()),
        (((0, 9),), ()),
        (((0, 2), (8, 9)), ((2, 8),)),
        (((0, 3), (7, 9)), ((3, 7),)),
        (((3, 4), (5, 6)), ((2, 3), (4, 5), (6, 8))),
        (((2, 4),), ((4, 8),)),
        (((5, 8),), ((2, 5),)),
        (((0, 1), (3, 4), (9, 10)), ((2, 3), (4, 8))),
    ],
)
def test_holes_are_what_of_the_whole_no_span_covers(covered: tuple[tuple[float, float], ...], missing: object) -> None:
    assert holes(spans(*covered), Window(day(2), day(8))) == spans(*missing)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("longest", "pieces"),
    [
        (10, ((0, 5),)),
        (5, ((0, 5),)),
        (3, ((0, 3), (3, 5))),
        (2.5, ((0, 2.5), (2.5, 5))),
        (2, ((0, 2), (2, 4), (4, 5))),
    ],
)
def test_a_span_is_asked_for_in_pieces_as_long_as_may_be(longest: float, pieces: object) -> None:
    assert split(Window(day(0), day(5)), longest * DAY) == spans(*pieces)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("covered", "settle", "overlap", "planned"),
    [
        # nothing known: the overlap first, then all since the beginning, the oldest first
        ((), 0, 1, ((19, 20), (0, 10), (10, 19))),
        # caught up: from the overlap before the newest on
        (((0, 19),), 0, 1, ((18, 20),)),
        (((0, 19),), 0, 0, ((19, 20),)),
        (((0, 20),), 0, 0, ((20, 20),)),
        (((0, 20),), 0, 1, ((19, 20),)),
        # a hole is walked behind it, and what is too young is not asked for
        (((0, 3), (6, 19)), 0, 1, ((18, 20), (3, 6))),
        (((0, 18),), 1, 1, ((17, 19),)),
        (((0, 5),), 0, 1, ((4, 14), (14, 20))),
        # coverage that reaches beyond the end: within the overlap it is the newest, far beyond it is a clock gone wrong
        (((0, 20.5),), 0, 1, ((19, 20),)),
        (((0, 21),), 0, 1, ((19, 20),)),
        (((0, 19.5),), 0, 1, ((18.5, 20),)),
        (((0, 12), (15, 21)), 0, 1, ((19, 20), (12, 15))),
        (((0, 12), (15, 40)), 0, 1, ((11, 20),)),
        # nothing before the beginning
        ((), 0, 30, ((0, 10), (10, 20))),
        ((), 20, 1, ()),
        ((), 25, 1, ()),
    ],
)
def test_a_poll_asks_for_the_newest_stretch_first_and_then_for_each_hole(
    covered: tuple[tuple[float, float], ...], settle: float, overlap: float, planned: object
) -> None:
    bounds = Bounds(day(0), 10 * DAY, settle * DAY)
    assert due_windows(spans(*covered), day(20), bounds, overlap * DAY) == spans(*planned)  # type: ignore[misc]


def test_nothing_waits_to_settle_unless_asked_to() -> None:
    assert due_windows((), day(1), Bounds(day(0), DAY), DAY) == spans((0, 1))


@pytest.mark.parametrize(
    ("before", "back", "planned"),
    [(20, 15, ((15, 20), (5, 15))), (20, 10, ((10, 20),)), (5, 15, ((0, 5),)), (0, 15, ()), (5, 0, ())],
)
def test_a_deep_walk_goes_back_newest_first_and_never_before_the_beginning(
    before: float, back: float, planned: object
) -> None:
    assert deep_windows(day(before), back * DAY, Bounds(day(0), 10 * DAY)) == spans(*planned)  # type: ignore[misc]


@pytest.mark.parametrize(("stated", "begins"), [(None, 2), (5, 5), (1, 2), (2, 2), (9, 8), (8, 8)])
def test_a_beginning_is_as_stated_but_neither_before_there_is_anything_nor_in_the_future(
    stated: float | None, begins: float
) -> None:
    assert beginning(day(2), None if stated is None else day(stated), day(8)) == day(begins)
