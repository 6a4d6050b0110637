"""What is worth waking somebody for. Pure: facts and thresholds in, alerts out; nothing here remembers.

An alert is a condition that holds now. When it began, who was told and when it ended is `route`'s business. Names are an
interface: configurations, pages of docs/runbook and filters of others rest on them, so they are added, never renamed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

_WEEKEND = timedelta(days=4)
_LOOKS = timedelta(minutes=1)  # facts are looked at every 20 s: a lead time is kept although a look may fail


class Severity(enum.StrEnum):
    """What is asked of whoever is told."""

    PAGE = "page"  # act now, at night too
    TICKET = "ticket"  # act within a working day
    NOTE = "note"  # nothing: it is news, told once


class Kind(enum.StrEnum):
    """The stable names, each with a page docs/runbook/<name>.md; `report.monthly` is news and has none."""

    RECORDING_LOST = "recording.lost"
    DEADLINE_CRITICAL = "deadline.critical"
    DEADLINE_WARNING = "deadline.warning"
    FORECAST_LOSS = "forecast.loss"
    INTEGRITY_FAILED = "integrity.failed"
    COVERAGE_GAP = "coverage.gap"
    SUSPICIOUS_EMPTY = "suspicious_empty"
    ROWS_REJECTED = "rows.rejected"
    GAP_OPEN = "gap.open"
    POLL_STALLED = "poll.stalled"
    PROVIDER_AUTH_FAILED = "provider.auth_failed"
    QUOTA_FILLING = "quota.filling"
    STORAGE_NOT_TRUSTED = "storage.not_trusted"
    LOCK_SHORT = "lock.short"
    SPOOL_FILLING = "spool.filling"
    CLOCK_SKEW = "clock.skew"
    CHECKPOINT_OVERDUE = "checkpoint.overdue"
    REPORT_MONTHLY = "report.monthly"

    @property
    def severity(self) -> Severity:
        if self is Kind.REPORT_MONTHLY:
            return Severity.NOTE
        return Severity.PAGE if self in _PAGES else Severity.TICKET

    @property
    def runbook(self) -> str:
        """The page that says what to do, from the root of the documentation; "" for news."""
        return "" if self.severity is Severity.NOTE else f"docs/runbook/{self.value}.md"


_PAGES = frozenset(
    {
        Kind.RECORDING_LOST,
        Kind.DEADLINE_CRITICAL,
        Kind.INTEGRITY_FAILED,
        Kind.PROVIDER_AUTH_FAILED,
        Kind.STORAGE_NOT_TRUSTED,
        Kind.SPOOL_FILLING,
    }
)

GAPS = {
    "gone_at_provider": Kind.RECORDING_LOST,
    "never_listed": Kind.COVERAGE_GAP,
    "total_differs": Kind.COVERAGE_GAP,
    "clock_jumped": Kind.COVERAGE_GAP,
    "suspicious_empty": Kind.SUSPICIOUS_EMPTY,
    "history_gone": Kind.SUSPICIOUS_EMPTY,
    "credentials_narrowed": Kind.SUSPICIOUS_EMPTY,
    "volume_zero": Kind.SUSPICIOUS_EMPTY,
    "volume_dropped": Kind.SUSPICIOUS_EMPTY,
    "row_not_understood": Kind.ROWS_REJECTED,
    "missing_here": Kind.INTEGRITY_FAILED,
    "extra_version": Kind.INTEGRITY_FAILED,
    "delete_marker": Kind.INTEGRITY_FAILED,
    "digest_differs": Kind.INTEGRITY_FAILED,
    "chain_gap": Kind.INTEGRITY_FAILED,
    "unlocked": Kind.LOCK_SHORT,
}
"""Which alert a gap's reason code raises; `gap.open` for every other."""

