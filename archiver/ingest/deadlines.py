"""Keeps the deadlines of pending recordings, which move as a provider's quota fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, select, update

from archiver.ingest.tables import IN_WORK, recording
from archiver.schedule.deadline import Deadline


def update_deadlines(
    conn: Connection, provider: str, now: datetime, deadline_of: Callable[[datetime], Deadline | None]
) -> int:
    """Bring the deadlines of pending recordings up to date; return the count of those that moved by an hour or more.

    A quota is reached sooner the more is recorded, and the rate of recording shows only once recordings are listed.
    """
    moved = []
    for row in conn.execute(_PENDING, {"of": provider}):
        stated = row.call_ended_at or row.call_started_at
        due = deadline_of(min(stated, now) if stated is not None else row.listed_at)
        before = row.delete_at
        if due is not None and (before is None or abs(due.delete_at - before) >= timedelta(hours=1)):
            moved.append({"row": row.id, "at": due.delete_at, "by": due.archive_by, "why": due.source})
    if moved:
        conn.execute(_MOVE, moved)
    return len(moved)


_PENDING = select(
    recording.c.id, recording.c.call_ended_at, recording.c.call_started_at, recording.c.listed_at, recording.c.delete_at
).where(recording.c.provider == bindparam("of"), IN_WORK)
_MOVE = (
    update(recording)
    .where(recording.c.id == bindparam("row"))
    .values(
        delete_at=bindparam("at", type_=recording.c.delete_at.type),
        archive_by=bindparam("by", type_=recording.c.archive_by.type),
        deadline_source=bindparam("why"),
    )
)


def bytes_per_day(conn: Connection, providers: Sequence[str], now: datetime, bytes_per_second: int) -> float:
    """Return the account's present rate of recording, from the durations listed over the last 30 days."""
    days = 30
    milliseconds = conn.execute(
        select(func.sum(recording.c.duration_ms)).where(
            recording.c.provider.in_(providers), recording.c.call_started_at >= now - timedelta(days=days)
        )
    ).scalar()
    return float(milliseconds or 0) / 1000 * bytes_per_second / days
