"""Who is told when something is wrong, and through what."""

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
    """A URL that takes JSON by POST; 2xx means taken. Slack and its kin show its `text`."""

    kind: Literal["webhook"]
    """`webhook`"""
    id: Ident
    """Name of the channel in `routes`, logs and metrics."""
    url: TokenRef
    """The URL, by reference: whoever knows it can write there."""
    allow_http: Flag = False
    """Permit plain http: alerts then cross the network in clear."""
    ca_bundle: FilePath | None = None
    """Certificates to trust instead of the system's."""


class SmtpChannel(Section):
    """Mail."""

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
    """Whatever Apprise knows (pagers, chats, telephones); needs the extra `notify`. It opens its own connections."""

    kind: Literal["apprise"]
    """`apprise`"""
    id: Ident
    """Name of the channel in `routes`, logs and metrics."""
    url: TokenRef
    """Apprise's URL, by reference: it holds the credentials."""


AnyChannel: TypeAlias = WebhookChannel | SmtpChannel | AppriseChannel


class HeartbeatSection(Section):
    """A dead man's switch: pinged only after a sweep of every provider was finished, and while nothing is at risk or lost."""

    url: TokenRef
    """The URL to ping, by reference. Whoever is behind it raises the alarm when it stays away."""
    every: Interval = timedelta(minutes=5)
    """A daemon pings at most this often, never more often than the slowest provider is polled; `run --once` for each sweep."""
    send_log_tail: Size | None = None
    """POST this much of the redacted log's end; without it, a GET without content."""
    allow_http: Flag = False
    """Permit plain http."""
    ca_bundle: FilePath | None = None
    """Certificates to trust instead of the system's."""


class RouteSection(Section):
    """These alerts go to these channels."""

    when: tuple[Alert, ...]
    """Alerts, by name."""
    to: tuple[Ident, ...]
    """Channels, by id."""
    repeat: Interval = timedelta(hours=12)
    """Say it again this often, for as long as it holds."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from none(given, "when")
        yield from none(given, "to")


class ThresholdSection(Section):
    """When a fact becomes an alert."""

    warning: Interval = timedelta(hours=72)
    """`deadline.warning`: the provider deletes something that is not archived within this time."""
    critical: Interval = timedelta(hours=24)
    """`deadline.critical`: the same, and it wakes people."""
    stalled: Interval = timedelta(hours=1)
    """`poll.stalled`: no complete poll for this long, and for three `poll_every`; or this long after `poll_cron` was due."""
    checkpoint: Interval = timedelta(hours=3)
    """`checkpoint.overdue`: no custody checkpoint published for this long."""
    clock: Interval = timedelta(seconds=2)
    """`clock.skew`: this machine's clock differs from the database's by more."""
    spool: Annotated[int, whole(1, 100)] = 80
    """`spool.filling`: per cent of the spool's quota."""
    quota: Annotated[int, whole(1, 100)] = 85
    """`quota.filling`: per cent of the provider's storage."""


class Alerting(Section):
    """Who is told when something is wrong. Without routes, every channel hears of everything."""

    channels: tuple[Annotated[AnyChannel, Field(discriminator="kind")], ...] = Field(default=(), title="channel")
    """Ways to reach people."""
    heartbeat: HeartbeatSection | None = None
    """A dead man's switch, for what no alert can tell: that the archiver itself is down."""
    routes: tuple[RouteSection, ...] = ()
    """Which alert goes where; without any, what wakes people is said every hour and the rest every 12 hours."""
    thresholds: ThresholdSection = ThresholdSection()
    """When a fact becomes an alert."""

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
