"""Rules for a bucket's own default retention, which locks objects whose PUT states no lock. Pure.

A stated lock counts instead of the default, also where it is shorter: so S3's documentation, and so SeaweedFS 4.48 as
measured. Hence two rules where a bucket has a default. Objects that must stay are locked no shorter than the default;
and short-lived objects (canaries, the pointer to the newest checkpoint, partial tiles) state a short lock of their own,
or each would stay for years.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from archiver.recording import Json, Lock, LockMode

BRIEF = timedelta(days=1)
"""The lock time of short-lived objects where nothing can be unlocked."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DefaultRetention:
    """The default retention that a bucket states, or was seen to apply."""

    mode: LockMode
    days: int = 0
    years: int = 0

    def __str__(self) -> str:
        count, unit = (self.years, "year") if self.years else (self.days, "day")
        return f"{count} {unit}{'' if count == 1 else 's'} in {self.mode} mode"

    def until(self, now: datetime) -> datetime:
        """Return the end of a lock that is set today, at midnight: two calls on one day give the same instant."""
        tomorrow = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        if (tomorrow.month, tomorrow.day) == (2, 29):
            tomorrow += _DAY
        return tomorrow.replace(year=tomorrow.year + self.years) + timedelta(days=self.days)

    def at_least(self, lock: Lock, now: datetime) -> Lock:
        """Return this lock, no shorter than the default. A lock off or without a date stays as it is: the default
        applies anyhow."""
        if lock.mode is LockMode.OFF or lock.retain_until is None:
            return lock
        return replace(lock, retain_until=max(lock.retain_until, self.until(now)))

    def as_json(self) -> dict[str, Json]:
        return {"mode": self.mode.value, "days": self.days, "years": self.years}


def stated(rule: object) -> DefaultRetention | None:
    """Read the default in the `Rule` of a bucket's Object Lock configuration; None when the rule states no readable
    default."""
    found = rule.get("DefaultRetention") if isinstance(rule, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    return _made(found.get("Mode"), found.get("Days"), found.get("Years"))


def from_json(found: object) -> DefaultRetention | None:
    """Read the default from the output of `as_json`; None for anything else."""
    return _made(found.get("mode"), found.get("days"), found.get("years")) if isinstance(found, Mapping) else None


def seen(lock: Lock, now: datetime) -> DefaultRetention | None:
    """Derive the default from the lock of an object just put without one; None when the object is not locked."""
    if lock.mode is LockMode.OFF or lock.retain_until is None:
        return None
    return DefaultRetention(lock.mode, days=max(1, round((lock.retain_until - now) / _DAY)))


def brief(mode: LockMode, now: datetime) -> Lock:
    """Return the lock of short-lived objects, in a bucket that locks everything."""
    until = (now + BRIEF).replace(microsecond=0)
    return Lock(LockMode.GOVERNANCE if mode is LockMode.OFF else mode, until)


def _made(mode: object, days: object, years: object) -> DefaultRetention | None:
    read = LockMode.read(str(mode), LockMode.OFF)
    numbers = [each if isinstance(each, int) and 0 < each < 40_000 else 0 for each in (days, years)]
    return (
        None if read is LockMode.OFF or not any(numbers) else DefaultRetention(read, numbers[0], min(numbers[1], 200))
    )
