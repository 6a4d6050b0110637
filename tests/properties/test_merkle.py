"""The tree for all small sizes and many larger ones: tiles, roots and proofs are those of RFC 6962's own recursion, and a proof
changed in any one place proves nothing.

Some 120,000 proofs are judged: every (leaf, size) and (old, new) to 128, true and changed; chosen ones up to 2,000.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st

from archiver.errors import VerificationError
from archiver.translog import merkle, tile
from tests.vectors.log import rfc6962

ENTRIES = [b"entry %d" % n for n in range(2000)]
LEAVES = [rfc6962.leaf(entry) for entry in ENTRIES]
SMALL = 128
Tiles = dict[tuple[int, int], bytes]


def reader(tiles: Tiles) -> tile.ReadTile:
    return lambda level, index: tiles.get((level, index), b"")


@cache
def tree(size: int) -> Tiles:
    return tile.extend(0, LEAVES[:size], reader({}))


def hashes(size: int) -> merkle.Hashes:
    return tile.hashes_of(reader(tree(size)))


@cache
def root(size: int) -> bytes:
    return rfc6962.mth(ENTRIES[:size])


def changed(proof: list[bytes], chance: random.Random) -> Iterator[list[bytes]]:
    """The proof with one hash dropped, added, exchanged with its neighbour, and with one bit turned."""
    at = chance.randrange(len(proof)) if proof else 0
    yield [*proof[:at], chance.randbytes(32), *proof[at:]]
    yield [*proof, chance.choice(proof) if proof else LEAVES[0]]
    if proof:
        yield proof[:at] + proof[at + 1 :]
        bit = 1 << chance.randrange(256)
        yield [*proof[:at], (int.from_bytes(proof[at], "big") ^ bit).to_bytes(32, "big"), *proof[at + 1 :]]
    if len(proof) > 1:
        at = chance.randrange(len(proof) - 1)
        yield [*proof[:at], proof[at + 1], proof[at], *proof[at + 2 :]]


def refused(verify: Callable[[], object]) -> bool:
    try:
        verify()
    except VerificationError:
        return True
    return False


def judge_inclusion(index: int, size: int, chance: random.Random) -> int:
    """How many proofs were judged; each was judged rightly."""
    proof = merkle.inclusion_proof(index, size, hashes(size))
    assert proof == rfc6962.path(index, ENTRIES[:size])
    assert rfc6962.path_root(index, size, LEAVES[index], proof) == root(size)
    merkle.verify_inclusion(LEAVES[index], index, size, proof, root(size))
    judged = 1
    for false in changed(proof, chance):
        assert refused(lambda: merkle.verify_inclusion(LEAVES[index], index, size, false, root(size)))  # noqa: B023
        judged += 1
    other = chance.randrange(size)
    if other != index:
        assert refused(lambda: merkle.verify_inclusion(LEAVES[index], other, size, proof, root(size)))
        assert refused(lambda: merkle.verify_inclusion(LEAVES[other], index, size, proof, root(size)))
        judged += 2
    assert refused(lambda: merkle.verify_inclusion(LEAVES[index], index, size, proof, LEAVES[-1]))
    return judged + 1


def judge_consistency(old: int, new: int, chance: random.Random) -> int:
    proof = merkle.consistency_proof(old, new, hashes(new))
    assert proof == (rfc6962.proof(old, ENTRIES[:new]) if old < new else [])
    merkle.verify_consistency(old, root(old), new, root(new), proof)
    judged = 1
    for false in changed(proof, chance):
        assert refused(lambda: merkle.verify_consistency(old, root(old), new, root(new), false))  # noqa: B023
        judged += 1
    assert refused(lambda: merkle.verify_consistency(old, LEAVES[-1], new, root(new), proof))
    assert refused(lambda: merkle.verify_consistency(old, root(old), new, LEAVES[-1], proof))
    if old < new:
        assert refused(lambda: merkle.verify_consistency(old, root(new), new, root(old), proof))
        judged += 1
    return judged + 2


def test_every_inclusion_proof_of_small_trees() -> None:
    chance = random.Random("inclusion")
    judged = sum(judge_inclusion(i, n, chance) for n in range(1, SMALL + 1) for i in range(n))
    assert judged > 60_000


def test_every_consistency_proof_of_small_trees() -> None:
    chance = random.Random("consistency")
    judged = sum(judge_consistency(m, n, chance) for n in range(1, SMALL + 1) for m in range(1, n + 1))
    assert judged > 60_000


sizes = st.integers(1, 2000) | st.sampled_from([1, 2, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 2000])


@settings(max_examples=200)
@given(sizes, st.integers(0, 1999), st.integers(0, 1999), st.randoms(use_true_random=False))
def test_chosen_proofs_of_larger_trees(size: int, at: int, old: int, chance: random.Random) -> None:
    assert judge_inclusion(at % size, size, chance)
    assert judge_consistency(old % size + 1, size, chance)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 600), max_size=8))
@example([256, 256, 256])
@example([255, 1, 0, 1])
@example([2000])
def test_tree_grown_in_batches_has_the_tiles_and_roots_of_one_grown_at_once(batches: list[int]) -> None:
    tiles: Tiles = {}
    size = 0
    for batch in batches:
        leaves = LEAVES[size : size + batch]
        touched = tile.extend(size, leaves, reader(tiles))
        for key, known in tiles.items():
            assert touched.get(key, known).startswith(known)
        grown = {(each.level, each.index): each.width * 32 for each in tile.tiles_of(size, size + len(leaves))}
        assert {key: len(value) for key, value in touched.items()} == grown
        tiles |= touched
        size += len(leaves)
        assert merkle.root(size, tile.hashes_of(reader(tiles))) == root(size)
    assert tiles == tree(size)


@given(st.integers(0, 2**40), st.integers(0, 3000))
def test_every_place_of_every_tile_is_published_by_some_growth(old: int, more: int) -> None:
    """What grows at one level is exactly the hashes that came new there."""
    for level in range(3):
        before, after = old >> 8 * level, old + more >> 8 * level
        new = [each for each in tile.tiles_of(old, old + more) if each.level == level]
        if before == after:
            assert new == []
        else:
            assert [each.index for each in new] == list(range(before // 256, (after - 1) // 256 + 1))
            assert all(each.width == min(256, after - each.index * 256) for each in new)


@given(st.integers(0, 63) | st.none(), st.integers(0, 2**63 - 1), st.integers(1, 256))
def test_paths_are_read_as_they_are_written(level: int | None, index: int, width: int) -> None:
    place = tile.Bundle(index, width) if level is None else tile.Tile(level, index, width)
    assert tile.parse_path(place.path) == place


@given(st.lists(st.binary(max_size=600), max_size=256), st.integers(1, 3))
def test_bundles_are_read_as_they_are_written_and_no_shorter(entries: list[bytes], cut: int) -> None:
    raw = tile.pack_entries(entries)
    assert tile.unpack_entries(raw, len(entries)) == entries
    for false, width in ((raw[:-cut], len(entries)), (raw, len(entries) + cut), (raw + b"x" * cut, len(entries))):
        if entries:
            assert refused(lambda: tile.unpack_entries(false, width))  # noqa: B023
