"""The tool that tries mutants tells what a weak test lets through, and is not silenced by a list."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import mutants
from tests.mutants import ROOT, Mutant, listed, main, modules

WEAK = """
from datetime import UTC, datetime
from archiver.retention.policy import Rule, retention
from archiver.retention.span import Span

def test_weak():
    call = datetime(2026, 1, 1, tzinfo=UTC)
    assert retention({}, call, [], Rule("default", Span(7), {}), call).rule == "default"
"""


def test_what_a_weak_test_lets_through_survives_and_what_it_notices_does_not(tmp_path: Path) -> None:
    test, results = tmp_path / "test_weak.py", tmp_path / "results"
    test.write_text(WEAK)
    command = [sys.executable, "-m", "tests.mutant_trials", "archiver.retention.policy", str(results), str(test)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = [Mutant(*json.loads(line)) for line in results.read_text().splitlines()]
    fates = {(each.before, each.after): each.fate for each in found}
    date = "until = max(rule.keep.after(ended_at), now + SHORTEST_LOCK)"
    assert fates[date, date.replace("+", "-")] == "survived"
    assert fates[date, "until = None"] == "killed"
    assert fates["datetime.timedelta(days=1)", "datetime.timedelta(days=1, seconds=1)"] == "survived"
    unreached = {each.fate for each in found if each.function.endswith("x_matches")}
    assert unreached == {"no tests"}


def test_every_pure_module_is_tried_by_the_tests_that_import_it() -> None:
    asked = modules()
    assert {"archiver.retention.policy", "archiver.store.s3_vault", "archiver.status.report"} <= set(asked)
    assert "tests/unit/test_retention_policy.py" in mutants.tests_of("archiver.retention.policy")
    assert [each for each in asked if not mutants.tests_of(each)] == []


@pytest.mark.parametrize(
    ("fate", "reasons", "code"),
    [
        ("killed", set(), 0),
        ("survived", set(), 1),
        ("no tests", set(), 1),
        ("not tried", set(), 1),
        ("survived", {("m.f", "a", "b")}, 0),
        ("killed", {("m.f", "a", "b")}, 1),  # the list says that no test can notice it, and one does
        ("survived", {("m.f", "a", "c")}, 1),
    ],
)
def test_a_survivor_counts_unless_it_is_listed_with_a_reason_that_holds(
    fate: str, reasons: set[tuple[str, str, str]], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "tried", lambda _: [Mutant("m.f__mutmut_1", "m.f", "a", "b", fate)])
    monkeypatch.setattr(mutants, "listed", lambda: reasons)
    assert main(["m"]) == code


def test_each_line_of_the_list_has_a_reason() -> None:
    lines = [line for line in mutants.LISTED.read_text().splitlines() if line and not line.startswith("#")]
    assert len(listed()) == len(lines)
