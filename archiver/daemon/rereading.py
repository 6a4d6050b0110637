"""Re-reads the archive a little at a time, so that every copy is read whole within the time that the configuration
states.

A storage that loses a byte says nothing. So the daemon reads each copy again before `verify.every` has gone by since
the last reading: its version, size, lock, every byte, and whatever else stands under its key. It never opens a
recording: no private key is here. The result is a signed event, once a day and at once with a failure; failures stay
until `archiver verify --all` ends without one. A restart forgets the sound readings that no event tells of yet; when
each copy was last read stays in the database.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from archiver.assembly.process import Assembly
from archiver.completeness import verified
from archiver.completeness.claims import claimed
from archiver.database import Connection
from archiver.ingest import fixity
from archiver.ingest.archived_recordings import RecordingRow
from archiver.ingest.destination import Destination
from archiver.schedule import lease
from archiver.verify.finding import LIVE, Verification
from archiver.verify.fsck import Instruments, check_objects

log = structlog.get_logger("archiver.daemon")

EVERY = timedelta(minutes=1)
_EARLY = 0.9  # of the time: a tenth of it is left to catch up after an outage
_AT_ONCE = 20
_ROUND = timedelta(seconds=50)  # a turn ends before the next one begins
_LONGEST_PAUSE = 5.0  # seconds
_TOLD = timedelta(days=1)
_AGAIN = timedelta(days=1)  # before a copy that was found wrong is read again


@dataclass(slots=True)
class _Tally:
    """The readings since the last signed event."""

    since: datetime
    recordings: int = 0
    objects: int = 0
    size: int = 0
    failures: Counter[str] = field(default_factory=Counter)


class Rereading:
    """Re-reads one storage's copies, for half of the time at most. Of several replicas, the holder of a lease does
    it."""

    def __init__(
        self, assembly: Assembly, destination: Destination, every: timedelta, stopping: Callable[[], bool]
    ) -> None:
        self._a = assembly
        self._destination = destination
        self._every = every
        self._stopping = stopping
        self._tally = _Tally(assembly.clock.now())
        self._wrong: dict[str, datetime] = {}

    async def turn(self) -> None:
        """Read copies that are due, the one read longest ago first, for less than a minute; then say what was found."""
        a, name = self._a, self._destination.id
        await self._destination.first_word()
        began = a.clock.monotonic()
        held = await a.writer.run(lambda conn: lease.acquire(conn, f"verify {name}", a.replica_id, 3 * EVERY))
        answers = held is not None
        while answers and not self._over(began) and self._destination.usable(a.clock.now()):
            copies = await self._due()
            if not copies:
                break
            for each in copies:
                if self._over(began):
                    break
                took = a.clock.monotonic()
                answers = await self._read(each)
                if not answers:
                    break  # its probes say so, and the next turn tries again
                await asyncio.sleep(min(a.clock.monotonic() - took, _LONGEST_PAUSE))
        await self._tell()

    def _over(self, began: float) -> bool:
        return self._stopping() or self._a.clock.monotonic() - began > _ROUND.total_seconds()

    async def _due(self) -> list[RecordingRow]:
        now = self._a.clock.now()
        self._wrong = {each: at for each, at in self._wrong.items() if now - at < _AGAIN}
        most, before = _AT_ONCE + len(self._wrong), now - _EARLY * self._every
        found = await self._a.read(lambda conn: fixity.due(conn, self._destination.id, before, most))
        return [each for each in found if each.id not in self._wrong]

    async def _read(self, row: RecordingRow) -> bool:
        """Read one copy. Return False where the storage did not answer."""
        a, name, result = self._a, self._destination.id, Verification()
        now = a.clock.now()
        await check_objects([claimed(row)], Instruments({name: self._destination.store}, (), frozenset()), result)
        if result.unreachable:
            log.info("verify.unreachable", storage=name, problem=next(iter(result.unreachable)))
            return False
        self._tally.recordings += 1
        self._tally.objects += result.objects_read
        self._tally.size += result.bytes_read
        if result.failures:
            self._wrong[row.id] = now
            self._tally.failures.update(str(each.kind) for each in result.failures if each.kind not in LIVE)
            for each in result.failures:
                log.error("verify.failed", storage=name, recording=row.id, kind=str(each.kind), detail=each.detail)
        else:
            await a.writer.run(fixity.noting(name, [row.id], now))
        return True

    async def _tell(self) -> None:
        """Sign the readings into custody, once a day, and at once where something was wrong."""
        a, tally, name = self._a, self._tally, self._destination.id
        now = a.clock.now()
        if not tally.failures and (now - tally.since < _TOLD or not tally.recordings):
            return

        def keep(conn: Connection) -> None:
            done = verified.Verified(
                verified.Depth.ROLLING, tally.since, now, tally.recordings, tally.objects, tally.failures
            )
            verified.keep(conn, a.ledger, done, {"storage": name, "bytes_read": tally.size})

        await a.writer.run(keep)
        self._tally = _Tally(now)