LOCAL = frozenset({Kind.SPOOL_FILLING, Kind.CLOCK_SKEW})
"""Conditions of one host: their subject is its name, and only its own replica can tell whether they hold."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One condition that holds. `subject`: a provider, a storage, a host, or "" for the archive as a whole.

    `weight` counts what is wrong where counting makes sense: when it grows, the alert is told again at once.
    """

    kind: Kind
    subject: str
    sentence: str
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a fact becomes an alert. `spool` and `quota` are percentages."""

    warning: timedelta = timedelta(hours=72)
    critical: timedelta = timedelta(hours=24)
    stalled: timedelta = timedelta(hours=1)
    checkpoint: timedelta = timedelta(hours=3)
    clock: timedelta = timedelta(seconds=2)
    spool: int = 80
    quota: int = 85


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """One provider as the status report and the completeness checks see it. What is not known stays at its default.

    `gaps`: open gaps by reason code, less those that a person acknowledged.
    `poll_every` is None for a provider polled by cron: it may rest over a weekend. `refused`: why its credentials are refused.
    `slack`: how long everything may stand still without losing anything, negative when something is lost even at the present
    pace, and then `first_loss_at` says when; None with nothing to lose. `quota_used` is a percentage.
    """

    provider: str
    gaps: Mapping[str, int] = field(default_factory=dict)
    nearest_deadline: datetime | None = None
    nearest_source: str | None = None
    poll_succeeded_at: datetime | None = None
    poll_every: timedelta | None = None
    refused: str | None = None
    slack: timedelta | None = None
    first_loss_at: datetime | None = None
    quota_used: int | None = None
    quota_full_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The archive at one instant.

    `host` is ours, `elsewhere` those of the other living replicas. `storages`: for each, None when it is trusted, otherwise why
    it is not; `required`, those without which nothing is archived. `integrity`: what verification found, by kind, until all was
    verified anew. `spool_used` is a percentage. `clock_offset`: ours less the database's.
    `checkpoint_at`: the last one published; None where none is expected yet.
    """

    now: datetime
    started_at: datetime
    host: str = ""
    elsewhere: frozenset[str] = frozenset()
    providers: Sequence[ProviderFacts] = ()
    storages: Mapping[str, str | None] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    integrity: Mapping[str, int] = field(default_factory=dict)
    spool_used: int = 0
    clock_offset: timedelta = timedelta(0)
    checkpoint_at: datetime | None = None

    @property
    def trusted(self) -> bool:
        """True when every required storage proved its lock."""
        return all(self.storages.get(each, "") is None for each in self.required)


def firing(facts: Facts, limits: Thresholds) -> tuple[Alert, ...]:
    """Every alert that holds, at most one for each kind and subject."""
    found = [
        alert
        for each in facts.providers
        for alert in (*_gaps(each), *_deadlines(each, facts, limits), *_polling(each, facts, limits))
    ]
    return (*found, *_archive(facts, limits))


def _gaps(each: ProviderFacts) -> Iterator[Alert]:
    """What is known to be missing, and nobody has accounted for."""
    by_kind: dict[Kind, dict[str, int]] = {}
    for code, count in sorted(each.gaps.items()):
        if count:
            by_kind.setdefault(GAPS.get(code, Kind.GAP_OPEN), {})[code] = count
    for kind, codes in by_kind.items():
        what = ", ".join(f"{count} {code}" for code, count in codes.items())
        yield Alert(
            kind,
            each.provider,
            f"{each.provider}: {_MEANS[kind]}: {what}   → archiver gaps list --provider {each.provider}",
            sum(codes.values()),
        )


_MEANS = {
    Kind.RECORDING_LOST: "deleted by the provider before it could be archived",
    Kind.COVERAGE_GAP: "time that was not listed in full",
    Kind.SUSPICIOUS_EMPTY: "listings that cannot be believed",
    Kind.ROWS_REJECTED: "listed rows that are not understood",
    Kind.INTEGRITY_FAILED: "copies or their history are not what they should be",
    Kind.LOCK_SHORT: "copies that are locked too short or not at all",
    Kind.GAP_OPEN: "recordings that are missing or doubtful",
}


