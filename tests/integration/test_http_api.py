"""Calls to a provider's API over a real server: budget, waiting, answers that are none (reliability §3.1)."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http import HttpProcessingError

from archiver.errors import (
    AnswerTooLargeError,
    ArchiverError,
    EgressRefusedError,
    ListingError,
    ThrottledError,
    TransientError,
    UnavailableError,
)
from archiver.providers.http import Answer, HttpClient, UnlimitedBudget
from archiver.providers.http_faults import LIBRARY_ERRORS, fault
from archiver.providers.rows import blemish
from tests.http_servers import QUICK, Asked, RecordingBudget, Server, answer, client, says, serve

SECRET = {"X-Auth-Token": "CANARY"}


@asynccontextmanager
async def web_server(app: web.Application) -> AsyncIterator[Server]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Server(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def ask(http: HttpClient, **options: Any) -> Answer:
    return await http.request("GET", "/v1/Account/", endpoint="list", headers=SECRET, **options)


async def outcome(raw: bytes, close: bool = False, **settings: Any) -> Answer | ArchiverError:
    async with serve(says(raw, close=close)) as server, client(server, **settings) as http:
        try:
            return await ask(http, params=[("token", "CANARY")])
        except ArchiverError as exc:
            shown = exc
    assert "CANARY" not in f"{shown!r} {shown}"
    assert shown.__cause__ is None
    return shown


# --- what goes out, what comes in ---------------------------------------------------------------------------------


async def test_request_arrives_as_meant_and_its_answer_comes_back() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "path": request.raw_path,
                "body": (await request.read()).decode(),
                "type": request.headers.get("Content-Type"),
                "token": request.headers["X-Auth-Token"],
            },
            status=207,
        )

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    async with web_server(app) as server, client(server) as http:
        got = await http.request(
            "PUT",
            "/v2/a%2Fb/",
            endpoint="login",
            params=[("since", "2026-01-01 00:00:00+05:30"), ("tag", "ü&="), ("tag", "2")],
            headers=SECRET,
            json_body={"data": {"api_key": "k"}},
        )
    assert got.status == 207
    assert got.headers["content-type"] == "application/json; charset=utf-8"
    assert got.date is not None
    assert abs(got.date - datetime.now(UTC)) < timedelta(seconds=5)
    assert json.loads(got.body) == {
        "path": "/v2/a%2Fb/?since=2026-01-01%2000%3A00%3A00%2B05%3A30&tag=%C3%BC%26%3D&tag=2",
        "body": '{"data": {"api_key": "k"}}',
        "type": "application/json",
        "token": "CANARY",
    }


@pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 402, 403, 404, 405, 409, 410, 422, 425])
async def test_status_that_only_the_adapter_can_judge_is_returned(status: int) -> None:
    got = await outcome(answer(status, b"" if status == 204 else b'{"error": "x"}'))
    assert isinstance(got, Answer)
    assert got.status == status


async def test_connection_is_kept_for_the_next_call() -> None:
    async with serve(says(answer(200, b"{}"))) as server, client(server) as http:
        for _ in range(5):
            await ask(http)
        assert server.connections == 1


async def test_request_that_could_mean_another_path_is_not_sent() -> None:
    async with serve(says(answer(200, b"{}"))) as server, client(server) as http:
        with pytest.raises(EgressRefusedError):
            await http.request("DELETE", "/v1/Recording/../", endpoint="delete")
        assert server.connections == 0


# --- waiting ------------------------------------------------------------------------------------------------------


def in_seconds(seconds: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("Retry-After: 7", 7, 7),
        (lambda: f"Retry-After: {in_seconds(60)}", 57, 61),
        ("Retry-After: 1000000000", 3600, 3600),
        ("Retry-After: -1", 7.5, 7.5),
        (lambda: f"X-RateLimit-Reset: {int(time.time()) + 60}", 57, 61),
        (lambda: f"X-Rate-Limit-Burst-Reset: {int(time.time()) + 60}", 57, 61),
        ("X-Nothing: 1", 7.5, 7.5),
    ],
)
async def test_429_pauses_the_credential_for_as_long_as_it_asks(header: Any, low: float, high: float) -> None:
    budget = RecordingBudget()
    result = await outcome(
        answer(429, b"{}", header() if callable(header) else header), budget=budget, jitter=lambda: 0.5
    )
    assert isinstance(result, ThrottledError)
    assert result.retry_after is not None
    assert low <= result.retry_after.total_seconds() <= high
    assert budget.pauses == [result.retry_after]


async def test_limit_used_up_pauses_before_the_429() -> None:
    budget = RecordingBudget()
    head = answer(200, b"{}", "X-RateLimit-Remaining: 0", f"X-RateLimit-Reset: {int(time.time()) + 30}")
    assert isinstance(await outcome(head, budget=budget), Answer)
    assert len(budget.pauses) == 1
    assert 25 < budget.pauses[0].total_seconds() <= 31


async def test_pause_said_in_a_body_is_obeyed_but_for_an_hour_at_most() -> None:
    budget = RecordingBudget()
    async with client(Server(1), budget=budget) as http:
        await http.throttle(timedelta(seconds=3))
        await http.throttle(timedelta(days=365))
    assert budget.pauses == [timedelta(seconds=3), timedelta(hours=1)]


async def test_budget_is_asked_before_anything_is_sent() -> None:
    class Spent(RecordingBudget):
        async def take(self, cost: int = 1) -> None:
            raise UnavailableError(f"no budget for {cost}")

    async with serve(says(answer(200, b"{}"))) as server, client(server, budget=Spent()) as http:
        with pytest.raises(UnavailableError, match="no budget for 3"):
            await ask(http, cost=3)
        assert server.connections == 0


async def test_unlimited_budget_waits_only_while_paused() -> None:
    budget = UnlimitedBudget()
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(1000):
        await budget.take()
    assert loop.time() - started < 0.5
    await budget.pause(timedelta(seconds=0.2))
    await budget.pause(timedelta(seconds=0.05))  # a shorter pause takes nothing from a longer one
    started = loop.time()
    await asyncio.gather(budget.take(), budget.take(5))
    assert 0.19 <= loop.time() - started < 1


@pytest.mark.parametrize("status", [408, 500, 501, 502, 503, 504, 520, 599])
async def test_failing_provider_can_be_retried(status: int) -> None:
    result = await outcome(answer(status, b"<html>CANARY</html>", "Retry-After: 9"))
    assert isinstance(result, UnavailableError)
    assert result.retry_after == timedelta(seconds=9)
    assert str(status) in str(result)


# --- answers that are none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        answer(200, b'{"objects": [', length=4000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 2",
        b"",
        b"\x16\x03\x01",
    ],
)
async def test_answer_cut_off_is_not_an_answer(raw: bytes) -> None:
    assert isinstance(await outcome(raw, close=True), UnavailableError)


async def test_answer_without_a_length_that_is_cut_is_no_listing() -> None:
    got = await outcome(b'HTTP/1.1 200 OK\r\n\r\n{"objects": [{"id": "1"}, ', close=True)
    assert isinstance(got, Answer)
    with pytest.raises(ListingError):
        got.json()


@pytest.mark.parametrize("declared", [True, False])
async def test_answer_larger_than_a_page_may_be_is_refused_in_bounded_memory(declared: bool) -> None:
    sent = 0

    async def script(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        framing = b"Content-Length: 1000000000" if declared else b"Connection: close"
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n[")
        while not writer.is_closing():
            writer.write(b"1," * 32768)
            sent += 65536
            await writer.drain()

    async with serve(script) as server, client(server) as http:
        with pytest.raises(ListingError, match=str(QUICK.max_answer)):
            await ask(http)
    assert sent < 40 << 20


async def test_answer_that_drips_is_given_up_in_time() -> None:
    async def script(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)  # slow on purpose

    async with serve(script) as server, client(server) as http:
        with pytest.raises(UnavailableError, match="too long"):
            await ask(http)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "GZIP"])
async def test_answer_packed_although_not_asked_for_is_unpacked(encoding: str) -> None:
    pack = zlib.compress if encoding == "deflate" else gzip.compress
    got = await outcome(answer(200, pack(b'{"data": []}'), f"Content-Encoding: {encoding}"))
    assert isinstance(got, Answer)
    assert got.json() == {"data": []}


@pytest.mark.parametrize(
    ("body", "encoding", "failure"),
    [
        (gzip.compress(b'{"data": []}')[:-6], "gzip", UnavailableError),
        (b"{}", "gzip", UnavailableError),
        (b"", "gzip", UnavailableError),
        (gzip.compress(bytes(QUICK.max_answer + 1)), "gzip", AnswerTooLargeError),
        (b"{}", "br", ListingError),
    ],
)
async def test_packed_answer_that_is_cut_damaged_a_bomb_or_unknown_is_no_listing(
    body: bytes, encoding: str, failure: type[ArchiverError]
) -> None:
    assert type(await outcome(answer(200, body, f"Content-Encoding: {encoding}"))) is failure


@pytest.mark.parametrize("body", [b"", b"<html>Please log in</html>", b"{", b"OK", b"\xff\xfe{}", b"[" * 60_000])
async def test_page_that_is_no_json_is_a_listing_error_and_not_an_empty_list(body: bytes) -> None:
    got = await outcome(answer(200, body))
    assert isinstance(got, Answer)
    with pytest.raises(ListingError):
        got.json()


@pytest.mark.parametrize(
    "hostile",
    [
        b"1" * 5000,
        b"[" * 25_000 + b"]" * 25_000,
        b"NaN",
        b"-Infinity",
        b'"\\ud800"',
        b'"\xff"',
        b'"a\\u0000b"',
        b'{"id": 1, "id": 2}',
    ],
)
async def test_hostile_row_is_found_and_the_other_rows_of_its_page_remain(hostile: bytes) -> None:
    got = await outcome(answer(200, b'[{"id": "good"}, {"x": ' + hostile + b"}]"))
    assert isinstance(got, Answer)
    rows = got.json()
    assert isinstance(rows, list)
    assert rows[0] == {"id": "good"}
    assert blemish(rows[0]) is None
    assert blemish(rows[1])


# --- whatever happens below ---------------------------------------------------------------------------------------


def every_class(base: type[BaseException]) -> set[type[BaseException]]:
    return {base}.union(*(every_class(each) for each in base.__subclasses__()))


def test_every_exception_of_the_library_is_translated() -> None:
    """Whatever aiohttp defines now or in a later version is caught by the one translator."""
    defined = {
        each
        for each in every_class(Exception)
        if each.__module__.startswith("aiohttp.") and "web" not in each.__module__
    }
    ours_to_catch = {
        each
        for each in defined
        if "client_exceptions" in each.__module__
        or "http_exceptions" in each.__module__
        or "connector" in each.__module__
    }
    assert aiohttp.ClientError in ours_to_catch
    assert HttpProcessingError in ours_to_catch
    untranslated = {each for each in ours_to_catch if not issubclass(each, LIBRARY_ERRORS)}
    assert {each.__name__ for each in untranslated} <= {"WSMessageTypeError", "EofStream"}  # no web sockets here


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (TimeoutError(), "timeout"),
        (aiohttp.SocketTimeoutError("CANARY"), "timeout"),
        (aiohttp.ClientPayloadError("CANARY"), "cut"),
        (aiohttp.ServerDisconnectedError("CANARY"), "connection"),
        (aiohttp.ClientOSError(104, "CANARY"), "connection"),
        (ConnectionResetError(104, "CANARY"), "connection"),
        (aiohttp.InvalidURL("https://x/?CANARY"), "connection"),
        (HttpProcessingError(message="CANARY"), "protocol"),
        (aiohttp.ClientError("CANARY"), "connection"),
        (EOFError("CANARY"), "connection"),
    ],
)
def test_fault_is_told_in_our_words_only(exc: Exception, code: str) -> None:
    found = fault(exc)
    assert found.code == code
    assert found.sentence
    assert "CANARY" not in found.sentence


async def test_every_exchange_is_observed_once_with_how_it_went() -> None:
    seen: list[tuple[str, int | str]] = []

    def observe(endpoint: str, code: int | str, seconds: float) -> None:
        assert 0 <= seconds < 10
        seen.append((endpoint, code))

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if "reset" in asked.target:
            writer.close()
        else:
            writer.write(answer(int(asked.target.strip("/"))))

    async with serve(script) as server, client(server, observe=observe) as http:
        await http.request("GET", "/200", endpoint="list")
        for path in ("/429", "/503", "/reset"):
            with pytest.raises(TransientError):
                await http.request("GET", path, endpoint="list")
        async with http.media(f"{server.origin}/200"):
            pass
    assert seen == [("list", 200), ("list", 429), ("list", 503), ("list", "connection"), ("media", 200)]


async def test_cancelled_request_stays_cancelled_and_frees_its_connection() -> None:
    arrived = asyncio.Event()

    async def silence(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with serve(silence) as server, client(server) as http:
        task = asyncio.create_task(ask(http))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (session,) = http._transport._sessions.values()
        assert not list(session._connector._acquired)  # type: ignore[union-attr]


async def test_closed_client_refuses_and_does_not_reconnect() -> None:
    async with serve(says(answer(200, b"{}"))) as server, client(server) as http:
        await ask(http)
        await http.aclose()
        with pytest.raises(UnavailableError, match="closed"):
            await ask(http)
        with pytest.raises(UnavailableError, match="closed"):
            async with http.media(f"{server.origin}/rec"):
                pass
        assert len(server.asked) == 1


async def test_answer_lost_after_the_request_arrived_is_an_unknown_outcome_that_can_be_retried() -> None:
    """A DELETE that took effect but whose answer was lost: asking again must be possible, and finds it done."""
    deletions = 0

    async def script(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal deletions
        deletions += 1
        if deletions > 2:  # the library asks twice by itself
            writer.write(answer(404, b"{}"))
        else:
            writer.close()

    async with serve(script) as server, client(server) as http:
        with pytest.raises(UnavailableError):
            await http.request("DELETE", "/v1/r1/", endpoint="delete")
        assert (await http.request("DELETE", "/v1/r1/", endpoint="delete")).status == 404


async def test_request_that_is_not_idempotent_is_sent_once() -> None:
    async def script(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serve(script) as server, client(server) as http:
        with pytest.raises(UnavailableError):
            await http.request("POST", "/v2/api_auth", endpoint="login", json_body={"data": {}})
        assert len(server.asked) == 1
