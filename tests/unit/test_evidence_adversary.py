"""Bundles that a second reader, written from the specifications alone, refused: so does the verifier that travels with them.

Many are signed by the exporter itself, or logged: the strongest liar below the log.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.evidence import verifier
from archiver.evidence.verifier import primitives
from archiver.evidence.verifier.bag import CONTENT, TAGS
from tests import evidence_log as second
from tests.evidence_log import Bag, Log, b64, close_bag, jcs, key_of, make_bag, public, record, sha256, sign_note, vkey

WORKER, EXPORTER, WITNESS = key_of("w"), key_of("x"), key_of("witness")


def _wrong(bag: Bag, folder: Path, policy: str = "") -> list[str]:
    if not folder.exists():
        bag.write(folder)
    found = verifier.examine(folder, *bag.arguments, policy)
    return [text for mark, text in found.lines if mark == "FAIL"]


def _log() -> tuple[Log, str, dict[str, bytes]]:
    log = Log("adversary")
    log.enroll(WORKER)
    log.enroll(EXPORTER)
    return log, *record(log, WORKER, b"audio")


# --- files that the format has no place for, signed by the exporter ------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "data/recordings/other.wav",
        "REC/recording.mp3",
        "REC/AUDIO.mp3",
        "REC/audio",
        "REC/private--001.json",
        "REC/events/0000.json.bak",
        "data/inner/bagit.txt",
        "data/statements/deep/er.json",
        "data/tsa/a.b.tsr",
    ],
)
def test_file_that_no_rule_is_about_is_refused(name: str, tmp_path: Path) -> None:
    bag = make_bag()
    bag.files[name.replace("REC", f"data/recordings/{bag.recordings[0]}")] = b"what nobody vouches for"
    bag.seal(bag.exporter.sign)
    assert any("has no place in the format" in text for text in _wrong(bag, tmp_path / "bag"))


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        (
            "data/trust/log.pem",
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "log.pem is another key",
        ),
        ("data/log/checkpoint.body", b"x\n", "checkpoint.body is no true copy"),
    ],
)
def test_false_copy_for_openssl_is_refused(name: str, data: bytes, sentence: str, tmp_path: Path) -> None:
    bag = make_bag()
    bag.files[name] = data
    bag.seal(bag.exporter.sign)
    assert any(sentence in text for text in _wrong(bag, tmp_path / "bag"))


@pytest.mark.parametrize(
    "name", sorted(TAGS - {"verify_custody.py"} | {"tagmanifest-sha256.txt", "data/log/checkpoint"})
)
@pytest.mark.parametrize(
    "spell", [lambda data: data.replace(b"\n", b"\r\n"), lambda data: b"\xef\xbb\xbf" + data, lambda _: b""]
)
def test_other_line_ends_a_byte_order_mark_or_nothing_is_refused(
    name: str, spell: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    bag = make_bag()
    bag.files[name] = spell(bag.files[name])
    found = _wrong(bag, tmp_path / "bag")
    assert found[0].startswith("files: ")
    assert "damaged" not in found[0]


@pytest.mark.parametrize(
    "line", [b"x", b"/etc/passwd", b"data/../../x", b"data//x", b"data/x\0", b"data/\xd9\xa0", b"data/.x"]
)
def test_path_outside_of_the_bundle_is_refused(line: bytes, tmp_path: Path) -> None:
    bag = make_bag()
    for before in (b"0" * 64 + b"  ", b""):
        bag.files["manifest-sha256.txt"] += before + line + b"\n"
        assert _wrong(bag, tmp_path / f"bag{len(before)}")


def _link(folder: Path) -> None:
    (folder / "data").rename(folder.parent / "elsewhere")
    (folder / "data").symlink_to(folder.parent / "elsewhere")


def _folder_for_a_file(folder: Path) -> None:
    (folder / "data/report.html").unlink()
    (folder / "data/report.html").mkdir()
    (folder / "data/report.html/x").write_bytes(b"")


def _file_for_a_folder(folder: Path) -> None:
    shutil.rmtree(folder / "data")
    (folder / "data").write_bytes(b"")


@pytest.mark.parametrize(
    "change",
    [
        _link,
        _folder_for_a_file,
        _file_for_a_folder,
        lambda folder: os.mkfifo(folder / "data/pipe"),
        lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/data/\xff")).write_bytes(b""),
        lambda folder: (folder / "data/recordings/[*").write_bytes(b""),
    ],
)
def test_what_a_file_system_can_do_is_refused_with_a_sentence(change: Callable[[Path], None], tmp_path: Path) -> None:
    bag = make_bag()
    change(bag.write(tmp_path / "bag"))
    assert _wrong(bag, tmp_path / "bag")[0].startswith("files: ")


# --- what file managers leave behind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store", "data/.DS_Store", "REC/.DS_Store", "REC/events/.DS_Store", "REC/proofs/.DS_Store", "data/log/.DS_Store",
        "data/statements/.DS_Store", "Thumbs.db", "REC/Thumbs.db", "data/desktop.ini", "data/Desktop.ini",
        "._bagit.txt", "._data", "REC/._audio.mp3", "REC/events/._0000.json", "REC/._.DS_Store",
    ],
)  # fmt: skip
def test_what_a_file_manager_left_is_named_and_fails_nothing(name: str, tmp_path: Path) -> None:
    bag = make_bag(stated=1)
    folder = bag.write(tmp_path)
    stray = folder / name.replace("REC", f"data/recordings/{bag.recordings[0]}")
    stray.write_bytes(b"\0\0\0\1Bud1")
    found = verifier.examine(folder, *bag.arguments)
    assert [text for mark, text in found.lines if mark == "FAIL"] == []
    (told,) = [text for mark, text in found.lines if mark == "NOTE"]
    assert f"{stray.relative_to(folder)}, 8 bytes, was left by a file manager" in told
    assert "nothing vouches for it" in told


def _hide(folder: Path, name: str, size: int = 8) -> None:
    place = folder / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(bytes(size))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: _hide(folder, "data/.DS_Store", 2**20 + 1), "is too long for what a file manager leaves"),
        (lambda folder: _hide(folder, "data/.hidden"), "is in no manifest"),
        (lambda folder: _hide(folder, "data/.DS_Store.html"), "is in no manifest"),
        (lambda folder: _hide(folder, "data/._letter.pdf"), "belongs to no file that is"),
        (lambda folder: _hide(folder, "data/more/.DS_Store"), "data/more is an empty folder"),
        (lambda folder: _hide(folder, ".DS_Store/letter.pdf"), ".DS_Store is an empty folder"),
        (lambda folder: (folder / "Thumbs.db").symlink_to("/etc/passwd"), "Thumbs.db is no ordinary file"),
        (lambda folder: os.mkfifo(folder / "desktop.ini"), "desktop.ini is no ordinary file"),
    ],
)
def test_what_only_bears_the_name_of_a_stray_file_is_refused(
    change: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    bag = make_bag()
    change(bag.write(tmp_path))
    (told,) = _wrong(bag, tmp_path)
    assert sentence in told.replace("in the bundle, but in no manifest", "is in no manifest")


def test_event_dated_before_the_one_that_it_follows_is_told(tmp_path: Path) -> None:
    log, recording, files = _log()
    log.now -= timedelta(hours=3)
    log.append(f"rec:{recording}", "recording.accessed", {"purpose": "get"}, WORKER)
    bag = close_bag(log, EXPORTER, [recording], files)
    found = verifier.examine(bag.write(tmp_path), *bag.arguments)
    assert [text for mark, text in found.lines if mark == "FAIL"] == []
    assert [each for each in found.unproved if "is dated before event" in each]


# --- JSON that two readers read in two ways ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more", ['"export": "other"', '"n": 1e400', '"n": NaN', '"n": ' + "9" * 5000, '"n": ' + "[" * 100_000]
)
def test_request_that_readers_read_differently_is_refused(
    more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log vouches for its bytes, and still it says nothing."""
    log, recording, files = _log()
    dumps = json.dumps
    monkeypatch.setattr(
        second, "jcs", lambda value: dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )
    monkeypatch.setattr(json, "dumps", lambda value, **_: f"{dumps(value)[:-1]}, {more}}}")
    bag = close_bag(log, EXPORTER, [recording], files)
    monkeypatch.undo()
    (found,) = _wrong(bag, tmp_path / "bag")
    assert found.startswith("export: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"provider_meta"', b'{"provider_meta": {"salt": "", "data": {}}, "provider_meta"'),
        (b'"salt": "', b'"salt": " '),
        (b'"data"', b'"more": 1, "data"'),
        (b"{", b"[{"),
    ],
)
def test_private_groups_of_another_spelling_are_refused(old: bytes, new: bytes, tmp_path: Path) -> None:
    log, recording, files = _log()
    name = f"data/recordings/{recording}/private.json"
    files[name] = files[name].replace(old, new, 1)
    assert any(
        "private.json: " in text for text in _wrong(close_bag(log, EXPORTER, [recording], files), tmp_path / "bag")
    )


