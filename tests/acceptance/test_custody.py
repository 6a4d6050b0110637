"""The custody log as an operator, an auditor and a stranger meet it: heads, proofs, checks, recovery, evidence, witnesses."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.clock import SystemClock
from archiver.custody.event import leaf_hash
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.translog.checkpoint import open_checkpoint
from archiver.translog.merkle import verify_consistency
from archiver.translog.note import parse_vkey
from archiver.translog.proof import parse_proof
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.fixtures_s3 import NewBucket
from tests.log_oracle import open_proof

DIRECTORY = "[{id: primary, kind: directory, path: copies}]"


@dataclass
class Swept:
    """An archive after one sweep, and its command line."""

    archive: Archive
    folder: Path

    def run(self, *arguments: str, code: int = 0) -> str:
        done = archiver("-c", self.archive.path, *arguments)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stdout + done.stderr

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = archiver("-c", self.archive.path, "-o", "json", *arguments)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)["data"]

    @property
    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "state" / "archiver.db", isolation_level=None)


def swept(folder: Path, storage: str, count: int = 2) -> Swept:
    async def sweep() -> Archive:
        sims = fleet.fleet(SystemClock(), samples(), seed=5, count=count)
        async with sims["kazoo"], sims["plivo"]:
            chosen = {name: sims[name] for name in ("kazoo", "plivo")}
            archive = make_archive(folder, chosen, "sqlite:///archiver.db", storage)
            assert (await archive.sweep()).exit_code == 0
            return archive

    return Swept(asyncio.run(sweep()), folder)


@pytest.fixture
def archive(tmp_path: Path) -> Swept:
    return swept(tmp_path, DIRECTORY)


def test_what_happened_can_be_proved_to_a_stranger_from_the_command_line(archive: Swept) -> None:
    head = archive.json("custody", "checkpoint")
    key = parse_vkey(head["vkey"])
    checkpoint, _ = open_checkpoint(head["note"].encode(), key)
    assert (checkpoint.size, checkpoint.origin) == (head["leaves"], "test/custody")
    assert head["published_at"] is not None
    assert archive.run("custody", "checkpoint", "--raw") == head["note"]
    events = archive.json("custody", "log", "--limit", "0")
    assert [each["leaf"] for each in events] == list(range(checkpoint.size))
    recording = next(each["subject"] for each in events if each["type"] == "recording.store_verified")
    found = archive.json("custody", "prove", recording.removeprefix("rec:"))
    proof = parse_proof(found["proof"].encode())
    open_proof(proof, leaf_hash(found["entry"].encode()), key)
    assert json.loads(found["entry"])["ev"]["subject"] == recording


def test_the_log_is_shown_to_continue_what_an_auditor_saw(archive: Swept) -> None:
    found = archive.json("custody", "prove", "--since", "3")
    proof = [base64.b64decode(each) for each in found["proof"]]
    verify_consistency(
        3, base64.b64decode(found["old_root"]), found["new_size"], base64.b64decode(found["new_root"]), proof
    )


@pytest.mark.parametrize("level", ["quick", "window", "full"])
def test_a_clean_log_has_no_findings(archive: Swept, level: str) -> None:
    found = archive.json("custody", "fsck", "--level", level)
    assert (found["findings"], found["unreachable"]) == ([], {})


def test_an_edited_event_is_named_by_leaf_and_verify_exits_65(archive: Swept) -> None:
    with archive.database as db:
        db.execute("DROP TRIGGER custody_event_update")
        db.execute("UPDATE custody_event SET entry = CAST(replace(entry, 'ok', 'no') AS BLOB) WHERE leaf_index = 4")
    found = archive.json("verify", code=65)
    assert any("leaf 4" in each["detail"] for each in found["findings"])


def test_a_database_from_yesterday_is_refused_recovered_and_whole_again(archive: Swept) -> None:
    """The crash table's rollback row, as an operator lives through it."""
    file = archive.folder / "state" / "archiver.db"
    old = archive.folder / "yesterday.db"
    shutil.copy(file, old)
    ids = [row["id"] for row in archive.json("recordings", "list")]
    get = ("recordings", "get", ids[0], "-O", str(archive.folder / "heard.mp3"), "--reason", "drill", "--yes")
    archive.run(*get)
    archive.run("run", "--once", code=75)  # the simulators are gone: nothing can be polled, but the log is published
    size = archive.json("custody", "checkpoint")["size"]
    shutil.copy(old, file)
    told = archive.run("run", "--once", code=65)
    assert "archiver custody recover" in told
    assert archive.json("custody", "fsck", code=65)["findings"]
    assert f"and has {size} now" in archive.run("custody", "recover")
    assert "nothing is missing" in archive.run("custody", "recover")
    archive.run("run", "--once", code=75)
    found = archive.json("custody", "fsck")
    assert found["findings"] == []
    types = [each["type"] for each in archive.json("custody", "log", "--limit", "0", "--subject", "archive")]
    assert {"anomaly.db_rollback", "log.restored"} <= set(types)


