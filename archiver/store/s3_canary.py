"""Removes old canaries: every version of canaries whose lock has ended, and nothing else.

What if the process dies after any deletion? The next probe finds the rest. A storage refuses the deletion while a lock
has not ended; a hold that a killed probe left behind is lifted first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from archiver import errors
from archiver.store import layout
from archiver.store.port import Version
from archiver.store.s3_bucket import Bucket

CANARY_LOCK = timedelta(days=1)
_SPENT = CANARY_LOCK + timedelta(minutes=10)  # clocks may differ a little
_AT_ONCE = 500
_REFUSALS = 10


def listed(bucket: Bucket, prefix: str) -> list[Version]:
    """Return every version and marker in the folder of canaries, below this prefix. Raises `DestinationError`."""
    return [each for page in bucket.versions(f"{prefix}{layout.CANARIES}") for each in page]


def spent(versions: Iterable[Version], prefix: str, now: datetime) -> list[Version]:
    """Return the versions of canaries whose lock has ended by their age, the oldest first."""
    ours = (
        each for each in versions if each.key.startswith(prefix) and layout.is_canary(each.key.removeprefix(prefix))
    )
    return sorted((each for each in ours if now - each.modified_at >= _SPENT), key=lambda each: each.modified_at)


def sweep(bucket: Bucket, versions: Sequence[Version]) -> int:
    """Delete these versions, some hundreds at a time. Returns how many are gone."""
    gone = refused = 0
    for each in versions[:_AT_ONCE]:
        if _gone(bucket, each):
            gone += 1
        elif (refused := refused + 1) >= _REFUSALS:  # a default retention overrides ours: canaries stay for years
            break
    return gone


def _gone(bucket: Bucket, version: Version) -> bool:
    with contextlib.suppress(errors.DestinationError):
        bucket.delete(version.key, version.version_id)
        return True
    with contextlib.suppress(errors.DestinationError):
        head = None if version.is_delete_marker else bucket.head(version.key, version.version_id)
        if head is not None and head.lock.legal_hold:
            bucket.hold(version.key, version.version_id, on=False)
            bucket.delete(version.key, version.version_id)
            return True
    return False
