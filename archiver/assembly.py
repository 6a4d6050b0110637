"""From a configuration to running parts: the composition root. Decides nothing; only here do all parts know one another."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine

from archiver import __version__, errors
from archiver.clock import Chance, Clock, SystemChance, SystemClock
from archiver.config import model
from archiver.config.provider import AnyProvider, JustCall, Kazoo, Plivo, Vobiz
from archiver.custody.keys import load_signing_key, public_hex
from archiver.custody.ledger import Ledger
from archiver.database import Writer, check_schema, create_engine, current_revision, read
from archiver.fetch.receive import ReceiveLimits
from archiver.fetch.spool import Spool, lock_state_dir
from archiver.ingest import survey
from archiver.ingest.destination import Destination
from archiver.ingest.links import Links
from archiver.ingest.poll import Poller, PollPlan
from archiver.ingest.run import Bench, Policy, Worker
from archiver.providers import justcall, kazoo, plivo, vobiz
from archiver.providers.catalog import CATALOG
from archiver.providers.http import HttpClient, Limits, UnlimitedBudget
from archiver.providers.kazoo_login import ApiKey, Login, Token, User
from archiver.providers.port import Budget, Provider
from archiver.recording import LockMode, Window
from archiver.schedule.budget import Rate, SharedBudget
from archiver.seal.kms import KmsIdentity, kms_recipient
from archiver.seal.recipients import Identity, Recipient, load_identity, load_recipient
from archiver.status import report as reports
from archiver.status.metrics import Metrics
from archiver.store.directory import DirectoryStore
from archiver.store.port import ObjectStore
from archiver.store.s3 import S3Options, S3Store

log = structlog.get_logger("archiver.assembly")
T = TypeVar("T")

_THREADS = 8


@dataclass(slots=True)
class Assembly:
    """Everything that one process runs with. Made by `assemble`, ended by `aclose`."""

    config: model.Config
    engine: Engine
    writer: Writer
    ledger: Ledger
    spool: Spool
    bench: Bench
    destinations: Sequence[Destination]
    providers: Mapping[str, Provider]
    pollers: Mapping[str, Poller]
    workers: Mapping[str, Worker]
    metrics: Metrics
    clock: Clock
    chance: Chance
    executor: Executor
    replica_id: str
    stirred: asyncio.Event
    held: ExitStack
    host: str = ""
    version: str = __version__

    @property
    def poll_every(self) -> dict[str, timedelta]:
        return {each.id: self.config.pace(each).every for each in self.config.providers}

    @property
    def cron(self) -> dict[str, str]:
        found = {each.id: self.config.pace(each).cron for each in self.config.providers}
        return {name: expression for name, expression in found.items() if expression is not None}

    @property
    def listen(self) -> tuple[str, int] | None:
        return None if self.config.web is None else (self.config.web.listen.host, self.config.web.listen.port)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """`fn` over one instant of the database."""
        return await read(self.engine, fn)

    async def report(self) -> reports.Report:
        """The status report as of now."""
        now = self.clock.now()
        return await self.read(lambda conn: make_report(conn, self.config, self.providers, now))

    async def status_json(self) -> str:
        now = self.clock.now().isoformat().replace("+00:00", "Z")
        data = reports.as_json(await self.report())
        return json.dumps({"schema": "archiver.status/v1", "generated_at": now, "data": data}, sort_keys=True)

    async def metrics_text(self) -> bytes:
        self.metrics.show(await self.report())
        self.metrics.spool(self.spool.usage().used, self.config.spool.quota)
        return self.metrics.text()

    async def unready(self) -> dict[str, str]:
        """What keeps this process from working, by name; empty when ready. Providers and storages do not count."""
        failed: dict[str, str] = {}
        try:
            await asyncio.to_thread(check_schema, self.engine)
        except errors.SchemaError as old:
            failed["schema"] = str(old)
        except errors.UnavailableError as down:
            failed["database"] = str(down)
        return failed

    async def aclose(self) -> None:
        """Release everything; safe to call once work has been drained."""
        for provider in self.providers.values():
            await provider.aclose()
        for destination in self.destinations:
            await destination.store.aclose()
        self.writer.close()
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.engine.dispose()
        self.held.close()


async def assemble(
    config: model.Config, *, clock: Clock | None = None, chance: Chance | None = None, only: Sequence[str] | None = None
) -> Assembly:
    """Build and check every part. Raises `ConfigurationError`, `SchemaError`, `KeyUnavailableError` or `UnavailableError`.

    Enrols this process's session key in the custody log, and takes the state directory for itself. `only` names providers.
    """
    clock, chance = clock or SystemClock(), chance or SystemChance()
    engine = open_database(config)
    check_schema(engine)
    host_key = signing_key(config)
    state_dir = Path(config.state_dir)
    held = ExitStack()
    held.enter_context(lock_state_dir(state_dir))
    spool = Spool(state_dir / "spool", config.spool.quota, clock=clock, chance=chance)
    writer = Writer(engine)
    ledger = Ledger.open(clock, chance)
    await writer.run(lambda conn: ledger.enroll(conn, host_key))
    metrics = Metrics(__version__)
    replica_id = chance.uuid()
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="seal")
    destinations = [Destination(store) for store in build_stores(config, clock, chance).values()]
    links = Links()
    bench = Bench(
        writer=writer, ledger=ledger, spool=spool, recipients=build_recipients(config), destinations=destinations, links=links,
        telemetry=metrics, clock=clock, chance=chance, executor=executor, replica_id=replica_id,
    )  # fmt: skip
    chosen = [each for each in config.providers if only is None or each.id in only]
    providers = {each.id: build_provider(each, config, writer, clock, metrics) for each in chosen}
    pollers = {
        each.id: Poller(
            providers[each.id], poll_plan(each, config), writer=writer, ledger=ledger, links=links,
            telemetry=metrics, clock=clock, chance=chance, replica_id=replica_id,
        )
        for each in chosen
    }  # fmt: skip
    rules, default = config.retention.policy()
    workers = {
        each.id: Worker(
            providers[each.id],
            Policy(ReceiveLimits(max_size=config.pace(each).max_size), rules, default),
            bench,
            config.pace(each).concurrency,
        )
        for each in chosen
    }
    return Assembly(
        config=config, engine=engine, writer=writer, ledger=ledger, spool=spool, bench=bench, destinations=destinations,
        providers=providers, pollers=pollers, workers=workers, metrics=metrics, clock=clock, chance=chance, executor=executor,
        replica_id=replica_id, stirred=asyncio.Event(), held=held, host=socket.gethostname(),
    )  # fmt: skip


def open_database(config: model.Config) -> Engine:
    """The engine of the configured database; connects to nothing yet."""
    return create_engine(config.database.resolve().reveal(), Path(config.state_dir))


def signing_key(config: model.Config) -> Ed25519PrivateKey:
    """The host's custody key."""
    return load_signing_key(config.custody.signing_key.resolve().reveal().encode())


