"""Keeps each provider's last polls, and how long a provider that refuses our credentials is left alone."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from archiver.ingest.tables import provider_state


def polled(conn: Connection, provider: str, now: datetime, error: str | None, *, deep: bool = False) -> None:
    """Record the end of a poll, successful or not."""
    values: dict[str, object] = {"polled_at": now, "poll_error": error}
    if error is None:
        values["poll_succeeded_at"] = now
        values["parked_until"] = None
        values["parked_reason"] = None
    if deep:
        values["deep_walk_at"] = now
    _upsert_provider(conn, provider, values)


def deep_walk_at(conn: Connection, provider: str) -> datetime | None:
    """Return when all listings of this provider were last walked from end to end; None when they never were."""
    return conn.execute(
        select(provider_state.c.deep_walk_at).where(provider_state.c.provider == provider)
    ).scalar_one_or_none()


def park(conn: Connection, provider: str, until: datetime, reason: str) -> None:
    """Make the whole provider wait: its credentials were refused."""
    _upsert_provider(conn, provider, {"parked_until": until, "parked_reason": reason})


def _upsert_provider(conn: Connection, provider: str, values: dict[str, object]) -> None:
    same = provider_state.c.provider == provider
    if conn.execute(update(provider_state).where(same).values(**values)).rowcount == 0:
        conn.execute(insert(provider_state).values(provider=provider, **values))
