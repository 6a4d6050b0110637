"""A wrong length keeps no audio out: past the deadline the best that came is kept and flagged, and sound bytes settle it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.demo.simulators import Cut, Endless, Framing, Route, ServerError, WrongLength
from archiver.demo.simulators.answer import Answer, Ask
from archiver.demo.simulators.faults import Effect
from archiver.recording import Flag
from archiver.schedule.deadline import ProviderRetention
from tests.contract.provider_cases import sounds
from tests.faults.rig import PLAIN, Rig, call, rig
from tests.fetch_bodies import HTML

VOICE = sounds("voicemail-128k-mono-44100")[0]
HALF = len(VOICE.data) // 2
SHORT_LIVED = ProviderRetention("test", timedelta(days=2))  # less than the margin of three days: late from the start


@dataclasses.dataclass(frozen=True)
class Turns(Effect):
    """One cut after the other, then the last one again."""

    places: list[int]

    def alter(self, answer: Answer) -> Answer:
        at = self.places[0] if len(self.places) == 1 else self.places.pop(0)
        return Unresumable(at).alter(answer)


@dataclasses.dataclass(frozen=True)
class Unresumable(Effect):
    """Cut at this byte, and no entity tag by which to ask for the rest."""

    at: int
    reset: bool = False

    def alter(self, answer: Answer) -> Answer:
        headers = {name: value for name, value in answer.headers.items() if name.lower() != "etag"}
        return dataclasses.replace(answer, headers=headers, cut=self.at, reset=self.reset)


ALL = len(VOICE.data)
WRONG: dict[str, tuple[Effect, int]] = {
    "longer": (WrongLength(1), ALL),
    "shorter": (WrongLength(-30_000), ALL),
    "enormous": (WrongLength(10**12), ALL),
    "no-last-chunk": (Cut(ALL, Framing.CHUNKED), ALL),
    "cut": (Unresumable(HALF), HALF),
    "reset": (
        Unresumable(HALF, reset=True),
        -1,
    ),  # what of it the kernel hands on before it tells of the reset is a race
    "endless": (Endless(declared=None, block=VOICE.data), PLAIN.max_size),
}


def faulty(it: Rig, name: str, effect: Effect) -> None:
    def ours(ask: Ask) -> bool:
        return name in ask.path

    it.simulator.fail(Route.MEDIA, effect, times=None, when=ours)


async def worked(it: Rig, rounds: int = 4) -> dict[str, dict[str, Any]]:
    for _ in range(rounds):
        await it.work()
        await it.pass_time(timedelta(minutes=1))
    return {row["provider_recording_id"]: row for row in it.rows()}


async def test_wrong_length_past_the_deadline_keeps_what_came_flagged_with_a_copy(
    tmp_path: Path, sqlite_url: str
) -> None:
    limits = dataclasses.replace(PLAIN, max_size=4 * ALL)
    held = [call("vobiz", f"{name}-r", ago=timedelta(hours=40)) for name in WRONG]
    async with rig("vobiz", tmp_path, sqlite_url, recordings=held, retention=SHORT_LIVED, limits=limits) as it:
        for name, (effect, _) in WRONG.items():
            faulty(it, f"{name}-r", effect)
        assert await it.poll()
        rows = await worked(it)
        for name, (_, size) in WRONG.items():
            row = rows[f"{name}-r"]
            assert row["state"] == "archived", (name, row["last_error"])
            assert Flag.LENGTH_UNVERIFIED in row["flags"], name
            if size == ALL:
                assert row["plaintext_sha256"] == VOICE.digest, name
            elif size == HALF:
                assert (row["plaintext_bytes"], Flag.TRUNCATED in row["flags"]) == (HALF, True)
        assert 0 < rows["reset-r"]["plaintext_bytes"] <= HALF
        assert 0 < rows["endless-r"]["plaintext_bytes"] <= limits.max_size
        assert len(it.stored()) >= len(WRONG)

        # sound bytes later: the same confirm, others stand beside and supersede
        it.simulator.heal()
        for _ in range(2):
            await it.pass_time(timedelta(hours=1, minutes=5))
            await it.work()
        sound = [
            row for row in it.rows() if row["plaintext_sha256"] == VOICE.digest and not row["flags"] & {Flag.TRUNCATED}
        ]
        assert {row["provider_recording_id"] for row in sound} >= {f"{name}-r" for name in ("longer", "shorter", "cut")}
        cut = [row for row in it.rows() if row["provider_recording_id"] == "cut-r"]
        assert sorted(Flag.SUPERSEDED in row["flags"] for row in cut) == [False, True]
        assert Flag.LENGTH_UNVERIFIED not in it.row("longer-r")["flags"]


async def test_before_the_deadline_a_broken_body_is_asked_for_again_and_nothing_of_it_is_kept(
    tmp_path: Path, sqlite_url: str
) -> None:
    async with rig("vobiz", tmp_path, sqlite_url, recordings=[call("vobiz", "r")]) as it:
        faulty(it, "r", WrongLength(1))
        assert await it.poll()
        rows = await worked(it, 5)
        assert (rows["r"]["state"], it.stored(), it.spool_is_empty()) == ("waiting", [], True)
        it.simulator.heal()
        await it.pass_time(timedelta(hours=1))
        await it.work()
        assert (it.row("r")["state"], it.row("r")["flags"]) == ("archived", set())


async def test_longer_of_two_broken_answers_is_kept_beside_the_shorter_and_never_the_reverse(
    tmp_path: Path, sqlite_url: str
) -> None:
    held = [call("vobiz", "r", ago=timedelta(hours=40))]
    async with rig("vobiz", tmp_path, sqlite_url, recordings=held, retention=SHORT_LIVED) as it:
        faulty(it, "r", Turns([10_000, 10_000, 9_000, HALF, HALF + 1000, 8_000]))
        assert await it.poll()
        await worked(it, 3)
        for _ in range(2):
            await it.pass_time(timedelta(hours=2))
            await it.work()
        sizes = {row["plaintext_bytes"] for row in it.rows()}
        assert 8_000 not in sizes
        assert max(sizes) >= HALF


async def test_error_page_with_a_wrong_length_is_quarantined_and_no_recording(tmp_path: Path, sqlite_url: str) -> None:
    held = [call("vobiz", "r", ago=timedelta(hours=40))]
    async with rig("vobiz", tmp_path, sqlite_url, recordings=held, retention=SHORT_LIVED) as it:

        class Page(Effect):
            def refuse(self) -> Answer:
                return Answer(200, {"Content-Type": "text/html"}, HTML, declared=len(HTML) + 9)

        faulty(it, "r", Page())
        assert await it.poll()
        row = (await worked(it))["r"]
        assert (row["state"], row["flags"]) == ("waiting", {Flag.QUARANTINED, Flag.NOT_AUDIO})


@pytest.mark.parametrize("case", ["justcall", "plivo", "kazoo"])
async def test_wrong_length_past_the_deadline_keeps_the_audio_of_every_provider(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    held = [call(case, "r", ago=timedelta(hours=40))]
    async with rig(case, tmp_path, sqlite_url, recordings=held, retention=SHORT_LIVED) as it:
        it.simulator.fail(Route.MEDIA, WrongLength(7), times=None)
        assert await it.poll()
        await worked(it)
        (row,) = it.rows()
        assert (row["state"], row["plaintext_sha256"]) == ("archived", VOICE.digest)
        assert Flag.LENGTH_UNVERIFIED in row["flags"]


async def test_listing_that_is_to_be_asked_for_again_in_ten_minutes_is_not_asked_for_again_at_once(
    tmp_path: Path, sqlite_url: str
) -> None:
    async with rig("vobiz", tmp_path, sqlite_url, recordings=[call("vobiz", "r")]) as it:
        it.simulator.fail(Route.LIST, ServerError(503, headers={"Retry-After": "600"}), times=1)
        assert not await it.poll()
        assert len(it.simulator.seen(Route.LIST)) == 1
        await it.pass_time(timedelta(minutes=10))
        assert await it.poll()
        assert [row["state"] for row in it.rows()] == ["listed"]


async def test_503_with_retry_after_is_waited_for_as_asked_and_costs_the_recording_nothing(
    tmp_path: Path, sqlite_url: str
) -> None:
    async with rig("vobiz", tmp_path, sqlite_url, recordings=[call("vobiz", "r")]) as it:
        it.simulator.fail(Route.MEDIA, ServerError(503, headers={"Retry-After": "600"}), times=5)
        it.simulator.fail(Route.MEDIA, ServerError(503, headers={"Retry-After": "999999999"}), times=1)
        assert await it.poll()
        for asked in range(1, 7):
            await it.work()
            row, now = it.row("r"), it.own.now()
            assert (row["attempts"], len(it.simulator.seen(Route.MEDIA))) == (0, asked)
            wait = timedelta(seconds=600) if asked < 6 else timedelta(hours=1)  # bounded
            assert timedelta(seconds=-60) < row["next_attempt_at"] - now - wait <= timedelta(0)
            await it.pass_time(wait / 2)
            await it.work()
            assert len(it.simulator.seen(Route.MEDIA)) == asked
            await it.pass_time(wait / 2)
        await it.work()
        assert (it.row("r")["state"], it.row("r")["attempts"]) == ("archived", 1)
