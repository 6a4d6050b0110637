"""HTTP that curl, requests and browsers read is read: first strictly, then with a mended head, under the same guards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from archiver.errors import CutShortError, EgressRefusedError, LinkRefusedError, TooLargeError, UnavailableError
from archiver.providers.http import Download
from archiver.providers.http_mended import head_ends, mended
from tests.http_servers import Asked, RecordingBudget, answer, authority, client, says, serve

BODY = bytes(range(256)) * 8
CHUNKED = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d" % len(BODY)
FRAMED, UNFRAMED = True, False

READ = {
    "length beside chunked": (OK + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED, FRAMED),
    "chunked before length": (OK + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n\r\n" + CHUNKED, FRAMED),
    "chunked twice": (OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED, FRAMED),
    "length twice": (OK + LENGTH + b"\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "length as a list": (OK + LENGTH + b", %d\r\n\r\n" % len(BODY) + BODY, FRAMED),
    "two lengths": (OK + LENGTH + b"\r\nContent-Length: 6\r\n\r\n" + BODY, UNFRAMED),
    "a length that is none": (OK + b"Content-Length: 5x\r\n\r\n" + BODY, UNFRAMED),
    "a length below nothing": (OK + b"Content-Length: -1\r\n\r\n" + BODY, UNFRAMED),
    "a length of 26 digits": (OK + b"Content-Length: 99999999999999999999999999\r\n\r\n" + BODY, UNFRAMED),
    "a header of 100 kB": (OK + b"X: " + b"a" * 100_000 + b"\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "500 headers": (OK + b"".join(b"X-%d: 1\r\n" % n for n in range(500)) + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "a space in a name": (OK + b"X Powered By: x\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "a space after a name": (OK + b"Server : x\r\nContent-Length : %d\r\n\r\n" % len(BODY) + BODY, FRAMED),
    "a line without a colon": (OK + b"Bad Header\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "an empty name": (OK + b": x\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "a NUL in a value": (OK + b"X: a\0b\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "a folded line": (OK + b"X: a\r\n  b\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "bare line feeds": (b"HTTP/1.1 200 OK\n" + LENGTH + b"\n\n" + BODY, FRAMED),
    "line feeds and both": (b"HTTP/1.1 200 OK\n" + LENGTH + b"\r\nServer: x\n\r\n" + BODY, FRAMED),
    "no reason": (b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "an empty line first": (b"\r\n\r\n" + OK + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "two spaces": (b"HTTP/1.1  200  OK\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "small letters": (b"http/1.1 200 ok\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "no minor version": (b"HTTP/1 200 OK\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "a version to come": (b"HTTP/3.0 200 OK\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "a streaming server": (b"ICY 200 OK\r\n\r\n" + BODY, UNFRAMED),
    "early hints": (b"HTTP/1.1 103 Early Hints\r\nX Y: 1\r\n\r\n" + OK + b"X Y: 1\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "status 203": (b"HTTP/1.1 203 X\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "status 201": (b"HTTP/1.1 201 X\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "status 226": (b"HTTP/1.1 226 X\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "status 299": (b"HTTP/1.1 299 X\r\n" + LENGTH + b"\r\n\r\n" + BODY, FRAMED),
    "the whole as a part": (
        b"HTTP/1.1 206 X\r\nContent-Range: bytes 0-%d/%d\r\n" % (len(BODY) - 1, len(BODY)) + LENGTH + b"\r\n\r\n" + BODY,
        FRAMED,
    ),
}  # fmt: skip


@asynccontextmanager
async def opened(sent: bytes, **how: Any) -> AsyncIterator[Download]:
    async with (
        serve(says(sent, close=True)) as server,
        client(server) as http,
        http.media(f"{server.origin}/m.mp3?token=CANARY", **how) as media,
    ):
        yield media


async def whole(media: Download) -> bytes:
    return b"".join([piece async for piece in media.chunks()])


@pytest.mark.parametrize("name", READ)
async def test_answer_that_other_clients_read_is_read_to_its_last_byte(name: str) -> None:
    sent, framed = READ[name]
    async with opened(sent) as media:
        assert await whole(media) == BODY
        assert media.framed is framed
        assert not any("x-archiver" in each for each in media.headers)


async def test_answer_that_is_in_order_is_asked_for_once_and_an_odd_one_twice_and_paid_for_twice() -> None:
    odd = OK + LENGTH + b"\r\n" + LENGTH + b"\r\n\r\n"
    for head, times in ((OK + LENGTH + b"\r\n\r\n", 1), (odd, 2)):
        budget = RecordingBudget()
        async with serve(says(head + BODY, close=True)) as server, client(server, budget=budget) as http:
            got = await http.request("GET", "/v1", endpoint="list")
            assert (got.body, len(server.asked), budget.taken) == (BODY, times, [1] * times)


async def test_head_that_comes_in_single_bytes_is_mended_all_the_same() -> None:
    head = OK + b"X Y: 1\r\n" + LENGTH + b"\r\n\r\n"

    async def drips(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        for byte in head:
            writer.write(bytes([byte]))
            await writer.drain()
        writer.write(BODY)
        writer.close()

    async with serve(drips) as server, client(server) as http, http.media(f"{server.origin}/m") as media:
        assert b"".join([piece async for piece in media.chunks()]) == BODY


async def test_listing_with_a_wrong_length_or_no_last_chunk_is_whole_when_its_document_is() -> None:
    document = b'{"objects": [{"recording_id": "a"}]}\n'
    longer = answer(200, document, length=len(document) + 10)
    endless = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(document) + document + b"\r\n"
    for sent in (longer, endless):
        async with serve(says(sent, close=True)) as server, client(server) as http:
            assert (await http.request("GET", "/v1", endpoint="list")).json() == {"objects": [{"recording_id": "a"}]}
    async with serve(says(answer(200, document[:20], length=99), close=True)) as server, client(server) as http:
        with pytest.raises(UnavailableError):
            await http.request("GET", "/v1", endpoint="list")


# --- the same guards ----------------------------------------------------------------------------------------------

ODD = b"X Y: 1\r\n"


async def test_mended_redirect_leads_nowhere_that_the_policy_forbids() -> None:
    for place in ("http://169.254.169.254/x", "http://evil.example/x"):
        moved = b"HTTP/1.1 302 X\r\n" + ODD + b"Location: " + place.encode() + b"\r\nContent-Length: 0\r\n\r\n"
        async with serve(says(moved, close=True)) as server, client(server) as http:
            with pytest.raises(EgressRefusedError):
                async with http.media(f"{server.origin}/m"):
                    pass


async def test_mended_answer_is_held_to_the_same_size_and_its_refusal_to_the_same_meaning() -> None:
    large = OK + ODD + b"Content-Length: 10000000000\r\n\r\n"
    endless = OK + ODD + b"\r\n" + bytes(2 << 20)
    for sent in (large, endless):
        with pytest.raises(TooLargeError):
            async with opened(sent) as media:
                await whole(media)
    with pytest.raises(LinkRefusedError):
        async with opened(b"HTTP/1.1 403 X\r\n" + ODD + b"\r\n"):
            pass


async def test_head_without_an_end_is_given_up_at_256_kib_and_at_the_time_limit() -> None:
    async def floods(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + ODD)
        while not writer.is_closing():
            writer.write(b"X-Y: 1\r\n" * 1000)
            await writer.drain()

    async def stands(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 1\r\nContent-Length: 1\r\n")
        writer.write(b"" if len(odd.asked) > 1 else b"\r\nx")

    for script in (floods, stands):
        async with serve(script) as odd, client(odd) as http:
            with pytest.raises(UnavailableError):
                async with http.media(f"{odd.origin}/m"):
                    pass


async def test_mended_answer_comes_over_tls_from_the_named_server_only(tmp_path: Path) -> None:
    ca = authority(tmp_path)
    sent = says(OK + ODD + LENGTH + b"\r\n\r\n" + BODY, close=True)
    async with (
        serve(sent, ca.context()) as server,
        client(server, ca_bundle=ca.bundle) as http,
        http.media(f"{server.origin}/m") as media,
    ):
        assert await whole(media) == BODY
    async with serve(sent, ca.context(names=("other.example",))) as server, client(server, ca_bundle=ca.bundle) as http:
        with pytest.raises(UnavailableError, match="TLS"):
            async with http.media(f"{server.origin}/m"):
                pass


# --- to the end ---------------------------------------------------------------------------------------------------


async def test_read_to_the_end_brings_what_came_and_tells_what_was_stated() -> None:
    for by in (-5, 5):
        got = []
        async with opened(answer(200, BODY, length=len(BODY) + by), to_the_end=True) as media:
            assert media.length == len(BODY) + by
            with suppress(CutShortError):
                async for piece in media.chunks():
                    got.append(piece)  # noqa: PERF401 - what came before the error counts
        assert b"".join(got) == BODY


async def test_length_under_our_own_name_is_not_taken_from_the_other_side() -> None:
    for said in (b"3", b"3x", "³".encode(), b"-3"):
        async with opened(OK + b"X-Archiver-Stated-Length: " + said + b"\r\n\r\n" + BODY, to_the_end=True) as media:
            assert (media.length, media.framed) == (None, False)
    for said in (b"3x", "³".encode(), b"-3"):
        async with opened(OK + b"X-Archiver-Stated-Length: " + said + b"\r\n\r\n" + BODY) as media:
            assert media.length is None


# --- the pure part ------------------------------------------------------------------------------------------------


def test_head_is_mended_to_the_letter() -> None:
    odd = b"\r\nhttp/1.0  200   fine\x07\nA b: c\nServer : x\n y\nContent-Length: 5, 5\n\n"
    assert head_ends(odd + b"hello") == len(odd)
    assert mended(odd) == b"HTTP/1.1 200 fine\r\nserver: x y\r\ncontent-length: 5\r\n\r\n"


def test_what_has_no_status_line_stays_as_it_is_for_the_strict_reader_to_refuse() -> None:
    for head in (b"<html>\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n"):
        assert mended(head) == head


async def test_framing_that_breaks_in_a_later_segment_is_noticed_and_nobody_waits_for_ever() -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n"
    for sent in ((head + b"\r\n", b"ZZ\r\nabc"), (head + ODD + b"\r\n3\r\nabc\r\n", b"ZZ\r\nabc")):
        async with serve(says(*sent)) as server, client(server) as http, asyncio.timeout(5):
            with pytest.raises(CutShortError):
                async with http.media(f"{server.origin}/m") as media:
                    _ = [piece async for piece in media.chunks()]
            with pytest.raises(UnavailableError):
                await http.request("GET", "/v1", endpoint="list")
