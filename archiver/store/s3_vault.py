"""Rules for keeping objects in one bucket: put once, believe only what is read back, lock longer and never shorter.

Blocking; `archiver.store.s3` runs it in threads. What if the process dies after any line of `put_once`? Nothing was
claimed; the next call finds the object under the same key and adopts it, and locks it if only the lock was missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from archiver import errors
from archiver.clock import Clock, SystemClock
from archiver.recording import Lock, LockMode, Stored
from archiver.store.port import Version
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_client import S3Options
from archiver.store.s3_default import brief
from archiver.store.s3_refusal import Refused
from archiver.store.s3_upload import Item, Profile, in_parts, upload_parts, upload_single
from archiver.store.s3_values import Head

_HEAD_CHECKSUM = "head-checksum"
_FULL_READ = "full-read"
_LATE = timedelta(minutes=2)
"""The time after a PUT without an answer within which a storage may still finish it; later, it has dropped it."""


def satisfies(shown: Lock, asked: Lock) -> bool:
    """Tell whether the lock read back refuses at least what was asked to be refused."""
    if asked.legal_hold and not shown.legal_hold:
        return False
    if asked.mode is LockMode.OFF:
        return True
    strong = shown.mode is LockMode.COMPLIANCE or shown.mode is asked.mode
    until, asked_until = shown.retain_until, asked.retain_until
    return strong and until is not None and asked_until is not None and until >= asked_until


def oldest_first(bucket: Bucket, key: str) -> list[Version]:
    """Return every version and delete marker of this one key. Listings go by key, so that the first other key ends the
    search."""
    found: list[Version] = []
    for page in bucket.versions(key):
        found += [each for each in page if each.key == key]
        if any(each.key != key for each in page):
            break
    return by_age(found)


def by_age(listed: list[Version]) -> list[Version]:
    """Return the versions of one key, the oldest first: by time, and versions of one second against the listing's
    order."""
    turned = listed[::-1]  # some servers keep whole seconds only; the listing is newest first
    return sorted(turned, key=lambda version: (version.modified_at, version.is_latest))


def whole_second(instant: datetime) -> datetime:
    """Round up to a whole second: some storages keep no finer time, and a lock that reads back shorter than asked is no
    lock."""
    whole = instant.astimezone(UTC).replace(microsecond=0)
    return whole if whole == instant else whole + timedelta(seconds=1)


class Vault:
    """The rules for one bucket under the profile that the probe proved. Safe for use by several threads."""

    def __init__(self, bucket: Bucket, options: S3Options, clock: Clock | None = None) -> None:
        self._bucket = bucket
        self._options = options
        self._clock = clock or SystemClock()
        self._unanswered: dict[str, float] = {}  # by key: until when a PUT may still be finished
        self.profile = Profile()

    @property
    def profile(self) -> Profile:
        """The profile, which decides the way of sending."""
        return self._profile

    @profile.setter
    def profile(self, proved: Profile) -> None:
        self._profile = proved
        self._single_limit = self._options.single_limit  # a size that was too large for one request may pass now

    # --- put --------------------------------------------------------------------------------------------------

    def put_once(self, item: Item) -> Stored:
        """See `ObjectStore.put_once`."""
        item = dataclasses.replace(item, lock=self._long_enough(item.lock))
        for last in (False, True):
            if self._must_look_first(item, again=last) and self._is_there(item.key):
                return self._adopt(item)
            self._not_twice(item)
            creating: list[str] = []
            try:
                version_id = self._send(item, creating)
            except Refused as refused:
                self._note(*(creating if refused.undecided else ()))
                if refused.already_there:
                    return self._adopt(item)
                if refused.damaged:
                    raise errors.VerificationError(f"other bytes arrived than were sealed: {refused.code}") from refused
                # A proxy before the storage may have a size limit of its own, which the small canaries do not reach.
                other_way = refused.too_large and self._limit_single(item)
                if last or not (refused.lost_race or other_way):
                    raise
            except errors.DestinationError:
                # Without an answer the PUT may have taken effect. Sending again is safe: the condition, or a look,
                # tells.
                self._note(*creating)
                self._limit_single(item)
                if last:
                    raise
            else:
                self._unanswered.pop(item.key, None)
                return self._confirm(item, version_id or self._newest(item.key))
        raise AssertionError("the last try returns or raises")

    def brief_lock(self) -> Lock | None:
        """Return the lock to state for short-lived objects; None where an object without a stated lock is not
        locked."""
        return None if self.profile.default is None else brief(self._options.lock_mode, self._clock.now())

    def _long_enough(self, lock: Lock) -> Lock:
        """Return the lock in whole seconds, and no shorter than the bucket's own default, because a stated lock
        replaces the default."""
        if lock.retain_until is None:
            return lock
        lock = dataclasses.replace(lock, retain_until=whole_second(lock.retain_until))
        default = self.profile.default
        return lock if default is None else default.at_least(lock, self._clock.now())

    def _must_look_first(self, item: Item, *, again: bool) -> bool:
        """Tell whether to look before a PUT: the storage does not refuse a second version, or only after many bytes
        were sent."""
        if not self._conditional(item) or self._in_parts(item):
            return True
        return again and item.size > self._options.multipart_threshold

    def _is_there(self, key: str) -> bool:
        """Tell whether any version stands under the key. After a PUT without an answer, one below a delete marker
        counts too."""
        if self._bucket.head(key, None) is not None:
            return True
        return key in self._unanswered and any(not each.is_delete_marker for each in oldest_first(self._bucket, key))

    def _not_twice(self, item: Item) -> None:
        """Raise `DestinationError` while an earlier PUT may still take effect and the storage would not refuse a second
        version: both would be locked.

        After a restart the earlier PUT is forgotten, and a storage that finishes it after that makes a second version.
        """
        if not self._conditional(item) and self._unanswered.get(item.key, 0.0) > self._clock.monotonic():
            raise errors.DestinationError(
                "a PUT had no answer, and this storage may still finish it: looks again later"
            )

    def _send(self, item: Item, creating: list[str]) -> str | None:
        """Send the object, once. `creating` gets its key when the object may come into being, whether or not an answer
        comes."""
        if self._in_parts(item):
            size = self._options.part_size
            return upload_parts(self._bucket, item, self.profile, size, lambda: creating.append(item.key))
        creating.append(item.key)
        return upload_single(self._bucket, item, self.profile)

    def _note(self, *unanswered: str) -> None:
        """Remember the keys of PUTs that may still be finished; forget those that are too old for that."""
        now = self._clock.monotonic()
        for old in [each for each, until in list(self._unanswered.items()) if until <= now]:
            self._unanswered.pop(old, None)
        self._unanswered |= dict.fromkeys(unanswered, now + _LATE.total_seconds())

    def _limit_single(self, item: Item) -> bool:
        """Send objects of this size in parts from now on; each part can fail and be sent again by itself. Returns False
        where that is not possible."""
        if item.size <= self._options.multipart_threshold or self._in_parts(item):
            return False
        self._single_limit = min(self._single_limit, item.size - 1)
        return self._in_parts(item)

    def _in_parts(self, item: Item) -> bool:
        return in_parts(item, self.profile, self._options, self._single_limit)

    def _conditional(self, item: Item) -> bool:
        return self.profile.conditional_multipart if self._in_parts(item) else self.profile.conditional_single

    def _adopt(self, item: Item) -> Stored:
        """Adopt the oldest version with these very bytes; a newer one may be someone's attempt to cover it.

        Raises `ConflictError` when only other bytes are there.
        """
        versions = oldest_first(self._bucket, item.key)
        if not versions:
            raise errors.DestinationError("the storage says that the object exists, and lists no version of it")
        for each in versions:
            if each.is_delete_marker or each.size != item.size:
                continue
            head = self._head(item.key, each.version_id)
            if head and self._digest(item.key, head, each.version_id)[0] == item.sha256:
                return self._confirm(item, each.version_id)
        raise errors.ConflictError(item.key)

    # --- read back --------------------------------------------------------------------------------------------

    def _confirm(self, item: Item, version_id: str | None) -> Stored:
        """Check a version by its present state alone; nothing that the answer to a PUT says counts."""
        head = self._head(item.key, version_id)
        if head is None:
            raise errors.VerificationError("the storage took the object and does not have it")
        version_id = version_id or head.version_id
        if head.size != item.size:
            raise errors.VerificationError(f"{item.size} bytes were sent, the storage has {head.size}")
        digest, checked_by = self._digest(item.key, head, version_id)
        if digest != item.sha256:
            raise errors.VerificationError(f"the storage keeps other bytes than were sent ({checked_by})")
        head = self._locked(item.key, version_id, head, item.lock)
        return self._stored(item.key, version_id, head, digest, checked_by)

    def _head(self, key: str, version_id: str | None) -> Head | None:
        """Send a HEAD, with the checksum where the storage was not seen to refuse that. A refusal now need not last, so
        it is not remembered."""
        if self.profile.shows_checksum:
            try:
                return self._bucket.head(key, version_id, checksum=True)
            except Refused as refused:
                if refused.status not in {400, 403, 501}:
                    raise
        return self._bucket.head(key, version_id)

    def _digest(self, key: str, head: Head, version_id: str | None) -> tuple[str, str]:
        """Return the digest and how it was checked. A kept checksum is proof where the storage was seen to refuse a
        wrong one; otherwise the object is read."""
        if self.profile.checksum_proves and head.sha256:
            return head.sha256, _HEAD_CHECKSUM
        digest = hashlib.sha256()
        for piece in self._bucket.read(key, version_id):
            digest.update(piece)
        return digest.hexdigest(), _FULL_READ

    def _locked(self, key: str, version_id: str | None, head: Head, asked: Lock) -> Head:
        """Check the lock, and set it where it is missing: some storages drop the lock of a PUT or of parts, and take it
        afterwards. Raises `NotLockedError`."""
        if asked.mode is not LockMode.OFF and version_id is None:
            raise errors.NotLockedError("the storage gives no version id: a lock has nothing to hold on to")
        if satisfies(head.lock, asked):
            return head
        try:
            if asked.mode is not LockMode.OFF and asked.retain_until is not None:
                until = max(asked.retain_until, head.lock.retain_until or asked.retain_until)
                self._guarded(lambda md5: self._bucket.retain(key, version_id, asked.mode, until, md5=md5))
            if asked.legal_hold:
                self._guarded(lambda md5: self._bucket.hold(key, version_id, on=True, md5=md5))
        except Refused as refused:
            if refused.passing:
                raise
            detail = f"asked {_text(asked)}, got {_text(head.lock)}, then {refused.detail}"
            raise errors.NotLockedError(detail) from refused
        again = self._head(key, version_id)
        if again is None or not satisfies(again.lock, asked):
            raise errors.NotLockedError(f"asked {_text(asked)}, got {_text(again.lock) if again else 'no object'}")
        return again

    def _guarded(self, effect: Callable[[bool], None]) -> None:
        """Set a lock with the guard that the probe found to work, and after a refusal with the other guard."""
        try:
            effect(self.profile.lock_md5)
        except Refused as refused:
            if refused.passing or refused.status not in {400, 501}:
                raise
            effect(not self.profile.lock_md5)

    def _newest(self, key: str) -> str | None:
        """Return the version just put, where the answer did not name it. Its bytes and lock are checked all the
        same."""
        head = self._bucket.head(key, None)
        if head and head.version_id:
            return head.version_id
        listed = oldest_first(self._bucket, key)
        latest = [each.version_id for each in listed if each.is_latest and not each.is_delete_marker]
        return latest[0] if latest else None

    def inspect(self, key: str, version_id: str | None) -> Stored | None:
        """See `ObjectStore.inspect`. The digest is empty where the storage keeps none: read the object then."""
        head = self._head(key, version_id)
        if head is None:
            return None
        return self._shown(key, version_id, head)

    # --- locks ------------------------------------------------------------------------------------------------

    def extend(self, key: str, version_id: str | None, until: datetime) -> Stored:
        """See `ObjectStore.extend`. Raises `NotFoundError`, and `NotLockedError` when the date did not take effect.

        With `lock_mode` off nothing is locked, and the answer shows so.
        """
        head = self._present(key, version_id)
        mode = self._options.lock_mode if head.lock.mode is LockMode.OFF else head.lock.mode
        asked = Lock(mode, whole_second(until), head.lock.legal_hold)
        version_id = version_id or head.version_id
        return self._shown(key, version_id, self._locked(key, version_id, head, asked))

    def hold(self, key: str, version_id: str | None, *, on: bool) -> Stored:
        """See `ObjectStore.hold`. Raises `NotFoundError`, and `NotLockedError` when the hold did not take effect."""
        head = self._present(key, version_id)
        version_id = version_id or head.version_id
        if head.lock.legal_hold is not on:
            try:
                self._guarded(lambda md5: self._bucket.hold(key, version_id, on, md5=md5))
            except Refused as refused:
                if refused.passing:
                    raise
                raise errors.NotLockedError(refused.detail) from refused
            head = self._present(key, version_id)
        if head.lock.legal_hold is not on:
            raise errors.NotLockedError(f"legal hold {'set' if on else 'lifted'}, and the storage shows the contrary")
        return self._shown(key, version_id, head)

    def _present(self, key: str, version_id: str | None) -> Head:
        head = self._head(key, version_id)
        if head is None:
            raise errors.NotFoundError("the storage does not have this object version")
        return head

    def _shown(self, key: str, version_id: str | None, head: Head) -> Stored:
        return self._stored(key, version_id, head, head.sha256 or "", _HEAD_CHECKSUM if head.sha256 else "")

    def _stored(self, key: str, version_id: str | None, head: Head, digest: str, checked_by: str) -> Stored:
        return Stored(
            self._options.id,
            self._options.bucket,
            key,
            version_id or head.version_id,
            head.size,
            digest,
            head.lock.mode,
            head.lock.retain_until,
            head.lock.legal_hold,
            checked_by,
        )


def _text(lock: Lock) -> str:
    date = f" until {lock.retain_until:%Y-%m-%dT%H:%M:%SZ}" if lock.retain_until else ""
    return f"{lock.mode}{date}{' with legal hold' if lock.legal_hold else ''}"
