"""Walks through a body by its own structure, without keeping it. Pure.

Every container but the simplest is a row of headers, each telling where the next one is. A walk looks at the headers
only; the follower brings it their bytes as the body streams by, so that any size costs the memory of one header.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from archiver.recording import MediaFacts

DONE = sys.maxsize
_LONGEST_HEADER = 512
_FREE_STEPS, _BYTES_A_STEP = (
    50_000,
    24,
)  # the shortest frame of MP3; a body made to waste time gets no more steps than this
_LONGEST_SECONDS = 10 * 366 * 86400  # more is a poisoned header, not a recording


@dataclass(frozen=True, slots=True)
class Shape:
    """What the container says, now that the body has ended.

    `whole`: True, it ends where the body ends; False, it promises more than came; None, it cannot tell.
    """

    media: MediaFacts
    whole: bool | None


class Walk(Protocol):
    """Reads headers. `at` is where the next one begins (DONE: no more), `need` how many bytes of it are wanted."""

    at: int
    need: int

    def step(self, window: bytes, here: int) -> None:
        """Read the header at `window[here]` (`need` bytes or more are there), and move `at` on or raise `need`."""

    def shape(self, size: int) -> Shape:
        """What is known, when the body was `size` bytes long."""


def seconds(units: int, per_second: float) -> timedelta | None:
    """A duration, or None when the numbers are no duration of anything."""
    if per_second <= 0 or units < 0 or units / per_second > _LONGEST_SECONDS:
        return None
    return timedelta(seconds=units / per_second)


def lasting(size: int, per_second: float) -> timedelta | None:
    """The duration of `size` bytes of sound: none at all lasts no time, whatever their rate is said to be."""
    return seconds(size, per_second) if size else timedelta(0)


class Follower:
    """Takes a walk through a body that comes in pieces of any size."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._carry = b""
        self._steps = 0
        self._most = _FREE_STEPS
        self._exhausted = False
        self._size = 0

    def feed(self, piece: bytes) -> None:
        self._most = _FREE_STEPS + (self._size + len(piece)) // _BYTES_A_STEP
        if self._carry:
            self._run(self._carry + piece[:_LONGEST_HEADER], self._size - len(self._carry))
        self._run(piece, self._size)
        self._size += len(piece)
        rest = self._size - self._walk.at
        if rest <= 0:
            self._carry = b""
        else:
            self._carry = piece[-rest:] if rest <= len(piece) else self._carry[len(piece) - rest :] + piece

    def _run(self, window: bytes, start: int) -> None:
        walk = self._walk
        while start <= walk.at <= start + len(window) - walk.need:
            self._steps += 1
            if self._steps > self._most:
                self._exhausted, walk.at = True, DONE
                return
            walk.step(window, walk.at - start)

    def shape(self) -> Shape:
        shape = self._walk.shape(self._size)
        return Shape(replace(shape.media, duration=None), whole=None) if self._exhausted else shape


class Known:
    """A container that is told by its first bytes and not followed."""

    def __init__(self, media: MediaFacts) -> None:
        self.at, self.need = DONE, 1
        self._media = media

    def step(self, window: bytes, here: int) -> None:
        """Never asked: there is nothing to follow."""

    def shape(self, size: int) -> Shape:  # noqa: ARG002 - the port's signature
        return Shape(self._media, whole=None)
