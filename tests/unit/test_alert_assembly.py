"""From a status report and the register of gaps to what alerts are judged by; from a configuration to channels."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from archiver.alerts.rule import Facts, Thresholds, firing
from archiver.assembly.alerts import build_dispatch, build_heartbeat, make_facts
from archiver.clock import SystemChance, SystemClock
from archiver.completeness.verified import Integrity
from archiver.config.alerting import Alerting
from archiver.config.section import Context
from archiver.database import Writer, create_engine
from archiver.errors import ConfigurationError
from archiver.ingest.survey import ProviderCounts
from archiver.status.metrics import Metrics
from archiver.status.report import Outlook, Report, judge

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def counts(name: str = "acme", **changed: Any) -> ProviderCounts:
    values: dict[str, Any] = {
        "provider": name, "states": {}, "nearest_deadline": None, "nearest_source": None, "overdue": 0, "lost": 0,
        "polled_at": NOW, "poll_succeeded_at": NOW, "poll_error": None, "parked_until": None, "parked_reason": None, "rejects": 0,
    }  # fmt: skip
    return ProviderCounts(**{**values, **changed})


def facts(*of: ProviderCounts, **changed: Any) -> Facts:
    proofs = changed.pop("proofs", {"primary": {"trusted": True}})
    replicas = changed.pop("replicas", [])
    ahead = changed.pop("outlook", Outlook())
    judged = [
        judge(each, NOW, covered_until=NOW, holes=(), poll_every=HOUR, outlook=ahead) for each in (of or (counts(),))
    ]
    integrity = changed.pop("integrity", Integrity())
    report = Report("acme-prod", NOW, tuple(judged), (), proofs, replicas, "0003", integrity=integrity)
    given: dict[str, Any] = {
        "gaps": {}, "poll_every": {"acme": timedelta(minutes=10)}, "storages": {"primary": True}, "started_at": NOW - HOUR,
        "host": "h1", "spool_used": 0, "clock_offset": timedelta(0),
    }  # fmt: skip
    return make_facts(report, **{**given, **changed})


def names(of: Facts) -> list[tuple[str, str]]:
    return [(each.kind.value, each.subject) for each in firing(of, Thresholds())]


def test_a_healthy_archive_raises_nothing() -> None:
    assert names(facts()) == []


def test_gaps_of_what_is_no_provider_are_not_forgotten() -> None:
    found = facts(gaps={"acme": {"gone_at_provider": 1}, "primary": {"orphan": 2, "chain_gap": 1}})
    assert names(found) == [("recording.lost", "acme"), ("integrity.failed", "primary"), ("gap.open", "primary")]


def test_refused_credentials_hold_until_the_next_complete_poll() -> None:
    parked = counts(parked_reason="401", parked_until=NOW - HOUR)
    assert names(facts(parked)) == [("provider.auth_failed", "acme")]


def test_a_provider_taken_out_of_the_configuration_is_not_judged_by_its_polls_but_by_its_deadlines() -> None:
    old = counts("old", poll_succeeded_at=NOW - 99 * HOUR, nearest_deadline=NOW + 50 * HOUR)
    assert names(facts(old)) == [("deadline.warning", "old")]


def test_a_storage_that_failed_or_never_answered_its_probe_is_named_with_the_check() -> None:
    failed = {"trusted": False, "checks": [{"name": "a", "ok": True, "fatal": True, "detail": ""},
                                           {"name": "lock-holds", "ok": False, "fatal": True, "detail": "deleted"}]}  # fmt: skip
    found = facts(proofs={"primary": failed, "of-old": failed}, storages={"primary": True, "second": False})
    assert found.storages == {"primary": "lock-holds: deleted", "second": "it has not been probed"}


@pytest.mark.parametrize(
    ("storages", "trusted"),
    [({"primary": True}, True), ({"primary": True, "second": False}, True), ({"primary": True, "second": True}, False)],
)
def test_only_required_storages_decide_whether_anything_is_archived(storages: dict[str, bool], trusted: bool) -> None:
    assert facts(storages=storages).trusted is trusted


def test_forecast_and_quota_come_through() -> None:
    ahead = Outlook(first_loss_at=NOW + 10 * HOUR, loses=3, slack=-HOUR, quota_ratio=0.9, quota_full_at=NOW + 40 * HOUR)
    found = facts(outlook=ahead)
    assert names(found) == [("forecast.loss", "acme"), ("quota.filling", "acme")]


def test_what_verification_found_comes_through() -> None:
    assert names(facts(integrity=Integrity(failures={"sealed_digest_differs": 2}))) == [
        ("integrity.failed", "sealed_digest_differs")
    ]


def test_only_living_replicas_on_other_hosts_speak_for_themselves() -> None:
    replicas = [
        {"host": "h1", "alive_until": "2026-11-21T12:01:00Z"},
        {"host": "h2", "alive_until": "2026-11-21T12:01:00Z"},
        {"host": "h3", "alive_until": "2026-11-21T11:00:00Z"},
    ]
    assert facts(replicas=replicas).elsewhere == {"h2"}


# --- from the configuration -------------------------------------------------------------------------------------------


@pytest.fixture
def writer(sqlite_template: Path, tmp_path: Path) -> Iterator[Writer]:
    shutil.copy(sqlite_template, tmp_path / "archiver.db")
    engine = create_engine("sqlite:///archiver.db", tmp_path)
    made = Writer(engine)
    yield made
    made.close()
    engine.dispose()


def configured(text: str) -> Alerting:
    return Alerting.model_validate(YAML(typ="base", pure=True).load(text), context=Context())


async def test_every_kind_of_channel_is_built_with_its_secrets(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "https://hooks.example.com/s3cret")
    monkeypatch.setenv("MAIL_PASSWORD", "s3cret")
    alerting = configured("""
channels:
  - {id: ops, kind: webhook, url: env:HOOK}
  - {id: mail, kind: smtp, host: h, sender: a@b, to: [c@d], user: u, password: env:MAIL_PASSWORD}
routes: [{when: [recording.lost], to: [ops]}]
heartbeat: {url: env:HOOK, every: 1m}
""")
    clock, metrics = SystemClock(), Metrics("1")
    dispatch = build_dispatch(alerting, "acme", writer, clock, SystemChance(), metrics)
    heartbeat = build_heartbeat(alerting, clock, metrics)
    assert dispatch is not None
    assert heartbeat is not None
    await dispatch.aclose()
    await heartbeat.aclose()


def test_nothing_configured_is_nothing_built(writer: Writer) -> None:
    clock, metrics = SystemClock(), Metrics("1")
    for alerting in (None, configured("{}")):
        assert build_dispatch(alerting, "acme", writer, clock, SystemChance(), metrics) is None
        assert build_heartbeat(alerting, clock, metrics) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "HOOK is not set"),
        ("http://hooks.example.com/s3cret", "allow_http is off"),
        ("s3cret", "neither https nor"),
    ],
)
def test_a_channel_that_cannot_work_stops_the_start_and_tells_no_secret(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, value: str | None, words: str
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("HOOK", value)
    alerting = configured("channels: [{id: ops, kind: webhook, url: env:HOOK}]")
    with pytest.raises(ConfigurationError, match=words) as caught:
        build_dispatch(alerting, "acme", writer, SystemClock(), SystemChance(), Metrics("1"))
    assert "s3cret" not in str(caught.value)
