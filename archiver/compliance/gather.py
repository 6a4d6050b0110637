"""Reads the report's facts from journal, register and custody log. Reads only; call it over one instant of the database."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from archiver import errors
from archiver.completeness import holdings, issue, register, statement
from archiver.completeness.gap import profile
from archiver.completeness.issue import Issued
from archiver.completeness.observe import Watched
from archiver.compliance import log, rules
from archiver.compliance.facts import (
    Access,
    Account,
    Check,
    Kept,
    Lag,
    Late,
    Missing,
    Report,
    Run,
    Standing,
    Stated,
    Storage,
)
from archiver.compliance.log import Trail
from archiver.compliance.month import Month
from archiver.custody.access import accesses
from archiver.custody.event import ARCHIVE, Type, verify
from archiver.ingest import discovery, survey
from archiver.ingest.day_counts import states
from archiver.ingest.tables import copy, coverage, recording
from archiver.recording import State, Window
from archiver.translog.note import VerifierKey

_LATE_SHOWN = 50
_CUSTODY = "custody"


@dataclass(frozen=True, slots=True)
class Asked:
    """The request for one report. `storages`: the configured storages, and whether each is required.

    `only`: the one provider to report on; None for all. `witnesses`: the keys whose cosignatures count.
    """

    instance: str
    version: str
    month: Month
    made_at: datetime
    watched: Sequence[Watched]
    storages: Mapping[str, bool]
    only: str | None = None
    standing: Standing = field(default_factory=Standing)
    witnesses: Sequence[VerifierKey] = ()


def gather(conn: Connection, it: Asked) -> Report:
    """Reads all facts of the report."""
    trail = log.trail(conn)
    known = {each.provider for each in it.watched}
    everyone = [*it.watched, *(each for each in _remembered(conn, it) if each.provider not in known)]
    accounts = [
        _account(conn, it, each, trail, configured=each.provider in known)
        for each in everyone
        if it.only in {None, each.provider}
    ]
    return Report(
        it.instance, it.version, it.month, it.made_at, it.only,
        tuple(accounts), tuple(_gaps(conn, it, trail)), tuple(_storages(conn, it, trail)),
        log.month(conn, trail, it.month.span, it.made_at, it.witnesses), tuple(_checks(it, trail)),
        it.standing, tuple(_accesses(conn, it, trail)),
    )  # fmt: skip


def _remembered(conn: Connection, it: Asked) -> list[Watched]:
    """The providers that the journal knows: a provider that was removed from the configuration stays visible."""
    scopes: dict[str, list[str]] = {name: [] for name in states(conn)}
    for row in conn.execute(select(coverage.c.provider, coverage.c.scope).distinct().order_by(coverage.c.scope)):
        scopes.setdefault(row.provider, []).append(row.scope)
    return [
        Watched(name, profile("unknown"), tuple(found), Window(it.month.span.since, it.made_at))
        for name, found in sorted(scopes.items())
    ]


def _account(conn: Connection, it: Asked, of: Watched, trail: Trail, *, configured: bool) -> Account:
    span, days = it.month.span, it.month.days
    spans = {scope: discovery.covered(conn, of.provider, scope) for scope in of.scopes}
    issued = {each.day: each for each in issue.statements(conn, of.provider, days[0], span.until.date())}
    found = []
    for day, seen in issue.survey_days(conn, of, days).items():
        stated = _stated(issued[day], seen, trail) if day in issued else None
        found.append(rules.judge(seen, spans, of.whole.since, it.made_at, stated))
    (counts,) = [each for each in survey.counts(conn, [of.provider], it.made_at) if each.provider == of.provider]
    late, past = _late(conn, it, of.provider)
    after_call, after_listing = _lags(conn, of.provider, span)
    return Account(
        provider=of.provider,
        configured=configured,
        since=of.whole.since if configured else None,
        scopes=len(of.scopes),
        days=tuple(found),
        after_call=after_call,
        after_listing=after_listing,
        late=tuple(late[:_LATE_SHOWN]),
        late_total=len(late),
        past_deletion=past,
        kept=tuple(_kept(conn, of.provider, span)),
        polled_at=counts.polled_at,
        poll_succeeded_at=counts.poll_succeeded_at,
        storage_cost=holdings.storage_cost_of(conn, of.provider, of.profile.kind, it.made_at),
    )


def _stated(it: Issued, now: statement.Day, trail: Trail) -> Stated:
    """A day's statement, checked against its signed event and compared with the journal."""
    raw, place = trail.event(ARCHIVE, it.seq)
    problem: str | None = None
    at: datetime | None = None
    differs: tuple[str, ...] = ()
    try:
        event = verify(raw or b"")
        at, differs = event.at, rules.changed(now, statement.check(it.document, event.data))
    except errors.VerificationError as failed:
        problem = str(failed) if raw is not None else "its signed event is not in the log"
    sha256 = hashlib.sha256(it.document).hexdigest()
    return Stated(it.revision, sha256, at, place, problem, differs)


