"""Makes the status report of the content of the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from archiver.alerts.facts import Facts
from archiver.alerts.judgement import judge, poll_due, unproven
from archiver.assembly.facts import gather, limits
from archiver.assembly.providers import listing_span, sharing
from archiver.completeness import copies, forecast, holdings, register, verified
from archiver.config import model
from archiver.config.provider import AnyProvider
from archiver.database import Connection, revision
from archiver.ingest import public_views, queries
from archiver.ingest.health import Host
from archiver.instants import precise_or_none
from archiver.providers.port import Provider
from archiver.recording import Json
from archiver.status import report as reports
from archiver.status.report import LogStatus, Outlook
from archiver.translog import reader as custody_log


def make_report(
    conn: Connection,
    config: model.Config,
    providers: Mapping[str, Provider],
    now: datetime,
    here: Host | None = None,
) -> reports.Report:
    """Makes the status report over one instant of the database. `here`: this host as this process sees it."""
    return judged(conn, config, providers, now, here)[0]


def judged(
    conn: Connection, config: model.Config, providers: Mapping[str, Provider], now: datetime, here: Host | None
) -> tuple[reports.Report, Facts]:
    """Makes the status report. Returns it together with the facts by which it was judged."""
    settings = {each.id: each for each in config.providers}
    counts = queries.counts(conn, list(settings), now)
    gaps = {name: sum(codes.values()) for name, codes in register.unsettled(conn).items()}
    outlooks = {
        name: outlook(conn, config, settings[name], gaps.get(name, 0), now)
        if name in settings
        else Outlook(gaps.get(name, 0))
        for name in (each.provider for each in counts)
    }
    integrity = verified.integrity(conn, now)
    facts = gather(conn, config, counts, outlooks, integrity.failures, now, here)
    judgement = judge(facts, limits(config))
    due = {each.provider: poll_due(each, facts.started_at, limits(config)) for each in facts.providers}
    rows = []
    for each in counts:
        name = each.provider
        covered, holes = queries.covered_until(conn, name), []
        if name in settings and name in providers:
            whole = listing_span(settings[name], providers[name], now, covered)
            holes = queries.uncovered(conn, name, providers[name].scopes(), whole)
        rows.append(
            reports.provider_status(
                each, judgement.of(name), covered_until=covered, holes=holes, outlook=outlooks[name], poll_due_at=due[name]
            )
        )  # fmt: skip
    report = reports.Report(
        instance=config.instance,
        at=now,
        providers=tuple(rows),
        runway=tuple(queries.runway(conn, now, reports.EDGES)),
        storages=_storages(conn, facts, now),
        replicas=public_views.replicas(conn),
        schema=revision(conn) or "none",
        custody=log_status(conn),
        copies_missing=copies.counted(conn),
        integrity=integrity,
        judgement=judgement,
    )
    return report, facts


def _storages(conn: Connection, facts: Facts, now: datetime) -> dict[str, dict[str, Json]]:
    """Each storage's last probe, and whether the storage may be trusted now: an old or contradicted proof does not
    count."""
    known = public_views.storage_proofs(conn)
    shown: dict[str, dict[str, Json]] = {name: {**proof, "configured": False} for name, proof in known.items()}
    for each in facts.storages:
        problem = unproven(each, now)
        shown[each.storage] = {
            **known.get(each.storage, {"probed_at": None, "checks": []}),
            "trusted": problem is None,
            "problem": problem,
            "required": each.required,
            "configured": True,
            "remarks": list(each.remarks),
            "oldest_reading_at": precise_or_none(each.oldest_reading),
            "read_every_seconds": None if each.read_every is None else round(each.read_every.total_seconds()),
        }
    return shown


def outlook(conn: Connection, config: model.Config, settings: AnyProvider, gaps: int, now: datetime) -> Outlook:
    """Forecasts this provider's backlog and storage at the pace of the last week."""
    ahead = holdings.forecast_of(conn, settings.id, now, settings.rate.count / settings.rate.per.total_seconds())
    full = holdings.quota_of(conn, sharing(settings, config), settings.keeps(), now)
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
    """The status of the newest custody log; None when there is none."""
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
