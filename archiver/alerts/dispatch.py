"""Sends due alerts: brings the entries up to date, claims the due ones, sends them, and records the outcome.

| Died between | What is left | What a later tick does |
|---|---|---|
| facts read / claim committed | nothing | reads the facts again |
| claim committed / message sent | a claim that nobody works on | claims the entries again when the claim has run out |
| message sent / answer seen | a message sent, and no record of it | sends the same news again, under the same id |
| answer seen / outcome recorded | a message sent, and no record of it | sends the same news again, under the same id |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from archiver import errors
from archiver.alerts import route, rule, state
from archiver.alerts.channel.port import Channel
from archiver.alerts.facts import Facts
from archiver.alerts.judgement import judge
from archiver.alerts.message import compose
from archiver.alerts.route import Entry, Route
from archiver.clock import Chance
from archiver.database import Connection, Writer
from archiver.schedule.lease import database_time

log = structlog.get_logger("archiver.alerts")

CLAIM = timedelta(minutes=3)
"""The time for which due entries are claimed; longer than any channel may take."""


class Telemetry(Protocol):
    """Counts messages by channel and outcome (`sent`, `failed`, `incomplete`), never by content."""

    def notified(self, channel: str, outcome: str) -> None: ...


class Dispatch:
    """Sends the alerts of one archive to its channels. Any number of replicas may each run a `Dispatch`."""

    def __init__(
        self,
        instance: str,
        channels: Sequence[Channel],
        routes: Sequence[Route],
        thresholds: rule.Thresholds,
        *,
        writer: Writer,
        chance: Chance,
        telemetry: Telemetry,
        now: Callable[[Connection], datetime] = database_time,
    ) -> None:
        """`now` is the clock that all replicas share: the database's."""
        self._instance = instance
        self._channels: Mapping[str, Channel] = {each.id: each for each in channels}
        self._routes = tuple(routes) or route.default_routes([*self._channels])
        self._thresholds = thresholds
        self._writer = writer
        self._chance = chance
        self._telemetry = telemetry
        self._now = now
        if missing := route.unrouted(self._routes):
            log.warning("notify.unrouted", alerts=[each.value for each in missing])

    async def tick(self, facts: Facts) -> tuple[rule.Alert, ...]:
        """Judge `facts` and send due alerts, on all channels at once. A slow channel delays the next tick by 90 s at
        most.

        Returns the alerts that hold now. Never raises for a channel's failure: it is logged and counted, and the alert
        is sent again later. Raises `UnavailableError` or `OutcomeUnknownError` for a failure of the database.
        """
        firing = judge(facts, self._thresholds).alerts
        token = self._chance.uuid()

        def begin(conn: Connection) -> tuple[datetime, tuple[route.Key, ...], dict[str, list[Entry]]]:
            now = self._now(conn)
            dropped = state.bring_up(conn, firing, self._routes, self._channels, now, facts.elsewhere)
            return now, dropped, state.claim(conn, token, self._channels, now, CLAIM)

        now, dropped, due = await self._writer.run(begin)
        for kind, subject, channel in dropped:
            log.warning("notify.dropped", alert=kind.value, subject=subject, channel=channel)
        outcomes = await asyncio.gather(
            *(self._tell(self._channels[name], entries, token, now) for name, entries in due.items()),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return firing

    async def announce(self, alert: rule.Alert) -> None:
        """Queue news (`report.monthly`): the next tick sends the news once to each channel of its routes."""
        await self._writer.run(
            lambda conn: state.add(conn, route.note(alert, self._routes, self._channels, self._now(conn)))
        )

    async def test(self, text: str, now: datetime) -> dict[str, str]:
        """Send `text` on every channel, past all routes. Returns the problem of each channel, "" where there was
        none."""
        found: dict[str, str] = {}
        for name, channel in self._channels.items():
            entry = Entry(rule.Alert(rule.Kind.REPORT_MONTHLY, "test", text), name, now, now, cleared_at=now)
            try:
                found[name] = await channel.send(compose(self._instance, [entry], now))
            except errors.ArchiverError as failed:
                found[name] = str(failed)
        return found

    async def aclose(self) -> None:
        for channel in self._channels.values():
            await channel.aclose()

    async def _tell(self, channel: Channel, entries: Sequence[Entry], token: str, now: datetime) -> None:
        names = [f"{each.status}:{each.alert.kind.value}" for each in entries]
        wait: timedelta | None = None
        try:
            doubt = await channel.send(compose(self._instance, entries, now))
        except errors.ArchiverError as failed:
            arrived = False
            wait = failed.retry_after if isinstance(failed, errors.TransientError) else None
            times = max(each.failures for each in entries) + 1
            log.error("notify.failed", channel=channel.id, alerts=names, times=times, problem=str(failed))
            self._telemetry.notified(channel.id, "failed")
        else:
            arrived = True
            log.info("notify.sent", channel=channel.id, alerts=names)
            self._telemetry.notified(channel.id, "sent")
            if doubt:
                log.error("notify.incomplete", channel=channel.id, problem=doubt)
                self._telemetry.notified(channel.id, "incomplete")
        # If the process dies here, the claim runs out and the same news is sent again, under the same id.
        ours = await self._writer.run(
            lambda conn: state.settle(
                conn, token, entries, self._routes, self._now(conn), arrived=arrived, retry_after=wait
            )
        )
        if ours < len(entries):
            log.warning("notify.claim_lost", channel=channel.id, alerts=names)
