"""Real servers on loopback that say exactly what a test makes them say, and remember what they were asked."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from archiver.clock import SystemClock
from archiver.providers.http import HttpClient, Limits, UnlimitedBudget


@dataclass(slots=True)
class Asked:
    """One request as it came over the wire."""

    line: str
    headers: dict[str, str]
    raw: bytes

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


Script = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """A listening server: its address and its memory."""

    port: int
    scheme: str = "http"
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    handlers: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def origin(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@asynccontextmanager
async def serve(script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    """Answer every request by `script`; a script that returns keeps the connection, one that closes it ends it."""
    server = Server(0, "https" if tls else "http")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        server.handlers.add(task)
        server.connections += 1
        try:
            while not writer.is_closing():
                raw = await reader.readuntil(b"\r\n\r\n")
                lines = raw.decode("latin-1").split("\r\n")
                headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:] if line)}
                server.asked.append(Asked(lines[0], headers, raw))
                if "content-length" in headers:
                    server.asked[-1].raw += await reader.readexactly(int(headers["content-length"]))
                await script(server.asked[-1], writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            server.handlers.discard(task)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await writer.wait_closed()

    listener = await asyncio.start_server(talk, host, 0, ssl=tls, limit=1 << 20)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(server.handlers):
            task.cancel()
        await asyncio.gather(*server.handlers, return_exceptions=True)
        await listener.wait_closed()


def says(*pieces: bytes, close: bool = False, reset: bool = False) -> Script:
    """A script that writes `pieces`, each in a segment of its own, then keeps, closes or resets the connection."""

    async def script(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.01)  # TCP tells nobody when a segment was read: else two become one
        if reset:
            reset_connection(writer)
        elif close:
            writer.close()

    return script


def reset_connection(writer: asyncio.StreamWriter) -> None:
    """End with RST instead of FIN."""
    import socket
    import struct

    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def answer(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """An HTTP/1.1 answer with Content-Length."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


QUICK = Limits(
    connect_timeout=timedelta(seconds=2),
    read_timeout=timedelta(seconds=1),
    answer_time=timedelta(seconds=2),
    max_answer=64 * 1024,
    max_size=1 << 20,
    minimum_rate=100_000,
    rate_window=timedelta(seconds=0.3),
)


class RecordingBudget(UnlimitedBudget):
    """Remembers what was taken and how long it was told to pause; never waits."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []
        self.pauses: list[timedelta] = []

    async def take(self, cost: int = 1) -> None:
        self.taken.append(cost)

    async def pause(self, wait: timedelta) -> None:
        self.pauses.append(wait)


@asynccontextmanager
async def client(server: Server, *media_hosts: str, **settings: Any) -> AsyncIterator[HttpClient]:
    """A client of `server` that may reach loopback over http, with quick limits."""
    options: dict[str, Any] = {
        "allow_http": True,
        "allow_private_addresses": True,
        "limits": QUICK,
        "budget": UnlimitedBudget(),
        **settings,
    }
    made = HttpClient(
        provider="acme",
        origin=options.pop("origin", server.origin),
        media_hosts=media_hosts,
        clock=SystemClock(),
        **options,
    )
    try:
        yield made
    finally:
        await made.aclose()


# --- certificates -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of the test's own; `bundle` is what a client must trust."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    folder: Path

    @property
    def bundle(self) -> Path:
        return self.folder / "ca.pem"

    def context(
        self, *, names: Sequence[str] = ("127.0.0.1",), days: int = 1, self_signed: bool = False
    ) -> ssl.SSLContext:
        """A server context whose certificate is for `names` and ends `days` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = None if self_signed else self
        certificate = _certificate(key, names, days, issuer)
        chain = self.folder / f"{certificate.serial_number:x}.pem"
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + _pem(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context


def authority(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    made = Authority(key, _certificate(key, (), 1, None), folder)
    made.bundle.write_bytes(made.certificate.public_bytes(serialization.Encoding.PEM))
    return made


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(
    key: ec.EllipticCurvePrivateKey, names: Sequence[str], days: int, issuer: Authority | None
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "Test CA")])
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, not names, not names, False, False),
            critical=True,
        )
    )
    if names:
        alternatives = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(signer, hashes.SHA256())
