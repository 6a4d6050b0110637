"""What the report says, and the rules by which a day is called complete. Pure: no I/O, no clock.

Every figure is the journal's at `made_at`. What stands behind it is named beside it: the day's signed statement, by its leaf in
the custody log, and whether the two still agree. A leaf under a published checkpoint cannot be taken back unnoticed.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from archiver.completeness import statement
from archiver.completeness.gap import Code
from archiver.compliance.month import Month
from archiver.custody.event import Type
from archiver.recording import Json, Window
from archiver.schedule.window import holes, merge

_DAY = timedelta(days=1)
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
    """One provider. `since`: from when on it was to be archived; `after_call`, `after_listing`: the archive lag, two ways."""

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
    def complete(self) -> bool:
        """Every day that was to be archived is over and complete, and no gap is open."""
        fine = {Verdict.COMPLETE, Verdict.OUTSIDE}
        days = [each.verdict for account in self.accounts for each in account.days]
        return bool(days) and not self.unsettled and all(each in fine for each in days) and Verdict.COMPLETE in days


# --- rules --------------------------------------------------------------------------------------------------------


def judge(
    of: statement.Day,
    spans: Mapping[str, Sequence[Window]],
    since: datetime,
    now: datetime,
    stated: Stated | None,
) -> Day:
    """One day by what is known of it. `spans`: the coverage of each scope, `since`: what was to be archived begins there."""
    begin = datetime(of.day.year, of.day.month, of.day.day, tzinfo=UTC)
    whole = Window(begin, begin + _DAY)
    touched = any(holes(each, whole) != (whole,) for each in spans.values())
    # What was looked at counts, though it is older than what has to be: retention moves on, reports are made again.
    asked = Window(max(begin, since) if since < whole.until else begin, whole.until)
    covered = min((_within(each, asked) for each in spans.values()), default=timedelta(0))
    outside = since >= whole.until and not touched
    if whole.until > now:
        verdict = Verdict.RUNNING
    elif outside:
        verdict = Verdict.OUTSIDE
    elif not any(_within(each, asked) for each in spans.values()):
        verdict = Verdict.NEVER
    elif covered < asked.until - asked.since:
        verdict = Verdict.PARTLY
    else:
        verdict = Verdict.COMPLETE if statement.is_complete(of) else Verdict.MISSING
    counted = verdict not in {Verdict.RUNNING, Verdict.OUTSIDE}
    states = of.states
    return Day(
        day=of.day,
        verdict=verdict,
        asked=asked.until - asked.since if counted else timedelta(0),
        covered=covered if counted else timedelta(0),
        listed=sum(states.values()),
        archived=states.get("archived", 0),
        without_audio=of.silent,
        pending=sum(states.get(name, 0) for name in ("listed", "waiting", "spooled")),
        gone=states.get("gone", 0),
        absent=states.get("absent", 0) - of.silent,
        disposed=states.get("disposed", 0),
        gaps_open=sum(each.grade == "open" and not each.acknowledged for each in of.gaps),
        gaps_acknowledged=sum(each.acknowledged for each in of.gaps),
        rejects=of.rejects,
        archived_bytes=of.archived_bytes,
        archived_for=timedelta(milliseconds=of.archived_ms),
        stated=stated,
    )


def _within(spans: Sequence[Window], whole: Window) -> timedelta:
    """How much of `whole` the spans cover."""
    parts = (Window(max(each.since, whole.since), min(each.until, whole.until)) for each in merge(spans))
    return sum((each.until - each.since for each in parts if each.since < each.until), timedelta(0))


def changed(now: statement.Day, stated: Mapping[str, Json]) -> tuple[str, ...]:
    """What the journal says otherwise than the statement did, by the statement's own names."""
    return tuple(sorted(name for name, value in statement.facts(now).items() if stated.get(name) != value))


def lag(seconds: Sequence[float]) -> Lag | None:
    """None of nothing. What is negative, as a clock that was wrong makes it, counts as none."""
    if not seconds:
        return None
    ordered = sorted(max(0.0, each) for each in seconds)

    def rank(share: float) -> timedelta:
        return timedelta(seconds=round(ordered[math.ceil(share * len(ordered)) - 1]))

    return Lag(len(ordered), rank(0.5), rank(0.95), rank(1.0))


