"""`archiver status`: shows the time left until the deadlines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from archiver.cli.options import Options
from archiver.cli.output import emit, table
from archiver.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    emit(options, "archiver.status/v1", reports.as_json(report), lambda: render(report))
    return reports.exit_code(report.level) if check else Exit.OK


async def _report(config: Config) -> Report:
    from archiver.assembly.facts import look_from_outside
    from archiver.assembly.providers import reading_providers
    from archiver.assembly.reports import make_report, open_database
    from archiver.clock import SystemClock
    from archiver.database import check_schema, read

    engine = open_database(config)
    check_schema(engine)
    clock = SystemClock()
    providers = reading_providers(config, clock)

    def make(conn: Connection) -> Report:
        now = clock.now()
        return make_report(conn, config, providers, now, look_from_outside(conn, config, now))

    try:
        return await read(engine, make)
    finally:
        for each in providers.values():
            await each.aclose()
        engine.dispose()


def render(report: Report) -> str:
    """Return the report for a person: the sentence first, then a line for each provider, then the reasons."""
    from archiver import __version__
    from archiver.status.report import EDGE_NAMES, for_people

    lines = [f"{report.instance} · {report.at:%Y-%m-%d %H:%M} UTC · archiver {__version__}", report.sentence, ""]
    rows = []
    for each in report.providers:
        counts = each.counts
        nearest = counts.nearest_deadline
        rows.append(
            [
                each.provider,
                each.level.upper() if each.level.red else each.level.value,
                for_people(report.at - counts.poll_succeeded_at) + " ago" if counts.poll_succeeded_at else "never",
                each.covered_until.strftime("%Y-%m-%d %H:%M") if each.covered_until else None,
                counts.states.get("archived", 0),
                each.waiting,
                counts.states.get("absent", 0),
                counts.lost,
                for_people(nearest - report.at) if nearest else None,
            ]
        )
    head = [
        "provider",
        "state",
        "last poll",
        "covered to",
        "archived",
        "waiting",
        "no audio",
        "lost",
        "nearest deadline",
    ]
    lines.append(table(head, rows))
    if sum(report.runway):
        shown = "   ".join(f"{name} {count}" for name, count in zip(EDGE_NAMES, report.runway, strict=True))
        lines += ["", f"runway (waiting recordings by time left)   {shown}"]
    for each in report.providers:
        lines += [f"why  {each.provider}  {reason}" for reason in each.why]
        if (cost := each.outlook.storage_cost) is not None and cost.in_a_year:
            lines.append(f"cost  {each.provider}  its storage: {cost}")
    for concern in report.others:
        subject = concern.subject or "archive"
        lines.append(f"why  {subject}  {concern.line.removeprefix(f'{subject}: ')}")
    lines += _storages(report)
    if report.custody is not None:
        log = report.custody
        age = f"{for_people(report.at - log.published_at)} ago" if log.published_at else "never"
        waiting, published = f"{log.waiting} waiting", f"{log.published_size} published {age}"
        lines.append(f"custody  {log.leaves} events in the log, {waiting}; {published}")
        if log.refused:
            lines.append(
                f"custody  {log.refused} event(s) were REFUSED, not signed by our hosts   → archiver custody fsck"
            )
    lines.append(f"verified  {_verified(report)}")
    return "\n".join(lines)


def _storages(report: Report) -> Iterator[str]:
    """Yield the age of each storage's proof, and remarks on the storage beside its faults."""
    from datetime import datetime

    from archiver.status.report import for_people

    for name, state in sorted(report.storages.items()):
        if state.get("configured") and (probed_at := state.get("probed_at")) is not None:
            age = for_people(report.at - datetime.fromisoformat(str(probed_at)))
            word = "proved itself" if state.get("trusted") else "last proof"
            yield f"storage  {name}  {word} {age} ago"
            remarks = state.get("remarks")
            yield from (f"storage  {name}  {each}" for each in (remarks if isinstance(remarks, list) else ()))


def _verified(report: Report) -> str:
    from archiver.status.report import for_people

    full, last = report.integrity.full, report.integrity.last
    said = "never in full   → archiver verify --all"
    if full is not None:
        said = f"all {full.recordings} recordings {for_people(report.at - full.finished_at)} ago"
    if last is not None and last != full:
        said += f"; {last.depth}, {last.recordings} recordings, {for_people(report.at - last.finished_at)} ago"
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(report.integrity.failures.items()))
    return f"{said}; FOUND {found}   → archiver verify --all" if found else said
