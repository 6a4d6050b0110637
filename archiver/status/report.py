"""The status report: the runway first, then each provider. Pure: no I/O, no clock.

The product's one number is the time left. A recording is *at risk* when its provider may delete it within the critical lead time,
*late* when its archive-by has passed, *lost* when the provider deleted it first.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from archiver.completeness.clocks import StorageCost
from archiver.completeness.verified import Integrity, Verified
from archiver.ingest.survey import Hole, ProviderCounts
from archiver.recording import Json, State

EDGES = (timedelta(hours=6), timedelta(hours=24), timedelta(days=3), timedelta(days=14))
EDGE_NAMES = ("< 6h", "6-24h", "1-3d", "3-14d", "> 14d or no deadline")
_QUOTA_NEAR = 0.7
_WAITING = (State.LISTED, State.WAITING, State.SPOOLED)


class Level(enum.StrEnum):
    """How a provider stands. The order is the order of alarm."""

    ON_TIME = "on time"
    LATE = "late"
    AT_RISK = "at risk"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What becomes of one provider's backlog and account as things stand.

    `slack`: how long everything may stand still without losing anything; None with nothing to lose. `gaps` that nobody explained
    or acknowledged.
    """

    gaps: int = 0
    first_loss_at: datetime | None = None
    loses: int = 0
    slack: timedelta | None = None
    remedies: tuple[str, ...] = ()
    quota_ratio: float | None = None
    quota_full_at: datetime | None = None
    storage_cost: StorageCost | None = None


@dataclass(frozen=True, slots=True)
class LogStatus:
    """The custody log: its leaves, what waits for it, and its newest published head."""

    origin: str
    leaves: int
    waiting: int
    published_size: int
    published_at: datetime | None
    refused: int


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One provider, judged."""

    provider: str
    level: Level
    why: tuple[str, ...]
    counts: ProviderCounts
    waiting: int
    covered_until: datetime | None
    holes: int
    outlook: Outlook = Outlook()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `status` says. `problems`: what keeps everything from being archived."""

    instance: str
    at: datetime
    providers: tuple[ProviderStatus, ...]
    runway: tuple[int, ...]
    storages: Mapping[str, Mapping[str, Json]]
    replicas: Sequence[Mapping[str, Json]]
    schema: str
    custody: LogStatus | None = None
    integrity: Integrity = field(default_factory=Integrity)
    problems: tuple[str, ...] = field(default=())

    @property
    def level(self) -> Level:
        """The worst of all; what keeps everything from being archived makes late."""
        least = Level.LATE if self.problems else Level.ON_TIME
        return max([least, *(each.level for each in self.providers)], key=list(Level).index)

    @property
    def sentence(self) -> str:
        """What a person needs to know first."""
        lost = sum(each.counts.lost for each in self.providers)
        if lost:
            return f"LOST: {lost} recording(s) were deleted by their provider before they could be archived"
        if self.integrity.failures:
            return f"INTEGRITY: verification found {sum(self.integrity.failures.values())} mismatch(es)"
        risky = [each for each in self.providers if each.level is Level.AT_RISK]
        if risky:
            nearest = min(each.counts.nearest_deadline or self.at for each in risky)
            left = for_people(nearest - self.at) if nearest > self.at else "no time"
            return f"AT RISK: {sum(each.counts.overdue for each in risky)} recording(s) late, {left} left for the first"
        if self.problems:
            return f"Nothing can be archived: {self.problems[0]}"
        if any(each.level is Level.LATE for each in self.providers):
            return "Late: some work is behind, nothing is at risk yet"
        return "Nothing is at risk"


