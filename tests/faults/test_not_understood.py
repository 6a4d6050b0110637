"""What cannot be read is not what is not there: odd links, odd single answers, and the original that is none."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from archiver.cli import invoke as run
from archiver.clock import SystemClock
from archiver.completeness import observe
from archiver.completeness.gap import Code, profile
from archiver.demo.simulators import Account, Route
from archiver.demo.simulators.answer import Answer
from archiver.demo.simulators.faults import Effect
from archiver.demo.simulators.fleet import CREDENTIALS
from archiver.demo.simulators.listing_faults import JsonChange
from archiver.demo.simulators.plivo import PlivoSimulator
from archiver.errors import Exit
from archiver.ingest.tables import recording
from tests.acceptance.archive import make_archive
from tests.acceptance.cli import archiver
from tests.contract.provider_cases import sounds
from tests.faults.rig import Rig, call, rig

OLD = timedelta(days=5)
"""Older than the 72 h in which audio may still turn up."""
ALL = timedelta(days=20)
"""So far back each poll looks."""
ODD: tuple[Any, ...] = (
    "s3://bucket/x.mp3", "recording pending", 7, True, False, {}, [], {"mp3": "https://a.test/1", "wav": "https://a.test/2"},
    ["https://a.test/1", "https://a.test/2"], "https://", "data:audio/mpeg;base64,SUQz",
)  # fmt: skip
FIELDS = {"plivo": "recording_url", "vobiz": "recording_url", "justcall": "recording_url", "justcall-v2.1": "call_info"}


@dataclass(frozen=True, slots=True)
class Says(Effect):
    """A whole answer in place of the simulator's."""

    status: int
    body: bytes

    def refuse(self) -> Answer:
        return Answer(self.status, {"Content-Type": "application/json"}, self.body)


def odd(case: str) -> list[Any]:
    return (
        [*ODD]
        if case != "justcall-v2.1"
        else ["gone", 7, [], *({"type": "answered", "recording": each} for each in ODD)]
    )


def gaps(it: Rig, kind: str) -> set[tuple[str, str]]:
    with it.engine.connect() as conn:
        wanted = observe.Watched(it.provider.id, profile(kind), (), observe.utc_day(SystemClock().now().date()))
        return {(each.code, each.grade) for each in observe.recordings(conn, wanted, it.clock.now())}


def said(it: Rig) -> list[Any]:
    """The reasons of every gap event of every row."""
    return [each.data.get("reason") for row in it.rows() for each in it.events(row, "anomaly.gap")]


async def stays_not_understood(it: Rig, kind: str, count: int) -> None:
    await it.settle(rounds=4, each=timedelta(hours=20))
    assert await it.poll()
    await it.work()
    assert {(row["state"], row["reason"], *row["flags"]) for row in it.rows()} == {
        ("waiting", "not_understood", "link_not_understood")
    }
    assert len(it.rows()) == count
    assert gaps(it, kind) == {(Code.LINK_NOT_UNDERSTOOD, "open")}
    assert said(it) == []


