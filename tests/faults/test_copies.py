"""Nothing is called archived, and nothing leaves the spool, unless a storage has just shown that it has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from archiver import errors
from archiver.assembly import assemble
from archiver.clock import SystemChance, SystemClock
from archiver.daemon import Daemon, Sweep
from archiver.database import create_engine
from archiver.demo.simulators import Route, fleet
from archiver.demo.simulators.faults import ErrorBody
from archiver.demo.simulators.scenario import samples
from archiver.demo.simulators.server import Simulator
from archiver.ingest import journal
from archiver.ingest.tables import copy, recording
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver

AWAY = "[{id: primary, kind: directory, path: mount/copies}]"  # a folder in a mount that is not there


@pytest.fixture
async def kazoo() -> AsyncIterator[dict[str, Simulator]]:
    made = {"kazoo": fleet.fleet(SystemClock(), samples(), seed=11, count=3)["kazoo"]}
    async with made["kazoo"]:
        yield made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep does not wait a minute for what may be tried again by then."""
    monkeypatch.setattr("archiver.daemon.PATIENCE", timedelta(0))


async def sweep_with_nothing_required(archive: Archive) -> Sweep:
    """`run --once` by a configuration that `check` refuses: the pipe does not rely on it."""
    assembly = await assemble(archive.config)
    for each in assembly.destinations:
        each.store.required = False
    try:
        return await Daemon(assembly).once()
    finally:
        await assembly.aclose()


def sql(archive: Archive, *statements: object) -> None:
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    with engine.begin() as conn:
        for each in statements:
            conn.execute(each)  # type: ignore[call-overload]
    engine.dispose()


def retry_all(archive: Archive, ids: list[str]) -> None:
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    with engine.begin() as conn:
        for each in ids:
            journal.retry_now(conn, each)
    engine.dispose()


def sealed_in_spool(archive: Archive) -> list[Path]:
    return [each for each in (Path(archive.config.state_dir) / "spool").iterdir() if each.stat().st_size > 1000]


