"""Gives the database's log to checks that compare a storage with it. Each question is asked anew, for the daemon may go
on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from archiver.database import Connection, Engine, read
from archiver.translog import merkle
from archiver.translog.tile import hashes_of
from archiver.verify import log_rows


@dataclass(frozen=True, slots=True)
class RecordedLog:
    """The database's side. `last`: the newest checkpoint that it calls published, read before the storage is looked at.

    `lost`: the spans of sizes for which a rolled-back database was recovered, so that the rows beside the log are
    missing. The other members are asked when they are needed: the tree's size, its root at a smaller size, a tile, the
    notes behind a size (a page of them, by size, with a mark for published ones), the anchors over a checkpoint by file
    name, all time stamps.
    """

    last: int
    lost: Sequence[tuple[int, int]]
    size: Callable[[], Awaitable[int]]
    root_at: Callable[[int], Awaitable[bytes]]
    tile: Callable[[int, int], Awaitable[bytes]]
    notes: Callable[[int], Awaitable[Mapping[int, tuple[bytes, bool]]]]
    anchors: Callable[[int], Awaitable[Mapping[str, bytes]]]
    stamps: Callable[[], Awaitable[list[tuple[int, str]]]]


async def recorded_log(engine: Engine, log_id: int, lost: Sequence[tuple[int, int]]) -> RecordedLog:
    """Return the log as the database has it."""

    def size(conn: Connection) -> int:
        tree = log_rows.tree(conn, log_id)
        return 0 if tree is None else tree.size

    def root_at(conn: Connection, size: int) -> bytes:
        return merkle.root(size, hashes_of(lambda level, index: log_rows.tile(conn, log_id, level, index)))

    def notes(conn: Connection, after: int) -> dict[int, tuple[bytes, bool]]:
        page = islice(log_rows.checkpoints(conn, log_id, after), 500)
        return {each.size: (each.note, each.published) for each in page}

    def anchors(conn: Connection, size: int) -> dict[str, bytes]:
        found = next((found for at, found in log_rows.anchors(conn, log_id, size - 1) if at == size), [])
        return {each.name: each.blob for each in found}

    def stamps(conn: Connection) -> list[tuple[int, str]]:
        found = (each for _, anchors in log_rows.anchors(conn, log_id) for each in anchors)
        return [(each.size, each.name) for each in found]

    newest = await read(engine, lambda conn: log_rows.newest_checkpoint(conn, log_id, published=True))
    return RecordedLog(
        newest.size if newest else 0,
        lost,
        lambda: read(engine, size),
        lambda at: read(engine, lambda conn: root_at(conn, at)),
        lambda level, index: read(engine, lambda conn: log_rows.tile(conn, log_id, level, index)),
        lambda after: read(engine, lambda conn: notes(conn, after)),
        lambda at: read(engine, lambda conn: anchors(conn, at)),
        lambda: read(engine, stamps),
    )
