"""`archiver reconcile`: compares listings, journal, storages and custody with one another; every difference becomes a
gap."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.options import Options
from archiver.cli.output import emit, note, table
from archiver.errors import Exit

if TYPE_CHECKING:
    from archiver.completeness.reconcile import Reconciled
    from archiver.config.model import Config

_INTEGRITY = frozenset({"missing_here", "unlocked", "digest_differs", "chain_gap", "extra_version", "delete_marker"})
_LOCKS = {"all": 1, "sample": 30, "none": 0}


@click.command()
@click.option("--storage", help="Only this storage; providers and custody are compared all the same.")
@click.option(
    "--locks",
    type=click.Choice(sorted(_LOCKS)),
    default="sample",
    show_default=True,
    help="How many locks to read back: a request each. sample: another thirtieth each day.",
)
@click.pass_obj
def reconcile(options: Options, storage: str | None, locks: str) -> int:
    """Compare what providers list, what the journal says, what storages hold and what custody tells.

    Exit 65 when a copy is not as recorded, 4 when anything else is missing and not acknowledged, 69 when a storage
    could not be read.
    """
    from archiver import logs

    config = options.load()
    # Standard output is for data, which includes the changes.
    logs.configure(config.logging.format, "info" if options.verbose else "error", sys.stderr)
    found = asyncio.run(_reconcile(options, config, storage, _LOCKS[locks]))
    emit(options, "archiver.reconcile/v1", found, lambda: _render(found))
    if any(each["code"] in _INTEGRITY and not each["acked_at"] for each in found["gaps"]):
        return Exit.INTEGRITY
    if any(each["unreachable"] for each in found["runs"]):
        return Exit.UNAVAILABLE
    return Exit.LOST if any(each["grade"] == "open" and not each["acked_at"] for each in found["gaps"]) else Exit.OK


async def _reconcile(options: Options, config: Config, only: str | None, share: int) -> dict[str, Any]:
    from archiver.assembly.completeness import watched
    from archiver.assembly.session import Archive
    from archiver.cli.person import person_of
    from archiver.completeness import reconcile as compared
    from archiver.completeness import register
    from archiver.completeness.watch import Watch
    from archiver.database import read
    from archiver.ingest import copier

    async with Archive(config) as archive:
        engine, stores, clock, chance = await archive.database(), archive.stores(), archive.clock, archive.chance
        if only is not None and only not in stores:
            raise click.UsageError(f"no storage is called {only[:80]!r}; there are: {', '.join(stores)}")
        providers = archive.providers()
        session = await archive.session(without_storage=True, person=person_of(options))
        await session.enrol()
        watch = Watch(engine, session.writer, session.ledger, clock, chance)
        now = clock.now()
        accounts = await read(engine, lambda conn: watched(conn, config, providers, now))
        for each in accounts:
            await watch.look(each)
        await copier.survey(session.writer, list(stores), clock, again=True)
        await watch.look_for_copies()
        runs: list[Reconciled] = []
        for name, store in stores.items():
            if only in {None, name}:
                note(options, f"comparing {name} with the journal")
                runs.append(await compared.reconcile_store(engine, store, clock, lock_share=share))
        runs.append(await compared.reconcile_custody(engine, clock))
        await compared.keep(session.writer, session.ledger, chance, runs, "operator")
        stated = await watch.state(accounts)
        await session.retire()
        gaps = await read(engine, register.open_gaps)
    return {"runs": [each.as_json() for each in runs], "gaps": gaps, "statements": len(stated)}


def _render(found: dict[str, Any]) -> str:
    rows = [
        (
            each["storage"], each["copies"], each["versions"], each["locks_read"],
            each["unreachable"] or ", ".join(f"{code} {n}" for code, n in each["findings"].items()) or "as recorded",
        )
        for each in found["runs"]
    ]  # fmt: skip
    parts = [table(("storage", "copies", "versions", "locks read", "found"), rows)]
    reasons: dict[tuple[str, str, str], int] = {}
    for each in found["gaps"]:
        key = (each["provider"] or "–", each["code"], "acknowledged" if each["acked_at"] else each["grade"])
        reasons[key] = reasons.get(key, 0) + 1
    if reasons:
        lines = [(*key, count) for key, count in sorted(reasons.items())]
        parts.append(table(("provider", "reason", "", "gaps"), lines) + "\n→ archiver gaps list")
    parts.append(
        f"{found['statements']} completeness statement(s) signed" if found["statements"] else "nothing new to state"
    )
    return "\n\n".join(parts)
