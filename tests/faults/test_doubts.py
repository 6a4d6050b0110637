"""Every doubt leads to further looks and an open gap, until sound bytes come or a person acknowledges it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from archiver.cli import invoke as run
from archiver.clock import SystemClock
from archiver.completeness import observe
from archiver.completeness.gap import Code, Gap, Grade, explain, profile
from archiver.custody.event import Event
from archiver.demo.simulators import Account, Cut, Framing, Route, ServerError
from archiver.demo.simulators.answer import Answer
from archiver.demo.simulators.faults import Effect
from archiver.demo.simulators.fleet import CREDENTIALS
from archiver.demo.simulators.justcall import JustCallSimulator
from archiver.demo.simulators.plivo import PlivoSimulator
from archiver.errors import Exit
from archiver.ingest.destination import Destination
from archiver.ingest.second_answers import MOST_DOUBTFUL
from archiver.ingest.tables import recording
from archiver.recording import DOUBTS, Flag
from archiver.schedule.deadline import ProviderRetention
from tests.acceptance.archive import make_archive
from tests.acceptance.cli import archiver
from tests.contract.provider_cases import sounds
from tests.faults.rig import Rig, call, rig
from tests.fetch_bodies import untagged

VOICE = sounds("voicemail-128k-mono-44100")[0]
LONG = sounds("plivo-48k-stereo-22050")[0]
HOUR = timedelta(hours=1)
TRACE = (
    b"java.lang.IllegalStateException: object store timed out\n" + b"\tat com.example.Fetch.step(Fetch.java:1)\n" * 150
)
GARBAGE: Mapping[str, bytes] = {
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40,
    "utf-8 over it": VOICE.data.decode("utf-8", "replace").encode(),
    "zeros": bytes(30_000),
    "noise": random.Random(1).randbytes(3000),
    "stack trace": TRACE,
}


@dataclass
class Sends(Effect):
    """These bodies, one after the other, the last one for ever; asked for anything, 200 and audio/mpeg."""

    bodies: list[bytes]
    asked: int = field(default=0)

    def refuse(self) -> Answer:
        self.asked += 1
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        return Answer(200, {"Content-Type": "audio/mpeg"}, body)


def gaps(it: Rig, kind: str = "plivo") -> list[Gap]:
    """What completeness says of each recording, as every face is told it."""
    with it.engine.connect() as conn:
        rows = conn.execute(select(recording).order_by(recording.c.call_started_at, recording.c.id)).all()
    found = [explain(observe.known(row), profile(kind), it.clock.now()) for row in rows]
    return [each for each in found if each is not None and each.grade is Grade.OPEN]


def events(it: Rig, kind: str) -> list[Event]:
    return [event for row in it.rows() for event in it.events(row, kind)]


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_once_is_not_the_recording_for_ever(name: str, tmp_path: Path, sqlite_url: str) -> None:
    """Asked again at once: what comes then is the recording, the garbage is kept beside it, and no gap stands."""
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one")]) as it:
        it.simulator.fail(Route.MEDIA, Sends([GARBAGE[name]]))
        assert await it.poll()
        await it.settle(each=timedelta(minutes=1))
        good = [row for row in it.rows() if row["plaintext_sha256"] == VOICE.digest]
        assert [(row["state"], row["flags"] & DOUBTS) for row in good] == [("archived", set())]
        kept = [row for row in it.rows() if row["plaintext_sha256"] == hashlib.sha256(GARBAGE[name]).hexdigest()]
        if name == "stack trace":
            assert kept == []  # plain words are a page: refused, and asked for again
        else:
            assert [row["flags"] >= {Flag.NOT_AUDIO, Flag.SUPERSEDED} for row in kept] == [True]
            assert len(events(it, "anomaly.content_differs")) == 1
        assert gaps(it) == []
        assert it.spool_is_empty()


async def test_garbage_that_stays_is_asked_for_ever_more_rarely_up_to_the_deletion(
    tmp_path: Path, sqlite_url: str
) -> None:
    """One copy, an open gap all the time, a dozen downloads in ninety days; the recording that comes at last is taken."""
    noise = Sends([GARBAGE["noise"]])
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one")]) as it:
        it.simulator.fail(Route.MEDIA, noise, times=None)
        assert await it.poll()
        await it.work()
        asked = [noise.asked]
        for _ in range(89):
            await it.pass_time(timedelta(days=1))
            await it.work()
            assert [each.code for each in gaps(it)] == [Code.NOT_AUDIO]
            asked.append(noise.asked)
        assert asked[0] == 2
        assert 6 <= asked[-1] <= 14
        assert len(it.stored()) == len(it.rows()) == 1
        assert it.row("one")["next_attempt_at"] is not None
        it.simulator.heal()
        await it.pass_time(timedelta(hours=23))
        await it.work()
        assert VOICE.digest in it.digests()
        assert gaps(it) == []
        (first,) = [row for row in it.rows() if row["plaintext_sha256"] != VOICE.digest]
        await it.pass_time(timedelta(days=30))
        await it.work()
        assert noise.asked == asked[-1]
        assert first["flags"] >= {Flag.NOT_AUDIO, Flag.SUPERSEDED}


async def test_other_garbage_each_time_does_not_fill_the_archive(tmp_path: Path, sqlite_url: str) -> None:
    """Some are kept as evidence, then no more; and the recording itself is taken whenever it comes."""
    many = Sends([random.Random(n).randbytes(3000) for n in range(500)])
    keeps = ProviderRetention("test", timedelta(days=3650))
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one")], retention=keeps) as it:
        it.simulator.fail(Route.MEDIA, many, times=None)
        assert await it.poll()
        await it.work()
        for days in (1, 1, 2, 4, 8, 16, 32, 64, 128):
            await it.pass_time(timedelta(days=days))
            await it.work()
        assert many.asked >= 2 + MOST_DOUBTFUL
        assert len(it.stored()) == len(it.rows()) == 1 + MOST_DOUBTFUL
        assert len(events(it, "anomaly.content_differs")) == MOST_DOUBTFUL
        assert gaps(it)
        it.simulator.heal()
        await it.pass_time(timedelta(days=300))
        await it.work()
        assert VOICE.digest in it.digests()
        assert gaps(it) == []


async def test_recording_that_came_once_is_not_lost_to_garbage_again(tmp_path: Path, sqlite_url: str) -> None:
    """One bad server of several: what the second look brings is kept from that very download."""
    flapping = Sends([GARBAGE["zeros"], VOICE.data, GARBAGE["zeros"]])
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one")]) as it:
        it.simulator.fail(Route.MEDIA, flapping, times=None)
        assert await it.poll()
        await it.settle()
        assert VOICE.digest in it.digests()
        assert gaps(it) == []


@pytest.mark.parametrize("when", ["refused", "cut", "gone"])
async def test_second_look_that_fails_is_had_later_and_what_is_archived_stays_so(
    when: str, tmp_path: Path, sqlite_url: str
) -> None:
    fails: Mapping[str, Effect] = {"refused": ServerError(503), "cut": Cut(9_000), "gone": ServerError(404)}
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one")]) as it:
        it.simulator.fail(Route.MEDIA, Sends([GARBAGE["noise"]]))
        it.simulator.fail(Route.MEDIA, fails[when], times=2)
        assert await it.poll()
        await it.work()
        for _ in range(8):
            assert it.rows()[0]["state"] == "archived"
            if VOICE.digest in it.digests():
                break
            assert [each.code for each in gaps(it)] == [Code.NOT_AUDIO]
            await it.pass_time(timedelta(days=1))
            await it.work()
        assert VOICE.digest in it.digests()
        assert gaps(it) == []


async def test_worker_that_dies_between_the_two_looks_has_its_successor_look(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the storage is awaited when the process ends: the row says what is still open."""
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one")]) as it:
        it.simulator.fail(Route.MEDIA, Sends([GARBAGE["noise"]]))
        assert await it.poll()
        reached = asyncio.Event()

        async def hangs(*_: Any, **__: Any) -> Any:
            reached.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(Destination, "put", hangs)
            await it.worker.fill()
            await asyncio.wait_for(reached.wait(), 30)
            await it.worker.drain(timedelta(0))
        await it.pass_time(timedelta(minutes=1))
        await it.settle()
        assert {row["state"] for row in it.rows()} == {"archived"}
        assert VOICE.digest in it.digests()
        assert gaps(it) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (LONG.data[:-20_000], Code.TRUNCATED),
        (untagged(LONG.data)[:20_000], Code.TRUNCATED),
        (LONG.data + LONG.data, Code.DURATION_DIFFERS),
    ],
)
async def test_every_doubt_is_an_open_gap_while_it_stands(
    body: bytes, code: Code, tmp_path: Path, sqlite_url: str
) -> None:
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one", audio=LONG)]) as it:
        it.simulator.fail(Route.MEDIA, Sends([body]), times=None)
        assert await it.poll()
        await it.settle()
        assert [(each.code, each.grade) for each in gaps(it)] == [(code, Grade.OPEN)]
        it.simulator.heal()
        await it.pass_time(2 * HOUR)
        await it.settle()
        assert LONG.digest in it.digests()
        assert gaps(it) == []


