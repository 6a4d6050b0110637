"""Reads the log as its own database has it, for who publishes it: state, proofs, and the bytes of its files."""

from __future__ import annotations

from dataclasses import dataclass

from archiver.custody.event import leaf_hash
from archiver.database import Connection, Engine, read
from archiver.errors import ForkedError, NotFoundError, RolledBackError, VerificationError
from archiver.translog import merkle, reader
from archiver.translog.checkpoint import Checkpoint, open_checkpoint
from archiver.translog.merkle import HASH_BYTES
from archiver.translog.reader import Signed
from archiver.translog.rotation import LogKeys
from archiver.translog.tile import HEIGHT, Bundle, Tile, hashes_of, pack_entries


@dataclass(frozen=True, slots=True)
class State:
    """The database's log at one instant. `root` was computed from the tiles, and equals the root in the tree's row."""

    size: int
    root: bytes
    newest: Signed | None


class DatabaseLog:
    """One log in the database. `keys` are those by which its checkpoints may be signed, `origin` is its present
    name."""

    def __init__(self, engine: Engine, log_id: int, origin: str, keys: LogKeys) -> None:
        self._engine = engine
        self._log_id = log_id
        self._origin = origin
        self._keys = keys

    def state(self, conn: Connection) -> State:
        """Return the log's present size, root and newest checkpoint. Raises `VerificationError` when tree and tiles
        differ."""
        size, root = reader.tree(conn, self._log_id)
        if merkle.root(size, hashes_of(reader.read_tile(conn, self._log_id))) != root:
            raise VerificationError("the root in custody_tree is not that of custody_tile")
        return State(size, root, reader.newest_checkpoint(conn, self._log_id))

    def opened(self, kept: Signed) -> Checkpoint:
        """Return the checkpoint of a row, which our own notary signed."""
        checkpoint, _ = open_checkpoint(kept.note.encode(), self._keys)
        if (checkpoint.size, checkpoint.root) != (kept.size, kept.root):
            raise VerificationError(f"custody_checkpoint: the row of {kept.size} leaves is not what its note says")
        return checkpoint

    async def prove(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the tree of `new` leaves continues the tree of `old` leaves."""
        return await read(
            self._engine,
            lambda conn: merkle.consistency_proof(old, new, hashes_of(reader.read_tile(conn, self._log_id))),
        )

    def content(self, conn: Connection, piece: Tile | Bundle) -> bytes:
        """Return a tile's or bundle's bytes. Raises `VerificationError` for bytes that do not agree with their tile:
        once published, they would be locked for years."""
        level = piece.level if isinstance(piece, Tile) else 0
        hashes = reader.read_tile(conn, self._log_id)(level, piece.index)[: piece.width * HASH_BYTES]
        if len(hashes) != piece.width * HASH_BYTES:
            raise VerificationError(f"custody_tile: {Tile(level, piece.index, piece.width).path} is not that wide")
        if isinstance(piece, Tile):
            return hashes
        start = piece.index << HEIGHT
        try:
            entries = list(reader.entries(conn, self._log_id, start, start + piece.width))
        except NotFoundError as exc:
            raise VerificationError(f"custody_event: {exc.detail} is missing") from exc
        if b"".join(map(leaf_hash, entries)) != hashes:
            wrong = next(
                n for n, each in enumerate(entries) if leaf_hash(each) != hashes[n * HASH_BYTES :][:HASH_BYTES]
            )
            raise VerificationError(f"custody_event: leaf {start + wrong} is not the one of its tile")
        return pack_entries(entries)

    async def continues(self, where: str, checkpoint: Checkpoint, note: bytes | None = None) -> None:
        """Require that the database's tree continues this one. Raises `RolledBackError` or `ForkedError`."""

        def compare(conn: Connection) -> None:
            size, _ = reader.tree(conn, self._log_id)
            if size < checkpoint.size:
                raise RolledBackError(f"{where} has {checkpoint.size} leaves, the database has {size}")
            root = merkle.root(checkpoint.size, hashes_of(reader.read_tile(conn, self._log_id)))
            if root != checkpoint.root:
                newest = reader.newest_checkpoint(conn, self._log_id)
                ours = Checkpoint(self._origin, checkpoint.size, root).body + (f"\n{newest.note}" if newest else "")
                raise ForkedError(
                    f"{where} has another history of the first {checkpoint.size} leaves than the database",
                    where=where, ours=ours, theirs=(note or checkpoint.body.encode()).decode(), size=checkpoint.size,
                )  # fmt: skip

        await read(self._engine, compare)
