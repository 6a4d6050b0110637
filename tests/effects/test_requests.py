"""What the keys of `providers` make the archiver ask for: every request of one sweep, as the provider saw it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.answer import Route
from archiver.demo.simulators.kazoo import KazooSimulator
from archiver.demo.simulators.kazoo_auth import Credentials
from archiver.demo.simulators.plivo import PlivoSimulator
from archiver.demo.simulators.scenario import Account, samples
from archiver.demo.simulators.server import Seen, Simulator
from tests.effects.workspace import LOOPBACK, swept, workspace

LONG = "recording_storage_duration"
BACK = (datetime.now(UTC) - timedelta(days=40)).date()
SECRETS = {
    "JC_KEY": "demo-key", "JC_SECRET": "demo-secret", "JC21_KEY": "demo-key-21", "JC21_SECRET": "demo-secret-21",
    "KAZOO_TOKEN": "demo-kazoo-token", "KAZOO_KEY": "kazoo-api-key", "KAZOO_PASSWORD": "correct-horse",
    "VOBIZ_TOKEN": "demo-vobiz-token", "PLIVO_TOKEN": "demo-plivo-token", "PLIVO_SUB": "sub-token",
}  # fmt: skip
ACCOUNT = "0123456789abcdef0123456789abcdef"
KAZOO = f"kind: kazoo, {LOOPBACK}, account_id: {ACCOUNT}, retention: none, backfill_from: {BACK}"
JUSTCALL = f"kind: justcall, {LOOPBACK}, plan: team, backfill_from: {BACK}, api_key: env:JC"
PLIVO = f"kind: plivo, {LOOPBACK}, retention: none, auth_id: MADEMODEMODEMODEMO00, auth_token: env:PLIVO_TOKEN"
PROVIDERS = {
    "jc": f"{JUSTCALL}_KEY, api_secret: env:JC_SECRET, "
    "filters: {direction: inbound, agent_id: 42, number: '+14155551234', status: completed}",
    "jc21": f"{JUSTCALL}21_KEY, api_secret: env:JC21_SECRET, dialect: v2.1, sales_dialer: true, filters: {{"
    "call_direction: Incoming, call_type: Answered, call_traits: transferred, contact_number: '+14155559876', "
    "justcall_number: '+14155551234', ivr_digit: 1, disposition_codes: Interested, campaign_id: '1001', "
    "sales_dialer_number: '+14155551235'}",
    "k-token": f"{KAZOO}, auth_token: env:KAZOO_TOKEN, users: [u1, u2], max_window: 7d, filters: {{filter_direction: inbound, "
    "filter_not_origin: onnet, has_key: cdr_id, key_missing: pvt_test, has_value: call_id}",
    "k-key": f"{KAZOO}, api_key: env:KAZOO_KEY, read_only: true",
    "k-name": f"{KAZOO}, user: Archiver, password: env:KAZOO_PASSWORD, account_name: acme",
    "k-realm": f"{KAZOO}, user: archiver, password: env:KAZOO_PASSWORD, account_realm: acme.example.com, method: sha",
    "k-phone": f"{KAZOO}, user: archiver, password: env:KAZOO_PASSWORD, phone_number: '+14155551234'",
    "vobiz": f"kind: vobiz, {LOOPBACK}, backfill_from: {BACK}, auth_id: MA_DEMO0001, auth_token: env:VOBIZ_TOKEN, "
    "retention: none, "
    "filters: {call_uuid: 11223344, recording_type: trunk}",
    "plivo": f"{PLIVO}, backfill_from: {BACK}, subaccounts: [SA1, {{id: SA2, auth_token: env:PLIVO_SUB}}], filters: {{"
    "from_number: '+14155551234', to_number: '+14155559876', call_uuid: c2c1, mpc_name: board, mpc_uuid: 8f3a, "
    "conference_name: support, conference_uuid: 7abf}",
    "plivo-days": f"{PLIVO}, backfill_from: {BACK}, filters: {{{LONG}: 30, {LONG}__gt: 1, {LONG}__gte: 2, {LONG}__lt: 90, "
    f"{LONG}__lte: 89}}",
    "plivo-exactly": f"{PLIVO}, backfill_from: 2025-05-20, filters: {{subaccount: SA1, add_time: 2025-06-01 08:00}}",
    "plivo-open": f"{PLIVO}, backfill_from: 2024-12-25, "
    "filters: {add_time__gt: 2025-01-01 00:00, add_time__lt: 2025-01-20 00:00}",
    "plivo-closed": f"{PLIVO}, backfill_from: 2024-12-25, "
    "filters: {add_time__gte: 2025-01-01 00:00, add_time__lte: 2025-01-20 00:00}",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What each simulator was asked, by the provider that was configured for it."""

    by: Mapping[str, list[Seen]]

    def lists(self, name: str) -> list[Seen]:
        found = [each for each in self.by[name] if each.route is Route.LIST]
        assert found, f"{name} was never listed"
        return found

    def logins(self, name: str) -> list[tuple[str, dict[str, object]]]:
        return [(each.path, json.loads(each.body)["data"]) for each in self.by[name] if each.route is Route.AUTH]

    def spans(self, name: str, since: str, until: str) -> list[tuple[str, str]]:
        return [(each.query[since], each.query[until]) for each in self.lists(name)]


