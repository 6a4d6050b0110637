"""Clocks, quota and storage cost, against figures worked out by hand from the provider documents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from archiver.completeness.clocks import (
    PLIVO_FREE,
    PLIVO_MICROS_PER_MINUTE_MONTH,
    Clock,
    Held,
    Kind,
    Stay,
    StorageCost,
    clocks,
    money,
    quota,
    storage_cost,
)
from archiver.completeness.gap import profile
from archiver.providers.justcall import LINK_LIFE
from archiver.schedule.deadline import ProviderRetention, deadline

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TEAM = ProviderRetention("JustCall plan team", 90 * DAY, None, 5 * 10**9)


def test_three_clocks_are_kept_apart_and_only_two_are_fatal() -> None:
    found = clocks(NOW, TEAM, bytes_per_day=100e6, link_until=NOW + DAY)
    assert [(each.kind, each.at, each.fatal) for each in found] == [
        (Kind.LINK, NOW + DAY, False),
        (Kind.QUOTA, NOW + 50 * DAY, True),
        (Kind.RETENTION, NOW + 90 * DAY, True),
    ]
    assert found[1].source == "JustCall plan team"


def test_link_clock_is_known_where_the_documents_state_one() -> None:
    assert profile("justcall").link_life == LINK_LIFE
    assert [profile(kind).link_life for kind in ("kazoo", "vobiz", "plivo")] == [None] * 3


@pytest.mark.parametrize("rate", [0.0, 10e6, 100e6])
def test_first_fatal_clock_is_the_deadline_that_the_queue_goes_by(rate: float) -> None:
    for kept in (TEAM, ProviderRetention("operator", months=6), ProviderRetention("both", 200 * DAY, 3)):
        found = [each.at for each in clocks(NOW, kept, bytes_per_day=rate) if each.fatal]
        due = deadline(NOW, kept, timedelta(0), bytes_per_day=rate)
        assert due is not None
        assert found[0] == due.delete_at


def test_kazoo_month_falls_at_once() -> None:
    kept = ProviderRetention("operator", months=6)
    first, last = (clocks(datetime(2026, 5, day, 23, tzinfo=UTC), kept)[0] for day in (1, 31))
    assert first.kind is Kind.MONTH_END
    assert first.at == last.at == datetime(2026, 11, 1, tzinfo=UTC)


def test_justcall_quota_fills_on_the_projected_day() -> None:
    """5 GB at 128 kbit/s are 86.8 hours; at an hour and a half a day they are full 58 days after an empty start."""
    hours = 1.5
    per_day = hours * 3600 * 16_000
    found = quota(Held(0, 20 * hours * 3600, 20 * per_day, 20), TEAM, NOW)
    assert found is not None
    assert found.used == 20 * per_day
    assert found.measured == 0
    assert found.full_at is not None
    assert round((found.full_at - NOW) / DAY, 1) == round(5e9 / per_day - 20, 1) == 37.9


def test_quota_that_retention_frees_in_time_is_never_full() -> None:
    """90 days of an hour a day are 5.18 GB: just too much. Of 0.96 hours: 4.98 GB, which fits for ever."""
    much, little = (quota(Held(0, 10 * 3600, hours * 3600 * 16_000 * 30, 30), TEAM, NOW) for hours in (1.0, 0.96))
    assert much is not None
    assert little is not None
    assert much.full_at is not None
    assert little.full_at is None


def test_weighed_bytes_count_as_they_are_and_a_full_account_is_full_now() -> None:
    found = quota(Held(4_900_000_000, 6250, 1e9, 30), TEAM, NOW)
    assert found is not None
    assert (found.used, found.ratio, found.full_at) == (5_000_000_000, 1.0, NOW)
    assert found.measured == 0.98


def test_account_without_quota_or_without_recordings_has_no_projection() -> None:
    assert quota(Held(1, 1, 1, 1), ProviderRetention("contract", 90 * DAY), NOW) is None
    silent = quota(Held(0, 0, 0, 30), TEAM, NOW)
    assert silent is not None
    assert silent.full_at is None


@pytest.mark.parametrize(
    ("held", "kept", "used", "rate", "full_in"),
    [
        (Held(0, 0, 10, 0), TEAM, 0, 0.0, None),  # no days, no rate
        (Held(3, 0.5, 4, 2), TEAM, 8003, 2.0, None),
        # nothing is ever freed: full as soon as there is a rate, within a century
        (Held(10, 0, 4, 2), ProviderRetention("x", quota_bytes=20), 10, 2.0, 5),
        (Held(10, 0, 0, 2), ProviderRetention("x", quota_bytes=20), 10, 0.0, None),
        (Held(0, 0, 1, 1), ProviderRetention("x", quota_bytes=36_499), 0, 1.0, 36_499),
        (Held(0, 0, 1, 1), ProviderRetention("x", quota_bytes=36_500), 0, 1.0, None),
        # in balance it holds rate × retention: one byte more than fits, and exactly what fits
        (Held(10, 0, 2, 1), ProviderRetention("x", 10 * DAY, quota_bytes=19), 10, 2.0, 4.5),
        (Held(10, 0, 2, 1), ProviderRetention("x", 10 * DAY, quota_bytes=20), 10, 2.0, None),
        (Held(20, 0, 0, 1), ProviderRetention("x", 10 * DAY, quota_bytes=20), 20, 0.0, 0),
    ],
)
def test_an_account_is_full_when_more_comes_than_retention_frees(
    held: Held, kept: ProviderRetention, used: int, rate: float, full_in: float | None
) -> None:
    found = quota(held, kept, NOW)
    assert found is not None
    assert (found.used, found.limit, found.bytes_per_day) == (used, kept.quota_bytes, rate)
    assert found.full_at == (None if full_in is None else NOW + full_in * DAY)
    assert (found.source, found.measured) == (kept.source, held.weighed / used if used else 1.0)


def test_every_clock_that_is_set_is_shown_with_who_says_so() -> None:
    kept = ProviderRetention("operator", 10 * DAY, 1, 5)
    assert clocks(NOW, kept, bytes_per_day=1, link_until=NOW + 11 * DAY) == [
        Clock(Kind.QUOTA, NOW + 5 * DAY, "operator"),
        Clock(Kind.MONTH_END, datetime(2026, 12, 1, tzinfo=UTC), "operator"),
        Clock(Kind.RETENTION, NOW + 10 * DAY, "operator"),
        Clock(Kind.LINK, NOW + 11 * DAY, "the link that was listed last"),
    ]
    assert clocks(NOW, kept)[0].kind is Kind.MONTH_END, "a quota that nothing fills is no clock"
    assert clocks(NOW, ProviderRetention("none")) == []


@pytest.mark.parametrize(
    ("micros", "currency", "text"),
    [
        (0, "USD", "$0.00"),
        (1, "USD", "under $0.01"),
        (9_999, None, "under 0.01"),
        (10_000, "USD", "$0.01"),
        (1_234_567_890, None, "1,234.57"),
        (10**12, "USD", "$1,000,000.00"),
    ],
)
def test_a_sum_is_said_in_dollars_only_where_they_are(micros: int, currency: str | None, text: str) -> None:
    assert money(micros, currency) == text


def test_what_is_charged_begins_when_the_free_time_ends_and_ends_with_deletion() -> None:
    def charged(days: float, *, until: float | None = None, free: timedelta = 30 * DAY) -> tuple[int, int]:
        stay = Stay(NOW - days * DAY, 2, None if until is None else NOW + until * DAY, 500, free)
        cost = storage_cost([stay], NOW)
        return cost.so_far, cost.per_month

    assert charged(29) == (0, 0)
    assert charged(30) == (0, 1000)
    assert charged(60) == (1000, 1000)
    assert charged(75) == (1500, 1000)
    assert charged(60, until=-15) == (500, 0)
    assert charged(60, until=-45) == (0, 0)
    assert charged(60, until=300) == (1000, 0)
    assert charged(15, free=timedelta(0)) == (500, 1000)
    cost = storage_cost([], NOW, "x", None)
    assert (cost.so_far, cost.per_month, cost.in_a_year, cost.source, cost.currency) == (0, 0, 0, "x", None)
    assert str(StorageCost(1, 20_000, 3, "x", None)) == (
        "under 0.01 so far, 0.02 a month now, under 0.01 in a year if all stays there (x)"
    )


def test_plivo_costs_nothing_for_ninety_days_and_then_by_minute_and_month() -> None:
    assert (PLIVO_FREE, PLIVO_MICROS_PER_MINUTE_MONTH) == (90 * DAY, 400)
    fresh = storage_cost([Stay(NOW - 90 * DAY, 1000)], NOW)
    assert fresh.currency == "USD"
    assert (fresh.so_far, fresh.per_month) == (0, 400_000)
    old = storage_cost([Stay(NOW - 150 * DAY, 1000), Stay(NOW - 150 * DAY, 1000, NOW - 120 * DAY)], NOW)
    assert (
        old.so_far == 2 * 400_000
    )  # two months of a thousand minutes: 80 cents; what was deleted within 90 days is free
    assert old.per_month == 400_000
    assert old.in_a_year == old.so_far + round(365 / 30 * 400_000)
