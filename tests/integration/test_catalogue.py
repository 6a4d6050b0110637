"""Catalogue segments: what is final is described, sealed, locked as long as its recordings; what changes, again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select, update

from archiver.assembly.keys import build_identities
from archiver.assembly.process import Assembly, assemble
from archiver.clock import SystemChance, SystemClock
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Type, parse
from archiver.errors import DestinationError, UnavailableError
from archiver.ingest import journal, listing_pages
from archiver.ingest.health import keep_probe
from archiver.ingest.tables import catalogue_segment, recording
from archiver.recording import Audio, Json, Listing, LockMode, RecordingRef, Stored
from archiver.recovery import catalogue
from archiver.recovery.segment import CatalogueLine, load
from archiver.retention.policy import Rule
from archiver.retention.span import Span
from archiver.schedule import lease
from archiver.seal.cipher import open_sealed
from archiver.store import layout
from archiver.store.port import ObjectStore
from tests.acceptance.archive import make_archive
from tests.acceptance.test_archive import s3
from tests.fixtures_s3 import NewBucket

DIRECTORY = "[{id: primary, kind: directory, path: copies}]"
TWO = "[{id: primary, kind: directory, path: copies}, {id: second, kind: directory, path: second, required: false}]"
DEFAULT = Rule("default", Span(rest=timedelta(days=30)), {})


class Unwilling:
    """Passes everything on to a store; `before` and `after` are called around every put."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put_once(self, key: str, path: Path, **how: Any) -> Stored:
        self.before()
        stored = await self._store.put_once(key, path, **how)
        self.after()
        return stored


def fail_once() -> Callable[[], None]:
    left = [1]

    def fail() -> None:
        if left:
            left.pop()
            raise DestinationError("told to fail")

    return fail


@dataclass
class Desk:
    """An assembled archive without providers at work, and its first storage, which can be made unwilling."""

    a: Assembly
    store: Unwilling

    async def note(self, *numbers: int, note: str = "") -> list[str]:
        """Recordings of which the provider says that there is no audio: final at once."""
        listings = [listing(number, note) for number in numbers]
        noted = await self.a.writer.run(
            lambda conn: listing_pages.note_page(
                conn, self.a.ledger, self.a.chance, listings, self.a.clock.now(), lambda _: None
            )
        )
        return list(noted.ids)

    async def archive(self, recording_id: str, until: datetime) -> None:
        """Pretend that there is a copy, kept `until`."""
        same = recording.c.id == recording_id
        values = {"state": "archived", "retain_until": until, "segment": None}
        await self.a.writer.run(lambda conn: conn.execute(update(recording).where(same).values(**values)))

    async def seal(self) -> int:
        return await catalogue.seal_due(self.a.context, DEFAULT)

    async def due(self) -> set[str]:
        query = select(recording.c.id).where(recording.c.segment.is_(None))
        return set(await self.a.read(lambda conn: conn.execute(query).scalars().all()))

    async def segments(self) -> list[dict[str, Any]]:
        query = select(catalogue_segment).order_by(catalogue_segment.c.retain_until)
        return await self.a.read(lambda conn: [dict(row) for row in conn.execute(query).mappings()])

    async def told(self) -> list[dict[str, Json]]:
        """What the archive's chain tells of segments."""
        entries = await self.a.read(lambda conn: history.entries(conn, ARCHIVE))
        return [
            dict(event.data) for event in map(parse, (each.raw for each in entries)) if event.type == Type.CATALOGUED
        ]

    async def keys(self) -> list[str]:
        return [each.key async for each in self.store.versions("catalogue/") if not each.is_delete_marker]

    async def lines(self, digest: str) -> list[CatalogueLine]:
        content = await catalogue.read_segment(self.store, digest)
        assert content is not None

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        opened = open_sealed(chunks, build_identities(self.a.config, self.a.walls), None)
        return list(load(b"".join([piece async for piece in opened])))


def listing(number: int, note: str) -> Listing:
    started = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(hours=number)
    return Listing(
        RecordingRef("kazoo", f"call-{number}", "", "acct"), f"rev-{number}", Audio.NONE, started, started, timedelta(seconds=9),
        b'{"n":"%d%s"}' % (number, note.encode()), f"stable-{number}{note}", {"from_number": f"+1555{number}", "note": note},
    )  # fmt: skip


async def desk(folder: Path, url: str, storage: str) -> Desk:
    nobody: Any = {"kazoo": SimpleNamespace(base_url="http://127.0.0.1:9")}
    archive = make_archive(folder, nobody, url, storage)
    assembly = await assemble(archive.config, clock=SystemClock(), chance=SystemChance())
    first = assembly.destinations[0]
    first.store = Unwilling(first.store)
    for destination in assembly.destinations:
        await keep_probe(assembly.writer, destination, assembly.clock)
        assert destination.usable(assembly.clock.now())
    return Desk(assembly, first.store)


