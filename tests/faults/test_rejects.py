"""Rows that nobody understands: one row is one gap, however often it is listed, and none once it is understood."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.cli import invoke as run
from archiver.clock import SystemClock
from archiver.completeness import observe
from archiver.demo.simulators import Account, Route
from archiver.demo.simulators.fleet import CREDENTIALS
from archiver.demo.simulators.listing_faults import Rows
from archiver.demo.simulators.plivo import PlivoSimulator
from archiver.errors import ListingError
from archiver.ingest import rejects
from archiver.ingest.rejects import KEPT_A_DAY
from archiver.providers.rows import parse, reject_identity, sift
from archiver.recording import Reject
from tests.acceptance.archive import make_archive
from tests.faults.rig import Rig, call, rig

WHEN = "2026-11-20 10:00:00+00:00"
UNUSABLE: Mapping[str, dict[str, Any]] = {
    "an id that cannot be asked for": {"recording_id": "..", "add_time": WHEN},
    "no id, a call and a time": {"recording_id": None, "call_uuid": "c-1", "add_time": WHEN},
    "no id, a time alone": {"add_time": WHEN, "recording_type": "normal"},
    "nothing that tells": {"recording_type": "normal", "conference_name": "x"},
}


def changing() -> Any:
    """What ticks, is signed anew, or tells of the request, at each listing."""
    number = itertools.count()

    def change(row: dict[str, Any]) -> dict[str, Any]:
        n = next(number)
        return row | {
            "api_id": f"a-{n}", "recording_storage_duration": n, "monthly_recording_storage_amount": f"0.{n:05}",
            "recording_url": f"https://media.plivo.com/x.mp3?Expires={n}&Signature=s{n}", "generated_at": n, "request_id": str(n),
        }  # fmt: skip

    return change


def gaps(it: Rig) -> list[Any]:
    with it.engine.connect() as conn:
        return observe.rejects(conn, it.provider.id)


@pytest.mark.parametrize("name", UNUSABLE)
async def test_row_whose_figures_change_is_one_reject_and_one_gap(name: str, tmp_path: Path, database_url: str) -> None:
    change = changing()
    async with rig("plivo", tmp_path, database_url, recordings=[call("plivo", "good")]) as it:
        it.simulator.fail(Route.LIST, Rows(lambda rows: [*rows, change(UNUSABLE[name])] if rows else rows), times=None)
        assert await it.poll()
        (first,) = gaps(it)
        for _ in range(3):
            await it.pass_time(timedelta(minutes=10))
            assert await it.poll()
        (kept,) = it.rejects()
        (gap,) = gaps(it)
        assert (gap.subject, gap.code, gap.evidence) == (first.subject, first.code, first.evidence)
        assert kept["last_seen_at"] > kept["first_seen_at"]


async def test_rows_that_differ_are_told_apart(tmp_path: Path, sqlite_url: str) -> None:
    change = changing()
    rows = [
        *UNUSABLE.values(),
        {**UNUSABLE["no id, a time alone"], "add_time": "2026-11-20 10:00:01+00:00"},
        {"note": "z"},
    ]
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "good")]) as it:
        it.simulator.fail(Route.LIST, Rows(lambda known: [*known, *map(change, rows)] if known else known), times=None)
        for _ in range(3):
            assert await it.poll()
        assert len(it.rejects()) == len(gaps(it)) == len(rows)


async def test_gap_of_a_row_closes_when_the_row_is_understood(tmp_path: Path, sqlite_url: str) -> None:
    """Named by its id, or by its call and time where the id was what was wrong."""
    held = [call("plivo", "one"), call("plivo", "two", ago=timedelta(hours=3))]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held) as it:

        def spoil(rows: list[Any]) -> list[Any]:
            return [row | {"recording_id": None} for row in rows if row["recording_id"] == "one"]

        it.simulator.fail(Route.LIST, Rows(spoil), times=None)
        assert await it.poll()
        by_id = Reject(b"{}", "was beyond an earlier version", "two", reject_identity({}, "two", ""))
        await it.context.writer.run(lambda conn: rejects.note(conn, "case", "account", [by_id], it.clock.now()))
        assert len(it.rejects()) == len(gaps(it)) == 2
        it.simulator.heal()
        await it.pass_time(timedelta(minutes=10))
        assert await it.poll()
        await it.work()
        assert (it.rejects(), gaps(it), it.status().rejects) == ([], [], 0)
        assert it.digests() == it.truth()


async def test_flood_of_rows_is_kept_in_part_and_told_in_full(tmp_path: Path, database_url: str) -> None:
    """Each kept row is an event in the locked log: what a provider can make us write in a day has an end."""
    number = itertools.count()
    flood = KEPT_A_DAY + 50
    async with rig("vobiz", tmp_path, database_url, recordings=[call("vobiz", "good")]) as it:

        def pour(rows: list[Any]) -> list[Any]:
            return (
                [*rows, *({"call_uuid": f"c-{next(number)}", "note": "x" * 1000} for _ in range(flood))]
                if rows
                else rows
            )

        it.simulator.fail(Route.LIST, Rows(pour), times=None)
        for _ in range(3):
            assert await it.poll()
        found = gaps(it)
        assert len(found) == KEPT_A_DAY + 1
        (more,) = [each for each in found if each.subject.startswith("reject:more@")]
        rows = 3 * flood - KEPT_A_DAY
        assert more.detail.startswith(f"{rows} more listed rows were not understood on ")
        assert f"({3 * flood} in all)" in more.detail
        assert sum(len(each["raw"]) for each in it.rejects()) < KEPT_A_DAY * 1200
        assert it.status().rejects == 3 * flood


async def test_command_shows_one_gap_after_any_number_of_sweeps(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known, change = CREDENTIALS["plivo"], changing()
    account = Account([call("plivo", "good")])
    async with PlivoSimulator(account, SystemClock(), auth_id=known["auth_id"], auth_token=known["auth_token"]) as sim:
        odd = UNUSABLE["an id that cannot be asked for"]
        sim.fail(Route.LIST, Rows(lambda rows: [*rows, change(odd)] if rows else rows), times=None)
        made = make_archive(tmp_path, {"plivo": sim}, sqlite_url, "[{id: primary, kind: directory, path: copies}]")
        for _ in range(3):
            await made.sweep()

    capsys.readouterr()
    await asyncio.to_thread(run, ["-c", str(made.path), "gaps", "list", "-o", "json"])
    told = json.loads(capsys.readouterr().out)["data"]
    assert [each["code"] for each in told["gaps"] if each["code"] == "row_not_understood"] == ["row_not_understood"]
    assert len(told["rejects"]) == 1


@given(st.binary(max_size=300))
def test_every_row_has_one_name(raw: bytes) -> None:
    """Total and deterministic, whatever stands in it."""
    try:
        row = parse(raw)
    except ListingError:
        return
    names = {reject_identity(row, None, "is odd") for _ in range(2)}
    assert len(names) == 1
    page = sift([row], lambda _: ())
    assert all(each.identity for each in page.rejects)