def _of_month(provider: str | None, span: Window) -> ColumnElement[bool]:
    """The condition for recordings of calls that began in the month, or were listed then if the call's time is not known."""
    columns = recording.c
    called = and_(columns.call_started_at >= span.since, columns.call_started_at < span.until)
    listed = and_(columns.call_started_at.is_(None), columns.listed_at >= span.since, columns.listed_at < span.until)
    ours = or_(called, listed)
    return ours if provider is None else and_(columns.provider == provider, ours)


def _lags(conn: Connection, provider: str, span: Window) -> tuple[Lag | None, Lag | None]:
    """The archive lags: from the call's end, and from the listing, until every required storage's copy was read back."""
    columns = recording.c
    after_call, after_listing = array("d"), array("d")
    rows = conn.execute(
        select(columns.call_ended_at, columns.call_started_at, columns.listed_at, columns.archived_at)
        .where(_of_month(provider, span), columns.archived_at.is_not(None))
        .execution_options(stream_results=True)
    )
    for part in rows.partitions(5_000):
        for row in part:
            after_listing.append((row.archived_at - row.listed_at).total_seconds())
            if (ended := row.call_ended_at or row.call_started_at) is not None:
                after_call.append((row.archived_at - ended).total_seconds())
    return rules.lag(after_call), rules.lag(after_listing)


def _late(conn: Connection, it: Asked, provider: str) -> tuple[list[Late], int]:
    """The recordings not archived by their time, and the number of them past deletion.

    Recordings of the month's calls, and recordings whose `archive_by` fell into the month. Recordings that are gone count as
    losses instead.
    """
    columns, span = recording.c, it.month.span
    fell = and_(columns.archive_by >= span.since, columns.archive_by < span.until, columns.provider == provider)
    rows = conn.execute(
        select(recording)
        .where(
            or_(_of_month(provider, span), fell),
            columns.archive_by < func.coalesce(columns.archived_at, it.made_at),
            columns.state.not_in([State.GONE, State.ABSENT]),
        )
        .order_by(columns.delete_at, columns.id)
    )
    late = [
        Late(row.id, row.call_started_at or row.listed_at, row.archive_by, row.delete_at, row.deadline_source, row.archived_at)
        for row in rows
    ]  # fmt: skip
    return late, sum(each.past_deletion(it.made_at) for each in late)


def _kept(conn: Connection, provider: str, span: Window) -> Iterator[Kept]:
    columns = recording.c
    rule = func.coalesce(columns.retention_rule, "")
    until = columns.retain_until
    rows = conn.execute(
        select(
            rule.label("rule"), func.count().label("n"), func.min(until).label("first"), func.max(until).label("last")
        )
        .where(_of_month(provider, span), columns.state == State.ARCHIVED)
        .group_by(rule)
        .order_by(rule)
    )
    for row in rows:
        yield Kept(row.rule, row.n, row.first, row.last)


# --- gaps ---------------------------------------------------------------------------------------------------------


def _gaps(conn: Connection, it: Asked, trail: Trail) -> Iterator[Missing]:
    """Yields every gap that was open in the month, or is about the month, by provider, the open gaps first."""
    span = it.month.span
    rows = [each for each in map(_missing, register.open_gaps(conn, it.only, closed=True)) if _touches(each, span)]
    said = trail.gap_events({each.subject for each in rows}, min((each.opened_at for each in rows), default=None))
    rank = {"open": 0, "watched": 1, "acknowledged": 2, "closed": 3}
    for each in sorted(rows, key=lambda row: (row.provider, rank[row.standing], row.opened_at, row.id)):
        yield replace(each, events=said.get(each.id, {}))


def _touches(it: Missing, span: Window) -> bool:
    ends = (it.opened_at, it.closed_at or it.opened_at)  # in either order: a clock may have run ahead in between
    stood = min(ends) < span.until and (it.closed_at is None or max(ends) >= span.since)
    about = it.since is not None and it.since < span.until and (it.until or it.since) >= span.since
    return stood or about


def _missing(row: Mapping[str, Any]) -> Missing:
    names = ("id", "provider", "subject", "code", "grade", "detail", "evidence", "acked_by", "ack_reason")
    instants = ("since", "until", "opened_at", "closed_at", "acked_at")
    given: dict[str, Any] = {name: row[name] for name in names}
    given |= {name: datetime.fromisoformat(row[name]) if row[name] else None for name in instants}
    return Missing(**given, events={})


