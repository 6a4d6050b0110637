"""The custody log under load: eight processes write events, one keeps the log as a daemon does, with a folder as its shelf."""

from __future__ import annotations

import asyncio
import base64
import bisect
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, func, select

from archiver.clock import SystemChance, SystemClock
from archiver.custody.event import Type
from archiver.custody.keys import generate_signing_key, public_hex
from archiver.custody.ledger import Draft, Ledger
from archiver.custody.tables import custody_subject, custody_subject_event
from archiver.database import Writer, create_engine, read
from archiver.recording import Json
from archiver.store.directory import DirectoryStore
from archiver.translog import reader
from archiver.translog.keeper import Keeper, Parts
from archiver.translog.notary import Notary
from archiver.translog.note import Signer
from archiver.translog.publisher import Issued, Publisher
from archiver.translog.sequencer import Integrated, Sequencer, open_log
from benchmarks.setting import Meter, spread

T = TypeVar("T")
Wrote = tuple[str, float, float]
"""A transaction: its subject, when it began, when it was on disk (monotonic seconds, which processes share)."""
Start = Callable[[float, float, float], "asyncio.Future[tuple[list[Wrote], float]]"]
"""Start a writer: seconds before its first transaction, of writing, between transactions. Tells CPU seconds, too."""

WRITERS = 8
PER_TRANSACTION = 5
_ROW = base64.b64encode(b"what a provider says of one recording, some two hundred bytes of it; " * 3).decode()
_DIGEST = "5f" * 32
_gate: Barrier


@dataclass(frozen=True, slots=True)
class Run:
    """What one run showed. Seconds; `rate` is events in the log per second until the last one was there.

    `cpu`: milliseconds an event, of the writers' processes and of the keeper's; a database server's are not in it.
    """

    events: int
    rate: float
    cpu: tuple[float, float]
    wrote: Sequence[float]
    lag: Sequence[float]
    published: Sequence[float]


class WatchedWriter(Writer):
    """Notes when each batch was on disk, and the tree's size with it."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.grown: list[tuple[int, float]] = []

    async def run(self, fn: Callable[[Connection], T]) -> T:
        value = await super().run(fn)
        if isinstance(value, Integrated) and value.taken:
            self.grown.append((value.size, time.monotonic()))
        return value


class WatchedPublisher(Publisher):
    """Notes when each checkpoint was published, and its size."""

    issued: list[tuple[int, float]]

    async def publish(self, until: datetime | None) -> Issued | None:
        issued = await super().publish(until)
        if issued is not None:
            self.issued.append((issued.checkpoint.size, time.monotonic()))
        return issued


async def main(name: str, url: str, folder: Path, aim: int, seconds: int, repetitions: int) -> None:
    """Run at the aim's rate, and flat out, and print."""
    clock, chance = SystemClock(), SystemChance()
    host = generate_signing_key(chance)
    engine = create_engine(url, None)
    writer = WatchedWriter(engine)
    ledger = Ledger.open(clock, chance)
    log_id = await writer.run(lambda conn: open_log(conn, "benchmark/custody", clock.now()))
    await writer.run(lambda conn: ledger.enroll(conn, host))
    store = DirectoryStore("primary", folder / "shelf", clock=clock, chance=chance)
    await store.probe()
    notary = Notary(folder / "notary.db", Signer("benchmark/custody", generate_signing_key(chance)), clock)
    publisher = WatchedPublisher(engine, writer, log_id, notary, [store.shelf()], clock)
    publisher.issued = []
    sequencer = Sequencer(ledger, frozenset({public_hex(host)}), log_id)
    parts = Parts(writer, ledger, sequencer, publisher, None, log_id)
    keeper = Keeper(parts, chance.uuid(), clock, timedelta(seconds=10), lambda now: now + timedelta(days=365))
    keeping = asyncio.create_task(keeper.forever())
    loop, context, secret = asyncio.get_running_loop(), multiprocessing.get_context("spawn"), host.private_bytes_raw()
    try:
        with (
            ProcessPoolExecutor(WRITERS, context, _set_gate, (context.Barrier(WRITERS),)) as processes,
            ThreadPoolExecutor(WRITERS) as threads,
        ):
            places: dict[str, Start] = {
                "processes": lambda *when: loop.run_in_executor(processes, write_alone, url, secret, *when)
            }
            if name == "SQLite":  # which is for a single process
                places["threads beside the keeper"] = lambda *when: loop.run_in_executor(
                    threads, write, writer, ledger, *when
                )
            for what, rate in ((f"{aim:,} events/s offered", aim), ("flat out", 0)):
                for where, start in places.items():
                    runs = [
                        await measured(engine, writer, publisher, log_id, start, rate, seconds)
                        for _ in range(repetitions)
                    ]
                    show(f"{name}, {what} by {WRITERS} {where}", runs)
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        assert keeper.problem is None, keeper.problem
        writer.close()
        engine.dispose()


