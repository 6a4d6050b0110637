"""The long-running daemon as a process: it works, answers, reloads, and stops in good order."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from archiver.clock import SystemClock
from archiver.demo.simulators import Delay, Route, fleet
from archiver.demo.simulators.scenario import samples
from archiver.errors import Exit
from tests.acceptance.archive import Archive, make_archive


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(port: int, path: str, host: str | None = None) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()


async def until_archived(archive: Archive, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = await archive.rows()
        if sum(row["state"] == "archived" for row in rows) >= count:
            return
        await asyncio.sleep(0.5)  # another process's database: nobody tells
    raise AssertionError(f"not archived in time: {[(row['state'], row['last_error']) for row in await archive.rows()]}")


async def test_the_daemon_archives_answers_reloads_and_stops_within_the_limit(tmp_path: Path, sqlite_url: str) -> None:
    sim = fleet.fleet(SystemClock(), samples(), seed=11, count=4)["kazoo"]
    port = free_port()
    async with sim:
        archive = make_archive(
            tmp_path, {"kazoo": sim}, sqlite_url, "[{id: primary, kind: directory, path: copies}]",
            more=f"web: {{listen: 127.0.0.1:{port}}}",
        )  # fmt: skip
        log = (tmp_path / "log").open("wb")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "archiver", "-c", str(archive.path), "run", stdout=log, stderr=log
        )
        try:
            await until_archived(archive, 4)
            assert (await asyncio.to_thread(get, port, "/-/healthy"))[0] == 200
            ready, body = await asyncio.to_thread(get, port, "/-/ready")
            assert (ready, json.loads(body)["ready"]) == (200, True)
            _, metrics = await asyncio.to_thread(get, port, "/metrics")
            assert b'archiver_recordings_archived_total{provider="kazoo"} 4.0' in metrics
            text = archive.path.read_text()
            archive.path.write_text(text.replace("version: 1", "version: 1\nnonsense: true"))
            process.send_signal(signal.SIGHUP)
            await _until_logged(tmp_path / "log", b"config.reload_failed")
            await _until_healthy(port)
            archive.path.write_text(text)
            process.send_signal(signal.SIGHUP)
            await _until_logged(tmp_path / "log", b"config.loaded")
            await _until_healthy(port)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            assert time.monotonic() - began < 25
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            log.close()
    said = (tmp_path / "log").read_bytes()
    assert b"demo-kazoo-token" not in said
    assert b"Traceback" not in said, said.decode()[-3000:]


async def test_reload_to_an_address_that_is_taken_leaves_the_old_configuration_in_force(
    tmp_path: Path, sqlite_url: str
) -> None:
    sim = fleet.fleet(SystemClock(), samples(), seed=11, count=1)["kazoo"]
    port = free_port()
    async with sim:
        archive = make_archive(
            tmp_path, {"kazoo": sim}, sqlite_url, "[{id: primary, kind: directory, path: copies}]",
            more=f"web: {{listen: 127.0.0.1:{port}}}",
        )  # fmt: skip
        log = (tmp_path / "log").open("wb")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "archiver", "-c", str(archive.path), "run", stdout=log, stderr=log
        )
        try:
            await until_archived(archive, 1)
            with socket.create_server(("127.0.0.1", 0)) as taken:
                other = taken.getsockname()[1]
                archive.path.write_text(archive.path.read_text().replace(f":{port}}}", f":{other}}}"))
                process.send_signal(signal.SIGHUP)
                await _until_logged(tmp_path / "log", f"web.listen 127.0.0.1:{other}: Address already in use".encode())
                await _until_healthy(port)
                _, metrics = await asyncio.to_thread(get, port, "/metrics")
                assert b"archiver_config_last_reload_successful 0.0" in metrics
            process.send_signal(signal.SIGHUP)
            await _until_healthy(other)
            _, metrics = await asyncio.to_thread(get, other, "/metrics")
            assert b"archiver_config_last_reload_successful 1.0" in metrics
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            log.close()
    assert b"Traceback" not in (tmp_path / "log").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
async def test_a_sweep_that_is_stopped_says_by_what_and_loses_nothing(
    number: signal.Signals, code: int, tmp_path: Path, sqlite_url: str
) -> None:
    """Ctrl-C, or the end of a container, while recordings are being downloaded; the next sweep does the rest."""
    sim = fleet.fleet(SystemClock(), samples(), seed=11, count=3)["kazoo"]
    async with sim:
        archive = make_archive(
            tmp_path, {"kazoo": sim}, sqlite_url, "[{id: primary, kind: directory, path: copies}]"
        )  # fmt: skip
        rule = sim.fail(Route.MEDIA, Delay(2.0), times=3)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "archiver", "-c", str(archive.path), "run", "--once", stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            while rule.hits == 0:  # noqa: ASYNC110  the simulator tells nobody
                await asyncio.sleep(0.05)
        process.send_signal(number)
        _, said = await process.communicate()
        assert process.returncode == code, said.decode()
        assert b"interrupted" in said
        assert b"Traceback" not in said
        assert (await archive.sweep()).exit_code is Exit.OK
        assert {row["state"] for row in await archive.rows()} == {"archived"}


async def _until_logged(path: Path, word: bytes) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if word in path.read_bytes():
            return
        await asyncio.sleep(0.2)  # another process's doing, seen from outside alone
    raise AssertionError(path.read_text()[-3000:])


async def _until_healthy(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if (await asyncio.to_thread(get, port, "/-/healthy"))[0] == 200:
                return
        except OSError:
            pass
        await asyncio.sleep(0.2)  # another process's doing, seen from outside alone
    raise AssertionError("the daemon did not come back")
