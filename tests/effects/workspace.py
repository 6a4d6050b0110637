"""An archive made of what one writes into its configuration, and the shipped command run on it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archiver.clock import SystemChance
from archiver.custody.keys import generate_signing_key, to_pem
from archiver.database import create_engine, upgrade
from archiver.demo.simulators.server import Simulator
from tests.acceptance.cli import archiver
from tests.seal_keys import generate_local_key

DIRECTORY = "{kind: directory, path: copies}"
LOCAL = (
    "{recipients: [{id: local, kind: aes-kw-256, key: file:seal.key}], identities: [{id: local, key: file:seal.key}]}"
)
LOOPBACK = "allow_http: true, allow_private_addresses: true, rate: 500/s"


@dataclass
class Workspace:
    """A folder with keys, a database and `archiver.yaml`."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "archiver.yaml"

    def secret(self, name: str, value: str | bytes) -> str:
        """A reference to a secret of this value."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else value.encode())
        path.chmod(0o400)
        return f"file:{name}"

    def write(
        self,
        providers: Sequence[str],
        *,
        storage: str = DIRECTORY,
        encryption: str = LOCAL,
        custody: str = "{signing_key: file:custody.pem}",
        retention: str = "{default: 2d}",
        more: Sequence[str] = (),
        head: Sequence[str] = ("instance: test", "state_dir: state"),
    ) -> None:
        lines = ["version: 1", *head, "providers:", *(f"  - {{{each}}}" for each in providers)]
        lines += [f"storage: {storage}", f"encryption: {encryption}", f"custody: {custody}", f"retention: {retention}"]
        self.file.write_text("\n".join([*lines, *more]) + "\n")

    def run(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = archiver("-c", self.file, *arguments, env=self.env)
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    async def arun(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """The same, while servers of this event loop go on answering."""
        return await asyncio.to_thread(self.run, *arguments, code=code)

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        return json.loads(self.run("-o", "json", *arguments, code=code).stdout)["data"]

    def rows(self, query: str = "SELECT * FROM recording", state_dir: str = "state") -> list[dict[str, Any]]:
        """What the embedded database says."""
        with closing(sqlite3.connect(self.folder / state_dir / "archiver.db")) as conn:
            conn.row_factory = sqlite3.Row
            return [dict(row) for row in conn.execute(query)]


def workspace(folder: Path) -> Workspace:
    """Keys and a migrated embedded database."""
    made, chance = Workspace(folder), SystemChance()
    made.secret("custody.pem", to_pem(generate_signing_key(chance)))
    made.secret("seal.key", generate_local_key(chance))
    (folder / "state").mkdir(mode=0o700)
    engine = create_engine("sqlite:///archiver.db", folder / "state")
    upgrade(engine)
    engine.dispose()
    return made


def swept(made: Workspace, sims: Mapping[str, Simulator], providers: Mapping[str, str], **settings: Any) -> str:
    """One `run --once` on providers whose keys are given without their `base_url`. Returns what the command said."""

    async def sweep() -> str:
        async with AsyncExitStack() as stack:
            for sim in sims.values():
                await stack.enter_async_context(sim)
            keys = [f'id: {name}, base_url: "{sims[name].base_url}", {each}' for name, each in providers.items()]
            made.write(keys, **settings)
            done = await made.arun("run", "--once", code=None)
            return done.stdout + done.stderr

    return asyncio.run(sweep())
