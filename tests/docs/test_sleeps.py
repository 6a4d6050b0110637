"""Tests wait for events. Where one sleeps all the same, the reason stands beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_SLEEP = re.compile(r"\b(?:asyncio|time)\.sleep\((?!0\))")
_REASON = re.compile(r"#(?!\s*(?:noqa:\s*\w+\s*$|fmt:|type:)).*[a-z]{3}")


def bare(text: str) -> list[int]:
    """The lines that sleep without a reason on the line itself or on the one above, where a loop waits by it."""
    lines = ["", *text.splitlines()]
    return [
        number
        for number, line in enumerate(lines)
        if _SLEEP.search(line) and not (_REASON.search(line) or _REASON.search(lines[number - 1]))
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("time.sleep(1)", [1]),
        ("x\nawait asyncio.sleep(0.1)\n", [2]),
        ("time.sleep(1)  # slow on purpose", []),
        ("while x:  # noqa: ASYNC110  another process is waited for\n    await asyncio.sleep(1)", []),
        ("while x:  # noqa: ASYNC110\n    await asyncio.sleep(1)", [2]),
        ("await asyncio.sleep(0)", []),
    ],
)
def test_a_sleep_without_a_reason_is_found(text: str, found: list[int]) -> None:
    assert bare(text) == found


def test_each_sleep_of_a_test_has_its_reason_beside_it() -> None:
    files = [path for path in sorted(_TESTS.rglob("*.py")) if path != Path(__file__)]
    found = [f"{path.relative_to(_TESTS)}:{line}" for path in files for line in bare(path.read_text())]
    assert found == []
