"""Tells which changes of the pure modules no unit test notices: `python3 dev.py mutants [MODULE …] [--floor PERCENT]`.

Without a MODULE, each pure module of the import contract in `pyproject.toml` is tried, and `ALSO`. A survivor is listed in
`tests/mutants.tsv`, with the reason why no test can notice it; one that is not listed there is printed as a diff and counts
against the module. What `tests.mutant_trials.NOISE` excludes is not tried at all.

mutmut makes the mutants; `tests.mutant_trials` runs them. mutmut's own run starts pytest anew for each mutant, half a second,
in a copy of the project; a fork of one process that has collected the tests already takes some ten milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTED = ROOT / "tests" / "mutants.tsv"
PURE = "Pure modules: no I/O, no clock, no logging"
ALSO = ("archiver.store.s3_vault", "archiver.providers.normal")
_TESTS = ("tests/unit", "tests/properties")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the function it is in, the lines that differ, and whether a test noticed."""

    name: str
    function: str
    before: str
    after: str
    fate: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The same as long as the changed line is, however many mutants come before it."""
        return self.function, self.before, self.after


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--floor", type=int, default=95, help="the least per cent that must be noticed (95)")
    asked = parser.parse_args(arguments)
    reasons, low, stale = listed(), [], []
    for module in asked.modules or modules():
        mutants = list(tried(module))
        alive = [each for each in mutants if each.fate != "killed"]
        loud = [each for each in alive if each.key not in reasons]
        share = 100 * (len(mutants) - len(loud)) / len(mutants) if mutants else 100.0
        print(f"{share:6.1f} %  {len(mutants):4} mutants, {len(alive) - len(loud):2} listed  {module}", flush=True)
        for each in loud:
            print(f"    {each.fate}: {each.name}\n      - {each.before}\n      + {each.after}", flush=True)
        if share < asked.floor:
            low.append(module)
        known = {each.key for each in alive}
        stale += [key for key in reasons if key[0].startswith(f"{module}.") and key not in known]
    for module in low:
        print(f"mutants: {module} is below {asked.floor} %", file=sys.stderr)
    for function, before, after in stale:
        print(f"mutants: no longer a survivor, strike it off the list: {function}: {before} → {after}", file=sys.stderr)
    return 1 if low or stale else 0


def modules() -> list[str]:
    """Each module of the contract on purity, packages as the modules in them, and `ALSO`."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (named,) = [each["source_modules"] for each in contracts if each["name"] == PURE]
    found: list[str] = []
    for name in [*named, *ALSO]:
        path = ROOT / name.replace(".", "/")
        parts = [f"{name}.{each.stem}" for each in sorted(path.glob("*.py"))] if path.is_dir() else [name]
        found += [each for each in parts if each not in found and not each.endswith("__init__")]
    return found


def tests_of(module: str) -> list[str]:
    """The test files that import it, by name or from its package; where none does, those named after its package."""
    package, _, name = module.rpartition(".")
    imports = re.compile(rf"^(?:from {re.escape(module)} import|import {re.escape(module)}\b|"
                         rf"from {re.escape(package)} import [^\n]*\b{name}\b)", re.MULTILINE)  # fmt: skip
    files = [path for folder in _TESTS for path in sorted((ROOT / folder).glob("test_*.py"))]
    found = [path for path in files if imports.search(path.read_text())]
    found = found or [path for path in files if path.name.startswith(f"test_{package.rpartition('.')[2]}_")]
    return [str(path.relative_to(ROOT)) for path in found]


def tried(module: str) -> Iterator[Mutant]:
    """Every mutant of one module with its fate, tried in a process of its own."""
    tests = tests_of(module)
    if not tests:
        yield Mutant(module, module, "tests that import it", "", "no tests")
        return
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        # CI makes hypothesis try the same examples each time.
        environment = {**os.environ, "CI": "1", "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-m", "tests.mutant_trials", module, str(results), *tests]
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if ran.returncode:
            print(ran.stdout[-3000:], ran.stderr[-3000:], sep="\n", file=sys.stderr)
            yield Mutant(module, module, "its tests pass", "", "not tried")
            return
        for line in results.read_text().splitlines():
            yield Mutant(*json.loads(line))


def listed() -> set[tuple[str, str, str]]:
    """The survivors that have a reason: function, line before, line after, reason, by tabs."""
    rows = [line.split("\t") for line in LISTED.read_text().splitlines() if line and not line.startswith("#")]
    return {(row[0], row[1], row[2]) for row in rows if len(row) == 4 and row[3].strip()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
