"""What each question costs as the journal grows: the polls' own look, status, lists and filters at 10⁴, 10⁵ and 10⁶ recordings.

    python -m benchmarks scale [--rows 1000000]

One provider account; calls spread evenly over three years; one in a hundred never had audio, one in a thousand is flagged. All
but the newest fifty are archived, with a copy each. SQLite, one connection; CPU milliseconds of the third of three askings, so
that no reading of the disk is in it. Then the same again on PostgreSQL, whose server is a process of its own: wall time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, insert

from archiver.completeness import holdings, issue
from archiver.completeness.gap import profile
from archiver.completeness.observe import Watched, observe
from archiver.database import create_engine, reading, upgrade
from archiver.ingest import owed_copies, public_views, queries, search
from archiver.ingest.search import Search
from archiver.ingest.tables import copy, recording
from archiver.recording import Window
from archiver.schedule.deadline import ProviderRetention

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
_YEARS = timedelta(days=3 * 365)
_BATCH = 10_000
_KEPT = ProviderRetention(source="plan", keeps=timedelta(days=90), quota_bytes=10**12)

Question = Callable[[Connection], object]


def main(rows: int) -> None:
    sizes = [each for each in (10_000, 100_000, 1_000_000) if each <= rows]
    with tempfile.TemporaryDirectory() as folder:
        figures = {size: _measured(f"sqlite:///{folder}/{size}.db", size) for size in sizes}
    print(f"{'CPU ms, SQLite':44} " + " ".join(f"{size:>10,}" for size in sizes))
    for name in figures[sizes[0]]:
        print(f"{name:44} " + " ".join(f"{figures[size][name]:10.1f}" for size in sizes))
    if url := os.environ.get("ARCHIVER_TEST_POSTGRESQL_URL"):
        print("wall ms, PostgreSQL")
        for name, took in _measured(url, sizes[-1], wall=True).items():
            print(f"{name:44} {took:10.1f}")


def _measured(url: str, size: int, *, wall: bool = False) -> dict[str, float]:
    engine = create_engine(url, None)
    upgrade(engine)
    fill(engine, size)
    took = {}
    for name, ask in questions().items():
        for _ in range(3):
            with reading(engine) as conn:
                began = time.perf_counter() if wall else time.process_time()
                ask(conn)
                took[name] = 1000 * ((time.perf_counter() if wall else time.process_time()) - began)
    engine.dispose()
    return took


def questions() -> dict[str, Question]:
    """The questions that a poll, a scrape or a person asks, by name."""
    watched = Watched("p", profile("justcall"), ("account",), Window(NOW - _YEARS, NOW))
    days = issue.due_days(watched, NOW)

    def listed(**filters: Any) -> Question:
        return lambda conn: list(public_views.recordings(conn, Search(limit=50, **filters)))

    return {
        "after each poll: look for gaps": lambda conn: observe(conn, watched, NOW),
        "after each poll: days to state": lambda conn: issue.stale(conn, watched, days),
        "status, scrape: counts": lambda conn: queries.counts(conn, ["p"], NOW),
        "status, scrape: what is at risk": lambda conn: queries.runway(conn, NOW, [timedelta(days=1)]),
        "status: account's storage": lambda conn: holdings.held(conn, ["p"], _KEPT, NOW),
        "status: provider's price": lambda conn: holdings.storage_cost_of(conn, "p", "plivo", NOW),
        "status: forecast": lambda conn: holdings.forecast_of(conn, "p", NOW, 1.0),
        "copies that a storage lacks": owed_copies.lacks,
        "gaps": lambda conn: list(public_views.missing_recordings(conn)),
        "list": listed(),
        "list --provider": listed(provider="p"),
        "list --state": listed(state="archived"),
        "list --since --until": listed(since=NOW - timedelta(days=40), until=NOW - timedelta(days=39)),
        "list --number": listed(number="+15550000007"),
        "list --agent": listed(agent="agent 3"),
        "list --flag": listed(flag="duration_mismatch"),
        "list --text, found": listed(text="r500"),
        "list --text, nowhere": listed(text="nowhere"),
        "show, by provider id": lambda conn: search.find(conn, "r500"),
    }


def fill(engine: Engine, size: int) -> None:
    """Puts `size` recordings into an empty journal."""
    step = _YEARS / size
    for start in range(0, size, _BATCH):
        rows = list(_rows(start, min(start + _BATCH, size), size, step))
        with engine.begin() as conn:
            conn.execute(insert(recording), rows)
            conn.execute(insert(copy), [_copy(row) for row in rows if row["state"] == "archived"])
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql("VACUUM ANALYZE")


def _rows(start: int, stop: int, size: int, step: timedelta) -> Iterator[dict[str, Any]]:
    for n in range(start, stop):
        at = NOW - _YEARS + n * step
        state = "waiting" if n >= size - 50 else "absent" if n % 100 == 1 else "archived"
        archived = state == "archived"
        yield {
            "id": f"{n:08d}-0000-7000-8000-000000000000", "identity": f"{n:064d}", "revision": "r", "provider": "p",
            "account": "a", "provider_recording_id": f"r{n}", "variant": "", "state": state, "reason": None,
            "flags": '["duration_mismatch"]' if n % 1000 == 2 else "[]", "call_started_at": at, "call_ended_at": at,
            "duration_ms": 60_000 + n % 240_000, "from_number": f"+1555{n % 9000:07d}", "to_number": "+15559999999",
            "agent": f"agent {n % 40}", "metadata": f'{{"call_id": "c{n}", "disposition": "answered"}}', "raw": b"{}",
            "stable_digest": "d" * 64, "listed_at": at, "last_seen_at": at, "ready": False,
            "delete_at": at + timedelta(days=90), "archive_by": at + timedelta(days=87), "attempts": int(archived),
            "plaintext_bytes": 480_000 if archived else None, "plaintext_sha256": f"{n:064x}" if archived else None,
            "sealed_bytes": 481_000 if archived else None, "sealed_sha256": f"{n + 1:064x}" if archived else None,
            "retain_until": at + timedelta(days=2555) if archived else None, "archived_at": at if archived else None,
            "segment": "s" * 64,
        }  # fmt: skip


def _copy(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "recording_id": row["id"], "storage": "primary", "bucket": "b", "key": row["sealed_sha256"], "version_id": "v",
        "size": 481_000, "sealed_sha256": row["sealed_sha256"], "lock_mode": "compliance",
        "retain_until": row["retain_until"], "legal_hold": False, "checked_by": "head", "stored_at": row["archived_at"],
    }  # fmt: skip
