"""`archiver gaps`: what should be here and is not, and what nobody has looked at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.options import Options
from archiver.cli.output import emit, table
from archiver.cli.recordings import custody_events, database, render_events, resolve, state_of
from archiver.recording import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from archiver.config.model import Config
    from archiver.providers.port import Provider

_WHY = {
    State.GONE: "The provider says, repeatedly, that it does not have this recording any more.",
    State.ABSENT: "The provider says that this call has no recording, or never came up with one.",
    State.ARCHIVED: "It is archived: no gap.",
    State.DISPOSED: "Its retention has ended and it was disposed of: no gap.",
    State.LISTED: "It was listed and has not been fetched yet.",
    State.WAITING: "Fetching has not worked so far; it will be tried again.",
    State.SPOOLED: "It is safe on this host's disk, and not yet in every required storage.",
}


@click.group()
def gaps() -> None:
    """Show what is missing and what was never looked at."""


@gaps.command("list")
@click.option("--provider", help="Provider id.")
@click.pass_obj
def list_(options: Options, provider: str | None) -> None:
    """Recordings that failed or are lost, listed rows that could not be read, and spans that were never listed."""
    found = asyncio.run(_gaps(options.load(), provider))
    emit(options, "archiver.gaps/v1", found, lambda: _render(found))


@gaps.command()
@click.argument("wanted", metavar="ID")
@click.pass_obj
def explain(options: Options, wanted: str) -> None:
    """Why a recording is not archived: what happened, what will happen, and until when."""
    from archiver.database import reading
    from archiver.ingest import survey

    with database(options.load(resolve_secrets=False)) as engine, reading(engine) as conn:
        recording_id = resolve(conn, wanted)
        row: dict[str, Any] = survey.one(conn, recording_id) or {}
        events = custody_events(conn, recording_id)
    names = (
        "id", "provider", "provider_recording_id", "state", "reason", "flags", "last_error", "attempts", "denials",
        "next_attempt_at", "archive_by", "delete_at", "deadline_source",
    )  # fmt: skip
    found: dict[str, Any] = {name: row[name] for name in names}
    found |= {"why": _WHY[State(row["state"])], "events": events}
    emit(options, "archiver.gap/v1", found, lambda: _explain(found))


async def _gaps(config: Config, only: str | None) -> dict[str, Any]:
    from archiver.assembly.providers import reading_providers
    from archiver.clock import SystemClock
    from archiver.database import read
    from archiver.ingest import survey

    providers = reading_providers(config, SystemClock())

    def collect(conn: Connection) -> dict[str, Any]:
        return {
            "recordings": survey.gaps(conn, only),
            "rejects": survey.rejected(conn, only),
            "holes": _holes(conn, config, providers, only),
        }

    try:
        with database(config) as engine:
            return await read(engine, collect)
    finally:
        for each in providers.values():
            await each.aclose()


def _holes(
    conn: Connection, config: Config, providers: Mapping[str, Provider], only: str | None
) -> list[dict[str, str]]:
    from archiver.assembly.providers import listing_span
    from archiver.clock import SystemClock
    from archiver.ingest import survey

    now = SystemClock().now()
    found = []
    for settings in config.providers:
        if only in (None, settings.id):
            provider = providers[settings.id]
            whole = listing_span(settings, provider, now, survey.covered_until(conn, settings.id))
            found += survey.uncovered(conn, settings.id, provider.scopes(), whole)
    return [
        {
            "provider": each.provider,
            "scope": each.scope,
            "since": each.since.isoformat().replace("+00:00", "Z"),
            "until": each.until.isoformat().replace("+00:00", "Z"),
        }
        for each in found
    ]


def _render(found: dict[str, Any]) -> str:
    parts: list[str] = []
    if found["recordings"]:
        rows = [
            (each["id"], each["provider"], each["call_started_at"], state_of(each), each["attempts"], each["delete_at"],
             each["last_error"])
            for each in found["recordings"]
        ]  # fmt: skip
        head = ("id", "provider", "call", "state", "attempts", "deleted there", "last error")
        parts.append(f"{len(rows)} recording(s) missing   → archiver gaps explain ID\n" + table(head, rows))
    if found["rejects"]:
        unread = [
            (each["provider"], each["provider_recording_id"], each["problem"], each["last_seen_at"], each["bytes"])
            for each in found["rejects"]
        ]
        columns = ("provider", "provider id", "problem", "last seen", "bytes")
        parts.append(f"{len(unread)} listed row(s) that could not be read\n" + table(columns, unread))
    if found["holes"]:
        spans = [(each["provider"], each["scope"], each["since"], each["until"]) for each in found["holes"]]
        parts.append(f"{len(spans)} span(s) never listed\n" + table(("provider", "scope", "from", "to"), spans))
    return "\n\n".join(parts) or "no gaps"


def _explain(found: dict[str, Any]) -> str:
    ended = found["state"] in {State.ARCHIVED, State.DISPOSED}
    lines = [
        f"{found['id']}  {found['provider']} {found['provider_recording_id']}  {state_of(found)}",
        found["why"],
        f"flags: {', '.join(found['flags'])}" if found["flags"] else "",
        f"last error: {found['last_error']}" if found["last_error"] else "",
        f"attempts: {found['attempts']}; said not to exist: {found['denials']} time(s)",
        f"next attempt: {found['next_attempt_at']}" if found["next_attempt_at"] else "",
        f"must be safe by {found['archive_by']}; the provider deletes it at {found['delete_at']} ({found['deadline_source']})"
        if found["delete_at"]
        else "no deadline is known",
        "" if ended else f"try now: archiver recordings retry {found['id']}",
    ]
    return "\n".join(line for line in lines if line) + "\n\n" + render_events(found["events"])
