"""The main job, end to end: four providers in, sealed and locked recordings out; with faults, a lying bucket and SIGKILLs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from archiver import errors
from archiver.assembly.keys import build_identities
from archiver.assembly.stores import build_stores
from archiver.cli import invoke as archiver
from archiver.clock import SystemChance, SystemClock
from archiver.demo.simulators import Route, fleet
from archiver.demo.simulators.faults import Cut, ErrorBody, ExpiredLink, LoginPage, ServerError, TooManyRequests
from archiver.demo.simulators.scenario import samples
from archiver.demo.simulators.server import Simulator
from archiver.seal.cipher import open_sealed
from archiver.store.s3 import S3Options
from archiver.wall import Walls
from tests.acceptance.archive import Archive, make_archive
from tests.fixtures_db import Server
from tests.fixtures_s3 import NewBucket

DIRECTORY = "[{id: primary, kind: directory, path: copies}]"


@pytest.fixture
async def sims() -> AsyncIterator[dict[str, Simulator]]:
    """All four providers, JustCall in both dialects, with a few calls each."""
    made = fleet.fleet(SystemClock(), samples(), seed=3, count=6)
    async with AsyncExitStack() as stack:
        for sim in made.values():
            await stack.enter_async_context(sim)
        yield made


def s3(options: S3Options, folder: Path, mode: str = "compliance") -> str:
    """The storage section for a bucket."""
    assert options.secret_key is not None
    assert options.access_key is not None
    (folder / "s3").write_text(options.secret_key.reveal())
    (folder / "s3").chmod(0o400)
    return (
        f'[{{id: primary, kind: s3, endpoint: "{options.endpoint}", bucket: {options.bucket}, prefix: calls/, '
        f"access_key: {options.access_key.reveal()}, secret_key: file:s3, object_lock: {{mode: {mode}}}}}]"
    )


def truth(sims: dict[str, Simulator]) -> list[str]:
    """The digest of every audio that any provider has, as the simulators themselves say it."""
    return sorted(
        hashlib.sha256(each.audio.data).hexdigest()
        for sim in sims.values()
        for each in sim.account.recordings
        if each.audio is not None
    )


def digests(rows: list[dict[str, object]]) -> list[str]:
    return sorted(str(row["plaintext_sha256"]) for row in rows if row["state"] == "archived")


async def opened(archive: Archive, row: dict[str, object]) -> str:
    """The digest of what the stored object opens to, read back from the storage itself."""
    stores = build_stores(archive.config, SystemClock(), SystemChance())
    copies = row["copies"]
    assert isinstance(copies, list)
    held = copies[0]
    digest = hashlib.sha256()
    try:
        store = stores[held["storage"]]
        source = open_sealed(
            lambda: store.read(held["key"], held["version_id"]),
            build_identities(archive.config, Walls(SystemClock())),
            None,
        )
        async for piece in source:
            digest.update(piece)
    finally:
        for store in stores.values():
            await store.aclose()
    return digest.hexdigest()


@pytest.mark.effect(
    "storage[](s3).kind", "storage[](s3).endpoint", "storage[](s3).bucket", "storage[](s3).access_key",
    "storage[](s3).secret_key", "storage[](s3).object_lock.mode",
)  # fmt: skip
async def test_every_recording_of_every_provider_is_sealed_locked_and_opens_to_what_was_sent(
    sims: dict[str, Simulator], database_url: str, new_bucket: NewBucket, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, sims, database_url, s3(new_bucket(), tmp_path))
    sweep = await archive.sweep()
    rows = await archive.rows()
    assert sweep.exit_code == errors.Exit.OK
    assert digests(rows) == truth(sims)
    for row in rows:
        if row["state"] == "archived":
            assert await opened(archive, row) == row["plaintext_sha256"]
            copies = row["copies"]
            assert isinstance(copies, list)
            assert [copy["lock_mode"] for copy in copies] == ["compliance"]
            assert copies[0]["retain_until"] >= str(row["archived_at"])
    # Listing the same again changes nothing: no new object, no new row.
    before = {str(row["id"]): row["archived_at"] for row in rows}
    await archive.sweep()
    assert {str(row["id"]): row["archived_at"] for row in await archive.rows()} == before


async def test_faults_of_providers_are_survived_without_loss_or_garbage(
    sims: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    for sim in sims.values():
        sim.fail(Route.LIST, ServerError(503))
        sim.fail(Route.LIST, TooManyRequests(retry_after=1), after=1)
        sim.fail(Route.MEDIA, Cut(at=5_000))
        sim.fail(Route.MEDIA, ErrorBody("html"), after=2)
        sim.fail(Route.MEDIA, ErrorBody("json"), after=3)
        sim.fail(Route.MEDIA, ServerError(500), after=4)
    sims["justcall"].fail(Route.MEDIA, ExpiredLink(), after=5)
    archive = make_archive(tmp_path, sims, sqlite_url, DIRECTORY)
    sweep = await archive.sweep()
    rows = await archive.rows()
    assert digests(rows) == truth(sims), [(row["provider"], row["state"], row["last_error"]) for row in rows]
    assert sweep.exit_code == errors.Exit.OK


async def test_html_login_page_with_200_leaves_the_window_open_and_says_so(
    sims: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    only = {"vobiz": sims["vobiz"]}
    sims["vobiz"].fail(Route.LIST, LoginPage(), times=1_000)
    archive = make_archive(tmp_path, only, sqlite_url, DIRECTORY)
    sweep = await archive.sweep()
    assert (sweep.polled, sweep.exit_code) == (False, errors.Exit.UNFINISHED)
    sims["vobiz"].heal()
    assert (await archive.sweep()).polled
    assert digests(await archive.rows()) == truth(only)


async def test_one_id_with_two_audios_keeps_both(sims: dict[str, Simulator], tmp_path: Path, sqlite_url: str) -> None:
    account = sims["vobiz"].account
    first, other = (
        account.recordings[0],
        next(each for each in account.recordings if each.audio != account.recordings[0].audio),
    )
    account.add(type(first)(id=first.id, started_at=other.started_at, duration=other.duration, audio=other.audio))
    only = {"vobiz": sims["vobiz"]}
    archive = make_archive(tmp_path, only, sqlite_url, DIRECTORY)
    await archive.sweep()
    same = [row for row in await archive.rows() if row["provider_recording_id"] == first.id]
    assert len(same) == 2
    assert len({row["plaintext_sha256"] for row in same}) == 2
    assert all(row["state"] == "archived" and "id_conflict" in str(row["flags"]) for row in same)


async def test_a_bucket_that_lies_gets_nothing_marked_archived_and_discovery_goes_on(
    sims: dict[str, Simulator], moto: str, tmp_path: Path, sqlite_url: str
) -> None:
    from tests.fixtures_s3 import bucket_at

    only = {"kazoo": sims["kazoo"]}
    archive = make_archive(tmp_path, only, sqlite_url, s3(bucket_at(moto), tmp_path))
    sweep = await archive.sweep()
    rows = await archive.rows()
    assert sweep.exit_code == errors.Exit.UNAVAILABLE
    assert len(rows) == len(sims["kazoo"].account.recordings)
    assert not [row for row in rows if row["state"] == "archived"]


async def test_when_the_storage_is_down_fetching_goes_on_and_nothing_is_fetched_twice(
    sims: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    only = {"plivo": sims["plivo"]}
    archive = make_archive(tmp_path, only, sqlite_url, "[{id: primary, kind: directory, path: mount/copies}]")
    await archive.sweep()
    rows = await archive.rows()
    assert {row["state"] for row in rows} <= {"spooled", "waiting", "listed"}
    (tmp_path / "mount").mkdir()
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    assert digests(await archive.rows()) == truth(only)


@pytest.mark.timeout(240)
async def test_sigkill_at_random_moments_loses_and_doubles_nothing(
    sims: dict[str, Simulator], database_url: str, new_bucket: NewBucket, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, sims, database_url, s3(new_bucket(), tmp_path))
    seed = int.from_bytes(os.urandom(2), "big")
    for attempt in range(6):
        process = subprocess.Popen(  # noqa: ASYNC220  it is to be killed, not talked to
            [sys.executable, "-m", "archiver", "-c", str(archive.path), "run", "--once", "-q"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 2.0 + ((seed * (attempt + 7)) % 97) / 30
        while time.monotonic() < deadline and process.poll() is None:
            await _breathe()
        process.send_signal(signal.SIGKILL)
        process.wait()
    await _until_dead_claims_expire(archive)
    rows = await archive.rows()
    assert digests(rows) == truth(sims), (seed, [(row["provider"], row["state"], row["last_error"]) for row in rows])
    ids = [(row["provider"], row["provider_recording_id"], row["variant"]) for row in rows]
    assert len(ids) == len(set(ids))
    assert not list((tmp_path / "state" / "spool").glob("*.part"))
    assert await asyncio.to_thread(archiver, ["-c", str(archive.path), "-q", "verify", "--all"]) == errors.Exit.OK


async def _until_dead_claims_expire(archive: Archive) -> None:
    """The killed replicas' heartbeats run out after 45 s; then everything they held is taken over."""
    for _ in range(12):
        sweep = await archive.sweep()
        if sweep.exit_code == errors.Exit.OK:
            return
    raise AssertionError("the backlog did not reach zero")


