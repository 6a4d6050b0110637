"""Prints how long the tests of each folder took, so that a suite that grows shows where."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each folder: the seconds of all its tests, on all workers, with their fixtures; and how many there were."""
    seconds: defaultdict[str, float] = defaultdict(float)
    tests: defaultdict[str, set[str]] = defaultdict(set)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                folder = str(PurePosixPath(report.nodeid.partition("::")[0]).parent)
                seconds[folder] += report.duration
                tests[folder].add(report.nodeid)
    if len(seconds) > 1:
        terminalreporter.section("time of each folder")
        for folder, spent in sorted(seconds.items(), key=lambda each: -each[1]):
            terminalreporter.line(f"{spent:8.0f} s  {len(tests[folder]):6}  {folder}")
