"""The log's keeper: takes events into the log, has the tree signed, publishes and anchors it. One replica at a time
does.

The keeper may rest for days: events wait in the queue, and nothing but their proof is late. Only one thing ends the
process, a database that has less than was published: every later event would contradict the published log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import errors
from archiver.clock import Clock
from archiver.custody.keys import public_hex
from archiver.custody.ledger import Appended, Ledger
from archiver.database import Connection, Engine, Writer
from archiver.schedule import lease
from archiver.translog import heartbeat, publication_rows, reader
from archiver.translog.anchor import Anchorer
from archiver.translog.forks import Fork, fork
from archiver.translog.publisher import Publisher
from archiver.translog.sequencer import Integrated, Sequencer
from archiver.translog.wait import wait_published

_log = structlog.get_logger("archiver.translog.keeper")

LEASE = "sequencer"
_LASTING = timedelta(seconds=60)
_RENEW = timedelta(seconds=15)
_BATCH = 256  # some 50 ms of verifying signatures in the thread that writes everything else, too
_BUSY, _IDLE = 0.05, 0.5
_REST = timedelta(seconds=60)
PATIENCE, _TURN = timedelta(minutes=2), timedelta(seconds=12)


@dataclass(frozen=True, slots=True)
class Parts:
    """The tools of the log's keeper."""

    writer: Writer
    ledger: Ledger
    sequencer: Sequencer
    publisher: Publisher
    anchorer: Anchorer | None
    log_id: int
    vouching: Vouching | None = None


class Vouching(Protocol):
    """Keeps on record the parties that contradict the log, and those that no longer vouch for it."""

    def tell_forks(self, conn: Connection, forks: Sequence[Fork], now: datetime) -> None: ...

    def look(self, conn: Connection, now: datetime) -> None: ...


