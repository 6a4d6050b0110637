"""`archiver gaps`: shows what is missing from the archive, and which gaps nobody has acknowledged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from archiver.cli.events import custody_events, render_events
from archiver.cli.lookup import known_provider, resolve
from archiver.cli.options import Options
from archiver.cli.output import emit, table
from archiver.cli.person import reason
from archiver.cli.rendered import state_of
from archiver.instants import precise, to_second
from archiver.recording import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from archiver.config.model import Config
    from archiver.database import Connection
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
    """Everything that should be here and is not, each with its reason: recordings, rows, spans of time, copies."""
    found = asyncio.run(_gaps(options.load(resolve_secrets=False), provider))
    emit(options, "archiver.gaps/v1", found, lambda: _render(found))


@gaps.command()
@click.argument("wanted", metavar="ID")
@click.pass_obj
def explain(options: Options, wanted: str) -> None:
    """Explain why a recording is not archived, or a gap is one: what happened, what will happen, and until when."""
    from archiver.assembly.database import database
    from archiver.completeness import register
    from archiver.database import reading

    config = options.load(resolve_secrets=False)
    with database(config) as engine, reading(engine) as conn:
        registered = register.find(conn, wanted)
        if registered is not None and not str(registered["subject"]).startswith("rec:"):
            emit(options, "archiver.gap/v1", {"gap": registered}, lambda: _explain_gap(registered))
            return
        named = wanted if registered is None else str(registered["subject"])[len("rec:") :]
        found = _explained(conn, config, named, options.clock.now())
    emit(options, "archiver.gap/v1", found, lambda: _explain(found))


@gaps.command()
@click.argument("wanted", metavar="ID")
@click.pass_obj
def ack(options: Options, wanted: str) -> None:
    """Acknowledge a gap, with --reason why it may stand. The gap stays on record, and the reason becomes part of custody."""
    reason(options, "an acknowledgement")
    ids = asyncio.run(_ack(options, options.load(), wanted))
    emit(options, "archiver.gap-ack/v1", list(ids), lambda: f"acknowledged: {', '.join(ids)}")


async def _ack(options: Options, config: Config, wanted: str) -> list[str]:
    from archiver.assembly.session import Archive
    from archiver.cli.person import acting, person_of
    from archiver.completeness import register

    by, why = acting(options).known_as, str(options.reason)
    async with Archive(config) as archive:
        session = await archive.session(person=person_of(options))
        return await session.once(
            lambda conn, ledger: register.acknowledge(conn, ledger, wanted, by, why, archive.clock.now())
        )


def _explained(conn: Connection, config: Config, wanted: str, now: datetime) -> dict[str, Any]:
    from archiver.completeness import register
    from archiver.ingest import public_views, queries

    recording_id = resolve(conn, wanted)
    row: dict[str, Any] = public_views.one_recording(conn, recording_id) or {}
    names = (
        "id", "provider", "provider_recording_id", "state", "reason", "flags", "last_error", "attempts", "denials",
        "next_attempt_at", "archive_by", "delete_at", "deadline_source",
    )  # fmt: skip
    found: dict[str, Any] = {name: row[name] for name in names}
    return found | {
        "why": _WHY[queries.state_of(conn, recording_id) or State.LISTED],
        "clocks": _clocks(conn, config, recording_id, row["provider"], now),
        "gaps": register.of_subject(conn, f"rec:{recording_id}"),
        "events": custody_events(conn, recording_id),
    }


def _clocks(conn: Connection, config: Config, recording_id: str, provider: str, now: datetime) -> list[dict[str, Any]]:
    """Return the deadlines of a recording and their sources; nothing for a provider that is no longer configured."""
    from archiver.assembly.providers import sharing
    from archiver.completeness.gap import profile
    from archiver.completeness.holdings import clocks_of

    settings = next((each for each in config.providers if each.id == provider), None)
    if settings is None:
        return []
    return [
        {
            "clock": each.kind.value,
            "at": to_second(each.at),
            "source": each.source,
            "fatal": each.fatal,
        }
        for each in clocks_of(
            conn, recording_id, settings.keeps(), profile(settings.kind), now, sharing(settings, config)
        )
    ]


async def _gaps(config: Config, only: str | None) -> dict[str, Any]:
    from archiver.assembly.session import Archive
    from archiver.database import read
    from archiver.ingest import public_views

    async with Archive(config) as archive:
        providers, engine, now = archive.providers(), await archive.database(), archive.clock.now()

        def collect(conn: Connection) -> dict[str, Any]:
            known_provider(conn, config, only)
            return {
                "gaps": _found(conn, config, providers, only, now),
                "recordings": public_views.missing_recordings(conn, only),
                "rejects": public_views.rejects(conn, only),
                "holes": _holes(conn, config, providers, only, now),
            }

        return await read(engine, collect)


def _found(
    conn: Connection, config: Config, providers: Mapping[str, Provider], only: str | None, now: datetime
) -> list[dict[str, Any]]:
    """Return every gap as of now, with the register's entry: since when it is open, and who has acknowledged it."""
    from archiver.assembly.completeness import watched
    from archiver.completeness import register
    from archiver.completeness.observe import observe

    registered = register.open_gaps(conn, only)
    known = {(each["provider"], each["subject"]): each for each in registered if each["source"] == register.JOURNAL}
    found: list[dict[str, Any]] = [dict(each) for each in registered if each["source"] != register.JOURNAL]
    for it in watched(conn, config, providers, now, only):
        found += [register.shown(gap, known.get((gap.provider, gap.subject))) for gap in observe(conn, it, now)]
    return sorted(
        found, key=lambda each: (each["provider"], each["grade"] != "open", each["since"] or "", each["subject"])
    )


