"""Answers what reports ask of the calls of a span of time: lags, lateness, retention and copies. Reads only.

A recording counts for the span in which its call began, or in which it was listed if the call's time is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from archiver.ingest.tables import copy, coverage, recording, reject
from archiver.recording import State, Window


@dataclass(frozen=True, slots=True)
class Archived:
    """The instants of one archived recording: its call's end or beginning, its listing, and when it was safe."""

    called_at: datetime | None
    listed_at: datetime
    archived_at: datetime


@dataclass(frozen=True, slots=True)
class Overdue:
    """A recording that was not archived by its time."""

    id: str
    called_at: datetime
    archive_by: datetime
    delete_at: datetime | None
    source: str | None
    archived_at: datetime | None


@dataclass(frozen=True, slots=True)
class OfRule:
    """The archived recordings that one rule of retention keeps, and the first and the last end of them."""

    rule: str
    recordings: int
    first_until: datetime | None
    last_until: datetime | None


@dataclass(frozen=True, slots=True)
class OfLock:
    """A storage's copies under one mode of lock: how many and how large, and how many are held or not read back."""

    mode: str
    copies: int
    bytes: int
    first_until: datetime | None
    on_hold: int
    not_read_back: int


def covered_scopes(conn: Connection) -> list[tuple[str, str]]:
    """Return provider and name of every scope that was ever covered."""
    columns = coverage.c
    rows = conn.execute(select(columns.provider, columns.scope).distinct().order_by(columns.scope))
    return [(row.provider, row.scope) for row in rows]


def ids(conn: Connection, provider: str) -> set[str]:
    """Return the ids of a provider's recordings."""
    return set(conn.execute(select(recording.c.id).where(recording.c.provider == provider)).scalars())


def called(conn: Connection, ids: Collection[str]) -> list[tuple[str, datetime]]:
    """Return provider and time of the call of each of these recordings: of its listing where the call's is not
    known."""
    columns = recording.c
    rows = conn.execute(select(columns.provider, columns.call_started_at, columns.listed_at).where(columns.id.in_(ids)))
    return [(row.provider, row.call_started_at or row.listed_at) for row in rows]


def rejects(conn: Connection, provider: str, span: Window) -> list[datetime]:
    """Return when each listed row that was not understood was first seen, of those first seen in the span."""
    seen = reject.c.first_seen_at
    wanted = select(seen).where(reject.c.provider == provider, seen >= span.since, seen < span.until)
    return list(conn.execute(wanted).scalars())


def archived(conn: Connection, provider: str, span: Window) -> Iterator[Archived]:
    """Yield the archived recordings of the span, with one page in memory at a time."""
    columns = recording.c
    called_at = func.coalesce(columns.call_ended_at, columns.call_started_at, type_=columns.call_ended_at.type)
    rows = conn.execute(
        select(called_at.label("called_at"), columns.listed_at, columns.archived_at)
        .where(_of_span(provider, span), columns.archived_at.is_not(None))
        .execution_options(stream_results=True)
    )
    for page in rows.partitions(5_000):
        for row in page:
            yield Archived(row.called_at, row.listed_at, row.archived_at)


def overdue(conn: Connection, provider: str, span: Window, now: datetime) -> list[Overdue]:
    """Return the recordings not archived by their time, the first to be deleted first.

    Recordings of the span's calls, and recordings whose `archive_by` fell into the span. Recordings that are gone count
    as losses instead.
    """
    columns = recording.c
    fell = and_(columns.archive_by >= span.since, columns.archive_by < span.until, columns.provider == provider)
    rows = conn.execute(
        select(recording)
        .where(
            or_(_of_span(provider, span), fell),
            columns.archive_by < func.coalesce(columns.archived_at, now),
            columns.state.not_in([State.GONE, State.ABSENT]),
        )
        .order_by(columns.delete_at, columns.id)
    )
    return [
        Overdue(row.id, row.call_started_at or row.listed_at, row.archive_by, row.delete_at, row.deadline_source, row.archived_at)
        for row in rows
    ]  # fmt: skip


def by_rule(conn: Connection, provider: str, span: Window) -> Iterator[OfRule]:
    """Yield the archived recordings of the span by their rule of retention."""
    columns = recording.c
    rule, until = func.coalesce(columns.retention_rule, ""), columns.retain_until
    rows = conn.execute(
        select(
            rule.label("rule"), func.count().label("n"), func.min(until).label("first"), func.max(until).label("last")
        )
        .where(_of_span(provider, span), columns.state == State.ARCHIVED)
        .group_by(rule)
        .order_by(rule)
    )
    for row in rows:
        yield OfRule(row.rule, row.n, row.first, row.last)


def count_archived(conn: Connection, provider: str | None, span: Window) -> int:
    """Count the span's archived recordings: one provider's, or all."""
    wanted = select(func.count()).where(_of_span(provider, span), recording.c.state == State.ARCHIVED)
    return conn.execute(wanted).scalar_one()


def copies(conn: Connection, storage: str, provider: str | None, span: Window) -> list[OfLock]:
    """Return a storage's copies of the span's recordings by their mode of lock, as the journal says."""
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
        .where(copy.c.storage == storage, recording.c.state == State.ARCHIVED, _of_span(provider, span))
        .group_by(copy.c.lock_mode)
    )
    return [
        OfLock(row.lock_mode, row.n, int(row.size), row.first, int(row.on_hold), int(row.unread)) for row in rows
    ]  # fmt: skip


def _of_span(provider: str | None, span: Window) -> ColumnElement[bool]:
    columns = recording.c
    called = and_(columns.call_started_at >= span.since, columns.call_started_at < span.until)
    listed = and_(columns.call_started_at.is_(None), columns.listed_at >= span.since, columns.listed_at < span.until)
    ours = or_(called, listed)
    return ours if provider is None else and_(columns.provider == provider, ours)