def judge(
    counts: ProviderCounts,
    now: datetime,
    *,
    covered_until: datetime | None,
    holes: Sequence[Hole],
    poll_every: timedelta,
    critical: timedelta = timedelta(hours=24),
    outlook: Outlook = Outlook(),
) -> ProviderStatus:
    """Where one provider stands and every reason for it."""
    why: list[str] = []
    levels = [Level.ON_TIME]
    waiting = sum(counts.states.get(state, 0) for state in _WAITING)
    if counts.lost:
        levels.append(Level.LOST)
        why.append(f"{counts.lost} gone at the provider   → archiver gaps list --provider {counts.provider}")
    if counts.nearest_deadline is not None and counts.nearest_deadline - now < critical:
        levels.append(Level.AT_RISK)
        why.append(f"{counts.nearest_source}: {for_people(counts.nearest_deadline - now)} left for the first")
    if counts.overdue:
        levels.append(Level.LATE)
        why.append(f"{counts.overdue} recording(s) past the safety margin")
    if counts.parked_until is not None and counts.parked_until > now:
        levels.append(Level.LATE)
        why.append(f"parked: {counts.parked_reason}   → archiver providers test {counts.provider}")
    if counts.poll_error:
        why.append(f"last poll: {counts.poll_error}")
    if counts.poll_succeeded_at is None or now - counts.poll_succeeded_at > max(3 * poll_every, timedelta(minutes=5)):
        levels.append(Level.LATE)
        since = "ever" if counts.poll_succeeded_at is None else f"for {for_people(now - counts.poll_succeeded_at)}"
        why.append(f"no complete poll {since}")
    if holes:
        why.append(f"{len(holes)} span(s) never looked at   → archiver gaps list --provider {counts.provider}")
    if counts.rejects:
        why.append(f"{counts.rejects} listed row(s) not understood   → archiver gaps list --provider {counts.provider}")
    if outlook.first_loss_at is not None:
        levels.append(Level.AT_RISK)
        advice = f"; {outlook.remedies[0]}" if outlook.remedies else ""
        first = f"{outlook.first_loss_at:%Y-%m-%d %H:%M}"
        why.append(f"at this pace {outlook.loses} recording(s) will be lost, the first at {first}{advice}")
    if outlook.quota_full_at is not None and outlook.quota_ratio is not None and outlook.quota_ratio > _QUOTA_NEAR:
        why.append(
            f"its storage is {outlook.quota_ratio:.0%} full, and will be full on {outlook.quota_full_at:%Y-%m-%d}"
        )
    if outlook.gaps:
        why.append(f"{outlook.gaps} open gap(s)   → archiver gaps list --provider {counts.provider}")
    order = list(Level)
    level = max(levels, key=order.index)
    return ProviderStatus(counts.provider, level, tuple(why), counts, waiting, covered_until, len(holes), outlook)


def for_people(span: timedelta) -> str:
    """A duration in its two largest units: `19h 12m`; negative ones as `-3d 1h`."""
    seconds = round(abs(span.total_seconds()))
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    text = " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count) or "0s"
    return f"-{text}" if span < timedelta(0) else text


def as_json(report: Report) -> dict[str, Json]:
    """`archiver.status/v1`: fields may be added, never renamed."""
    return {
        "instance": report.instance,
        "level": report.level,
        "sentence": report.sentence,
        "schema": report.schema,
        "problems": list(report.problems),
        "runway": [{"left": name, "recordings": n} for name, n in zip(EDGE_NAMES, report.runway, strict=True)],
        "providers": [_provider_json(each) for each in report.providers],
        "storages": {name: dict(state) for name, state in report.storages.items()},
        "replicas": [dict(each) for each in report.replicas],
        "custody": None if report.custody is None else _log_json(report.custody),
        "integrity": {
            "last": _verified_json(report.integrity.last),
            "last_full": _verified_json(report.integrity.full),
            "failures": dict(report.integrity.failures),
        },
    }


def _verified_json(it: Verified | None) -> Json:
    if it is None:
        return None
    return {
        "depth": it.depth,
        "finished_at": _iso(it.finished_at),
        "recordings": it.recordings,
        "objects_read": it.objects,
        "failures": dict(it.failures),
    }


def _log_json(log: LogStatus) -> dict[str, Json]:
    return {
        "origin": log.origin,
        "leaves": log.leaves,
        "waiting": log.waiting,
        "published_size": log.published_size,
        "published_at": _iso(log.published_at),
        "refused": log.refused,
    }


def _provider_json(each: ProviderStatus) -> dict[str, Json]:
    counts = each.counts
    return {
        "provider": each.provider,
        "level": each.level,
        "why": list(each.why),
        "waiting": each.waiting,
        "states": dict(counts.states),
        "overdue": counts.overdue,
        "lost": counts.lost,
        "rejects": counts.rejects,
        "holes": each.holes,
        "gaps": each.outlook.gaps,
        "first_loss_at": _iso(each.outlook.first_loss_at),
        "loses": each.outlook.loses,
        "slack_seconds": None if each.outlook.slack is None else round(each.outlook.slack.total_seconds()),
        "remedies": list(each.outlook.remedies),
        "quota_used_percent": None if each.outlook.quota_ratio is None else round(100 * each.outlook.quota_ratio),
        "quota_full_at": _iso(each.outlook.quota_full_at),
        "storage_cost": None if each.outlook.storage_cost is None else each.outlook.storage_cost.as_json(),
        "nearest_deadline": _iso(counts.nearest_deadline),
        "nearest_deadline_source": counts.nearest_source,
        "covered_until": _iso(each.covered_until),
        "polled_at": _iso(counts.polled_at),
        "poll_succeeded_at": _iso(counts.poll_succeeded_at),
        "poll_error": counts.poll_error,
        "parked_until": _iso(counts.parked_until),
        "parked_reason": counts.parked_reason,
    }


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")
