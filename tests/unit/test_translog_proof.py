"""Proofs in files: read and written to the byte, and only the entry's own proof under the log's own checkpoint holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archiver.custody.event import leaf_hash
from archiver.errors import VerificationError
from archiver.translog.note import parse_vkey
from archiver.translog.proof import LogProof, parse_proof
from tests.log_oracle import open_proof

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/log/proofs.json").read_text("utf-8"))
LOG, WITNESS = parse_vkey(VECTORS["log"]), parse_vkey(VECTORS["witness"])


@pytest.mark.parametrize("vector", VECTORS["proofs"], ids=lambda v: v["name"])
def test_proof_is_read_holds_and_is_written_again(vector: dict[str, Any]) -> None:
    proof = parse_proof(vector["proof"].encode())
    assert proof.index == vector["index"]
    assert proof.extra == (None if vector["extra"] is None else bytes.fromhex(vector["extra"]))
    assert proof.text == vector["proof"]
    checkpoint, witnesses = open_proof(proof, leaf_hash(bytes.fromhex(vector["entry"])), LOG, [WITNESS])
    assert checkpoint.size > proof.index
    assert len(witnesses) == (vector["name"] == "witnessed")


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda v: v["name"])
def test_proof_that_does_not_hold_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        open_proof(parse_proof(vector["proof"].encode()), leaf_hash(bytes.fromhex(vector["entry"])), LOG, [WITNESS])


def test_endless_proof_is_refused() -> None:
    with pytest.raises(VerificationError, match="a proof has at most 131072"):
        parse_proof(VECTORS["proofs"][0]["proof"].encode() + b"x" * 200_000)


def test_proof_beyond_ascii_is_refused() -> None:
    with pytest.raises(VerificationError):
        parse_proof("c2sp.org/tlog-proof@v1\nindex ５\n\nx".encode())


@pytest.mark.parametrize(
    ("index", "hashes", "extra"),
    [(-1, (), None), (2**63 - 1, (), None), (0, (bytes(31),), None), (0, (bytes(32),) * 64, None), (0, (), b"")],
)
def test_proof_that_has_no_file_cannot_be_made(index: int, hashes: tuple[bytes, ...], extra: bytes | None) -> None:
    with pytest.raises(ValueError):
        LogProof(index, hashes, b"", extra)


def test_largest_tree_has_room_for_its_proof() -> None:
    assert len(LogProof(2**63 - 2, (bytes(32),) * 63, b"").text.splitlines()) == 2 + 63 + 1
