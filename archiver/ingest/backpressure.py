"""Applies back-pressure: listing waits while the custody log is behind, if the log moves; saving never waits (ADR 8).

Most events come from listings, thousands in a minute, and a page that is written down some seconds later loses nothing.
Fetching, sealing and storing have a deadline: they go on however long the queue is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from archiver.clock import Clock
from archiver.translog import reader as custody_log

log = structlog.get_logger("archiver.backpressure")

LONGEST = timedelta(seconds=5)
_STANDS = timedelta(seconds=2)
_LOOK = 0.1


class Backpressure:
    """The back-pressure that the pollers of one process wait for. A queue that stands still, as after damage to the
    log, holds up no poller.

    `backlog` answers like `custody.log.backlog`.
    """

    def __init__(self, backlog: Callable[[], Awaitable[int | None]], clock: Clock) -> None:
        self._backlog = backlog
        self._clock = clock
        self._stuck_at: int | None = None  # the oldest row of a queue that stands still

    async def wait(self) -> None:
        """Return when the queue is below the mark, when it stands still, or after `LONGEST`. Raises
        `UnavailableError`."""
        began = moved = self._clock.monotonic()
        last: int | None = None
        while (oldest := await self._backlog()) is not None and oldest != self._stuck_at:
            now = self._clock.monotonic()
            if oldest != last:
                last, moved = oldest, now
            elif now - moved >= _STANDS.total_seconds():
                self._stuck_at = oldest
                log.warning("custody.backlog_stands", more_than=custody_log.BACKLOG)
                return
            if now - began >= LONGEST.total_seconds():
                return
            await asyncio.sleep(_LOOK)
