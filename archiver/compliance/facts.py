"""What the report says. Pure: no I/O, no clock.

Every figure is the journal's at `made_at`. What stands behind it is named beside it: the day's signed statement, by its leaf in
the custody log, and whether the two still agree. A leaf under a published checkpoint cannot be taken back unnoticed.
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
    """What can be said of one day at one provider. "No calls" and "never looked" are different days."""

    COMPLETE = "complete"  # listed to the last page; all of it archived, without audio, or acknowledged
    MISSING = "missing"  # listed to the last page; something of it is not here
    PARTLY = "partly"  # hours of it were never listed
    NEVER = "never"  # nobody has looked
    OUTSIDE = "outside"  # before archiving was to begin; nobody has looked
    RUNNING = "running"  # not over when the report was made


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands. `leaf` None: signed, and still waiting for the log. `published`: under a published checkpoint."""

    log: str
    leaf: int | None
    published: bool = False


@dataclass(frozen=True, slots=True)
class Stated:
    """The newest signed statement of a day. `problem`: why it proves nothing; `changed`: what the journal now says otherwise."""

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
    """One UTC day of one provider. `asked`, `covered`: how much of it was to be, and was, listed by its least listed scope."""

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
    """How long it took, over `recordings` of them, by nearest rank."""

    recordings: int
    median: timedelta
    p95: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True)
class Late:
    """A recording that was not archived by its time. `lost_margin`: only the safety margin was used up."""

    recording: str
    called_at: datetime
    archive_by: datetime
    delete_at: datetime | None
    source: str | None
    archived_at: datetime | None

    def past_deletion(self, now: datetime) -> bool:
        """True when the provider might have deleted it before it was safe."""
        return self.delete_at is not None and (self.archived_at or now) > self.delete_at


@dataclass(frozen=True, slots=True)
class Missing:
    """A gap that stood in the month, or is about it. `events`: where each word about it stands, by what it says."""

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
        """`whole`, `part`, or None for what may still be had."""
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
    """One provider. `since`: from when on it was to be archived; `after_call`, `after_listing`: the archive lag, two ways.

    `storage_cost`: what the provider takes for keeping it, when the report was made; None where it takes nothing.
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
        """The days that are over and were to be archived, or were."""
        return tuple(each for each in self.days if each.verdict not in {Verdict.RUNNING, Verdict.OUTSIDE})

    @property
    def wanted(self) -> int:
        """How many recordings should have audio."""
        return self.total("listed") - self.total("without_audio")

    @property
    def safe(self) -> int:
        """How many are archived, or were and are disposed of."""
        return self.total("archived") + self.total("disposed")

    def total(self, name: str) -> int:
        return sum(int(getattr(each, name)) for each in self.days)

    def count(self, verdict: Verdict) -> int:
        return sum(each.verdict == verdict for each in self.days)

    @property
    def coverage(self) -> float | None:
        """The share of the time to be listed that was listed; None when there was none."""
        asked = sum((each.asked for each in self.days), timedelta(0))
        return sum((each.covered for each in self.days), timedelta(0)) / asked if asked else None

    @property
    def capture(self) -> float | None:
        """The share of what should have audio that is archived; None when there was nothing."""
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
    """One run of `archiver verify`: how much it looked at (`full`, `partly`, `sample`, `named`), and its failures by kind."""

    at: datetime
    depth: str
    recordings: int
    objects_read: int
    failures: Mapping[str, int]
    place: Place


@dataclass(frozen=True, slots=True)
class Access:
    """A recording that a person heard or exported. `who` marks what was claimed; `delivered`: an export that was finished.

    `reason` None: none was given, or it was erased, which `who` then says.
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
    """One storage: what it holds of the month, how locked, what it proved, and what comparing it found. `custody`: the log."""

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
    """How often something was said in the month, and its first and last leaf."""

    type: str
    count: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree that was signed."""

    size: int
    root: str
    signed_at: datetime
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class Vouched:
    """What others signed in the month: witnesses and time stamping authorities."""

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
    """The custody log. `newest`: the last published checkpoint when the report was made, on which the report rests."""

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
    """How the archive stood when the report was made, by the judgement that status and alerts take too."""

    level: str = "on time"
    sentence: str = "Nothing is at risk"
    concerns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All that the report says, in every form. `only`: the one provider that it is about."""

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
        """Gaps that are open and that nobody has acknowledged."""
        return sum(each.standing == "open" for each in self.gaps)

    @property
    def forged(self) -> int:
        """Statements that their signed events do not bear out."""
        days = (day for account in self.accounts for day in account.days)
        return sum(day.stated is not None and day.stated.problem is not None for day in days)

    @property
    def without_copy(self) -> int:
        """Archived recordings that a required storage has no copy of, by the journal."""
        return sum(each.without_copy for each in self.storages)

    @property
    def complete(self) -> bool:
        """Every day that was to be archived is over and complete, no gap is open, and nothing contradicts it."""
        fine = {Verdict.COMPLETE, Verdict.OUTSIDE}
        days = [each.verdict for account in self.accounts for each in account.days]
        whole = all(each in fine for each in days) and Verdict.COMPLETE in days
        return whole and not (self.unsettled or self.forged or self.without_copy)
