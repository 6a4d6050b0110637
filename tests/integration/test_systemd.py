"""The service manager's side of sd_notify(3), with a real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from archiver import systemd
from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from tests.acceptance.archive import make_archive


def listening(address: str) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.bind("\0" + address[1:] if address.startswith("@") else address)
    channel.setblocking(False)
    return channel


@pytest.mark.parametrize("abstract", [False, True], ids=["file", "abstract"])
def test_the_manager_is_told_in_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"@archiver-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listening(address) as channel:
        assert systemd.notify("READY=1", "STATUS=here")
        assert channel.recv(200) == b"READY=1\nSTATUS=here"


def test_without_a_manager_nothing_is_sent_and_nothing_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody-listens"))
    assert not systemd.notify("READY=1")


def test_the_watchdog_interval_is_half_of_what_is_allowed_and_only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert systemd.watchdog_interval() == timedelta(seconds=30)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert systemd.watchdog_interval() is None


async def _until(channel: socket.socket, wanted: bytes) -> list[bytes]:
    """Every message up to the first that contains `wanted`."""
    heard: list[bytes] = []
    async with asyncio.timeout(60):
        while not heard or wanted not in heard[-1]:
            heard.append(await asyncio.get_running_loop().sock_recv(channel, 4096))
    return heard


async def test_the_daemon_says_ready_feeds_the_watchdog_and_says_when_it_reloads_and_stops(
    tmp_path: Path, sqlite_url: str
) -> None:
    sim = fleet.fleet(SystemClock(), samples(), seed=11, count=1)["kazoo"]
    address = str(tmp_path / "notify")
    with listening(address) as channel:
        async with sim:
            archive = make_archive(
                tmp_path, {"kazoo": sim}, sqlite_url, "[{id: primary, kind: directory, path: copies}]"
            )
            environment = {**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
            environment.pop("WATCHDOG_PID", None)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "archiver", "-c", str(archive.path), "run",
                env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                assert b"WATCHDOG=1" not in b"".join(await _until(channel, b"READY=1"))
                await _until(channel, b"WATCHDOG=1")
                process.send_signal(signal.SIGHUP)
                assert b"MONOTONIC_USEC=" in (await _until(channel, b"RELOADING=1"))[-1]
                await _until(channel, b"READY=1")
                await _until(channel, b"WATCHDOG=1")
                process.send_signal(signal.SIGTERM)
                await _until(channel, b"STOPPING=1")
                assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
