"""Moves a provider's recordings to another name, and finds providers that are in the journal but not in the
configuration."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from archiver.custody import history
from archiver.custody.event import ARCHIVE, Event, Type, parse
from archiver.ingest.listing_rows import identity
from archiver.ingest.tables import (
    coverage,
    edited_row,
    feed_day,
    listing_window,
    owed_copy,
    provider_state,
    recording,
    reject,
)
from archiver.recording import PENDING, RecordingRef

_PAGE = 1000
_LAST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Stranger:
    """A provider that the journal knows and the configuration does not. `pending`: its recordings that are not archived
    yet."""

    provider: str
    recordings: int
    pending: int
    nearest: datetime | None


def strangers(conn: Connection, configured: Collection[str], *, pending_only: bool = False) -> list[Stranger]:
    """Return the journal's providers that are not configured: removed from the configuration, or renamed in it."""
    waits = recording.c.state.in_(PENDING)
    nearest = (
        select(recording.c.delete_at)
        .where(recording.c.provider == bindparam("of"), waits, recording.c.delete_at.is_not(None))
        .order_by(recording.c.delete_at)
        .limit(1)
    )
    rows = conn.execute(
        select(recording.c.provider, func.count().label("known"), func.count().filter(waits).label("pending"))
        .where(recording.c.provider.not_in([*configured, ""]), *([waits] if pending_only else []))
        .group_by(recording.c.provider)
        .order_by(recording.c.provider)
    ).all()
    return [
        Stranger(row.provider, row.known, row.pending, conn.execute(nearest, {"of": row.provider}).scalar())
        for row in rows
    ]


def accounts_of(conn: Connection, provider: str) -> frozenset[str]:
    """Return the provider-side accounts of this provider's recordings; none when the journal knows no recording of
    it."""
    known = (recording.c.provider == provider, recording.c.provider_recording_id != "")
    return frozenset(conn.execute(select(recording.c.account).where(*known).distinct()).scalars())


def knows(conn: Connection, provider: str) -> bool:
    """Tell whether the journal has rows of this provider that must not be mixed with another's."""
    tables = (recording, listing_window, coverage, reject)
    found = (
        conn.execute(select(each.c.provider).where(each.c.provider == provider).limit(1)).first() for each in tables
    )
    return any(found)


def replay(conn: Connection) -> int:
    """Apply the renames in the log to a rebuilt journal: rows with an old name get the later name. Return their count.

    A recording first listed after a rename belongs to an account that took up the old name again, and keeps that name.
    """
    return sum(
        move(conn, str(event.data.get("from")), str(event.data.get("to")), event.at)
        for event in sorted(renames(conn), key=lambda each: each.seq)
    )


def renames(conn: Connection) -> list[Event]:
    """Return the rename events of the log."""
    return [parse(each.raw) for each in history.of_type(conn, ARCHIVE, Type.PROVIDER_RENAMED, _LAST, _PAGE)]


def move(conn: Connection, old: str, new: str, listed_by: datetime | None = None) -> int:
    """Give the recordings of `old` (first listed by `listed_by`) to `new`, with their identity, which holds the name.

    The catalogue describes these recordings under the old name, so each is due for the catalogue again.
    """
    moved, after, columns = 0, "", recording.c
    listed = [] if listed_by is None else [columns.listed_at <= listed_by]
    while True:
        page = conn.execute(
            select(columns.id, columns.identity, columns.provider_recording_id, columns.variant)
            .where(columns.provider == old, columns.id > after, *listed)
            .order_by(columns.id)
            .limit(_PAGE)
        ).all()
        if not page:
            return moved
        after = page[-1].id
        conn.execute(_RENAME, [{"row": row.id, "called": new, "named": _named(row, old, new)} for row in page])
        moved += len(page)


def move_listings(conn: Connection, old: str, new: str) -> None:
    """Give to `new` what the journal has of `old` beside its recordings; drop the state of a first try under `new`."""
    for table in (listing_window, coverage, reject, owed_copy, edited_row):
        conn.execute(update(table).where(table.c.provider == old).values(provider=new))
    conn.execute(delete(feed_day).where(feed_day.c.provider == old))
    conn.execute(delete(provider_state).where(provider_state.c.provider == new))
    conn.execute(update(provider_state).where(provider_state.c.provider == old).values(provider=new))


def _named(row: Any, old: str, new: str) -> str:
    """Return the new identity of a row. A row that only custody knows keeps its own: no provider id is part of it."""
    before, now = (identity(RecordingRef(name, row.provider_recording_id, row.variant)) for name in (old, new))
    return now if row.identity == before else str(row.identity)


_RENAME = (
    update(recording)
    .where(recording.c.id == bindparam("row"))
    .values(provider=bindparam("called"), identity=bindparam("named"), segment=None)
)