def test_salt_in_capitals_is_refused(tmp_path: Path) -> None:
    log, recording, files = _log()
    name = f"data/recordings/{recording}/private.json"
    files[name] = re.sub(rb'(?<="salt": ")[0-9a-f]+', lambda found: found[0].upper(), files[name])
    assert any("malformed" in text for text in _wrong(close_bag(log, EXPORTER, [recording], files), tmp_path / "bag"))


# --- events in the log, rightly signed, that are none --------------------------------------------------------------------

BAD: list[dict[str, Any]] = [
    {"actor": {"kind": "worker", "user": "a", "v": "b", "writer": public(WORKER).hex()}},
    {"actor": {"kind": "worker", "user": "", "writer": public(WORKER).hex()}},
    {"at": "2025-02-31T00:00:00.000000Z"},
    {"at": "2025-13-01T00:00:00.000000Z"},
    {"at": "2025-01-01T25:00:00.000000Z"},
    {"at": "٢٠٢٥-01-01T00:00:00.000000Z"},
    {"data": {"n": 2**53}},
    {"data": json.loads('{"a":' * 16 + "1" + "}" * 16)},
    {"op": ["a"]},
    {"v": True},
    {"priv": {"a" * 65: "0" * 64}},
]


@pytest.mark.parametrize("changed", BAD, ids=str)
def test_logged_event_outside_of_the_format_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    log, recording, files = _log()
    log.append(f"rec:{recording}", "recording.accessed", {}, WORKER, None, changed)
    found = _wrong(close_bag(log, EXPORTER, [recording], files), tmp_path / "bag")
    assert any("0006.json" in text for text in found), found


