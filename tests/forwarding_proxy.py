"""A forwarding proxy on loopback: CONNECT for https, whole URLs for http. Remembers what it was shown."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class ForwardingProxy:
    """`secret` is the user:password that it demands, if any; `refuses` the status that it answers instead of connecting."""

    secret: str | None = None
    refuses: int | None = None
    lines: list[str] = field(default_factory=list)
    shown: bytes = b""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            line, *headers = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            self.lines.append(line)
            self.shown += head
            kept = [each for each in headers if not each.lower().startswith("proxy-")]
            given = next(
                (each.partition(":")[2].strip() for each in headers if each.lower().startswith("proxy-auth")), ""
            )
            wanted = "" if self.secret is None else f"Basic {base64.b64encode(self.secret.encode()).decode()}"
            status = 407 if wanted and given != wanted else self.refuses
            if status is not None:
                writer.write(f"HTTP/1.1 {status} no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                writer.close()
                return
            await self._forward(line, kept, reader, writer)
        writer.close()

    async def _forward(
        self, line: str, headers: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, target, version = line.split(" ")
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            there, to = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            parts = urlsplit(target)
            there, to = await asyncio.open_connection(parts.hostname, parts.port)
            query = f"?{parts.query}" if parts.query else ""
            lines = [f"{method} {parts.path}{query} {version}", *headers, "", ""]
            to.write("\r\n".join(lines).encode("latin-1"))
        try:
            await asyncio.gather(self._pump(reader, to), self._pump(there, writer))
        finally:
            to.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await source.read(65_536):
                self.shown += piece
                sink.write(piece)
                await sink.drain()
        sink.close()


@asynccontextmanager
async def forwarding_proxy(secret: str | None = None, refuses: int | None = None) -> AsyncIterator[ForwardingProxy]:
    proxy = ForwardingProxy(secret, refuses)
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await proxy.talk(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()  # a tunnel that nobody closed
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
