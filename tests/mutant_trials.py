"""Tries each mutant of one module against its tests, in one process: `python -m tests.mutant_trials MODULE RESULTS TEST …`.

The module is imported with all of its mutants in it, as mutmut writes them: one is switched on at a time. pytest collects once;
a first run tells which tests reach which function; then each mutant is a fork that runs those, the quickest first, until one
fails. RESULTS gets a line of JSON for each mutant.
"""

from __future__ import annotations

import ast
import difflib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import re
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from _pytest.runner import runtestprotocol
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state

_MEMORY = 4 << 30
_LONGER = 3  # times as much CPU as without a mutant, and two seconds: what takes more hangs
_ASLEEP = 60  # seconds in which a test that takes no CPU ends

# A pattern of what is equal in both lines once the matches are taken out, and why no test should tell the two apart.
# `do_not_mutate_patterns` in pyproject.toml is the other half: the words of errors are for people and may be put better any day.
NOISE = (
    (
        re.compile(r", (?:strict=\w+)?(?=\))"),
        "zip's `strict` states an invariant: it fires when the code is wrong, for no input",
    ),
    (re.compile(r'\bcast\((?:None|"[^"]*"|\w+),|\bcast\('), "`cast` speaks to the type checker alone"),
    (
        re.compile(r'"[^"]*[A-Za-z]+,? [A-Za-z]+,? [A-Za-z]+[^"]*"'),
        "a sentence for people may be put better any day: that it is said is tested",
    ),
    (re.compile(r', (?:"big")?(?=\))'), "the order of bytes is Python's own default, said for the reader"),
    (re.compile(r'"(?:XX)?(?:utf-8|UTF-8|ascii|ASCII)(?:XX)?"'), "the name of an encoding is spelt in any case"),
)


@dataclass(frozen=True, slots=True)
class Change:
    """A mutant: switched on by `name`, or by giving the module's `constant` another value."""

    name: str
    function: str
    before: str
    after: str
    constant: str = ""
    value: object = None


class Mutated(importlib.machinery.SourceFileLoader, importlib.abc.MetaPathFinder):
    """Finds the one module, and loads it with its mutants in it."""

    def __init__(self, module: str) -> None:
        self.module = module
        super().__init__(module, str(Path(*module.split(".")).with_suffix(".py").resolve()))
        source = without_properties(Path(self.path).read_text())
        self.file = mutate_file_contents(self.path, source)

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname: str) -> object:
        return compile(self.file.code, self.path, "exec", dont_inherit=True)

    def changes(self) -> Iterator[Change]:
        """The mutants of functions, without noise."""
        lines = self.file.code.splitlines()
        for name in self.file.mutant_names:
            function, _, _ = name.rpartition("__mutmut_")
            spans = [self.file.line_span_by_function_name[each] for each in (f"{function}__mutmut_orig", name)]
            old, new = ([line.strip() for line in lines[span.start - 1 : span.end] if f"{function}__mutmut_" not in line]
                        for span in spans)  # fmt: skip
            diff = [line for line in difflib.ndiff(old, new) if line[0] in "-+"]
            before = " ".join(line[2:] for line in diff if line[0] == "-")
            after = " ".join(line[2:] for line in diff if line[0] == "+")
            if not any(pattern.sub("", before) == pattern.sub("", after) for pattern, _ in NOISE):
                yield Change(f"{self.module}.{name}", f"{self.module}.{function}", before, after)


def without_properties(source: str) -> str:
    """The same with `name = property(name)` in place of the decorator: mutmut leaves decorated functions alone."""
    lines = source.splitlines(keepends=True)
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(found, key=lambda each: each.lineno, reverse=True):
        if [ast.unparse(each) for each in node.decorator_list] == ["property"] and node.end_lineno:
            lines.insert(node.end_lineno, f"{' ' * node.col_offset}{node.name} = property({node.name})\n")
            lines[node.decorator_list[0].lineno - 1] = "\n"
    return "".join(lines)


