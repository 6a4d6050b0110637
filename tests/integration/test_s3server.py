"""The SeaweedFS launcher: what was stored outlives a restart, https with a CA of one's own, nothing left running."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.demo.s3server import Certificate, S3Server
from archiver.recording import Lock, LockMode, Secret
from archiver.store.s3 import S3Options, S3Store, make_bucket
from tests.sealed_files import pattern, read_all, sealed_file

KEYS = Secret("restart"), Secret("a secret for loopback")
KEY = "recordings/2026/05/ab/abcdef"


def options_for(server: S3Server, ca: Path | None = None) -> S3Options:
    return S3Options(
        id="primary",
        bucket="recordings",
        endpoint=server.endpoint,
        access_key=KEYS[0],
        secret_key=KEYS[1],
        ca_bundle=ca,
        multipart_threshold=5 * 2**20,
        single_limit=5 * 2**20,
        part_size=5 * 2**20,
    )


def lock() -> Lock:
    return Lock(LockMode.COMPLIANCE, datetime.now(UTC) + timedelta(days=1))


async def test_objects_and_locks_outlive_a_restart(tmp_path: Path) -> None:
    file = sealed_file(tmp_path, pattern(100_000))
    server = S3Server(tmp_path / "s3", *KEYS)
    with server:
        make_bucket(options_for(server))
        store = S3Store(options_for(server), SystemClock(), SystemChance())
        stored = await file.put(store, KEY, lock())
        await store.aclose()
        process = server._process
    assert process is not None
    assert process.poll() is not None
    with server:
        store = S3Store(options_for(server), SystemClock(), SystemChance())
        assert await read_all(store, stored) == file.path.read_bytes()
        seen = await store.inspect(stored.key, stored.version_id)
        assert seen is not None
        assert (seen.lock_mode, seen.retain_until) == (stored.lock_mode, stored.retain_until)
        await store.aclose()


async def test_https_with_a_ca_of_ones_own(tmp_path: Path) -> None:
    """Over TLS too no body is signed and no trailer is sent, and a server that the CA does not vouch for is not believed."""
    ca, certificate = _certificates(tmp_path)
    with S3Server(tmp_path / "s3", *KEYS, tls=certificate) as server:
        assert server.endpoint.startswith("https://")
        make_bucket(options_for(server, ca))
        store = S3Store(options_for(server, ca), SystemClock(), SystemChance())
        report = await store.probe()
        assert report.trusted, report
        for size in (1000, 6 * 2**20):
            file = sealed_file(tmp_path, pattern(size))
            stored = await file.put(store, f"{KEY}{size}", lock())
            assert await read_all(store, stored) == file.path.read_bytes()
        await store.aclose()
        stranger = S3Store(options_for(server), SystemClock(), SystemChance())
        with pytest.raises(errors.DestinationError, match="SSLError"):
            await stranger.probe()
        await stranger.aclose()


def test_ca_bundle_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="primary"):
        S3Store(
            S3Options(id="primary", bucket="b", endpoint="https://127.0.0.1:1", ca_bundle=tmp_path / "none.pem"),
            SystemClock(),
            SystemChance(),
        )


def _certificates(folder: Path) -> tuple[Path, Certificate]:
    now = datetime.now(UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )

    authority = builder(ca_name, ca_key.public_key(), ca=True).sign(ca_key, hashes.SHA256())
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    server = builder(name, key.public_key(), ca=False).add_extension(host, critical=False).sign(ca_key, hashes.SHA256())
    paths = folder / "ca.pem", folder / "server.pem", folder / "server.key"
    paths[0].write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(server.public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths[0], Certificate(paths[1], paths[2])
