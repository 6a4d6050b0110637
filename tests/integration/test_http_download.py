"""Downloads from hostile and broken servers (reliability §3.2): cut, endless, slow, lying."""

from __future__ import annotations

import asyncio
import gzip
import resource
from contextlib import suppress
from dataclasses import replace

import pytest

from archiver.errors import (
    CutShortError,
    LinkRefusedError,
    NotReadyError,
    RecordingGoneError,
    ThrottledError,
    TooLargeError,
    TooSlowError,
    TransientError,
    UnavailableError,
)
from archiver.providers.http import Download, HttpClient
from tests.http_servers import (
    QUICK,
    Asked,
    RecordingBudget,
    Script,
    Server,
    answer,
    client,
    reset_connection,
    says,
    serve,
)

BODY = bytes(range(256)) * 40
SIGNED = "/rec.mp3?X-Amz-Signature=CANARY"


async def whole(media: Download) -> bytes:
    return b"".join([piece async for piece in media.chunks()])


async def fetch(http: HttpClient, server: Server, path: str = SIGNED, **options: object) -> bytes:
    async with http.media(server.origin + path, **options) as media:  # type: ignore[arg-type]
        return await whole(media)


async def outcome(script: Script, **settings: object) -> bytes | Exception:
    """What a download from `script` comes to."""
    async with serve(script) as server, client(server, **settings) as http:
        try:
            return await fetch(http, server)
        except TransientError as exc:
            shown = exc
    assert "CANARY" not in f"{shown!r} {shown}"
    assert shown.__cause__ is None  # the library's own exception holds the whole URL
    return shown


# --- whole and described ------------------------------------------------------------------------------------------


async def test_body_comes_exactly_as_sent_and_is_described() -> None:
    head = answer(
        200,
        BODY,
        "Content-Type: audio/mpeg",
        'ETag: "e1"',
        "Set-Cookie: s=CANARY",
        "Date: Fri, 02 Jan 2026 03:04:05 GMT",
    )
    async with serve(says(head)) as server, client(server) as http:
        async with http.media(server.origin + SIGNED, headers={"Accept": "audio/mpeg"}) as media:
            assert (media.status, media.length, media.framed, media.offset) == (200, len(BODY), True, 0)
            assert (media.content_type, media.content_encoding, media.etag) == ("audio/mpeg", None, '"e1"')
            assert "CANARY" not in str(media.headers)
            assert media.headers["date"]
            assert await whole(media) == BODY
        assert server.asked[0].target == SIGNED
        assert server.asked[0].headers["accept-encoding"] == "identity"
        assert server.asked[0].headers["accept"] == "audio/mpeg"
        assert "python" not in server.asked[0].raw.decode().lower()


async def test_chunked_body_comes_whole_and_framed() -> None:
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(BODY[i : i + 97]), BODY[i : i + 97]) for i in range(0, len(BODY), 97))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        serve(says(head + pieces + b"0\r\n\r\n")) as server,
        client(server) as http,
        http.media(server.origin + SIGNED) as media,
    ):
        assert (media.length, media.framed) == (None, True)
        assert await whole(media) == BODY


async def test_cookie_of_one_answer_is_not_sent_with_the_next() -> None:
    async with serve(says(answer(200, BODY, "Set-Cookie: s=CANARY; Path=/"))) as server, client(server) as http:
        await fetch(http, server)
        await http.request("GET", "/v1", endpoint="list")
        await fetch(http, server)
        assert not any("cookie" in asked.headers for asked in server.asked)


# --- truncation ---------------------------------------------------------------------------------------------------


