"""What the keys of `providers` and `defaults` do to recordings: one sweep, as the journal shows it afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.plivo import PlivoSimulator
from archiver.demo.simulators.scenario import Account, Audio, SimRecording, samples
from archiver.demo.simulators.server import Simulator
from tests.effects.workspace import LOOPBACK, Workspace, swept, workspace
from tests.forwarding_proxy import forwarding_proxy

NOW = datetime.now(UTC).replace(microsecond=0)
CALL = NOW - timedelta(hours=5)
JUSTCALL = f"kind: justcall, {LOOPBACK}, api_key: env:A, api_secret: env:B"
PLIVO = f"kind: plivo, {LOOPBACK}, auth_id: MADEMODEMODEMODEMO00, auth_token: env:P"
VOBIZ = f"kind: vobiz, {LOOPBACK}, auth_id: MA_DEMO0001, auth_token: env:V"
PROVIDERS = {
    "jc-team": JUSTCALL,
    "jc-pro": f"{JUSTCALL}, plan: pro",
    "jc-business": f"{JUSTCALL}, retention: {{plan: business}}",
    "jc-full": f"{JUSTCALL}, plan: pro, quota: 500KB",
    "jc-21": f"{JUSTCALL}, plan: team, dialect: v2.1, sales_dialer: true",
    "jc-21-no-child": f"{JUSTCALL}, plan: team, dialect: v2.1, child: false",
    "vobiz-days": f"{VOBIZ}, retention: {{days: 40, source: contract 7}}, safety_margin: 5d",
    "vobiz-months": f"{VOBIZ}, retention: {{months: 3}}",
    "vobiz-keep": f"{VOBIZ}, retention: {{keep: 1000h}}",
    "vobiz-small": f"{VOBIZ}, retention: none, max_size: 20KB",
    "plivo-media": f"{PLIVO}, retention: none, subaccounts: [{{id: SA1, auth_token: env:S}}], original: true",
    "plivo-apart": f"{PLIVO}, retention: none",
    "plivo-listed": f"{PLIVO}, retention: none, media_hosts: [localhost]",
}


SINCE = f"backfill_from: {(NOW - timedelta(days=3)).date()}"


def call(name: str, sound: Audio, **more: Any) -> SimRecording:
    data = sound.data + name.encode() * 3  # two calls with the same bytes would be one content
    return SimRecording(name, CALL, sound.duration, dataclasses.replace(sound, data=data), call_id=f"of-{name}", **more)


def simulators() -> dict[str, Simulator]:
    clock = SystemClock()
    (sound, *_) = [each for each in samples() if each.format == "mp3"]
    denoised = dataclasses.replace(sound, data=sound.data + b"as it was")

    def of(kind: str, *calls: SimRecording) -> Simulator:
        sim = fleet.fleet(clock, samples(), count=0)[kind]
        sim.account = Account(calls)
        return sim

    def plivo(*calls: SimRecording, **options: Any) -> Simulator:
        return PlivoSimulator(
            Account(calls), clock, auth_id="MADEMODEMODEMODEMO00", auth_token="demo-plivo-token", **options
        )

    return {
        **{
            name: of("justcall", call(f"call_{name}", sound))
            for name in ("jc-team", "jc-pro", "jc-business", "jc-full")
        },
        "jc-21": of(
            "justcall_v21",
            call("a", sound, child=dataclasses.replace(sound, data=sound.data + b"child")),
            call("b", sound, sales_dialer=True),
        ),
        "jc-21-no-child": of("justcall_v21", call("c", sound, child=sound), call("d", sound, sales_dialer=True)),
        **{
            name: of("vobiz", call(name, sound)) for name in ("vobiz-days", "vobiz-months", "vobiz-keep", "vobiz-small")
        },
        "plivo-media": plivo(
            call("m", sound, owner="SA1", original=denoised), subaccounts={"SA1": "sub"}, media_auth=True
        ),
        "plivo-apart": plivo(call("n", sound), apart=True, media_host="localhost"),
        "plivo-listed": plivo(call("o", sound), apart=True, media_host="localhost"),
    }


@dataclass(frozen=True)
class Journal:
    """The rows by provider, and what was asked."""

    by: Mapping[str, list[dict[str, Any]]]
    sims: Mapping[str, Simulator]

    def one(self, provider: str) -> dict[str, Any]:
        (row,) = self.by[provider]
        return row

    def lives(self, provider: str) -> tuple[timedelta, timedelta]:
        """From the call's end to the deletion, and from the archive-by time to the deletion."""
        row = self.one(provider)
        ended, deleted, by = (when(row[name]) for name in ("call_ended_at", "delete_at", "archive_by"))
        return deleted - ended, deleted - by


