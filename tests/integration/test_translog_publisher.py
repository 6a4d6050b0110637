"""From the database to the storages: what is claimed is there, whole, for a stranger to check; one history is signed."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import text

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.custody.event import ARCHIVE, Type
from archiver.database import reading
from archiver.recording import Lock, LockMode
from archiver.store.port import Shelf
from archiver.store.s3 import S3Store
from archiver.translog import publication_rows, reader
from archiver.translog.checkpoint import open_checkpoint
from archiver.translog.note import parse_note
from archiver.translog.published_log import PublishedLog, checkpoint_name, newest_checkpoint
from archiver.translog.wait import wait_published
from tests.custody_examples import HOST_KEY
from tests.custody_log import CustodyLog, MovableClock, check_shelf, custody_log, folder_shelf
from tests.fixtures_s3 import NewBucket
from tests.log_trees import LOG, ORIGIN, forked


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    return await folder_shelf(tmp_path / "shelf")


@pytest.fixture
async def archive(database_url: str, shelf: Shelf, tmp_path: Path) -> AsyncIterator[CustodyLog]:
    async with custody_log(database_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.publisher.start()
        yield archive


async def names(shelf: Shelf, prefix: str = "") -> list[str]:
    return [name async for name in shelf.names(prefix)]


# --- what is published --------------------------------------------------------------------------------------------


async def test_published_log_is_read_and_proved_by_a_stranger(archive: CustodyLog, shelf: Shelf) -> None:
    for count in (1, 3, 250, 2, 300, 700):
        size = await archive.grow(count)
        issued = await archive.publisher.publish(None)
        assert issued is not None
        assert (issued.checkpoint.size, issued.checkpoint.root) == archive.tree()
        assert await shelf.read_current("checkpoint") == await shelf.read(checkpoint_name(size)) == issued.note
        assert await check_shelf(shelf) == size
    assert f"keys/{ORIGIN}.vkey" in await names(shelf, "keys/")


async def test_nothing_new_publishes_nothing(archive: CustodyLog, shelf: Shelf) -> None:
    assert await archive.publisher.publish(None) is None  # the writer's enrolment waits in the queue
    await archive.grow(5)
    assert await archive.publisher.publish(None) is not None
    before = await names(shelf)
    assert await archive.publisher.publish(None) is None
    assert await names(shelf) == before


async def test_pass_writes_only_what_grew(archive: CustodyLog, shelf: Shelf, tmp_path: Path) -> None:
    await archive.grow(600)
    await archive.publisher.publish(None)
    before = set(await names(shelf))
    size = await archive.grow(10)
    await archive.publisher.publish(None)
    assert set(await names(shelf)) - before == {
        f"tile/0/002.p/{size - 512}",
        f"tile/entries/002.p/{size - 512}",
        checkpoint_name(size),
    }


async def test_checkpoint_is_verified_by_openssl(archive: CustodyLog, shelf: Shelf, tmp_path: Path) -> None:
    await archive.grow(9)
    issued = await archive.publisher.publish(None)
    assert issued is not None
    note = parse_note(issued.note)
    (tmp_path / "body").write_text(note.text)
    (tmp_path / "sig").write_bytes(note.signatures[0].signature)
    (tmp_path / "log.pem").write_bytes(
        LOG.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "log.pem",
        "-rawin",
        "-in",
        "body",
        "-sigfile",
        "sig",
    ]
    done = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "Verified Successfully" in done.stdout


async def test_bucket_gets_locked_tiles_and_checkpoints_and_free_partials(
    database_url: str, new_bucket: NewBucket, tmp_path: Path
) -> None:
    store = S3Store(new_bucket(), SystemClock(), SystemChance())
    await store.probe()
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    async with custody_log(database_url, tmp_path / "notary.db", [store.shelf()]) as archive:
        await archive.publisher.start()
        await archive.grow(300)
        await archive.publisher.publish(until)
        size = await archive.grow(50)
        await archive.publisher.publish(until)
        shelf = store.shelf()
        for name in await names(shelf):
            mutable = name == "checkpoint" or ".p/" in name
            assert await shelf.lock(name) == (Lock(LockMode.OFF, None) if mutable else Lock(LockMode.COMPLIANCE, until))
            assert len(await shelf.versions(name)) == (2 if name == "checkpoint" else 1)
        assert await check_shelf(store.shelf()) == size
        await archive.publisher.pin(size, until)
        for name in (f"tile/0/001.p/{size - 256}", "tile/1/000.p/1", f"tile/entries/001.p/{size - 256}"):
            assert await shelf.lock(name) == Lock(LockMode.COMPLIANCE, until)
            assert len(await shelf.versions(name)) == 1
    await store.aclose()


# --- several storages ---------------------------------------------------------------------------------------------


async def test_storage_that_is_added_later_gets_the_whole_log(database_url: str, shelf: Shelf, tmp_path: Path) -> None:
    async with custody_log(database_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(400)
        await archive.publisher.publish(None)
    second = await folder_shelf(tmp_path / "second")
    async with custody_log(database_url, tmp_path / "notary.db", [shelf, second], enrol=False) as archive:
        await archive.publisher.start()
        await archive.publisher.publish(None)
        assert await check_shelf(second) == 401
        assert await archive.publisher.publish(None) is None


async def test_optional_storage_that_is_away_holds_nobody_up_and_is_brought_up_to_date(
    database_url: str, shelf: Shelf, tmp_path: Path
) -> None:
    second = await folder_shelf(tmp_path / "second", required=False)
    shutil.rmtree(tmp_path / "second")
    clock = MovableClock()
    async with custody_log(database_url, tmp_path / "notary.db", [second, shelf], clock=clock) as archive:
        assert list(await archive.publisher.start()) == ["second"]
        clock.later += timedelta(minutes=2)
        await archive.grow(300)
        issued = await archive.publisher.publish(None)
        assert issued is not None
        assert isinstance(issued.problems["second"], errors.DestinationError)
        (tmp_path / "second").mkdir()
        assert await archive.publisher.publish(None) is None  # it has a minute's rest
        clock.later += timedelta(minutes=2)
        issued = await archive.publisher.publish(None)
        assert issued is not None
        assert not issued.problems
        assert await check_shelf(second) == await check_shelf(shelf) == 301


async def test_required_storage_that_is_away_keeps_the_checkpoint_unpublished(
    database_url: str, shelf: Shelf, tmp_path: Path
) -> None:
    second = await folder_shelf(tmp_path / "second")
    async with custody_log(database_url, tmp_path / "notary.db", [shelf, second]) as archive:
        await archive.publisher.start()
        await archive.grow(3)
        shutil.rmtree(tmp_path / "second")
        with pytest.raises(errors.DestinationError):
            await archive.publisher.publish(None)
        with reading(archive.engine) as conn:
            assert reader.newest_checkpoint(conn, archive.log_id, published=True) is None
        (tmp_path / "second").mkdir()
        assert await archive.publisher.publish(None) is not None
        assert await check_shelf(second) == await check_shelf(shelf) == 4


# --- tampering is not published -------------------------------------------------------------------------------------


def tamper(archive: CustodyLog, table: str, statement: str, **values: object) -> None:
    """As whoever owns the database does it: triggers first."""
    with archive.engine.begin() as conn:
        if conn.dialect.name == "postgresql":
            conn.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
        else:
            for name in conn.execute(
                text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :t"), {"t": table}
            ).scalars():
                conn.execute(text(f"DROP TRIGGER {name}"))
        conn.execute(text(statement), values)


@pytest.mark.parametrize(
    ("table", "statement", "named"),
    [
        ("custody_event", "UPDATE custody_event SET entry = :x WHERE leaf_index = 270", "leaf 270"),
        ("custody_event", "DELETE FROM custody_event WHERE leaf_index = 7", "leaf 7 "),
        ("custody_tile", "UPDATE custody_tile SET hashes = :h WHERE level = 0 AND idx = 0", "leaf"),
        ("custody_tile", "DELETE FROM custody_tile WHERE level = 0 AND idx = 1", "tile 1 of level 0"),
        ("custody_tree", "UPDATE custody_tree SET root = :r", "custody_tree"),
    ],
)
async def test_tampered_row_is_named_and_nothing_is_signed(
    archive: CustodyLog, shelf: Shelf, table: str, statement: str, named: str
) -> None:
    await archive.grow(300)
    values = {"x": b"{}", "h": b"\x01" * 8192, "r": b"\x02" * 32}
    tamper(archive, table, statement, **{k: v for k, v in values.items() if f":{k}" in statement})
    with pytest.raises(errors.VerificationError, match=named):
        await archive.publisher.publish(None)
    assert archive.notary.last(ORIGIN).size == 0
    assert await names(shelf, "checkpoint") == []


async def test_history_rewritten_whole_and_consistently_is_refused_by_the_notary(
    archive: CustodyLog, shelf: Shelf
) -> None:
    """Whoever owns the database makes other leaves, tiles and root that agree with one another."""
    await archive.grow(8)
    await archive.publisher.publish(None)
    other = forked(0, 9)
    tamper(
        archive, "custody_tile", "UPDATE custody_tile SET hashes = :h", h=b"".join(other.hashes(0, n) for n in range(9))
    )
    tamper(archive, "custody_tree", "UPDATE custody_tree SET root = :r", r=other.checkpoint().root)
    with pytest.raises(errors.VerificationError, match="another history"):
        await archive.publisher.start()


async def test_forged_checkpoint_row_is_not_published(archive: CustodyLog, shelf: Shelf) -> None:
    await archive.grow(8)
    other = forked(0, 9)
    tamper(
        archive,
        "custody_checkpoint",
        "INSERT INTO custody_checkpoint (log_id, size, root, note, signed_at)"
        " VALUES (1, 9, :r, :n, '2026-11-20T00:00:00.000000Z')",
        r=other.checkpoint().root,
        n=other.note().decode().replace(ORIGIN, "elsewhere.example"),
    )
    with pytest.raises(errors.VerificationError):
        await archive.publisher.publish(None)
    assert await names(shelf, "checkpoint") == []


async def test_squatter_on_a_tiles_name_is_an_alarm(archive: CustodyLog, shelf: Shelf) -> None:
    await archive.grow(300)
    await shelf.put_new("tile/0/000", b"forged" * 100, None)
    with pytest.raises(errors.ConflictError):
        await archive.publisher.publish(None)
    assert await names(shelf, "checkpoint") == []


# --- the gate ---------------------------------------------------------------------------------------------------------


async def test_notary_from_an_old_backup_learns_at_the_gate(archive: CustodyLog, shelf: Shelf, tmp_path: Path) -> None:
    await archive.grow(5)
    await archive.publisher.publish(None)
    shutil.copy(tmp_path / "notary.db", tmp_path / "old.db")
    await archive.grow(5)
    await archive.publisher.publish(None)
    url = archive.engine.url.render_as_string(hide_password=False)
    async with custody_log(url, tmp_path / "old.db", [shelf], enrol=False) as restored:
        assert restored.notary.last(ORIGIN).size == 6
        await restored.publisher.start()
        assert restored.notary.last(ORIGIN) == archive.tree()


async def test_lost_notary_file_learns_at_the_gate(archive: CustodyLog, shelf: Shelf, tmp_path: Path) -> None:
    await archive.grow(5)
    await archive.publisher.publish(None)
    await archive.grow(5)
    url = archive.engine.url.render_as_string(hide_password=False)
    async with custody_log(url, tmp_path / "fresh.db", [shelf], enrol=False) as restored:
        await restored.publisher.start()
        assert restored.notary.last(ORIGIN).size == 6
        assert await restored.publisher.publish(None) is not None


async def test_checkpoint_hidden_behind_an_old_pointer_is_found(archive: CustodyLog, shelf: Shelf) -> None:
    await archive.grow(5)
    first = await archive.publisher.publish(None)
    await archive.grow(5)
    second = await archive.publisher.publish(None)
    assert first is not None
    assert second is not None
    for pointer in (first.note, b"rubbish", forked(0, 400).note().replace(b"archive", b"another")):
        await shelf.put_current("checkpoint", pointer)
        found = await newest_checkpoint(shelf, LOG.key)
        assert found is not None
        assert found.checkpoint == second.checkpoint


async def test_foreign_checkpoint_on_the_shelf_is_refused_with_its_name(archive: CustodyLog, shelf: Shelf) -> None:
    foreign = forked(0, 7).note().replace(b"archive.example", b"archive.another")
    await shelf.put_new(checkpoint_name(7), foreign, None)
    with pytest.raises(errors.VerificationError, match=checkpoint_name(7)):
        await archive.publisher.start()


async def test_checkpoint_from_the_future_is_a_rollback(archive: CustodyLog, shelf: Shelf) -> None:
    await shelf.put_new(checkpoint_name(50), forked(0, 50).note(), None)
    await archive.grow(3)
    with pytest.raises(errors.RolledBackError, match=r"50 leaves.*4") as raised:
        await archive.publisher.start()
    assert raised.value.exit_code == 65
    assert "archiver custody recover" in raised.value.sentence


async def test_database_that_loses_commits_under_a_running_process_is_caught_before_the_log_grows(
    sqlite_url: str, shelf: Shelf, tmp_path: Path, backup: Callable[[str], str]
) -> None:
    async with custody_log(sqlite_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.grow(3)
    old = backup(sqlite_url)
    async with custody_log(sqlite_url, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        await archive.publisher.start()
        await archive.writer.run(lambda conn: archive.ledger.enroll(conn, HOST_KEY))
        await archive.grow(3)
        await archive.publisher.publish(None)
        await archive.writer.run(archive.publisher.guard)
        shutil.copy(old.removeprefix("sqlite:///"), tmp_path / "archiver.db")
        archive.engine.dispose()
        for act in (archive.writer.run(archive.publisher.guard), archive.publisher.publish(None)):
            with pytest.raises(errors.RolledBackError, match="8 leaves were published, the database has 4"):
                await act


# --- the awaiter and the heartbeat --------------------------------------------------------------------------------


async def test_awaiter_returns_when_a_published_checkpoint_covers_the_event(archive: CustodyLog) -> None:
    await archive.append(3)
    subject, seq = archive.events[-1]
    quick = timedelta(milliseconds=20)
    waiting = asyncio.create_task(wait_published(archive.engine, subject, seq, poll=quick))
    await asyncio.sleep(0.1)  # several looks: time for what should not happen
    assert not waiting.done()
    size = await archive.integrate()
    await asyncio.sleep(0.1)  # several looks: time for what should not happen
    assert not waiting.done()
    await archive.publisher.publish(None)
    assert await asyncio.wait_for(waiting, 10) == size
    assert await wait_published(archive.engine, ARCHIVE, 0, poll=quick) == size


async def test_awaiter_gives_up_after_its_patience(archive: CustodyLog) -> None:
    with pytest.raises(errors.UnavailableError):
        await wait_published(
            archive.engine, "hold:never", 0, poll=timedelta(milliseconds=10), patience=timedelta(milliseconds=80)
        )


async def test_heartbeat_comes_once_an_hour_wherever_the_last_one_stands(archive: CustodyLog) -> None:
    now = archive.clock.now()

    def beat(later: timedelta) -> bool:
        done = archive.writer.run_sync(
            lambda conn: publication_rows.beat(conn, archive.ledger, archive.log_id, now + later)
        )
        return done is not None

    assert beat(timedelta(0))
    assert not beat(timedelta(minutes=59))  # it waits in the queue
    await archive.integrate()
    assert not beat(timedelta(minutes=59))  # it stands in the log
    assert beat(timedelta(minutes=61))
    await archive.integrate()
    beats = [event for event in archive.all_events() if event.type == Type.LOG_HEARTBEAT]
    assert [event.data for event in beats] == [{"size": 0, "timestamp": None}, {"size": 2, "timestamp": None}]


# --- by the state of a real file ----------------------------------------------------------------------------------


async def test_published_partials_that_expired_are_read_from_the_wider_ones(
    archive: CustodyLog, shelf: Shelf, tmp_path: Path
) -> None:
    await archive.grow(100)
    first = await archive.publisher.publish(None)
    assert first is not None
    await archive.grow(50)
    await archive.publisher.publish(None)
    (tmp_path / "shelf/custody/tile/0/000.p/101").unlink()
    (tmp_path / "shelf/custody/tile/entries/000.p/101").unlink()
    published = await PublishedLog.open(shelf, 101, first.checkpoint.root)
    assert len(await published.entries(0)) == 101
    await archive.grow(300)
    await archive.publisher.publish(None)
    shutil.rmtree(tmp_path / "shelf/custody/tile/entries/000.p")
    shutil.rmtree(tmp_path / "shelf/custody/tile/0/000.p")
    published = await PublishedLog.open(shelf, 101, first.checkpoint.root)
    assert len(await published.entries(0)) == 101
    assert open_checkpoint(first.note, LOG.key)[0].root == await published.root_at(101)
