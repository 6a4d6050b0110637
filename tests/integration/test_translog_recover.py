"""The database lost what was signed: the gate refuses, `recover` brings every event back from the storages and says so."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from archiver import errors
from archiver.custody.event import ARCHIVE, Event, Type
from archiver.database import create_engine, reading, upgrade
from archiver.recording import Json
from archiver.store.port import Shelf
from archiver.translog import reader
from archiver.translog.published_log import checkpoint_name
from archiver.translog.recover import Recovered, recover
from tests.broken_shelf import BrokenShelf, fails
from tests.custody_examples import HOST_KEY
from tests.custody_log import CustodyLog, check_shelf, custody_log, folder_shelf
from tests.log_trees import ORIGIN

Backup = Callable[[str], str]


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    return await folder_shelf(tmp_path / "shelf")


async def recovered(archive: CustodyLog) -> Recovered:
    return await recover(archive.writer, archive.notary, archive.shelves, archive.ledger, HOST_KEY, archive.clock)


async def commit_many(archive: CustodyLog, commits: int) -> None:
    for start in range(0, commits, 50):
        await asyncio.gather(*(archive.append(1) for _ in range(start, min(commits, start + 50))))


def told(events: list[Event]) -> Sequence[tuple[str, Mapping[str, Json]]]:
    return [(str(event.type), dict(event.data)) for event in events if event.subject == ARCHIVE][-3:]


@pytest.mark.parametrize("before", [10, 700])
async def test_rollback_drill_database_from_an_hour_ago_with_the_notary_ahead(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Backup, before: int
) -> None:
    """T7: refuses to sign, recovers the root, events 100 % back."""
    notary = tmp_path / "notary.db"
    async with custody_log(database_url, notary, [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(before)
        await archive.publisher.publish(None)
    old = backup(database_url)
    async with custody_log(database_url, notary, [shelf], enrol=False) as archive:
        await archive.publisher.start()
        await archive.writer.run(lambda conn: archive.ledger.enroll(conn, HOST_KEY))
        await commit_many(archive, 500)
        await archive.integrate()
        await archive.publisher.publish(None)
        size, root = archive.tree()
        events = archive.all_events()
    assert size == before + 502

    async with custody_log(old, notary, [shelf], enrol=False) as archive:
        with pytest.raises(errors.RolledBackError):
            await archive.publisher.start()
        with pytest.raises(errors.RolledBackError):
            await archive.publisher.publish(None)
        assert archive.notary.last(ORIGIN) == (size, root)
        assert await recovered(archive) == Recovered(before + 1, size, "shelf")
        assert archive.tree() == (size, root)
        assert archive.all_events() == events
        archive.check_chains()

        await archive.publisher.start()
        await archive.grow(5)
        assert await archive.publisher.publish(None) is not None
        assert await check_shelf(shelf) == size + 8
        assert told(archive.all_events()) == [
            ("writer.enrolled", {"writer": archive.ledger.writer}),
            ("anomaly.db_rollback", {"had": before + 1, "published": size}),
            ("log.restored", {"size": size, "root": root.hex(), "storage": "shelf"}),
        ]
        archive.check_chains()


async def test_lost_database_comes_back_from_the_storage_alone(
    database_url: str, empty_database_url: str, shelf: Shelf, tmp_path: Path
) -> None:
    engine = create_engine(empty_database_url.replace("archiver.db", "fresh.db"), None)
    upgrade(engine)
    engine.dispose()
    async with custody_log(database_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(1500)
        await archive.publisher.publish(None)
        tree, events = archive.tree(), archive.all_events()
    fresh = engine.url.render_as_string(hide_password=False)
    async with custody_log(fresh, tmp_path / "fresh-notary.db", [shelf], enrol=False) as archive:
        assert (await recovered(archive)).size == 1501
        assert archive.tree() == tree
        assert archive.all_events() == events
        with reading(archive.engine) as conn:
            newest = reader.newest_checkpoint(conn, archive.log_id, published=True)
        assert newest is not None
        assert newest.size == 1501
        archive.check_chains()
        await archive.publisher.start()
        await archive.grow(300)
        assert await archive.publisher.publish(None) is not None
        assert await check_shelf(shelf) == 1804


async def test_signed_but_never_published_tree_comes_back_from_its_tiles(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Backup
) -> None:
    notary, broken = tmp_path / "notary.db", BrokenShelf(shelf)
    async with custody_log(database_url, notary, [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(20)
        await archive.publisher.publish(None)
    old = backup(database_url)
    async with custody_log(database_url, notary, [broken], enrol=False) as archive:
        await archive.publisher.start()
        await archive.writer.run(lambda conn: archive.ledger.enroll(conn, HOST_KEY))
        size = await archive.grow(300)
        broken.before = fails("checkpoints/")
        with pytest.raises(errors.DestinationError):
            await archive.publisher.publish(None)
        tree, events = archive.tree(), archive.all_events()
    assert await shelf.read(checkpoint_name(size)) is None
    async with custody_log(old, notary, [shelf], enrol=False) as archive:
        with pytest.raises(errors.RolledBackError, match="notary"):
            await archive.publisher.start()
        await recovered(archive)
        assert archive.tree() == tree
        assert archive.all_events() == events
        await archive.publisher.start()
        await archive.integrate()
        assert await archive.publisher.publish(None) is not None
        assert await check_shelf(shelf) == size + 3


async def test_queue_from_the_backup_holds_what_the_log_has_and_makes_no_alarm(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Backup
) -> None:
    notary = tmp_path / "notary.db"
    async with custody_log(database_url, notary, [shelf]) as archive:
        await archive.grow(20)
        await archive.append(30)
    old = backup(database_url)
    async with custody_log(database_url, notary, [shelf], enrol=False) as archive:
        await archive.publisher.start()
        await archive.integrate()
        await archive.publisher.publish(None)
    async with custody_log(old, notary, [shelf], enrol=False) as archive:
        await recovered(archive)
        await archive.integrate()
        events = archive.all_events()
        assert len(events) == 51 + 3
        assert [event.type for event in events if event.type.startswith("anomaly")] == [Type.DB_ROLLBACK]
        with reading(archive.engine) as conn:
            assert list(reader.quarantined(conn)) == []
        archive.check_chains()


async def test_nothing_missing_changes_nothing(database_url: str, shelf: Shelf, tmp_path: Path) -> None:
    async with custody_log(database_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(20)
        await archive.publisher.publish(None)
        await archive.grow(5)
        assert await recovered(archive) == Recovered(26, 26, "")
        assert await archive.integrate() == 26


@pytest.mark.parametrize("at", [1, 3, 5])
async def test_recovery_that_dies_half_way_goes_on_from_there(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Backup, at: int
) -> None:
    notary = tmp_path / "notary.db"
    old = backup(database_url)
    async with custody_log(database_url, notary, [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(2500)
        await archive.publisher.publish(None)
        tree = archive.tree()
    broken = BrokenShelf(shelf, reading=fails("tile/entries/", at * 2))
    async with custody_log(old, notary, [broken], enrol=False) as archive:
        with pytest.raises(errors.DestinationError):
            await recovered(archive)
        had, _ = archive.tree()
        assert had == (at * 2 - 1) // 4 * 1024
        assert await recovered(archive) == Recovered(had, 2501, "shelf")
        assert archive.tree() == tree
        await archive.integrate()
        assert [kind for kind, _ in told(archive.all_events())] == [
            "writer.enrolled", "anomaly.db_rollback", "log.restored",
        ]  # fmt: skip
        archive.check_chains()


@pytest.mark.parametrize(
    ("name", "position", "named"),
    [
        ("tile/entries/001", 5000, "tile/entries/001"),
        ("tile/0/001", 77, "tile/0/001"),
        ("tile/1/000.p/2", 40, "root that was signed"),
        ("tile/0/002.p/89", 5, "root that was signed"),
        ("tile/entries/002.p/89", 300, "leaf 512"),
    ],
)
async def test_damaged_piece_is_named_and_nothing_of_it_is_imported(
    sqlite_url: str, shelf: Shelf, tmp_path: Path, backup: Backup, name: str, position: int, named: str
) -> None:
    notary = tmp_path / "notary.db"
    old = backup(sqlite_url)
    async with custody_log(sqlite_url, notary, [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(600)
        await archive.publisher.publish(None)
    path = tmp_path / "shelf/custody" / name
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.unlink()
    path.write_bytes(content)
    async with custody_log(old, notary, [shelf], enrol=False) as archive:
        with pytest.raises(errors.VerificationError, match=named):
            await recovered(archive)
        assert archive.tree()[0] == 0


async def test_missing_piece_comes_from_the_other_storage(
    sqlite_url: str, shelf: Shelf, tmp_path: Path, backup: Backup
) -> None:
    notary = tmp_path / "notary.db"
    second = await folder_shelf(tmp_path / "second")
    old = backup(sqlite_url)
    async with custody_log(sqlite_url, notary, [shelf, second]) as archive:
        await archive.publisher.start()
        await archive.grow(600)
        await archive.publisher.publish(None)
    (tmp_path / "shelf/custody/tile/0/002.p/89").unlink()
    async with custody_log(old, notary, [shelf, second], enrol=False) as archive:
        assert (await recovered(archive)).shelf == "second"


async def test_database_with_another_history_is_not_touched(
    sqlite_url: str, shelf: Shelf, tmp_path: Path, backup: Backup
) -> None:
    old = backup(sqlite_url)
    async with custody_log(sqlite_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(100)
        await archive.publisher.publish(None)
    async with custody_log(old, tmp_path / "notary.db", [shelf]) as archive:
        size = await archive.grow(50)
        with pytest.raises(errors.VerificationError, match="empty database"):
            await recovered(archive)
        assert archive.tree()[0] == size


async def test_no_storage_to_read_from_is_try_again_later(sqlite_url: str, shelf: Shelf, tmp_path: Path) -> None:
    async with custody_log(sqlite_url, tmp_path / "notary.db", [shelf]) as archive:
        shutil.rmtree(tmp_path / "shelf")
        with pytest.raises(errors.DestinationError):
            await recovered(archive)
