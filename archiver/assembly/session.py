"""Opens an archive, part by part as a command or the daemon asks for them, and closes all parts in the end.

There is no other way: no other part of the program opens a ledger, and no command decrypts but through the gate that
`session` passes (`tests/docs/test_architecture.py`), so that a new command cannot forget it. The daemon passes the same
gate in `assemble`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import errors
from archiver.assembly.database import database
from archiver.assembly.keys import signing_key
from archiver.assembly.log import LogParts, build_keeper, enrol, open_custody_log, pass_gate
from archiver.assembly.providers import reading_providers
from archiver.assembly.stores import build_stores
from archiver.clock import Chance, Clock, SystemChance, SystemClock
from archiver.config import model
from archiver.custody.ledger import Appended, Ledger
from archiver.database import Connection, Engine, Writer, check_schema, read
from archiver.fetch.spool import lock_state_dir
from archiver.hours import DATABASE, Hours
from archiver.providers.port import Provider
from archiver.recording import Json
from archiver.schedule import lease
from archiver.store.guarded import Doubt
from archiver.store.port import ObjectStore
from archiver.translog.keeper import Keeper, publish_through
from archiver.translog.notary import Notary
from archiver.wall import Walls

T = TypeVar("T")

_CLOSING = 2.0


class _Party(Protocol):
    async def aclose(self) -> None: ...


P = TypeVar("P", bound=_Party)


class Archive:
    """An archive as configured, whose parts are opened when they are first asked for.

    Each part opens what it needs. At the end of the block, the parts that talk to others are closed together, within
    two seconds even if one hangs; then our own, the last one opened first. `clock` follows the other parties' clocks as
    far as they are heard.
    """

    def __init__(self, config: model.Config, *, clock: Clock | None = None, chance: Chance | None = None) -> None:
        self.config = config
        self.clock = Hours(clock or SystemClock())
        self.chance = chance or SystemChance()
        self.walls = Walls(self.clock)
        self._parties: list[_Party] = []
        self._own = AsyncExitStack()
        self._engine: Engine | None = None
        self._writer: Writer | None = None
        self._stores: dict[str, ObjectStore] | None = None
        self._providers: dict[str, Provider] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every part that was opened. May be called twice."""
        try:
            await self._part_from_others()
        finally:
            await self._own.aclose()

    def lock(self) -> None:
        """Holds the state directory for this process alone. Raises `NotAllowedError` where another process has it."""
        self._own.enter_context(lock_state_dir(Path(self.config.state_dir)))

    async def database(self) -> Engine:
        """Opens the database. Raises `ConfigurationError`, `SchemaError` or `UnavailableError`."""
        if self._engine is None:
            engine = self._own.enter_context(database(self.config, checked=False))
            # In a thread: while the database hangs, a signal is still heard.
            await asyncio.to_thread(check_schema, engine)
            if engine.dialect.name != "sqlite":
                self.clock.heard(DATABASE, await read(engine, lease.database_time))
            self._engine = engine
        return self._engine

    async def writer(self) -> Writer:
        """Opens the database for changes. Raises what `database` raises."""
        if self._writer is None:
            self._writer = Writer(await self.database())
            self._own.callback(self._writer.close, _CLOSING)
        return self._writer

    def stores(self) -> dict[str, ObjectStore]:
        """Opens every configured storage, by id. Raises `ConfigurationError` for unreadable credentials."""
        if self._stores is None:
            self._stores = build_stores(self.config, self.clock.raw, self.chance, self.walls, self.clock)
            self._parties += self._stores.values()
        return self._stores

    def providers(self, *, asked: bool = False) -> dict[str, Provider]:
        """Opens every configured provider for reading, by id; as `reading_providers` does."""
        if self._providers is None:
            self._providers = reading_providers(self.config, self.clock, asked=asked, walls=self.walls)
            self._parties += self._providers.values()
        return self._providers

    def ledger(self, person: Mapping[str, Json] | None = None) -> Ledger:
        """Makes a ledger with a fresh session key. Its enrolment comes after the gate."""
        return Ledger.open(self.clock, self.chance, person)

    async def custody_log(self, notary: Notary | None = None, doubt: Doubt | None = None) -> LogParts:
        """Opens the custody log: its notary, its files in the storages, and those who vouch for it."""
        stores, engine, writer = self.stores(), await self.database(), await self.writer()
        parts = await open_custody_log(
            self.config, engine, writer, stores, self.clock, notary, walls=self.walls, doubt=doubt
        )
        self.closes(parts.client)
        return parts

    async def session(
        self,
        *,
        without_storage: bool = False,
        person: Mapping[str, Json] | None = None,
        notary: Notary | None = None,
    ) -> Session:
        """Opens a session behind the gate: notary, storages and database agree, or nothing is written.

        Raises `RolledBackError` for a database that lost published events, another `VerificationError` where there are
        two histories, `UnavailableError` while a required storage cannot be asked. `without_storage` is for reports on
        the storages: these commands write, as the daemon does, even if a storage is away or contradicts, unless the
        database was rolled back. `person` is the private group that says who gave the command.
        """
        stores, engine, writer, ours = self.stores(), await self.database(), await self.writer(), self.chance.uuid()
        ledger, host_key = self.ledger(person), signing_key(self.config)
        log = await self.custody_log(notary)
        doubt = await pass_gate(log, engine, writer, self.clock, without_storage=without_storage)
        keeper = build_keeper(self.config, log, engine, writer, ledger, ours, self.clock, self.chance)
        self._own.push_async_callback(_leave, writer, ours)
        return Session(self, engine, writer, ledger, stores, host_key, log, keeper, doubt)

    def closes(self, party: P) -> P:
        """Returns a part that talks to somebody else, which will be closed, too."""
        self._parties.append(party)
        return party

    def ends_with(self, end: Callable[[], object]) -> None:
        """Calls `end` when our own parts are closed, before those that are open by now."""
        self._own.callback(end)

    async def _part_from_others(self) -> None:
        closing = [asyncio.ensure_future(each.aclose()) for each in self._parties]
        self._parties.clear()
        if not closing:
            return
        done, late = await asyncio.wait(closing, timeout=_CLOSING)
        for each in late:
            each.cancel()
        for each in done:
            each.result()


