"""What happens at a failpoint, and how one is put around a call from outside."""

from __future__ import annotations

import enum
import functools
import inspect
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.campaign.power import Disk


class Action(enum.StrEnum):
    """What happens at a point. KILL is SIGKILL; POWER is that too, and what was not synced is gone.

    TERM is a SIGTERM that meets this thread at work: only for points that block.
    """

    KILL = "kill"
    POWER = "power"
    STOP = "stop"
    TERM = "term"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Order:
    """`action` at the `nth` time that a run comes to `point`."""

    point: str
    nth: int
    action: Action


class Points:
    """Counts how often each point is come to, and does what was ordered there."""

    def __init__(self, orders: Mapping[str, Order], told: Path, disk: Disk | None) -> None:
        self._orders = orders
        self._told = told
        self._disk = disk
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reach(self, point: str, fault: Callable[[], BaseException] | None = None) -> None:
        """We are at `point`. Raises `fault` where that was ordered."""
        with self._lock:
            self._counts[point] += 1
            order = self._orders.get(point)
            if order is None or self._counts[point] != order.nth:
                return
            with self._told.open("a") as told:
                told.write(f"{point}\n")
        match order.action:
            case Action.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Action.POWER:
                assert self._disk is not None
                self._disk.cut()
            case Action.STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Action.TERM:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1.5)  # the signal is heard by the loop, in another thread: here is what it interrupts
            case Action.FAIL:
                assert fault is not None, point
                raise fault()


def swap(owner: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Put `change(what was there)` in place of an attribute, for good. Fails when there is none: the seam has moved."""
    setattr(owner, name, change(getattr(owner, name)))


def around(
    points: Points, name: Callable[..., str | None], original: Callable[..., Any], refused: Any, lost: Any
) -> Callable[..., Any]:
    """`original` with a point on each side. `name` says which effect a call is, None for none of ours."""

    @functools.wraps(original)
    def call(*arguments: Any, **named: Any) -> Any:
        effect = name(*arguments, **named)
        if effect is None:
            return original(*arguments, **named)
        points.reach(f"{effect}/before", refused)
        result = original(*arguments, **named)
        points.reach(f"{effect}/after", lost)
        return result

    @functools.wraps(original)
    async def asynchronous(*arguments: Any, **named: Any) -> Any:
        effect = name(*arguments, **named)
        if effect is None:
            return await original(*arguments, **named)
        points.reach(f"{effect}/before", refused)
        result = await original(*arguments, **named)
        points.reach(f"{effect}/after", lost)
        return result

    return asynchronous if inspect.iscoroutinefunction(original) else call


def everywhere(names: tuple[str, ...], change: Callable[[Callable[..., Any]], Any]) -> None:
    """Replace a function of the journal or of the leases, or one named with its module, in each module that has it."""
    modules = [each for name, each in sorted(sys.modules.items()) if name.startswith("archiver.")]
    original = next(filter(None, (_defined(modules, name) for name in names)), None)
    assert original is not None, f"no function {' or '.join(names)} any more: the seam has moved"
    changed = change(original)
    for module in modules:
        for name, value in list(vars(module).items()):
            if value is original:
                setattr(module, name, changed)


def _defined(modules: list[ModuleType], name: str) -> Callable[..., Any] | None:
    home, _, own = name.rpartition(".")
    homes = (f"archiver.{home}",) if home else ("archiver.ingest.", "archiver.schedule.")
    for module in modules:
        value = vars(module).get(own)
        if module.__name__.startswith(homes) and inspect.isfunction(value) and value.__module__ == module.__name__:
            return value
    return None
