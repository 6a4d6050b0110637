"""`archiver recordings`: shows archived and waiting recordings; decrypts one, for a reason that is kept."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver import errors, spreadsheet
from archiver.cli.events import custody_events, render_events
from archiver.cli.instants import FORMS, instant
from archiver.cli.lookup import known_provider, proved_digest, resolve
from archiver.cli.options import Options
from archiver.cli.output import emit, note, table
from archiver.cli.person import acting, person_of, reason
from archiver.cli.rendered import state_of
from archiver.recording import PENDING, Flag, Json, State

if TYPE_CHECKING:
    from archiver.assembly.session import Session
    from archiver.config.model import Config
    from archiver.database import Connection
    from archiver.hearing import Copy
    from archiver.ingest.archived_recordings import RecordingRow


COLUMNS = (
    "id", "provider", "call_started_at", "duration_ms", "direction", "from_number", "to_number", "agent", "state", "flags",
    "provider_recording_id", "variant", "reason", "call_ended_at", "listed_at", "archive_by", "delete_at", "archived_at",
    "retain_until", "attempts", "last_error", "bytes", "plaintext_sha256", "sealed_bytes", "sealed_sha256",
)  # fmt: skip
"""The fields of a recording that are one value each, named as in `archiver.recordings/v1`; the first ten are the
default."""
_DEFAULT = COLUMNS[:10]
_HEADS = {"call_started_at": "started", "duration_ms": "duration", "from_number": "from", "to_number": "to"}


def _columns(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[str, ...]:
    chosen = tuple(each.strip() for each in text.split(",")) if text is not None else _DEFAULT
    for each in chosen:
        if each not in COLUMNS:
            raise click.BadParameter(f"{each[:40]!r} is none of {', '.join(COLUMNS)}")
    return chosen


@click.group()
def recordings() -> None:
    """List, show, decrypt (with a reason) or retry recordings."""


@recordings.command("list")
@click.option("--provider", help="Provider id.")
@click.option("--state", type=click.Choice([str(each) for each in State]), help="Where they are.")
@click.option("--flag", type=click.Choice([str(each) for each in Flag]), help="Doubt about them.")
@click.option("--number", help="Caller or called, with or without + in front.")
@click.option("--agent", help="Agent, by id, name or e-mail address.")
@click.option("--since", callback=instant, metavar="TIME", help=f"Calls from this time on: {FORMS}.")
@click.option("--until", callback=instant, metavar="TIME", help="Calls before this time.")
@click.option(
    "--meta", "metadata", multiple=True, metavar="NAME=VALUE", help="Metadata of the provider; may be repeated."
)
@click.option("--text", help="Part of an id, a digest, or a word of the metadata.")
@click.option("--limit", type=click.IntRange(min=1), help="The first so many.")
@click.option("--columns", callback=_columns, metavar="NAME,…",
              help=f"Which to show, in this order: {', '.join(COLUMNS)}.")  # fmt: skip
@click.option("--csv", "as_csv", is_flag=True, help="A table for spreadsheets.")
@click.option("--mask", is_flag=True, help="Show numbers by their last three digits, agents by their first letter.")
@click.pass_obj
def list_(
    options: Options, /, metadata: tuple[str, ...], columns: tuple[str, ...], as_csv: bool, mask: bool, **wanted: Any
) -> None:
    """The recordings that match all options, oldest call first."""
    from archiver.assembly.database import database
    from archiver.database import reading
    from archiver.ingest import public_views
    from archiver.ingest.search import Search

    pairs = [each.partition("=") for each in metadata]
    if wrong := next((name for name, equals, _ in pairs if not (name and equals)), None):
        raise click.UsageError(f"--meta {wrong!r} is not NAME=VALUE")
    search = Search(metadata=tuple((name, value) for name, _, value in pairs), **wanted)
    config = options.load(resolve_secrets=False)
    with database(config) as engine, reading(engine) as conn:
        known_provider(conn, config, search.provider)
        found = [_masked(each) if mask else each for each in public_views.recordings(conn, search)]
    if as_csv:
        click.echo(spreadsheet.as_csv(columns, ([_plain(row[name]) for name in columns] for row in found)), nl=False)
        return
    emit(options, "archiver.recordings/v1", [*found],
         lambda: _table(found, columns) if found else "no recording matches")  # fmt: skip


@recordings.command()
@click.argument("wanted", metavar="ID")
@click.pass_obj
def show(options: Options, wanted: str) -> None:
    """One recording with its copies and its chain of custody. ID: ours or its beginning, the provider's, or a
    SHA-256."""
    from archiver.assembly.database import database
    from archiver.database import reading
    from archiver.ingest import public_views

    with database(options.load(resolve_secrets=False)) as engine, reading(engine) as conn:
        recording_id = resolve(conn, wanted)
        found: dict[str, Any] = public_views.one_recording(conn, recording_id) or {}
        found["events"] = custody_events(conn, recording_id)
    emit(options, "archiver.recording/v1", found, lambda: _render(found))


@recordings.command()
@click.argument("wanted", metavar="ID...", nargs=-1, required=True)
@click.pass_obj
def retry(options: Options, wanted: tuple[str, ...]) -> None:
    """Try now instead of later. Recordings that were given up as gone or absent are looked at again, too."""
    done = asyncio.run(_retry(options.load(resolve_secrets=False), wanted))
    emit(options, "archiver.retry/v1", [*done], lambda: "\n".join(map(_retried, done)))


async def _retry(config: Config, wanted: tuple[str, ...]) -> list[dict[str, Any]]:
    from archiver.assembly.session import Archive
    from archiver.database import read
    from archiver.ingest import journal, queries

    async with Archive(config) as archive:
        engine, writer = await archive.database(), await archive.writer()
        ids = await read(engine, lambda conn: list(dict.fromkeys(resolve(conn, each) for each in wanted)))
        queued = {each: await writer.run(functools.partial(journal.retry_now, recording_id=each)) for each in ids}

        return await read(
            engine,
            lambda conn: [{"id": each, "queued": queued[each], "state": queries.state_of(conn, each)} for each in ids],
        )


@recordings.command()
@click.argument("wanted", metavar="ID")
@click.option(
    "-O", "--output-file", "target", type=click.Path(path_type=Path), required=True, help="New file, mode 0600."
)
@click.option("--storage", help="Take the copy of this storage only.")
@click.option("--wait", type=click.FloatRange(min=0), default=120.0, show_default=True, metavar="SECONDS",
              help="How long to wait until the access is published.")  # fmt: skip
@click.pass_obj
def get(options: Options, wanted: str, target: Path, storage: str | None, wait: float) -> None:
    """Decrypt a recording into a new file. Needs --reason; reason and user become part of the chain of custody.

    The file is written once a published checkpoint covers the access. Exit 65 when the database is behind what was
    published, 69 when the storages cannot be asked or the access is not published in time; nothing is written then.
    """
    reason(options, "hearing a recording")
    if target.exists() or target.is_symlink():
        raise errors.NotAllowedError(f"{target} is there already; get never overwrites")
    done = asyncio.run(_get(options, options.load(), wanted, target, storage, wait))
    emit(options, "archiver.access/v1", done, lambda: f"{done['file']}  {done['bytes']} bytes from {done['storage']}")


async def _get(
    options: Options, config: Config, wanted: str, target: Path, storage: str | None, wait: float
) -> dict[str, Json]:
    from archiver.assembly.keys import build_identities
    from archiver.assembly.session import Archive
    from archiver.database import read
    from archiver.hearing import Copy, hear

    async with Archive(config) as archive:
        identities = build_identities(config, archive.walls)
        if not identities:
            raise errors.KeyUnavailableError(
                "this host's configuration has no encryption.identities: it cannot decrypt"
            )
        session = await archive.session(person=person_of(options))
        stores = session.stores
        row, digest = await read(session.engine, lambda conn: _evidence(conn, config, wanted))
        copies = [each for each in row.copies if storage in (None, each.storage) and each.storage in stores]
        if not copies:
            raise errors.NotFoundError(f"{row.id} has no copy in {storage or 'a configured storage'}")
        failed: list[errors.ArchiverError] = []
        for each in copies:
            copy = Copy(row.id, each.storage, each.key, each.version_id, digest)
            try:
                size = await hear(
                    copy, stores[copy.storage], identities, target, lambda copy: _recorded(options, session, copy, wait)
                )
            except errors.RolledBackError:
                raise
            except (errors.VerificationError, errors.DestinationError, errors.NotFoundError) as problem:
                note(options, f"archiver: copy in {copy.storage}: {problem}")
                failed.append(problem)
            else:
                return {"id": row.id, "file": str(target), "bytes": size, "storage": copy.storage}
        raise next((each for each in failed if isinstance(each, errors.VerificationError)), failed[-1])


def _evidence(conn: Connection, config: Config, wanted: str) -> tuple[RecordingRow, str]:
    """Return the recording and the plaintext digest that its signed events state. Raises `VerificationError` for a
    broken chain."""
    from archiver.ingest import archived_recordings

    recording_id = resolve(conn, wanted)
    row = archived_recordings.read_recording(conn, recording_id)
    digest = proved_digest(conn, config, recording_id)
    if row is None or digest is None:
        state = "unknown" if row is None else row.state
        raise errors.NotFoundError(f"{recording_id} is {state}; nothing of it has been sealed")
    return row, digest


async def _recorded(options: Options, session: Session, copy: Copy, wait: float) -> None:
    """Put the access on record and wait until it is published: nothing irreversible is done before the log shows the
    access."""
    from archiver.hearing import say_heard

    access: dict[str, Json] = {"reason": options.reason, "user": acting(options).user}
    await session.enrol()
    try:
        said = await session.writer.run(lambda conn: say_heard(conn, session.ledger, copy, access))
        note(options, "waiting until the access is published")
        await session.publish([said], timedelta(seconds=wait))
    except errors.UnavailableError as late:
        raise errors.UnavailableError(
            f"nothing was released: the access is on record and not published within {wait:g} s; {late.detail}"
        ) from late
    finally:
        # Events of a writer that never retires are believed all the same.
        with contextlib.suppress(errors.ArchiverError):
            await session.retire()


def _retried(item: dict[str, Any]) -> str:
    if item["queued"]:
        return f"{item['id']}  will be tried now"
    why = "being worked on now" if item["state"] in PENDING else item["state"]
    return f"{item['id']}  nothing to retry: {why}"


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    return table(
        [_HEADS.get(each, each) for each in columns], [[_shown(row, each) for each in columns] for row in rows]
    )


def _shown(row: dict[str, Any], name: str) -> object:
    """Return a field as a person reads it."""
    value = row[name]
    if name == "state":
        return state_of(row)
    if name == "duration_ms":
        return _length(value)
    return _minute(value) if name.endswith(("_at", "_until")) else _plain(value)


def _plain(value: object) -> object:
    return (",".join(value) or None) if isinstance(value, list) else value


def _masked(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row for a reader who need not know who spoke."""
    hidden = {name: row[name] and f"…{row[name][-3:]}" for name in ("from_number", "to_number")}
    return row | hidden | {"agent": row["agent"] and f"{row['agent'][:1]}…"}


