"""Deadlines: the earliest fatal clock, whichever it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from archiver.schedule.deadline import ProviderRetention, deadline, month_cliff, quota_exhaustion

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
    ],
)
def test_a_month_goes_at_once(called: str, months: int, cliff: str) -> None:
    called_at = datetime.fromisoformat(called).replace(tzinfo=UTC)
    assert month_cliff(called_at, months) == datetime.fromisoformat(cliff).replace(tzinfo=UTC)


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


def test_a_provider_that_never_deletes_gives_no_deadline() -> None:
    assert deadline(CALL, ProviderRetention("none stated"), MARGIN) is None