def cut_points(size: int, count: int) -> list[int]:
    return sorted({size * i // count for i in range(count)} | {1, size - 1})


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_body_cut_before_its_declared_length_is_noticed_wherever_it_is_cut(reset: bool) -> None:
    cuts = iter(cut_points(len(BODY), 64))
    total = answer(200, BODY)

    async def script(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(total[: len(total) - len(BODY) + next(cuts)])
        await writer.drain()
        await asyncio.sleep(0.005)  # the cut comes alone, after the bytes: TCP tells nobody when they left
        if reset:
            reset_connection(writer)
        else:
            writer.close()

    async with serve(script) as server, client(server) as http:
        for _ in cut_points(len(BODY), 64):
            with pytest.raises(CutShortError) as cut:
                await fetch(http, server)
            assert "CANARY" not in str(cut.value)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_chunked_body_cut_before_its_last_chunk_is_noticed_wherever_it_is_cut(reset: bool) -> None:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(BODY[i : i + 512]), BODY[i : i + 512]) for i in range(0, len(BODY), 512))
    framed += b"0\r\n"
    cuts = iter(cut_points(len(framed), 64))

    async def script(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed[: next(cuts)])
        await writer.drain()
        await asyncio.sleep(0.005)  # the cut comes alone, after the bytes: TCP tells nobody when they left
        if reset:
            reset_connection(writer)
        else:
            writer.close()

    async with serve(script) as server, client(server) as http:
        for _ in cut_points(len(framed), 64):
            with pytest.raises(CutShortError):
                await fetch(http, server)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_body_that_only_ends_with_the_connection_is_marked_as_unframed(reset: bool) -> None:
    """Nobody can tell a cut from an end here (aiohttp reports even RST as an end), so the receiver must be told."""
    async with (
        serve(says(b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:400], close=True, reset=reset)) as server,
        client(server) as http,
        http.media(server.origin + SIGNED) as media,
    ):
        assert (media.framed, media.length) == (False, None)
        with suppress(TransientError):
            assert len(await whole(media)) <= 400


async def test_http_1_0_body_is_unframed_unless_it_has_a_length() -> None:
    async with (
        serve(says(b"HTTP/1.0 200 OK\r\n\r\nabc", close=True)) as server,
        client(server) as http,
        http.media(server.origin + SIGNED) as media,
    ):
        assert not media.framed
        assert await whole(media) == b"abc"


async def test_bytes_beyond_the_declared_length_are_an_error() -> None:
    longer = answer(200, BODY + b"and more", length=len(BODY))
    for script in (
        says(longer),
        says(longer, close=True),
        says(longer[:52], longer[52:]),
        says(longer[:55], longer[55:], close=True),
    ):
        assert isinstance(await outcome(script), CutShortError)


