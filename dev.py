#!/usr/bin/env python3
"""Everything a newcomer needs, with Python alone: `python3 dev.py demo`, `python3 dev.py test`.

Sets up `.tools` (uv) and `.venv` (the locked packages, hashes checked) inside this folder, then runs the word asked for.
Nothing is installed anywhere else; running it again costs nothing when nothing has changed. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = HERE / ".tools"
VENV = HERE / ".venv"
LOCK = HERE / "requirements.lock"
STAMP = VENV / ".locked"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
OLDEST = (3, 11)

USAGE = """usage: python3 dev.py WORD [arguments]

  demo      archive simulated calls of four providers end to end, verify, and show a tamper being caught
  test      every test, on a real PostgreSQL and a real S3 server (arguments go to pytest)
  dates     the tests as if today were a Sunday, 29 February … (arguments: a date's name, and what pytest takes)
  mutants   changes the pure modules line by line and tells which changes no test notices (arguments: modules)
  lint      formatter, linter, types, architecture, plain docstrings
  bench     the benchmarks (benchmarks/README.md)
  lock      resolve the dependencies anew into requirements.lock
  setup     only set up the environment
  clean     remove .tools, .venv and .demo
"""


def main(arguments: list[str]) -> int:
    word, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    words: dict[str, Callable[[list[str]], int]] = {
        "demo": demo,
        "test": test,
        "dates": dates,
        "mutants": mutants,
        "lint": lint,
        "bench": bench,
        "lock": lock,
        "setup": setup,
        "clean": clean,
    }
    if word not in words:
        print(USAGE, end="", file=sys.stderr if word not in ("", "help", "-h", "--help") else sys.stdout)
        return 0 if word in ("", "help", "-h", "--help") else 2
    if sys.version_info < OLDEST:
        return other_python(arguments)
    try:
        return words[word](rest)
    except subprocess.CalledProcessError as failed:
        print(f"dev.py: {Path(failed.cmd[0]).name} failed with exit code {failed.returncode}", file=sys.stderr)
        return failed.returncode or 1
    except KeyboardInterrupt:
        return 130


def demo(rest: list[str]) -> int:
    set_up(steps=True)
    return run(BIN / "python", "-m", "archiver.demo", *rest)


def test(rest: list[str]) -> int:
    set_up()
    # Processes of their own take seconds and rules take milliseconds: whoever has nothing left takes from the other.
    workers = ["-n", str(min(4, os.cpu_count() or 1)), "--dist", "worksteal"]
    spread = [] if any(each.startswith("-n") for each in rest) else workers
    return run(BIN / "python", "-m", "pytest", *spread, *rest)


def dates(rest: list[str]) -> int:
    set_up()
    return run(BIN / "python", "-m", "tests.faked_dates", *rest)


def mutants(rest: list[str]) -> int:
    set_up()
    return run(BIN / "python", "-m", "tests.mutants", *rest)


def lint(_rest: list[str]) -> int:
    set_up()
    checks = (
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
        ("lint-imports",),
        ("python", "-m", "tests.docs.plain_words"),
    )
    return max(run(BIN / name, *arguments) for name, *arguments in checks)


def bench(rest: list[str]) -> int:
    set_up()
    return run(BIN / "python", "-m", "benchmarks", *rest)


def lock(_rest: list[str]) -> int:
    uv = get_uv()
    if uv is None:
        print("dev.py: uv is needed to make the lock file", file=sys.stderr)
        return 1
    return run(uv, "pip", "compile", "-q", "--generate-hashes", "--group", "dev", "pyproject.toml", "-o", LOCK.name)


def setup(_rest: list[str]) -> int:
    set_up()
    return 0


def clean(_rest: list[str]) -> int:
    for folder in (TOOLS, VENV, HERE / ".demo"):
        shutil.rmtree(folder, ignore_errors=True)
    return 0


# --- the environment ----------------------------------------------------------------------------------------------


def set_up(*, steps: bool = False) -> None:
    """`.venv` with exactly the locked packages and this project; does nothing when it is there already."""
    wanted = hashlib.sha256(LOCK.read_bytes() + (HERE / "pyproject.toml").read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted and (BIN / "archiver").exists():
        if steps:
            say(1, f"Python {sys.version.split()[0]}, environment ready", 0.0)
        return
    started = time.monotonic()
    uv = get_uv()
    say(
        1,
        f"Python {sys.version.split()[0]}, {'uv in .tools' if uv else 'no uv: using pip'}",
        time.monotonic() - started,
    )
    started = time.monotonic()
    if uv is not None:
        run_or_fail(uv, "venv", "-q", "--allow-existing", "--python", sys.executable, VENV)
        say(2, "environment .venv", time.monotonic() - started)
        started = time.monotonic()
        run_or_fail(uv, "pip", "sync", "-q", "--compile-bytecode", "--require-hashes", "--python", BIN / "python", LOCK)
        run_or_fail(
            uv, "pip", "install", "-q", "--python", BIN / "python", "--no-deps", "--no-build-isolation", "-e", HERE
        )
    else:
        import venv

        venv.create(VENV, with_pip=True)
        say(2, "environment .venv", time.monotonic() - started)
        started = time.monotonic()
        pip = (BIN / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
        run_or_fail(*pip, "--require-hashes", "-r", LOCK)
        run_or_fail(*pip, "--no-deps", "--no-build-isolation", "-e", HERE)
    packages = sum(1 for line in LOCK.read_text().splitlines() if "==" in line and not line.startswith(("#", " ")))
    say(3, f"{packages} locked packages, hashes checked", time.monotonic() - started)
    STAMP.write_text(wanted)


def get_uv() -> Path | None:
    """uv from the PATH, from `.tools`, or freshly put there; None when it cannot be had."""
    found = shutil.which("uv")
    if found:
        return Path(found)
    ours = TOOLS / "bin" / "uv"
    if not ours.exists():
        # --target works on externally managed Pythons too, where a plain install is refused.
        got = subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--root-user-action=ignore",
             "--target", TOOLS, "uv"],
            check=False, capture_output=True,
        )  # fmt: skip
        if got.returncode != 0:
            return None
    return ours if ours.exists() else None


def other_python(arguments: list[str]) -> int:
    """This Python is too old: go on with a newer one if there is one."""
    for minor in range(20, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            os.execv(found, [found, __file__, *arguments])
    print(
        f"dev.py: Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {sys.version.split()[0]}", file=sys.stderr
    )
    return 1


def environment() -> dict[str, str]:
    """Return the environment that every program here is started with.

    uv must never fetch an interpreter: on a network with a package registry alone that hangs before it fails. Bytecode is
    written even where the environment forbids it: thousands of processes that compile every library anew take most of the
    time of the tests.
    """
    return {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "PYTHONDONTWRITEBYTECODE": ""}


def run(*command: str | Path) -> int:
    sys.stdout.flush()
    return subprocess.run([str(each) for each in command], check=False, cwd=HERE, env=environment()).returncode


def run_or_fail(*command: str | Path) -> None:
    sys.stdout.flush()
    subprocess.run([str(each) for each in command], check=True, cwd=HERE, env=environment())


def say(step: int, what: str, seconds: float) -> None:
    print(f"[{step}/5] {what:<66} {seconds:4.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