def hosts(config: model.Config) -> frozenset[str]:
    """The host keys that may enrol writers, in hex: this host's own."""
    return frozenset({public_hex(signing_key(config))})


def build_provider(
    settings: AnyProvider, config: model.Config, writer: Writer, clock: Clock, metrics: Metrics | None
) -> Provider:
    """The adapter of one configured provider, with its HTTP client and its shared rate budget."""
    rate = Rate(settings.rate.count, settings.rate.per, burst=max(1, settings.rate.count // 2))
    return _adapter(settings, config, SharedBudget(writer, settings.id, rate), clock, metrics)


def _adapter(
    settings: AnyProvider, config: model.Config, budget: Budget, clock: Clock, metrics: Metrics | None
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
        observe=None
        if metrics is None
        else lambda endpoint, code, seconds: metrics.requested(settings.id, endpoint, code, seconds),
    )
    return kind.build(settings.id, adapter_settings(settings), client, clock)


def reading_providers(config: model.Config, clock: Clock) -> dict[str, Provider]:
    """The providers' adapters for their facts and scopes, with a budget of their own: for commands, not for the daemon."""
    return {each.id: _adapter(each, config, UnlimitedBudget(), clock, None) for each in config.providers}


def adapter_settings(settings: AnyProvider) -> object:
    """The adapter's own settings, with secrets resolved."""
    filters = settings.filters.query()
    match settings:
        case JustCall():
            return justcall.JustCallSettings(
                settings.api_key.resolve(), settings.api_secret.resolve(), base_url=settings.base_url,
                media_hosts=settings.media_hosts, allow_http=settings.allow_http, dialect=settings.dialect,
                plan=settings.plan, retention=settings.keeps().keeps, filters=filters, sales_dialer=settings.sales_dialer,
            )  # fmt: skip
        case Kazoo():
            return kazoo.KazooSettings(
                base_url=settings.base_url, account_id=settings.account_id.resolve().reveal(), login=_kazoo_login(settings),
                allow_http=settings.allow_http, users=settings.users, filters=filters,
            )  # fmt: skip
        case Vobiz():
            return vobiz.VobizSettings(
                settings.auth_id.resolve().reveal(), settings.auth_token.resolve(), base_url=settings.base_url,
                media_hosts=settings.media_hosts, allow_http=settings.allow_http, filters=filters,
            )  # fmt: skip
        case Plivo():
            tokens = {each.id: each.auth_token.resolve() for each in settings.subaccounts if each.auth_token}
            return plivo.PlivoSettings(
                settings.auth_id.resolve().reveal(), settings.auth_token.resolve(), base_url=settings.base_url,
                media_hosts=settings.media_hosts, allow_http=settings.allow_http, filters=filters,
                subaccounts=tuple(each.id for each in settings.subaccounts),
                subaccount_tokens=tokens, original=settings.original,
            )  # fmt: skip


def _kazoo_login(settings: Kazoo) -> Login:
    if settings.auth_token is not None:
        return Token(settings.auth_token.resolve())
    if settings.api_key is not None:
        return ApiKey(settings.api_key.resolve())
    assert settings.user is not None  # the configuration demands one of the three
    assert settings.password is not None
    return User(
        settings.user.resolve(), settings.password.resolve(), account_name=settings.account_name,
        account_realm=settings.account_realm, method=settings.method,
    )  # fmt: skip


def poll_plan(settings: AnyProvider, config: model.Config) -> PollPlan:
    """How to enumerate this provider: never back beyond what its retention can still hold."""
    pace = config.pace(settings)
    return PollPlan(
        overlap=pace.overlap,
        margin=pace.safety_margin,
        retention=settings.keeps(),
        earliest=settings.backfill_from,
    )


def build_stores(config: model.Config, clock: Clock, chance: Chance) -> dict[str, ObjectStore]:
    """Every configured storage by id. Raises `ConfigurationError` for unreadable credentials."""
    stores: dict[str, ObjectStore] = {}
    for each in config.storage:
        if isinstance(each, model.DirectoryStorage):
            stores[each.id] = DirectoryStore(
                each.id, Path(each.path), required=each.required, clock=clock, chance=chance
            )
        else:
            stores[each.id] = S3Store(s3_options(each), clock, chance)
    return stores


def s3_options(settings: model.S3Storage) -> S3Options:
    """The store's own options, with secrets resolved."""
    return S3Options(
        id=settings.id,
        endpoint=settings.endpoint,
        region=settings.region,
        bucket=settings.bucket,
        prefix=settings.prefix,
        access_key=settings.access_key.resolve() if settings.access_key else None,
        secret_key=settings.secret_key.resolve() if settings.secret_key else None,
        session_token=settings.session_token.resolve() if settings.session_token else None,
        ca_bundle=Path(settings.ca_bundle) if settings.ca_bundle else None,
        addressing=settings.addressing,
        lock_mode=LockMode(settings.object_lock.mode),
        storage_class=settings.storage_class,
        sse=settings.sse.mode if settings.sse else None,
        sse_key_id=settings.sse.key_id if settings.sse else None,
        required=settings.required,
    )


def build_recipients(config: model.Config) -> list[Recipient]:
    """Everyone who can open what is sealed from now on. Raises `ConfigurationError` or `KeyUnavailableError`."""
    found: list[Recipient] = []
    for each in config.encryption.recipients:
        if isinstance(each, model.KeyWrapRecipient):
            found.append(load_recipient(each.id, each.kind, each.key.resolve().reveal().encode()))
        elif each.kms is not None:
            found.append(kms_recipient(each.id, each.kms.key_id, region=each.kms.region, endpoint=each.kms.endpoint))
        else:
            assert each.public_key is not None
            found.append(load_recipient(each.id, each.kind, each.public_key.resolve().reveal().encode()))
    return found


def build_identities(config: model.Config) -> list[Identity]:
    """The keys that this host opens recordings with; empty on a host that only writes."""
    found: list[Identity] = []
    for each in config.encryption.identities:
        if each.kms is not None:
            found.append(KmsIdentity(each.id, each.kms.key_id, region=each.kms.region, endpoint=each.kms.endpoint))
        else:
            secret = each.private_key or each.key
            assert secret is not None
            kind = "rsa-oaep-256" if each.private_key else "aes-kw-256"
            found.append(load_identity(each.id, kind, secret.resolve().reveal().encode()))
    return found


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


def listing_span(settings: AnyProvider, provider: Provider, now: datetime, covered: datetime | None) -> Window:
    """All of provider time that ought to be covered; what is younger than the last covered instant is not missing yet."""
    facts = provider.facts
    earliest = max(facts.earliest, settings.backfill_from) if settings.backfill_from else facts.earliest
    return Window(earliest, covered or now - facts.settle)


def current_revision_of(conn: Connection) -> str:
    return current_revision(conn.engine) or "none"


def user() -> str:
    """Who runs this command, for custody events."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid-{os.getuid()}"


def utc(text: str) -> datetime:
    """An instant from a command line: a date or an ISO time, UTC unless it says otherwise. Raises ValueError."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
