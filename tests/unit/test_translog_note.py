"""Signed notes, verifier keys and cosignatures: the published vectors, and the edges of the format."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from archiver.errors import VerificationError
from archiver.translog import note
from archiver.translog.note import COSIGNATURE, ED25519, Cosigner, Signer, VerifierKey

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/log/notes.json").read_text("utf-8"))
LOG = Signer("archive.example.com/custody/2026", Ed25519PrivateKey.from_private_bytes(bytes(32)))
WITNESS = Cosigner("witness.example.com/w1", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
TEXT = "one\ntwo\n"
P = 2**255 - 19


@pytest.mark.parametrize("vector", VECTORS["vkeys"], ids=lambda v: v["name"])
def test_verifier_key_is_read_and_written_again(vector: dict[str, Any]) -> None:
    key = note.parse_vkey(vector["vkey"])
    assert key == VerifierKey(vector["key_name"], vector["kind"], bytes.fromhex(vector["public"]))
    assert key.key_id.hex() == vector["key_id"]
    assert key.vkey == vector["vkey"]


@pytest.mark.parametrize("vector", VECTORS["refused_vkeys"], ids=lambda v: v["name"])
def test_verifier_key_that_is_not_one_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(VerificationError):
        note.parse_vkey(vector["vkey"])


@pytest.mark.parametrize("vector", VECTORS["notes"], ids=lambda v: v["name"])
def test_note_is_opened_by_the_keys_that_signed_it(vector: dict[str, Any]) -> None:
    keys = [note.parse_vkey(vkey) for vkey in vector["vkeys"]]
    opened = note.open_note(vector["note"].encode(), keys)
    assert opened.text == vector["text"]
    assert [[key.vkey, time] for key, time in opened.verified] == vector["verified"]


@pytest.mark.parametrize("vector", VECTORS["refused_notes"], ids=lambda v: v["name"])
def test_note_outside_the_format_or_badly_signed_is_refused(vector: dict[str, Any]) -> None:
    keys = [note.parse_vkey(vkey) for vkey in vector["vkeys"]]
    with pytest.raises(VerificationError):
        note.open_note(vector["note"].encode(), keys)


def test_what_we_sign_opens_and_is_the_same_again() -> None:
    lines = LOG.sign(TEXT) + WITNESS.sign(TEXT, 1_700_000_000)
    assert lines == LOG.sign(TEXT) + WITNESS.sign(TEXT, 1_700_000_000)
    opened = note.open_note(f"{TEXT}\n{lines}".encode(), [WITNESS.key, LOG.key])
    assert opened.verified == ((LOG.key, None), (WITNESS.key, 1_700_000_000))


def test_one_key_under_both_types_signs_different_things() -> None:
    cosigner = Cosigner(LOG.name, LOG.private)
    assert cosigner.key.key_id != LOG.key.key_id
    with pytest.raises(VerificationError, match="no trusted key"):
        note.open_note(f"{TEXT}\n{LOG.sign(TEXT)}".encode(), [cosigner.key])


def test_keys_keep_their_secret_out_of_sight() -> None:
    assert "private" not in repr(LOG)
    assert "private" not in repr(WITNESS)


@pytest.mark.parametrize("text", ["", "no end", "tab\t\n", "return\r\n", "nul\0\n", "lone \ud800\n"])
def test_what_is_no_text_of_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(ValueError):
        LOG.sign(text)
    with pytest.raises(ValueError):
        WITNESS.sign(text, 0)


@pytest.mark.parametrize("time", [0, 1, 2**63 - 1])
def test_cosignature_says_when(time: int) -> None:
    opened = note.open_note(f"{TEXT}\n{WITNESS.sign(TEXT, time)}".encode(), [WITNESS.key])
    assert opened.verified == ((WITNESS.key, time),)


@pytest.mark.parametrize("time", [-1, 2**63])
def test_impossible_time_is_not_signed(time: int) -> None:
    with pytest.raises(ValueError, match="epoch"):
        WITNESS.sign(TEXT, time)


@pytest.mark.parametrize("raw", [b"\xff\n\n" + LOG.sign("x\n").encode(), f"{TEXT}\n".encode() + b"\x94 a YWJjZGU=\n"])
def test_note_that_is_not_utf_8_is_refused(raw: bytes) -> None:
    with pytest.raises(VerificationError):
        note.parse_note(raw)


def test_note_of_64_kib_is_the_longest() -> None:
    room = note.MAX_NOTE - len(f"\n\n{LOG.sign(TEXT)}".encode())  # every line of this key is as long
    longest, longer = "x" * room + "\n", "x" * (room + 1) + "\n"
    assert note.open_note(f"{longest}\n{LOG.sign(longest)}".encode(), [LOG.key]).text == longest
    with pytest.raises(VerificationError, match="65536"):
        note.open_note(f"{longer}\n{LOG.sign(longer)}".encode(), [LOG.key])


def test_two_keys_that_cannot_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are short: colliding ones can be made. Here every key has the same."""
    other = Signer(LOG.name, Ed25519PrivateKey.from_private_bytes(b"o" * 32)).key
    monkeypatch.setattr(VerifierKey, "key_id", property(lambda _: b"same"))
    with pytest.raises(VerificationError, match="same id"):
        note.open_note(f"{TEXT}\n{LOG.sign(TEXT)}".encode(), [LOG.key, other])


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 6, 255, -1, 256])
def test_key_of_a_type_that_we_do_not_check_cannot_be_made(kind: int) -> None:
    with pytest.raises(ValueError, match="type"):
        VerifierKey("a", kind, LOG.key.public)


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """RFC 8032 §5.1.4, in affine coordinates."""
    d = -121665 * pow(121666, -1, P)
    cross = d * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + cross, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - cross, -1, P)
    return x % P, y % P


