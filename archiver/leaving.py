"""Ends the process in a way that nothing can block: for when a thread waits for a party that never answers.

No thread can be stopped from outside, and Python waits for each at its end. The work of such a thread is as safe as
with SIGKILL, which any step of ours survives. Knows nothing but the standard library, for every command loads this
module.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Self

STOP = timedelta(seconds=24)
"""The time from the first signal to the end, even if something hangs; the promise is 25 s."""
REST = timedelta(seconds=4)
"""The time from the end of all work to the end of the process."""
_LAST_WORDS = 0.5


class LastResort:
    """Ends the process at the time that was set, unless it ended by itself. Leaving the context calls it off.

    Setting it again only ever brings the end nearer.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._changing = threading.Lock()
        self._at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, it: BaseException | None, at: TracebackType | None) -> None:
        self.call_off()

    def leave_within(self, span: timedelta, code: int) -> None:
        """End with `code` when `span` has passed."""
        end = time.monotonic() + span.total_seconds()
        with self._changing:
            if self._timer is not None:
                if self._at <= end:
                    return
                self._timer.cancel()
            self._at = end
            self._timer = threading.Timer(span.total_seconds(), _leave, [int(code)])
            self._timer.daemon = True
            self._timer.start()

    def call_off(self) -> None:
        """Cancel the planned end."""
        with self._changing:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None


def _leave(code: int) -> None:
    """End the process; the last words have a thread of their own, and half a second, because writing may be what
    hangs."""
    with contextlib.suppress(RuntimeError):  # no thread begins while the interpreter is being taken down
        words = threading.Thread(target=_say, daemon=True)
        words.start()
        words.join(_LAST_WORDS)
    os._exit(code)


def _say() -> None:
    structlog = sys.modules.get("structlog")  # a command that has not loaded it has no log
    if structlog is not None:
        why = "something never answered; what was done is kept"
        structlog.get_logger("archiver.daemon").warning("process.cut_off", why=why)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
