"""What a good provider loses beside an odd party: its time to archive everything, beside one in order and an odd one in turn.

Each run is a process of its own, from the daemon's start to the good provider's last recording archived. Runs beside the party in
order and the odd one alternate, and each is compared with the two around it, so that what else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import archiver.assembly.providers as providers_assembly
import archiver.assembly.stores as stores_assembly
from archiver import logs
from archiver.assembly.process import assemble
from archiver.clock import SystemChance, SystemClock
from archiver.config.load import load
from archiver.custody.keys import generate_signing_key
from archiver.daemon.supervise import Daemon
from archiver.demo.s3server import S3Server
from archiver.ingest import health
from archiver.translog.note import Signer
from benchmarks.odd_server import IN_ORDER, MEDIA_ONLY, WAYS, odd
from benchmarks.setting import ACCESS_KEY, PROVIDER, SECRET_KEY, Meter, configure, new_bucket, peak_rss, spread
from benchmarks.source import source

RAISING = "raising"
PARTIES = ("provider", "storage", "vouchers")
"""Providers (one odd in its listing, one in its media); an optional storage; witness, authority, channel and heartbeat."""
_RAISE = ("provider", "storage")
AIM = 1.2
LIMIT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Run:
    """One run: until the good provider's last recording was archived."""

    wall: float
    cpu: float
    rss: float


@dataclass(frozen=True, slots=True)
class Result:
    """One kind of odd party: each run, divided by the mean of the runs before and after it, beside the party in order."""

    party: str
    way: str
    wall: list[float]
    cpu: list[float]
    rss: float


def main(count: int, size: int, concurrency: int, repetitions: int, parties: Sequence[str] = PARTIES) -> None:
    """Run and print."""
    limit = 256 + 2 * concurrency  # a chunk is 1 MiB
    print(f"\nodd party: {count} × {size:,} bytes of the good one, {concurrency} at a time, {repetitions} repetitions")
    print(f"  aim: time × ≤ {AIM}, peak ≤ {limit} MiB (min / median / max)")
    with (
        tempfile.TemporaryDirectory() as home,
        source(count, size) as port,
        S3Server(Path(home, "s3"), ACCESS_KEY, SECRET_KEY) as server,
    ):
        setting = _Setting(Path(home), port, server, concurrency, count)
        for party in parties:
            usual: list[Run] = []
            for way in (*WAYS, RAISING) if party in _RAISE else WAYS:
                result = _measure(setting, party, way, repetitions, usual)
                met = statistics.median(result.wall) <= AIM and result.rss <= limit
                print(
                    f"  {party:<9} {way:<11} time × {spread(result.wall)}   CPU × {spread(result.cpu)}   "
                    f"peak {result.rss:.0f} MiB{'' if met else '   MISSED'}",
                    flush=True,
                )
            print(
                f"  {party:<9} {IN_ORDER:<11} {spread([each.wall for each in usual])} s, "
                f"peak {max(each.rss for each in usual):.0f} MiB",
                flush=True,
            )


@dataclass
class _Setting:
    home: Path
    port: int
    server: S3Server
    concurrency: int
    count: int
    number: int = 0

    def run(self, party: str, way: str) -> Run:
        """One run in a process of its own."""
        self.number += 1
        folder = self.home / f"run{self.number}"
        flag = self.home / f"odd{self.number}"
        upstream = int(self.server.endpoint.rpartition(":")[2])
        with odd(IN_ORDER if way == RAISING else way, flag, upstream) as (bad, proxy):
            storage = f"[{new_bucket(self.server)}]"
            lines: dict[str, str] = {}
            if party == "provider":
                lines["providers"] = "\n".join(_provider(name, bad) for name in ("MA_ODD", MEDIA_ONLY))
            elif party == "storage":
                other = new_bucket(self.server, "odd", f"http://127.0.0.1:{proxy}", ", required: false")
                storage = f"[{new_bucket(self.server)}, {other}]"
            elif way != IN_ORDER:  # nobody is asked, where all are in order
                key = Signer("odd.example", generate_signing_key(SystemChance())).key.vkey
                url = f"http://127.0.0.1:{bad}/"
                lines["custody"] = f', witnesses: [{{url: "{url}", key: "{key}"}}], timestamp: {{url: "{url}"}}'
                lines["more"] = (
                    "alerting:\n  channels: [{id: ops, kind: webhook, url: file:hook, allow_http: true}]\n"
                    "  heartbeat: {url: file:hook, allow_http: true}\n"
                )
                lines["hook"] = url
            configure(folder, self.port, storage, self.concurrency, **lines)
            command = [sys.executable, "-m", "benchmarks.odd_party", str(folder), str(flag), str(self.count)]
            command += [party if way == RAISING else ""]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "MALLOC_ARENA_MAX": "2"}
            )
        return Run(**json.loads(done.stdout.splitlines()[-1]))


