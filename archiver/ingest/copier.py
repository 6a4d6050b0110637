"""Makes every missing copy that policy demands, the oldest first, each row independently.

A few tasks beside the pipe bring each storage up to date. A row that cannot be copied is put off and logged, and does
not hold up other rows. A storage that fails again and again is left alone until the next pass.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from archiver import errors
from archiver.clock import Clock
from archiver.custody.ledger import Ledger
from archiver.database import Connection, Writer
from archiver.ingest import copy_rows, journal, outcome_events, owed_copies
from archiver.ingest.context import WorkerContext
from archiver.ingest.destination import Destination
from archiver.ingest.owed_copies import OwedCopy
from archiver.recording import SealedFile, Stored
from archiver.store import layout
from archiver.store.bounded import at_most

log = structlog.get_logger("archiver.copies")

AT_ONCE = 4
"""The number of copies made into one storage at the same time."""
_PATIENCE = 3  # failures of a storage in a row before the storage is left alone
_LONGEST_REST = timedelta(seconds=5)


async def survey(writer: Writer, configured: Sequence[str], clock: Clock, *, again: bool = False) -> int:
    """Search the journal for copies that a configured storage lacks and that are not recorded as owed; return their
    count.

    The journal is searched once for each storage while that storage is configured, or now with `again`. A storage that
    is no longer configured owes nothing.
    """
    await writer.run(lambda conn: owed_copies.forget(conn, configured))
    due = configured if again else await writer.run(lambda conn: owed_copies.unsurveyed(conn, configured))
    count = 0
    for storage in due:
        count += await _survey(writer, storage, clock.now())
    return count


async def _survey(writer: Writer, storage: str, now: datetime) -> int:
    after, count = "", 0
    while True:

        def page(conn: Connection, after: str = after) -> list[Any]:
            rows = owed_copies.lacking(conn, storage, now, after)
            owed_copies.owe_all(conn, storage, rows)
            return rows

        rows = await writer.run(page)
        if not rows:
            break
        count, after = count + len(rows), str(rows[-1].id)
    await writer.run(lambda conn: owed_copies.surveyed(conn, storage, now))
    if count:
        log.warning("copies.lacking", storage=storage, recordings=count)
    return count


async def make_missing_copies(
    context: WorkerContext, into: Destination, ending: Callable[[], bool] = lambda: False
) -> int:
    """Make every copy that this storage owes and that is due, if it is usable. Return the count of copies made."""
    busy = {recording for recording, storage in context.copying if storage == into.id}
    await context.writer.run(lambda conn: owed_copies.take_back(conn, into.id, context.replica_id, busy))
    return await _Catchup(context, into, ending).run() if into.usable(context.clock.now()) else 0


async def attempt(
    context: WorkerContext, held: OwedCopy, make: Callable[[], Awaitable[None]]
) -> errors.ArchiverError | None:
    """Make one copy by `make`, as far as it goes; every outcome is written down. Return the failure, if it failed."""
    try:
        await make()
    except errors.LeaseLostError:
        log.warning("copy.taken_over", storage=held.storage, recording_id=held.recording_id)
    except errors.OutcomeUnknownError as unwritten:  # `take_back` finds this copy again
        log.warning("copy.outcome_unwritten", recording_id=held.recording_id, problem=str(unwritten))
    except errors.ArchiverError as failed:
        again_at, problem = context.clock.now() + owed_copies.delay(held.attempts, context.spread()), str(failed)
        log.warning(
            "copy.failed",
            storage=held.storage,
            recording_id=held.recording_id,
            attempt=held.attempts,
            problem=problem,
        )
        await context.writer.run(lambda conn: owed_copies.put_off(conn, held, problem, again_at))
        return failed
    except asyncio.CancelledError:
        await asyncio.shield(context.writer.run(lambda conn: owed_copies.hand_back(conn, held)))
        raise
    return None


def note(conn: Connection, ledger: Ledger, held: OwedCopy, stored: Stored, now: datetime) -> None:
    """Write down a copy that was made. Raises `LeaseLostError` when somebody else has made it meanwhile."""
    owed_copies.settled(conn, held)
    copy_rows.keep_copies(conn, held.recording_id, [stored], now)
    journal.recatalogue(conn, held.recording_id)
    events = outcome_events.copy_events(f"rec:{held.recording_id}", stored, len(held.copies) + 1, "second copy")
    ledger.append_many(conn, events)


class _Catchup:
    """One pass over the copies that one storage owes."""

    def __init__(self, context: WorkerContext, destination: Destination, ending: Callable[[], bool]) -> None:
        self._context = context
        self._destination = destination
        self._ending = ending
        self._made = 0
        self._failures = 0

    async def run(self) -> int:
        await asyncio.gather(*(self._work() for _ in range(AT_ONCE)))
        if self._made:
            log.info("copies.made", storage=self._destination.id, copies=self._made)
        return self._made

    async def _work(self) -> None:
        context, storage = self._context, self._destination.id
        while not self._ending() and self._failures < _PATIENCE:
            now = context.clock.now()
            if not self._destination.usable(now):
                until = self._destination.down_until or now
                await asyncio.sleep(min(max(until - now, timedelta(0)), _LONGEST_REST).total_seconds())
                if not self._destination.usable(context.clock.now()):
                    return
            held = await context.writer.run(lambda conn: owed_copies.claim(conn, storage, context.replica_id, now))  # noqa: B023
            if held is None:
                return
            await self._take(held)

    async def _take(self, held: OwedCopy) -> None:
        failed = await attempt(self._context, held, lambda: self._copy(held))
        self._failures += isinstance(failed, errors.DestinationError)

    async def _copy(self, held: OwedCopy) -> None:
        context, row, now = self._context, held.row, self._context.clock.now()
        if row.retain_until is not None and row.retain_until <= now:  # no storage takes a lock that ends in the past
            await context.writer.run(lambda conn: owed_copies.settled(conn, held))
            return
        called = row.call_ended_at or row.call_started_at or row.listed_at
        key = layout.recording_key(held.recording_id, row.sealed_sha256, called)
        async with self._content(held) as path:
            file = SealedFile(path, row.sealed_bytes, row.sealed_sha256)
            stored = await self._destination.put(key, file, row.retain_until, context.clock.now())
        self._failures = 0
        done = context.clock.now()
        await context.writer.run(lambda conn: note(conn, context.ledger, held, stored, done))
        self._made += 1
        context.telemetry.stored(held.storage, file.size, (done - now).total_seconds())

    @asynccontextmanager
    async def _content(self, held: OwedCopy) -> AsyncIterator[Path]:
        """Yield the sealed object as a spool file, from the first storage that gives exactly the bytes that were
        sealed."""
        context = self._context
        sources = {each.id: each for each in context.destinations if each.id != held.storage}
        problems = []
        for known in held.copies:
            source = sources.get(known.storage)
            if source is None:
                continue
            with context.spool.part(known.size) as part:
                try:
                    digest = hashlib.sha256()
                    async for piece in at_most(source.store.read(known.key, known.version_id), known.size):
                        digest.update(piece)
                        await asyncio.get_running_loop().run_in_executor(context.executor, part.file.write, piece)
                    part.file.flush()
                except (errors.DestinationError, errors.NotFoundError, errors.VerificationError) as failed:
                    problems.append(f"{source.id}: {failed}")
                    continue
                if digest.hexdigest() != held.row.sealed_sha256:
                    log.error("copy.source_differs", storage=source.id, recording_id=held.recording_id)
                    problems.append(f"{source.id}: its copy holds other bytes than were sealed")
                    continue
                yield part.path
                return
        raise errors.NotFoundError("; ".join(problems) or "no configured storage holds a copy of it")
