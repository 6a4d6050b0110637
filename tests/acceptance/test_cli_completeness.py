"""`archiver gaps` with reasons and acknowledgements, and `archiver reconcile`, on a small real archive."""

from __future__ import annotations

import json
import os
import pwd
from typing import Any

import pytest

from archiver.cli import COMMANDS
from archiver.database import create_engine
from archiver.errors import Exit
from tests.acceptance.test_cli_recordings import Archive, archive

__all__ = ["archive"]  # the fixture

WHO = f"r.ortega (claimed by account {pwd.getpwuid(os.getuid()).pw_name}"


@pytest.fixture(autouse=True)
def _registered() -> None:
    assert "reconcile" in COMMANDS


def reconciled(archive: Archive) -> tuple[int, dict[str, Any]]:
    done = archive.run("reconcile", "--locks", "all", "-o", "json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["data"]


def gaps(archive: Archive) -> list[dict[str, Any]]:
    _, found = archive.data("gaps", "list")
    assert isinstance(found, dict)
    listed: list[dict[str, Any]] = found["gaps"]
    return listed


def test_gaps_have_reasons_before_and_an_id_after_they_are_registered(archive: Archive) -> None:
    assert {(each["code"], each["id"]) for each in gaps(archive)} == {
        ("row_not_understood", None),
        ("never_listed", None),
        ("length_unverified", None),
    }
    code, found = reconciled(archive)
    assert code == Exit.LOST
    assert [each["storage"] for each in found["runs"]] == ["primary", "custody"]
    assert [each["findings"] for each in found["runs"]] == [{}, {}]
    assert all(each["id"] and each["opened_at"] for each in gaps(archive))
    assert "never listed" in archive.run("gaps", "list").stdout


def test_acknowledged_gap_stays_on_record_and_no_longer_fails_the_command(archive: Archive) -> None:
    reconciled(archive)
    for each in gaps(archive):
        silent = archive.run("gaps", "ack", each["id"])
        assert silent.returncode == Exit.USAGE
        done = archive.run("gaps", "ack", each["id"], "--reason", "before our time", "--actor", "r.ortega")
        assert done.returncode == 0, done.stderr
    code, found = reconciled(archive)
    assert code == Exit.OK
    assert all(each["acked_by"].startswith(WHO) for each in found["gaps"])
    explained = archive.run("gaps", "explain", found["gaps"][0]["id"]).stdout
    assert f"by {WHO}" in explained
    assert "): before our time" in explained
    assert archive.run("gaps", "ack", "nothing", "--reason", "x").returncode != 0


def test_lost_object_is_an_integrity_failure_with_its_recording(archive: Archive) -> None:
    for each in archive.objects():
        each.unlink()
    code, found = reconciled(archive)
    assert code == Exit.INTEGRITY
    (lost,) = [each for each in found["gaps"] if each["code"] == "missing_here"]
    assert lost["evidence"]["recording"] == f"rec:{archive.archived}"
    assert lost["provider"] == "vobiz"
    assert archive.run("reconcile").stdout.count("missing_here") >= 1
    assert archive.run("reconcile", "--storage", "nowhere").returncode == Exit.USAGE


def test_explaining_names_what_runs_out_when_and_who_says_so(archive: Archive) -> None:
    _, found = archive.data("gaps", "explain", archive.waiting)
    assert isinstance(found, dict)
    (clock,) = found["clocks"]
    assert (clock["clock"], clock["source"], clock["fatal"]) == ("retention", "contract", True)
    said = archive.run("gaps", "explain", archive.waiting).stdout
    assert f"retention clock: {clock['at']} (contract): the recording is destroyed then" in said
    assert "clock:" not in archive.run("gaps", "explain", archive.archived).stdout, "it is safe"


def test_verification_is_on_record_for_status_and_alerts_until_everything_is_verified_anew(archive: Archive) -> None:
    """A clean look at all, a byte gone, a look that finds it, and the same with everything back."""

    def integrity() -> dict[str, Any]:
        _, found = archive.data("status")
        assert isinstance(found, dict)
        shown: dict[str, Any] = found["integrity"]
        return shown

    assert integrity() == {"last": None, "last_full": None, "failures": {}}
    assert archive.run("verify", "--all").returncode == Exit.OK
    first = integrity()
    assert (first["last"]["depth"], first["last"]["recordings"], first["last"]["objects_read"]) == ("full", 1, 1)
    (copy,) = archive.objects()
    kept = copy.read_bytes()
    copy.chmod(0o600)
    copy.write_bytes(kept[:-1] + b"x")
    assert archive.run("verify", archive.archived).returncode == Exit.INTEGRITY
    second = integrity()
    assert (second["last"]["depth"], second["last_full"]) == ("named", first["last_full"])
    assert second["failures"] == second["last"]["failures"] != {}
    nagios = archive.run("status", "--nagios")
    assert (nagios.returncode, nagios.stdout[:27]) == (2, "ARCHIVER CRITICAL - INTEGRI")
    assert archive.run("status", "--check").returncode == 65
    copy.write_bytes(kept)
    assert archive.run("verify", "--all").returncode == Exit.OK
    assert integrity()["failures"] == {}


def test_verification_that_cannot_be_recorded_is_done_all_the_same_and_says_so(archive: Archive) -> None:
    engine = create_engine("sqlite:///archiver.db", archive.folder / "state")
    with engine.begin() as conn:
        conn.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON reconciliation BEGIN SELECT RAISE(ABORT, 'attempt to write'); END"
        )
    engine.dispose()
    done = archive.run("verify", "--all")
    assert done.returncode == Exit.OK
    assert "leaves no record" in done.stderr
    assert "never in full" in archive.run("status").stdout
