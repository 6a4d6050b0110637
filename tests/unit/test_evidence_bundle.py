"""The bundle writer: what it writes passes its own verifier and second readers, and a crash leaves nothing like a bundle."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from archiver.errors import DestinationError, NotAllowedError, VerificationError
from archiver.evidence import manifest, verifier
from archiver.evidence.bundle import VERIFIER_SHA256, Draft
from archiver.evidence.model import Disclosure, Known, Logged, LogPart, Request, Statement, delivered, prepared
from tests import evidence_log as second
from tests.evidence_log import Log, b64, jcs, key_of, record

SPEC = Path(__file__).parents[2] / "docs" / "spec" / "evidence-bundle.md"
AUDIO = (second.AUDIO / "plivo-48k-stereo-22050.mp3").read_bytes()
WORKER, EXPORTER = key_of("worker"), key_of("exporter")
MADE_AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class Archive:
    """A log with recordings in it, and what an exporter would ask of it."""

    def __init__(self, recordings: int = 1, *, audio: bytes | None = AUDIO, seed: str = "bundle") -> None:
        self.log = Log(seed)
        self.log.enroll(WORKER)
        self.audio = audio
        self.content = dict(record(self.log, WORKER, audio) for _ in range(recordings))
        self.log.enroll(EXPORTER)
        self.request = Request(
            export=self.log.uuid(),
            instance="acme-prod",
            made_at=MADE_AT,
            requested_by="r.ortega (compliance)",
            reason="Subpoena 26-cv-118 <b>&amp;</b>",
            selection={"number": "+14155550123"},
            legal_basis="Fed. R. Civ. P. 45",
        )

    def fill(self, draft: Draft) -> str:
        for recording, files in self.content.items():
            if self.audio is not None:
                with draft.audio(recording, "mp3") as sink:
                    for start in range(0, len(self.audio), 10_000):
                        sink.write(self.audio[start : start + 10_000])
            groups = json.loads(files[f"data/recordings/{recording}/private.json"])
            private = [Disclosure(0, name, bytes.fromhex(each["salt"]), each["data"]) for name, each in groups.items()]
            draft.add(recording, files[f"data/recordings/{recording}/provider.json"], private)
        return draft.prepare()

    def publish(self, digest: str) -> LogPart:
        log = self.log
        for recording in self.content:
            seq, prev = log.heads[f"rec:{recording}"]
            data = prepared(self.request.export, "subpoena", digest, seq, bytes.fromhex(prev or ""))
            log.append(f"rec:{recording}", "export.prepared", data, EXPORTER)
        log.append(f"rec:{log.uuid()}", "recording.discovered", {}, WORKER)
        return self.part(log.checkpoint())

    def part(self, checkpoint: bytes) -> LogPart:
        def logged(subject: str) -> tuple[Logged, ...]:
            places = self.log.where[subject]
            return tuple(Logged(self.log.entries[at], self.log.tlog_proof(at, checkpoint)) for at in places)

        events = {recording: logged(f"rec:{recording}") for recording in self.content}
        return LogPart(checkpoint, self.log.vkey, (self.log.host_hex,), events, logged("archive"))

    def export(self, target: Path, change: Callable[[LogPart], LogPart] = lambda part: part) -> LogPart:
        with Draft(target, self.request) as draft:
            part = change(self.publish(self.fill(draft)))
            self.bundle = draft.close(part, EXPORTER.sign)
        return part


def _passes(folder: Path, log: Log) -> bool:
    return all(mark == "PASS" for mark, _ in verifier.examine(folder, log.vkey, [log.host_hex]).lines)


def _parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


# --- what it writes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recordings", [1, 3])
def test_bundle_passes_its_own_verifier(recordings: int, tmp_path: Path) -> None:
    archive = Archive(recordings)
    archive.export(tmp_path / "case")
    assert _passes(tmp_path / "case", archive.log)
    assert _parts(tmp_path) == []
    tags = (tmp_path / "case/tagmanifest-sha256.txt").read_bytes()
    assert archive.bundle.bag_sha256 == hashlib.sha256(tags).hexdigest()
    files = [path for path in (tmp_path / "case").rglob("*") if path.is_file()]
    assert archive.bundle.files == len(files)
    assert archive.bundle.bytes == sum(path.stat().st_size for path in files)
    assert delivered("x", archive.bundle.bag_sha256)["bag_sha256"] == archive.bundle.bag_sha256


def test_bundle_holds_the_very_bytes(tmp_path: Path) -> None:
    archive = Archive()
    part = archive.export(tmp_path / "case")
    ((recording, files),) = archive.content.items()
    folder = tmp_path / "case/data/recordings" / recording
    assert (folder / "audio.mp3").read_bytes() == AUDIO
    assert (folder / "provider.json").read_bytes() == files[f"data/recordings/{recording}/provider.json"]
    for seq, logged in enumerate(part.events[recording]):
        assert (folder / f"events/{seq:04d}.json").read_bytes() == logged.entry
        assert (folder / f"proofs/{seq:04d}.tlog-proof").read_bytes() == logged.proof


def test_bundle_is_for_its_owner_alone(tmp_path: Path) -> None:
    Archive().export(tmp_path / "case")
    for path in [tmp_path / "case", *(tmp_path / "case").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_of_several_disclosures_of_a_group_the_newest_is_private_json(tmp_path: Path) -> None:
    archive = Archive()
    ((recording, _),) = archive.content.items()
    salt, data = bytes(32), {"row_base64": b64(b"newer")}
    commitment = hashlib.sha256(b"custody-priv-v1\0" + salt + jcs(data)).hexdigest()
    archive.log.append(f"rec:{recording}", "recording.source_refreshed", {}, WORKER, {"provider_meta": commitment})
    groups = json.loads(archive.content[recording][f"data/recordings/{recording}/private.json"])
    old = [Disclosure(0, name, bytes.fromhex(each["salt"]), each["data"]) for name, each in groups.items()]
    with Draft(tmp_path / "case", archive.request) as draft:
        with draft.audio(recording, "mp3") as sink:
            sink.write(AUDIO)
        draft.add(recording, b"newer", [Disclosure(6, "provider_meta", salt, data), *old])
        draft.close(archive.publish(draft.prepare()), EXPORTER.sign)
    folder = tmp_path / "case/data/recordings" / recording
    assert set(json.loads((folder / "private.json").read_bytes())) == {"provider_meta", "parties"}
    assert set(json.loads((folder / "private-0000.json").read_bytes())) == {"provider_meta"}
    assert _passes(tmp_path / "case", archive.log)


def test_recording_without_audio_is_bundled(tmp_path: Path) -> None:
    archive = Archive(audio=None)
    archive.export(tmp_path / "case")
    assert _passes(tmp_path / "case", archive.log)
    assert "none in this bundle" in (tmp_path / "case/data/report.html").read_text()


def test_earlier_checkpoint_of_the_receiver_is_tied_in(tmp_path: Path) -> None:
    archive = Archive()

    def change(part: LogPart) -> LogPart:
        return replace(part, known=Known(archive.log.checkpoint(4), tuple(second.proof(4, archive.log.leaves))))

    archive.export(tmp_path / "case", change)
    found = verifier.examine(tmp_path / "case", archive.log.vkey)
    assert any("began with the 4 leaves" in text for mark, text in found.lines if mark == "PASS")


def test_verifier_in_the_bundle_is_the_published_one(tmp_path: Path) -> None:
    archive = Archive()
    archive.export(tmp_path / "case")
    shipped = hashlib.sha256((tmp_path / "case/verify_custody.py").read_bytes()).hexdigest()
    assert shipped == VERIFIER_SHA256
    published = re.findall(r"`([0-9a-f]{64})`", SPEC.read_text())
    assert published == [shipped], "docs/spec/evidence-bundle.md publishes another digest of the verifier"
    assert shipped in (tmp_path / "case/README-VERIFY.txt").read_text()


def _stating(archive: Archive, **changes: object) -> Statement:
    raw = archive.log.state(WORKER, **changes)  # type: ignore[arg-type]
    return Statement("plivo-us", date(2026, 11, 1), raw)


def test_completeness_statement_is_content_and_told_to_people(tmp_path: Path) -> None:
    archive = Archive()
    hole = {"scope": "", "since": "2026-11-01T00:00:00Z", "until": "2026-11-01T06:00:00Z"}
    statement = _stating(archive, complete=False, holes=[hole])
    with Draft(tmp_path / "case", archive.request) as draft:
        draft.state(statement)
        draft.close(archive.publish(archive.fill(draft)), EXPORTER.sign)
    assert (tmp_path / "case" / statement.path).read_bytes() == statement.document
    assert statement.path in (tmp_path / "case/data/content-manifest.txt").read_text()
    assert _passes(tmp_path / "case", archive.log)
    page = (tmp_path / "case/data/report.html").read_text()
    for said in (
        "Not complete",
        "3 listed",
        "2 archived",
        "not listed in full from 2026-11-01T00:00:00Z",
        "cannot prove",
    ):
        assert said in page
    assert statement.path.rpartition("/")[2] in page
    assert "data/statements/" in (tmp_path / "case/README-VERIFY.txt").read_text()


def test_statement_whose_event_is_not_there_never_gets_its_name(tmp_path: Path) -> None:
    archive = Archive()
    statement = _stating(archive)
    with Draft(tmp_path / "case", archive.request) as draft:
        draft.state(replace(statement, document=statement.document.replace(b'"listed":3', b'"listed":4')))
        part = archive.publish(archive.fill(draft))
        with pytest.raises(VerificationError, match="no event states the completeness of plivo-us on 2026-11-01"):
            draft.close(part, EXPORTER.sign)
    assert list(tmp_path.iterdir()) == []


# --- what it refuses ------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    with pytest.raises(NotAllowedError, match="overwrites nothing"):
        Draft(tmp_path / "case", Archive().request)
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_target_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    def change(part: LogPart) -> LogPart:
        (tmp_path / "case").write_text("mine")
        return part

    with pytest.raises(NotAllowedError):
        Archive().export(tmp_path / "case", change)
    assert (tmp_path / "case").read_text() == "mine"
    assert _parts(tmp_path) == []


def test_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAllowedError, match="cannot be made"):
        Draft(tmp_path / "nowhere" / "case", Archive().request)


def _no_last_event(part: LogPart) -> LogPart:
    return replace(part, events={recording: chain[:-1] for recording, chain in part.events.items()})


def _foreign_proof(part: LogPart) -> LogPart:
    ((recording, chain),) = part.events.items()
    return replace(part, events={recording: (replace(chain[0], proof=chain[1].proof), *chain[1:])})


def _no_enrolments(part: LogPart) -> LogPart:
    return replace(part, archive=())


def _foreign_key(part: LogPart) -> LogPart:
    return replace(part, log_key=second.vkey(second.ORIGIN, key_of("other")))


def _no_key(part: LogPart) -> LogPart:
    return replace(part, log_key="none")


def _cut_checkpoint(part: LogPart) -> LogPart:
    return replace(part, checkpoint=part.checkpoint[:-5])


def _cut_proof(part: LogPart) -> LogPart:
    return replace(part, archive=(replace(part.archive[0], proof=b"c2sp"),))


@pytest.mark.parametrize(
    "change", [_no_last_event, _foreign_proof, _no_enrolments, _foreign_key, _no_key, _cut_checkpoint, _cut_proof]
)
def test_what_would_not_verify_never_gets_its_name(change: Callable[[LogPart], LogPart], tmp_path: Path) -> None:
    with pytest.raises(VerificationError):
        Archive().export(tmp_path / "case", change)
    assert list(tmp_path.iterdir()) == []


def test_bundle_that_another_key_signs_never_gets_its_name(tmp_path: Path) -> None:
    archive = Archive()
    with Draft(tmp_path / "case", archive.request) as draft:
        part = archive.publish(archive.fill(draft))
        with pytest.raises(VerificationError, match="exporter"):
            draft.close(part, key_of("another").sign)
    assert list(tmp_path.iterdir()) == []


def test_audio_other_than_sealed_never_gets_its_name(tmp_path: Path) -> None:
    archive = Archive()
    archive.audio = AUDIO[:-1]
    with pytest.raises(VerificationError, match=r"audio\.mp3: it is not what was downloaded and sealed"):
        archive.export(tmp_path / "case")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "a b", "é", "", "-x"])
def test_path_that_reads_in_two_ways_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no path"):
        manifest.check_path(f"data/{name}")


# --- what if it dies here -----------------------------------------------------------------------------------------


class _DiedError(BaseException):
    pass


@pytest.mark.parametrize("step", ["audio", "prepare", "publish", "sign", "rename"])
def test_death_at_any_step_leaves_nothing_that_looks_finished(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL runs no clean-up: neither does this draft."""
    archive = Archive()
    monkeypatch.setattr("archiver.evidence.bundle.shutil.rmtree", lambda *_, **__: None)

    def die(*_: object) -> bytes:
        raise _DiedError

    def run() -> None:
        with Draft(tmp_path / "case", archive.request) as draft:
            if step == "audio":
                with draft.audio("0" * 8, "mp3") as sink:
                    sink.write(AUDIO[:100])
                    die()
            digest = archive.fill(draft)
            if step == "prepare":
                die()
            part = archive.publish(digest)
            if step == "publish":
                die()
            if step == "rename":
                monkeypatch.setattr("archiver.evidence.bundle.Path.rename", die)
            draft.close(part, die if step == "sign" else EXPORTER.sign)

    with pytest.raises(_DiedError):
        run()
    assert not (tmp_path / "case").exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".case.")
    assert left.name.endswith(".part")
    if step != "rename":
        assert not (left / "bagit.txt").exists()
    again = replace(archive.request, export=archive.log.uuid())
    archive.request = again
    monkeypatch.undo()
    fresh = Archive()
    fresh.request = again
    fresh.export(tmp_path / "case")
    assert _passes(tmp_path / "case", fresh.log)


