"""Archive and bundle give one verdict on every signature, also where readers of Ed25519 are known to differ."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from archiver.custody import canonical
from archiver.custody.ed25519 import verifies
from archiver.custody.event import verify
from archiver.custody.keys import load_public_key
from archiver.errors import KeyUnavailableError, VerificationError
from archiver.evidence import verifier
from archiver.evidence.verifier import primitives
from tests.vectors.ed25519.generate import BASE, ZERO, encode, times, vectors

VECTORS = json.loads((Path(__file__).parent / "ed25519" / "vectors.json").read_text())


def _in_bundle(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        return primitives.signed(key, message, signature)
    except verifier.Wrong:
        return False


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["what"])
def test_archive_and_bundle_agree_on_every_signature(
    case: dict[str, str | bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, message, signature = (bytes.fromhex(str(case[name])) for name in ("key", "message", "signature"))
    said = {"archive": verifies(key, message, signature), "bundle": _in_bundle(key, message, signature)}
    monkeypatch.setattr(primitives, "Ed25519PublicKey", None)
    said["bundle, Python alone"] = _in_bundle(key, message, signature)
    assert said == dict.fromkeys(said, case["valid"])


def test_vectors_are_what_their_generator_makes() -> None:
    assert vectors() == VECTORS


def test_event_by_a_key_of_small_order_is_not_let_into_the_archive() -> None:
    """One signature good for every text: OpenSSL takes it, and so did the archive; no bundle with it would have verified."""
    ev = {
        "actor": {"kind": "host", "user": None, "writer": encode(ZERO).hex()},
        "at": "2026-11-20T12:34:56.123456Z", "data": {"writer": "00" * 32}, "id": "01937f2c-8b7e-7c3a-9d1e-2f6a5b4c3d2e",
        "op": None, "outcome": "ok", "prev": None, "priv": {}, "seq": 0, "subject": "archive", "type": "writer.enrolled", "v": 1,
    }  # fmt: skip
    signature = encode(times(9, BASE)) + (9).to_bytes(32, "little")
    entry = canonical.dumps({"ev": ev, "sig": base64.b64encode(signature).decode()})
    with pytest.raises(VerificationError, match="not the writer's"):
        verify(entry)


def test_host_key_of_small_order_is_refused_as_a_key() -> None:
    spki = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + encode(ZERO)).decode()
    with pytest.raises(KeyUnavailableError, match="small order"):
        load_public_key(f"-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n".encode())