def constants(module: ModuleType) -> Iterator[Change]:
    """Each number and duration that the module gives a name, once a little more: mutmut changes only what is in functions."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    for node in tree.body:
        named = ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign) else ()
        for name in [each.id for each in named if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)]:
            value = getattr(module, name, None)
            if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
                other = value + (timedelta(seconds=1) if isinstance(value, timedelta) else 1)
                where = f"{module.__name__}.{name}"
                yield Change(where, where, repr(value), repr(other), name, other)


@dataclass
class Trials:
    """The plugin that takes the place of pytest's loop over the tests."""

    mutated: Mutated
    results: Path
    reached: dict[str, list[pytest.Item]] = field(default_factory=dict)
    took: dict[pytest.Item, float] = field(default_factory=dict)

    def pytest_sessionstart(self) -> None:
        """After conftest: an example that fails is enough, and need not be made smaller."""
        from hypothesis import Phase, settings

        phases = [Phase.explicit, Phase.generate]
        settings.register_profile("trials", settings(), phases=phases, database=None)
        settings.load_profile("trials")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Failed("not every test could be collected")
        self.survey(session.items)
        gc.freeze()  # or each fork copies what the collector touches
        somewhere = {item for items in self.reached.values() for item in items} or set(session.items)
        quickest = sorted(somewhere, key=lambda item: self.took[item])
        module = importlib.import_module(self.mutated.module)
        if not self.passes(quickest, None, module):
            raise session.Failed("the tests fail in a fork without any mutant")
        with self.results.open("w") as lines:
            for change in [*self.mutated.changes(), *constants(module)]:
                reached = somewhere if change.constant else self.reached.get(change.function, ())
                reach = [each for each in quickest if each in reached]
                fate = "no tests" if not reach else "survived" if self.passes(reach, change, module) else "killed"
                lines.write(json.dumps([change.name, change.function, change.before, change.after, fate]) + "\n")
        return True

    def survey(self, items: Sequence[pytest.Item]) -> None:
        """Which tests reach which function, and how long each takes."""
        set_mutant_under_test("stats")
        for item, following in zip(items, [*items[1:], None], strict=True):
            state()._stats.clear()
            started = time.process_time()
            reports = runtestprotocol(item, log=False, nextitem=following)
            self.took[item] = time.process_time() - started
            if failed := [each.longreprtext for each in reports if each.failed]:
                raise pytest.exit.Exception(f"{item.nodeid} fails without any mutant\n{failed[0]}", 1)
            for function in state()._stats:
                self.reached.setdefault(function, []).append(item)
        set_mutant_under_test("")

    def passes(self, items: Sequence[pytest.Item], change: Change | None, module: ModuleType) -> bool:
        """Whether every test passes in a fork with this change. One that hangs or takes all memory fails."""
        child = os.fork()
        if child:
            return os.waitpid(child, 0)[1] == 0
        try:
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            if change and change.constant:
                # Also where it was imported by name, the tests included: as if the line itself were another.
                value = getattr(module, change.constant)
                for each in list(sys.modules.values()):
                    if getattr(each, "__dict__", {}).get(change.constant) is value:
                        setattr(each, change.constant, change.value)
            elif change:
                set_mutant_under_test(change.name)
            for item, following in zip(items, [*items[1:], None], strict=True):
                enough = math.ceil(time.process_time() + 2 + _LONGER * self.took[item])
                resource.setrlimit(resource.RLIMIT_CPU, (enough, resource.RLIM_INFINITY))
                if any(each.failed for each in runtestprotocol(item, log=False, nextitem=following)):
                    os._exit(1)
            os._exit(0)
        finally:
            os._exit(2)


def main(arguments: list[str]) -> int:
    module, results, *tests = arguments
    mutated = Mutated(module)
    sys.meta_path.insert(0, mutated)
    options = [
        "-c",
        "pyproject.toml",
        "--rootdir=.",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-q",
        "--tb=short",
        f"--timeout={_ASLEEP}",
    ]
    return int(pytest.main([*options, *tests], plugins=[Trials(mutated, Path(results))]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
