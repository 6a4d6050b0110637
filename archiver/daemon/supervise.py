"""Supervises the long tasks of the running process: lets them work, drains them at a stop, and watches the event loop.

Every long task runs under one supervisor: a task that ends, for whatever reason, ends the process, and the service
manager starts a fresh one. Nothing is lost by that: a stop at any instant is repaired by the ordinary path
(docs/explanation/crash-safety.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta

import structlog

from archiver import errors, systemd
from archiver.alerts import alarm
from archiver.assembly.process import Assembly
from archiver.daemon import rereading, times
from archiver.daemon.duties import Duties
from archiver.daemon.loops import Loops
from archiver.daemon.sweep import Sweep, Sweeper
from archiver.ingest.destination import Destination
from archiver.ingest.storage_proofs import PROBE_EVERY
from archiver.schedule.timer import Ticker
from archiver.signals import End, unless
from archiver.status.web import StatusServer

log = structlog.get_logger("archiver.daemon")


class Daemon:
    """Runs one assembled archive: one sweep (`run --once`) or for ever (`run`)."""

    def __init__(self, assembly: Assembly) -> None:
        self._a = assembly
        self._stop = asyncio.Event()
        self._end = End.STOP
        self._duties = Duties(assembly, self._stop.is_set)
        self._loops = Loops(assembly.walls, assembly.stirred)
        self._loop_beat = assembly.clock.monotonic()
        self._server = StatusServer(
            beat_age=lambda: timedelta(seconds=assembly.clock.monotonic() - self._loop_beat),
            readiness=assembly.unready,
            stopping=self._stop.is_set,
            status=assembly.status_json,
            metrics=assembly.metrics_text,
            now=assembly.clock.monotonic,
            names=() if assembly.config.web is None else assembly.config.web.names,
        )

    @property
    def ending(self) -> End | None:
        """The way in which the process will end, once the stop has begun."""
        return self._end if self._stop.is_set() else None

    def stop(self, end: End = End.STOP) -> None:
        """Begin to stop: no new claims are made, present work may finish for a while. A stop overrules a reload."""
        if end is End.STOP or not self._stop.is_set():
            self._end = end
        self._stop.set()

    async def once(self, providers: Iterable[str] | None = None) -> Sweep:
        """Poll everything once, work until nothing is left that can be done within a minute, and report."""
        return await Sweeper(self._a, self._duties, self._loops, self._stop).sweep(providers)

    async def prepare(self) -> None:
        """Open the address of the health endpoints, if one is configured; then say in the log that this process writes.

        Raises `UnavailableError`: then this configuration cannot be used, and nothing has begun.
        """
        if self._a.listen is not None:
            port = await self._server.start(*self._a.listen)
            log.info("web.listening", address=self._a.listen[0], port=port)
        try:
            await self._a.enrol()
        except BaseException:
            await self._server.stop()
            raise

    async def forever(self) -> End:
        """Run until told to stop. Raises the error of a task that should never end. Closes the address that `prepare`
        opened."""
        try:
            return await self._forever()
        finally:
            await self._server.stop()

    async def _forever(self) -> End:
        a = self._a
        if not await unless(self._stop, self._duties.begin()):
            await self._duties.leave()
            log.info("daemon.stopped", why=self._end.value)
            return self._end
        ticker = Ticker(a.clock)
        upkeep = ticker.every("storages", timedelta(hours=1))
        tasks = [
            self._loops.every(times.HEARTBEAT, self._duties.beat),
            self._loops.every(times.HOUSEKEEPING, self._duties.housekeeping),
            self._loops.every(timedelta(seconds=1), self._watch(ticker)),
            *(self._keep_probing(each, upkeep) for each in a.destinations),
            a.keeper.forever(),
            self._loops.every(times.HEARTBEAT, a.rounds.parties),
            self._loops.every(alarm.EVERY, a.alarm.tick),
            self._loops.on(ticker.every("sweep", timedelta(hours=1)), self._duties.sweep),
            self._loops.on(upkeep, self._duties.upkeep),
            *(
                self._loops.on(ticker.every(f"copies {each.id}", timedelta(minutes=1)), self._duties.copying(each))
                for each in a.destinations
            ),
            *(
                self._loops.on(ticker.every(f"verify {each.id}", rereading.EVERY), self._rereading(each).turn)
                for each in a.destinations
                if a.config.verify.every is not None
            ),
            self._loops.on(ticker.every("catalogue", timedelta(minutes=1)), self._duties.catalogue),
            self._loops.on(ticker.every("reconcile", timedelta(days=1)), self._duties.daily),
            self._loops.on(ticker.every("report", timedelta(hours=6)), a.monthly.tick),
        ]
        for name in a.providers:
            event = ticker.cron(name, a.cron[name]) if name in a.cron else ticker.every(
                name, a.poll_every[name], jitter=a.poll_every[name] / 10
            )  # fmt: skip
            tasks += [self._loops.on(event, self._duties.polling(name)), self._work(name)]
        ticker.start()
        systemd.notify("READY=1", f"STATUS={len(a.providers)} providers, {len(a.destinations)} storages")
        log.info("daemon.ready", providers=list(a.providers), replica=a.replica_id)
        try:
            await self._supervise(tasks)
            await self._duties.farewell()
        finally:
            systemd.notify("STOPPING=1")
            ticker.stop()
            await self._duties.leave()
        log.info("daemon.stopped", why=self._end.value)
        return self._end

    async def _supervise(self, coroutines: Sequence[Awaitable[None]]) -> None:
        """Run all coroutines until the stop; the first that ends by itself ends everything."""
        tasks = [asyncio.ensure_future(each) for each in coroutines]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            log.info("daemon.stopping", drain_seconds=times.DRAIN.total_seconds())
            self._stop.set()
            await asyncio.gather(*(worker.drain(times.DRAIN) for worker in self._a.workers.values()))
        finally:
            for task in [*tasks, stopping]:
                task.cancel()
            await asyncio.wait([*tasks, stopping], timeout=times.GOODBYE.total_seconds())
        for task in done - {stopping}:
            task.result()
            raise errors.ArchiverError("a task that should never end has ended")

    async def _work(self, name: str) -> None:
        worker = self._a.workers[name]
        while not self._stop.is_set():
            started = await self._loops.guarded(f"worker {name}", worker.fill)
            if started or worker.busy:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await worker.changed()
                if started == 0:
                    await self._pause(0.05)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(times.IDLE.total_seconds()):
                        await self._a.stirred.wait()
                self._a.stirred.clear()
        await asyncio.Event().wait()

    async def _keep_probing(self, destination: Destination, upkeep: asyncio.Event) -> None:
        """Probe now, on a schedule, and soon after a refusal: a storage may be mended while the daemon runs. No task
        waits for it."""
        while True:
            before = destination.proven
            await self._loops.guarded(f"probe {destination.id}", lambda: self._duties.probe(destination, force=True))
            if destination.proven and not before:
                upkeep.set()
            await asyncio.sleep((PROBE_EVERY if destination.proven else times.REPROBE_REFUSED).total_seconds())

    def _rereading(self, destination: Destination) -> rereading.Rereading:
        every = self._a.config.verify.every
        assert every is not None
        return rereading.Rereading(self._a, destination, every, self._stop.is_set)

    def _watch(self, ticker: Ticker) -> Callable[[], Awaitable[None]]:
        interval = systemd.watchdog_interval()
        due = self._a.clock.monotonic()

        async def watch() -> None:
            nonlocal due
            now = self._a.clock.monotonic()
            self._a.metrics.loop_lag(timedelta(seconds=max(0.0, now - self._loop_beat - 1.0)))
            self._loop_beat = now
            if ticker.stalled:
                raise errors.ArchiverError(f"the ticker has not ticked for {ticker.age.total_seconds():.0f} s")
            if interval is not None and now >= due:
                systemd.notify("WATCHDOG=1")
                due = now + interval.total_seconds()

        return watch

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
