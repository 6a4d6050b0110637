"""The dead man's ping: sent for work done and for nothing else."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from archiver import logs
from archiver.alerts.alarm import Alarm
from archiver.alerts.facts import Facts, ProviderFacts, StorageFacts
from archiver.alerts.heartbeat import Heartbeat, LogTail, due, follow_log
from archiver.alerts.post import Post
from archiver.alerts.rule import Thresholds
from archiver.clock import SystemClock
from archiver.recording import Secret
from tests.http_servers import Script, Server, answer, says, serve

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OK = says(answer(200))


class Wall(SystemClock):
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at


class Counted:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def notified(self, channel: str, outcome: str) -> None:
        self.seen.append((channel, outcome))


@asynccontextmanager
async def heart(
    script: Script = OK, tail: LogTail | None = None
) -> AsyncIterator[tuple[Heartbeat, Server, Wall, Counted]]:
    async with serve(script) as server:
        wall, counted = Wall(), Counted()
        post = Post("heartbeat", Secret(f"{server.origin}/ping/s3cret"), wall, allow_http=True, longest=2 * MINUTE / 60)
        beat = Heartbeat(post, 5 * MINUTE, wall, counted, tail)
        yield beat, server, wall, counted
        await beat.aclose()


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        ({}, False),
        ({"a": None}, False),
        ({"a": START}, False),
        ({"a": START + MINUTE}, True),
        ({"a": START + MINUTE, "b": START - MINUTE}, False),
        ({"a": START + MINUTE, "b": None}, False),
        ({"a": START + MINUTE, "b": START + MINUTE}, True),
    ],
)
def test_a_ping_needs_a_finished_sweep_of_every_provider(finished: dict[str, datetime | None], expected: bool) -> None:
    assert due(finished, START) is expected


async def test_it_is_sent_after_each_finished_sweep_but_not_more_often_than_configured() -> None:
    async with heart() as (beat, server, wall, counted):
        sent = []
        for minute in range(30):
            wall.at = START + minute * MINUTE
            finished = START + (minute // 10) * 10 * MINUTE + MINUTE / 2  # the last poll of every ten minutes
            sent += [minute] if await beat.tick({"acme": finished if finished < wall.at else None}, proven=True) else []
    assert sent == [1, 11, 21]
    assert [asked.line.split(" ")[0] for asked in server.asked] == ["GET"] * 3
    assert counted.seen == [("heartbeat", "sent")] * 3


async def test_frequent_sweeps_do_not_make_frequent_pings() -> None:
    async with heart() as (beat, server, wall, _):
        for minute in range(1, 16):
            wall.at = START + minute * MINUTE
            await beat.tick({"acme": wall.at - timedelta(seconds=1)}, proven=True)
    assert len(server.asked) == 3


async def test_an_archiver_that_polls_nothing_or_stores_nothing_is_silent() -> None:
    async with heart() as (beat, server, wall, _):
        for minute in range(1, 60):
            wall.at = START + minute * MINUTE
            assert not await beat.tick({"acme": START + MINUTE, "other": None}, proven=True)
            assert not await beat.tick({"acme": wall.at - timedelta(seconds=1)}, proven=False)
            assert not await beat.tick({}, proven=True)
    assert server.asked == []


async def test_what_an_earlier_process_finished_does_not_count() -> None:
    async with heart() as (beat, server, wall, _):
        wall.at = START + MINUTE
        assert not await beat.tick({"acme": START - MINUTE}, proven=True)
    assert server.asked == []


@pytest.mark.parametrize("script", [says(answer(500)), says(b"", close=True)], ids=["refused", "answer lost"])
async def test_a_ping_that_failed_is_sent_again_by_the_next_tick_and_counted(script: Script) -> None:
    async with heart(script) as (beat, server, wall, counted):
        wall.at = START + 2 * MINUTE
        with structlog.testing.capture_logs() as logged:
            assert not await beat.tick({"acme": START + MINUTE}, proven=True)
            assert not await beat.tick({"acme": START + MINUTE}, proven=True)
    assert len(server.asked) >= 2
    assert counted.seen == [("heartbeat", "failed")] * 2
    assert "s3cret" not in str(logged)
    assert [each["event"] for each in logged] == ["heartbeat.failed"] * 2


async def test_the_log_tail_is_what_left_the_process_redacted_and_bounded() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure("json", "info", io.StringIO())
        tail = follow_log(1_000)
        async with heart(OK, tail) as (beat, server, wall, _):
            for number in range(50):
                structlog.get_logger("archiver.test").info("poll.completed", number=number, api_key="api_key=s3cret")
            wall.at = START + MINUTE
            assert await beat.ping()
        assert tail not in root.handlers
    finally:
        root.handlers[:], root.level = before, level
        structlog.reset_defaults()
    (asked,) = server.asked
    body = asked.raw.partition(b"\r\n\r\n")[2]
    assert asked.line.startswith("POST /ping/")
    assert b'"number": 49' in body
    assert b'"number": 1,' not in body
    assert len(body) <= 1_000
    assert b"s3cret" not in body


def test_one_line_longer_than_the_tail_is_cut() -> None:
    tail = LogTail(100)
    tail.emit(logging.makeLogRecord({"msg": "x" * 500}))
    assert len(tail.read()) == 100


# --- the daemon's tick ------------------------------------------------------------------------------------------------


async def test_a_tick_pings_for_a_sweep_that_was_finished_and_a_required_storage_that_is_trusted() -> None:
    async with heart() as (beat, server, wall, _):
        polled = ProviderFacts("acme", poll_succeeded_at=START + MINUTE)
        unproven = StorageFacts("primary", required=True)
        facts = Facts(START, START, providers=(polled,), storages=(unproven,))

        async def read() -> Facts:
            return facts

        alarm = Alarm(read, None, beat, wall, Thresholds(), first=timedelta(0))
        wall.at = START + 2 * MINUTE
        await alarm.tick()
        assert server.asked == []
        facts = replace(facts, storages=(replace(unproven, trusted=True, probed_at=START),))
        await alarm.tick()
        await alarm.tick()
        assert len(server.asked) == 1


async def test_a_fresh_process_looks_around_before_it_is_judged() -> None:
    asked = 0

    async def read() -> Facts:
        nonlocal asked
        asked += 1
        return Facts(START, START)

    async with heart() as (beat, _server, wall, _counted):
        await Alarm(read, None, beat, wall, Thresholds(), first=timedelta(hours=1)).tick()
        assert asked == 0
        await Alarm(read, None, None, wall, Thresholds(), first=timedelta(0)).tick()
        assert asked == 0, "nobody is to be told"


@pytest.mark.parametrize("complete", [True, False])
async def test_a_single_sweep_pings_only_when_it_was_complete(complete: bool) -> None:
    async def read() -> Facts:
        return Facts(START, START)

    async with heart() as (beat, server, wall, _):
        await Alarm(read, None, beat, wall, Thresholds()).swept(complete=complete)
    assert len(server.asked) == int(complete)


async def test_a_complete_sweep_does_not_ping_while_something_is_at_risk() -> None:
    async def read() -> Facts:
        return Facts(START, START, storages=(StorageFacts("primary", required=True),))

    async with heart() as (beat, server, wall, _):
        await Alarm(read, None, beat, wall, Thresholds()).swept(complete=True)
    assert server.asked == []
