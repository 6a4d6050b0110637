"""Growth that cannot be undone has a budget: edits and odd rows of one provider and day; recordings are saved all the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from archiver.alerts.rule import Kind, Level, level_of
from archiver.completeness import observe
from archiver.completeness.gap import Code, Grade
from archiver.demo.simulators import Route
from archiver.demo.simulators.answer import Answer
from archiver.demo.simulators.faults import Effect
from archiver.ingest import daily_budget, rejects
from archiver.ingest.tables import reject
from archiver.recording import Reject
from tests.faults.rig import Rig, call, rig

DAY = timedelta(days=1)
MORNING = datetime(2026, 3, 2, 6, tzinfo=UTC)
EDITED = "recording.source_refreshed"


class Labels(Effect):
    """Every listed row has this label."""

    label: str | None = None

    def alter(self, answer: Answer) -> Answer:
        document = json.loads(answer.body)
        if self.label is not None:
            document["objects"] = [{**row, "label": self.label} for row in document["objects"]]
        return dataclasses.replace(answer, body=json.dumps(document).encode())


def labels(it: Rig) -> list[Any]:
    return [json.loads(row["metadata"]).get("label") for row in it.rows()]


def told(it: Rig) -> int:
    return sum(len(it.events(row, EDITED)) for row in it.rows())


def gaps(it: Rig) -> list[Any]:
    with it.engine.connect() as conn:
        return observe.edits(conn, it.provider.id)


def held(count: int) -> list[Any]:
    return [
        dataclasses.replace(call("vobiz", f"r{n}"), started_at=MORNING - timedelta(hours=2, minutes=n))
        for n in range(count)
    ]


async def test_edits_beyond_the_days_budget_wait_are_told_as_a_gap_and_recordings_are_saved_all_the_same(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daily_budget, "EDITS_A_DAY", 5)
    says = Labels()
    recordings = held(9)
    async with rig("vobiz", tmp_path, sqlite_url, recordings=recordings[:8], start=MORNING) as it:
        it.simulator.fail(Route.LIST, says, times=None)
        assert await it.poll()
        await it.work()
        assert (told(it), gaps(it)) == (0, [])
        says.label = "a"
        for _ in range(3):  # however often it is listed
            assert await it.poll()
        assert (told(it), sorted(map(str, labels(it)))) == (5, ["None"] * 3 + ["a"] * 5)
        (gap,) = gaps(it)
        assert (gap.code, gap.grade, gap.evidence["deferred"]) == (Code.EDITS_DEFERRED, Grade.OPEN, 3)
        assert level_of(gap.code) is Level.LATE

        says.label = "b"  # all eight, and a new recording beside them
        it.account.add(recordings[8])
        assert await it.poll()
        await it.work()
        assert [row["state"] for row in it.rows()] == ["archived"] * 9
        assert (told(it), gaps(it)[0].evidence["deferred"]) == (5, 8)

        says.label = "c"  # what came in between coalesces
        await it.pass_time(DAY)
        assert await it.poll()
        assert (told(it), labels(it).count("c"), gaps(it)[0].evidence["deferred"]) == (10, 5, 4)
        await it.pass_time(DAY)
        assert await it.poll()
        assert (told(it), labels(it), gaps(it)) == (14, ["c"] * 9, [])


async def test_edit_that_is_taken_back_before_it_was_told_is_no_gap_any_more(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daily_budget, "EDITS_A_DAY", 0)
    says = Labels()
    async with rig("vobiz", tmp_path, sqlite_url, recordings=held(2), start=MORNING) as it:
        it.simulator.fail(Route.LIST, says, times=None)
        for label, waiting in ((None, 0), ("a", 2), (None, 0)):
            says.label = label
            assert await it.poll()
            assert sum(each.evidence["deferred"] for each in gaps(it)) == waiting
        assert told(it) == 0


async def test_edits_of_one_recording_coalesce_within_a_day_and_its_newest_state_is_told(
    tmp_path: Path, sqlite_url: str
) -> None:
    says = Labels()
    async with rig("vobiz", tmp_path, sqlite_url, recordings=held(1), start=MORNING) as it:
        it.simulator.fail(Route.LIST, says, times=None)
        assert await it.poll()
        for n in range(10):
            says.label = str(n)
            assert await it.poll()
        assert (told(it), labels(it), gaps(it)) == (daily_budget.EDITS_EACH, ["3"], [])
        await it.pass_time(DAY)
        assert await it.poll()
        assert (told(it), labels(it)) == (daily_budget.EDITS_EACH + 1, ["9"])


async def test_an_id_with_ever_new_contents_has_a_few_of_them_a_day_and_says_that_more_wait(
    tmp_path: Path, sqlite_url: str
) -> None:
    """Each is a recording of its own, a row, a file and six events for ever."""

    class Lengths(Effect):
        seconds = 60

        def alter(self, answer: Answer) -> Answer:
            document = json.loads(answer.body)
            document["objects"] = [
                {**row, "recording_duration": str(self.seconds), "recording_duration_ms": f"{self.seconds}000.00000"}
                for row in document["objects"]
            ]
            return dataclasses.replace(answer, body=json.dumps(document).encode())

    says = Lengths()
    async with rig("vobiz", tmp_path, sqlite_url, recordings=held(1), start=MORNING) as it:
        it.simulator.fail(Route.LIST, says, times=None)
        for _ in range(24):
            says.seconds += 1
            assert await it.poll()
        assert len(it.rows()) == 1 + daily_budget.CONTENTS_EACH
        (gap,) = gaps(it)
        assert (gap.code, gap.evidence["deferred"]) == (Code.CONTENTS_DEFERRED, 1)
        assert level_of(gap.code) is Level.AT_RISK
        await it.pass_time(DAY)
        assert await it.poll()
        assert (len(it.rows()), gaps(it)) == (2 + daily_budget.CONTENTS_EACH, [])


async def test_audio_that_an_untold_edit_shows_is_fetched(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daily_budget, "EDITS_A_DAY", 0)

    class Silent(Effect):
        label = None
        silent: Callable[[dict[str, Any]], dict[str, Any]] = staticmethod(lambda row: {**row, "recording_url": None})

        def alter(self, answer: Answer) -> Answer:
            document = json.loads(answer.body)
            document["objects"] = [self.silent(row) for row in document["objects"]]
            return dataclasses.replace(answer, body=json.dumps(document).encode())

    async with rig("vobiz", tmp_path, sqlite_url, recordings=held(1), start=MORNING) as it:
        it.simulator.fail(Route.LIST, Silent(), times=None)
        assert await it.poll()
        assert [row["state"] for row in it.rows()] == ["waiting"]
        it.simulator.heal()
        await it.pass_time(timedelta(minutes=5))
        assert await it.poll()
        await it.settle()
        assert [row["state"] for row in it.rows()] == ["archived"]


async def test_row_that_is_odd_and_understood_in_turn_is_kept_no_more_often_than_a_day_allows(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejects, "KEPT_A_DAY", 5)
    async with rig("vobiz", tmp_path, sqlite_url, recordings=held(1), start=MORNING) as it:
        assert await it.poll()
        kept = 0
        for n in range(40):
            now = MORNING + timedelta(minutes=n)
            odd = Reject(b'{"recording_id":"x"}', "is odd", "x", "identity of x")

            def note(conn: Any, odd: Reject = odd, now: datetime = now) -> int:
                rejects.note(conn, "vobiz", "account", [odd], now)
                return int(bool(conn.execute(select(reject.c.raw)).scalar_one()))

            kept += await it.context.writer.run(note)
            await it.context.writer.run(lambda conn: conn.execute(reject.delete()))
        assert kept == 5
        assert await it.context.writer.run(lambda conn: note(conn, odd, MORNING + DAY)) == 1  # a new day


def test_gap_of_put_off_edits_raises_the_alert_that_its_runbook_page_tells_of() -> None:
    page = Path(__file__).parents[2] / "docs/runbook" / f"{Kind.GAP_OPEN.value}.md"
    assert f"`{Code.EDITS_DEFERRED.value}`" in page.read_text()
