"""Canaries whose day is over: every version of theirs goes, and nothing else.

What if we die after any deletion? The next probe finds what is left. A lock that has not ended is refused by the storage, which
knows better; a hold that a probe left behind when it died is lifted first.
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
_SPENT = CANARY_LOCK + timedelta(minutes=10)  # clocks differ a little
_AT_ONCE = 500
_REFUSALS = 10


def listed(bucket: Bucket, prefix: str) -> list[Version]:
    """Every version and marker where canaries lie, below this prefix. Raises `DestinationError`."""
    return [each for page in bucket.versions(f"{prefix}{layout.CANARIES}") for each in page]


def spent(versions: Iterable[Version], prefix: str, now: datetime) -> list[Version]:
    """Those of canaries whose lock has ended by their age, the oldest first."""
    ours = (
        each for each in versions if each.key.startswith(prefix) and layout.is_canary(each.key.removeprefix(prefix))
    )
    return sorted((each for each in ours if now - each.modified_at >= _SPENT), key=lambda each: each.modified_at)


def sweep(bucket: Bucket, versions: Sequence[Version]) -> int:
    """Delete these, some hundreds at a time. Returns how many are gone."""
    gone = refused = 0
    for each in versions[:_AT_ONCE]:
        if _gone(bucket, each):
            gone += 1
        elif (refused := refused + 1) >= _REFUSALS:  # a default retention that overrides ours: it takes years
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
