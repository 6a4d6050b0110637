"""What keeps the pipe in order between recordings: the spool's sweep, stale uploads, missing second copies."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from archiver import errors
from archiver.database import Writer
from archiver.fetch.spool import Spool
from archiver.ingest import journal, outcomes, survey
from archiver.ingest.bench import Bench
from archiver.ingest.destination import Destination
from archiver.recording import Sealed, Stored
from archiver.store import layout

log = structlog.get_logger("archiver.upkeep")

_COPIES_AT_ONCE = 20
_STALE_UPLOAD = timedelta(hours=24)


async def sweep_spool(writer: Writer, spool: Spool, executor: Executor) -> None:
    """Remove what no row points to: parts of interrupted downloads, and objects that were stored before a death."""
    keep = await writer.run(lambda conn: journal.referenced_spool(conn, spool.id))
    removed = await asyncio.get_running_loop().run_in_executor(executor, spool.sweep, keep)
    if removed:
        log.info("spool.swept", files=removed)


async def sweep_uploads(destination: Destination) -> None:
    """A death within a multipart upload leaves parts that no listing shows; a day later nobody can still be working on them."""
    try:
        dropped = await destination.store.sweep_uploads(_STALE_UPLOAD)
    except errors.DestinationError as failed:
        log.info("uploads.not_swept", storage=destination.id, problem=str(failed))
        return
    if dropped:
        log.info("uploads.swept", storage=destination.id, uploads=dropped)


async def make_missing_copies(bench: Bench) -> int:
    """Copy what an optional storage missed while it was down, from a storage that has it. Returns how many."""
    made = 0
    for destination in bench.destinations:
        if destination.store.required or not destination.usable(bench.clock.now()):
            continue
        lacking = await bench.writer.run(lambda conn: survey.lacking_copy(conn, destination.id, _COPIES_AT_ONCE))  # noqa: B023
        for row in lacking:
            if not await _copy(bench, destination, row):
                break
            made += 1
    return made


async def _copy(bench: Bench, destination: Destination, row: dict[str, Any]) -> bool:
    """One copy from the first storage that can be read. The digest is checked again on the way."""
    sources = {each.id: each for each in bench.destinations}
    copies = row["copies"]
    assert isinstance(copies, list)
    for held in copies:
        source = sources.get(held["storage"])
        if source is None:
            continue
        try:
            with bench.spool.part(int(held["size"])) as part:
                async for piece in source.store.read(held["key"], held["version_id"]):
                    await asyncio.get_running_loop().run_in_executor(bench.executor, part.file.write, piece)
                part.file.flush()
                sealed = Sealed(
                    part.path, held["size"], str(row["sealed_sha256"]), 0, str(row["plaintext_sha256"]), (), ""
                )
                until = datetime.fromisoformat(str(row["retain_until"]))
                called = datetime.fromisoformat(str(row["call_ended_at"] or row["call_started_at"] or row["listed_at"]))
                key = layout.recording_key(str(row["id"]), sealed.sealed_sha256, called)
                stored = await destination.put(key, sealed, until, bench.clock.now())
        except (
            errors.DestinationError,
            errors.SpoolFullError,
            errors.NotFoundError,
            errors.VerificationError,
        ) as failed:
            log.warning("copy.failed", storage=destination.id, recording_id=row["id"], problem=str(failed))
            return False
        now = bench.clock.now()

        def write(conn: Connection, stored: Stored = stored, now: datetime = now) -> None:
            outcomes.keep_copies(conn, str(row["id"]), [stored], now)
            journal.recatalogue(conn, str(row["id"]))
            events = outcomes.stored_events(f"rec:{row['id']}", stored, len(copies) + 1, "second copy")
            bench.ledger.append_many(conn, events)

        await bench.writer.run(write)
        return True
    return False
