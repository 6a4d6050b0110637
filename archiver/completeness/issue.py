"""Makes statements of the journal, signs them in custody and keeps them; reads them again for evidence bundles."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, and_, insert, or_, select, update

from archiver.completeness import register
from archiver.completeness import statement as rules
from archiver.completeness.observe import Watched, utc_day
from archiver.completeness.statement import Before, Day, Enumerated, Standing
from archiver.completeness.tables import LOST, gap, statement
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Type, parse
from archiver.custody.ledger import Ledger
from archiver.ingest import covered_spans, journal_pages, span_queries
from archiver.ingest.day_counts import DayCount, day_counts, denied_briefly
from archiver.recording import Json, State, Window
from archiver.schedule.window import holes

_NO_FACTS = frozenset({"schema", "provider", "day", "revision", "previous", "because", "listings"})
_KEPT = statement.c.document != LOST
_LISTINGS = 50
_AT_ONCE = 500
DAYS_BACK = 35


@dataclass(frozen=True, slots=True)
class Issued:
    """A statement, and the place of the entry that signs it: `seq` in the chain of subject `archive`."""

    provider: str
    day: date
    revision: int
    document: bytes
    seq: int


def due_days(it: Watched, now: datetime, *, back: int = DAYS_BACK) -> list[date]:
    """The days to state, oldest first: whole days, within what ought to be covered."""
    first = max(it.whole.since.date() + timedelta(days=1), now.date() - timedelta(days=back))
    return [first + timedelta(days=n) for n in range(max(0, (now.date() - first).days))]


def due(conn: Connection, it: Watched, now: datetime) -> list[date]:
    """The days to state, and the days stated too early by a clock that ran ahead, whose statements must be replaced."""
    ahead = select(statement.c.day).where(statement.c.provider == it.provider, statement.c.day >= now.date())
    return [*due_days(it, now), *conn.execute(ahead.order_by(statement.c.day)).scalars()]


def stale(conn: Connection, it: Watched, days: Sequence[date]) -> list[date]:
    """Those of these days that have no statement, or one that is not true any more. Only reads."""
    rows = conn.execute(
        select(statement.c.day, statement.c.document).where(
            statement.c.provider == it.provider, statement.c.day.in_(days), _KEPT
        )
    )
    stated = {row.day: _facts(row.document) for row in rows}
    seen = survey_days(conn, it, days)
    return [day for day in days if stated.get(day) != rules.facts(seen[day])]


def survey_day(conn: Connection, it: Watched, day: date) -> Day:
    """Reads journal, coverage and register for one UTC day."""
    return survey_days(conn, it, [day])[day]


def survey_days(conn: Connection, it: Watched, days: Sequence[date]) -> dict[date, Day]:
    """Reads journal, coverage and register for these UTC days, with as few questions for many days as for one.

    The recordings are those that the journal counts by day (`ingest.day_counts`): no row of an archived recording is
    read.
    """
    if not days:
        return {}
    first, last = min(days), max(days) + timedelta(days=1)
    counted: dict[date, list[DayCount]] = {}
    for each in day_counts(conn, it.provider, first, last):
        counted.setdefault(each.day, []).append(each)
    brief = denied_briefly(conn, it.provider, it.profile.too_short, first, last)
    rejected = _rejects(conn, it, first, last)
    covered = {scope: covered_spans.covered(conn, it.provider, scope) for scope in it.scopes}
    standing = _gaps(conn, it, Window(utc_day(first).since, utc_day(last).since))
    found = {}
    for day in days:
        span, kept = utc_day(day), counted.get(day, [])
        states: Counter[str] = Counter()
        for each in kept:
            states[each.state] += each.n
        archived = [each for each in kept if each.state == State.ARCHIVED]
        found[day] = Day(
            it.provider, day, states, sum(each.n for each in kept if each.silent) + brief.get(day, 0),
            sum(each.bytes for each in archived), sum(each.ms for each in archived), rejected.get(day, 0),
            _holes(it, covered, span), _listings(conn, it, span), _during(standing, span),
        )  # fmt: skip
    return found


def _rejects(conn: Connection, it: Watched, first: date, last: date) -> Counter[date]:
    """Counts the listed rows that were not understood, by the UTC day when each was first seen."""
    span = Window(utc_day(first).since, utc_day(last).since)
    return Counter(at.astimezone(UTC).date() for at in span_queries.rejects(conn, it.provider, span))


def issue(conn: Connection, ledger: Ledger, it: Watched, day: date, now: datetime) -> Issued | None:
    """State the day, unless it was stated and nothing has changed since. Inside the caller's transaction.

    A statement names the statement before it, as custody records it, even if that document was lost with a database.
    """
    register.alone(conn)
    seen = survey_day(conn, it, day)
    same = and_(statement.c.provider == it.provider, statement.c.day == day)
    last = conn.execute(select(statement).where(same)).one_or_none()
    if last is not None and last.document != LOST and _facts(last.document) == rules.facts(seen):
        return None
    before = None if last is None else Before(last.revision, last.sha256, _said(conn, last.event_seq))
    revision = 1 if before is None else before.revision + 1
    raw = rules.document(seen, before)
    entry = ledger.append(
        conn, ARCHIVE, Type.RECONCILED, rules.summary(seen, raw, before), op=f"completeness:{it.provider}:{day}"
    )
    values = {
        "document": raw,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "issued_at": now,
        "revision": revision,
        "event_seq": entry.seq,
    }
    if last is None:
        conn.execute(insert(statement).values(provider=it.provider, day=day, **values))
    else:
        conn.execute(update(statement).where(same).values(**values))
    return Issued(it.provider, day, revision, raw, entry.seq)


def statements(conn: Connection, provider: str | None, since: date, until: date) -> list[Issued]:
    """The newest statement of each day from `since` up to, not including, `until`: for evidence bundles and reports.

    Statements whose document was lost with a database, and that were not made again, are left out.
    """
    wanted = select(statement).where(statement.c.day >= since, statement.c.day < until, _KEPT)
    if provider is not None:
        wanted = wanted.where(statement.c.provider == provider)
    rows = conn.execute(wanted.order_by(statement.c.provider, statement.c.day))
    return [Issued(row.provider, row.day, row.revision, row.document, row.event_seq) for row in rows]


def of_recordings(conn: Connection, ids: Sequence[str]) -> list[Issued]:
    """The newest statement of each day that one of these recordings counts for, as far as the day was stated."""
    days: set[tuple[str, date]] = set()
    for start in range(0, len(ids), _AT_ONCE):
        for provider, at in span_queries.called(conn, ids[start : start + _AT_ONCE]):
            days.add((provider, at.astimezone(UTC).date()))
    found = []
    for provider, day in sorted(days):
        found += statements(conn, provider, day, day + timedelta(days=1))
    return found


def _facts(raw: bytes) -> dict[str, object]:
    value = dict(rules.canonical_loads(raw))
    return {name: value[name] for name in value.keys() - _NO_FACTS}


def _said(conn: Connection, seq: int) -> Mapping[str, Json]:
    """The data of a statement's signed event; empty where the log does not have the event."""
    entry = history.entry(conn, ARCHIVE, seq)
    return {} if entry is None else parse(entry.raw).data


