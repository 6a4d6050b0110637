"""Reads every row of the custody tables as it stands, for the checks. Interprets and believes nothing.

No content of a column can stop a check (`archiver.verify.raw`). All rows come in pages of one statement each. Use one
`reading()` connection for a whole check: between transactions events move from the queue to the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from archiver.custody.tables import (
    custody_event,
    custody_log,
    custody_pending,
    custody_private,
    custody_subject,
    custody_subject_event,
)
from archiver.translog.tables import (
    custody_anchor,
    custody_checkpoint,
    custody_quarantine,
    custody_tile,
    custody_tree,
    custody_writer,
)
from archiver.verify.raw import HIGHEST, LOWEST, PAGE, as_text, as_time, behind, kept, number, paged


@dataclass(frozen=True, slots=True)
class LogRow:
    """A row of `custody_log`."""

    log_id: int
    origin: str
    closed: bool


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A row of `custody_tree`."""

    size: int
    root: bytes


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
class CheckpointRow:
    """A row of `custody_checkpoint`. `note` holds the note's bytes; `published` is True when the row has a time of
    publication."""

    size: int
    root: bytes
    note: bytes
    signed_at: datetime | None
    published: bool


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """A row of `custody_subject`."""

    number: int
    subject: str
    head_seq: int
    head_hash: bytes | None


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """A row of `custody_subject_event`, with the entry at that leaf, if there is one."""

    number: int
    seq: int
    log_id: int
    leaf: int
    type_no: int
    at: datetime | None
    entry: bytes | None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A row of `custody_pending`; `number` is the subject's number. Nobody writes `log_id`: the column's default stands
    in every row."""

    pid: int
    log_id: int
    number: int
    seq: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class PrivateRow:
    """A row of `custody_private`."""

    number: int
    seq: int
    group: str
    salt: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row of `custody_quarantine`, with its subject's name, if there is one."""

    id: int
    subject: str | None
    seq: int
    entry: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class WriterRow:
    """A row of `custody_writer`; the keys are in hex."""

    key: str
    host: str
    log_id: int
    enrolled: int
    retired: int | None


@dataclass(frozen=True, slots=True)
class AnchorRow:
    """A row of `custody_anchor`."""

    size: int
    kind: int
    name: str
    blob: bytes
    at: datetime | None


def logs(conn: Connection) -> list[LogRow]:
    """Returns every log, by number."""
    return [LogRow(row.log_id, as_text(row.origin), row.closed_at is not None) for row in conn.execute(_LOGS)]


def tree(conn: Connection, log_id: int) -> TreeRow | None:
    """Returns the tree's row."""
    row = conn.execute(_TREE, {"log": log_id}).one_or_none()
    return None if row is None else TreeRow(row.size, row.root)


def foreign(conn: Connection, log_id: int) -> Iterator[tuple[str, int]]:
    """Tables that have a row of another log, with the number of one such log. The index is not among them: see `places`."""
    for table, query in _FOREIGN:
        for found in conn.execute(query, {"log": log_id}).scalars():
            yield table, found


def last_leaf(conn: Connection, log_id: int) -> int:
    """Returns the largest leaf number; -1 when there is none."""
    found: int | None = conn.execute(_LAST_LEAF, {"log": log_id}).scalar_one()
    return -1 if found is None else found


def leaf(conn: Connection, log_id: int, index: int) -> bytes | None:
    """Returns the entry at one leaf."""
    return conn.execute(_LEAF, {"log": log_id, "at": index}).scalar_one_or_none()


def leaves(conn: Connection, log_id: int, start: int = 0) -> Iterator[LeafRow]:
    """Yields the leaves from number `start` on, in order, whether or not any is missing between them."""
    for row in paged(conn, _LEAVES, {"leaf_index": start - 1}, log=log_id):
        yield LeafRow(row.leaf_index, row.entry)


def tiles(conn: Connection, log_id: int, level: int) -> Iterator[TileRow]:
    """Yields the tiles of one level, in order."""
    for row in paged(conn, _TILES, {"idx": LOWEST}, log=log_id, level=level):
        yield TileRow(level, row.idx, row.hashes)


