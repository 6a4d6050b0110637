"""Published vectors: what was signed once must be read, and written, for ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver.custody.event import PAYLOAD_TYPE, commitment, leaf_hash, sign, verify
from archiver.errors import VerificationError

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors/custody-event/vectors.json").read_text("utf-8")
)


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda vector: vector["name"])
def test_accepted_vector_is_read_and_written_again_to_the_byte(vector: dict[str, str]) -> None:
    entry = vector["entry"].encode()
    event = verify(entry)
    assert sign(event, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["private_key"]))) == entry
    assert leaf_hash(entry).hex() == vector["leaf_hash"] == hashlib.sha256(b"\x00" + entry).hexdigest()
    assert rfc8785.dumps(json.loads(entry)) == entry


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_refused_vector_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(VerificationError):
        verify(vector["entry"].encode())


def test_second_and_third_form_a_chain() -> None:
    first, second = (vector["entry"].encode() for vector in VECTORS["accepted"][1:3])
    assert verify(second).prev == leaf_hash(first).hex()


def test_commitments_are_reproduced() -> None:
    for vector in VECTORS["commitments"]:
        assert commitment(bytes.fromhex(vector["salt"]), json.loads(vector["group"])) == vector["commitment"]


def test_payload_type_is_the_published_one() -> None:
    assert VECTORS["payload_type"].encode() == PAYLOAD_TYPE
