"""Makes the copies that no recording waits for: those in storages that are not required.

A recording is archived once every required storage has it. Its other copies are made beside the pipe, out of the spool
file while that is still there. So a storage that is slow or hangs delays no recording; beyond a few copies under way,
its copies are left to the copier, which reads them from another storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from archiver.ingest import copier, owed_copies
from archiver.ingest.context import WorkerContext
from archiver.ingest.destination import Destination
from archiver.recording import SealedFile, Stored

AT_ONCE = 16
"""The number of copies into one storage that may be under way beside the pipe; each keeps its spool file."""


def begin(context: WorkerContext, recording_id: str, now: datetime) -> tuple[list[Destination], dict[str, str]]:
    """Return the storages into which the copies can begin at once, and why each other one has to wait. Call `end`
    later.

    An empty reason: the copier takes its turn.
    """
    begun: list[Destination] = []
    waiting: dict[str, str] = {}
    for each in context.destinations:
        if each.store.required:
            continue
        if not each.usable(now):
            waiting[each.id] = f"{each.id} is not usable: {each.problem or 'it has not been probed'}"
        elif sum(storage == each.id for _, storage in context.copying) >= AT_ONCE:
            waiting[each.id] = ""
        else:
            context.copying.add((recording_id, each.id))
            begun.append(each)
    return begun, waiting


def end(context: WorkerContext, recording_id: str, begun: Collection[Destination]) -> None:
    """Say that nothing is under way any more for this recording."""
    context.copying.difference_update((recording_id, each.id) for each in begun)


async def make(
    context: WorkerContext, begun: Sequence[Destination], recording_id: str, key: str, file: SealedFile, until: datetime,
    copies: Sequence[Stored],
) -> None:  # fmt: skip
    """Make the copies that the recording's row says this replica makes. The spool file must stay until the end."""
    made = (_copy(context, each, recording_id, key, file, until, copies) for each in begun)
    for end_of_one in await asyncio.gather(*made, return_exceptions=True):  # none ends while another reads the file
        if isinstance(end_of_one, BaseException):
            raise end_of_one


async def _copy(
    context: WorkerContext, destination: Destination, recording_id: str, key: str, file: SealedFile, until: datetime,
    copies: Sequence[Stored],
) -> None:  # fmt: skip
    held = owed_copies.OwedCopy(
        recording_id, destination.id, context.replica_id, owed_copies.FIRST, owed_copies.FIRST, None, copies
    )

    async def make() -> None:
        now = context.clock.now()
        stored = await destination.put(key, file, until, now)
        done = context.clock.now()
        await context.writer.run(lambda conn: copier.note(conn, context.ledger, held, stored, done))
        context.telemetry.stored(destination.id, file.size, max(done - now, timedelta(0)).total_seconds())

    await copier.attempt(context, held, make)
