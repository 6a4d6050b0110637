"""The database, and the report of what stands in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, Engine

from archiver import errors
from archiver.assembly.providers import listing_span
from archiver.completeness import forecast, holdings, register, verified
from archiver.config import model
from archiver.config.provider import AnyProvider
from archiver.custody import log as custody_log
from archiver.database import create_engine, revision
from archiver.ingest import survey
from archiver.providers.port import Provider
from archiver.recording import Json
from archiver.status import report as reports
from archiver.status.report import LogStatus, Outlook


def open_database(config: model.Config) -> Engine:
    """The engine of the configured database; connects to nothing yet. Raises `ConfigurationError`."""
    state_dir = Path(config.state_dir)
    if state_dir.exists() and not state_dir.is_dir():  # SQLite would only say that there is no database in it
        raise errors.ConfigurationError(f"state_dir {state_dir} is not a directory")
    return create_engine(config.database.resolve().reveal(), state_dir)


def make_report(
    conn: Connection, config: model.Config, providers: Mapping[str, Provider], now: datetime
) -> reports.Report:
    """The status report over one instant of the database."""
    names = [each.id for each in config.providers]
    settings = {each.id: each for each in config.providers}
    judged = []
    gaps = {name: sum(codes.values()) for name, codes in register.unsettled(conn).items()}
    for counts in survey.counts(conn, names, now):
        known = settings.get(counts.provider)
        provider = providers.get(counts.provider)
        holes = []
        if known is not None and provider is not None:
            whole = listing_span(known, provider, now, survey.covered_until(conn, counts.provider))
            holes = survey.uncovered(conn, counts.provider, provider.scopes(), whole)
        judged.append(
            reports.judge(
                counts,
                now,
                covered_until=survey.covered_until(conn, counts.provider),
                holes=holes,
                poll_every=config.pace(known).every if known is not None else timedelta(days=1),
                outlook=Outlook() if known is None else outlook(conn, known, gaps.get(counts.provider, 0), now),
            )
        )
    storages = survey.storages(conn)
    return reports.Report(
        instance=config.instance,
        at=now,
        providers=tuple(judged),
        runway=tuple(survey.runway(conn, now, reports.EDGES)),
        storages=storages,
        replicas=survey.replicas(conn),
        schema=revision(conn) or "none",
        custody=log_status(conn),
        integrity=verified.integrity(conn, now),
        problems=tuple(_refused(config, storages, survey.sealed(conn))),
    )


def _refused(config: model.Config, storages: Mapping[str, Mapping[str, Json]], sealed: int) -> Iterator[str]:
    """Why each required storage is not trusted, by its last probe. `sealed`: how many recordings wait in the spool."""
    for each in config.storage:
        proof = storages.get(each.id)
        if each.required and proof is not None and not proof["trusted"]:
            checks = cast("list[dict[str, Json]]", proof["checks"])
            failed = [f"{check['name']}: {check['detail']}" for check in checks if check["fatal"] and not check["ok"]]
            yield f"storage {each.id}: {failed[0] if failed else 'did not prove its lock'}"
        elif each.required and proof is None and sealed:
            yield f"storage {each.id}: never reached so far; {sealed} sealed recording(s) wait on this host's disk"


def outlook(conn: Connection, settings: AnyProvider, gaps: int, now: datetime) -> Outlook:
    """What becomes of this provider's backlog and account at the pace of the last week."""
    ahead = holdings.forecast_of(conn, settings.id, now, settings.rate.count / settings.rate.per.total_seconds())
    full = holdings.quota_of(conn, settings.id, settings.keeps(), now)
    cost = holdings.storage_cost_of(conn, settings.id, settings.kind, now)
    return Outlook(
        gaps=gaps,
        first_loss_at=ahead.first_loss,
        loses=ahead.lost,
        slack=ahead.slack,
        remedies=tuple(forecast.remedies(ahead)),
        quota_ratio=None if full is None else full.ratio,
        quota_full_at=None if full is None else full.full_at,
        storage_cost=cost,
    )


def log_status(conn: Connection) -> LogStatus | None:
    """How the custody log stands; None before there is one."""
    newest = max(custody_log.logs(conn), key=lambda each: each.opened_at, default=None)
    if newest is None:
        return None
    size, _ = custody_log.tree(conn, newest.log_id)
    last = custody_log.newest_checkpoint(conn, newest.log_id, published=True)
    return LogStatus(
        newest.origin,
        size,
        custody_log.waiting(conn),
        0 if last is None else last.size,
        None if last is None else last.published_at,
        sum(1 for _ in custody_log.quarantined(conn)),
    )
