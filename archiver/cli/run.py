"""`archiver run`: runs the daemon in the foreground, or one sweep."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import click

from archiver.cli.options import Options
from archiver.errors import ArchiverError, ConfigurationError, Exit

if TYPE_CHECKING:
    from archiver.assembly.process import Assembly
    from archiver.config.model import Config
    from archiver.daemon import Daemon
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
    from archiver.daemon import Daemon
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
    """Run; on SIGHUP begin anew with the new configuration. If that cannot be used, the old one stays in force."""
    import structlog

    from archiver import systemd
    from archiver.leaving import REST
    from archiver.signals import End, Signals, unless

    log = structlog.get_logger("archiver.daemon")
    signals = Signals(asyncio.get_running_loop(), last)
    previous: Config | None = None
    reloaded: bool | None = None
    while True:
        try:
            prepared = await unless(signals.stopping, _prepared(config, only))
        except ArchiverError as refused:
            if previous is None:
                raise
            log.error("config.reload_failed", problem=_brief(refused))
            config, previous, reloaded = previous, None, False
            _log_as_said(options, config)
            continue
        if prepared is None:  # a stop came before the start
            last.leave_within(REST, Exit.OK)
            return Exit.OK
        assembly, daemon = prepared
        if reloaded is not None:
            assembly.metrics.reloaded(assembly.clock.now(), ok=reloaded)
        try:
            signals.attach(daemon)
            end = await daemon.forever()
        finally:
            signals.detach()
            await assembly.aclose()
        if end is End.STOP:
            last.leave_within(REST, Exit.OK)
            return Exit.OK
        systemd.reloading()
        try:
            previous, config, reloaded = config, options.load(), True
            _log_as_said(options, config)
            log.info("config.loaded")
        except ArchiverError as refused:
            previous, reloaded = None, False
            log.error("config.reload_failed", problem=_brief(refused))


def _log_as_said(options: Options, config: Config, *, once: bool = False) -> None:
    """Set up logging: the daemon's output is its log; a sweep's output is its report, and the log goes to standard
    error."""
    from archiver import logs

    level = "debug" if options.verbose else "error" if options.quiet else config.logging.level
    logs.configure(config.logging.format, level, sys.stderr if once else sys.stdout)


async def _prepared(config: Config, only: list[str] | None) -> tuple[Assembly, Daemon]:
    """Do everything for which a configuration can be refused, before anything else begins."""
    from archiver.assembly.process import assemble
    from archiver.daemon import Daemon

    assembly = await assemble(config, only=only)
    daemon = Daemon(assembly)
    try:
        await daemon.listen()
        await assembly.enrol()
    except BaseException:
        await assembly.aclose()
        raise
    return assembly, daemon


def _brief(refused: ArchiverError) -> str:
    """Return one line for the log: the mistakes with their places, without warnings and excerpts; `archiver check`
    shows those."""
    from archiver.config.problem import InvalidConfigurationError, Severity

    if not isinstance(refused, InvalidConfigurationError):
        return str(refused)
    mistakes = [each for each in refused.problems if each.severity is Severity.ERROR]
    return "; ".join(f"{each.file}:{each.line}:{each.col} {each.path}: {each.message}" for each in mistakes[:10])
