"""CI remembers which tests needed a second try."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "second_tries.py"
TODAY = datetime.now(UTC).date()


def ran(folder: Path, failed: list[str], log: str) -> subprocess.CompletedProcess[str]:
    (folder / "lastfailed").write_text(json.dumps(dict.fromkeys(failed, True)))
    (folder / "log").write_text(log)
    command = [sys.executable, SCRIPT, folder / "lastfailed", folder / "log"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("ago", "test", "code"), [(0, "a::one", 1), (7, "a::one", 1), (8, "a::one", 0), (1, "a::other", 0)]
)
def test_second_try_of_the_same_test_within_a_week_fails_the_run(
    ago: int, test: str, code: int, tmp_path: Path
) -> None:
    before = f"{TODAY - timedelta(days=ago)}\t{test}\n"
    done = ran(tmp_path, ["a::one"], before)
    assert (done.returncode, "mend it" in done.stderr) == (code, bool(code)), done.stderr
    assert f"{TODAY}\ta::one" in done.stdout
    assert (tmp_path / "log").read_text() == f"{before}{TODAY}\ta::one\n"
