"""Runs the whole archiver on one machine, with real audio, real HTTP and a real S3 server: `python -m archiver.demo`.

All files lie in ./.demo, and all servers listen on loopback. Nothing is left running.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.custody.keys import generate_signing_key, to_pem
from archiver.demo.s3server import S3Server
from archiver.demo.simulators import Route, fleet
from archiver.demo.simulators.faults import Cut, ExpiredLink, TooManyRequests
from archiver.demo.simulators.scenario import samples
from archiver.demo.simulators.server import Rule, Simulator
from archiver.recording import LockMode, Secret
from archiver.seal.recipients import generate_rsa_keys
from archiver.store.s3 import S3Options, make_bucket

WORKSPACE = Path(".demo")
_KEYS = ("DEMOACCESSKEY", "demo-secret-access-key")
Strikes: TypeAlias = dict[str, list[tuple[Rule, str]]]
_PROVIDERS = ("justcall", "kazoo", "vobiz", "plivo")


async def demo() -> int:
    """Archives, verifies, tampers, verifies and restores. Returns the exit code of the first step that is not as it
    should be."""
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    WORKSPACE.mkdir(mode=0o700)
    started = time.monotonic()
    async with simulators() as (sims, strikes):
        with S3Server(WORKSPACE.resolve() / "s3", Secret(_KEYS[0]), Secret(_KEYS[1])) as server:
            make_bucket(_options(server.endpoint))
            config = write_workspace(server.endpoint, sims)
            say(
                f"[4/5] workspace {WORKSPACE}/: SQLite, local S3 with Object Lock, simulators of {' '.join(_PROVIDERS)}",
                started,
            )
            await archiver(config, "db", "upgrade", quiet=True)
            say(f"[5/5] archiver -c {config} run --once", None)
            code, _ = await archiver(config, "run", "--once", "--quiet")
            if code != 0:
                return code
            return await tell(config, strikes)


async def tell(config: Path, strikes: Strikes) -> int:
    """Prints what was done, from the archiver's own answers and from the count of the faults."""
    _, listed = await archiver(config, "recordings", "list", "-o", "json", quiet=True)
    rows = json.loads(listed)["data"]
    _, gaps = await archiver(config, "gaps", "list", "-o", "json", quiet=True)
    missing = json.loads(gaps)["data"]["recordings"]
    print(f"\n  {'provider':<10} {'listed':>7} {'archived':>9} {'retried':>8} {'no audio':>9} {'gaps':>5}   notes")
    for name in _PROVIDERS:
        mine = [row for row in rows if row["provider"] == name]
        archived = [row for row in mine if row["state"] == "archived"]
        silent = [row for row in mine if row["state"] == "absent" or row["reason"] == "not_ready"]
        struck = [(rule.hits, what) for rule, what in strikes.get(name, []) if rule.hits]
        notes = ", ".join(f"{hits} × {what}" for hits, what in struck)
        gone = sum(1 for row in missing if row["provider"] == name and row["state"] == "gone")
        print(
            f"  {name:<10} {len(mine):>7} {len(archived):>9} {sum(hits for hits, _ in struck):>8} {len(silent):>9} {gone:>5}   {notes}"
        )
    archived = [row for row in rows if row["state"] == "archived"]
    seconds = sum(row["duration_ms"] or 0 for row in archived) / 1000
    print(f"\n✓ {len(archived)} recordings ({seconds / 60:.0f} minutes of speech) sealed, stored, read back and locked")
    code, checked = await archiver(config, "verify", "--all", "-o", "json", quiet=True)
    facts = json.loads(checked)["data"]
    print(f"{_mark(code == 0)} verify: {facts['objects_read']} objects re-read, {facts['opened']} opened, "
          f"{facts['locks_checked']} locks, {facts['events']} custody events: exit {code}")  # fmt: skip
    if code != 0:
        return code
    _, head = await archiver(config, "custody", "checkpoint", "-o", "json", quiet=True)
    log = json.loads(head)["data"]
    print(f"✓ custody log: {log['size']} events under one signed head, published beside the recordings")
    code = await hand_over(config, archived[0], log["vkey"])
    return code or await tamper(config, archived[len(archived) // 2])


async def hand_over(config: Path, row: dict[str, Any], key: str) -> int:
    """Makes an evidence bundle of one recording, and verifies it as a stranger would, with nothing but Python."""
    bundle = WORKSPACE / "evidence"
    code, _ = await archiver(
        config, "export", "evidence", row["id"], "-O", str(bundle), "--reason", "demo", "--yes", quiet=True
    )
    if code == 0:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "verify_custody.py", ".", "--log-key", key, cwd=bundle, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        code, passed = process.returncode or 0, out.decode().count("PASS  ")
        print(
            f"{_mark(code == 0)} evidence bundle of one recording: {passed} claims hold, by the verifier inside it: exit {code}"
        )
    else:
        print(f"{_mark(False)} evidence bundle: exit {code}")
    return code


async def tamper(config: Path, row: dict[str, Any]) -> int:
    """Flips one byte of the second copy, which lies in a plain folder, shows that verify names the copy, and restores
    it."""
    copy = next(each for each in row["copies"] if each["storage"] == "second-copy")
    path = WORKSPACE / "second-copy" / copy["key"]
    original = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes([*original[:-20], original[-20] ^ 1, *original[-19:]]))
    code, checked = await archiver(config, "verify", row["id"], "-o", "json", quiet=True)
    found = [each for each in json.loads(checked)["data"]["findings"] if each["kind"] == "sealed_digest_differs"]
    print(
        f"{_mark(code == 65 and bool(found))} tamper test: one byte flipped in one copy → verify says, with exit {code}:"
    )
    for each in found:
        print(f"      FAIL {each['subject'].removeprefix('rec:')} {each['storage']}: {each['detail']}")
    path.write_bytes(original)
    path.chmod(0o400)
    caught = code == 65 and bool(found)
    code, _ = await archiver(config, "verify", "--all", quiet=True)  # findings stand until everything is verified again
    print(f"{_mark(code == 0)} copy restored, verify --all: exit {code}")
    print(f"\nNothing is left running. What was written: {WORKSPACE}/archiver.yaml and everything beside it. Try:")
    print(f"  .venv/bin/archiver -c {config} status")
    print(f"  .venv/bin/archiver -c {config} recordings list")
    print(f"  open {WORKSPACE}/evidence/data/report.html")
    print("  python3 dev.py test")
    return 0 if caught and code == 0 else 1


@contextlib.asynccontextmanager
async def simulators() -> AsyncIterator[tuple[dict[str, Simulator], Strikes]]:
    """Starts the four providers, with a month of calls and a few of the faults that real providers have."""
    clock = SystemClock()
    sims = {name: sim for name, sim in fleet.fleet(clock, samples(), seed=7, count=12).items() if name in _PROVIDERS}
    strikes: Strikes = {
        "justcall": [
            (sims["justcall"].fail(Route.MEDIA, ExpiredLink()), "signed link had expired: asked for a new one")
        ],
        "vobiz": [(sims["vobiz"].fail(Route.LIST, TooManyRequests(retry_after=1)), "HTTP 429: waited as asked")],
        "plivo": [(sims["plivo"].fail(Route.MEDIA, Cut(at=20_000)), "body cut short: fetched again")],
    }
    async with contextlib.AsyncExitStack() as stack:
        for sim in sims.values():
            await stack.enter_async_context(sim)
        yield sims, strikes


def write_workspace(endpoint: str, sims: dict[str, Simulator]) -> Path:
    """Writes keys, secrets and a configuration such as an operator would write by hand."""
    keys = WORKSPACE / "keys"
    keys.mkdir(mode=0o700)
    clock, chance = SystemClock(), SystemChance()
    for name in ("ops", "escrow"):
        pair = generate_rsa_keys(name, clock.now(), chance)
        _secret(keys / f"{name}.key.pem", pair.private_key)
        _secret(keys / f"{name}.pub.pem", pair.public_key)
    _secret(keys / "custody.pem", to_pem(generate_signing_key(chance)))
    _secret(keys / "s3", _KEYS[1].encode())
    (WORKSPACE / "second-copy").mkdir()
    providers = []
    for name in _PROVIDERS:
        held = {}
        for key, value in fleet.CREDENTIALS[name].items():
            if key in ("account_id", "auth_id"):
                held[key] = value
            else:
                _secret(keys / f"{name}.{key}", value.encode())
                held[key] = f"file:keys/{name}.{key}"
        lines = "".join(f", {key}: {value}" for key, value in held.items())
        extra = {"justcall": ", plan: team", "kazoo": ", retention: {months: 6}", "vobiz": ", retention: {days: 90, source: demo}",
                 "plivo": ", retention: none"}[name]  # fmt: skip
        providers.append(
            f'  - {{id: {name}, kind: {name}, base_url: "{sims[name].base_url}", allow_http: true, allow_private_addresses: true,'
            f" rate: 50/s{lines}{extra}}}"
        )
    config = WORKSPACE / "archiver.yaml"
    config.write_text(
        "\n".join(
            [
                "version: 1",
                "instance: demo",
                "state_dir: state",
                "providers:",
                *providers,
                "storage:",
                f'  - {{id: primary, kind: s3, endpoint: "{endpoint}", bucket: recordings, prefix: calls/, access_key: {_KEYS[0]},'
                " secret_key: file:keys/s3, object_lock: {mode: compliance}}",
                "  - {id: second-copy, kind: directory, path: second-copy, required: false}",
                "encryption:",
                "  recipients:",
                "    - {id: ops, kind: rsa-oaep-256, public_key: file:keys/ops.pub.pem}",
                "    - {id: escrow, kind: rsa-oaep-256, public_key: file:keys/escrow.pub.pem, escrow: true}",
                "  identities: [{id: ops, private_key: file:keys/ops.key.pem}]",
                "custody: {signing_key: file:keys/custody.pem}",
                "retention: {default: 1d}   # a demo only: a real archive keeps for years",
                "",
            ]
        )
    )
    return config


async def archiver(config: Path, *arguments: str, quiet: bool = False) -> tuple[int, str]:
    """Runs the real command line, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "archiver", "-c", str(config), *arguments, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if quiet else None,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def _options(endpoint: str) -> S3Options:
    return S3Options(
        id="primary", endpoint=endpoint, bucket="recordings", access_key=Secret(_KEYS[0]), secret_key=Secret(_KEYS[1]),
        lock_mode=LockMode.COMPLIANCE,
    )  # fmt: skip


def _secret(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o400)


def _mark(good: bool) -> str:
    return "✓" if good else "✗"


def say(what: str, since: float | None) -> None:
    print(what if since is None else f"{what}   {time.monotonic() - since:.0f} s", flush=True)


def main() -> int:
    try:
        return asyncio.run(demo())
    except errors.ConfigurationError as failed:  # a package is not installed
        print(failed.detail, file=sys.stderr)
        return failed.exit_code


if __name__ == "__main__":
    sys.exit(main())
