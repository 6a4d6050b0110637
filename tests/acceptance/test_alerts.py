"""From a real sweep to a real webhook: what went wrong is told, what went well pings, and the command line shows both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import update

from archiver.alerts.tables import alert_state
from archiver.clock import SystemClock
from archiver.database import create_engine
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.http_servers import Script, Server, answer, says, serve

OK = says(answer(200))


@dataclass
class Watched:
    """An archive, and the two servers that hear of it."""

    archive: Archive
    folder: Path
    hook: Server
    ping: Server

    def told(self) -> list[tuple[str, str, str]]:
        bodies = [json.loads(asked.raw.partition(b"\r\n\r\n")[2]) for asked in self.hook.asked]
        return [(each["status"], each["name"], each["subject"]) for body in bodies for each in body["alerts"]]

    def token(self, value: str) -> None:
        file = self.folder / "kazoo.auth_token"
        file.chmod(0o600)
        file.write_text(value)

    def later(self) -> None:
        """Everything that waits is due."""
        engine = create_engine(self.archive.config.database.resolve().reveal(), Path(self.archive.config.state_dir))
        with engine.begin() as conn:
            conn.execute(update(alert_state).values(due_at=alert_state.c.since))
        engine.dispose()


@asynccontextmanager
async def watched(folder: Path, database_url: str, hears: Script = OK) -> AsyncIterator[Watched]:
    sim = fleet.fleet(SystemClock(), samples(), seed=11, count=3)["kazoo"]
    async with sim, serve(hears) as hook, serve(OK) as ping:
        for name, url in (("hook", f"{hook.origin}/hook/s3cret"), ("ping", f"{ping.origin}/ping/s3cret")):
            (folder / name).write_text(url)
            (folder / name).chmod(0o400)
        alerting = (
            "alerting: {channels: [{id: ops, kind: webhook, url: file:hook, allow_http: true}], "
            "heartbeat: {url: file:ping, allow_http: true}}"
        )
        storage = "[{id: primary, kind: directory, path: copies}]"
        yield Watched(make_archive(folder, {"kazoo": sim}, database_url, storage, more=alerting), folder, hook, ping)


async def test_refused_credentials_are_told_and_do_not_ping_until_they_work_again(
    tmp_path: Path, database_url: str
) -> None:
    async with watched(tmp_path, database_url) as it:
        it.token("wrong")
        await it.archive.sweep()
        assert sorted(it.told()) == [("firing", "coverage.gap", "kazoo"), ("firing", "provider.auth_failed", "kazoo")]
        assert it.ping.asked == []
        await it.archive.sweep()
        assert len(it.hook.asked) == 1, "a second run within the hour says nothing new"

        it.token(fleet.CREDENTIALS["kazoo"]["auth_token"])
        await it.archive.sweep()
        assert [asked.line.split(" ")[:2] for asked in it.ping.asked] == [["GET", "/ping/s3cret"]]
        it.later()
        await it.archive.sweep()
        after = sorted(it.told()[2:])
        assert after == [("resolved", "coverage.gap", "kazoo"), ("resolved", "provider.auth_failed", "kazoo")]


async def test_a_webhook_that_is_down_keeps_nothing_from_being_archived(tmp_path: Path, sqlite_url: str) -> None:
    async with watched(tmp_path, sqlite_url, says(answer(500))) as it:
        it.token("wrong")
        await it.archive.sweep()
        assert len(it.hook.asked) == 1
        it.token(fleet.CREDENTIALS["kazoo"]["auth_token"])
        await it.archive.sweep()
        assert [row["state"] for row in await it.archive.rows()] == ["archived"] * 3
        assert len(it.ping.asked) == 1


async def test_the_command_line_lists_what_is_told_and_tries_the_channels(tmp_path: Path, sqlite_url: str) -> None:
    async with watched(tmp_path, sqlite_url) as it:
        it.token("wrong")
        await it.archive.sweep()
        config = ("-c", str(it.archive.path))
        listed = await asyncio.to_thread(archiver, *config, "-o", "json", "alerts", "list")
        tried = await asyncio.to_thread(archiver, *config, "alerts", "test")
        assert (listed.returncode, tried.returncode) == (0, 0), (listed, tried)
        (row,) = (each for each in json.loads(listed.stdout)["data"] if each["alert"] != "coverage.gap")
        assert (row["alert"], row["channel"], row["status"]) == ("provider.auth_failed", "ops", "firing")
        assert tried.stdout.strip() == "ops  ok"
        assert it.told()[-1][0] == "note"
    gone = await asyncio.to_thread(archiver, *config, "alerts", "test")
    assert gone.returncode == 69
    assert "s3cret" not in gone.stdout + gone.stderr
