"""Signals of the operating system, handed to whoever runs at the moment."""

from __future__ import annotations

import asyncio
import enum
import signal
from typing import Protocol

import structlog

log = structlog.get_logger("archiver.daemon")


class End(enum.Enum):
    """Why the process leaves its loop."""

    STOP = "stop"
    RELOAD = "reload"


class Running(Protocol):
    """What signals are for."""

    @property
    def ending(self) -> End | None:
        """How it will end, once the stop has begun."""

    def stop(self, end: End = End.STOP) -> None:
        """Begin to stop."""


class Signals:
    """SIGTERM and SIGINT stop in good order, a second one at once; SIGHUP reloads. Both stops are as safe as SIGKILL.

    What comes while no daemon is attached, as between two configurations, is for the next one. `interrupted`: the last stop was
    asked for at the keyboard.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, reload: bool = True) -> None:
        self._daemon: Running | None = None
        self._missed: End | None = None
        self.interrupted = False
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        if reload:
            loop.add_signal_handler(signal.SIGHUP, self._reload)

    def attach(self, daemon: Running) -> None:
        """Signals are this daemon's from now on."""
        self._daemon = daemon
        if self._missed is not None:
            daemon.stop(self._missed)
            self._missed = None

    def detach(self) -> None:
        """The daemon has ended."""
        self._daemon = None

    def _stop(self, number: signal.Signals) -> None:
        log.info("daemon.signalled", signal=number.name)
        self.interrupted = number is signal.SIGINT
        if self._daemon is None:
            self._missed = End.STOP
        elif self._daemon.ending is End.STOP:
            signal.raise_signal(signal.SIGKILL)
        else:
            self._daemon.stop()

    def _reload(self) -> None:
        if self._daemon is not None:
            self._daemon.stop(End.RELOAD)
        elif self._missed is None:
            self._missed = End.RELOAD
