"""What time it is, as far as nobody contradicts us."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from archiver.hours import DATABASE, MARGIN, Hours, contradiction

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NONE, SECOND, HOUR, DAY = timedelta(0), timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
YEARS = 730 * DAY


@pytest.mark.parametrize(
    ("offsets", "off"),
    [
        ({}, NONE),
        ({"p": MARGIN}, NONE),
        ({"p": MARGIN + SECOND}, MARGIN + SECOND),
        ({"p": YEARS, "s": YEARS - HOUR}, YEARS - HOUR),
        ({"p": -YEARS, "s": -DAY}, -DAY),
        ({DATABASE: YEARS}, YEARS),
        ({DATABASE: DAY, "p": NONE, "q": NONE}, DAY),  # leases go by it
        ({DATABASE: NONE, "p": DAY}, DAY),  # it may be on this machine, and then agrees with anything
        ({"p": YEARS, "q": NONE}, NONE),  # one against one
        ({"p": YEARS, "q": NONE, "r": SECOND}, NONE),  # one of three may lie
        ({"p": YEARS, "q": DAY, "r": NONE}, DAY),
        ({"p": DAY, "q": -DAY}, NONE),
        # one liar chooses nothing: neither a small error, nor a large one
        ({"p": YEARS, "q": YEARS - SECOND, "liar": MARGIN + SECOND}, YEARS - SECOND),
        ({"p": DAY, "q": DAY + SECOND, "liar": YEARS}, DAY + SECOND),
        ({"p": DAY, "q": DAY + SECOND, "r": DAY + HOUR, "liar": MARGIN + SECOND}, DAY),
        ({DATABASE: YEARS, "liar": MARGIN + SECOND}, YEARS),
        ({DATABASE: DAY, "liar": YEARS}, DAY),
        ({DATABASE: -DAY, "p": -DAY - HOUR, "liar": -YEARS}, -DAY - HOUR),
    ],
)
def test_most_must_say_so_and_the_median_of_their_clocks_is_believed(
    offsets: dict[str, timedelta], off: timedelta
) -> None:
    assert contradiction(offsets) == off


class Wall:
    """A machine whose clock is `ahead`."""

    def __init__(self, ahead: timedelta) -> None:
        self.ahead, self.steady = ahead, 1000.0

    @property
    def true(self) -> datetime:
        return NOW + timedelta(seconds=self.steady - 1000)

    def now(self) -> datetime:
        return self.true + self.ahead

    def monotonic(self) -> float:
        return self.steady


def test_a_clock_that_is_ahead_goes_by_the_others_until_it_is_set_right() -> None:
    wall = Wall(YEARS)
    hours = Hours(wall)
    assert hours.now() == NOW + YEARS, "nobody has said anything yet"
    hours.heard_date("provider p", format_datetime(wall.true, usegmt=True))
    assert hours.now() == NOW
    wall.steady += 7200  # nobody is heard for two hours: it does not forget
    assert hours.now() == wall.true
    assert hours.offset == YEARS
    wall.ahead = NONE  # set right, and at once it counts again
    assert (hours.now(), hours.offset) == (wall.true, NONE)
    wall.ahead = DAY  # and wrong again
    assert hours.now() == wall.true


def test_the_hour_does_not_tremble_with_the_answers() -> None:
    wall = Wall(YEARS)
    hours = Hours(wall)
    seen = []
    for late in (0, 1, 3, 0, 2):
        hours.heard("provider p", wall.true - timedelta(seconds=late))
        wall.steady += 1
        seen.append(hours.now())
    assert seen == sorted(seen)


def test_a_clock_that_is_behind_is_told_of_and_not_moved() -> None:
    hours = Hours(Wall(-DAY))
    hours.heard("provider p", NOW)
    assert (hours.now(), hours.offset) == (NOW - DAY, -DAY)


def test_who_was_heard_lately_counts_more_than_who_was_heard_long_ago() -> None:
    wall = Wall(YEARS)
    hours = Hours(wall)
    hours.heard("storage s", wall.now())  # it shared our clock, and is no more
    hours.heard("provider p", wall.true)
    assert hours.offset == NONE
    wall.steady += 3601
    hours.heard("provider p", wall.true)
    assert hours.offset == YEARS


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Fri, 31 Feb 2026 99:99:99 GMT", "Thu, 01 Jan 99999 00:00:00 GMT"]
)
def test_what_is_no_date_says_nothing(date: str | None) -> None:
    hours = Hours(Wall(NONE))
    hours.heard_date("provider p", date)
    assert (hours.now(), hours.offset) == (NOW, NONE)