@dataclass(frozen=True, slots=True)
class Session:
    """The session of a command that has passed the gate and may write. Made by `Archive.session`.

    `doubt`: the problem that the gate found with the storages, where the command goes on all the same; otherwise None.
    """

    archive: Archive
    engine: Engine
    writer: Writer
    ledger: Ledger
    stores: Mapping[str, ObjectStore]
    host_key: Ed25519PrivateKey
    log: LogParts
    keeper: Keeper
    doubt: str | None

    async def once(self, write: Callable[[Connection, Ledger], T]) -> T:
        """Runs `write` in one transaction, in which this session is enrolled before it and retired after it."""

        def transact(conn: Connection) -> T:
            with self.ledger.once(conn, self.host_key):
                return write(conn, self.ledger)

        return await self.writer.run(transact)

    async def enrol(self) -> None:
        """Says in the log that this session writes from now on. Call `retire` after its last event."""
        await enrol(self.ledger, self.host_key, self.engine, self.writer, self.archive.clock)

    async def retire(self) -> None:
        """Says in the log that this session writes nothing more."""
        await self.writer.run(lambda conn: self.ledger.retire(conn, self.host_key))

    async def publish(self, events: Sequence[Appended], patience: timedelta) -> None:
        """Waits until a checkpoint in the storages covers these events. Raises `UnavailableError` after `patience`."""
        await publish_through(self.engine, self.keeper, events, patience)


async def _leave(writer: Writer, ours: str) -> None:
    """Gives up a session's leases. Otherwise the next process would wait a minute for them to end."""
    with suppress(errors.ArchiverError):
        await writer.run(lambda conn: lease.leave(conn, ours))
