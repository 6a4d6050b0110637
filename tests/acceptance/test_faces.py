"""No face is green while another is red: every fault before all of them, in a real archive and through the shipped commands."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text, update

from archiver.alerts.rule import Level, level_of
from archiver.assembly.compliance import Monthly, monthly
from archiver.assembly.database import open_database
from archiver.assembly.providers import reading_providers
from archiver.assembly.reports import make_report
from archiver.cli import invoke as run
from archiver.clock import SystemClock
from archiver.completeness.gap import Code, Grade
from archiver.completeness.tables import gap, reconciliation
from archiver.compliance.month import month_of
from archiver.config.load import load
from archiver.database import Writer
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.errors import Exit
from archiver.ingest.tables import host_state, provider_state, recording, storage_fault, storage_state
from archiver.status.metrics import Metrics
from archiver.status.report import Report, exit_code
from tests.acceptance.archive import Archive, make_archive
from tests.fixtures_s3 import NewBucket
from tests.http_servers import Server, answer, says, serve
from tests.lying_s3 import Answer, LyingS3

ONE = "[{id: primary, kind: directory, path: copies}]"
TWO = "[{id: primary, kind: directory, path: copies}, {id: second, kind: directory, path: more, required: false}]"
HOUR = timedelta(hours=1)
NOW = SystemClock().now


@dataclass
class Watched:
    """An archive that pings a dead man's switch."""

    archive: Archive
    folder: Path
    ping: Server

    async def sweep(self) -> int:
        """`run --once`; its exit code."""
        return (await self.archive.sweep()).exit_code

    async def command(self, *words: str) -> tuple[int, str]:
        """A shipped command in this process; its exit code and what it said."""

        def call() -> tuple[int, str]:
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                code = run(["-c", str(self.archive.path), *words])
            return code, said.getvalue()

        return await asyncio.to_thread(call)

    def change(self, act: Callable[[Connection], object]) -> None:
        engine = open_database(self.archive.config)
        with engine.begin() as conn:
            act(conn)
        engine.dispose()

    async def faces(self) -> dict[str, bool]:
        """Each face, and whether it is green."""
        _, text = await self.command("status")
        check, document = await self.command("status", "--check", "-o", "json")
        nagios, line = await self.command("status", "--nagios")
        _, diagnosed = await self.command("doctor", "-o", "json")
        _, told = await self.command("alerts", "list", "-o", "json")
        data = json.loads(document)["data"]
        ours = [each for each in json.loads(diagnosed)["data"] if each["name"] not in {"config", "keys", "state_dir"}]
        alerts = [each for each in json.loads(told)["data"] if each["status"] != "resolved"]
        return {
            "status": "Nothing is at risk" in text and "\nwhy  " not in text,
            "json": data["level"] == "on time" and not data["concerns"],
            "check": check == 0,
            "nagios": nagios == 0 and line.startswith("ARCHIVER OK"),
            "doctor": all(each["mark"] == "✓" for each in ours),
            "alerts": not alerts,
            "metrics": self.measured(),
            "month": self.reported(),
        }

    def measured(self) -> bool:
        """Whether the metrics are green."""
        metrics = Metrics("1")
        metrics.show(self.report())
        lines = metrics.text().decode().splitlines()
        level = next(line for line in lines if line.startswith("archiver_status_level "))
        concerns = [line for line in lines if line.startswith("archiver_concerns{") and not line.endswith(" 0.0")]
        return level.endswith(" 0.0") and not concerns

    def reported(self) -> bool:
        """Whether the month's report is green, of how things stand."""
        engine, now = open_database(self.archive.config), NOW()
        with engine.connect() as conn:
            month = monthly(conn, self.archive.config, {}, month_of(now), now)
        engine.dispose()
        return month.standing.level == "on time"

    def report(self) -> Report:
        engine = open_database(self.archive.config)
        with engine.connect() as conn:
            made = make_report(conn, self.archive.config, {}, NOW())
        engine.dispose()
        return made

    @property
    def pings(self) -> int:
        return len(self.ping.asked)


@asynccontextmanager
async def watched(
    folder: Path, url: str, storage: str = ONE, *, kind: str = "vobiz", count: int = 2
) -> AsyncIterator[Watched]:
    sim = fleet.fleet(SystemClock(), samples(), seed=3, count=count)[kind]
    async with sim, serve(says(answer(200))) as ping:
        (folder / "ping").write_text(f"{ping.origin}/ping")
        (folder / "ping").chmod(0o400)
        more = "alerting: {heartbeat: {url: file:ping, allow_http: true}}"
        yield Watched(make_archive(folder, {kind: sim}, url, storage, more=more), folder, ping)


def agreed(faces: dict[str, bool]) -> bool:
    """What all of them say."""
    assert len(set(faces.values())) == 1, faces
    return faces["status"]