def tile(conn: Connection, log_id: int, level: int, index: int) -> bytes:
    """Returns the hashes of one tile; empty where there is none."""
    hashes: bytes | None = conn.execute(_TILE, {"log": log_id, "level": level, "at": index}).scalar_one_or_none()
    return hashes or b""


def tile_levels(conn: Connection, log_id: int) -> list[int]:
    """Returns the levels that any tile has, lowest first."""
    found: list[int] = []
    level: int | None = LOWEST >> 48  # a smallint
    while (level := conn.execute(_NEXT_LEVEL, {"log": log_id, "level": level}).scalar_one()) is not None:
        found.append(level)
    return found


def checkpoints(conn: Connection, log_id: int, after: int = LOWEST) -> Iterator[CheckpointRow]:
    """Yields the checkpoints beyond size `after`, smallest first."""
    for row in paged(conn, _CHECKPOINTS, {"size": after}, log=log_id):
        yield _checkpoint(row)


def checkpoint(conn: Connection, log_id: int, size: int) -> CheckpointRow | None:
    """Returns the checkpoint of this size."""
    return _one(conn.execute(_CHECKPOINT, {"log": log_id, "at": size}).one_or_none())


def newest_checkpoint(conn: Connection, log_id: int, *, published: bool = False) -> CheckpointRow | None:
    """Returns the checkpoint of the largest size; with `published`, of those that the row calls published."""
    return _one(conn.execute(_PUBLISHED if published else _NEWEST, {"log": log_id}).one_or_none())


def anchors(conn: Connection, log_id: int, after: int = LOWEST) -> Iterator[tuple[int, list[AnchorRow]]]:
    """Yields the anchors of each size beyond `after`, smallest first."""
    size = after
    while sizes := conn.execute(_ANCHORED, {"log": log_id, "after": size}).scalars().all():
        for size in sizes:
            found = conn.execute(_ANCHORS, {"log": log_id, "at": size})
            yield (
                size,
                [AnchorRow(size, row.kind, as_text(row.name), row.blob, as_time(row.at)) for row in found],
            )


def writers(conn: Connection) -> list[WriterRow]:
    """Returns every row of the index of session keys."""
    return [
        WriterRow(row.key.hex(), row.host.hex(), row.log_id, row.enrolled_leaf, row.retired_leaf)
        for row in conn.execute(select(custody_writer).order_by(custody_writer.c.enrolled_leaf, custody_writer.c.key))
    ]


def subjects(conn: Connection, first: int = LOWEST, last: int = HIGHEST) -> Iterator[SubjectRow]:
    """Yields the subjects from number `first` to `last`."""
    for row in paged(conn, _SUBJECTS, {"subject_no": first - 1 if first > LOWEST else first}, last=last):
        yield SubjectRow(row.subject_no, as_text(row.subject), row.head_seq, row.head_hash)


def subject_number(conn: Connection, subject: str) -> int | None:
    """Returns the number of the subject of this name."""
    return conn.execute(_SUBJECT_NUMBER, {"of": subject}).scalar_one_or_none()


def places(conn: Connection, first: int = LOWEST, last: int = HIGHEST) -> Iterator[PlaceRow]:
    """Yields the index rows of the subjects `first` to `last`, of whatever log, by subject and number of the event."""
    after = {"subject_no": first, "seq": LOWEST, "log_id": LOWEST, "leaf_index": LOWEST}
    for row in paged(conn, _PLACES, after, last=last):
        yield PlaceRow(row.subject_no, row.seq, row.log_id, row.leaf_index, row.type_no, as_time(row.at), row.entry)


def unplaced(conn: Connection, log_id: int) -> Iterator[int]:
    """Yields the leaves that no row of the index points to."""
    yield from conn.execute(_UNPLACED, {"log": log_id}).scalars()


