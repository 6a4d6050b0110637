"""A small real SMTP server on loopback that fails the way a test wants, and keeps what it took."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage


@dataclass(slots=True)
class Mailbox:
    """What the server took, and how it is to fail."""

    port: int = 0
    taken: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    connections: int = 0
    offers_starttls: bool = True
    refuse_data: bytes = b""
    refuse_recipients: frozenset[str] = frozenset()
    drop_after_data: int = 0
    silent: bool = False


@asynccontextmanager
async def mail_server(tls: ssl.SSLContext | None = None, *, implicit: bool = False) -> AsyncIterator[Mailbox]:
    """Serve until the end of the block; `tls` is offered by STARTTLS, or from the start with `implicit`."""
    box = Mailbox()
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        box.connections += 1
        try:
            await _session(box, reader, writer, None if implicit else tls, secure=implicit)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    listener = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls if implicit else None)
    box.port = listener.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


async def _session(
    box: Mailbox,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    tls: ssl.SSLContext | None,
    *,
    secure: bool,
) -> None:
    async def say(line: bytes) -> None:
        writer.write(line + b"\r\n")
        await writer.drain()

    if box.silent:
        await asyncio.Event().wait()
    await say(b"220 test")
    to: list[str] = []
    while True:
        line = (await reader.readuntil(b"\r\n")).strip()
        verb = line.split(b" ", 1)[0].upper()
        if verb == b"EHLO":
            offers = [b"test", *([b"STARTTLS"] if tls and box.offers_starttls and not secure else []), b"AUTH PLAIN"]
            for offer in offers[:-1]:
                await say(b"250-" + offer)
            await say(b"250 " + offers[-1])
        elif verb == b"STARTTLS":
            await say(b"220 go ahead")
            assert tls is not None
            await writer.start_tls(tls)
            secure = True
        elif verb == b"AUTH":
            _, user, password = base64.b64decode(line.split(b" ")[2]).decode().split("\0")
            box.logins.append((user, password))
            await say(b"235 ok" if password == "right" else b"535 no, password=s3cret is wrong")
        elif verb == b"RCPT":
            address = line.partition(b"<")[2].rstrip(b">").decode()
            if address in box.refuse_recipients:
                await say(b"550 <" + address.encode() + b"> unknown")
            else:
                to.append(address)
                await say(b"250 ok")
        elif verb == b"DATA":
            await say(b"354 go")
            raw = await reader.readuntil(b"\r\n.\r\n")
            if box.refuse_data:
                await say(box.refuse_data)
                return
            box.taken.append(email.message_from_bytes(raw[:-5], policy=email.policy.default))
            box.recipients.append(to)
            box.encrypted.append(secure)
            if box.drop_after_data:
                box.drop_after_data -= 1
                return
            await say(b"250 taken")
        elif verb == b"QUIT":
            await say(b"221 bye")
            return
        else:  # MAIL, RSET, NOOP
            await say(b"250 ok")