async def test_length_that_nothing_proves_is_an_open_gap_until_it_came_twice(tmp_path: Path, sqlite_url: str) -> None:
    one = call("plivo", "one", duration=None)
    async with rig("plivo", tmp_path, sqlite_url, recordings=[replace(one, duration=VOICE.duration)]) as it:
        it.simulator.fail(Route.MEDIA, Cut(20_000, Framing.CLOSE))
        it.simulator.fail(Route.MEDIA, ServerError(503))
        assert await it.poll()
        await it.work()
        assert len(gaps(it)) == 1
        await it.pass_time(timedelta(hours=6))
        await it.settle()
        assert gaps(it) == []


# --- the recording's own length -------------------------------------------------------------------------------------


def _justcall(name: str, stated: int, extra: int = 5, **more: Any) -> Any:
    return call(
        "justcall", name, duration=timedelta(seconds=stated), call_extra=timedelta(seconds=extra), audio=LONG, **more
    )


async def test_length_that_only_the_single_call_states_is_asked_for_once(tmp_path: Path, sqlite_url: str) -> None:
    """9 s of 285: the call log says 290 s, ringing included, which tells nothing."""
    held = [_justcall("cut", 285), _justcall("fine", 9, ago=3 * HOUR)]
    async with rig("justcall", tmp_path, sqlite_url, recordings=held) as it:
        assert await it.poll()
        await it.settle()
        flags = {row["provider_recording_id"]: row["flags"] for row in it.rows()}
        assert flags == {"cut": {Flag.DURATION_MISMATCH}, "fine": set()}
        assert [each.code for each in gaps(it, "justcall")] == [Code.TRUNCATED]
        asked = [seen.path for seen in it.simulator.seen(Route.ITEM)]
        assert len([path for path in asked if path.endswith("fine")]) == 1
        assert it.row("cut")["duration_ms"] == 285_000
        for row in held:
            it.account.replace(row.id, notes="a word of the agent")
        assert await it.poll()
        assert it.row("cut")["duration_ms"] == 285_000


