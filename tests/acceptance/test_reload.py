"""A configuration that is refused leaves nothing of itself behind: no thread, no descriptor, no writer in the log."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from pathlib import Path

import pytest

from archiver.assembly.process import assemble
from archiver.clock import SystemClock
from archiver.config.load import load
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.errors import ConfigurationError
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.test_daemon import free_port
from tests.acceptance.test_retirement import lives

_STORAGE = "[{id: primary, kind: directory, path: copies}]"


def _alerting(folder: Path) -> str:
    """An alert channel whose certificates are none."""
    (folder / "bundle.pem").write_text("no certificate at all\n")
    (folder / "alerts.url").write_text("https://alerts.example/")
    (folder / "alerts.url").chmod(0o400)
    channel = "{id: ops, kind: webhook, url: file:alerts.url, ca_bundle: bundle.pem}"
    return f"alerting: {{channels: [{channel}]}}"


def _held() -> tuple[list[str], list[str]]:
    """The threads of this process that do not end, without the event loop's pool, and its open files."""
    others = [each for each in threading.enumerate() if not each.name.startswith(("asyncio_", "MainThread"))]
    for each in others:
        each.join(5)  # a storage's threads are told to end, and not waited for
    return sorted(each.name for each in others if each.is_alive()), _files(Path("/proc/self/fd"))


def _files(descriptors: Path) -> list[str]:
    found = []
    for each in descriptors.iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own, or closed meanwhile
            found.append(str(each.readlink()))
    return sorted(found)


async def _refused(archive: Archive) -> None:
    with pytest.raises(ConfigurationError, match="ca_bundle"):
        await assemble(load(archive.path, resolve_secrets=True))


async def test_three_configurations_refused_for_an_alert_bundle_leave_threads_files_and_enrolments_as_they_were(
    tmp_path: Path, database_url: str
) -> None:
    async with fleet.fleet(SystemClock(), samples(), seed=11, count=1)["kazoo"] as sim:
        archive = make_archive(tmp_path, {"kazoo": sim}, database_url, _STORAGE, more=_alerting(tmp_path))
        await _refused(archive)  # loads what is loaded once
        before = _held(), await lives(archive)
        for _ in range(3):
            await _refused(archive)
        assert (_held(), await lives(archive)) == before
        assert "database-writer" not in before[0][0]
        assert before[1] == []


async def test_daemon_that_refuses_three_reloads_has_one_writer_in_the_log_and_as_many_files_as_before(
    tmp_path: Path, sqlite_url: str
) -> None:
    port = free_port()
    async with fleet.fleet(SystemClock(), samples(), seed=11, count=1)["kazoo"] as sim:
        archive = make_archive(
            tmp_path, {"kazoo": sim}, sqlite_url, _STORAGE, more=f"web: {{listen: 127.0.0.1:{port}}}"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "archiver", "-c", str(archive.path), "run",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            await _until_ready(process, "recording.archived")
            before = _databases(process.pid, sqlite_url)
            archive.path.write_text(archive.path.read_text() + _alerting(tmp_path) + "\n")
            for _ in range(3):
                process.send_signal(signal.SIGHUP)
                await _until_ready(process, "config.reload_failed")
                await _until_ready(process, "daemon.ready")
            assert len(_databases(process.pid, sqlite_url)) <= len(before) + 1
            assert sorted(await lives(archive)) == ["writer.enrolled"] * 4 + ["writer.retired"] * 3
            process.send_signal(signal.SIGTERM)
            await process.communicate()
            assert process.returncode == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert sorted(await lives(archive)) == ["writer.enrolled"] * 4 + ["writer.retired"] * 4


async def _until_ready(process: asyncio.subprocess.Process, word: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        async for line in process.stdout:
            if word.encode() in line:
                return
    raise AssertionError(f"the log ended before {word}")


def _databases(pid: int, url: str) -> list[str]:
    """The files of the database that a process holds open."""
    name = Path(url.partition("///")[2]).name
    return [each for each in _files(Path(f"/proc/{pid}/fd")) if name in each]
