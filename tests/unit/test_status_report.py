"""One report, three faces: what a person reads, what a script reads, what Prometheus scrapes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from archiver.alerts.facts import Facts, StorageFacts
from archiver.alerts.judgement import judge
from archiver.alerts.rule import Level, Thresholds
from archiver.cli.status import render
from archiver.completeness.clocks import PLIVO_TERMS, VOBIZ_TERMS, StorageCost, money
from archiver.ingest.survey import ProviderCounts
from archiver.status.metrics import Metrics
from archiver.status.report import Outlook, Report, as_json, provider_status

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
COST = StorageCost(so_far=1_234_567, per_month=400_000, in_a_year=6_034_567)


NOTHING = Outlook()


def report(outlook: Outlook = NOTHING) -> Report:
    counts = ProviderCounts("plivo-us", {"archived": 3}, None, None, 0, 0, NOW, NOW, None, None, None, 0)
    judged = provider_status(counts, (), covered_until=NOW, holes=(), outlook=outlook)
    return Report("acme", NOW, (judged,), (0,) * 5, {}, (), "6")


def provider(of: Report) -> dict[str, Any]:
    providers: Any = as_json(of)["providers"]
    found: dict[str, Any] = providers[0]
    return found


def test_what_plivo_takes_for_storage_is_shown_on_every_face_with_its_source() -> None:
    shown = report(Outlook(storage_cost=COST))
    (line,) = [each for each in render(shown).splitlines() if each.startswith("cost")]
    assert line.startswith("cost  plivo-us  its storage: $1.23 so far, $0.40 a month now, $6.03 in a year")
    assert PLIVO_TERMS in line
    assert provider(shown)["storage_cost"] == {
        "so_far_micro_usd": 1_234_567,
        "per_month_micro_usd": 400_000,
        "in_a_year_micro_usd": 6_034_567,
        "source": PLIVO_TERMS,
        "currency": "USD",
    }
    metrics = Metrics("1")
    metrics.show(shown)
    text = metrics.text().decode()
    for until, value in (("now", "1.234567"), ("month", "0.4"), ("year", "6.034567")):
        assert f'archiver_provider_storage_cost_dollars{{provider="plivo-us",until="{until}"}} {value}\n' in text


def test_cost_in_a_currency_that_nobody_states_is_not_called_dollars() -> None:
    shown = report(Outlook(storage_cost=StorageCost(1_234_567, 400_000, 6_034_567, VOBIZ_TERMS, None)))
    (line,) = [each for each in render(shown).splitlines() if each.startswith("cost")]
    assert line.startswith("cost  plivo-us  its storage: 1.23 so far, 0.40 a month now, 6.03 in a year")
    metrics = Metrics("1")
    metrics.show(shown)
    assert b"archiver_provider_storage_cost_dollars{" not in metrics.text()


def test_provider_that_takes_nothing_has_no_line_no_figure_and_no_gauge() -> None:
    assert "cost" not in render(report())
    assert provider(report())["storage_cost"] is None
    metrics = Metrics("1")
    metrics.show(report())
    assert b"archiver_provider_storage_cost_dollars{" not in metrics.text()
    assert "cost" not in render(report(Outlook(storage_cost=StorageCost(0, 0, 0))))


def test_less_than_a_cent_is_not_called_nothing() -> None:
    assert [money(each) for each in (0, 1, 9_999, 10_000, 1_234_560_000)] == [
        "$0.00", "under $0.01", "under $0.01", "$0.01", "$1,234.56",
    ]  # fmt: skip


def test_what_keeps_everything_from_being_archived_is_the_first_sentence_and_never_on_time() -> None:
    refused = StorageFacts("primary", required=True, trusted=False, doubt="there is no such bucket", probed_at=NOW)
    blocked = replace(report(), judgement=judge(Facts(NOW, storages=(refused,)), Thresholds()))
    assert blocked.sentence == "Nothing can be archived: storage primary: there is no such bucket"
    assert blocked.level is Level.AT_RISK
    assert as_json(blocked)["problems"] == ["storage primary: there is no such bucket"]
    assert report().level is Level.ON_TIME
