"""Shows one storage as the pipe sees it: trusted or not, up or down.

A storage that failed is left alone for a while, so that fetching into the spool goes on at full speed. A storage that
did not prove its lock is never written to at all, because no object there could be called archived (fail closed).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from archiver import errors
from archiver.recording import Lock, LockMode, SealedFile, Stored
from archiver.store.port import ObjectStore, ProbeReport

_SHORTEST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=30)
_LONGEST_ASKED = timedelta(minutes=5)  # the longest pause that a storage can ask for: deadlines go on
# A failed put is tried again each minute, so a longer silence means that none is waiting.
_NOTHING_MORE_TO_PUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Outage:
    """A refusal by a storage: its start, its latest occurrence, and the storage's message."""

    since: datetime
    at: datetime
    problem: str


class Destination:
    """A storage with its probe report and its present health."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.report: ProbeReport | None = None
        self.down_until: datetime | None = None
        self.problem: str | None = None
        self.word: asyncio.Event | None = None  # set when the first probe has ended, or takes too long to wait for
        self._failures = 0
        # By kind of request, "put" or "probe": success with one does not end a refusal of the other.
        self._refused: dict[str, Outage] = {}

    @property
    def outage(self) -> Outage | None:
        """The longest-standing present refusal; None when the latest request of each kind succeeded."""
        return min(self._refused.values(), key=lambda each: each.since, default=None)

    @property
    def proven(self) -> bool:
        """True when the storage proved its lock and refuses nothing now."""
        return self.report is not None and self.report.trusted and not self._refused

    @property
    def id(self) -> str:
        return self.store.id

    def usable(self, now: datetime) -> bool:
        """True when the storage has proved itself and is not resting after a failure."""
        return self.report is not None and self.report.trusted and (self.down_until is None or now >= self.down_until)

    async def first_word(self) -> None:
        """Wait while the first probe is young: most storages answer within a moment, and then no recording is put
        off."""
        if self.report is None and self.word is not None:
            await self.word.wait()

    def proved(self, report: ProbeReport) -> None:
        """Take over the findings of a probe."""
        self.report = report
        self._refused.pop("probe", None)
        refused = self._refused.get("put")
        if report.trusted and refused is not None and report.probed_at - refused.at > _NOTHING_MORE_TO_PUT:
            del self._refused["put"]
        failed = [check for check in report.checks if check.fatal and not check.ok]
        self.problem = f"{failed[0].name}: {failed[0].detail}" if failed else None

    async def put(self, key: str, file: SealedFile, retain_until: datetime, now: datetime) -> Stored:
        """Store and read back one sealed object. A failure of the storage makes it rest; any success ends its rest.

        Raises `VerificationError` when the storage shows anything but the bytes that were sealed: no caller needs to
        compare.
        """
        await self.first_word()
        if not self.usable(now):
            raise errors.DestinationError(f"{self.id} is not usable: {self.problem or 'it has not been probed'}")
        mode = self.store.lock_mode
        lock = Lock(mode, None if mode is LockMode.OFF else retain_until)
        try:
            stored = await self.store.put_once(key, file.path, size=file.size, sealed_sha256=file.sha256, lock=lock)
        except errors.DestinationError as failed:
            self.failed(failed, now)
            raise
        except errors.VerificationError as bad:
            self._refuses("put", bad, now)
            raise
        if (stored.size, stored.sealed_sha256) != (file.size, file.sha256):
            raise errors.VerificationError(f"{self.id} shows other bytes than were sealed")
        self._failures = 0
        self._refused.pop("put", None)
        self.down_until = None
        self.problem = None
        return stored

    def failed(
        self, error: errors.ArchiverError, now: datetime, *, doing: str = "put", since: datetime | None = None
    ) -> None:
        """Let the storage rest after a failure, longer each time, and as long as it asks. `since`: the start of the
        failed request.
        """
        self._refuses(doing, error, now, since)
        self._failures += 1
        asked = error.retry_after if isinstance(error, errors.TransientError) else None
        rest = min(_SHORTEST_PAUSE * 2 ** min(self._failures - 1, 10), _LONGEST_PAUSE)
        self.down_until = now + max(rest, min(asked or rest, _LONGEST_ASKED))
        self.problem = str(error)

    def _refuses(self, doing: str, error: errors.ArchiverError, now: datetime, since: datetime | None = None) -> None:
        before = self._refused.get(doing, Outage(since or now, now, ""))
        self._refused[doing] = replace(before, at=now, problem=error.detail or str(error))