# --- storages -----------------------------------------------------------------------------------------------------


def _storages(conn: Connection, it: Asked, trail: Trail) -> Iterator[Storage]:
    runs = _runs(it, trail)
    proved = survey.storages(conn)
    archived = conn.execute(
        select(func.count()).where(_of_month(it.only, it.month.span), recording.c.state == State.ARCHIVED)
    ).scalar_one()
    for name in [*it.storages, *sorted((proved.keys() | runs.keys()) - it.storages.keys() - {_CUSTODY}), _CUSTODY]:
        held, locks = _held(conn, it, name)
        probe = proved.get(name, {})
        checks: Any = probe.get("checks") or []
        yield Storage(
            id=name,
            required=it.storages.get(name),
            copies=held["copies"],
            bytes=held["bytes"],
            locks=locks,
            first_until=held["first"],
            on_hold=held["on_hold"],
            not_read_back=held["unread"],
            without_copy=max(0, archived - held["copies"]) if it.storages.get(name) else 0,
            trusted=None if not probe else bool(probe["trusted"]),
            probed_at=datetime.fromisoformat(str(probe["probed_at"])) if probe else None,
            failed=tuple(str(each["name"]) for each in checks if not each["ok"]),
            runs=tuple(runs.get(name, ())),
        )


def _held(conn: Connection, it: Asked, storage: str) -> tuple[dict[str, Any], dict[str, int]]:
    """A storage's copies of the month's recordings, by the journal: figures, and the number of copies by lock mode."""
    rows = conn.execute(
        select(
            copy.c.lock_mode,
            func.count().label("n"),
            func.sum(copy.c.size).label("size"),
            func.min(copy.c.retain_until).label("first"),
            func.sum(case((copy.c.legal_hold, 1), else_=0)).label("on_hold"),
            func.sum(case((copy.c.verified_at.is_(None), 1), else_=0)).label("unread"),
        )
        .join(recording, recording.c.id == copy.c.recording_id)
        .where(copy.c.storage == storage, recording.c.state == State.ARCHIVED, _of_month(it.only, it.month.span))
        .group_by(copy.c.lock_mode)
    ).all()
    held = {
        "copies": sum(row.n for row in rows),
        "bytes": sum(int(row.size) for row in rows),
        "first": min((row.first for row in rows if row.first is not None), default=None),
        "on_hold": sum(int(row.on_hold) for row in rows),
        "unread": sum(int(row.unread) for row in rows),
    }
    return held, {row.lock_mode: row.n for row in rows}


def _runs(it: Asked, trail: Trail) -> dict[str, list[Run]]:
    """The comparisons of the month by storage, as they were signed, oldest first."""
    found: dict[str, list[Run]] = {}
    for event, place in trail.archive_events(Type.RECONCILED, it.month.span):
        data: Any = event.data
        if data.get("kind") == "storage":
            counts = Counter({str(code): int(n) for code, n in data["findings"].items()})
            run = Run(event.at.astimezone(UTC), data["copies"], data["versions"], data["locks_read"], counts, place)
            found.setdefault(data["storage"], []).append(run)
    return found


def _checks(it: Asked, trail: Trail) -> Iterator[Check]:
    """The verifications of the month, as they were signed, oldest first."""
    for event, place in trail.archive_events(Type.RECONCILED, it.month.span):
        data: Any = event.data
        if data.get("kind") == "verification":
            failures = {str(kind): int(n) for kind, n in data["failures"].items()}
            at = event.at.astimezone(UTC)
            yield Check(at, str(data["depth"]), data["recordings"], data["objects_read"], failures, place)


def _accesses(conn: Connection, it: Asked, trail: Trail) -> Iterator[Access]:
    """Yields the accesses of the month: recordings heard or exported, with person and reason."""
    span = it.month.span
    found = accesses(conn, span.since, span.until)
    if it.only is not None:
        ours = set(conn.execute(select(recording.c.id).where(recording.c.provider == it.only)).scalars())
        found = [each for each in found if each.recording in ours]
    for each in found:
        export = each.event.data.get("request")
        yield Access(
            at=each.event.at.astimezone(UTC),
            what=each.what,
            recording=each.recording,
            who=each.who.said,
            reason=each.who.reason,
            export=None if export is None else str(export),
            delivered=None if export is None else each.delivered_at is not None,
            place=trail.event(each.event.subject, each.event.seq)[1],
        )
