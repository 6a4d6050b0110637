"""The clocks of a recording, and of an account's storage: each limit, its time and its source. Pure: no I/O, no clock.

When retention or quota runs out, the recording is destroyed. When a link expires, a fresh link can be had. The three
are never mixed.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.recording import Json
from archiver.schedule.deadline import ProviderRetention, month_cliff, quota_exhaustion

BYTES_PER_SECOND = 16_000
"""The size of a recording that nobody has measured: 128 kbit/s, the format of provider-docs/justcall-*."""

PLIVO_FREE = timedelta(days=90)
PLIVO_MICROS_PER_MINUTE_MONTH = 400
"""Plivo's price: $0.0004 for each minute and month after 90 free days (provider-docs/plivo-*), billed on a month's last
day."""
PLIVO_TERMS = "Plivo's document, Recording Pricing: $0.0004 a minute and month after 90 days"
VOBIZ_TERMS = (
    "recording_storage_rate in Vobiz's rows, for each minute and month from the first day, in the account's currency"
)
_MONTH = timedelta(days=30)


class Kind(enum.StrEnum):
    """The kind of a clock. `month_end` is retention by whole months: all recordings of a month are deleted at one
    instant."""

    RETENTION = "retention"
    MONTH_END = "month_end"
    QUOTA = "quota"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Clock:
    """One limit that runs out, at `at`. `fatal`: the recording is destroyed then."""

    kind: Kind
    at: datetime
    source: str

    @property
    def fatal(self) -> bool:
        return self.kind is not Kind.LINK


def clocks(
    called_at: datetime, kept: ProviderRetention, *, bytes_per_day: float = 0.0, link_until: datetime | None = None
) -> list[Clock]:
    """Every clock of one recording, sorted by time; the earliest fatal one is `schedule.deadline`'s `delete_at`.

    `link_until`: the time when the link listed last expires, where the provider states that.
    """
    found: list[Clock] = []
    if kept.keeps is not None:
        found.append(Clock(Kind.RETENTION, called_at + kept.keeps, kept.source))
    if kept.months is not None:
        found.append(Clock(Kind.MONTH_END, month_cliff(called_at, kept.months), kept.source))
    if kept.quota_bytes is not None:
        full = quota_exhaustion(called_at, kept.quota_bytes, bytes_per_day)
        if full is not None:
            found.append(Clock(Kind.QUOTA, full, kept.source))
    if link_until is not None:
        found.append(Clock(Kind.LINK, link_until, "the link that was listed last"))
    return sorted(found, key=lambda each: each.at)


@dataclass(frozen=True, slots=True)
class Quota:
    """The use of an account's storage. `measured`: the share of `used` that was measured, not estimated from lengths.

    `full_at` is the projected instant at which the storage is full at the present rate, or now when the estimate says
    that it is full already. None when that is not in sight, because nothing is recorded or retention frees as much as
    comes.
    """

    used: int
    limit: int
    bytes_per_day: float
    measured: float
    full_at: datetime | None
    source: str

    @property
    def ratio(self) -> float:
        return self.used / self.limit


@dataclass(frozen=True, slots=True)
class Held:
    """The sum of a provider's present recordings: `weighed` bytes of those received, `unweighed_seconds` of the rest.

    `recent_bytes` were recorded over the last `recent_days`.
    """

    weighed: int
    unweighed_seconds: float
    recent_bytes: float
    recent_days: float


def quota(held: Held, kept: ProviderRetention, now: datetime) -> Quota | None:
    """The account's storage compared with its limit; None when it has no limit.

    As long as the account is younger than its retention, nothing is freed and the storage fills at the rate of
    recording; in balance it holds rate × retention. It overflows exactly when that product exceeds the limit.
    """
    if kept.quota_bytes is None:
        return None
    estimated = held.unweighed_seconds * BYTES_PER_SECOND
    used = held.weighed + round(estimated)
    rate = held.recent_bytes / held.recent_days if held.recent_days > 0 else 0.0
    balance = rate * (kept.keeps / timedelta(days=1)) if kept.keeps is not None else math.inf
    full_at = None
    if used >= kept.quota_bytes:
        full_at = now
    elif rate > 0 and balance > kept.quota_bytes:
        days = (kept.quota_bytes - used) / rate
        full_at = now + timedelta(days=days) if days < 36_500 else None
    return Quota(used, kept.quota_bytes, rate, held.weighed / used if used else 1.0, full_at, kept.source)


@dataclass(frozen=True, slots=True)
class StorageCost:
    """The cost of a provider's storage: so far, each month at present, and in total a year from now.

    In millionths of a dollar, or of a currency that nobody states (`currency` None).
    """

    so_far: int
    per_month: int
    in_a_year: int
    source: str = PLIVO_TERMS
    currency: str | None = "USD"

    def as_json(self) -> dict[str, Json]:
        """The cost in millionths, so that nothing is rounded. The members' names say dollars whatever the currency
        is."""
        return {
            "currency": self.currency,
            "so_far_micro_usd": self.so_far,
            "per_month_micro_usd": self.per_month,
            "in_a_year_micro_usd": self.in_a_year,
            "source": self.source,
        }

    def __str__(self) -> str:
        """The cost in words. The difference between the sums is the saving from deleting recordings at the provider."""
        so_far, month, year = (money(each, self.currency) for each in (self.so_far, self.per_month, self.in_a_year))
        return f"{so_far} so far, {month} a month now, {year} in a year if all stays there ({self.source})"


def money(micros: int, currency: str | None = "USD") -> str:
    """Shows millionths with two digits, dollars with their sign. Less than a cent is shown as "under 0.01", not as
    nothing."""
    sign = "$" if currency == "USD" else ""
    return f"under {sign}0.01" if 0 < micros < 10_000 else f"{sign}{micros / 1e6:,.2f}"


@dataclass(frozen=True, slots=True)
class Stay:
    """Recordings of `minutes` made at `since` that the provider keeps, until `until` if they were deleted there.

    They cost `micros` a minute and month, after the time `free`.
    """

    since: datetime
    minutes: int
    until: datetime | None = None
    micros: int = PLIVO_MICROS_PER_MINUTE_MONTH
    free: timedelta = PLIVO_FREE


def storage_cost(
    stays: list[Stay], now: datetime, source: str = PLIVO_TERMS, currency: str | None = "USD"
) -> StorageCost:
    """Sums the cost of the recordings kept. Months count as 30 days; each recording is rounded up to whole minutes.

    Cost is a soft clock: no recording is lost by it.
    """
    year = now + timedelta(days=365)
    return StorageCost(
        source=source,
        currency=currency,
        so_far=sum(_charged(each, now) for each in stays),
        per_month=sum(
            each.minutes * each.micros for each in stays if each.until is None and now - each.since >= each.free
        ),
        in_a_year=sum(_charged(each, year) for each in stays),
    )


def _charged(stay: Stay, at: datetime) -> int:
    end = at if stay.until is None else min(at, stay.until)
    months = max(timedelta(0), end - stay.since - stay.free) / _MONTH
    return round(stay.minutes * stay.micros * months)
