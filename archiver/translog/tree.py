"""Locks the Merkle tree in the database, checks its edge, and grows it by whole batches of leaves.

The row of `custody_tree` is the lock: whoever holds it knows that nobody else grows this log. The tree's size is
compared again when the new size is written, so that safety does not rest on the lock alone. Everything happens on the
caller's connection, in the caller's transaction. Tiles are believed only after they agreed with the root in the tree's
row; a row that does not agree is named in a `VerificationError`, and nothing is built on top of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Insert, Table, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from archiver.custody.event import Event, leaf_hash
from archiver.custody.tables import TYPE_NUMBERS, custody_event, custody_log, custody_subject_event
from archiver.errors import ConfigurationError, LeaseLostError, NotFoundError, VerificationError
from archiver.translog import merkle
from archiver.translog.merkle import HASH_BYTES
from archiver.translog.tables import custody_tile, custody_tree
from archiver.translog.tile import HEIGHT, WIDTH, ReadTile, Tile, extend, hashes_of

__all__ = ["TYPE_NUMBERS", "Leaf", "Tree", "grow", "lock", "open_log", "read"]


@dataclass(frozen=True, slots=True)
class Tree:
    """A log's tree as its row states it."""

    log_id: int
    size: int
    root: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """An entry on its way into the tree, with its event."""

    subject_no: int
    event: Event
    entry: bytes
    hash: bytes


def open_log(conn: Connection, origin: str, now: datetime) -> int:
    """Returns the number of the log named `origin`; begins an empty log if there is none. May be called again.

    Raises `ConfigurationError` while a log of another name is open: the same events would go to two logs.
    """
    rows = conn.execute(select(custody_log).order_by(custody_log.c.log_id)).all()
    for row in rows:
        if row.origin == origin:
            number: int = row.log_id
            return number
        if row.closed_at is None:
            raise ConfigurationError(f"this archive's log is named {row.origin!r}, not {origin!r}")
    number = len(rows) + 1
    conn.execute(insert(custody_log).values(log_id=number, origin=origin, opened_at=now))
    conn.execute(insert(custody_tree).values(log_id=number, size=0, root=merkle.EMPTY_ROOT, epoch=0))
    return number


# Built once: making statements costs more than running them.
_TREE = select(custody_tree).where(custody_tree.c.log_id == bindparam("log"))
_LOCK = _TREE.with_for_update()
_ADVANCE = (
    update(custody_tree)
    .where(
        custody_tree.c.log_id == bindparam("log"),
        custody_tree.c.size == bindparam("old_size"),
        custody_tree.c.epoch == bindparam("old_epoch"),
    )
    .values(size=bindparam("new_size"), root=bindparam("new_root"), epoch=bindparam("new_epoch"))
)
_LAST_LEAF = select(func.max(custody_event.c.leaf_index)).where(custody_event.c.log_id == bindparam("log"))
_ENTRY = select(custody_event.c.entry).where(
    custody_event.c.log_id == bindparam("log"), custody_event.c.leaf_index == bindparam("at")
)
_FROM_EDGE = (
    select(custody_tile.c.idx, custody_tile.c.hashes)
    .where(
        custody_tile.c.log_id == bindparam("log"),
        custody_tile.c.level == bindparam("level"),
        custody_tile.c.idx >= bindparam("first"),
    )
    .order_by(custody_tile.c.idx)
    .limit(2)
)
_TILE = select(custody_tile.c.hashes).where(
    custody_tile.c.log_id == bindparam("log"),
    custody_tile.c.level == bindparam("at_level"),
    custody_tile.c.idx == bindparam("at"),
)


def _insert_columns(table: Table) -> Insert:
    """Returns an INSERT that passes many rows to PostgreSQL as one array for each column: one statement to parse
    instead of one for each row."""
    arrays = [func.unnest(bindparam(column.name, type_=ARRAY(column.type))) for column in table.c]
    return insert(table).from_select(list(table.c), select(*arrays))


_ADD_LEAVES = [(table, insert(table), _insert_columns(table)) for table in (custody_event, custody_subject_event)]
_ADD_TILE = insert(custody_tile)
_WIDEN_TILE = (
    update(custody_tile)
    .where(
        custody_tile.c.log_id == bindparam("log"),
        custody_tile.c.level == bindparam("at_level"),
        custody_tile.c.idx == bindparam("at"),
    )
    .values(hashes=bindparam("wider"))
)


def read(conn: Connection, log_id: int) -> Tree:
    """Returns the tree of log `log_id`. Raises `NotFoundError`."""
    return _tree(conn, _TREE, log_id)


def lock(conn: Connection, log_id: int) -> Tree:
    """Returns the tree of log `log_id`, which nobody else grows until the caller's transaction ends. Raises
    `NotFoundError`."""
    return _tree(conn, _LOCK, log_id)