async def test_nothing_is_archived_while_no_storage_takes_it_though_none_is_required(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    archive = make_archive(tmp_path, kazoo, sqlite_url, AWAY)
    assert (await sweep_with_nothing_required(archive)).exit_code == errors.Exit.UNFINISHED
    rows = await archive.rows()
    assert rows
    assert {(row["state"], row["reason"]) for row in rows} == {("waiting", "destination")}
    assert len(sealed_in_spool(archive)) == len(rows)
    (tmp_path / "mount").mkdir()
    assert (await sweep_with_nothing_required(archive)).exit_code == errors.Exit.OK
    rows = await archive.rows()
    assert all(row["state"] == "archived" and row["copies"] for row in rows)
    assert not sealed_in_spool(archive)


async def test_check_refuses_a_configuration_without_a_required_storage(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    text = make_archive(tmp_path, kazoo, sqlite_url, AWAY).path
    for storage in (
        "[{id: primary, kind: directory, path: copies, required: false}]",
        "{kind: directory, path: copies, required: FALSE}",
        "[{id: a, kind: directory, path: a, required: false}, {id: b, kind: directory, path: b, required: false}]",
    ):
        text.write_text(text.read_text().replace(AWAY, storage))
        for command in ("check", "run --once"):
            done = archiver(*command.split(), "-c", text)
            assert done.returncode == errors.Exit.CONFIGURATION
            assert "no storage is required" in done.stdout + done.stderr
        text.write_text(text.read_text().replace(storage, AWAY))


async def test_an_error_page_that_no_storage_takes_stays_in_the_spool_and_the_provider_is_asked_on(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    kazoo["kazoo"].fail(Route.MEDIA, ErrorBody("html"), times=None)
    archive = make_archive(tmp_path, kazoo, sqlite_url, AWAY, keeps="1d")
    for _ in range(4):  # three attempts of a recording past its deadline, then its page is kept
        await archive.sweep()
        rows = await archive.rows()
        retry_all(archive, [str(row["id"]) for row in rows])
    assert all(row["state"] == "waiting" and "quarantined" in str(row["flags"]) for row in rows)
    asked = [int(str(row["attempts"])) for row in rows]
    spooled = await archive.raw_rows()
    pages = [Path(archive.config.state_dir) / "spool" / str(row["spool_name"]) for row in spooled]
    assert all(each.exists() for each in pages)
    await archive.sweep()  # the storage is away, and the provider is asked all the same
    assert all(int(str(row["attempts"])) > before for row, before in zip(await archive.rows(), asked, strict=True))
    assert all(each.exists() for each in pages)
    (tmp_path / "mount").mkdir()
    retry_all(archive, [str(row["id"]) for row in rows])
    await archive.sweep()
    assert not any(each.exists() for each in pages)
    kept = {copy["key"] for row in await archive.rows() for copy in row["copies"]}  # type: ignore[attr-defined]
    assert len(kept) == len(rows)
    assert all((tmp_path / "mount" / "copies" / str(key)).exists() for key in kept)
    kazoo["kazoo"].heal()
    retry_all(archive, [str(row["id"]) for row in rows])
    await archive.sweep()
    assert {row["state"] for row in await archive.rows()} == {"archived"}


async def test_same_content_rests_on_another_rows_copy_only_when_its_storage_shows_it(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    storage = "[{id: primary, kind: directory, path: copies}]"
    archive = make_archive(tmp_path, kazoo, sqlite_url, storage)
    await archive.sweep()
    first, second, *_ = await archive.raw_rows()
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    with engine.connect() as conn:
        key = conn.execute(select(copy.c.key).where(copy.c.recording_id == second["id"])).scalar_one()
    engine.dispose()
    stored = tmp_path / "copies" / key
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    chance, blank = SystemChance(), ("spool_id", "spool_name", "archived_at", "next_attempt_at", "segment")
    twins = {str(row["id"]): chance.uuid() for row in (first, second)}
    for row in (first, second):  # listed again with another description, as providers do: the same audio comes
        again = {**row, **dict.fromkeys(blank), "id": twins[str(row["id"])], "revision": "0" * 64, "state": "listed"}
        again |= {"ready": True, "attempts": 0, "plaintext_sha256": None, "sealed_sha256": None}
        sql(archive, insert(recording).values(**again))
    await archive.sweep()
    rows = {str(row["id"]): row for row in await archive.rows()}
    keys = {name: [copy["key"] for copy in row["copies"]] for name, row in rows.items()}  # type: ignore[attr-defined]
    assert {row["state"] for row in rows.values()} == {"archived"}
    assert keys[twins[str(first["id"])]] == keys[str(first["id"])], "one copy stands for both"
    own = keys[twins[str(second["id"])]]
    assert own != keys[str(second["id"])], "the damaged copy proves nothing"
    assert all((tmp_path / "copies" / each).exists() for each in own)


async def test_what_an_older_version_called_archived_without_a_copy_is_a_gap_and_is_asked_for_again(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    storage = "[{id: primary, kind: directory, path: copies}]"
    archive = make_archive(tmp_path, kazoo, sqlite_url, storage)
    kazoo["kazoo"].fail(Route.MEDIA, ErrorBody("html"), times=None)
    await archive.sweep()
    sql(  # as `run --once` of b5c58d6 left it
        archive,
        update(recording).values(
            state="archived", ready=False, next_attempt_at=None, archived_at=SystemClock().now(), reason=None
        ),
    )
    assert (await archive.sweep()).exit_code == errors.Exit.UNFINISHED
    rows = await archive.rows()
    assert rows
    assert all(row["state"] == "waiting" and "no_copy" in str(row["flags"]) for row in rows)
    listed = archiver("gaps", "list", "-o", "json", "-c", archive.path).stdout
    assert listed.count('"copy_missing"') == len(rows)
    kazoo["kazoo"].heal()
    retry_all(archive, [str(row["id"]) for row in rows])
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    rows = await archive.rows()
    assert all(row["state"] == "archived" and row["copies"] and "no_copy" not in str(row["flags"]) for row in rows)
    assert '"copy_missing"' not in archiver("gaps", "list", "-o", "json", "-c", archive.path).stdout
