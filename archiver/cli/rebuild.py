"""`archiver rebuild`: makes journal and ledger anew from the storages and the keys, when the database is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from archiver.cli.options import Options
from archiver.cli.output import emit, note

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.recovery.rebuild import Rebuilt
    from archiver.recovery.refill import Named, Refilled


@click.command()
@click.option("--check", is_flag=True, help="Ask the storages for every copy by name: digest and lock.")
@click.pass_obj
def rebuild(options: Options, check: bool) -> int:
    """Fill an empty, upgraded database from the storages and the keys of this configuration. Stop every daemon first.

    May be repeated after an interruption. Exit 65 when something contradicts what was signed, 69 when a segment cannot be opened
    with the identities of this host, 4 when call metadata is lost, 75 when a storage is away, 77 when the journal is in use.
    """
    found = asyncio.run(_rebuild(options, options.load(), check=check))
    emit(options, "archiver.rebuild/v1", found.as_json(), lambda: _render(found))
    return found.exit_code


async def _rebuild(options: Options, config: Config, *, check: bool) -> Rebuilt:
    from pathlib import Path

    from archiver.assembly.keys import build_identities
    from archiver.assembly.reports import open_database
    from archiver.assembly.session import rebuild_tools
    from archiver.assembly.stores import build_stores
    from archiver.clock import SystemChance, SystemClock
    from archiver.database import Writer, check_schema
    from archiver.fetch.spool import lock_state_dir
    from archiver.recovery.rebuild import rebuild as from_storages

    clock, chance = SystemClock(), SystemChance()
    identities = build_identities(config)
    engine = open_database(config)
    stores = build_stores(config, clock, chance)
    try:
        check_schema(engine)
        with lock_state_dir(Path(config.state_dir)):
            writer = Writer(engine)
            try:
                tools = rebuild_tools(config, engine, writer, stores, identities)
                return await from_storages(tools, lambda text: note(options, text), check=check)
            finally:
                writer.close()
    finally:
        for store in stores.values():
            await store.aclose()
        engine.dispose()


def _render(found: Rebuilt) -> str:
    lines = [
        f"{found.leaves} custody events from {found.storage}, the newest of {found.known_until:%Y-%m-%d %H:%M:%S} UTC",
        *refilled(found),
        *listed(found.unknown_objects, "object(s) lie in a storage that no event tells of"),
        "what happened after the newest event is not known; start the daemon, and it lists everything again",
    ]
    return "\n".join(lines)


def refilled(found: Refilled) -> list[str]:
    """Return lines for a person on the parts of the journal that came back, and on the missing ones."""
    rows = dict(found.rows)
    copies = rows.pop("copies", 0)
    states = ", ".join(f"{number} {state}" for state, number in sorted(rows.items())) or "no recordings"
    return [
        f"{states}; {copies} copies, {found.private} private groups, from {found.segments} segments of the catalogue",
        *listed(found.findings, "finding(s): something is not what was signed"),
        *listed(
            found.unopened, "segment(s) are sealed for keys that are not here, and what they say of calls is missing: "
            "add them to encryption.identities, run again",
        ),
        *listed(found.uncatalogued, "recording(s) are archived, and no segment that was read has their call metadata"),
        *listed(found.untold, "recording(s) come from segments that the log does not tell of"),
        *listed(found.unfinished, "recording(s) were discovered and not archived: the next poll looks for them"),
    ]  # fmt: skip


def listed(named: Named, what: str) -> list[str]:
    """Return the count and the first ten names of one kind; nothing where there is none."""
    shown = [f"  {each}" for each in named.names[:10]]
    more = [f"  … {named.count - 10} more: -o json"] if named.count > 10 else []
    return [f"{named.count} {what}", *shown, *more] if named.count else []
