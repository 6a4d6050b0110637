"""Makes one sweep: polls everything once, and works until nothing is left that can be done soon."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from archiver import errors
from archiver.assembly.process import Assembly
from archiver.daemon import times
from archiver.daemon.duties import Duties
from archiver.daemon.loops import Loops
from archiver.ingest import owed_copies, queries
from archiver.ingest.destination import Destination
from archiver.schedule import lease
from archiver.signals import unless

log = structlog.get_logger("archiver.daemon")


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


class Sweeper:
    """Makes single sweeps of one assembled archive, until `stop` is set."""

    def __init__(self, assembly: Assembly, duties: Duties, loops: Loops, stop: asyncio.Event) -> None:
        self._a = assembly
        self._duties = duties
        self._loops = loops
        self._stop = stop
        self._proving: list[asyncio.Task[None]] = []

    async def sweep(self, providers: Iterable[str] | None = None) -> Sweep:
        """Poll everything once, work until nothing is left that can be done within a minute, and report."""
        a = self._a
        chosen = [each for each in a.providers if providers is None or each in set(providers)]
        self._duties.pace = max(a.pace.values(), default=timedelta(0))
        if not await unless(self._stop, self._duties.begin()):
            await self._duties.leave()
            return Sweep(polled=False, pending=0, trusted=True, interrupted=True)
        began = a.clock.now()
        self._proving = [asyncio.create_task(self._duties.probe(each)) for each in a.destinations]
        polled, broken = await self._work_through(chosen)
        await self._duties.upkeep()
        await self._duties.copies()
        await self._duties.catalogue()
        for name in chosen:
            await a.rounds.look(name)
        behind = None
        if self._stop.is_set():
            await self._duties.farewell()
        elif silent := [each for each in a.destinations if each.store.required and each.report is None]:
            await self._duties.farewell()  # not waited for a second time
            behind = f"storage {silent[0].id}: {silent[0].problem}"
        else:
            behind = await a.keeper.catch_up(self._duties.host_key())
            for each in a.destinations if behind is not None else ():
                # The proof is from before this sweep, and the log's trouble may contradict it.
                if each.report is not None and each.report.probed_at < began:
                    await self._duties.probe(each, force=True)
        await a.writer.run(lambda conn: lease.leave(conn, a.replica_id))
        await self._duties.show_health(stands=timedelta(0))
        await a.rounds.parties(ending=True)
        pending = await a.read(lambda conn: queries.count_unfinished(conn, chosen))
        lacking = await a.read(owed_copies.count)
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
            await self._loops.guarded("alarm", lambda: a.alarm.swept(complete=complete))
        if broken is not None:  # the rest was saved; a bug ends the sweep as loudly as it ends the daemon
            raise broken
        return sweep

    async def _work_through(self, chosen: Sequence[str]) -> tuple[bool, BaseException | None]:
        """Poll and work until both are done. Returns whether everything was polled, and the bug that broke a task, if
        one did."""
        a = self._a
        beat = asyncio.create_task(self._loops.every(times.HEARTBEAT, self._duties.beat))
        keeper = asyncio.create_task(self._loops.every(times.HOUSEKEEPING, self._duties.housekeeping))
        relief = asyncio.create_task(self._loops.every(timedelta(seconds=1), a.keeper.relieve))
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
            await asyncio.gather(*(a.workers[name].drain(times.DRAIN) for name in chosen))
            await a.writer.run(lambda conn: lease.leave(conn, a.replica_id))
        for proof in proofs:
            if isinstance(proof, Exception):
                raise proof
        for name, end in zip(polling, polls, strict=True):
            if isinstance(end, errors.ArchiverError):
                log.warning("daemon.try_again", task=f"poll {name}", problem=str(end))
        # The end of the log's task is not among them: `catch_up` reports it.
        return all(end is True for end in polls), _bug([*polls, *others, *(a.workers[name].broken for name in chosen)])

    async def _work_until_done(self, name: str, polling: asyncio.Task[bool]) -> None:
        """Work on one provider until its poll is over and nothing more becomes ready within the patience of a sweep."""
        a, worker, give_up = self._a, self._a.workers[name], None
        while not self._stop.is_set() and worker.broken is None:
            started = await worker.fill()
            if started == 0 and worker.busy == 0 and polling.done() and all(each.done() for each in self._proving):
                give_up = give_up or a.clock.now() + times.PATIENCE
                until = give_up
                if not self._can_progress() or not await a.read(lambda conn: queries.count_due(conn, name, until)):  # noqa: B023
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


def _trusted(destination: Destination) -> bool:
    return destination.report is not None and destination.report.trusted


def _bug(ends: Iterable[object]) -> BaseException | None:
    """Return the first of the tasks' ends that is a bug: no failure of a party or the database, no cancellation."""
    no_bug = (errors.ArchiverError, asyncio.CancelledError)
    return next((each for each in ends if isinstance(each, BaseException) and not isinstance(each, no_bug)), None)
