"""Rules that decide whether a day is complete, and that name everything nobody checked. Pure: no I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from archiver.completeness import statement
from archiver.compliance.facts import Day, Lag, Report, Stated, Verdict
from archiver.recording import PENDING, Json, Window
from archiver.schedule.window import holes, merge

_DAY = timedelta(days=1)


def judge(
    of: statement.Day,
    spans: Mapping[str, Sequence[Window]],
    since: datetime,
    now: datetime,
    stated: Stated | None,
) -> Day:
    """Judges one day. `spans`: the coverage of each scope; `since`: the time from which on calls were to be
    archived."""
    begin = datetime(of.day.year, of.day.month, of.day.day, tzinfo=UTC)
    whole = Window(begin, begin + _DAY)
    touched = any(holes(each, whole) != (whole,) for each in spans.values())
    # Time that was listed counts even before `since`: retention moves `since` on, and reports are made again later.
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
        pending=sum(states.get(name, 0) for name in PENDING),
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
    """The part of `whole` that the spans cover."""
    parts = (Window(max(each.since, whole.since), min(each.until, whole.until)) for each in merge(spans))
    return sum((each.until - each.since for each in parts if each.since < each.until), timedelta(0))


def changed(now: statement.Day, stated: Mapping[str, Json]) -> tuple[str, ...]:
    """The names of the statement's facts that the journal now says otherwise."""
    return tuple(sorted(name for name, value in statement.facts(now).items() if stated.get(name) != value))


def lag(seconds: Sequence[float]) -> Lag | None:
    """Summarises these lags; None for an empty list. A negative lag, caused by a wrong clock, counts as 0."""
    if not seconds:
        return None
    ordered = sorted(max(0.0, each) for each in seconds)

    def rank(share: float) -> timedelta:
        return timedelta(seconds=round(ordered[math.ceil(share * len(ordered)) - 1]))

    return Lag(len(ordered), rank(0.5), rank(0.95), rank(1.0))


def longest_pause(signed: Sequence[datetime], span: Window, now: datetime) -> timedelta | None:
    """The longest time without a signature, from the first signature to the month's end or `now`; None without any."""
    if not signed:
        return None
    stops = [*sorted(signed), min(span.until, now)]
    return max(after - before for before, after in pairwise(stops))


def unchecked(it: Report) -> list[str]:
    """The limits of the report, in sentences, so that a reader does not believe that more was checked than was."""
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
    """The limits that every report of this kind has."""
    full = [each for each in it.checks if each.depth == "full"]
    checks = (
        f"Everything archived was last verified, in this month, on {full[-1].at:%Y-%m-%d}; what came later was not."
        if full
        else "No verification of everything archived (archiver verify --all) is on record in this month."
    )
    itself = (
        "Making this report checked the signature and the digest of each statement. It opened no recording, and checked neither "
        "the log as a whole nor that each signing key was admitted: archiver verify --all and archiver custody fsck do."
    )
    return [checks, itself]
