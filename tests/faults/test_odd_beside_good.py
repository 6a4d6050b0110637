"""Every shape of odd answer, at every port at once, beside a good provider and a good storage: these are served while the others
are still being odd.

Each odd party is a server of its own, so that each port is seen to be asked. No time is measured here; what an odd party may cost
the good one, benchmarks/README.md says.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from archiver.assembly import process
from archiver.clock import SystemChance, SystemClock
from archiver.config.load import load
from archiver.custody.keys import generate_signing_key
from archiver.daemon import times
from archiver.daemon.supervise import Daemon
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.demo.simulators.server import Simulator
from archiver.ingest import health
from archiver.signals import End
from archiver.store import s3
from archiver.translog.note import Signer
from tests.acceptance.archive import Archive, make_archive
from tests.faults.test_feed_budgets import FIVE_MILLION
from tests.http_servers import Asked, Script, Server, answer, says, serve

PORTS = ("listing", "media", "storage", "witness", "authority", "channel", "heartbeat")
BOMB = gzip.compress(FIVE_MILLION, 9)
ODD = (
    b'{"meta": {"total_count": 1e99, "next": "\\ud800"}, "objects": [7, null, {"recording_id": ' + b"[" * 600 + b"]" * 600
    + b'}, {"recording_id": "\\ud800\\u0000", "recording_url": "\\\\\\\\"}], "status": NaN}'
)  # fmt: skip


async def hangs(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
    """The request is read, and that is all."""
    await asyncio.Event().wait()


async def drips(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A head, and then for ever a byte now and then."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)  # slow on purpose


async def never_ends(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A body without an end, as fast as it is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        await writer.drain()


SHAPES: dict[str, Script] = {
    "hangs": hangs,
    "drips": drips,
    "never ends": never_ends,
    "hangs up": says(close=True),
    "resets": says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", reset=True),
    "is no http": says(b"\x00\xff\r\n" * 500 + b"\r\n", close=True),
    "is a page": says(answer(200, b"<html><h1>Sign in</h1></html>", "Content-Type: text/html")),
    "is odd json": says(answer(200, ODD, "Content-Type: application/json; charset=\x80")),
    "is packed": says(answer(200, BOMB, "Content-Type: application/json", "Content-Encoding: gzip")),
    "is empty": says(answer(200)),
    "is busy for ever": says(answer(503, b"{}", "Retry-After: 1e99")),
    "leads away": says(answer(302, b"", "Location: http://169.254.169.254/latest/meta-data/")),
}


def listed(shape: Script) -> Script:
    """A provider whose listing is in order: one recording, whose audio is odd."""

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if ".wav" in asked.target:
            return await shape(asked, writer)
        row = {
            "recording_id": "odd", "recording_duration_ms": 1000, "recording_url": f"http://{asked.headers['host']}/odd.wav",
            "add_time": (SystemClock().now() - timedelta(hours=3)).isoformat(),
        }  # fmt: skip
        writer.write(answer(200, json.dumps({"meta": {"total_count": 1, "next": None}, "objects": [row]}).encode()))
        return None

    return script


@pytest.fixture
async def kazoo() -> AsyncIterator[dict[str, Simulator]]:
    made = {"kazoo": fleet.fleet(SystemClock(), samples(), seed=11, count=3)["kazoo"]}
    async with made["kazoo"]:
        yield made


@asynccontextmanager
async def odd(shape: Script) -> AsyncIterator[dict[str, Server]]:
    """A server of this shape for each port."""
    async with AsyncExitStack() as stack:
        yield {
            port: await stack.enter_async_context(serve(listed(shape) if port == "media" else shape)) for port in PORTS
        }


def configured(folder: Path, good: dict[str, Simulator], url: str, at: dict[str, Server]) -> Archive:
    """The good provider and storage, and an odd party at each port."""
    for name, secret in {
        "s3": "secret of the odd one", "token": "x", "hook": at["channel"].origin, "beat": at["heartbeat"].origin,
    }.items():  # fmt: skip
        (folder / name).write_text(secret)
        (folder / name).chmod(0o400)
    storage = (
        "[{id: good, kind: directory, path: copies}, "
        f"{{id: odd, kind: s3, endpoint: '{at['storage'].origin}', bucket: calls, access_key: a, secret_key: file:s3, "
        "object_lock: {mode: compliance}, required: false}]"
    )
    alerting = (
        "alerting:\n  channels: [{id: ops, kind: webhook, url: file:hook, allow_http: true}]\n"
        "  heartbeat: {url: file:beat, allow_http: true}\n"
    )
    archive = make_archive(folder, good, url, storage, more=alerting)
    key = Signer("odd.example", generate_signing_key(SystemChance())).key.vkey
    vouchers = f'witnesses: [{{url: "{at["witness"].origin}/", key: "{key}"}}], timestamp: {{url: "{at["authority"].origin}/"}}'
    providers = "".join(
        f"  - {{id: {port}, kind: vobiz, base_url: '{at[port].origin}', allow_http: true, allow_private_addresses: true, "
        "rate: 500/s, auth_id: A, auth_token: file:token}\n"
        for port in ("listing", "media")
    )
    text = archive.path.read_text().replace("file:custody.pem}", f"file:custody.pem, {vouchers}}}")
    archive.path.write_text(text.replace("providers:\n", f"providers:\n{providers}"))
    return Archive(load(archive.path, resolve_secrets=True), archive.path)


async def until(what: Callable[[], Awaitable[bool]], running: asyncio.Task[End]) -> None:
    async with asyncio.timeout(120):
        while not await what():
            await asyncio.wait([running], timeout=0.1)
            assert not running.done()


# At the stop requests are cut off wherever they are, and the collector closes their sockets.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_good_party_is_served_while_every_other_port_is_answered_oddly(
    shape: Script, kazoo: dict[str, Simulator], tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "DRAIN", timedelta(seconds=1))
    monkeypatch.setattr(times, "FAREWELL", timedelta(seconds=1))
    monkeypatch.setattr(process, "_GATE", timedelta(seconds=1))
    monkeypatch.setattr(health, "_PATIENCE", 0.5)  # the log waits for the odd storage, and then for each of its answers
    monkeypatch.setattr(s3, "_SHELF_SECONDS", 1)
    async with odd(shape) as at:
        archive = configured(tmp_path, kazoo, sqlite_url, at)
        assembly = await archive.assemble()
        it = Daemon(assembly)
        running = asyncio.create_task(it.forever())
        telling = asyncio.create_task(asyncio.sleep(0))
        try:

            async def archived() -> bool:
                rows = [row for row in await archive.raw_rows() if row["provider"] == "kazoo"]
                return [row["state"] for row in rows] == ["archived"] * 3

            await until(archived, running)
            await assembly.rounds.parties(ending=True)
            telling = asyncio.create_task(assembly.alarm.swept(complete=True))
            beating = asyncio.create_task(assembly.alarm.tick())

            async def driven() -> bool:
                return all(server.connections for port, server in at.items() if port != "heartbeat")

            await until(driven, running)
            beating.cancel()
            it.stop()
            assert await running is End.STOP
        finally:
            telling.cancel()
            running.cancel()
            await assembly.aclose()
