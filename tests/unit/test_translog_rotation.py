"""Notes by which a log's keys introduce one another: who must have signed what, and what is no such note."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver.errors import VerificationError
from archiver.evidence.verifier.primitives import Wrong, parse_key
from archiver.evidence.verifier.primitives import parse_rotation as stranger_parses
from archiver.translog.checkpoint import Checkpoint, open_checkpoint
from archiver.translog.note import Signer
from archiver.translog.rotation import introduce, log_keys, parse_rotation

NAME = "test/custody"
KEYS = [Signer(NAME, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)) for number in range(1, 5)]
HOSTS = ("aa" * 32, "bb" * 32)
ROOT = b"r" * 32
FIRST = introduce(KEYS[0], KEYS[1], HOSTS, 10, ROOT)
SECOND = introduce(KEYS[1], KEYS[2], HOSTS, 25, ROOT)


def signed(size: int, *signers: Signer) -> bytes:
    body = Checkpoint(NAME, size, ROOT).body
    return f"{body}\n{''.join(each.sign(body) for each in signers)}".encode()


def test_each_size_has_its_key_and_no_other_will_do() -> None:
    keys = log_keys(KEYS[2].key, [SECOND.note, FIRST.note, FIRST.note])
    assert keys.first == KEYS[0].key
    for size, right in ((1, 0), (10, 0), (11, 1), (25, 1), (26, 2), (10**6, 2)):
        assert keys.of(size) == KEYS[right].key
        assert open_checkpoint(signed(size, KEYS[right]), keys)[0].size == size
        assert open_checkpoint(signed(size, *KEYS), keys)[0].size == size
        for wrong in {0, 1, 2, 3} - {right}:
            with pytest.raises(VerificationError):
                open_checkpoint(signed(size, KEYS[wrong]), keys)


def test_a_chain_that_does_not_lead_to_the_key_is_refused() -> None:
    for notes in ([FIRST.note], [SECOND.note, introduce(KEYS[3], KEYS[0], HOSTS, 30, ROOT).note, FIRST.note]):
        with pytest.raises(VerificationError):
            log_keys(KEYS[2].key, notes)


def test_a_note_lacking_a_signature_or_changed_anywhere_introduces_nobody() -> None:
    assert parse_rotation(FIRST.note) == FIRST
    assert stranger_parses(FIRST.note) == (parse_key(KEYS[0].key.vkey, 1), parse_key(KEYS[1].key.vkey, 1), 10)
    lines = FIRST.note.splitlines(keepends=True)
    lacking = [b"".join(lines[:-1]), b"".join([*lines[:-2], lines[-1]])]
    changed = [FIRST.note.replace(b"\n10\n", b"\n11\n"), FIRST.note.replace(b"aa", b"ab", 1), b"", b"x\n\n"]
    for bad in (*lacking, *changed):
        with pytest.raises(VerificationError):
            parse_rotation(bad)
        with pytest.raises((Wrong, ValueError, IndexError)):
            stranger_parses(bad)
