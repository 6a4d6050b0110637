"""The custody key is replaced as the how-to says: the log goes on, and whoever has the old verifier key still verifies."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from archiver.cli import invoke as run
from archiver.errors import Exit, VerificationError
from archiver.translog.checkpoint import open_checkpoint
from archiver.translog.note import parse_vkey
from tests.acceptance.test_custody import DIRECTORY, Swept, swept
from tests.config_files import ROOT

PAGE = (ROOT / "docs" / "howto" / "rotate-custody-key.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
CONFIG = "".join(block for language, block in BLOCKS if language == "yaml").removeprefix("custody:\n")


class Archive:
    def __init__(self, made: Swept, capsys: pytest.CaptureFixture[str]) -> None:
        self.made, self.folder, self._capsys = made, made.folder, capsys

    def run(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        outcome = run(["-c", str(self.made.archive.path), *arguments])
        out, err = self._capsys.readouterr()
        assert outcome == code, (outcome, out, err)
        return out if code == 0 else out + err

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run("-o", "json", *arguments, code=code))["data"]

    def here(self, text: str) -> str:
        """The page's paths, in this archive's folder; `custody.pem` is there already."""
        return text.replace("/etc/archiver/keys/", f"{self.folder}/")

    def configure(self, old: str, new: str) -> None:
        path = self.made.archive.path
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def bundle(self, name: str, *more: str) -> Path:
        one = self.json("recordings", "list")[0]["id"]
        target = self.folder / name
        self.run("export", "evidence", one, "-O", str(target), "--reason", "drill", "--yes", *more)
        return target


def verdict(bundle: Path, key: str) -> int:
    command = [sys.executable, "-I", "verify_custody.py", ".", "--log-key", key]
    return subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=120, check=False).returncode


@pytest.fixture
def archive(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr("archiver.logs.configure", lambda *_: None)  # this process is not a command's alone
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    yield Archive(swept(tmp_path, DIRECTORY, count=1), capsys)
    structlog.reset_defaults()


@pytest.mark.effect("custody.former_key", "custody.rotations")
def test_the_custody_key_is_replaced_as_the_page_says_and_old_and_new_verifiers_agree(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotating, *looking = ([*archive.here(line).split()[1:]] for line in COMMANDS)
    before = archive.json("custody", "checkpoint")
    (archive.folder / "known").write_text(before["note"])
    for point in ("introduce", "durable.replace", "_publish"):  # killed there, and run again
        with monkeypatch.context() as killed:
            killed.setattr(f"archiver.assembly.rotating.{point}", _die)
            archive.run(*rotating, code=Exit.INTERRUPTED)
    if point == "_publish":
        told = archive.run("gaps", "ack", "x", "--reason", "drill", code=Exit.CONFIGURATION)
        assert "rotate-custody-key" in told  # the old key signs and writes nothing more by hand
    done = archive.json(*rotating)
    assert archive.json(*rotating) == done
    events = archive.json("custody", "log", "--limit", "0", "--subject", "archive")
    assert [each["type"] for each in events].count("log.key_rotated") == 1
    archive.configure("signing_key: file:custody.pem", ", ".join(archive.here(CONFIG).split("\n  ")).strip())
    for command in looking:
        archive.run(*command)
    old, new = parse_vkey(before["vkey"]), parse_vkey(archive.json("custody", "checkpoint")["vkey"])
    shown = archive.json("keys", "show")["keys"]
    assert [each["vkey"] for each in shown] == [old.vkey, new.vkey]
    note = archive.json("custody", "checkpoint")["note"].encode()
    assert open_checkpoint(note, old)[0] == open_checkpoint(note, new)[0]
    archive.configure(f"former_key: file:{archive.folder}/custody.pem, ", "")
    bundle = archive.bundle("bundle", "--known", str(archive.folder / "known"))
    note = archive.json("custody", "checkpoint")["note"].encode()
    open_checkpoint(note, new)
    with pytest.raises(VerificationError):
        open_checkpoint(note, old)
    assert [verdict(bundle, each.vkey) for each in (old, new)] == [0, 0]
    assert archive.json("verify", "--all")["findings"] == []
    (bundle / "data/trust/rotations/00.note").write_bytes(b"not a note\n")
    assert verdict(bundle, old.vkey) != 0


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_new_key_that_nobody_introduced_signs_nothing(archive: Archive) -> None:
    """The configuration was changed by hand: the log says what is missing instead of beginning another history."""
    from archiver.clock import SystemChance
    from archiver.custody.keys import generate_signing_key, to_pem

    (archive.folder / "other.pem").write_bytes(to_pem(generate_signing_key(SystemChance())))
    (archive.folder / "other.pem").chmod(0o600)
    archive.configure("signing_key: file:custody.pem", f"signing_key: file:{archive.folder}/other.pem")
    one = archive.json("recordings", "list")[0]["id"]
    told = archive.run(
        "recordings", "get", one, "-O", str(archive.folder / "x.wav"), "--reason", "x", code=Exit.INTEGRITY
    )
    assert "keys rotate custody" in told


def test_check_names_a_note_that_is_none_and_a_former_key_that_is_none(archive: Archive) -> None:
    (archive.folder / "a.note").write_text("not a note\n")
    (archive.folder / "former.pem").write_text("no key\n")
    (archive.folder / "former.pem").chmod(0o600)
    archive.configure("signing_key: file:custody.pem",
                      "signing_key: file:custody.pem, former_key: file:former.pem, rotations: [a.note]")  # fmt: skip
    told = archive.run("check", code=Exit.CONFIGURATION)
    assert "custody.rotations" in told
    assert "PEM" in told
