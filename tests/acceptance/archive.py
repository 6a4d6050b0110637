"""A whole archive for acceptance tests: simulators, a real storage, a migrated database, the real daemon code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from archiver.assembly.process import Assembly, assemble
from archiver.clock import SystemChance, SystemClock
from archiver.config.load import load
from archiver.config.model import Config
from archiver.custody.keys import generate_signing_key, to_pem
from archiver.daemon.supervise import Daemon
from archiver.daemon.sweep import Sweep
from archiver.database import create_engine, read, upgrade
from archiver.demo.simulators import fleet
from archiver.demo.simulators.server import Simulator
from archiver.ingest import public_views
from archiver.ingest.search import Search
from archiver.ingest.tables import recording
from tests.seal_keys import generate_local_key


@dataclass
class Archive:
    """One configured archive in a folder of its own."""

    config: Config
    path: Path

    async def sweep(self) -> Sweep:
        """What `archiver run --once` does."""
        assembly = await self.assemble()
        try:
            return await Daemon(assembly).once()
        finally:
            await assembly.aclose()

    async def assemble(self) -> Assembly:
        return await assemble(self.config)

    async def rows(self) -> list[dict[str, object]]:
        """Every recording that the journal knows."""
        engine = create_engine(self.config.database.resolve().reveal(), Path(self.config.state_dir))
        try:
            return await read(engine, lambda conn: [dict(row) for row in public_views.recordings(conn, Search())])
        finally:
            engine.dispose()

    async def raw_rows(self) -> list[Mapping[str, object]]:
        """The journal's rows with every column."""
        engine = create_engine(self.config.database.resolve().reveal(), Path(self.config.state_dir))
        try:
            return await read(engine, lambda conn: [dict(row) for row in conn.execute(select(recording)).mappings()])
        finally:
            engine.dispose()


def make_archive(
    folder: Path,
    sims: Mapping[str, Simulator],
    database_url: str,
    storage: str,
    *,
    more: str = "",
    retention: str = "2d",
    keeps: str = "365d",
) -> Archive:
    """Write keys, secrets and a configuration, and upgrade the database."""
    chance = SystemChance()
    secrets = {
        "custody.pem": to_pem(generate_signing_key(chance)),
        "seal.key": generate_local_key(chance),
        "db": database_url.encode(),
    }
    for name, secret in secrets.items():
        (folder / name).write_bytes(secret)
        (folder / name).chmod(0o400)
    lines = ["version: 1", "instance: test", "database: file:db", "state_dir: state", "providers:"]
    for name, sim in sims.items():
        keys = []
        for key, value in fleet.CREDENTIALS[name].items():
            (folder / f"{name}.{key}").write_text(value)
            (folder / f"{name}.{key}").chmod(0o400)
            keys.append(f"{key}: {value}" if key in ("account_id", "auth_id") else f"{key}: file:{name}.{key}")
        dialect = ", dialect: v2.1" if name == "justcall_v21" else ""
        kind = name.partition("_")[0]
        since = (SystemClock().now()).date().replace(day=1)
        back = since.replace(year=since.year - 1)
        lines.append(
            f'  - {{id: {name.replace("_", "-")}, kind: {kind}, base_url: "{sim.base_url}", allow_http: true, '
            f"allow_private_addresses: true, rate: 500/s, backfill_from: {back}, retention: {keeps}{dialect}, {', '.join(keys)}}}"
        )
    lines += [
        f"storage: {storage}",
        "encryption:",
        "  recipients: [{id: local, kind: aes-kw-256, key: file:seal.key}]",
        "  identities: [{id: local, key: file:seal.key}]",
        "custody: {signing_key: file:custody.pem}",
        f"retention: {{default: {retention}}}",
        more,
    ]
    path = folder / "archiver.yaml"
    path.write_text("\n".join(lines) + "\n")
    config = load(path, resolve_secrets=True)
    Path(config.state_dir).mkdir(mode=0o700)
    engine = create_engine(database_url, Path(config.state_dir))
    upgrade(engine)
    engine.dispose()
    return Archive(config, path)
