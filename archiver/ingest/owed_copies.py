"""Keeps the copies that policy demands and that do not exist yet: their storage, their worker, their next attempt.

Policy demands a copy of each archived recording in every configured storage, required or not. The transaction that
archives a recording without some copy records that copy as owed (`owe`); copies that a new or newly required storage
lacks are found by one search through the whole journal (`lacking`). The holder of a copy names its token in every
write, as in `journal`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from archiver import errors
from archiver.database import db_now
from archiver.ingest.tables import copy, copy_survey, owed_copy, recording
from archiver.recording import State
from archiver.schedule.tables import replica

FIRST = 1
"""The token, and the number of attempts, of a copy that is begun in the transaction that archives its recording."""
_FIRST_DELAY, _LONGEST_DELAY = timedelta(minutes=1), timedelta(hours=1)
_PAGE = 2_000

_OWE = {
    "sqlite": sqlite.insert(owed_copy).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(owed_copy).on_conflict_do_nothing(),
}


@dataclass(frozen=True, slots=True)
class OwedCopy:
    """One copy that this replica may make until it settles the outcome, and the copies that exist already."""

    recording_id: str
    storage: str
    owner: str
    token: int
    attempts: int
    row: Any
    copies: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Lack:
    """The count of a provider's recordings that a storage lacks, the time of the oldest, and the oldest one's last
    problem."""

    provider: str
    storage: str
    count: int
    since: datetime
    problem: str | None


def owe(
    conn: Connection,
    recording_id: str,
    provider: str,
    missing: Mapping[str, str],
    since: datetime,
    *,
    begun: Collection[str] = (),
    owner: str | None = None,
) -> None:
    """Record which storages lack a copy of a newly archived recording, and why. Recording this again changes nothing.

    `begun`: the storages into which `owner` makes the copy now; nobody else claims those.
    """
    for storage, problem in {**missing, **dict.fromkeys(begun, "")}.items():
        values = {"recording_id": recording_id, "provider": provider, "storage": storage, "since": since}
        ours = {"owner": owner, "token": FIRST, "attempts": FIRST} if storage in begun else {}
        conn.execute(_OWE[conn.dialect.name], {**values, **ours, "problem": problem[:500] or None})


# --- search through the whole journal ---------------------------------------------------------------------------------


def unsurveyed(conn: Connection, storages: Iterable[str]) -> list[str]:
    """Return the storages for which the journal has not been searched since they were configured."""
    known = set(conn.execute(select(copy_survey.c.storage)).scalars())
    return [each for each in storages if each not in known]


def forget(conn: Connection, configured: Collection[str]) -> int:
    """Drop the copies owed by storages that are no longer configured. Return their count."""
    conn.execute(delete(copy_survey).where(copy_survey.c.storage.not_in(configured)))
    return conn.execute(delete(owed_copy).where(owed_copy.c.storage.not_in(configured))).rowcount


def lacking(conn: Connection, storage: str, now: datetime, after: str = "") -> list[Any]:
    """Return a page of archived recordings after the id `after` whose retention has not ended and of which
    `storage` has no copy.
    """
    return list(conn.execute(_LACKING, {"in": storage, "now": now, "after": after, "most": _PAGE}).all())


def owe_all(conn: Connection, storage: str, rows: Sequence[Any]) -> None:
    """Record the copies that a page of `lacking` shows, unless a copy was made meanwhile."""
    for row in rows:
        values = {"recording_id": row.id, "provider": row.provider, "storage": storage, "since": row.archived_at}
        if not conn.execute(_HAS, {"of": row.id, "in": storage}).first():
            conn.execute(_OWE[conn.dialect.name], values)


def surveyed(conn: Connection, storage: str, now: datetime) -> None:
    """Record that the whole journal was searched for `storage`."""
    same = copy_survey.c.storage == storage
    if conn.execute(update(copy_survey).where(same).values(surveyed_at=now)).rowcount == 0:
        conn.execute(insert(copy_survey).values(storage=storage, surveyed_at=now))


_HAS = select(copy.c.storage).where(copy.c.recording_id == bindparam("of"), copy.c.storage == bindparam("in"))
_COPY_IN = exists().where(copy.c.recording_id == recording.c.id, copy.c.storage == bindparam("in"))
_SINCE = func.coalesce(recording.c.archived_at, recording.c.listed_at).label("archived_at")
_NOW = bindparam("now", type_=recording.c.listed_at.type)
_LACKING = (
    select(recording.c.id, recording.c.provider, _SINCE)
    .where(
        recording.c.state == State.ARCHIVED,
        recording.c.id > bindparam("after"),
        or_(recording.c.retain_until.is_(None), recording.c.retain_until > _NOW),
        ~_COPY_IN,
    )
    .order_by(recording.c.id)
    .limit(bindparam("most"))
)


# --- owed copies ------------------------------------------------------------------------------------------------------


def count(conn: Connection) -> int:
    """Count the owed copies."""
    return conn.execute(select(func.count()).select_from(owed_copy)).scalar_one()


def lacks(conn: Connection) -> list[Lack]:
    """Return the owed copies in total, by provider and storage, without those that are being made for the first
    time."""
    columns = owed_copy.c
    alive = select(replica.c.id).where(replica.c.alive_until > db_now())
    late = or_(columns.problem.is_not(None), columns.owner.is_(None), columns.owner.not_in(alive))
    grouped = select(columns.provider, columns.storage, func.count().label("n"), func.min(columns.since).label("since"))
    totals = []
    for row in conn.execute(grouped.where(late).group_by(columns.provider, columns.storage)).all():
        oldest = select(columns.problem).where(columns.storage == row.storage, columns.provider == row.provider)
        problem = conn.execute(oldest.order_by(columns.since).limit(1)).scalar()
        totals.append(Lack(row.provider, row.storage, row.n, row.since, problem))
    return totals


def of_recording(conn: Connection, recording_id: str) -> dict[str, str | None]:
    """Return the storages that owe a copy of this recording, each with its last problem."""
    columns = owed_copy.c
    rows = conn.execute(select(columns.storage, columns.problem).where(columns.recording_id == recording_id))
    return {row.storage: row.problem for row in rows}


def take_back(conn: Connection, storage: str, owner: str, busy: Collection[str] = ()) -> int:
    """Release this replica's claims on which it does not work: the answer to a claim or an outcome was lost. `busy`:
    the recordings whose copies it makes now.
    """
    ours = and_(owed_copy.c.storage == storage, owed_copy.c.owner == owner, owed_copy.c.recording_id.not_in(list(busy)))
    return conn.execute(update(owed_copy).where(ours).values(owner=None)).rowcount


def wake(conn: Connection, storage: str) -> int:
    """Make the storage's copies due at once: it is up again, so the delay need not run out."""
    waits = and_(owed_copy.c.storage == storage, owed_copy.c.next_attempt_at.is_not(None))
    return conn.execute(update(owed_copy).where(waits).values(next_attempt_at=None)).rowcount


