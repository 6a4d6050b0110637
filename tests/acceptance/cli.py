"""Running the command as a person would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests import warm

_SECONDS = 120


def archiver(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own that has its modules already."""
    return warm.run([str(each) for each in arguments], cwd or Path.cwd(), _environment(env), _SECONDS)


def whole(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The same from the start of the interpreter, importing what it needs: some two seconds."""
    return subprocess.run(
        [sys.executable, "-m", "archiver", *map(str, arguments)],
        cwd=cwd,
        env=_environment(env),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """Ours, without what would tell the command something."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ARCHIVER", "XDG_", "AWS_"))}
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, **(more or {})}
