"""Builds the providers' adapters, with their HTTP clients, rate budgets and secrets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime
from typing import cast

from archiver.clock import Clock
from archiver.config import model
from archiver.config.provider import AnyProvider, JustCall, Kazoo, Plivo, Vobiz
from archiver.config.provider import Proxy as ProxySection
from archiver.config.secrets import SecretRef
from archiver.database import Writer
from archiver.errors import ConfigurationError
from archiver.hours import Hours
from archiver.ingest.poll import PollPlan
from archiver.providers import justcall, kazoo, plivo, vobiz
from archiver.providers.catalog import CATALOG
from archiver.providers.http import HttpClient, Limits, Proxy, UnlimitedBudget
from archiver.providers.justcall_dialects import SALES_DIALER
from archiver.providers.kazoo_login import ApiKey, Login, Token, User
from archiver.providers.port import Budget, Provider
from archiver.recording import Secret, Window
from archiver.schedule.budget import Rate, SharedBudget
from archiver.schedule.window import beginning
from archiver.status.metrics import Metrics
from archiver.wall import Kind, Ours, Walls


def build_provider(
    settings: AnyProvider, config: model.Config, writer: Writer, hours: Hours, metrics: Metrics | None, walls: Walls
) -> Provider:
    """Builds the adapter of one configured provider behind its wall, with its HTTP client and its shared rate
    budget."""
    rate = Rate(settings.rate.count, settings.rate.per, burst=max(1, settings.rate.count // 2))
    budget = cast(
        "Budget", Ours(SharedBudget(writer, settings.id, rate))
    )  # the database's faults are not the provider's
    return walls.around(Kind.PROVIDER, settings.id, _adapter(settings, config, budget, hours, metrics))


def _adapter(
    settings: AnyProvider,
    config: model.Config,
    budget: Budget,
    clock: Clock,
    metrics: Metrics | None,
    secret: Callable[[SecretRef], Secret] = SecretRef.resolve,
) -> Provider:
    kind = CATALOG[settings.kind]
    client = HttpClient(
        provider=settings.id,
        origin=settings.base_url,
        media_hosts=[*kind.media_hosts, *settings.media_hosts],
        allow_http=settings.allow_http,
        allow_private_addresses=settings.allow_private_addresses,
        budget=budget,
        clock=clock,
        limits=Limits(max_size=config.pace(settings).max_size),
        hear=functools.partial(clock.heard, f"provider {settings.id}") if isinstance(clock, Hours) else None,
        proxy=_proxy(settings.proxy, secret),
        observe=None
        if metrics is None
        else lambda endpoint, code, seconds: metrics.requested(settings.id, endpoint, code, seconds),
    )
    return kind.build(settings.id, adapter_settings(settings, secret), client, clock)


def _proxy(settings: ProxySection | None, secret: Callable[[SecretRef], Secret]) -> Proxy | None:
    if settings is None:
        return None
    user = secret(settings.user).reveal() if settings.user is not None else ""
    return Proxy(settings.url, user, secret(settings.password) if settings.password is not None else None)


def reading_providers(
    config: model.Config, clock: Clock, *, asked: bool = False, walls: Walls | None = None
) -> dict[str, Provider]:
    """Builds the providers' adapters for commands, not for the daemon: without a limit on the rate of requests.

    Unless the providers will be `asked`, only the adapters' facts and scopes are used and no secret is read: a person
    who looks at a status need not be able to read the daemon's credentials.
    """
    secret = SecretRef.resolve if asked else _unread
    walls = walls or Walls(clock)
    return {
        each.id: walls.around(Kind.PROVIDER, each.id, _adapter(each, config, UnlimitedBudget(), clock, None, secret))
        for each in config.providers
    }


def _unread(_reference: SecretRef) -> Secret:
    return Secret("not-read")


def adapter_settings(settings: AnyProvider, secret: Callable[[SecretRef], Secret] = SecretRef.resolve) -> object:
    """The adapter's own settings, with each secret read by `secret`."""
    filters = settings.filters.query()
    match settings:
        case JustCall():
            return justcall.JustCallSettings(
                secret(settings.api_key), secret(settings.api_secret), base_url=settings.base_url,
                media_hosts=settings.media_hosts, allow_http=settings.allow_http, dialect=settings.dialect,
                plan=settings.plan, retention=settings.keeps().keeps, filters=filters, sales_dialer=settings.sales_dialer,
                child=settings.child,
            )  # fmt: skip
        case Kazoo():
            return kazoo.KazooSettings(
                base_url=settings.base_url, account_id=secret(settings.account_id).reveal(),
                login=_kazoo_login(settings, secret),
                allow_http=settings.allow_http, users=settings.users, filters=filters,
                read_only=settings.read_only, max_window=settings.max_window,
            )  # fmt: skip
        case Vobiz():
            return vobiz.VobizSettings(
                secret(settings.auth_id).reveal(), secret(settings.auth_token), base_url=settings.base_url,
                media_hosts=settings.media_hosts, allow_http=settings.allow_http, filters=filters,
            )  # fmt: skip
        case Plivo():
            tokens = {each.id: secret(each.auth_token) for each in settings.subaccounts if each.auth_token}
            return plivo.PlivoSettings(
                secret(settings.auth_id).reveal(), secret(settings.auth_token), base_url=settings.base_url,
                media_hosts=settings.media_hosts, allow_http=settings.allow_http, filters=filters,
                subaccounts=tuple(each.id for each in settings.subaccounts),
                subaccount_tokens=tokens, original=settings.original,
            )  # fmt: skip


