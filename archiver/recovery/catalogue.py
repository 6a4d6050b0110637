"""Writes sealed catalogue segments beside the recordings, so that the journal's final rows can be rebuilt from the
bucket alone.

A segment is sealed for the same recipients as recordings and put into every storage; only then one transaction records
it in custody and in the journal. A crash in between leaves a segment that the log does not mention, and rows that are
still due: the rows are written once more, and a reader takes the newest line. A row that changes while its segment is
being written stays due.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import BindParameter, Connection, bindparam, func, insert, select, text, update

from archiver import errors
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Type, format_time
from archiver.ingest.context import WorkerContext
from archiver.ingest.destination import Destination
from archiver.ingest.tables import QUEUE, catalogue_segment, copy, recording
from archiver.recording import SealedFile
from archiver.recovery.recording_replay import BEHIND
from archiver.recovery.segment import CatalogueLine, DueRow, PrivateGroup, dump, grouped, plain
from archiver.retention.policy import Rule
from archiver.schedule import lease
from archiver.seal.cipher import Sealer
from archiver.store import layout
from archiver.store.port import ObjectStore, Version

log = structlog.get_logger("archiver.catalogue")

_LEASE, _LASTING = "catalogue", timedelta(minutes=5)
_ROWS, _SIZE = 1000, 1 << 20
_OVERHEAD = 1500  # bytes of a line beside the provider's own data
_SHORTEST_LOCK = timedelta(hours=1)
_LARGEST = 256 << 20
_AT_ONCE = 20


async def seal_due(context: WorkerContext, default: Rule, ending: Callable[[], bool] = lambda: False) -> int:
    """Catalogue every final row that no segment describes as it is. Return the count of segments made.

    `default` says how long to keep the data about recordings without a copy. Only one replica at a time does this work;
    a failure is logged, and the work is done again the next time.
    """
    made = 0
    try:
        while not ending() and (groups := await _due_groups(context, default)):
            for group in groups:
                if ending() or not await _seal(context, group):
                    return made
                made += 1
    except errors.ArchiverError as failed:
        log.warning("catalogue.behind", problem=str(failed))
    return made


async def spread(context: WorkerContext) -> int:
    """Bring to every usable storage the segments that it lacks because it was down or is new. Return the count of
    copies made."""
    made = 0
    for destination in context.destinations:
        while destination.usable(context.clock.now()):
            lacking = await context.writer.run(lambda conn: _lacking(conn, destination.id, context.clock.now()))  # noqa: B023
            try:
                for row in lacking:
                    await _copy_to(context, destination, row)
                    made += 1
            except errors.ArchiverError as failed:
                log.warning("catalogue.not_copied", storage=destination.id, problem=str(failed))
                break
            if not lacking:
                break
    return made


async def read_segment(store: ObjectStore, sealed_sha256: str) -> bytes | None:
    """Return the sealed segment with this digest, in whichever version; None when the storage does not have the
    segment."""
    key = layout.catalogue_key(sealed_sha256)
    content = await _content(store, key, None)
    if content is not None and hashlib.sha256(content).hexdigest() == sealed_sha256:
        return content
    # Someone put another version, or a delete marker, over the segment: the locked version is still there.
    async for each in store.versions(key):
        if not each.is_delete_marker:
            content = await _content(store, key, each.version_id)
            if content is not None and hashlib.sha256(content).hexdigest() == sealed_sha256:
                return content
    return None


async def _content(store: ObjectStore, key: str, version_id: str | None) -> bytes | None:
    content = bytearray()
    try:
        async for piece in store.read(key, version_id):
            content += piece
            if len(content) > _LARGEST:
                raise errors.VerificationError("no segment of the catalogue is so large")
    except errors.NotFoundError:
        return None
    return bytes(content)


# --- segments in the journal -----------------------------------------------------------------------------------


def storages_of(conn: Connection, sealed_sha256: str) -> frozenset[str]:
    """Return the storages that have this segment, as far as the journal knows."""
    same = catalogue_segment.c.sealed_sha256 == sealed_sha256
    storages = conn.execute(select(catalogue_segment.c.storages).where(same)).scalar()
    return frozenset(json.loads(storages)) if storages else frozenset()


def described_by(conn: Connection, sealed_sha256: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return, by id, the final rows among `ids` that this segment describes as they are, in the form of a catalogue
    line."""
    described: dict[str, dict[str, Any]] = {}
    for start in range(0, len(ids), _ROWS):
        rows = conn.execute(_ROWS_OF.where(_FINAL), {"ids": list(ids[start : start + _ROWS])}).mappings()
        ours = (row for row in rows if row["segment"] == sealed_sha256)
        described |= {
            str(row["id"]): plain({name: row[name] for name in row if name not in _NOT_CATALOGUED}) for row in ours
        }
    return described


