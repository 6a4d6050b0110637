"""A million rows of the journal against a bucket's listing, and against custody: time must grow as the rows do, memory must not.

    python -m benchmarks.reconcile [--rows 1000000]

The listing is made up in the order of an S3 listing, with every thousandth object missing and every thousandth unknown; a real
server takes its own time besides, 1,000 keys a request. The journal is a SQLite file, read as the daemon reads it. Each recording
has two custody events in the log, of every thousandth one is missing. *Look*: the search for gaps that follows each poll.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import resource
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert

from archiver.clock import SystemClock
from archiver.completeness.gap import profile
from archiver.completeness.observe import Watched, observe
from archiver.completeness.reconcile import Reconciled, reconcile_custody, reconcile_store
from archiver.custody.tables import custody_subject, custody_subject_event
from archiver.database import create_engine, read, upgrade
from archiver.ingest.tables import copy, recording
from archiver.recording import Stored, Window
from archiver.store.port import Version

NOW = datetime.now(UTC)
_BATCH = 10_000
_ODD = 1000


class Listing:
    """A bucket of `rows` objects, listed in order; as much of `ObjectStore` as reconciliation asks."""

    id = "primary"

    def __init__(self, rows: int) -> None:
        self._rows = rows

    async def versions(self, prefix: str) -> AsyncIterator[Version]:
        if prefix != "recordings/":
            return
        for n in range(self._rows):
            if n % _ODD == 1:
                continue
            yield Version(key(n), f"v{n}", 1000, NOW - timedelta(days=9), True)
            if n % _ODD == 2:
                yield Version(f"{key(n)}0", "v", 1000, NOW - timedelta(days=9), True)

    async def inspect(self, name: str, version_id: str | None) -> Stored | None:  # noqa: ARG002  the port's
        return None


def key(n: int) -> str:
    return f"calls/recordings/2026/05/{n:012x}"


def fill(engine: Engine, since: int, until: int) -> None:
    """Rows as the pipe leaves them, as far as reconciliation and the search for gaps look."""
    with engine.begin() as conn:
        for start in range(since, until, _BATCH):
            numbers = range(start, min(until, start + _BATCH))
            conn.execute(insert(recording), [_recording(n) for n in numbers])
            conn.execute(insert(copy), [_copy(n) for n in numbers])
            conn.execute(insert(custody_subject), [{"subject": f"rec:{_id(n)}", "head_seq": 1} for n in numbers])
            conn.execute(insert(custody_subject_event), [
                {"subject_no": n + 1, "seq": seq, "log_id": 1, "leaf_index": 2 * n + seq, "type_no": 1, "at": NOW}
                for n in numbers for seq in range(2) if seq == 0 or n % _ODD != 3
            ])  # fmt: skip


def _id(n: int) -> str:
    return f"0190f3c2-0000-7000-8000-{n:012x}"


def _recording(n: int) -> dict[str, Any]:
    return {
        "id": _id(n), "identity": hashlib.sha256(b"%d" % n).hexdigest(), "revision": "r", "provider": "plivo", "account": "",
        "provider_recording_id": f"call-{n}", "variant": "", "state": "archived", "metadata": "{}", "raw": b"{}" * 200,
        "stable_digest": "d" * 64, "listed_at": NOW, "last_seen_at": NOW, "ready": False, "duration_ms": 180_000,
        "call_started_at": NOW - timedelta(seconds=8 * n),  # a million in 93 days
    }  # fmt: skip


def _copy(n: int) -> dict[str, Any]:
    return {
        "recording_id": _id(n), "storage": "primary", "bucket": "b", "key": key(n), "version_id": f"v{n}", "size": 1000,
        "sealed_sha256": "a" * 64, "lock_mode": "compliance", "retain_until": NOW + timedelta(days=999), "legal_hold": False,
        "checked_by": "head", "stored_at": NOW - timedelta(days=9),
    }  # fmt: skip


async def measured(engine: Engine, rows: int) -> tuple[float, float, Reconciled]:
    """Wall seconds, CPU seconds, and what was found."""
    wall, cpu = time.monotonic(), time.process_time()
    result = await reconcile_store(engine, Listing(rows), SystemClock(), lock_share=0)  # type: ignore[arg-type]
    return time.monotonic() - wall, time.process_time() - cpu, result


async def told(engine: Engine, count: int) -> None:
    """One line for custody, and one for the search for gaps."""
    wall, cpu = time.monotonic(), time.process_time()
    result = await reconcile_custody(engine, SystemClock())
    _say("custody", count, time.monotonic() - wall, time.process_time() - cpu, _named(result.counts))
    assert result.counts == {"chain_gap": count // _ODD}
    watched = Watched("plivo", profile("plivo"), ("account",), Window(NOW - timedelta(days=93), NOW))
    wall, cpu = time.monotonic(), time.process_time()
    found = await read(engine, lambda conn: observe(conn, watched, NOW))
    _say(
        "look", count, time.monotonic() - wall, time.process_time() - cpu, _named(Counter(each.code for each in found))
    )


def _named(counts: Mapping[str, int]) -> dict[str, int]:
    return {str(name): count for name, count in counts.items()}


def _say(what: str, count: int, wall: float, cpu: float, found: dict[str, int]) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{what:<8}{count:>10,} rows: {wall:6.1f} s wall, {cpu:6.1f} s CPU, {cpu / count * 1e6:5.1f} µs a row, "
        f"peak {peak:.0f} MiB; found {found}",
        flush=True,
    )


async def main(rows: int) -> None:
    """Run at a tenth and in full, and print."""
    with tempfile.TemporaryDirectory() as home:
        engine = create_engine(f"sqlite:///{Path(home, 'journal.db')}", None)
        upgrade(engine)
        filled = 0
        for count in (rows // 10, rows):
            fill(engine, filled, count)
            filled = count
            wall, cpu, result = await measured(engine, count)
            _say("storage", count, wall, cpu, _named(result.counts))
            assert result.counts == {"missing_here": count // _ODD, "orphan": count // _ODD}
            await told(engine, count)
        engine.dispose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.reconcile")
    parser.add_argument("--rows", type=int, default=1_000_000)
    asyncio.run(main(parser.parse_args().rows))
