"""What the archiver asks of a storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from archiver.recording import Lock, LockMode, Stored


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one key, as a listing shows it."""

    key: str
    version_id: str | None
    size: int
    modified_at: datetime
    is_latest: bool
    is_delete_marker: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the probe asked of the storage, and what the storage did."""

    name: str
    ok: bool
    detail: str
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What this very bucket proved, found by doing, never by brand. `trusted` is false when a fatal check failed."""

    storage: str
    checks: tuple[Check, ...]
    probed_at: datetime

    @property
    def trusted(self) -> bool:
        return all(check.ok or not check.fatal for check in self.checks)


class ObjectStore(Protocol):
    """A place for immutable objects. Safe for concurrent use.

    Every method may raise `DestinationError` (try later, no blame on the object). No exception of an SDK passes.
    """

    id: str
    required: bool
    lock_mode: LockMode

    async def probe(self) -> ProbeReport:
        """Prove on the real bucket what it promises: put-once, checksums, and a canary that must refuse deletion,
        shortening and bypass. Costs a few small objects locked for a day."""

    async def put_once(self, key: str, path: Path, *, size: int, sealed_sha256: str, lock: Lock) -> Stored:
        """Store the file under `key` unless it is there already, then read back what the storage kept.

        Durable on return. Idempotent: an identical object already there is adopted, so an answer lost after the effect
        is repaired by calling again. Raises `ConflictError` when other bytes stand under `key`, `NotLockedError` when
        the version read back is not locked at least as asked, `VerificationError` when size or digest differ.
        """

    async def inspect(self, key: str, version_id: str | None) -> Stored | None:
        """What the storage says now of this version: size, digest where kept, lock. None when it is not there."""

    def read(self, key: str, version_id: str | None) -> AsyncIterator[bytes]:
        """The bytes of this version in pieces of up to 1 MiB. Raises `NotFoundError`."""

    def versions(self, prefix: str) -> AsyncIterator[Version]:
        """Every version and delete marker under `prefix`, by key."""

    async def extend(self, key: str, version_id: str | None, until: datetime) -> Stored:
        """Lock longer. Never shortens: an earlier date than the present one changes nothing."""

    async def hold(self, key: str, version_id: str | None, on: bool) -> Stored:
        """Set or lift the storage's legal hold on this version and read it back."""

    async def sweep_uploads(self, older_than: timedelta) -> int:
        """Drop unfinished uploads of ours that began so long ago: no listing shows them and they cost money."""

    async def aclose(self) -> None:
        """Release connections and threads."""
