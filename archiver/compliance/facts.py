"""The facts of the report. Pure: no I/O, no clock.

Every figure is the journal's at `made_at`. Its proof is named beside it: the day's signed statement, by its leaf in the
custody log, and whether statement and journal still agree. Nobody can remove a leaf under a published checkpoint
unnoticed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from archiver.completeness.clocks import StorageCost
from archiver.completeness.gap import Code
from archiver.compliance.month import Month
from archiver.recording import Json

LOST_WHOLE = frozenset({Code.GONE, Code.MONTH_BOUNDARY, Code.MISSING_HERE, Code.DIGEST_DIFFERS})
LOST_IN_PART = frozenset({Code.TRUNCATED})


class Verdict(enum.StrEnum):
    """The verdict on one day at one provider. "No calls" and "never looked" are different verdicts."""

    COMPLETE = "complete"  # listed to the last page; all of it archived, without audio, or acknowledged
    MISSING = "missing"  # listed to the last page; something of it is not here
    PARTLY = "partly"  # hours of it were never listed
    NEVER = "never"  # nobody has listed the day
    OUTSIDE = "outside"  # before archiving was to begin; nobody has listed the day
    RUNNING = "running"  # not over when the report was made


@dataclass(frozen=True, slots=True)
class Place:
    """The place of an event in the log. `leaf` None: the event is signed and still waits for the log.

    `published`: the leaf is under a published checkpoint.
    """

    log: str
    leaf: int | None
    published: bool = False


@dataclass(frozen=True, slots=True)
class Stated:
    """The newest signed statement of a day.

    `problem`: why the statement proves nothing, or None. `changed`: the names of the facts that the journal now says
    otherwise.
    """

    revision: int
    sha256: str
    at: datetime | None
    place: Place
    problem: str | None
    changed: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return self.problem is None and not self.changed


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day of one provider. `asked`: the time to be listed; `covered`: the time listed by the least listed
    scope."""

    day: date
    verdict: Verdict
    asked: timedelta
    covered: timedelta
    listed: int
    archived: int
    without_audio: int
    pending: int
    gone: int
    absent: int
    disposed: int
    gaps_open: int
    gaps_acknowledged: int
    rejects: int
    archived_bytes: int
    archived_for: timedelta
    stated: Stated | None


@dataclass(frozen=True, slots=True)
class Lag:
    """The archive lag of `recordings` recordings: median, 95th percentile (both by nearest rank) and maximum."""

    recordings: int
    median: timedelta
    p95: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True)
class Late:
    """A recording that was not archived by `archive_by`. It may still have been archived before `delete_at`."""

    recording: str
    called_at: datetime
    archive_by: datetime
    delete_at: datetime | None
    source: str | None
    archived_at: datetime | None

    def past_deletion(self, now: datetime) -> bool:
        """True when the provider might have deleted the recording before it was archived."""
        return self.delete_at is not None and (self.archived_at or now) > self.delete_at


@dataclass(frozen=True, slots=True)
class Missing:
    """A gap that was open in the month, or is about the month. `events`: the places of its custody events, by
    status."""

    id: str
    provider: str
    subject: str
    code: str
    grade: str
    detail: str
    evidence: Mapping[str, Json]
    since: datetime | None
    until: datetime | None
    opened_at: datetime
    closed_at: datetime | None
    acked_at: datetime | None
    acked_by: str | None
    ack_reason: str | None
    events: Mapping[str, Place]

    @property
    def loss(self) -> str | None:
        """`whole` or `part` for a loss; None for a recording that may still be saved."""
        return "whole" if self.code in LOST_WHOLE else "part" if self.code in LOST_IN_PART else None

    @property
    def standing(self) -> str:
        if self.closed_at is not None:
            return "closed"
        return "acknowledged" if self.acked_at is not None else self.grade


@dataclass(frozen=True, slots=True)
class Kept:
    """Recordings of the month under one retention rule."""

    rule: str
    recordings: int
    first_until: datetime | None
    last_until: datetime | None


@dataclass(frozen=True, slots=True)
class Account:
    """One provider. `since`: the time from which on it was to be archived.

    `after_call`, `after_listing`: the archive lag, counted from the call and from the listing. `storage_cost`: the
    provider's price for keeping the recordings, when the report was made; None where no price is stated.
    """

    provider: str
    configured: bool
    since: datetime | None
    scopes: int
    days: tuple[Day, ...]
    after_call: Lag | None
    after_listing: Lag | None
    late: tuple[Late, ...]
    late_total: int
    past_deletion: int
    kept: tuple[Kept, ...]
    polled_at: datetime | None
    poll_succeeded_at: datetime | None
    storage_cost: StorageCost | None = None

    @property
    def judged(self) -> tuple[Day, ...]:
        """The days that are over and that were to be archived, or were archived all the same."""
        return tuple(each for each in self.days if each.verdict not in {Verdict.RUNNING, Verdict.OUTSIDE})

    @property
    def wanted(self) -> int:
        """The number of recordings that should have audio."""
        return self.total("listed") - self.total("without_audio")

    @property
    def safe(self) -> int:
        """The number of recordings that are archived, or were archived and are disposed of."""
        return self.total("archived") + self.total("disposed")

    def total(self, name: str) -> int:
        return sum(int(getattr(each, name)) for each in self.days)

    def count(self, verdict: Verdict) -> int:
        return sum(each.verdict == verdict for each in self.days)

    @property
    def coverage(self) -> float | None:
        """The share of the time to be listed that was listed; None without any time to be listed."""
        asked = sum((each.asked for each in self.days), timedelta(0))
        return sum((each.covered for each in self.days), timedelta(0)) / asked if asked else None

    @property
    def capture(self) -> float | None:
        """The archived share of the recordings that should have audio; None without such recordings."""
        return self.safe / self.wanted if self.wanted else None