def _render(row: dict[str, Any]) -> str:
    facts = [
        ("id", row["id"]),
        ("provider", row["provider"]),
        ("provider id", row["provider_recording_id"] + (f" ({row['variant']})" if row["variant"] else "")),
        ("state", state_of(row)),
        ("flags", ", ".join(row["flags"])),
        ("call", " – ".join(each for each in (row["call_started_at"], row["call_ended_at"]) if each)),
        ("duration", _length(row["duration_ms"])),
        ("direction", row["direction"]),
        ("from, to", ", ".join(each for each in (row["from_number"], row["to_number"]) if each)),
        ("agent", row["agent"]),
        ("listed", row["listed_at"]),
        ("archive by", row["archive_by"]),
        ("deleted there", row["delete_at"] and f"{row['delete_at']} ({row['deadline_source']})"),
        ("archived", row["archived_at"]),
        ("kept until", row["retain_until"] and f"{row['retain_until']} (rule {row['retention_rule']})"),
        ("attempts", row["attempts"]),
        ("next attempt", row["next_attempt_at"]),
        ("last error", row["last_error"]),
        ("audio", row["bytes"] is not None and f"{row['bytes']} bytes, SHA-256 {row['plaintext_sha256']}"),
        ("sealed", row["sealed_bytes"] is not None and f"{row['sealed_bytes']} bytes, SHA-256 {row['sealed_sha256']}"),
        ("opens with", ", ".join(row["recipients"])),
    ]
    parts = [_facts(facts)]
    if row["copies"]:
        head = ("storage", "key", "version", "lock", "until", "hold")
        names = ("storage", "key", "version_id", "lock_mode", "retain_until", "legal_hold")
        parts.append(table(head, [tuple(each[name] for name in names) for each in row["copies"]]))
    parts.append(render_events(row["events"]))
    return "\n\n".join(parts)


def _facts(facts: list[tuple[str, Any]]) -> str:
    shown = [(name, value) for name, value in facts if value not in (None, False, "")]
    return "\n".join(table(("", ""), [(name, str(value)) for name, value in shown]).splitlines()[1:])


def _minute(text: str | None) -> str | None:
    return None if text is None else text[:16].replace("T", " ")


def _length(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes}:{seconds:02}"
