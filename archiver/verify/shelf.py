"""Whether the log on a storage is whole, is the one in the database, and was not covered by anything newer. Reads only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from archiver import errors
from archiver.custody.note import VerifierKey
from archiver.custody.shelved import (
    CHECKPOINT,
    Published,
    ShelvedLog,
    checkpoint_name,
    newest_checkpoint,
    read_checkpoint,
)
from archiver.custody.tile import WIDTH, Bundle, Tile, bundles_of, tiles_of
from archiver.errors import VerificationError
from archiver.store.port import Shelf
from archiver.verify.finding import Finding, Kind, Verification


@dataclass(frozen=True, slots=True)
class Kept:
    """What the database says: its tree, the root it gives for any smaller size, and the checkpoints that it calls published."""

    size: int
    root_at: Callable[[int], Awaitable[bytes]]
    published: Mapping[int, bytes]


async def check_shelf(
    shelf: Shelf, log_key: VerifierKey, kept: Kept | None, result: Verification, *, whole: bool
) -> None:
    """The newest checkpoint of one storage against the database; with `whole`, every tile, entry and checkpoint there.

    Without `kept` the shelf is checked by itself. A storage that cannot be reached is noted as such.
    """
    check = _Check(shelf, log_key, result)
    try:
        newest = await check.newest()
        if kept is not None:
            await check.agrees(newest, kept)
        if newest is None:
            return
        await check.pointer(newest)
        if whole:
            await check.every_checkpoint(newest, kept)
            await check.every_piece(newest)
    except errors.DestinationError as failed:
        result.unreachable[f"the log in {shelf.id}: {failed.detail}"] += 1


class _Check:
    def __init__(self, shelf: Shelf, log_key: VerifierKey, result: Verification) -> None:
        self._shelf = shelf
        self._log_key = log_key
        self._result = result

    def found(self, kind: Kind, name: str, detail: str) -> None:
        self._result.findings.append(
            Finding(kind, f"log in {self._shelf.id}", f"{name}: {detail}", storage=self._shelf.id, key=name)
        )

    async def newest(self) -> Published | None:
        try:
            return await newest_checkpoint(self._shelf, self._log_key)
        except VerificationError as exc:
            self.found(Kind.LOG_SHELF, "checkpoints/", exc.detail)
            return None

    async def agrees(self, newest: Published | None, kept: Kept) -> None:
        """The database continues what was published, and what it calls published is there."""
        last = max(kept.published, default=0)
        if last > (newest.checkpoint.size if newest else 0):
            self.found(Kind.LOG_SHELF, checkpoint_name(last), "was published, by the database's word, and is not there")
        if newest is None:
            return
        await self._same_tree(newest, kept)

    async def _same_tree(self, published: Published, kept: Kept) -> None:
        size, name = published.checkpoint.size, checkpoint_name(published.checkpoint.size)
        if size > kept.size:
            self.found(Kind.LOG_ROLLBACK, name, f"{size} leaves were published, the database has {kept.size}")
            return
        try:
            root = await kept.root_at(size)
        except VerificationError as exc:
            self.found(Kind.LOG_TILE, name, f"the database cannot tell its root at {size} leaves: {exc.detail}")
            return
        if root != published.checkpoint.root:
            self.found(Kind.LOG_SHELF, name, "was signed over another tree than the database has")

    async def pointer(self, newest: Published) -> None:
        if await self._shelf.read_current(CHECKPOINT) != newest.note:
            self.found(Kind.LOG_SHELF, CHECKPOINT, f"does not point to the newest, {newest.checkpoint.size} leaves")

    async def every_checkpoint(self, newest: Published, kept: Kept | None) -> None:
        """Each opens, is covered by nothing, has its place in the newest tree, and is the one that the database kept."""
        tree = await self._opened(newest)
        seen: set[int] = set()
        async for name in self._shelf.names("checkpoints/"):
            await self._uncovered(name)
            try:
                published = await read_checkpoint(self._shelf, self._log_key, name)
            except VerificationError as exc:
                self.found(Kind.LOG_SHELF, name, exc.detail)
                continue
            if published is None:
                continue
            size = published.checkpoint.size
            seen.add(size)
            try:
                if tree is not None and await tree.root_at(size) != published.checkpoint.root:
                    self.found(Kind.LOG_SHELF, name, f"is not continued by the tree of {newest.checkpoint.size} leaves")
            except VerificationError as exc:
                self.found(Kind.LOG_SHELF, name, exc.detail)
            if kept is not None and kept.published.get(size, published.note) != published.note:
                self.found(Kind.LOG_SHELF, name, "is not the note that the database kept")
        for size in sorted(set(kept.published if kept else ()) - seen):
            if size <= newest.checkpoint.size:
                self.found(Kind.LOG_SHELF, checkpoint_name(size), "is missing")

    async def every_piece(self, newest: Published) -> None:
        """Each entry is the one that was signed for, each tile follows from the root; nothing covers a full one."""
        tree = await self._opened(newest)
        if tree is None:
            return
        size = newest.checkpoint.size
        for tile in tiles_of(0, size):
            await self._proved(tile, tree.tile(tile.level, tile.index))
        for bundle in bundles_of(0, size):
            await self._proved(bundle, tree.entries(bundle.index))

    async def _opened(self, newest: Published) -> ShelvedLog | None:
        try:
            return await ShelvedLog.open(self._shelf, newest.checkpoint.size, newest.checkpoint.root)
        except VerificationError as exc:
            self.found(Kind.LOG_SHELF, "tile", exc.detail)
            return None

    async def _proved(self, piece: Tile | Bundle, proving: Awaitable[object]) -> None:
        try:
            await proving
        except VerificationError as exc:
            self.found(Kind.LOG_SHELF, piece.path, exc.detail)
        if piece.width == WIDTH:  # partial ones are replaced as the tree grows
            await self._uncovered(piece.path)

    async def _uncovered(self, name: str) -> None:
        """The lock protects versions, not names: what lies over one hides it from careless readers."""
        versions = await self._shelf.versions(name)
        if any(each.is_delete_marker for each in versions):
            self.found(Kind.LOG_SHELF, name, "is covered by a delete marker; the version is still there")
        elif len(versions) > 1:
            self.found(Kind.LOG_SHELF, name, f"has {len(versions)} versions where one was put; the oldest counts")
