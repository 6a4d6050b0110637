"""Telling, on both databases and to real servers: never zero times, twice only when an answer was lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, insert, select, update
from structlog.testing import capture_logs

from archiver.alerts import state
from archiver.alerts.channel.webhook import Webhook
from archiver.alerts.dispatch import CLAIM, Dispatch
from archiver.alerts.facts import Facts, ProviderFacts, StorageFacts
from archiver.alerts.judgement import judge
from archiver.alerts.post import Post
from archiver.alerts.route import SETTLE, Route
from archiver.alerts.rule import Alert, Kind, Thresholds
from archiver.alerts.tables import alert_state
from archiver.clock import SystemChance, SystemClock
from archiver.database import Writer
from archiver.errors import UnavailableError
from archiver.recording import Secret
from tests.http_servers import Asked, Script, Server, answer, says, serve

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PROVED = StorageFacts("primary", required=True, trusted=True, probed_at=START)
CALM = Facts(now=START, started_at=START, storages=(PROVED,), host="h1")
DOWN = replace(CALM, storages=(replace(PROVED, trusted=False, doubt="canary deleted while locked"),))
LOST = replace(DOWN, providers=(ProviderFacts("acme", gaps={"gone_at_provider": 1}, poll_succeeded_at=START),))


class Time:
    """The database's clock, where the test wants it."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self, _conn: Connection) -> datetime:
        return self.at


class Counted:
    """What was counted."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()

    def notified(self, channel: str, outcome: str) -> None:
        self.seen[channel, outcome] += 1


class Archive:
    """One database, any number of replicas that tell."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.time, self.counted = engine, Time(), Counted()
        self.made: list[tuple[Dispatch, Writer]] = []

    def replica(self, *routes: Route, **channels: Server) -> Dispatch:
        writer = Writer(self.engine)
        made = Dispatch(
            "acme-prod",
            [Webhook(name, _post(name, server)) for name, server in channels.items()],
            routes,
            Thresholds(),
            writer=writer,
            chance=SystemChance(),
            telemetry=self.counted,
            now=self.time,
        )
        self.made.append((made, writer))
        return made

    def rows(self) -> list[object]:
        with self.engine.connect() as conn:
            return list(state.entries(conn))

    async def close(self) -> None:
        for dispatch, writer in self.made:
            await dispatch.aclose()
            writer.close()


def _post(name: str, server: Server) -> Post:
    url = Secret(f"{server.origin}/{name}")
    return Post(name, url, SystemClock(), allow_http=True, longest=timedelta(seconds=2))


@pytest.fixture
async def archive(database: Engine) -> AsyncIterator[Archive]:
    made = Archive(database)
    yield made
    await made.close()


def told(server: Server) -> list[tuple[str, str]]:
    """Every (status, name) that the server was sent, in order."""
    bodies = [json.loads(asked.raw.partition(b"\r\n\r\n")[2]) for asked in server.asked]
    return [(each["status"], each["name"]) for body in bodies for each in body["alerts"]]


def ids(server: Server) -> list[str]:
    return [asked.headers["idempotency-key"] for asked in server.asked]


class Turns:
    """A script that answers differently each time; the last answer stays."""

    def __init__(self, *scripts: Script) -> None:
        self.left = list(scripts)

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        script = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        await script(asked, writer)


OK = says(answer(200))


async def test_everything_that_is_due_on_a_channel_is_one_message(archive: Archive) -> None:
    async with serve(OK) as ops:
        dispatch = archive.replica(ops=ops)
        firing = await dispatch.tick(LOST)
    assert {each.kind for each in firing} == {Kind.RECORDING_LOST, Kind.STORAGE_NOT_TRUSTED}
    assert len(ops.asked) == 1
    assert sorted(told(ops)) == [("firing", "recording.lost"), ("firing", "storage.not_trusted")]
    assert archive.counted.seen == {("ops", "sent"): 1}