def _kazoo_login(settings: Kazoo, secret: Callable[[SecretRef], Secret]) -> Login:
    if settings.auth_token is not None:
        return Token(secret(settings.auth_token))
    if settings.api_key is not None:
        return ApiKey(secret(settings.api_key))
    assert settings.user is not None  # the configuration demands one of the three
    assert settings.password is not None
    return User(
        secret(settings.user), secret(settings.password), account_name=settings.account_name,
        account_realm=settings.account_realm, phone_number=settings.phone_number, method=settings.method,
    )  # fmt: skip


def accounts(settings: AnyProvider) -> frozenset[str]:
    """The accounts at the provider that its rows may belong to, as `RecordingRef.account` names them."""
    match settings:
        case JustCall():
            return frozenset({"", SALES_DIALER})
        case Kazoo():
            return frozenset({settings.account_id.resolve().reveal()})
        case Vobiz():
            return frozenset({settings.auth_id.resolve().reveal()})
        case Plivo():
            return frozenset({settings.auth_id.resolve().reveal(), *(each.id for each in settings.subaccounts)})


def sharing(settings: AnyProvider, config: model.Config) -> tuple[str, ...]:
    """The ids of all configured providers that share this one's account, and so its quota, this one included.

    One JustCall account may be configured under several ids: for its calls and for its dialer, or once for each filter.
    """
    if not isinstance(settings, JustCall):
        return (settings.id,)
    ours = _account_of(settings)
    return tuple(each.id for each in config.providers if isinstance(each, JustCall) and _account_of(each) == ours)


def _account_of(settings: JustCall) -> tuple[str, object, object]:
    """A value that is equal for two providers of one account; made of the references where the secrets cannot be
    read."""
    try:
        return settings.base_url, settings.api_key.resolve(), settings.api_secret.resolve()
    except ConfigurationError:
        return settings.base_url, settings.api_key, settings.api_secret


def poll_plan(settings: AnyProvider, config: model.Config) -> PollPlan:
    """The plan for listing this provider: never further back than its retention can still hold."""
    pace = config.pace(settings)
    return PollPlan(
        overlap=pace.overlap,
        margin=pace.safety_margin,
        retention=settings.keeps(),
        earliest=settings.backfill_from,
        shared=sharing(settings, config),
        backfill_every=settings.rate.per / settings.rate.count * (100 / settings.backfill_share),
    )


def listing_span(settings: AnyProvider, provider: Provider, now: datetime, covered: datetime | None) -> Window:
    """The whole span of provider time that should be covered. Time after the last covered instant is not missing
    yet."""
    facts = provider.facts
    until = covered or now - facts.settle
    return Window(beginning(facts.earliest, settings.backfill_from, until), until)
