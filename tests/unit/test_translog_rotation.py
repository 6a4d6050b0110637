"""Notes by which a log's keys introduce one another: who must have signed what, and what is no such note."""

from __future__ import annotations

import base64

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


def _told(*signers: Signer, **change: str) -> bytes:
    """A note of a rotation with lines of one's own, signed by whom one likes."""
    old, new = KEYS[:2]
    lines = {
        "header": "compliance-archiver/log-key-rotation/v1",
        "name": NAME,
        "size": "10",
        "root": base64.b64encode(ROOT).decode(),
        "old": f"old {old.key.vkey}",
        "new": f"new {new.key.vkey}",
        "hosts": f"hosts {' '.join(HOSTS)}",
        **change,
    }
    text = "".join(f"{line}\n" for line in lines.values())
    return f"{text}\n{''.join(each.sign(text) for each in signers or (old, new))}".encode()


def test_a_note_of_rotation_is_these_lines() -> None:
    assert _told() == FIRST.note


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"header": "compliance-archiver/log-key-rotation/v2"}, "not a note of a key's rotation"),
        ({"more": "line"}, "not a note of a key's rotation"),
        ({"old": f"was {KEYS[0].key.vkey}"}, "not a note of a key's rotation"),
        ({"new": f"now {KEYS[1].key.vkey}"}, "not a note of a key's rotation"),
        ({"name": "test/other"}, "from one key of a log to another"),
        ({"old": f"old {Signer('test/other', KEYS[0].private).key.vkey}"}, "from one key of a log to another"),
        ({"new": f"new {KEYS[0].key.vkey}"}, "from one key of a log to another"),
        ({"hosts": "hosts " + "aa" * 32}, "from one key of a log to another"),
        ({"root": base64.b64encode(ROOT[:31]).decode()}, "from one key of a log to another"),
        ({"size": "010"}, "decimal"),
    ],
)
def test_a_note_that_tells_of_something_else_is_refused_though_it_is_signed(change: dict[str, str], says: str) -> None:
    with pytest.raises(VerificationError, match=says):
        parse_rotation(_told(**change))


def test_one_key_alone_introduces_nobody() -> None:
    for signers in (KEYS[:1], KEYS[1:2]):
        with pytest.raises(VerificationError, match="signed by the old key and the new one"):
            parse_rotation(_told(*signers))


def test_a_log_that_never_changed_its_key_began_with_it() -> None:
    keys = log_keys(KEYS[0].key, [])
    assert (keys.first, keys.of(1), keys.name, keys.kind) == (KEYS[0].key, KEYS[0].key, NAME, 1)


def test_rotations_go_on_from_one_another() -> None:
    """The second takes effect at a size before the first: then nobody could say which key signs between them."""
    with pytest.raises(VerificationError, match="do not follow one another"):
        log_keys(KEYS[2].key, [FIRST.note, introduce(KEYS[1], KEYS[2], HOSTS, 9, ROOT).note])
    assert log_keys(KEYS[2].key, [FIRST.note, introduce(KEYS[1], KEYS[2], HOSTS, 10, ROOT).note]).of(10) == KEYS[0].key