@pytest.mark.parametrize("user", ['a"b\\c', "\u2028", "\x7f", "Zoë"])
def test_unusual_but_lawful_user_passes(user: str, tmp_path: Path) -> None:
    log, recording, files = _log()
    actor = {"kind": "operator", "user": user, "writer": public(WORKER).hex()}
    log.append(f"rec:{recording}", "recording.accessed", {}, WORKER, None, {"actor": actor})
    assert _wrong(close_bag(log, EXPORTER, [recording], files), tmp_path / "bag") == []


def test_host_that_enrolled_itself_writes_no_other_event(tmp_path: Path) -> None:
    log = Log("self")
    log.enroll(EXPORTER)
    log.enroll(log.host)
    recording, files = record(log, log.host, b"audio")
    assert any(
        "is a host's key" in text for text in _wrong(close_bag(log, EXPORTER, [recording], files), tmp_path / "bag")
    )


def test_event_that_came_late_to_the_log_still_stands_in_its_chain(tmp_path: Path) -> None:
    """It had been removed before it was integrated, and was put back behind its successor (custody-event.md, In the log)."""
    log, recording, files = _log()
    subject = f"rec:{recording}"
    places = log.where[subject]
    late, after = places[-2:]
    log.entries[late], log.entries[after] = log.entries[after], log.entries[late]
    places[-2:] = [after, late]
    log.heads[subject] = (log.heads[subject][0], log.leaves[late].hex())
    assert _wrong(close_bag(log, EXPORTER, [recording], files), tmp_path / "bag") == []


# --- checkpoints, witnesses, time --------------------------------------------------------------------------------------


def _with_lines(more: str) -> Bag:
    bag = make_bag("lines")
    old = bag.files["data/log/checkpoint"]
    for name in [name for name, data in bag.files.items() if old in data]:
        bag.files[name] = bag.files[name].replace(old, old + more.encode())
    bag.seal(bag.exporter.sign)
    return bag


