"""The door of the two HTTP servers: who says nothing is sent away, no crowd exhausts us, and only our own names count."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from archiver import doorway
from archiver.clock import SystemChance, SystemClock
from archiver.custody.keys import generate_signing_key
from archiver.doorway import Door
from archiver.errors import UnavailableError
from archiver.status.web import StatusServer
from archiver.translog.notary import Notary
from archiver.translog.note import Cosigner
from archiver.translog.witness import witness_app


class Daemon:
    """What the health server asks, with a count of how often it did."""

    def __init__(self) -> None:
        self.reports = 0
        self.at = 0.0
        self.stopping = self.down = False
        self.server = StatusServer(
            beat_age=lambda: timedelta(0), stopping=lambda: self.stopping, readiness=self.ready, status=self.report,
            metrics=self.metrics, now=lambda: self.at, names=["archive.example"],
        )  # fmt: skip

    async def ready(self) -> dict[str, str]:
        return {}

    async def report(self) -> str:
        self.reports += 1
        await asyncio.sleep(0.02)  # slow on purpose
        if self.down:
            raise UnavailableError("database: secret words")
        return f'{{"n": {self.reports}}}'

    async def metrics(self) -> bytes:
        return b"m 1\n"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "REQUEST_SECONDS", 0.3)


@pytest.fixture
async def daemon() -> AsyncIterator[tuple[Daemon, int]]:
    made = Daemon()
    port = await made.server.start("127.0.0.1", 0)
    yield made, port
    await made.server.stop()


async def said(port: int, raw: bytes) -> bytes:
    """All that comes until the server closes the connection."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(raw)
            await writer.drain()
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def get(path: str, host: str = "127.0.0.1") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "half", [b"", b"GET /-/healthy HTTP/1.1\r\nHost:", b"POST /-/healthy HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"],
    ids=["nothing", "half a head", "half a body"],
)  # fmt: skip
async def test_who_sends_no_whole_request_in_time_is_sent_away(half: bytes, daemon: tuple[Daemon, int]) -> None:
    assert b"200" not in (await said(daemon[1], half))[:20]


@pytest.mark.usefixtures("soon")
async def test_two_hundred_half_open_requests_take_no_more_descriptors_than_there_are_places(
    daemon: tuple[Daemon, int],
) -> None:
    crowd = [asyncio.create_task(said(daemon[1], b"GET / HTTP/1.1\r\n")) for _ in range(200)]
    await asyncio.sleep(0.2)  # those who are not let in are told nothing: time for them to try
    held = daemon[0].server._door._runner.server
    assert held is not None
    assert len(held.connections) <= doorway.CONNECTIONS
    await asyncio.gather(*crowd)
    assert (await said(daemon[1], get("/-/healthy"))).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8484", 200), ("[::1]:1", 200), ("10.1.2.3", 200), ("localhost", 200), ("ARCHIVE.example.:8484", 200),
     ("attacker.example", 421), ("127.0.0.1.attacker.example", 421), ("localhost.attacker.example:8484", 421)],
)  # fmt: skip
async def test_only_our_own_names_are_answered(host: str, status: int, daemon: tuple[Daemon, int]) -> None:
    answer = await said(daemon[1], get("/-/status", host))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert daemon[0].reports == (status == 200)


async def test_the_report_is_made_once_in_a_few_seconds_however_many_ask(daemon: tuple[Daemon, int]) -> None:
    it, port = daemon
    answers = await asyncio.gather(*(said(port, get("/-/status")) for _ in range(20)))
    assert {each.rpartition(b"\r\n\r\n")[2] for each in answers} == {b'{"n": 1}'}
    it.at += 3
    assert b'{"n": 2}' in await said(port, get("/-/status"))


async def test_report_that_cannot_be_made_is_503_in_our_own_words_and_made_again(daemon: tuple[Daemon, int]) -> None:
    it, port = daemon
    it.down = True
    answer = await said(port, get("/-/status"))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"secret words" not in answer
    it.down = False
    assert (await said(port, get("/-/status"))).startswith(b"HTTP/1.1 200 ")


async def test_who_is_stopping_is_neither_healthy_nor_ready(daemon: tuple[Daemon, int]) -> None:
    it, port = daemon
    it.stopping = True
    for path in ("/-/healthy", "/-/ready"):
        answer = await said(port, get(path))
        assert answer.startswith(b"HTTP/1.1 503 "), path
        assert b"stopping" in answer


@pytest.mark.usefixtures("soon")
async def test_the_witness_has_the_same_door(tmp_path: Path) -> None:
    notary = Notary(tmp_path / "n", Cosigner("w.example", generate_signing_key(SystemChance())), SystemClock())
    door = Door(witness_app(notary, []), names=["w.example"])
    port = await door.open("127.0.0.1", 0)
    try:
        assert await said(port, b"POST /add-checkpoint HTTP/1.1\r\n") == b""
        slow = b"POST /add-checkpoint HTTP/1.1\r\nHost: w.example\r\nContent-Length: 99\r\n\r\nold"
        assert await said(port, slow) == b""
        for host, status in (("w.example", 400), ("x.example", 421)):
            asked = f"POST /add-checkpoint HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nold".encode()
            assert (await said(port, asked)).startswith(f"HTTP/1.1 {status} ".encode())
    finally:
        await door.close()
