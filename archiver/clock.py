"""Reads time and chance; no other module does. Other code gets a `Clock` and a `Chance` passed in."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for people and deadlines, monotonic seconds for measuring."""

    def now(self) -> datetime:
        """Return the present instant, aware, UTC."""

    def monotonic(self) -> float:
        """Return the seconds since an arbitrary start; never goes back."""


class Chance(Protocol):
    """Random bytes fit for keys, and identifiers that sort by time."""

    def token(self, size: int) -> bytes:
        """Return `size` unpredictable bytes."""

    def uuid(self) -> str:
        """Return a fresh UUIDv7 (RFC 9562) in canonical text form."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class SystemChance:
    """The operating system's randomness."""

    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def uuid(self) -> str:
        milliseconds = time.time_ns() // 1_000_000
        value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
        value = (value & ~(0xF << 76)) | (0x7 << 76)
        value = (value & ~(0x3 << 62)) | (0x2 << 62)
        return str(uuid.UUID(int=value))
