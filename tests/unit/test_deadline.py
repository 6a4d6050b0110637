"""Deadlines: the earliest fatal clock, whichever it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from archiver.schedule.deadline import Deadline, ProviderRetention, deadline, month_cliff, quota_exhaustion

CALL = datetime(2026, 3, 10, 14, 25, 5, tzinfo=UTC)
MARGIN = timedelta(hours=72)


def test_retention_counts_from_the_end_of_the_call() -> None:
    due = deadline(CALL, ProviderRetention("plan team", keeps=timedelta(days=90)), MARGIN)
    assert due is not None
    assert due.delete_at == CALL + timedelta(days=90)
    assert due.archive_by == due.delete_at - MARGIN
    assert due.source == "retention: plan team"


@pytest.mark.parametrize(
    ("called", "months", "cliff"),
    [
        ("2026-03-10", 6, "2026-09-01"),
        ("2026-03-31", 6, "2026-09-01"),
        ("2026-12-31", 1, "2027-01-01"),
        ("2025-11-01", 14, "2027-01-01"),
        ("2026-11-30", 1, "2026-12-01"),
        ("2026-01-01", 12, "2027-01-01"),
    ],
)
def test_a_month_goes_at_once(called: str, months: int, cliff: str) -> None:
    called_at = datetime.fromisoformat(called).replace(tzinfo=UTC)
    late = called_at.replace(hour=23, minute=59, second=58, microsecond=999_999)
    for each in (called_at, late):
        assert month_cliff(each, months) == datetime.fromisoformat(cliff).replace(tzinfo=UTC)


def test_justcall_team_quota_binds_long_before_ninety_days() -> None:
    # 5 GB at 128 kbit/s mono is 86.8 hours of talk; ten hours of talk a day fill it in under nine days.
    talk = 10 * 3600 * 16_000
    full = quota_exhaustion(CALL, 5_000_000_000, talk)
    assert full is not None
    assert full - CALL == timedelta(days=5_000_000_000 / talk)
    retention = ProviderRetention("plan team", keeps=timedelta(days=90), quota_bytes=5_000_000_000)
    due = deadline(CALL, retention, MARGIN, bytes_per_day=talk)
    assert due is not None
    assert due.source == "quota: plan team"
    assert due.delete_at == full


def test_a_quota_that_nothing_fills_is_no_deadline() -> None:
    retention = ProviderRetention("plan team", keeps=timedelta(days=90), quota_bytes=5_000_000_000)
    due = deadline(CALL, retention, MARGIN, bytes_per_day=0)
    assert due is not None
    assert due.source == "retention: plan team"


@pytest.mark.parametrize(
    ("quota", "daily", "full"),
    [(10, 0, None), (10, -1, None), (10, 0.5, 20), (10, 10, 1), (36_500, 1, None), (36_499, 1, 36_499)],
)
def test_a_quota_is_full_when_later_recordings_have_filled_it_within_a_century(
    quota: int, daily: float, full: float | None
) -> None:
    assert quota_exhaustion(CALL, quota, daily) == (None if full is None else CALL + timedelta(days=full))


@pytest.mark.parametrize(
    ("keeps", "months", "quota", "source", "after"),
    [
        (None, 1, None, "month end: x", datetime(2026, 4, 1, tzinfo=UTC) - CALL),
        (10, 1, None, "retention: x", timedelta(days=10)),
        (30, 1, None, "month end: x", datetime(2026, 4, 1, tzinfo=UTC) - CALL),
        (10, 1, 5, "quota: x", timedelta(days=5)),
        (10, 1, 50, "retention: x", timedelta(days=10)),
    ],
)
def test_the_earliest_clock_that_can_destroy_a_recording_is_its_deadline(
    keeps: int | None, months: int | None, quota: int | None, source: str, after: timedelta
) -> None:
    kept = ProviderRetention("x", None if keeps is None else timedelta(days=keeps), months, quota)
    at = CALL + after
    assert deadline(CALL, kept, MARGIN, bytes_per_day=1) == Deadline(at, at - MARGIN, source)


def test_a_provider_that_never_deletes_gives_no_deadline() -> None:
    assert deadline(CALL, ProviderRetention("none stated"), MARGIN) is None
    assert deadline(CALL, ProviderRetention("x", quota_bytes=1), MARGIN) is None, "nothing is being recorded"
