"""`archiver run`: runs the daemon in the foreground, or one sweep."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import click

from archiver.cli.options import Options
from archiver.errors import ConfigurationError, Exit

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.leaving import LastResort


@click.command()
@click.option(
    "--once", is_flag=True, help="One sweep: poll everything, archive what can be archived, exit. For cron or a Job."
)
@click.option("--provider", "providers", multiple=True, help="Only this provider; may be repeated.")
@click.pass_obj
def run(options: Options, once: bool, providers: tuple[str, ...]) -> int:
    """Poll, fetch, seal, store; for ever, or once. SIGTERM stops in good order, SIGHUP reloads the configuration.

    Exit code of --once: 0 all done, 75 something waits for another try, 69 a storage or provider cannot be used.
    """
    from archiver.leaving import LastResort

    config = options.load()
    unknown = set(providers) - {each.id for each in config.providers}
    if unknown:
        raise ConfigurationError(f"no provider has the id {sorted(unknown)[0]!r}")
    _log_as_said(options, config, once=once)
    only = list(providers) or None
    with LastResort() as last:
        return asyncio.run(_once(options, config, only, last) if once else _forever(options, config, only, last))


async def _once(options: Options, config: Config, only: list[str] | None, last: LastResort) -> int:
    from archiver.assembly.process import assemble
    from archiver.cli.output import emit, note
    from archiver.daemon.supervise import Daemon
    from archiver.leaving import REST
    from archiver.signals import Signals, unless
    from archiver.status import report as reports

    def ended_by(number: signal.Signals) -> Exit:
        return Exit.INTERRUPTED if number is signal.SIGINT else Exit.TERMINATED

    signals = Signals(asyncio.get_running_loop(), last, ended_by, reload=False)
    assembly = await unless(signals.stopping, assemble(config, only=only))
    code, report = Exit.TERMINATED, None
    if assembly is not None:
        try:
            daemon = Daemon(assembly)
            signals.attach(daemon)
            code = (await daemon.once()).exit_code
            report = await assembly.report()
        finally:
            await assembly.aclose()
    if report is not None:
        from archiver.cli.rendered import status_report

        shown = report
        emit(options, "archiver.status/v1", reports.as_json(shown), lambda: status_report(shown))
    if code is Exit.TERMINATED:
        note(options, "archiver: interrupted; what was done is kept, and the next run goes on from there")
        code = Exit.INTERRUPTED if signals.interrupted else code
    last.leave_within(REST, code)
    return code


async def _forever(options: Options, config: Config, only: list[str] | None, last: LastResort) -> int:
    from archiver.daemon.reload import run_until_stopped
    from archiver.leaving import REST
    from archiver.signals import Signals

    await run_until_stopped(
        config,
        Signals(asyncio.get_running_loop(), last),
        load=options.load,
        set_up_logging=lambda config: _log_as_said(options, config),
        only=only,
    )
    last.leave_within(REST, Exit.OK)
    return Exit.OK


def _log_as_said(options: Options, config: Config, *, once: bool = False) -> None:
    """Set up logging: the daemon's output is its log; a sweep's output is its report, and the log goes to standard
    error."""
    from archiver import logs

    level = "debug" if options.verbose else "error" if options.quiet else config.logging.level
    logs.configure(config.logging.format, level, sys.stderr if once else sys.stdout)
