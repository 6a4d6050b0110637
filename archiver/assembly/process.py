"""Builds all parts of one daemon or one sweep, and closes them in the end."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog

from archiver import __version__, errors, instants
from archiver.alerts.alarm import Alarm
from archiver.assembly.alerts import build_alarm
from archiver.assembly.completeness import Rounds
from archiver.assembly.compliance import Monthly
from archiver.assembly.facts import look_here, pace_of
from archiver.assembly.keys import build_recipients, signing_key
from archiver.assembly.log import build_keeper, enrol, pass_gate
from archiver.assembly.providers import build_provider, poll_plan
from archiver.assembly.reports import make_report
from archiver.assembly.session import Archive
from archiver.clock import Chance, Clock
from archiver.completeness.watch import Watch
from archiver.config import model
from archiver.config.provider import AnyProvider
from archiver.custody.ledger import Ledger
from archiver.database import Connection, Engine, Writer, check_schema, read
from archiver.fetch.receive import ReceiveLimits
from archiver.fetch.spool import Spool
from archiver.hours import Hours
from archiver.ingest import health
from archiver.ingest.backpressure import Backpressure
from archiver.ingest.context import Policy, WorkerContext
from archiver.ingest.destination import Destination
from archiver.ingest.links import Links
from archiver.ingest.poll import Poller
from archiver.ingest.worker import Worker
from archiver.providers.port import Provider
from archiver.status import report as reports
from archiver.status.metrics import Metrics
from archiver.translog import reader as custody_log
from archiver.translog.keeper import Keeper
from archiver.wall import Walls

log = structlog.get_logger("archiver.assembly")

T = TypeVar("T")

_THREADS = 8
_GATE = timedelta(seconds=5)


@dataclass(slots=True)
class Assembly:
    """All parts of one process. Made by `assemble`, ended by `aclose`."""

    archive: Archive
    engine: Engine
    writer: Writer
    ledger: Ledger
    spool: Spool
    context: WorkerContext
    destinations: Sequence[Destination]
    providers: Mapping[str, Provider]
    pollers: Mapping[str, Poller]
    workers: Mapping[str, Worker]
    metrics: Metrics
    executor: Executor
    replica_id: str
    keeper: Keeper
    alarm: Alarm
    rounds: Rounds
    monthly: Monthly
    stirred: asyncio.Event
    host: str = ""
    version: str = __version__
    enrolled: bool = False

    @property
    def config(self) -> model.Config:
        return self.archive.config

    @property
    def clock(self) -> Hours:
        return self.archive.clock

    @property
    def chance(self) -> Chance:
        return self.archive.chance

    @property
    def walls(self) -> Walls:
        return self.archive.walls

    @property
    def poll_every(self) -> dict[str, timedelta]:
        return {each.id: self.config.pace(each).every for each in self.config.providers}

    @property
    def cron(self) -> dict[str, str]:
        found = {each.id: self.config.pace(each).cron for each in self.config.providers}
        return {name: expression for name, expression in found.items() if expression is not None}

    @property
    def pace(self) -> dict[str, timedelta]:
        """The time between two polls of each provider, by its interval, or by its schedule as of now."""
        now = self.clock.now()
        return {**self.poll_every, **{name: pace_of(expression, now) for name, expression in self.cron.items()}}

    @property
    def listen(self) -> tuple[str, int] | None:
        return None if self.config.web is None else (self.config.web.listen.host, self.config.web.listen.port)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Runs `fn` over one instant of the database."""
        return await read(self.engine, fn)

    async def report(self) -> reports.Report:
        """The status report as of now."""
        now = self.clock.now()

        def make(conn: Connection) -> reports.Report:
            here = look_here(conn, self.spool, self.host, self.clock)
            return make_report(conn, self.config, self.providers, now, here)

        return await self.read(make)

    async def status_json(self) -> str:
        now = instants.precise(self.clock.now())
        data = reports.as_json(await self.report())
        return json.dumps({"schema": "archiver.status/v1", "generated_at": now, "data": data}, sort_keys=True)

    async def metrics_text(self) -> bytes:
        self.metrics.show(await self.report())
        self.metrics.spool(self.spool.usage().used, self.config.spool.quota)
        return self.metrics.text()

    async def unready(self) -> dict[str, str]:
        """The problems that keep this process from working, by name; empty when ready. Providers and storages do not
        count."""
        failed: dict[str, str] = {}
        try:
            await asyncio.to_thread(check_schema, self.engine)
        except errors.SchemaError as old:
            failed["schema"] = str(old)
        except errors.UnavailableError as down:
            failed["database"] = str(down)
        return failed

    async def enrol(self) -> None:
        """Says in the custody log, once, that this process writes from now on. Call it when nothing can be refused any
        more."""
        if not self.enrolled:
            await enrol(self.ledger, signing_key(self.config), self.engine, self.writer, self.clock)
            self.enrolled = True

    async def aclose(self) -> None:
        """Releases everything within a few seconds, even if a part hangs. Safe to call after all work has ended."""
        await self.archive.aclose()