def simulators() -> dict[str, Simulator]:
    """One simulator, without a call, for each configured provider."""
    clock = SystemClock()

    def of(kind: str) -> Simulator:
        return fleet.fleet(clock, samples(), count=0)[kind]

    def kazoo() -> Simulator:
        return KazooSimulator(
            Account(),
            clock,
            account_id=ACCOUNT,
            auth_token="demo-kazoo-token",
            users=("u1", "u2"),
            credentials=Credentials(),
        )

    def plivo() -> Simulator:
        tokens = {"SA1": "other", "SA2": "sub-token"}
        return PlivoSimulator(
            Account(), clock, auth_id="MADEMODEMODEMODEMO00", auth_token="demo-plivo-token", subaccounts=tokens
        )

    kinds = {"jc": lambda: of("justcall"), "jc21": lambda: of("justcall_v21"), "vobiz": lambda: of("vobiz")}
    return {
        name: kazoo() if name.startswith("k-") else plivo() if name.startswith("plivo") else kinds[name]()
        for name in PROVIDERS
    }


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Every request of one `archiver run --once`."""
    made = workspace(tmp_path_factory.mktemp("requests"))
    made.env = dict(SECRETS)
    sims = simulators()
    said = swept(made, sims, PROVIDERS)
    assert all(sim.requests for sim in sims.values()), said
    return Asked({name: sim.requests for name, sim in sims.items()})


@pytest.mark.effect(
    "providers[].kind", "providers[].base_url", "providers[](justcall).api_key", "providers[](justcall).api_secret",
    "providers[](justcall).dialect", "providers[](justcall).sales_dialer",
)  # fmt: skip
def test_justcall_is_asked_at_its_address_with_its_key_in_its_dialect(asked: Asked) -> None:
    assert {(each.path, each.headers["authorization"]) for each in asked.lists("jc")} == {
        ("/v2/calls", "demo-key:demo-secret")
    }
    assert {(each.path, each.headers["authorization"]) for each in asked.lists("jc21")} == {
        ("/v2.1/calls", "demo-key-21:demo-secret-21"),
        ("/v2.1/sales_dialer/calls", "demo-key-21:demo-secret-21"),
    }


@pytest.mark.effect(
    "providers[](justcall).filters.direction", "providers[](justcall).filters.agent_id",
    "providers[](justcall).filters.number", "providers[](justcall).filters.status",
)  # fmt: skip
def test_justcall_filters_are_sent_with_every_page(asked: Asked) -> None:
    wanted = {"direction": "inbound", "agent_id": "42", "number": "+14155551234", "status": "completed"}
    assert all(wanted.items() <= each.query.items() for each in asked.lists("jc"))


@pytest.mark.effect(
    "providers[](justcall).filters.call_direction", "providers[](justcall).filters.call_type",
    "providers[](justcall).filters.call_traits", "providers[](justcall).filters.contact_number",
    "providers[](justcall).filters.justcall_number", "providers[](justcall).filters.ivr_digit",
    "providers[](justcall).filters.disposition_codes", "providers[](justcall).filters.campaign_id",
    "providers[](justcall).filters.sales_dialer_number",
)  # fmt: skip
def test_filters_of_the_vendors_dialect_are_sent_in_its_words(asked: Asked) -> None:
    wanted = {
        "call_direction": "Incoming", "call_type": "Answered", "call_traits": "transferred", "contact_number": "14155559876",
        "justcall_number": "14155551234", "ivr_digit": "1", "disposition_codes": "Interested", "campaign_id": "1001",
        "sales_dialer_number": "14155551235",
    }  # fmt: skip
    assert all(wanted.items() <= each.query.items() for each in asked.lists("jc21"))


@pytest.mark.effect("providers[].backfill_from")
def test_the_first_walk_goes_as_far_back_as_is_said_and_no_farther(asked: Asked) -> None:
    day_before = (BACK - timedelta(days=1)).isoformat()  # JustCall's dates are of the account's zone
    assert min(since for since, _ in asked.spans("jc", "start_date", "end_date")) == day_before
    assert min(since for since, _ in asked.spans("plivo", "add_time__gte", "add_time__lt"))[:10] == BACK.isoformat()


@pytest.mark.effect("providers[](kazoo).account_id", "providers[](kazoo).auth_token", "providers[](kazoo).users")
def test_kazoo_lists_each_named_user_and_else_the_account(asked: Asked) -> None:
    paths = {each.path for each in asked.lists("k-token")}
    assert paths == {f"/v2/accounts/{ACCOUNT}/users/{user}/recordings" for user in ("u1", "u2")}
    assert {each.headers["x-auth-token"] for each in asked.lists("k-token")} == {"demo-kazoo-token"}
    assert {each.path for each in asked.lists("k-key")} == {f"/v2/accounts/{ACCOUNT}/recordings"}


@pytest.mark.effect("providers[](kazoo).max_window")
def test_kazoo_windows_are_no_longer_than_is_said(asked: Asked) -> None:
    spans = [int(until) - int(since) for since, until in asked.spans("k-token", "created_from", "created_to")]
    assert timedelta(days=6) < timedelta(seconds=max(spans)) <= timedelta(days=7, seconds=2)
    longest = max(int(until) - int(since) for since, until in asked.spans("k-key", "created_from", "created_to"))
    assert timedelta(days=30) < timedelta(seconds=longest) <= timedelta(days=31)


@pytest.mark.effect(
    "providers[](kazoo).filters.filter_direction", "providers[](kazoo).filters.filter_not_origin",
    "providers[](kazoo).filters.has_key", "providers[](kazoo).filters.key_missing",
    "providers[](kazoo).filters.has_value",
)  # fmt: skip
def test_kazoo_filters_are_sent_with_every_page(asked: Asked) -> None:
    wanted = {
        "filter_direction": "inbound", "filter_not_origin": "onnet", "has_key": "cdr_id", "key_missing": "pvt_test",
        "has_value": "call_id",
    }  # fmt: skip
    assert all(wanted.items() <= each.query.items() for each in asked.lists("k-token"))


@pytest.mark.effect("providers[](kazoo).api_key", "providers[](kazoo).read_only")
def test_kazoo_token_is_made_from_the_api_key_and_may_only_read_when_so_asked(asked: Asked) -> None:
    assert asked.logins("k-key") == [("/v2/api_auth", {"api_key": "kazoo-api-key", "restrictions": {"get": ["#"]}})]
    assert "restrictions" not in asked.logins("k-name")[0][1]
    token = {each.headers["x-auth-token"] for each in asked.lists("k-key")}
    assert len(token) == 1
    assert token != {"kazoo-api-key"}


@pytest.mark.effect(
    "providers[](kazoo).user", "providers[](kazoo).password", "providers[](kazoo).account_name",
    "providers[](kazoo).account_realm", "providers[](kazoo).phone_number", "providers[](kazoo).method",
)  # fmt: skip
def test_kazoo_user_logs_in_by_whichever_name_of_the_account_is_known(asked: Asked) -> None:
    md5, sha = Credentials().digest("md5"), Credentials().digest("sha")
    assert asked.logins("k-name") == [("/v2/user_auth", {"credentials": md5, "method": "md5", "account_name": "acme"})]
    assert asked.logins("k-realm") == [
        ("/v2/user_auth", {"credentials": sha, "method": "sha", "account_realm": "acme.example.com"})
    ]
    assert asked.logins("k-phone") == [
        ("/v2/user_auth", {"credentials": md5, "method": "md5", "phone_number": "+14155551234"})
    ]
    assert all(asked.lists(name) for name in ("k-name", "k-realm", "k-phone"))


@pytest.mark.effect(
    "providers[](vobiz).auth_id", "providers[](vobiz).auth_token", "providers[](vobiz).filters.call_uuid",
    "providers[](vobiz).filters.recording_type",
)  # fmt: skip
def test_vobiz_is_asked_with_its_headers_and_filters(asked: Asked) -> None:
    for each in asked.lists("vobiz"):
        assert each.path == "/api/v1/Account/MA_DEMO0001/Recording/"
        assert (each.headers["x-auth-id"], each.headers["x-auth-token"]) == ("MA_DEMO0001", "demo-vobiz-token")
        assert {"call_uuid": "11223344", "recording_type": "trunk"}.items() <= each.query.items()


@pytest.mark.effect(
    "providers[](plivo).auth_id", "providers[](plivo).auth_token", "providers[](plivo).subaccounts[].id",
    "providers[](plivo).filters.from_number", "providers[](plivo).filters.to_number",
    "providers[](plivo).filters.call_uuid", "providers[](plivo).filters.mpc_name",
    "providers[](plivo).filters.mpc_uuid", "providers[](plivo).filters.conference_name",
    "providers[](plivo).filters.conference_uuid",
)  # fmt: skip
def test_plivo_is_asked_for_the_account_and_each_subaccount_with_every_filter(asked: Asked) -> None:
    wanted = {
        "from_number": "+14155551234", "to_number": "+14155559876", "call_uuid": "c2c1", "mpc_name": "board",
        "mpc_uuid": "8f3a", "conference_name": "support", "conference_uuid": "7abf",
    }  # fmt: skip
    basic = "Basic " + base64.b64encode(b"MADEMODEMODEMODEMO00:demo-plivo-token").decode()
    for each in asked.lists("plivo"):
        assert each.path == "/v1/Account/MADEMODEMODEMODEMO00/Recording/"
        assert each.headers["authorization"] == basic
        assert wanted.items() <= each.query.items()
    assert {each.query.get("subaccount") for each in asked.lists("plivo")} == {None, "SA1", "SA2"}


@pytest.mark.effect(
    "providers[](plivo).filters.recording_storage_duration", "providers[](plivo).filters.recording_storage_duration__gt",
    "providers[](plivo).filters.recording_storage_duration__gte", "providers[](plivo).filters.recording_storage_duration__lt",
    "providers[](plivo).filters.recording_storage_duration__lte",
)  # fmt: skip
def test_plivo_is_asked_by_days_in_storage_and_then_by_no_time(asked: Asked) -> None:
    name = "recording_storage_duration"
    wanted = {name: "30", f"{name}__gt": "1", f"{name}__gte": "2", f"{name}__lt": "90", f"{name}__lte": "89"}
    for each in asked.lists("plivo-days"):
        assert wanted.items() <= each.query.items()
        assert not any(key.startswith("add_time") for key in each.query)


@pytest.mark.effect(
    "providers[](plivo).filters.subaccount", "providers[](plivo).filters.add_time",
    "providers[](plivo).filters.add_time__gt", "providers[](plivo).filters.add_time__gte",
    "providers[](plivo).filters.add_time__lt", "providers[](plivo).filters.add_time__lte",
)  # fmt: skip
def test_plivo_times_narrow_what_is_asked_for(asked: Asked) -> None:
    def ends(name: str) -> tuple[str, str]:
        spans = asked.spans(name, "add_time__gte", "add_time__lt")
        return min(since for since, _ in spans), max(until for _, until in spans)

    assert ends("plivo-exactly") == ("2025-06-01 08:00:00.000000", "2025-06-01 08:00:00.000001")
    assert {each.query["subaccount"] for each in asked.lists("plivo-exactly")} == {"SA1"}
    assert ends("plivo-open") == ("2025-01-01 00:00:00.000001", "2025-01-20 00:00:00.000000")
    assert ends("plivo-closed") == ("2025-01-01 00:00:00.000000", "2025-01-20 00:00:00.000001")


def test_the_sweep_asked_nobody_else(asked: Asked, tmp_path: Path) -> None:
    """The fixture's own check: a provider that is not configured for a simulator would show here."""
    assert set(asked.by) == set(PROVIDERS)
