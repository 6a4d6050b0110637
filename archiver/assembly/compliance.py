"""Builds the report of a month from a configuration, and writes it when the month is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from archiver import __version__, errors
from archiver.alerts.rule import Alert, Kind
from archiver.assembly.completeness import watched
from archiver.assembly.facts import look_from_outside
from archiver.assembly.log import witness_key
from archiver.assembly.reports import make_report
from archiver.clock import Clock
from archiver.compliance.facts import Report, Standing
from archiver.compliance.files import render, stem, write
from archiver.compliance.gather import Asked, gather
from archiver.compliance.month import Month, month_of
from archiver.compliance.words import headline
from archiver.config import model
from archiver.database import Connection, Engine, Writer, read
from archiver.providers.port import Provider
from archiver.schedule import lease
from archiver.translog import reader as custody_log

log = structlog.get_logger("archiver.report")

_SETTLED = timedelta(days=1)  # by then the month's last day has been listed, looked at and stated
_WRITING, _WRITTEN = timedelta(hours=1), timedelta(days=35)


def monthly(
    conn: Connection,
    config: model.Config,
    providers: Mapping[str, Provider],
    month: Month,
    now: datetime,
    only: str | None = None,
) -> Report:
    """Makes the report over one instant of the database; `only`: of one provider, configured or known to the
    journal."""
    accounts = watched(conn, config, providers, now)
    storages = {each.id: each.required for each in config.storage}
    judgement = make_report(conn, config, providers, now, look_from_outside(conn, config, now)).judgement
    standing = Standing(judgement.level, judgement.sentence, tuple(each.line for each in judgement.concerns))
    witnesses = [witness_key(each.key) for each in config.custody.witnesses]
    asked = Asked(config.instance, __version__, month, now, accounts, storages, only, standing, witnesses)
    return gather(conn, asked)


def _began(conn: Connection) -> datetime | None:
    """The beginning of the archive: the time when its oldest log was opened; None without a log.

    Recordings of earlier months were fetched afterwards, while nobody kept watch in those months.
    """
    return min((each.opened_at for each in custody_log.logs(conn)), default=None)


@dataclass(frozen=True, slots=True)
class Monthly:
    """Writes each month's report into `state_dir/reports/` when the month has been over for a day, and announces the
    report.

    Only one replica does this, by a lease.

    | Died between | What is left | What a later tick does |
    |---|---|---|
    | lease taken / files written | perhaps some of the files | this or another replica writes all files, within the hour |
    | files written / announced | the files | nothing: the news is lost, the report is not |
    """

    config: model.Config
    engine: Engine
    writer: Writer
    providers: Mapping[str, Provider]
    clock: Clock
    replica_id: str
    announce: Callable[[Alert], Awaitable[None]]

    async def tick(self) -> None:
        """Writes the report if it is due. Raises `DestinationError` when it cannot be written, and the database's
        errors."""
        now = self.clock.now()
        month = month_of(now - _SETTLED).before
        folder = Path(self.config.state_dir) / "reports"
        if await asyncio.to_thread((folder / f"{stem(month)}.json").exists) or not await self._ours(month, _WRITING):
            return
        began = await read(self.engine, _began)
        if began is None or began >= month.span.until:
            return  # the archive is younger than the month: nobody kept watch then, even if recordings were fetched later
        made = await read(self.engine, lambda conn: monthly(conn, self.config, self.providers, month, now))
        if not any(account.judged for account in made.accounts):
            return
        try:
            # The JSON form comes last: its presence says that all files are written.
            files = dict(
                sorted((await asyncio.to_thread(render, made)).items(), key=lambda each: each[0].endswith(".json"))
            )
            await asyncio.to_thread(write, folder, files)
        except OSError as failed:
            raise errors.DestinationError(f"the monthly report cannot be written: {failed.strerror}") from failed
        log.info(
            "report.written", month=str(month), complete=made.complete, gaps=made.unsettled, losses=len(made.losses)
        )
        await self._ours(month, _WRITTEN)
        await self.announce(
            Alert(Kind.REPORT_MONTHLY, str(month), f"{month.title}: {headline(made)} The report is in {folder}.")
        )

    async def _ours(self, month: Month, lasting: timedelta) -> bool:
        held = await self.writer.run(
            lambda conn: lease.acquire(conn, f"report:{month}", self.replica_id, lasting, longest=_WRITTEN)
        )
        return held is not None
