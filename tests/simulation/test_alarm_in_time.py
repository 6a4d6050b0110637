"""The alarm comes at least the configured lead time before the first loss: from the journal, by the rules, to a real webhook."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from archiver.alerts.alarm import Alarm
from archiver.assembly.alerts import build_alarm
from archiver.clock import SystemChance
from archiver.config.load import load
from archiver.demo.simulators import Route, ServerError
from archiver.status.metrics import Metrics
from tests.http_servers import Server, answer, says, serve
from tests.simulation.instants import beginning_at
from tests.simulation.month import Month
from tests.simulation.test_outages import account, archived, calls_of

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
KEPT = 4 * DAY
STEP = 2 * HOUR  # in which two recordings can be fetched: `rate` allows one in an hour
LOOK = 30 * MINUTE

CONFIG = """
version: 1
instance: test
state_dir: state
providers:
  - {id: case, kind: kazoo, base_url: "http://127.0.0.1:1", allow_http: true, account_id: a, auth_token: file:secret, rate: 1/h}
storage: [{id: primary, kind: directory, path: copies}]
encryption: {recipients: [{id: local, kind: aes-kw-256, key: file:secret}]}
custody: {signing_key: file:secret}
alerting:
  channels: [{id: ops, kind: webhook, url: file:hook, allow_http: true}]
  thresholds: {warning: LEAD, critical: 6h}
"""


@dataclass
class Watch:
    """An account, its alarm, and who hears of it. `heard`: when each alert first arrived, by the account's time."""

    it: Month
    alarm: Alarm
    hook: Server
    lost_at: datetime | None = None
    heard: dict[str, datetime] = field(default_factory=dict)

    async def step(self, *, fetching: bool = True) -> None:
        """Two hours: a poll, as much work as the rate allows, and a look every half hour."""
        rig = self.it.it
        await rig.poll()
        if fetching:
            wanted = len(archived(rig)) + STEP // HOUR
            while len(archived(rig)) < wanted and await rig.worker.fill():
                await rig.worker.changed()
        for _ in range(STEP // LOOK):
            await self.look()
            await rig.pass_time(LOOK)
        safe, now = archived(rig), rig.clock.now()
        due = [each.started_at + KEPT for each in rig.account.recordings if each.id not in safe]
        self.lost_at = min((each for each in due if each <= now), default=None)

    async def look(self) -> None:
        await self.alarm.tick()
        for asked in self.hook.asked:
            for each in json.loads(asked.raw.partition(b"\r\n\r\n")[2])["alerts"]:
                if each["status"] == "firing":
                    self.heard.setdefault(each["name"], self.it.it.clock.now())


@asynccontextmanager
async def watched(folder: Path, url: str, start: datetime, lead: str, **options: Any) -> AsyncIterator[Watch]:
    async with (
        serve(says(answer(200))) as hook,
        account("kazoo", folder, url, start, kept=KEPT, concurrency=1, **options) as it,
    ):
        for name, secret in (("hook", f"{hook.origin}/hook"), ("secret", "s3cret"), ("archiver.yaml", CONFIG)):
            (folder / name).write_text(secret.replace("LEAD", lead))
            (folder / name).chmod(0o400)
        config, rig = load(folder / "archiver.yaml", resolve_secrets=False), it.it
        context = rig.context
        alarm = build_alarm(
            config, config.alerting, engine=rig.engine, writer=context.writer, providers={"case": rig.provider},
            spool=context.spool, host="h1", clock=rig.own, chance=SystemChance(), telemetry=Metrics("1"),
        )  # fmt: skip
        yield Watch(it, alarm, hook)
        await alarm.aclose()


@beginning_at(runs=3)
async def test_outage_that_lasts_is_told_the_lead_time_before_the_first_loss_and_not_much_earlier(
    start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    """The provider lists, and gives nothing out: only the forecast knows how long that may go on."""
    async with watched(tmp_path, sqlite_url, start, "60h", days=8, calls=40) as it:
        for _ in range(DAY // STEP):
            await it.step()
        assert "forecast.loss" not in it.heard
        assert it.lost_at is None
        it.it.it.simulator.fail(Route.MEDIA, ServerError(), times=None)
        while it.lost_at is None:
            await it.step()
        warning = it.lost_at - it.heard["forecast.loss"]
        assert 60 * HOUR <= warning < 66 * HOUR


@beginning_at(runs=3)
async def test_tenfold_flood_is_told_the_lead_time_before_the_first_loss(
    start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    """Ten times the usual calls for two days: no deadline is near for days, and already more has come than can be fetched."""
    async with watched(tmp_path, sqlite_url, start, "72h", days=8, calls=80) as it:
        now = it.it.it.clock.now()
        it.it.it.account.add(*calls_of("kazoo", 2, 200, since=now + DAY, seed=6))
        while it.lost_at is None:
            await it.step()
        assert it.lost_at > now + 3 * DAY, "lost although it was fetched in the order of deadlines"
        assert it.lost_at - it.heard["forecast.loss"] >= 72 * HOUR
