"""A retention rule's date is the date in the bucket: for every provider, by every attribute that its rows state."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.assembly.stores import build_stores
from archiver.clock import SystemChance, SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Account, Audio, SimRecording, samples
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.acceptance.test_archive import s3
from tests.fixtures_s3 import NewBucket

# provider, a condition as a person writes it, and what of a recording makes the condition hold for it alone
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("justcall", "tag: Payment-Card", {"tags": ("vip", "payment-card")}),
    ("justcall", "agent: 777", {"agent_id": 777}),
    ("justcall", "agent: priya nair", {"agent_name": "Priya Nair"}),
    ("justcall", "number: 14155550001", {"from_number": "+14155550001"}),
    ("justcall", 'from_number: "+14155550002"', {"from_number": "+14155550002"}),
    ("justcall", "to_number: 0014155550003", {"to_number": "+14155550003"}),
    ("justcall", "direction: Outgoing", {"direction": "outbound"}),
    ("justcall", "disposition: Do not call", {"disposition": "Do Not Call"}),
    ("justcall", "voicemail: true", {"voicemail": True, "status": "voicemail"}),
    ("justcall", "status: busy", {"status": "busy"}),
    ("justcall_v21", "tag: payment-card", {"extra": {"tags": ["Payment-Card"]}}),
    ("justcall_v21", "agent: 777", {"agent_id": 777}),
    ("justcall_v21", "agent: agent9@example.com", {"extra": {"agent_email": "agent9@example.com"}}),
    ("justcall_v21", 'number: "+14155550001"', {"from_number": "+14155550001"}),
    ("justcall_v21", "direction: outbound", {"direction": "outbound"}),
    ("justcall_v21", "disposition: do not call", {"disposition": "Do Not Call"}),
    ("justcall_v21", "label: claims line", {"extra": {"justcall_line_name": "Claims Line"}}),
    ("justcall_v21", "voicemail: true", {"status": "voicemail"}),
    ("kazoo", "agent: owner9", {"owner": "owner9"}),
    ("kazoo", "number: 14155550001", {"from_number": "+14155550001"}),
    ("kazoo", 'to_number: "+14155550003"', {"to_number": "+14155550003"}),
    ("kazoo", "direction: outgoing", {"direction": "outbound"}),
    ("kazoo", "direction: internal", {"origin": "inbound from onnet to account"}),
    ("kazoo", "label: Board room", {"label": "board room"}),
    ("kazoo", "call: abc@10.0.0.9", {"call_id": "abc@10.0.0.9"}),
    ("vobiz", 'number: "919876500001"', {"from_number": "+919876500001"}),
    ("vobiz", "type: trunk", {"kind": "trunk"}),
    ("vobiz", "label: standup", {"conference_name": "Standup"}),
    ("plivo", "from_number: 14155550001", {"from_number": "+14155550001"}),
    ("plivo", "label: standup", {"conference_name": "standup", "kind": "conference"}),
    ("plivo", "type: conference", {"kind": "conference"}),
    ("plivo", "call: c2c128e2-1c8c-11e4-9bff-1db8a9db0432", {"call_id": "c2c128e2-1c8c-11e4-9bff-1db8a9db0432"}),
]  # fmt: skip


def recordings(now: datetime, sound: Audio) -> dict[str, list[SimRecording]]:
    """One recording for each case, and one for each provider that no rule speaks of."""
    made: dict[str, list[SimRecording]] = {}
    for index, (provider, _, special) in enumerate([*CASES, *((name, "", {}) for name in fleet.CREDENTIALS)]):
        started = (now - timedelta(hours=3, minutes=index)).replace(microsecond=0)
        name = f"{started:%Y%m}-{index:032x}" if provider == "kazoo" else f"rec-{index:04}"
        # Two recordings with one content are one recording's renditions to nobody: each gets bytes of its own.
        audio = dataclasses.replace(sound, data=sound.data + bytes([index]) * 8)
        plain: dict[str, Any] = {"call_id": f"call-{index}", "kind": "call"}
        made.setdefault(provider, []).append(SimRecording(name, started, sound.duration, audio, **{**plain, **special}))
    return made


async def locks(archive: Archive) -> dict[tuple[str, str], tuple[datetime, datetime]]:
    """(provider, recording id) → the call's end and the date that the bucket itself shows."""
    stores = build_stores(archive.config, SystemClock(), SystemChance())
    found = {}
    try:
        for row in await archive.rows():
            copies = row["copies"]
            assert row["state"] == "archived", row
            assert isinstance(copies, list)
            shown = await stores[copies[0]["storage"]].inspect(copies[0]["key"], copies[0]["version_id"])
            assert shown is not None
            assert shown.retain_until is not None
            raw = next(each for each in await archive.raw_rows() if each["id"] == row["id"])
            ended = raw["call_ended_at"]
            assert isinstance(ended, datetime)
            found[str(row["provider"]), str(row["provider_recording_id"])] = (ended, shown.retain_until)
    finally:
        for store in stores.values():
            await store.aclose()
    return found


