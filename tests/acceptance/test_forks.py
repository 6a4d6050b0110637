"""Another history, a witness that is dead, one that lost its memory: told by every face, with both heads kept as proof."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from archiver.cli import invoke as run
from archiver.errors import Exit
from tests.acceptance.test_custody import DIRECTORY, Swept, swept


@contextmanager
def witness(folder: Path, key: str, *more: str) -> Iterator[tuple[str, str]]:
    """An auditor's `archiver witness`: its address and its verifier key."""
    command = [sys.executable, "-m", "archiver", "witness", "--name", "auditor.example", "--key", str(folder / "w.pem"),
               "--state", str(folder / "w.db"), "--log-key", key, "--listen", "127.0.0.1:0", *more]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            own = process.stdout.readline().split()[-1]
            port = re.search(r":(\d+)$", process.stdout.readline().strip())
            assert port is not None
            yield f"http://127.0.0.1:{port[1]}", own
        finally:
            process.terminate()
            process.wait(timeout=60)


class Archive:
    """An archive with a witness; sweeps are processes of their own, what only reads runs in this one."""

    def __init__(self, made: Swept, capsys: pytest.CaptureFixture[str]) -> None:
        self.made, self.folder, self._capsys = made, made.folder, capsys
        self._heard = 0

    def witnessed_by(self, url: str, key: str, more: str = "") -> None:
        text = re.sub(r"custody: \{.*signing_key", f"custody: {{witnesses: [{{url: '{url}', key: {key}}}], signing_key",
                      self.made.archive.path.read_text())  # fmt: skip
        self.made.archive.path.write_text(text + more)

    def ask(self, *arguments: str, code: int = 0) -> Any:
        self._capsys.readouterr()
        outcome = run(["-c", str(self.made.archive.path), "-o", "json", *arguments])
        out, err = self._capsys.readouterr()
        assert outcome == code, (outcome, out, err)
        return json.loads(out)["data"] if out else err

    def publish(self) -> None:
        """A listening, which is published before it is done: the cheapest way to a new checkpoint."""
        self._heard += 1
        one, target = self.ask("recordings", "list")[0]["id"], self.folder / f"heard-{self._heard}.wav"
        self.ask("recordings", "get", one, "-O", str(target), "--reason", "drill")

    def sweep(self) -> None:
        self.made.run("run", "--once", code=75)  # the simulators are gone; the log is kept all the same

    def gaps(self, code: str) -> list[dict[str, Any]]:
        return [each for each in self.ask("gaps", "list")["gaps"] if each["code"] == code]

    def keep(self, name: str) -> None:
        shutil.copytree(self.folder / "state", self.folder / name / "state")
        shutil.copytree(self.folder / "copies", self.folder / name / "copies")

    def turn_back(self, name: str) -> None:
        """Database, notary and storage at once: only who is elsewhere can tell."""
        for part in ("state", "copies"):
            shutil.rmtree(self.folder / part)
            shutil.copytree(self.folder / name / part, self.folder / part)


@pytest.fixture
def archive(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr("archiver.logs.configure", lambda *_: None)  # this process is not a command's alone
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    yield Archive(swept(tmp_path, DIRECTORY, count=1), capsys)
    structlog.reset_defaults()


def test_another_history_is_the_loudest_alarm_with_both_heads_as_proof(archive: Archive) -> None:
    """First a witness has seen it, then the bucket holds it."""
    key = archive.ask("custody", "checkpoint")["vkey"]
    with witness(archive.folder, key) as (url, own):
        archive.witnessed_by(url, own)
        archive.publish()
        archive.keep("before")
        archive.publish()
        theirs = archive.ask("custody", "checkpoint")["note"]
        archive.keep("one")
        archive.turn_back("before")
        archive.publish()
        ours = archive.ask("custody", "checkpoint")["note"]
    (gap,) = archive.gaps("log_forked")
    assert gap["subject"] == "log:witness auditor.example"
    assert theirs.splitlines()[2] in gap["evidence"]["theirs"]
    assert ours.splitlines()[2] in gap["evidence"]["ours"]
    told = archive.made.run("status", "--check", code=Exit.INTEGRITY)
    assert "TWO HISTORIES" in told.upper()
    assert any(each["kind"] == "log_forked" for each in archive.ask("custody", "fsck", code=Exit.INTEGRITY)["findings"])
    archive.publish()  # takes what was said into the log
    events = archive.ask("custody", "log", "--limit", "0", "--subject", "archive")
    assert [each["data"]["evidence"] for each in events if each["data"].get("code") == "log_forked"] == [
        gap["evidence"]
    ]
    shutil.rmtree(archive.folder / "copies" / "custody")
    shutil.copytree(archive.folder / "one" / "copies" / "custody", archive.folder / "copies" / "custody")
    archive.sweep()
    assert {each["subject"] for each in archive.gaps("log_forked")} == {"log:witness auditor.example", "log:primary"}
    told = archive.ask("gaps", "ack", "log:primary", "--reason", "drill", code=Exit.INTEGRITY)
    assert "two histories" in told  # nothing is written on a fork


def test_a_dead_witness_is_told_of_until_it_cosigns_again(archive: Archive) -> None:
    key = archive.ask("custody", "checkpoint")["vkey"]
    with witness(archive.folder, key) as (url, own):
        archive.witnessed_by(url, own, "alerting: {thresholds: {checkpoint: 1s}}\n")
        archive.publish()
        assert archive.gaps("witness_silent") == []
    archive.publish()
    time.sleep(1.1)  # longer than the patience that is configured
    archive.publish()
    (gap,) = archive.gaps("witness_silent")
    assert (gap["subject"], gap["grade"]) == ("witness:auditor.example", "open")
    kinds = {each["kind"] for each in archive.ask("status")["concerns"]}
    assert "voucher.silent" in kinds
    notices = archive.ask("custody", "fsck", "--level", "quick")["findings"]
    assert [(each["kind"], each["gravity"]) for each in notices] == [("log_voucher", "notice")]
    with witness(archive.folder, key) as (url, own):
        archive.witnessed_by(url, own)
        archive.publish()
        archive.publish()
    assert archive.gaps("witness_silent") == []


def test_a_witness_that_lost_its_memory_cosigns_nothing_with_its_old_key(archive: Archive) -> None:
    """At its start, and while it runs: whoever forgot what it signed would sign a second history, too."""
    key = archive.ask("custody", "checkpoint")["vkey"]
    with witness(archive.folder, key) as (url, own):
        archive.witnessed_by(url, own)
        archive.publish()
        assert "auditor.example" in archive.ask("custody", "checkpoint")["note"]
        (archive.folder / "w.db").unlink()
        archive.publish()
        assert "auditor.example" not in archive.ask("custody", "checkpoint")["note"]
    command = [sys.executable, "-m", "archiver", "witness", "--name", "auditor.example", "--key", str(archive.folder / "w.pem"),
               "--state", str(archive.folder / "w.db"), "--log-key", key, "--listen", "127.0.0.1:0"]  # fmt: skip
    for content in (None, b""):
        if content is not None:
            (archive.folder / "w.db").write_bytes(content)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == Exit.INTEGRITY, done.stderr
        assert "another key" in done.stderr
    with witness(archive.folder, key, "--begin"):
        pass  # whoever brings a key of his own says that it has signed nothing yet
