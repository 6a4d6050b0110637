"""Computes roots and proofs of the log's Merkle tree (RFC 6962 §2.1, RFC 9162 §2.1), and verifies proofs. Pure: no I/O.

This module keeps no tree: a reader supplies the hashes of complete subtrees, some 60 for a proof at 10^9 leaves. Leaves
are always given as leaf hashes (`event.leaf_hash`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from archiver.errors import VerificationError

HASH_BYTES = 32
MAX_SIZE = 2**63 - 1
EMPTY_ROOT = hashlib.sha256(b"").digest()

Hashes = Callable[[int, int], bytes]
"""A reader of hashes: (level, index) → hash of the complete subtree over the leaves from index · 2^level up to (index +
1) · 2^level."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(size: int, hashes: Hashes) -> bytes:
    """Returns the root of the first `size` leaves."""
    return _range_hash(0, size, hashes) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, hashes: Hashes) -> list[bytes]:
    """Returns PATH(index, D[size]) of RFC 6962 §2.1.1, from the leaf's sibling up. Raises ValueError unless index <
    size."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    proof = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_range_hash(middle, end, hashes))
            end = middle
        else:
            proof.append(_range_hash(start, middle, hashes))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, hashes: Hashes) -> list[bytes]:
    """Returns PROOF(old, D[new]) of RFC 6962 §2.1.2; an empty list where `old` is 0 or `new`. Raises ValueError unless
    old ≤ new."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} does not continue one of {old}")
    if old == 0:
        return []
    proof = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range_hash(middle, end, hashes))
            end = middle
        else:
            proof.append(_range_hash(start, middle, hashes))
            start = middle
    if start:  # where it is 0, the verifier knows this hash already: it is the old root
        proof.append(_range_hash(start, end, hashes))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Checks that the leaf hash stands at `index` of the tree with this size and root (RFC 9162 §2.1.3.2).

    Raises `VerificationError`, also for a proof that is longer or shorter than index and size imply.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise VerificationError(f"no leaf {index} in a tree of {size}")
    _check_hashes(leaf, root, *proof)
    node, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise VerificationError("the inclusion proof is too long")
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            shift = _trailing_zeros(node)
            node, last = node >> shift, last >> shift
        else:
            current = node_hash(current, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise VerificationError("the inclusion proof is too short")
    if current != root:
        raise VerificationError(f"the inclusion proof of leaf {index} does not lead to the root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Checks that the tree of size `new` begins with the tree of size `old` (RFC 9162 §2.1.4.2).

    Between equal sizes the proof is empty and the roots are equal. Raises `VerificationError`; always where `old` is 0,
    because everything continues the empty tree: a caller that accepts a first tree decides so itself, and demands an
    empty proof.
    """
    if not 0 < old <= new <= MAX_SIZE:
        raise VerificationError(f"nothing can show that a tree of {new} continues one of {old}")
    if old == new:
        if proof:
            raise VerificationError("a consistency proof between equal sizes is empty")
        if old_root != new_root:
            raise VerificationError(f"two roots for one size, {old}")
        return
    if not proof:
        raise VerificationError("the consistency proof is empty")
    _check_hashes(old_root, new_root, *proof)
    # A complete old tree is itself the node where the proof starts.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    shift = _trailing_zeros(old)
    node, last = (old - 1) >> shift, (new - 1) >> shift
    old_hash = new_hash = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise VerificationError("the consistency proof is too long")
        if node & 1 or node == last:
            old_hash, new_hash = node_hash(sibling, old_hash), node_hash(sibling, new_hash)
            shift = _trailing_zeros(node)
            node, last = node >> shift, last >> shift
        else:
            new_hash = node_hash(new_hash, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise VerificationError("the consistency proof is too short")
    if old_hash != old_root or new_hash != new_root:
        raise VerificationError(f"the tree of {new} is not shown to continue the tree of {old}")


def _range_hash(start: int, end: int, hashes: Hashes) -> bytes:
    """Returns MTH(D[start:end]) of a non-empty range that begins at a node of the tree: its complete subtrees, joined
    from the right."""
    parts = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(hashes(level, start >> level))
        start += 1 << level
    joined = parts.pop()
    while parts:
        joined = node_hash(parts.pop(), joined)
    return joined


def _split(size: int) -> int:
    """Returns the largest power of two smaller than `size`."""
    return 1 << (size - 1).bit_length() - 1


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1


def _check_hashes(*hashes: bytes) -> None:
    if any(len(each) != HASH_BYTES for each in hashes):
        raise VerificationError(f"a hash has {HASH_BYTES} bytes")