async def test_a_restart_tells_nothing_twice_and_goes_on_with_the_repetitions(archive: Archive) -> None:
    async with serve(OK) as ops:
        await archive.replica(ops=ops).tick(DOWN)
        archive.time.at += 30 * MINUTE
        await archive.replica(ops=ops).tick(DOWN)
        assert len(ops.asked) == 1
        archive.time.at += 31 * MINUTE
        await archive.replica(ops=ops).tick(DOWN)
    assert told(ops) == [("firing", "storage.not_trusted")] * 2


async def test_an_alert_that_ended_while_nobody_ran_has_its_end_told(archive: Archive) -> None:
    async with serve(OK) as ops:
        await archive.replica(ops=ops).tick(DOWN)
        after = archive.replica(ops=ops)
        for _ in range(3):
            await after.tick(CALM)
            archive.time.at += SETTLE
    assert told(ops) == [("firing", "storage.not_trusted"), ("resolved", "storage.not_trusted")]
    assert archive.rows() == []


REFUSED = [says(answer(500)), says(b"", close=True), says(b"", reset=True)]


@pytest.mark.parametrize("script", REFUSED, ids=["refused", "answer lost", "reset"])
async def test_refused_or_answer_lost_is_told_again_until_it_arrives_and_is_logged_and_counted(
    archive: Archive, script: Script
) -> None:
    async with serve(Turns(script, script, OK)) as ops:
        dispatch = archive.replica(ops=ops)
        with capture_logs() as logs:
            for _ in range(20):
                await dispatch.tick(DOWN)
                archive.time.at += timedelta(seconds=10)
    assert told(ops) == [("firing", "storage.not_trusted")] * 3
    assert len(set(ids(ops))) == 1, "the receiver can tell that it is the same news"
    assert archive.counted.seen == {("ops", "failed"): 2, ("ops", "sent"): 1}
    failed = [each for each in logs if each["event"] == "notify.failed"]
    assert [each["times"] for each in failed] == [1, 2]
    assert all(each["channel"] == "ops" for each in failed)


async def test_a_channel_that_is_down_holds_up_no_other(archive: Archive) -> None:
    async with serve(says(answer(503))) as down, serve(OK) as up:
        await archive.replica(mail=down, ops=up).tick(DOWN)
    assert told(up) == [("firing", "storage.not_trusted")]
    assert archive.counted.seen == {("mail", "failed"): 1, ("ops", "sent"): 1}


async def test_a_pause_that_the_channel_asked_for_is_kept(archive: Archive) -> None:
    async with serve(Turns(says(answer(429, b"", "Retry-After: 600")), OK)) as ops:
        dispatch = archive.replica(ops=ops)
        for _ in range(12):
            await dispatch.tick(DOWN)
            archive.time.at += MINUTE
    assert len(ops.asked) == 2
    assert archive.counted.seen == {("ops", "failed"): 1, ("ops", "sent"): 1}


async def test_an_alert_that_came_and_went_while_its_channel_was_down_is_told(archive: Archive) -> None:
    async with serve(Turns(says(answer(500)), OK)) as ops:
        dispatch = archive.replica(ops=ops)
        await dispatch.tick(DOWN)
        for _ in range(10):
            archive.time.at += MINUTE
            await dispatch.tick(CALM)
    assert told(ops) == [("firing", "storage.not_trusted"), ("resolved", "storage.not_trusted")]


async def test_whoever_dies_between_claim_and_sending_is_succeeded(archive: Archive) -> None:
    async with serve(OK) as ops:
        await archive.replica(ops=ops).tick(CALM)

        def die(conn: Connection) -> None:
            firing = judge(DOWN, Thresholds()).alerts
            state.bring_up(conn, firing, [Route(frozenset(Kind), ("ops",), MINUTE)], ["ops"], START)
            assert state.claim(conn, "of-the-dead", ["ops"], START, CLAIM)

        with archive.engine.begin() as conn:
            die(conn)
        other = archive.replica(ops=ops)
        await other.tick(DOWN)
        assert ops.asked == [], "the claim still holds"
        archive.time.at += CLAIM
        await other.tick(DOWN)
    assert told(ops) == [("firing", "storage.not_trusted")]


