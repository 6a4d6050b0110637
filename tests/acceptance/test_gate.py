"""One gate for every writer: on a database that lost what was published no command writes or lets plaintext out."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from archiver.cli import invoke as run
from archiver.clock import SystemChance, SystemClock
from archiver.custody.event import Type
from archiver.custody.keys import load_signing_key
from archiver.custody.ledger import Ledger
from archiver.database import Writer, create_engine
from archiver.errors import Exit
from tests.acceptance.test_custody import DIRECTORY, Swept, swept

WRITING = {
    "get": ("recordings", "get", "{id}", "-O", "{folder}/refused.wav", "--reason", "drill"),
    "ack": ("gaps", "ack", "{id}", "--reason", "drill"),
    "export": ("export", "evidence", "{id}", "-O", "{folder}/refused", "--reason", "drill", "--yes"),
    "reconcile": ("reconcile",),
    "verify": ("verify", "{id}"),
}


class Archive:
    """An archive after a sweep, whose commands run in this process: a test runs dozens."""

    def __init__(self, made: Swept, capsys: pytest.CaptureFixture[str]) -> None:
        self.made, self.folder, self._capsys = made, made.folder, capsys
        self.file = made.folder / "state" / "archiver.db"

    def run(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        outcome = run(["-c", str(self.made.archive.path), *arguments])
        out, err = self._capsys.readouterr()
        assert outcome == code, (outcome, out, err)
        return out if code == 0 else out + err

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run("-o", "json", *arguments, code=code))["data"]

    def backup(self, name: str) -> Path:
        copy = self.folder / name
        with sqlite3.connect(self.file) as db, sqlite3.connect(copy) as other:
            db.backup(other)
        return copy

    def restore(self, copy: Path) -> None:
        for each in self.file.parent.glob("archiver.db*"):
            each.unlink()
        shutil.copy(copy, self.file)

    def content(self) -> list[Any]:
        """All that a command could have written."""
        with sqlite3.connect(self.file) as db:
            tables = [
                name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            ]
            skipped = {"lease", "replica"}
            return [(each, db.execute(f"SELECT * FROM {each}").fetchall()) for each in tables if each not in skipped]

    def heard(self, wanted: str) -> list[dict[str, Any]]:
        events = self.json("custody", "log", "--limit", "0", "--subject", f"rec:{wanted}")
        return [each for each in events if each["type"] == "recording.accessed"]

    def unguarded(self, wanted: str) -> None:
        """What `recordings get` of an older version wrote, gate or no gate."""
        host = load_signing_key((self.folder / "custody.pem").read_bytes())
        engine = create_engine(f"sqlite:///{self.file}", None)
        writer, ledger = Writer(engine), Ledger.open(SystemClock(), SystemChance())

        def write(conn: Any) -> None:
            with ledger.once(conn, host):
                private = {"access": {"reason": "unguarded", "user": "roe"}}
                ledger.append(conn, f"rec:{wanted}", Type.ACCESSED, {"purpose": "get"}, private=private)

        writer.run_sync(write)
        writer.close()
        engine.dispose()


@pytest.fixture
def archive(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr("archiver.logs.configure", lambda *_: None)  # this process is not a command's alone
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    yield Archive(swept(tmp_path, DIRECTORY, count=1), capsys)
    structlog.reset_defaults()


def get(archive: Archive, wanted: str, name: str) -> None:
    archive.run("recordings", "get", wanted, "-O", str(archive.folder / name), "--reason", "drill")


def test_restored_at_any_point_no_command_writes_and_after_recovery_all_is_whole_and_the_listening_is_there(
    archive: Archive,
) -> None:
    one, two = (row["id"] for row in archive.json("recordings", "list")[:2])
    points = [archive.backup("swept.db")]
    get(archive, one, "first.wav")
    points.append(archive.backup("heard.db"))
    archive.run("verify", "--all")
    get(archive, two, "second.wav")
    for number, point in enumerate(points):
        archive.restore(point)
        before = archive.content()
        for name, command in WRITING.items():
            told = archive.run(*(each.format(id=one, folder=archive.folder) for each in command), code=Exit.INTEGRITY)
            assert "archiver custody recover" in told, name
            assert archive.content() == before, name
        assert not list(archive.folder.glob("refused*"))
        archive.unguarded(one)
        assert archive.json("custody", "recover")["rehomed"] == 1
        get(archive, one, f"again-{number}.wav")
        assert [len(archive.heard(each)) for each in (one, two)] == [3 + 2 * number, 1]
        assert archive.json("verify", "--all")["findings"] == []
        bundle = str(archive.folder / f"bundle-{number}")
        archive.run("export", "evidence", one, "-O", bundle, "--reason", "drill", "--yes")
        events = archive.json("custody", "log", "--limit", "0", "--subject", "archive")
        assert not [each for each in events if each["type"] in {"anomaly.bad_writer_sig", "anomaly.chain_fork"}]


def test_a_listening_is_published_before_the_file_is_there(archive: Archive) -> None:
    one = archive.json("recordings", "list")[0]["id"]
    told = archive.made.json("recordings", "get", one, "-O", str(archive.folder / "heard.wav"), "--reason", "drill")
    assert told["id"] == one  # nothing but data on standard output
    head = archive.json("custody", "checkpoint")
    (access,) = archive.heard(one)
    assert access["leaf"] < head["size"]
    assert head["published_at"] is not None
    assert (archive.folder / "copies" / "custody" / "checkpoints" / f"{head['size']:020d}").exists()


def test_a_listening_that_is_not_published_in_time_lets_nothing_out(archive: Archive) -> None:
    """The bucket takes recordings' reads and refuses the log's writes; the access stays on record and is published later."""
    one = archive.json("recordings", "list")[0]["id"]
    pieces = archive.folder / "copies" / "custody" / "tile"
    aside = pieces.with_name("aside")
    pieces.rename(aside)
    pieces.write_text("in the way")
    target = archive.folder / "heard.wav"
    command = ("recordings", "get", one, "-O", str(target), "--reason", "drill", "--wait", "0.2")
    told = archive.run(*command, code=Exit.UNAVAILABLE)
    assert "nothing was released" in told
    assert not list(archive.folder.glob("heard.wav*"))
    pieces.unlink()
    aside.rename(pieces)
    archive.run(*command[:-2])
    assert target.exists()
    assert len(archive.heard(one)) == 2


def test_while_the_storage_is_away_people_s_commands_write_nothing(archive: Archive) -> None:
    one = archive.json("recordings", "list")[0]["id"]
    (archive.folder / "copies").rename(archive.folder / "away")
    before = archive.content()
    for name in ("get", "ack", "export"):
        command = (each.format(id=one, folder=archive.folder) for each in WRITING[name])
        told = archive.run(*command, code=Exit.UNAVAILABLE)
        assert "only the storages can tell" in told
        assert archive.content() == before
    assert not list(archive.folder.glob("refused*"))
