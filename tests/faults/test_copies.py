"""Nothing is called archived, and nothing leaves the spool, unless a storage has just shown that it has it; and every configured
storage is to have a copy: one that is not there is a gap until it is."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from archiver import errors
from archiver.assembly.process import assemble
from archiver.cli import invoke as shipped
from archiver.clock import SystemChance, SystemClock
from archiver.config.load import load
from archiver.daemon.supervise import Daemon
from archiver.daemon.sweep import Sweep
from archiver.database import create_engine, upgrade
from archiver.demo.simulators import Route, fleet
from archiver.demo.simulators.faults import ErrorBody
from archiver.demo.simulators.scenario import samples
from archiver.demo.simulators.server import Simulator
from archiver.ingest import background_copies, copier, journal, owed_copies
from archiver.ingest.tables import copy, copy_survey, owed_copy, recording
from archiver.recording import Stored
from archiver.schedule import lease
from archiver.store.directory import DirectoryStore
from tests.acceptance.archive import Archive, make_archive

AWAY = "[{id: primary, kind: directory, path: mount/copies}]"  # a folder in a mount that is not there


@pytest.fixture
async def kazoo() -> AsyncIterator[dict[str, Simulator]]:
    made = {"kazoo": fleet.fleet(SystemClock(), samples(), seed=11, count=3)["kazoo"]}
    async with made["kazoo"]:
        yield made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep does not wait a minute for what may be tried again by then."""
    monkeypatch.setattr("archiver.daemon.times.PATIENCE", timedelta(0))


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


