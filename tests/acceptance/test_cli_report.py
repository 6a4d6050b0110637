"""`archiver export report` on a small real archive, and the daemon's own report of the month that is over."""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver import errors
from archiver.alerts.rule import Alert, Kind
from archiver.assembly.compliance import Monthly
from archiver.assembly.database import open_database
from archiver.assembly.providers import reading_providers
from archiver.clock import Clock
from archiver.config.load import load
from archiver.database import Writer
from archiver.demo.simulators import MovableClock
from archiver.errors import Exit
from archiver.translog.sequencer import open_log
from tests.acceptance.test_cli_recordings import Archive, archive

__all__ = ["archive"]  # the fixture

FILES = [
    "report-2026-05-days.csv",
    "report-2026-05-gaps.csv",
    "report-2026-05.html",
    "report-2026-05.json",
    "report-2026-05.pdf",
]


def test_month_is_written_in_every_form_with_its_digests(archive: Archive, tmp_path: Path) -> None:
    assert archive.run("reconcile", "--locks", "all").returncode == Exit.LOST
    out = tmp_path / "out" / "may"
    done = archive.run("export", "report", "--month", "2026-05", "-O", out, "-o", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["data"]["complete"]) == ("archiver.export-report/v1", False)
    assert sorted(each.name for each in out.iterdir()) == FILES
    for each in answer["data"]["files"]:
        assert hashlib.sha256(Path(each["file"]).read_bytes()).hexdigest() == each["sha256"]
    data = json.loads((out / "report-2026-05.json").read_text())["data"]
    (account,) = data["accounts"]
    first = account["days"][0]
    assert (first["listed"], first["archived"], first["pending"], first["verdict"]) == (2, 1, 1, "never")
    assert {each["code"] for each in data["gaps"]} >= {"row_not_understood", "never_listed"}
    # What the reconciliation said is signed, and waits for the log that only the daemon keeps.
    assert all(each["events"]["opened"]["leaf"] is None for each in data["gaps"] if each["grade"] == "open")
    assert any(each.startswith("No checkpoint has been published") for each in data["not_checked"])
    page = (out / "report-2026-05.html").read_text()
    assert "never looked" in page
    assert "waiting for the log" in page
    assert (out / "report-2026-05.pdf").read_bytes().startswith(b"%PDF-")
    with (out / "report-2026-05-days.csv").open() as rows:
        assert [row["day"] for row in csv.DictReader(rows)][-1] == "2026-05-31"


def test_one_provider_in_one_form_replaces_the_earlier_one(archive: Archive, tmp_path: Path) -> None:
    asked = ("--month", "2026-05", "--provider", "vobiz", "--format", "json", "-O", tmp_path / "o")
    assert archive.run("export", "report", *asked).returncode == 0
    done = archive.run("export", "report", *asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Not complete: ")
    assert [each.name for each in (tmp_path / "o").iterdir()] == ["report-2026-05-vobiz.json"]


@pytest.mark.parametrize(
    "wrong", [("--month", "2026-5"), ("--month", "2099-01"), ("--month", "2026-05", "--format", "docx"), ()]
)
def test_what_cannot_be_meant_is_a_usage_error(archive: Archive, tmp_path: Path, wrong: tuple[str, ...]) -> None:
    assert archive.run("export", "report", *wrong, "-O", tmp_path / "o").returncode == Exit.USAGE
    assert not (tmp_path / "o").exists()


def test_provider_that_nobody_knows_is_not_a_clean_month(archive: Archive, tmp_path: Path) -> None:
    done = archive.run("export", "report", "--month", "2026-05", "--provider", "plivo", "-O", tmp_path / "o")
    assert done.returncode not in {0, Exit.USAGE}
    assert "no provider is called 'plivo'" in done.stderr
    assert not (tmp_path / "o").exists()


class Desk:
    """Two replicas of the archive, each with a state directory of its own, and what was announced."""

    def __init__(self, archive: Archive, clock: Clock) -> None:
        self.config = load(archive.config, resolve_secrets=True)
        self.folder = Path(self.config.state_dir) / "reports"
        self.engine = open_database(self.config)
        with self.engine.begin() as conn:
            open_log(conn, "test/custody", datetime(2026, 4, 30, tzinfo=UTC))  # since then there is an archive
        self.writer = Writer(self.engine)
        self.clock = clock
        self.providers = reading_providers(self.config, clock)
        self.told: list[Alert] = []

    def monthly(self, replica: str, state_dir: Path | None = None) -> Monthly:
        config = self.config.model_copy(update={"state_dir": str(state_dir or self.config.state_dir)})

        async def announce(alert: Alert) -> None:
            self.told.append(alert)

        return Monthly(config, self.engine, self.writer, self.providers, self.clock, replica, announce)

    async def close(self) -> None:
        for each in self.providers.values():
            await each.aclose()
        self.writer.close()
        self.engine.dispose()


async def test_month_that_is_over_is_reported_once_by_one_replica(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "t")
    clock = MovableClock(datetime(2026, 6, 1, 12, tzinfo=UTC))
    desk = Desk(archive, clock)
    try:
        await desk.monthly("a").tick()
        assert not (desk.folder / "report-2026-05.json").exists()
        desk.told.clear()
        clock.move(timedelta(days=1))
        await desk.monthly("a").tick()
        await desk.monthly("a").tick()
        await desk.monthly("b", tmp_path / "elsewhere").tick()
    finally:
        await desk.close()
    assert sorted(each.name for each in desk.folder.iterdir() if "2026-05" in each.name) == FILES
    assert not (tmp_path / "elsewhere").exists()
    (news,) = desk.told
    assert (news.kind, news.subject) == (Kind.REPORT_MONTHLY, "2026-05")
    assert "Not complete" in news.sentence


async def test_report_that_cannot_be_written_is_written_by_the_next_tick(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "t")
    desk = Desk(archive, MovableClock(datetime(2026, 6, 2, 12, tzinfo=UTC)))
    try:
        desk.folder.write_text("in the way")
        with pytest.raises(errors.DestinationError):
            await desk.monthly("a").tick()
        assert desk.told == []
        desk.folder.unlink()
        await desk.monthly("a").tick()
        assert len(desk.told) == 1
    finally:
        await desk.close()
    assert sorted(each.name for each in desk.folder.iterdir()) == FILES
