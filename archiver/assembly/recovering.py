"""Recovers log and journal from the storages: the only writers before the gate, since they make it passable."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from archiver.assembly.keys import build_identities, hosts, signing_key
from archiver.assembly.log import build_notary
from archiver.assembly.session import Archive
from archiver.completeness import issue
from archiver.recording import Json
from archiver.recovery.rebuild import Rebuilt, rebuild
from archiver.recovery.refill import Refilled, Tools, follow, refill
from archiver.translog.recover import Recovered, recover

Progress = Callable[[str], None]


async def recover_log(
    archive: Archive, progress: Progress, person: Mapping[str, Json] | None = None
) -> tuple[Recovered, Refilled]:
    """Brings log and journal up to what was published. No other process may write meanwhile."""
    tools = await _tools(archive, person)
    shelves = [each.shelf() for each in tools.stores.values()]
    found = await recover(
        tools.writer,
        tools.notary,
        shelves,
        tools.ledger,
        tools.host_key,
        archive.clock,
        hosts=hosts(archive.config),
        follow=follow,
        moved=issue.follow,
    )
    if found.told:
        await tools.writer.run(lambda conn: tools.ledger.retire(conn, tools.host_key))
    journal = Refilled()
    await refill(tools, journal, progress)
    return found, journal


async def rebuild_archive(archive: Archive, progress: Progress, *, check: bool) -> Rebuilt:
    """Fills an empty, upgraded database from the storages. `check`: asks them for every copy by name."""
    return await rebuild(await _tools(archive), progress, check=check)


async def _tools(archive: Archive, person: Mapping[str, Json] | None = None) -> Tools:
    """Makes the tools of a recovery, which holds the state directory."""
    config = archive.config
    identities = build_identities(config, archive.walls)
    stores, engine = archive.stores(), await archive.database()
    archive.lock()
    writer, ledger = await archive.writer(), archive.ledger(person)
    notary, host_key = build_notary(config, archive.clock), signing_key(config)
    return Tools(engine, writer, notary, stores, ledger, host_key, identities, archive.clock)
