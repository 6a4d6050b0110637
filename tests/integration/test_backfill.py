"""Catching up on the past: what is new goes first, each time, and the past keeps to its share of the requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from archiver.demo.simulators import Redirect, Route, SimRecording
from archiver.schedule.window import holes
from tests.faults.rig import call, rig

BACK = timedelta(days=85)  # of Plivo's windows of 30 days at most: what is new, and three more


def calls_of_twelve_weeks() -> list[SimRecording]:
    return [call("plivo", f"call-{week}", ago=timedelta(days=7 * week, hours=1)) for week in range(12)]


async def test_what_is_new_is_listed_before_the_past_goes_on(tmp_path: Path, sqlite_url: str) -> None:
    """Without patience each poll covers the newest stretch and one window of the past, and says that something is left."""
    async with rig("plivo", tmp_path, sqlite_url, recordings=calls_of_twelve_weeks(), back=BACK) as it:
        known, names, done = [], set[str](), False
        for number in range(6):
            fresh = call("plivo", f"fresh-{number}", ago=timedelta(0))
            it.account.add(replace(fresh, started_at=it.clock.now() - timedelta(minutes=30)))
            done = await it.poller.poll(timedelta(0))
            names = {row["provider_recording_id"] for row in it.rows()}
            assert fresh.id in names
            known.append(len(names))
            if done:
                break
            await it.pass_time(timedelta(minutes=5))
        assert done
        assert number > 1, "the past took more than one poll"
        assert known == sorted(known)
        assert names >= {f"call-{week}" for week in range(12)}
        (span,) = it.covered()
        assert holes([span], replace(span, since=it.clock.now() - BACK + timedelta(hours=1))) == ()


async def test_a_window_that_cannot_be_listed_does_not_hide_those_behind_it(tmp_path: Path, sqlite_url: str) -> None:
    """It is the oldest and comes first in every poll; patience is over with it, and the next is listed anyhow."""
    async with rig("plivo", tmp_path, sqlite_url, recordings=calls_of_twelve_weeks(), back=BACK) as it:
        first = f"{it.clock.now() - BACK:%Y-%m-%d}"
        rule = it.simulator.fail(
            Route.LIST, Redirect("/elsewhere"), times=None, when=lambda ask: first in str(dict(ask.query))
        )
        for _ in range(5):
            await it.poller.poll(timedelta(0))
            await it.pass_time(timedelta(minutes=5))
        (span,) = it.covered()
        assert it.clock.now() - BACK < span.since < it.clock.now() - timedelta(days=50)
        assert rule.hits >= 5


async def test_with_patience_enough_one_poll_lists_everything(tmp_path: Path, sqlite_url: str) -> None:
    async with rig("plivo", tmp_path, sqlite_url, recordings=calls_of_twelve_weeks(), back=BACK) as it:
        assert await it.poller.poll(timedelta(minutes=5))
        assert len(it.rows()) == 12


async def test_pages_of_the_past_keep_their_distance_and_what_is_new_does_not_wait(
    tmp_path: Path, sqlite_url: str
) -> None:
    every = timedelta(seconds=0.3)
    async with rig("plivo", tmp_path, sqlite_url, recordings=calls_of_twelve_weeks(), back=BACK) as it:
        it.poller._plan = replace(it.poller._plan, backfill_every=every)
        before = it.clock.monotonic()
        assert await it.poll()
        took, asked = it.clock.monotonic() - before, len(it.simulator.seen(Route.LIST))
        assert took >= (asked - 1) * every.total_seconds() > 0.5

        seen = len(it.simulator.seen(Route.LIST))
        it.poller._plan = replace(it.poller._plan, backfill_every=timedelta(hours=1))
        await it.pass_time(timedelta(minutes=5))
        assert await it.poll(), "nothing of the past is due, so that nothing rests"
        assert len(it.simulator.seen(Route.LIST)) > seen
