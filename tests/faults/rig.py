"""One provider, from its simulator to a stored copy: the real adapter, poll, journal, worker, spool and storage.

Only what a test has to hurry or to look at is given from outside: the clock (which runs, and can be moved), the limits of the
HTTP client, and the telemetry.
"""

from __future__ import annotations

import asyncio
import json
import resource
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.exc import SADeprecationWarning

from archiver.clock import SystemChance, SystemClock
from archiver.custody import history
from archiver.custody.event import Event, parse
from archiver.custody.keys import generate_signing_key
from archiver.custody.ledger import Ledger
from archiver.database import Writer, create_engine
from archiver.demo.simulators import Account, Audio, MovableClock, SimRecording, month_of_calls
from archiver.demo.simulators.scenario import Kind
from archiver.fetch.receive import ReceiveLimits
from archiver.fetch.spool import Spool
from archiver.ingest import covered_spans, queries
from archiver.ingest.context import Policy, WorkerContext
from archiver.ingest.destination import Destination
from archiver.ingest.links import Links
from archiver.ingest.poll import Poller, PollPlan
from archiver.ingest.tables import provider_state, recording, reject
from archiver.ingest.telemetry import Silence
from archiver.ingest.worker import Worker
from archiver.providers.http import HttpClient, Limits
from archiver.providers.port import Provider
from archiver.recording import Window
from archiver.retention.policy import Rule
from archiver.retention.span import Span
from archiver.schedule.deadline import ProviderRetention
from archiver.seal.recipients import load_recipient
from archiver.store.directory import DirectoryStore
from tests.contract.provider_cases import CASES, Free, sounds
from tests.seal_keys import generate_local_key

QUICK = Limits(
    connect_timeout=timedelta(seconds=2),
    read_timeout=timedelta(seconds=1),
    answer_time=timedelta(seconds=2),
    minimum_rate=20_000,
    rate_window=timedelta(seconds=0.5),
)
"""For tests of slowness only: a busy machine may take a second for anything."""
PLAIN = Limits()
NINETY_DAYS = ProviderRetention("test", timedelta(days=90))
ADAPTERS = tuple(CASES)


class Told(Silence):
    """What the pipe told whoever measures it."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    def suspicious_empty(self, provider: str) -> None:
        self.count["suspicious_empty"] += 1

    def attempted(self, provider: str, outcome: str) -> None:
        self.count[outcome] += 1

    def lost(self, provider: str, reason: str) -> None:
        self.count[f"lost: {reason}"] += 1

    def refreshed(self, provider: str) -> None:
        self.count["refreshed"] += 1


class OwnClock(MovableClock):
    """The archiver's clock: the provider's, and wrong by `off`."""

    def __init__(self, true: MovableClock) -> None:
        super().__init__(true.now())
        self._true = true
        self.off = timedelta(0)

    def now(self) -> datetime:
        return self._true.now() + self.off

    def monotonic(self) -> float:
        return self._true.monotonic()


@dataclass
class Rig:
    """`clock` is the provider's, `own` ours and the database's. `codes`: status or kind of failure of every exchange, in order.
    `told`: the telemetry."""

    simulator: Any
    account: Account
    clock: MovableClock
    own: OwnClock
    provider: Provider
    poller: Poller
    worker: Worker
    context: WorkerContext
    engine: Engine
    budget: Free
    told: Told
    codes: list[int | str]
    folder: Path

    async def poll(self) -> bool:
        return await self.poller.poll()

    async def work(self) -> None:
        """Do everything that is ready now."""
        while await self.worker.fill() or self.worker.busy:
            await self.worker.changed()
        if self.worker.broken is not None:
            raise self.worker.broken

    async def pass_time(self, by: timedelta) -> None:
        """Move the clock, the database's too as far as it rules what rests."""
        self.clock.move(by)  # and ours with it
        now = self.own.now()
        due = recording.c.next_attempt_at <= now

        def wake(conn: Connection) -> None:
            conn.execute(update(recording).where(due).values(ready=True, next_attempt_at=None))
            conn.execute(update(provider_state).where(provider_state.c.parked_until <= now).values(parked_until=None))

        await self.context.writer.run(wake)

    async def settle(self, rounds: int = 6, each: timedelta = timedelta(hours=1, minutes=1)) -> None:
        """Work, and come back when what waits is due, until nothing waits any more."""
        for _ in range(rounds):
            await self.work()
            if not any(row["state"] in ("listed", "waiting", "spooled") for row in self.rows()):
                return
            await self.pass_time(each)
        await self.work()

    # --- what is known afterwards

    def rows(self) -> list[dict[str, Any]]:
        """Every recording of the journal with all its columns, oldest first; `flags` as a set."""
        with self.engine.connect() as conn:
            found = conn.execute(select(recording).order_by(recording.c.call_started_at, recording.c.id)).mappings()
            return [{**row, "flags": set(json.loads(row["flags"]))} for row in found]

    def row(self, provider_id: str) -> dict[str, Any]:
        (row,) = [each for each in self.rows() if each["provider_recording_id"] == provider_id]
        return row

    def events(self, row: Mapping[str, Any], kind: str = "") -> list[Event]:
        """The custody events of one row, in order, of all types or of one."""
        with self.engine.connect() as conn:
            found = [parse(each.raw) for each in history.entries(conn, f"rec:{row['id']}")]
        return [each for each in found if kind in ("", each.type)]

    def rejects(self) -> list[dict[str, Any]]:
        with self.engine.connect() as conn:
            return [dict(row) for row in conn.execute(select(reject)).mappings()]

    def covered(self, scope: str = "") -> tuple[Window, ...]:
        with self.engine.connect() as conn:
            return covered_spans.covered(conn, self.provider.id, scope or self.provider.scopes()[0])

    def status(self) -> queries.ProviderCounts:
        with self.engine.connect() as conn, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", SADeprecationWarning
            )  # queries.counts asks for .tuples(), which 2.1 frowns at
            return queries.counts(conn, [self.provider.id], self.clock.now())[0]

    def digests(self) -> list[str]:
        """The content of everything archived."""
        return sorted(row["plaintext_sha256"] for row in self.rows() if row["state"] == "archived")

    def truth(self) -> list[str]:
        """The content of everything that the provider has."""
        return sorted(each.audio.digest for each in self.account.recordings if each.audio is not None)

    def stored(self) -> list[Path]:
        """The objects in the storage, without notes and canaries."""
        return sorted(
            path
            for kind in ("recordings", "quarantine")
            for path in (self.folder / "copies" / kind).rglob("*")
            if path.is_file() and path.suffix == ""
        )

    def spool_is_empty(self) -> bool:
        usage = self.context.spool.usage()
        left = [path for path in (self.folder / "spool").iterdir() if path.suffix in (".part", ".sealed")]
        return (usage.used, usage.reserved, left) == (0, 0, [])

    def written(self) -> bytes:
        """Every byte that was put on disk: databases, spool, copies."""
        return b"".join(path.read_bytes() for path in self.folder.rglob("*") if path.is_file())


