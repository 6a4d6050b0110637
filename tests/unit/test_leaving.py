"""The way out that nothing can block, and a ticker that is not late before it has started."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from archiver.clock import SystemClock
from archiver.schedule.timer import BEAT, Ticker

_HANGS = """
import sys, time
import structlog
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from archiver.leaving import LastResort
ThreadPoolExecutor().submit(time.sleep, 60)
with LastResort() as called_off:
    called_off.leave_within(timedelta(seconds=0.01), 7)
    called_off.call_off()
last = LastResort()
last.leave_within(timedelta(seconds=0.3), 5)
last.leave_within(timedelta(seconds=30), 6)
sys.exit(4)
"""


@pytest.mark.skipif(
    "FAKED_BY_SECONDS" in os.environ,
    reason="libfaketime moves the clock by which a thread's wait with a time limit ends, and not the wait: no timer ever fires",
)
def test_a_thread_that_hangs_does_not_keep_the_process_and_the_soonest_end_counts() -> None:
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", _HANGS], capture_output=True, text=True, timeout=55, check=False)
    assert ended.returncode == 5, ended.stderr
    assert "process.cut_off" in ended.stdout + ended.stderr
    assert time.monotonic() - began < 30


class Wall(SystemClock):
    at = 0.0

    def monotonic(self) -> float:
        return self.at


async def test_the_ticker_is_not_late_before_it_has_started() -> None:
    """A start took longer than three beats, and the daemon ended for want of a tick (issue 9, row 7)."""
    clock = Wall()
    ticker = Ticker(clock)
    clock.at += 10 * BEAT.total_seconds()
    assert not ticker.stalled
    ticker.start()
    assert not ticker.stalled
    clock.at += 4 * BEAT.total_seconds()
    assert ticker.stalled
    ticker.stop()
