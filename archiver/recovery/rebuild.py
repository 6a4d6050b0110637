"""Makes the journal and the log anew from the storages and the keys alone (docs/howto/rebuild.md).

First the log, which is signed; then everything that the log and the catalogue tell (`recovery/refill`). After a death,
or with a storage away, run it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from archiver import errors
from archiver.completeness.gap import Code
from archiver.completeness.reconcile import reconcile_store
from archiver.custody.event import parse
from archiver.database import Connection, read
from archiver.instants import precise
from archiver.recording import Json
from archiver.recovery import restore
from archiver.recovery.refill import Named, Refilled, Tools, follow, refill
from archiver.store.port import ObjectStore
from archiver.translog import reader
from archiver.translog.recover import recover

_PAGE = 500


@dataclass(slots=True)
class Rebuilt(Refilled):
    """The result of a rebuild, by storage.

    `known_until`: the time of the newest published event; later events cannot be known. `unknown_objects` lie in a
    storage and no event tells of them.
    """

    storage: str = ""
    leaves: int = 0
    known_until: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    unknown_objects: Named = field(default_factory=Named)

    def as_json(self) -> dict[str, Json]:
        return {
            "storage": self.storage,
            "leaves": self.leaves,
            "known_until": precise(self.known_until),
            **Refilled.as_json(self),
            "unknown_objects": self.unknown_objects.as_json(),
        }


async def rebuild(tools: Tools, progress: Callable[[str], None], *, check: bool = False) -> Rebuilt:
    """Fill an empty, migrated database. No other process may write meanwhile. With `check`, every copy is asked for by
    name.

    Raises `NotAllowedError` when the journal is in use, `KeyUnavailableError` when nothing could be opened,
    `ConfigurationError` when no storage has the log, `VerificationError` when the log is damaged, `DestinationError`
    when a needed storage is away.
    """
    await read(tools.engine, restore.require_unused)
    if not tools.identities:
        raise errors.KeyUnavailableError("the catalogue is sealed: configure encryption.identities on this host")
    progress("the log")
    shelves = [each.shelf() for each in tools.stores.values()]
    recovered = await recover(
        tools.writer, tools.notary, shelves, tools.ledger, tools.host_key, tools.clock, follow=follow
    )
    if recovered.size > recovered.had:
        await tools.writer.run(lambda conn: tools.ledger.retire(conn, tools.host_key))
    if recovered.size == 0:
        raise errors.ConfigurationError(
            f"no storage has anything of the log {tools.notary.key.name}; is the prefix right?"
        )
    known_until = await read(tools.engine, lambda conn: _newest(conn, recovered.size))
    result = Rebuilt(storage=recovered.shelf, leaves=recovered.size, known_until=known_until)
    await refill(tools, result, progress)
    for store in tools.stores.values():
        progress(f"objects in {store.id}")
        await _unknown_objects(tools, store, result)
        if check:
            await _check(tools, store, result, progress)
    return result


def _newest(conn: Connection, size: int) -> datetime:
    return parse(reader.entry(conn, reader.logs(conn)[-1].log_id, size - 1)).at


# --- objects --------------------------------------------------------------------------------------------------


async def _unknown_objects(tools: Tools, store: ObjectStore, result: Rebuilt) -> None:
    keys: dict[str, None] = {}

    async def look() -> None:
        unknown = await read(tools.engine, lambda conn: restore.unknown_keys(conn, store.id, keys))
        result.unknown_objects.note(*(f"{store.id}: {each}" for each in unknown))
        keys.clear()

    async for each in store.versions("recordings/"):
        if not each.is_delete_marker:
            keys[each.key] = None
        if len(keys) >= _PAGE:
            await look()
    await look()


async def _check(tools: Tools, store: ObjectStore, result: Rebuilt, progress: Callable[[str], None]) -> None:
    """Check every copy that the journal now claims here, with its lock and digest as the storage shows them."""
    reconciled = await reconcile_store(tools.engine, store, tools.clock, lock_share=1)
    if reconciled.unreachable is not None:
        raise errors.DestinationError(reconciled.unreachable)
    progress(f"{reconciled.locks} copies in {store.id} were asked for")
    wrong: Iterable[Any] = (each for each in reconciled.found.values() if each.code is not Code.ORPHAN)
    result.findings.note(*(f"{each.subject}: {each.detail}" for each in wrong))
