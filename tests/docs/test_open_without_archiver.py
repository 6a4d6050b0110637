"""docs/howto/open-without-archiver.md is run as it stands, on the published vectors."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archiver.seal import envelope
from tests.seal_keys import LOCAL_IDENTITY, VECTORS

_PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "open-without-archiver.md").read_text()
_RSA, _LOCAL, _DIGESTS, _ADDRESSED, _NAMES = re.findall(r"^```sh\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
(_READER,) = re.findall(r"^```python\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
_CALL = b"This call is recorded for compliance purposes.\n"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the files that the page names."""
    for source, target in (("ops.key.pem", "key.pem"), ("ops.cert.pem", "cert.pem"), ("local.key", "local.key")):
        shutil.copy(VECTORS / source, tmp_path / target)
    (tmp_path / "open.py").write_text(_READER)
    return tmp_path


def _run(desk: Path, command: str, vector: str = "") -> subprocess.CompletedProcess[bytes]:
    if vector:
        shutil.copy(VECTORS / vector, desk / "OBJECT")
    return subprocess.run(["sh", "-c", command], cwd=desk, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(("command", "vector"), [(_RSA, "rsa-call.der"), (_LOCAL, "kek-call.der")])
def test_command_opens_a_genuine_object(desk: Path, command: str, vector: str) -> None:
    done = _run(desk, command, vector)
    assert (done.returncode, (desk / "recording.mp3").read_bytes()) == (0, _CALL), done.stderr
    assert b"f4011269cd6a5d95" in _run(desk, _DIGESTS).stdout


@pytest.mark.parametrize("vector", ["bad-content.der", "bad-tag.der", "bad-nonce.der", "bad-cut-in-tag.der"])
def test_command_leaves_nothing_of_a_changed_object(desk: Path, vector: str) -> None:
    """Stock OpenSSL would: it writes first and verifies then."""
    done = _run(desk, _LOCAL, vector)
    assert done.returncode != 0
    assert b"NOT GENUINE" in done.stdout
    assert not (desk / "recording.mp3").exists()
    assert not (desk / "part").exists()


def test_commands_show_which_key_an_object_is_for(desk: Path) -> None:
    shown = _run(desk, _ADDRESSED, "three-long.der").stdout.decode()
    names = _run(desk, _NAMES).stdout.decode()
    digits = re.sub(r"[^0-9a-f]", "", " ".join(re.findall(r"- ((?:[0-9a-f]{2}[ -])+)", shown)))
    certificate = re.sub(r"[^0-9a-f]", "", names.splitlines()[1].lower())
    assert len(certificate) == 40
    assert certificate in digits
    assert names.splitlines()[-1] in digits


@pytest.mark.parametrize("vector", ["rsa-empty.der", "kek-call.der", "three-long.der"])
def test_independent_reader_lists_the_wrapped_keys(desk: Path, vector: str) -> None:
    listed = _run(desk, f"{sys.executable} open.py OBJECT", vector).stdout.decode().split()
    found = envelope.parse((VECTORS / vector).read_bytes()).recipients
    wrapped = [each.wrapped_key if isinstance(each, envelope.KeyEncryption) else each.encrypted_key for each in found]  # type: ignore[union-attr]
    assert listed[1::2] == [each.hex() for each in wrapped]


def test_independent_reader_opens_with_the_data_key_and_refuses_a_changed_object(desk: Path) -> None:
    info = envelope.parse((VECTORS / "kek-call.der").read_bytes()).recipients[0]
    data_key = LOCAL_IDENTITY.unwrap(info)
    assert data_key is not None
    command = f"{sys.executable} open.py OBJECT {data_key.hex()}"
    assert _run(desk, command, "kek-call.der").stdout == _CALL
    for bad in ("bad-tag.der", "bad-content.der", "bad-short-tag.der"):
        done = _run(desk, command, bad)
        assert done.returncode != 0
        assert done.stdout == b""
