"""Finds the copies that have not been read whole for the longest time, and notes those that were. The daemon re-reads
by this.

`copy.verified_at` is the time of the last reading that found everything right. A copy never read since it was stored
counts from `stored_at`: its bytes were proved then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, update

from archiver.ingest.archived_recordings import RecordingRow, read_recording
from archiver.ingest.tables import copy

_DUE = (
    select(
        copy.c.recording_id,
        func.coalesce(copy.c.verified_at, copy.c.stored_at, type_=copy.c.stored_at.type).label("at"),
    )
    .where(copy.c.storage == bindparam("in"))
    .limit(bindparam("most"))
)
_BEFORE = bindparam("before", type_=copy.c.stored_at.type)
# One question for each partial index.
_NEVER_READ = _DUE.where(copy.c.verified_at.is_(None), copy.c.stored_at <= _BEFORE).order_by(copy.c.stored_at)
_READ_LONG_AGO = _DUE.where(copy.c.verified_at <= _BEFORE).order_by(copy.c.verified_at)
_READ = (
    update(copy)
    .where(copy.c.recording_id == bindparam("of"), copy.c.storage == bindparam("in"))
    .values(verified_at=bindparam("at"))
)


def due(conn: Connection, storage: str, before: datetime, most: int) -> list[RecordingRow]:
    """Returns up to `most` recordings whose copy in this storage was last read whole before an instant.

    The oldest reading comes first. Each recording has this one copy only.
    """
    asked = {"in": storage, "before": before, "most": most}
    rows = [row for wanted in (_NEVER_READ, _READ_LONG_AGO) for row in conn.execute(wanted, asked)]
    oldest_first = sorted(rows, key=lambda row: row.at)[:most]
    found = (read_recording(conn, row.recording_id) for row in oldest_first)
    return [_in(storage, each) for each in found if each is not None]


def _in(storage: str, row: RecordingRow) -> RecordingRow:
    return replace(row, copies=tuple(each for each in row.copies if each.storage == storage))


def noting(storage: str, ids: Sequence[str], at: datetime) -> Callable[[Connection], None]:
    """Returns a transaction that notes: these recordings' copies in this storage were read whole at `at`, and were
    right."""

    def note(conn: Connection) -> None:
        conn.execute(_READ, [{"of": each, "in": storage, "at": at} for each in ids])

    return note


def oldest(conn: Connection, storage: str) -> datetime | None:
    """Returns the time of the oldest last reading among this storage's copies; None where it has no copies."""
    here, stored, read = copy.c.storage == storage, copy.c.stored_at, copy.c.verified_at
    never_read = select(func.min(stored)).where(here, read.is_(None))
    times: list[datetime | None] = [
        conn.execute(wanted).scalar_one()
        for wanted in (never_read, select(func.min(read)).where(here, read.is_not(None)))
    ]
    return min((each for each in times if each is not None), default=None)
