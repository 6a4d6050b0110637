"""Strict Ed25519, by the published vectors in which readers of Ed25519 are known to differ, and at the edges of each rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archiver.custody.ed25519 import check_key, verifies
from tests.custody_examples import KEY, OTHER_KEY

_VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "ed25519" / "vectors.json").read_text())
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
PUBLIC = KEY.public_key().public_bytes_raw()
GOOD = KEY.sign(b"message")


@pytest.mark.parametrize("case", _VECTORS, ids=lambda case: case["what"])
def test_published_vector_gets_its_verdict(case: dict[str, str]) -> None:
    key, message, signature = (bytes.fromhex(case[name]) for name in ("key", "message", "signature"))
    assert verifies(key, message, signature) is case["valid"]


def test_a_signature_is_good_for_its_key_and_its_text_alone() -> None:
    assert verifies(PUBLIC, b"message", GOOD)
    assert not verifies(PUBLIC, b"massage", GOOD)
    assert not verifies(OTHER_KEY.public_key().public_bytes_raw(), b"message", GOOD)
    assert not verifies(PUBLIC, b"message", GOOD[:32] + KEY.sign(b"x")[32:])


def test_a_number_that_has_a_smaller_spelling_is_refused() -> None:
    """The same signature with the group's order added: a lax reader takes both, so a text would have two signatures."""
    other = int.from_bytes(GOOD[32:], "little") + L
    assert not verifies(PUBLIC, b"message", GOOD[:32] + other.to_bytes(32, "little"))


@pytest.mark.parametrize("signature", [b"", GOOD[:63], GOOD + b"\0", GOOD[:32], L.to_bytes(32, "little") * 2])
def test_a_signature_of_another_length_is_none(signature: bytes) -> None:
    assert not verifies(PUBLIC, b"message", signature)


@pytest.mark.parametrize("sign", [0, 1 << 255])
@pytest.mark.parametrize("y", [0, 1, P - 1, P, P + 1, _ORDER_8, P - _ORDER_8, 2**255 - 1])
def test_a_point_of_small_order_or_of_another_spelling_is_no_key_and_starts_no_signature(y: int, sign: int) -> None:
    encoded = (y | sign).to_bytes(32, "little")
    with pytest.raises(ValueError, match="not canonical, or of small order"):
        check_key(encoded)
    assert not verifies(encoded, b"message", GOOD)
    assert not verifies(PUBLIC, b"message", encoded + GOOD[32:])


@pytest.mark.parametrize("y", [2, 7, P - 2])
def test_what_is_no_point_of_the_curve_is_no_key(y: int) -> None:
    with pytest.raises(ValueError, match="no point of the curve"):
        check_key(y.to_bytes(32, "little"))


@pytest.mark.parametrize("y", [3, 4, 5, 6, P - 3])
def test_every_other_point_may_be_a_key(y: int) -> None:
    for sign in (0, 1 << 255):
        check_key((y | sign).to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_none(size: int) -> None:
    with pytest.raises(ValueError, match="has 32 bytes"):
        check_key(PUBLIC[:size].ljust(size, b"\0"))
