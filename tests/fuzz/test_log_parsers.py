"""Changed notes, keys, checkpoints, proofs, paths, bundles and entries: refused with our error, or read to the same bytes.

A seeded mutator, so that a run can be repeated. LOG_FUZZ_EXECS is the number of inputs for each of the nine parsers: 25,000 by
default; the bar for a release is 120,000, together more than 10^6.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archiver.custody import event, note, proof, tile
from archiver.custody.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from archiver.errors import VerificationError
from tests.vectors.log import rfc6962

EXECS = int(os.environ.get("LOG_FUZZ_EXECS", "25000"))
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
    checkpoint, _ = proof.open_proof(parsed, rfc6962.leaf(rfc6962.REFERENCE_ENTRIES[5]), LOG, [WITNESS])
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
PIECES = [b"\n", b"\n\n", b" ", b"+", b"=", b"\xe2\x80\x94 ", b"\xe2\x80\x93 ", b"\r", b"\0", b"\xc2\xa0", b"\xff", b"0", b"-1",
          b"9223372036854775808", b"x000/", b".p/256", b"extra ", b"index ", b"A", b"AAAA", b"\xef\xbb\xbf", b"\\u0000", b'"'
          ]  # fmt: skip


def mutated(raw: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One of ten kinds of damage, some of which keep the form."""
    at, to = sorted((chance.randint(0, len(raw)), chance.randint(0, len(raw))))
    match chance.randrange(10):
        case 0 if raw:
            at = chance.randrange(len(raw))
            return raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]
        case 1 if raw:
            at = chance.randrange(len(raw))
            return raw[:at] + bytes([chance.choice(b"0129azAZ+/=- \n")]) + raw[at + 1 :]
        case 2:
            return raw[:at] + raw[to:]
        case 3:
            return raw[:at]
        case 4:
            return raw[:at] + raw[at:to] * chance.choice((2, 2, 2, 40)) + raw[to:]
        case 5:
            return raw[:at] + chance.choice(PIECES) + raw[at:]
        case 6:
            return raw[:at] + chance.randbytes(chance.randint(1, 9)) + raw[to:]
        case 7:
            other = chance.choice(others)
            return raw[:at] + other[chance.randint(0, len(other)) :]
        case 8:
            lines = raw.split(b"\n")
            chance.shuffle(lines)
            return b"\n".join(lines)
        case _:
            lines = raw.split(b"\n")
            lines.insert(chance.randint(0, len(lines)), chance.choice(chance.choice(others).split(b"\n")))
            return b"\n".join(lines)


@pytest.mark.parametrize("read", PARSERS, ids=lambda read: read.__name__)
@pytest.mark.timeout(3600)
def test_changed_input_is_refused_or_says_exactly_what_it_says(read: Callable[[bytes], bytes]) -> None:
    chance = random.Random(read.__name__)
    seeds = PARSERS[read]
    accepted = refused = 0
    for _ in range(EXECS):
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
    assert accepted > EXECS * 0.01, "the mutator is too rough to find what is accepted"
    assert refused > EXECS * 0.1