@pytest.fixture
async def directory(tmp_path: Path, database_url: str) -> AsyncIterator[Desk]:
    made = await desk(tmp_path, database_url, DIRECTORY)
    yield made
    await made.a.aclose()


@pytest.fixture
async def two(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Desk]:
    made = await desk(tmp_path, sqlite_url, TWO)
    yield made
    await made.a.aclose()


def ready(each: Desk, *names: str) -> None:
    """Storages rest after a failure; not in tests."""
    for destination in each.a.destinations:
        if not names or destination.id in names:
            destination.down_until = None


async def test_final_rows_are_described_with_what_custody_committed_to_and_only_once(directory: Desk) -> None:
    ids = await directory.note(1, 2, 3)
    assert await directory.seal() == 1
    assert await directory.due() == set()
    (segment,) = await directory.segments()
    lines = await directory.lines(segment["sealed_sha256"])
    assert [line.id for line in lines] == sorted(ids)
    assert sorted(line.row["from_number"] for line in lines) == ["+15551", "+15552", "+15553"]
    assert [{each.group for each in line.private} for line in lines] == [{"parties", "provider_meta"}] * 3
    (event,) = await directory.told()
    assert (event["ct_sha256"], event["ct_bytes"], event["lines"]) == (segment["sealed_sha256"], segment["size"], 3)
    assert await directory.keys() == [layout.catalogue_key(segment["sealed_sha256"])]
    assert await directory.seal() == 0
    assert len(await directory.keys()) == 1


async def test_nothing_personal_is_in_a_segment_in_clear(directory: Desk) -> None:
    await directory.note(1)
    await directory.seal()
    (segment,) = await directory.segments()
    content = await catalogue.read_segment(directory.store, segment["sealed_sha256"])
    assert content is not None
    assert b"1555" not in content
    assert b"call-1" not in content


async def test_refused_put_leaves_rows_due_and_the_next_turn_describes_them(directory: Desk) -> None:
    ids = await directory.note(1, 2)
    directory.store.before = fail_once()
    assert await directory.seal() == 0
    assert (await directory.due(), await directory.segments(), await directory.told()) == (set(ids), [], [])
    ready(directory)
    assert await directory.seal() == 1
    assert (await directory.due(), len(await directory.keys())) == (set(), 1)


async def test_answer_lost_after_the_put_writes_one_more_segment_and_tells_of_that(directory: Desk) -> None:
    ids = await directory.note(1, 2)
    directory.store.after = fail_once()
    assert await directory.seal() == 0
    assert (await directory.due(), await directory.told()) == (set(ids), [])
    ready(directory)
    assert await directory.seal() == 1
    (segment,) = await directory.segments()
    assert len(await directory.keys()) == 2
    assert [each["ct_sha256"] for each in await directory.told()] == [segment["sealed_sha256"]]


async def test_death_between_put_and_note_writes_one_more_segment(
    directory: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await directory.note(1)

    def dies(*_: object) -> int:
        raise UnavailableError("told to fail")

    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "_note", dies)
        assert await directory.seal() == 0
    assert await directory.seal() == 1
    assert (len(await directory.keys()), len(await directory.told()), await directory.due()) == (2, 1, set())


async def test_row_that_changes_while_its_segment_is_on_the_way_stays_due(directory: Desk) -> None:
    ids = await directory.note(1, 2)
    loop = asyncio.get_running_loop()
    edits: list[asyncio.Task[Any]] = []

    def edit() -> None:
        if not edits:
            edits.append(loop.create_task(directory.note(2, note="edited")))

    directory.store.before = edit
    await directory.seal()
    await edits[0]
    segments = await directory.segments()
    described = [
        line for each in segments for line in await directory.lines(each["sealed_sha256"]) if line.id == ids[1]
    ]
    assert max(described, key=lambda it: it.written_at).row["stable_digest"] == "stable-2edited"
    assert await directory.due() == set()


