"""The verifier that travels with each bundle: everything true passes, each lie has its own sentence, nothing is a stack trace."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver.evidence import verifier
from archiver.evidence.verifier import primitives
from archiver.evidence.verifier.bag import CONTENT
from tests import evidence_log as second
from tests.evidence_log import Bag, Log, b64, close_bag, key_of, make_bag, public, record

Change = Callable[[Bag], None]


def _examine(bag: Bag, folder: Path, **options: str) -> verifier.Bundle:
    return verifier.examine(bag.write(folder), *bag.arguments, **options)


def _wrong(bundle: verifier.Bundle) -> list[str]:
    return [text for mark, text in bundle.lines if mark == "FAIL"]


@pytest.fixture
def bag() -> Bag:
    return make_bag()


# --- clean bags -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(8))
def test_clean_bag_of_a_second_implementation_passes(number: int, tmp_path: Path) -> None:
    found = _examine(make_bag(f"clean{number}", 1 + number % 3, noise=number * 4), tmp_path)
    assert _wrong(found) == []
    assert len(found.lines) == 4 + 4 * (1 + number % 3)


def test_adopted_recording_without_its_own_object_passes(tmp_path: Path) -> None:
    """Same content as another recording's: downloaded, never sealed."""
    log, worker, exporter = Log("adopted"), key_of("w"), key_of("x")
    log.enroll(worker)
    recording, files = record(log, worker, None)
    data = {"pt_sha256": hashlib.sha256(b"same").hexdigest(), "same_content_as": f"rec:{log.uuid()}", "bytes": 4}
    log.append(f"rec:{recording}", "recording.downloaded", data, worker)
    files[f"data/recordings/{recording}/audio.mp3"] = b"same"
    log.enroll(exporter)
    assert _wrong(_examine(close_bag(log, exporter, [recording], files), tmp_path)) == []


def test_recording_without_audio_passes_and_says_so(tmp_path: Path) -> None:
    log, worker = Log("gone"), key_of("w")
    log.enroll(worker)
    recording, files = record(log, worker, None)
    found = _examine(close_bag(log, worker, [recording], files), tmp_path)
    assert _wrong(found) == []
    assert any("audio is not in this bundle" in text for text in found.unproved)


def test_writer_retired_after_its_events_passes(tmp_path: Path) -> None:
    log, worker, exporter = Log("retired later"), key_of("w"), key_of("x")
    log.enroll(worker)
    recording, files = record(log, worker, b"audio")
    log.enroll(worker, "writer.retired")
    log.enroll(exporter)
    assert _wrong(_examine(close_bag(log, exporter, [recording], files), tmp_path)) == []


@pytest.mark.parametrize("known", [1, 2, 3, 4, 7, 8, 11])
def test_earlier_checkpoint_is_contained(known: int, tmp_path: Path) -> None:
    found = _examine(make_bag("known", known=known), tmp_path)
    assert _wrong(found) == []
    assert any(f"began with the {known} leaves" in text for _, text in found.lines)


# --- the command ----------------------------------------------------------------------------------------------------


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "verify_custody.py", ".", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_command_passes_a_clean_bag_with_keys_from_elsewhere(bag: Bag, tmp_path: Path) -> None:
    done = _run(bag.write(tmp_path), "--log-key", bag.log.vkey, "--host-key", bag.log.host_hex)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nRESULT PASS\n")
    assert hashlib.sha256(second.VERIFIER).hexdigest() in done.stdout
    assert "when this log existed" in done.stdout
    assert "no --host-key" not in done.stdout


def test_command_without_a_key_proves_nothing_and_shows_the_key_to_compare(bag: Bag, tmp_path: Path) -> None:
    done = _run(bag.write(tmp_path))
    assert (done.returncode, done.stderr) == (69, "")
    assert bag.log.vkey in done.stdout
    assert "RESULT NOT PROVED: no --log-key" in done.stdout


def test_command_fails_a_changed_bag(bag: Bag, tmp_path: Path) -> None:
    bag.files[f"data/recordings/{bag.recordings[0]}/audio.mp3"] += b"\0"
    done = _run(bag.write(tmp_path), "--log-key", bag.log.vkey)
    assert (done.returncode, done.stderr) == (65, "")
    assert "FAIL  files" in done.stdout
    assert "RESULT FAIL" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--log-key", "no key"),
        ("--log-key", "example.com/log+00000000+AUKLWgZmhyB/eYP853jQBZnc0No8uvxW9T74tiavxOm7"),
        ("--log-key", second.vkey("w", key_of("w"), 4)),
        ("--host-key", "AB" * 32),
        ("--policy", "/nonexistent"),
    ],
)
def test_unusable_key_has_its_sentence(arguments: tuple[str, ...], bag: Bag, tmp_path: Path) -> None:
    done = _run(bag.write(tmp_path), *arguments)
    assert (done.returncode, done.stderr) == (69, "")
    assert "RESULT NOT PROVED: a key is missing or unusable" in done.stdout


