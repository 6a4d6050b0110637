"""`python -m benchmarks [archive|sweep|claim|custody|odd-party|scale|wire]`; without a word, all of them."""

from __future__ import annotations

import argparse
import asyncio
import os

from archiver import logs
from benchmarks import archive, custody, odd_party, scale, sweep, wire
from benchmarks.setting import machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument(
        "what", nargs="?", choices=("archive", "sweep", "claim", "custody", "odd-party", "scale", "wire")
    )
    parser.add_argument("--count", type=int, default=1000, help="recordings (archive; a fifth of them: odd-party)")
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes of each (archive; a tenth of it: odd-party)")
    parser.add_argument("--concurrency", type=int, default=8, help="recordings at a time (archive, odd-party)")
    parser.add_argument("--repetitions", type=int, default=3, help="of the whole (archive, odd-party)")
    parser.add_argument("--rows", type=int, default=100_000, help="recordings in the journal (sweep, claim, scale)")
    parser.add_argument("--seconds", type=int, default=20, help="of writing in each run (custody)")
    parser.add_argument("--leaves", type=int, default=10_000_000, help="of the tree with real leaves (custody)")
    chosen = parser.parse_args()
    print(machine())
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device; lines are made as in production and go nowhere
        logs.configure("json", "info", nowhere)
        if chosen.what in (None, "archive"):
            asyncio.run(archive.main(chosen.count, chosen.size, chosen.concurrency, chosen.repetitions))
        if chosen.what in (None, "sweep", "claim"):
            asyncio.run(sweep.main(chosen.rows, sweeps=chosen.what != "claim", claims=chosen.what != "sweep"))
        if chosen.what in (None, "custody"):
            asyncio.run(custody.main(chosen.seconds, chosen.leaves, chosen.repetitions))
        if chosen.what in (None, "odd-party"):
            odd_party.main(chosen.count // 5, chosen.size // 10, chosen.concurrency, chosen.repetitions)
        if chosen.what in (None, "scale"):
            scale.main(chosen.rows)
        if chosen.what in (None, "wire"):
            wire.main(chosen.count // 5, chosen.repetitions)


if __name__ == "__main__":
    main()
