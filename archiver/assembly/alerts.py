"""Alerting: channels, routes and the dead man's switch as configured, and the facts that alerts are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from archiver.alerts.alarm import Alarm
from archiver.alerts.channel.apprise import Apprise
from archiver.alerts.channel.port import Channel
from archiver.alerts.channel.smtp import Smtp, SmtpOptions
from archiver.alerts.channel.webhook import Webhook
from archiver.alerts.dispatch import Dispatch, Telemetry
from archiver.alerts.heartbeat import NAME, Heartbeat, follow_log
from archiver.alerts.post import Post
from archiver.alerts.route import Route
from archiver.alerts.rule import Facts, ProviderFacts, Thresholds
from archiver.assembly.reports import make_report
from archiver.clock import Chance, Clock
from archiver.completeness import register
from archiver.config import model
from archiver.config.alerting import Alerting, AnyChannel, AppriseChannel, WebhookChannel
from archiver.custody import log as custody_log
from archiver.database import Writer, read
from archiver.fetch.spool import Spool
from archiver.providers.port import Provider
from archiver.recording import Json
from archiver.schedule import lease
from archiver.status.report import Report


def build_dispatch(
    alerting: Alerting | None, instance: str, writer: Writer, clock: Clock, chance: Chance, telemetry: Telemetry
) -> Dispatch | None:
    """Who tells; None when no channel is configured. Raises `ConfigurationError`."""
    if alerting is None or not alerting.channels:
        return None
    return Dispatch(
        instance,
        [build_channel(each, clock) for each in alerting.channels],
        [Route(frozenset(each.when), each.to, each.repeat) for each in alerting.routes],
        Thresholds(**dict(alerting.thresholds)),
        writer=writer,
        chance=chance,
        telemetry=telemetry,
    )


def build_heartbeat(alerting: Alerting | None, clock: Clock, telemetry: Telemetry) -> Heartbeat | None:
    """The dead man's switch; None when none is configured. Call it when logging is set up. Raises `ConfigurationError`."""
    settings = alerting.heartbeat if alerting is not None else None
    if settings is None:
        return None
    url, bundle = settings.url.resolve(), settings.ca_bundle
    post = Post(NAME, url, clock, allow_http=settings.allow_http, ca_bundle=bundle)
    tail = None if settings.send_log_tail is None else follow_log(settings.send_log_tail)
    return Heartbeat(post, settings.every, clock, telemetry, tail)


def build_alarm(
    config: model.Config,
    alerting: Alerting | None,
    *,
    engine: Engine,
    writer: Writer,
    providers: Mapping[str, Provider],
    spool: Spool,
    host: str,
    clock: Clock,
    chance: Chance,
    telemetry: Telemetry,
) -> Alarm:
    """Who looks at the archive and tells. Raises `ConfigurationError`."""
    started_at = clock.now()
    paces = {each.id: config.pace(each) for each in config.providers if each.id in providers}
    poll_every = {name: None if pace.cron is not None else pace.every for name, pace in paces.items()}

    def look(conn: Connection) -> Facts:
        database_now, now = lease.database_time(conn), clock.now()
        return make_facts(
            make_report(conn, config, providers, now),
            gaps=register.unsettled(conn),
            poll_every=poll_every,
            storages={each.id: each.required for each in config.storage},
            started_at=started_at,
            host=host,
            spool_used=100 * spool.usage().used // config.spool.quota,
            clock_offset=now - database_now,
            checkpoint_at=_checkpoint_at(conn),
        )

    async def facts() -> Facts:
        return await read(engine, look)

    dispatch = build_dispatch(alerting, config.instance, writer, clock, chance, telemetry)
    return Alarm(facts, dispatch, build_heartbeat(alerting, clock, telemetry), clock)


def _checkpoint_at(conn: Connection) -> datetime | None:
    """When the newest log was last published, or begun if it never was. None before there is one."""
    newest = max(custody_log.logs(conn), key=lambda each: each.opened_at, default=None)
    if newest is None:
        return None
    last = custody_log.newest_checkpoint(conn, newest.log_id, published=True)
    return newest.opened_at if last is None else last.published_at


def build_channel(settings: AnyChannel, clock: Clock) -> Channel:
    """One way to reach people; connects to nothing yet. Raises `ConfigurationError`."""
    if isinstance(settings, WebhookChannel):
        url, bundle = settings.url.resolve(), settings.ca_bundle
        return Webhook(settings.id, Post(settings.id, url, clock, allow_http=settings.allow_http, ca_bundle=bundle))
    if isinstance(settings, AppriseChannel):
        return Apprise(settings.id, settings.url.resolve())
    options = SmtpOptions(
        id=settings.id,
        host=settings.host,
        sender=settings.sender,
        to=settings.to,
        port=settings.port,
        security=settings.security,
        user=settings.user.resolve().reveal() if settings.user else None,
        password=settings.password.resolve() if settings.password else None,
        ca_bundle=settings.ca_bundle,
    )
    return Smtp(options, clock)


def make_facts(
    report: Report,
    *,
    gaps: Mapping[str, Mapping[str, int]],
    poll_every: Mapping[str, timedelta | None],
    storages: Mapping[str, bool],
    started_at: datetime,
    host: str,
    spool_used: int,
    clock_offset: timedelta,
    checkpoint_at: datetime | None = None,
) -> Facts:
    """What the alerts are judged by. `gaps`: how many nobody has settled, by provider and reason code.

    `storages`: for each configured one, whether it is required.
    `poll_every`: every configured provider, None for one under cron. One that is no longer configured is not judged by its polls.
    """
    providers = []
    for status in report.providers:
        counts, name = status.counts, status.provider
        ahead = status.outlook
        providers.append(
            ProviderFacts(
                provider=name,
                gaps=gaps.get(name, {}),
                nearest_deadline=counts.nearest_deadline,
                nearest_source=counts.nearest_source,
                poll_succeeded_at=counts.poll_succeeded_at if name in poll_every else report.at,
                poll_every=poll_every.get(name),
                refused=counts.parked_reason,
                slack=ahead.slack,
                first_loss_at=ahead.first_loss_at,
                quota_used=None if ahead.quota_ratio is None else round(100 * ahead.quota_ratio),
                quota_full_at=ahead.quota_full_at,
            )
        )
    # Gaps of a storage or of the log itself: no provider's row, and not to be forgotten.
    others = gaps.keys() - {each.provider for each in providers}
    providers += [ProviderFacts(name, gaps[name], poll_succeeded_at=report.at) for name in sorted(others)]
    return Facts(
        now=report.at,
        started_at=started_at,
        host=host,
        elsewhere=_elsewhere(report, host),
        providers=tuple(providers),
        storages={name: _problem(report.storages.get(name, {})) for name in storages},
        required=frozenset(name for name, required in storages.items() if required),
        integrity=report.integrity.failures,
        spool_used=spool_used,
        clock_offset=clock_offset,
        checkpoint_at=checkpoint_at,
    )


def _elsewhere(report: Report, host: str) -> frozenset[str]:
    alive = (each for each in report.replicas if datetime.fromisoformat(str(each["alive_until"])) > report.at)
    return frozenset(str(each["host"]) for each in alive) - {host}


def _problem(proof: Mapping[str, Json]) -> str | None:
    """Why a storage is not trusted, by the first check that failed; None when it is trusted."""
    if proof.get("trusted"):
        return None
    checks = proof.get("checks")
    for check in checks if isinstance(checks, list) else []:
        if isinstance(check, dict) and check.get("fatal") and not check.get("ok"):
            return f"{check.get('name')}: {check.get('detail')}"
    return "it has not been probed"