def test_missing_key_in_an_emptied_bundle_has_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "verify_custody.py").write_bytes(second.VERIFIER)
    done = _run(tmp_path)
    assert (done.returncode, done.stderr) == (69, "")
    assert "no log key was given" in done.stdout


def test_command_runs_without_cryptography(bag: Bag, tmp_path: Path) -> None:
    """The pure Ed25519 decides, on a Python that has nothing installed."""
    script = f"import sys; sys.modules['cryptography'] = None; sys.argv = ['v', '.', '--log-key', {bag.log.vkey!r}]\n"
    script += "import runpy; runpy.run_path('verify_custody.py', run_name='__main__')"
    bag.write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "RESULT PASS" in done.stdout


def test_nothing_in_a_bag_reaches_the_terminal_unescaped(bag: Bag, tmp_path: Path) -> None:
    request = json.loads(bag.files["data/request.json"])
    bag.files["data/request.json"] = json.dumps(request | {"export": "\x1b[2J" + request["export"]}).encode()
    done = _run(bag.write(tmp_path), "--log-key", bag.log.vkey)
    assert done.returncode == 65
    assert "\x1b" not in done.stdout


def test_verifier_is_one_file_of_the_standard_library_alone() -> None:
    """`cryptography` only where it is installed; nothing of the archiver, ever."""
    imported = {
        name.split(".")[0]
        for each in ast.walk(ast.parse(second.VERIFIER))
        for name in (
            [alias.name for alias in each.names] if isinstance(each, ast.Import)
            else [str(each.module)] if isinstance(each, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert imported - sys.stdlib_module_names == {"cryptography"}


def test_python_that_is_too_old_is_told_so_and_nothing_is_said_of_the_bundle() -> None:
    """Python 3.8 said FAIL where it meant that it lacks a method; 3.6 stumbled over a line. Both read up to the sentence."""
    tree = ast.parse(second.VERIFIER, feature_version=(3, 6))
    assert not [each for each in tree.body if isinstance(each, ast.ImportFrom) and each.module == "__future__"]
    first, guard = tree.body[1:3]  # behind the docstring
    assert ast.unparse(first) == "import sys"
    assert isinstance(guard, ast.If)
    for version in ((3, 6, 15), (3, 8, 18), (3, 9, 0)):
        script = f"import sys; sys.version_info = {version}\n{ast.unparse(guard)}"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
        told = f"needs Python 3.9 or later; this is 3.{version[1]}. NOTHING WAS CHECKED" in done.stdout
        assert (done.returncode, told) == ((0, False) if version >= (3, 9) else (72, True))


def _old_pythons() -> list[str]:
    """Interpreters between 3.6 and 3.8 on this machine; most have none."""
    places = [*Path("/usr/bin").glob("python3.[678]"), *Path.home().glob(".pyenv/versions/3.[678].*/bin/python3")]
    return sorted(map(str, places))


def test_old_pythons_that_are_here_end_with_the_code_of_their_own(bag: Bag, tmp_path: Path) -> None:
    bag.write(tmp_path)
    for python in _old_pythons():
        command = [python, "-I", "verify_custody.py", ".", "--log-key", bag.log.vkey]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr, "NOTHING WAS CHECKED" in done.stdout) == (72, "", True)


def _top(text: bytes) -> tuple[list[ast.stmt], set[tuple[str, str]]]:
    """The statements of a file below its docstring, and apart from them what it imports, less the other parts."""
    below = ast.parse(text).body[1:]
    imports = [each for each in below if isinstance(each, (ast.Import, ast.ImportFrom))]
    modules = [(each, str(getattr(each, "module", ""))) for each in imports]
    names = {(module, alias.name) for each, module in modules for alias in each.names}
    return [each for each in below if each not in imports], {pair for pair in names if verifier.__name__ not in pair[0]}


def test_verifier_is_all_of_its_parts_and_no_name_of_one_hides_anothers() -> None:
    folder = Path(verifier.__file__).parent
    assert sorted(path.stem for path in folder.glob("*.py")) == sorted([*verifier.PARTS, "__init__"])
    parts = [_top((folder / f"{part}.py").read_bytes()) for part in verifier.PARTS]
    (guard, *statements), imports = _top(second.VERIFIER)
    assert isinstance(guard, ast.If)
    assert [ast.dump(each) for each in statements] == [ast.dump(each) for own, _ in parts for each in own]
    assert imports == set.union(*(own for _, own in parts)) - {("__future__", "annotations")}
    named = [each.name for each in statements if isinstance(each, (ast.FunctionDef, ast.ClassDef))]
    named += [
        name.id
        for each in statements if isinstance(each, (ast.Assign, ast.AnnAssign))
        for name in ast.walk(each) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    ]  # fmt: skip
    assert len(set(named)) == len(named)


# --- each lie its own sentence --------------------------------------------------------------------------------------


def _folder(bag: Bag) -> str:
    return f"data/recordings/{bag.recordings[0]}"


def _drop(name: str) -> Change:
    def change(bag: Bag) -> None:
        del bag.files[name.replace("REC", _folder(bag))]

    return change


def _swap(name: str, data: bytes) -> Change:
    def change(bag: Bag) -> None:
        bag.files[name.replace("REC", _folder(bag))] = data

    return change


def _cut_chain(bag: Bag) -> None:
    del bag.files[f"{_folder(bag)}/events/0006.json"]
    del bag.files[f"{_folder(bag)}/proofs/0006.tlog-proof"]


def _foreign_checkpoint(bag: Bag) -> None:
    other = Log("foreign")
    other.enroll(key_of("w"))
    bag.files["data/log/checkpoint"] = other.checkpoint()


def _foreign_log(bag: Bag) -> None:
    body = bag.log.body().replace("archive.example.com", "other.example.com")
    bag.files["data/log/checkpoint"] = (
        body + "\n" + second.sign_note(body, body.split("\n", 1)[0], bag.log.key)
    ).encode()


def _later_checkpoint(bag: Bag) -> None:
    bag.log.append(f"rec:{bag.log.uuid()}", "recording.discovered", {}, key_of("worker"))
    bag.files["data/log/checkpoint"] = bag.log.checkpoint()


def _earlier_tree(bag: Bag) -> None:
    """A genuine checkpoint of the log before this export, and proofs that claim to be for it."""
    early = bag.log.checkpoint(3)
    bag.files["data/log/checkpoint"] = early
    for name, data in bag.files.items():
        if name.endswith(".tlog-proof"):
            bag.files[name] = data.split(b"\n\n", 1)[0] + b"\n\n" + early


def _forged_signature(bag: Bag) -> None:
    checkpoint = bag.files["data/log/checkpoint"].decode()
    body = checkpoint.split("\n\n", maxsplit=1)[0] + "\n"
    forged = second.key_id(second.ORIGIN, 1, bag.log.key) + key_of("thief").sign(body.encode())
    bag.files["data/log/checkpoint"] = f"{body}\n— {second.ORIGIN} {b64(forged)}\n".encode()


STATED = "data/statements/plivo-us-2026-11-01.json"


def _move(old: str, new: str) -> Change:
    def change(bag: Bag) -> None:
        bag.files[new] = bag.files.pop(old)

    return change


def _drop_stating(bag: Bag) -> None:
    for name in [
        name for name, data in bag.files.items() if b'"reconcile.completed"' in data and "archive-events" in name
    ]:
        del bag.files[name]
        del bag.files[name.replace(".json", ".tlog-proof")]


LIES: dict[str, tuple[Change, str]] = {
    "audio swapped": (_swap("REC/audio.mp3", b"ID3 other"), "audio.mp3: it is not what was downloaded and sealed"),
    "audio missing": (_drop("REC/audio.mp3"), "audio.mp3 is missing: the bundle is incomplete or was cut off"),
    "provider swapped": (_swap("REC/provider.json", b"{}"), "it is not the provider's answer that was logged"),
    "last event dropped": (_cut_chain, "events were left out at the end"),
    "first event dropped": (_drop("REC/events/0000.json"), "event 0 is missing"),
    "middle event dropped": (_drop("REC/events/0003.json"), "event 3 is missing"),
    "proof dropped": (_drop("REC/proofs/0002.tlog-proof"), "0002.tlog-proof is missing"),
    "checkpoint of another key": (_foreign_checkpoint, "the checkpoint is foreign: the log key"),
    "checkpoint of another log": (_foreign_log, "the checkpoint is foreign: it is of the log 'other.example.com"),
    "checkpoint forged": (_forged_signature, "the log's signature does not match"),
    "later checkpoint": (_later_checkpoint, "is foreign: it is for another checkpoint"),
    "earlier checkpoint": (_earlier_tree, "is from the future: leaf"),
    "checkpoint cut off": (_swap("data/log/checkpoint", b"archive"), "the checkpoint is cut off"),
    "checkpoint missing": (_drop("data/log/checkpoint"), "data/log/checkpoint is missing"),
    "content manifest emptied": (_swap("data/content-manifest.txt", b""), "cut off, empty, or lists a file twice"),
    "manifest missing": (_drop("manifest-sha256.txt"), "manifest-sha256.txt is missing"),
    "exporter's signature missing": (_drop("tagmanifest-sha256.sig"), "tagmanifest-sha256.sig is missing"),
    "bagit.txt of another version": (_swap("bagit.txt", b"BagIt-Version: 0.97\n"), "not that of a BagIt 1.0 bag"),
    "request swapped": (_swap("data/request.json", b'{"export":"x","recordings":[]}'), "request.json"),
    "request is no object": (
        _swap("data/request.json", b"[]"),
        "data/request.json was changed: data/content-manifest.txt",
    ),
    "private data is no JSON": (_swap("REC/private.json", b"\xff{"), "private.json: damaged or not in the format"),
    "extra file": (_swap("data/extra.txt", b"boo"), "data/extra.txt is in the bundle, but in no manifest"),
    "entry is no JSON": (_swap("REC/events/0001.json", b"\0"), "is not in the log"),
    "entry nested without end": (_swap("REC/events/0001.json", b"[" * 16000), "is not in the log"),
    "proof is nothing": (_swap("REC/proofs/0001.tlog-proof", b""), "damaged or not in the format"),
    "report changed": (
        _swap("data/report.html", b"<p>other</p>"),
        "the bundle was changed after its exporter signed it",
    ),
    "statement swapped": (_swap(STATED, b"{}"), "no event in this bundle states it"),
    "statement under another day": (_move(STATED, f"{STATED[:-6]}9.json"), "is named after another provider or day"),
    "statement dropped": (_drop(STATED), "data/statements/plivo-us-2026-11-01.json is missing"),
    "event of the statement dropped": (_drop_stating, "no event in this bundle states it"),
    "verifier changed": (_swap("verify_custody.py", b"print('PASS')"), "after its exporter signed it"),
}


@pytest.mark.parametrize("name", LIES)
def test_lie_is_named_also_with_manifests_made_anew(name: str, tmp_path: Path) -> None:
    change, sentence = LIES[name]
    bag = make_bag(stated=2)
    change(bag)
    found = _wrong(_examine(bag, tmp_path / "plain"))
    assert found
    if name not in {"manifest missing", "extra file"}:
        bag.seal()
        found = _wrong(_examine(bag, tmp_path / "anew"))
    assert any(sentence in text for text in found), found


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_truncated_files_are_named(size: int, bag: Bag, tmp_path: Path) -> None:
    for number, name in enumerate(sorted(bag.files)):
        if size < len(bag.files[name]):
            cut = Bag(bag.files | {name: bag.files[name][:size]}, bag.log, bag.exporter, bag.recordings)
            assert _wrong(_examine(cut, tmp_path / str(number))), name


def test_what_is_no_file_is_refused(bag: Bag, tmp_path: Path) -> None:
    def found(folder: Path) -> list[str]:
        return _wrong(verifier.examine(folder, *bag.arguments))

    linked = bag.write(tmp_path / "linked")
    (linked / "data/report.html").rename(tmp_path / "elsewhere")
    (linked / "data/report.html").symlink_to(tmp_path / "elsewhere")
    assert any("report.html is no ordinary file" in text for text in found(linked))

    empty = bag.write(tmp_path / "empty")
    (empty / "data/attachments").mkdir()
    assert any("data/attachments is an empty folder" in text for text in found(empty))

    listed = tmp_path / "outside"
    bag.files["manifest-sha256.txt"] += f"{hashlib.sha256(b'x').hexdigest()}  ../../etc/passwd\n".encode()
    assert any("whose name is outside the format" in text for text in found(bag.write(listed)))


# --- events that the log holds, but that prove nothing ----------------------------------------------------------------


def _log_of(*, writers: tuple[str, ...] = ("w", "x")) -> tuple[Log, Ed25519PrivateKey, Ed25519PrivateKey]:
    log = Log("crooked")
    for name in writers:
        log.enroll(key_of(name))
    return log, key_of("w"), key_of("x")


def _retired_writer() -> Bag:
    log, worker, exporter = _log_of()
    log.enroll(worker, "writer.retired")
    recording, files = record(log, worker, b"audio")
    return close_bag(log, exporter, [recording], files)


def _never_enrolled() -> Bag:
    log, worker, exporter = _log_of(writers=("x",))
    recording, files = record(log, worker, b"audio")
    return close_bag(log, exporter, [recording], files)


def _enrolled_too_late() -> Bag:
    log, worker, exporter = _log_of(writers=("x",))
    recording, files = record(log, worker, b"audio")
    log.enroll(worker)
    return close_bag(log, exporter, [recording], files)


def _enrolment_left_out() -> Bag:
    log, worker, exporter = _log_of()
    recording, files = record(log, worker, b"audio")
    return close_bag(log, exporter, [recording], files, archive=[1])


def _enrolled_by_a_stranger() -> Bag:
    log, worker, exporter = _log_of(writers=("x",))
    log.append("archive", "writer.enrolled", {"writer": public(worker).hex()}, key_of("stranger"), actor="host")
    recording, files = record(log, worker, b"audio")
    return close_bag(log, exporter, [recording], files)


def _enrolled_by_a_writer() -> Bag:
    log, worker, exporter = _log_of(writers=("x",))
    log.append("archive", "writer.enrolled", {"writer": public(worker).hex()}, exporter)
    recording, files = record(log, worker, b"audio")
    return close_bag(log, exporter, [recording], files)


def _event_by_the_host() -> Bag:
    log, _, exporter = _log_of()
    recording, files = record(log, log.host, b"audio")
    return close_bag(log, exporter, [recording], files)


def _changed(index: int, **members: object) -> Callable[[], Bag]:
    """An event in which members are other than they should be, rightly signed and logged."""

    def make() -> Bag:
        log, worker, exporter = _log_of()
        recording, files = record(log, worker, b"audio")
        subject = f"rec:{recording}"
        heads: list[tuple[int, str | None]] = [
            (-1, None),
            *((seq, log.leaves[at].hex()) for seq, at in enumerate(log.where[subject])),
        ]
        entries = [json.loads(log.entries[at])["ev"] for at in log.where[subject]]
        start = log.where[subject][index]
        del log.entries[start:], log.where[subject][index:]
        log.heads[subject] = heads[index]
        for number, ev in enumerate(entries[index:]):
            changed = members if number == 0 else None
            log.append(subject, ev["type"], ev["data"], worker, ev["priv"], changed)
        return close_bag(log, exporter, [recording], files)

    return make


def _bad_signature() -> Bag:
    log, worker, exporter = _log_of()
    recording, files = record(log, worker, b"audio")
    entry = json.loads(log.entries[-1])
    log.entries.pop(), log.where[f"rec:{recording}"].pop()
    log.add(f"rec:{recording}", second.jcs({"ev": entry["ev"], "sig": b64(key_of("thief").sign(b"other"))}))
    log.heads[f"rec:{recording}"] = (5, log.leaves[-1].hex())
    return close_bag(log, exporter, [recording], files)


def _not_canonical() -> Bag:
    log, worker, exporter = _log_of()
    recording, files = record(log, worker, b"audio")
    entry = log.entries.pop()
    log.where[f"rec:{recording}"].pop()
    log.add(f"rec:{recording}", entry.replace(b'{"ev":', b'{ "ev":'))
    log.heads[f"rec:{recording}"] = (5, log.leaves[-1].hex())
    return close_bag(log, exporter, [recording], files)


def _stored_before_sealed() -> Bag:
    log, worker, exporter = _log_of()
    recording, files = record(log, worker, None)
    log.append(f"rec:{recording}", "recording.stored", {"storage": "primary", "ct_sha256": "0" * 64}, worker)
    return close_bag(log, exporter, [recording], files)


def _other_export() -> Bag:
    """The chain goes on after another export of the same recording, and the bag shows the newer one's events."""
    bag = make_bag("twice")
    content = {name: data for name, data in bag.files.items() if re.fullmatch(CONTENT, name)}
    del content["data/request.json"]
    again = close_bag(bag.log, bag.exporter, bag.recordings, content)
    again.files["data/content-manifest.txt"] = bag.files["data/content-manifest.txt"]
    again.files["data/request.json"] = bag.files["data/request.json"]
    again.seal(again.exporter.sign)
    return again


CROOKED: dict[str, tuple[Callable[[], Bag], str]] = {
    "writer was retired": (_retired_writer, "had been retired before it"),
    "writer never enrolled": (_never_enrolled, "was not enrolled before it"),
    "writer enrolled afterwards": (_enrolled_too_late, "was not enrolled before it"),
    "enrolment left out": (_enrolment_left_out, "was not enrolled before it"),
    "enrolled by a stranger": (_enrolled_by_a_stranger, "is no host's key"),
    "enrolled by a writer": (_enrolled_by_a_writer, "is no host's key"),
    "event signed by the host": (_event_by_the_host, "is a host's key"),
    "gap in seq": (_changed(3, seq=4), "event 3 does not follow the one before it"),
    "wrong prev": (_changed(3, prev="0" * 64), "event 3 does not follow the one before it"),
    "another subject": (_changed(2, subject="rec:" + Log("other").uuid()), "event 2 does not follow"),
    "of the archive": (_changed(2, subject="archive"), "event 2 does not follow"),
    "float": (_changed(1, data={"bytes": 1.5}), "'1.5' is no canonical number"),
    "dated in the future": (_changed(4, at="2099-01-01T00:00:00.000000Z"), "which is in the future"),
    "unknown member": (_changed(1, more=1), "no custody event of format v1"),
    "other version": (_changed(1, v=2), "no custody event of format v1"),
    "decomposed text": (_changed(1, op="e\u0301"), "not in canonical form"),
    "begins with a download": (_changed(0, type="recording.downloaded"), "first event is not recording.discovered"),
    "audio other than sealed": (_changed(3, data={"pt_sha256": "0" * 64}), "no recording.downloaded of the same thing"),
    "signature false": (_bad_signature, "its writer's signature is false"),
    "not canonical": (_not_canonical, "it is not in canonical form"),
    "stored before sealed": (_stored_before_sealed, "no recording.sealed of the same thing came before it"),
    "another export's content": (_other_export, "the last event is an export of other content"),
}


@pytest.mark.parametrize("name", CROOKED)
def test_event_in_the_log_that_proves_nothing_is_refused(name: str, tmp_path: Path) -> None:
    make, sentence = CROOKED[name]
    found = _wrong(_examine(make(), tmp_path))
    assert any(sentence in text for text in found), found


def test_host_key_of_another_archive_is_refused(bag: Bag, tmp_path: Path) -> None:
    found = verifier.examine(bag.write(tmp_path), bag.log.vkey, [public(key_of("another host")).hex()])
    assert any("is no host's key" in text for text in _wrong(found))


# --- witnesses and time -----------------------------------------------------------------------------------------------


def _policy(*rules: str, **witnesses: Ed25519PrivateKey) -> str:
    names = "".join(f"witness {name} {second.vkey(f'{name}.example', key, 4)}\n" for name, key in witnesses.items())
    return "# mine\n" + names + "".join(f"{rule}\n" for rule in rules)


def test_quorum_counts_who_really_cosigned(tmp_path: Path) -> None:
    a, b, c = (key_of(f"witness {name}") for name in "abc")
    bag = make_bag("witnessed", cosigners={"a.example": a, "b.example": b})
    folder = bag.write(tmp_path)
    for rule, good in (("any", True), ("2", True), ("all", False), ("3", False), ("4", False)):
        policy = _policy(f"group g {rule} a b c", "quorum g", a=a, b=b, c=c)
        found = _wrong(verifier.examine(folder, *bag.arguments, policy))
        assert (found == []) is good, (rule, found)
    for policy in ("quorum none\n", _policy("quorum a", a=a)):
        assert _wrong(verifier.examine(folder, *bag.arguments, policy)) == []
    for policy in (_policy("quorum c", c=c), _policy(a=a), "witness\n", "what is this\n", "quorum nobody\n"):
        assert len(_wrong(verifier.examine(folder, *bag.arguments, policy))) == 1


def test_false_or_future_cosignature_is_refused(tmp_path: Path) -> None:
    good, thief = key_of("witness"), key_of("thief")
    log = Log("cosigned")
    key = primitives.parse_key(log.vkey, 1)
    log.enroll(good)
    late = second.cosign(log.body(), "a.example", good, int(time.time()) + 3 * 86400)
    checkpoint = primitives.parse_checkpoint(log.checkpoint(None, late))
    with pytest.raises(verifier.Wrong, match="in the future"):
        primitives.check_quorum(_policy("quorum a", a=good), checkpoint, key)
    line = second.cosign(log.body(), "a.example", thief, int(time.time()))
    blob = second.key_id("a.example", 4, good) + base64.b64decode(line.split()[2])[4:]
    forged = primitives.parse_checkpoint(log.checkpoint(None, f"— a.example {b64(blob)}\n"))
    with pytest.raises(verifier.Wrong, match=r"cosignature of witness .* is false"):
        primitives.check_quorum(_policy("quorum a", a=good), forged, key)


def test_split_view_is_refused_against_the_checkpoint_that_the_receiver_has(tmp_path: Path) -> None:
    bag = make_bag("split", known=5)
    other = Log("split")
    for _ in range(5):
        other.enroll(key_of("another history"))
    bag.files["data/log/known.checkpoint"] = other.checkpoint()
    bag.seal(bag.exporter.sign)
    found = _wrong(_examine(bag, tmp_path))
    assert found == ["earlier checkpoint: two checkpoints of the log contradict each other"]


def test_checkpoint_from_the_future_is_refused_as_the_earlier_one(tmp_path: Path) -> None:
    bag = make_bag("future", known=5)
    size = len(bag.log.entries)
    bag.log.enroll(key_of("later"))
    bag.files["data/log/known.checkpoint"] = bag.log.checkpoint()
    hashes = second.proof(size, bag.log.leaves)
    bag.files["data/log/consistency.txt"] = "".join(f"{b64(each)}\n" for each in hashes).encode()
    bag.seal(bag.exporter.sign)
    found = _wrong(_examine(bag, tmp_path))
    assert found == ["earlier checkpoint: the earlier checkpoint is from the future: it has more leaves"]


# --- completeness statements --------------------------------------------------------------------------------------------


def _stated(tmp_path: Path, *revisions: dict[str, object], kept: int = -1) -> verifier.Bundle:
    """A bag of one day that was stated so, one revision after the other; it holds the document of revision `kept`."""
    log, worker, exporter = Log("stated"), key_of("w"), key_of("x")
    log.enroll(worker)
    recording, files = record(log, worker, b"audio")
    documents = [log.state(worker, **changes) for changes in revisions]  # type: ignore[arg-type]
    files["data/statements/plivo-us-2026-11-01.json"] = documents[kept]
    log.enroll(exporter)
    return _examine(close_bag(log, exporter, [recording], files), tmp_path)


HOLE = {"scope": "", "since": "2026-11-01T00:00:00Z", "until": "2026-11-01T06:00:00Z"}
GAP = {
    "subject": "total:",
    "code": "never_listed",
    "grade": "open",
    "since": None,
    "until": None,
    "acknowledged": False,
}


def test_statement_is_told_in_words_with_what_it_does_not_prove(tmp_path: Path) -> None:
    found = _stated(tmp_path, {"complete": False, "holes": [HOLE], "gaps": [GAP, GAP | {"subject": "rec:x"}],
                               "listed": 4, "states": {"archived": 2, "absent": 1, "waiting": 1}})  # fmt: skip
    assert _wrong(found) == []
    (line,) = [text for _, text in found.lines if text.startswith("statement ")]
    said = "plivo-us listed 4 recordings of 2026-11-01; 1 absent; 2 archived; 1 waiting; 1 without audio; 1 spans of the day"
    assert said in line
    assert "gap never_listed: 2; NOT COMPLETE (revision 1)." in line
    said_too = verifier.caveats(found, True, True, True)
    assert any("showed all that it had" in text for text in said_too)
    assert not any("no completeness statement" in text for text in said_too)


def test_bag_without_statements_says_what_that_leaves_open(bag: Bag, tmp_path: Path) -> None:
    found = _examine(bag, tmp_path)
    assert any("no completeness statement" in text for text in verifier.caveats(found, True, True, True))


def test_newest_revision_counts_and_an_older_one_is_refused(tmp_path: Path) -> None:
    twice: list[dict[str, object]] = [{"complete": False, "holes": [HOLE]}, {"revision": 2}]
    assert _wrong(_stated(tmp_path / "new", *twice)) == []
    (problem,) = _wrong(_stated(tmp_path / "old", *twice, kept=0))
    assert "it is revision 1, but 2 was stated of this day" in problem


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"holes": [HOLE]}, "it calls the day complete and names what is missing"),
        ({"gaps": [GAP]}, "it calls the day complete and names what is missing"),
        ({"listed": 9}, "its states do not add up to what was listed"),
        ({"data": {"archived": 3}}, "differ in archived"),
        ({"data": {"complete": 1}}, "differ in complete"),
        ({"data": {"gaps": {"never_listed": 1}}}, "differ in gaps"),
        ({"data": {"statement_bytes": 5}}, "differ in statement_bytes"),
        ({"schema": "archiver.completeness/v2"}, "no completeness statement of format v1"),
        ({"provider": "plivo-eu"}, "is named after another provider or day"),
        ({"rejects": 1.5}, "'1.5' is no canonical number"),
        ({"holes": 7, "complete": False}, "damaged or not in the format"),
    ],
)
def test_statement_that_contradicts_itself_or_its_event_is_refused(
    changes: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    (problem,) = _wrong(_stated(tmp_path, changes))
    assert sentence in problem


# --- the primitives, against second implementations -------------------------------------------------------------------


@pytest.fixture
def pure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ed25519 as it is decided where `cryptography` is not installed."""
    monkeypatch.setattr(primitives, "Ed25519PublicKey", None)


def _signed(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        return primitives.signed(key, message, signature)
    except (verifier.Wrong, IndexError):
        return False


RFC8032 = [  # section 7.1: secret key, public key, message, signature
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.usefixtures("pure")
@pytest.mark.parametrize(("secret", "key", "message", "signature"), RFC8032)
def test_pure_ed25519_accepts_the_vectors_of_rfc_8032(secret: str, key: str, message: str, signature: str) -> None:
    assert public(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))).hex() == key
    arguments = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert _signed(*arguments)
    assert not _signed(arguments[0], arguments[1] + b"!", arguments[2])


@pytest.mark.parametrize("number", range(20))
def test_both_ed25519_agree_on_signatures_with_a_bit_flipped(number: int, request: pytest.FixtureRequest) -> None:
    chance = random.Random(number)
    key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
    message = chance.randbytes(number)
    cases = [(public(key), message, key.sign(message))]
    for _ in range(8):
        case = [bytearray(part) for part in cases[0]]
        part = case[chance.choice([0, 2, 2])]
        part[chance.randrange(len(part))] ^= 1 << chance.randrange(8)
        cases.append((bytes(case[0]), bytes(case[1]), bytes(case[2])))
    fast = [_signed(*case) for case in cases]
    request.getfixturevalue("pure")
    assert fast == [_signed(*case) for case in cases] == [True] + [False] * 8


@pytest.mark.parametrize("which", ["library", "pure"])
def test_ed25519_refuses_what_lenient_verifiers_take(which: str, request: pytest.FixtureRequest) -> None:
    if which == "pure":
        request.getfixturevalue("pure")
    key = key_of("strict")
    signature = key.sign(b"m")
    raised = (int.from_bytes(signature[32:], "little") + primitives.L).to_bytes(32, "little")
    assert not _signed(public(key), b"m", signature[:32] + raised)  # S not reduced
    small = [  # points whose order divides 8, and encodings of them that are not canonical
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0200000000000000000000000000000000000000000000000000000000000000",  # no point at all
    ]
    for encoded in small:
        assert not _signed(bytes.fromhex(encoded), b"m", bytes.fromhex(encoded) + bytes(32))
        assert not _signed(public(key), b"m", bytes.fromhex(encoded) + signature[32:])
    for size in (0, 31, 63, 65):
        assert not _signed(public(key), b"m", (signature + b"\0")[:size])


def test_inclusion_agrees_with_the_recursive_definition() -> None:
    leaves = [hashlib.sha256(bytes([number])).digest() for number in range(40)]
    for size in range(1, 41):
        root = second.mth(leaves[:size])
        for index in range(size):
            path = second.path(index, leaves[:size])
            assert primitives.climb(index, size - 1, path, leaves[index]) == (root,)
            for bad in ([*path, leaves[0]], path[:-1]):
                if bad != path:
                    with pytest.raises(verifier.Wrong):
                        primitives.climb(index, size - 1, bad, leaves[index])


def test_consistency_agrees_with_the_recursive_definition() -> None:
    log = Log("consistency")
    for number in range(24):
        log.enroll(key_of(str(number)))
    points = {size: primitives.parse_checkpoint(log.checkpoint(size)) for size in range(1, 25)}
    for new in range(2, 25):
        for old in range(1, new):
            path = second.proof(old, log.leaves[:new])
            primitives.check_consistency(points[old], points[new], path)
            broken = [*path, path[0]], path[:-1], [hashlib.sha256(each).digest() for each in path]
            for bad in broken:
                with pytest.raises(verifier.Wrong):
                    primitives.check_consistency(points[old], points[new], bad)


@pytest.mark.parametrize("text", ["", "1", "-1", "+5", "05", "0_1", "٣", "1 ", "9223372036854775808"])
def test_numbers_and_checkpoints_have_one_spelling(text: str) -> None:
    if text != "1":
        with pytest.raises(verifier.Wrong):
            primitives.number(text)
    log = Log("spelling")
    log.enroll(key_of("w"))
    good = log.checkpoint()
    assert primitives.parse_checkpoint(good).size == 1
    for bad in (
        good.replace(b"\n1\n", f"\n{text} \n".encode()),
        good[:-1],
        good + b"x\n",
        good.replace(b"\n\n", b"\n\n\n"),
    ):
        with pytest.raises((verifier.Wrong, ValueError)):
            primitives.parse_checkpoint(bad)


def test_copied_bundle_still_passes(bag: Bag, tmp_path: Path) -> None:
    bag.write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert _wrong(verifier.examine(tmp_path / "b", *bag.arguments)) == []
