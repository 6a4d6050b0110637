"""Proofs out of large trees in the database's tiles: ten million random leaves, and the paths alone of a thousand million."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from sqlalchemy import Engine, insert

from archiver.database import create_engine, reading
from archiver.translog import merkle, reader
from archiver.translog.merkle import HASH_BYTES
from archiver.translog.tables import custody_tile
from archiver.translog.tile import HEIGHT, WIDTH, extend, hashes_of
from benchmarks.setting import peak_rss, spread

SPARSE = 10**9
_BATCH = WIDTH * WIDTH
_PROOFS = 200
_AT_ONCE = 256

Tiles = Iterable[tuple[tuple[int, int], bytes]]


def main(name: str, url: str, leaves: int, repetitions: int) -> None:
    """Build both trees, prove out of them in processes of their own, and print."""
    engine = create_engine(url, None)
    chance = random.Random(leaves)
    places = {101: (leaves, _places(chance, leaves)), 102: (SPARSE, _places(chance, SPARSE))}
    for log_id, what, tiles in (
        (101, "real leaves", real(leaves, chance)),
        (102, "leaves, sparse", sparse(SPARSE, places[102][1], chance)),
    ):
        began = time.perf_counter()
        keep(engine, log_id, tiles)
        took = time.perf_counter() - began
        size, indices = places[log_id]
        print(
            f"\n{name}, {size:,} {what}, {len(indices)} proofs of each kind (min / median / max of p50, p99, slowest):"
        )
        runs = []
        for _ in range(repetitions):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                runs.append(pool.submit(prove, url, log_id, size, indices).result())
        for kind, values in (("inclusion", [run[0] for run in runs]), ("consistency", [run[1] for run in runs])):
            cuts = [statistics.quantiles(each, n=100) for each in values]
            print(
                f"  {kind:<12} ms  p50 {spread([each[49] for each in cuts])}, p99 {spread([each[98] for each in cuts])}, "
                f"slowest {spread([max(each) for each in values])}"
            )
        print(f"  peak memory  MiB {spread([run[2] for run in runs], 0)};  tree built in {took:.0f} s", flush=True)
    engine.dispose()


def _places(chance: random.Random, size: int) -> list[int]:
    """Leaves at random, the first and the last; odd, so that as a size each ends within a tile."""
    return [1, *(chance.randrange(size) | 1 for _ in range(_PROOFS - 2)), size - 1]


def real(size: int, chance: random.Random) -> Iterator[tuple[tuple[int, int], bytes]]:
    """The tiles of a tree of random leaves, each once."""
    edge: dict[tuple[int, int], bytes] = {}
    for start in range(0, size, _BATCH):
        count = min(_BATCH, size - start)
        raw = chance.randbytes(count * HASH_BYTES)
        grown = extend(
            start,
            [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)],
            lambda level, index: edge.get((level, index), b""),  # noqa: B023 - called at once
        )
        edge |= grown
        for place in [place for place, tile in grown.items() if len(tile) == WIDTH * HASH_BYTES]:
            yield place, edge.pop(place)
    yield from edge.items()


def sparse(size: int, leaves: Sequence[int], chance: random.Random) -> Iterator[tuple[tuple[int, int], bytes]]:
    """The tiles between these leaves and the root, and those at the right edge; whatever is beside them is made up."""
    level, known = 0, dict.fromkeys(leaves, b"")  # position in this level → its hash; b"": made up
    while size:
        touched = {position >> HEIGHT for position in known} | ({size >> HEIGHT} if size % WIDTH else set())
        above: dict[int, bytes] = {}
        for index in sorted(touched):
            width = min(WIDTH, size - (index << HEIGHT))
            hashes = [known.get((index << HEIGHT) + at) or chance.randbytes(HASH_BYTES) for at in range(width)]
            tile = b"".join(hashes)
            yield (level, index), tile
            if width == WIDTH:
                nodes = hashes_of(lambda _level, _index, tile=tile: tile)  # type: ignore[misc]
                above[index] = merkle.node_hash(nodes(HEIGHT - 1, 0), nodes(HEIGHT - 1, 1))
        level, size, known = level + 1, size >> HEIGHT, above


def keep(engine: Engine, log_id: int, tiles: Tiles) -> None:
    """Into `custody_tile`, as many transactions as batches."""
    batch: list[Mapping[str, object]] = []
    for (level, index), hashes in tiles:
        batch.append({"log_id": log_id, "level": level, "idx": index, "hashes": hashes})
        if len(batch) == _AT_ONCE:
            _insert(engine, batch)
            batch.clear()
    if batch:
        _insert(engine, batch)


def _insert(engine: Engine, batch: Sequence[Mapping[str, object]]) -> None:
    with engine.begin() as conn:
        conn.execute(insert(custody_tile), batch)


def prove(url: str, log_id: int, size: int, leaves: Sequence[int]) -> tuple[list[float], list[float], float]:
    """In a fresh process: milliseconds of each inclusion and consistency proof, read cold and verified; peak memory in MiB."""
    engine = create_engine(url, None)
    with reading(engine) as conn:
        root = merkle.root(size, hashes_of(reader.read_tile(conn, log_id)))
    included, consistent = [], []
    for index in leaves:
        began = time.perf_counter()
        with reading(engine) as conn:
            proof = merkle.inclusion_proof(index, size, hashes_of(reader.read_tile(conn, log_id)))
        included.append((time.perf_counter() - began) * 1e3)
        with reading(engine) as conn:
            leaf = hashes_of(reader.read_tile(conn, log_id))(0, index)
        merkle.verify_inclusion(leaf, index, size, proof, root)
        began = time.perf_counter()
        with reading(engine) as conn:
            proof = merkle.consistency_proof(index, size, hashes_of(reader.read_tile(conn, log_id)))
        consistent.append((time.perf_counter() - began) * 1e3)
        with reading(engine) as conn:
            old = merkle.root(index, hashes_of(reader.read_tile(conn, log_id)))
        merkle.verify_consistency(index, old, size, root, proof)
    engine.dispose()
    return included, consistent, _peak()


def _peak() -> float:
    """MiB of this process alone: what getrusage says begins with the parent's at the fork."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_rss()
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