def _deadlines(each: ProviderFacts, facts: Facts, limits: Thresholds) -> Iterator[Alert]:
    """How much time is left for what is not archived."""
    name = each.provider
    if each.nearest_deadline is not None:
        left = each.nearest_deadline - facts.now
        for kind, limit in ((Kind.DEADLINE_CRITICAL, limits.critical), (Kind.DEADLINE_WARNING, limits.warning)):
            if left < limit:
                yield Alert(kind, name, f"{name}: {_deadline(left)} ({each.nearest_source or 'source unknown'})")
    lead = max(limits.warning, limits.critical)
    if each.slack is not None and each.slack < lead + _LOOKS:
        if each.first_loss_at is not None:
            what = f"at the present pace the first recording is lost {_in(each.first_loss_at - facts.now)}"
        else:
            what = f"if nothing were fetched from now on, a recording could no longer be saved {_in(each.slack)}"
        yield Alert(Kind.FORECAST_LOSS, name, f"{name}: {what}")
    used = each.quota_used
    if used is not None and used >= limits.quota:
        full = "" if each.quota_full_at is None else f"; it is full {_in(each.quota_full_at - facts.now)}"
        yield Alert(Kind.QUOTA_FILLING, name, f"{name}: {used} % of the provider's storage is used{full}")


def _polling(each: ProviderFacts, facts: Facts, limits: Thresholds) -> Iterator[Alert]:
    """Whether the provider is being looked at."""
    name = each.provider
    if each.refused is not None:
        yield Alert(Kind.PROVIDER_AUTH_FAILED, name, f"{name}: the provider refuses the credentials: {each.refused}")
    patience = _WEEKEND if each.poll_every is None else max(limits.stalled, 3 * each.poll_every)
    last = each.poll_succeeded_at
    # Counted from the last poll and not from our start: a restart must not look like the end of the trouble.
    if facts.now - (last or facts.started_at) > patience:
        ever = "none ever" if last is None else f"the last one at {last:%Y-%m-%d %H:%M} UTC"
        yield Alert(Kind.POLL_STALLED, name, f"{name}: no complete poll for too long; {ever}")


def _archive(facts: Facts, limits: Thresholds) -> Iterator[Alert]:
    """Storages, and the archive as a whole."""
    for storage, problem in facts.storages.items():
        if problem is not None:
            yield Alert(
                Kind.STORAGE_NOT_TRUSTED,
                storage,
                f"{storage} did not prove that it keeps what it is given, so nothing is archived there: {problem}",
            )
    for what, count in facts.integrity.items():
        if count:
            yield Alert(
                Kind.INTEGRITY_FAILED, what, f"verification found {count} × {what}   → archiver verify --all", count
            )
    if facts.spool_used >= limits.spool:
        yield Alert(
            Kind.SPOOL_FILLING,
            facts.host,
            f"{facts.host}: the spool is {facts.spool_used} % full; when it is full, fetching waits for the storage",
        )
    if abs(facts.clock_offset) > limits.clock:
        side = "ahead of" if facts.clock_offset > timedelta(0) else "behind"
        yield Alert(
            Kind.CLOCK_SKEW,
            facts.host,
            f"{facts.host}: this machine's clock is {abs(facts.clock_offset).total_seconds():.0f} s {side} the database's",
        )
    if facts.checkpoint_at is not None and facts.now - facts.checkpoint_at > limits.checkpoint:
        yield Alert(
            Kind.CHECKPOINT_OVERDUE,
            "",
            f"the last custody checkpoint was published at {facts.checkpoint_at:%Y-%m-%d %H:%M} UTC",
        )


def _deadline(left: timedelta) -> str:
    if left <= timedelta(0):
        return "a recording that is not archived may already have been deleted by the provider"
    return f"the first recording that is not archived will be deleted by the provider {_in(left)}"


def _in(left: timedelta) -> str:
    """`in 19 h`: coarse, so that the sentence stays the same for a while."""
    if left <= timedelta(0):
        return "now"
    hours = left.total_seconds() / 3600
    if hours >= 72:
        return f"in {hours / 24:.0f} d"
    return f"in {hours:.0f} h" if hours >= 2 else f"in {hours * 60:.0f} min"
