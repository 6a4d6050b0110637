"""A third party's reader: sigstore-python (its internal modules) verifies our checkpoint and inclusion proof."""

from __future__ import annotations

from types import SimpleNamespace as Plain
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import verify_checkpoint
from sigstore._internal.trust import Keyring
from sigstore.errors import VerificationError

from archiver.custody.event import leaf_hash
from archiver.translog import merkle, tile
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.note import Cosigner, Signer

ENTRIES = [b"entry %d" % n for n in range(1000)]
SIGNER = Signer("archive.example.com/custody/2026", Ed25519PrivateKey.from_private_bytes(bytes(32)))
WITNESS = Cosigner("witness.example.com/w1", Ed25519PrivateKey.from_private_bytes(b"w" * 32))


def logged(index: int, entry: bytes) -> Any:
    """What sigstore calls a transparency log entry, with the members that its two verifiers read."""
    tiles = tile.extend(0, [leaf_hash(each) for each in ENTRIES], lambda _level, _index: b"")
    hashes = tile.hashes_of(lambda level, at: tiles[level, at])
    checkpoint = Checkpoint(SIGNER.name, len(ENTRIES), merkle.root(len(ENTRIES), hashes))
    note = f"{checkpoint.body}\n{SIGNER.sign(checkpoint.body)}{WITNESS.sign(checkpoint.body, 1_700_000_000)}"
    proof = Plain(
        log_index=index,
        tree_size=checkpoint.size,
        root_hash=checkpoint.root,
        hashes=merkle.inclusion_proof(index, checkpoint.size, hashes),
        checkpoint=Plain(envelope=note),
    )
    return Plain(_inner=Plain(log_id=Plain(key_id=SIGNER.key.key_id), canonicalized_body=entry, inclusion_proof=proof))


def keyring() -> Any:
    ring = Keyring([])
    public = Ed25519PublicKey.from_public_bytes(SIGNER.key.public)
    ring._keyring[SIGNER.key.key_id] = Plain(verify=public.verify)
    return ring


@pytest.mark.parametrize("index", [0, 777, 999])
def test_sigstore_accepts_our_checkpoint_and_proof(index: int) -> None:
    entry = logged(index, ENTRIES[index])
    verify_checkpoint(keyring(), entry)
    verify_merkle_inclusion(entry)


def test_sigstore_refuses_another_entry_and_a_changed_checkpoint() -> None:
    with pytest.raises(VerificationError):
        verify_merkle_inclusion(logged(777, ENTRIES[776]))
    entry = logged(777, ENTRIES[777])
    kept = entry._inner.inclusion_proof.checkpoint
    kept.envelope = kept.envelope.replace("\n1000\n", "\n1001\n")
    with pytest.raises(VerificationError):
        verify_checkpoint(keyring(), entry)
