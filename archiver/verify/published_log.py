"""Checks that the log published in a storage is whole, equals the database's log, stays locked, and is not covered.
Reads only.

The daemon may keep running: the database's published size is read before any object of the storage, and the size of its
tree afterwards.
"""

from __future__ import annotations

from collections import deque

from archiver import errors
from archiver.errors import VerificationError
from archiver.store.port import Shelf
from archiver.translog.checkpoint import open_checkpoint
from archiver.translog.published_log import CHECKPOINT, PublishedCheckpoint, checkpoint_name, checkpoint_size
from archiver.verify.finding import Kind, Verification
from archiver.verify.leaves import Trust
from archiver.verify.log_copy import LogCopy
from archiver.verify.protection import ExpectedLock, Protection
from archiver.verify.published_files import Files
from archiver.verify.recorded_log import RecordedLog

_BACK = 100  # the number of names behind the newest checkpoint that may be invalid before the search ends


async def check_published_log(
    shelf: Shelf,
    trust: Trust,
    recorded: RecordedLog | None,
    result: Verification,
    *,
    whole: bool,
    expected: ExpectedLock | None = None,
) -> None:
    """Compare the newest checkpoint of one storage with the database; with `whole`, check every published log file
    there.

    Without `recorded` the published log is checked by itself. A storage that cannot be reached is noted as such.
    """
    copy = LogCopy(shelf, trust, recorded, result)
    try:
        newest = await _Newest(copy).newest()
        if whole and newest is not None:
            await Files(copy, Protection(copy, expected)).everything(newest)
    except errors.DestinationError as failed:
        result.unreachable[f"the log in {shelf.id}: {failed.detail}"] += 1


class _Newest:
    """The search for the newest checkpoint of a storage."""

    def __init__(self, copy: LogCopy) -> None:
        self._copy = copy
        self._shelf = copy.shelf
        self._recorded = copy.recorded
        self._found = copy.found

    async def newest(self) -> PublishedCheckpoint | None:
        """Return the newest checkpoint that opens, after comparing it with pointer and database."""
        pointer = await self._shelf.read_current(CHECKPOINT)
        pointed = None
        if pointer is not None:
            try:
                pointed = PublishedCheckpoint(open_checkpoint(pointer, self._copy.trust.log_key)[0], pointer)
            except VerificationError as exc:
                self._found(Kind.LOG_SHELF, CHECKPOINT, exc.detail)
        newest = await self._last_behind(pointed) or pointed
        size = newest.checkpoint.size if newest else 0
        if self._recorded is not None and self._recorded.last > size and not self._shelf.required:
            # An optional storage may lag behind.
            self._copy.result.unchecked[f"checkpoints that {self._shelf.id} does not have"] += 1
        elif self._recorded is not None and self._recorded.last > size:
            self._found(
                Kind.LOG_SHELF, checkpoint_name(self._recorded.last), "is missing; the database calls it published"
            )
        if newest is None:
            return None
        await self._pointer(pointer, pointed, newest)
        if self._recorded is not None:
            await self._continues(newest, self._recorded)
        return newest

    async def _last_behind(self, pointed: PublishedCheckpoint | None) -> PublishedCheckpoint | None:
        names: deque[str] = deque(maxlen=_BACK)
        after = checkpoint_name(pointed.checkpoint.size - 1) if pointed and pointed.checkpoint.size else ""
        async for name in self._shelf.names("checkpoints/", after):
            if checkpoint_size(name) is not None:
                names.append(name)
        for name in reversed(names):
            published = await self._copy.checkpoint(name)
            if published is not None:
                return published
        if pointed is not None and (name := checkpoint_name(pointed.checkpoint.size)) not in names:
            self._found(Kind.LOG_SHELF, name, "is missing; the pointer holds it")
        return None

    async def _pointer(
        self, pointer: bytes | None, pointed: PublishedCheckpoint | None, newest: PublishedCheckpoint
    ) -> None:
        size = newest.checkpoint.size
        if pointer is not None and (pointed is None or pointer == newest.note):
            return  # reported already, or as it should be
        if pointed is not None and pointed.checkpoint.size == size:
            self._found(Kind.LOG_SHELF, CHECKPOINT, f"is another note than {checkpoint_name(size)}")
        elif self._recorded is None or self._recorded.last >= size:  # otherwise it is just being published
            self._found(Kind.LOG_SHELF, CHECKPOINT, f"does not point to the newest, {size} leaves")

    async def _continues(self, newest: PublishedCheckpoint, recorded: RecordedLog) -> None:
        """Check that the database has the published tree."""
        size, name = newest.checkpoint.size, checkpoint_name(newest.checkpoint.size)
        has = await recorded.size()
        if size > has:
            self._found(Kind.LOG_ROLLBACK, name, f"{size} leaves were published, the database has {has}")
            return
        try:
            root = await recorded.root_at(size)
        except VerificationError as exc:
            self._found(Kind.LOG_TILE, name, f"the database cannot tell its root at {size} leaves: {exc.detail}")
            return
        if root != newest.checkpoint.root:
            self._found(Kind.LOG_SHELF, name, "was signed over another tree than the database has")
