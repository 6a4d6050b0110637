"""Publishing dies at every point that the crash table names, by an error or by SIGKILL: the next process goes on, one history."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from archiver import errors
from archiver.database import reading
from archiver.store.port import Shelf
from archiver.translog import reader
from archiver.translog.published_log import PublishedLog, checkpoint_size, newest_checkpoint, read_checkpoint
from archiver.translog.recover import recover
from tests.crash.publish_points import POINTS, ToldToDieError, reopened
from tests.custody_examples import HOST_KEY
from tests.custody_log import CustodyLog, check_shelf, custody_log, folder_shelf
from tests.log_trees import LOG, ORIGIN

ROOT = Path(__file__).parents[2]
ENDS = ["error", "SIGKILL"]


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    return await folder_shelf(tmp_path / "shelf")


async def die_at(point: str, end: str, url: str, tmp_path: Path, shelf: Shelf) -> None:
    """Publish a first checkpoint in good order; then a second process publishes 600 more events, as far as `point`."""
    async with custody_log(url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.publisher.start()
        await archive.grow(300)
        await archive.publisher.publish(None)
    if end == "SIGKILL":
        command = [sys.executable, "-m", "tests.crash.publish_points", point, url]
        done = subprocess.run(  # noqa: ASYNC221  nothing else runs here
            [*command, str(tmp_path / "notary.db"), str(tmp_path / "shelf")], cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
        return

    def die() -> None:
        raise ToldToDieError

    async with custody_log(url, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        publisher = POINTS[point](archive, tmp_path / "notary.db", shelf, die)
        with pytest.raises(ToldToDieError):
            await reopened(archive, publisher)


async def one_history(archive: CustodyLog, shelf: Shelf) -> None:
    """Database, notary and shelf agree, and every checkpoint that ever appeared is a beginning of the newest."""
    found = await newest_checkpoint(shelf, LOG.key)
    assert found is not None
    checkpoint = found.checkpoint
    assert archive.tree() == (checkpoint.size, checkpoint.root) == archive.notary.last(ORIGIN)
    assert await check_shelf(shelf) == checkpoint.size
    published = await PublishedLog.open(shelf, checkpoint.size, checkpoint.root)
    async for name in shelf.names("checkpoints/"):
        older = await read_checkpoint(shelf, LOG.key, name)
        assert older is not None
        assert await published.root_at(checkpoint_size(name) or 0) == older.checkpoint.root
    with reading(archive.engine) as conn:
        assert all(each.published_at for each in reader.checkpoints(conn, archive.log_id))
    archive.check_chains()


@pytest.mark.parametrize("grown", [0, 40])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("point", POINTS)
async def test_next_process_publishes_one_history(
    database_url: str, shelf: Shelf, tmp_path: Path, point: str, end: str, grown: int
) -> None:
    """`grown`: before the next process publishes, the tree grows, so that what was being published is not the newest any more."""
    await die_at(point, end, database_url, tmp_path, shelf)
    async with custody_log(database_url, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        await archive.publisher.start()
        if grown:
            await archive.writer.run(lambda conn: archive.ledger.enroll(conn, HOST_KEY))
            await archive.grow(grown)
        while await archive.publisher.publish(None) is not None:
            pass
        assert archive.tree()[0] == 301 + 601 + (grown + 1 if grown else 0)
        await one_history(archive, shelf)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("point", ["notary persisted size, signature lost", "checkpoint PUT, reply lost"])
async def test_db_failover_lost_commits_after_a_death(
    database_url: str, shelf: Shelf, tmp_path: Path, backup: Callable[[str], str], point: str, end: str
) -> None:
    """Tree < published: the gate refuses, `recover` brings everything back, also what was signed and not yet published."""
    async with custody_log(database_url, tmp_path / "notary.db", [shelf]) as archive:
        await archive.grow(10)
    old = backup(database_url)
    await die_at(point, end, database_url, tmp_path, shelf)
    async with custody_log(old, tmp_path / "notary.db", [shelf], enrol=False) as archive:
        with pytest.raises(errors.RolledBackError):
            await archive.publisher.start()
        await recover(archive.writer, archive.notary, [shelf], archive.ledger, HOST_KEY, archive.clock)
        assert archive.tree()[0] == 11 + 301 + 601
        await archive.publisher.start()
        await archive.integrate()
        while await archive.publisher.publish(None) is not None:
            pass
        await one_history(archive, shelf)
