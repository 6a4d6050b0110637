"""The configuration of alerts: channels, routes, thresholds and the dead man's switch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from archiver.alerts.rule import Kind
from archiver.config.fields import (
    FilePath,
    Flag,
    Ident,
    Interval,
    Size,
    TextOrRef,
    TokenRef,
    Written,
    matching,
    whole,
)
from archiver.config.section import Conflict, Section, mappings, none, twice
from archiver.config.suggest import did_you_mean
from archiver.config.values import quoted, refused

_NAMES = [each.value for each in Kind]


def _kind(value: Any, _context: object) -> Kind:
    if isinstance(value, str) and value in _NAMES:
        return Kind(value)
    if not isinstance(value, str):
        raise refused("C103", "this is not an alert")
    hint = did_you_mean(value, _NAMES) or "docs/runbook has a page for each"
    raise refused("C103", f"{quoted(value)} is not an alert", hint)


Alert: TypeAlias = Annotated[Kind, Written(_kind, "alert", {"type": "string", "enum": _NAMES})]
Address: TypeAlias = Annotated[
    str, matching(r"[A-Za-z0-9._%+'-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", "a mail address", "name@host")
]  # fmt: skip


class WebhookChannel(Section):
    """A URL that takes JSON by POST; a 2xx answer means taken. Slack and similar services show the JSON's `text`."""

    kind: Literal["webhook"]
    """`webhook`"""
    id: Ident
    """Name of the channel in `routes`, logs and metrics."""
    url: TokenRef
    """The URL, by reference, since anyone who knows it can write there."""
    allow_http: Flag = False
    """Permit plain http: alerts then cross the network in clear."""
    ca_bundle: FilePath | None = None
    """Certificates to trust instead of the system's."""


class SmtpChannel(Section):
    """A mail server and its recipients."""

    kind: Literal["smtp"]
    """`smtp`"""
    id: Ident
    """Name of the channel in `routes`, logs and metrics."""
    host: Annotated[str, matching(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", "a host", "e.g. smtp.example.net")]
    """Mail server."""
    port: Annotated[int, whole(1, 65535)] | None = None
    """Port; without it 587, 465 or 25, by `security`."""
    security: Annotated[Literal["starttls", "tls", "none"], Field(title="mail security")] = "starttls"
    """`starttls`, `tls` from the start, or `none`: in clear, without a password."""
    user: TextOrRef | None = None
    """Login."""
    password: TokenRef | None = None
    """Password."""
    sender: Address
    """Address that mail comes from."""
    to: tuple[Address, ...]
    """Addresses that mail goes to."""
    ca_bundle: FilePath | None = None
    """Certificates to trust instead of the system's."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from none(given, "to")
        for one, other in (("user", "password"), ("password", "user")):
            if one in given and other not in given:
                yield Conflict((), "C102", f"missing key '{other}'", f"it goes with {one}")
        if "password" in given and given.get("security") == "none":
            yield Conflict(("security",), "C130", "a password is sent only over TLS", "starttls or tls")


class AppriseChannel(Section):
    """A channel through Apprise (pagers, chats, telephones); needs the extra `notify`. Apprise opens its own
    connections."""

    kind: Literal["apprise"]
    """`apprise`"""
    id: Ident
    """Name of the channel in `routes`, logs and metrics."""
    url: TokenRef
    """Apprise's URL, by reference, since it holds the credentials."""


AnyChannel: TypeAlias = WebhookChannel | SmtpChannel | AppriseChannel


class HeartbeatSection(Section):
    """A dead man's switch: pinged only after a sweep of every provider was finished, and while nothing is at risk or
    lost."""

    url: TokenRef
    """The URL to ping, by reference. The service behind it must raise the alarm when no ping comes."""
    every: Interval = timedelta(minutes=5)
    """The least time between two pings of a daemon, which waits for the slowest provider; `run --once` pings for each
    sweep."""
    send_log_tail: Size | None = None
    """The size of the redacted log's end that a ping sends by POST; without this key, a ping is a GET without
    content."""
    allow_http: Flag = False
    """Permit plain http."""
    ca_bundle: FilePath | None = None
    """Certificates to trust instead of the system's."""


class RouteSection(Section):
    """Alerts, and the channels that they go to."""

    when: tuple[Alert, ...]
    """Alerts, by name."""
    to: tuple[Ident, ...]
    """Channels, by id."""
    repeat: Interval = timedelta(hours=12)
    """The time after which an alert is sent again, for as long as it holds."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from none(given, "when")
        yield from none(given, "to")


class ThresholdSection(Section):
    """The thresholds at which a fact becomes an alert."""

    warning: Interval = timedelta(hours=72)
    """`deadline.warning`: the provider deletes something that is not archived within this time."""
    critical: Interval = timedelta(hours=24)
    """`deadline.critical`: as `warning`, within this time; this alert wakes people."""
    stalled: Interval = timedelta(hours=1)
    """`poll.stalled`: no complete poll for this long and three times `poll_every`, or for this long after `poll_cron`
    was due."""
    checkpoint: Interval = timedelta(hours=3)
    """`checkpoint.overdue`: no custody checkpoint published for this long."""
    clock: Interval = timedelta(seconds=2)
    """`clock.skew`: this machine's clock differs from the database's by more than this."""
    spool: Annotated[int, whole(1, 100)] = 80
    """`spool.filling`: this percentage of the spool's quota is used."""
    quota: Annotated[int, whole(1, 100)] = 85
    """`quota.filling`: this percentage of the provider's storage is used."""


class Alerting(Section):
    """Channels and routes of alerts. Without routes, every alert goes to every channel."""

    channels: tuple[Annotated[AnyChannel, Field(discriminator="kind")], ...] = Field(default=(), title="channel")
    """Ways to reach people."""
    heartbeat: HeartbeatSection | None = None
    """A dead man's switch, for the one thing that no alert can say: the archiver itself is down."""
    routes: tuple[RouteSection, ...] = ()
    """Routes of alerts to channels; without any, alerts that wake people are sent every hour and the rest every 12
    hours."""
    thresholds: ThresholdSection = ThresholdSection()
    """The thresholds at which a fact becomes an alert."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from twice(given, "channels")
        known = [each.get("id") for _, each in mappings(given, "channels")]
        for index, route in mappings(given, "routes"):
            to = route.get("to")
            for at, name in enumerate(to if isinstance(to, list | tuple) else []):
                if name not in known:
                    yield Conflict(
                        ("routes", index, "to", at), "C130", f"no channel has the id {quoted(name)}", "see channels"
                    )
