"""`archiver gaps` with reasons and acknowledgements, and `archiver reconcile`, on a small real archive."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archiver.cli import COMMANDS
from archiver.errors import Exit
from tests.acceptance.test_cli_recordings import Archive, archive

__all__ = ["archive"]  # the fixture


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
    assert {each["acked_by"] for each in found["gaps"]} == {"r.ortega"}
    explained = archive.run("gaps", "explain", found["gaps"][0]["id"]).stdout
    assert "by r.ortega: before our time" in explained
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
