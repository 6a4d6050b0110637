"""`archiver export evidence` with a checkpoint that the receiver has: a true one is continued, any other has its sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.evidence import verifier
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.evidence_log import Log, key_of, sign_note

_DIRECTORY = "[{id: primary, kind: directory, path: copies}]"


def _run(archive: Archive, *arguments: str) -> Any:
    done = archiver("-c", archive.path, "-o", "json", *arguments)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)["data"]


def _export(archive: Archive, recording: str, target: Path, known: Path) -> Any:
    return archiver(
        "-c", archive.path, "export", "evidence", recording, "-O", str(target), "--known", str(known),
        "--reason", "Subpoena", "--yes",
    )  # fmt: skip


async def test_receivers_checkpoint_is_continued_or_refused_before_anything_is_decrypted(tmp_path: Path) -> None:
    sim = fleet.fleet(SystemClock(), samples(), seed=3, count=1)["plivo"]
    async with sim:
        archive = make_archive(tmp_path, {"plivo": sim}, "sqlite:///archiver.db", _DIRECTORY)
        assert (await archive.sweep()).exit_code == 0
    recording = _run(archive, "recordings", "list", "--state", "archived")[0]["id"]
    shown = _run(archive, "custody", "checkpoint")
    known, target = tmp_path / "known", tmp_path / "case"
    events = len(_run(archive, "custody", "log", "--subject", f"rec:{recording}"))

    foreign = Log("foreign")
    foreign.enroll(key_of("w"))
    name = shown["vkey"].split("+")[0]
    body = foreign.body().replace(foreign.body().split("\n")[0], name)
    for data, sentence in (
        (f"{body}\n{sign_note(body, name, foreign.key)}".encode(), "the receiver's checkpoint is foreign, or damaged"),
        (b"archive", "the receiver's checkpoint is foreign, or damaged"),
    ):
        known.write_bytes(data)
        done = _export(archive, recording, target, known)
        assert (done.returncode, "Traceback" in done.stderr) == (65, False), done.stderr
        assert sentence in done.stderr
        assert not target.exists()
    assert len(_run(archive, "custody", "log", "--subject", f"rec:{recording}")) == events

    known.write_text(shown["note"])
    assert _export(archive, recording, target, known).returncode == 0
    found = verifier.examine(target, shown["vkey"])
    assert [text for mark, text in found.lines if mark == "FAIL"] == []
    assert any(text.startswith("earlier checkpoint: the log began with") for _, text in found.lines)