UNKNOWN = f"— who.else {b64(b'abcdX')}\n"


@pytest.mark.parametrize("more", [UNKNOWN, UNKNOWN * 31])
def test_signatures_of_unknown_keys_are_passed_over(more: str, tmp_path: Path) -> None:
    assert _wrong(_with_lines(more), tmp_path / "bag") == []


@pytest.mark.parametrize(
    "more",
    [
        UNKNOWN * 32,
        f"— who.else {b64(b'abcd')}\n",
        f"- who.else {b64(b'abcdX')}\n",
        f"— a\u00a0b {b64(b'abcdX')}\n",
        f"— {second.ORIGIN} {b64(second.key_id(second.ORIGIN, 1, key_of('loglines')) + key_of('thief').sign(b''))}\n",
        "\n",
        "extension\n",
    ],
)
def test_line_that_is_no_signature_or_a_false_one_is_refused(more: str, tmp_path: Path) -> None:
    assert any(text.startswith("checkpoint: ") for text in _wrong(_with_lines(more), tmp_path / "bag"))


def test_earlier_checkpoint_of_the_same_size_is_this_one_or_a_fork(tmp_path: Path) -> None:
    bag = make_bag("same size")
    bag.files |= {"data/log/known.checkpoint": bag.files["data/log/checkpoint"], "data/log/consistency.txt": b""}
    bag.seal(bag.exporter.sign)
    assert _wrong(bag, tmp_path / "same") == []
    body = f"{second.ORIGIN}\n{len(bag.log.entries)}\n{b64(bytes(32))}\n"
    bag.files["data/log/known.checkpoint"] = f"{body}\n{sign_note(body, second.ORIGIN, bag.log.key)}".encode()
    bag.seal(bag.exporter.sign)
    assert _wrong(bag, tmp_path / "fork") == ["earlier checkpoint: two checkpoints of the log contradict each other"]


A, B = vkey("a.example", WITNESS, 4), vkey("b.example", WITNESS, 4)
FOREIGN = vkey("other.example", key_of("other"))


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (f"witness a {A}\nwitness b {B}\ngroup g all a b\nquorum g\n", "has a witness twice"),
        (f"witness a {A}\ngroup g any a\ngroup h 2 a g\nquorum h\n", "count twice"),
        (f"log {FOREIGN}\nwitness a {A}\nquorum a\n", "the policy is for another log"),
        (f"witness a {A}\nquorum a\nquorum none\n", "no clear one"),
        (f"witness a {A}\nquorum a\nwhat is this\n", "a line of an unknown kind"),
        (f"witness none {A}\nquorum none\n", "one named none"),
        ("group g any none\nquorum g\n", "unknown member"),
        (f"witness a {A}\ngroup g \u0661 a\nquorum g\n", "no canonical number"),
        (f"witness a {A}\ngroup g 2 a\nquorum g\n", "impossible"),
        ("witness\nquorum none\n", "not in the format (ValueError): the policy"),
    ],
)
def test_policy_that_counts_a_witness_twice_or_is_none_is_refused(policy: str, sentence: str, tmp_path: Path) -> None:
    bag = make_bag("policy", cosigners={"a.example": WITNESS, "b.example": WITNESS})
    (found,) = _wrong(bag, tmp_path / "bag", policy)
    assert sentence in found


def test_second_cosignature_of_a_witness_must_be_true_as_well(tmp_path: Path) -> None:
    log, recording, files = _log()
    bag = close_bag(log, EXPORTER, [recording], files, cosigners={"a.example": WITNESS, "b.example": WITNESS})
    policy = f"log {log.vkey}\nwitness a {A}\nquorum a\n"
    assert _wrong(bag, tmp_path / "good", policy) == []
    false = (
        f"— a.example {b64(second.key_id('a.example', 4, WITNESS) + (7).to_bytes(8, 'big') + WITNESS.sign(b'other'))}\n"
    )
    old = bag.files["data/log/checkpoint"]
    for name in [name for name, data in bag.files.items() if old in data]:
        bag.files[name] = bag.files[name].replace(old, old + false.encode())
    bag.seal(EXPORTER.sign)
    (found,) = _wrong(bag, tmp_path / "false", policy)
    assert "the cosignature of witness 'a.example' is false" in found


