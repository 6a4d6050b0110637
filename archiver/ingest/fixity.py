"""Finds the copies that have not been read whole for the longest time, and notes those that were. The daemon re-reads
by this.

`copy.verified_at` is the time of the last reading that found everything right. A copy never read since it was stored
counts from `stored_at`: its bytes were proved then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from archiver.ingest.tables import copy, recording
from archiver.recording import LockMode, Stored

_DUE = (
    select(
        copy, recording.c.provider, recording.c.state, recording.c.plaintext_sha256, recording.c.plaintext_bytes,
        recording.c.sealed_sha256.label("row_digest"), recording.c.sealed_bytes, recording.c.retain_until.label("keep_until"),
    )
    .join_from(copy, recording, recording.c.id == copy.c.recording_id)
    .where(copy.c.storage == bindparam("in"))
    .limit(bindparam("most"))
)  # fmt: skip
_BEFORE = bindparam("before", type_=copy.c.stored_at.type)
# One question for each partial index.
_NEVER_READ = _DUE.where(copy.c.verified_at.is_(None), copy.c.stored_at <= _BEFORE).order_by(copy.c.stored_at)
_READ_LONG_AGO = _DUE.where(copy.c.verified_at <= _BEFORE).order_by(copy.c.verified_at)
_READ = (
    update(copy)
    .where(copy.c.recording_id == bindparam("of"), copy.c.storage == bindparam("in"))
    .values(verified_at=bindparam("at"))
)


@dataclass(frozen=True, slots=True)
class DueCopy:
    """One copy to read again, with the journal's claims about its recording."""

    recording_id: str
    provider: str
    state: str
    plaintext_sha256: str
    plaintext_bytes: int
    sealed_sha256: str
    sealed_bytes: int
    retain_until: datetime | None
    copy: Stored


def due(conn: Connection, storage: str, before: datetime, most: int) -> list[DueCopy]:
    """Returns up to `most` copies in this storage that were last read whole before an instant, the oldest reading
    first."""
    asked = {"in": storage, "before": before, "most": most}
    rows = [row for wanted in (_NEVER_READ, _READ_LONG_AGO) for row in conn.execute(wanted, asked)]
    return [_due(row) for row in sorted(rows, key=lambda row: row.verified_at or row.stored_at)[:most]]


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


def _due(row: Any) -> DueCopy:
    stored = Stored(
        storage=row.storage, bucket=row.bucket, key=row.key, version_id=row.version_id, size=row.size,
        sealed_sha256=row.sealed_sha256, lock_mode=LockMode.read(row.lock_mode, LockMode.COMPLIANCE),
        retain_until=row.retain_until, legal_hold=row.legal_hold, checked_by=row.checked_by,
    )  # fmt: skip
    return DueCopy(
        row.recording_id, row.provider, row.state, row.plaintext_sha256 or "", row.plaintext_bytes or 0,
        row.row_digest or stored.sealed_sha256, row.sealed_bytes or stored.size, row.keep_until, stored,
    )  # fmt: skip