async def _breathe() -> None:
    await asyncio.sleep(0.02)  # the simulators answer from this loop while the process is waited for


def test_a_flipped_byte_is_named_and_the_exit_code_is_65(tmp_path: Path, sqlite_url: str) -> None:
    async def prepare() -> Archive:
        made = {"kazoo": fleet.fleet(SystemClock(), samples(), seed=5, count=2)["kazoo"]}
        async with made["kazoo"]:
            archive = make_archive(tmp_path, made, sqlite_url, DIRECTORY)
            await archive.sweep()
        return archive

    archive = asyncio.run(prepare())
    command = ["-c", str(archive.path), "-q", "verify", "--all"]
    assert archiver(command) == errors.Exit.OK
    stored = next(path for path in (tmp_path / "copies").rglob("*") if path.is_file() and path.stat().st_size > 20_000)
    original = stored.read_bytes()
    stored.chmod(0o600)
    stored.write_bytes(bytes([*original[:9_000], original[9_000] ^ 1, *original[9_001:]]))
    assert archiver(command) == errors.Exit.INTEGRITY
    stored.write_bytes(original)
    assert archiver(command) == errors.Exit.OK


@pytest.mark.effect(
    "storage[](directory).kind", "storage[](directory).id", "storage[](directory).path", "storage[](directory).required"
)
async def test_a_second_copy_that_was_missed_is_made_when_its_storage_is_back(
    sims: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    only = {"kazoo": sims["kazoo"]}
    storage = "[{id: primary, kind: directory, path: copies}, {id: second, kind: directory, path: mount/second, required: false}]"
    archive = make_archive(tmp_path, only, sqlite_url, storage)
    assert (await archive.sweep()).exit_code == errors.Exit.UNFINISHED
    rows = await archive.rows()
    assert digests(rows) == truth(only)
    assert {len(list(row["copies"])) for row in rows} == {1}  # type: ignore[call-overload]
    (tmp_path / "mount").mkdir()
    await archive.sweep()
    assert {len(list(row["copies"])) for row in await archive.rows()} == {2}  # type: ignore[call-overload]


async def test_credentials_refused_park_the_provider_and_the_others_go_on(
    sims: dict[str, Simulator], tmp_path: Path, sqlite_url: str
) -> None:
    two = {"kazoo": sims["kazoo"], "plivo": sims["plivo"]}
    archive = make_archive(tmp_path, two, sqlite_url, DIRECTORY)
    secret = tmp_path / "plivo.auth_token"
    good = secret.read_text()
    secret.chmod(0o600)
    secret.write_text("wrong")
    sweep = await archive.sweep()
    assert not sweep.polled
    assert digests(await archive.rows()) == truth({"kazoo": sims["kazoo"]})
    secret.write_text(good)
    assert (await archive.sweep()).polled
    assert digests(await archive.rows()) == truth(two)


async def test_past_its_deadline_an_error_page_is_quarantined_and_never_called_archived(
    sims: dict[str, Simulator], tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.ingest.plan._FIRST_DELAY", timedelta(seconds=0.2))
    monkeypatch.setattr("archiver.ingest.plan._SOONEST", timedelta(seconds=0.1))
    monkeypatch.setattr("archiver.daemon.times.PATIENCE", timedelta(seconds=10))  # a page is kept after three attempts
    only = {"kazoo": sims["kazoo"]}
    sims["kazoo"].fail(Route.MEDIA, ErrorBody("html"), times=None)
    archive = make_archive(tmp_path, only, sqlite_url, DIRECTORY, keeps="1d")
    assert (await archive.sweep()).exit_code == errors.Exit.UNFINISHED
    rows = await archive.rows()
    assert all(row["state"] == "waiting" for row in rows)
    assert all("quarantined" in str(row["flags"]) and "not_audio" in str(row["flags"]) for row in rows)
    kept = [path for path in (tmp_path / "copies" / "quarantine").rglob("*") if path.is_file()]
    assert kept
    sims["kazoo"].heal()
    for row in rows:
        assert archiver_retry(archive, str(row["id"]))
    await archive.sweep()
    assert digests(await archive.rows()) == truth(only)


def archiver_retry(archive: Archive, recording_id: str) -> bool:
    """What `archiver recordings retry` does."""
    from archiver.database import Writer, create_engine
    from archiver.ingest import journal

    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    writer = Writer(engine)
    try:
        return writer.run_sync(lambda conn: journal.retry_now(conn, recording_id))
    finally:
        writer.close()
        engine.dispose()


async def test_two_replicas_on_one_postgresql_archive_everything_once(
    sims: dict[str, Simulator], postgresql: Server, new_bucket: NewBucket, tmp_path: Path
) -> None:
    url = postgresql.create(migrated=True)
    options = new_bucket()
    replicas = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        replicas.append(make_archive(tmp_path / name, sims, url, s3(options, tmp_path / name)))
    # one custody key signs for both, as one host key would; each replica has a spool of its own
    for each in ("custody.pem", "seal.key"):
        (tmp_path / "b" / each).chmod(0o600)
        (tmp_path / "b" / each).write_bytes((tmp_path / "a" / each).read_bytes())
    await asyncio.gather(*(each.sweep() for each in replicas))
    await replicas[0].sweep()
    rows = await replicas[0].rows()
    assert digests(rows) == truth(sims)
    keys = [copy["key"] for row in rows for copy in list(row["copies"])]  # type: ignore[call-overload]
    assert len(keys) == len(set(keys))
    assert await asyncio.to_thread(archiver, ["-c", str(replicas[0].path), "-q", "verify", "--all"]) == errors.Exit.OK
    postgresql.drop(url)