@pytest.mark.parametrize("before", [b"", b"\x30\x10\x30\x03\x02\x01\x02"])
def test_time_stamp_that_was_not_granted_is_refused(before: bytes, tmp_path: Path) -> None:
    def stamp(checkpoint: bytes) -> dict[str, bytes]:
        info = b"\x04\x20" + sha256(checkpoint) + b"\x02\x01\x07\x18\x0f20260101000000Z"
        return {"data/tsa/a.tsr": before + info}

    assert _wrong(make_bag("stamped", stamp=stamp), tmp_path / "bag") == ["time stamp a: it was not granted"]


def test_second_export_under_the_first_ones_content_is_refused(tmp_path: Path) -> None:
    bag = make_bag("spliced")
    content = {name: data for name, data in bag.files.items() if re.fullmatch(CONTENT, name)}
    del content["data/request.json"]
    later = close_bag(bag.log, bag.exporter, bag.recordings, content)
    assert _wrong(later, tmp_path / "later") == []
    last = max(name for name in later.files if "/events/" in name)
    del later.files[last], later.files[last.replace("/events/", "/proofs/").replace(".json", ".tlog-proof")]
    later.seal(bag.exporter.sign)
    assert any("the last event is an export of other content" in text for text in _wrong(later, tmp_path / "cut"))


def test_chain_of_more_than_ten_thousand_events_is_read_in_order(tmp_path: Path) -> None:
    bundle = verifier.Bundle(tmp_path, primitives.parse_key(Log().vkey, 1), [])
    for seq in (999, 1000, 9999, 10000, 10001):
        (tmp_path / f"{seq:04d}.json").touch()
    assert bundle.names(".") == ["0999.json", "1000.json", "9999.json", "10000.json", "10001.json"]


def test_logged_entry_with_a_member_twice_is_refused(tmp_path: Path) -> None:
    log, recording, files = _log()
    subject = f"rec:{recording}"
    entry = log.entries.pop()
    log.where[subject].pop()
    assert jcs(json.loads(entry)) == entry
    log.add(subject, entry[:-1] + b',"sig":' + entry.split(b'"sig":')[1])
    log.heads[subject] = (5, log.leaves[-1].hex())
    found = _wrong(close_bag(log, EXPORTER, [recording], files), tmp_path / "bag")
    assert any("0005.json: JSON names a member twice" in text for text in found)


def test_nothing_passes_by_a_checkpoint_that_another_key_signed(tmp_path: Path) -> None:
    """No line may say "in the log" of a log that is not the reader's."""
    bag = make_bag()
    other = vkey(second.ORIGIN, key_of("other"))
    found = verifier.examine(bag.write(tmp_path), other, [bag.log.host_hex])
    assert [mark for mark, _ in found.lines] == ["PASS", "FAIL"]
    assert "the checkpoint is foreign" in found.lines[1][1]
    assert any(text.startswith("anything") for text in found.unproved)


def test_what_is_no_folder_or_an_empty_policy_has_its_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = make_bag()
    folder = str(bag.write(tmp_path / "bag"))
    (tmp_path / "empty").touch()
    assert verifier.main([str(tmp_path / "none"), "--log-key", bag.log.vkey]) == 65
    assert "none' is no folder; name the one that holds bagit.txt" in capsys.readouterr().out
    assert verifier.main([folder, "--log-key", bag.log.vkey, "--policy", str(tmp_path / "empty")]) == 69
    assert "empty' is empty" in capsys.readouterr().out


def test_missing_host_key_is_not_called_a_missing_log_key(tmp_path: Path) -> None:
    bag = make_bag()
    del bag.files["data/trust/hosts.txt"]
    with pytest.raises(verifier.Wrong, match="no host key was given"):
        verifier.examine(bag.write(tmp_path), bag.log.vkey)


def test_recordings_without_audio_are_each_named(tmp_path: Path) -> None:
    log, one, files = _log()
    two, more = record(log, WORKER, None)
    found = verifier.examine(close_bag(log, EXPORTER, [one, two], files | more).write(tmp_path), log.vkey)
    assert [text for text in found.unproved if "audio" in text] == [
        f"what recording {two} sounds like: its audio is not in this bundle"
    ]
