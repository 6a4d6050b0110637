"""Checks that the log published in a storage is whole, equals the database's log, stays locked, and is not covered. Reads only.

The daemon may keep running: the database's published size is read before any object of the storage, and the size of its
tree afterwards.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver import errors
from archiver.errors import VerificationError
from archiver.recording import LockMode
from archiver.store.port import Shelf
from archiver.translog.checkpoint import open_checkpoint
from archiver.translog.merkle import HASH_BYTES
from archiver.translog.published_log import (
    CHECKPOINT,
    Published,
    ShelvedLog,
    checkpoint_name,
    checkpoint_size,
    edge_of,
    read_checkpoint,
)
from archiver.translog.tile import HEIGHT, WIDTH, Bundle, Tile, bundles_of, pack_entries, parse_path, tiles_of
from archiver.translog.timestamp import anchor_name, anchor_place
from archiver.verify.anchors import anchor_problems
from archiver.verify.finding import LOCK_STRENGTH, Finding, Kind, Verification
from archiver.verify.leaves import Trust

_EXPIRY = timedelta(days=1)
_BACK = 100  # the number of names behind the newest checkpoint that may be invalid before the search ends


@dataclass(frozen=True, slots=True)
class Kept:
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


@dataclass(frozen=True, slots=True)
class Locked:
    """The lock that the storage must show on files that never change: its mode, and its end by today's rules for a day
    of writing.
    """

    mode: LockMode
    until: Callable[[datetime], datetime]


async def check_shelf(
    shelf: Shelf,
    trust: Trust,
    kept: Kept | None,
    result: Verification,
    *,
    whole: bool,
    locked: Locked | None = None,
) -> None:
    """Compare the newest checkpoint of one storage with the database; with `whole`, check every published log file there.

    Without `kept` the published log is checked by itself. A storage that cannot be reached is noted as such.
    """
    check = _Check(shelf, trust, kept, result, locked)
    try:
        newest = await check.newest()
        if whole and newest is not None:
            await check.everything(newest)
    except errors.DestinationError as failed:
        result.unreachable[f"the log in {shelf.id}: {failed.detail}"] += 1


class _Check:
    def __init__(
        self, shelf: Shelf, trust: Trust, kept: Kept | None, result: Verification, locked: Locked | None
    ) -> None:
        self._shelf = shelf
        self._trust = trust
        self._kept = kept
        self._result = result
        self._locked = locked
        self._until: dict[str, datetime] = {}  # by series of pieces: the longest lock so far
        self._said: set[str] = set()

    def found(self, kind: Kind, name: str, detail: str) -> None:
        self._result.findings.append(
            Finding(kind, f"log in {self._shelf.id}", f"{name}: {detail}", storage=self._shelf.id, key=name)
        )

    def failed(self, name: str, exc: VerificationError) -> None:
        """Add a finding at the piece that the error names, else at `name`; only once, even when other pieces depend on
        that piece.
        """
        detail = exc.detail.removeprefix(f"{self._shelf.id}: ")
        if detail in self._said:
            return
        self._said.add(detail)
        named, _, rest = detail.partition(" ")
        if named.startswith(("tile/", "checkpoints/")):
            name, detail = named.rstrip(":"), rest
        self.found(Kind.LOG_SHELF, name, detail)

    # --- the newest checkpoint ------------------------------------------------------------------------------------

    async def newest(self) -> Published | None:
        """Return the newest checkpoint that opens, after comparing it with pointer and database."""
        pointer = await self._shelf.read_current(CHECKPOINT)
        pointed = None
        if pointer is not None:
            try:
                pointed = Published(open_checkpoint(pointer, self._trust.log_key)[0], pointer)
            except VerificationError as exc:
                self.found(Kind.LOG_SHELF, CHECKPOINT, exc.detail)
        newest = await self._last_behind(pointed) or pointed
        size = newest.checkpoint.size if newest else 0
        if self._kept is not None and self._kept.last > size and not self._shelf.required:
            # An optional storage may lag behind.
            self._result.unchecked[f"checkpoints that {self._shelf.id} does not have"] += 1
        elif self._kept is not None and self._kept.last > size:
            self.found(Kind.LOG_SHELF, checkpoint_name(self._kept.last), "is missing; the database calls it published")
        if newest is None:
            return None
        await self._pointer(pointer, pointed, newest)
        if self._kept is not None:
            await self._continues(newest, self._kept)
        return newest

    async def _last_behind(self, pointed: Published | None) -> Published | None:
        names: deque[str] = deque(maxlen=_BACK)
        after = checkpoint_name(pointed.checkpoint.size - 1) if pointed and pointed.checkpoint.size else ""
        async for name in self._shelf.names("checkpoints/", after):
            if checkpoint_size(name) is not None:
                names.append(name)
        for name in reversed(names):
            published = await self._checkpoint(name)
            if published is not None:
                return published
        if pointed is not None and (name := checkpoint_name(pointed.checkpoint.size)) not in names:
            self.found(Kind.LOG_SHELF, name, "is missing; the pointer holds it")
        return None

    async def _checkpoint(self, name: str) -> Published | None:
        try:
            return await read_checkpoint(self._shelf, self._trust.log_key, name)
        except VerificationError as exc:
            self.failed(name, exc)
            return None

    async def _pointer(self, pointer: bytes | None, pointed: Published | None, newest: Published) -> None:
        size = newest.checkpoint.size
        if pointer is not None and (pointed is None or pointer == newest.note):
            return  # reported already, or as it should be
        if pointed is not None and pointed.checkpoint.size == size:
            self.found(Kind.LOG_SHELF, CHECKPOINT, f"is another note than {checkpoint_name(size)}")
        elif self._kept is None or self._kept.last >= size:  # otherwise it is just being published
            self.found(Kind.LOG_SHELF, CHECKPOINT, f"does not point to the newest, {size} leaves")

    async def _continues(self, newest: Published, kept: Kept) -> None:
        """Check that the database has the published tree."""
        size, name = newest.checkpoint.size, checkpoint_name(newest.checkpoint.size)
        has = await kept.size()
        if size > has:
            self.found(Kind.LOG_ROLLBACK, name, f"{size} leaves were published, the database has {has}")
            return
        try:
            root = await kept.root_at(size)
        except VerificationError as exc:
            self.found(Kind.LOG_TILE, name, f"the database cannot tell its root at {size} leaves: {exc.detail}")
            return
        if root != newest.checkpoint.root:
            self.found(Kind.LOG_SHELF, name, "was signed over another tree than the database has")

    # --- all files ------------------------------------------------------------------------------------------------

    async def everything(self, newest: Published) -> None:
        """Check each file by its name, and that no piece or checkpoint is missing."""
        key = f"keys/{newest.checkpoint.origin}.vkey"
        await self._protected(key)
        if await self._shelf.read(key) != f"{self._trust.log_key.first.vkey}\n".encode():
            self.found(Kind.LOG_SHELF, key, "is not the log's key")
        tree = await self._opened(newest)
        first = await self._checkpoints(newest, tree)
        if tree is not None:
            await self._pieces(newest, tree)
        await self._others(newest, tree, key)
        await self._anchors(first)

    async def _opened(self, newest: Published) -> ShelvedLog | None:
        size = newest.checkpoint.size
        for tile in edge_of(size) if self._kept is not None else ():
            there = await self._shelf.read(tile.path)
            has = (await self._kept.tile(tile.level, tile.index))[: tile.width * HASH_BYTES] if self._kept else b""
            if there is not None and there != has:
                self.found(Kind.LOG_SHELF, tile.path, "is not the one that the database has")
        try:
            return await ShelvedLog.open(self._shelf, size, newest.checkpoint.root)
        except VerificationError as exc:
            self.failed("tile", exc)
            return None

    async def _checkpoints(self, newest: Published, tree: ShelvedLog | None) -> int:
        """Check that each checkpoint opens, is not covered, has its place in the newest tree, and equals the database's note.

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
            published = await self._checkpoint(name)
            if published is None:
                continue
            while noted is not None and noted[0] < size:
                self._lacks(noted, first)
                noted = await anext(lacking, None)
            if noted is not None and noted[0] == size:
                if noted[1] != published.note:
                    self.found(Kind.LOG_SHELF, name, "is not the note that the database kept")
                noted = await anext(lacking, None)
            elif self._kept is not None and not any(had < size <= until for had, until in self._kept.lost):
                self.found(Kind.LOG_CHECKPOINT, name, f"custody_checkpoint has no checkpoint {size}")
            first = size if first is None else first
            await self._protected(name)
            await self._in_tree(published, tree)
        while noted is not None and noted[0] < newest.checkpoint.size:
            self._lacks(noted, first)
            noted = await anext(lacking, None)
        return newest.checkpoint.size if first is None else first

    async def _in_tree(self, published: Published, tree: ShelvedLog | None) -> None:
        size = published.checkpoint.size
        try:
            if tree is not None and await tree.root_at(size) != published.checkpoint.root:
                self.found(Kind.LOG_SHELF, checkpoint_name(size), f"is not continued by the tree of {tree.size} leaves")
        except VerificationError as exc:
            self.failed(checkpoint_name(size), exc)

    async def _noted(self) -> AsyncIterator[tuple[int, bytes, bool]]:
        after = -1
        while self._kept is not None and (page := await self._kept.notes(after)):
            for size, (note, published) in page.items():
                yield size, note, published
            after = max(page)

    def _lacks(self, noted: tuple[int, bytes, bool], first: int | None) -> None:
        size, _, published = noted
        if not published:
            return  # signed, and overtaken by the next one before it was put here
        if first is None or not self._shelf.required:
            self._result.unchecked[f"checkpoints that {self._shelf.id} does not have"] += 1
        else:
            self.found(Kind.LOG_SHELF, checkpoint_name(size), "is missing; the database calls it published")

    async def _pieces(self, newest: Published, tree: ShelvedLog) -> None:
        """Check that each entry is the signed one, that each tile follows from the root, and that nothing covers them."""
        size = newest.checkpoint.size
        for tile in tiles_of(0, size):
            await self._piece(tile, tree.tile(tile.level, tile.index))
        for bundle in bundles_of(0, size):
            await self._piece(bundle, tree.entries(bundle.index))

    async def _piece(self, piece: Tile | Bundle, proving: Awaitable[object]) -> None:
        try:
            await proving
        except VerificationError as exc:
            self.failed(piece.path, exc)
        if piece.width == WIDTH:
            await self._protected(piece.path)
            return
        # Partial pieces may be put again, or go once a wider one is there; but a piece that is there never differs.
        await self._uncovered(piece.path)
        current = await self._shelf.read_current(piece.path)
        if current is not None and current != await self._shelf.read(piece.path):
            self.found(Kind.LOG_SHELF, piece.path, "is covered by other bytes; the oldest version counts")

    async def _uncovered(self, name: str) -> None:
        """Check that no delete marker covers the newest partial pieces. A rule that removes old partial pieces takes a
        day or more.
        """
        versions = await self._shelf.versions(name)
        markers = [each.modified_at for each in versions if each.is_delete_marker]
        puts = [each.modified_at for each in versions if not each.is_delete_marker]
        if markers and puts and min(markers) - max(puts) < _EXPIRY:
            self.found(Kind.LOG_SHELF, name, "is covered by a delete marker; the version is still there")

    async def _others(self, newest: Published, tree: ShelvedLog | None, key: str) -> None:
        """Check that only files of this log lie there, and that the partial pieces of smaller trees are unchanged."""
        async for name in self._shelf.names(""):
            if name.startswith("tile/"):
                await self._other_piece(name, newest, tree)
            elif name.startswith("anchors/"):
                known = anchor_place(name) is not None
                if not known:
                    self.found(Kind.LOG_SHELF, name, "is no piece of this log")
            elif name.startswith(f"keys/{newest.checkpoint.origin}.rotations/"):
                await self._rotation(name)
            elif name not in {CHECKPOINT, key} and not (
                name.startswith("checkpoints/") and checkpoint_size(name) is not None
            ):
                self.found(Kind.LOG_SHELF, name, "is no piece of this log")

    async def _rotation(self, name: str) -> None:
        """Check a note that introduces one of the log's keys: it must be the signed one."""
        notes = {each.note for each in getattr(self._trust.log_key, "rotations", ())}
        await self._protected(name)
        if await self._shelf.read(name) not in notes:
            self.found(Kind.LOG_SHELF, name, "introduces a key that is not the log's")

    async def _other_piece(self, name: str, newest: Published, tree: ShelvedLog | None) -> None:
        try:
            piece = parse_path(name)
        except VerificationError:
            self.found(Kind.LOG_SHELF, name, "is no piece of this log")
            return
        level = piece.level if isinstance(piece, Tile) else 0
        needs = (piece.index * WIDTH + piece.width) << HEIGHT * level
        if needs > newest.checkpoint.size:
            # Perhaps signed next: then the database has as many leaves.
            if self._kept is not None and needs > (has := await self._kept.size()):
                self.found(Kind.LOG_SHELF, name, f"lies beyond the log, which has {has} leaves")
        elif tree is not None and piece.width < WIDTH:
            with contextlib.suppress(VerificationError):  # reported with the whole piece
                if isinstance(piece, Tile):
                    wanted = (await tree.tile(level, piece.index))[: piece.width * HASH_BYTES]
                else:
                    wanted = pack_entries((await tree.entries(piece.index))[: piece.width])
                if await self._shelf.read(name) not in {wanted, None}:
                    self.failed(name, VerificationError(f"{name} is not the one that was signed"))

    async def _anchors(self, first: int) -> None:
        """Check that each time stamp is over the checkpoint of its size, equals the database's, and that none is missing."""
        lacking = set(await self._kept.stamps()) if self._kept is not None else set()
        files: dict[str, bytes] = {}
        size: int | None = None
        async for name in self._shelf.names("anchors/"):
            place = anchor_place(name)
            if place is None:
                continue
            if place[0] != size:
                await self._anchor(size, files)
                size, files = place[0], {}
            await self._protected(name)
            files[place[1]] = await self._shelf.read(name) or b""
            lacking.discard(place)
        await self._anchor(size, files)
        for at, file in sorted(lacking):
            if at >= first and self._shelf.required:
                self.found(Kind.LOG_ANCHOR, anchor_name(at, file), "is missing; the database has it")

    async def _anchor(self, size: int | None, files: Mapping[str, bytes]) -> None:
        if size is None:
            return
        prefix = f"anchors/{size}/"
        with contextlib.suppress(VerificationError):  # reported with the checkpoint
            published = await read_checkpoint(self._shelf, self._trust.log_key, checkpoint_name(size))
            if published is None:
                self.found(Kind.LOG_ANCHOR, prefix, f"there is no {checkpoint_name(size)}")
                return
            has = await self._kept.anchors(size) if self._kept is not None else {}
            wrong = dict(anchor_problems(files, published.note, self._trust.roots, {}))
            for file, content in files.items():
                if file.endswith(".tsr") and has.get(file, content) != content:
                    wrong.setdefault(file, "is not the time stamp that the database has")
            for file, problem in wrong.items():
                self.found(Kind.LOG_ANCHOR, prefix + file, problem)

    # --- versions and locks ---------------------------------------------------------------------------------------

    async def _protected(self, name: str) -> None:
        """Check that the lock holds and that nothing covers a file: the lock protects versions, not names."""
        versions = await self._shelf.versions(name)
        puts = [each for each in versions if not each.is_delete_marker]
        if len(puts) < len(versions):
            self.found(Kind.LOG_SHELF, name, "is covered by a delete marker; the version is still there")
        elif len(puts) > 1:
            self.found(Kind.LOG_SHELF, name, f"has {len(puts)} versions where one was put; the oldest counts")
        if puts and self._locked is not None and self._locked.mode is not LockMode.OFF:
            await self._lock(name, puts[0].modified_at, self._locked)

    async def _lock(self, name: str, put_at: datetime, rules: Locked) -> None:
        """Report a weaker or shorter lock than the rules demand.

        Too short is a lock that ends before the date that today's rules give for the day of writing *and* before the
        lock of an older piece: a change of the rules since then is no fault.
        """
        lock = await self._shelf.lock(name)
        if lock is None:
            return
        if LOCK_STRENGTH[lock.mode] < LOCK_STRENGTH[rules.mode] or lock.retain_until is None:
            self.found(Kind.LOCK_WEAKER, name, f"is to be locked in {rules.mode} mode, the storage shows {lock.mode}")
            return
        series = "tile" if name.startswith("tile/") else name.partition("/")[0]
        longest = max(self._until.get("keys", lock.retain_until), self._until.get(series, lock.retain_until))
        if lock.retain_until < longest and lock.retain_until < rules.until(put_at):
            self.found(
                Kind.LOCK_SHORTER,
                name,
                f"is locked until {lock.retain_until:%Y-%m-%d %H:%M}, an older piece until {longest:%Y-%m-%d %H:%M}",
            )
        self._until[series] = max(longest, lock.retain_until)
