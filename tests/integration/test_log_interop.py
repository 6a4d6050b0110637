"""Programs that are not ours read what the log signs: OpenSSL checks a checkpoint and a cosignature."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from archiver.errors import VerificationError
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.note import Cosigner, Signer, VerifierKey, open_note, parse_note

CHECKPOINT = Checkpoint("archive.example.com/custody/2026", 6321, bytes(range(32)))


def openssl_verifies(folder: Path, key: VerifierKey, message: bytes, signature: bytes) -> bool:
    """What README-VERIFY tells a stranger to type."""
    pem = Ed25519PublicKey.from_public_bytes(key.public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, content in (("log.pem", pem), ("checkpoint.body", message), ("checkpoint.sig", signature)):
        (folder / name).write_bytes(content)
    command = "openssl pkeyutl -verify -pubin -inkey log.pem -rawin -in checkpoint.body -sigfile checkpoint.sig"
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert ("Signature Verified Successfully" in done.stdout) is (done.returncode == 0), done.stderr
    return done.returncode == 0


def test_openssl_verifies_a_checkpoint_and_refuses_a_changed_one(tmp_path: Path) -> None:
    signer = Signer(CHECKPOINT.origin, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    note = parse_note(f"{CHECKPOINT.body}\n{signer.sign(CHECKPOINT.body)}".encode())
    signature = note.signatures[0].signature
    assert openssl_verifies(tmp_path, signer.key, note.text.encode(), signature)
    assert not openssl_verifies(tmp_path, signer.key, note.text.replace("6321", "6322").encode(), signature)


def test_openssl_verifies_a_cosignature_with_its_time(tmp_path: Path) -> None:
    cosigner = Cosigner("witness.example.com/w1", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
    note = parse_note(f"{CHECKPOINT.body}\n{cosigner.sign(CHECKPOINT.body, 1_700_000_000)}".encode())
    blob = note.signatures[0].signature
    assert int.from_bytes(blob[:8], "big") == 1_700_000_000
    message = f"cosignature/v1\ntime 1700000000\n{CHECKPOINT.body}".encode()
    assert openssl_verifies(tmp_path, cosigner.key, message, blob[8:])
    assert not openssl_verifies(tmp_path, cosigner.key, message.replace(b"170", b"171"), blob[8:])


@pytest.mark.parametrize("changed", [False, True])
def test_checkpoint_signed_by_openssl_opens(tmp_path: Path, changed: bool) -> None:
    """The other way round: key and signature from OpenSSL, as a log key kept in a key service would give."""
    for command in (
        "openssl genpkey -algorithm ed25519 -out key.pem",
        "openssl pkey -in key.pem -pubout -outform DER -out key.der",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=60)
    (tmp_path / "body").write_text(CHECKPOINT.body, "utf-8")
    command = "openssl pkeyutl -sign -inkey key.pem -rawin -in body -out sig"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=60)
    key = VerifierKey(CHECKPOINT.origin, 1, (tmp_path / "key.der").read_bytes()[-32:])
    line = base64.b64encode(key.key_id + (tmp_path / "sig").read_bytes()).decode()
    body = CHECKPOINT.body.replace("6321", "6322") if changed else CHECKPOINT.body
    raw = f"{body}\n— {key.name} {line}\n".encode()
    if changed:
        with pytest.raises(VerificationError, match="not valid"):
            open_note(raw, [key])
    else:
        assert open_note(raw, [key]).text == CHECKPOINT.body
