"""A retention rule's date is the date in the bucket: for every provider, by every attribute that its rows state."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.assembly.stores import build_stores
from archiver.clock import SystemChance, SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.justcall_v21 import call_number
from archiver.demo.simulators.scenario import Account, Audio, SimRecording, samples
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.acceptance.test_archive import s3
from tests.fixtures_s3 import NewBucket

OLD = datetime.now(UTC) - timedelta(days=10)

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
    ("kazoo", "origin: Inbound from offnet to account", {"origin": "inbound from offnet to account"}),
    ("kazoo", "shorter_than: 1s", {"extra": {"duration_ms": 500, "duration": 0}}),
    ("kazoo", "longer_than: 1h", {"extra": {"duration_ms": 4_000_000, "duration": 4000}}),
    ("justcall_v21", "variant: child", {"child": True}),
    ("justcall", f"until: {OLD:%Y-%m-%d}", {"age": timedelta(days=20)}),
    ("plivo", "format: wav", {"extra": {"recording_format": "wav"}}),
    ("plivo", "call: c2c128e2-1c8c-11e4-9bff-1db8a9db0432", {"call_id": "c2c128e2-1c8c-11e4-9bff-1db8a9db0432"}),
    # These hold for every recording of their provider: they come last, and leave none to the default.
    ("plivo", "account: mademodemodemodemo00", {}),
    ("vobiz", f"since: {OLD:%Y-%m-%d}", {}),
]  # fmt: skip
DEFAULT = ("justcall", "justcall_v21", "kazoo")


def recordings(now: datetime, sound: Audio) -> list[tuple[str, SimRecording]]:
    """One recording for each case, and one for each of `DEFAULT` that no rule speaks of, with their providers."""
    made = []
    for index, (provider, _, given) in enumerate([*CASES, *((name, "", {}) for name in DEFAULT)]):
        special = dict(given)
        started = (now - special.pop("age", timedelta(hours=3)) - timedelta(minutes=index)).replace(microsecond=0)
        name = f"{started:%Y%m}-{index:032x}" if provider == "kazoo" else f"rec-{index:04}"
        # Two recordings with one content are one recording's renditions to nobody: each gets bytes of its own.
        audio = dataclasses.replace(sound, data=sound.data + bytes([index]) * 8)
        if "child" in special:
            special["child"] = dataclasses.replace(sound, data=sound.data + b"child")
        call: dict[str, Any] = {"call_id": f"call-{index}", "kind": "call", **special}
        made.append((provider, SimRecording(name, started, sound.duration, audio, **call)))
    return made


@dataclasses.dataclass(frozen=True)
class Locked:
    """When a call ended, the date that the bucket itself shows for its recording, and the rule that custody names."""

    ended: datetime
    until: datetime
    rule: str

    @property
    def days(self) -> float:
        return (self.until - up(self.ended)) / timedelta(days=1)


async def locks(archive: Archive) -> dict[tuple[str, str, str], Locked]:
    """By provider, recording id and variant."""
    stores = build_stores(archive.config, SystemClock(), SystemChance())
    raw = {each["id"]: each for each in await archive.raw_rows()}
    found = {}
    try:
        for row in await archive.rows():
            copies = row["copies"]
            assert row["state"] == "archived", row
            assert isinstance(copies, list)
            shown = await stores[copies[0]["storage"]].inspect(copies[0]["key"], copies[0]["version_id"])
            assert shown is not None
            assert shown.retain_until is not None
            journal = raw[row["id"]]
            ended = journal["call_ended_at"]
            assert isinstance(ended, datetime)
            key = (str(row["provider"]), str(row["provider_recording_id"]), str(row["variant"]))
            found[key] = Locked(ended, shown.retain_until, str(journal["retention_rule"]))
    finally:
        for store in stores.values():
            await store.aclose()
    return found


def up(moment: datetime) -> datetime:
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + timedelta(seconds=1)


@pytest.mark.effect(
    "retention.default", "retention.rules[].keep", "retention.rules[].match.provider",
    "retention.rules[].match.tag",
    "retention.rules[].match.agent",
    "retention.rules[].match.number",
    "retention.rules[].match.from_number",
    "retention.rules[].match.to_number",
    "retention.rules[].match.direction",
    "retention.rules[].match.disposition",
    "retention.rules[].match.voicemail",
    "retention.rules[].match.status",
    "retention.rules[].match.label",
    "retention.rules[].match.call",
    "retention.rules[].match.type", "retention.rules[].match.account", "retention.rules[].match.variant",
    "retention.rules[].match.origin", "retention.rules[].match.format", "retention.rules[].match.longer_than",
    "retention.rules[].match.shorter_than", "retention.rules[].match.since", "retention.rules[].match.until",
    "retention.rules[].reason",
)  # fmt: skip
async def test_the_lock_in_the_bucket_is_that_of_the_rule_whatever_attribute_it_names(
    new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    clock = SystemClock()
    (sound, *_) = [each for each in samples() if each.format == "mp3"]
    made = recordings(clock.now(), sound)
    sims = fleet.fleet(clock, samples(), count=0)
    rules = [
        f"    - {{match: {{provider: {provider.replace('_', '-')}, {condition}}}, keep: {100 + index}d, reason: case {index}}}"
        for index, (provider, condition, _) in enumerate(CASES)
    ]
    async with AsyncExitStack() as stack:
        for name, sim in sims.items():
            sim.account = Account(each for provider, each in made if provider == name)
            await stack.enter_async_context(sim)
        archive = make_archive(tmp_path, sims, sqlite_url, s3(new_bucket(), tmp_path))
        text = archive.path.read_text().replace("retention: {default: 2d}", "retention:\n  default: 50d\n  rules:")
        archive.path.write_text(text.replace("\n  rules:", "\n  rules:\n" + "\n".join(rules)))
        told = await asyncio.to_thread(archiver, "-c", archive.path, "run", "--once")
        assert told.returncode == 0, told.stderr
        shown = await locks(archive)
    wrong = []
    for index, (provider, recording) in enumerate(made):
        condition = CASES[index][1] if index < len(CASES) else "no rule"
        name = str(call_number(recording)) if provider == "justcall_v21" else recording.id
        kept = shown.pop((provider.replace("_", "-"), name, "child" if "child" in condition else ""))
        wanted = (100 + index, f"case {index}") if index < len(CASES) else (50, "default")
        if (kept.days, kept.rule) != wanted:
            wrong.append((provider, condition, kept))
    assert wrong == []
    # The first recording of the call with two is left to the default.
    assert [(key[2], kept.days) for key, kept in shown.items()] == [("", 50)]


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
    spans = {name: kept.days for (_, name, _), kept in shown.items()}
    assert spans["call_0"] == 90
    assert all(2555 <= spans[f"call_{index}"] <= 2558 for index in (1, 2, 3)), spans