def queue(conn: Connection) -> Iterator[QueueRow]:
    """Yields every event that waits, in the order of arrival."""
    for row in paged(conn, _QUEUE, {"pid": LOWEST}):
        yield QueueRow(row.pid, row.log_id, row.subject_no, row.seq, row.entry)


def waiting(conn: Connection, first: int = LOWEST, last: int = HIGHEST) -> Iterator[QueueRow]:
    """Yields the events of the subjects `first` to `last` that wait, by subject and number of the event."""
    for row in paged(conn, _WAITING, {"subject_no": first, "seq": LOWEST, "pid": LOWEST}, last=last):
        yield QueueRow(row.pid, row.log_id, row.subject_no, row.seq, row.entry)


def private(conn: Connection, first: int = LOWEST, last: int = HIGHEST) -> Iterator[PrivateRow]:
    """Yields the private groups of the events of the subjects `first` to `last`, by subject and number of the event."""
    for row in paged(conn, _PRIVATE, {"subject_no": first, "seq": LOWEST}, last=last):
        yield PrivateRow(row.subject_no, row.seq, as_text(row.grp), row.salt, row.data)


def refused(conn: Connection) -> Iterator[RefusedRow]:
    """Yields every row that was refused, in the order of its refusal."""
    for row in paged(conn, _REFUSED, {"id": LOWEST}):
        subject = None if row.subject is None else as_text(row.subject)
        yield RefusedRow(row.id, subject, row.seq, row.entry, as_text(row.reason))


def _checkpoint(row: Any) -> CheckpointRow:
    return CheckpointRow(row.size, row.root, row.note, as_time(row.signed_at), row.published_at is not None)


def _one(row: Any) -> CheckpointRow | None:
    return None if row is None else _checkpoint(row)


# Statements, built once.
_leaf, _tile, _point, _anchor = custody_event.c, custody_tile.c, custody_checkpoint.c, custody_anchor.c
_subject, _place, _pending = custody_subject.c, custody_subject_event.c, custody_pending.c
_refused, _private = custody_quarantine.c, custody_private.c
_OF_LOG = number("log")