async def test_single_call_that_does_not_answer_costs_nothing_but_time(tmp_path: Path, sqlite_url: str) -> None:
    """The bytes are archived; the question stays open, and the answer is judged when it comes."""
    async with rig("justcall", tmp_path, sqlite_url, recordings=[_justcall("cut", 285)]) as it:
        it.simulator.fail(Route.ITEM, ServerError(503), times=None)
        assert await it.poll()
        await it.settle()
        assert [(row["state"], row["flags"]) for row in it.rows()] == [("archived", set())]
        it.simulator.heal()
        await it.pass_time(2 * HOUR)
        await it.work()
        assert it.row("cut")["flags"] == {Flag.DURATION_MISMATCH}
        assert [each.code for each in gaps(it, "justcall")] == [Code.TRUNCATED]


# --- through the command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plivo", "justcall"])
async def test_command_shows_a_doubt_as_a_gap_and_does_not_call_it_well(
    kind: str, tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Garbage once leaves nothing to tell; garbage that stays, and a recording cut to 9 s of 285, do."""
    known = CREDENTIALS[kind]
    if kind == "plivo":
        held = [call("plivo", "once"), call("plivo", "stays", ago=3 * HOUR)]
        sim: Any = PlivoSimulator(
            Account(held), SystemClock(), auth_id=known["auth_id"], auth_token=known["auth_token"]
        )
        sim.fail(Route.MEDIA, Sends([GARBAGE["zeros"]]), when=lambda ask: "once" in ask.path)
        sim.fail(Route.MEDIA, Sends([GARBAGE["picture"]]), times=None, when=lambda ask: "stays" in ask.path)
        name, code = "stays", "not_audio"
    else:
        held = [_justcall("once", 9), _justcall("stays", 285, ago=3 * HOUR)]
        sim = JustCallSimulator(Account(held), SystemClock(), api_key=known["api_key"], api_secret=known["api_secret"])
        name, code = "stays", "truncated_at_provider"
    async with sim:
        made = make_archive(tmp_path, {kind: sim}, sqlite_url, "[{id: primary, kind: directory, path: copies}]")
        done = await asyncio.to_thread(archiver, "-c", made.path, "run", "--once")
        assert "Traceback" not in done.stderr
        assert code in done.stdout + done.stderr

    async def told(*command: str) -> tuple[int, Any]:
        capsys.readouterr()
        ended = await asyncio.to_thread(run, ["-c", str(made.path), *command, "-o", "json"])
        return int(ended), json.loads(capsys.readouterr().out)["data"]

    rows = (await told("recordings", "list"))[1]
    digest = (VOICE if kind == "plivo" else LONG).digest
    assert any(row["provider_recording_id"] == "once" and row["plaintext_sha256"] == digest for row in rows)
    (doubted,) = [row for row in rows if row["provider_recording_id"] == name]
    (gap,) = (await told("gaps", "list"))[1]["gaps"]
    assert (gap["code"], gap["grade"], gap["subject"]) == (code, "open", f"rec:{doubted['id']}")
    assert (await told("status", "--check"))[0] in (Exit.AT_RISK, Exit.LOST)
    ended = await asyncio.to_thread(run, ["-c", str(made.path), "--reason", "the line broke", "gaps", "ack", gap["id"]])
    assert ended == Exit.OK, capsys.readouterr().err
    assert (await told("status", "--check"))[0] == Exit.OK