@pytest.mark.parametrize("case", FIELDS)
async def test_link_that_cannot_be_read_is_asked_for_again_for_ever_and_never_absent(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """And it is archived as soon as the provider mends it, or a version comes that can read it."""
    held = [
        call(case, f"odd{n}", ago=OLD + timedelta(seconds=n), extra={FIELDS[case]: value})
        for n, value in enumerate(odd(case))
    ]
    async with rig(case, tmp_path, sqlite_url, recordings=held, overlap=ALL) as it:
        assert await it.poll()
        await stays_not_understood(it, case.partition("-")[0], len(held))
        for each in held:
            it.account.replace(each.id, extra={})
        assert await it.poll()
        await it.work()
        assert it.digests() == it.truth()
        assert {(row["state"], *row["flags"]) for row in it.rows()} == {("archived",)}


SHAPES: tuple[Any, ...] = (
    [], "ok", 7, None, {}, {"data": None}, {"data": []}, {"objects": []}, {"status": "error"}, {"data": {"x": 1}},
)  # fmt: skip


@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1", "plivo", "vobiz", "kazoo"])
async def test_single_answer_of_another_shape_says_nothing_of_the_audio(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """200, JSON, and no recording in it: that is not to say that there is none."""
    waits: dict[str, Any] = {"audio": None, "duration": timedelta(seconds=30)}
    if case in ("plivo", "vobiz"):
        waits = {"extra": {"recording_url": None}}
    held = [call(case, f"n{n}", ago=OLD + timedelta(seconds=n), **waits) for n in range(len(SHAPES))]
    async with rig(case, tmp_path, sqlite_url, recordings=held, overlap=ALL) as it:
        shapes = itertools.cycle(SHAPES)
        it.simulator.fail(Route.ITEM, JsonChange(lambda _: next(shapes)), times=None)
        if case == "kazoo":
            it.simulator.fail(Route.MEDIA, Says(404, b""), times=None)
        assert await it.poll()
        await it.pass_time(timedelta(minutes=2))
        await stays_not_understood(it, case.partition("-")[0], len(held))


async def test_single_answer_that_is_no_answer_of_the_api_is_tried_again_and_never_none(
    tmp_path: Path, sqlite_url: str
) -> None:
    """A login page, or a refusal by number: 451, 402."""
    waits: dict[str, Any] = {"audio": None, "duration": timedelta(seconds=30)}
    async with rig(
        "justcall", tmp_path, sqlite_url, recordings=[call("justcall", "one", ago=OLD, **waits)], overlap=ALL
    ) as it:
        assert await it.poll()
        for status, body in ((200, b"<html>Sign in</html>"), (451, b"{}"), (402, b'{"message": "pay"}'), (200, b"")):
            it.simulator.fail(Route.ITEM, Says(status, body), times=1)
            await it.pass_time(timedelta(hours=1))
            await it.work()
            (row,) = it.rows()
            assert (row["state"], row["reason"]) == ("waiting", "retry")
        assert said(it) == []


async def test_link_that_had_to_be_mended_and_leads_nowhere_is_not_understood(tmp_path: Path, sqlite_url: str) -> None:
    held = [call("plivo", "one", ago=OLD, extra={"recording_url": "/recordings_2013/nothing-there.mp3"})]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, overlap=ALL) as it:
        assert await it.poll()
        await stays_not_understood(it, "plivo", 1)
        asked = len(it.simulator.seen(Route.MEDIA))
        assert await it.poll()  # the very same guess: no reason to try at once
        await it.work()
        assert len(it.simulator.seen(Route.MEDIA)) == asked


async def test_relative_wrapped_and_schemeless_links_are_read_under_the_guard(tmp_path: Path, sqlite_url: str) -> None:
    sound = sounds("voicemail-128k-mono-44100")[0]
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "x", ago=OLD)], overlap=ALL) as it:
        base = it.simulator.media_url
        path = "/recordings_2013/{}.mp3"
        written = [
            "{p}",
            "{h}{p}",
            ["{b}{p}"],
            {"mp3": "{b}{p}"},
            "<{b}{p}>",
            "[x]({b}{p})",
            "HTTP{r}{p}",
            "//{h}{p}",
            " {b}{p}\n",
        ]
        refused = ["//evil.test{p}", "https://user@{h}{p}", "evil.test{p}"]
        for n, form in enumerate([*written, *refused]):
            name = f"n{n}"
            p = path.format(name)
            filled = json.loads(json.dumps(form).replace("{p}", p).replace("{b}", base).replace("{h}", base.partition("://")[2])
                                .replace("{r}", base.removeprefix("http")))  # fmt: skip
            it.account.add(call("plivo", name, ago=OLD + timedelta(minutes=n), extra={"recording_url": filled}))
        assert await it.poll()
        await it.work()
        states = {row["provider_recording_id"]: (row["state"], row["reason"]) for row in it.rows()}
        assert [states[f"n{n}"] for n in range(len(written))] == [("archived", None)] * len(written)
        assert [states[f"n{n + len(written)}"] for n in range(len(refused))] == [("waiting", "link")] * len(refused)
        assert set(it.digests()) == {sound.digest}


async def test_signature_of_a_link_that_is_not_understood_is_written_nowhere(tmp_path: Path, sqlite_url: str) -> None:
    forms = [
        "host.test/x.mp3?sig=canary-1", {"a": "https://a.test/1?s=canary-2", "b": "https://a.test/2?s=canary-3"},
        "https%3A%2F%2Fevil.test%2Fx.mp3%3Fsig%3Dcanary-4", "ftp://a.test/x?canary-5", "x.mp3?canary-6", "[a](https://e.test/x?c=canary-7)",
    ]  # fmt: skip
    held = [call("plivo", f"n{n}", ago=OLD, extra={"recording_url": form}) for n, form in enumerate(forms)]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, overlap=ALL) as it:
        assert await it.poll()
        await it.work()
        assert len(it.rows()) == len(forms)
        assert b"canary-" not in it.written()


async def test_what_an_older_version_called_absent_is_taken_up_again(tmp_path: Path, sqlite_url: str) -> None:
    held = [
        call("plivo", name, ago=OLD, extra={"recording_url": link}) for name, link in (("a", "s3://b/x"), ("b", ["?"]))
    ]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, overlap=ALL) as it:
        assert await it.poll()
        gone = {"state": "absent", "reason": None, "ready": False, "next_attempt_at": None, "flags": "[]"}
        await it.context.writer.run(lambda conn: conn.execute(update(recording).values(**gone)))
        assert await it.poll()
        await stays_not_understood(it, "plivo", 2)