async def test_whoever_dies_between_sending_and_noting_it_is_repeated_under_the_same_id(archive: Archive) -> None:
    async with serve(OK) as ops:
        first = archive.replica(ops=ops)
        await first.tick(DOWN)
        with archive.engine.begin() as conn:  # as it was when the answer came
            conn.execute(
                update(alert_state).values(claim="of-the-dead", claimed_until=START + CLAIM, due_at=START, told_at=None)
            )
        second = archive.replica(ops=ops)
        await second.tick(DOWN)
        archive.time.at += CLAIM
        await second.tick(DOWN)
        await second.tick(DOWN)
    assert len(ids(ops)) == 2
    assert len(set(ids(ops))) == 1


async def test_whoever_is_too_late_to_note_it_changes_nothing(archive: Archive) -> None:
    """Its claim ran out while it was sending, and another has told it since."""

    async def overtaken(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        with archive.engine.begin() as conn:
            conn.execute(update(alert_state).values(claim="of-another", due_at=START + 9 * MINUTE))
        writer.write(answer(500))
        await writer.drain()

    async with serve(overtaken) as ops:
        with capture_logs() as logs:
            await archive.replica(ops=ops).tick(DOWN)
    with archive.engine.connect() as conn:
        row = conn.execute(select(alert_state)).one()
    assert (row.claim, row.failures, row.due_at) == ("of-another", 0, START + 9 * MINUTE)
    assert "notify.claim_lost" in [each["event"] for each in logs]


async def test_a_replica_that_looks_while_another_notes_what_it_told_does_not_undo_it(archive: Archive) -> None:
    """Reading before that commit and writing after it would make the alert due again."""
    routes = [Route(frozenset(Kind), ("ops",), timedelta(hours=1))]
    alert = Alert(Kind.RECORDING_LOST, "acme", "1 lost", 1)
    worded = replace(alert, sentence="1 lost, said otherwise")
    with archive.engine.begin() as conn:
        state.bring_up(conn, [alert], routes, ["ops"], START)
        claimed = state.claim(conn, "one", ["ops"], START, CLAIM)["ops"]

    def look() -> None:
        with archive.engine.begin() as conn:
            state.bring_up(conn, [worded], routes, ["ops"], START)

    with archive.engine.begin() as conn:
        state.settle(conn, "one", claimed, routes, START, arrived=True)
        looking = asyncio.create_task(asyncio.to_thread(look))
        await asyncio.sleep(0.5)  # time for what should not happen
        assert not looking.done(), "it waits"
    await looking
    with archive.engine.connect() as conn:
        (entry,) = state.entries(conn)
    assert (entry.told_at, entry.due_at) == (START, START + timedelta(hours=1))
    assert entry.alert.sentence == worded.sentence


async def test_many_replicas_at_once_tell_each_thing_once(archive: Archive) -> None:
    async def slow(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)  # slow on purpose, so that all replicas are at it at once
        writer.write(answer(200))
        await writer.drain()

    async with serve(slow) as ops:
        replicas = [archive.replica(ops=ops) for _ in range(6)]
        for _ in range(5):
            await asyncio.gather(*(each.tick(LOST) for each in replicas))
            archive.time.at += MINUTE
        for _ in range(8):
            await asyncio.gather(*(each.tick(CALM) for each in replicas))
            archive.time.at += MINUTE
    assert Counter(told(ops)) == {
        ("firing", "recording.lost"): 1,
        ("firing", "storage.not_trusted"): 1,
        ("resolved", "recording.lost"): 1,
        ("resolved", "storage.not_trusted"): 1,
    }
    assert archive.rows() == []


async def test_a_database_that_is_away_is_said_and_the_next_tick_tells(archive: Archive) -> None:
    async with serve(OK) as ops:
        dispatch = archive.replica(ops=ops)
        archive.made[0][1].close()
        with pytest.raises(UnavailableError):
            await dispatch.tick(DOWN)
        assert ops.asked == []
        await archive.replica(ops=ops).tick(DOWN)
    assert told(ops) == [("firing", "storage.not_trusted")]


async def test_routes_decide_who_hears_and_uncovered_alerts_are_named_at_the_start(archive: Archive) -> None:
    routes = [Route(frozenset({Kind.RECORDING_LOST}), ("pager",), MINUTE)]
    async with serve(OK) as pager, serve(OK) as ops:
        with capture_logs() as logs:
            dispatch = archive.replica(*routes, pager=pager, ops=ops)
        await dispatch.tick(LOST)
    assert told(pager) == [("firing", "recording.lost")]
    assert ops.asked == []
    (warned,) = [each for each in logs if each["event"] == "notify.unrouted"]
    assert "storage.not_trusted" in warned["alerts"]
    assert "recording.lost" not in warned["alerts"]


async def test_a_channel_no_longer_configured_is_dropped_and_said(archive: Archive) -> None:
    async with serve(says(answer(500))) as old, serve(OK) as new:
        await archive.replica(old=old).tick(DOWN)
        with capture_logs() as logs:
            await archive.replica(new=new).tick(DOWN)
    assert told(new) == [("firing", "storage.not_trusted")]
    assert [each["channel"] for each in logs if each["event"] == "notify.dropped"] == ["old"]


async def test_news_is_told_once_by_whichever_replica(archive: Archive) -> None:
    news = Alert(Kind.REPORT_MONTHLY, "2026-10", "The report of October is ready")
    async with serve(Turns(says(answer(500)), OK)) as ops:
        replicas = [archive.replica(ops=ops) for _ in range(2)]
        await asyncio.gather(*(each.announce(news) for each in replicas))
        for _ in range(4):
            await asyncio.gather(*(each.tick(CALM) for each in replicas))
            archive.time.at += MINUTE
    assert told(ops) == [("note", "report.monthly")] * 2
    assert len(set(ids(ops))) == 1
    assert archive.rows() == []


async def test_a_test_message_reaches_every_channel_and_names_the_one_that_failed(archive: Archive) -> None:
    async with serve(OK) as ops, serve(says(answer(404))) as mail:
        found = await archive.replica(ops=ops, mail=mail).test("This is a test", START)
    assert found["ops"] == ""
    assert "answered 404" in found["mail"]
    assert told(ops) == [("note", "report.monthly")]
    assert archive.rows() == []


async def test_rows_of_a_newer_version_are_left_alone(archive: Archive) -> None:
    with archive.engine.begin() as conn:
        conn.execute(
            insert(alert_state).values(
                kind="of.next.year", subject="", channel="ops", sentence="x", weight=0, since=START, due_at=START,
                told_weight=0, failures=0,
            )
        )  # fmt: skip
    async with serve(OK) as ops:
        await archive.replica(ops=ops).tick(CALM)
    assert ops.asked == []
    with archive.engine.connect() as conn:
        assert conn.execute(select(alert_state.c.kind)).scalars().all() == ["of.next.year"]


@asynccontextmanager
async def cut_short(dispatch: Dispatch) -> AsyncIterator[None]:
    task = asyncio.create_task(dispatch.tick(DOWN))
    yield
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_stop_in_the_middle_of_sending_costs_a_repetition_at_most(archive: Archive) -> None:
    arrived = asyncio.Event()

    async def hang(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with serve(Turns(hang, OK)) as ops:
        async with cut_short(archive.replica(ops=ops)):
            await arrived.wait()
        archive.time.at += CLAIM
        await archive.replica(ops=ops).tick(DOWN)
    assert told(ops) == [("firing", "storage.not_trusted")] * 2
    assert len(set(ids(ops))) == 1
