"""Who may act: heartbeats of replicas and leases with fencing tokens, by the database's clock.

A lease is a time-limited right; its token grows with every change of holder, so that a paused holder's writes can be refused
by number instead of by trust. Safety never rests on the lease alone: whoever writes checks the token in the same statement.

No end lies further ahead than the time that is given for it. Where one does, the database's clock was ahead when it was
written: who believed it would wait for the dead until that clock was right. (Twice as far is believed, so that a clock that is
set right by moments ends nothing.)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from archiver.database import db_now
from archiver.schedule.tables import lease, replica


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that we hold until `until` (database time) under `token`."""

    name: str
    token: int
    until: datetime


def database_time(conn: Connection) -> datetime:
    """The database's clock, at statement time."""
    now: datetime = conn.execute(select(db_now())).scalar_one()
    return now


def beat(conn: Connection, replica_id: str, *, spool_id: str, host: str, version: str, lasting: timedelta) -> datetime:
    """Say that this replica lives, for `lasting` from now. Creates its row at first. Returns the database's time.

    Who seems to live much longer, by a clock that ran ahead, has `lasting` from now to say so again.
    """
    now = database_time(conn)
    conn.execute(update(replica).where(replica.c.alive_until > now + 2 * lasting).values(alive_until=now + lasting))
    alive_until = now + lasting
    renewed = conn.execute(update(replica).where(replica.c.id == replica_id).values(alive_until=alive_until))
    if renewed.rowcount == 0:
        conn.execute(
            insert(replica).values(
                id=replica_id, spool_id=spool_id, host=host, version=version, started_at=now, alive_until=alive_until
            )
        )
    return now


def bury(conn: Connection, replica_id: str, spool_id: str) -> int:
    """Whoever used our spool before us is dead, since we hold its lock: nobody need wait for its time to run out.

    Its leases end now, and without its heartbeat its claims are orphans. Returns how many were buried.
    """
    dead = select(replica.c.id).where(replica.c.spool_id == spool_id, replica.c.id != replica_id)
    conn.execute(update(lease).where(lease.c.holder.in_(dead)).values(until=database_time(conn)))
    return conn.execute(delete(replica).where(replica.c.spool_id == spool_id, replica.c.id != replica_id)).rowcount


def leave(conn: Connection, replica_id: str) -> None:
    """This replica stops in good order: its leases end now and its heartbeat is withdrawn."""
    conn.execute(update(lease).where(lease.c.holder == replica_id).values(until=database_time(conn)))
    conn.execute(delete(replica).where(replica.c.id == replica_id))


def acquire(
    conn: Connection, name: str, holder: str, lasting: timedelta, *, longest: timedelta | None = None
) -> Held | None:
    """Take or renew the lease `name`; None while another holder's time is not over.

    `longest` is what anybody takes this lease for, where that is more than `lasting`. The token grows only when the holder
    changes, so that a renewal keeps work in flight valid.
    """
    row = conn.execute(
        select(lease.c.holder, lease.c.token, lease.c.until, db_now().label("now"))
        .where(lease.c.name == name)
        .with_for_update()
    ).one_or_none()
    if row is None:
        now = database_time(conn)
        # Two replicas may get here at once: the primary key lets one through, the other's transaction fails and retries.
        conn.execute(insert(lease).values(name=name, holder=holder, token=1, until=now + lasting))
        return Held(name, 1, now + lasting)
    if row.holder != holder and row.now < row.until <= row.now + 2 * (longest or lasting):
        return None
    token = row.token if row.holder == holder else row.token + 1
    conn.execute(update(lease).where(lease.c.name == name).values(holder=holder, token=token, until=row.now + lasting))
    return Held(name, token, row.now + lasting)
