"""What the chain of custody costs: the log under load, proofs out of large trees, a bundle made and verified. Both databases."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archiver.assembly import assemble
from archiver.config.model import Config
from archiver.daemon import Daemon
from archiver.database import create_engine, upgrade
from archiver.errors import Exit
from archiver.evidence import standalone
from benchmarks import log, proofs
from benchmarks.setting import DIRECTORY, configure, spread
from benchmarks.source import source
from benchmarks.sweep import postgresql

_AIMS = {"SQLite": 300, "PostgreSQL": 1000}
_SIZE = 1_000_000


async def main(seconds: int, leaves: int, repetitions: int) -> None:
    """Run and print, on SQLite and on PostgreSQL."""
    with tempfile.TemporaryDirectory() as home, postgresql() as server, source(1, _SIZE) as port:
        for name, aim in _AIMS.items():
            folder = Path(tempfile.mkdtemp(dir=home))
            urls = [f"sqlite:///{folder}/{use}.db" if name == "SQLite" else _database(server, use) for use in _USES]
            for url in urls[:2]:
                engine = create_engine(url, None)
                upgrade(engine)
                engine.dispose()
            await log.main(name, urls[0], folder, aim, seconds, repetitions)
            proofs.main(name, urls[1], leaves, repetitions)
            await bundle(name, configure(folder / "archive", port, DIRECTORY, 1, urls[2]), folder, repetitions)


_USES = ("log", "proofs", "bundle")


def _database(server: str, name: str) -> str:
    """A new database beside the server's own."""
    engine = create_engine(server, None)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    url = engine.url.set(database=name).render_as_string(hide_password=False)
    engine.dispose()
    return url


async def bundle(name: str, config: Config, folder: Path, repetitions: int) -> None:
    """One recording out of an archive: seconds of `archiver export evidence`, and of verifying what it made."""
    assembly = await assemble(config)
    done = await Daemon(assembly).once()
    await assembly.aclose()
    assert done.exit_code is Exit.OK, done
    path = str(folder / "archive" / "archiver.yaml")
    ids = [row["id"] for row in _archiver(path, "recordings", "list")]
    head = _archiver(path, "custody", "checkpoint")
    made, inside, alone, bare = [], [], [], []
    for number in range(repetitions):
        target = folder / f"bundle-{number}"
        command = ["export", "evidence", ids[0], "-O", str(target), "--reason", "benchmark", "--yes"]
        began = time.perf_counter()
        _archiver(path, *command)
        made.append(time.perf_counter() - began)
        began = time.perf_counter()
        found = standalone.examine(target, head["vkey"])
        inside.append(time.perf_counter() - began)
        assert all(mark == "PASS" for mark, _ in found.lines), found.lines
        alone.append(_verify(target, head["vkey"]))
        bare.append(_verify(target, head["vkey"], "-S"))
    print(f"\n{name}, bundle of one recording of {_SIZE:,} bytes, s (min / median / max):")
    print(f"  archiver export evidence           {spread(made)}")
    print(f"  verified in process                {spread(inside)}")
    print(f"  python3 -I verify_custody.py       {spread(alone)}")
    print(f"  the same without cryptography      {spread(bare)}")
    print(
        f"  made and verified                  {spread([a + b for a, b in zip(made, alone, strict=True)])}", flush=True
    )


def _archiver(path: str, *arguments: str) -> Any:
    command = [sys.executable, "-m", "archiver", "-c", path, "-o", "json", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)["data"]


def _verify(target: Path, key: str, *options: str) -> float:
    """Seconds of the bundle's own verifier, its interpreter's start included."""
    command: Sequence[str] = [sys.executable, "-I", *options, "verify_custody.py", ".", "--log-key", key]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=target, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return time.perf_counter() - began
