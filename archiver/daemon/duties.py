"""Does the daemon's background duties: the heartbeat, the queue's order, the probes, the care of storages and spool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import errors
from archiver.assembly.facts import look_here
from archiver.assembly.keys import signing_key
from archiver.assembly.process import Assembly
from archiver.daemon import times
from archiver.database import Connection
from archiver.ingest import archived_without_copy, copier, day_counts, health, journal
from archiver.ingest.destination import Destination
from archiver.ingest.upkeep import sweep_spool, sweep_uploads
from archiver.recovery import catalogue
from archiver.schedule import lease

log = structlog.get_logger("archiver.daemon")


class Duties:
    """The duties of one assembled archive, each of which is done once when it is called.

    `stopping` tells that the process ends; `pace` is the time between two single sweeps, None for a daemon.
    """

    def __init__(self, assembly: Assembly, stopping: Callable[[], bool]) -> None:
        self.pace: timedelta | None = None
        self._a = assembly
        self._stopping = stopping
        self._orphaned: frozenset[str] = frozenset()
        self._no_room_said: datetime | None = None

    def polling(self, name: str) -> Callable[[], Awaitable[None]]:
        """Return an action that polls one provider, and then computes the gaps from its listings."""

        async def poll() -> None:
            await self._a.pollers[name].poll(times.PAST)
            await self._a.rounds.look(name)

        return poll

    async def begin(self) -> bool:
        """Enrol, send the first heartbeat, and remove from the spool what an earlier death left. No storage is asked,
        for one may hang."""
        await self._a.enrol()
        await self.beat()
        buried = await self._a.writer.run(lambda conn: lease.bury(conn, self._a.replica_id, self._a.spool.id))
        if buried:
            log.warning("daemon.predecessor_died", replicas=buried)
        await self._disown()
        await copier.survey(self._a.writer, self._configured, self._a.clock)
        await self.sweep()
        await self.housekeeping()
        return True

    async def _disown(self) -> None:
        """Queue again the recordings that an older version called archived although they have no copy."""
        a = self._a
        if ids := await a.read(archived_without_copy.search):
            log.error(
                "recording.never_stored",
                recordings=await a.writer.run(lambda conn: archived_without_copy.disown(conn, a.ledger, ids)),
            )

    async def beat(self) -> None:
        a = self._a
        await a.writer.run(
            lambda conn: lease.beat(
                conn, a.replica_id, spool_id=a.spool.id, host=a.host, version=a.version, lasting=times.ALIVE
            )
        )
        await self.show_health(stands=health.STANDS)

    async def show_health(self, stands: timedelta) -> None:
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
        elif self._no_room_said is None or now - self._no_room_said >= times.SAID_AGAIN:
            self._no_room_said = now
            log.error("spool.no_room", host=here.host, problem=here.no_room)

    async def housekeeping(self) -> None:
        """Bring due recordings, and those held by dead replicas, back to the queue."""
        a, now = self._a, self._a.clock.now()
        woken = await a.writer.run(lambda conn: journal.wake_due(conn) + journal.release_dead(conn, now))
        # Seen twice, two seconds apart: a claim whose task is just being made is not orphaned.
        working = frozenset(each for worker in a.workers.values() for each in worker.held)
        orphaned = await a.writer.run(lambda conn: journal.orphaned_claims(conn, a.replica_id, working))
        if lost := orphaned & self._orphaned:
            log.warning("journal.strays", recordings=len(lost))
            woken += await a.writer.run(lambda conn: journal.take_back(conn, a.replica_id, lost))
        self._orphaned = orphaned
        for worker in a.workers.values():
            if worker.broken is not None:
                raise worker.broken
        if woken:
            a.stirred.set()

    async def probe(self, destination: Destination, *, force: bool = False) -> None:
        await health.keep_probe(self._a.writer, destination, self._a.clock, force=force, pace=self.pace)
        if destination.report is not None and not destination.report.trusted:
            log.error("storage.not_trusted", storage=destination.id, problem=destination.problem)

    async def sweep(self) -> None:
        await sweep_spool(self._a.writer, self._a.spool, self._a.executor)

    async def upkeep(self) -> None:
        """Remove old uploads from proved storages, and copy catalogue segments to them, now and then."""
        for destination in self._a.destinations:
            if destination.usable(self._a.clock.now()):
                await sweep_uploads(destination)
        await catalogue.spread(self._a.context)

    async def copies(self) -> None:
        """Make the copies that are owed; copies still owed afterwards are gaps."""
        made = (copier.make_missing_copies(self._a.context, each, self._stopping) for each in self._a.destinations)
        await asyncio.gather(*made)
        await self._a.rounds.copies()

    def copying(self, destination: Destination) -> Callable[[], Awaitable[None]]:
        """Return an action that makes the copies that one storage owes, in its own time: one that hangs keeps no other
        waiting."""

        async def copies() -> None:
            await copier.make_missing_copies(self._a.context, destination, self._stopping)
            await self._a.rounds.copies()

        return copies

    async def daily(self) -> None:
        await copier.survey(self._a.writer, self._configured, self._a.clock, again=True)
        await self._recount()
        await self._a.rounds.daily()

    async def _recount(self) -> None:
        """Compare the counts by day with the rows: status, statements and costs rest on them. Make wrong ones anew."""
        if wrong := await self._a.read(day_counts.wrong):
            log.error("counts.wrong", counts=len(wrong), first=wrong[0])
            await self._a.writer.run(day_counts.recount)

    async def catalogue(self) -> None:
        _, default = self._a.config.retention.policy()
        await catalogue.seal_due(self._a.context, default, self._stopping)

    @property
    def _configured(self) -> list[str]:
        return [each.id for each in self._a.destinations]

    # --- the end ----------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Release leases and heartbeat, if the database still answers; otherwise their time runs out."""
        with contextlib.suppress(errors.ArchiverError, TimeoutError):
            async with asyncio.timeout(times.GOODBYE.total_seconds()):
                await self._a.writer.run(lambda conn: lease.leave(conn, self._a.replica_id))

    async def farewell(self) -> None:
        """Append this writer's retirement, after all its other events. Nothing waits for it; a killed process appends
        none."""
        key = self.host_key()
        if key is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(times.FAREWELL.total_seconds()):
                    await self._a.keeper.retire(key)

    def host_key(self) -> Ed25519PrivateKey | None:
        """Read the host key anew, since no process keeps it; None where it cannot be read."""
        try:
            return signing_key(self._a.config)
        except errors.ArchiverError as problem:
            log.warning("custody.not_retired", problem=str(problem))
            return None
