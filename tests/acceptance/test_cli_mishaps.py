"""What an operator does wrong, and what the machine does to him: one sentence, the right code, never a stack trace."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from archiver.cli.init import write_workspace
from archiver.clock import SystemChance, SystemClock
from archiver.errors import Exit
from tests.acceptance.cli import archiver
from tests.acceptance.test_cli_init import SECRETS


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "archiver.yaml"
    write_workspace(file, SystemClock(), SystemChance())
    return file


def test_full_disk_under_the_output_is_one_sentence(config: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "archiver", "config", "show", "-c", str(config), "-o", "json"],
            env={"PYTHONPATH": str(Path(__file__).parents[2]), **SECRETS},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == Exit.UNEXPECTED
    assert done.stderr == "archiver: input or output: No space left on device\n"


def test_state_folder_that_cannot_be_made_is_named(config: Path) -> None:
    config.write_text(config.read_text().replace("state_dir: state ", "state_dir: archiver.yaml "))
    done = archiver("db", "upgrade", "-c", config, env=SECRETS)
    assert done.returncode == Exit.CONFIGURATION
    assert done.stderr.splitlines() == [
        f"archiver: The configuration cannot be used: state_dir {config} cannot be made: File exists"
    ]


def test_address_in_use_ends_the_start_with_one_sentence(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = config.read_text().replace("127.0.0.1:8484", f"127.0.0.1:{port}")
        text = text.replace("    api_key:", '    base_url: "http://127.0.0.1:9"\n    allow_http: true\n'
                            "    allow_private_addresses: true\n    api_key:")  # fmt: skip
        config.write_text(text.replace("  bucket: my", '  endpoint: "http://127.0.0.1:9"\n  bucket: my'))
        assert archiver("db", "upgrade", "-c", config, env=SECRETS).returncode == 0
        done = archiver("run", "-c", config, env=SECRETS)
    assert done.returncode == Exit.UNAVAILABLE
    assert done.stderr.splitlines()[-1].endswith(f"web.listen 127.0.0.1:{port}: Address already in use")
    assert "Traceback" not in done.stderr + done.stdout


def test_help_lists_whole_sentences() -> None:
    listed = archiver("custody", "--help").stdout.partition("Commands:")[2]
    assert "the storages" in listed
    assert "..." not in listed