def _tree(conn: Connection, query: Any, log_id: int) -> Tree:
    row = conn.execute(query, {"log": log_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"log {log_id}")
    return Tree(row.log_id, row.size, row.root, row.epoch)


def grow(conn: Connection, tree: Tree, leaves: Sequence[Leaf]) -> Tree:
    """Appends `leaves` to `tree`, which the caller locked, and returns the grown tree.

    Raises `VerificationError`, naming the tile, leaf or row, when the database's rows do not agree with the root or
    reach past the tree; `LeaseLostError` when somebody grew the tree meanwhile. Either way the caller rolls back.
    """
    if not leaves:
        return tree
    size = tree.size + len(leaves)
    edge = _checked_edge(conn, tree, size)
    tiles = dict(edge)
    touched = extend(tree.size, [leaf.hash for leaf in leaves], _reading(tiles))
    tiles |= touched
    grown = Tree(tree.log_id, size, merkle.root(size, hashes_of(_reading(tiles))), tree.epoch + 1)

    _keep_leaves(conn, tree, leaves)
    _keep_tiles(conn, tree.log_id, edge, touched)
    advanced = conn.execute(
        _ADVANCE,
        {"log": tree.log_id, "old_size": tree.size, "old_epoch": tree.epoch,
         "new_size": grown.size, "new_root": grown.root, "new_epoch": grown.epoch},
    )  # fmt: skip
    if advanced.rowcount != 1:
        raise LeaseLostError("another sequencer has integrated meanwhile")
    return grown


def _keep_leaves(conn: Connection, tree: Tree, leaves: Sequence[Leaf]) -> None:
    rows = {
        "log_id": [tree.log_id] * len(leaves),
        "leaf_index": list(range(tree.size, tree.size + len(leaves))),
        "entry": [leaf.entry for leaf in leaves],
        "subject_no": [leaf.subject_no for leaf in leaves],
        "seq": [leaf.event.seq for leaf in leaves],
        "type_no": [TYPE_NUMBERS.get(leaf.event.type, 0) for leaf in leaves],
        "at": [leaf.event.at for leaf in leaves],
    }
    for table, add, add_columns in _ADD_LEAVES:
        columns = {column.name: rows[column.name] for column in table.c}
        if conn.dialect.name == "postgresql":
            conn.execute(add_columns, columns)
        else:
            conn.execute(add, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def _keep_tiles(
    conn: Connection, log_id: int, edge: Mapping[tuple[int, int], bytes], touched: Mapping[tuple[int, int], bytes]
) -> None:
    added = [{"log_id": log_id, "level": level, "idx": idx, "hashes": hashes}
             for (level, idx), hashes in touched.items() if (level, idx) not in edge]  # fmt: skip
    widened = [{"log": log_id, "at_level": level, "at": idx, "wider": hashes}
               for (level, idx), hashes in touched.items() if (level, idx) in edge]  # fmt: skip
    if added:
        conn.execute(_ADD_TILE, added)
    if widened:
        conn.execute(_WIDEN_TILE, widened)


def _reading(tiles: Mapping[tuple[int, int], bytes]) -> ReadTile:
    return lambda level, idx: tiles.get((level, idx), b"")


def _checked_edge(conn: Connection, tree: Tree, growing_to: int) -> dict[tuple[int, int], bytes]:
    """Returns the partial tile of each level, on which root and growth depend. The tiles agree with the tree's root."""
    last = conn.execute(_LAST_LEAF, {"log": tree.log_id}).scalar_one()
    if (last if last is not None else -1) != tree.size - 1:
        raise VerificationError(f"the tree has {tree.size} leaves, but custody_event ends with leaf {last}")
    edge: dict[tuple[int, int], bytes] = {}
    level = 0
    while growing_to >> (HEIGHT * level):
        nodes = tree.size >> (HEIGHT * level)
        first, width = divmod(nodes, WIDTH)
        rows = conn.execute(_FROM_EDGE, {"log": tree.log_id, "level": level, "first": first}).all()
        for row in rows:
            expected = width if row.idx == first else 0
            if len(row.hashes) != HASH_BYTES * expected:
                problem = (
                    f"has {len(row.hashes) / HASH_BYTES:g} hashes where a tree of {tree.size} leaves has {expected}"
                )
                raise VerificationError(f"{_name(level, row.idx)} {problem}")
            edge[level, row.idx] = row.hashes
        if width and (level, first) not in edge:
            raise VerificationError(f"{_name(level, first)} is missing")
        level += 1
    if merkle.root(tree.size, hashes_of(_reading(edge))) != tree.root:
        raise VerificationError(_blame(conn, tree, edge))
    return edge


def _blame(conn: Connection, tree: Tree, edge: Mapping[tuple[int, int], bytes]) -> str:
    """Names the tile at the edge that does not follow from the leaves or tiles below it; names the tree's own row, if
    all tiles do."""
    for (level, idx), hashes in sorted(edge.items()):
        for number, kept in enumerate(_split(hashes), WIDTH * idx):
            if _derived(conn, tree.log_id, level, number) != kept:
                below = f"leaf {number}" if level == 0 else _name(level - 1, number)
                return f"{_name(level, idx)} does not agree with {below}"
    return f"the root in custody_tree is not that of the {tree.size} leaves"


def _derived(conn: Connection, log_id: int, level: int, number: int) -> bytes | None:
    """Returns the hash `number` of tile level `level`, from the leaf or the full tile below it; None if that is not
    there."""
    if level == 0:
        entry = conn.execute(_ENTRY, {"log": log_id, "at": number}).scalar_one_or_none()
        return None if entry is None else leaf_hash(entry)
    tile = conn.execute(_TILE, {"log": log_id, "at_level": level - 1, "at": number}).scalar_one_or_none()
    if tile is None or len(tile) != WIDTH * HASH_BYTES:
        return None
    return extend(0, _split(tile), _reading({}))[1, 0]


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


def _name(level: int, idx: int) -> str:
    return Tile(level, idx).path
