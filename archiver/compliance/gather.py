"""Reads the report's facts from journal, register and custody log. Reads only; call it over one instant of the
database."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

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
from archiver.database import Connection
from archiver.ingest import covered_spans, queries, span_queries, storage_proofs
from archiver.ingest.day_counts import states
from archiver.recording import Window
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
    for provider, scope in span_queries.covered_scopes(conn):
        scopes.setdefault(provider, []).append(scope)
    return [
        Watched(name, profile("unknown"), tuple(found), Window(it.month.span.since, it.made_at))
        for name, found in sorted(scopes.items())
    ]


def _account(conn: Connection, it: Asked, of: Watched, trail: Trail, *, configured: bool) -> Account:
    span, days = it.month.span, it.month.days
    spans = {scope: covered_spans.covered(conn, of.provider, scope) for scope in of.scopes}
    issued = {each.day: each for each in issue.statements(conn, of.provider, days[0], span.until.date())}
    found = []
    for day, seen in issue.survey_days(conn, of, days).items():
        stated = _stated(issued[day], seen, trail) if day in issued else None
        found.append(rules.judge(seen, spans, of.whole.since, it.made_at, stated))
    (counts,) = [each for each in queries.counts(conn, [of.provider], it.made_at) if each.provider == of.provider]
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


def _lags(conn: Connection, provider: str, span: Window) -> tuple[Lag | None, Lag | None]:
    """The archive lags: from the call's end, and from the listing, until every required storage's copy was read
    back."""
    after_call, after_listing = array("d"), array("d")
    for each in span_queries.archived(conn, provider, span):
        after_listing.append((each.archived_at - each.listed_at).total_seconds())
        if each.called_at is not None:
            after_call.append((each.archived_at - each.called_at).total_seconds())
    return rules.lag(after_call), rules.lag(after_listing)


def _late(conn: Connection, it: Asked, provider: str) -> tuple[list[Late], int]:
    """The recordings not archived by their time, and the number of them past deletion."""
    late = [
        Late(each.id, each.called_at, each.archive_by, each.delete_at, each.source, each.archived_at)
        for each in span_queries.overdue(conn, provider, it.month.span, it.made_at)
    ]
    return late, sum(each.past_deletion(it.made_at) for each in late)


def _kept(conn: Connection, provider: str, span: Window) -> Iterator[Kept]:
    for each in span_queries.by_rule(conn, provider, span):
        yield Kept(each.rule, each.recordings, each.first_until, each.last_until)


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
    proved = storage_proofs.read_proofs(conn)
    archived = span_queries.count_archived(conn, it.only, it.month.span)
    for name in [*it.storages, *sorted((proved.keys() | runs.keys()) - it.storages.keys() - {_CUSTODY}), _CUSTODY]:
        held = span_queries.copies(conn, name, it.only, it.month.span)
        copies = sum(each.copies for each in held)
        probe = proved.get(name)
        yield Storage(
            id=name,
            required=it.storages.get(name),
            copies=copies,
            bytes=sum(each.bytes for each in held),
            locks={each.mode: each.copies for each in held},
            first_until=min((each.first_until for each in held if each.first_until is not None), default=None),
            on_hold=sum(each.on_hold for each in held),
            not_read_back=sum(each.not_read_back for each in held),
            without_copy=max(0, archived - copies) if it.storages.get(name) else 0,
            trusted=None if probe is None else probe.trusted,
            probed_at=None if probe is None else probe.probed_at,
            failed=() if probe is None else tuple(each.name for each in probe.checks if not each.ok),
            runs=tuple(runs.get(name, ())),
        )


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
        ours = span_queries.ids(conn, it.only)
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
