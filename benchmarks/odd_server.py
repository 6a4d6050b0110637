"""Odd parties in a process of their own: an HTTP server, and a proxy in front of a good storage, each odd in one way.

`python -m benchmarks.odd_server WAY FLAG UPSTREAM` prints two ports, the server's and the proxy's. The proxy passes everything on
until the file FLAG exists, so that a storage can prove itself before it turns odd.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.source import BYTES_PER_SECOND, beginning

IN_ORDER = "in order"
WAYS = ("slow 0.3 s", "slow 5 s", "hanging", "garbage", "packed")
"""How the odd server and the odd storage answer; a party that raises needs no server."""
ROWS = 8
"""Recordings of each odd provider: more than it may have under way at a time, and no work worth mentioning."""
MEDIA_ONLY = "MA_MEDIA_ONLY"
_SIZE = 20_000
_NEWEST = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
_BOMB = gzip.compress(b'{"meta":{"total_count":9999999},"objects":[' + b"{}," * 5_500_000 + b"{}]}", 9)
_RUBBISH = itertools.cycle(
    [
        b"<html><h1>Sign in</h1></html>",
        b'{"meta": {"total_count": 1e99}, "objects": ["\\ud800", 7, {}]}',
        b"[" * 5000,
        b"\xff\xfe" * 2000,
        b"{}",
        b"<ListBucketResult><IsTruncated>maybe</IsTruncated></ListBucketResult>",
    ]
)


def _answer(body: bytes, kind: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


async def _oddly(way: str) -> bytes | None:
    """The odd answer itself; None where the right one is to follow, late or at once."""
    if way == IN_ORDER:
        return None
    if way.startswith("slow"):
        await asyncio.sleep(float(way.split()[1]))
        return None
    if way == "hanging":
        await asyncio.Event().wait()
    return _answer(_BOMB, more="Content-Encoding: gzip\r\n") if way == "packed" else _answer(next(_RUBBISH))


async def _request(reader: asyncio.StreamReader) -> tuple[str, str] | None:
    """The path and the host of the next request, whose body is read and dropped."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n"))}
    if left := int(fields.get("content-length", "0")):
        await reader.readexactly(left)
    return head.split(" ", 2)[1], fields.get("host", "")


class Server:
    """A provider, witness, authority or webhook. The listing of the account `MEDIA_ONLY` is in order."""

    def __init__(self, way: str) -> None:
        self._way = way

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while (asked := await _request(reader)) is not None:
                path, host = urlsplit(asked[0]).path, asked[1]
                media = path.endswith(".wav")
                listed = not media and MEDIA_ONLY in path
                odd = None if listed else await _oddly(self._way)
                writer.write(odd or (self._media(path) if media else self._listing(host)))
                await writer.drain()
        writer.close()

    def _media(self, path: str) -> bytes:
        first = beginning(10**9 + int(path.rpartition("/")[2].removesuffix(".wav")), _SIZE)
        return _answer(first + bytes(_SIZE - len(first)), "audio/wav")

    def _listing(self, host: str) -> bytes:
        rows = [
            {
                "add_time": (_NEWEST - timedelta(minutes=number)).isoformat(sep=" "),
                "call_uuid": f"odd-{number}",
                "recording_duration_ms": (_SIZE - 44) * 1000 // BYTES_PER_SECOND,
                "recording_id": f"odd-{number}",
                "recording_url": f"http://{host}/{number}.wav",
            }
            for number in range(ROWS)
        ]
        meta = {"limit": 100, "offset": 0, "total_count": ROWS, "next": None}
        return _answer(json.dumps({"meta": meta, "objects": rows}).encode())


class Proxy:
    """Passes connections on to a storage; odd to each request once the flag is there."""

    def __init__(self, way: str, flag: Path, port: int) -> None:
        self._way, self._flag, self._port = way, flag, port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(self._answers(up, writer))
        try:
            while piece := await reader.read(1 << 18):
                begins = piece.partition(b"\r\n")[0].endswith(b"HTTP/1.1")
                if begins and self._flag.exists() and (odd := await _oddly(self._way)) is not None:
                    writer.write(odd)
                    await writer.drain()
                    break
                down.write(piece)
                await down.drain()
        except ConnectionError:
            pass
        finally:
            back.cancel()
            down.close()
            writer.close()

    async def _answers(self, up: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await up.read(1 << 18):
                writer.write(piece)
                await writer.drain()
        writer.close()


@contextmanager
def odd(way: str, flag: Path, upstream: int) -> Iterator[tuple[int, int]]:
    """The ports of a running odd server and of the proxy to the storage at `upstream`."""
    command = [sys.executable, "-m", "benchmarks.odd_server", way, str(flag), str(upstream)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        server, proxy = process.stdout.readline().split()
        yield int(server), int(proxy)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def _main(way: str, flag: Path, upstream: int) -> None:
    server = await asyncio.start_server(Server(way).serve, "127.0.0.1", 0)
    proxy = await asyncio.start_server(Proxy(way, flag, upstream).serve, "127.0.0.1", 0)
    ports = [each.sockets[0].getsockname()[1] for each in (server, proxy)]
    print(*ports, flush=True)
    await asyncio.gather(server.serve_forever(), proxy.serve_forever())


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
