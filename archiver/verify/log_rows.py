"""Reads every row of the log's tables as it stands, for the checks. Interprets and believes nothing.

No content of a column can stop a check (`archiver.verify.raw`). All rows come in pages of one statement each. Use one
`reading()` connection for a whole check: between transactions events move from the queue to the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from archiver.custody.tables import custody_event, custody_log, custody_subject
from archiver.translog.tables import (
    custody_anchor,
    custody_checkpoint,
    custody_quarantine,
    custody_tile,
    custody_tree,
    custody_writer,
)
from archiver.verify.raw import LOWEST, PAGE, as_text, as_time, behind, kept, number, paged


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
    """Tables that have a row of another log, with the number of one such log. The index is not among them: see
    `places`."""
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
_subject, _refused = custody_subject.c, custody_quarantine.c

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
_REFUSED = (
    select(_refused.id, kept(_subject.subject), _refused.seq, _refused.entry, kept(_refused.reason))
    .outerjoin_from(custody_quarantine, custody_subject, _subject.subject_no == _refused.subject_no)
    .where(behind(_refused.id))
    .order_by(_refused.id)
    .limit(PAGE)
)
