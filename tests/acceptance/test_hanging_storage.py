"""Nothing of a storage is on the way to listing and spooling, and nothing that hangs keeps the process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.demo.simulators.server import Simulator
from archiver.errors import Exit
from archiver.recording import Stored
from archiver.store.directory import DirectoryStore
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.test_daemon import free_port, get
from tests.http_servers import Asked, Server, serve
from tests.memory_s3 import memory_s3

LIMIT = 25.0
HURRIED = """
import sys
from datetime import timedelta
from archiver import cli
from archiver.daemon import times
from archiver.assembly import process
from archiver.ingest import health
health.SILENCE, health.GRACE, times.FAREWELL = timedelta(seconds=2), timedelta(seconds=1), timedelta(seconds=1)
process._GATE = timedelta(seconds=1)
cli.main(sys.argv[1:])
"""


async def never(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
    """A request is read, and that is all."""
    await asyncio.Event().wait()


def s3(folder: Path, *origins: str) -> str:
    """Storages of the configuration, required each, behind these origins."""
    for name in ("access", "secret"):
        (folder / name).write_text("x" * 16)
        (folder / name).chmod(0o400)
    each = [
        f"{{id: s{number}, kind: s3, endpoint: '{origin}', bucket: bucket, access_key: file:access, addressing: path, "
        "secret_key: file:secret, object_lock: {mode: compliance}}"
        for number, origin in enumerate(origins)
    ]
    return f"[{', '.join(each)}]"


@pytest.fixture
async def hanging() -> AsyncIterator[Server]:
    async with serve(never) as server:
        yield server


@pytest.fixture
async def kazoo() -> AsyncIterator[dict[str, Simulator]]:
    made = {"kazoo": fleet.fleet(SystemClock(), samples(), seed=11, count=3)["kazoo"]}
    async with made["kazoo"]:
        yield made


@asynccontextmanager
async def running(
    archive: Archive, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    with (archive.path.parent / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HURRIED, "-c", str(archive.path), "run", *arguments, stdout=log, stderr=log, env=env
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def stopped(process: asyncio.subprocess.Process) -> tuple[int, float]:
    """The exit code after SIGTERM, and how many seconds it took."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(3 * LIMIT):
        code = await process.wait()
    return code, time.monotonic() - began


async def until_spooled(archive: Archive, count: int) -> None:
    async with asyncio.timeout(60):
        while True:
            rows = await archive.raw_rows()
            if sum(row["spool_name"] is not None for row in rows) >= count:
                return
            await asyncio.sleep(0.3)  # another process's database: nobody tells


async def test_the_daemon_lists_and_spools_while_its_storage_and_another_provider_hang_and_stops_in_time(
    tmp_path: Path, sqlite_url: str, hanging: Server, kazoo: dict[str, Simulator]
) -> None:
    port = free_port()
    both = kazoo | {"vobiz": fleet.fleet(SystemClock(), samples(), seed=11, count=1)["vobiz"]}
    async with both["vobiz"]:
        archive = make_archive(
            tmp_path, both, sqlite_url, s3(tmp_path, hanging.origin), more=f"web: {{listen: 127.0.0.1:{port}}}"
        )
        archive.path.write_text(archive.path.read_text().replace(both["vobiz"].base_url, hanging.origin))
        async with running(archive) as process:
            await until_spooled(archive, 3)
            assert (await asyncio.to_thread(get, port, "/-/healthy"))[0] == 200
            assert (await asyncio.to_thread(get, port, "/-/ready"))[0] == 200
            said = json.loads((await asyncio.to_thread(get, port, "/-/status"))[1])["data"]["storages"]["s0"]
            assert said["trusted"] is False
            assert said["problem"].startswith("not proved yet") or "never reached so far" in said["problem"], said
            code, seconds = await stopped(process)
    assert (code, seconds < LIMIT) == (0, True), (code, seconds)
    assert b"Traceback" not in (tmp_path / "log").read_bytes()


async def test_a_login_that_hangs_keeps_neither_the_good_provider_nor_the_stop_waiting(
    tmp_path: Path, sqlite_url: str, hanging: Server
) -> None:
    """KAZOO's listing needs a token first: nobody else's work may wait for that answer."""
    sims = fleet.fleet(SystemClock(), samples(), seed=11, count=3)
    both = {name: sims[name] for name in ("kazoo", "vobiz")}
    async with both["vobiz"], both["kazoo"]:
        archive = make_archive(tmp_path, both, sqlite_url, "[{id: primary, kind: directory, path: copies}]")
        archive.path.write_text(archive.path.read_text().replace(both["kazoo"].base_url, hanging.origin))
        async with running(archive) as process:
            async with asyncio.timeout(60):
                while {row["state"] for row in await archive.rows()} != {"archived"}:  # noqa: ASYNC110  another process
                    await asyncio.sleep(0.3)  # another process's database: nobody tells
            assert hanging.asked  # the login
            code, seconds = await stopped(process)
    assert (code, seconds < LIMIT) == (0, True), (code, seconds)


