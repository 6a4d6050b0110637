"""The interface of a storage, as the archiver needs it."""

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
    """One check of the probe: its name, and the storage's behaviour."""

    name: str
    ok: bool
    detail: str
    fatal: bool = True


REMARKED = frozenset({"default-retention"})
"""Checks that cost a storage no trust when they fail; people are told of them all the same, in every report."""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The result of one probe of one bucket: proofs by trial, never by brand. `trusted` is false when a fatal check
    failed.

    `ways`: the way of sending objects that was proved, in the store's own words, for `resume`; empty where the store
    keeps none.
    """

    storage: str
    checks: tuple[Check, ...]
    probed_at: datetime
    ways: str = ""

    @property
    def trusted(self) -> bool:
        return all(check.ok or not check.fatal for check in self.checks)


class ObjectStore(Protocol):
    """A store for immutable objects. Safe for concurrent use.

    Every method may raise `DestinationError` (try later, the object is not at fault). No exception of an SDK passes.
    """

    id: str
    required: bool
    lock_mode: LockMode

    @property
    def answers(self) -> int:
        """The number of answers so far, of any kind: whether it grows tells a slow storage from a silent one."""

    async def probe(self) -> ProbeReport:
        """Prove on the real bucket that it keeps its promises: put-once, checksums, and a canary that must refuse
        deletion, shortening and bypass. Costs a few small objects locked for a day."""

    def resume(self, report: ProbeReport) -> bool:
        """Use the results of an earlier probe instead of probing. Returns False, and changes nothing, for a report of
        another configuration."""

    async def put_once(self, key: str, path: Path, *, size: int, sealed_sha256: str, lock: Lock) -> Stored:
        """Store the file under `key` unless it is there already, then read back what the storage kept.

        Durable on return. Idempotent: an identical object already there is adopted, so an answer lost after the effect
        is repaired by calling again. Raises `ConflictError` when other bytes stand under `key`, `NotLockedError` when
        the version read back is not locked at least as asked, `VerificationError` when size or digest differ.
        """

    async def inspect(self, key: str, version_id: str | None) -> Stored | None:
        """Return the storage's present statement of this version: size, digest where kept, lock. None when the version
        is not there."""

    def read(self, key: str, version_id: str | None) -> AsyncIterator[bytes]:
        """Yield the bytes of this version in pieces of up to 1 MiB. Raises `NotFoundError`."""

    def versions(self, prefix: str) -> AsyncIterator[Version]:
        """Yield every version and delete marker under `prefix`, by key."""

    async def extend(self, key: str, version_id: str | None, until: datetime) -> Stored:
        """Lock until a later date. Never shortens: a date earlier than the present one changes nothing."""

    async def hold(self, key: str, version_id: str | None, on: bool) -> Stored:
        """Set or lift the storage's legal hold on this version and read it back."""

    async def sweep_uploads(self, older_than: timedelta) -> int:
        """Drop unfinished uploads of this archive that are older than this: no listing of objects shows them and they
        cost money."""

    def shelf(self, *, in_passing: bool = False) -> Shelf:
        """Return the place of the custody log in this storage.

        `in_passing` is for a caller that reads most of the log, in order: listings are read a page at a time and
        remembered for a while.
        """

    async def aclose(self) -> None:
        """Release connections and threads."""


class Shelf(Protocol):
    """A storage's place for the published log files. Names are the log's own ("tile/0/000"); safe for concurrent use.

    Every method may raise `DestinationError` (try later) and `NotAllowedError` (a name that the log does not make).
    """

    id: str
    required: bool

    async def put_new(self, name: str, data: bytes, until: datetime | None) -> None:
        """Create, durably; never replace.

        The same bytes there already are success, so that a lost answer is repaired by calling again.

        `until` locks the version, where the storage locks at all; a lock is only ever made longer. Raises
        `ConflictError` when other bytes stand there, `NotLockedError` when the lock did not take effect,
        `VerificationError` when other bytes are read back.
        """

    async def put_current(self, name: str, data: bytes) -> None:
        """Put, durably, over an earlier version: the pointer to the newest checkpoint, and partial tiles.

        The version has no lock; in a storage that locks by itself, it has a lock of one day.
        """

    async def read(self, name: str) -> bytes | None:
        """Return the oldest version, which is the one that counts; None when there is none. A delete marker hides
        nothing."""

    async def read_current(self, name: str) -> bytes | None:
        """Return the newest version; None when there is none or a delete marker covers it."""

    async def versions(self, name: str) -> list[Version]:
        """Return every version and delete marker of this name, the oldest first. More than one is a finding, unless the
        file may change."""

    async def lock(self, name: str) -> Lock | None:
        """Return the protection of the oldest version; None when there is no version."""

    def names(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Yield the names that begin with `prefix` and sort behind `after`, in order. Names covered by a delete marker
        are among them."""
