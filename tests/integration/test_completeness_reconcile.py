"""Journal, bucket and custody log against one another, on a real S3 server and both databases: each seeded loss by its name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import Engine, delete, insert, select, update

from archiver.clock import SystemChance, SystemClock
from archiver.completeness import reconcile, register
from archiver.completeness.reconcile import Reconciled
from archiver.completeness.tables import reconciliation
from archiver.custody.ledger import Draft, Ledger
from archiver.custody.tables import custody_pending
from archiver.database import Writer
from archiver.demo.simulators import MovableClock
from archiver.ingest import copy_rows, listing_pages, outcome_events
from archiver.ingest.tables import copy, recording
from archiver.recording import Audio, Listing, Lock, LockMode, RecordingRef, State, Stored
from archiver.store import layout
from archiver.store.s3 import S3Store
from tests.fixtures_s3 import NewBucket
from tests.sealed_files import pattern, sealed_file

NOW = datetime.now(UTC)
DAYS = timedelta(days=1)


class Bucket:
    """An archive of five recordings, and a way behind its back."""

    def __init__(self, engine: Engine, store: S3Store, client: Any, bucket: str) -> None:
        self.engine, self.store, self.client, self.bucket = engine, store, client, bucket
        self.clock, self.chance = MovableClock(NOW + timedelta(minutes=5)), SystemChance()
        self.writer = Writer(engine)
        self.ledger = Ledger.open(self.clock, self.chance)
        self.stored: list[Stored] = []
        self.ids: list[str] = []

    async def fill(self, folder: Path) -> None:
        for n in range(5):
            ref = RecordingRef("p", f"call-{n}", "", "")
            called = NOW - timedelta(hours=n + 1)
            listing = Listing(ref, f"r{n}", Audio.PRESENT, called, called, timedelta(minutes=1), b"{}", "d" * 64)
            with self.engine.begin() as conn:
                noted = listing_pages.note_page(conn, self.ledger, self.chance, [listing], NOW, lambda _: None)
            (name,) = noted.ids
            file = sealed_file(folder, pattern(5000 + n, n), f"{n}.sealed")
            key = layout.recording_key(name, file.sealed_sha256, called)
            stored = await file.put(self.store, key, Lock(self.store.lock_mode, NOW + 2 * DAYS))
            with self.engine.begin() as conn:
                events = outcome_events.copy_events(f"rec:{name}", stored, 1, "default")
                self.ledger.append_many(conn, [Draft(f"rec:{name}", "recording.sealed"), *events])
                copy_rows.keep_copies(conn, name, [stored], NOW)
                conn.execute(update(recording).where(recording.c.id == name).values(state=State.ARCHIVED, ready=False))
            self.stored.append(stored)
            self.ids.append(name)

    async def reconciled(self, **how: Any) -> Reconciled:
        return await reconcile.reconcile_store(self.engine, self.store, self.clock, **{"lock_share": 1, **how})

    def covering(self, n: int) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self.stored[n].key}

    def version(self, n: int) -> dict[str, Any]:
        return {**self.covering(n), "VersionId": self.stored[n].version_id}


def found(result: Reconciled) -> dict[str, str]:
    return {gap.subject.partition("/")[2][-20:]: str(gap.code) for gap in result.found.values()}


@pytest.fixture
async def it(database: Engine, new_bucket: NewBucket, tmp_path: Path) -> AsyncIterator[Bucket]:
    options = new_bucket(lock_mode=LockMode.GOVERNANCE)
    store = S3Store(options, SystemClock(), SystemChance())
    assert options.access_key
    assert options.secret_key
    client = boto3.client(
        "s3", endpoint_url=options.endpoint, region_name=options.region,
        aws_access_key_id=options.access_key.reveal(), aws_secret_access_key=options.secret_key.reveal(),
    )  # fmt: skip
    bucket = Bucket(database, store, client, options.bucket)
    await bucket.fill(tmp_path)
    yield bucket
    bucket.writer.close()
    client.close()
    await store.aclose()


async def test_nothing_is_found_where_nothing_is_wrong(it: Bucket) -> None:
    result = await it.reconciled()
    assert (result.copies, result.versions, result.locks) == (5, 5, 5)
    assert result.counts == {}
    custody = await reconcile.reconcile_custody(it.engine, it.clock)
    assert custody.counts == {}


async def test_every_kind_of_tampering_is_named_and_closes_when_it_is_mended(it: Bucket) -> None:
    client, version = it.client, it.version
    client.delete_object(**version(0), BypassGovernanceRetention=True)
    client.delete_object(**it.covering(1))
    client.put_object(**it.covering(2), Body=b"other bytes")
    with it.engine.begin() as conn:
        longer = update(copy).where(copy.c.recording_id == it.ids[3]).values(retain_until=NOW + 9 * DAYS)
        conn.execute(longer)
    client.put_object(Bucket=it.bucket, Key="calls/recordings/2026/01/aa/aaaa", Body=b"nobody's")
    it.clock.move(2 * DAYS)
    result = await it.reconciled()
    key = [each.key[-20:] for each in it.stored]
    assert found(result) == {
        key[0]: "missing_here",
        key[1]: "delete_marker",
        key[2]: "extra_version",
        key[3]: "unlocked",
        "rdings/2026/01/aa/aaaa"[-20:]: "orphan",
    }
    await reconcile.keep(it.writer, it.ledger, it.chance, [result])
    with it.engine.begin() as conn:
        registered = register.open_gaps(conn)
        assert {each["code"] for each in registered} == set(found(result).values())
        assert {each["provider"] for each in registered if each["code"] != "orphan"} == {"p"}
        kept = conn.execute(select(reconciliation)).one()
        assert (kept.storage, kept.copies, json.loads(kept.findings)) == ("primary", 5, dict(result.counts))
        conn.execute(update(copy).where(copy.c.recording_id == it.ids[3]).values(retain_until=NOW + 1 * DAYS))
    await reconcile.keep(it.writer, it.ledger, it.chance, [await it.reconciled()])
    with it.engine.begin() as conn:
        assert "unlocked" not in {each["code"] for each in register.open_gaps(conn)}


async def test_locks_are_asked_for_in_turn_until_all_were(it: Bucket) -> None:
    asked = 0
    for _ in range(3):
        asked += (await it.reconciled(lock_share=3)).locks
        it.clock.move(DAYS)
    assert asked == 5
    assert (await it.reconciled(lock_share=0)).locks == 0


async def test_other_bytes_of_the_same_length_show_by_their_digest(it: Bucket) -> None:
    with it.engine.begin() as conn:
        conn.execute(update(copy).where(copy.c.recording_id == it.ids[0]).values(sealed_sha256="0" * 64))
    result = await it.reconciled()
    assert list(result.counts) == ["digest_differs"]


async def test_object_that_only_the_listing_hides_is_not_called_missing(it: Bucket) -> None:
    """A prefix that was changed, or a listing that lags: the storage gives it out when asked by name."""
    with it.engine.begin() as conn:
        conn.execute(update(copy).where(copy.c.recording_id == it.ids[0]).values(version_id=None))
    it.store.versions = lambda _prefix: _nothing()  # type: ignore[method-assign]
    result = await it.reconciled(lock_share=0)
    assert (result.copies, result.versions, result.counts) == (5, 0, {})


async def _nothing() -> AsyncIterator[Any]:
    for each in ():
        yield each


async def test_unreachable_storage_closes_nothing(it: Bucket, s3_options: Any) -> None:
    it.client.delete_object(**it.version(0), BypassGovernanceRetention=True)
    await reconcile.keep(it.writer, it.ledger, it.chance, [await it.reconciled()])
    down = S3Store(replace(s3_options, endpoint="http://127.0.0.1:9"), SystemClock(), SystemChance())
    result = await reconcile.reconcile_store(it.engine, down, it.clock)
    await down.aclose()
    assert result.unreachable is not None
    await reconcile.keep(it.writer, it.ledger, it.chance, [result])
    with it.engine.connect() as conn:
        assert [each["code"] for each in register.open_gaps(conn)] == ["missing_here"]


async def test_broken_and_unknown_chains_are_found(it: Bucket) -> None:
    stranger = f"rec:{it.chance.uuid()}"
    with it.engine.begin() as conn:
        it.ledger.append(conn, stranger, "recording.discovered", {})
        row = {**conn.execute(recording.select().where(recording.c.id == it.ids[0])).mappings().one()}
        silent = it.chance.uuid()
        conn.execute(insert(recording).values(**{**row, "id": silent, "revision": "x" * 64}))
    result = await reconcile.reconcile_custody(it.engine, it.clock)
    assert {gap.subject: str(gap.code) for gap in result.found.values()} == {
        f"rec:{silent}": "chain_gap",
        stranger: "orphan",
    }


async def test_event_cut_out_of_a_chain_is_a_gap(it: Bucket) -> None:
    triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'custody_pending'"
    with it.engine.begin() as conn:  # the guard against just this is lifted by hand
        if conn.dialect.name == "postgresql":
            conn.exec_driver_sql("ALTER TABLE custody_pending DISABLE TRIGGER USER")
        else:
            for (name,) in conn.exec_driver_sql(triggers).all():
                conn.exec_driver_sql(f"DROP TRIGGER {name}")
        conn.execute(delete(custody_pending).where(custody_pending.c.pid == 2))
    result = await reconcile.reconcile_custody(it.engine, it.clock)
    assert list(result.counts) == ["chain_gap"]