def longest_pause(signed: Sequence[datetime], span: Window, now: datetime) -> timedelta | None:
    """The longest time in the month, as far as it is over, without a signature; None when there is none at all."""
    if not signed:
        return None
    stops = [*sorted(signed), min(span.until, now)]
    return max(after - before for before, after in pairwise(stops))


def unchecked(it: Report) -> list[str]:
    """What the report does not show, in sentences: whoever reads it shall not believe more than was done."""
    return [*_time(it), *_statements(it), *_storages(it), *_log(it), *_never(it)]


def _time(it: Report) -> list[str]:
    said = []
    if it.preliminary:
        said.append("The month was not over when this report was made: days that were not over are not judged.")
    if it.only is not None:
        said.append(f"This report is about {it.only} alone; nothing is said of other providers.")
    for each in it.accounts:
        for verdict, words in (
            (Verdict.NEVER, "were never listed: whether there were calls is not known"),
            (Verdict.PARTLY, "were listed in part: what the other hours hold is not known"),
            (Verdict.OUTSIDE, "lie before archiving was to begin, and were not listed"),
        ):
            if count := each.count(verdict):
                said.append(f"{each.provider}: {count} day(s) {words}.")
        if not each.configured:
            said.append(
                f"{each.provider} is no longer configured: it is judged by the scopes that were listed at any time; "
                "whether they were all of its scopes is not known."
            )
    return said


def _statements(it: Report) -> list[str]:
    said = []
    for each in it.accounts:
        over = each.judged
        unstated = sum(day.stated is None for day in over)
        bad = sum(day.stated is not None and day.stated.problem is not None for day in over)
        stale = sum(day.stated is not None and bool(day.stated.changed) for day in over)
        if unstated:
            said.append(
                f"{each.provider}: {unstated} day(s) have no signed statement; their figures rest on the journal alone."
            )
        if stale:
            said.append(
                f"{each.provider}: the journal has changed since {stale} day(s) were stated; they rest on the journal alone."
            )
        if bad:
            said.append(f"{each.provider}: {bad} statement(s) DO NOT VERIFY against their signed events.")
    return said


def _storages(it: Report) -> list[str]:
    said = []
    for each in it.storages:
        name = "The custody log" if each.id == "custody" else f"Storage {each.id}"
        if not each.runs:
            said.append(f"{name} was not compared with the journal in this month.")
        if each.id == "custody":
            continue
        if each.trusted is None:
            said.append(f"{name} has never been probed: whether it enforces locks is not known.")
        if each.not_read_back:
            said.append(f"{name}: {each.not_read_back} copies were not read back when they were stored.")
        if off := each.locks.get("off", 0):
            said.append(f"{name}: {off} copies have no Object Lock: nothing but access rights protects them.")
        if each.runs and sum(run.locks_read for run in each.runs) < each.copies:
            said.append(f"{name}: locks are read back by sample; not every lock was read in this month.")
    return said


def _log(it: Report) -> list[str]:
    if it.log is None:
        return ["There is no custody log: nothing here is anchored."]
    said = []
    if it.log.newest is None:
        said.append(
            "No checkpoint has been published: leaves are named, and nothing outside the database bears them out."
        )
    if it.log.waiting:
        said.append(f"{it.log.waiting} event(s) are signed and wait for the log.")
    if not it.log.checkpoints:
        said.append("No checkpoint was signed in this month.")
    for kind, words in (
        ("witness", "No witness has cosigned"),
        ("time stamp", "No time stamping authority has signed"),
    ):
        if not any(each.kind == kind for each in it.log.vouched):
            said.append(
                f"{words} a checkpoint of this month: that nothing was rewritten rests on the published checkpoints."
            )
    return said


def _never(it: Report) -> list[str]:
    """What no report of this kind does."""
    reread = it.log.said(Type.FIXITY_CHECKED) if it.log is not None else 0
    checks = (
        f"{reread} re-readings of stored recordings are on record in this month."
        if reread
        else "No re-reading of stored recordings is on record in this month (archiver verify leaves no record of itself)."
    )
    itself = (
        "Making this report checked the signature and the digest of each statement. It opened no recording, and checked neither "
        "the log as a whole nor that each signing key was admitted: archiver verify --all and archiver custody fsck do."
    )
    return [checks, itself]
