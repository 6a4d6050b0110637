"""Merkle trees of made-up leaves in memory, for tests of what signs and checks them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver.translog import merkle, tile
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.note import Cosigner, Signer

ORIGIN = "archive.example/custody/2026"


def private_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


LOG = Signer(ORIGIN, private_key("log"))
WITNESS = Cosigner("witness.example/w1", private_key("witness"))


class Tree:
    """The tree over `names`; another tree continues it if it was made of the same names and more."""

    def __init__(self, names: Sequence[str]) -> None:
        leaves = [hashlib.sha256(b"\x00" + name.encode()).digest() for name in names]
        tiles = tile.extend(0, leaves, lambda level, index: b"")
        self.hashes = tile.hashes_of(lambda level, index: tiles[level, index])
        self.size = len(leaves)

    def checkpoint(self, size: int | None = None, origin: str = ORIGIN) -> Checkpoint:
        size = self.size if size is None else size
        return Checkpoint(origin, size, merkle.root(size, self.hashes))

    def note(self, size: int | None = None) -> bytes:
        body = self.checkpoint(size).body
        return f"{body}\n{LOG.sign(body)}".encode()

    def proof(self, old: int, new: int | None = None) -> list[bytes]:
        return merkle.consistency_proof(old, self.size if new is None else new, self.hashes)


def honest(size: int) -> Tree:
    return Tree([f"leaf {n}" for n in range(size)])


def forked(common: int, size: int) -> Tree:
    """Shares its first `common` leaves with `honest`."""
    return Tree([f"leaf {n}" if n < common else f"other {n}" for n in range(size)])
