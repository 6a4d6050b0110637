"""Forecasts the first loss of a recording, and names the remedies. Pure: no I/O, no clock.

One server (a provider account's downloads taken together) works on a backlog, whose parts have deadlines. If any order
saves everything, earliest deadline first does (Jackson 1955, Horn 1974). When not everything can be saved, Moore and
Hodgson's rule says how many recordings can: whenever one would be late, give up the longest so far. Outages are time in
which nothing is done; in the time that is left, this is the classic problem.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.recording import Window
from archiver.schedule.window import merge

_ROUNDING = 1e-6  # seconds; sums of floats


@dataclass(frozen=True, slots=True)
class Pending:
    """One recording still to be saved, or `count` alike. `deadline`: the time when the provider may delete it."""

    deadline: datetime
    size: int
    count: int = 1
    name: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """An account's capacity: bytes a second, and recordings a second by its rate budget. The slower of the two
    binds."""

    bytes_per_second: float
    items_per_second: float

    def takes(self, it: Pending) -> float:
        """The seconds of work on `it`. Raises ZeroDivisionError without any capacity: state an outage instead."""
        return max(it.size / self.bytes_per_second, 1 / self.items_per_second) * it.count


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast for a backlog. `first_loss` is None and `lost` is 0 where nothing is lost.

    `first_loss`: the deadline of the first recording not saved in time. `lost`: the number that even the best order
    cannot save. `speed`: the share of the available time that the work takes, at its tightest; above 1, the factor by
    which the work would have to be faster to save all. `slack`: how long nothing at all might be done without losing
    anything that can be saved now; negative when something is lost, None with nothing to lose. An alert raised when
    `slack` falls below a lead time comes that long before the first loss that can be avoided, even if all work stops at
    that moment.
    """

    recordings: int
    done_at: datetime | None
    first_loss: datetime | None
    lost: int
    speed: float
    slack: timedelta | None
    doomed: int

    @property
    def safe(self) -> bool:
        return self.first_loss is None


def forecast(backlog: Iterable[Pending], now: datetime, capacity: Capacity, outages: Sequence[Window] = ()) -> Forecast:
    """Forecasts `backlog` when it is worked on by deadline, with nothing done during `outages`.

    `slack` comes on top of the outages. `speed` is infinite when a deadline falls into an outage that began already.
    `doomed` recordings are past their deadline now: the provider may still have them; they count for nothing else.
    """
    work = sorted(backlog, key=lambda each: each.deadline)
    late = [each for each in work if each.deadline <= now]
    due = [each for each in work if each.deadline > now]
    time = _Time(now, outages)
    used, speed = 0.0, 0.0
    slack: float | None = None
    first_loss: datetime | None = None
    for each in due:
        used += capacity.takes(each)
        there = time.until(each.deadline)
        speed = max(speed, used / there if there > 0 else math.inf)
        slack = min(there - used, slack) if slack is not None else there - used
        if used > there + _ROUNDING and first_loss is None:
            first_loss = each.deadline
    return Forecast(
        recordings=sum(each.count for each in work),
        done_at=time.after(used) if due else None,
        first_loss=first_loss,
        lost=0 if first_loss is None else _lost(due, capacity, time),
        speed=speed,
        slack=None if slack is None else timedelta(seconds=slack),
        doomed=sum(each.count for each in late),
    )


def remedies(it: Forecast, outages: Sequence[Window] = ()) -> list[str]:
    """The measures that would save the backlog, in words, the surest first."""
    if it.safe or it.slack is None:
        return []
    found = []
    missing = -it.slack
    if it.speed != math.inf:
        found.append(f"work {it.speed:.1f} times as fast: raise rate and concurrency, or stop the back-fill")
    if outages:
        found.append(f"end the outage {_hours(missing)} earlier")
    found.append(f"have the provider keep recordings {_hours(missing)} longer (larger plan, larger quota)")
    return found


@dataclass(frozen=True, slots=True)
class _Time:
    """Time in which work is done: the seconds since `now`, without those of the outages."""

    now: datetime
    outages: Sequence[Window]

    def until(self, instant: datetime) -> float:
        idle = sum(
            (max(timedelta(0), min(each.until, instant) - max(each.since, self.now)) for each in merge(self.outages)),
            timedelta(0),
        )
        return (instant - self.now - idle).total_seconds()

    def after(self, seconds: float) -> datetime:
        """The instant by which so many seconds of work are done."""
        at = self.now + timedelta(seconds=seconds)
        for each in merge(self.outages):
            if each.until > self.now and max(each.since, self.now) < at:
                at += each.until - max(each.since, self.now)
        return at


def _lost(due: Sequence[Pending], capacity: Capacity, time: _Time) -> int:
    """The fewest recordings that any order loses, by Moore–Hodgson. Batches are given up one recording at a time."""
    chosen: list[tuple[float, int]] = []  # negative seconds of one recording, number of such recordings
    used, lost = 0.0, 0
    for each in due:
        one = capacity.takes(each) / each.count
        heapq.heappush(chosen, (-one, each.count))
        used += one * each.count
        there = time.until(each.deadline)
        while used > there + _ROUNDING and chosen:
            longest, count = heapq.heappop(chosen)
            drop = min(count, math.ceil((used - there - _ROUNDING) / -longest))
            used += longest * drop
            lost += drop
            if count > drop:
                heapq.heappush(chosen, (longest, count - drop))
    return lost


def _hours(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h"