async def test_nothing_wrong_is_green_everywhere_and_pings(tmp_path: Path, sqlite_url: str) -> None:
    async with watched(tmp_path, sqlite_url) as it:
        assert await it.sweep() == Exit.OK
        assert agreed(await it.faces())
        assert it.pings == 1


async def test_storage_that_proved_itself_and_then_refuses_everything_is_red_everywhere_until_it_works_again(
    tmp_path: Path, sqlite_url: str, lying_s3: LyingS3, new_bucket: NewBucket
) -> None:
    """The probe is refused, so nothing new speaks against the old proof: that alone must not keep it."""
    bucket = new_bucket().bucket
    for name, key in (("access", lying_s3.access_key), ("secret", lying_s3.secret_key)):
        (tmp_path / name).write_text(key.reveal())
        (tmp_path / name).chmod(0o400)
    storage = (
        f"[{{id: primary, kind: s3, endpoint: '{lying_s3.endpoint}', region: us-east-1, bucket: {bucket}, "
        "access_key: file:access, secret_key: file:secret}]"
    )
    async with watched(tmp_path, sqlite_url, storage) as it:
        assert await it.sweep() == Exit.OK
        assert agreed(await it.faces())
        lying_s3.lie(lambda _call, _onward: Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>"))
        assert await it.sweep() == Exit.UNAVAILABLE
        assert not agreed(await it.faces())
        assert it.pings == 1, "only the first sweep was proven"
        code, said = await it.command("status", "--check")
        assert (code, said.splitlines()[1][:42]) == (Exit.AT_RISK, "Nothing can be archived: storage primary: ")
        assert (await it.command("doctor"))[0] == Exit.UNAVAILABLE
        lying_s3.faults.clear()
        assert await it.sweep() == Exit.OK
        assert agreed(await it.faces())
        assert it.pings == 2


async def test_optional_storage_that_refuses_is_red_everywhere(tmp_path: Path, sqlite_url: str) -> None:
    async with watched(tmp_path, sqlite_url, TWO) as it:
        assert await it.sweep() == Exit.OK
        shutil.rmtree(tmp_path / "more")
        (tmp_path / "more").write_text("not a folder")
        await it.sweep()
        assert not agreed(await it.faces())
        assert it.pings == 1


async def test_refused_credentials_are_red_everywhere(tmp_path: Path, sqlite_url: str) -> None:
    async with watched(tmp_path, sqlite_url, kind="kazoo") as it:
        token = tmp_path / "kazoo.auth_token"
        token.chmod(0o600)
        token.write_text("wrong")
        assert await it.sweep() == Exit.UNFINISHED
        assert not agreed(await it.faces())
        assert it.pings == 0


async def test_storage_that_was_never_reached_is_red_everywhere(tmp_path: Path, sqlite_url: str) -> None:
    (tmp_path / "copies").write_text("not a folder")
    async with watched(tmp_path, sqlite_url) as it:
        assert await it.sweep() == Exit.UNAVAILABLE
        assert not agreed(await it.faces())
        assert "never reached so far; 2 sealed recording(s) wait" in (await it.command("status"))[1]


# --- what the database may say ---------------------------------------------------------------------------------------

Act = Callable[[Connection], object]


def _gap(code: str, provider: str = "vobiz", **more: object) -> Act:
    now = SystemClock().now()
    values = {
        "id": f"gap-{code}", "provider": provider, "source": "journal", "subject": f"rec:{code}", "code": code,
        "grade": Grade.OPEN, "detail": "d", "evidence": "{}", "opened_at": now, "seen_at": now, **more,
    }  # fmt: skip
    return lambda conn: conn.execute(insert(gap).values(**values))


def _state(**values: object) -> Act:
    return lambda conn: conn.execute(update(storage_state).values(**values))


def _host(**values: object) -> Act:
    row = {"spool_id": "s", "host": "h2", "spool_percent": 0, "no_room": None, "clock_offset_ms": 0, "seen_at": NOW()}
    return lambda conn: conn.execute(insert(host_state).values(**{**row, **values}))


def _verified(conn: Connection) -> None:
    values = {
        "started_at": NOW(),
        "finished_at": NOW(),
        "copies": 1,
        "versions": 1,
        "findings": '{"object_missing": 1}',
    }
    conn.execute(insert(reconciliation).values(id="verify-1", storage="verify:sample", **values))


def _fault(conn: Connection) -> None:
    conn.execute(insert(storage_fault).values(storage="primary", spool_id="x", since=NOW(), at=NOW(), problem="403"))


def faults() -> dict[str, tuple[Act, Level]]:
    """What to do to a database that says that all is well, and what it says then."""
    return {
        **{f"gap {code}": (_gap(code.value), level_of(code.value)) for code in Code},
        "gap of a storage": (_gap("chain_gap", "primary"), Level.INTEGRITY),
        "verification failed": (_verified, Level.INTEGRITY),
        "old proof": (_state(probed_at=NOW() - 4 * HOUR), Level.AT_RISK),
        "proof failed": (_state(trusted=False), Level.AT_RISK),
        "a host saw it refuse": (_fault, Level.AT_RISK),
        "another host's disk is full": (_host(no_room="no"), Level.AT_RISK),
        "another host's spool fills": (_host(spool_percent=80), Level.AT_RISK),
        "another host's clock is wrong": (_host(clock_offset_ms=3000), Level.LATE),
        "parked": (lambda c: c.execute(update(provider_state).values(parked_reason="401")), Level.AT_RISK),
        "not polled": (lambda c: c.execute(update(provider_state).values(poll_succeeded_at=NOW() - 2 * HOUR)), Level.LATE),
        "gone": (lambda c: c.execute(update(recording).values(state="gone")), Level.LOST),
        "overdue": (lambda c: c.execute(update(recording).values(state="waiting", archive_by=NOW() - HOUR)), Level.LATE),
        "nearly deleted": (lambda c: c.execute(update(recording).values(state="listed", delete_at=NOW() + HOUR)), Level.AT_RISK),
    }  # fmt: skip


def _copy(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as of, contextlib.closing(sqlite3.connect(target)) as to:
        of.backup(to)


async def test_every_fault_that_the_database_can_say_has_its_level_and_no_face_is_green(
    tmp_path: Path, sqlite_url: str
) -> None:
    """One archive; each fault by itself in a copy of its database. Codes that are added to the register are covered at once."""
    database, kept = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "kept"
    async with watched(tmp_path, sqlite_url) as it:
        assert await it.sweep() == Exit.OK
        _copy(database, kept)
        for name, (act, level) in faults().items():
            it.change(act)
            assert (it.report().level, it.measured()) == (level, False), name
            if not name.startswith("gap ") or name == f"gap {Code.NOT_READY}":  # all faces only once for what is alike
                assert not it.reported(), name
                code, said = await it.command("status", "--check", "-o", "json")
                data = json.loads(said)["data"]
                found = (data["level"], code, data["sentence"] == "Nothing is at risk")
                assert found == (level, exit_code(level), False), name
                assert any(each["level"] == level for each in data["concerns"]), name
            _copy(kept, database)
        assert it.measured(), "and the archive itself is well"


async def test_event_that_no_writer_of_ours_signed_is_red_everywhere_until_a_person_accounts_for_it(
    tmp_path: Path, sqlite_url: str
) -> None:
    forged = text(
        "INSERT INTO custody_pending (subject_no, seq, entry) "
        "SELECT subject_no, :seq, :entry FROM custody_subject WHERE subject = 'archive'"
    )
    async with watched(tmp_path, sqlite_url) as it:
        assert await it.sweep() == Exit.OK
        it.change(lambda conn: conn.execute(forged, {"seq": 0, "entry": b"not ours"}))
        await it.sweep()
        assert not agreed(await it.faces())
        assert (await it.command("status", "--check"))[0] == Exit.INTEGRITY
        code, said = await it.command("--reason", "a test of ours", "gaps", "ack", "log:refused")
        assert code == Exit.OK, said
        assert (await it.command("status", "--check"))[0] == Exit.OK
        await it.sweep()
        assert (await it.command("status", "--check"))[0] == Exit.OK, "it is not opened again"
        it.change(lambda conn: conn.execute(forged, {"seq": 1, "entry": b"another one"}))
        await it.sweep()
        assert (await it.command("status", "--check"))[0] == Exit.INTEGRITY


async def test_acknowledged_gaps_are_settled_on_every_face(tmp_path: Path, sqlite_url: str) -> None:
    async with watched(tmp_path, sqlite_url, count=1) as it:
        assert await it.sweep() == Exit.OK
        it.change(lambda conn: conn.execute(update(recording).values(state="gone")))
        it.change(_gap("gone_at_provider"))
        assert not agreed(await it.faces())
        assert (await it.command("status", "--check"))[0] == Exit.LOST
        it.change(lambda conn: conn.execute(update(gap).values(acked_at=NOW(), acked_by="a", ack_reason="known")))
        green = await it.faces()
        assert green.pop("status") is False, "the loss is still shown"
        assert set(green.values()) == {True}, green
        assert "1 gone at the provider, acknowledged" in (await it.command("status"))[1]


async def test_provider_under_a_schedule_rests_green_and_is_late_an_hour_after_it_was_due(
    tmp_path: Path, sqlite_url: str
) -> None:
    """The same poll, of four days ago: by one schedule all is well, by another it was missed."""
    polled = NOW() - timedelta(days=4)
    later, missed = NOW() + timedelta(days=2), polled + timedelta(days=1)
    async with watched(tmp_path, sqlite_url) as it:
        assert await it.sweep() == Exit.OK
        it.change(lambda conn: conn.execute(update(provider_state).values(poll_succeeded_at=polled)))
        for due, green in ((later, True), (missed, False)):
            cron = f"{due.minute} {due.hour} {due.day} * *"
            text = it.archive.path.read_text()
            if "poll_cron" in text:
                text = text.replace(text.split('poll_cron: "')[1].split('"')[0], cron)
            else:
                text = text.replace("rate: 500/s", f'rate: 500/s, poll_cron: "{cron}"')
            it.archive.path.write_text(text)
            it.archive.config = load(it.archive.path, resolve_secrets=True)
            assert agreed(await it.faces()) is green, cron


# --- a full disk ------------------------------------------------------------------------------------------------------


def _may_mount() -> bool:
    probe = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


_COMMANDS = """
import contextlib, io, json, sys
from archiver.cli import invoke as run
found = {}
for line in ("run --once -q", "status --check -o json", "status --nagios", "doctor", "alerts list"):
    words = line.split()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = run(["-c", sys.argv[1], *words])
    found[words[-1] if words[0] == "status" else words[0]] = [int(code), said.getvalue()]
print(json.dumps(found))
"""


@pytest.mark.skipif(not _may_mount(), reason="the kernel does not let this user mount a small disk")
async def test_full_disk_is_said_by_every_face_and_a_small_one_works(tmp_path: Path, sqlite_url: str) -> None:
    """A disk of 100 MiB under a spool that may take 20 GiB: 12 MiB free are enough; with 3, every face says so."""
    state = tmp_path / "state"
    script = f"""
        mount -t tmpfs -o size=100m none {state} || exit 99
        dd if=/dev/zero of={state}/others bs=1M count=$1 status=none
        exec {sys.executable} -c '{_COMMANDS}' {tmp_path}/archiver.yaml
    """
    async with watched(tmp_path, sqlite_url) as it:

        async def on_a_disk_with(mib: int) -> tuple[dict[str, Any], str]:
            words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(100 - mib)]
            root = Path(__file__).parents[2]
            done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False, cwd=root)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout), done.stderr

        full, log = await on_a_disk_with(3)
        code, said = full["run"]
        assert code == Exit.UNFINISHED, said
        assert log.count("spool.no_room") == 1, log
        assert said.splitlines()[1].startswith("AT RISK: ")
        assert "there is no room on the disk" in said.splitlines()[1]
        code, said = full["json"]
        concerns = [(each["kind"], each["level"]) for each in json.loads(said)["data"]["concerns"]]
        assert (code, concerns) == (Exit.AT_RISK, [("spool.filling", "at risk")])
        code, said = full["--nagios"]
        assert (code, said[:29]) == (2, "ARCHIVER CRITICAL - AT RISK: ")
        code, said = full["doctor"]
        assert code == Exit.UNAVAILABLE
        assert "✗ disk" in said
        assert "spool.filling" in full["alerts"][1]
        rows = await it.archive.rows()
        assert [(row["state"], row["reason"]) for row in rows] == [("listed", "room")] * 2
        assert all("no room on the disk" in str(row["last_error"]) for row in rows)
        assert it.pings == 0

        small, log = await on_a_disk_with(12)
        assert [small[name][0] for name in ("run", "json", "--nagios", "doctor")] == [0, 0, 0, 0], (small, log)
        assert [row["state"] for row in await it.archive.rows()] == ["archived"] * 2
        assert it.pings == 1


# --- the first monthly report -----------------------------------------------------------------------------------------


async def test_no_month_is_reported_that_ended_before_the_archive_began(tmp_path: Path, sqlite_url: str) -> None:
    """The provider's history was listed and archived; nobody kept watch in that month all the same."""

    @dataclass
    class At(SystemClock):
        at: datetime

        def now(self) -> datetime:
            return self.at

    told: list[str] = []

    async def announce(alert: Any) -> None:
        told.append(alert.subject)

    async with watched(tmp_path, sqlite_url) as it:
        assert await it.sweep() == Exit.OK
        began = month_of(NOW())
        engine, clock = open_database(it.archive.config), At(began.span.until - HOUR)
        writer, providers = Writer(engine), reading_providers(it.archive.config, clock)
        tick = Monthly(it.archive.config, engine, writer, providers, clock, "r", announce).tick
        await tick()
        assert told == []
        clock.at = began.span.until + 48 * HOUR
        await tick()
        assert told == [str(began)]
        for each in providers.values():
            await each.aclose()
        writer.close()
        engine.dispose()
