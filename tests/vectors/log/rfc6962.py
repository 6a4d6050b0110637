"""A second implementation, for tests only: the recursive definitions of RFC 6962 §2.1, word by word, over whole lists.

It shares nothing with the archiver: leaves are entries, ranges are list slices, every hash is made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def largest_power_of_two_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: Sequence[bytes]) -> bytes:
    """MTH(D[n]), §2.1."""
    if len(d) == 0:
        return hashlib.sha256().digest()
    if len(d) == 1:
        return leaf(d[0])
    k = largest_power_of_two_below(len(d))
    return hashlib.sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]), §2.1.1."""
    if len(d) == 1:
        return []
    k = largest_power_of_two_below(len(d))
    if m < k:
        return [*path(m, d[:k]), mth(d[k:])]
    return [*path(m - k, d[k:]), mth(d[:k])]


def proof(m: int, d: Sequence[bytes]) -> list[bytes]:
    """PROOF(m, D[n]), §2.1.2, for 0 < m < n."""
    return subproof(m, d, known=True)


def subproof(m: int, d: Sequence[bytes], *, known: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b), §2.1.2."""
    if m == len(d):
        return [] if known else [mth(d)]
    k = largest_power_of_two_below(len(d))
    if m <= k:
        return [*subproof(m, d[:k], known=known), mth(d[k:])]
    return [*subproof(m - k, d[k:], known=False), mth(d[:k])]


def path_root(m: int, n: int, entry_hash: bytes, hashes: Sequence[bytes]) -> bytes | None:
    """The root to which a PATH(m, D[n]) leads, by the same recursion; None where its length is not the recursion's."""
    if n == 1:
        return entry_hash if not hashes else None
    if not hashes:
        return None
    k = largest_power_of_two_below(n)
    *rest, last = hashes
    inner = path_root(m, k, entry_hash, rest) if m < k else path_root(m - k, n - k, entry_hash, rest)
    if inner is None:
        return None
    return hashlib.sha256(b"\x01" + (inner + last if m < k else last + inner)).digest()


# The test tree of Certificate Transparency's reference implementation: eight entries, and the root of each first n of them.
REFERENCE_ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
REFERENCE_ROOTS = [
    bytes.fromhex(root)
    for root in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
