"""Walks through a body by its own structure, without keeping the bytes. Pure.

Every container but the simplest is a row of headers, each of which states where the next one begins. A walk looks at
the headers only; the follower brings it their bytes as the body streams by, so that a body of any size costs the memory
of one header.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from archiver.recording import MediaFacts

DONE = sys.maxsize
_LONGEST_HEADER = 512
# Bytes of the shortest MP3 frame; a body crafted to waste time gets no more steps than this.
_FREE_STEPS, _BYTES_A_STEP = 50_000, 24
_LONGEST_SECONDS = 10 * 366 * 86400  # a longer duration means a forged header, not a recording


@dataclass(frozen=True, slots=True)
class Shape:
    """The container's statements, once the body has ended.

    `whole`: True when the container ends where the body ends; False when it promises more than came; None when it does
    not say.
    """

    media: MediaFacts
    whole: bool | None


class Walk(Protocol):
    """Reads headers. `at`: where the next header begins (DONE: none follows); `need`: how many of its bytes are
    wanted."""

    at: int
    need: int

    def step(self, window: bytes, here: int) -> None:
        """Read the header at `window[here]` (`need` bytes or more are there), and move `at` on or raise `need`."""

    def shape(self, size: int) -> Shape:
        """Return the container's statements about a body of `size` bytes."""


def seconds(units: int, per_second: float) -> timedelta | None:
    """Return a duration, or None when the numbers cannot be one."""
    if per_second <= 0 or units < 0 or units / per_second > _LONGEST_SECONDS:
        return None
    return timedelta(seconds=units / per_second)


def lasting(size: int, per_second: float) -> timedelta | None:
    """Return the duration of `size` bytes of sound: zero for no bytes, whatever rate is stated."""
    return seconds(size, per_second) if size else timedelta(0)


class Follower:
    """Leads a walk through a body that comes in pieces of any size."""

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
    """A container that is recognised by its first bytes and not followed."""

    def __init__(self, media: MediaFacts) -> None:
        self.at, self.need = DONE, 1
        self._media = media

    def step(self, window: bytes, here: int) -> None:
        """Do nothing; never called, because there is nothing to follow."""

    def shape(self, size: int) -> Shape:  # noqa: ARG002 - the port's signature
        return Shape(self._media, whole=None)