async def run(archive: Archive, *command: str) -> tuple[int, str]:
    """The command's exit code and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = await asyncio.to_thread(shipped, [*command, "-o", "json", "-c", str(archive.path)])
    return code, said.getvalue()


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
    archive = make_archive(tmp_path, kazoo, sqlite_url, AWAY)
    text = archive.path
    for storage in (
        "[{id: primary, kind: directory, path: copies, required: false}]",
        "{kind: directory, path: copies, required: FALSE}",
        "[{id: a, kind: directory, path: a, required: false}, {id: b, kind: directory, path: b, required: false}]",
    ):
        text.write_text(text.read_text().replace(AWAY, storage))
        code, said = await run(archive, "check")
        assert (code, "no storage is required" in said) == (errors.Exit.CONFIGURATION, True)
        assert (await run(archive, "run", "--once"))[0] == errors.Exit.CONFIGURATION
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
    assert (await run(archive, "verify", "--all"))[0] == errors.Exit.OK, "pages in quarantine are verified too"
    page = tmp_path / "mount" / "copies" / str(min(map(str, kept)))
    whole = page.read_bytes()
    page.chmod(0o600)
    page.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, said = await run(archive, "verify", "--all")
    assert (code, page.name in said) == (errors.Exit.INTEGRITY, True)
    page.write_bytes(whole)
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
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
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
    listed = (await run(archive, "gaps", "list"))[1]
    assert listed.count('"never_stored"') == len(rows)
    kazoo["kazoo"].heal()
    retry_all(archive, [str(row["id"]) for row in rows])
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    rows = await archive.rows()
    assert all(row["state"] == "archived" and row["copies"] and "no_copy" not in str(row["flags"]) for row in rows)
    assert '"never_stored"' not in (await run(archive, "gaps", "list"))[1]


# --- copies that are owed ---------------------------------------------------------------------------------------------

ONE = "[{id: primary, kind: directory, path: copies}]"
OPTIONAL = (
    "[{id: primary, kind: directory, path: copies}, {id: second, kind: directory, path: mount/second, required: false}]"
)
BOTH = "[{id: primary, kind: directory, path: copies}, {id: second, kind: directory, path: second}]"


def with_storage(archive: Archive, storage: str) -> Archive:
    """The same archive after somebody changed its storages in the file."""
    lines = archive.path.read_text().splitlines()
    lines = [f"storage: {storage}" if line.startswith("storage: ") else line for line in lines]
    archive.path.write_text("\n".join(lines) + "\n")
    return Archive(load(archive.path, resolve_secrets=True), archive.path)


async def lacking(archive: Archive) -> dict[str, int]:
    """How many copies each storage lacks, by the register of gaps."""
    found = json.loads((await run(archive, "gaps", "list"))[1])["data"]["gaps"]
    return {
        each["evidence"]["storage"]: each["evidence"]["recordings"] for each in found if each["code"] == "copy_missing"
    }


async def copies_of(archive: Archive) -> list[list[str]]:
    return [[copy["storage"] for copy in row["copies"]] for row in await archive.rows()]  # type: ignore[attr-defined]


async def test_an_optional_copy_that_is_not_there_is_a_gap_everywhere_until_it_is_made(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    archive = make_archive(tmp_path, kazoo, sqlite_url, OPTIONAL)
    assert (await archive.sweep()).exit_code == errors.Exit.UNFINISHED
    assert await copies_of(archive) == [["primary"]] * 3
    assert await lacking(archive) == {"second": 3}
    code, said = await run(archive, "verify", "--all")
    assert (code, said.count('"copy_missing"')) == (errors.Exit.INTEGRITY, 3)
    assert (await run(archive, "reconcile"))[0] == errors.Exit.LOST
    code, said = await run(archive, "status", "--check")
    assert code != errors.Exit.OK
    assert json.loads(said)["data"]["copies_missing"] == {"second": 3}
    assert "copy_missing" in said
    (tmp_path / "mount").mkdir()
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    assert await copies_of(archive) == [["primary", "second"]] * 3
    assert await lacking(archive) == {}
    code, said = await run(archive, "verify", "--all")
    assert code == errors.Exit.OK, json.loads(said)["data"]["findings"][0]


async def test_a_storage_that_is_taken_out_of_the_configuration_owes_nothing(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    archive = make_archive(tmp_path, kazoo, sqlite_url, OPTIONAL)
    await archive.sweep()
    archive = with_storage(archive, ONE)
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    assert await lacking(archive) == {}


async def test_a_storage_that_comes_later_gets_every_older_recording_in_one_sweep(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    archive = make_archive(tmp_path, kazoo, sqlite_url, ONE)
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    archive = with_storage(archive, BOTH)
    assert (await run(archive, "verify", "--all"))[0] == errors.Exit.INTEGRITY
    assert (await run(archive, "reconcile"))[0] == errors.Exit.LOST
    assert await lacking(archive) == {"second": 3}
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    assert await copies_of(archive) == [["primary", "second"]] * 3
    # The copies were made, and what the journal knew of them was lost: the same objects are found again.
    there = sorted(each for each in (tmp_path / "second" / "recordings").rglob("*") if each.is_file())
    sql(archive, delete(copy).where(copy.c.storage == "second"), delete(copy_survey))
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    assert await copies_of(archive) == [["primary", "second"]] * 3
    assert sorted(each for each in (tmp_path / "second" / "recordings").rglob("*") if each.is_file()) == there


async def test_one_that_cannot_be_copied_blocks_no_other_and_is_tried_again(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    archive = make_archive(tmp_path, kazoo, sqlite_url, ONE)
    await archive.sweep()
    oldest = min(await archive.raw_rows(), key=lambda row: str(row["archived_at"]))
    (key,) = {copy["key"] for row in await archive.rows() if row["id"] == oldest["id"] for copy in row["copies"]}  # type: ignore[attr-defined]
    stored = tmp_path / "copies" / key
    whole = stored.read_bytes()
    stored.chmod(0o600)
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    archive = with_storage(archive, BOTH)
    assert (await archive.sweep()).exit_code == errors.Exit.UNFINISHED
    assert sorted(await copies_of(archive)) == [["primary"], ["primary", "second"], ["primary", "second"]]
    assert await lacking(archive) == {"second": 1}
    shown = json.loads((await run(archive, "recordings", "show", str(oldest["id"])))[1])["data"]
    assert "other bytes than were sealed" in json.dumps(shown)
    stored.write_bytes(whole)
    sql(archive, update(owed_copy).values(next_attempt_at=None))  # its time has come
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    assert await lacking(archive) == {}


def test_two_replicas_never_make_the_same_copy_and_who_lost_it_writes_nothing(database_url: str) -> None:
    engine, now = create_engine(database_url, Path()), SystemClock().now()
    upgrade(engine)
    long = timedelta(minutes=1)
    with engine.begin() as conn:
        for name in ("a", "b"):
            lease.beat(conn, name, spool_id=name, host=name, version="1", lasting=long)
        for number in (1, 2):
            conn.execute(insert(recording).values(**row_of(f"r{number}", now + timedelta(seconds=number))))
            owed_copies.owe(conn, f"r{number}", "p", {"second": "down"}, now + timedelta(seconds=number))
    with engine.begin() as conn:
        first = owed_copies.claim(conn, "second", "a", now)
    with engine.begin() as conn:
        second, none = owed_copies.claim(conn, "second", "b", now), owed_copies.claim(conn, "second", "b", now)
    assert first is not None
    assert second is not None
    assert (first.recording_id, second.recording_id, none) == ("r1", "r2", None), "the oldest first, each once"
    with engine.begin() as conn:
        lease.leave(conn, "a")  # it died
        taken = owed_copies.claim(conn, "second", "b", now)
    assert taken is not None
    assert (taken.recording_id, taken.token) == ("r1", first.token + 1)
    with engine.begin() as conn, pytest.raises(errors.LeaseLostError):
        owed_copies.settled(conn, first)
    with engine.begin() as conn:
        owed_copies.put_off(conn, first, "too late", now)
        owed_copies.settled(conn, taken)
        owed_copies.put_off(conn, second, "refused", now + long)
        assert owed_copies.claim(conn, "second", "b", now) is None, "put off"
        assert owed_copies.claim(conn, "second", "b", now + long) is not None
    engine.dispose()


def row_of(name: str, at: datetime) -> dict[str, object]:
    """An archived row, as little of it as the table takes."""
    return {
        "id": name, "identity": name, "revision": "r", "provider": "p", "account": "", "provider_recording_id": name,
        "variant": "", "state": "archived", "metadata": "{}", "raw": b"{}", "stable_digest": "d", "listed_at": at,
        "last_seen_at": at, "ready": False, "archived_at": at,
    }  # fmt: skip


def test_delays_of_a_copy_grow_from_a_minute_to_an_hour() -> None:
    delays = [owed_copies.delay(attempts, 0.0).total_seconds() for attempts in (1, 2, 3, 7, 100)]
    assert delays == [60, 120, 240, 3600, 3600]
    assert owed_copies.delay(1, 0.999) > timedelta(seconds=30)


# --- copies that no recording waits for -------------------------------------------------------------------------------

TWO = "[{id: primary, kind: directory, path: copies}, {id: second, kind: directory, path: second, required: false}]"


class Hanging:
    """Puts of recordings into the second storage wait until `released`, and are refused then with `refuses`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.released, self.put, self.refuses = asyncio.Event(), asyncio.Semaphore(0), False
        once = DirectoryStore.put_once

        async def put_once(store: DirectoryStore, key: str, path: Path, **named: Any) -> Stored:
            if store.id == "second" and key.startswith("recordings/"):
                self.put.release()
                await self.released.wait()
                if self.refuses:
                    raise errors.DestinationError("second says no")
            return await once(store, key, path, **named)

        monkeypatch.setattr(DirectoryStore, "put_once", put_once)


