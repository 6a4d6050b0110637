"""`archiver export`: hands over recordings with everything that proves them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver import errors
from archiver.cli.instants import FORMS, instant
from archiver.cli.options import Options
from archiver.cli.output import emit, note
from archiver.cli.person import reason
from archiver.cli.report import report
from archiver.errors import Exit

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.evidence.bundle import Bundle
    from archiver.exporter import Period, Wanted
    from archiver.recording import Json

_SUFFIX = {"mp4": "m4a", "matroska": "mka"} | {
    each: each for each in ("wav", "mp3", "ogg", "flac", "au", "aiff", "amr")
}
"""The file suffix by the container that was found in the bytes; the provider's own word is not believed."""


@click.group()
def export() -> None:
    """Hand over recordings with everything that proves them, or the report of a month."""


export.add_command(report)


@export.command()
@click.argument("ids", nargs=-1)
@click.option("--provider", help="Only this provider's.")
@click.option("--number", help="Calls from or to this number.")
@click.option("--agent", help="Calls of this agent.")
@click.option("--since", "--from", "since", callback=instant, metavar="TIME", help=f"Calls from this time on: {FORMS}.")
@click.option("--until", "--to", "until", callback=instant, metavar="TIME", help="Calls before this time.")
@click.option("-O", "--out", "target", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option("--legal-basis", help="On what ground, as it shall stand in the bundle.")
@click.option(
    "--redact",
    multiple=True,
    metavar="GROUP",
    help="Keep closed: parties, provider_meta, access, person; several times.",
)
@click.option("--known", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A checkpoint that the receiver has: the bundle proves that the log continues it.")  # fmt: skip
@click.pass_obj
def evidence(
    options: Options,
    ids: tuple[str, ...],
    provider: str | None,
    number: str | None,
    agent: str | None,
    since: datetime | None,
    until: datetime | None,
    target: Path,
    legal_basis: str | None,
    redact: tuple[str, ...],
    known: Path | None,
) -> int:
    """An evidence bundle: audio, the provider's answer, signed events, proofs, a report, and its own verifier.

    It holds plaintext audio. Needs --reason, which becomes part of the bundle and of the chain of custody.
    """
    selection: dict[str, Json] = {
        "ids": list(ids),
        "provider": provider,
        "number": number,
        "agent": agent,
        "from": since.isoformat() if since else None,
        "to": until.isoformat() if until else None,
    }
    selection = {name: value for name, value in selection.items() if value}
    if not selection:
        raise click.UsageError("say which recordings: ids, --number, --agent, --provider, --since, --until")
    reason(options, "an export")
    config = options.load()
    made, wanted = asyncio.run(
        _export(
            options, config, target, selection, legal_basis, frozenset(redact), known.read_bytes() if known else None
        )
    )
    data: dict[str, Json] = {
        "bundle": str(made.path),
        "recordings": [each.id for each in wanted],
        "files": made.files,
        "bytes": made.bytes,
        "bag_sha256": made.bag_sha256,
        "findings": list(made.findings),
    }
    emit(
        options,
        "archiver.export/v1",
        data,
        lambda: (
            f"{made.path}: {len(wanted)} recording(s), {made.files} files, {made.bytes} bytes, verified\n"
            f"bag SHA-256 {made.bag_sha256}\n"
            + "".join(f"its verifier will tell, and rightly: FAIL {each}\n" for each in made.findings)
            + "whoever receives it runs:  python3 -I verify_custody.py . --log-key KEY   (KEY: archiver custody checkpoint)"
        ),
    )
    return Exit.OK


async def _export(
    options: Options,
    config: Config,
    target: Path,
    selection: dict[str, Json],
    legal_basis: str | None,
    withheld: frozenset[str],
    known: bytes | None,
) -> tuple[Bundle, list[Wanted]]:
    from archiver.assembly.keys import build_identities, hosts, verifier_keys
    from archiver.assembly.log import witness_key
    from archiver.assembly.session import Archive
    from archiver.cli.person import acting, person_of
    from archiver.database import read
    from archiver.evidence.model import Request
    from archiver.exporter import Options as How
    from archiver.exporter import Tools
    from archiver.exporter import export as hand_over

    async with Archive(config) as archive:
        identities, clock = build_identities(config, archive.walls), archive.clock
        if not identities:
            raise errors.KeyUnavailableError(
                "this host's configuration has no encryption.identities: it cannot decrypt"
            )
        engine = await archive.database()
        wanted = await read(engine, lambda conn: _wanted(conn, config, selection))
        if not wanted:
            raise errors.NotFoundError("no recording matches")
        note(options, f"{len(wanted)} recording(s) will be decrypted into {target}")
        if not options.yes and not click.confirm("Continue?", err=True):
            raise click.Abort
        person = acting(options)
        session = await archive.session(person=person_of(options))
        await session.enrol()
        keys = verifier_keys(config)
        tools = Tools(engine, session.writer, session.ledger, session.keeper, session.log.log_id,
                      keys.current.vkey, hosts(config), session.stores, identities, session.host_key,
                      tuple(each.note for each in keys.rotations))  # fmt: skip
        request = Request(
            archive.chance.uuid(), config.instance, clock.now(), person.known_as, options.reason or "", selection,
            legal_basis, tuple(sorted(withheld)), person.group(),
        )  # fmt: skip
        how = How("export", withheld, known, period=_period(selection, clock.now()),
                  witnesses=tuple(witness_key(each.key) for each in config.custody.witnesses))  # fmt: skip
        made = await hand_over(tools, target, request, wanted, how, lambda text: note(options, text))
    return made, wanted


def _period(selection: dict[str, Json], now: datetime) -> Period | None:
    """Return the whole days that a selection by time touches; None where it names recordings, or no beginning."""
    from archiver.exporter import Period

    provider, since, until = (selection.get(name) for name in ("provider", "from", "to"))
    if selection.get("ids") or not since:
        return None
    end = min(datetime.fromisoformat(str(until)), now) if until else now
    last = (end - timedelta(microseconds=1)).astimezone(UTC).date()
    first = datetime.fromisoformat(str(since)).astimezone(UTC).date()
    return Period(str(provider) if provider else None, first, last + timedelta(days=1))


def _wanted(conn: Any, config: Config, selection: dict[str, Json]) -> list[Wanted]:
    """Return the recordings that the selection names, with the statements of their signed events about their audio."""
    from archiver.cli.lookup import proved_digest, resolve
    from archiver.exporter import Copy, Wanted
    from archiver.ingest import archived_recordings, search
    from archiver.recording import State

    given = selection.get("ids")
    if isinstance(given, list) and given:
        chosen = [resolve(conn, str(each)) for each in given]
    else:

        def text(name: str) -> str | None:
            value = selection.get(name)
            return str(value) if value else None

        since, until = text("from"), text("to")
        chosen = search.ids(conn, search.Search(
            provider=text("provider"), number=text("number"), agent=text("agent"),
            since=datetime.fromisoformat(since) if since else None,
            until=datetime.fromisoformat(until) if until else None))  # fmt: skip
    found = []
    for recording_id in chosen:
        row = archived_recordings.read_recording(conn, recording_id)
        if row is None:
            continue
        archived = row.state == State.ARCHIVED
        found.append(Wanted(
            row.id, _SUFFIX.get(str(row.container), "bin"), proved_digest(conn, config, row.id) if archived else None,
            tuple(Copy(each.storage, each.key, each.version_id) for each in row.copies) if archived else (),
        ))  # fmt: skip
    return found
