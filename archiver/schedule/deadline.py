"""Computes when a recording must be safe. Pure: no I/O, no clock.

Two clocks can destroy a recording at its provider: retention (a date) and quota (the account is full, and the oldest
goes first as far as anyone knows). A link's expiry destroys nothing, since a fresh link can be had: it never enters a
deadline.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ProviderRetention:
    """A provider's retention of recordings, and the source of that statement. With neither `keeps` nor `months`, the
    provider keeps recordings until told otherwise."""

    source: str
    keeps: timedelta | None = None
    months: int | None = None
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """The deadline of a recording. `delete_at` is the time from which the provider may delete the recording,
    `archive_by` the time by which it must be safe here, `source` the reason."""

    delete_at: datetime
    archive_by: datetime
    source: str


def month_cliff(called_at: datetime, months: int) -> datetime:
    """Returns the first instant of the month in which an operator who keeps `months` month databases drops the call's
    month as a whole."""
    index = called_at.year * 12 + called_at.month - 1 + months
    return called_at.replace(year=index // 12, month=index % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0)


def quota_exhaustion(called_at: datetime, quota_bytes: int, bytes_per_day: float) -> datetime | None:
    """Returns the time at which later recordings will have filled the quota, at the present rate; None when nothing is
    being recorded.

    JustCall does not document what happens at its storage limit: the limit is treated as deletion of the oldest
    recordings.
    """
    if bytes_per_day <= 0:
        return None
    days = quota_bytes / bytes_per_day
    return called_at + timedelta(days=days) if days < 36_500 else None


def deadline(
    called_at: datetime, retention: ProviderRetention, margin: timedelta, *, bytes_per_day: float = 0.0
) -> Deadline | None:
    """Returns the earliest fatal clock of a recording, less the safety margin; None when the provider never deletes."""
    clocks: list[tuple[datetime, str]] = []
    if retention.keeps is not None:
        clocks.append((called_at + retention.keeps, f"retention: {retention.source}"))
    if retention.months is not None:
        clocks.append((month_cliff(called_at, retention.months), f"month end: {retention.source}"))
    if retention.quota_bytes is not None:
        full = quota_exhaustion(called_at, retention.quota_bytes, bytes_per_day)
        if full is not None:
            clocks.append((full, f"quota: {retention.source}"))
    if not clocks:
        return None
    delete_at, source = min(clocks)
    return Deadline(delete_at, delete_at - margin, source)
