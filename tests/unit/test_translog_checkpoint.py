"""Checkpoints: only what the log itself signed, in its one spelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver.errors import VerificationError
from archiver.translog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from archiver.translog.merkle import EMPTY_ROOT
from archiver.translog.note import Cosigner, Signer, parse_note, parse_vkey

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/log/checkpoints.json").read_text("utf-8"))
LOG, WITNESS = parse_vkey(VECTORS["log"]), parse_vkey(VECTORS["witness"])


@pytest.mark.parametrize("vector", VECTORS["checkpoints"], ids=lambda v: v["name"])
def test_checkpoint_is_opened_and_written_again(vector: dict[str, Any]) -> None:
    checkpoint, witnesses = open_checkpoint(vector["note"].encode(), LOG, [WITNESS])
    assert checkpoint == Checkpoint(
        vector["origin"], vector["size"], bytes.fromhex(vector["root"]), tuple(vector["extensions"])
    )
    assert [[key.vkey, time] for key, time in witnesses] == vector["witnesses"]
    assert checkpoint.body == parse_note(vector["note"].encode()).text
    assert parse_checkpoint(checkpoint.body) == checkpoint


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda v: v["name"])
def test_checkpoint_that_the_log_did_not_say_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        open_checkpoint(vector["note"].encode(), LOG, [WITNESS])


def test_witness_that_nobody_asked_about_is_passed_over() -> None:
    vector = next(each for each in VECTORS["checkpoints"] if each["witnesses"])
    assert open_checkpoint(vector["note"].encode(), LOG)[1] == ()


def test_keys_in_each_others_place_are_refused() -> None:
    """A log's plain signature is no statement of having watched the log, nor is a witness's one of keeping it."""
    raw = VECTORS["checkpoints"][0]["note"].encode()
    with pytest.raises(VerificationError, match="type"):
        open_checkpoint(raw, WITNESS)
    with pytest.raises(VerificationError, match="type"):
        open_checkpoint(raw, LOG, [LOG])


def test_signed_checkpoint_of_ours_opens() -> None:
    signer = Signer("a.example/log", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    cosigner = Cosigner("w.example", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
    checkpoint = Checkpoint(signer.name, 0, EMPTY_ROOT)
    raw = f"{checkpoint.body}\n{signer.sign(checkpoint.body)}{cosigner.sign(checkpoint.body, 7)}".encode()
    assert open_checkpoint(raw, signer.key, [cosigner.key]) == (checkpoint, ((cosigner.key, 7),))


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [("", 1, bytes(32)), ("a\nb", 1, bytes(32)), ("a", -1, bytes(32)), ("a", 2**63, bytes(32)), ("a", 1, bytes(31)),
     ("a", 0, bytes(32))],
)  # fmt: skip
def test_checkpoint_that_no_log_can_say_cannot_be_made(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(ValueError, match=r"checkpoint|empty tree"):
        Checkpoint(origin, size, root)
