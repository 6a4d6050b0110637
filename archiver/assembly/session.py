"""Opens sessions for commands that write events or release plaintext: through the gate, enrolled, and retired at the end.

There is no other way: no other part of the command line opens a ledger or decrypts (`tests/docs/test_architecture.py`), so that a
new command cannot forget the gate. The daemon passes the same gate in `assemble`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver import errors
from archiver.assembly.keys import build_identities, hosts, signing_key
from archiver.assembly.log import LogParts, build_keeper, build_notary, enrol, open_custody_log, pass_gate
from archiver.clock import Chance, Clock, SystemChance, SystemClock
from archiver.completeness import issue
from archiver.config import model
from archiver.custody.ledger import Appended, Ledger
from archiver.database import Connection, Engine, Writer
from archiver.fetch.spool import lock_state_dir
from archiver.recording import Json
from archiver.recovery.refill import Refilled, follow, refill
from archiver.recovery.refill import Tools as RefillTools
from archiver.schedule import lease
from archiver.seal.recipients import Identity
from archiver.store.port import ObjectStore
from archiver.translog.keeper import Keeper, publish_through
from archiver.translog.notary import Notary
from archiver.translog.recover import Recovered, recover

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """The session of a command that has passed the gate and may write. Made by `writing`.

    `doubt`: the problem that the gate found with the storages, where the command goes on all the same; otherwise None.
    """

    config: model.Config
    engine: Engine
    writer: Writer
    ledger: Ledger
    host_key: Ed25519PrivateKey
    log: LogParts
    keeper: Keeper
    clock: Clock
    chance: Chance
    doubt: str | None

    async def once(self, write: Callable[[Connection, Ledger], T]) -> T:
        """Run `write` in one transaction, in which this session is enrolled before it and retired after it."""

        def transact(conn: Connection) -> T:
            with self.ledger.once(conn, self.host_key):
                return write(conn, self.ledger)

        return await self.writer.run(transact)

    async def enrol(self) -> None:
        """Say in the log that this session writes from now on. Call `retire` after its last event."""
        await enrol(self.ledger, self.host_key, self.engine, self.writer, self.clock)

    async def retire(self) -> None:
        """Say in the log that this session writes nothing more."""
        await self.writer.run(lambda conn: self.ledger.retire(conn, self.host_key))

    async def publish(self, events: Sequence[Appended], patience: timedelta) -> None:
        """Wait until a checkpoint in the storages covers these events. Raises `UnavailableError` after `patience`."""
        await publish_through(self.engine, self.keeper, events, patience)


@asynccontextmanager
async def writing(
    config: model.Config,
    engine: Engine,
    stores: Mapping[str, ObjectStore],
    *,
    without_storage: bool = False,
    clock: Clock | None = None,
    chance: Chance | None = None,
    person: Mapping[str, Json] | None = None,
    notary: Notary | None = None,
) -> AsyncIterator[Session]:
    """Open a session behind the gate: notary, storages and database agree, or nothing is written.

    Raises `RolledBackError` for a database that lost published events, another `VerificationError` where there are two
    histories, `UnavailableError` while a required storage cannot be asked. `without_storage` is for reports on the storages:
    these commands write, as the daemon does, even if a storage is away or contradicts, unless the database was rolled back.
    `person` is the private group that says who gave the command.
    """
    clock, chance = clock or SystemClock(), chance or SystemChance()
    async with AsyncExitStack() as undo:
        writer, ours = Writer(engine), chance.uuid()
        undo.callback(writer.close)
        ledger, host_key = Ledger.open(clock, chance, person), signing_key(config)
        log = await open_custody_log(config, engine, writer, stores, clock, notary)
        undo.push_async_callback(log.client.aclose)
        doubt = await pass_gate(log, engine, writer, clock, without_storage=without_storage)
        keeper = build_keeper(config, log, engine, writer, ledger, ours, clock, chance)
        undo.push_async_callback(_leave, writer, ours)
        yield Session(config, engine, writer, ledger, host_key, log, keeper, clock, chance, doubt)


async def _leave(writer: Writer, ours: str) -> None:
    """Give up this session's leases. Otherwise the next process would wait a minute for them to end."""
    with suppress(errors.ArchiverError):
        await writer.run(lambda conn: lease.leave(conn, ours))


async def recover_log(
    config: model.Config,
    engine: Engine,
    stores: Mapping[str, ObjectStore],
    progress: Callable[[str], None],
    person: Mapping[str, Json] | None = None,
) -> tuple[Recovered, Refilled]:
    """Run `custody recover`, the only writer before the gate, since it makes the gate passable. No other may write meanwhile."""
    clock, chance = SystemClock(), SystemChance()
    with lock_state_dir(Path(config.state_dir)):
        writer = Writer(engine)
        try:
            ledger, host_key = Ledger.open(clock, chance, person), signing_key(config)
            shelves, notary = [each.shelf() for each in stores.values()], build_notary(config, clock)
            found = await recover(
                writer,
                notary,
                shelves,
                ledger,
                host_key,
                clock,
                hosts=hosts(config),
                follow=follow,
                moved=issue.follow,
            )
            if found.told:
                await writer.run(lambda conn: ledger.retire(conn, host_key))
            journal = Refilled()
            tools = RefillTools(engine, writer, notary, stores, ledger, host_key, build_identities(config), clock)
            await refill(tools, journal, progress)
            return found, journal
        finally:
            writer.close()


def rebuild_tools(
    config: model.Config,
    engine: Engine,
    writer: Writer,
    stores: Mapping[str, ObjectStore],
    identities: Sequence[Identity],
) -> RefillTools:
    """Make the tools of `rebuild`, which fills an empty database and has no gate to pass."""
    clock = SystemClock()
    ledger = Ledger.open(clock, SystemChance())
    return RefillTools(
        engine, writer, build_notary(config, clock), stores, ledger, signing_key(config), identities, clock
    )
