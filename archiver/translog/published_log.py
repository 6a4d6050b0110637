"""Reads the log from a storage, and believes it as far as a checkpoint proves it. Needs no database.

Every hash is proved from the checkpoint's root downwards: the partial tiles at the tree's right edge make the root,
each full tile makes one hash of the tile above it, each entry makes one hash of its tile of level 0.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from archiver.custody.event import leaf_hash
from archiver.errors import VerificationError
from archiver.store.port import Shelf
from archiver.translog import merkle
from archiver.translog.checkpoint import Checkpoint, open_checkpoint
from archiver.translog.merkle import HASH_BYTES
from archiver.translog.note import VerifierKey
from archiver.translog.rotation import LogKeys, Rotation
from archiver.translog.tile import HEIGHT, WIDTH, Bundle, Tile, hashes_of, unpack_entries

CHECKPOINT = "checkpoint"
_KEPT = 256


def checkpoint_name(size: int) -> str:
    """Returns the permanent name of the checkpoint of this size; the names sort as the sizes do."""
    return f"checkpoints/{size:020d}"


def checkpoint_size(name: str) -> int | None:
    """Returns the size in the name of a checkpoint; None for another name."""
    digits = name.removeprefix("checkpoints/")
    return int(digits) if len(digits) == 20 and digits.isascii() and digits.isdigit() else None


def rotation_name(origin: str, rotation: Rotation) -> str:
    """Return the file name of the note that introduces a key."""
    return f"keys/{origin}.rotations/{rotation.new.key_id.hex()}"


def edge_of(size: int) -> list[Tile]:
    """Returns the partial tiles of a tree, which are enough to compute its root and to grow it."""
    tiles = []
    for level in range(64 // HEIGHT):
        index, width = divmod(size >> HEIGHT * level, WIDTH)
        if width:
            tiles.append(Tile(level, index, width))
    return tiles


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """A checkpoint that the log signed, as a storage has it. `note` holds its bytes."""

    checkpoint: Checkpoint
    note: bytes


async def newest_checkpoint(shelf: Shelf, log_key: VerifierKey | LogKeys) -> PublishedCheckpoint | None:
    """Returns the checkpoint of the largest size on this storage; None when the storage has none.

    The pointer only says where to begin the search: somebody who can roll back the pointer must not be able to hide
    later checkpoints. Raises `VerificationError` when the newest checkpoint is not one of this log.
    """
    pointer = await shelf.read_current(CHECKPOINT)
    pointed = None
    if pointer is not None:
        # The pointer is damaged, or another log's: then only the list counts.
        with contextlib.suppress(VerificationError):
            pointed = PublishedCheckpoint(open_checkpoint(pointer, log_key)[0], pointer)
    newest = None
    async for name in shelf.names("checkpoints/", after=checkpoint_name(pointed.checkpoint.size) if pointed else ""):
        if checkpoint_size(name) is not None:
            newest = name
    return pointed if newest is None else await read_checkpoint(shelf, log_key, newest)


async def read_checkpoint(shelf: Shelf, log_key: VerifierKey | LogKeys, name: str) -> PublishedCheckpoint | None:
    """Returns the checkpoint of this name. Raises `VerificationError` when the file is something else than this log's
    checkpoint of that size."""
    note = await shelf.read(name)
    if note is None:
        return None
    try:
        checkpoint, _ = open_checkpoint(note, log_key)
    except VerificationError as exc:
        raise VerificationError(f"{shelf.id}: {name}: {exc.detail}") from exc
    if checkpoint_name(checkpoint.size) != name:
        raise VerificationError(f"{shelf.id}: {name} holds the checkpoint of {checkpoint.size} leaves")
    return PublishedCheckpoint(checkpoint, note)


class PublishedLog:
    """The tree of one size and root, on one storage. Make it with `open`."""

    def __init__(self, shelf: Shelf, size: int) -> None:
        self.shelf = shelf
        self.size = size
        self._edge: dict[tuple[int, int], bytes] = {}
        self._full: dict[tuple[int, int], bytes] = {}

    @classmethod
    async def open(cls, shelf: Shelf, size: int, root: bytes) -> PublishedLog:
        """Opens the tree. Raises `VerificationError` when the storage's tiles do not make this root, or are not all
        there."""
        log = cls(shelf, size)
        for tile in edge_of(size):
            log._edge[tile.level, tile.index] = await log._fetch(tile)
        if merkle.root(size, hashes_of(lambda level, index: log._edge.get((level, index), b""))) != root:
            raise VerificationError(f"{shelf.id}: the tiles of {size} leaves do not make the root that was signed")
        return log

    async def tile(self, level: int, index: int) -> bytes:
        """Returns the proved hashes of this tile, as wide as the tree has it. Raises `VerificationError`, which names
        the tile."""
        key = level, index
        known = self._edge.get(key) or self._full.get(key)
        if known is not None:
            return known
        tile = Tile(level, index)
        if (index + 1) << HEIGHT > self.size >> HEIGHT * level:
            raise VerificationError(f"{tile.path} is beyond a tree of {self.size} leaves")
        above, place = await self.tile(level + 1, index >> HEIGHT), (index & WIDTH - 1) * HASH_BYTES
        hashes = await self._fetch(tile)
        nodes = hashes_of(lambda _level, _index: hashes)
        if merkle.node_hash(nodes(HEIGHT - 1, 0), nodes(HEIGHT - 1, 1)) != above[place : place + HASH_BYTES]:
            raise VerificationError(f"{self.shelf.id}: {tile.path} is not the one that was signed")
        while len(self._full) >= _KEPT:
            del self._full[next(iter(self._full))]
        self._full[key] = hashes
        return hashes

    async def entries(self, index: int) -> list[bytes]:
        """Returns the proved entries of this bundle, as many as the tree has. Raises `VerificationError`, which names
        bundle or leaf."""
        width = min(WIDTH, self.size - (index << HEIGHT))
        bundle = Bundle(index, width)
        hashes = await self.tile(0, index)
        raw, wide = await self._content(bundle)
        try:
            entries = unpack_entries(raw, wide)[:width]
        except VerificationError as exc:
            raise VerificationError(f"{self.shelf.id}: {bundle.path}: {exc.detail}") from exc
        for number, entry in enumerate(entries):
            if leaf_hash(entry) != hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES]:
                leaf = (index << HEIGHT) + number
                raise VerificationError(f"{self.shelf.id}: {bundle.path}: leaf {leaf} is not the entry that was signed")
        return entries

    async def root_at(self, size: int) -> bytes:
        """Returns the root that this history had at an earlier size."""
        tiles = {(tile.level, tile.index): await self.tile(tile.level, tile.index) for tile in edge_of(size)}
        return merkle.root(size, hashes_of(lambda level, index: tiles.get((level, index), b"")))

    async def _fetch(self, tile: Tile) -> bytes:
        raw, wide = await self._content(tile)
        if len(raw) != wide * HASH_BYTES:
            raise VerificationError(f"{self.shelf.id}: {tile.path} is not {wide} hashes")
        return raw[: tile.width * HASH_BYTES]

    async def _content(self, piece: Tile | Bundle) -> tuple[bytes, int]:
        """Returns the piece, or a wider one that begins with it, and its width: partial pieces may go once a wider one
        is there."""
        if (raw := await self.shelf.read(piece.path)) is not None:
            return raw, piece.width
        whole = piece.path.partition(".p/")[0]
        if (raw := await self.shelf.read(whole)) is not None:
            return raw, WIDTH
        async for name in self.shelf.names(f"{whole}.p/"):
            digits = name.rpartition("/")[2]
            if digits.isascii() and digits.isdigit() and piece.width < int(digits) < WIDTH:
                raw = await self.shelf.read(name)
                if raw is not None:
                    return raw, int(digits)
        raise VerificationError(f"{self.shelf.id}: {piece.path} is missing")