def _holes(
    conn: Connection, config: Config, providers: Mapping[str, Provider], only: str | None, now: datetime
) -> list[dict[str, str]]:
    from archiver.assembly.providers import listing_span
    from archiver.ingest import queries

    found = []
    for settings in config.providers:
        if only in (None, settings.id):
            provider = providers[settings.id]
            whole = listing_span(settings, provider, now, queries.covered_until(conn, settings.id))
            found += queries.uncovered(conn, settings.id, provider.scopes(), whole)
    return [
        {
            "provider": each.provider,
            "scope": each.scope,
            "since": precise(each.since),
            "until": precise(each.until),
        }
        for each in found
    ]


def _render(found: dict[str, Any]) -> str:
    parts: list[str] = []
    for grade, title in (("open", "gap(s)   → archiver gaps explain ID"), ("watched", "still being watched")):
        rows = [
            (
                (each["id"] or each["subject"].removeprefix("rec:"))[:36], each["provider"], each["code"], _second(each["since"]),
                "acknowledged" if each["acked_at"] else each["opened_at"] and f"since {each['opened_at'][:16]}", each["detail"],
            )
            for each in found["gaps"] if each["grade"] == grade
        ]  # fmt: skip
        if rows:
            parts.append(f"{len(rows)} {title}\n" + table(("id", "provider", "reason", "from", "seen", "what"), rows))
    return "\n\n".join(parts) or "no gaps"


_REASON_LOST = "by whom and why was lost with the database"


def _explain_gap(gap: Mapping[str, Any]) -> str:
    lines = [
        f"{gap['id']}  {gap['provider']}  {gap['code']} ({gap['grade']})",
        gap["detail"],
        f"from {_second(gap['since'])} to {_second(gap['until'])}" if gap["since"] else "",
        *(f"{name}: {value}" for name, value in sorted(gap["evidence"].items())),
        f"first seen {gap['opened_at']}, last {gap['seen_at']}"
        + (f", closed {gap['closed_at']}" if gap["closed_at"] else ""),
        f"acknowledged {gap['acked_at']} by {gap['acked_by'] or '?'}: {gap['ack_reason'] or _REASON_LOST}"
        if gap["acked_at"]
        else "",
    ]
    return "\n".join(line for line in lines if line)


def _second(instant: str | None) -> str | None:
    """Return an instant of JSON without the fraction of its second, for people."""
    return None if instant is None else f"{instant[:19]}Z"


def _explain(found: dict[str, Any]) -> str:
    ended = found["state"] in {State.ARCHIVED, State.DISPOSED}
    lines = [
        f"{found['id']}  {found['provider']} {found['provider_recording_id']}  {state_of(found)}",
        found["why"],
        *(f"{each['code']}: {each['detail']}" for each in found["gaps"] if not each["closed_at"]),
        f"flags: {', '.join(found['flags'])}" if found["flags"] else "",
        f"last error: {found['last_error']}" if found["last_error"] else "",
        f"attempts: {found['attempts']}; said not to exist: {found['denials']} time(s)",
        f"next attempt: {found['next_attempt_at']}" if found["next_attempt_at"] else "",
        f"must be safe by {found['archive_by']}; the provider deletes it at {found['delete_at']} ({found['deadline_source']})"
        if found["delete_at"]
        else "no deadline is known",
        *(
            f"{each['clock']} clock: {each['at']} ({each['source']})"
            + (": the recording is destroyed then" if each["fatal"] else ": a fresh one is asked for")
            for each in found["clocks"]
            if not ended
        ),
        "" if ended else f"try now: archiver recordings retry {found['id']}",
    ]
    return "\n".join(line for line in lines if line) + "\n\n" + render_events(found["events"])
