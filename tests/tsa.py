"""A time stamping authority from `openssl ts` and certificates of any age."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CONFIG = """
[tsa]
default_tsa = this
[this]
serial = {folder}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def openssl(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=60)


@dataclass(frozen=True)
class Authority:
    """`root` is its own certificate authority's, `chain` what a receiver needs besides."""

    folder: Path
    root: bytes
    chain: bytes

    def stamp(self, data: bytes) -> tuple[bytes, bytes]:
        """Request and response over `data`."""
        (self.folder / "data").write_bytes(data)
        asked = openssl("ts", "-query", "-data", self.folder / "data", "-sha256", "-cert")
        (self.folder / "query").write_bytes(asked.stdout)
        made = openssl(
            "ts", "-reply", "-config", self.folder / "tsa.cnf", "-queryfile", self.folder / "query",
            "-signer", self.folder / "tsa.pem", "-inkey", self.folder / "tsa.key",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        return asked.stdout, made.stdout


def authority(folder: Path, since: timedelta = timedelta(days=-10), until: timedelta = timedelta(days=10)) -> Authority:
    """A fresh one, whose signing certificate is valid from now + `since` to now + `until`."""
    folder.mkdir(parents=True)
    now = datetime.now(UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("Test root", "Test TSA")]
    root_key, key = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))

    def certificate(number: int, subject_key: rsa.RSAPrivateKey, start: datetime, end: datetime) -> x509.Certificate:
        builder = x509.CertificateBuilder().issuer_name(names[0]).subject_name(names[number])
        builder = builder.public_key(subject_key.public_key()).serial_number(1000 + number)
        builder = builder.not_valid_before(start).not_valid_after(end)
        if number:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
            builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=not number, path_length=None), critical=True)
        return builder.sign(root_key, hashes.SHA256())

    root = certificate(0, root_key, now - timedelta(days=365), now + timedelta(days=3650)).public_bytes(Encoding.PEM)
    leaf = certificate(1, key, now + since, now + until).public_bytes(Encoding.PEM)
    (folder / "tsa.pem").write_bytes(leaf)
    (folder / "tsa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")
    return Authority(folder, root, leaf)
