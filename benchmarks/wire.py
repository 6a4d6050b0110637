"""One recording put and read back: by the SDK and without it, interleaved in one process, over http and TLS.

The server is a process of its own that takes any bytes and shows what was put; only this process is measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import multiprocessing
import resource
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from archiver.clock import SystemClock
from archiver.recording import Lock, LockMode, Secret
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_client import S3Options
from archiver.store.s3_upload import Item, Profile
from archiver.store.s3_vault import Vault
from benchmarks.setting import spread

SIZES = {"100 kB": 100_000, "1 MB": 1_000_000, "3 MB": 3_000_000}
_KEYS = (Secret("archiver-benchmarks"), Secret("a secret for loopback only"))
_PROVED = Profile(conditional_single=True, conditional_multipart=True, checksum_proves=True)


def main(count: int, repetitions: int) -> None:
    """Print CPU ms of PUT and HEAD for each size, both ways."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for tls in (False, True):
            with _server(folder, tls=tls) as (port, bundle):
                scheme = "https" if tls else "http"
                for label, size in SIZES.items():
                    _compare(folder, f"{scheme}://127.0.0.1:{port}", bundle, (scheme, label, size), count, repetitions)


def _compare(
    folder: Path, endpoint: str, bundle: Path | None, what: tuple[str, str, int], count: int, repetitions: int
) -> None:
    scheme, label, size = what
    options = S3Options(
        "primary", "bucket", endpoint=endpoint, access_key=_KEYS[0], secret_key=_KEYS[1], ca_bundle=bundle
    )
    bucket = Bucket(replace(options, addressing="path"))
    vault = Vault(bucket, options, SystemClock())
    vault.profile = _PROVED
    path = folder / "object"
    path.write_bytes(bytes(size))
    digest = hashlib.sha256(bytes(size)).hexdigest()
    lock = Lock(LockMode.COMPLIANCE, datetime.now(UTC) + timedelta(days=2))
    spent: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(repetitions + 1):
        for wire in (False, True):
            bucket.trust(proved=wire)
            before = _cpu()
            for n in range(count):
                vault.put_once(Item(f"recordings/{size}/{turn}/{wire}/{n}", path, size, digest, lock))
            if turn:  # the first one warms up
                spent[wire].append((_cpu() - before) / count * 1000)
    bucket.close()
    ratios = [old / new for old, new in zip(spent[False], spent[True], strict=True)]
    print(f"{scheme} {label}: SDK {spread(spent[False])} ms, without {spread(spent[True])} ms, ratio {spread(ratios)}")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- the server -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _server(folder: Path, *, tls: bool) -> Iterator[tuple[int, Path | None]]:
    chain = _certificate(folder) if tls else None
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, chain), daemon=True)
    process.start()
    try:
        yield ours.recv(), chain
    finally:
        process.kill()
        process.join()


def _serve(told: Connection, chain: Path | None) -> None:
    import threading

    listener = socket.create_server(("127.0.0.1", 0))
    told.send(listener.getsockname()[1])
    context = None
    if chain is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
    kept: dict[str, str] = {}
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            client = context.wrap_socket(client, server_side=True)
        threading.Thread(target=_talk, args=(client, kept), daemon=True).start()


def _talk(client: socket.socket, kept: dict[str, str]) -> None:
    """Answer as S3 does: a PUT with a version, a HEAD with what was put."""
    buffer = memoryview(bytearray(1 << 20))
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            if not (more := client.recv(65536)):
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        method, target, _ = lines[0].split(" ")
        key, version = target.partition("?")[0], "x-amz-version-id: v1\r\n"
        if method == "HEAD":
            client.sendall(f"HTTP/1.1 200 OK\r\n{kept[key]}{version}\r\n".encode())
            continue
        if "expect" in fields:
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = int(fields["content-length"])
        left, data = size - len(data[:size]), data[size:]
        while left and (count := client.recv_into(buffer, min(left, len(buffer)))):
            left -= count
        shown = {n: v for n, v in fields.items() if n.startswith(("x-amz-object-lock-", "x-amz-checksum-sha256"))}
        kept[key] = f"Content-Length: {size}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in shown.items())
        client.sendall(f'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "x"\r\n{version}\r\n'.encode())


def _certificate(folder: Path) -> Path:
    """Write a certificate that vouches for itself, with its key, and return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "chain.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, form, plain)
    )
    return path