def _provider(account: str, port: int) -> str:
    since = (SystemClock().now() - timedelta(days=30)).date()
    return (
        f'  - {{id: {account.lower().replace("_", "-")}, kind: vobiz, base_url: "http://127.0.0.1:{port}", '
        f"allow_http: true, allow_private_addresses: true, rate: 1000/s, backfill_from: {since}, retention: 365d, "
        f"auth_id: {account}, auth_token: file:token}}"
    )


def _measure(setting: _Setting, party: str, way: str, repetitions: int, usual: list[Run]) -> Result:
    if not usual:
        usual.append(setting.run(party, IN_ORDER))
    wall, cpu, rss = [], [], 0.0
    for _ in range(repetitions):
        before, odd_one, after = usual[-1], setting.run(party, way), setting.run(party, IN_ORDER)
        wall.append(2 * odd_one.wall / (before.wall + after.wall))
        cpu.append(2 * odd_one.cpu / (before.cpu + after.cpu))
        rss = max(rss, odd_one.rss)
        usual.append(after)
    return Result(party, way, wall, cpu, rss)


# --- one run ----------------------------------------------------------------------------------------------------


def _raise(*_: Any, **__: Any) -> Any:
    raise RecursionError("an answer that nobody foresaw")


def _raising(party: str) -> None:
    """Each call to the odd party raises, below its wall."""
    if party == "provider":
        _break(providers_assembly, ["ma-odd", "ma-media-only"], ["list", "open", "refresh"])
    if party == "storage":
        _break(stores_assembly, ["odd"], ["put_once", "inspect", "sweep_uploads"])


def _break(module: Any, names: Sequence[str], methods: Sequence[str]) -> None:
    build = module._adapter  # noqa: SLF001 - below the wall there is no other place

    def make(settings: Any, *rest: Any) -> Any:
        made = build(settings, *rest)
        for each in methods if settings.id in names else ():
            setattr(made, each, _raise)
        return made

    module._adapter = make  # noqa: SLF001


async def run(folder: Path, flag: Path, count: int) -> Run:
    """Start the daemon once all storages have proved themselves, and wait for the good provider's last recording."""
    assembly = await assemble(load(folder / "archiver.yaml", resolve_secrets=True))
    archived, all_of_them = assembly.metrics.archived, asyncio.Event()
    seen = 0

    def count_them(provider: str, lag: float | None) -> None:
        nonlocal seen
        archived(provider, lag)
        seen += provider == PROVIDER
        if seen == count:
            all_of_them.set()

    assembly.metrics.archived = count_them  # type: ignore[method-assign]
    for each in assembly.destinations:
        await health.keep_probe(assembly.writer, each, assembly.clock)
    flag.touch()  # noqa: ASYNC240 - an empty file
    meter = Meter()
    running = asyncio.create_task(Daemon(assembly).forever())
    waiting = asyncio.create_task(all_of_them.wait())
    await asyncio.wait([running, waiting], timeout=LIMIT.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
    assert not running.done(), running.exception()
    assert waiting.done(), f"{seen} of {count} after {LIMIT}"
    used = meter.read()
    return Run(used.wall, used.cpu, peak_rss())


if __name__ == "__main__":
    _raising(sys.argv[4])
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
        logs.configure("json", "info", nowhere)
        print(json.dumps(asdict(asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))), flush=True)
        os._exit(0)  # whatever hangs