def test_rename_done_but_answer_lost_leaves_the_whole_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive()
    rename = Path.rename

    def lost(self: Path, target: Path) -> Path:
        rename(self, target)
        raise _DiedError

    monkeypatch.setattr("archiver.evidence.bundle.Path.rename", lost)
    with pytest.raises(_DiedError):
        archive.export(tmp_path / "case")
    assert _passes(tmp_path / "case", archive.log)


def test_full_disk_is_a_destination_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr("archiver.evidence.bundle.os.fsync", full)
    with pytest.raises(DestinationError, match="No space left"):
        Archive().export(tmp_path / "case")
    assert list(tmp_path.iterdir()) == []


# --- what people read -----------------------------------------------------------------------------------------------


def test_report_cites_file_and_leaf_of_every_event(tmp_path: Path) -> None:
    archive = Archive(2)
    part = archive.export(tmp_path / "case")
    page = (tmp_path / "case/data/report.html").read_text()
    for chain in part.events.values():
        for seq, logged in enumerate(chain):
            assert f"<code>events/{seq:04d}.json</code><br>leaf {logged.index}</td>" in page
            assert logged.event.type in page
    for logged in part.archive:
        assert f"<code>{logged.index:012d}.json</code><br>leaf {logged.index}</td>" in page
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http status", "")  # nothing comes from elsewhere


def test_report_shows_hostile_words_as_words(tmp_path: Path) -> None:
    archive = Archive()
    archive.request = replace(archive.request, reason="<script>alert(1)</script>", requested_by="ओर्तेगा\u202e")
    archive.export(tmp_path / "case")
    page = (tmp_path / "case/data/report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "ओर्तेगा" in page


def test_certificate_claims_what_the_ledger_backs_and_leaves_blanks(tmp_path: Path) -> None:
    archive = Archive()
    archive.export(tmp_path / "case")
    text = (tmp_path / "case/data/certificate-902.txt").read_text()
    assert hashlib.sha256(AUDIO).hexdigest() in text
    assert "902(13)" in text
    assert "902(14)" in text
    assert "[full name]" in text
    assert text.startswith("DRAFT")


def test_same_facts_give_the_same_bundle(tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    archive = Archive()
    with Draft(tmp_path / "one", archive.request) as one:
        part = archive.publish(archive.fill(one))
        one.close(part, EXPORTER.sign)
    with Draft(tmp_path / "two", archive.request) as two:
        archive.fill(two)
        two.close(part, EXPORTER.sign)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
