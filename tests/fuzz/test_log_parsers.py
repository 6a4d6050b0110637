"""Changed notes, keys, checkpoints, proofs, paths, bundles and entries: refused with our error, or read to the same bytes.

A seeded mutator, so that a run can be repeated. 70,000 inputs for each parser, 15,000 where each costs a signature: 465,000 in
CI, as many times more as ARCHIVER_FUZZ says.
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archiver.custody import event
from archiver.errors import VerificationError
from archiver.translog import note, proof, tile
from archiver.translog.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from tests.fuzz.mutator import mutated, times
from tests.log_oracle import open_proof
from tests.vectors.log import rfc6962

VECTORS = Path(__file__).parents[1] / "vectors"


def vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text("utf-8"))


NOTES, CHECKPOINTS, PROOFS, TILES = (vectors(f"log/{n}.json") for n in ("notes", "checkpoints", "proofs", "tiles"))
LOG, WITNESS = note.parse_vkey(CHECKPOINTS["log"]), note.parse_vkey(CHECKPOINTS["witness"])
SIGNED = {each["note"].encode(): parse_checkpoint(note.parse_note(each["note"].encode()).text)
          for each in CHECKPOINTS["checkpoints"]}  # fmt: skip


def read_note(raw: bytes) -> bytes:
    parsed = note.parse_note(raw)
    lines = (f"— {s.name} {base64.b64encode(s.key_id + s.signature).decode()}\n" for s in parsed.signatures)
    return f"{parsed.text}\n{''.join(lines)}".encode()


def read_vkey(raw: bytes) -> bytes:
    return note.parse_vkey(raw.decode("utf-8", "surrogateescape")).vkey.encode()


def read_checkpoint(raw: bytes) -> bytes:
    return parse_checkpoint(raw.decode("utf-8", "surrogateescape")).body.encode("utf-8", "surrogateescape")


def open_signed(raw: bytes) -> bytes:
    """Whatever is around it, nothing opens but what was signed."""
    checkpoint, _ = open_checkpoint(raw, LOG, [WITNESS])
    assert checkpoint in SIGNED.values()
    return raw


def read_proof(raw: bytes) -> bytes:
    return proof.parse_proof(raw).text.encode()


def open_proved(raw: bytes) -> bytes:
    """Entry 5 is proved at place 5 and at no other, under the one root."""
    parsed = proof.parse_proof(raw)
    checkpoint, _ = open_proof(parsed, rfc6962.leaf(rfc6962.REFERENCE_ENTRIES[5]), LOG, [WITNESS])
    assert (parsed.index, checkpoint) == (5, Checkpoint(LOG.name, 8, rfc6962.REFERENCE_ROOTS[8]))
    assert list(parsed.hashes) == rfc6962.path(5, rfc6962.REFERENCE_ENTRIES)
    return raw


def read_path(raw: bytes) -> bytes:
    return tile.parse_path(raw.decode("utf-8", "surrogateescape")).path.encode()


def read_bundle(raw: bytes) -> bytes:
    width = len(raw) % 9
    entries = tile.unpack_entries(raw, width)
    assert len(entries) == width
    return tile.pack_entries(entries)


def read_entry(raw: bytes) -> bytes:
    event.verify(raw)
    assert raw in ENTRIES
    return raw


ENTRIES = [each["entry"].encode() for each in vectors("custody-event/vectors.json")["accepted"]]
PARSERS: dict[Callable[[bytes], bytes], list[bytes]] = {
    read_note: [each["note"].encode() for each in NOTES["notes"] + NOTES["refused_notes"]],
    read_vkey: [each["vkey"].encode() for each in NOTES["vkeys"] + NOTES["refused_vkeys"][:40]],
    read_checkpoint: [note.parse_note(raw).text.encode() for raw in SIGNED],
    open_signed: list(SIGNED),
    read_proof: [each["proof"].encode() for each in PROOFS["proofs"]],
    open_proved: [each["proof"].encode() for each in PROOFS["proofs"] if each["index"] == 5],
    read_path: [each["path"].encode() for each in TILES["paths"]] + [path.encode() for path in TILES["refused_paths"]],
    read_bundle: [bytes.fromhex(each["raw"]) for each in TILES["bundles"]],
    read_entry: ENTRIES,
}
SIGNED_FOR = {open_signed, open_proved, read_entry}


@pytest.mark.parametrize("read", PARSERS, ids=lambda read: read.__name__)
@pytest.mark.timeout(3600)
def test_changed_input_is_refused_or_says_exactly_what_it_says(read: Callable[[bytes], bytes]) -> None:
    chance, execs = random.Random(read.__name__), times(15_000 if read in SIGNED_FOR else 70_000)
    seeds = PARSERS[read]
    accepted = refused = 0
    for _ in range(execs):
        raw = chance.choice(seeds)
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
            raw = mutated(raw, seeds, chance)
        start = time.perf_counter()
        try:
            again = read(raw)
        except VerificationError:
            refused += 1
        else:
            accepted += 1
            assert again == raw
        assert time.perf_counter() - start < 1
    assert accepted > execs * 0.01, "the mutator is too rough to find what is accepted"
    assert refused > execs * 0.1