@dataclass(frozen=True, slots=True)
class Run:
    """One comparison of a storage, or of the custody log, with the journal."""

    at: datetime
    copies: int
    versions: int
    locks_read: int
    findings: Mapping[str, int]
    place: Place


@dataclass(frozen=True, slots=True)
class Check:
    """One run of `archiver verify`: its depth (`full`, `partly`, `sample`, `named`, `rolling`), and its failures by kind."""

    at: datetime
    depth: str
    recordings: int
    objects_read: int
    failures: Mapping[str, int]
    place: Place


@dataclass(frozen=True, slots=True)
class Access:
    """A person's access: a recording was heard or exported. `delivered`: the export was finished.

    `who` marks names that were only claimed. `reason` None: no reason was given, or it was erased, which `who` then
    says.
    """

    at: datetime
    what: str
    recording: str
    who: str
    reason: str | None
    export: str | None
    delivered: bool | None
    place: Place


@dataclass(frozen=True, slots=True)
class Storage:
    """One storage: its copies of the month, their locks, its last probe, and its comparisons with the journal.

    The id `custody` stands for the custody log.
    """

    id: str
    required: bool | None
    copies: int
    bytes: int
    locks: Mapping[str, int]
    first_until: datetime | None
    on_hold: int
    not_read_back: int
    without_copy: int
    trusted: bool | None
    probed_at: datetime | None
    failed: tuple[str, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Events:
    """The number of events of one type in the month, and their first and last leaf."""

    type: str
    count: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One signed tree of the log."""

    size: int
    root: str
    signed_at: datetime
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class Vouched:
    """The signatures of one witness or time stamping authority in the month."""

    kind: str
    name: str
    count: int
    last_at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that claimed to be an event and was not let into the log."""

    number: int
    subject: str | None
    seq: int
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Log:
    """The custody log. `newest`: the last checkpoint published when the report was made; it is the report's proof."""

    origin: str
    size: int
    waiting: int
    newest: Checkpoint | None
    events: tuple[Events, ...]
    checkpoints: int
    published: int
    first: Checkpoint | None
    last: Checkpoint | None
    longest_pause: timedelta | None
    vouched: tuple[Vouched, ...]
    refused: tuple[Refused, ...]

    def said(self, type_: str) -> int:
        return sum(each.count for each in self.events if each.type == type_)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of the archive when the report was made, by the judgement that status and alerts use too."""

    level: str = "on time"
    sentence: str = "Nothing is at risk"
    concerns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All facts of the report, in every form. `only`: the one provider that the report is about; None for all."""

    instance: str
    version: str
    month: Month
    made_at: datetime
    only: str | None
    accounts: tuple[Account, ...]
    gaps: tuple[Missing, ...]
    storages: tuple[Storage, ...]
    log: Log | None
    checks: tuple[Check, ...] = ()
    standing: Standing = field(default_factory=Standing)
    accesses: tuple[Access, ...] = ()

    @property
    def preliminary(self) -> bool:
        return self.made_at < self.month.span.until

    @property
    def losses(self) -> tuple[Missing, ...]:
        return tuple(each for each in self.gaps if each.loss is not None)

    @property
    def unsettled(self) -> int:
        """The number of open gaps that nobody has acknowledged."""
        return sum(each.standing == "open" for each in self.gaps)

    @property
    def forged(self) -> int:
        """The number of statements that do not verify against their signed events."""
        days = (day for account in self.accounts for day in account.days)
        return sum(day.stated is not None and day.stated.problem is not None for day in days)

    @property
    def without_copy(self) -> int:
        """The number of copies of archived recordings that required storages lack, by the journal."""
        return sum(each.without_copy for each in self.storages)

    @property
    def complete(self) -> bool:
        """True when every day that was to be archived is over and complete, no gap is open, and nothing contradicts
        that."""
        fine = {Verdict.COMPLETE, Verdict.OUTSIDE}
        days = [each.verdict for account in self.accounts for each in account.days]
        whole = all(each in fine for each in days) and Verdict.COMPLETE in days
        return whole and not (self.unsettled or self.forged or self.without_copy)
