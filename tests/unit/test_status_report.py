"""One report, three faces: what a person reads, what a script reads, what Prometheus scrapes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.alerts.facts import Facts, StorageFacts
from archiver.alerts.judgement import Concern, Judgement, judge
from archiver.alerts.rule import Kind, Level, Thresholds
from archiver.cli.rendered import status_report as render
from archiver.completeness.clocks import PLIVO_TERMS, VOBIZ_TERMS, StorageCost, money
from archiver.completeness.verified import Depth, Integrity, Verified
from archiver.ingest.queries import Hole, ProviderCounts
from archiver.status.metrics import Metrics
from archiver.status.report import (
    EDGES,
    LogStatus,
    Outlook,
    ProviderStatus,
    Report,
    as_json,
    exit_code,
    for_people,
    nagios,
    provider_status,
)

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


# --- one provider's row: from fact to level and lines ---------------------------------------------------------------

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
CALM = ProviderCounts("acme", {"archived": 3}, None, None, 0, 0, NOW, NOW, None, None, None, 0)
LIST = "   → archiver gaps list --provider acme"
HOLE = Hole("acme", "", NOW, NOW + HOUR)
FULL_ON = datetime(2026, 12, 24, 12, tzinfo=UTC)


def concern(kind: Kind, level: Level, subject: str = "acme", remedy: str = "") -> Concern:
    return Concern(kind, subject, level, f"{subject}: {kind.value} stands", remedy=remedy)


LOST = concern(Kind.RECORDING_LOST, Level.LOST, remedy="archiver gaps list")
REJECTED = concern(Kind.ROWS_REJECTED, Level.AT_RISK)
FILLING = concern(Kind.QUOTA_FILLING, Level.LATE)


@pytest.mark.parametrize(
    ("counts", "concerns", "holes", "outlook", "level", "why"),
    [
        ({}, (), 0, NOTHING, Level.ON_TIME, ()),
        # a concern is said without the name that the row bears, and in the judgement's order
        ({}, (LOST,), 0, NOTHING, Level.LOST, ("recording.lost stands   → archiver gaps list",)),
        ({}, (FILLING, REJECTED), 0, NOTHING, Level.AT_RISK, ("quota.filling stands", "rows.rejected stands")),
        # what is acknowledged is still shown, once
        ({"lost": 2}, (), 0, NOTHING, Level.ON_TIME, (f"2 gone at the provider, acknowledged{LIST}",)),
        ({"lost": 2}, (LOST,), 0, NOTHING, Level.LOST, ("recording.lost stands   → archiver gaps list",)),
        ({"rejects": 1}, (), 0, NOTHING, Level.ON_TIME, (f"1 listed row(s) not understood{LIST}",)),
        ({"rejects": 1}, (REJECTED,), 0, NOTHING, Level.AT_RISK, ("rows.rejected stands",)),
        ({"poll_error": "HTTP 500"}, (), 0, NOTHING, Level.ON_TIME, ("last poll: HTTP 500",)),
        ({}, (), 2, NOTHING, Level.ON_TIME, (f"2 span(s) never looked at{LIST}",)),
        # a quota, from seven tenths and when it is known when it will be full
        ({}, (), 0, Outlook(quota_ratio=0.7, quota_full_at=FULL_ON), Level.ON_TIME, ()),
        ({}, (), 0, Outlook(quota_ratio=0.71), Level.ON_TIME, ()),
        ({}, (), 0, Outlook(quota_full_at=FULL_ON), Level.ON_TIME, ()),
        ({}, (), 0, Outlook(quota_ratio=0.706, quota_full_at=FULL_ON), Level.ON_TIME,
         ("its storage is 71% full, and will be full on 2026-12-24",)),
        ({}, (FILLING,), 0, Outlook(quota_ratio=0.9, quota_full_at=FULL_ON), Level.LATE, ("quota.filling stands",)),
    ],
)  # fmt: skip
def test_a_providers_row_says_each_thing_once_with_its_level(
    counts: dict[str, Any],
    concerns: tuple[Concern, ...],
    holes: int,
    outlook: Outlook,
    level: Level,
    why: tuple[str, ...],
) -> None:
    stated = replace(CALM, **counts)
    row = provider_status(
        stated, concerns, covered_until=NOW, holes=[HOLE] * holes, outlook=outlook, poll_due_at=NOW + HOUR
    )
    assert row == ProviderStatus("acme", level, why, stated, 0, NOW, holes, outlook, NOW + HOUR)


@pytest.mark.parametrize(
    ("states", "waiting"),
    [
        ({}, 0),
        ({"listed": 1, "waiting": 10, "spooled": 100}, 111),
        ({"archived": 1, "absent": 1, "gone": 1, "disposed": 1}, 0),
    ],
)
def test_what_waits_is_all_that_is_neither_archived_nor_denied(states: dict[str, int], waiting: int) -> None:
    assert provider_status(replace(CALM, states=states), (), covered_until=None, holes=()).waiting == waiting


def test_concerns_of_a_provider_stand_in_its_row_and_all_others_beside() -> None:
    mine, of_all, of_storage = (
        FILLING,
        concern(Kind.CLOCK_SKEW, Level.LATE, ""),
        concern(Kind.GAP_OPEN, Level.LATE, "s3"),
    )
    row = provider_status(CALM, (), covered_until=None, holes=())
    shown = replace(report(), providers=(row,), judgement=Judgement((mine, of_all, of_storage)))
    assert shown.others == (of_all, of_storage)


@pytest.mark.parametrize(
    ("level", "check", "word"),
    [
        (Level.ON_TIME, 0, ("OK", 0)),
        (Level.LATE, 3, ("WARNING", 1)),
        (Level.AT_RISK, 3, ("CRITICAL", 2)),
        (Level.INTEGRITY, 65, ("CRITICAL", 2)),
        (Level.LOST, 4, ("CRITICAL", 2)),
    ],
)
def test_zero_is_claimed_only_when_nothing_at_all_is_wrong(level: Level, check: int, word: tuple[str, int]) -> None:
    assert (exit_code(level), nagios(level)) == (check, word)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(0), "0s"), (timedelta(microseconds=1), "0s"), (0.6 * SECOND, "1s"), (59 * SECOND, "59s"),
        (60 * SECOND, "1m"), (HOUR - SECOND, "59m 59s"), (HOUR, "1h"), (HOUR + SECOND, "1h"), (DAY - SECOND, "23h 59m"),
        (DAY, "1d"), (DAY + HOUR, "1d 1h"), (30 * DAY + 23 * HOUR, "30d 23h"), (400 * DAY - HOUR, "399d 23h"),
        (-SECOND, "-1s"), (-3 * DAY - HOUR, "-3d 1h"),
    ],
)  # fmt: skip
def test_a_span_is_said_in_its_two_largest_units(span: timedelta, text: str) -> None:
    assert for_people(span) == text


# --- the document that scripts read ---------------------------------------------------------------------------------


def test_the_document_has_every_field_under_the_name_that_scripts_know() -> None:
    """`archiver.status/v1`: a change of this test that is no addition breaks someone's script."""
    later = [NOW + n * DAY for n in range(12)]
    counts = ProviderCounts(
        "acme", {"listed": 1, "gone": 2}, later[0], "plan", 4, 2, later[1], later[2], "HTTP 500", later[3], "401", 5
    )
    outlook = Outlook(6, later[4], 7, 1.6 * SECOND, ("hurry",), 0.603, later[5], COST)
    row = ProviderStatus("acme", Level.LOST, ("because",), counts, 1, later[6], 8, outlook, later[7])
    verified = Verified(Depth.SAMPLE, NOW, later[8], 9, 10, {"unlocked": 11})
    everything = Report(
        "here",
        NOW,
        (row,),
        (1, 2, 3, 4, 5),
        {"s3": {"trusted": True}},
        ({"replica": "r1"},),
        "0042",
        LogStatus("log/1", 12, 13, 14, later[9], 15),
        {"s3": 16},
        Integrity(replace(verified, depth=Depth.FULL, recordings=17), verified, {"missing": 18}),
        Judgement((LOST,)),
    )
    assert as_json(everything) == {
        "instance": "here",
        "level": "lost",
        "sentence": "LOST: 0 recording(s) were deleted by their provider before they could be archived",
        "schema": "0042",
        "problems": [],
        "concerns": [LOST.as_json()],
        "runway": [
            {"left": "< 6h", "recordings": 1},
            {"left": "6-24h", "recordings": 2},
            {"left": "1-3d", "recordings": 3},
            {"left": "3-14d", "recordings": 4},
            {"left": "> 14d or no deadline", "recordings": 5},
        ],
        "providers": [
            {
                "provider": "acme",
                "level": "lost",
                "why": ["because"],
                "waiting": 1,
                "states": {"listed": 1, "gone": 2},
                "overdue": 4,
                "lost": 2,
                "rejects": 5,
                "holes": 8,
                "gaps": 6,
                "first_loss_at": "2026-11-25T12:00:00.000000Z",
                "loses": 7,
                "slack_seconds": 2,
                "remedies": ["hurry"],
                "quota_used_percent": 60,
                "quota_full_at": "2026-11-26T12:00:00.000000Z",
                "storage_cost": COST.as_json(),
                "nearest_deadline": "2026-11-21T12:00:00Z",
                "nearest_deadline_source": "plan",
                "covered_until": "2026-11-27T12:00:00.000000Z",
                "polled_at": "2026-11-22T12:00:00.000000Z",
                "poll_succeeded_at": "2026-11-23T12:00:00.000000Z",
                "poll_due_at": "2026-11-28T12:00:00.000000Z",
                "poll_error": "HTTP 500",
                "parked_until": "2026-11-24T12:00:00.000000Z",
                "parked_reason": "401",
            }
        ],
        "storages": {"s3": {"trusted": True}},
        "replicas": [{"replica": "r1"}],
        "copies_missing": {"s3": 16},
        "custody": {
            "origin": "log/1",
            "leaves": 12,
            "waiting": 13,
            "published_size": 14,
            "published_at": "2026-11-30T12:00:00.000000Z",
            "refused": 15,
        },
        "integrity": {
            "last": {
                "depth": "sample",
                "finished_at": "2026-11-29T12:00:00.000000Z",
                "recordings": 9,
                "objects_read": 10,
                "failures": {"unlocked": 11},
            },
            "last_full": {
                "depth": "full",
                "finished_at": "2026-11-29T12:00:00.000000Z",
                "recordings": 17,
                "objects_read": 10,
                "failures": {"unlocked": 11},
            },
            "failures": {"missing": 18},
        },
    }


def test_what_is_not_known_is_null_in_the_document() -> None:
    document = as_json(report())
    (row,) = document["providers"]  # type: ignore[misc]
    nulls = {name for name, value in row.items() if value is None}  # type: ignore[union-attr]
    assert nulls == {
        "first_loss_at", "slack_seconds", "quota_used_percent", "quota_full_at", "storage_cost", "nearest_deadline",
        "nearest_deadline_source", "poll_due_at", "poll_error", "parked_until", "parked_reason",
    }  # fmt: skip
    assert document["custody"] is None
    assert document["integrity"] == {"last": None, "last_full": None, "failures": {}}
    assert EDGES == (6 * HOUR, 24 * HOUR, 3 * DAY, 14 * DAY), "the runway's names say the same"