async def test_changed_metadata_and_new_private_groups_make_a_row_due_and_the_queue_does_not(directory: Desk) -> None:
    (first, second, third) = await directory.note(1, 2, 3)
    await directory.seal()
    await directory.note(2, note="edited")
    await directory.note(3)  # listed again as it was
    assert await directory.due() == {second}

    def access(conn: Any) -> None:
        directory.a.ledger.append(conn, f"rec:{first}", Type.ACCESSED, {}, private={"access": {"user": "x"}})
        journal.recatalogue(conn, first)

    await directory.a.writer.run(access)
    assert await directory.due() == {first, second}
    assert await directory.seal() == 1
    newest = {line.id: line for line in await directory.lines(str((await directory.told())[-1]["ct_sha256"]))}
    assert {(each.seq, each.group) for each in newest[first].private} == {
        (0, "parties"),
        (0, "provider_meta"),
        (1, "access"),
    }
    assert newest[second].row["stable_digest"] == "stable-2edited"
    assert third not in newest


async def test_storage_that_missed_a_segment_gets_it_later(two: Desk) -> None:
    second = two.a.destinations[1]
    broken = Unwilling(second.store)
    second.store = broken
    broken.before = fail_once()
    await two.note(1)
    assert await two.seal() == 1
    assert [each["storages"] for each in await two.segments()] == ['["primary"]']
    ready(two)
    broken.before = fail_once()
    assert await catalogue.spread(two.a.context) == 0
    ready(two)
    broken.after = fail_once()
    assert await catalogue.spread(two.a.context) == 0
    ready(two)
    assert await catalogue.spread(two.a.context) == 1
    (segment,) = await two.segments()
    assert segment["storages"] == '["primary", "second"]'
    assert await catalogue.read_segment(broken, segment["sealed_sha256"])
    assert await catalogue.spread(two.a.context) == 0


async def test_only_one_replica_writes_segments(directory: Desk) -> None:
    await directory.note(1)
    await directory.a.writer.run(lambda conn: lease.acquire(conn, "catalogue", "another", timedelta(minutes=5)))
    assert await directory.seal() == 0
    assert await directory.keys() == []


async def test_nothing_is_written_to_a_required_storage_that_does_not_prove_its_lock(directory: Desk) -> None:
    await directory.note(1)
    directory.a.destinations[0].report = None
    assert await directory.seal() == 0
    assert await directory.keys() == []


async def test_segment_is_locked_until_the_earliest_of_its_recordings_and_read_under_what_covers_it(
    tmp_path: Path, sqlite_url: str, new_bucket: NewBucket
) -> None:
    made = await desk(tmp_path, sqlite_url, s3(new_bucket(), tmp_path))
    try:
        ids = await made.note(1, 2, 3, 4)
        month = (datetime.now(UTC) + timedelta(days=60)).replace(day=10, microsecond=0)
        dates = [month + timedelta(days=2), month, month + timedelta(days=40), datetime.now(UTC) - timedelta(days=1)]
        for recording_id, until in zip(ids, dates, strict=True):
            await made.archive(recording_id, until)
        assert await made.seal() == 3
        segments = await made.segments()
        shown = [await made.store.inspect(layout.catalogue_key(each["sealed_sha256"]), None) for each in segments]
        assert [each.lock_mode for each in shown] == [LockMode.COMPLIANCE] * 3
        # What is kept beyond its date is locked for an hour: a storage refuses a date that has passed.
        soon = shown[0].retain_until
        assert timedelta(minutes=55) < soon - datetime.now(UTC) <= timedelta(hours=1)
        assert [each.retain_until for each in shown[1:]] == [month, dates[2]]
        assert [each["lines"] for each in segments] == [1, 2, 1]

        digest = segments[1]["sealed_sha256"]
        bucket, key = client(tmp_path, made), f"calls/{layout.catalogue_key(digest)}"
        name = made.a.config.storage[0].bucket  # type: ignore[union-attr]
        bucket.put_object(Bucket=name, Key=key, Body=b"something newer")
        assert len(await made.lines(digest)) == 2
        bucket.delete_object(Bucket=name, Key=key)
        assert len(await made.lines(digest)) == 2
    finally:
        await made.a.aclose()


def client(folder: Path, made: Desk) -> Any:
    import boto3

    settings: Any = made.a.config.storage[0]
    return boto3.client(
        "s3", endpoint_url=settings.endpoint, region_name=settings.region,
        aws_access_key_id=settings.access_key.resolve().reveal(),
        aws_secret_access_key=(folder / "s3").read_text(),
    )  # fmt: skip


def test_finding_what_is_due_takes_no_walk_over_everything(database_url: str) -> None:
    from archiver.database import create_engine, reading

    engine = create_engine(database_url, None)
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    query = str(catalogue._DUE.compile(engine, compile_kwargs={"literal_binds": True}))
    with reading(engine) as conn:
        if engine.dialect.name == "postgresql":
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = [str(tuple(row)) for row in conn.exec_driver_sql(explain + query)]
    engine.dispose()
    assert any("recording_uncatalogued" in each for each in plan), plan
