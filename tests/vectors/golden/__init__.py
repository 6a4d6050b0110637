"""The frozen log and bundle of README.md: where they lie, and the keys that made them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).parent
LOG, BUNDLE = HERE / "log", HERE / "bundle"
VERIFIER = BUNDLE / "verify_custody.py"
ORIGIN = "golden.example/custody"
_KEYS = HERE / "keys.json"


def private_key(name: str) -> Ed25519PrivateKey:
    """The golden log's key of this name: log, host or witness. Published, so never use it."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"golden {name}".encode()).digest())


def public_keys() -> dict[str, str]:
    """`log` and `witness` as C2SP verifier keys, `host` in hex, as they were printed then."""
    keys: dict[str, str] = json.loads(_KEYS.read_text())
    return keys
