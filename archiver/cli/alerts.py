"""`archiver alerts`: shows the alerts and their channels, and tries the channels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from archiver import errors
from archiver.cli.options import Options
from archiver.cli.output import emit, table
from archiver.errors import Exit
from archiver.instants import with_offset, with_offset_or_none

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.recording import Json

_HEAD = ("alert", "subject", "severity", "channel", "status", "since", "last told", "next", "failures", "says")


@click.group()
def alerts() -> None:
    """Show what is being told to whom; try the channels."""


@alerts.command("list")
@click.pass_obj
def list_(options: Options) -> None:
    """Every alert that holds or whose end is still to be told, with each channel that it goes to; one told to nobody
    has none."""
    from archiver.alerts import state
    from archiver.assembly.database import database
    from archiver.assembly.facts import look_from_outside
    from archiver.assembly.reports import make_report
    from archiver.database import reading

    config, now = options.load(resolve_secrets=False), options.clock.now()
    with database(config) as engine, reading(engine) as conn:
        entries = state.entries(conn)
        told = {(each.alert.kind, each.alert.subject) for each in entries if each.cleared_at is None}
        report = make_report(conn, config, {}, now, look_from_outside(conn, config, now))
        found: list[Json] = [
            {
                "alert": each.alert.kind.value,
                "subject": each.alert.subject,
                "severity": each.alert.kind.severity.value,
                "channel": each.channel,
                "status": each.status.value,
                "since": with_offset(each.since),
                "told_at": with_offset_or_none(each.told_at),
                "due_at": with_offset(each.due_at),
                "failures": each.failures,
                "sentence": each.alert.sentence,
                "runbook": each.alert.kind.runbook,
            }
            for each in entries
        ]
    found += [
        {
            "alert": each.kind.value,
            "subject": each.subject,
            "severity": each.severity.value,
            "channel": None,
            "status": "holds",
            "since": None,
            "told_at": None,
            "due_at": None,
            "failures": 0,
            "sentence": each.line,
            "runbook": each.kind.runbook,
        }
        for each in report.judgement.concerns
        if (each.kind, each.subject) not in told
    ]
    rows = [list(each.values())[:-1] for each in found if isinstance(each, dict)]
    emit(options, "archiver.alerts/v1", found, lambda: table(_HEAD, rows) if rows else "Nothing to tell.")


@alerts.command()
@click.pass_obj
def test(options: Options) -> int:
    """Send a test alert to every channel, whatever the routes say. Exit 69 when a channel does not accept it."""
    found = asyncio.run(_test(options.load()))
    shown: list[Json] = [{"channel": name, "problem": problem or None} for name, problem in found.items()]
    emit(options, "archiver.alerts-test/v1", shown, lambda: "\n".join(f"{n}  {p or 'ok'}" for n, p in found.items()))
    return Exit.UNAVAILABLE if any(found.values()) else Exit.OK


async def _test(config: Config) -> dict[str, str]:
    from archiver import __version__
    from archiver.assembly.alerts import build_dispatch
    from archiver.assembly.session import Archive
    from archiver.status.metrics import Metrics

    async with Archive(config) as archive:
        writer, clock, metrics = await archive.writer(), archive.clock, Metrics(__version__)
        dispatch = build_dispatch(
            config.alerting, config.instance, writer, clock, archive.chance, metrics, archive.walls
        )
        if dispatch is None:
            raise errors.ConfigurationError("alerting.channels is empty, so there is nobody to tell")
        archive.closes(dispatch)
        return await dispatch.test("This is a test: alerts of the archiver arrive here.", clock.now())
