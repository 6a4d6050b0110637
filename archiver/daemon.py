"""The running process: one sweep (`run --once`) or for ever (`run`), supervised, drained and watched.

Every long task runs under one supervisor: a task that ends, for whatever reason, ends the process, and the service
manager starts a fresh one. Nothing is lost by that: a stop at any instant is repaired by the ordinary path
(docs/explanation/crash-safety.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import errors, systemd
from archiver.alerts import alarm
from archiver.assembly.facts import look_here
from archiver.assembly.keys import signing_key
from archiver.assembly.process import Assembly
from archiver.database import Connection
from archiver.ingest import copier, health, journal, owed, survey, unproved
from archiver.ingest.destination import Destination
from archiver.ingest.upkeep import sweep_spool, sweep_uploads
from archiver.recovery import catalogue
from archiver.schedule import lease
from archiver.schedule.timer import Ticker
from archiver.signals import End, unless
from archiver.status.web import StatusServer
from archiver.wall import Kind, Party

log = structlog.get_logger("archiver.daemon")
T = TypeVar("T")

HEARTBEAT = timedelta(seconds=15)
ALIVE = timedelta(seconds=45)
DRAIN = timedelta(seconds=18)
PATIENCE = timedelta(seconds=60)
_PAST = timedelta(minutes=5)  # time for listing missed windows, before new ones are listed again
FAREWELL = timedelta(seconds=3)  # for the log's last turn: the drain and all last writes fit into the 25 s of a stop
_GOODBYE = timedelta(seconds=1)  # for each last write to the database, and for cancelled tasks
_HOUSEKEEPING = timedelta(seconds=2)
_IDLE = 5.0
_REPROBE_REFUSED = timedelta(seconds=30)
_SAID_AGAIN = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Sweep:
    """The result of one sweep. `lacking`: copies owed. `problems`: the reasons why a required storage was not
    trusted."""

    polled: bool
    pending: int
    trusted: bool
    interrupted: bool
    log_behind: str | None = None
    lacking: int = 0
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> errors.Exit:
        if self.interrupted:
            return errors.Exit.TERMINATED
        if not self.trusted:
            return errors.Exit.UNAVAILABLE
        done = self.polled and not self.pending and not self.lacking and self.log_behind is None
        return errors.Exit.OK if done else errors.Exit.UNFINISHED


def _trusted(destination: Destination) -> bool:
    return destination.report is not None and destination.report.trusted


def _bug(ends: Iterable[object]) -> BaseException | None:
    """Return the first of the tasks' ends that is a bug: no failure of a party or the database, no cancellation."""
    no_bug = (errors.ArchiverError, asyncio.CancelledError)
    return next((each for each in ends if isinstance(each, BaseException) and not isinstance(each, no_bug)), None)


