"""Decides which replica may act, by heartbeats and by leases with fencing tokens, on the database's clock.

A lease is a time-limited right; its token grows with every change of holder, so that a paused holder's writes can be
refused by number instead of by trust. Safety never rests on the lease alone: a writer checks the token in the same
statement.

No lease or heartbeat may end further ahead than the time that is given for it. Where one does, the database's clock was
ahead when the row was written: a replica that believed the row would wait for a dead holder until that clock was right.
(An end up to twice as far ahead is believed, so that a clock that is corrected by moments ends nothing.)
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
    """Returns the database's clock, at statement time."""
    now: datetime = conn.execute(select(db_now())).scalar_one()
    return now


def beat(conn: Connection, replica_id: str, *, spool_id: str, host: str, version: str, lasting: timedelta) -> datetime:
    """Records that this replica lives, for `lasting` from now. Creates its row at first. Returns the database's time.

    A heartbeat that ends much later, by a clock that ran ahead, is shortened: its replica has `lasting` from now to
    renew it.
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
    """Ends the leases and heartbeats of earlier users of our spool. They are dead, since we hold the spool's lock.

    So nobody need wait for their time to run out, and without a heartbeat their claims are orphans. Returns the number
    of these replicas.
    """
    dead = select(replica.c.id).where(replica.c.spool_id == spool_id, replica.c.id != replica_id)
    conn.execute(update(lease).where(lease.c.holder.in_(dead)).values(until=database_time(conn)))
    return conn.execute(delete(replica).where(replica.c.spool_id == spool_id, replica.c.id != replica_id)).rowcount


def leave(conn: Connection, replica_id: str) -> None:
    """Ends this replica's leases now and withdraws its heartbeat, for a stop in good order."""
    conn.execute(update(lease).where(lease.c.holder == replica_id).values(until=database_time(conn)))
    conn.execute(delete(replica).where(replica.c.id == replica_id))


def acquire(
    conn: Connection, name: str, holder: str, lasting: timedelta, *, longest: timedelta | None = None
) -> Held | None:
    """Takes or renews the lease `name`; returns None while another holder's time is not over.

    `longest` is the longest time for which any holder takes this lease, where that is more than `lasting`. The token
    grows only when the holder changes, so that a renewal keeps work in flight valid.
    """
    row = conn.execute(
        select(lease.c.holder, lease.c.token, lease.c.until, db_now().label("now"))
        .where(lease.c.name == name)
        .with_for_update()
    ).one_or_none()
    if row is None:
        now = database_time(conn)
        # Two replicas may get here at once: the primary key lets one through, the other's transaction fails and
        # retries.
        conn.execute(insert(lease).values(name=name, holder=holder, token=1, until=now + lasting))
        return Held(name, 1, now + lasting)
    if row.holder != holder and row.now < row.until <= row.now + 2 * (longest or lasting):
        return None
    token = row.token if row.holder == holder else row.token + 1
    conn.execute(update(lease).where(lease.c.name == name).values(holder=holder, token=token, until=row.now + lasting))
    return Held(name, token, row.now + lasting)


def anybody_alive(conn: Connection) -> bool:
    """Tell whether any replica lives, by its heartbeat and the database's clock."""
    return conn.execute(select(replica.c.host).where(replica.c.alive_until > db_now()).limit(1)).first() is not None


def rename(conn: Connection, old: str, new: str) -> None:
    """Give the lease of this name another one, in place of a lease that has it already."""
    conn.execute(delete(lease).where(lease.c.name == new))
    conn.execute(update(lease).where(lease.c.name == old).values(name=new))
