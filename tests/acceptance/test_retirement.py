"""How processes end, as the log tells it: in good order, or not at all."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from archiver.clock import SystemClock
from archiver.custody import history
from archiver.custody.event import ARCHIVE, parse
from archiver.database import create_engine, read
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver

DIRECTORY = "[{id: primary, kind: directory, path: copies}]"


async def lives(archive: Archive) -> list[str]:
    """What the log, and the queue behind it, say of the archive's processes."""
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    try:
        entries = await read(engine, lambda conn: history.entries(conn, ARCHIVE))
    finally:
        engine.dispose()
    return [event.type for event in (parse(each.raw) for each in entries) if event.type.startswith("writer.")]


async def run(archive: Archive, ending: signal.Signals) -> None:
    """The daemon until it has archived everything, then the signal."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "archiver", "-c", str(archive.path), "run",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            async for line in process.stdout:
                rows = await archive.rows() if b"daemon.ready" in line or b"recording.archived" in line else []
                if rows and all(row["state"] == "archived" for row in rows):
                    break
        process.send_signal(ending)
        await process.communicate()
        assert process.returncode == (0 if ending is signal.SIGTERM else -ending)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_who_ends_in_good_order_retires_and_who_is_killed_does_not(tmp_path: Path, sqlite_url: str) -> None:
    sim = fleet.fleet(SystemClock(), samples(), seed=11, count=2)["kazoo"]
    async with sim:
        archive = make_archive(tmp_path, {"kazoo": sim}, sqlite_url, DIRECTORY)
        await run(archive, signal.SIGKILL)
        assert (await archive.sweep()).exit_code == 0
        assert await lives(archive) == ["writer.enrolled", "writer.enrolled", "writer.retired"]
        await run(archive, signal.SIGTERM)
        assert await lives(archive) == ["writer.enrolled", *["writer.enrolled", "writer.retired"] * 2]
        assert (await archive.sweep()).exit_code == 0  # takes into the log what the other had no time for
        assert await lives(archive) == ["writer.enrolled", *["writer.enrolled", "writer.retired"] * 3]
    done = await asyncio.to_thread(archiver, "-c", archive.path, "-o", "json", "custody", "fsck", "--level", "full")
    assert json.loads(done.stdout)["data"]["findings"] == []
    head = await asyncio.to_thread(archiver, "-c", archive.path, "-o", "json", "custody", "checkpoint")
    newest = json.loads(head.stdout)["data"]
    assert (newest["size"], newest["waiting"]) == (newest["leaves"], 0)
    assert newest["published_at"] is not None


async def test_commands_that_write_once_retire_behind_what_they_wrote(tmp_path: Path, sqlite_url: str) -> None:
    sim = fleet.fleet(SystemClock(), samples(), seed=11, count=2)["kazoo"]
    async with sim:
        archive = make_archive(tmp_path, {"kazoo": sim}, sqlite_url, DIRECTORY)
        assert (await archive.sweep()).exit_code == 0
        one = str((await archive.rows())[0]["id"])
        for command in (
            ("--reason", "why", "recordings", "get", one, "-O", tmp_path / "a.mp3"),
            ("verify", one),
            ("reconcile",),
            ("--reason", "why", "--yes", "export", "evidence", one, "-O", tmp_path / "bundle"),
        ):
            await asyncio.to_thread(archiver, "-c", archive.path, *command)
        assert await lives(archive) == ["writer.enrolled", "writer.retired"] * 5