def test_an_evidence_bundle_proves_itself_without_our_software_and_not_after_a_change(archive: Swept) -> None:
    ids = [row["id"] for row in archive.json("recordings", "list")]
    bundle = archive.folder / "case-17"
    assert "needs --reason" in archive.run("export", "evidence", ids[0], "-O", str(bundle), code=2)
    made = archive.json("export", "evidence", *ids[:2], "-O", str(bundle), "--reason", "Subpoena 26-cv-118", "--yes")
    assert made["recordings"] == ids[:2]
    key = archive.json("custody", "checkpoint")["vkey"]

    def verified() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "verify_custody.py", ".", "--log-key", key]
        return subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=60, check=False)

    good = verified()
    assert good.returncode == 0, good.stdout
    assert "RESULT PASS" in good.stdout
    types = [each["type"] for each in archive.json("custody", "log", "--limit", "0", "--subject", f"rec:{ids[0]}")]
    assert types[-2:] == ["export.prepared", "export.delivered"]
    assert archive.json("custody", "fsck")["findings"] == []
    audio = next((bundle / "data" / "recordings" / ids[0]).glob("audio.*"))
    audio.chmod(0o600)
    audio.write_bytes(audio.read_bytes()[:-1] + b"!")
    assert verified().returncode == 65


def test_an_evidence_bundle_says_of_each_day_what_was_listed_and_archived(archive: Swept) -> None:
    """Of the days of its recordings, and of every day that was asked for; not of other providers."""
    rows = archive.json("recordings", "list", "--provider", "plivo")
    days = sorted({row["call_started_at"][:10] for row in rows})
    first = (datetime.fromisoformat(days[0]) - timedelta(days=2)).date().isoformat()
    today = datetime.now(UTC).date().isoformat()
    bundle = archive.folder / "case-18"
    asked = ("--provider", "plivo", "--from", first)
    archive.json("export", "evidence", *asked, "-O", str(bundle), "--reason", "Subpoena 26-cv-119", "--yes")
    stated = {path.name[-15:-5]: json.loads(path.read_bytes()) for path in (bundle / "data" / "statements").iterdir()}
    assert {each["provider"] for each in stated.values()} == {"plivo"}
    assert {day for day in days if day != today} <= stated.keys()
    assert first in stated
    for day in set(days) & stated.keys():
        assert stated[day]["listed"] == sum(row["call_started_at"][:10] == day for row in rows)
    key = archive.json("custody", "checkpoint")["vkey"]
    command = [sys.executable, "-I", "verify_custody.py", ".", "--log-key", key]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("So stated by the archive on ") == len(stated)
    entries = [json.loads(path.read_bytes())["ev"] for path in (bundle / "data/log/archive-events").glob("*.json")]
    told = [each["data"] for each in entries if each["type"] == "reconcile.completed"]
    assert {(each["provider"], each["day"]) for each in told} == {("plivo", day) for day in stated}


def test_an_export_whose_audio_is_gone_leaves_no_bundle(archive: Swept) -> None:
    shutil.rmtree(archive.folder / "copies" / "recordings")
    ids = [row["id"] for row in archive.json("recordings", "list")]
    bundle = archive.folder / "case"
    archive.run("export", "evidence", ids[0], "-O", str(bundle), "--reason", "x", "--yes", code=66)
    assert not bundle.exists()
    assert list(archive.folder.glob(".case*")) == []


@pytest.mark.effect("custody.witnesses[].url", "custody.witnesses[].key")
def test_a_witness_cosigns_what_continues_and_its_signature_is_in_the_checkpoint(tmp_path: Path) -> None:
    """An auditor's `archiver witness`, configured as `custody.witnesses`."""
    archive = swept(tmp_path, DIRECTORY)
    key = archive.json("custody", "checkpoint")["vkey"]
    command = [sys.executable, "-m", "archiver", "witness", "--name", "auditor.example", "--key", str(tmp_path / "w.pem"),
               "--state", str(tmp_path / "w.db"), "--log-key", key, "--listen", "127.0.0.1:0"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            own = process.stdout.readline().split()[-1]
            port = re.search(r":(\d+)$", process.stdout.readline().strip())
            assert port is not None
            text = archive.archive.path.read_text().replace(
                "custody: {", f"custody: {{witnesses: [{{url: 'http://127.0.0.1:{port[1]}', key: {own}}}], "
            )
            archive.archive.path.write_text(text)
            archive.run("run", "--once", code=75)
        finally:
            process.terminate()
            process.wait(timeout=20)
    note = archive.json("custody", "checkpoint")["note"]
    _, cosigned = open_checkpoint(note.encode(), parse_vkey(key), [parse_vkey(own)])
    assert [each.name for each, _ in cosigned] == ["auditor.example"]


@pytest.mark.effect("storage[](s3).prefix")
def test_the_log_is_published_under_object_lock(tmp_path: Path, new_bucket: NewBucket) -> None:
    from tests.acceptance.test_archive import s3

    options = new_bucket()
    archive = swept(tmp_path, s3(options, tmp_path), count=1)
    assert archive.json("custody", "fsck")["findings"] == []
    bucket = _client(options)
    name = f"calls/custody/checkpoints/{archive.json('custody', 'checkpoint')['size']:020d}"
    head = bucket.head_object(Bucket=options.bucket, Key=name)
    assert head["ObjectLockMode"] == "COMPLIANCE"
    bucket.put_object(Bucket=options.bucket, Key=name, Body=b"a newer version over it")
    bucket.delete_object(Bucket=options.bucket, Key=name)
    found = archive.json("custody", "fsck", code=65)
    assert [each["kind"] for each in found["findings"]] == ["log_shelf"]
    assert "delete marker" in found["findings"][0]["detail"]


def _client(options: Any) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=options.endpoint,
        region_name=options.region,
        aws_access_key_id=options.access_key.reveal(),
        aws_secret_access_key=options.secret_key.reveal(),
    )
