"""Reads the log's tree, tiles, entries and checkpoints as they are kept. Imports nothing that writes.

These functions only check that the rows are there: a caller that builds a proof on them verifies the proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from archiver.custody.tables import custody_event, custody_log, custody_pending, custody_subject, custody_subject_event
from archiver.errors import NotFoundError
from archiver.translog.tables import custody_checkpoint, custody_quarantine, custody_tile, custody_tree
from archiver.translog.tile import ReadTile

_PAGE = 500
BACKLOG = 4096  # rows of the queue, some 3 MB: more than two seconds' work for the sequencer


@dataclass(frozen=True, slots=True)
class Log:
    """A log: its number in the database and the name that its checkpoints carry."""

    log_id: int
    origin: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint as the notary signed it; `published_at` is set once the bucket has the checkpoint."""

    size: int
    root: bytes
    note: str
    signed_at: datetime
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A refused row: its claimed place, its bytes, the reason (`sequencer.Refusal`) and the time of the refusal."""

    number: int
    subject: str | None
    seq: int
    entry: bytes
    reason: str
    at: datetime


# Built once: making statements costs more than running them.
_TREE = select(custody_tree.c.size, custody_tree.c.root).where(custody_tree.c.log_id == bindparam("log"))
_TILE = select(custody_tile.c.hashes).where(
    custody_tile.c.log_id == bindparam("log"),
    custody_tile.c.level == bindparam("level"),
    custody_tile.c.idx == bindparam("idx"),
)
_ENTRIES = (
    select(custody_event.c.leaf_index, custody_event.c.entry)
    .where(
        custody_event.c.log_id == bindparam("log"),
        custody_event.c.leaf_index >= bindparam("start"),
        custody_event.c.leaf_index < bindparam("stop"),
    )
    .order_by(custody_event.c.leaf_index)
)
_INDEX = (
    select(custody_subject_event.c.log_id, custody_subject_event.c.leaf_index)
    .join_from(
        custody_subject, custody_subject_event, custody_subject_event.c.subject_no == custody_subject.c.subject_no
    )
    .where(custody_subject.c.subject == bindparam("of"), custody_subject_event.c.seq == bindparam("number"))
    .order_by(custody_subject_event.c.log_id, custody_subject_event.c.leaf_index)
    .limit(1)
)
_WAITING = select(func.count()).select_from(custody_pending)
_BACKLOG = select(func.min(custody_pending.c.pid)).where(
    select(custody_pending.c.pid).order_by(custody_pending.c.pid).offset(BACKLOG - 1).limit(1).exists()
)
_OF_LOG = select(custody_checkpoint).where(custody_checkpoint.c.log_id == bindparam("log"))
_CHECKPOINTS = (
    _OF_LOG.where(custody_checkpoint.c.size > bindparam("after")).order_by(custody_checkpoint.c.size).limit(_PAGE)
)
_NEWEST_FIRST = (
    _OF_LOG.where(custody_checkpoint.c.size < bindparam("below")).order_by(custody_checkpoint.c.size.desc()).limit(50)
)
_NEWEST = _OF_LOG.order_by(custody_checkpoint.c.size.desc()).limit(1)
_PUBLISHED = _NEWEST.where(custody_checkpoint.c.published_at.is_not(None))
_home = custody_quarantine.alias()
_QUARANTINED = (
    select(custody_quarantine, custody_subject.c.subject)
    .outerjoin_from(
        custody_quarantine, custody_subject, custody_subject.c.subject_no == custody_quarantine.c.subject_no
    )
    .where(
        custody_quarantine.c.id > bindparam("after"),
        custody_quarantine.c.reason != "rolled_back",
        ~select(_home.c.id)
        .where(_home.c.reason == "rolled_back", _home.c.entry == custody_quarantine.c.entry)
        .exists(),
    )
    .order_by(custody_quarantine.c.id)
    .limit(_PAGE)
)


def logs(conn: Connection) -> list[Log]:
    """Returns the logs of this archive, oldest first."""
    rows = conn.execute(select(custody_log).order_by(custody_log.c.log_id))
    return [Log(row.log_id, row.origin, row.opened_at) for row in rows]


def tree(conn: Connection, log_id: int) -> tuple[int, bytes]:
    """Returns the tree's size and root. Raises `NotFoundError`."""
    row = conn.execute(_TREE, {"log": log_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"log {log_id}")
    return row.size, row.root


def read_tile(conn: Connection, log_id: int) -> ReadTile:
    """Returns a reader of tiles, which gives each tile as wide as the tree has it now, and no bytes for a missing
    tile."""

    def read(level: int, index: int) -> bytes:
        hashes: bytes | None = conn.execute(_TILE, {"log": log_id, "level": level, "idx": index}).scalar_one_or_none()
        return b"" if hashes is None else hashes

    return read


def entry(conn: Connection, log_id: int, index: int) -> bytes:
    """Returns the entry at leaf `index`. Raises `NotFoundError`."""
    row = conn.execute(_ENTRIES, {"log": log_id, "start": index, "stop": index + 1}).one_or_none()
    if row is None:
        raise NotFoundError(f"leaf {index} of log {log_id}")
    found: bytes = row.entry
    return found


def entries(conn: Connection, log_id: int, start: int, stop: int) -> Iterator[bytes]:
    """Yields the entries at leaves `start` up to `stop`, with one page in memory at a time. Raises `NotFoundError` for
    a missing entry."""
    for first in range(start, stop, _PAGE):
        last = min(stop, first + _PAGE)
        page = {
            row.leaf_index: row.entry for row in conn.execute(_ENTRIES, {"log": log_id, "start": first, "stop": last})
        }
        for index in range(first, last):
            if index not in page:
                raise NotFoundError(f"leaf {index} of log {log_id}")
            yield page[index]


def index_of(conn: Connection, subject: str, seq: int) -> tuple[int, int] | None:
    """Returns the log and the leaf at which the event stands; None while the event waits in the queue, or if there is
    no such event."""
    row = conn.execute(_INDEX, {"of": subject, "number": seq}).one_or_none()
    return None if row is None else (row.log_id, row.leaf_index)


def waiting(conn: Connection) -> int:
    """Counts the rows in the queue."""
    return conn.execute(_WAITING).scalar_one()


def backlog(conn: Connection) -> int | None:
    """Returns the number of the oldest waiting row, which grows as long as somebody takes rows; None while fewer than
    `BACKLOG` rows wait."""
    oldest: int | None = conn.execute(_BACKLOG).scalar_one()
    return oldest


def checkpoints(conn: Connection, log_id: int, *, after: int = -1) -> Iterator[Signed]:
    """Yields the checkpoints for sizes beyond `after`, smallest first, with one page in memory at a time."""
    while page := conn.execute(_CHECKPOINTS, {"log": log_id, "after": after}).all():
        yield from map(_signed, page)
        after = page[-1].size


def newest_first(conn: Connection, log_id: int) -> Iterator[Signed]:
    """Yields the checkpoints, the largest size first, with one page in memory at a time."""
    below = 2**63 - 1
    while page := conn.execute(_NEWEST_FIRST, {"log": log_id, "below": below}).all():
        yield from map(_signed, page)
        below = page[-1].size


def newest_checkpoint(conn: Connection, log_id: int, *, published: bool = False) -> Signed | None:
    """Returns the checkpoint of the largest size; with `published`, the largest that the bucket has."""
    row = conn.execute(_PUBLISHED if published else _NEWEST, {"log": log_id}).one_or_none()
    return None if row is None else _signed(row)


def quarantined(conn: Connection, *, after: int = 0) -> Iterator[Quarantined]:
    """Yields the refused rows behind number `after`, in the order of their refusal, with one page in memory at a time.

    Leaves out the rows that a recovery returned to their chains (`archiver.translog.rehome`): they are our own, written
    into a rolled-back database.
    """
    while page := conn.execute(_QUARANTINED, {"after": after}).all():
        for row in page:
            yield Quarantined(row.id, row.subject, row.seq, row.entry, row.reason, row.at)
        after = page[-1].id


def _signed(row: Row[Any]) -> Signed:
    return Signed(row.size, row.root, row.note, row.signed_at, row.published_at)
