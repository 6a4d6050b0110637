"""The configuration of the four kinds of providers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from archiver.config.fields import (
    Cron,
    Duration,
    Flag,
    Host,
    Ident,
    Instant,
    Interval,
    Origin,
    Rate,
    Size,
    Text,
    TextOrRef,
    TokenRef,
    whole,
)
from archiver.config.filters import JustCallFilters, KazooFilters, PlivoFilters, VobizFilters, wrong_dialect
from archiver.config.section import Conflict, Section
from archiver.config.values import Rate as RateValue
from archiver.config.values import Size as SizeValue
from archiver.config.values import parse_duration
from archiver.schedule.deadline import ProviderRetention

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)


class Keeps(Section):
    """The provider's own retention: one of `days`, `months` or `keep`; a duration alone, or `none` for no limit."""

    days: Annotated[int, whole(1, 36_500)] | None = None
    """Number of days after the call."""
    months: Annotated[int, whole(1, 1_200)] | None = None
    """Number of whole months: all recordings of a month are deleted at once, with the month's database."""
    keep: Interval | None = None
    """Any duration; `retention: 90d` is short for this."""
    source: Text | None = None
    """The source of this figure, e.g. "contract 2026-02, §4". It is shown with every deadline."""

    _ways: ClassVar[tuple[str, ...]] = ("days", "months", "keep")

    @classmethod
    def shorthand(cls, given: Any) -> Any:
        if isinstance(given, str):
            return cls.model_construct() if given == "none" else {"keep": parse_duration(given)}
        return given

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        ways = [name for name in given if name in cls._ways]
        for name in ways[1:]:
            yield Conflict((name,), "C130", f"'{name}' and '{ways[0]}' exclude one another", "state one of them")
        if not ways:
            yield Conflict((), "C102", f"missing key: one of {', '.join(cls._ways)}", "or  retention: none")

    def facts(self) -> ProviderRetention:
        keeps = timedelta(days=self.days) if self.days is not None else self.keep
        return ProviderRetention(self.source or "configuration", keeps, self.months)


class Proxy(Section):
    """A proxy for requests to this provider; the URL alone may stand for the section. The environment's proxies are
    ignored."""

    url: Origin
    """Scheme, host and port of the proxy; https goes through it by CONNECT, so that the proxy sees no content."""
    user: TextOrRef | None = None
    """User name at the proxy."""
    password: TokenRef | None = None
    """Password at the proxy."""

    @classmethod
    def shorthand(cls, given: Any) -> Any:
        return {"url": given} if isinstance(given, str) else given

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        for one, other in (("user", "password"), ("password", "user")):
            if one in given and other not in given:
                yield Conflict((), "C102", f"missing key '{other}'", f"it goes with {one}")


class Provider(Section):
    """The settings of every provider account."""

    id: Ident
    """Stable name of the provider in metrics, object keys and evidence. Never rename it."""
    base_url: Origin
    """Scheme, host and port of the API; the documented path is added."""
    media_hosts: tuple[Host, ...] = ()
    """Hosts, besides the API's own, from which recordings may be fetched; `*.` matches any subdomain. Write `host:port`
    for a port that is neither 443 nor 80; with `allow_private_addresses` a host stands for all of its ports."""
    allow_http: Flag = False
    """Permit plain http: credentials and recordings then cross the network in clear."""
    allow_private_addresses: Flag = False
    """Permit loopback and private addresses; link-local addresses are never permitted."""
    proxy: Proxy | None = None
    """A proxy between the archiver and this provider."""
    poll_every: Interval | None = None
    """The time between two polls for new recordings; instead of the default."""
    poll_cron: Cron | None = None
    """The times of polls for new recordings, in UTC; instead of `poll_every`."""
    overlap: Duration | None = None
    """The length of time already covered that each poll lists again; instead of the default."""
    safety_margin: Duration | None = None
    """The safety margin before the provider's deadline; instead of the default."""
    rate: Rate
    """The most requests sent with this account's credentials."""
    concurrency: Annotated[int, whole(1, 64)] | None = None
    """Downloads at the same time; instead of the default."""
    max_size: Size | None = None
    """The largest recording that is fetched; instead of the default."""
    backfill_from: Instant | None = None
    """The earliest time that the first walk lists; without it, the walk goes back as far as the provider has
    recordings."""
    backfill_share: Annotated[int, whole(1, 100)] = 50
    """The highest percentage of `rate` for listing time that was missed; the rest is for new recordings and
    downloads."""
    retention: Keeps | None = None
    """The provider's own retention: `90d`, `{days: 90}`, `{months: 6}` or `none`."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        if "poll_every" in given and "poll_cron" in given:
            yield Conflict(
                ("poll_cron",), "C130", "'poll_cron' and 'poll_every' exclude one another", "state one of them"
            )
        http = str(given.get("base_url", "")).lower().startswith("http:")
        if http and str(given.get("allow_http", "")).lower() != "true":
            yield Conflict(("base_url",), "C124", "plain http is refused", "use https, or set  allow_http: true")

    def keeps(self) -> ProviderRetention:
        """The provider's own retention clock, with its source; no limit when none is stated."""
        return self.retention.facts() if self.retention is not None else ProviderRetention("not stated")


