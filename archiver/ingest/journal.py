"""Keeps the queue: claims recordings for workers, and settles each outcome with one fenced write.

A claim gives a token, and every later write names that token: a replica that was paused or cut off changes nothing once
another replica has taken over (`LeaseLostError`). The claim counts the attempt before the work begins, so that a
recording that kills its worker is counted too.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Update, and_, bindparam, case, func, or_, select, text, update
from sqlalchemy.sql.dml import ReturningUpdate

from archiver import errors
from archiver.database import db_now
from archiver.ingest.claims import Claim, claim_of, dump_flags, load_flags
from archiver.ingest.plan import backoff
from archiver.ingest.tables import QUEUE, provider_state, recording
from archiver.recording import PENDING, Flag, Reason, State
from archiver.schedule.tables import replica

_CRASH_LIMIT = 3
_NAMED_AT_ONCE = 2_000
# The words of the partial index: SQLite does not see that SQLAlchemy's "ready = 1" is the same, and would sort every
# row.
READY = text("recording.ready")


# Columns that a worker does not need; the raw row may be long.
_UNNEEDED = frozenset({"raw", "stable_digest", "last_seen_at", "recipients"})


def wake_due(conn: Connection) -> int:
    """Make rows ready whose next attempt is due."""
    due = and_(
        recording.c.next_attempt_at.is_not(None), recording.c.next_attempt_at <= db_now(), recording.c.owner.is_(None)
    )
    return conn.execute(update(recording).where(due).values(ready=True, next_attempt_at=None)).rowcount


def wake(conn: Connection, reason: Reason, provider: str | None = None) -> int:
    """Make rows ready that wait for this reason: the cause is over, so the delay need not run out."""
    waits = [recording.c.next_attempt_at.is_not(None), recording.c.reason == reason, recording.c.owner.is_(None)]
    if provider is not None:
        waits.append(recording.c.provider == provider)
    return conn.execute(update(recording).where(*waits).values(ready=True, next_attempt_at=None)).rowcount


def wake_misdated(conn: Connection, provider: str, latest: datetime) -> int:
    """Make rows ready that are to rest until after `latest`: no rest is that long, so a clock was wrong. Return their
    count."""
    columns = recording.c
    misdated = and_(columns.provider == provider, columns.next_attempt_at > latest, columns.owner.is_(None))
    return conn.execute(update(recording).where(misdated).values(ready=True, next_attempt_at=None)).rowcount


def name_want_of_room(conn: Connection, provider: str, problem: str) -> int:
    """Write the lack of room on rows that could be fetched otherwise. They stay ready; a claim takes them once there is
    room."""
    unnamed = or_(recording.c.reason.is_(None), recording.c.reason != Reason.ROOM)
    wanted = (READY, recording.c.provider == provider, recording.c.spool_id.is_(None), unnamed)
    some = select(recording.c.id).where(*wanted).limit(_NAMED_AT_ONCE)
    named = update(recording).where(recording.c.id.in_(some)).values(reason=Reason.ROOM, last_error=problem[:500])
    return conn.execute(named).rowcount


def release_dead(conn: Connection, now: datetime) -> int:
    """Take back the claims of replicas whose heartbeat ended. A recording that kills its worker repeatedly waits
    longer."""
    alive = select(replica.c.id).where(replica.c.alive_until > db_now())
    orphaned = and_(recording.c.owner.is_not(None), recording.c.owner.not_in(alive))
    released = conn.execute(
        update(recording)
        .where(orphaned, recording.c.attempts <= _CRASH_LIMIT)
        .values(owner=None, ready=True, next_attempt_at=None)
    ).rowcount
    for row in conn.execute(select(recording.c.id, recording.c.attempts).where(orphaned)).all():
        again = now + backoff(row.attempts, None, now, 1.0)
        released += conn.execute(
            update(recording)
            .where(recording.c.id == row.id, orphaned)
            .values(owner=None, ready=False, next_attempt_at=again, last_error="its worker ended without an outcome")
        ).rowcount
    return released


def claim(
    conn: Connection, provider: str, owner: str, spool_id: str, limit: int, *, fetching: bool, storing: bool
) -> list[Claim]:
    """Claim up to `limit` recordings of `provider` for `owner`, most urgent first. None are claimed while the provider
    is parked.

    `fetching` is false when the spool is full, `storing` is false while the storage is down: rows with that next step
    are left out. Recordings that another living replica holds sealed are left to that replica.
    """
    if not (fetching or storing):
        return []
    values = {"of": provider, "to": owner, "here": spool_id, "most": limit}
    rows = conn.execute(_claiming(fetching, storing), values).all()
    return sorted((claim_of(row) for row in rows), key=_urgency)


# Statements of the hot path are built once: building a statement costs more than running it.
@functools.cache
def _claiming(fetching: bool, storing: bool) -> ReturningUpdate[Any]:
    here = bindparam("here", type_=recording.c.spool_id.type)
    dead_spools = recording.c.spool_id.not_in(select(replica.c.spool_id).where(replica.c.alive_until > db_now()))
    # A row with a page in quarantine is fetched again, whether a storage took the page or it is still in the spool.
    page = and_(recording.c.spool_id == here, recording.c.flags.contains(f'"{Flag.QUARANTINED}"'))
    fetchable = or_(recording.c.spool_id.is_(None), and_(recording.c.spool_id != here, dead_spools), page)
    steps = [
        condition for condition, wanted in ((fetchable, fetching), (recording.c.spool_id == here, storing)) if wanted
    ]
    resting = select(provider_state.c.provider).where(provider_state.c.parked_until > db_now())
    chosen = (
        select(recording.c.id)
        .where(READY, recording.c.provider == bindparam("of"), recording.c.provider.not_in(resting), or_(*steps))
        .order_by(recording.c.archive_by.nulls_last(), recording.c.listed_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )
    return (
        update(recording)
        .where(recording.c.id.in_(chosen), recording.c.ready)
        .values(owner=bindparam("to"), ready=False, token=recording.c.token + 1, attempts=recording.c.attempts + 1)
        .returning(*(column for column in recording.c if column.name not in _UNNEEDED))
    )


def hand_back(conn: Connection, held: Claim) -> None:
    """Give the recording back untouched, as at shutdown: the attempt does not count."""
    settle(conn, held, {"ready": True, "attempts": held.situation.attempts - 1})


def orphaned_claims(conn: Connection, owner: str, working: frozenset[str]) -> frozenset[str]:
    """Return orphaned claims: this replica owns them, but does not work on them, because a database answer was lost."""
    return frozenset(conn.execute(select(recording.c.id).where(recording.c.owner == owner)).scalars()) - working


def take_back(conn: Connection, owner: str, ids: frozenset[str]) -> int:
    """Return orphaned claims to the queue under a new token."""
    return conn.execute(
        update(recording)
        .where(recording.c.owner == owner, recording.c.id.in_(ids))
        .values(owner=None, ready=True, next_attempt_at=None, token=recording.c.token + 1)
    ).rowcount


def retry_now(conn: Connection, recording_id: str) -> bool:
    """Make a recording ready because a person asks for another try, even if gone or absent. False when nothing
    waits."""
    again = [*PENDING, State.ABSENT, State.GONE]
    retried = conn.execute(
        update(recording)
        .where(recording.c.id == recording_id, recording.c.state.in_(again), recording.c.owner.is_(None))
        .where(recording.c.provider_recording_id != "")  # a recording whose provider id was lost cannot be asked for
        .values(
            ready=True,
            next_attempt_at=None,
            denials=0,
            denied_at=None,
            state=func.coalesce(_resumed_state(), recording.c.state),
        )
    )
    return retried.rowcount == 1


def referenced_spool(conn: Connection, spool_id: str) -> frozenset[str]:
    """Return the files of this spool to which rows still point."""
    names = conn.execute(select(recording.c.spool_name).where(recording.c.spool_id == spool_id))
    return frozenset(names.scalars())


def settle(conn: Connection, held: Claim, values: Mapping[str, object], *, keep_owner: bool = False) -> None:
    """Write an outcome, fenced by the claim: unless this replica still holds the claim, raises `LeaseLostError` and
    changes nothing.
    """
    changed = dict(values) if keep_owner else {"owner": None, **values}
    if not changed.keys() <= _UNCATALOGUED:
        changed["segment"] = None
    fence = {"held_id": held.id, "held_token": held.token, "held_owner": held.owner}
    statement = _settling(tuple(sorted(changed)))
    if conn.execute(statement, fence | {f"new_{name}": value for name, value in changed.items()}).rowcount != 1:
        raise errors.LeaseLostError(held.id)


# Columns that may change without a new catalogue line; the count of attempts matters only once there is an outcome.
_UNCATALOGUED = QUEUE | {"attempts"}


@functools.cache
def _settling(columns: tuple[str, ...]) -> Update:
    fenced = update(recording).where(
        recording.c.id == bindparam("held_id"),
        recording.c.token == bindparam("held_token"),
        recording.c.owner == bindparam("held_owner"),
    )
    return fenced.values({name: bindparam(f"new_{name}", type_=recording.c[name].type) for name in columns})


def flags_now(conn: Connection, recording_id: str) -> frozenset[Flag]:
    """Return the row's flags, which no other transaction changes until this one ends."""
    return load_flags(conn.execute(_FLAGS, {"of": recording_id}).scalar_one())


_FLAGS = select(recording.c.flags).where(recording.c.id == bindparam("of")).with_for_update()


def reflagged(
    conn: Connection, held: Claim, add: frozenset[Flag], less: frozenset[Flag] = frozenset()
) -> dict[str, object]:
    """Return the columns for `settle` that set `add` and clear `less`, whatever flags other writers set since the
    claim."""
    if (held.flags - less) | add == held.flags:
        return {}
    return {"flags": dump_flags((flags_now(conn, held.id) - less) | add)}


def recatalogue(conn: Connection, recording_id: str) -> None:
    """Make the row due for the catalogue again, after a change to its catalogued columns that did not go through
    `settle`."""
    conn.execute(_RECATALOGUE, {"changed": recording_id})


_RECATALOGUE = update(recording).where(recording.c.id == bindparam("changed")).values(segment=None)


def _urgency(held: Claim) -> tuple[bool, datetime, datetime]:
    by = held.situation.archive_by
    return (by is None, by or held.listed_at, held.listed_at)


def _resumed_state() -> ColumnElement[str | None]:
    return case((recording.c.state.in_([State.ABSENT, State.GONE]), State.LISTED.value))
