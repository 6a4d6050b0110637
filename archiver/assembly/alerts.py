"""Builds the alerting: channels, routes and the dead man's switch as configured, and the facts that alerts are judged
by."""

from __future__ import annotations

from collections.abc import Mapping

from archiver.alerts.alarm import Alarm
from archiver.alerts.channel.apprise import Apprise
from archiver.alerts.channel.port import Channel
from archiver.alerts.channel.smtp import Smtp, SmtpOptions
from archiver.alerts.channel.webhook import Webhook
from archiver.alerts.dispatch import Dispatch, Telemetry
from archiver.alerts.facts import Facts
from archiver.alerts.heartbeat import NAME, Heartbeat, follow_log
from archiver.alerts.post import Post
from archiver.alerts.route import Route
from archiver.alerts.rule import Thresholds
from archiver.assembly.facts import limits, look_here
from archiver.assembly.reports import judged
from archiver.clock import Chance, Clock
from archiver.config import model
from archiver.config.alerting import Alerting, AnyChannel, AppriseChannel, WebhookChannel
from archiver.database import Connection, Engine, Writer, read
from archiver.fetch.spool import Spool
from archiver.providers.port import Provider
from archiver.wall import Kind, Walls


def build_dispatch(
    alerting: Alerting | None,
    instance: str,
    writer: Writer,
    clock: Clock,
    chance: Chance,
    telemetry: Telemetry,
    walls: Walls | None = None,
) -> Dispatch | None:
    """Builds the sender of alerts; None when no channel is configured. Raises `ConfigurationError`."""
    if alerting is None or not alerting.channels:
        return None
    return Dispatch(
        instance,
        [build_channel(each, clock, walls) for each in alerting.channels],
        [Route(frozenset(each.when), each.to, each.repeat) for each in alerting.routes],
        Thresholds(**dict(alerting.thresholds)),
        writer=writer,
        chance=chance,
        telemetry=telemetry,
    )


def build_heartbeat(
    alerting: Alerting | None, clock: Clock, telemetry: Telemetry, walls: Walls | None = None
) -> Heartbeat | None:
    """Builds the dead man's switch; None when none is configured. Call this after logging is set up.

    Raises `ConfigurationError`.
    """
    settings = alerting.heartbeat if alerting is not None else None
    if settings is None:
        return None
    url, bundle = settings.url.resolve(), settings.ca_bundle
    post = Post(NAME, url, clock, allow_http=settings.allow_http, ca_bundle=bundle)
    tail = None if settings.send_log_tail is None else follow_log(settings.send_log_tail)
    walled = (walls or Walls(clock)).around(Kind.CHANNEL, NAME, post)
    return Heartbeat(walled, settings.every, clock, telemetry, tail)


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
    walls: Walls | None = None,
) -> Alarm:
    """Builds the part that looks at the archive, sends alerts and pings. Raises `ConfigurationError`."""

    def look(conn: Connection) -> Facts:
        return judged(conn, config, providers, clock.now(), look_here(conn, spool, host, clock))[1]

    async def facts() -> Facts:
        return await read(engine, look)

    dispatch = build_dispatch(alerting, config.instance, writer, clock, chance, telemetry, walls)
    return Alarm(facts, dispatch, build_heartbeat(alerting, clock, telemetry, walls), clock, limits(config))


def build_channel(settings: AnyChannel, clock: Clock, walls: Walls | None = None) -> Channel:
    """Builds one channel behind its wall; connects to nothing yet. Raises `ConfigurationError`."""
    return (walls or Walls(clock)).around(Kind.CHANNEL, settings.id, _adapter(settings, clock))


def _adapter(settings: AnyChannel, clock: Clock) -> Channel:
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
