"""Guards the clock: a clock that is set wrong must not decide about days that have not come.

Others tell the time with each answer: the database, storages and providers. When our clock is ahead of theirs by more
than `MARGIN`, `Hours.now` goes by the median of those clocks until they agree again. The database is believed alone,
for leases go by its clock already; of the other parties more must contradict us than agree with us: one of them may be
wrong, or lie, and must neither stop the work for the rest nor choose the correction. A clock that is behind is
reported, and not moved: it makes no decision too early.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from archiver.clock import Clock

log = structlog.get_logger("archiver.hours")

MARGIN = timedelta(minutes=5)
DATABASE = "database"
_FRESH = 3600.0
_STEADY = timedelta(seconds=30)  # answers take a while, and tell whole seconds: small changes of the offset are ignored
_NONE = timedelta(0)


@dataclass(frozen=True, slots=True)
class Voice:
    """A time that one party told, and the monotonic clock (`heard`) when the answer came."""

    time: datetime
    heard: float


def contradiction(offsets: dict[str, timedelta]) -> timedelta:
    """Return the error of our clock, from its lead over each party's clock; zero while too few contradict it. Pure.

    Ahead is positive. Of the clocks that contradict ours, the median is believed; of two in the middle, the database's,
    or else the nearer one.
    """
    for apart in (
        [each for each in offsets.items() if each[1] > MARGIN],
        [each for each in offsets.items() if each[1] < -MARGIN],
    ):
        agreeing = [each for each in offsets.items() if each not in apart and each[0] != DATABASE]
        if apart and (len(apart) > len(agreeing) or any(name == DATABASE for name, _ in apart)):
            ordered = sorted(apart, key=lambda each: abs(each[1]))
            middle = ordered[(len(apart) - 1) // 2 : len(apart) // 2 + 1]
            return next((offset for name, offset in middle if name == DATABASE), middle[0][1])
    return _NONE


class Hours:
    """A `Clock` that is not later than the clocks of the other parties. Safe for use by several threads."""

    def __init__(self, raw: Clock) -> None:
        self.raw = raw
        self._voices: dict[str, Voice] = {}
        self._ahead = _NONE
        self._told = False

    def now(self) -> datetime:
        """Return the present instant, by our clock, or by the others' clocks while ours is ahead of them."""
        now = self.raw.now()
        if not self._voices:
            return now
        ahead = max(_NONE, self._off(now))
        if ahead == _NONE or abs(ahead - self._ahead) > _STEADY:
            self._ahead = ahead
        return now - self._ahead

    def monotonic(self) -> float:
        return self.raw.monotonic()

    @property
    def offset(self) -> timedelta:
        """The error of our clock, ahead positive; zero while it is not contradicted."""
        return self._off(self.raw.now())

    def heard(self, who: str, time: datetime) -> None:
        """Note that an answer of `who` has just told `time`."""
        self._voices = {**self._voices, who: Voice(time, self.raw.monotonic())}
        off = self.offset
        if (off != _NONE) != self._told:
            self._told = off != _NONE
            if self._told:
                log.error("clock.contradicted", ahead_seconds=round(off.total_seconds()), by=sorted(self._voices))
            else:
                log.info("clock.agrees")

    def heard_date(self, who: str, date: str | None) -> None:
        """Note the time in an HTTP header; a header that is no date is ignored."""
        try:
            time = email.utils.parsedate_to_datetime(date or "")
        except (ValueError, TypeError, IndexError, OverflowError):
            return
        self.heard(who, time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))

    def _off(self, now: datetime) -> timedelta:
        """Judge the clock anew each time: it may have been set meanwhile, while the monotonic clock has gone on."""
        steady, voices = self.raw.monotonic(), self._voices
        fresh = {who: each for who, each in voices.items() if steady - each.heard <= _FRESH} or voices
        return contradiction({
            who: now - each.time - timedelta(seconds=steady - each.heard) for who, each in fresh.items()
        })  # fmt: skip
