"""Checks that a storage's copy of the log stays locked, and that no later version and no delete marker covers a
file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.recording import LockMode
from archiver.verify.finding import LOCK_STRENGTH, Kind
from archiver.verify.log_copy import LogCopy

_EXPIRY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ExpectedLock:
    """The lock that the storage must show on files that never change: its mode, and its end by today's rules for a day
    of writing.
    """

    mode: LockMode
    until: Callable[[datetime], datetime]


class Protection:
    """The locks and versions of one storage's files, as the checks come to them."""

    def __init__(self, copy: LogCopy, expected: ExpectedLock | None) -> None:
        self._copy = copy
        self._expected = expected
        self._until: dict[str, datetime] = {}  # by series of pieces: the longest lock so far

    async def uncovered(self, name: str) -> None:
        """Check that no delete marker covers the newest partial pieces. A rule that removes old partial pieces takes a
        day or more.
        """
        versions = await self._copy.shelf.versions(name)
        markers = [each.modified_at for each in versions if each.is_delete_marker]
        puts = [each.modified_at for each in versions if not each.is_delete_marker]
        if markers and puts and min(markers) - max(puts) < _EXPIRY:
            self._copy.found(Kind.LOG_SHELF, name, "is covered by a delete marker; the version is still there")

    async def protected(self, name: str) -> None:
        """Check that the lock holds and that nothing covers a file: the lock protects versions, not names."""
        versions = await self._copy.shelf.versions(name)
        puts = [each for each in versions if not each.is_delete_marker]
        if len(puts) < len(versions):
            self._copy.found(Kind.LOG_SHELF, name, "is covered by a delete marker; the version is still there")
        elif len(puts) > 1:
            self._copy.found(Kind.LOG_SHELF, name, f"has {len(puts)} versions where one was put; the oldest counts")
        if puts and self._expected is not None and self._expected.mode is not LockMode.OFF:
            await self._lock(name, puts[0].modified_at, self._expected)

    async def _lock(self, name: str, put_at: datetime, rules: ExpectedLock) -> None:
        """Report a weaker or shorter lock than the rules demand.

        Too short is a lock that ends before the date that today's rules give for the day of writing *and* before the
        lock of an older piece: a change of the rules since then is no fault.
        """
        lock = await self._copy.shelf.lock(name)
        if lock is None:
            return
        if LOCK_STRENGTH[lock.mode] < LOCK_STRENGTH[rules.mode] or lock.retain_until is None:
            self._copy.found(
                Kind.LOCK_WEAKER, name, f"is to be locked in {rules.mode} mode, the storage shows {lock.mode}"
            )
            return
        series = "tile" if name.startswith("tile/") else name.partition("/")[0]
        longest = max(self._until.get("keys", lock.retain_until), self._until.get(series, lock.retain_until))
        if lock.retain_until < longest and lock.retain_until < rules.until(put_at):
            self._copy.found(
                Kind.LOCK_SHORTER,
                name,
                f"is locked until {lock.retain_until:%Y-%m-%d %H:%M}, an older piece until {longest:%Y-%m-%d %H:%M}",
            )
        self._until[series] = max(longest, lock.retain_until)
