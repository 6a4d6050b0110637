"""`archiver rebuild`: makes journal and ledger anew from the storages and the keys, when the database is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from archiver.cli.options import Options
from archiver.cli.output import emit, note
from archiver.cli.rendered import listed, refilled

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.recovery.rebuild import Rebuilt


@click.command()
@click.option("--check", is_flag=True, help="Ask the storages for every copy by name: digest and lock.")
@click.pass_obj
def rebuild(options: Options, check: bool) -> int:
    """Fill an empty, upgraded database from the storages and the keys of this configuration. Stop every daemon first.

    May be repeated after an interruption. Exit 65 when something contradicts what was signed, 69 when a segment cannot
    be opened with the identities of this host, 4 when call metadata is lost, 75 when a storage is away, 77 when the
    journal is in use.
    """
    found = asyncio.run(_rebuild(options, options.load(), check=check))
    emit(options, "archiver.rebuild/v1", found.as_json(), lambda: _render(found))
    return found.exit_code


async def _rebuild(options: Options, config: Config, *, check: bool) -> Rebuilt:
    from archiver.assembly.recovering import rebuild_archive
    from archiver.assembly.session import Archive

    async with Archive(config) as archive:
        return await rebuild_archive(archive, lambda text: note(options, text), check=check)


def _render(found: Rebuilt) -> str:
    lines = [
        f"{found.leaves} custody events from {found.storage}, the newest of {found.known_until:%Y-%m-%d %H:%M:%S} UTC",
        *refilled(found),
        *listed(found.unknown_objects, "object(s) lie in a storage that no event tells of"),
        "what happened after the newest event is not known; start the daemon, and it lists everything again",
    ]
    return "\n".join(lines)
