"""What time it is, as far as nobody contradicts us: a clock that is set wrong must not decide about days that have not come.

Others tell the time with each answer: the database, storages and providers. When our clock is ahead of theirs by more than
`MARGIN`, it is later nowhere but here, and `Hours.now` goes by the earliest of them until the clocks agree again. The database is
believed alone, for leases go by it already; of the others more must say so than agree with us: one of them may be wrong, or lie,
and must not stop what is done for the rest. A clock that is behind is told of, and not moved: nothing is decided too early by it.
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
_STEADY = timedelta(seconds=30)  # answers take a while, and tell whole seconds: the hour must not tremble
_NONE = timedelta(0)


@dataclass(frozen=True, slots=True)
class Voice:
    """What somebody said that the time was, when our steady clock stood at `heard`."""

    time: datetime
    heard: float


def contradiction(offsets: dict[str, timedelta]) -> timedelta:
    """By how much our clock is off, from how far it is ahead of each of the others'; nothing while too few say so. Pure.

    Ahead is positive. Of those who contradict us, the one who does it least is believed.
    """
    for apart in (
        [each for each in offsets.items() if each[1] > MARGIN],
        [each for each in offsets.items() if each[1] < -MARGIN],
    ):
        agreeing = [each for each in offsets.items() if each not in apart and each[0] != DATABASE]
        if apart and (len(apart) > len(agreeing) or any(name == DATABASE for name, _ in apart)):
            return min((offset for _, offset in apart), key=abs)
    return _NONE


class Hours:
    """A `Clock` that is not later than those of the others. Safe for use by several threads."""

    def __init__(self, raw: Clock) -> None:
        self.raw = raw
        self._voices: dict[str, Voice] = {}
        self._ahead = _NONE
        self._told = False

    def now(self) -> datetime:
        """The present instant, by our clock, or by the others' while it is ahead of them."""
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
        """By how much our clock is off, ahead positive; nothing while it is not contradicted."""
        return self._off(self.raw.now())

    def heard(self, who: str, time: datetime) -> None:
        """Somebody's answer has just said that it is `time`."""
        self._voices = {**self._voices, who: Voice(time, self.raw.monotonic())}
        off = self.offset
        if (off != _NONE) != self._told:
            self._told = off != _NONE
            if self._told:
                log.error("clock.contradicted", ahead_seconds=round(off.total_seconds()), by=sorted(self._voices))
            else:
                log.info("clock.agrees")

    def heard_date(self, who: str, date: str | None) -> None:
        """The same from an HTTP header; one that is no date says nothing."""
        try:
            time = email.utils.parsedate_to_datetime(date or "")
        except (ValueError, TypeError, IndexError, OverflowError):
            return
        self.heard(who, time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))

    def _off(self, now: datetime) -> timedelta:
        """Judged anew each time: our clock may have been set meanwhile, and the steady one has gone on."""
        steady, voices = self.raw.monotonic(), self._voices
        fresh = {who: each for who, each in voices.items() if steady - each.heard <= _FRESH} or voices
        return contradiction({
            who: now - each.time - timedelta(seconds=steady - each.heard) for who, each in fresh.items()
        })  # fmt: skip
