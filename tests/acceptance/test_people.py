"""Accountable people: who heard or exported a recording, by which account, and why; on every face, and erasable."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.cli import invoke as run
from archiver.errors import Exit
from tests.acceptance.test_custody import DIRECTORY, Swept, swept

ACCOUNT = pwd.getpwuid(os.getuid()).pw_name
Say = Callable[..., Any]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Swept:
    """Swept, and then in the hands of somebody whose environment says that he is the chief."""
    made = swept(tmp_path, DIRECTORY)
    for name, value in (("USER", "chief"), ("LOGNAME", "chief"), ("SUDO_USER", "chair"), ("SUDO_UID", "4711")):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def say(archive: Swept, capsys: pytest.CaptureFixture[str]) -> Say:
    """The command line, in this process: it stands on a dozen commands."""

    def call(*arguments: str | Path, code: int = 0, text: bool = False) -> Any:
        capsys.readouterr()
        form = [] if text else ["-o", "json"]
        found = run(["-c", str(archive.archive.path), *form, *map(str, arguments)])
        said = capsys.readouterr()
        assert found == code, (arguments, said)
        return said.out + said.err if text or code else json.loads(said.out)["data"]

    return call


def _entries(archive: Swept) -> bytes:
    with archive.database as db:
        return b"".join(
            bytes(row[0])
            for table in ("custody_event", "custody_pending")
            for row in db.execute(f"SELECT entry FROM {table}")
        )


def test_who_heard_and_exported_is_named_by_account_and_reason_on_every_face(archive: Swept, say: Say) -> None:
    listed = say("recordings", "list", "--provider", "plivo")
    heard, other = listed[0]["id"], listed[1]["id"]
    why, whose = "complaint of Ms Roe", "the.chief"
    who = f"{whose} (claimed by account {ACCOUNT}, which claims sudo from chair)"
    say("recordings", "get", heard, "-O", archive.folder / "a.mp3", "--reason", why, "--actor", whose)
    asked = ("export", "evidence", "--provider", "plivo", "--yes")
    say(*asked, "-O", archive.folder / "case", "--reason", "Subpoena 26", "--actor", whose)

    rows = say("access", "list")
    assert [(each["what"], each["recording"] == heard) for each in rows][:1] == [("heard", True)]
    assert {each["recording"] for each in rows if each["what"] == "exported"} == {each["id"] for each in listed}
    for each in rows:
        assert (each["account"], each["uid"], each["erased"]) == (ACCOUNT, os.getuid(), False)
        assert each["claimed"] == {
            "actor": whose,
            "user": "chief",
            "logname": "chief",
            "sudo_user": "chair",
            "sudo_uid": "4711",
        }
        assert each["who"] == who
    assert rows[0]["reason"] == why
    assert {each["reason"] for each in rows[1:]} == {"Subpoena 26"}
    assert all(each["delivered_at"] for each in rows[1:])

    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert say("access", "list", "--since", later) == []
    assert len(say("access", "list", "--until", later, "--recording", other)) == 1
    assert (
        len(say("access", "list", "--person", ACCOUNT)) == len(say("access", "list", "--person", "Chief")) == len(rows)
    )
    assert say("access", "list", "--person", "nobody-here") == []
    assert who in say("access", "list", text=True)

    assert f"by {who}: {why}" in say("recordings", "show", heard, text=True)
    log = say("custody", "log", "--limit", "0", "--subject", f"rec:{other}")
    assert [each["person"]["reason"] for each in log if each["type"].startswith("export.")] == ["Subpoena 26"] * 2

    signed = _entries(archive)
    for name in (b"Roe", b"chief", b"chair", b"Subpoena", f'"{ACCOUNT}"'.encode()):
        assert name not in signed  # what is personal is committed to, never said

    say(*asked, "-O", archive.folder / "again", "--reason", "Appeal")
    page = (archive.folder / "again/data/report.html").read_text()
    assert who in page
    assert why in page
    sworn = (archive.folder / "again/data/certificate-902.txt").read_text()
    assert re.search(rf"Opened by a person.*\n +by {re.escape(who)}; reason given: {why}", sworn)
    request = json.loads((archive.folder / "again/data/request.json").read_bytes())
    assert (request["person"]["account"], request["person"]["uid"]) == (ACCOUNT, os.getuid())
    assert request["requested_by"].startswith(ACCOUNT)
    assert "chief" not in request["requested_by"]

    month = rows[0]["at"][:7]
    say("export", "report", "--month", month, "-O", archive.folder / "reports")
    told = json.loads((archive.folder / f"reports/report-{month}.json").read_bytes())["data"]["accesses"]
    assert (told[0]["what"], told[0]["reason"]) == ("heard", why)
    assert len(told) == 1 + 2 * len(listed)
    assert why in (archive.folder / f"reports/report-{month}.html").read_text()
    assert say("verify", "--all")["failures"] == 0


def test_who_and_why_can_be_erased_and_not_changed(archive: Swept, say: Say) -> None:
    recording = say("recordings", "list", "--provider", "plivo")[0]["id"]
    say("recordings", "get", recording, "-O", archive.folder / "a.mp3", "--reason", "case 7")
    with archive.database as db:
        names = [
            row[0]
            for row in db.execute("SELECT grp FROM custody_private WHERE grp IN ('access', 'person') ORDER BY grp")
        ]
        assert names == ["access", "person"]
        db.execute("DROP TRIGGER custody_private_update")
        db.execute(
            "UPDATE custody_private SET data = CAST(replace(data, 'case 7', 'case 8') AS BLOB) WHERE grp = 'access'"
        )
    (row,) = say("access", "list")
    assert (row["who"], row["reason"], row["erased"]) == ("NOT WHAT WAS LOGGED", None, False)
    with archive.database as db:
        db.execute("DELETE FROM custody_private WHERE grp IN ('access', 'person')")
    (row,) = say("access", "list")
    assert (row["who"], row["reason"], row["erased"]) == ("erased", None, True)
    assert say("custody", "fsck")["findings"] == []


def test_whoever_hears_exports_or_acknowledges_says_why_in_a_line(archive: Swept, say: Say) -> None:
    recording = say("recordings", "list", "--provider", "plivo")[0]["id"]
    for reason in ((), ("--reason", " "), ("--reason", "two\nlines")):
        for command in (
            ("recordings", "get", recording, "-O", archive.folder / "a.mp3"),
            ("export", "evidence", recording, "-O", archive.folder / "case", "--yes"),
            ("gaps", "ack", "x"),
        ):
            assert "needs --reason" in say(*command, *reason, code=Exit.USAGE)
    assert say("access", "list") == []


def test_selection_by_a_filter_names_audio_by_what_was_found_in_it(archive: Swept, say: Say) -> None:
    """Chosen by provider, MP3 was exported as audio.bin: only a selection by id looked at what the bytes are."""
    say("export", "evidence", "--provider", "plivo", "-O", archive.folder / "case", "--reason", "why", "--yes")
    found = {path.name for path in (archive.folder / "case/data/recordings").glob("*/audio.*")}
    assert found
    assert found <= {"audio.mp3", "audio.wav"}