def _x(y: int) -> int | None:
    """A square root of (y² − 1) / (d y² + 1), RFC 8032 §5.1.3."""
    d = -121665 * pow(121666, -1, P)
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * pow(2, (P - 1) // 4, P) % P
    return root if root * root % P == square else None


def _times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
    total = (0, 1)
    for bit in bin(factor)[2:]:
        total = _add(total, total)
        if bit == "1":
            total = _add(total, point)
    return total


def test_exactly_the_eight_points_of_small_order_are_refused() -> None:
    """Found from the curve's equation: the base order times any point has an order that divides 8."""
    order = 2**252 + 27742317777372353535851937790883648493
    small: set[tuple[int, int]] = set()
    y = 2
    while len(small) < 8:
        if (x := _x(y)) is not None:
            torsion = _times(order, (x, y))
            small |= {_times(n, torsion) for n in range(8)}
        y += 1
    for _, y in small:
        for sign in (0, 1):
            encoded = (y | sign << 255).to_bytes(32, "little")
            for kind in (ED25519, COSIGNATURE):
                with pytest.raises(ValueError, match="small order"):
                    VerifierKey("a", kind, encoded)
    # Small y that are points, of large order: taken. Those that are not: refused, as is the same y written as y + p.
    seen = set()
    for y in range(2, 19):
        point = _x(y) is not None
        seen.add(point)
        if point:
            assert VerifierKey("a", ED25519, y.to_bytes(32, "little")).public[0] == y
        else:
            with pytest.raises(ValueError, match="no point"):
                VerifierKey("a", ED25519, y.to_bytes(32, "little"))
        with pytest.raises(ValueError, match="not canonical"):
            VerifierKey("a", ED25519, (y + P).to_bytes(32, "little"))
    assert seen == {True, False}


def test_key_under_which_one_signature_is_good_for_every_text_is_refused() -> None:
    """The library lets the identity verify: refusing the key is all that stands against it."""
    identity = (1).to_bytes(32, "little")
    for text in (b"one\n", b"another\n"):
        Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), text)
    with pytest.raises(ValueError, match="small order"):
        VerifierKey("a", ED25519, identity)


@pytest.mark.parametrize("text", ["YQ==", "YWI=", "YWJj", "", "/+8="])
def test_canonical_base64_is_read(text: str) -> None:
    assert base64.b64encode(note.from_base64(text)).decode() == text


@pytest.mark.parametrize(
    "text", ["YR==", "YQ", "YQ=", "YQ===", " YQ==", "YQ==\n", "Y\nQ==", "Y-==", "YQ==YQ==", "=", "ＹＱ＝＝"]
)
def test_second_spelling_in_base64_is_refused(text: str) -> None:
    with pytest.raises(VerificationError):
        note.from_base64(text)


@pytest.mark.parametrize(
    "text", ["", "00", "01", "+1", "-0", " 1", "1 ", "1\n", "1_0", "1e3", "٣", "１", str(2**63), "9" * 5000]
)
def test_second_spelling_of_a_number_is_refused(text: str) -> None:
    with pytest.raises(VerificationError):
        note.from_decimal(text)


@pytest.mark.parametrize("number", [0, 1, 9, 10, 2**63 - 1])
def test_number_is_read(number: int) -> None:
    assert note.from_decimal(str(number)) == number
