"""Events that were written into a turned-back database: `recover` brings them home, the log accuses nobody, chains are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Type, commits
from archiver.custody.ledger import Ledger
from archiver.database import reading
from archiver.store.port import Shelf
from archiver.translog import reader
from archiver.translog.recover import Recovered, recover
from archiver.verify.finding import Verification
from archiver.verify.leaves import Trust
from archiver.verify.log import check_log
from tests.custody_examples import HOST_KEY
from tests.custody_log import HOSTS, SUBJECTS, CustodyLog, check_shelf, custody_log, folder_shelf
from tests.log_trees import LOG

Backup = Callable[[str], str]
FRESH = "rec:01937f2c-8b7e-7c3a-9d1e-ffffffffffff"


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    return await folder_shelf(tmp_path / "shelf")


def heard(archive: CustodyLog, *subjects: str, said: int = 1) -> None:
    """What an unguarded command writes: enrolled, some accesses, retired, in one transaction."""
    ledger = Ledger.open(SystemClock(), SystemChance())

    def write(conn: object) -> None:
        with ledger.once(conn, HOST_KEY):  # type: ignore[arg-type]
            for subject in subjects:
                for number in range(said):
                    private = {"access": {"reason": f"case {number}", "user": "roe"}}
                    ledger.append(conn, subject, Type.ACCESSED, {"n": number}, private=private)  # type: ignore[arg-type]

    archive.writer.run_sync(write)


async def recovered(archive: CustodyLog) -> Recovered:
    return await recover(archive.writer, archive.notary, archive.shelves, archive.ledger, HOST_KEY, archive.clock)


def findings(archive: CustodyLog) -> list[str]:
    result = Verification()
    with reading(archive.engine) as conn:
        check_log(conn, archive.log_id, Trust(LOG.key, HOSTS), result)
    return [f"{each.kind} {each.subject}: {each.detail}" for each in result.failures]


def accused(archive: CustodyLog) -> list[str]:
    return [each.type for each in archive.all_events() if each.type in {Type.BAD_WRITER_SIG, Type.CHAIN_FORK}]


async def lived(url: str, notary: Path, shelf: Shelf, backup: Backup) -> str:
    """A log that was published, a backup of it, and as much life again, published too. Returns the backup."""
    async with custody_log(url, notary, [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(100)
        await archive.publisher.publish(None)
    old = backup(url)
    async with custody_log(url, notary, [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(25)  # not every subject gets another event
        await archive.publisher.publish(None)
    return old


async def finish(archive: CustodyLog, shelf: Shelf) -> None:
    """The log goes on as if nothing had been: published, whole, nobody accused."""
    await archive.publisher.start()
    await archive.integrate()
    await archive.publisher.publish(None)
    assert findings(archive) == []
    assert accused(archive) == []
    archive.check_chains()
    await check_shelf(shelf)
    with reading(archive.engine) as conn:
        assert list(reader.quarantined(conn)) == []


@pytest.mark.parametrize("said", [1, 4])
async def test_a_listening_written_into_a_turned_back_database_is_in_its_chain_after_recovery(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Backup, said: int
) -> None:
    """Once where the log went on meanwhile, once where it did not, once on a chain that is new."""
    old = await lived(database_url, tmp_path / "notary.db", shelf, backup)
    async with custody_log(old, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        grew, still = SUBJECTS[0], SUBJECTS[-1]
        heard(archive, grew, still, FRESH, said=said)
        done = await recovered(archive)
        assert (done.rehomed, done.kept) == (3 * said, 2)
        await finish(archive, shelf)
        events = archive.all_events()
        for subject in (grew, still, FRESH):
            accesses = [each for each in events if each.subject == subject and each.type == Type.ACCESSED]
            assert [each.data["n"] for each in accesses] == list(range(said))
            assert all(("rehomed" in each.data) is (subject == grew) for each in accesses)
            with reading(archive.engine) as conn:
                for each in accesses:
                    group = history.private(conn, subject, each.seq)["access"]
                    assert commits(each.priv["access"], group.salt, group.raw)
                    assert group.data["user"] == "roe"
        again = await recovered(archive)
        assert (again.rehomed, again.kept, again.told) == (0, 0, False)


async def test_what_an_older_version_refused_for_the_rollback_is_brought_home_by_the_next_recovery(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accusation stays in the log; what it was about is in its chain, and heads are right again."""
    old = await lived(database_url, tmp_path / "notary.db", shelf, backup)
    async with custody_log(old, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        heard(archive, SUBJECTS[0], SUBJECTS[-1])
        with monkeypatch.context() as older:
            older.setattr("archiver.translog.rehome._plan", _blind)
            await recovered(archive)
        await archive.publisher.start()
        await archive.integrate()
        await archive.integrate()
        assert accused(archive)
        assert findings(archive)
        fresh = Ledger.open(SystemClock(), SystemChance())
        done = await recover(archive.writer, archive.notary, [shelf], fresh, HOST_KEY, archive.clock)
        assert (done.rehomed, done.kept) == (2, 2)
        await archive.integrate()
        await archive.publisher.publish(None)
        assert findings(archive) == []
        archive.check_chains()
        for subject in (SUBJECTS[0], SUBJECTS[-1]):
            assert [each.type for each in archive.all_events() if each.subject == subject].count(Type.ACCESSED) == 1
        with reading(archive.engine) as conn:
            assert list(reader.quarantined(conn)) == []


def _blind(conn: object, hosts: object) -> object:
    from archiver.translog.rehome import _judge, _Plan

    plan = _Plan({})
    _judge(conn, plan, ARCHIVE, [])  # type: ignore[arg-type]
    return plan


async def test_recovery_that_is_refused_half_way_changes_nothing_and_the_next_one_finishes(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Backup
) -> None:
    """The way home is one transaction: it dies before the commit, or the commit's answer is lost and it runs again."""
    old = await lived(database_url, tmp_path / "notary.db", shelf, backup)
    async with custody_log(old, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        heard(archive, SUBJECTS[0])

        def die(conn: object, moved: object) -> None:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await recover(archive.writer, archive.notary, [shelf], archive.ledger, HOST_KEY, archive.clock, moved=die)
        with reading(archive.engine) as conn:
            assert reader.waiting(conn) == 3
        assert (await recovered(archive)).rehomed == 1
        assert (await recovered(archive)).rehomed == 0  # the answer was lost: asked again
        await finish(archive, shelf)


async def test_forged_rows_in_a_turned_back_database_are_still_accused(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Backup
) -> None:
    from archiver.custody.keys import generate_signing_key

    old = await lived(database_url, tmp_path / "notary.db", shelf, backup)
    async with custody_log(old, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        stranger, host = Ledger.open(SystemClock(), SystemChance()), generate_signing_key(SystemChance())

        def write(conn: object) -> None:
            with stranger.once(conn, host):  # type: ignore[arg-type]
                stranger.append(conn, SUBJECTS[0], Type.ACCESSED, {})  # type: ignore[arg-type]

        await archive.writer.run(write)
        assert (await recovered(archive)).rehomed == 0
        await archive.publisher.start()
        await archive.integrate()
        await archive.integrate()
        assert Type.BAD_WRITER_SIG in accused(archive)


async def test_missing_checkpoints_are_put_back(sqlite_url: str, shelf: Shelf, tmp_path: Path, backup: Backup) -> None:
    notary = tmp_path / "notary.db"
    async with custody_log(sqlite_url, notary, [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(10)
        await archive.publisher.publish(None)
    old = backup(sqlite_url)
    async with custody_log(sqlite_url, notary, [shelf]) as archive:
        await archive.publisher.start()
        for _ in range(5):
            await archive.grow(7)
            await archive.publisher.publish(None)
        with reading(archive.engine) as conn:
            every = {each.size: each.note for each in reader.checkpoints(conn, archive.log_id)}
    async with custody_log(old, notary, [shelf], enrol=False) as archive:
        assert (await recovered(archive)).checkpoints == 5
        with reading(archive.engine) as conn:
            assert {each.size: each.note for each in reader.checkpoints(conn, archive.log_id)} == every
        with archive.engine.begin() as conn:
            conn.exec_driver_sql("DROP TRIGGER custody_checkpoint_delete")
            conn.exec_driver_sql(f"DELETE FROM custody_checkpoint WHERE size = {sorted(every)[2]}")
        assert (await recovered(archive)).checkpoints == 1
        with reading(archive.engine) as conn:
            assert {each.size: each.note for each in reader.checkpoints(conn, archive.log_id)} == every
