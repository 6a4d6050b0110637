"""The fault tables name the tests that there are: no dead name, and no test that stands in no row."""

from __future__ import annotations

import ast
import re

import pytest

from tests.config_files import ROOT

_PAGE = (ROOT / "docs" / "explanation" / "fault-tables.md").read_text()
_FILES = re.findall(r"^`(tests/faults/test_\w+\.py)`$", _PAGE, re.MULTILINE)


def test_every_module_of_the_folder_has_its_table() -> None:
    there = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "faults").glob("test_*.py"))
    assert sorted(_FILES) == there


@pytest.mark.parametrize("file", _FILES)
def test_table_names_the_tests_that_there_are(file: str) -> None:
    table = _PAGE.partition(f"`{file}`\n")[2].partition("\n## ")[0]
    tree = ast.parse((ROOT / file).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert sorted(re.findall(r"`(test_\w+)`", table)) == sorted(f.name for f in functions if f.name.startswith("test_"))


@pytest.mark.parametrize(
    "row", [line for line in _PAGE.splitlines() if line.startswith("| ") and "Fault |" not in line]
)
def test_every_row_has_a_test(row: str) -> None:
    assert "`test_" in row
