"""`archiver check`: errors, warnings, secrets and keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archiver.cli.init import write_workspace
from archiver.clock import SystemChance, SystemClock
from archiver.errors import Exit
from tests.acceptance.cli import archiver
from tests.acceptance.test_cli_init import SECRETS
from tests.config_files import VALID, written
from tests.unit.test_config_load import BAD


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "archiver.yaml"
    write_workspace(file, SystemClock(), SystemChance())
    return file


def test_bad_configuration_exits_78_with_every_problem(tmp_path: Path) -> None:
    done = archiver("check", "-c", written(tmp_path, BAD))
    assert done.returncode == Exit.CONFIGURATION
    # Everything of the sample session, and the four references that lead nowhere on this machine.
    assert done.stdout.splitlines()[-1].startswith("9 errors, 1 warning")
    assert "sk_live" not in done.stdout + done.stderr


def test_json_lists_the_problems_with_their_places(tmp_path: Path) -> None:
    done = archiver("check", "-o", "json", "-c", written(tmp_path, BAD))
    answer = json.loads(done.stdout)
    assert answer["schema"] == "archiver.check/v1"
    assert {"code", "severity", "message", "hint", "file", "line", "col", "path"} <= set(answer["data"][0])


def test_missing_secrets_are_named(tmp_path: Path) -> None:
    done = archiver("check", "-c", written(tmp_path, VALID))
    assert done.returncode == Exit.CONFIGURATION
    assert "environment variable JC_KEY is not set" in done.stdout


def test_warning_fails_only_when_asked_to(config: Path) -> None:
    config.write_text(config.read_text().replace("    plan: team", "    #"))
    lenient = archiver("check", "-c", config, env=SECRETS)
    assert (lenient.returncode, lenient.stdout.splitlines()[-1]) == (0, "0 errors, 1 warning")
    assert archiver("check", "--fail-on-warning", "-c", config, env=SECRETS).returncode == Exit.CONFIGURATION


@pytest.mark.parametrize("name", ["custody.pem", "ops.pub.pem"])
def test_file_that_holds_no_key_is_named_at_its_reference(config: Path, name: str) -> None:
    (config.parent / "keys" / name).write_text("not a key\n")
    done = archiver("check", "-c", config, "-o", "json", env=SECRETS)
    assert done.returncode == Exit.CONFIGURATION
    assert [each["code"] for each in json.loads(done.stdout)["data"]] == ["C112"]
    assert "not a key" not in done.stdout.replace("is not a key", "")
