"""Sends an `Answer` over the connection, also answers that no well-behaved server would send."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

from aiohttp import web

from archiver.demo.simulators.answer import Answer, Framing

PIECE = 65_536
ROOM = 4 * PIECE


async def deliver(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Sends `answer` to the client. For an odd answer the connection is written by hand and ends with the answer."""
    if answer.delay:
        await asyncio.sleep(answer.delay)  # slow, as the fault says
    if answer.ordinary or request.method == "HEAD":
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    transport = request.transport
    if isinstance(transport, asyncio.Transport):
        await _by_hand(transport, answer)
    return web.Response()  # the connection is closed: aiohttp finds that out and drops this


async def _by_hand(transport: asyncio.Transport, answer: Answer) -> None:
    if not answer.lost:
        transport.write(_head(answer))
        for piece in _pieces(answer):
            transport.write(piece)
            await _drained(transport)
            if transport.is_closing():
                return
            if answer.pace:
                await asyncio.sleep(answer.pace[1])  # slow, as the fault says
        await _drained(transport, room=1)
    if answer.reset:
        # RST instead of FIN: linger for no time at all
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()


async def _drained(transport: asyncio.Transport, room: int = ROOM) -> None:
    """Waits until fewer than `room` bytes are unsent, or the client is gone."""
    while transport.get_write_buffer_size() >= room and not transport.is_closing():  # noqa: ASYNC110 - aiohttp owns the protocol, and with it the drain event
        await asyncio.sleep(0.005)
    await asyncio.sleep(0)


def _head(answer: Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {answer.reason}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    if answer.framing is Framing.LENGTH:
        lines.append(f"Content-Length: {len(answer.body) if answer.declared is None else answer.declared}")
    elif answer.framing is Framing.CHUNKED:
        lines.append("Transfer-Encoding: chunked")
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


def _pieces(answer: Answer) -> Iterator[bytes]:
    body = answer.body if answer.cut is None else answer.body[: answer.cut]
    size = answer.pace[0] if answer.pace else PIECE
    while True:
        for start in range(0, len(body), size):
            piece = body[start : start + size]
            yield b"%x\r\n%s\r\n" % (len(piece), piece) if answer.framing is Framing.CHUNKED else piece
        if not answer.endless:
            break
    if answer.framing is Framing.CHUNKED and answer.cut is None:
        yield b"0\r\n\r\n"
