"""`archiver export report`: writes a month's report for the compliance officer, as HTML, PDF and data."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archiver.cli.lookup import known_provider
from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.errors import Exit

if TYPE_CHECKING:
    from archiver.compliance.facts import Report
    from archiver.compliance.month import Month
    from archiver.config.model import Config
    from archiver.database import Connection
    from archiver.recording import Json

_FORMATS = ("html", "pdf", "json", "csv")


@click.command()
@click.option("--month", "wanted", metavar="YYYY-MM", required=True, help="The calendar month, UTC.")
@click.option("--provider", help="Only this provider.")
@click.option("-O", "--out", "target", type=click.Path(file_okay=False, path_type=Path), default=Path(),
              help="Folder to write into; default: this one.")  # fmt: skip
@click.option("--format", "formats", default=",".join(_FORMATS), show_default=True, metavar="LIST", help="Which forms.")
@click.pass_obj
def report(options: Options, wanted: str, provider: str | None, target: Path, formats: str) -> int:
    """The compliance report of a month: coverage calendar, lag, gaps, losses, deadlines, verification, custody.

    Holds no audio, no numbers and no names but of those who acknowledged gaps, heard or exported. Replaces an earlier
    one.
    """
    from archiver.compliance.files import render, write
    from archiver.compliance.month import parse

    chosen = [each.strip() for each in formats.split(",")]
    if unknown := [each for each in chosen if each not in _FORMATS]:
        raise click.BadParameter(f"{unknown[0][:20]!r} is none of {', '.join(_FORMATS)}", param_hint="--format")
    try:
        month = parse(wanted)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong), param_hint="--month") from wrong
    made = asyncio.run(_report(options.load(resolve_secrets=False), month, provider))
    files = render(made, chosen)
    try:
        write(target, files)
    except OSError as failed:
        raise click.FileError(str(target), failed.strerror or "cannot be written") from failed
    _tell(options, made, target, files)
    return Exit.OK


async def _report(config: Config, month: Month, only: str | None) -> Report:
    from archiver.assembly.compliance import monthly
    from archiver.assembly.session import Archive
    from archiver.database import read

    async with Archive(config) as archive:
        now = archive.clock.now()
        if month.span.since > now:
            raise click.BadParameter(f"{month} has not begun", param_hint="--month")
        providers, engine = archive.providers(), await archive.database()

        def make(conn: Connection) -> Report:
            known_provider(conn, config, only)
            return monthly(conn, config, providers, month, now, only)

        return await read(engine, make)


def _tell(options: Options, made: Report, target: Path, files: dict[str, bytes]) -> None:
    from archiver.compliance.words import headline

    listed: list[Json] = [
        {"file": str(target / name), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    ]
    data: dict[str, Json] = {
        "month": str(made.month), "complete": made.complete, "unsettled": made.unsettled, "losses": len(made.losses),
        "files": listed,
    }  # fmt: skip
    lines = [f"{hashlib.sha256(content).hexdigest()}  {target / name}" for name, content in files.items()]
    emit(options, "archiver.export-report/v1", data, lambda: "\n".join([headline(made), *lines]))
