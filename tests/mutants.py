"""Tells which changes of the pure modules no unit test notices: `python3 dev.py mutants [MODULE …] [--floor PERCENT]`.

mutmut changes a module line by line in a copy of the project and runs the tests that import it. Without a MODULE, each pure
module of the import contract in `pyproject.toml` is tried, and `ALSO`. A survivor is listed in `tests/mutants.tsv`, with the
reason why no test can notice it; one that is not listed there is printed as a diff and counts against the module.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".mutants"
LISTED = ROOT / "tests" / "mutants.tsv"
PURE = "Pure modules: no I/O, no clock, no logging"
ALSO = ("archiver.store.s3_vault", "archiver.status.report", "archiver.providers.normal", "archiver.schedule.window")
_TESTS = ("tests/unit", "tests/properties")
_KILLED = {"killed", "timeout", "caught by type check"}
_CONFIG = """
[tool.mutmut]
source_paths = ["archiver"]
only_mutate = [{module!r}]
also_copy = ["migrations", "config", "docs", "README.md", "ARCHITECTURE.md", "dev.py"]
pytest_add_cli_args = ["-n", "0", "-p", "no:cacheprovider", "--timeout=120"]
pytest_add_cli_args_test_selection = {tests!r}
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. `name` is mutmut's; `before` and `after` are the lines that differ."""

    name: str
    fate: str
    before: str = ""
    after: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """The same as long as the changed line is, however many mutants come before it."""
        return self.name.rpartition("__mutmut_")[0], self.before, self.after


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--floor", type=int, default=95, help="the least per cent that must be noticed (95)")
    asked = parser.parse_args(arguments)
    low = []
    for module in asked.modules or modules():
        mutants = list(mutate(module))
        alive = [each for each in mutants if each.fate not in _KILLED and each.key not in listed()]
        killed = len(mutants) - len(alive)
        share = 100 * killed / len(mutants) if mutants else 0.0
        print(f"{share:6.1f} %  {killed:4} of {len(mutants):4}  {module}", flush=True)
        for each in alive:
            print(f"    {each.fate}: {each.name}\n      - {each.before}\n      + {each.after}", flush=True)
        if share < asked.floor:
            low.append(module)
    for module in low:
        print(f"mutants: {module} is below {asked.floor} %", file=sys.stderr)
    return 1 if low else 0


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
    """The test files that import it, by name or from its package."""
    package, _, name = module.rpartition(".")
    imports = re.compile(rf"^(?:from {re.escape(module)} import|import {re.escape(module)}\b|"
                         rf"from {re.escape(package)} import .*\b{name}\b)", re.MULTILINE)  # fmt: skip
    files = (path for folder in _TESTS for path in sorted((ROOT / folder).glob("test_*.py")))
    return [str(path.relative_to(ROOT)) for path in files if imports.search(path.read_text())]


def mutate(module: str) -> Iterator[Mutant]:
    """Run mutmut over one module, in a fresh copy of the project."""
    tests = tests_of(module)
    if not tests:
        yield Mutant(f"{module}.no_test_imports_it__mutmut_0", "no tests")
        return
    shutil.rmtree(WORK, ignore_errors=True)
    left = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "benchmarks")
    shutil.copytree(ROOT, WORK, ignore=left)
    path = f"{module.replace('.', '/')}.py"
    with (WORK / "pyproject.toml").open("a") as config:
        config.write(_CONFIG.format(module=path, tests=tests))
    ran = mutmut("run", "--max-children", str(os.cpu_count() or 1))
    if ran.returncode:
        print(ran.stdout[-3000:], ran.stderr[-3000:], sep="\n", file=sys.stderr)
        return
    for line in mutmut("results", "--all", "true").stdout.splitlines():
        name, _, fate = line.strip().partition(": ")
        if "__mutmut_" in name:
            yield Mutant(name, fate) if fate in _KILLED else shown(name, fate)


def shown(name: str, fate: str) -> Mutant:
    """The mutant with the lines that it changes."""
    diff = mutmut("show", name).stdout.splitlines()
    lines = [line for line in diff if not line.startswith(("---", "+++"))]
    before = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    after = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
    return Mutant(name, fate, before, after)


def mutmut(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=WORK, capture_output=True, text=True, check=False)


def listed() -> set[tuple[str, str, str]]:
    """The survivors that have a reason: function, line before, line after, reason, by tabs."""
    rows = [line.split("\t") for line in LISTED.read_text().splitlines() if line and not line.startswith("#")]
    return {(row[0], row[1], row[2]) for row in rows if len(row) == 4 and row[3].strip()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