class Keeper:
    """Keeps one log while it holds the sequencer's lease.

    `lock_until` gives, for an instant, the end of the lock of files published then. Safe when two replicas believe that
    they hold the lease: both are slow then, not wrong.
    """

    def __init__(
        self, parts: Parts, replica_id: str, clock: Clock, every: timedelta, lock_until: Callable[[datetime], datetime]
    ) -> None:
        self._p = parts
        self._replica_id = replica_id
        self._clock = clock
        self._every = every
        self._lock_until = lock_until
        self._held_until = -1.0
        self._through_gate = False
        self._next: dict[str, float] = {}
        self.problem: str | None = None

    async def forever(self) -> None:
        """Keep the log until cancelled. Raises `RolledBackError`."""
        while True:
            taken = await self._guarded(self._turn)
            await asyncio.sleep(0 if taken == _BATCH else _BUSY if taken else _IDLE)

    async def catch_up(self, retiring: Ed25519PrivateKey | None = None) -> str | None:
        """Integrate and publish everything, for a single sweep, if no other replica does. Returns the obstacle, if
        there was one.

        With the host key, `retiring`, the writer's retirement is the last event: call nothing that writes events after
        this.
        """
        self._due("publish", self._every)  # once at the end, unless it takes long
        while await self._guarded(self._turn):
            pass
        if retiring is None or self._p.anchorer is not None or self.problem is not None:
            self._next.clear()
            await self._guarded(self._turn)
        behind = self.problem
        if retiring is not None:
            kept = self._through_gate
            await self._guarded(lambda: self._retire(retiring))
            if kept and self.problem is not None:
                await self._guarded(self._publish_again)
        return behind or self.problem

    async def retire(self, host_key: Ed25519PrivateKey) -> None:
        """End `forever`: take waiting events into the log, and the writer's retirement after them, if the log was kept
        here."""
        if self._through_gate:
            await self.catch_up(host_key)
        else:
            await self._guarded(lambda: self._retire(host_key))

    async def relieve(self) -> None:
        """Take events into the log while the queue is above the mark: for a sweep, which keeps the log only at its
        end."""
        self._due("publish", self._every)
        while await self._p.writer.run(reader.backlog) is not None and await self._guarded(self._turn):
            pass

    async def _guarded(self, act: Callable[[], Awaitable[int]]) -> int:
        """Run one turn; a failure is logged, and tried again after a rest. Raises `RolledBackError`."""
        try:
            taken = await act()
        except errors.RolledBackError:
            raise
        except errors.ArchiverError as failed:
            if self.problem != str(failed):
                report = _log.warning if isinstance(failed, errors.TransientError) else _log.error
                report("custody.log_behind", problem=str(failed))
            self.problem = str(failed)
            self._through_gate = False
            await self._tell([failed])
            await asyncio.sleep(_IDLE)
            return 0
        self.problem = None
        return taken

    async def _turn(self) -> int:
        p = self._p
        if not await self._hold():
            return 0
        if not self._through_gate:
            if not self._due("gate", _REST if self.problem else timedelta(0)):
                return 0
            problems = await p.publisher.start()
            for name, problem in problems.items():
                _log.warning("custody.shelf_away", storage=name, problem=str(problem))
            await self._tell(problems.values())
            while await p.writer.run(p.sequencer.reconsider):  # a host key may have been added to the configuration
                await p.writer.run(self._integrate)
            self._through_gate = True
        if self._due("heartbeat", heartbeat.EVERY / 60):
            now = self._clock.now()
            await p.writer.run(lambda conn: publication_rows.beat(conn, p.ledger, p.log_id, now))
        batch = await p.writer.run(self._integrate)
        if batch.quarantined:
            await self._look()
        if self._due("publish", self._every):
            await self._publish()
            await self._anchor()
            if self._due("vouching", _REST):
                await self._look()
        return batch.taken

    async def _look(self) -> None:
        """Put on record the parties that have fallen silent, and the refused events."""
        vouching, now = self._p.vouching, self._clock.now()
        if vouching is not None:
            await self._p.writer.run(lambda conn: vouching.look(conn, now))

    async def _tell(self, problems: Iterable[errors.ArchiverError]) -> None:
        """Put forks of the log on record before anything else goes on."""
        forks = [fork(each) for each in problems if isinstance(each, errors.ForkedError)]
        vouching, now = self._p.vouching, self._clock.now()
        if forks and vouching is not None:
            for each in forks:
                _log.critical("custody.forked", where=each.where, problem=each.detail)
            try:
                await self._p.writer.run(lambda conn: vouching.tell_forks(conn, forks, now))
            except errors.ArchiverError as failed:
                _log.error("custody.fork_not_on_record", problem=str(failed))

    async def _retire(self, host_key: Ed25519PrivateKey) -> int:
        """Append the writer's retirement. Nothing is written in its name afterwards, not even about faults found in the
        queue.

        If the process dies before, nothing is lost: the events of a writer that never retires are believed all the
        same. If it dies after, or another replica keeps the log, the retirement waits in the queue for the next batch.
        """
        p = self._p
        if not p.sequencer.knows(public_hex(host_key)):
            return 0  # the key was changed since the start: the sequencer does not know the new one yet
        if not self._through_gate or not await self._hold():
            await p.writer.run(lambda conn: p.ledger.retire(conn, host_key))
            return 0

        def last(conn: Connection) -> None:
            p.publisher.guard(conn)
            p.ledger.retire(conn, host_key)
            p.sequencer.integrate(conn, _BATCH, telling=False)

        try:
            await p.writer.run(last)
        except errors.RolledBackError:
            raise
        except errors.ArchiverError:  # the next process takes it from the queue and meets the same fault
            await p.writer.run(lambda conn: p.ledger.retire(conn, host_key))
        await self._publish()
        return 0

    async def _publish_again(self) -> int:
        """Publish once more what was refused or had no answer; no event is written, for our writer has retired."""
        if await self._hold():
            await self._p.publisher.start()
            await self._publish()
        return 0

    def _integrate(self, conn: Connection) -> Integrated:
        self._p.publisher.guard(conn)
        return self._p.sequencer.integrate(conn, _BATCH)

    async def _publish(self) -> None:
        p, now = self._p, self._clock.now()
        until = self._lock_until(now)
        before = await p.writer.run(lambda conn: reader.newest_checkpoint(conn, p.log_id, published=True))
        issued = await p.publisher.publish(until)
        if issued is not None:
            for name, problem in issued.problems.items():
                _log.warning("custody.publish_incomplete", what=name, problem=str(problem))
            await self._tell(issued.problems.values())
            _log.debug("custody.published", leaves=issued.checkpoint.size)
            # Once a day, by whichever process: a cron job must not lock partial tiles for years at every run.
            if heartbeat.new_day(before.published_at if before is not None else None, now):
                await p.publisher.pin(issued.checkpoint.size, until)

    async def _anchor(self) -> None:
        p = self._p
        if p.anchorer is not None and self._due("anchor", _REST):
            try:
                anchored = await p.anchorer.anchor(self._lock_until(self._clock.now()))
            except errors.ArchiverError as failed:
                _log.warning("custody.not_anchored", problem=str(failed))
            else:
                if anchored is not None:
                    _log.info("custody.anchored", leaves=anchored.size, at=anchored.token.at.isoformat())

    async def _hold(self) -> bool:
        """Tell whether this replica holds the lease; it is asked for, or renewed, every fifteen seconds."""
        now = self._clock.monotonic()
        if self._due("lease", _RENEW):
            p = self._p
            held = await p.writer.run(lambda conn: lease.acquire(conn, LEASE, self._replica_id, _LASTING))
            if held is None:
                self._through_gate = False
            self._held_until = now + _LASTING.total_seconds() if held else -1.0
        return now < self._held_until

    def _due(self, what: str, interval: timedelta) -> bool:
        now = self._clock.monotonic()
        if now < self._next.get(what, now):
            return False
        self._next[what] = now + interval.total_seconds()
        return True


async def publish_through(
    engine: Engine, keeper: Keeper, events: Sequence[Appended], patience: timedelta = PATIENCE
) -> None:
    """Wait until a published checkpoint covers `events`; nothing irreversible is done before. Raises
    `UnavailableError`.

    Publishes the events itself where no other replica keeps the log; otherwise that replica does, within seconds. If
    that replica has died, its lease ends within a minute, and then this process takes the lease.
    """
    problem: str | None = None
    now = asyncio.get_running_loop().time
    give_up = now() + patience.total_seconds()
    while True:
        problem = await keeper.catch_up()
        try:
            for each in events:
                left = timedelta(seconds=max(0.0, give_up - now()))
                await wait_published(engine, each.subject, each.seq, patience=min(_TURN, left))
        except errors.UnavailableError as late:
            problem = problem or late.detail
        else:
            return
        if now() >= give_up:
            raise errors.UnavailableError(problem or "the log was not published in time")
