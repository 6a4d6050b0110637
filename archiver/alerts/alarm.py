"""Looks at the archive at each tick, sends alerts about it, and pings the dead man's switch."""

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
    """Sends alerts and pings. Does nothing when there is neither a channel nor a heartbeat.

    `facts` reads the archive; its exceptions pass through.
    """

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
        """`first`: the time after the start in which nothing is judged. An outage of the process itself is over by
        then."""
        self._facts = facts
        self._dispatch = dispatch
        self._heartbeat = heartbeat
        self._clock = clock
        self._thresholds = thresholds
        self._from = clock.monotonic() + first.total_seconds()

    async def tick(self) -> None:
        """Judge the archive, send due alerts, ping. Raises `UnavailableError` or `OutcomeUnknownError` for the
        database."""
        if self._clock.monotonic() < self._from or (self._dispatch is None and self._heartbeat is None):
            return
        facts = await self._facts()
        if self._dispatch is not None:
            await self._dispatch.tick(facts)
        if self._heartbeat is not None:
            finished = {each.provider: each.poll_succeeded_at for each in facts.providers if each.configured}
            await self._heartbeat.tick(finished, proven=judge(facts, self._thresholds).proven)

    async def swept(self, *, complete: bool) -> None:
        """Close a single sweep (`run --once`): send due alerts, and ping if it was complete and nothing is in doubt."""
        if self._dispatch is None and self._heartbeat is None:
            return
        facts = await self._facts()
        if self._dispatch is not None:
            await self._dispatch.tick(facts)
        if self._heartbeat is not None and complete and judge(facts, self._thresholds).proven:
            await self._heartbeat.ping()

    async def announce(self, alert: Alert) -> None:
        """Queue news for the channels of its routes; see `Dispatch.announce`."""
        if self._dispatch is not None:
            await self._dispatch.announce(alert)

    async def aclose(self) -> None:
        if self._dispatch is not None:
            await self._dispatch.aclose()
        if self._heartbeat is not None:
            await self._heartbeat.aclose()
