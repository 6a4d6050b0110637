"""What an operator sees: costs, and why nothing is archived."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from archiver.assembly.database import open_database
from archiver.assembly.reports import make_report
from archiver.cli.init import write_workspace
from archiver.clock import SystemChance, SystemClock
from archiver.completeness.clocks import PLIVO_TERMS
from archiver.database import head_revision, reading
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.errors import Exit
from archiver.ingest.tables import recording
from tests.acceptance.archive import make_archive
from tests.acceptance.cli import archiver
from tests.acceptance.test_cli_init import SECRETS
from tests.fixtures_s3 import bucket_at

FOLDER = "[{id: primary, kind: directory, path: copies}]"


async def test_status_and_monthly_report_say_what_plivo_takes_for_storage(tmp_path: Path, sqlite_url: str) -> None:
    clock = SystemClock()
    sim = fleet.fleet(clock, samples(), seed=3, count=3)["plivo"]
    async with sim:
        archive = make_archive(tmp_path, {"plivo": sim}, sqlite_url, FOLDER)
        swept = await asyncio.to_thread(archiver, "run", "--once", "-q", "-c", archive.path, "-o", "json")
    assert swept.returncode == Exit.OK, swept.stderr
    (provider,) = json.loads(swept.stdout)["data"]["providers"]
    assert provider["storage_cost"]["in_a_year_micro_usd"] > 0
    assert provider["storage_cost"]["source"] == PLIVO_TERMS
    assert f"in a year if all stays there ({PLIVO_TERMS})" in archiver("status", "-c", archive.path).stdout
    month = f"{clock.now():%Y-%m}"
    made = archiver(
        "export", "report", "--month", month, "--format", "json", "-O", tmp_path / "out", "-c", archive.path
    )
    assert made.returncode == Exit.OK, made.stderr
    (account,) = json.loads((tmp_path / "out" / f"report-{month}.json").read_text())["data"]["accounts"]
    assert account["storage_cost"] == provider["storage_cost"]


async def test_missing_bucket_is_the_reason_that_a_quiet_sweep_gives(
    tmp_path: Path, sqlite_url: str, seaweedfs: str
) -> None:
    sim = fleet.fleet(SystemClock(), samples(), seed=3, count=2)["vobiz"]
    options = replace(bucket_at(seaweedfs), id="primary", bucket="never-made")
    assert options.access_key
    assert options.secret_key
    for name, key in (("access", options.access_key), ("secret", options.secret_key)):
        (tmp_path / name).write_text(key.reveal())
        (tmp_path / name).chmod(0o400)
    storage = (
        f"[{{id: primary, kind: s3, endpoint: '{options.endpoint}', region: us-east-1, bucket: never-made, "
        "access_key: file:access, secret_key: file:secret}]"
    )
    async with sim:
        archive = make_archive(tmp_path, {"vobiz": sim}, sqlite_url, storage)
        swept = await asyncio.to_thread(archiver, "run", "--once", "-q", "-c", archive.path)
    assert swept.returncode == Exit.UNAVAILABLE
    said = swept.stdout.splitlines()[1]
    assert said.startswith("Nothing can be archived: storage primary: "), swept.stdout + swept.stderr
    assert "there is no such bucket" in said
    assert "Nothing is at risk" not in swept.stdout


def test_state_dir_that_is_a_file_is_said_in_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "archiver.yaml"
    write_workspace(config, SystemClock(), SystemChance())
    config.write_text(config.read_text().replace("state_dir: state ", "state_dir: archiver.yaml "))
    for command in (["status"], ["run", "--once"], ["run"], ["recordings", "list"], ["db", "check"]):
        done = archiver(*command, "-c", config, env=SECRETS)
        assert done.returncode == Exit.CONFIGURATION, command
        assert done.stderr.splitlines() == [
            f"archiver: The configuration cannot be used: state_dir {config} is not a directory"
        ]


async def test_report_does_not_wait_for_a_writer_that_waits_for_it(tmp_path: Path, sqlite_url: str) -> None:
    """In SQLite's older journal a commit waits for readers and keeps new ones out: whoever needs a second connection hangs."""
    async with fleet.fleet(SystemClock(), samples(), seed=3, count=1)["vobiz"] as sim:
        archive = make_archive(tmp_path, {"vobiz": sim}, sqlite_url, FOLDER)
    engine = open_database(archive.config)
    try:
        with reading(engine) as conn:
            conn.execute(select(func.count()).select_from(recording))  # from here on a commit waits for us
            writer = sqlite3.connect(tmp_path / "archiver.db", timeout=0.01, isolation_level=None)
            writer.execute("PRAGMA journal_mode=DELETE")
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("DELETE FROM provider_state")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                writer.execute("COMMIT")  # holds PENDING now
            try:
                report = make_report(conn, archive.config, {}, SystemClock().now())
            finally:
                writer.close()
        assert report.schema == head_revision()
    finally:
        engine.dispose()


async def test_storage_that_was_never_reached_is_named_while_sealed_recordings_wait_for_it(
    tmp_path: Path, sqlite_url: str
) -> None:
    """The sweep says so, and so does `status` an hour later, when nothing of that sweep is left but its rows."""
    sim = fleet.fleet(SystemClock(), samples(), seed=3, count=2)["vobiz"]
    for name in ("access", "secret"):
        (tmp_path / name).write_text("x" * 16)
        (tmp_path / name).chmod(0o400)
    nobody = (
        '[{id: primary, kind: s3, endpoint: "http://127.0.0.1:9", bucket: nowhere, access_key: file:access, '
        "secret_key: file:secret, object_lock: {mode: compliance}}]"
    )
    async with sim:
        archive = make_archive(tmp_path, {"vobiz": sim}, sqlite_url, nobody)
        swept = await asyncio.to_thread(archiver, "run", "--once", "-q", "-c", archive.path)
        assert swept.returncode == Exit.UNAVAILABLE, swept.stderr
    assert {row["state"] for row in await archive.rows()} == {"waiting"}
    assert "Nothing can be archived: storage primary: " in swept.stdout
    later = archiver("status", "-c", archive.path).stdout
    assert "Nothing can be archived: storage primary: never reached so far; 2 sealed recording(s) wait" in later
