"""Keeps the pipe in order between recordings: sweeps the spool and stale uploads."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from datetime import timedelta

import structlog

from archiver import errors
from archiver.database import Writer
from archiver.fetch.spool import Spool
from archiver.ingest import journal
from archiver.ingest.destination import Destination

log = structlog.get_logger("archiver.upkeep")

_STALE_UPLOAD = timedelta(hours=24)


async def sweep_spool(writer: Writer, spool: Spool, executor: Executor) -> None:
    """Remove files to which no row points: parts of interrupted downloads, and objects that were stored before a
    crash."""
    keep = await writer.run(lambda conn: journal.referenced_spool(conn, spool.id))
    removed = await asyncio.get_running_loop().run_in_executor(executor, spool.sweep, keep)
    if removed:
        log.info("spool.swept", files=removed)


async def sweep_uploads(destination: Destination) -> None:
    """Remove the parts of multipart uploads older than a day: a crash leaves them, and no listing shows them."""
    try:
        dropped = await destination.store.sweep_uploads(_STALE_UPLOAD)
    except (errors.DestinationError, errors.VerificationError) as failed:
        log.info("uploads.not_swept", storage=destination.id, problem=str(failed))
        return
    if dropped:
        log.info("uploads.swept", storage=destination.id, uploads=dropped)
