"""The package as it is installed: complete, licensed, and working without the checkout that it was made from."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.config_files import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the contents of the wheel."""
    made = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(made)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = made.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(made / "site")
    return made / "site"


def test_wheel_says_what_it_is_and_under_which_licence(site: Path) -> None:
    (about,) = site.glob("*.dist-info")
    metadata = message_from_bytes((about / "METADATA").read_bytes())
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert "Apache License" in (about / "licenses" / "LICENSE").read_text()
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_wheel_holds_the_program_and_nothing_of_the_tests(site: Path) -> None:
    assert sorted(each.name for each in site.iterdir() if each.suffix != ".dist-info") == ["archiver"]
    assert (site / "archiver" / "py.typed").exists()


def test_archive_is_made_by_the_wheel_alone(site: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", "import archiver; print(archiver.__file__)").startswith(str(site))
    run("-m", "archiver", "init")
    assert "recordings" in run("-m", "archiver", "-c", "archiver.yaml", "recordings", "list", "-o", "json")