PLANS = {
    "team": (90 * _DAY, SizeValue(5 * 10**9)),
    "pro": (365 * _DAY, SizeValue(25 * 10**9)),
    "business": (730 * _DAY, SizeValue(100 * 10**9)),
}
"""Each JustCall plan's retention and quota ("Recording Retention Policies", 2026-03-12). Enterprise is by contract."""

PlanName: TypeAlias = Annotated[Literal["team", "pro", "business", "enterprise"], Field(title="JustCall plan")]


class JustCallKeeps(Keeps):
    """The retention as for every provider, or by `plan`."""

    plan: PlanName | None = None
    """The account's plan; the same as the provider's key `plan`."""

    _ways: ClassVar[tuple[str, ...]] = ("days", "months", "keep", "plan")


class JustCall(Provider):
    """A JustCall account."""

    kind: Literal["justcall"]
    """`justcall`"""
    base_url: Origin = "https://api.justcall.io"
    """Scheme, host and port of the API; the documented path is added."""
    rate: Rate = RateValue(30, _MINUTE)
    """The most requests sent with this account's credentials."""
    api_key: TokenRef
    """API key."""
    api_secret: TokenRef
    """API secret."""
    dialect: Annotated[Literal["v2", "v2.1"], Field(title="JustCall dialect")] = "v2"
    """`v2` as documented, or the vendor's `v2.1`."""
    plan: PlanName | None = None
    """The account's plan, which sets its retention and its quota. Without this key it counts as `team`, the
    shortest."""
    quota: Size | None = None
    """The account's storage limit, when it is not the plan's. The time when the storage is full counts as a
    deadline."""
    sales_dialer: Flag = False
    """Archive also the calls of the Sales Dialer, which are a separate collection (dialect `v2.1`)."""
    child: Flag = True
    """Archive also a call's second recording, as the variant `child` (dialect `v2.1`)."""
    retention: JustCallKeeps | None = None
    """JustCall's retention, when it is not the plan's."""
    filters: JustCallFilters = JustCallFilters()
    """Only list what matches."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from super().conflicts(given)
        yield from wrong_dialect(given.get("dialect", "v2"), given.get("filters"))
        retention = given.get("retention")
        if "plan" in given and isinstance(retention, Mapping) and retention.get("plan", given["plan"]) != given["plan"]:
            yield Conflict(("retention",), "C130", "'retention' names another plan than 'plan'", "state the plan once")
        if str(given.get("sales_dialer")).lower() == "true" and given.get("dialect") != "v2.1":
            yield Conflict(("sales_dialer",), "C130", "'sales_dialer' needs dialect v2.1", "add  dialect: v2.1")
        if "child" in given and given.get("dialect") != "v2.1":
            yield Conflict(("child",), "C130", "'child' needs dialect v2.1", "v2 knows no second recording")
        if given.get("plan") == "enterprise" and retention is None:
            yield Conflict(
                ("plan",),
                "C130",
                "an enterprise plan's retention is by contract",
                "add  retention: {days: N, source: …}",
            )

    def keeps(self) -> ProviderRetention:
        """The retention by plan, unless stated otherwise; without a plan, that of `team`, the shortest."""
        plan = self.plan or (self.retention.plan if self.retention is not None else None)
        keeps, quota = PLANS.get(plan or "team", (None, None))
        quota = self.quota or quota
        if self.retention is None or self.retention.plan is not None:
            source = (
                self.retention.source if self.retention is not None else None
            ) or f"JustCall plan {plan or 'team (assumed)'}"
            return ProviderRetention(source, keeps, None, quota)
        facts = self.retention.facts()
        return ProviderRetention(facts.source, facts.keeps, facts.months, self.quota or (quota if plan else None))


class Kazoo(Provider):
    """A KAZOO (2600Hz) account. Authenticates by `auth_token`, by `api_key`, or by `user` and `password`."""

    kind: Literal["kazoo"]
    """`kazoo`"""
    base_url: Origin
    """Scheme, host and port of Crossbar, such as `https://kazoo.example.net:8443`."""
    rate: Rate = RateValue(5, timedelta(seconds=1))
    """The most requests sent with this account's credentials."""
    account_id: TextOrRef
    """Account id."""
    auth_token: TokenRef | None = None
    """A token made elsewhere; when it expires, a person must renew it."""
    api_key: TokenRef | None = None
    """The account's API key; tokens are made and renewed from it."""
    user: TextOrRef | None = None
    """User name; tokens are made and renewed from it and `password`."""
    password: TokenRef | None = None
    """The user's password."""
    account_name: Text | None = None
    """The user's account, by name."""
    account_realm: Text | None = None
    """The user's account, by realm."""
    phone_number: Text | None = None
    """The user's account, by one of its numbers."""
    read_only: Flag = False
    """Ask for tokens that may only read; with `api_key` or `user`, since an `auth_token` has the rights that it was
    made with."""
    max_window: Interval = timedelta(days=31) - timedelta(minutes=1)
    """The longest span of one listing; for operators who changed crossbar's `maximum_range`."""
    method: Literal["md5", "sha"] = "md5"
    """The hash of user and password in the log-in."""
    users: tuple[Text, ...] = ()
    """Ids of users whose recordings are listed, one user after the other; without this key, the whole account is
    listed."""
    filters: KazooFilters = KazooFilters()
    """Only list what matches."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from super().conflicts(given)
        ways = [name for name in ("auth_token", "api_key", "user") if name in given]
        for name in ways[1:]:
            yield Conflict((name,), "C130", f"'{name}' and '{ways[0]}' exclude one another", "authenticate in one way")
        if not ways:
            yield Conflict((), "C102", "missing key: one of auth_token, api_key, user")
        if "auth_token" in given and str(given.get("read_only")).lower() == "true":
            yield Conflict(
                ("read_only",), "C130", "'read_only' does nothing with 'auth_token'", "make the token itself read-only"
            )
        if "user" not in given:
            return
        if "password" not in given:
            yield Conflict((), "C102", "missing key 'password'", "it goes with user")
        if sum(name in given for name in ("account_name", "account_realm", "phone_number")) != 1:
            yield Conflict(("user",), "C130", "'user' needs one of account_name, account_realm and phone_number")


class Vobiz(Provider):
    """A Vobiz account."""

    kind: Literal["vobiz"]
    """`vobiz`"""
    base_url: Origin = "https://api.vobiz.ai"
    """Scheme, host and port of the API; the documented path is added."""
    rate: Rate = RateValue(60, _MINUTE)
    """The most requests sent with this account's credentials."""
    auth_id: TextOrRef
    """Account id, `MA_…`."""
    auth_token: TokenRef
    """Auth token."""
    filters: VobizFilters = VobizFilters()
    """Only list what matches."""