def named_segments(conn: Connection) -> dict[str, int]:
    """Count, by segment, the final rows that the segment describes as they are."""
    named = select(recording.c.segment, func.count()).where(recording.c.segment.is_not(None), _FINAL)
    return {str(digest): int(count) for digest, count in conn.execute(named.group_by(recording.c.segment))}


def undescribed(conn: Connection) -> int:
    """Count the final rows that no segment describes as they are."""
    rows = select(func.count()).select_from(recording).where(recording.c.segment.is_(None), _FINAL)
    return int(conn.execute(rows).scalar_one())


_FINAL = text("recording.state IN ('archived', 'absent', 'gone')")
_NOT_CATALOGUED = QUEUE | {"id", "attempts"}  # the count of attempts may grow without a new line


# --- due ------------------------------------------------------------------------------------------------------

# The same words as in the partial index, so that SQLite uses that index.
_DUE = (
    select(
        recording.c.id,
        recording.c.retain_until,
        func.coalesce(recording.c.call_ended_at, recording.c.call_started_at, recording.c.listed_at).label("called_at"),
        # A line holds the provider's row twice, in base64: in the journal's row, and in the private group of an event.
        (3 * func.length(recording.c.raw) + func.length(recording.c.metadata) + _OVERHEAD).label("size"),
    )
    .where(text("recording.segment IS NULL AND recording.state IN ('archived', 'absent', 'gone')"))
    # A row known only from events or from a backup must not replace the line of an earlier segment.
    .where(recording.c.provider_recording_id != "", func.coalesce(recording.c.last_error, "") != BEHIND)
    .order_by(recording.c.retain_until)
    .limit(_ROWS)
)


async def _due_groups(context: WorkerContext, default: Rule) -> list[list[DueRow]]:
    """Return the next due rows, grouped by segment; none while a segment could not be stored, or another replica does
    this."""
    required = [each for each in context.destinations if each.store.required] or context.destinations
    if not all(each.usable(context.clock.now()) for each in required):
        return []

    def ask(conn: Connection) -> list[DueRow]:
        rows = conn.execute(_DUE).all()
        if not rows or lease.acquire(conn, _LEASE, context.replica_id, _LASTING) is None:
            return []
        return [DueRow(row.id, row.retain_until or default.keep.after(row.called_at), row.size) for row in rows]

    return grouped(await context.writer.run(ask), _ROWS, _SIZE)


def read_lines(conn: Connection, ids: Sequence[str], now: datetime) -> list[CatalogueLine]:
    """Return the lines of these recordings from the journal and the private side of custody at this instant, ordered by
    id."""
    rows = conn.execute(_ROWS_OF, {"ids": list(ids)}).mappings().all()
    copies: dict[str, list[dict[str, Any]]] = {}
    for each in conn.execute(_COPIES_OF, {"ids": list(ids)}).mappings():
        copies.setdefault(each["recording_id"], []).append(
            {name: value for name, value in each.items() if name != "recording_id"}
        )
    disclosed = history.disclosures(conn, [f"rec:{each}" for each in ids])
    lines = []
    for row in rows:
        chain = disclosed[f"rec:{row['id']}"]
        lines.append(
            CatalogueLine(
                id=row["id"],
                seq=chain.head_seq,
                written_at=now,
                row={name: value for name, value in row.items() if name != "id" and name not in QUEUE},
                copies=tuple(copies.get(row["id"], [])),
                private=tuple(PrivateGroup(seq, group, each.salt, each.raw) for seq, group, each in chain.groups),
            )
        )
    return lines


_THESE: BindParameter[Any] = bindparam("ids", expanding=True)
_ROWS_OF = select(recording).where(recording.c.id.in_(_THESE)).order_by(recording.c.id)
_COPIES_OF = select(copy).where(copy.c.recording_id.in_(_THESE)).order_by(copy.c.recording_id, copy.c.storage)


# --- seal and store -------------------------------------------------------------------------------------------