def _holes(it: Watched, covered: Mapping[str, Sequence[Window]], span: Window) -> dict[str, tuple[Window, ...]]:
    whole = Window(max(span.since, it.whole.since), min(span.until, it.whole.until))
    found = {}
    for scope in it.scopes:
        left = holes(covered[scope], whole) if whole.since < whole.until else ()
        # The time beyond the end of all coverage was not listed either.
        tail = (Window(max(span.since, it.whole.until), span.until),) if it.whole.until < span.until else ()
        if left or tail:
            found[scope] = (*left, *tail)
    return found


def _listings(conn: Connection, it: Watched, span: Window) -> list[Enumerated]:
    """The newest listings that show this day: for each scope, one after the other until the day is covered."""
    found: list[Enumerated] = []
    for scope in it.scopes:
        shown: list[Window] = []
        for row in journal_pages.listings_of(conn, it.provider, scope, span, _LISTINGS):
            if not holes(shown, span):
                break
            shown.append(Window(row.since, row.until))
            found.append(Enumerated(scope, shown[-1], row.rows, row.total, row.digest, row.completed_at))
    return found


def _gaps(conn: Connection, it: Watched, span: Window) -> list[Standing]:
    """The open gaps in the register that began within the span, or reach into it."""
    columns = gap.c
    rows = conn.execute(
        select(gap).where(
            columns.provider == it.provider,
            columns.closed_at.is_(None),
            columns.since < span.until,
            or_(columns.since >= span.since, and_(columns.until > span.since, ~columns.subject.startswith("rec:"))),
        )
    )
    return [Standing(row.subject, row.code, row.grade, row.since, row.until, row.acked_at is not None) for row in rows]


def _during(standing: Sequence[Standing], day: Window) -> list[Standing]:
    """The gaps that began within the day; also those that reach into it, unless they are of one recording."""
    return [
        each
        for each in standing
        if each.since is not None
        and each.since < day.until
        and (
            each.since >= day.since
            or (each.until is not None and each.until > day.since and not each.subject.startswith("rec:"))
        )
    ]


def follow(conn: Connection, moved: Mapping[tuple[str, int], int]) -> None:
    """Update the statements after a recovery has given events of the archive's chain new numbers.

    `moved`: the new number of each event, by its subject and old number.
    """
    for (subject, seq), now in moved.items():
        digest = _said(conn, now).get("statement_sha256") if subject == ARCHIVE else None
        if digest is not None:
            # The digest must agree too: the log may have another event of that number, and another statement of the
            # day.
            its = and_(statement.c.event_seq == seq, statement.c.sha256 == digest)
            conn.execute(update(statement).where(its).values(event_seq=now))