_LOGS = select(custody_log.c.log_id, kept(custody_log.c.origin), kept(custody_log.c.closed_at)).order_by(
    custody_log.c.log_id
)
_TREE = select(custody_tree.c.size, custody_tree.c.root).where(custody_tree.c.log_id == _OF_LOG)
_FOREIGN = [
    (table.name, select(table.c.log_id).where(beside).limit(1))  # two ranges: a key can be searched for them
    for table in (
        custody_event,
        custody_tile,
        custody_tree,
        custody_checkpoint,
        custody_anchor,
        custody_quarantine,
    )
    for beside in (table.c.log_id < _OF_LOG, table.c.log_id > _OF_LOG)
]
_LAST_LEAF = select(func.max(_leaf.leaf_index)).where(_leaf.log_id == _OF_LOG)
_LEAF = select(_leaf.entry).where(_leaf.log_id == _OF_LOG, _leaf.leaf_index == number("at"))
_LEAVES = (
    select(_leaf.leaf_index, _leaf.entry)
    .where(_leaf.log_id == _OF_LOG, behind(_leaf.leaf_index))
    .order_by(_leaf.leaf_index)
    .limit(PAGE)
)
_TILES = (
    select(_tile.idx, _tile.hashes)
    .where(_tile.log_id == _OF_LOG, _tile.level == number("level"), behind(_tile.idx))
    .order_by(_tile.idx)
    .limit(PAGE)
)
_TILE = select(_tile.hashes).where(_tile.log_id == _OF_LOG, _tile.level == number("level"), _tile.idx == number("at"))
_NEXT_LEVEL = select(func.min(_tile.level)).where(_tile.log_id == _OF_LOG, _tile.level > number("level"))
_POINTS = select(_point.size, _point.root, kept(_point.note), kept(_point.signed_at), kept(_point.published_at)).where(
    _point.log_id == _OF_LOG
)
_CHECKPOINTS = _POINTS.where(behind(_point.size)).order_by(_point.size).limit(PAGE)
_CHECKPOINT = _POINTS.where(_point.size == number("at"))
_NEWEST = _POINTS.order_by(_point.size.desc()).limit(1)
_PUBLISHED = _NEWEST.where(_point.published_at.is_not(None))
_ANCHORED = (
    select(_anchor.size)
    .where(_anchor.log_id == _OF_LOG, _anchor.size > number("after"))
    .distinct()
    .order_by(_anchor.size)
    .limit(PAGE)
)
_ANCHORS = (
    select(_anchor.kind, kept(_anchor.name), _anchor.blob, kept(_anchor.at))
    .where(_anchor.log_id == _OF_LOG, _anchor.size == number("at"))
    .order_by(_anchor.kind, _anchor.name)
)
_SUBJECTS = (
    select(_subject.subject_no, kept(_subject.subject), _subject.head_seq, _subject.head_hash)
    .where(behind(_subject.subject_no), _subject.subject_no <= number("last"))
    .order_by(_subject.subject_no)
    .limit(PAGE)
)
_SUBJECT_NUMBER = select(_subject.subject_no).where(_subject.subject == bindparam("of"))
_PLACE_KEY = (_place.subject_no, _place.seq, _place.log_id, _place.leaf_index)
_PAGE_OF_PLACES = (
    select(custody_subject_event)
    .where(behind(*_PLACE_KEY), _place.subject_no <= number("last"))
    .order_by(*_PLACE_KEY)
    .limit(PAGE)
    .subquery()
)
_placed = _PAGE_OF_PLACES.c
_PLACES = (
    select(
        _placed.subject_no, _placed.seq, _placed.log_id, _placed.leaf_index, _placed.type_no, kept(_placed.at),
        _leaf.entry,
    )
    .outerjoin_from(
        _PAGE_OF_PLACES,
        custody_event,
        (_leaf.log_id == _placed.log_id) & (_leaf.leaf_index == _placed.leaf_index),
    )
    .order_by(_placed.subject_no, _placed.seq, _placed.log_id, _placed.leaf_index)
)  # fmt: skip
_UNPLACED = (
    select(_leaf.leaf_index)
    .outerjoin_from(
        custody_event,
        custody_subject_event,
        (_leaf.log_id == _place.log_id) & (_leaf.leaf_index == _place.leaf_index),
    )
    .where(_leaf.log_id == _OF_LOG, _place.leaf_index.is_(None))
    .order_by(_leaf.leaf_index)
)
_ROWS_WAITING = select(_pending.pid, _pending.log_id, _pending.subject_no, _pending.seq, _pending.entry).limit(PAGE)
_QUEUE = _ROWS_WAITING.where(behind(_pending.pid)).order_by(_pending.pid)
_WAITING_KEY = (_pending.subject_no, _pending.seq, _pending.pid)
_WAITING = _ROWS_WAITING.where(behind(*_WAITING_KEY), _pending.subject_no <= number("last")).order_by(*_WAITING_KEY)
_PAGE_OF_EVENTS = (  # whole events: the names of groups are not for comparing
    select(_private.subject_no, _private.seq)
    .where(behind(_private.subject_no, _private.seq), _private.subject_no <= number("last"))
    .distinct()
    .order_by(_private.subject_no, _private.seq)
    .limit(PAGE)
    .subquery()
)
_PRIVATE = (
    select(_private.subject_no, _private.seq, kept(_private.grp), _private.salt, _private.data)
    .join_from(
        custody_private,
        _PAGE_OF_EVENTS,
        (_private.subject_no == _PAGE_OF_EVENTS.c.subject_no) & (_private.seq == _PAGE_OF_EVENTS.c.seq),
    )
    .order_by(_private.subject_no, _private.seq)
)
_REFUSED = (
    select(_refused.id, kept(_subject.subject), _refused.seq, _refused.entry, kept(_refused.reason))
    .outerjoin_from(custody_quarantine, custody_subject, _subject.subject_no == _refused.subject_no)
    .where(behind(_refused.id))
    .order_by(_refused.id)
    .limit(PAGE)
)
