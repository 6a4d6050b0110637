"""Keeps the spans of provider time that were enumerated to their last page, and the walks that prove it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, delete, insert, select

from archiver.clock import Chance
from archiver.ingest.tables import coverage, listing_window
from archiver.recording import Window
from archiver.schedule.window import merge


@dataclass(frozen=True, slots=True)
class Walked:
    """A window that was enumerated to its last page, with the effort that took."""

    scope: str
    window: Window
    walks: int
    rows: int
    total: int | None
    digest: str


def cover(conn: Connection, chance: Chance, provider: str, walked: Walked, now: datetime) -> None:
    """Record that a window is covered; only called after a full, stable walk whose rows are already written down."""
    conn.execute(
        insert(listing_window).values(
            id=chance.uuid(),
            provider=provider,
            scope=walked.scope,
            since=walked.window.since,
            until=walked.window.until,
            walks=walked.walks,
            rows=walked.rows,
            total=walked.total,
            digest=walked.digest,
            completed_at=now,
        )
    )
    before = covered(conn, provider, walked.scope)
    after = merge([*before, walked.window])
    ours = (coverage.c.provider == provider) & (coverage.c.scope == walked.scope)
    for span in set(before) - set(after):
        conn.execute(delete(coverage).where(ours, coverage.c.since == span.since))
    for span in set(after) - set(before):
        conn.execute(insert(coverage).values(provider=provider, scope=walked.scope, since=span.since, until=span.until))


def covered(conn: Connection, provider: str, scope: str) -> tuple[Window, ...]:
    """Return the spans of `scope` known to be enumerated, disjoint and ordered."""
    rows = conn.execute(
        select(coverage.c.since, coverage.c.until)
        .where(coverage.c.provider == provider, coverage.c.scope == scope)
        .order_by(coverage.c.since)
    )
    return tuple(Window(row.since, row.until) for row in rows)


def recount(conn: Connection, provider: str, scope: str, latest: datetime) -> tuple[Window, ...]:
    """Return the covered spans of `scope`, rebuilt when they contradict the listings up to `latest`.

    A clock that ran ahead has covered time that had not come; a clock that fell behind knows too little. So only
    windows that ended and were walked by `latest` count; the others count again when their time has come.
    """
    known, windows = covered(conn, provider, scope), listing_window.c
    believed = and_(
        windows.provider == provider,
        windows.scope == scope,
        windows.until <= latest,
        windows.completed_at <= latest,
    )
    newest = conn.execute(select(windows.until).where(believed).order_by(windows.until.desc()).limit(1)).scalar()
    if newest == (known[-1].until if known else None):
        return known
    spans = merge(
        Window(row.since, row.until) for row in conn.execute(select(windows.since, windows.until).where(believed))
    )
    conn.execute(delete(coverage).where(coverage.c.provider == provider, coverage.c.scope == scope))
    for span in spans:
        conn.execute(insert(coverage).values(provider=provider, scope=scope, since=span.since, until=span.until))
    return spans
