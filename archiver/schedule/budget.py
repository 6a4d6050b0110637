"""Keeps one rate budget per credential, which all replicas share through one row.

It uses the generic cell rate algorithm (ITU-T I.371, virtual scheduling): the row holds the instant at which the next
request would be on time at the steady rate; a request that is early by no more than the burst goes at once, an earlier
request waits. A provider's "stop" moves that instant into the future, and every replica obeys because all replicas read
the same row.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select, update

from archiver.database import Writer, db_now
from archiver.schedule.lease import database_time
from archiver.schedule.tables import budget

_LONGEST_PAUSE = timedelta(hours=1)
_MOST_BOOKED = 1000
"""The most requests that may wait for their turn at one credential; all replicas together have far fewer."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` requests per `period`, of which `burst` may come at once."""

    count: int
    period: timedelta
    burst: int = 1

    @property
    def interval(self) -> timedelta:
        return self.period / self.count

    @property
    def horizon(self) -> timedelta:
        """The furthest that a turn may lie ahead. A turn further ahead was booked by a clock that ran ahead, and nobody
        waits for it."""
        return 2 * _LONGEST_PAUSE + self.interval * (self.burst + _MOST_BOOKED)


def reserve(conn: Connection, credential: str, rate: Rate, cost: int) -> timedelta:
    """Books `cost` requests and returns how long to wait before sending them."""
    row = conn.execute(
        select(budget.c.next_free, db_now().label("now")).where(budget.c.credential == credential).with_for_update()
    ).one_or_none()
    now = database_time(conn) if row is None else row.now
    on_time = row.next_free if row is not None and now < row.next_free <= now + rate.horizon else now
    following = on_time + rate.interval * cost
    if row is None:
        conn.execute(insert(budget).values(credential=credential, next_free=following))
    else:
        conn.execute(update(budget).where(budget.c.credential == credential).values(next_free=following))
    return max(timedelta(0), on_time - now - rate.interval * (rate.burst - 1))


def postpone(conn: Connection, credential: str, rate: Rate, wait: timedelta) -> None:
    """Makes all replicas wait until `wait` is over, burst or not. Never shortens a longer wait; never exceeds an
    hour."""
    now = database_time(conn)
    resume = now + min(wait, _LONGEST_PAUSE) + rate.interval * (rate.burst - 1)
    row = conn.execute(
        select(budget.c.next_free).where(budget.c.credential == credential).with_for_update()
    ).one_or_none()
    if row is None:
        conn.execute(insert(budget).values(credential=credential, next_free=resume))
    elif not resume <= row.next_free <= now + rate.horizon:
        conn.execute(update(budget).where(budget.c.credential == credential).values(next_free=resume))


class SharedBudget:
    """The budget of one credential, in the form that the providers' port requires."""

    def __init__(self, writer: Writer, credential: str, rate: Rate) -> None:
        self._writer = writer
        self._credential = credential
        self._rate = rate
        self.throttled = timedelta(0)

    async def take(self, cost: int = 1) -> None:
        wait = await self._writer.run(lambda conn: reserve(conn, self._credential, self._rate, cost))
        if wait > timedelta(0):
            self.throttled += wait
            await asyncio.sleep(wait.total_seconds())

    async def pause(self, wait: timedelta) -> None:
        self.throttled += wait
        await self._writer.run(lambda conn: postpone(conn, self._credential, self._rate, wait))


def rename(conn: Connection, old: str, new: str) -> None:
    """Give the budget of this credential another name, in place of a budget that has it already."""
    conn.execute(delete(budget).where(budget.c.credential == new))
    conn.execute(update(budget).where(budget.c.credential == old).values(credential=new))