async def test_provider_that_takes_an_odd_link_back_is_believed(tmp_path: Path, sqlite_url: str) -> None:
    """The listing that showed something shows null: from then on it is late, as any other."""
    held = [call("plivo", "one", ago=timedelta(hours=3), extra={"recording_url": 7})]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, overlap=ALL) as it:
        assert await it.poll()
        await it.work()
        it.account.replace("one", extra={"recording_url": None})
        await it.pass_time(timedelta(hours=1))
        await it.work()
        assert it.row("one")["reason"] == "not_understood"  # the single call's null does not unsay the listing
        assert await it.poll()
        await it.work()
        assert (it.row("one")["reason"], it.row("one")["flags"]) == ("not_ready", set())


# --- the original ---------------------------------------------------------------------------------------------------


async def test_original_that_is_the_recording_over_again_is_no_separate_original(
    tmp_path: Path, sqlite_url: str
) -> None:
    """Not a twin with copies of its own: nothing is missing, nothing is stored twice, nothing is asked again."""
    sound = sounds("voicemail-128k-mono-44100")[0]
    held = [call("plivo", f"n{n}", ago=OLD + timedelta(minutes=n), original=sound) for n in range(3)]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, settings={"original": True}, overlap=ALL) as it:
        assert await it.poll()
        await it.settle(each=timedelta(seconds=30))
        states = sorted((row["variant"], row["state"]) for row in it.rows())
        assert states == [("", "archived")] * 3 + [("original", "absent")] * 3
        mains = {row["provider_recording_id"]: f"rec:{row['id']}" for row in it.rows() if row["variant"] == ""}
        for row in it.rows():
            if row["variant"]:
                (event,) = it.events(row, "anomaly.gap")
                assert event.data == {
                    "reason": "no_separate_original", "same_content_as": mains[row["provider_recording_id"]],
                }  # fmt: skip
        assert len(it.stored()) == 3
        assert gaps(it, "plivo") == {(Code.NOT_RECORDED, "explained")}
        asked = len(it.simulator.seen(Route.MEDIA))
        for _ in range(3):
            assert await it.poll()
            await it.work()
        assert len(it.simulator.seen(Route.MEDIA)) == asked


async def test_original_waits_for_the_recording_itself_unless_that_fails(tmp_path: Path, sqlite_url: str) -> None:
    sound = sounds("plivo-48k-stereo-22050")[0]
    held = [call("plivo", "one", original=sound, duration=sound.duration, extra={"recording_url": "s3://b/x"})]
    async with rig("plivo", tmp_path, sqlite_url, recordings=held, settings={"original": True}, overlap=ALL) as it:
        assert await it.poll()
        await it.settle(rounds=2, each=timedelta(minutes=2))
        assert {row["variant"]: row["state"] for row in it.rows()} == {"": "waiting", "original": "archived"}
        assert it.digests() == [sound.digest]


# --- through the command --------------------------------------------------------------------------------------------


async def test_command_says_what_it_does_not_understand_and_does_not_end_with_0(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held = [call("plivo", "good", ago=OLD), call("plivo", "odd", ago=OLD, extra={"recording_url": "s3://bucket/x.mp3"})]
    known = CREDENTIALS["plivo"]
    simulator = PlivoSimulator(Account(held), SystemClock(), auth_id=known["auth_id"], auth_token=known["auth_token"])
    async with simulator as sim:
        made = make_archive(tmp_path, {"plivo": sim}, sqlite_url, "[{id: primary, kind: directory, path: copies}]")
        done = await asyncio.to_thread(archiver, "-c", made.path, "run", "--once")
        assert done.returncode == Exit.UNFINISHED, done.stderr

    async def data(*command: str) -> Any:
        capsys.readouterr()
        await asyncio.to_thread(run, ["-c", str(made.path), *command, "-o", "json"])
        return json.loads(capsys.readouterr().out)["data"]

    shown = {row["provider_recording_id"]: row for row in await data("recordings", "list")}
    assert shown["good"]["state"] == "archived"
    assert (shown["odd"]["state"], shown["odd"]["reason"]) == ("waiting", "not_understood")
    assert shown["odd"]["flags"] == ["link_not_understood"]
    (gap,) = (await data("gaps", "list"))["gaps"]
    assert (gap["code"], gap["grade"], gap["subject"]) == ("link_not_understood", "open", f"rec:{shown['odd']['id']}")
