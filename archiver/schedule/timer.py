"""Runs the ticker, the only user of APScheduler. The ticker ticks; it does not decide, and it keeps no state.

APScheduler 3.11 drops a run that is a second late unless told otherwise, and its timer can die silently after one
internal error while `running` stays true. Hence the ticker has memory jobs only, `misfire_grace_time=None`, and an age
that the daemon watches: a ticker that has not ticked for three beats ends the process, and the supervisor above starts
a fresh one.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from archiver.clock import Clock

BEAT = timedelta(seconds=5)
_TICK = timedelta(microseconds=1)


def next_due(expression: str, after: datetime) -> datetime | None:
    """Returns the first time after `after` at which a five-field cron expression in UTC is due; None when it never
    is."""
    due: datetime | None = CronTrigger.from_crontab(expression, timezone=UTC).get_next_fire_time(None, after + _TICK)
    return None if due is None else due.astimezone(UTC)


class Ticker:
    """A set of named events that are set when due. Missed ticks coalesce into one; the waiting task decides what is
    due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: dict[str, asyncio.Event] = {}
        self._beat_at: float | None = None  # it is not late before it has started
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )
        self._scheduler.add_job(self._beat, IntervalTrigger(seconds=BEAT.total_seconds(), timezone=UTC))

    def every(self, name: str, interval: timedelta, *, jitter: timedelta = timedelta(0)) -> asyncio.Event:
        """Returns an event that is set at once and then every `interval`, spread by up to `jitter`."""
        seconds = max(1.0, interval.total_seconds())
        return self._add(name, IntervalTrigger(seconds=seconds, jitter=jitter.total_seconds() or None, timezone=UTC))

    def cron(self, name: str, expression: str) -> asyncio.Event:
        """Returns an event that is set at once and then by a five-field cron expression in UTC: local time would skip
        and repeat hours."""
        return self._add(name, CronTrigger.from_crontab(expression, timezone=UTC))

    def start(self) -> None:
        """Begins to tick on the running event loop."""
        self._beat_at = self._clock.monotonic()
        self._scheduler.start()

    def stop(self) -> None:
        """Stops the ticks; events that are already set stay set."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def remove(self, name: str) -> None:
        """Forgets the event `name`."""
        if self._events.pop(name, None) is not None:
            self._scheduler.remove_job(name)

    @property
    def age(self) -> timedelta:
        """The time since the last beat, or since the start; zero before the start."""
        return timedelta(seconds=0 if self._beat_at is None else self._clock.monotonic() - self._beat_at)

    @property
    def stalled(self) -> bool:
        """True when three beats in a row are missing."""
        return self.age > 3 * BEAT

    def _add(self, name: str, trigger: BaseTrigger) -> asyncio.Event:
        event = self._events[name] = asyncio.Event()
        event.set()
        self._scheduler.add_job(self._set, trigger, args=[name], id=name, replace_existing=True)
        return event

    async def _set(self, name: str) -> None:
        event = self._events.get(name)
        if event is not None:
            event.set()

    async def _beat(self) -> None:
        self._beat_at = self._clock.monotonic()