async def test_bytes_beyond_the_last_chunk_are_none_of_the_recording() -> None:
    """Chunks tell where they end, whatever follows: what else comes is left, or the whole is asked for again."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nand more"
    for script in (says(chunked), says(chunked, close=True), says(chunked[:52], chunked[52:])):
        got = await outcome(script)
        assert got == b"abc" or isinstance(got, CutShortError | UnavailableError)


async def test_bytes_beyond_one_recording_never_become_the_next_one() -> None:
    """A second answer sent unasked must not be read as the answer to the next request."""
    first = answer(200, b"first", "Connection: keep-alive")
    smuggled = answer(200, b"SMUGGLED")
    count = 0

    async def script(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        writer.write(first if count == 1 else answer(200, b"second"))
        await asyncio.sleep(0.02)  # the second answer comes by itself, on a connection that has ended its first
        if count == 1:
            writer.write(smuggled)

    async with serve(script) as server, client(server) as http:
        assert await fetch(http, server) == b"first"
        await asyncio.sleep(0.05)  # nothing tells when bytes have come that nobody reads
        assert await fetch(http, server) == b"second"
        assert server.connections == 2


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffffff\r\nabc",
        b"X: " + b"a" * 300_000,
        b"\r\n".join(b"X-%d: 1" % i for i in range(5000)),
    ],
)
async def test_broken_framing_fails_and_can_be_retried(head: bytes) -> None:
    result = await outcome(says(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nhello", close=True))
    assert isinstance(result, UnavailableError | CutShortError | TooLargeError)


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00" * 100, b"SSH-2.0-OpenSSH\r\n", b"HTTP/9.9 xyz\r\n\r\n", b"<html>", b"HTTP/1.1 200 O\nK"]
)
async def test_server_that_speaks_no_http_can_be_retried(garbage: bytes) -> None:
    assert isinstance(await outcome(says(garbage, close=True)), UnavailableError)


# --- resuming -----------------------------------------------------------------------------------------------------


async def resumed(reply: Script, etag: str | None) -> tuple[bytes, int, int, Server]:
    async with (
        serve(reply) as server,
        client(server) as http,
        http.media(server.origin + SIGNED, offset=100, etag=etag) as media,
    ):
        return await whole(media), media.offset, media.status, server


async def test_granted_range_continues_where_it_was_cut() -> None:
    part = answer(206, BODY[100:], f"Content-Range: bytes 100-{len(BODY) - 1}/{len(BODY)}", 'ETag: "e1"')
    body, offset, status, server = await resumed(says(part), '"e1"')
    assert (body, offset, status) == (BODY[100:], 100, 206)
    assert server.asked[0].headers["range"] == "bytes=100-"
    assert server.asked[0].headers["if-range"] == '"e1"'


async def test_ignored_range_starts_over() -> None:
    body, offset, status, _ = await resumed(says(answer(200, BODY)), '"e1"')
    assert (body, offset, status) == (BODY, 0, 200)


@pytest.mark.parametrize("etag", [None, 'W/"e1"', "e1"])
async def test_without_a_strong_etag_no_range_is_asked_for(etag: str | None) -> None:
    body, offset, _, server = await resumed(says(answer(200, BODY)), etag)
    assert (body, offset) == (BODY, 0)
    assert "range" not in server.asked[0].headers


@pytest.mark.parametrize(
    "refusal",
    [
        answer(416, b"", "Content-Range: bytes */10"),
        answer(206, BODY[50:], f"Content-Range: bytes 50-{len(BODY) - 1}/{len(BODY)}"),
        answer(206, BODY[100:]),
        answer(206, BODY, "Content-Range: lines 1-2/3"),
    ],
)
async def test_range_that_is_not_the_one_asked_for_is_dropped_and_the_whole_asked_for(refusal: bytes) -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(refusal if "range" in asked.headers else answer(200, BODY))

    body, offset, _, server = await resumed(script, '"e1"')
    assert (body, offset) == (BODY, 0)
    assert len(server.asked) == 2


async def test_206_that_nobody_asked_for_is_no_recording() -> None:
    part = answer(206, BODY[100:], f"Content-Range: bytes 100-{len(BODY) - 1}/{len(BODY)}")
    assert isinstance(await outcome(says(part)), UnavailableError)


# --- size ---------------------------------------------------------------------------------------------------------


async def test_declared_10_gb_is_refused_before_a_byte_is_read() -> None:
    async with serve(says(answer(200, b"x", length=10 << 30))) as server, client(server) as http:
        with pytest.raises(TooLargeError) as large:
            await fetch(http, server)
        assert str(10 << 30) in str(large.value)


async def test_resumed_part_counts_with_what_came_before() -> None:
    part = answer(206, b"", f"Content-Range: bytes {QUICK.max_size}-{QUICK.max_size + 9}/*", length=10)
    async with serve(says(part)) as server, client(server) as http:
        with pytest.raises(TooLargeError):
            await fetch(http, server, offset=QUICK.max_size, etag='"e"')


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Connection: close"])
async def test_endless_body_is_stopped_at_the_limit_in_bounded_memory(framing: bytes) -> None:
    block = b"\xff" * 65536
    chunk = b"10000\r\n" + block + b"\r\n" if b"chunked" in framing else block
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def script(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        while not writer.is_closing():
            writer.write(chunk)
            await writer.drain()

    async with serve(script) as server, client(server) as http:
        with pytest.raises(TooLargeError):
            await fetch(http, server)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


async def test_compressed_body_is_delivered_as_it_is_and_never_unpacked() -> None:
    bomb = gzip.compress(b"\0" * (50 << 20))
    async with (
        serve(says(answer(200, bomb, "Content-Encoding: gzip"))) as server,
        client(server) as http,
        http.media(server.origin + SIGNED) as media,
    ):
        assert media.content_encoding == "gzip"
        assert await whole(media) == bomb


@pytest.mark.parametrize("coding", ["br", "zstd", "deflate", "compress", "x-nonsense"])
async def test_unknown_coding_is_delivered_as_it_is(coding: str) -> None:
    assert await outcome(says(answer(200, b"not really", f"Content-Encoding: {coding}"))) == b"not really"


# --- slowness -----------------------------------------------------------------------------------------------------


async def drip_body(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(200, b"", length=1000))
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)  # slow on purpose


async def drip_chunks(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)  # slow on purpose


async def stall_in_body(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(200, b"x" * 10, length=1000))
    await asyncio.sleep(30)  # slow on purpose


async def drip_headers(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not writer.is_closing():
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.05)  # slow on purpose


async def endless_continue(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)  # as quick as it likes, and without an end


async def silence(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)  # slow on purpose


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (drip_body, TooSlowError),
        (drip_chunks, TooSlowError),
        (stall_in_body, TooSlowError),
        (drip_headers, UnavailableError),
        (endless_continue, UnavailableError),
        (silence, UnavailableError),
    ],
)
async def test_slow_server_is_given_up_while_others_go_on(script: Script, error: type[Exception]) -> None:
    async with serve(script) as slow, serve(says(answer(200, BODY))) as quick, client(slow) as http:
        started = asyncio.get_running_loop().time()
        victim = asyncio.create_task(fetch(http, slow))
        async with client(quick) as other:
            assert await fetch(other, quick) == BODY
        assert not victim.done()
        with pytest.raises(error):
            await victim
        assert asyncio.get_running_loop().time() - started < 5


async def test_our_own_slowness_is_not_held_against_the_server() -> None:
    """The reader encrypts: what it takes its time for must come whole (aio-libs/aiohttp#13348), at any pace."""
    body = BODY * 90
    script = says(answer(200, body, "Connection: keep-alive"))
    async with serve(script) as server, client(server) as http:

        async def read_slowly() -> bytes:
            received = bytearray()
            async with http.media(server.origin + SIGNED) as media:
                async for piece in media.chunks():
                    received += piece
                    await asyncio.sleep(0.4)  # our own slowness is what is tried
            return bytes(received)

        results = await asyncio.gather(*(read_slowly() for _ in range(8)))
        assert all(result == body for result in results)


async def test_rate_is_measured_over_the_time_spent_waiting_for_the_server() -> None:
    body = bytes(6 << 20)
    limits = replace(QUICK, max_size=len(body), minimum_rate=10 << 20)
    async with serve(says(answer(200, body))) as server, client(server, limits=limits) as http:
        received = 0
        async with http.media(server.origin + SIGNED) as media:
            async for piece in media.chunks():
                received += len(piece)
                await asyncio.sleep(0.3)  # our own slowness is what is tried
        assert received == len(body)


async def test_stop_in_mid_body_closes_the_connection() -> None:
    async with serve(drip_body) as server, client(server) as http:
        async with http.media(server.origin + SIGNED) as media:
            async for _ in media.chunks():
                break
        async with asyncio.timeout(10):
            while server.handlers:  # noqa: ASYNC110  the server tells nobody
                await asyncio.sleep(0.01)


# --- what a status means ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, LinkRefusedError) for status in (400, 401, 402, 403, 405, 406, 410, 418, 451, 499)),
        (404, RecordingGoneError),
        *((status, NotReadyError) for status in (202, 204, 205, 409, 423, 425)),
        (429, ThrottledError),
        *((status, UnavailableError) for status in (408, 416, 421, 500, 502, 503, 504, 599, 206, 300, 304)),
    ],
)
async def test_status_of_a_download_says_what_to_do_and_no_query(status: int, error: type[Exception]) -> None:
    budget = RecordingBudget()
    async with (
        serve(
            says(answer(status, b"<Error>Request has expired</Error>" if status not in {202, 204, 205, 304} else b""))
        ) as server,
        client(server, budget=budget) as http,
    ):
        with pytest.raises(error) as refused:
            await fetch(http, server)
    assert "127.0.0.1" in str(refused.value)
    assert "CANARY" not in str(refused.value)
    assert f"{status}" in str(refused.value)
    assert budget.taken == []


