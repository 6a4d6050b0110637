"""A bucket's own default retention: what it locks by itself where a PUT states no lock. Pure.

A lock that is stated counts instead, also where it is shorter: so S3's documentation, and so SeaweedFS 4.48 as measured. Hence
two rules where a bucket has a default. What is to stay is locked no shorter than whoever set it wanted; and what is not to stay
(canaries, the pointer to the newest checkpoint, partial tiles) states a short lock of its own, or each would stay for years.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from archiver.recording import Json, Lock, LockMode

BRIEF = timedelta(days=1)
"""How long what is not to stay is locked where nothing can be unlocked."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DefaultRetention:
    """The default that a bucket states, or was seen to apply."""

    mode: LockMode
    days: int = 0
    years: int = 0

    def __str__(self) -> str:
        count, unit = (self.years, "year") if self.years else (self.days, "day")
        return f"{count} {unit}{'' if count == 1 else 's'} in {self.mode} mode"

    def until(self, now: datetime) -> datetime:
        """When a lock of today's would end, at midnight: asked for twice a day, it is the same."""
        tomorrow = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
        if (tomorrow.month, tomorrow.day) == (2, 29):
            tomorrow += _DAY
        return tomorrow.replace(year=tomorrow.year + self.years) + timedelta(days=self.days)

    def at_least(self, lock: Lock, now: datetime) -> Lock:
        """This lock, no shorter than the default. What states no lock has the default anyhow."""
        if lock.mode is LockMode.OFF or lock.retain_until is None:
            return lock
        return replace(lock, retain_until=max(lock.retain_until, self.until(now)))

    def as_json(self) -> dict[str, Json]:
        return {"mode": self.mode.value, "days": self.days, "years": self.years}


def stated(rule: object) -> DefaultRetention | None:
    """The default in the `Rule` of a bucket's Object Lock configuration; None when it states none that can be read."""
    found = rule.get("DefaultRetention") if isinstance(rule, Mapping) else None
    if not isinstance(found, Mapping):
        return None
    return _made(found.get("Mode"), found.get("Days"), found.get("Years"))


def from_json(found: object) -> DefaultRetention | None:
    """What `as_json` gave; None for anything else."""
    return _made(found.get("mode"), found.get("days"), found.get("years")) if isinstance(found, Mapping) else None


def seen(lock: Lock, now: datetime) -> DefaultRetention | None:
    """The default by the lock of what was just put without one; None when it has none."""
    if lock.mode is LockMode.OFF or lock.retain_until is None:
        return None
    return DefaultRetention(lock.mode, days=max(1, round((lock.retain_until - now) / _DAY)))


def brief(mode: LockMode, now: datetime) -> Lock:
    """The lock of what is not to stay, in a bucket that locks everything."""
    until = (now + BRIEF).replace(microsecond=0)
    return Lock(LockMode.GOVERNANCE if mode is LockMode.OFF else mode, until)


def _made(mode: object, days: object, years: object) -> DefaultRetention | None:
    read = LockMode.read(str(mode), LockMode.OFF)
    numbers = [each if isinstance(each, int) and 0 < each < 40_000 else 0 for each in (days, years)]
    return (
        None if read is LockMode.OFF or not any(numbers) else DefaultRetention(read, numbers[0], min(numbers[1], 200))
    )
