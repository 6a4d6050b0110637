"""Repeats actions, and tells a failure that the next try may mend from a bug, which ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import structlog

from archiver import errors
from archiver.wall import Kind, Party, Walls

log = structlog.get_logger("archiver.daemon")
T = TypeVar("T")


class Loops:
    """The loops of one process. `stirred` is set after each action that an event began."""

    def __init__(self, walls: Walls, stirred: asyncio.Event) -> None:
        self._walls = walls
        self._stirred = stirred

    async def on(self, event: asyncio.Event, act: Callable[[], Awaitable[object]]) -> None:
        """Act whenever the event is set."""
        while True:
            await event.wait()
            event.clear()
            await self.guarded(getattr(act, "__qualname__", "task"), act)
            self._stirred.set()

    async def every(self, interval: timedelta, act: Callable[[], Awaitable[object]]) -> None:
        """Act now, and again after each interval."""
        while True:
            await self.guarded(getattr(act, "__qualname__", "task"), act)
            await asyncio.sleep(interval.total_seconds())

    async def guarded(self, what: str, act: Callable[[], Awaitable[T]]) -> T | None:
        """Run one action of a loop. A party that fails leaves the loop standing; a bug ends the process, loudly.

        A failure that no retry mends, such as a storage that shows other bytes, is reported as a gap for as long as it
        lasts.
        """
        task = Party(Kind.TASK, what.rpartition(".")[2].strip("_"))
        try:
            result = await act()
        except errors.TransientError as failed:
            log.warning("daemon.try_again", task=what, problem=str(failed))
            return None
        except errors.LeaseLostError as lost:
            log.warning("daemon.lease_lost", task=what, problem=str(lost))
            return None
        except (errors.RolledBackError, errors.ConfigurationError):
            raise
        except errors.ArchiverError as refused:
            if type(refused) is errors.ArchiverError:  # the database refused a statement, or the ticker stopped
                raise
            log.error("daemon.refused", task=what, problem=str(refused))
            self._walls.note(task, "run", f"{task}: {refused}")
            return None
        self._walls.went_well(task, "run")
        return result
