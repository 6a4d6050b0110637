"""What the benchmarks share: an archive configured in a folder, what was used meanwhile, the machine in one line."""

from __future__ import annotations

import base64
import os
import platform
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from archiver.clock import SystemChance, SystemClock
from archiver.config.load import load
from archiver.config.model import Config
from archiver.custody.keys import generate_signing_key, to_pem
from archiver.database import create_engine, upgrade
from archiver.demo.s3server import S3Server
from archiver.recording import Secret
from archiver.seal.envelope import KEY_SIZE
from archiver.store.s3 import S3Options, make_bucket
from benchmarks.source import ACCOUNT, TOKEN

ACCESS_KEY = Secret("archiver-benchmarks")
SECRET_KEY = Secret("a secret for loopback only")
PROVIDER = "source"
DIRECTORY = "[{id: primary, kind: directory, path: copies}]"


def configure(
    folder: Path, port: int, storage: str, concurrency: int, database: str | None = None, *, providers: str = "",
    custody: str = "", more: str = "", hook: str = "",
) -> Config:  # fmt: skip
    """Keys, secrets, a configuration and an up-to-date database in `folder`, which is made; SQLite unless `database`.

    `providers`, `custody` and `more` are lines beside those that every benchmark has. `hook`: the content of a secret.
    """
    folder.mkdir()
    database = database or f"sqlite:///{folder}/archiver.db"
    chance = SystemChance()
    secrets = {
        "custody.pem": to_pem(generate_signing_key(chance)),
        "seal.key": base64.b64encode(chance.token(KEY_SIZE)),
        "db": database.encode(),
        "token": TOKEN.encode(),
        "s3": SECRET_KEY.reveal().encode(),
        "hook": hook.encode(),
    }
    for name, secret in secrets.items():
        (folder / name).write_bytes(secret)
        (folder / name).chmod(0o400)
    since = (SystemClock().now() - timedelta(days=30)).date()
    path = folder / "archiver.yaml"
    path.write_text(
        f"""\
version: 1
instance: benchmark
database: file:db
state_dir: state
providers:
  - {{id: {PROVIDER}, kind: vobiz, base_url: "http://127.0.0.1:{port}", allow_http: true, allow_private_addresses: true,
     rate: 100000/s, concurrency: {concurrency}, backfill_from: {since}, retention: 365d,
     auth_id: {ACCOUNT}, auth_token: file:token}}
{providers}
storage: {storage}
encryption:
  recipients: [{{id: local, kind: aes-kw-256, key: file:seal.key}}]
  identities: [{{id: local, key: file:seal.key}}]
custody: {{signing_key: file:custody.pem{custody}}}
retention: {{default: 2d}}
{more}
"""
    )
    config = load(path, resolve_secrets=True)
    Path(config.state_dir).mkdir(mode=0o700)
    engine = create_engine(database, Path(config.state_dir))
    upgrade(engine)
    engine.dispose()
    return config


def new_bucket(server: S3Server, name: str = "primary", endpoint: str | None = None, more: str = "") -> str:
    """The storage section for a new bucket with Object Lock, compliance mode; `endpoint`: by another way."""
    bucket = f"benchmark-{SystemChance().uuid()}"
    options = S3Options(
        "primary", bucket, endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key
    )
    make_bucket(options)
    return (
        f'{{id: {name}, kind: s3, endpoint: "{endpoint or server.endpoint}", bucket: {bucket}, prefix: calls/, '
        f"access_key: {server.access_key.reveal()}, secret_key: file:s3, object_lock: {{mode: compliance}}{more}}}"
    )


@dataclass(frozen=True, slots=True)
class Used:
    """Seconds on the wall and on this process's CPUs, user and system."""

    wall: float
    cpu: float


class Meter:
    """Reads what this process, its servers excluded, has used since the meter was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu()

    def read(self) -> Used:
        return Used(time.perf_counter() - self._wall, _cpu() - self._cpu)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_rss() -> float:
    """MiB, since this process began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def spread(values: Sequence[float], digits: int = 2) -> str:
    """min / median / max."""
    return " / ".join(f"{each:.{digits}f}" for each in (min(values), statistics.median(values), max(values)))


def machine() -> str:
    """The processor, its number, the system and Python."""
    model = next(
        (line.partition(":")[2].strip() for line in _cpuinfo().splitlines() if line.startswith("model name")), "unknown"
    )
    return (
        f"{model}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
