"""Names and mail servers that hang keep threads of their own party's, and none that others need."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from archiver.alerts.channel.smtp import Smtp, SmtpOptions
from archiver.alerts.post import Post
from archiver.clock import SystemClock
from archiver.names import Names
from archiver.recording import Secret
from archiver.translog.http import Client
from tests.http_servers import Server, answer, client, says, serve
from tests.integration.test_alert_channels import MESSAGE
from tests.integration.test_http_egress import download

HANGS = "hangs.example.com"


class Held:
    """Name servers that say nothing about one name until `released`. `asked`: how often they were asked for it."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.released = threading.Event()
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: Any, *more: Any, **options: Any) -> Any:
        if host != HANGS:
            return self._real(host, *more, **options)
        self.asked.release()
        self.released.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
async def held(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    """One thread for everything that shares threads: whoever keeps it is noticed."""
    it = Held()
    monkeypatch.setattr(socket, "getaddrinfo", it.getaddrinfo)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    try:
        yield it
    finally:
        it.released.set()


async def until_asked(held: Held) -> None:
    while not held.asked.acquire(blocking=False):  # noqa: ASYNC110  a thread tells
        await asyncio.sleep(0.01)


async def provider(server: Server) -> None:
    async with client(server, f"{HANGS}:{server.port}") as http:
        await download(http, f"http://{HANGS}:{server.port}/rec")


async def webhook(_: Server) -> None:
    post = Post("ops", Secret(f"https://{HANGS}/x"), SystemClock())
    try:
        await post.send("POST")
    finally:
        await post.aclose()


async def witness(_: Server) -> None:
    async with Client() as vouchers:
        await vouchers.get("witness w", f"http://{HANGS}/")


async def mail(_: Server) -> None:
    options = SmtpOptions("mail", HANGS, "a@example.com", ("b@example.com",), security="none")
    await Smtp(options, SystemClock()).send(MESSAGE)


@pytest.mark.parametrize("party", [provider, webhook, witness, mail])
async def test_name_that_never_resolves_holds_up_nobody_else(held: Held, party: Any) -> None:
    async with asyncio.timeout(60), serve(says(answer(200, b"audio"))) as server:
        hanging = [asyncio.create_task(party(server)) for _ in range(3)]
        try:
            await until_asked(held)
            assert await asyncio.to_thread(int, "7") == 7, "the database's readers use these threads"
            async with client(server, f"localhost:{server.port}") as good:
                assert await download(good, f"http://localhost:{server.port}/rec") == b"audio"
            assert not any(each.done() for each in hanging)
        finally:
            held.released.set()
            for each in hanging:
                each.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)


async def test_address_of_a_link_keeps_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it nothing on that link can be reached."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 443, 0, 2)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", 443, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    names = Names("p")
    assert [each["host"] for each in await names.resolve("a.example", 443)] == ["fe80::1%2", "fd00::1", "192.0.2.1"]
    await names.close()