def when(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def secrets(made: Workspace) -> None:
    made.env = {
        "A": "demo-key", "B": "demo-secret", "P": "demo-plivo-token", "S": "sub", "V": "demo-vobiz-token",
    }  # fmt: skip


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    made = workspace(tmp_path_factory.mktemp("recordings"))
    secrets(made)
    sims = simulators()
    made.env |= {"A21": "demo-key-21", "B21": "demo-secret-21"}
    vendor = {"env:A,": "env:A21,", "env:B,": "env:B21,"}
    providers = {name: f"{each}, {SINCE}" for name, each in PROVIDERS.items() if name != "jc-full"}
    for name in ("jc-21", "jc-21-no-child"):
        for old, new in vendor.items():
            providers[name] = providers[name].replace(old, new)
    del sims["jc-full"]
    said = swept(made, sims, providers, more=["defaults: {safety_margin: 60h}"])
    by: dict[str, list[dict[str, Any]]] = {}
    for row in made.rows("SELECT * FROM recording ORDER BY provider_recording_id, variant"):
        by.setdefault(row["provider"], []).append(row)
    assert set(by) == set(providers), said
    return Journal(by, sims)


@pytest.mark.effect("providers[].id")
def test_rows_bear_the_id_of_their_provider(journal: Journal) -> None:
    assert journal.one("jc-team")["provider_recording_id"] == "call_jc-team"
    assert journal.one("vobiz-keep")["provider_recording_id"] == "vobiz-keep"


@pytest.mark.effect(
    "providers[](justcall).plan", "providers[](justcall).retention.plan", "providers[].retention.days",
    "providers[].retention.months", "providers[].retention.keep",
)  # fmt: skip
def test_deletion_is_expected_when_the_plan_or_the_contract_says(journal: Journal) -> None:
    assert journal.lives("jc-team")[0] == timedelta(days=90)
    assert journal.lives("jc-pro")[0] == timedelta(days=365)
    assert journal.lives("jc-business")[0] == timedelta(days=730)
    assert journal.lives("vobiz-days")[0] == timedelta(days=40)
    assert journal.lives("vobiz-keep")[0] == timedelta(hours=1000)
    cliff = when(journal.one("vobiz-months")["delete_at"])
    ended = when(journal.one("vobiz-months")["call_ended_at"])
    assert (cliff.day, cliff.hour, (cliff.year - ended.year) * 12 + cliff.month - ended.month) == (1, 0, 3)


@pytest.mark.effect("providers[](justcall).quota")
def test_quota_is_a_deadline_when_it_binds_before_the_plan(tmp_path: Path) -> None:
    """At the rate of what was listed: so from the second poll on, for what is not safe yet."""
    made = workspace(tmp_path)
    secrets(made)
    sim = simulators()["jc-full"]
    (late,) = sim.account.recordings
    sim.account.replace(late.id, available_at=NOW + timedelta(days=1))
    provider = {"jc-full": f"{PROVIDERS['jc-full']}, {SINCE}"}
    for _ in range(2):
        swept(made, {"jc-full": sim}, provider)
    (row,) = made.rows()
    assert "quota" in row["deadline_source"]
    assert when(row["delete_at"]) - when(row["call_ended_at"]) < timedelta(days=365)


@pytest.mark.effect("providers[].retention.source")
def test_deadline_names_who_says_so(journal: Journal) -> None:
    assert "contract 7" in journal.one("vobiz-days")["deadline_source"]


@pytest.mark.effect("providers[].safety_margin", "defaults.safety_margin")
def test_recordings_must_be_safe_the_margin_before_their_deletion(journal: Journal) -> None:
    assert journal.lives("vobiz-days")[1] == timedelta(days=5)
    assert journal.lives("vobiz-keep")[1] == timedelta(hours=60)


@pytest.mark.effect("providers[].max_size")
def test_what_is_larger_than_allowed_is_refused_and_shown(journal: Journal) -> None:
    row = journal.one("vobiz-small")
    assert (row["state"], "too_large" in row["flags"]) == ("waiting", True)
    assert journal.one("vobiz-keep")["state"] == "archived"


@pytest.mark.effect("providers[](plivo).original", "providers[](plivo).subaccounts[].auth_token")
def test_the_original_and_a_subaccounts_protected_media_are_archived(journal: Journal) -> None:
    rows = {row["variant"]: row for row in journal.by["plivo-media"]}
    assert {name: row["state"] for name, row in rows.items()} == {"": "archived", "original": "archived"}
    assert rows[""]["plaintext_sha256"] != rows["original"]["plaintext_sha256"]


@pytest.mark.effect("providers[](justcall).child")
def test_a_calls_second_recording_is_archived_unless_it_is_not_wanted(journal: Journal) -> None:
    assert sorted((row["variant"], row["account"]) for row in journal.by["jc-21"]) == [
        ("", ""), ("", "sales_dialer"), ("child", ""),
    ]  # fmt: skip
    assert [(row["variant"], row["account"]) for row in journal.by["jc-21-no-child"]] == [("", "")]


@pytest.mark.effect("providers[].media_hosts")
def test_media_of_another_host_are_fetched_only_when_it_is_listed(journal: Journal) -> None:
    assert "egress_refused" in journal.one("plivo-apart")["flags"]
    assert journal.one("plivo-listed")["state"] == "archived"


@pytest.mark.effect("providers[].allow_private_addresses", "providers[].allow_http")
def test_private_addresses_and_plain_http_are_refused_unless_allowed(tmp_path: Path) -> None:
    made = workspace(tmp_path)
    secrets(made)
    sims = {"jc-team": simulators()["jc-team"]}
    own = f"{JUSTCALL}, {SINCE}"
    said = swept(
        made, sims, {"jc-team": own.replace("allow_private_addresses: true", "allow_private_addresses: false")}
    )
    assert "allow_private_addresses is off" in said
    said = swept(made, sims, {"jc-team": own.replace("allow_http: true", "allow_http: false")})
    assert "plain http is refused" in said
    assert sims["jc-team"].requests == []
    swept(made, sims, {"jc-team": own})
    assert [row["state"] for row in made.rows()] == ["archived"]


@pytest.mark.effect("providers[].proxy.url", "providers[].proxy.user", "providers[].proxy.password")
def test_everything_goes_through_the_proxy_and_the_environments_is_not_used(tmp_path: Path) -> None:
    made = workspace(tmp_path)
    secrets(made)
    sim = simulators()["plivo-listed"]

    async def sweep() -> None:
        async with forwarding_proxy("me:pw") as proxy, forwarding_proxy() as other, sim:
            made.env |= {"W": "pw", **dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), other.url)}
            own = f"proxy: {{url: '{proxy.url}', user: me, password: env:W}}"
            provider = f'id: p, base_url: "{sim.base_url}", {PROVIDERS["plivo-listed"]}, {SINCE}'
            made.write([f"{provider}, {own}"])
            await made.arun("run", "--once")
            hosts = {line.split(" ")[1].split("/")[2] for line in proxy.lines}
            assert hosts == {each.partition("//")[2] for each in (sim.base_url, sim.media_url)}
            assert other.lines == []
            made.write([provider])
            await made.arun("run", "--once")
            assert other.lines == []

    asyncio.run(sweep())
    assert [row["state"] for row in made.rows()] == ["archived"]
