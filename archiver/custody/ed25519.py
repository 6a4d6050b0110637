"""Checks Ed25519 signatures (RFC 8032 §5.1) as strictly as the verifier that travels with bundles, so that both always
agree. Pure.

OpenSSL accepts keys and signatures that stricter libraries refuse: encodings that are not canonical, and points of
small order, under which one signature can be good for many texts. A signature that a bundle's verifier would refuse
must not come into the archive.
"""

from __future__ import annotations

import functools

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
# y of the points whose order divides 8.
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset({0, 1, _P - 1, _ORDER_8, _P - _ORDER_8})


@functools.lru_cache(maxsize=1024)
def check_key(public: bytes) -> None:
    """Raises ValueError unless this is the canonical encoding (RFC 8032 §5.1.3) of a curve point that is not of small
    order."""
    if len(public) != 32:
        raise ValueError("an Ed25519 key has 32 bytes")
    if not _sound(public):
        raise ValueError("the Ed25519 key is not canonical, or of small order")
    # x² = u / v is a square exactly where u · v is one (Euler's criterion). x is 0 for points of small order alone.
    y = int.from_bytes(public, "little") & ~(1 << 255)
    if pow((y * y - 1) * (_D * y * y + 1), (_P - 1) // 2, _P) != 1:
        raise ValueError("the Ed25519 key is no point of the curve")


def verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tells whether `signature` over `message` was made by the key `public`, by the strict rules."""
    if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= _L or not _sound(signature[:32]):
        return False
    try:
        check_key(public)
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _sound(encoded: bytes) -> bool:
    """Tells whether the 32 bytes have a canonical y, and are no point of small order. Whether they are a point at all
    is checked elsewhere: for a key by `check_key`, for a signature by the comparison with the computed point."""
    y = int.from_bytes(encoded, "little") & ~(1 << 255)
    return y < _P and y not in _SMALL_ORDER
