"""Runs daemons one after the other: each reload ends one and begins the next with the new configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from archiver import systemd
from archiver.assembly.process import Assembly, assemble
from archiver.config.model import Config
from archiver.config.problem import InvalidConfigurationError, Severity
from archiver.daemon.supervise import Daemon
from archiver.errors import ArchiverError
from archiver.signals import End, Signals, unless

log = structlog.get_logger("archiver.daemon")


async def run_until_stopped(
    config: Config,
    signals: Signals,
    *,
    load: Callable[[], Config],
    set_up_logging: Callable[[Config], None],
    only: Sequence[str] | None,
) -> None:
    """Run until the signal to stop. On the signal to reload, begin anew with what `load` returns; if that cannot be
    used, the old configuration stays in force.

    Raises `ArchiverError` if the first configuration cannot be used. `only` names the providers to use.
    """
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
            set_up_logging(config)
            continue
        if prepared is None:  # a stop came before the start
            return
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
            return
        systemd.reloading()
        try:
            previous, config, reloaded = config, load(), True
            set_up_logging(config)
            log.info("config.loaded")
        except ArchiverError as refused:
            previous, reloaded = None, False
            log.error("config.reload_failed", problem=_brief(refused))


async def _prepared(config: Config, only: Sequence[str] | None) -> tuple[Assembly, Daemon]:
    """Do everything for which a configuration can be refused, before anything else begins."""
    assembly = await assemble(config, only=only)
    daemon = Daemon(assembly)
    try:
        await daemon.prepare()
    except BaseException:
        await assembly.aclose()
        raise
    return assembly, daemon


def _brief(refused: ArchiverError) -> str:
    """Return one line for the log: the mistakes with their places, without warnings and excerpts; `archiver check`
    shows those."""
    if not isinstance(refused, InvalidConfigurationError):
        return str(refused)
    mistakes = [each for each in refused.problems if each.severity is Severity.ERROR]
    return "; ".join(f"{each.file}:{each.line}:{each.col} {each.path}: {each.message}" for each in mistakes[:10])
