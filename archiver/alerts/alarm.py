"""Looks at the archive at each tick and lets whoever is concerned know: by alerts, and by the dead man's ping."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from archiver.alerts.dispatch import Dispatch
from archiver.alerts.facts import Facts
from archiver.alerts.heartbeat import Heartbeat
from archiver.alerts.judgement import judge
from archiver.alerts.rule import Alert, Thresholds
from archiver.clock import Clock

EVERY = timedelta(seconds=20)
_FIRST = timedelta(seconds=60)


class Alarm:
    """With neither channel nor heartbeat it does nothing. `facts` reads the archive; what it raises passes."""

    def __init__(
        self,
        facts: Callable[[], Awaitable[Facts]],
        dispatch: Dispatch | None,
        heartbeat: Heartbeat | None,
        clock: Clock,
        thresholds: Thresholds,
        *,
        first: timedelta = _FIRST,
    ) -> None:
        """`first`: how long a fresh process may look around before it is judged; an outage of its own is over by then."""
        self._facts = facts
        self._dispatch = dispatch
        self._heartbeat = heartbeat
        self._clock = clock
        self._thresholds = thresholds
        self._from = clock.monotonic() + first.total_seconds()

    async def tick(self) -> None:
        """Judge, tell, ping. Raises `UnavailableError` or `OutcomeUnknownError` when the database does not answer."""
        if self._clock.monotonic() < self._from or (self._dispatch is None and self._heartbeat is None):
            return
        facts = await self._facts()
        if self._dispatch is not None:
            await self._dispatch.tick(facts)
        if self._heartbeat is not None:
            finished = {each.provider: each.poll_succeeded_at for each in facts.providers if each.configured}
            await self._heartbeat.tick(finished, proven=judge(facts, self._thresholds).proven)

    async def swept(self, *, complete: bool) -> None:
        """The end of a single sweep (`run --once`): what is due is told, and a complete one pings that left nothing in doubt."""
        if self._dispatch is None and self._heartbeat is None:
            return
        facts = await self._facts()
        if self._dispatch is not None:
            await self._dispatch.tick(facts)
        if self._heartbeat is not None and complete and judge(facts, self._thresholds).proven:
            await self._heartbeat.ping()

    async def announce(self, alert: Alert) -> None:
        """News for whoever is to be told of it; see `Dispatch.announce`."""
        if self._dispatch is not None:
            await self._dispatch.announce(alert)

    async def aclose(self) -> None:
        if self._dispatch is not None:
            await self._dispatch.aclose()
        if self._heartbeat is not None:
            await self._heartbeat.aclose()
