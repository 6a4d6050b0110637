"""`archiver config`, `archiver version`, and how every command behaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from archiver.cli import COMMANDS
from archiver.errors import Exit
from tests.acceptance.cli import archiver
from tests.config_files import EXAMPLE, MINIMAL, ROOT, VALID, written

HEAVY = ("pydantic", "boto3", "sqlalchemy", "aiohttp", "cryptography", "ruamel", "rich")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["version"], ["check", "--help"], ["config", "--help"], ["init", "--help"]]
)
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    loaded = f"print([n for n in {HEAVY!r} if n in sys.modules])"
    script = f"import sys; from archiver.cli import invoke; invoke({arguments!r}); {loaded}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


ALONE = """
import importlib, os, sys
for name in sys.argv[1].split(): importlib.import_module(name)
for command in sys.argv[2].split():
    if (child := os.fork()) == 0:
        importlib.import_module(command)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(command)
"""


def test_every_command_can_be_the_first_to_import_anything() -> None:
    """Each in a process that has the libraries and nothing of the archiver: in other tests somebody was there before."""
    commands = {where.partition(":")[0] for where, _ in COMMANDS.values()}
    script = [sys.executable, "-c", ALONE, " ".join(HEAVY), " ".join(sorted(commands | {"archiver.daemon.reload"}))]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("", "")


def test_help_needs_no_readable_configuration(tmp_path: Path) -> None:
    done = archiver("-c", written(tmp_path, "rubbish: ["), "check", "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize("arguments", [["-o", "json", "version"], ["version", "-o", "json"]])
def test_shared_options_before_or_after_the_command(arguments: list[str]) -> None:
    answer = json.loads(archiver(*arguments).stdout)
    assert answer["schema"] == "archiver.version/v1"
    assert answer["generated_at"].endswith("Z")
    assert answer["data"]["version"] == "0.1.0"


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["version", "--bogus"], ["-o", "xml", "version"], ["config", "bogus"]]
)
def test_usage_mistakes_exit_2(arguments: list[str]) -> None:
    done = archiver(*arguments)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")


def test_an_error_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = archiver("-c", tmp_path / "none.yaml", "config", "show")
    assert done.returncode == Exit.CONFIGURATION
    assert (
        done.stderr
        == f"archiver: The configuration cannot be used: {tmp_path}/none.yaml cannot be read: No such file or directory\n"
    )


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    command = f"{sys.executable} -m archiver config schema | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_show_tells_where_each_value_comes_from(tmp_path: Path) -> None:
    file = written(tmp_path, VALID)
    done = archiver("config", "show", "-c", file, "-o", "json", env={"JC_KEY": "hunter2"})
    assert "hunter2" not in done.stdout
    rows = {row["path"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)["data"]}
    assert rows["providers[0].api_key"] == ("env:JC_KEY", f"{file}:8")
    assert rows["providers[2].retention"] == ("none", f"{file}:21")
    assert rows["defaults.overlap"] == ("1d", "default")
    assert rows["defaults.poll_every"] == ("10m", f"{file}:4")


def test_configuration_is_found_without_being_named(tmp_path: Path) -> None:
    written(tmp_path, VALID)
    assert archiver("config", "show", cwd=tmp_path).returncode == 0
    assert archiver("config", "show", cwd=ROOT, env={"ARCHIVER_CONFIG": str(EXAMPLE)}).returncode == 0
    lost = archiver("config", "show", cwd=Path("/"), env={"HOME": str(tmp_path)})
    assert lost.returncode == Exit.CONFIGURATION
    assert "archiver init" in lost.stderr


def test_schema_is_json() -> None:
    schema = json.loads(archiver("config", "schema").stdout)
    assert schema["properties"]["retention"]


def test_jsonl_gives_each_item_a_line() -> None:
    lines = [json.loads(line) for line in archiver("config", "show", "-c", MINIMAL, "-o", "jsonl").stdout.splitlines()]
    assert lines[-1]["type"] == "summary"
    assert lines[-1]["data"]["count"] == len(lines) - 1
    assert {line["type"] for line in lines[:-1]} == {"item"}