async def measured(
    engine: Engine, writer: WatchedWriter, publisher: WatchedPublisher, log_id: int, start: Start, rate: int, seconds: int
) -> Run:  # fmt: skip
    """One run, to the checkpoint that covers its last event."""
    meter = Meter()
    writer.grown.clear()
    publisher.issued.clear()
    every = WRITERS * PER_TRANSACTION / rate if rate else 0.0
    jobs = [start(n * every / WRITERS, seconds, every) for n in range(WRITERS)]
    done = await asyncio.gather(*jobs)
    wrote = list(itertools.chain.from_iterable(each for each, _ in done))
    while await read(engine, reader.waiting):  # noqa: ASYNC110 - what the keeper, and nothing here, will have done
        await asyncio.sleep(0.1)
    size = writer.grown[-1][0]
    while not publisher.issued or publisher.issued[-1][0] < size:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    used = meter.read().cpu, sum(cpu for _, cpu in done)
    leaves = await read(engine, lambda conn: _last_leaves(conn, log_id))
    committed = [(leaves[subject], end) for subject, _, end in wrote]
    began, ended = min(begin for _, begin, _ in wrote), max(at for _, at in writer.grown)
    events = len(wrote) * PER_TRANSACTION
    return Run(
        events, events / (ended - began), (used[1] * 1e3 / events, used[0] * 1e3 / events),
        [end - begin for _, begin, end in wrote],
        _waits(committed, writer.grown), _waits(committed, publisher.issued),
    )  # fmt: skip


def _last_leaves(conn: Connection, log_id: int) -> dict[str, int]:
    """The last leaf of each subject."""
    query = (
        select(custody_subject.c.subject, func.max(custody_subject_event.c.leaf_index).label("leaf"))
        .join_from(
            custody_subject, custody_subject_event, custody_subject.c.subject_no == custody_subject_event.c.subject_no
        )
        .where(custody_subject_event.c.log_id == log_id)
        .group_by(custody_subject.c.subject)
    )
    return {row.subject: row.leaf for row in conn.execute(query)}


def _waits(committed: Sequence[tuple[int, float]], steps: Sequence[tuple[int, float]]) -> list[float]:
    """From each commit to the first step whose tree has its leaf."""
    sizes = [size for size, _ in steps]
    return [max(0.0, steps[bisect.bisect_right(sizes, leaf)][1] - at) for leaf, at in committed]


def show(what: str, runs: Sequence[Run]) -> None:
    """Print min / median / max over the runs."""
    print(
        f"\n{what}, transactions of {PER_TRANSACTION}, {runs[0].events:,} events in the first run (min / median / max):"
    )
    print(f"  in the log, events/s      {spread([run.rate for run in runs], 0)}")
    for place, label in enumerate(("writers'", "keeper's")):
        if any(run.cpu[place] for run in runs):  # threads are in the keeper's
            print(f"  CPU, {label}, ms an event  {spread([run.cpu[place] for run in runs])}")
    for label, scale, unit, values in (
        ("writer's transaction", 1e3, "ms", [run.wrote for run in runs]),
        ("commit to in the log", 1.0, "s", [run.lag for run in runs]),
        ("commit to published", 1.0, "s", [run.published for run in runs]),
    ):
        cuts = [statistics.quantiles(each, n=100) for each in values]
        for cut in (50, 99):
            print(
                f"  {label}, p{cut}, {unit:<3} {spread([each[cut - 1] * scale for each in cuts], 1 if scale > 1 else 2)}"
            )
    print(end="", flush=True)


# --- the writers ----------------------------------------------------------------------------------------------------


def _set_gate(gate: Barrier) -> None:
    global _gate  # noqa: PLW0603 - the way a pool hands a barrier over
    _gate = gate


def write_alone(url: str, secret: bytes, offset: float, seconds: float, every: float) -> tuple[list[Wrote], float]:
    """`write` in a process of its own, once all processes are ready."""
    clock, chance = SystemClock(), SystemChance()
    engine = create_engine(url, None)
    writer, ledger = Writer(engine), Ledger.open(clock, chance)
    host = Ed25519PrivateKey.from_private_bytes(secret)
    writer.run_sync(lambda conn: ledger.enroll(conn, host))
    _gate.wait(120)
    try:
        used = time.process_time()
        wrote, _ = write(writer, ledger, offset, seconds, every)
        return wrote, time.process_time() - used
    finally:
        writer.close()
        engine.dispose()


def write(writer: Writer, ledger: Ledger, offset: float, seconds: float, every: float) -> tuple[list[Wrote], float]:
    """Write recordings' events for `seconds`, one transaction each `every` seconds; what is late is written at once.

    Tells no CPU seconds: those of a thread are its process's.
    """
    chance = SystemChance()
    wrote = []
    due = time.monotonic() + offset
    end = due + seconds
    while (now := time.monotonic()) < end:
        if now < due:
            time.sleep(due - now)
        due += every
        drafts = _life(f"rec:{chance.uuid()}")
        begin = time.monotonic()
        writer.run_sync(lambda conn: ledger.append_many(conn, drafts))  # noqa: B023
        wrote.append((drafts[0].subject, begin, time.monotonic()))
    return wrote, 0.0


def _life(subject: str) -> list[Draft]:
    """What happens to a recording from its listing on, in one transaction here."""
    sealed: dict[str, Json] = {
        "alg": "cms-authenveloped-aes-256-gcm",
        "pt_sha256": _DIGEST,
        "ct_sha256": _DIGEST,
        "ct_bytes": 1_000_640,
    }
    stored: dict[str, Json] = {
        "storage": "primary",
        "key": f"recordings/{subject[4:]}",
        "ct_sha256": _DIGEST,
        "lock_mode": "compliance",
    }
    return [
        Draft(
            subject, Type.DISCOVERED, {"provider": "source", "source": "list"}, {"provider_meta": {"row_base64": _ROW}}
        ),
        Draft(subject, Type.DOWNLOADED, {"bytes": 1_000_000, "pt_sha256": _DIGEST, "http_status": 200, "attempt": 1}),
        Draft(subject, Type.VERIFIED, {"container": "wav", "codec": "pcm_s16le", "rate": 8000, "duration_ms": 62_500}),
        Draft(subject, Type.SEALED, sealed),
        Draft(subject, Type.STORED, stored),
    ]