class Subaccount(Section):
    """A Plivo subaccount; its id `SA…` alone may stand for the section."""

    id: Text
    """`SA…`"""
    auth_token: TokenRef | None = None
    """The subaccount's own token: needed when recordings are behind HTTP authentication."""

    @classmethod
    def shorthand(cls, given: Any) -> Any:
        return {"id": given} if isinstance(given, str) else given


class Plivo(Provider):
    """A Plivo account."""

    kind: Literal["plivo"]
    """`plivo`"""
    base_url: Origin = "https://api.plivo.com"
    """Scheme, host and port of the API; the documented path is added."""
    rate: Rate = RateValue(5, timedelta(seconds=1))
    """The most requests sent with this account's credentials."""
    auth_id: TextOrRef
    """Auth id, `MA…`."""
    auth_token: TokenRef
    """Auth token."""
    subaccounts: tuple[Subaccount, ...] = ()
    """Subaccounts whose recordings are archived too."""
    original: Flag = False
    """Archive also the recording from before noise cancellation, as the variant `original` (India region)."""
    filters: PlivoFilters = PlivoFilters()
    """Only list what matches."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        yield from super().conflicts(given)
        filters = given.get("filters")
        if given.get("subaccounts") and isinstance(filters, Mapping) and "subaccount" in filters:
            message = "the filter 'subaccount' and the key 'subaccounts' exclude one another"
            yield Conflict(("filters", "subaccount"), "C130", message, "subaccounts are listed one by one")


AnyProvider: TypeAlias = JustCall | Kazoo | Vobiz | Plivo
