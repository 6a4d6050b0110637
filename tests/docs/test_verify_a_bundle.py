"""docs/howto/verify-a-bundle.md is run as it stands, on a clean bundle and on a changed one."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evidence_log import Log
from tests.unit.test_evidence_bundle import Archive

_PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "verify-a-bundle.md").read_text()
_SHORT, _FILES, _CHECKPOINT, _INCLUSION, _CHAIN, _WRITER, _AUDIO = re.findall(
    r"^```sh\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL
)
(_PROGRAM,) = re.findall(r"^```python\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
_COMPLAINT = re.compile(r"NOT |BROKEN|CUT OFF|ANOTHER")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = Archive(2)
    archive.export(tmp_path / "bundle")
    (tmp_path / "inclusion.py").write_text(_PROGRAM)
    return archive


def _run(archive: Archive, command: str) -> subprocess.CompletedProcess[str]:
    keys = {
        "LOG_KEY": archive.log.vkey,
        "HOST_KEY": archive.log.host_hex,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    return subprocess.run(
        ["sh", "-ec", command],
        cwd=archive.bundle.path,
        env=keys,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("command", [_SHORT, _FILES, _CHECKPOINT, _INCLUSION, _CHAIN, _WRITER, _AUDIO])
def test_command_finds_a_clean_bundle_clean(command: str, archive: Archive) -> None:
    done = _run(archive, command)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert command == _SHORT or not _COMPLAINT.search(done.stdout), done.stdout


def _archive_whose_key_has(characters: str, lacks: str) -> Archive:
    """One in whose log key base64 has these characters, and none of those."""
    for number in itertools.count():
        encoded = Log(f"how-to {number}").vkey.split("+", 2)[2]
        if all(each in encoded for each in characters) and not any(each in encoded for each in lacks):
            return Archive(1, seed=f"how-to {number}")
    raise AssertionError


@pytest.mark.parametrize(("characters", "lacks"), [("", "+/"), ("+", "/"), ("/", "+"), ("+/", "")])
def test_commands_hold_whatever_is_in_the_base64_of_the_key(characters: str, lacks: str, tmp_path: Path) -> None:
    """`${LOG_KEY##*+}` cut the key short at a plus of its own."""
    archive = _archive_whose_key_has(characters, lacks)
    archive.export(tmp_path / "bundle")
    (tmp_path / "inclusion.py").write_text(_PROGRAM)
    for command in (_SHORT, _FILES, _CHECKPOINT, _INCLUSION, _CHAIN, _WRITER, _AUDIO):
        done = _run(archive, command)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert command == _SHORT or not _COMPLAINT.search(done.stdout), done.stdout


def _change(archive: Archive, pattern: str, old: bytes, new: bytes) -> None:
    path = sorted(archive.bundle.path.glob(pattern))[0]
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))


@pytest.mark.parametrize(
    ("command", "pattern", "old", "new"),
    [
        (_SHORT, "data/report.html", b"Chain", b"chain"),
        (_FILES, "data/report.html", b"Chain", b"chain"),
        (_CHECKPOINT, "data/log/checkpoint.body", b"\n1", b"\n2"),
        (_CHECKPOINT, "data/log/checkpoint", b"\n1", b"\n2"),
        (_INCLUSION, "data/recordings/*/events/0002.json", b'"ok"', b'"no"'),
        (_CHAIN, "data/recordings/*/events/0002.json", b'"ok"', b'"no"'),
        (_CHAIN, "data/content-manifest.txt", b"data", b"Data"),
        (_WRITER, "data/recordings/*/events/0000.json", b'"ok"', b'"no"'),
        (_AUDIO, "data/recordings/*/audio.mp3", b"\xff", b"\xfe"),
    ],
)
def test_command_names_a_change(command: str, pattern: str, old: bytes, new: bytes, archive: Archive) -> None:
    _change(archive, pattern, old, new)
    done = _run(archive, command)
    assert done.returncode != 0 or _COMPLAINT.search(done.stdout), done


def test_chain_cut_at_its_end_is_named(archive: Archive) -> None:
    max(archive.bundle.path.glob("data/recordings/*/events/*.json")).unlink()
    assert "CUT OFF" in _run(archive, _CHAIN).stdout
