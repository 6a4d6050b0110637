"""Builds the status report: the time left first, then each provider. Pure: no I/O, no clock.

The product's one number is the time left. This module does not judge the state: `alerts.judgement` does, for all forms
of the report.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from archiver.alerts.judgement import Concern, Judgement, worst
from archiver.alerts.rule import Kind, Level
from archiver.completeness.clocks import StorageCost
from archiver.completeness.verified import Integrity, Verified
from archiver.errors import Exit
from archiver.ingest.queries import Hole, ProviderCounts
from archiver.instants import precise_or_none, to_second_or_none
from archiver.recording import PENDING, Json

EDGES = (timedelta(hours=6), timedelta(hours=24), timedelta(days=3), timedelta(days=14))
EDGE_NAMES = ("< 6h", "6-24h", "1-3d", "3-14d", "> 14d or no deadline")
_QUOTA_NEAR = 0.7


@dataclass(frozen=True, slots=True)
class Outlook:
    """The forecast for one provider's backlog and account.

    `slack`: how long everything may stand still without losing anything; None with nothing to lose. `gaps`: those that
    nobody explained or acknowledged.
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
    """The custody log: its leaves, the events that wait for it, and its newest published checkpoint."""

    origin: str
    leaves: int
    waiting: int
    published_size: int
    published_at: datetime | None
    refused: int


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One provider, as it was judged. `poll_due_at` is the time by which its next complete poll must have come."""

    provider: str
    level: Level
    why: tuple[str, ...]
    counts: ProviderCounts
    waiting: int
    covered_until: datetime | None
    holes: int
    outlook: Outlook = Outlook()
    poll_due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `status` says."""

    instance: str
    at: datetime
    providers: tuple[ProviderStatus, ...]
    runway: tuple[int, ...]
    storages: Mapping[str, Mapping[str, Json]]
    replicas: Sequence[Mapping[str, Json]]
    schema: str
    custody: LogStatus | None = None
    copies_missing: Mapping[str, int] = field(default_factory=dict)
    integrity: Integrity = field(default_factory=Integrity)
    judgement: Judgement = field(default_factory=Judgement)

    @property
    def level(self) -> Level:
        return self.judgement.level

    @property
    def sentence(self) -> str:
        """The most important sentence for a person."""
        return self.judgement.sentence

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems that keep recordings from being archived."""
        return self.judgement.blocking

    @property
    def others(self) -> tuple[Concern, ...]:
        """The concerns that no provider's row shows."""
        shown = {each.provider for each in self.providers}
        return tuple(each for each in self.judgement.concerns if each.subject not in shown)


def provider_status(
    counts: ProviderCounts,
    concerns: tuple[Concern, ...],
    *,
    covered_until: datetime | None,
    holes: Sequence[Hole],
    outlook: Outlook = Outlook(),
    poll_due_at: datetime | None = None,
) -> ProviderStatus:
    """Returns one provider's row: its concerns, and other facts that explain its state without being concerns."""
    name = counts.provider
    kinds = {each.kind for each in concerns}
    list_them = f"   → archiver gaps list --provider {name}"
    why = [each.line.removeprefix(f"{name}: ") for each in concerns]
    if counts.lost and Kind.RECORDING_LOST not in kinds:
        why.append(f"{counts.lost} gone at the provider, acknowledged{list_them}")
    if counts.poll_error:
        why.append(f"last poll: {counts.poll_error}")
    if holes:
        why.append(f"{len(holes)} span(s) never looked at{list_them}")
    if counts.rejects and Kind.ROWS_REJECTED not in kinds:
        why.append(f"{counts.rejects} listed row(s) not understood{list_them}")
    near = outlook.quota_ratio is not None and outlook.quota_ratio > _QUOTA_NEAR
    if near and outlook.quota_full_at is not None and Kind.QUOTA_FILLING not in kinds:
        full = f"{outlook.quota_full_at:%Y-%m-%d}"
        why.append(f"its storage is {outlook.quota_ratio:.0%} full, and will be full on {full}")
    waiting = sum(counts.states.get(state, 0) for state in PENDING)
    return ProviderStatus(
        name, worst(concerns), tuple(why), counts, waiting, covered_until, len(holes), outlook, poll_due_at
    )


def exit_code(level: Level) -> Exit:
    """Returns the exit code of `status --check`: 0 is a claim, made only when nothing at all is wrong."""
    return {Level.ON_TIME: Exit.OK, Level.INTEGRITY: Exit.INTEGRITY, Level.LOST: Exit.LOST}.get(level, Exit.AT_RISK)


def nagios(level: Level) -> tuple[str, int]:
    """Returns the word and the code that Nagios requires."""
    if level.red:
        return "CRITICAL", 2
    return ("WARNING", 1) if level is Level.LATE else ("OK", 0)


def for_people(span: timedelta) -> str:
    """Returns a duration in its two largest units: `19h 12m`; negative ones as `-3d 1h`."""
    seconds = round(abs(span.total_seconds()))
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    largest = list(itertools.dropwhile(lambda part: not part[0], parts))[:2]
    text = " ".join(f"{count}{unit}" for count, unit in largest if count) or "0s"
    return f"-{text}" if span < timedelta(0) else text


def as_json(report: Report) -> dict[str, Json]:
    """Returns the report in the format `archiver.status/v1`: fields may be added, never renamed."""
    return {
        "instance": report.instance,
        "level": report.level,
        "sentence": report.sentence,
        "schema": report.schema,
        "problems": list(report.problems),
        "concerns": [each.as_json() for each in report.judgement.concerns],
        "runway": [{"left": name, "recordings": n} for name, n in zip(EDGE_NAMES, report.runway, strict=True)],
        "providers": [_provider_json(each) for each in report.providers],
        "storages": {name: dict(state) for name, state in report.storages.items()},
        "replicas": [dict(each) for each in report.replicas],
        "copies_missing": dict(report.copies_missing),
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
        "finished_at": precise_or_none(it.finished_at),
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
        "published_at": precise_or_none(log.published_at),
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
        "first_loss_at": precise_or_none(each.outlook.first_loss_at),
        "loses": each.outlook.loses,
        "slack_seconds": None if each.outlook.slack is None else round(each.outlook.slack.total_seconds()),
        "remedies": list(each.outlook.remedies),
        "quota_used_percent": None if each.outlook.quota_ratio is None else round(100 * each.outlook.quota_ratio),
        "quota_full_at": precise_or_none(each.outlook.quota_full_at),
        "storage_cost": None if each.outlook.storage_cost is None else each.outlook.storage_cost.as_json(),
        "nearest_deadline": to_second_or_none(counts.nearest_deadline),
        "nearest_deadline_source": counts.nearest_source,
        "covered_until": precise_or_none(each.covered_until),
        "polled_at": precise_or_none(counts.polled_at),
        "poll_succeeded_at": precise_or_none(counts.poll_succeeded_at),
        "poll_due_at": precise_or_none(each.poll_due_at),
        "poll_error": counts.poll_error,
        "parked_until": precise_or_none(counts.parked_until),
        "parked_reason": counts.parked_reason,
    }
