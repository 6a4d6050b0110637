"""Checks every file of the log in a storage: checkpoints, tiles, bundles of entries, keys and time stamps."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping

from archiver.errors import VerificationError
from archiver.translog.merkle import HASH_BYTES
from archiver.translog.published_log import (
    CHECKPOINT,
    PublishedCheckpoint,
    PublishedLog,
    checkpoint_name,
    checkpoint_size,
    edge_of,
    read_checkpoint,
)
from archiver.translog.tile import HEIGHT, WIDTH, Bundle, Tile, bundles_of, pack_entries, parse_path, tiles_of
from archiver.translog.timestamp import anchor_name, anchor_place
from archiver.verify.anchors import anchor_problems
from archiver.verify.finding import Kind
from archiver.verify.log_copy import LogCopy
from archiver.verify.protection import Protection


class Files:
    """The files of one storage, under check."""

    def __init__(self, copy: LogCopy, protection: Protection) -> None:
        self._copy = copy
        self._protection = protection
        self._shelf = copy.shelf
        self._recorded = copy.recorded
        self._found = copy.found

    async def everything(self, newest: PublishedCheckpoint) -> None:
        """Check each file by its name, and that no piece or checkpoint is missing."""
        key = f"keys/{newest.checkpoint.origin}.vkey"
        await self._protection.protected(key)
        if await self._shelf.read(key) != f"{self._copy.trust.log_key.first.vkey}\n".encode():
            self._found(Kind.LOG_SHELF, key, "is not the log's key")
        tree = await self._opened(newest)
        first = await self._checkpoints(newest, tree)
        if tree is not None:
            await self._pieces(newest, tree)
        await self._others(newest, tree, key)
        await self._anchors(first)

    async def _opened(self, newest: PublishedCheckpoint) -> PublishedLog | None:
        size = newest.checkpoint.size
        for tile in edge_of(size) if self._recorded is not None else ():
            there = await self._shelf.read(tile.path)
            has = (
                (await self._recorded.tile(tile.level, tile.index))[: tile.width * HASH_BYTES]
                if self._recorded
                else b""
            )
            if there is not None and there != has:
                self._found(Kind.LOG_SHELF, tile.path, "is not the one that the database has")
        try:
            return await PublishedLog.open(self._shelf, size, newest.checkpoint.root)
        except VerificationError as exc:
            self._copy.failed("tile", exc)
            return None

    async def _checkpoints(self, newest: PublishedCheckpoint, tree: PublishedLog | None) -> int:
        """Check that each checkpoint opens, is not covered, has its place in the newest tree, and equals the database's
        note.

        Returns the size of the first. A storage that joined later, or that may lag behind, lacks some without fault.
        """
        first: int | None = None
        lacking = self._noted()
        noted = await anext(lacking, None)
        async for name in self._shelf.names("checkpoints/"):
            size = checkpoint_size(name)
            if size is None:
                continue  # reported with all invalid names
            if size > newest.checkpoint.size:
                break  # checked as the newest, or younger
            published = await self._copy.checkpoint(name)
            if published is None:
                continue
            while noted is not None and noted[0] < size:
                self._lacks(noted, first)
                noted = await anext(lacking, None)
            if noted is not None and noted[0] == size:
                if noted[1] != published.note:
                    self._found(Kind.LOG_SHELF, name, "is not the note that the database kept")
                noted = await anext(lacking, None)
            elif self._recorded is not None and not any(had < size <= until for had, until in self._recorded.lost):
                self._found(Kind.LOG_CHECKPOINT, name, f"custody_checkpoint has no checkpoint {size}")
            first = size if first is None else first
            await self._protection.protected(name)
            await self._in_tree(published, tree)
        while noted is not None and noted[0] < newest.checkpoint.size:
            self._lacks(noted, first)
            noted = await anext(lacking, None)
        return newest.checkpoint.size if first is None else first

    async def _in_tree(self, published: PublishedCheckpoint, tree: PublishedLog | None) -> None:
        size = published.checkpoint.size
        try:
            if tree is not None and await tree.root_at(size) != published.checkpoint.root:
                self._found(
                    Kind.LOG_SHELF, checkpoint_name(size), f"is not continued by the tree of {tree.size} leaves"
                )
        except VerificationError as exc:
            self._copy.failed(checkpoint_name(size), exc)

    async def _noted(self) -> AsyncIterator[tuple[int, bytes, bool]]:
        after = -1
        while self._recorded is not None and (page := await self._recorded.notes(after)):
            for size, (note, published) in page.items():
                yield size, note, published
            after = max(page)

    def _lacks(self, noted: tuple[int, bytes, bool], first: int | None) -> None:
        size, _, published = noted
        if not published:
            return  # signed, and overtaken by the next one before it was put here
        if first is None or not self._shelf.required:
            self._copy.result.unchecked[f"checkpoints that {self._shelf.id} does not have"] += 1
        else:
            self._found(Kind.LOG_SHELF, checkpoint_name(size), "is missing; the database calls it published")

    async def _pieces(self, newest: PublishedCheckpoint, tree: PublishedLog) -> None:
        """Check that each entry is the signed one, that each tile follows from the root, and that nothing covers
        them."""
        size = newest.checkpoint.size
        for tile in tiles_of(0, size):
            await self._piece(tile, tree.tile(tile.level, tile.index))
        for bundle in bundles_of(0, size):
            await self._piece(bundle, tree.entries(bundle.index))

    async def _piece(self, piece: Tile | Bundle, proving: Awaitable[object]) -> None:
        try:
            await proving
        except VerificationError as exc:
            self._copy.failed(piece.path, exc)
        if piece.width == WIDTH:
            await self._protection.protected(piece.path)
            return
        # Partial pieces may be put again, or go once a wider one is there; but a piece that is there never differs.
        await self._protection.uncovered(piece.path)
        current = await self._shelf.read_current(piece.path)
        if current is not None and current != await self._shelf.read(piece.path):
            self._found(Kind.LOG_SHELF, piece.path, "is covered by other bytes; the oldest version counts")

    async def _others(self, newest: PublishedCheckpoint, tree: PublishedLog | None, key: str) -> None:
        """Check that only files of this log lie there, and that the partial pieces of smaller trees are unchanged."""
        async for name in self._shelf.names(""):
            if name.startswith("tile/"):
                await self._other_piece(name, newest, tree)
            elif name.startswith("anchors/"):
                known = anchor_place(name) is not None
                if not known:
                    self._found(Kind.LOG_SHELF, name, "is no piece of this log")
            elif name.startswith(f"keys/{newest.checkpoint.origin}.rotations/"):
                await self._rotation(name)
            elif name not in {CHECKPOINT, key} and not (
                name.startswith("checkpoints/") and checkpoint_size(name) is not None
            ):
                self._found(Kind.LOG_SHELF, name, "is no piece of this log")

    async def _rotation(self, name: str) -> None:
        """Check a note that introduces one of the log's keys: it must be the signed one."""
        notes = {each.note for each in getattr(self._copy.trust.log_key, "rotations", ())}
        await self._protection.protected(name)
        if await self._shelf.read(name) not in notes:
            self._found(Kind.LOG_SHELF, name, "introduces a key that is not the log's")

    async def _other_piece(self, name: str, newest: PublishedCheckpoint, tree: PublishedLog | None) -> None:
        try:
            piece = parse_path(name)
        except VerificationError:
            self._found(Kind.LOG_SHELF, name, "is no piece of this log")
            return
        level = piece.level if isinstance(piece, Tile) else 0
        needs = (piece.index * WIDTH + piece.width) << HEIGHT * level
        if needs > newest.checkpoint.size:
            # Perhaps signed next: then the database has as many leaves.
            if self._recorded is not None and needs > (has := await self._recorded.size()):
                self._found(Kind.LOG_SHELF, name, f"lies beyond the log, which has {has} leaves")
        elif tree is not None and piece.width < WIDTH:
            with contextlib.suppress(VerificationError):  # reported with the whole piece
                if isinstance(piece, Tile):
                    wanted = (await tree.tile(level, piece.index))[: piece.width * HASH_BYTES]
                else:
                    wanted = pack_entries((await tree.entries(piece.index))[: piece.width])
                if await self._shelf.read(name) not in {wanted, None}:
                    self._copy.failed(name, VerificationError(f"{name} is not the one that was signed"))

    async def _anchors(self, first: int) -> None:
        """Check that each time stamp is over the checkpoint of its size, equals the database's, and that none is
        missing."""
        lacking = set(await self._recorded.stamps()) if self._recorded is not None else set()
        files: dict[str, bytes] = {}
        size: int | None = None
        async for name in self._shelf.names("anchors/"):
            place = anchor_place(name)
            if place is None:
                continue
            if place[0] != size:
                await self._anchor(size, files)
                size, files = place[0], {}
            await self._protection.protected(name)
            files[place[1]] = await self._shelf.read(name) or b""
            lacking.discard(place)
        await self._anchor(size, files)
        for at, file in sorted(lacking):
            if at >= first and self._shelf.required:
                self._found(Kind.LOG_ANCHOR, anchor_name(at, file), "is missing; the database has it")

    async def _anchor(self, size: int | None, files: Mapping[str, bytes]) -> None:
        if size is None:
            return
        prefix = f"anchors/{size}/"
        with contextlib.suppress(VerificationError):  # reported with the checkpoint
            published = await read_checkpoint(self._shelf, self._copy.trust.log_key, checkpoint_name(size))
            if published is None:
                self._found(Kind.LOG_ANCHOR, prefix, f"there is no {checkpoint_name(size)}")
                return
            has = await self._recorded.anchors(size) if self._recorded is not None else {}
            wrong = dict(anchor_problems(files, published.note, self._copy.trust.roots, {}))
            for file, content in files.items():
                if file.endswith(".tsr") and has.get(file, content) != content:
                    wrong.setdefault(file, "is not the time stamp that the database has")
            for file, problem in wrong.items():
                self._found(Kind.LOG_ANCHOR, prefix + file, problem)