@contextlib.asynccontextmanager
async def daemon(archive: Archive) -> AsyncIterator[Daemon]:
    """The running daemon; stopped at the end, and nothing of it may have broken."""
    assembly = await assemble(archive.config)
    process = Daemon(assembly)
    running = asyncio.create_task(process.forever())
    try:
        async with asyncio.timeout(60):
            yield process
        process.stop()
        await running
    finally:
        running.cancel()
        await assembly.aclose()


async def until(archive: Archive, copies: list[list[str]]) -> None:
    while await copies_of(archive) != copies:  # noqa: ASYNC110  the database tells nobody
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("at_once", [background_copies.AT_ONCE, 1])
async def test_optional_storage_that_hangs_keeps_no_recording_from_being_archived(
    at_once: int, kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_copies, "AT_ONCE", at_once)
    hanging = Hanging(monkeypatch)
    archive = make_archive(tmp_path, kazoo, sqlite_url, TWO, more="defaults: {concurrency: 1}")
    async with daemon(archive) as process:
        await until(archive, [["primary"]] * 3)
        assert {row["state"] for row in await archive.rows()} == {"archived"}
        await hanging.put.acquire()
        await process._a.rounds.copies()
        begun = min(at_once, 3)
        assert await lacking(archive) == ({"second": 3 - begun} if begun < 3 else {}), "what is being made is no gap"
        assert len(sealed_in_spool(archive)) == begun
        hanging.released.set()
        while sealed_in_spool(archive):  # noqa: ASYNC110  the file goes last
            await asyncio.sleep(0.05)
        await copier.make_missing_copies(process._a.context, process._a.destinations[1])
        await until(archive, [["primary", "second"]] * 3)
    assert (await run(archive, "verify", "--all"))[0] == errors.Exit.OK


