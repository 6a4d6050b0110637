"""Every row of the custody tables as it stands, for whoever checks them. Looks at nothing and believes nothing.

Use one `reading()` connection for a whole check: between transactions events move from the queue to the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, bindparam, exists, select

from archiver.custody.log_tables import (
    custody_anchor,
    custody_event,
    custody_quarantine,
    custody_subject_event,
    custody_tile,
    custody_writer,
)
from archiver.custody.tables import custody_pending, custody_private, custody_subject

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class LeafRow:
    """A row of `custody_event`."""

    index: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class TileRow:
    """A row of `custody_tile`."""

    level: int
    index: int
    hashes: bytes


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """A row of `custody_subject_event`, with the subject's name and the entry at that leaf, where there are such."""

    subject_no: int
    subject: str | None
    seq: int
    leaf: int
    type_no: int
    at: datetime
    entry: bytes | None


@dataclass(frozen=True, slots=True)
class WriterRow:
    """A row of `custody_writer`; keys in hex."""

    key: str
    host: str
    enrolled: int
    retired: int | None


@dataclass(frozen=True, slots=True)
class AnchorRow:
    """A row of `custody_anchor`."""

    size: int
    kind: int
    name: str
    blob: bytes


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """A row of `custody_subject`."""

    number: int
    subject: str
    head_seq: int
    head_hash: bytes | None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A row of `custody_pending`, or of `custody_quarantine` with its `reason`."""

    number: int
    subject: str | None
    seq: int
    entry: bytes
    reason: str | None = None


def leaves(conn: Connection, log_id: int, start: int = 0) -> Iterator[LeafRow]:
    """The leaves from number `start` on, in order, whether or not any is missing between them."""
    for row in _paged(conn, _LEAVES, "leaf_index", start - 1, log=log_id):
        yield LeafRow(row.leaf_index, row.entry)


def tiles(conn: Connection, log_id: int, level: int, start: int = 0) -> Iterator[TileRow]:
    """The tiles of one level from number `start` on, in order."""
    for row in _paged(conn, _TILES, "idx", start - 1, log=log_id, level=level):
        yield TileRow(level, row.idx, row.hashes)


def tile_levels(conn: Connection, log_id: int) -> list[int]:
    """The levels that any tile has."""
    return sorted(conn.execute(_LEVELS, {"log": log_id}).scalars())


def places(conn: Connection, log_id: int) -> Iterator[PlaceRow]:
    """Every row of the index, by subject."""
    number = -(2**62)
    while page := conn.execute(_SUBJECT_NUMBERS, {"log": log_id, "after": number}).scalars().all():
        for number in page:
            for row in conn.execute(_PLACES, {"log": log_id, "of": number}):
                yield PlaceRow(number, row.subject, row.seq, row.leaf_index, row.type_no, row.at, row.entry)


def unplaced(conn: Connection, log_id: int) -> Iterator[int]:
    """The leaves that no row of the index points to."""
    yield from conn.execute(_UNPLACED, {"log": log_id}).scalars()


def writers(conn: Connection) -> list[WriterRow]:
    """Every row of the index of session keys."""
    return [
        WriterRow(row.key.hex(), row.host.hex(), row.enrolled_leaf, row.retired_leaf)
        for row in conn.execute(select(custody_writer).order_by(custody_writer.c.enrolled_leaf))
    ]


def anchors(conn: Connection, log_id: int) -> Iterator[AnchorRow]:
    """Every anchor, by size."""
    wanted = select(custody_anchor).where(custody_anchor.c.log_id == log_id).order_by(custody_anchor.c.size)
    for row in conn.execute(wanted):
        yield AnchorRow(row.size, row.kind, row.name, row.blob)


def subjects(conn: Connection) -> Iterator[SubjectRow]:
    """Every subject, by number."""
    for row in _paged(conn, _SUBJECTS, "subject_no", -(2**62)):
        yield SubjectRow(row.subject_no, row.subject, row.head_seq, row.head_hash)


def queue(conn: Connection) -> Iterator[QueueRow]:
    """Every event that waits, in the order of arrival."""
    for row in _paged(conn, _QUEUE, "pid", -(2**62)):
        yield QueueRow(row.pid, row.subject, row.seq, row.entry)


def quarantine(conn: Connection) -> Iterator[QueueRow]:
    """Every row that was refused."""
    for row in _paged(conn, _QUARANTINE, "id", -(2**62)):
        yield QueueRow(row.id, row.subject, row.seq, row.entry, row.reason)


def private_without_event(conn: Connection) -> Iterator[tuple[str | None, int, str]]:
    """Private groups of events that no row of index or queue knows: (subject, seq, group)."""
    for row in conn.execute(_STRAY_PRIVATE):
        yield row.subject, row.seq, row.grp


def _paged(conn: Connection, query: Select[Any], key: str, after: int, **fixed: int) -> Iterator[Any]:
    while page := conn.execute(query, {"after": after, **fixed}).all():
        yield from page
        after = getattr(page[-1], key)


_OF_LOG: BindParameter[int] = bindparam("log")
_LEAVES = (
    select(custody_event.c.leaf_index, custody_event.c.entry)
    .where(custody_event.c.log_id == _OF_LOG, custody_event.c.leaf_index > bindparam("after"))
    .order_by(custody_event.c.leaf_index)
    .limit(_PAGE)
)
_TILES = (
    select(custody_tile.c.idx, custody_tile.c.hashes)
    .where(
        custody_tile.c.log_id == _OF_LOG,
        custody_tile.c.level == bindparam("level"),
        custody_tile.c.idx > bindparam("after"),
    )
    .order_by(custody_tile.c.idx)
    .limit(_PAGE)
)
_LEVELS = select(custody_tile.c.level).where(custody_tile.c.log_id == _OF_LOG).distinct()
_SUBJECT_NUMBERS = (
    select(custody_subject_event.c.subject_no)
    .where(custody_subject_event.c.log_id == _OF_LOG, custody_subject_event.c.subject_no > bindparam("after"))
    .distinct()
    .order_by(custody_subject_event.c.subject_no)
    .limit(_PAGE)
)
_PLACES = (
    select(
        custody_subject.c.subject,
        custody_subject_event.c.seq,
        custody_subject_event.c.leaf_index,
        custody_subject_event.c.type_no,
        custody_subject_event.c.at,
        custody_event.c.entry,
    )
    .select_from(custody_subject_event)
    .outerjoin(custody_subject, custody_subject.c.subject_no == custody_subject_event.c.subject_no)
    .outerjoin(
        custody_event,
        (custody_event.c.log_id == custody_subject_event.c.log_id)
        & (custody_event.c.leaf_index == custody_subject_event.c.leaf_index),
    )
    .where(custody_subject_event.c.log_id == _OF_LOG, custody_subject_event.c.subject_no == bindparam("of"))
    .order_by(custody_subject_event.c.seq, custody_subject_event.c.leaf_index)
)
_UNPLACED = (
    select(custody_event.c.leaf_index)
    .outerjoin(
        custody_subject_event,
        (custody_event.c.log_id == custody_subject_event.c.log_id)
        & (custody_event.c.leaf_index == custody_subject_event.c.leaf_index),
    )
    .where(custody_event.c.log_id == _OF_LOG, custody_subject_event.c.leaf_index.is_(None))
    .order_by(custody_event.c.leaf_index)
)
_SUBJECTS = (
    select(custody_subject)
    .where(custody_subject.c.subject_no > bindparam("after"))
    .order_by(custody_subject.c.subject_no)
    .limit(_PAGE)
)
_QUEUE = (
    select(custody_pending.c.pid, custody_subject.c.subject, custody_pending.c.seq, custody_pending.c.entry)
    .select_from(custody_pending)
    .outerjoin(custody_subject, custody_subject.c.subject_no == custody_pending.c.subject_no)
    .where(custody_pending.c.pid > bindparam("after"))
    .order_by(custody_pending.c.pid)
    .limit(_PAGE)
)
_QUARANTINE = (
    select(
        custody_quarantine.c.id,
        custody_subject.c.subject,
        custody_quarantine.c.seq,
        custody_quarantine.c.entry,
        custody_quarantine.c.reason,
    )
    .select_from(custody_quarantine)
    .outerjoin(custody_subject, custody_subject.c.subject_no == custody_quarantine.c.subject_no)
    .where(custody_quarantine.c.id > bindparam("after"))
    .order_by(custody_quarantine.c.id)
    .limit(_PAGE)
)
_STRAY_PRIVATE = (
    select(custody_subject.c.subject, custody_private.c.seq, custody_private.c.grp)
    .select_from(custody_private)
    .outerjoin(custody_subject, custody_subject.c.subject_no == custody_private.c.subject_no)
    .where(
        ~exists().where(
            custody_subject_event.c.subject_no == custody_private.c.subject_no,
            custody_subject_event.c.seq == custody_private.c.seq,
        ),
        ~exists().where(
            custody_pending.c.subject_no == custody_private.c.subject_no,
            custody_pending.c.seq == custody_private.c.seq,
        ),
    )
    .order_by(custody_private.c.subject_no, custody_private.c.seq)
)
