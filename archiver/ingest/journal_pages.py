"""Reads the journal in order, a page at a time, for who compares it with storages and with custody. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, TextClause, select, text, update

from archiver.ingest.tables import catalogue_segment, copy, listing_window, recording
from archiver.recording import LockMode, State, Window

PAGE = 5_000


@dataclass(frozen=True, slots=True)
class ClaimedCopy:
    """A copy as the journal claims it."""

    storage: str
    key: str
    version_id: str | None
    recording_id: str
    provider: str
    size: int
    sealed_sha256: str
    lock_mode: LockMode
    retain_until: datetime | None
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class WalkedListing:
    """A listing of one scope that was walked to its end."""

    provider: str
    scope: str
    since: datetime
    until: datetime
    rows: int
    total: int | None
    digest: str
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class SegmentOnRecord:
    """A segment of the catalogue as the journal knows it."""

    sealed_sha256: str
    size: int
    lines: int
    retain_until: datetime | None
    sealed_at: datetime


def copies(conn: Connection, storage: str, key: str, recording_id: str) -> list[ClaimedCopy]:
    """Return a page of the copies in a storage behind this key and recording, ordered by the bytes of the key."""
    behind, order = _by_bytes(conn, key, recording_id)
    rows = conn.execute(
        select(copy, recording.c.provider)
        .join(recording, recording.c.id == copy.c.recording_id)
        .where(copy.c.storage == storage, recording.c.state != State.DISPOSED, behind)
        .order_by(*order)
        .limit(PAGE)
    )
    return [
        ClaimedCopy(row.storage, row.key, row.version_id, row.recording_id, row.provider, row.size, row.sealed_sha256,
                    LockMode.read(row.lock_mode, LockMode.COMPLIANCE), row.retain_until, row.stored_at)
        for row in rows
    ]  # fmt: skip


def archived(conn: Connection, after: str, limit: int) -> list[tuple[str, str]]:
    """Return a page of the archived recordings behind this id: id and provider."""
    rows = conn.execute(
        select(recording.c.id, recording.c.provider)
        .where(recording.c.id > after, recording.c.state == State.ARCHIVED)
        .order_by(recording.c.id)
        .limit(limit)
    )
    return [(row.id, row.provider) for row in rows]


def known(conn: Connection, ids: Collection[str]) -> set[str]:
    """Return those of the ids that are recordings of the journal."""
    return set(conn.execute(select(recording.c.id).where(recording.c.id.in_(ids))).scalars())


def listings(conn: Connection) -> list[WalkedListing]:
    """Return all listings that were walked to their end, in the order of their end."""
    return [_listing(row) for row in conn.execute(select(listing_window).order_by(listing_window.c.completed_at))]


def listings_of(conn: Connection, provider: str, scope: str, span: Window, limit: int) -> list[WalkedListing]:
    """Return the newest listings of one scope that show a part of the span, the newest first."""
    columns = listing_window.c
    wanted = (
        columns.provider == provider,
        columns.scope == scope,
        columns.since < span.until,
        columns.until > span.since,
    )
    rows = conn.execute(select(listing_window).where(*wanted).order_by(columns.completed_at.desc()).limit(limit))
    return [_listing(row) for row in rows]


def segments(conn: Connection) -> list[SegmentOnRecord]:
    """Return all segments of the catalogue, in the order of their sealing."""
    return [
        SegmentOnRecord(row.sealed_sha256, row.size, row.lines, row.retain_until, row.sealed_at)
        for row in conn.execute(select(catalogue_segment).order_by(catalogue_segment.c.sealed_at))
    ]


def describe_anew(conn: Connection, ids: Iterable[str]) -> None:
    """Make these recordings due for the catalogue again."""
    conn.execute(update(recording).where(recording.c.id.in_(ids)).values(segment=None))


def _listing(row: Row[Any]) -> WalkedListing:
    return WalkedListing(
        row.provider, row.scope, row.since, row.until, row.rows, row.total, row.digest, row.completed_at
    )


def _by_bytes(
    conn: Connection, key: str, recording_id: str
) -> tuple[ColumnElement[bool], Sequence[ColumnElement[Any] | TextClause]]:
    """Return the condition for rows behind this key and recording, and their order: a bucket's order, in any locale of
    PostgreSQL."""
    columns = copy.c
    if conn.dialect.name != "postgresql":
        behind = (columns.key > key) | ((columns.key == key) & (columns.recording_id > recording_id))
        return (columns.key >= key) & behind, (columns.key, columns.recording_id)
    after: ColumnElement[bool] = columns.key.op("~>~", is_comparison=True)(key)
    at_least: ColumnElement[bool] = columns.key.op("~>=~", is_comparison=True)(key)
    behind = after | ((columns.key == key) & (columns.recording_id > recording_id))
    return at_least & behind, (text("copy.key USING ~<~"), columns.recording_id)