async def assemble(
    config: model.Config, *, clock: Clock | None = None, chance: Chance | None = None, only: Sequence[str] | None = None
) -> Assembly:
    """Builds and checks every part. Raises `ConfigurationError`, `SchemaError`, `KeyUnavailableError` or
    `UnavailableError`.

    Locks the state directory. When a later part cannot be built, the parts built so far are closed, and nothing in the
    custody log tells of them. `only` names the providers to use.
    """
    async with AsyncExitStack() as undo:
        archive = await undo.enter_async_context(Archive(config, clock=clock, chance=chance))
        assembly = await _assemble(archive, [each for each in config.providers if only is None or each.id in only])
        undo.pop_all()
    return assembly


async def _assemble(archive: Archive, chosen: Sequence[AnyProvider]) -> Assembly:
    config, clock, chance, walls = archive.config, archive.clock, archive.chance, archive.walls
    engine = await archive.database()
    signing_key(config)  # refused now, if it cannot be read
    archive.lock()
    writer, stores = await archive.writer(), archive.stores()
    destinations = {name: Destination(store) for name, store in stores.items()}
    log_parts = await archive.custody_log(doubt=health.unproved(destinations))
    recipients = await asyncio.to_thread(build_recipients, config, walls)
    if (doubt := await pass_gate(log_parts, engine, writer, clock, patience=_GATE)) is not None:
        log.error("custody.gate", problem=doubt)
    ledger, replica_id, host = archive.ledger(), chance.uuid(), socket.gethostname()
    spool = Spool(Path(config.state_dir) / "spool", config.spool.quota, clock=clock, chance=chance)
    metrics = Metrics(__version__)
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="seal")
    archive.ends_with(functools.partial(executor.shutdown, wait=False, cancel_futures=True))
    links, backpressure = Links(), Backpressure(lambda: read(engine, custody_log.backlog), clock)
    context = WorkerContext(
        writer=writer, ledger=ledger, spool=spool, recipients=recipients, destinations=list(destinations.values()), links=links,
        telemetry=metrics, clock=clock, chance=chance, executor=executor, replica_id=replica_id,
    )  # fmt: skip
    providers = {
        each.id: archive.closes(build_provider(each, config, writer, clock, metrics, walls)) for each in chosen
    }
    pollers = {
        each.id: Poller(
            providers[each.id], poll_plan(each, config), writer=writer, ledger=ledger, links=links,
            telemetry=metrics, clock=clock, chance=chance, replica_id=replica_id, backpressure=backpressure,
        )
        for each in chosen
    }  # fmt: skip
    rules, default = config.retention.policy()
    workers = {
        each.id: Worker(
            providers[each.id],
            Policy(ReceiveLimits(max_size=config.pace(each).max_size), rules, default),
            context,
            config.pace(each).concurrency,
        )
        for each in chosen
    }
    alarm = archive.closes(build_alarm(
        config, config.alerting, engine=engine, writer=writer, providers=providers, spool=spool, host=host, clock=clock,
        chance=chance, telemetry=metrics, walls=walls,
    ))  # fmt: skip
    return Assembly(
        archive=archive, engine=engine, writer=writer, ledger=ledger, spool=spool, context=context,
        destinations=list(destinations.values()),
        providers=providers, pollers=pollers, workers=workers, metrics=metrics, executor=executor,
        replica_id=replica_id, keeper=build_keeper(config, log_parts, engine, writer, ledger, replica_id, clock, chance),
        stirred=asyncio.Event(), host=host, alarm=alarm,
        rounds=Rounds(config, engine, writer, ledger, providers, list(stores.values()),
                      Watch(engine, writer, ledger, clock, chance), clock, chance, replica_id, walls),
        monthly=Monthly(config, engine, writer, providers, clock, replica_id, alarm.announce),
    )  # fmt: skip
