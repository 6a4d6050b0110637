"""S3 servers for tests: SeaweedFS, which enforces what it promises, and moto, which does not. A bucket for each test."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from archiver.clock import SystemChance
from archiver.demo.s3server import S3Server
from archiver.recording import LockMode, Secret
from archiver.store.s3 import S3Options, make_bucket
from tests.lying_s3 import LyingS3

ACCESS_KEY = Secret("archiver-tests")
SECRET_KEY = Secret("a secret for loopback only")

NewBucket = Callable[..., S3Options]
"""Makes a bucket and returns the options to reach it. `locked=False` leaves Object Lock and versioning off."""


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a SeaweedFS server."""
    with S3Server(tmp_path_factory.mktemp("seaweedfs"), ACCESS_KEY, SECRET_KEY) as server:
        yield server.endpoint


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a moto server, in a process of its own: our warnings filter would turn its warnings into failures."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) as connection:
            try:
                connection.request("GET", "/moto-api/")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.1)  # moto does not say when it listens
    pytest.fail(f"moto did not start: {log.read_text()[-500:]}")


def bucket_at(endpoint: str, *, locked: bool = True, **changes: object) -> S3Options:
    """A fresh bucket at `endpoint`, and how to reach it."""
    options = S3Options(
        id="primary",
        bucket=f"test-{SystemChance().uuid()}",
        endpoint=endpoint,
        prefix="calls/",
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        lock_mode=LockMode.COMPLIANCE if locked else LockMode.OFF,
    )
    make_bucket(options)
    return replace(options, **changes)  # type: ignore[arg-type]


@pytest.fixture
def new_bucket(seaweedfs: str) -> NewBucket:
    """Buckets at SeaweedFS."""
    return lambda **changes: bucket_at(seaweedfs, **changes)


@pytest.fixture
def s3_options(new_bucket: NewBucket) -> S3Options:
    """A fresh bucket with Object Lock at SeaweedFS, compliance mode."""
    return new_bucket()


@pytest.fixture
def lying_s3(seaweedfs: str) -> Iterator[LyingS3]:
    """SeaweedFS behind a proxy that lies as told."""
    with LyingS3(seaweedfs, ACCESS_KEY, SECRET_KEY) as proxy:
        yield proxy
