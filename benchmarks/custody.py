"""What the chain of custody costs: the log under load, proofs out of large trees, a bundle made and verified. Both databases."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archiver.assembly.process import assemble
from archiver.config.model import Config
from archiver.daemon.supervise import Daemon
from archiver.database import create_engine, upgrade
from archiver.errors import Exit
from archiver.evidence import verifier
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

            def database(use: str, name: str = name, folder: Path = folder) -> str:
                return f"sqlite:///{folder}/{use}.db" if name == "SQLite" else _database(server, use)

            await log.main(name, _upgraded(database("log")), folder, aim, seconds, repetitions)
            proofs.main(name, _upgraded(database("proofs")), leaves, repetitions)
            runs = [
                await bundle(configure(folder / f"archive{n}", port, DIRECTORY, 1, database(f"archive{n}")))
                for n in range(repetitions)
            ]
            print(f"\n{name}, bundle of one recording of {_SIZE:,} bytes, s (min / median / max):")
            for what, values in zip(_STEPS, zip(*runs, strict=True), strict=True):
                print(f"  {what:<34} {spread(values)}", flush=True)


def _database(server: str, name: str) -> str:
    """A new database beside the server's own."""
    engine = create_engine(server, None)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.exec_driver_sql(f"CREATE DATABASE {name}")
    url = engine.url.set(database=name).render_as_string(hide_password=False)
    engine.dispose()
    return url


def _upgraded(url: str) -> str:
    engine = create_engine(url, None)
    upgrade(engine)
    engine.dispose()
    return url


_STEPS = (
    "archiver export evidence",
    "CPU of that",
    "verified in process",
    "python3 -I verify_custody.py",
    "the same without cryptography",
    "made and verified",
)


async def bundle(config: Config) -> tuple[float, ...]:
    """The only recording of a new archive: seconds of each of the steps, interpreters' starts included."""
    assembly = await assemble(config)
    done = await Daemon(assembly).once()
    await assembly.aclose()
    assert done.exit_code is Exit.OK, done
    folder = Path(config.state_dir).parent
    path, target = str(folder / "archiver.yaml"), folder / "bundle"
    ids = [row["id"] for row in _archiver(path, "recordings", "list")]
    key = _archiver(path, "custody", "checkpoint")["vkey"]
    began, used = time.perf_counter(), _children()
    _archiver(path, "export", "evidence", ids[0], "-O", str(target), "--reason", "benchmark", "--yes")
    made, cpu = time.perf_counter() - began, _children() - used
    began = time.perf_counter()
    found = verifier.examine(target, key)
    inside = time.perf_counter() - began
    assert all(mark == "PASS" for mark, _ in found.lines), found.lines
    alone, bare = _verify(target, key), _verify(target, key, "-S")
    return made, cpu, inside, alone, bare, made + alone


def _children() -> float:
    """CPU seconds of the processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _archiver(path: str, *arguments: str) -> Any:
    command = [sys.executable, "-m", "archiver", "-c", path, "-o", "json", *arguments]
    # An installed archiver has its bytecode; the checkout's folders are left as they are.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(Path(path).parents[1] / "bytecode")
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)["data"]


def _verify(target: Path, key: str, *options: str) -> float:
    """Seconds of the bundle's own verifier, its interpreter's start included."""
    command: Sequence[str] = [sys.executable, "-I", *options, "verify_custody.py", ".", "--log-key", key]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=target, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return time.perf_counter() - began
