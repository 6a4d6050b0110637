"""Gathers the facts, from database and configuration, by which `archiver.alerts.judgement` judges."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from archiver import errors
from archiver.alerts.facts import Facts, Failing, HostFacts, ProviderFacts, StorageFacts
from archiver.alerts.rule import Thresholds
from archiver.clock import Clock
from archiver.completeness import register
from archiver.completeness.gap import Code
from archiver.config import model
from archiver.database import Connection
from archiver.fetch.spool import Spool, measure
from archiver.hours import DATABASE, MARGIN, Hours
from archiver.ingest import fixity, health, queries, storage_proofs
from archiver.ingest.destination import Outage
from archiver.ingest.health import Host
from archiver.ingest.queries import ProviderCounts
from archiver.recording import PENDING
from archiver.schedule import lease
from archiver.status.report import Outlook
from archiver.store.port import REMARKED
from archiver.translog import reader as custody_log

_JUST_SAID = timedelta(minutes=1)


def limits(config: model.Config) -> Thresholds:
    """The configured thresholds at which a fact becomes a concern."""
    return Thresholds() if config.alerting is None else Thresholds(**dict(config.alerting.thresholds))


def gather(
    conn: Connection,
    config: model.Config,
    counts: Sequence[ProviderCounts],
    outlooks: Mapping[str, Outlook],
    integrity: Mapping[str, int],
    now: datetime,
    here: Host | None,
) -> Facts:
    """Gathers all facts over one instant of the database. `here`: this host's disk and clock as this process sees
    them."""
    alive = [each for each in queries.replicas(conn) if each.alive_until > now]
    started = min((each.started_at for each in alive), default=None)
    host = "" if here is None else here.host
    outages = health.outages(conn)
    return Facts(
        now=now,
        started_at=started,
        host=host,
        elsewhere=frozenset(each.host for each in alive) - {host},
        providers=tuple(_providers(conn, config, counts, outlooks, started)),
        storages=tuple(_storages(conn, config, outages)),
        hosts=tuple(_hosts(health.hosts(conn), here)),
        integrity=integrity,
        checkpoint_at=_checkpoint_at(conn),
    )


def _providers(
    conn: Connection,
    config: model.Config,
    counts: Sequence[ProviderCounts],
    outlooks: Mapping[str, Outlook],
    started: datetime | None,
) -> Iterator[ProviderFacts]:
    gaps, settled = register.unsettled(conn), register.settled_losses(conn)
    paces = {each.id: config.pace(each) for each in config.providers}
    for each in counts:
        name, ahead, pace = each.provider, outlooks[each.provider], paces.get(each.provider)
        cron = None if pace is None else pace.cron
        since = each.poll_succeeded_at or started
        yield ProviderFacts(
            provider=name,
            gaps=gaps.get(name, {}) if pace is not None else _unasked(conn, name, each, gaps.get(name, {})),
            lost=max(0, each.lost - settled.get(name, 0)),
            overdue=each.overdue,
            nearest_deadline=each.nearest_deadline,
            nearest_source=each.nearest_source,
            configured=pace is not None,
            poll_succeeded_at=each.poll_succeeded_at,
            poll_every=None if pace is None or cron is not None else pace.every,
            schedule_due=None if cron is None or since is None else next_due(cron, since),
            refused=each.parked_reason,
            slack=ahead.slack,
            first_loss_at=ahead.first_loss_at,
            loses=ahead.loses,
            remedies=ahead.remedies,
            quota_used=None if ahead.quota_ratio is None else round(100 * ahead.quota_ratio),
            quota_full_at=ahead.quota_full_at,
        )
    # Gaps of a storage or of the log itself belong to no provider's row, and must be reported too.
    others = gaps.keys() - {each.provider for each in counts}
    yield from (ProviderFacts(name, gaps[name], configured=False) for name in sorted(others))


def _storages(conn: Connection, config: model.Config, outages: Mapping[str, Outage]) -> Iterator[StorageFacts]:
    proofs, waiting = storage_proofs.read_proofs(conn), queries.count_sealed(conn)
    for each in config.storage:
        proof, outage = proofs.get(each.id), outages.get(each.id)
        failing = None if outage is None else Failing(outage.since, outage.at, outage.problem)
        common = StorageFacts(
            each.id, each.required, failing=failing, waiting=waiting, oldest_reading=fixity.oldest(conn, each.id),
            read_every=config.verify.every,
        )  # fmt: skip
        if proof is None:
            yield common
            continue
        failed = [f"{check.name}: {check.detail}" for check in proof.checks if check.fatal and not check.ok]
        yield replace(
            common,
            trusted=proof.trusted,
            doubt=failed[0] if failed else None,
            probed_at=proof.probed_at,
            every=proof.every or storage_proofs.PROBE_EVERY,
            remarks=tuple(check.detail for check in proof.checks if not check.ok and check.name in REMARKED),
        )


def _hosts(seen: Sequence[Host], here: Host | None) -> Iterator[HostFacts]:
    """Each host once, with the worst of its spools.

    This host's own disk is measured now, unless the process that works on it has reported within the last minute.
    """
    of = {each.spool_id: each for each in seen}
    if here is not None and (here.spool_id not in of or abs(here.seen_at - of[here.spool_id].seen_at) > _JUST_SAID):
        known = of.get(here.spool_id)
        # A process that looks from outside has no other clocks to compare: while its time goes on from the time of the
        # last report, it runs on the clock of that report.
        stays = known is not None and abs(known.clock_offset) > MARGIN and here.seen_at >= known.seen_at
        of[here.spool_id] = replace(here, clock_offset=known.clock_offset) if known is not None and stays else here
    worst: dict[str, Host] = {}
    for each in sorted(of.values(), key=lambda it: (it.no_room is not None, it.spool_percent)):
        worst[each.host] = each
    for name, each in sorted(worst.items()):
        yield HostFacts(
            name, each.seen_at, each.spool_percent, each.no_room, each.clock_offset, abs(each.clock_offset) > MARGIN
        )


def look_here(conn: Connection, spool: Spool, host: str, clock: Clock) -> Host:
    """This host's disk and clock, measured by the process that holds the spool.

    The clock's offset is that from the database or from most other parties, whichever is larger.
    """
    now = clock.raw.now() if isinstance(clock, Hours) else clock.now()
    offset = now - lease.database_time(conn)
    if isinstance(clock, Hours):
        if conn.dialect.name != "sqlite":  # SQLite's clock is this machine's own
            clock.heard(DATABASE, now - offset)
        offset = max(offset, clock.offset, key=abs)
    try:
        percent = spool.usage().percent
    except errors.ArchiverError:
        percent = 0  # `spool.trouble()` below reports the disk's error
    return Host(spool.id, host, now, percent, spool.trouble(), offset)


def look_from_outside(conn: Connection, config: model.Config, now: datetime) -> Host | None:
    """This host's disk and clock, measured by a process that does not hold the spool.

    None without a spool: on another host, or before the first run.
    """
    directory = Path(config.state_dir) / "spool"
    offset = now - lease.database_time(conn)
    try:
        spool_id = (directory / "spool.id").read_text("ascii", errors="replace").strip()
        usage = measure(directory, config.spool.quota)
    except (OSError, errors.UnavailableError):
        return None
    return Host(spool_id, socket.gethostname(), now, usage.percent, usage.shortage(), offset)


def pace_of(cron: str, now: datetime) -> timedelta:
    """The time between a schedule's next two times; zero where there are not two."""
    first = next_due(cron, now)
    second = None if first is None else next_due(cron, first)
    return timedelta(0) if first is None or second is None else second - first


def next_due(cron: str, after: datetime) -> datetime | None:
    """The schedule's first time after `after`; None when there is none."""
    # The scheduler takes longer to import than a report takes to make, and few configurations have such a schedule.
    from archiver.schedule import timer

    return timer.next_due(cron, after)


def _checkpoint_at(conn: Connection) -> datetime | None:
    """The time when the newest log was last published, or opened if it never was published. None without a log."""
    newest = max(custody_log.logs(conn), key=lambda each: each.opened_at, default=None)
    if newest is None:
        return None
    last = custody_log.newest_checkpoint(conn, newest.log_id, published=True)
    return newest.opened_at if last is None else last.published_at


def _unasked(conn: Connection, name: str, counts: ProviderCounts, gaps: Mapping[str, int]) -> Mapping[str, int]:
    """The gaps of a provider that is not configured.

    Its waiting recordings count as one gap, even before the register knows of it.
    """
    waits = any(counts.states.get(state) for state in PENDING)
    known = any(each["closed_at"] is None for each in register.of_subject(conn, f"provider:{name}"))
    return gaps if known or not waits else {**gaps, Code.PROVIDER_NOT_CONFIGURED: 1}
