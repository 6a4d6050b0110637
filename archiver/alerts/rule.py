"""The names of the alerts, their urgency, and the thresholds at which a fact becomes an alert. Pure: no I/O, no clock.

An alert is a condition that holds now; `judgement` finds the conditions. `route` decides when each channel is told.
Names are an interface: configurations, pages of docs/runbook and other people's filters rely on them, so names are
added, never renamed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta


class Severity(enum.StrEnum):
    """The urgency of an alert: how soon the person who receives it must act."""

    PAGE = "page"  # act now, at night too
    TICKET = "ticket"  # act within a working day
    NOTE = "note"  # news, sent once: no action is needed


class Kind(enum.StrEnum):
    """The stable names of the alerts, each with a page docs/runbook/<name>.md; `report.monthly` is news and has no
    page."""

    RECORDING_LOST = "recording.lost"
    DEADLINE_CRITICAL = "deadline.critical"
    DEADLINE_WARNING = "deadline.warning"
    FORECAST_LOSS = "forecast.loss"
    LOG_FORKED = "log.forked"
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
    VOUCHER_SILENT = "voucher.silent"
    ANSWERS_ODD = "answers.odd"
    VERIFY_BEHIND = "verify.behind"
    REPORT_MONTHLY = "report.monthly"

    @property
    def severity(self) -> Severity:
        if self is Kind.REPORT_MONTHLY:
            return Severity.NOTE
        return Severity.PAGE if self in _PAGES else Severity.TICKET

    @property
    def runbook(self) -> str:
        """The path of the page that says what to do, from the root of the repository; "" for news."""
        return "" if self.severity is Severity.NOTE else f"docs/runbook/{self.value}.md"


_PAGES = frozenset(
    {
        Kind.RECORDING_LOST,
        Kind.DEADLINE_CRITICAL,
        Kind.LOG_FORKED,
        Kind.INTEGRITY_FAILED,
        Kind.PROVIDER_AUTH_FAILED,
        Kind.STORAGE_NOT_TRUSTED,
        Kind.SPOOL_FILLING,
    }
)

GAPS = {
    "gone_at_provider": Kind.RECORDING_LOST,
    "month_boundary": Kind.RECORDING_LOST,
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
    "events_refused": Kind.INTEGRITY_FAILED,
    "unlocked": Kind.LOCK_SHORT,
    "log_forked": Kind.LOG_FORKED,
    "witness_silent": Kind.VOUCHER_SILENT,
    "timestamp_silent": Kind.VOUCHER_SILENT,
    "answer_not_understood": Kind.ANSWERS_ODD,
}
"""The alert that each reason code of a gap raises; every other code raises `gap.open`."""


class Level(enum.StrEnum):
    """The level of a concern, for status and exit codes, from the least to the worst."""

    ON_TIME = "on time"
    LATE = "late"  # work is behind; nothing is endangered by that yet
    AT_RISK = "at risk"  # unless something changes, recordings will be lost, or may be missed without anybody seeing it
    INTEGRITY = "integrity"  # bytes, locks or history are not what they should be
    LOST = "lost"

    @property
    def red(self) -> bool:
        """True when somebody has to act: no output may be green, and no heartbeat may be sent."""
        return self not in {Level.ON_TIME, Level.LATE}


def level_of(code: str) -> Level:
    """The level of an open gap with this reason code. A code that is not named here is at risk: new codes are red at
    once."""
    return _GAP_LEVELS.get(code) or _KIND_LEVELS.get(GAPS.get(code, Kind.GAP_OPEN), Level.AT_RISK)


_KIND_LEVELS = {
    Kind.RECORDING_LOST: Level.LOST,
    Kind.LOG_FORKED: Level.INTEGRITY,
    Kind.INTEGRITY_FAILED: Level.INTEGRITY,
    Kind.VOUCHER_SILENT: Level.LATE,
    Kind.LOCK_SHORT: Level.INTEGRITY,
}
_GAP_LEVELS = {
    "copy_missing": Level.LATE,  # another storage has the recording
    "truncated_at_provider": Level.LOST,  # the rest of the recording is lost
    "not_ready": Level.LATE,  # the provider itself says that the audio is to come
    "edits_deferred": Level.LATE,  # the recordings are saved all the same
    "orphan": Level.LATE,  # nothing is missing: the storage has something that the journal does not know
}

LOCAL = frozenset({Kind.SPOOL_FILLING, Kind.CLOCK_SKEW})
"""Alerts about one host: their subject is the host's name, and only that host's replica can tell whether they hold."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One condition that holds. `subject`: a provider, a storage, a host, or "" for the archive as a whole.

    `weight` counts what is wrong where counting makes sense: when it grows, the alert is sent again at once.
    """

    kind: Kind
    subject: str
    sentence: str
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds at which a fact becomes an alert. `spool` and `quota` are percentages."""

    warning: timedelta = timedelta(hours=72)
    critical: timedelta = timedelta(hours=24)
    stalled: timedelta = timedelta(hours=1)
    checkpoint: timedelta = timedelta(hours=3)
    clock: timedelta = timedelta(seconds=2)
    spool: int = 80
    quota: int = 85