@contextmanager
def slow(seconds: float) -> Iterator[list[str]]:
    """Two storages in order, each of whose answers takes so long."""
    with memory_s3() as first, memory_s3() as second:
        for each in (first, second):
            each.lie(lambda call, onward: (time.sleep(seconds), onward(call))[1])  # slow on purpose
        yield [first.endpoint, second.endpoint]


@contextmanager
def down() -> Iterator[list[str]]:
    """Two storages at whose addresses nobody listens."""
    yield [f"http://127.0.0.1:{free_port()}" for _ in range(2)]


@pytest.mark.parametrize(
    ("storages", "archives"),
    [(down, False), (partial(slow, 0.3), True), (partial(slow, 5), False)],
    ids=["down", "slow 0.3 s", "slow 5 s"],
)
async def test_the_daemon_starts_lists_and_spools_whatever_ails_every_storage_and_stops_in_time(
    storages: Callable[[], AbstractContextManager[list[str]]],
    archives: bool,
    tmp_path: Path,
    sqlite_url: str,
    kazoo: dict[str, Simulator],
) -> None:
    """With 0.3 s an answer the proof takes a while, and then all is archived; with 5 s the stop comes in the midst of it."""
    port = free_port()
    with storages() as origins:
        archive = make_archive(
            tmp_path, kazoo, sqlite_url, s3(tmp_path, *origins), more=f"web: {{listen: 127.0.0.1:{port}}}"
        )
        async with running(archive) as process:
            await until_spooled(archive, 3)
            assert (await asyncio.to_thread(get, port, "/-/ready"))[0] == 200
            async with asyncio.timeout(180):
                while archives and {row["state"] for row in await archive.raw_rows()} != {"archived"}:
                    assert process.returncode is None
                    await asyncio.sleep(0.5)  # another process's database: nobody tells
            assert (await asyncio.to_thread(get, port, "/-/healthy"))[0] == 200
            code, seconds = await stopped(process)
    assert (code, seconds < LIMIT) == (0, True), (code, seconds, (tmp_path / "log").read_text()[-2000:])
    assert b"Traceback" not in (tmp_path / "log").read_bytes()


async def test_a_sweep_with_a_hanging_storage_spools_everything_and_ends_by_itself(
    tmp_path: Path, sqlite_url: str, hanging: Server, kazoo: dict[str, Simulator]
) -> None:
    archive = make_archive(tmp_path, kazoo, sqlite_url, s3(tmp_path, hanging.origin))
    began = time.monotonic()
    async with running(archive, "--once") as process:
        async with asyncio.timeout(90):
            assert await process.wait() == Exit.UNAVAILABLE, (tmp_path / "log").read_text()[-2000:]
    assert time.monotonic() - began < 60, "thirty seconds of a loaded machine"
    rows = await archive.raw_rows()
    assert [(row["state"], row["reason"], row["spool_name"] is not None) for row in rows] == [
        ("waiting", "destination", True)
    ] * 3
    assert "it has said nothing for" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("--once",), Exit.TERMINATED)], ids=["for ever", "once"])
async def test_a_stop_while_the_database_hangs_ends_the_process_in_time(
    arguments: tuple[str, ...], code: int, tmp_path: Path, sqlite_url: str, hanging: Server, kazoo: dict[str, Simulator]
) -> None:
    """A connection is taken, and nothing is said on it: the driver waits, for as long as the URL says."""
    archive = make_archive(tmp_path, kazoo, sqlite_url, "[{id: primary, kind: directory, path: copies}]")
    secret = tmp_path / "db"
    secret.chmod(0o600)
    secret.write_text(f"postgresql://archiver@127.0.0.1:{hanging.port}/archiver?connect_timeout=200")
    async with running(archive, *arguments) as process:
        async with asyncio.timeout(60):
            while not hanging.connections:  # noqa: ASYNC110  the server tells nobody
                await asyncio.sleep(0.05)
        ended, seconds = await stopped(process)
    assert (ended, seconds < LIMIT) == (code, True), (ended, seconds, (tmp_path / "log").read_text()[-2000:])


async def test_what_is_fetched_goes_on_into_the_spool_while_a_storage_that_proved_itself_hangs(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One place to fetch in and one to store in: nine recordings are sealed while the first of them is being put."""
    sim, released, put = fleet.fleet(SystemClock(), samples(), seed=11, count=9)["kazoo"], asyncio.Event(), []
    once = DirectoryStore.put_once

    async def hangs(store: DirectoryStore, key: str, path: Path, **named: Any) -> Stored:
        if key.startswith("recordings/"):
            put.append(key)
            await released.wait()
        return await once(store, key, path, **named)

    monkeypatch.setattr(DirectoryStore, "put_once", hangs)
    async with sim:
        archive = make_archive(
            tmp_path, {"kazoo": sim}, sqlite_url, "[{id: primary, kind: directory, path: copies}]",
            more="defaults: {concurrency: 1}",
        )  # fmt: skip
        sweep = asyncio.create_task(archive.sweep())
        await until_spooled(archive, 9)
        assert len(put) == 1, "one at a time is put"
        assert {row["state"] for row in await archive.rows()} == {"spooled"}
        released.set()
        assert (await sweep).exit_code is Exit.OK
    assert {row["state"] for row in await archive.rows()} == {"archived"}