class Daemon:
    """Runs one assembled archive."""

    def __init__(self, assembly: Assembly) -> None:
        self._a = assembly
        self._stop = asyncio.Event()
        self._end = End.STOP
        self._strays: frozenset[str] = frozenset()
        self._pace: timedelta | None = None  # of single sweeps
        self._proving: list[asyncio.Task[None]] = []  # of single sweeps
        self._no_room_said: datetime | None = None
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

    # --- one sweep --------------------------------------------------------------------------------------------

    async def once(self, providers: Iterable[str] | None = None) -> Sweep:
        """Poll everything once, work until nothing is left that can be done within a minute, and report."""
        a = self._a
        chosen = [each for each in a.providers if providers is None or each in set(providers)]
        self._pace = max(a.pace.values(), default=timedelta(0))
        if not await unless(self._stop, self._begin()):
            await self._leave()
            return Sweep(polled=False, pending=0, trusted=True, interrupted=True)
        began = a.clock.now()
        self._proving = [asyncio.create_task(self._probe(each)) for each in a.destinations]
        polled, broken = await self._work_through(chosen)
        await self._upkeep()
        await self._copies()
        await self._catalogue()
        for name in chosen:
            await a.rounds.look(name)
        behind = None
        if self._stop.is_set():
            await self._farewell()
        elif silent := [each for each in a.destinations if each.store.required and each.report is None]:
            await self._farewell()  # not waited for a second time
            behind = f"storage {silent[0].id}: {silent[0].problem}"
        else:
            behind = await a.keeper.catch_up(self._host_key())
            for each in a.destinations if behind is not None else ():
                # The proof is from before this sweep, and the log's trouble may contradict it.
                if each.report is not None and each.report.probed_at < began:
                    await self._probe(each, force=True)
        await a.writer.run(lambda conn: lease.leave(conn, a.replica_id))
        await self._show_health(stands=timedelta(0))
        await a.rounds.parties(ending=True)
        pending = await a.read(lambda conn: survey.unfinished(conn, chosen))
        lacking = await a.read(owed.count)
        refused = [each for each in a.destinations if each.store.required and not each.proven]
        sweep = Sweep(
            polled=polled,
            pending=pending,
            lacking=lacking,
            trusted=not refused,
            interrupted=self._stop.is_set(),
            log_behind=behind,
            problems=tuple(f"storage {each.id}: {each.problem or 'has not been probed'}" for each in refused),
        )
        if not sweep.interrupted:
            complete = providers is None and sweep.polled and sweep.trusted and broken is None
            await self._guarded("alarm", lambda: a.alarm.swept(complete=complete))
        if broken is not None:  # the rest was saved; a bug ends the sweep as loudly as it ends the daemon
            raise broken
        return sweep

    async def _work_through(self, chosen: Sequence[str]) -> tuple[bool, BaseException | None]:
        """Poll and work until both are done. Returns whether everything was polled, and the bug that broke a task, if
        one did."""
        a = self._a
        beat = asyncio.create_task(self._every(HEARTBEAT, self._beat))
        keeper = asyncio.create_task(self._every(_HOUSEKEEPING, self._housekeeping))
        relief = asyncio.create_task(self._every(timedelta(seconds=1), a.keeper.relieve))
        polling = {name: asyncio.create_task(a.pollers[name].poll()) for name in chosen}
        try:
            await asyncio.gather(*(self._work_until_done(name, polling[name]) for name in chosen))
        finally:
            for task in [*polling.values(), *self._proving]:
                if self._stop.is_set():
                    task.cancel()
            polls = await asyncio.gather(*polling.values(), return_exceptions=True)
            proofs = await asyncio.gather(*self._proving, return_exceptions=True)
            for background in (beat, keeper, relief):
                background.cancel()
            others = await asyncio.gather(beat, keeper, relief, return_exceptions=True)
            await asyncio.gather(*(a.workers[name].drain(DRAIN) for name in chosen))
            await a.writer.run(lambda conn: lease.leave(conn, a.replica_id))
        for proof in proofs:
            if isinstance(proof, Exception):
                raise proof
        for name, end in zip(polling, polls, strict=True):
            if isinstance(end, errors.ArchiverError):
                log.warning("daemon.try_again", task=f"poll {name}", problem=str(end))
        # The end of the log's task is not among them: `catch_up` reports it.
        return all(end is True for end in polls), _bug([*polls, *others, *(a.workers[name].broken for name in chosen)])

    def _polling(self, name: str) -> Callable[[], Awaitable[None]]:
        """Poll one provider; then compute the gaps from its listings."""

        async def poll() -> None:
            await self._a.pollers[name].poll(_PAST)
            await self._a.rounds.look(name)

        return poll

    async def _work_until_done(self, name: str, polling: asyncio.Task[bool]) -> None:
        """Work on one provider until its poll is over and nothing more becomes ready within the patience of a sweep."""
        a, worker, give_up = self._a, self._a.workers[name], None
        while not self._stop.is_set() and worker.broken is None:
            started = await worker.fill()
            if started == 0 and worker.busy == 0 and polling.done() and all(each.done() for each in self._proving):
                give_up = give_up or a.clock.now() + PATIENCE
                until = give_up
                if not self._can_progress() or not await a.read(lambda conn: survey.pending_soon(conn, name, until)):  # noqa: B023
                    return
                if a.clock.now() >= give_up:
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1 if worker.busy == 0 else 0.5):
                    await (worker.changed() if worker.busy else self._stop.wait())

    def _can_progress(self) -> bool:
        """Return False when a required storage, or every one, is not trusted, or when no room is left and no worker can
        free any."""
        a = self._a
        full = a.spool.usage().shortage() is not None and not any(worker.busy for worker in a.workers.values())
        trusted = {each.id for each in a.destinations if _trusted(each)}
        return not full and bool(trusted) and all(each.id in trusted for each in a.destinations if each.store.required)

    # --- for ever ---------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Open the address of the health endpoints, if one is configured. Raises `UnavailableError`: then this
        configuration cannot be used, and nothing has begun."""
        if self._a.listen is not None:
            port = await self._server.start(*self._a.listen)
            log.info("web.listening", address=self._a.listen[0], port=port)

    async def forever(self) -> End:
        """Run until told to stop. Raises the error of a task that should never end. Closes the address that `listen`
        opened."""
        try:
            return await self._forever()
        finally:
            await self._server.stop()

    async def _forever(self) -> End:
        a = self._a
        if not await unless(self._stop, self._begin()):
            await self._leave()
            log.info("daemon.stopped", why=self._end.value)
            return self._end
        ticker = Ticker(a.clock)
        upkeep = ticker.every("storages", timedelta(hours=1))
        tasks = [
            self._every(HEARTBEAT, self._beat),
            self._every(_HOUSEKEEPING, self._housekeeping),
            self._every(timedelta(seconds=1), self._watch(ticker)),
            *(self._keep_probing(each, upkeep) for each in a.destinations),
            a.keeper.forever(),
            self._every(HEARTBEAT, a.rounds.parties),
            self._every(alarm.EVERY, a.alarm.tick),
            self._on(ticker.every("sweep", timedelta(hours=1)), self._sweep),
            self._on(upkeep, self._upkeep),
            *(
                self._on(ticker.every(f"copies {each.id}", timedelta(minutes=1)), self._copying(each))
                for each in a.destinations
            ),
            self._on(ticker.every("catalogue", timedelta(minutes=1)), self._catalogue),
            self._on(ticker.every("reconcile", timedelta(days=1)), self._daily),
            self._on(ticker.every("report", timedelta(hours=6)), a.monthly.tick),
        ]
        for name in a.providers:
            event = ticker.cron(name, a.cron[name]) if name in a.cron else ticker.every(
                name, a.poll_every[name], jitter=a.poll_every[name] / 10
            )  # fmt: skip
            tasks += [self._on(event, self._polling(name)), self._work(name)]
        ticker.start()
        systemd.notify("READY=1", f"STATUS={len(a.providers)} providers, {len(a.destinations)} storages")
        log.info("daemon.ready", providers=list(a.providers), replica=a.replica_id)
        try:
            await self._supervise(tasks)
            await self._farewell()
        finally:
            systemd.notify("STOPPING=1")
            ticker.stop()
            await self._leave()
        log.info("daemon.stopped", why=self._end.value)
        return self._end

    async def _supervise(self, coroutines: Sequence[Awaitable[None]]) -> None:
        """Run all coroutines until the stop; the first that ends by itself ends everything."""
        tasks = [asyncio.ensure_future(each) for each in coroutines]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            log.info("daemon.stopping", drain_seconds=DRAIN.total_seconds())
            self._stop.set()
            await asyncio.gather(*(worker.drain(DRAIN) for worker in self._a.workers.values()))
        finally:
            for task in [*tasks, stopping]:
                task.cancel()
            await asyncio.wait([*tasks, stopping], timeout=_GOODBYE.total_seconds())
        for task in done - {stopping}:
            task.result()
            raise errors.ArchiverError("a task that should never end has ended")

    async def _work(self, name: str) -> None:
        worker = self._a.workers[name]
        while not self._stop.is_set():
            started = await self._guarded(f"worker {name}", worker.fill)
            if started or worker.busy:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await worker.changed()
                if started == 0:
                    await self._pause(0.05)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE):
                        await self._a.stirred.wait()
                self._a.stirred.clear()
        await asyncio.Event().wait()

    async def _keep_probing(self, destination: Destination, upkeep: asyncio.Event) -> None:
        """Probe now, on a schedule, and soon after a refusal: a storage may be mended while the daemon runs. No task
        waits for it."""
        while True:
            before = destination.proven
            await self._guarded(f"probe {destination.id}", lambda: self._probe(destination, force=True))
            if destination.proven and not before:
                upkeep.set()
            await asyncio.sleep((health.PROBE_EVERY if destination.proven else _REPROBE_REFUSED).total_seconds())

    async def _on(self, event: asyncio.Event, act: Callable[[], Awaitable[object]]) -> None:
        while True:
            await event.wait()
            event.clear()
            await self._guarded(getattr(act, "__qualname__", "task"), act)
            self._a.stirred.set()

    async def _every(self, interval: timedelta, act: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._guarded(getattr(act, "__qualname__", "task"), act)
            await asyncio.sleep(interval.total_seconds())

    async def _guarded(self, what: str, act: Callable[[], Awaitable[T]]) -> T | None:
        """Run one action of a loop. A party that fails leaves the loop standing; a bug ends the process, loudly.

        A failure that no retry mends, such as a storage that shows other bytes, is reported as a gap for as long as it
        lasts.
        """
        task = Party(Kind.TASK, what.rpartition(".")[2].strip("_"))
        try:
            result = await act()
        except errors.TransientError as failed:
            log.warning("daemon.try_again", task=what, problem=str(failed))
            return None
        except errors.LeaseLostError as lost:
            log.warning("daemon.lease_lost", task=what, problem=str(lost))
            return None
        except (errors.RolledBackError, errors.ConfigurationError):
            raise
        except errors.ArchiverError as refused:
            if type(refused) is errors.ArchiverError:  # the database refused a statement, or the ticker stopped
                raise
            log.error("daemon.refused", task=what, problem=str(refused))
            self._a.walls.note(task, "run", f"{task}: {refused}")
            return None
        self._a.walls.went_well(task, "run")
        return result

    # --- parts of both ----------------------------------------------------------------------------------------

    async def _leave(self) -> None:
        """Release leases and heartbeat, if the database still answers; otherwise their time runs out."""
        with contextlib.suppress(errors.ArchiverError, TimeoutError):
            async with asyncio.timeout(_GOODBYE.total_seconds()):
                await self._a.writer.run(lambda conn: lease.leave(conn, self._a.replica_id))

    async def _farewell(self) -> None:
        """Append this writer's retirement, after all its other events. Nothing waits for it; a killed process appends
        none."""
        key = self._host_key()
        if key is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL.total_seconds()):
                    await self._a.keeper.retire(key)

    def _host_key(self) -> Ed25519PrivateKey | None:
        """Read the host key anew, since no process keeps it; None where it cannot be read."""
        try:
            return signing_key(self._a.config)
        except errors.ArchiverError as problem:
            log.warning("custody.not_retired", problem=str(problem))
            return None

    async def _begin(self) -> bool:
        """Enrol, send the first heartbeat, and remove from the spool what an earlier death left. No storage is asked, for one may
        hang."""
        await self._a.enrol()
        await self._beat()
        buried = await self._a.writer.run(lambda conn: lease.bury(conn, self._a.replica_id, self._a.spool.id))
        if buried:
            log.warning("daemon.predecessor_died", replicas=buried)
        await self._disown()
        await copier.survey(self._a.writer, self._configured, self._a.clock)
        await self._sweep()
        await self._housekeeping()
        return True

    async def _disown(self) -> None:
        """Queue again the recordings that an older version called archived although they have no copy."""
        a = self._a
        if ids := await a.read(unproved.unproved):
            log.error(
                "recording.never_stored",
                recordings=await a.writer.run(lambda conn: unproved.disown(conn, a.ledger, ids)),
            )

    async def _beat(self) -> None:
        a = self._a
        await a.writer.run(
            lambda conn: lease.beat(
                conn, a.replica_id, spool_id=a.spool.id, host=a.host, version=a.version, lasting=ALIVE
            )
        )
        await self._show_health(stands=health.STANDS)

    async def _show_health(self, stands: timedelta) -> None:
        """Record the storages' refusals and the state of this disk; recordings that wait for room say so, and now and
        then the log."""
        a, now = self._a, self._a.clock.now()

        def write(conn: Connection) -> health.Host:
            here = look_here(conn, a.spool, a.host, a.clock)
            health.record(conn, here, a.destinations, stands=stands)
            for name in a.providers if here.no_room is not None else ():
                journal.name_want_of_room(conn, name, f"no room on the disk: {here.no_room}")
            return here

        here = await a.writer.run(write)
        if here.no_room is None:
            self._no_room_said = None
        elif self._no_room_said is None or now - self._no_room_said >= _SAID_AGAIN:
            self._no_room_said = now
            log.error("spool.no_room", host=here.host, problem=here.no_room)

    async def _housekeeping(self) -> None:
        """Bring due recordings, and those held by dead replicas, back to the queue."""
        a, now = self._a, self._a.clock.now()
        woken = await a.writer.run(lambda conn: journal.wake_due(conn) + journal.release_dead(conn, now))
        # Seen twice, two seconds apart: a claim whose task is just being made is not orphaned.
        working = frozenset(each for worker in a.workers.values() for each in worker.held)
        strays = await a.writer.run(lambda conn: journal.strays(conn, a.replica_id, working))
        if lost := strays & self._strays:
            log.warning("journal.strays", recordings=len(lost))
            woken += await a.writer.run(lambda conn: journal.take_back(conn, a.replica_id, lost))
        self._strays = strays
        for worker in a.workers.values():
            if worker.broken is not None:
                raise worker.broken
        if woken:
            a.stirred.set()

    async def _probe(self, destination: Destination, *, force: bool = False) -> None:
        await health.keep_probe(self._a.writer, destination, self._a.clock, force=force, pace=self._pace)
        if destination.report is not None and not destination.report.trusted:
            log.error("storage.not_trusted", storage=destination.id, problem=destination.problem)

    async def _sweep(self) -> None:
        await sweep_spool(self._a.writer, self._a.spool, self._a.executor)

    async def _upkeep(self) -> None:
        """Remove old uploads from proved storages, and copy catalogue segments to them, now and then."""
        for destination in self._a.destinations:
            if destination.usable(self._a.clock.now()):
                await sweep_uploads(destination)
        await catalogue.spread(self._a.context)

    async def _copies(self) -> None:
        """Make the copies that are owed; copies still owed afterwards are gaps."""
        made = (copier.make_missing_copies(self._a.context, each, self._stop.is_set) for each in self._a.destinations)
        await asyncio.gather(*made)
        await self._a.rounds.copies()

    def _copying(self, destination: Destination) -> Callable[[], Awaitable[None]]:
        """Make the copies that one storage owes, in its own time: one that hangs keeps no other waiting."""

        async def copies() -> None:
            await copier.make_missing_copies(self._a.context, destination, self._stop.is_set)
            await self._a.rounds.copies()

        return copies

    @property
    def _configured(self) -> list[str]:
        return [each.id for each in self._a.destinations]

    async def _daily(self) -> None:
        await copier.survey(self._a.writer, self._configured, self._a.clock, again=True)
        await self._a.rounds.daily()

    async def _catalogue(self) -> None:
        _, default = self._a.config.retention.policy()
        await catalogue.seal_due(self._a.context, default, self._stop.is_set)

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
