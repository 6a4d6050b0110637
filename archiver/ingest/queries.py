"""Answers questions about the journal on which something is decided: pending work, risks, spans never enumerated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, and_, case, func, select

from archiver.ingest import covered_spans
from archiver.ingest.day_counts import states
from archiver.ingest.journal import READY
from archiver.ingest.tables import IN_WORK, coverage, provider_state, recording, reject, unindexed
from archiver.recording import Reason, State, Window
from archiver.schedule.tables import replica
from archiver.schedule.window import holes


@dataclass(frozen=True, slots=True)
class ProviderCounts:
    """One provider's row of the status table."""

    provider: str
    states: dict[str, int]
    nearest_deadline: datetime | None
    nearest_source: str | None
    overdue: int
    lost: int
    polled_at: datetime | None
    poll_succeeded_at: datetime | None
    poll_error: str | None
    parked_until: datetime | None
    parked_reason: str | None
    rejects: int


@dataclass(frozen=True, slots=True)
class Hole:
    """A span of provider time that was never enumerated."""

    provider: str
    scope: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of the archiver. `alive_until`: the end of its heartbeat, by the database's clock."""

    id: str
    host: str
    version: str
    started_at: datetime
    alive_until: datetime


def replicas(conn: Connection) -> list[Replica]:
    """Return the known replicas, the longest-running first."""
    return [
        Replica(row.id, row.host, row.version, row.started_at, row.alive_until)
        for row in conn.execute(select(replica).order_by(replica.c.started_at))
    ]


def state_of(conn: Connection, recording_id: str) -> State | None:
    """Return a recording's state; None when the journal does not know the recording."""
    state = conn.execute(select(recording.c.state).where(recording.c.id == recording_id)).scalar()
    return None if state is None else State(state)


def knows(conn: Connection, provider: str) -> bool:
    """Say whether the journal knows anything of a provider, configured or not."""
    seen = select(recording.c.id).where(recording.c.provider == provider).limit(1)
    polled = select(provider_state.c.provider).where(provider_state.c.provider == provider)
    return any(conn.execute(each).first() is not None for each in (polled, seen))


def counts(conn: Connection, providers: Sequence[str], now: datetime) -> list[ProviderCounts]:
    """Return one row per provider, configured or remembered: a provider removed from the configuration stays
    visible."""
    grouped: dict[str, dict[str, int]] = {name: {} for name in providers} | states(conn)
    polled = {row.provider: row for row in conn.execute(select(provider_state))}
    rejects: dict[str, int] = dict(
        conn.execute(select(reject.c.provider, func.count()).group_by(reject.c.provider)).all()
    )
    return [
        _provider_counts(conn, name, by_state, polled.get(name), rejects.get(name, 0), now)
        for name, by_state in grouped.items()
    ]


def runway(conn: Connection, now: datetime, edges: Sequence[timedelta]) -> list[int]:
    """Count the pending recordings with less time left than each edge; the last count is of those with more, or no
    deadline."""
    bucket = case(*((recording.c.archive_by < now + edge, index) for index, edge in enumerate(edges)), else_=len(edges))
    numbers: dict[int, int] = dict(conn.execute(select(bucket, func.count()).where(IN_WORK).group_by(bucket)).all())
    return [numbers.get(index, 0) for index in range(len(edges) + 1)]


def uncovered(conn: Connection, provider: str, scopes: Sequence[str], whole: Window) -> list[Hole]:
    """Return the holes of `whole` that no listing has covered, scope by scope."""
    return [
        Hole(provider, scope, hole.since, hole.until)
        for scope in scopes
        for hole in holes(covered_spans.covered(conn, provider, scope), whole)
    ]


def covered_until(conn: Connection, provider: str) -> datetime | None:
    """Return the end of the newest covered span; of several scopes, the one that lags most."""
    per_scope = (
        select(func.max(coverage.c.until).label("until"))
        .where(coverage.c.provider == provider)
        .group_by(coverage.c.scope)
        .subquery()
    )
    result: datetime | None = conn.execute(select(func.min(per_scope.c.until))).scalar()
    return result


def count_due(conn: Connection, provider: str, until: datetime) -> int:
    """Count the recordings in work, ready, or ready before `until`. Audio that the provider does not have yet is not
    waited for.
    """
    waits = func.coalesce(recording.c.reason, "") != Reason.NOT_READY.value
    # One query for each partial index, so that a long history costs nothing.
    ours = unindexed(recording.c.provider) == provider
    parts = (
        (ours, READY),
        (ours, recording.c.owner.is_not(None)),
        (ours, recording.c.next_attempt_at.is_not(None), recording.c.next_attempt_at <= until, waits),
    )
    return sum(conn.execute(select(func.count()).where(*part)).scalar_one() for part in parts)


def count_unfinished(conn: Connection, providers: Sequence[str]) -> int:
    """Count the recordings with audio that are not archived yet, without those that have no provider id and cannot be
    asked for.
    """
    return conn.execute(
        select(func.count()).where(
            unindexed(recording.c.provider).in_(providers),
            unindexed(recording.c.provider_recording_id) != "",
            IN_WORK,
            func.coalesce(recording.c.reason, "") != Reason.NOT_READY.value,
        )
    ).scalar_one()


def count_sealed(conn: Connection) -> int:
    """Count the recordings that lie sealed on a host's disk and in no storage."""
    waiting = select(func.count()).where(IN_WORK, recording.c.spool_name.is_not(None))
    return conn.execute(waiting).scalar_one()


def _provider_counts(
    conn: Connection,
    name: str,
    states: dict[str, int],
    row: Row[tuple[object, ...]] | None,
    rejects: int,
    now: datetime,
) -> ProviderCounts:
    pending = and_(unindexed(recording.c.provider) == name, IN_WORK)
    nearest = conn.execute(
        select(recording.c.delete_at, recording.c.deadline_source)
        .where(pending, recording.c.delete_at.is_not(None))
        .order_by(recording.c.delete_at)
        .limit(1)
    ).one_or_none()
    overdue = conn.execute(select(func.count()).where(pending, recording.c.archive_by < now)).scalar_one()
    return ProviderCounts(
        provider=name,
        states=states,
        nearest_deadline=nearest.delete_at if nearest else None,
        nearest_source=nearest.deadline_source if nearest else None,
        overdue=overdue,
        lost=states.get(State.GONE, 0),
        polled_at=row.polled_at if row else None,
        poll_succeeded_at=row.poll_succeeded_at if row else None,
        poll_error=row.poll_error if row else None,
        parked_until=row.parked_until if row else None,
        parked_reason=row.parked_reason if row else None,
        rejects=rejects,
    )
