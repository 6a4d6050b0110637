"""Wrote vectors.json beside it: signatures on which lenient and strict readers of Ed25519 differ.

python -m tests.vectors.ed25519.generate

Points are computed here by RFC 8032 §5.1.4 alone, in affine coordinates.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]
ZERO: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    twist = D * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + twist, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - twist, -1, P) % P


def times(factor: int, point: Point) -> Point:
    found = ZERO
    for bit in bin(factor)[2:]:
        found = add(found, found)
        found = add(found, point) if bit == "1" else found
    return found


def recover(y: int, odd: int) -> Point:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return (x if x % 2 == odd else P - x), y


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


BASE = recover(4 * pow(5, -1, P) % P, 0)
TORSION = recover(0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7, 0)  # of order 8
SECRET = int.from_bytes(hashlib.sha256(b"strict").digest(), "little") % L
HONEST = times(SECRET, BASE)


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def sign(message: bytes, key: bytes, r: int = 7, shown: bytes | None = None) -> bytes:
    """A signature by SECRET whose R is r · B, or is written as `shown`."""
    commitment = shown or encode(times(r, BASE))
    return commitment + ((r + challenge(commitment, key, message) * SECRET) % L).to_bytes(32, "little")


def vectors() -> list[dict[str, object]]:
    """Each with the verdict that both readers must give."""
    key, message = encode(HONEST), b"one text"
    good = sign(message, key)
    raised = good[:32] + (int.from_bytes(good[32:], "little") + L).to_bytes(32, "little")
    identity, other = encode(ZERO), (P + 1).to_bytes(32, "little")
    free = encode(times(9, BASE)) + (9).to_bytes(32, "little")  # good for every text under a key of order 1
    mixed, number = encode(add(HONEST, TORSION)), 0
    while challenge(encode(times(7, BASE)), mixed, b"text %d" % number) % 8:
        number += 1
    found: list[tuple[str, bytes, bytes, bytes, bool]] = [
        ("honest", key, message, good, True),
        ("another text", key, message + b"!", good, False),
        ("S not reduced", key, message, raised, False),
        ("S with its highest bits", key, message, good[:63] + bytes([good[63] | 0xE0]), False),
        ("R of order 1", key, message, sign(message, key, 0), False),
        ("R of order 1, not canonical", key, message, sign(message, key, 0, other), False),
        ("R of order 1, sign of zero", key, message, sign(message, key, 0, identity[:31] + b"\x80"), False),
        ("key of order 1", identity, message, free, False),
        ("key of order 1, another text", identity, b"any text", free, False),
        ("key of order 1, not canonical", other, message, free, False),
        ("key of order 1, sign of zero", identity[:31] + b"\x80", message, free, False),
        ("key of order 2", encode((0, P - 1)), message, free, False),
        ("key of order 8", encode(TORSION), message, free, False),
        (
            "key of mixed order, where it does not matter",
            mixed,
            b"text %d" % number,
            sign(b"text %d" % number, mixed),
            True,
        ),
        ("key that is no point", (2).to_bytes(32, "little"), message, good, False),
        ("signature of 63 bytes", key, message, good[:63], False),
        ("signature of 65 bytes", key, message, good + b"\0", False),
    ]
    return [
        {"what": what, "key": of.hex(), "message": text.hex(), "signature": signature.hex(), "valid": valid}
        for what, of, text, signature, valid in found
    ]


if __name__ == "__main__":
    (Path(__file__).parent / "vectors.json").write_text(json.dumps(vectors(), indent=1) + "\n")
