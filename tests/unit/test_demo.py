"""What the demo says where its packages are not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from archiver.demo import __main__ as demo
from archiver.errors import Exit


def test_demo_without_its_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tinytag", None)
    monkeypatch.chdir(tmp_path)
    assert demo.main() == Exit.CONFIGURATION
    assert "pip install 'compliance-archiver[demo]'" in capsys.readouterr().err
