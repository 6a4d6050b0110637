"""Reads five-field cron expressions in UTC, as the ticker takes them: the values of each field, and the longest rest.
Pure."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
FIELDS: tuple[Sequence[str], ...] = (
    [str(minute) for minute in range(60)],
    [str(hour) for hour in range(24)],
    [str(day) for day in range(32)][1:],
    [str(month) for month in range(13)][1:] + _MONTHS,
    ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
)
"""The allowed values of each field, in order. Weekdays have names only: cron counts them from Sunday, the scheduler
from Monday."""

_CYCLE = date(2001, 1, 1), 28 * 365 + 7  # weekdays and leap years repeat after 28 years
_DAY = timedelta(days=1)


def expand(field: str, allowed: Sequence[str]) -> frozenset[int]:
    """Returns the places in `allowed` that a field names. Raises `ValueError` for a field that names a value that is
    not allowed."""
    found: set[int] = set()
    for part in field.lower().split(","):
        span, slash, step = part.partition("/")
        if slash and not (step.isascii() and step.isdigit() and 0 < int(step[:4]) <= len(allowed)):
            raise ValueError(field)
        low, dash, high = span.partition("-")
        if span == "*":
            first, last = 0, len(allowed) - 1
        else:
            first = allowed.index(low)
            last = allowed.index(high) if dash else len(allowed) - 1 if slash else first
        if last < first:
            raise ValueError(field)
        found.update(range(first, last + 1, int(step) if slash else 1))
    return frozenset(found)


@functools.lru_cache(maxsize=64)
def longest_rest(expression: str) -> timedelta | None:
    """Returns the longest time from one instant of a valid expression to the next; None when there is no such instant,
    ever."""
    minutes, hours, days, months, weekdays = (
        expand(field, allowed) for field, allowed in zip(expression.split(), FIELDS, strict=True)
    )
    wanted = {month % 12 for month in months}
    start, length = _CYCLE
    cycle = [start + timedelta(days=count) for count in range(length)]
    dates = [each for each in cycle if each.month - 1 in wanted and each.day - 1 in days and each.weekday() in weekdays]
    if not dates:
        return None
    times = sorted(timedelta(hours=hour, minutes=minute) for hour in hours for minute in minutes)
    overnight = _DAY + times[0] - times[-1]
    within = max((later - earlier for earlier, later in pairwise(times)), default=timedelta(0))
    apart = max(later - earlier for earlier, later in pairwise([*dates, dates[0] + length * _DAY]))
    return max(within, apart - _DAY + overnight)
