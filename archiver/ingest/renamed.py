"""A provider's recordings under another name, and providers that the journal knows and the configuration does not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from archiver.custody import history
from archiver.custody.event import ARCHIVE, Event, Type, parse
from archiver.ingest.discovery import identity
from archiver.ingest.survey import PENDING
from archiver.ingest.tables import recording
from archiver.recording import RecordingRef

_PAGE = 1000
_LAST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Stranger:
    """A provider that the journal knows and the configuration does not. `pending`: recordings that are not archived yet."""

    provider: str
    recordings: int
    pending: int
    nearest: datetime | None


def strangers(conn: Connection, configured: Collection[str], *, pending_only: bool = False) -> list[Stranger]:
    """Providers of the journal that are not configured: taken out of the configuration, or renamed in it."""
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
    """The accounts at the provider that its recordings are of; none where the journal knows no recording of it."""
    known = (recording.c.provider == provider, recording.c.provider_recording_id != "")
    return frozenset(conn.execute(select(recording.c.account).where(*known).distinct()).scalars())


def replay(conn: Connection) -> int:
    """After a rebuild: give rows that bear an old name the one that events say they got later. Returns how many.

    What was first listed after a rename is of an account that took the old name up again, and keeps it.
    """
    return sum(
        move(conn, str(event.data.get("from")), str(event.data.get("to")), event.at)
        for event in sorted(renames(conn), key=lambda each: each.seq)
    )


def renames(conn: Connection) -> list[Event]:
    """The renames that the log tells of."""
    return [parse(each.raw) for each in history.of_type(conn, ARCHIVE, Type.PROVIDER_RENAMED, _LAST, _PAGE)]


def move(conn: Connection, old: str, new: str, listed_by: datetime | None = None) -> int:
    """Give the recordings of `old` (those first listed by then) to `new`; their identity, which holds the name, with them.

    The catalogue describes them under the old name: each is due for it again.
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


def _named(row: Any, old: str, new: str) -> str:
    """Of a row that only custody remembers, nobody knows the provider's id: its identity is no name, and stays."""
    before, now = (identity(RecordingRef(name, row.provider_recording_id, row.variant)) for name in (old, new))
    return now if row.identity == before else str(row.identity)


_RENAME = (
    update(recording)
    .where(recording.c.id == bindparam("row"))
    .values(provider=bindparam("called"), identity=bindparam("named"), segment=None)
)
