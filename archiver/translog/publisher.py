"""Publishes the log from the database to the storages: bundles and tiles, then the signature, then the checkpoint. So
the files that a checkpoint claims are always there.

What if we die after any step? The next pass derives the same bytes from the same leaves and finds them there. A lost
signature is made again; a checkpoint that was kept and not published is published first, with exactly the bytes that
were kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from archiver.clock import Clock
from archiver.database import Connection, Engine, Writer, read
from archiver.errors import (
    ArchiverError,
    ConfigurationError,
    ConflictError,
    ForkedError,
    RolledBackError,
    UnavailableError,
    VerificationError,
)
from archiver.store.port import Shelf
from archiver.translog import forks, publication_rows, reader
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.database_log import DatabaseLog
from archiver.translog.notary import Conflict, Notary
from archiver.translog.published_log import (
    CHECKPOINT,
    PublishedCheckpoint,
    checkpoint_name,
    edge_of,
    newest_checkpoint,
    rotation_name,
)
from archiver.translog.tile import HEIGHT, WIDTH, Bundle, Tile, bundles_of, tiles_of
from archiver.translog.witness import Witness
from archiver.wall import ours

T = TypeVar("T")

_AT_ONCE = 8  # pieces read and put together: a few MiB at most
_REST = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """The result of one pass. `problems` names what lags behind: optional storages and witnesses."""

    checkpoint: Checkpoint
    note: bytes
    problems: Mapping[str, ArchiverError] = field(default_factory=dict)


class Publisher:
    """Publishes one log on its storages. Run `start` first, and again whenever this process begins to hold the
    sequencer's lease.

    One publisher at a time is enough; two at once are slow, but not wrong. Raises `DestinationError` and
    `UnavailableError` (try later), `RolledBackError` and other `VerificationError`s (stop: somebody must look).
    """

    def __init__(
        self,
        engine: Engine,
        writer: Writer,
        log_id: int,
        notary: Notary,
        shelves: Sequence[Shelf],
        clock: Clock,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._log_id = log_id
        self._notary = notary
        self._shelves = shelves
        self._clock = clock
        self._witnesses = witnesses
        self._rest_until: dict[str, float] = {}
        self._sizes: dict[str, int] = {}  # the newest checkpoint of each storage that was looked at
        self._through_gate = False
        self._introduced: set[str] = set()  # the storages that have the notes of the log's keys
        self.origin = notary.key.name
        self._database = DatabaseLog(engine, log_id, self.origin, notary.keys)

    @property
    def floor(self) -> int:
        """The largest tree size that is known to be published: a database with fewer leaves was rolled back."""
        return max(self._sizes.values(), default=0)

    def guard(self, conn: Connection) -> None:
        """Raises `RolledBackError` if the database lost published leaves; for the transaction that is about to grow the
        log.

        A failover that loses commits does not always end a process; leaves appended after it would contradict published
        ones.
        """
        size, _ = reader.tree(conn, self._log_id)
        if size < self.floor:
            raise RolledBackError(f"{self.floor} leaves were published, the database has {size}")

    # --- the check before anything is signed ---------------------------------------------------------------------

    async def start(self) -> Mapping[str, ArchiverError]:
        """Checks that notary, storages and database agree on one history, and that the database is no shorter; before
        that nothing is signed.

        Raises `RolledBackError` when the database has fewer leaves than were signed or published, another
        `VerificationError` when it has other leaves. A notary whose file is older than the published tree learns of
        that tree here. Returns the errors of the optional storages that could not be asked.
        """
        self._through_gate = False
        self._sizes.clear()
        problems: dict[str, ArchiverError] = {}
        known = []
        for shelf in self._shelves:
            found = await self._unless_optional(shelf, problems, self._newest_of(shelf))
            if found is not None:  # whatever storage it is on, the notary signed it
                await self._database.continues(shelf.id, found.checkpoint, found.note)
                known.append(found.checkpoint)
            if shelf.id not in problems:
                self._sizes[shelf.id] = found.checkpoint.size if found else 0
        state = await read(self._engine, self._database.state)
        replaced = await read(self._engine, publication_rows.newest_rotation)
        if replaced is not None and replaced[0].old == self._notary.key:
            raise ConfigurationError(
                "the custody key was replaced, and this is the old one: see docs/howto/rotate-custody-key.md"
            )
        for witness in self._witnesses:
            key = witness.key
            witness.remember(await read(self._engine, lambda conn: forks.last_cosigned(conn, self._log_id, key)))  # noqa: B023
        if state.newest is not None:
            known.append(self._database.opened(state.newest))
            await self._database.continues("custody_checkpoint", known[-1], state.newest.note.encode())
        signed = await asyncio.to_thread(self._notary.last, self.origin)
        await self._database.continues("the notary", Checkpoint(self.origin, signed.size, signed.root))
        newest = max(known, key=lambda each: each.size, default=None)
        if newest is not None and newest.size > signed.size:
            proof = await self._database.prove(signed.size, newest.size)
            await asyncio.to_thread(self._notary.catch_up, newest, proof)
        self._through_gate = True
        return problems

    async def _newest_of(self, shelf: Shelf) -> PublishedCheckpoint | None:
        try:
            return await newest_checkpoint(shelf, self._notary.keys)
        except VerificationError as wrong:
            raise VerificationError(
                f"{wrong.detail}. If the custody key was replaced: `archiver keys rotate custody` lets the old key introduce"
                " the new one (docs/howto/rotate-custody-key.md)"
            ) from wrong

    # --- one pass -----------------------------------------------------------------------------------------------

    async def publish(self, until: datetime | None) -> Issued | None:
        """Publishes the log's growth since the last pass; returns None when there was none. `until` is the lock date of
        files that must never change.

        Every required storage has everything when this returns; an optional storage is brought up to date when
        possible.
        """
        if not self._through_gate:
            await self.start()
        await read(self._engine, self.guard)
        state = await read(self._engine, self._database.state)
        newest = state.newest
        if newest is None or (newest.published_at is not None and newest.size < state.size):
            newest, checkpoint = None, Checkpoint(self.origin, state.size, state.root)
        else:  # kept, and not published yet, at least not everywhere
            checkpoint = self._database.opened(newest)
            if newest.published_at is not None and not self._lacking(newest.size):
                return None
            await self._database.continues("custody_checkpoint", checkpoint)
        if checkpoint.size == 0:
            return None
        return await self._publish(checkpoint, newest.note if newest else None, until)

    async def _publish(self, checkpoint: Checkpoint, note: str | None, until: datetime | None) -> Issued:
        problems: dict[str, ArchiverError] = {}
        lacking = self._lacking(checkpoint.size)
        for shelf in lacking:
            await self._unless_optional(shelf, problems, self._bring(shelf, checkpoint.size, until))
        if note is None:
            note = await self._sign(checkpoint, problems)
        for shelf in lacking:
            if shelf.id not in problems:
                await self._unless_optional(shelf, problems, self._issue(shelf, checkpoint.size, note.encode(), until))
        now = self._clock.now()
        await self._writer.run(lambda conn: publication_rows.keep_published(conn, self._log_id, checkpoint.size, now))
        return Issued(checkpoint, note.encode(), problems)

    async def pin(self, size: int, until: datetime | None) -> None:
        """Locks the partial tiles and the partial bundle of a published tree, whose last entries are in no other file.

        Use this for one tree a day, the one with the daily anchor: locking every partial tile would fill the storage
        for years.
        """
        pieces: list[Tile | Bundle] = [*edge_of(size)]
        if width := size % WIDTH:
            pieces.append(Bundle(size >> HEIGHT, width))
        for content in await read(
            self._engine, lambda conn: [(each.path, self._database.content(conn, each)) for each in pieces]
        ):
            for shelf in self._shelves:
                await self._unless_optional(shelf, {}, shelf.put_new(*content, until))

    def _lacking(self, size: int) -> list[Shelf]:
        """Returns the storages whose newest checkpoint is not of this size, except those that are left alone after a
        failure."""
        return [each for each in self._shelves if self._sizes.get(each.id) != size and not self._rests(each.id)]

    async def _bring(self, shelf: Shelf, size: int, until: datetime | None) -> None:
        """Puts those pieces of the tree of this size that the storage lacks."""
        if shelf.id not in self._sizes:  # it could not be reached at the start
            found = await newest_checkpoint(shelf, self._notary.keys)
            if found is not None:
                await self._database.continues(shelf.id, found.checkpoint, found.note)
            self._sizes[shelf.id] = found.checkpoint.size if found else 0
        base = self._sizes[shelf.id]
        if base == 0:
            await self._put_new(shelf, f"keys/{self.origin}.vkey", f"{self._notary.keys.first.vkey}\n".encode(), until)
        if shelf.id not in self._introduced:
            for each in self._notary.keys.rotations:
                await self._put_new(shelf, rotation_name(self.origin, each), each.note, until)
            self._introduced.add(shelf.id)
        for pieces in _batches(itertools.chain[Tile | Bundle](bundles_of(base, size), tiles_of(base, size))):
            contents = await read(self._engine, lambda conn: [self._database.content(conn, each) for each in pieces])  # noqa: B023
            await asyncio.gather(
                *(
                    self._put_new(shelf, each.path, content, until)
                    if each.width == WIDTH
                    else shelf.put_current(each.path, content)
                    for each, content in zip(pieces, contents, strict=True)
                )
            )

    async def _sign(self, checkpoint: Checkpoint, problems: dict[str, ArchiverError]) -> str:
        """Returns the note, signed, cosigned and kept; from here on it is the note of this size."""
        last = await asyncio.to_thread(self._notary.last, self.origin)
        if last.size > checkpoint.size:
            size, _ = await read(self._engine, lambda conn: reader.tree(conn, self._log_id))
            if size < last.size:
                raise RolledBackError(f"{last.size} leaves were signed, the database has {size}")
            raise UnavailableError("another publisher has signed a larger tree meanwhile")
        proof = await self._database.prove(last.size, checkpoint.size)
        try:
            line = await asyncio.to_thread(self._notary.add_checkpoint, last.size, proof, checkpoint)
        except Conflict as conflict:
            raise UnavailableError("another publisher has signed meanwhile") from conflict
        note = f"{checkpoint.body}\n{line}"
        lines = await asyncio.gather(*(self._cosignature(each, checkpoint, note, problems) for each in self._witnesses))
        cosigned, now = note + "".join(lines), self._clock.now()
        return await self._writer.run(
            lambda conn: publication_rows.keep_signed(conn, self._log_id, checkpoint, cosigned, now)
        )

    async def _cosignature(
        self, witness: Witness, checkpoint: Checkpoint, note: str, problems: dict[str, ArchiverError]
    ) -> str:
        """Returns the witness's line, or nothing: the log does not wait for witnesses. After a failure the witness is
        left alone for a minute."""
        name = witness.key.name
        if self._rests(name):
            return ""
        try:
            prove = ours(
                lambda old: self._database.prove(old, checkpoint.size)
            )  # the database's faults are not the witness's
            return await witness.cosign(checkpoint, note.encode(), prove)
        except ArchiverError as failed:
            problems[name] = failed
            if isinstance(failed, ForkedError) and failed.size is not None and await self._grown(failed.size):
                problems[name] = UnavailableError(f"witness {name} was shown a larger tree by another publisher")
            self._rest(name)
            return ""

    async def _grown(self, size: int) -> bool:
        return (await read(self._engine, lambda conn: reader.tree(conn, self._log_id)))[0] >= size

    async def _unless_optional(self, shelf: Shelf, problems: dict[str, ArchiverError], doing: Awaitable[T]) -> T | None:
        """Awaits `doing`; an optional storage that fails delays nobody, and is left alone for a minute."""
        try:
            return await doing
        except ArchiverError as failed:
            if shelf.required:
                raise
            problems[shelf.id] = failed
            self._rest(shelf.id)
            return None

    def _rest(self, name: str) -> None:
        self._rest_until[name] = self._clock.monotonic() + _REST.total_seconds()

    def _rests(self, name: str) -> bool:
        return self._clock.monotonic() < self._rest_until.get(name, 0.0)

    async def _put_new(self, shelf: Shelf, name: str, content: bytes, until: datetime | None) -> None:
        """Puts a new file. Raises `ForkedError` where another file has this name: somebody published another history
        there."""
        try:
            await shelf.put_new(name, content, until)
        except ConflictError as conflict:
            theirs = await shelf.read(name) or b""
            ours, other = (_shown(name, each) for each in (content, theirs))
            raise ForkedError(
                f"{name} is there with other bytes", where=shelf.id, ours=ours, theirs=other
            ) from conflict

    async def _issue(self, shelf: Shelf, size: int, note: bytes, until: datetime | None) -> None:
        await self._put_new(shelf, checkpoint_name(size), note, until)
        if size >= self._sizes[shelf.id]:  # an older one may have been kept and not published
            await shelf.put_current(CHECKPOINT, note)
            self._sizes[shelf.id] = size


def _shown(name: str, content: bytes) -> str:
    """Returns a checkpoint's text as it is; of another file, its length and SHA-256."""
    if name.startswith("checkpoints/"):
        return content.decode("utf-8", "replace")
    return f"{name}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}"


def _batches(pieces: Iterator[Tile | Bundle]) -> Iterator[list[Tile | Bundle]]:
    while batch := list(itertools.islice(pieces, _AT_ONCE)):
        yield batch
