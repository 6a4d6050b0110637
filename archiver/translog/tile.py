"""Lays out the tree in files: tiles and entry bundles of c2sp.org/tlog-tiles, 256 hashes or entries wide. Pure: no I/O.

A tile of level L holds the hashes of complete subtrees of 256^L leaves; level 0 holds the leaf hashes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from archiver.errors import VerificationError
from archiver.translog.merkle import HASH_BYTES, MAX_SIZE, Hashes

HEIGHT = 8
WIDTH = 1 << HEIGHT
MAX_ENTRY = 2**16 - 1
_KEPT = 64  # a proof at 10^9 leaves needs eight

ReadTile = Callable[[int, int], bytes]
"""A reader of tiles: (tile level, index) → the tile's hashes one after another, as wide as known; empty for a tile that
is not there."""


@dataclass(frozen=True, slots=True)
class Tile:
    """`width` hashes of level `level`, from number index · 256 on."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        return f"tile/{self.level}/{_place(self.index, self.width)}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """`width` entries, from number index · 256 on."""

    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        return f"tile/entries/{_place(self.index, self.width)}"


def _place(index: int, width: int) -> str:
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    name = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    return name if width == WIDTH else f"{name}.p/{width}"


_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


def parse_path(path: str) -> Tile | Bundle:
    """Returns the tile or bundle at a path below the log's prefix. Raises `VerificationError` for a path that no tile
    or bundle has."""
    match = _PATH.fullmatch(path)
    if match is None or match[2].startswith("x000/"):
        raise VerificationError("not the path of a tile")
    level, index, width = match[1], int(match[2].replace("x", "").replace("/", "")), int(match[3] or WIDTH)
    if (match[3] and width >= WIDTH) or index > MAX_SIZE or (level != "entries" and int(level) > 63):
        raise VerificationError("not the path of a tile")
    return Bundle(index, width) if level == "entries" else Tile(int(level), index, width)


def tiles_of(old: int, new: int) -> Iterator[Tile]:
    """Yields the tiles that are new or wider at tree size `new` than at `old`, as wide as at `new`; lower levels
    first."""
    level = 0
    while new:
        for index, width in _grown(old, new):
            yield Tile(level, index, width)
        old, new, level = old >> HEIGHT, new >> HEIGHT, level + 1


def bundles_of(old: int, new: int) -> Iterator[Bundle]:
    """Returns the entry bundles that are new or wider at tree size `new` than at `old`, as wide as at `new`."""
    return (Bundle(index, width) for index, width in _grown(old, new))


def _grown(old: int, new: int) -> Iterator[tuple[int, int]]:
    if new > old:
        for index in range(old >> HEIGHT, (new - 1 >> HEIGHT) + 1):
            yield index, min(WIDTH, new - (index << HEIGHT))


def hashes_of(read: ReadTile) -> Hashes:
    """Returns a function that finds the tree's hashes in tiles. It asks the reader for each tile once while proofs stay
    near that tile.

    The function raises `VerificationError` where a tile is missing, too narrow, or not whole hashes.
    """
    kept: dict[tuple[int, int], bytes] = {}

    def hashes(level: int, index: int) -> bytes:
        tile_level, inside = divmod(level, HEIGHT)
        first = index << inside
        key = tile_level, first >> HEIGHT
        start, end = (first & WIDTH - 1) * HASH_BYTES, ((first & WIDTH - 1) + (1 << inside)) * HASH_BYTES
        tile = kept.get(key, b"")
        if len(tile) < end:  # unknown yet, or the tree has grown since
            tile = _whole(read(*key), end, key)
            if len(kept) == _KEPT:
                del kept[next(iter(kept))]
            kept[key] = tile
        return _fold(tile[start:end])

    return hashes


def extend(size: int, leaves: Sequence[bytes], read: ReadTile) -> dict[tuple[int, int], bytes]:
    """Returns every tile that changes when `leaves` (leaf hashes) follow the first `size`: (level, index) → the whole
    new tile.

    Raises `VerificationError` where the reader's edge tiles are narrower than `size` has them.
    """
    touched: dict[tuple[int, int], bytes] = {}
    level, added = 0, b"".join(leaves)
    if len(added) != HASH_BYTES * len(leaves):
        raise ValueError(f"a leaf hash has {HASH_BYTES} bytes")
    while added:
        index, known = divmod(size, WIDTH)
        if known:
            # A wider tile than `size` has is a later one: what it begins with is what stood there.
            tile = _whole(read(level, index), known * HASH_BYTES, (level, index))
            added = tile[: known * HASH_BYTES] + added
        complete = []
        for at in range(0, len(added), WIDTH * HASH_BYTES):
            tile = touched[level, index] = added[at : at + WIDTH * HASH_BYTES]
            if len(tile) == WIDTH * HASH_BYTES:
                complete.append(_fold(tile))
            index += 1
        level, size, added = level + 1, size >> HEIGHT, b"".join(complete)
    return touched


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """Returns a bundle's bytes: each entry behind its length, big-endian in two bytes. Raises ValueError for a longer
    entry."""
    if any(len(entry) > MAX_ENTRY for entry in entries):
        raise ValueError(f"an entry of a bundle has at most {MAX_ENTRY} bytes")
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def unpack_entries(raw: bytes, width: int) -> list[bytes]:
    """Returns the `width` entries of a bundle. Raises `VerificationError` unless the bundle holds exactly these
    entries."""
    entries: list[bytes] = []
    at = 0
    for _ in range(width):
        start = at + 2
        at = start + int.from_bytes(raw[at:start], "big")
        entries.append(raw[start:at])
    if at != len(raw):  # an entry that is cut or missing leaves it behind the end
        raise VerificationError(f"not a bundle of {width} entries")
    return entries


def _whole(tile: bytes, at_least: int, key: tuple[int, int]) -> bytes:
    if not at_least <= len(tile) <= WIDTH * HASH_BYTES or len(tile) % HASH_BYTES:
        have = f"{len(tile)} bytes where at least {at_least} are needed"
        raise VerificationError(f"tile {key[1]} of level {key[0]} is not whole: {have}")
    return tile


def _fold(hashes: bytes) -> bytes:
    """Returns the root over hashes whose number is a power of two."""
    sha256 = hashlib.sha256
    while len(hashes) > HASH_BYTES:
        hashes = b"".join([sha256(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 64)])
    return hashes
