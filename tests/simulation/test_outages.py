"""Outages, floods, wrong clocks, listings that forget: said, and nothing is lost that was still to be had."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.alerts.rule import Thresholds
from archiver.completeness import holdings
from archiver.demo.simulators import EmptyList, JsonChange, Route, ServerError, SimRecording, month_of_calls
from archiver.recording import Window
from archiver.schedule.deadline import ProviderRetention
from archiver.schedule.window import holes
from tests.contract.provider_cases import sounds
from tests.faults.rig import Rig, rig
from tests.simulation.instants import INSTANTS, beginning_at
from tests.simulation.month import CYCLE, Month
from tests.simulation.test_month import KINDS, WITH_TOTALS, without

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
KEPT = 60 * DAY
LEAD = Thresholds().warning


def calls_of(kind: str, days: float, count: int, *, since: datetime, seed: int = 5) -> list[SimRecording]:
    span = timedelta(days=days)
    found = month_of_calls(
        kind,  # type: ignore[arg-type]
        seed=seed, count=count, audio=sounds("voicemail-128k-mono-44100"), until=since + span, days=round(days),
    )  # fmt: skip
    return [replace(each, owner=f"{number % 3:032x}" if kind == "kazoo" else "") for number, each in enumerate(found)]


@asynccontextmanager
async def account(
    kind: str, folder: Path, url: str, start: datetime, *, days: int, calls: int, kept: timedelta = KEPT, **options: Any
) -> AsyncIterator[Month]:
    """`calls` over the `days` from `start`, of which the provider keeps each for so long; polled for the first time."""
    back = timedelta(days=3650 if kind == "vobiz" else 29)
    retention = ProviderRetention("test", kept)
    recordings = calls_of(kind, days, calls, since=start)
    async with rig(
        kind, folder, url, start=start, recordings=recordings, back=back, retention=retention, **options
    ) as it:
        it.account.retention = kept
        await it.poll()
        yield Month(it, kind)


def had(it: Rig) -> set[str]:
    """What the provider has that can be heard now."""
    now = it.clock.now()
    return {each.id for each in it.account.visible(now) if it.account.audible(each, now)}


def archived(it: Rig) -> set[str]:
    return {row["provider_recording_id"] for row in it.rows() if row["state"] == "archived"}


async def polled_whole(it: Rig) -> None:
    """A poll succeeds, and leaves no hole from the beginning up to itself."""
    now = it.own.now()
    assert await it.poll()
    earliest = it.poller._plan.earliest
    assert earliest is not None
    whole = Window(max(earliest, it.provider.facts.earliest), now)
    assert [hole for scope in it.provider.scopes() for hole in holes(it.covered(scope), whole)] == []


OUTAGES = (("we", 8), ("we", 31), ("we", 91), ("the provider", 91))


# --- outages --------------------------------------------------------------------------------------------------------


@beginning_at("who,days,kind", [(who, days, kind) for who, days in OUTAGES for kind in KINDS])
async def test_outage_closes_without_a_hole_and_loses_nothing_that_was_still_to_be_had(
    kind: str, who: str, days: int, start: datetime, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.ingest.poll._TRIES", 1)  # what a real poll repeats within seconds
    async with account(kind, tmp_path, sqlite_url, start, days=days + 2, calls=24) as it:
        assert await it.cycle() == set()
        if who == "we":
            await it.it.pass_time(days * DAY)
        else:
            it.it.simulator.fail(None, ServerError(), times=None)
            for _ in range(3):
                await it.it.pass_time(days * DAY / 3)
                assert not await it.it.poll()
                await it.it.work()
            assert it.it.status().poll_error is not None
            it.it.simulator.heal()
        wanted = had(it.it) | archived(it.it)
        await polled_whole(it.it)
        await it.it.settle()
        assert wanted <= archived(it.it)
        assert not await it.cycle() & {"never_listed", "not_fetched", "suspicious_empty"}
        assert had(it.it) <= archived(it.it)
        assert all(row["state"] in {"archived", "absent", "gone"} for row in it.it.rows())


# --- a flood --------------------------------------------------------------------------------------------------------


def optimum(arrivals: list[datetime], kept: timedelta, slots: list[datetime]) -> int:
    """The most that any order saves, when each slot saves one of those that have come and are still kept."""
    waiting, saved = sorted(arrivals), 0
    for slot in slots:
        waiting = [each for each in waiting if each + kept > slot]
        if waiting and waiting[0] <= slot:
            waiting.pop(0)  # of equal sizes, the one that goes first
            saved += 1
    return saved


@beginning_at()
async def test_flood_is_told_in_time_and_no_order_would_have_saved_more(
    start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    """Ten times the usual calls for two days, when we can fetch four in eight hours: the first is lost days later."""
    kept, each_step, step, kind = 4 * DAY, 4, 8 * HOUR, "kazoo"
    async with account(kind, tmp_path, sqlite_url, start, days=10, calls=40, kept=kept, concurrency=1) as it:
        now = it.it.clock.now()
        it.it.account.add(*calls_of(kind, 2, 80, since=now + DAY, seed=6))
        slots: list[datetime] = []
        alarm_at: datetime | None = None
        lost_at: datetime | None = None
        for _ in range(int(9 * DAY / step)):
            await it.it.pass_time(step)
            await it.it.poll()
            now = it.it.clock.now()
            with it.it.engine.connect() as conn:
                ahead = holdings.forecast_of(conn, "case", now, each_step / step.total_seconds())
            if alarm_at is None and ahead.slack is not None and ahead.slack < LEAD:
                alarm_at = now
            safe = archived(it.it)
            while len(archived(it.it)) < len(safe) + each_step and await it.it.worker.fill():
                await it.it.worker.changed()
            slots += [now] * each_step
            safe = archived(it.it)
            pending = [each for each in it.it.account.recordings if each.listed_at <= now and each.id not in safe]
            late = [each.started_at + kept for each in pending if each.started_at + kept <= now]
            lost_at = min([*late, lost_at] if lost_at else late, default=None)
        assert alarm_at is not None
        assert lost_at is not None, "no flood"
        assert lost_at - alarm_at >= LEAD
        best = optimum([each.listed_at for each in it.it.account.recordings], kept, slots)
        assert len(archived(it.it)) == best


# --- late appearance ------------------------------------------------------------------------------------------------


@beginning_at("kind", KINDS)
async def test_what_the_listing_shows_days_and_weeks_late_is_found(
    kind: str, start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    """Within the overlap by the next poll, within a week by the next day's deep walk, and beyond by the next week's."""
    async with account(kind, tmp_path, sqlite_url, start, days=30, calls=60) as it:
        names = [each.id for each in sorted(it.it.account.recordings, key=lambda each: each.started_at)[:3]]
        it.it.simulator.fail(Route.LIST, without(*names), times=None)
        await it.it.pass_time(4 * DAY)  # the three are of the first days
        await it.it.poll()
        await it.it.pass_time(DAY)
        await it.it.poll()
        assert not archived(it.it) & set(names)
        it.it.simulator.heal()
        it.it.simulator.fail(Route.LIST, without(*names[1:]), times=None)
        for _ in range(2):
            await it.it.pass_time(CYCLE + HOUR)
            await it.it.poll()
        await it.it.work()
        assert archived(it.it) & set(names) == {names[0]}
        await it.it.pass_time(15 * DAY)
        await it.it.poll()
        it.it.simulator.heal()
        for _ in range(8):
            await it.it.pass_time(DAY)
            await it.it.poll()
        await it.it.work()
        assert set(names) <= archived(it.it)


# --- clocks that jump -----------------------------------------------------------------------------------------------

JUMPS = {"+1 h": HOUR, "-1 h": -HOUR, "+10 y": 3653 * DAY, "-1 y": -365 * DAY}


@beginning_at(
    "kind,jump",
    [("justcall", "+1 h"), ("kazoo", "-1 h"), *((kind, jump) for kind in KINDS for jump in ("+10 y", "-1 y"))],
)
async def test_clock_that_jumps_is_said_and_loses_nothing(
    kind: str, jump: str, start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    """Wrong for half a day, right again, and then eight days of standstill: what was covered by a wrong clock is not believed."""
    async with account(kind, tmp_path, sqlite_url, start, days=10, calls=24) as it:
        assert await it.cycle() == set()
        await it.it.poll()
        it.it.own.off = JUMPS[jump]
        await it.it.poll()
        await it.watch.look(it.watched())
        told = {str(row["code"]) for row in it.gaps()}
        await it.it.pass_time(CYCLE)
        await it.it.poll()
        await it.it.work()
        await it.watch.look(it.watched())
        told |= {str(row["code"]) for row in it.gaps()}
        it.it.own.off = timedelta(0)
        await it.watch.look(it.watched())
        told |= {str(row["code"]) for row in it.gaps()}
        assert "clock_jumped" in told
        await it.it.pass_time(8 * DAY)
        await polled_whole(it.it)
        await it.it.settle()
        assert had(it.it) == archived(it.it)


# --- listings that forget, totals that lie --------------------------------------------------------------------------


# A deep walk is made in pieces. A piece of which nothing is left is not believed at all; one that shows less than before is said
# to have forgotten. Which of the two happens hangs on where the weekly walk's pieces meet, and either raises the same alert.
FORGOTTEN = {"history_gone", "suspicious_empty"}


@beginning_at("kind", ["kazoo", "plivo"], runs=2 * len(INSTANTS))
async def test_history_that_disappears_is_said_and_what_is_archived_stays(
    kind: str, start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    """All of it; then what is older than the overlap, which only deep walks show; then nothing is wrong again."""
    async with account(kind, tmp_path, sqlite_url, start, days=8, calls=60) as it:
        assert await it.days(5) == set()
        safe = archived(it.it)
        it.it.simulator.fail(Route.LIST, EmptyList(), times=None)
        assert "suspicious_empty" in await it.cycle()
        it.it.simulator.heal()
        assert not await it.cycle() & {"suspicious_empty", "history_gone"}
        now = it.it.clock.now()
        old = {each.id for each in it.it.account.recordings if 2 * DAY < now - each.started_at < 6 * DAY}
        assert len(old) > 8
        it.it.simulator.fail(Route.LIST, without(*old), times=None)
        assert FORGOTTEN & (await it.cycle() | await it.cycle() | await it.cycle())
        it.it.simulator.heal()
        await it.cycle()
        await it.cycle()
        assert await it.cycle() == set()
        assert safe <= archived(it.it)
        assert had(it.it) <= archived(it.it)


def counted(by: int) -> JsonChange:
    """Every total in the document, off by so many."""

    def change(document: Any) -> Any:
        if isinstance(document, dict):
            named = {"total_count", "total", "count"}
            return {
                name: value + by if name in named and isinstance(value, int) else change(value)
                for name, value in document.items()
            }
        return document

    return JsonChange(change)


@beginning_at("kind,by,code", [*((kind, 2, "never_listed") for kind in WITH_TOTALS), ("plivo", -1, "total_differs")])
async def test_total_that_lies_is_said_either_way_and_loses_nothing(
    kind: str, by: int, code: str, start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    async with account(kind, tmp_path, sqlite_url, start, days=5, calls=50) as it:
        assert await it.days(1) == set()
        it.it.simulator.fail(Route.LIST, counted(by), times=None)
        assert code in await it.cycle() | await it.cycle()
        it.it.simulator.heal()
        await it.cycle()
        assert await it.cycle() == set()
        assert had(it.it) == archived(it.it)


@beginning_at("kind", ["justcall", "vobiz"])
async def test_listing_that_shrinks_by_a_little_is_watched_and_by_much_is_an_alarm(
    kind: str, start: datetime, tmp_path: Path, sqlite_url: str
) -> None:
    async with account(kind, tmp_path, sqlite_url, start, days=3, calls=110) as it:
        assert await it.days(1) == set()
        recent = [row["provider_recording_id"] for row in it.it.rows() if it.recent(row)]
        assert len(recent) >= 5
        it.it.simulator.fail(Route.LIST, without(recent[-1]), times=None)
        assert "no_longer_listed" in await it.cycle()
        it.it.simulator.heal()
        since = it.it.clock.now() - 20 * HOUR
        recent = [row["provider_recording_id"] for row in it.it.rows() if row["call_started_at"] > since]
        it.it.simulator.fail(Route.LIST, without(*recent), times=None)
        assert {"history_gone", "suspicious_empty"} & await it.cycle()
        it.it.simulator.heal()
        assert not {"history_gone", "suspicious_empty"} & await it.cycle()
        assert had(it.it) <= archived(it.it)
