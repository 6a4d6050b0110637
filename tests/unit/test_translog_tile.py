"""Tiles and entry bundles: the paths, widths and bytes of c2sp.org/tlog-tiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archiver.errors import VerificationError
from archiver.translog import merkle, tile
from archiver.translog.tile import Bundle, Tile
from tests.vectors.log import rfc6962

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors/log/tiles.json").read_text("utf-8"))
ENTRIES = [b"entry %d" % n for n in range(1500)]
LEAVES = [rfc6962.leaf(entry) for entry in ENTRIES]


def whole_tree(size: int) -> dict[tuple[int, int], bytes]:
    return tile.extend(0, LEAVES[:size], lambda _level, _index: b"")


@pytest.mark.parametrize("vector", VECTORS["paths"], ids=lambda v: v["path"])
def test_path_is_read_and_written_again(vector: dict[str, Any]) -> None:
    level, index, width = vector["level"], vector["index"], vector["width"]
    place = Bundle(index, width) if level == "entries" else Tile(level, index, width)
    assert tile.parse_path(vector["path"]) == place
    assert place.path == vector["path"]


@pytest.mark.parametrize("path", [*VECTORS["refused_paths"], f"tile/0/{'x001/' * 3000}001"], ids=lambda path: path[:40])
def test_path_that_no_tile_has_is_refused(path: str) -> None:
    with pytest.raises(VerificationError):
        tile.parse_path(path)


def test_tree_of_seventy_thousand_has_the_tiles_of_the_specification() -> None:
    tiles = list(tile.tiles_of(0, 70_000))
    assert [(each.level, each.width) for each in tiles if each.width < 256] == [(0, 112), (1, 17), (2, 1)]
    assert sum(each.level == 0 and each.width == 256 for each in tiles) == 273
    assert [each.path for each in tiles if each.level == 1] == ["tile/1/000", "tile/1/001.p/17"]
    assert [each.path for each in tile.tiles_of(0, 256)] == ["tile/0/000", "tile/1/000.p/1"]


@pytest.mark.parametrize(
    ("old", "new", "paths"),
    [
        (0, 0, []),
        (5, 5, []),
        (0, 1, ["tile/0/000.p/1"]),
        (5, 7, ["tile/0/000.p/7"]),
        (255, 256, ["tile/0/000", "tile/1/000.p/1"]),
        (256, 257, ["tile/0/001.p/1"]),
        (250, 520, ["tile/0/000", "tile/0/001", "tile/0/002.p/8", "tile/1/000.p/2"]),
        (65_535, 65_536, ["tile/0/255", "tile/1/000", "tile/2/000.p/1"]),
    ],
)
def test_growth_touches_only_tiles_that_are_new_or_wider(old: int, new: int, paths: list[str]) -> None:
    assert [each.path for each in tile.tiles_of(old, new)] == paths
    level_0 = [path.replace("tile/0", "tile/entries") for path in paths if path.startswith("tile/0")]
    assert [each.path for each in tile.bundles_of(old, new)] == level_0


@pytest.mark.parametrize("start", [0, 1, 255, 256, 257, 511, 900])
def test_extending_gives_the_tiles_of_a_tree_built_at_once(start: int) -> None:
    before, after = whole_tree(start), whole_tree(1500)
    touched = tile.extend(start, LEAVES[start:], lambda level, index: before.get((level, index), b""))
    assert before | touched == after
    assert {key: len(value) // 32 for key, value in touched.items()} == {
        (each.level, each.index): each.width for each in tile.tiles_of(start, 1500)
    }
    assert all(touched[key].startswith(before[key]) for key in touched.keys() & before.keys())
    assert merkle.root(1500, tile.hashes_of(lambda level, index: after[level, index])) == rfc6962.mth(ENTRIES)


def test_extending_by_nothing_touches_nothing() -> None:
    assert tile.extend(700, [], lambda _level, _index: b"") == {}


def test_extending_reads_what_a_wider_tile_begins_with() -> None:
    """A batch that was made but not kept is made again, to the same bytes, though the edge tiles are there already."""
    after = whole_tree(1500)
    again = tile.extend(900, LEAVES[900:1500], lambda level, index: after[level, index])
    assert again.items() <= after.items()


@pytest.mark.parametrize("edge", [b"", b"x" * 32 * 9, b"x" * (32 * 10 - 1), b"x" * (32 * 10 + 1), b"x" * 32 * 257])
def test_edge_tile_that_is_not_as_wide_as_the_tree_is_refused(edge: bytes) -> None:
    with pytest.raises(VerificationError, match="tile 0 of level 0"):
        tile.extend(10, LEAVES[10:20], lambda _level, _index: edge)


def test_leaf_hash_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        tile.extend(0, [b"short"], lambda _level, _index: b"")


def test_missing_and_narrow_tiles_are_named() -> None:
    tiles = whole_tree(700)
    tiles[0, 1] = tiles[0, 1][:-32]
    with pytest.raises(VerificationError, match="tile 1 of level 0"):
        merkle.inclusion_proof(300, 700, tile.hashes_of(lambda level, index: tiles[level, index]))
    del tiles[1, 0]
    with pytest.raises(VerificationError, match="tile 0 of level 1"):
        merkle.root(700, tile.hashes_of(lambda level, index: tiles.get((level, index), b"")))


def test_reader_that_outlives_growth_reads_the_wider_tile() -> None:
    tiles = whole_tree(300)
    hashes = tile.hashes_of(lambda level, index: tiles[level, index])
    assert merkle.root(300, hashes) == rfc6962.mth(ENTRIES[:300])
    tiles |= whole_tree(700)
    assert merkle.root(700, hashes) == rfc6962.mth(ENTRIES[:700])


def test_proof_reads_each_tile_once() -> None:
    tiles = whole_tree(1500)
    asked: list[tuple[int, int]] = []

    def read(level: int, index: int) -> bytes:
        asked.append((level, index))
        return tiles[level, index]

    merkle.inclusion_proof(777, 1500, tile.hashes_of(read))
    assert sorted(asked) == [(0, 3), (0, 5), (1, 0)]


@pytest.mark.parametrize("vector", VECTORS["bundles"], ids=lambda v: f"{len(v['entries'])}-entries")
def test_bundle_is_read_and_written_again(vector: dict[str, Any]) -> None:
    entries, raw = [bytes.fromhex(entry) for entry in vector["entries"]], bytes.fromhex(vector["raw"])
    assert tile.pack_entries(entries) == raw
    assert tile.unpack_entries(raw, len(entries)) == entries


@pytest.mark.parametrize("vector", VECTORS["refused_bundles"], ids=lambda v: v["name"])
def test_bundle_of_other_than_its_entries_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        tile.unpack_entries(bytes.fromhex(vector["raw"]), vector["width"])


def test_entry_has_room_for_its_length() -> None:
    assert tile.unpack_entries(tile.pack_entries([b"x" * 65_535]), 1) == [b"x" * 65_535]
    with pytest.raises(ValueError, match="65535"):
        tile.pack_entries([b"x" * 65_536])
