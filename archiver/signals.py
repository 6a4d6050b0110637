"""Hands signals of the operating system to the daemon that runs at the moment."""

from __future__ import annotations

import asyncio
import enum
import signal
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import structlog

from archiver.errors import Exit
from archiver.leaving import STOP, LastResort

log = structlog.get_logger("archiver.daemon")
T = TypeVar("T")

_MOMENT = timedelta(seconds=2)


class End(enum.Enum):
    """The reason why the process leaves its loop."""

    STOP = "stop"
    RELOAD = "reload"


class Running(Protocol):
    """The receiver of signals."""

    @property
    def ending(self) -> End | None:
        """The way in which the process will end, once the stop has begun."""

    def stop(self, end: End = End.STOP) -> None:
        """Begin to stop."""


class Signals:
    """SIGTERM and SIGINT stop in good order, a second one at once; SIGHUP reloads. Both stops are as safe as SIGKILL.

    A signal that comes while no daemon is attached, as between two configurations, is for the next one. `stopping` is
    set by the first stop, and then `last` sees to it that the process ends in time, with `code` of the signal.
    `interrupted`: the last stop was asked for at the keyboard.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        last: LastResort,
        code: Callable[[signal.Signals], Exit] = lambda _: Exit.OK,
        *,
        reload: bool = True,
    ) -> None:
        self._daemon: Running | None = None
        self._missed: End | None = None
        self._last = last
        self._code = code
        self.stopping = asyncio.Event()
        self.interrupted = False
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        if reload:
            loop.add_signal_handler(signal.SIGHUP, self._reload)

    def attach(self, daemon: Running) -> None:
        """Send signals to this daemon from now on."""
        self._daemon = daemon
        if self._missed is not None:
            daemon.stop(self._missed)
            self._missed = None

    def detach(self) -> None:
        """Note that the daemon has ended."""
        self._daemon = None

    def _stop(self, number: signal.Signals) -> None:
        log.info("daemon.signalled", signal=number.name)
        self.interrupted = number is signal.SIGINT
        if self.stopping.is_set():
            signal.raise_signal(signal.SIGKILL)
        self.stopping.set()
        self._last.leave_within(STOP, self._code(number))
        if self._daemon is None:
            self._missed = End.STOP
        else:
            self._daemon.stop()

    def _reload(self) -> None:
        if self._daemon is not None:
            self._daemon.stop(End.RELOAD)
        elif self._missed is None:
            self._missed = End.RELOAD


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of `work`; None when `stop` is set before: then `work` is cancelled, and waited for only a
    moment."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task}, timeout=_MOMENT.total_seconds())
        ended_well = task.done() and not task.cancelled() and task.exception() is None
        return task.result() if ended_well else None
    finally:
        task.cancel()
        stopped.cancel()