def up(moment: datetime) -> datetime:
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)


@pytest.mark.effect(
    "retention.default", "retention.rules[].keep", "retention.rules[].match.provider",
    *(f"retention.rules[].match.{name}" for name in (
        "tag", "agent", "number", "from_number", "to_number", "direction", "disposition", "voicemail", "status", "label",
        "call", "type",
    )),
)  # fmt: skip
async def test_the_lock_in_the_bucket_is_that_of_the_rule_whatever_attribute_it_names(
    new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    clock = SystemClock()
    (sound, *_) = [each for each in samples() if each.format == "mp3"]
    made = recordings(clock.now(), sound)
    sims = fleet.fleet(clock, samples(), count=0)
    rules = [
        f"    - {{match: {{provider: {provider.replace('_', '-')}, {condition}}}, keep: {100 + index}d}}"
        for index, (provider, condition, _) in enumerate(CASES)
    ]
    async with AsyncExitStack() as stack:
        for name, sim in sims.items():
            sim.account = Account(made[name])
            await stack.enter_async_context(sim)
        archive = make_archive(tmp_path, sims, sqlite_url, s3(new_bucket(), tmp_path))
        text = archive.path.read_text().replace("retention: {default: 2d}", "retention:\n  default: 50d\n  rules:")
        archive.path.write_text(text.replace("\n  rules:", "\n  rules:\n" + "\n".join(rules)))
        told = await asyncio.to_thread(archiver, "-c", archive.path, "run", "--once")
        assert told.returncode == 0, told.stderr
        shown = await locks(archive)
    assert len(shown) == len(CASES) + len(fleet.CREDENTIALS)
    wrong = []
    for index, case in enumerate([*CASES, *((name, "no rule", {}) for name in fleet.CREDENTIALS)]):
        provider, condition, _ = case
        started = made[provider][sum(1 for each in CASES[:index] if each[0] == provider)].started_at
        key = next(
            key for key, (ended, _) in shown.items()
            if key[0] == provider.replace("_", "-") and started <= ended <= started + sound.duration + timedelta(seconds=10)
        )  # fmt: skip
        ended, until = shown[key]
        days = 100 + index if index < len(CASES) else 50
        if until != up(ended + timedelta(days=days)):
            wrong.append((provider, condition, until - ended))
    assert wrong == []


async def test_the_shipped_examples_card_rule_locks_for_ninety_days_and_not_for_seven_years(
    new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    """The rule as it stands in the example, on a call that meets it and on calls that lack one of its conditions."""
    clock = SystemClock()
    (sound, *_) = [each for each in samples() if each.format == "mp3"]
    now = clock.now().replace(microsecond=0)
    card: dict[str, Any] = {"tags": ("payment-card",), "agent_id": 42, "from_number": "+14155551234"}
    calls = [
        SimRecording(f"call_{index}", now - timedelta(hours=index + 1), sound.duration,
                     dataclasses.replace(sound, data=sound.data + bytes([index]) * 8), **{**card, **less})
        for index, less in enumerate(({}, {"tags": ()}, {"agent_id": 7}, {"from_number": "+14155559999", "to_number": "+1"}))
    ]  # fmt: skip
    example = (Path(__file__).parents[2] / "config" / "archiver.example.yaml").read_text()
    (rule,) = [line for line in example.splitlines() if "payment-card" in line]
    sim = fleet.fleet(clock, samples(), count=0)["justcall"]
    sim.account = Account(calls)
    async with sim:
        archive = make_archive(tmp_path, {"justcall": sim}, sqlite_url, s3(new_bucket(), tmp_path))
        text = archive.path.read_text()
        assert "retention: {default: 2d}" in text
        archive.path.write_text(
            text.replace("retention: {default: 2d}", f"retention:\n  default: 7y\n  rules:\n{rule}\n")
        )
        told = await asyncio.to_thread(archiver, "-c", archive.path, "run", "--once")
        assert told.returncode == 0, told.stderr
        shown = await locks(archive)
        listed = await asyncio.to_thread(archiver, "-c", archive.path, "recordings", "list", "-o", "json")
    assert len(json.loads(listed.stdout)["data"]) == 4
    spans = {name: (until - ended).days for (_, name), (ended, until) in shown.items()}
    assert spans["call_0"] == 90
    assert all(2555 <= spans[f"call_{index}"] <= 2558 for index in (1, 2, 3)), spans
