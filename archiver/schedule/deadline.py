"""When a recording must be safe. Pure: no I/O, no clock.

Two clocks can destroy a recording at its provider: retention (a date) and quota (the account is full, oldest first as far as
anyone knows). A link's expiry destroys nothing, since a fresh one can be had: it never enters a deadline (DESIGN §8).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ProviderRetention:
    """How long a provider keeps a recording, and who says so. Neither `keeps` nor `months`: it keeps until told otherwise."""

    source: str
    keeps: timedelta | None = None
    months: int | None = None
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """`delete_at`: when the provider may delete it. `archive_by`: when it must be safe here. `source`: why."""

    delete_at: datetime
    archive_by: datetime
    source: str


def month_cliff(called_at: datetime, months: int) -> datetime:
    """The first instant of the month in which an operator who keeps `months` month databases drops this one whole."""
    index = called_at.year * 12 + called_at.month - 1 + months
    return called_at.replace(year=index // 12, month=index % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0)


def quota_exhaustion(called_at: datetime, quota_bytes: int, bytes_per_day: float) -> datetime | None:
    """When later recordings will have filled the quota, at the present rate; None when nothing is being recorded.

    What JustCall does at its storage limit is not documented: it is treated as deletion of the oldest.
    """
    if bytes_per_day <= 0:
        return None
    days = quota_bytes / bytes_per_day
    return called_at + timedelta(days=days) if days < 36_500 else None


def deadline(
    called_at: datetime, retention: ProviderRetention, margin: timedelta, *, bytes_per_day: float = 0.0
) -> Deadline | None:
    """The earliest fatal clock of a recording, less the safety margin; None when the provider never deletes."""
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