async def test_retry_after_of_a_download_is_passed_on() -> None:
    for status in (503, 425):
        result = await outcome(says(answer(status, b"", "Retry-After: 17")))
        assert isinstance(result, TransientError)
        assert result.retry_after is not None
        assert result.retry_after.total_seconds() == 17


async def test_download_counts_against_the_budget_only_where_it_must() -> None:
    budget = RecordingBudget()
    async with serve(says(answer(200, BODY))) as server, client(server, budget=budget) as http:
        await fetch(http, server)
        assert budget.taken == []
        await fetch(http, server, counts_against_budget=True)
        assert budget.taken == [1]


async def test_throttling_by_a_media_host_does_not_stop_the_api() -> None:
    budget = RecordingBudget()
    async with (
        serve(says(answer(429))) as media,
        serve(says(answer(200))) as api,
        client(api, f"127.0.0.1:{media.port}", budget=budget) as http,
    ):
        with pytest.raises(ThrottledError):
            await fetch(http, media)
        assert budget.pauses == []
        with pytest.raises(ThrottledError):
            await fetch(http, media, counts_against_budget=True)
        assert [pause.total_seconds() for pause in budget.pauses] == [5]


async def test_expired_link_in_mid_walk_leaves_the_next_link_usable() -> None:
    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(403, b"<Code>AccessDenied</Code>") if "old" in asked.target else answer(200, BODY))

    async with serve(script) as server, client(server) as http:
        with pytest.raises(LinkRefusedError):
            await fetch(http, server, "/rec?sig=old")
        assert await fetch(http, server, "/rec?sig=fresh") == BODY
