"""Recomputes the log's tree from its leaves, and compares every tile of the database with the result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import zip_longest

from archiver.database import Connection
from archiver.translog import merkle
from archiver.translog.tile import HEIGHT, WIDTH, Tile
from archiver.verify import log_rows

_HASH = 32


class Regrown:
    """The tree as it is recomputed from leaf hashes, each level compared with the rows of `custody_tile`."""

    def __init__(self, conn: Connection, log_id: int, found: Callable[[str], None]) -> None:
        self._conn = conn
        self._log_id = log_id
        self._found = found
        self._levels: list[list[bytes]] = []  # by tile level, the hashes of the tile that is not full yet
        self._indexes: list[int] = []
        self._rows: list[Iterator[log_rows.TileRow]] = []
        self._range: list[tuple[int, bytes]] = []  # complete subtrees from the left: (leaves, hash)

    def add(self, leaf: bytes) -> None:
        self._append(0, leaf)
        size, hash_ = 1, leaf
        while self._range and self._range[-1][0] == size:
            hash_ = merkle.node_hash(self._range.pop()[1], hash_)
            size *= 2
        self._range.append((size, hash_))

    def root(self) -> bytes:
        if not self._range:
            return merkle.EMPTY_ROOT
        hash_ = self._range[-1][1]
        for _, left in self._range[-2::-1]:
            hash_ = merkle.node_hash(left, hash_)
        return hash_

    def close(self) -> None:
        """Compare the tiles that are not full, and look for rows beyond the tree."""
        for level, hashes in enumerate(self._levels):
            if hashes:
                self._compare(level, self._indexes[level], hashes)
            for row in self._rows[level]:
                self._found(f"{Tile(level, row.index).path} lies beyond the tree")
        for level in log_rows.tile_levels(self._conn, self._log_id):
            if not 0 <= level < len(self._levels):
                self._found(f"tiles of level {level} lie beyond the tree")

    def _append(self, level: int, hash_: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
            self._indexes.append(0)
            self._rows.append(log_rows.tiles(self._conn, self._log_id, level))
        hashes = self._levels[level]
        hashes.append(hash_)
        if len(hashes) == WIDTH:
            self._compare(level, self._indexes[level], hashes)
            self._append(level + 1, _fold(hashes))
            self._levels[level] = []
            self._indexes[level] += 1

    def _compare(self, level: int, index: int, hashes: list[bytes]) -> None:
        name = Tile(level, index).path
        row = next(self._rows[level], None)
        while row is not None and row.index < index:
            self._found(f"tile {row.index} of level {level} lies outside the tree")
            row = next(self._rows[level], None)
        if row is None or row.index != index:
            self._found(f"{name} is missing")
            if row is not None:
                self._rows[level] = _chain(row, self._rows[level])
            return
        if row.hashes == b"".join(hashes):
            return
        kept = [row.hashes[at : at + _HASH] for at in range(0, len(row.hashes), _HASH)]
        for place, (derived, stored) in enumerate(zip_longest(hashes, kept)):
            if derived != stored:
                number = index * WIDTH + place
                below = f"leaf {number}" if level == 0 else Tile(level - 1, number).path
                what = "has nothing for" if stored is None else "goes beyond" if derived is None else "disagrees with"
                self._found(f"{name} {what} {below}")


def _chain(first: log_rows.TileRow, rest: Iterator[log_rows.TileRow]) -> Iterator[log_rows.TileRow]:
    yield first
    yield from rest


def _fold(hashes: list[bytes]) -> bytes:
    for _ in range(HEIGHT):
        hashes = [hashlib.sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest() for at in range(0, len(hashes), 2)]
    return hashes[0]
