"""The database, and the report of what stands in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine

from archiver.assembly.providers import listing_span
from archiver.config import model
from archiver.database import create_engine, current_revision
from archiver.ingest import survey
from archiver.providers.port import Provider
from archiver.status import report as reports


def open_database(config: model.Config) -> Engine:
    """The engine of the configured database; connects to nothing yet."""
    return create_engine(config.database.resolve().reveal(), Path(config.state_dir))


def make_report(
    conn: Connection, config: model.Config, providers: Mapping[str, Provider], now: datetime
) -> reports.Report:
    """The status report over one instant of the database."""
    names = [each.id for each in config.providers]
    settings = {each.id: each for each in config.providers}
    judged = []
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
            )
        )
    return reports.Report(
        instance=config.instance,
        at=now,
        providers=tuple(judged),
        runway=tuple(survey.runway(conn, now, reports.EDGES)),
        storages=survey.storages(conn),
        replicas=survey.replicas(conn),
        schema=current_revision_of(conn),
    )


def current_revision_of(conn: Connection) -> str:
    return current_revision(conn.engine) or "none"