def claim(conn: Connection, storage: str, owner: str, now: datetime) -> OwedCopy | None:
    """Claim the oldest due copy that `storage` owes and that no living replica works on; None when there is none."""
    columns = owed_copy.c
    alive = select(replica.c.id).where(replica.c.alive_until > db_now())
    oldest = (
        select(owed_copy)
        .where(
            columns.storage == storage,
            or_(columns.next_attempt_at.is_(None), columns.next_attempt_at <= now),
            or_(columns.owner.is_(None), columns.owner.not_in(alive)),
        )
        .order_by(columns.since, columns.recording_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    due = conn.execute(oldest).one_or_none()
    if due is None:
        return None
    token, attempts = due.token + 1, due.attempts + 1
    same = and_(columns.recording_id == due.recording_id, columns.storage == storage)
    conn.execute(update(owed_copy).where(same).values(owner=owner, token=token, attempts=attempts))
    row = conn.execute(select(recording).where(recording.c.id == due.recording_id)).one()
    copies = conn.execute(select(copy).where(copy.c.recording_id == due.recording_id).order_by(copy.c.storage)).all()
    return OwedCopy(due.recording_id, storage, owner, token, attempts, row, copies)


def settled(conn: Connection, held: OwedCopy) -> None:
    """Remove the owed copy. Raises `LeaseLostError`, and changes nothing, unless this replica still holds the claim."""
    if conn.execute(delete(owed_copy).where(*_fence(held))).rowcount != 1:
        raise errors.LeaseLostError(held.recording_id)


def put_off(conn: Connection, held: OwedCopy, problem: str, again_at: datetime) -> None:
    """Put off a copy that could not be made until `again_at`; it holds up no other copy."""
    values = {"owner": None, "next_attempt_at": again_at, "problem": problem[:500]}
    conn.execute(update(owed_copy).where(*_fence(held)).values(**values))


def hand_back(conn: Connection, held: OwedCopy) -> None:
    """Give the copy back, as at shutdown: the attempt does not count."""
    conn.execute(update(owed_copy).where(*_fence(held)).values(owner=None, attempts=held.attempts - 1))


def delay(attempts: int, spread: float) -> timedelta:
    """Return a delay from a minute to an hour, doubled with each attempt; `spread` in [0, 1) shortens it by up to half.
    Pure."""
    return min(_FIRST_DELAY * 2.0 ** min(max(attempts - 1, 0), 10), _LONGEST_DELAY) * (1 - spread / 2)


def _fence(held: OwedCopy) -> tuple[Any, ...]:
    columns = owed_copy.c
    return (
        columns.recording_id == held.recording_id,
        columns.storage == held.storage,
        columns.owner == held.owner,
        columns.token == held.token,
    )
