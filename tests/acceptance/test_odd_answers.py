"""One sweep of the command over answers that break the rules of HTTP, of recordings whose deadline is past."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import timedelta
from pathlib import Path

from archiver.clock import SystemClock
from archiver.demo.simulators import Account, Framing, Headers, Route, WrongLength, fleet
from archiver.demo.simulators.answer import Answer
from archiver.demo.simulators.faults import Effect
from archiver.demo.simulators.vobiz import VobizSimulator
from tests.acceptance.archive import make_archive
from tests.acceptance.cli import archiver
from tests.faults.rig import call


@dataclasses.dataclass(frozen=True)
class Chunked(Effect):
    """Chunked, and beside it a length of seven."""

    def alter(self, answer: Answer) -> Answer:
        headers = {**answer.headers, "Content-Length": "7"}
        return dataclasses.replace(answer, headers=headers, framing=Framing.CHUNKED)


@dataclasses.dataclass(frozen=True)
class Status(Effect):
    status: int

    def alter(self, answer: Answer) -> Answer:
        return dataclasses.replace(answer, status=self.status)


ODD = {
    "length": WrongLength(1),
    "chunked": Chunked(),
    "status": Status(203),
    "header": Headers(set={"X-Long": "a" * 16_000}),
}


async def test_sweep_saves_the_audio_of_odd_answers_with_a_margin_longer_than_the_retention(
    tmp_path: Path, sqlite_url: str
) -> None:
    held = [call("vobiz", f"{name}-r", ago=timedelta(hours=40)) for name in ODD]
    async with VobizSimulator(Account(held), SystemClock(), **fleet.CREDENTIALS["vobiz"]) as simulator:
        for name, effect in ODD.items():
            simulator.fail(Route.MEDIA, effect, times=None, when=lambda ask, name=name: f"{name}-r" in ask.path)
        made = make_archive(
            tmp_path,
            {"vobiz": simulator},
            sqlite_url,
            "{kind: directory, path: store}",
            keeps="2d",
            more="defaults: {safety_margin: 3d}",
        )
        told = await asyncio.to_thread(archiver, "-c", made.path, "check")
        assert (told.returncode, "C212" in told.stdout + told.stderr) == (0, True)
        await asyncio.to_thread(archiver, "-c", made.path, "run", "--once")
        listed = await asyncio.to_thread(archiver, "-c", made.path, "recordings", "list", "-o", "json")
    rows = {row["provider_recording_id"].removesuffix("-r"): row for row in json.loads(listed.stdout)["data"]}
    good = [name for name, row in rows.items() if row["plaintext_sha256"] == held[0].audio.digest]
    assert ([row["state"] for row in rows.values()], sorted(good)) == (["archived"] * len(ODD), sorted(ODD))
    assert {name for name, row in rows.items() if row["flags"]} == {"length"}
    assert rows["length"]["flags"] == ["length_unverified"]