async def _seal(context: WorkerContext, group: Sequence[DueRow]) -> bool:
    """Make one segment: from the journal into the storages and back into the journal. False when nothing came of it."""
    ids, now = [each.id for each in group], context.clock.now()
    lines = await context.writer.run(lambda conn: read_lines(conn, ids, now))
    content = dump(lines)
    # A storage refuses a date that has passed: a row kept beyond its date gets a segment locked for an hour at a time.
    until = _whole_second(max(group[0].keep_until, now + _SHORTEST_LOCK))
    with context.spool.part(len(content) + (64 << 10)) as part:

        def write() -> SealedFile:
            sealer = Sealer(part.file, context.recipients, context.chance, len(content))
            sealer.write(content)
            made = sealer.finish()
            return SealedFile(part.path, made.size, made.sealed_sha256)

        file = await asyncio.get_running_loop().run_in_executor(context.executor, write)
        storages = await _put_everywhere(context, file, until)
    if not storages:
        return False
    noted = await context.writer.run(lambda conn: _note(conn, context, lines, file, storages, until, now))
    log.info("catalogue.sealed", lines=len(lines), size_bytes=file.size, storages=storages)
    return noted > 0


async def _put_everywhere(context: WorkerContext, file: SealedFile, until: datetime) -> list[str]:
    """Put the segment into every storage; return those that have it. Raises when a required storage does not take
    it."""
    key, storages = layout.catalogue_key(file.sha256), []
    for destination in sorted(context.destinations, key=lambda each: not each.store.required):
        try:
            await destination.put(key, file, until, context.clock.now())
        except (errors.DestinationError, errors.VerificationError) as failed:
            if destination.store.required:
                raise
            log.warning("catalogue.not_copied", storage=destination.id, problem=str(failed))
            continue
        storages.append(destination.id)
    return sorted(storages)


def _note(
    conn: Connection,
    context: WorkerContext,
    lines: Sequence[CatalogueLine],
    file: SealedFile,
    storages: Sequence[str],
    until: datetime,
    now: datetime,
) -> int:
    """Record a stored segment in custody, and on the rows that are still as it says. Return the count of those rows."""
    conn.execute(
        insert(catalogue_segment).values(
            sealed_sha256=file.sha256,
            size=file.size,
            lines=len(lines),
            retain_until=until,
            storages=json.dumps(list(storages)),
            sealed_at=now,
        )
    )
    current = {line.id: line for line in read_lines(conn, [line.id for line in lines], now)}
    same = [line.id for line in lines if current.get(line.id) == line]
    if same:
        conn.execute(_CATALOGUED, [{"row": each, "described_by": file.sha256} for each in same])
    context.ledger.append(
        conn,
        ARCHIVE,
        Type.CATALOGUED,
        {
            "ct_sha256": file.sha256,
            "ct_bytes": file.size,
            "lines": len(lines),
            "retain_until": format_time(until),
            "storages": list(storages),
        },
    )
    return len(same)


_CATALOGUED = update(recording).where(recording.c.id == bindparam("row")).values(segment=bindparam("described_by"))


# --- further copies of segments -------------------------------------------------------------------------------


def _lacking(conn: Connection, storage: str, now: datetime) -> Sequence[Any]:
    table = catalogue_segment.c
    has = table.storages.contains(json.dumps(storage), autoescape=True)
    # A segment whose lock has ended may be gone for good.
    return conn.execute(select(catalogue_segment).where(~has, table.retain_until > now).limit(_AT_ONCE)).all()


async def _copy_to(context: WorkerContext, destination: Destination, row: Any) -> None:
    content = None
    for source in context.destinations:
        if source.id in json.loads(row.storages):
            content = content or await read_segment(source.store, row.sealed_sha256)
    if content is None:
        raise errors.VerificationError(f"segment {row.sealed_sha256} of the catalogue is in no storage that says so")
    with context.spool.part(len(content)) as part:
        await asyncio.get_running_loop().run_in_executor(context.executor, _write, part.file, content)
        file, now = SealedFile(part.path, len(content), row.sealed_sha256), context.clock.now()
        until = _whole_second(max(row.retain_until, now + _SHORTEST_LOCK))
        await destination.put(layout.catalogue_key(row.sealed_sha256), file, until, now)

    def note(conn: Connection) -> None:
        same = catalogue_segment.c.sealed_sha256 == row.sealed_sha256
        known = json.loads(conn.execute(select(catalogue_segment.c.storages).where(same)).scalar_one())
        storages = json.dumps(sorted({*known, destination.id}))
        conn.execute(update(catalogue_segment).where(same).values(storages=storages))

    await context.writer.run(note)


def _write(file: Any, content: bytes) -> None:
    file.write(content)
    file.flush()


def _whole_second(instant: datetime) -> datetime:
    """Round down to the whole seconds that storages keep, so that no description of a recording outlives the
    recording."""
    return instant.replace(microsecond=0)


async def segment_versions(store: ObjectStore) -> AsyncIterator[Version]:
    """Yield every object version under the catalogue's prefix, whoever put it there, unless it is larger than any
    segment."""
    async for each in store.versions("catalogue/"):
        if not each.is_delete_marker and each.size <= _LARGEST:
            yield each