@asynccontextmanager
async def rig(
    case: str,
    folder: Path,
    url: str,
    *,
    recordings: Sequence[SimRecording] | None = None,
    calls: int = 3,
    simulator: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    hosts: Sequence[str] = (),
    limits: Limits = PLAIN,
    max_pages: int | None = None,
    retention: ProviderRetention = NINETY_DAYS,
    overlap: timedelta = timedelta(hours=24),
    back: timedelta = timedelta(days=29),
    concurrency: int = 4,
    client: Mapping[str, Any] | None = None,
    start: datetime | None = None,
) -> AsyncIterator[Rig]:
    """`case` names the adapter (and dialect). `hosts`: more media hosts. `client`: other settings of the HTTP client.

    `start`: the time at which the account's clock and ours begin; now, when none is given.
    """
    start = start or SystemClock().now()
    true, chance = MovableClock(start, running=SystemClock()), SystemChance()
    clock = OwnClock(true)
    held = recordings if recordings is not None else month(case, calls, start)
    account = Account(held)
    sim, _ = CASES[case](account, true, dict(simulator or {}), dict(settings or {}))
    _, make = CASES[case](account, clock, dict(simulator or {}), dict(settings or {}))
    engine = create_engine(url, None)
    writer = Writer(engine)
    executor = ThreadPoolExecutor(4)
    ledger = Ledger.open(clock, chance)
    await writer.run(lambda conn: ledger.enroll(conn, generate_signing_key(chance)))
    destination = Destination(DirectoryStore("primary", folder / "copies", clock=clock, chance=chance))
    destination.proved(await destination.store.probe())
    told, codes, budget, links = Told(), [], Free(), Links()
    try:
        async with sim:
            media = {sim.url(origin).partition("://")[2] for origin in sim.origins}
            http = HttpClient(
                provider=case,
                origin=sim.base_url,
                media_hosts=sorted({*media, *hosts}),
                budget=budget,
                clock=clock,
                limits=limits,
                observe=lambda _endpoint, code, _seconds: codes.append(code),
                **{"allow_http": True, "allow_private_addresses": True, **(client or {})},
            )
            provider: Provider = make(sim, http, {} if max_pages is None else {"max_pages": max_pages})
            context = WorkerContext(
                writer=writer, ledger=ledger, spool=Spool(folder / "spool", 1 << 30, clock=clock, chance=chance),
                recipients=[load_recipient("local", "aes-kw-256", generate_local_key(chance))], destinations=[destination],
                links=links, telemetry=told, clock=clock, chance=chance, executor=executor, replica_id=chance.uuid(),
            )  # fmt: skip
            poller = Poller(
                provider, PollPlan(overlap, timedelta(days=3), retention, earliest=start - back), writer=writer, ledger=ledger,
                links=links, telemetry=told, clock=clock, chance=chance, replica_id=context.replica_id,
            )  # fmt: skip
            policy = Policy(ReceiveLimits(limits.max_size), (), Rule("default", Span(1), {}))
            worker = Worker(provider, policy, context, concurrency)
            try:
                yield Rig(
                    sim, account, true, clock, provider, poller, worker, context, engine, budget, told, codes, folder
                )
            finally:
                await worker.drain(timedelta(0))
                await provider.aclose()
                await asyncio.sleep(0)
    finally:
        writer.close()
        executor.shutdown()
        engine.dispose()


def month(case: str, count: int, until: datetime, audio: Sequence[Audio] | None = None) -> list[SimRecording]:
    kind: Kind = case.partition("-")[0]  # type: ignore[assignment]
    return month_of_calls(kind, seed=11, count=count, audio=audio or sounds(), until=until, days=28)


def call(case: str, name: str, ago: timedelta = timedelta(hours=2), **changes: Any) -> SimRecording:
    """One recording of so long ago, of a short sound unless told otherwise; KAZOO's ids begin with the month."""
    started = SystemClock().now().replace(microsecond=0) - ago
    sound = changes.pop("audio", sounds("voicemail-128k-mono-44100")[0])
    lasts = sound.duration if sound is not None else timedelta(seconds=30)
    full = f"{started:%Y%m}-{name}" if case == "kazoo" else name
    return replace(SimRecording(full, started, lasts, sound, call_id=f"call-of-{name}"), **changes)


def peak_memory() -> int:
    """The most bytes that this process ever had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
