"""Compares a storage's objects with the journal, key by key. Pure: no I/O, no clock.

Both sides come in the order of their keys, so that a million of each are compared in one pass and in the memory of one
key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from archiver import errors
from archiver.completeness.gap import Code, Gap, Grade
from archiver.ingest.journal_pages import ClaimedCopy
from archiver.recording import Json, LockMode, Stored
from archiver.store.port import Version

_STRENGTH = {LockMode.OFF: 0, LockMode.GOVERNANCE: 1, LockMode.COMPLIANCE: 2}
_IN_FLIGHT = timedelta(hours=1)
_ABANDONED = timedelta(hours=24)


async def joined(
    copies: AsyncIterator[ClaimedCopy], versions: AsyncIterator[Version]
) -> AsyncIterator[tuple[str, list[ClaimedCopy], list[Version]]]:
    """Yields every key of either side once, with all that each side has under that key.

    Raises `VerificationError` when a side does not come in order, since the rest of the comparison would then be wrong.
    """
    left, right = _Grouped(copies), _Grouped(versions)
    await left.advance()
    await right.advance()
    while left.key is not None or right.key is not None:
        key = min(each for each in (left.key, right.key) if each is not None)
        claimed = await left.take(key)
        there = await right.take(key)
        yield key, claimed, there


T = TypeVar("T", ClaimedCopy, Version)


class _Grouped(Generic[T]):
    """An ordered stream, read in runs of equal keys."""

    def __init__(self, stream: AsyncIterator[T]) -> None:
        self._stream: AsyncIterator[T] = stream
        self._next: T | None = None
        self.key: str | None = None

    async def advance(self) -> None:
        self._next = await anext(self._stream, None)
        key = None if self._next is None else self._next.key
        if self.key is not None and key is not None and key < self.key:
            raise errors.VerificationError(f"a listing is not in the order of its keys, at {key[-16:]}")
        self.key = key

    async def take(self, key: str) -> list[T]:
        run: list[T] = []
        while self.key == key and self._next is not None:
            run.append(self._next)
            await self.advance()
        return run


def unseen(copies: Sequence[ClaimedCopy], versions: Sequence[Version]) -> list[ClaimedCopy]:
    """The copies under one key that a listing did not show. The storage is asked for each before it is called
    missing."""
    return [each for each in _distinct(copies) if _seen(each, versions) is None]


def judge(
    storage: str, key: str, copies: Sequence[ClaimedCopy], versions: Sequence[Version], began: datetime
) -> Iterator[Gap]:
    """Yields the gaps that a listing shows under one key. `began`: the time when the comparison began."""
    if not copies:
        yield from _orphan(storage, key, versions, began)
        return
    for each in _distinct(copies):
        found = _seen(each, versions)
        if found is not None and found.size != each.size:
            yield at(each, Code.DIGEST_DIFFERS, f"{each.size} bytes were stored, {found.size} are there")
    if copies[0].version_id is None:
        return
    known = {each.version_id for each in copies}
    extra = [each for each in versions if not each.is_delete_marker and each.version_id not in known]
    if extra:
        detail = f"{len(extra)} version(s) that the journal does not know stand under this key"
        yield _cover(copies[0], Code.EXTRA_VERSION, detail)
    elif any(each.is_delete_marker for each in versions):
        detail = "a delete marker covers this key; what it hides may be in the storage still"
        yield _cover(copies[0], Code.DELETE_MARKER, detail)


def _distinct(copies: Sequence[ClaimedCopy]) -> list[ClaimedCopy]:
    """The copies with each object once: recordings of the same content share one object."""
    return list({each.version_id: each for each in copies}.values())


def _seen(copy: ClaimedCopy, versions: Sequence[Version]) -> Version | None:
    """The version that is this copy, if the listing shows it. A storage without versions has one object under a key."""
    real = (each for each in versions if not each.is_delete_marker)
    return next((each for each in real if copy.version_id in {None, each.version_id}), None)


def lock(copy: ClaimedCopy, seen: Stored, now: datetime) -> Iterator[Gap]:
    """Yields a gap if the storage protects this version less, or shows another digest, than was recorded."""
    if seen.sealed_sha256 and seen.sealed_sha256 != copy.sealed_sha256:
        yield at(copy, Code.DIGEST_DIFFERS, "the storage shows another SHA-256 than was sealed")
    if copy.lock_mode is LockMode.OFF or copy.retain_until is None or copy.retain_until <= now:
        return
    if _STRENGTH[seen.lock_mode] < _STRENGTH[copy.lock_mode]:
        yield at(copy, Code.UNLOCKED, f"{copy.lock_mode} was recorded, the storage shows {seen.lock_mode}")
    elif seen.retain_until is None or seen.retain_until < copy.retain_until:
        shown = f"{seen.retain_until:%Y-%m-%d %H:%M:%S}" if seen.retain_until else "not at all"
        yield at(copy, Code.UNLOCKED, f"locked until {copy.retain_until:%Y-%m-%d %H:%M:%S} was recorded, now {shown}")


def missing(copy: ClaimedCopy) -> Gap:
    """The gap of a copy that the journal calls stored and that the storage does not have."""
    return at(copy, Code.MISSING_HERE, "called archived, and the storage does not have this version")


def at(copy: ClaimedCopy, code: Code, detail: str) -> Gap:
    """A gap about the copy itself."""
    return Gap(copy.provider, f"object:{copy.storage}/{copy.key}", code, Grade.OPEN, detail, _evidence(copy))


def _cover(copy: ClaimedCopy, code: Code, detail: str) -> Gap:
    """A gap about another version or a delete marker over the copy, which is itself untouched."""
    return Gap(copy.provider, f"cover:{copy.storage}/{copy.key}", code, Grade.OPEN, detail, _evidence(copy))


def _orphan(storage: str, key: str, versions: Sequence[Version], began: datetime) -> Iterator[Gap]:
    """Yields a gap for objects without a row in the journal.

    An upload whose answer was lost is taken up again within the hour; after a day, nobody takes it up any more.
    """
    real = [each for each in versions if not each.is_delete_marker]
    age = began - max((each.modified_at for each in real), default=began)
    if age < _IN_FLIGHT:
        return
    grade = Grade.OPEN if age >= _ABANDONED else Grade.WATCHED
    detail = f"{len(real)} object version(s) that no row of the journal knows"
    evidence: dict[str, Json] = {"storage": storage, "key": key, "versions": len(real)}
    yield Gap("", f"object:{storage}/{key}", Code.ORPHAN, grade, detail, evidence)


def _evidence(copy: ClaimedCopy) -> dict[str, Json]:
    return {
        "storage": copy.storage,
        "key": copy.key,
        "version_id": copy.version_id,
        "recording": f"rec:{copy.recording_id}",
        "ct_sha256": copy.sealed_sha256,
    }
