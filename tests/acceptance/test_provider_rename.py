"""A provider that is called otherwise in the configuration, or is not there any more: said, and carried over by one command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from archiver.cli import invoke as run
from archiver.clock import SystemClock
from archiver.completeness.tables import statement
from archiver.config.load import load
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Event, Type, parse
from archiver.database import create_engine
from archiver.demo.simulators import Account, Route
from archiver.demo.simulators.fleet import CREDENTIALS
from archiver.demo.simulators.plivo import PlivoSimulator
from archiver.errors import Exit
from archiver.fetch.spool import lock_state_dir
from archiver.ingest import provider_names
from archiver.ingest.listing_rows import identity
from archiver.ingest.tables import coverage, recording
from archiver.recording import RecordingRef
from archiver.schedule.tables import replica
from tests.acceptance.archive import Archive, make_archive
from tests.faults.rig import call

OLD, NEW = "plivo", "plivo-emea"


@dataclass
class Desk:
    """An archive whose provider can be given another name in its file."""

    archive: Archive
    sim: PlivoSimulator
    capsys: pytest.CaptureFixture[str]

    def rewrite(self, before: str, after: str) -> None:
        text = self.archive.path.read_text()
        assert before in text
        self.archive.path.write_text(text.replace(before, after))
        self.archive.config = load(self.archive.path, resolve_secrets=True)

    def named(self, name: str) -> None:
        self.rewrite(f"{{id: {self.archive.config.providers[0].id},", f"{{id: {name},")

    async def command(self, *arguments: str) -> tuple[int, Any]:
        """Exit code, and the data of the JSON output."""
        self.capsys.readouterr()
        code = await asyncio.to_thread(run, ["-c", str(self.archive.path), *arguments, "-o", "json"])
        out = self.capsys.readouterr()
        try:
            return code, json.loads(out.out)["data"]
        except ValueError:
            return code, out.err

    async def warned(self) -> list[dict[str, Any]]:
        """What `check` says of providers that are not configured."""
        code, said = await self.command("check")
        assert code == Exit.OK
        return [each for each in said if each["code"] == "C231"]

    def asked(self) -> int:
        return len(self.sim.seen(Route.MEDIA))

    def renames(self) -> list[Event]:
        engine = create_engine(self.archive.config.database.resolve().reveal(), Path(self.archive.config.state_dir))
        with engine.connect() as conn:
            found = [parse(each.raw) for each in history.entries(conn, ARCHIVE)]
        engine.dispose()
        return [each for each in found if each.type == Type.PROVIDER_RENAMED]

    def do(self, statement_: Any) -> list[Any]:
        engine = create_engine(self.archive.config.database.resolve().reveal(), Path(self.archive.config.state_dir))
        with engine.begin() as conn:
            result = conn.execute(statement_)
            rows = list(result) if result.returns_rows else []
        engine.dispose()
        return rows


@asynccontextmanager
async def desk(folder: Path, url: str, capsys: pytest.CaptureFixture[str], **odd: Any) -> AsyncIterator[Desk]:
    held = [call("plivo", name, ago=timedelta(days=2, minutes=n)) for n, name in enumerate("ab")]
    held += [call("plivo", name, ago=timedelta(days=2), extra={"recording_url": link}) for name, link in odd.items()]
    known = CREDENTIALS["plivo"]
    async with PlivoSimulator(
        Account(held), SystemClock(), auth_id=known["auth_id"], auth_token=known["auth_token"]
    ) as sim:
        made = make_archive(
            folder, {"plivo": sim}, url, "[{id: primary, kind: directory, path: copies}]", retention="30d"
        )
        yield Desk(made, sim, capsys)


async def test_rename_carries_everything_over_and_the_next_poll_stores_nothing_twice(
    tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with desk(tmp_path, database_url, capsys) as it:
        await it.archive.sweep()
        before = {row["id"]: row for row in await it.archive.raw_rows()}
        assert {row["state"] for row in before.values()} == {"archived"}
        spans, asked = it.do(select(coverage.c.since, coverage.c.until)), it.asked()
        stated = len(it.do(select(statement.c.day).where(statement.c.provider == OLD)))
        assert stated
        it.named(NEW)
        assert await it.command("providers", "rename", OLD, NEW, "--reason", "regions") == (
            0, {"from": OLD, "to": NEW, "recordings": 2, "already": False},
        )  # fmt: skip
        # Its answer was lost: asked for again, it says the same, and writes nothing.
        assert await it.command("providers", "rename", OLD, NEW) == (
            0, {"from": OLD, "to": NEW, "recordings": 0, "already": True},
        )  # fmt: skip
        (event,) = it.renames()
        assert event.data == {"from": OLD, "to": NEW, "kind": "plivo", "recordings": 2}
        assert (event.subject, event.actor_kind) == (ARCHIVE, "operator")
        assert "rename" in event.priv
        assert it.do(select(coverage.c.since, coverage.c.until).where(coverage.c.provider == NEW)) == spans
        assert len(it.do(select(statement.c.day).where(statement.c.provider == NEW))) == stated
        sweep = await it.archive.sweep()
        assert sweep.exit_code == Exit.OK
        assert it.asked() == asked
        after = {row["id"]: row for row in await it.archive.raw_rows()}
        assert after.keys() == before.keys()
        for row in after.values():
            ref = RecordingRef(NEW, str(row["provider_recording_id"]))
            assert (row["provider"], row["identity"]) == (NEW, identity(ref))
        assert (await it.command("verify", "--all"))[0] == Exit.OK
        assert (await it.command("reconcile"))[0] == Exit.OK
        assert await it.warned() == []
        # From the bucket alone.
        lost = tmp_path / "again"
        lost.mkdir(mode=0o700)
        (tmp_path / "db").chmod(0o600)
        (tmp_path / "db").write_text("sqlite:///rebuilt.db")
        it.rewrite("state_dir: state", f"state_dir: {lost}")
        assert (await it.command("db", "upgrade"))[0] == Exit.OK
        assert (await it.command("rebuild"))[0] == Exit.OK
        assert {(row["id"], row["provider"]) for row in await it.archive.raw_rows()} == {(name, NEW) for name in before}
        # Rows that only an older segment describes bear the old name, and are given the new one.
        for row in await it.archive.raw_rows():
            known = identity(RecordingRef(OLD, str(row["provider_recording_id"])))
            it.do(update(recording).where(recording.c.id == row["id"]).values(provider=OLD, identity=known))
        engine = create_engine(it.archive.config.database.resolve().reveal(), lost)
        with engine.begin() as conn:
            assert (provider_names.replay(conn), provider_names.replay(conn)) == (2, 0)
        engine.dispose()
        assert {(row["provider"], row["identity"]) for row in await it.archive.raw_rows()} == {
            (NEW, row["identity"]) for row in after.values()
        }


async def test_rename_that_would_mix_two_histories_is_refused(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with desk(tmp_path, sqlite_url, capsys) as it:
        await it.archive.sweep()

        async def refused(*arguments: str) -> str:
            code, said = await it.command("providers", "rename", *arguments)
            assert code == Exit.NOT_ALLOWED, said
            assert it.renames() == []
            return str(said)

        assert (await it.command("providers", "rename", OLD, NEW))[0] == Exit.NOT_FOUND  # NEW is not configured
        it.named(NEW)
        assert (await it.command("providers", "rename", "nobody", NEW))[0] == Exit.NOT_FOUND
        it.rewrite(CREDENTIALS["plivo"]["auth_id"], "MAANOTHERANOTHER0000")
        assert "another account" in await refused(OLD, NEW)
        it.rewrite("MAANOTHERANOTHER0000", CREDENTIALS["plivo"]["auth_id"])
        with lock_state_dir(Path(it.archive.config.state_dir)):
            await refused(OLD, NEW)
        now = SystemClock().now()
        elsewhere = {"id": "r", "spool_id": "s", "host": "h", "version": "1", "started_at": now}
        it.do(insert(replica).values(**elsewhere, alive_until=now + timedelta(minutes=1)))
        assert "is running" in await refused(OLD, NEW)
        it.do(update(replica).values(alive_until=now - timedelta(minutes=1)))
        await it.archive.sweep()  # somebody was too quick: everything is there twice
        assert "has rows already" in await refused(OLD, NEW)


async def test_pending_recordings_of_a_provider_that_is_not_configured_are_said_everywhere(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with desk(tmp_path, sqlite_url, capsys, odd="s3://bucket/x") as it:
        await it.archive.sweep()
        assert await it.warned() == []
        it.named(NEW)
        (warning,) = await it.warned()
        assert warning["severity"] == "warning"
        assert f"archiver providers rename {OLD} {NEW}" in warning["hint"]
        assert "1 of them not archived yet; the first is deleted there at" in warning["message"]
        assert (await it.command("check", "--fail-on-warning"))[0] == Exit.CONFIGURATION
        code, told = await it.command("status", "--check")  # before the daemon has run
        shown = {each["provider"]: each for each in told["providers"]}
        assert (code != 0, shown[OLD]["level"] != "on time") == (True, True)
        await it.archive.sweep()
        gaps = (await it.command("gaps", "list"))[1]["gaps"]
        (gap,) = [each for each in gaps if each["code"] == "provider_not_configured"]
        assert (gap["provider"], gap["grade"], gap["evidence"]["pending"]) == (OLD, "open", 1)
        assert gap["until"] is not None
        it.named(OLD)
        await it.archive.sweep()
        gaps = (await it.command("gaps", "list"))[1]["gaps"]
        assert [each["provider"] for each in gaps if each["code"] == "provider_not_configured"] == [NEW]


async def test_provider_taken_out_on_purpose_with_everything_archived_is_no_warning(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with desk(tmp_path, sqlite_url, capsys) as it:
        await it.archive.sweep()
        it.named("elsewhere")
        it.rewrite(CREDENTIALS["plivo"]["auth_id"], "MAANOTHERANOTHER0000")
        assert await it.warned() == []
