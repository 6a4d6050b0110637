"""`archiver providers`: lists the configured providers, tests one, renames one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from archiver import errors
from archiver.cli.options import Options
from archiver.cli.output import emit, table
from archiver.errors import Exit
from archiver.instants import with_offset_or_none

if TYPE_CHECKING:
    from archiver.clock import Clock
    from archiver.config.model import Config
    from archiver.database import Connection
    from archiver.providers.port import Provider
    from archiver.rename import Renamed
    from archiver.schedule.deadline import ProviderRetention

_WINDOW = timedelta(hours=1)
_TIMES = {"poll_succeeded_at", "covered_until"}


@click.group()
def providers() -> None:
    """List providers, test one, rename one."""


@providers.command("list")
@click.pass_obj
def list_(options: Options) -> None:
    """Every configured provider: where it is, how long it keeps recordings, how far it has been listed."""
    from archiver.assembly.database import database
    from archiver.database import reading

    config = options.load(resolve_secrets=False)
    with database(config) as engine, reading(engine) as conn:
        found = _providers(conn, config, options.clock)
    head = ("provider", "kind", "host", "retention", "source", "poll", "last poll", "covered until", "last error")
    names = (
        "id", "kind", "host", "retention", "retention_source", "poll", "poll_succeeded_at", "covered_until", "poll_error"
    )  # fmt: skip
    emit(
        options,
        "archiver.providers/v1",
        [*found],
        lambda: table(head, [[_shown(name, e[name]) for name in names] for e in found]),
    )


def _shown(name: str, value: object) -> object:
    """Show a value; times are shown to the minute (UTC), as everywhere in text."""
    return value[:16].replace("T", " ") if name in _TIMES and isinstance(value, str) else value


@providers.command()
@click.argument("wanted", metavar="[ID]", required=False)
@click.pass_obj
def test(options: Options, wanted: str | None) -> int:
    """List the last hour at one provider, or at each, as the daemon would. Nothing is kept. Exit 69 when one fails."""
    config = options.load()
    known = [each.id for each in config.providers]
    if wanted is not None and wanted not in known:
        raise errors.NotFoundError(f"no provider is called {wanted[:80]!r}; there are: {', '.join(known)}")
    found = asyncio.run(_test_all(config, known if wanted is None else [wanted]))
    emit(options, "archiver.providers-test/v1", [*found], lambda: "\n".join(map(_tested, found)))
    return Exit.OK if all(each["ok"] for each in found) else Exit.UNAVAILABLE


@providers.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.pass_obj
def rename(options: Options, old: str, new: str) -> None:
    """Carry everything known of provider OLD over to NEW, which stands in the config in its place. The daemon must be
    stopped.

    Recordings, coverage, gaps and statements go over in one transaction, with a custody event. Safe to repeat.
    """
    from archiver.rename import as_json

    done = asyncio.run(_rename(options, options.load(), old, new))
    text = (
        f"{old} is {new} now: {done.recordings} recording(s)" if not done.already else f"{old} had become {new} already"
    )
    emit(options, "archiver.providers-rename/v1", as_json(old, new, done), lambda: text)


async def _rename(options: Options, config: Config, old: str, new: str) -> Renamed:
    from archiver.assembly.providers import accounts
    from archiver.assembly.session import Archive
    from archiver.cli.person import acting, person_of
    from archiver.rename import Target
    from archiver.rename import rename as carry_over

    settings = next((each for each in config.providers if each.id == new), None)
    if settings is None:
        raise errors.NotFoundError(
            f"no provider is called {new[:80]!r}: give the account that name in the configuration first"
        )
    kinds = {each.id: each.kind for each in config.providers}
    if kinds.get(old, settings.kind) != settings.kind:
        raise errors.NotAllowedError(f"{old} is of kind {kinds[old]}, {new} of kind {settings.kind}")
    target = Target(new, settings.kind, accounts(settings))
    by, reason = acting(options).user, options.reason or ""
    async with Archive(config) as archive:
        archive.lock()
        session = await archive.session(person=person_of(options))
        return await session.once(
            lambda conn, ledger: carry_over(conn, ledger, old, target, list(kinds), by=by, reason=reason)
        )


def _providers(conn: Connection, config: Config, clock: Clock) -> list[dict[str, Any]]:
    from archiver.ingest import queries
    from archiver.status.report import for_people

    counts = {each.provider: each for each in queries.counts(conn, [p.id for p in config.providers], clock.now())}
    found: list[dict[str, Any]] = []
    for each in config.providers:
        keeps, pace, count = each.keeps(), config.pace(each), counts[each.id]
        covered = queries.covered_until(conn, each.id)
        found.append(
            {
                "id": each.id,
                "kind": each.kind,
                "host": urlsplit(each.base_url).netloc.rpartition("@")[2],
                "retention": _retention(keeps),
                "retention_source": keeps.source,
                "poll": pace.cron or f"every {for_people(pace.every)}",
                "polled_at": with_offset_or_none(count.polled_at),
                "poll_succeeded_at": with_offset_or_none(count.poll_succeeded_at),
                "poll_error": count.poll_error,
                "covered_until": with_offset_or_none(covered),
            }
        )
    return found


def _retention(keeps: ProviderRetention) -> str:
    from archiver.status.report import for_people

    parts = [for_people(keeps.keeps)] if keeps.keeps is not None else []
    parts += [f"{keeps.months} months"] if keeps.months is not None else []
    parts += [f"{keeps.quota_bytes} bytes"] if keeps.quota_bytes is not None else []
    return ", ".join(parts) or "no limit"


async def _test_all(config: Config, ids: list[str]) -> list[dict[str, Any]]:
    from archiver.assembly.session import Archive

    async with Archive(config) as archive:
        every = archive.providers(asked=True)
        return [await _test(every[each], archive.clock) for each in ids]


async def _test(provider: Provider, clock: Clock) -> dict[str, Any]:
    """Ask for the first page of every scope: this tries credentials, network and the answer's form, at a handful of
    requests."""
    from archiver.recording import Window

    now, began = clock.now(), clock.monotonic()
    window = Window(now - min(_WINDOW, provider.facts.max_window), now)
    listed = rejected = 0
    problem = None
    try:
        for scope in provider.scopes():
            pages = provider.list(scope, window)
            async with aclosing(pages):  # type: ignore[type-var]
                async for page in pages:
                    listed += len(page.listings)
                    rejected += len(page.rejects)
                    break
    except errors.ArchiverError as failed:
        problem = str(failed)
    return {
        "id": provider.id,
        "ok": problem is None,
        "problem": problem,
        "listed": listed,
        "rejected": rejected,
        "milliseconds": round((clock.monotonic() - began) * 1000),
    }


def _tested(each: dict[str, Any]) -> str:
    if not each["ok"]:
        return f"✗ {each['id']}: {each['problem']}"
    unread = f", {each['rejected']} row(s) could not be read" if each["rejected"] else ""
    return (
        f"✓ {each['id']}: answers, {each['listed']} recording(s) on the first page{unread}, {each['milliseconds']} ms"
    )
