"""`archiver status`: shows the time left until the deadlines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.cli.rendered import status_report
from archiver.errors import Exit

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.database import Connection
    from archiver.status.report import Report


@click.command()
@click.option(
    "--check",
    is_flag=True,
    help="Exit 0 when nothing is wrong, 3: late or at risk, 4: lost, 65: bytes, locks or history failed.",
)
@click.option("--nagios", is_flag=True, help="One line and the exit codes that Nagios wants.")
@click.pass_obj
def status(options: Options, check: bool, nagios: bool) -> int:
    """Show how much time is left for what is not archived yet, and each provider's state."""
    from archiver.status import report as reports

    report = asyncio.run(_report(options.load(resolve_secrets=False)))
    if nagios:
        word, code = reports.nagios(report.level)
        click.echo(f"ARCHIVER {word} - {report.sentence}")
        return code
    emit(options, "archiver.status/v1", reports.as_json(report), lambda: status_report(report))
    return reports.exit_code(report.level) if check else Exit.OK


async def _report(config: Config) -> Report:
    from archiver.assembly.facts import look_from_outside
    from archiver.assembly.reports import make_report
    from archiver.assembly.session import Archive
    from archiver.database import read

    async with Archive(config) as archive:
        engine, providers = await archive.database(), archive.providers()

        def make(conn: Connection) -> Report:
            now = archive.clock.now()
            return make_report(conn, config, providers, now, look_from_outside(conn, config, now))

        return await read(engine, make)