async def test_copy_that_is_refused_beside_the_pipe_is_owed_with_its_reason(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging(monkeypatch)
    hanging.released.set()
    hanging.refuses = True
    archive = make_archive(tmp_path, kazoo, sqlite_url, TWO)
    assert (await archive.sweep()).exit_code == errors.Exit.UNFINISHED
    assert await copies_of(archive) == [["primary"]] * 3
    assert await lacking(archive) == {"second": 3}
    assert "second says no" in (await run(archive, "gaps", "list"))[1]
    assert not sealed_in_spool(archive)
    hanging.refuses = False
    sql(archive, update(owed_copy).values(next_attempt_at=None))  # its time has come
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    assert await copies_of(archive) == [["primary", "second"]] * 3


async def test_stop_hands_back_the_copies_that_hang_and_the_next_run_makes_them(
    kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.daemon.times.DRAIN", timedelta(0))
    hanging = Hanging(monkeypatch)
    archive = make_archive(tmp_path, kazoo, sqlite_url, TWO)
    async with daemon(archive):
        await until(archive, [["primary"]] * 3)
    assert not sealed_in_spool(archive)
    hanging.released.set()
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    assert await copies_of(archive) == [["primary", "second"]] * 3


def test_copy_of_a_replica_that_died_over_it_is_a_gap_and_is_made_by_another(database_url: str) -> None:
    engine, now = create_engine(database_url, Path()), SystemClock().now()
    upgrade(engine)
    with engine.begin() as conn:
        for name in ("a", "b"):
            lease.beat(conn, name, spool_id=name, host=name, version="1", lasting=timedelta(minutes=1))
        conn.execute(insert(recording).values(**row_of("r1", now)))
        owed_copies.owe(conn, "r1", "p", {}, now, begun=["second"], owner="a")
        assert (owed_copies.lacks(conn), owed_copies.claim(conn, "second", "b", now)) == ([], None), "it is being made"
        assert owed_copies.take_back(conn, "second", "a", {"r1"}) == 0
        lease.leave(conn, "a")
        assert [each.count for each in owed_copies.lacks(conn)] == [1]
        taken = owed_copies.claim(conn, "second", "b", now)
    assert taken is not None
    assert taken.token == owed_copies.FIRST + 1
    engine.dispose()
