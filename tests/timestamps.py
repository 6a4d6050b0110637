"""A time stamping authority for tests: OpenSSL behind HTTP on loopback, with certificates of its own making."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CONFIG = """
[tsa]
default_tsa = test
[test]
serial = {folder}/serial
digests = sha256
default_policy = 1.2.3.4.1
accuracy = secs:1
ess_cert_id_alg = sha256
signer_digest = sha256
"""


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def certify(
    name: str,
    by: Certified | None = None,
    *,
    authority: bool = False,
    stamps: bool = True,
    since: timedelta = timedelta(days=-1),
    until: timedelta = timedelta(days=365),
) -> Certified:
    """A certificate, issued by another or by itself. `stamps`: with the purpose of time stamping, as RFC 3161 §2.3 demands."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if stamps and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return Certified(builder.sign(by.key if by else key, hashes.SHA256()), key)


@dataclass(slots=True)
class TestAuthority:
    """The server. `spoil` changes an answer before it is sent; `status` other than 200 is sent instead of one."""

    __test__ = False
    folder: Path
    root: Certified
    signer: Certified
    url: str = ""
    status: int = 200
    spoil: Callable[[bytes], bytes] = bytes
    requests: list[bytes] = field(default_factory=list)

    def reply(self, query: bytes) -> bytes:
        """The answer to one request, by `openssl ts`."""
        (self.folder / "query.tsq").write_bytes(query)
        subprocess.run(
            ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-section", "test", "-queryfile", "query.tsq",
             "-signer", "signer.pem", "-inkey", "signer.key", "-out", "reply.tsr"],
            cwd=self.folder, check=True, capture_output=True,
        )  # fmt: skip
        return (self.folder / "reply.tsr").read_bytes()

    async def handle(self, request: web.Request) -> web.Response:
        query = await request.read()
        self.requests.append(query)
        assert request.content_type == "application/timestamp-query"
        if self.status != 200:
            return web.Response(status=self.status)
        answer = await asyncio.to_thread(self.reply, query)
        return web.Response(body=self.spoil(answer), content_type="application/timestamp-reply")


@asynccontextmanager
async def authority(
    folder: Path, signer: Certified | None = None, root: Certified | None = None
) -> AsyncIterator[TestAuthority]:
    """A time stamping authority on loopback, with its root."""
    folder.mkdir(exist_ok=True)
    root = root or certify("Test Root", authority=True)
    signer = signer or certify("Test Time Stamping", root)
    (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")
    (folder / "signer.pem").write_bytes(signer.pem)
    (folder / "signer.key").write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server = TestAuthority(folder, root, signer)
    app = web.Application()
    app.router.add_post("/tsa", server.handle)
    async with serving(app) as base:
        server.url = f"{base}/tsa"
        yield server


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The base URL of `app`, served on a free port of loopback."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
