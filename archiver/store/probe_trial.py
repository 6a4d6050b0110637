"""Holds what every trial of a probe needs: the bucket, its canaries, the results so far, and the rule for retries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from archiver import errors
from archiver.clock import Chance, Clock
from archiver.recording import Lock, LockMode
from archiver.store import layout
from archiver.store.port import Check
from archiver.store.s3_answer import Unreadable
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_client import S3Options
from archiver.store.s3_refusal import Refused
from archiver.store.s3_upload import Profile

_ALWAYS = frozenset(LockMode)
_LOCKING = frozenset({LockMode.COMPLIANCE, LockMode.GOVERNANCE})

# A check that is not in `FATAL` informs people and chooses the way of sending; it never makes a bucket untrusted.
FATAL: Mapping[str, frozenset[LockMode]] = {
    "clock-agrees": _ALWAYS,
    "takes-objects": _ALWAYS,
    "reads-back": _ALWAYS,
    "versioning-enabled": _LOCKING,
    "object-lock-enabled": _LOCKING,
    "lists-versions": _LOCKING,
    "locked-as-asked": _LOCKING,
    "deletion-refused": _LOCKING,
    # Governance mode can be lifted by design; a storage that shortens without the special right is a warning there.
    "shortening-refused": frozenset({LockMode.COMPLIANCE}),
    "bypass-refused": frozenset({LockMode.COMPLIANCE}),
    "old-version-kept": _LOCKING,
    "delete-marker-hides-nothing": _LOCKING,
}


@dataclass(frozen=True, slots=True)
class Canary:
    """One version for the trials. `version_id` None where the storage names none."""

    key: str
    version_id: str | None
    way: str


class Patience:
    """Decides whether to send a call of the probe again: one passing fault must not keep a whole sweep from storing.

    Every effect of a probe may be done twice. The wait is as long as the storage asks, but at most `LONGEST` seconds in
    one probe.
    """

    LONGEST = 20.0
    TRIES = 3

    def __init__(self, pause: Callable[[float], None]) -> None:
        self._pause = pause
        self._left = self.LONGEST
        self._silences = 1

    def __call__(self, operation: str, failed: errors.DestinationError, tries: int) -> bool:
        if isinstance(failed, Unreadable):
            return False
        if isinstance(failed, Refused):
            # HEAD tells no reason: a 400 may pass, and a second one is the storage's final answer.
            again = tries == 1 if (operation, failed.status) == ("HeadObject", 400) else failed.momentary
            again = again and tries <= self.TRIES
        else:  # an absent storage is noticed at the first call, HeadBucket
            again = operation != "HeadBucket" and self._silences > 0
            self._silences -= 1
        wait = 0.25 * 2.0 ** (tries - 1) if failed.retry_after is None else failed.retry_after.total_seconds()
        if not again or wait > self._left:
            return False
        self._left -= wait
        self._pause(wait)
        return True


class Trial:
    """The trials of one bucket. Blocking."""

    def __init__(
        self,
        bucket: Bucket,
        options: S3Options,
        clock: Clock,
        chance: Chance,
        pause: Callable[[float], None],
    ) -> None:
        self.profile = Profile()
        self._bucket = bucket.patient(Patience(pause))
        self._options = options
        self._clock = clock
        self._chance = chance
        self._mode = options.lock_mode
        self._checks: list[Check] = []
        self._keys: list[str] = []
        self._body = f"canary {chance.uuid()}\n".encode()
        self._lock = Lock(self._mode, None)

    def _check(self, name: str, ok: bool, detail: str) -> bool:
        self._checks.append(Check(name, ok, detail, fatal=self._mode in FATAL.get(name, ())))
        return ok

    def _unknown(self, name: str, why: str) -> None:
        self._checks.append(Check(name, False, f"{why}; only what is tried counts", fatal=False))

    @property
    def _until(self) -> datetime:
        assert self._lock.retain_until is not None
        return self._lock.retain_until

    @property
    def _least(self) -> Lock | None:
        """The shortest lock for test objects: none, or a canary's where the bucket locks by itself, or they would stay
        for years."""
        return None if self.profile.default is None else self._lock

    def _key(self) -> str:
        key = layout.object_key(self._options.prefix, layout.canary_key(self._chance.uuid()))
        self._keys.append(key)
        return key

    def _refusal(self, attempt: Callable[[], object]) -> Refused | None:
        """Return the storage's refusal of an attempt, or None when it was let through. No answer at all ends the
        probe."""
        try:
            attempt()
        except Refused as refused:
            if refused.momentary:
                raise
            return refused
        return None

    def _reads(self, canary: Canary) -> bool:
        try:
            return b"".join(self._bucket.read(canary.key, canary.version_id)) == self._body
        except errors.NotFoundError:
            return False

    def _version_of(self, key: str) -> str | None:
        with contextlib.suppress(Refused):  # `lists-versions` reports it
            found = [each for page in self._bucket.versions(key) for each in page if each.key == key]
            return found[0].version_id if found else None
        return None
