"""Keeps objects in a folder: a second copy on another disk, a mounted archive, the demo.

A folder protects nothing from anyone who may write to its disk, and this store does not pretend: `lock_mode` is always
off. The store does promise put-once, durability on return, and that the bytes read back are the bytes put. Retention
and legal hold are noted beside the object (`KEY.lock`, JSON), so that our own disposition respects them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from archiver import errors
from archiver.clock import Chance, Clock
from archiver.recording import Lock, LockMode, Stored
from archiver.store import layout
from archiver.store.directory_shelf import DirectoryShelf
from archiver.store.folder import Folder, translated
from archiver.store.port import Check, ProbeReport, Version

_T = TypeVar("_T")

_THREADS = 8
_PIECE = 1024 * 1024
_NOTE = ".lock"
_PART_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Note:
    """The note of a lock that nobody enforces. `retain_until` in ISO 8601."""

    retain_until: str | None = None
    legal_hold: bool = False

    @property
    def until(self) -> datetime | None:
        return datetime.fromisoformat(self.retain_until) if self.retain_until else None


class DirectoryStore:
    """A store in one folder. Implements `ObjectStore`; files are mode 0400, and there are no versions."""

    lock_mode = LockMode.OFF

    def __init__(self, id: str, path: Path, *, clock: Clock, chance: Chance, required: bool = True) -> None:  # noqa: A002
        self.id = id
        self.required = required
        self._root = path
        self._clock = clock
        self._chance = chance
        self._folder = Folder(path, chance)
        # The store's own threads: a disk that hangs, as network mounts do, must not take the threads that read the
        # database.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"store-{id}")
        self.answers = 0

    async def probe(self) -> ProbeReport:
        """See `ObjectStore.probe`. Raises `DestinationError` when nothing can be written to the folder."""
        return await self._run(self._probe)

    def resume(self, report: ProbeReport) -> bool:  # noqa: ARG002  the port's
        """See `ObjectStore.resume`. A folder is probed each time, which costs nothing."""
        return False

    async def put_once(self, key: str, path: Path, *, size: int, sealed_sha256: str, lock: Lock) -> Stored:
        """See `ObjectStore.put_once`. Any lock mode but off raises `NotLockedError` before a byte is written."""
        if lock.mode is not LockMode.OFF:
            raise errors.NotLockedError(f"a directory cannot keep a {lock.mode} lock")
        return await self._run(self._put_once, layout.object_key("", key), path, size, sealed_sha256, lock)

    async def inspect(self, key: str, version_id: str | None) -> Stored | None:
        """See `ObjectStore.inspect`. Reads and hashes the whole file."""
        if version_id is not None:
            return None
        return await self._run(self._inspect, layout.object_key("", key))

    async def read(self, key: str, version_id: str | None) -> AsyncIterator[bytes]:
        """See `ObjectStore.read`."""
        if version_id is not None:
            raise errors.NotFoundError("a directory keeps no versions")
        with translated("read"):
            path = self._folder.path(layout.object_key("", key))
            file = await self._run(lambda: path.open("rb"))
            with file:
                while piece := await self._run(file.read, _PIECE):
                    yield piece

    async def versions(self, prefix: str) -> AsyncIterator[Version]:
        """See `ObjectStore.versions`. Each file is the one version of its key."""
        for each in await self._run(self._listed, prefix):
            yield each

    async def extend(self, key: str, version_id: str | None, until: datetime) -> Stored:
        """See `ObjectStore.extend`: the date is noted, and nothing enforces it. Raises `NotFoundError`."""
        return await self._run(self._amend, layout.object_key("", key), version_id, until, None)

    async def hold(self, key: str, version_id: str | None, on: bool) -> Stored:
        """See `ObjectStore.hold`: noted, and nothing enforces it. Raises `NotFoundError`."""
        return await self._run(self._amend, layout.object_key("", key), version_id, None, on)

    async def sweep_uploads(self, older_than: timedelta) -> int:  # noqa: ARG002  the port's
        """Return 0: a directory has no unfinished uploads; `probe` removes parts that a killed process left."""
        return 0

    def shelf(self, *, in_passing: bool = False) -> DirectoryShelf:  # noqa: ARG002  nothing is listed
        """Return the place of the custody log in this folder."""
        return DirectoryShelf(self.id, self._folder, self._run, required=self.required)

    async def aclose(self) -> None:
        """Release the threads; a thread that hangs is left to itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[..., _T], *arguments: object) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        finally:
            self.answers += 1

    # --- put --------------------------------------------------------------------------------------------------

    def _put_once(self, key: str, source: Path, size: int, sha256: str, lock: Lock) -> Stored:
        placed = self._folder.place(key, source)
        stored = self._inspect(key)
        if stored is None:
            raise errors.VerificationError("the file was written and is not there")
        if (stored.size, stored.sealed_sha256) != (size, sha256):
            if not placed:
                raise errors.ConflictError(key)
            # This call wrote wrong bytes: the source was bad, or the disk is. They must not block the right ones.
            with translated("remove"):
                self._folder.path(key).unlink(missing_ok=True)
            raise errors.VerificationError("the file holds other bytes than were sealed")
        if lock.retain_until is not None or lock.legal_hold:
            return self._amend(key, None, lock.retain_until, lock.legal_hold or None)
        return stored

    # --- look -------------------------------------------------------------------------------------------------

    def _inspect(self, key: str) -> Stored | None:
        try:
            with translated("inspect"), self._folder.path(key).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except errors.NotFoundError:
            return None
        note = self._note(key)
        return Stored(
            self.id, str(self._root), key, None, size, digest, LockMode.OFF, note.until, note.legal_hold, "full-read"
        )

    def _listed(self, prefix: str) -> list[Version]:
        # A name with a dot is a note of this store, or a file of the custody log, which `DirectoryShelf` lists.
        found = [each for each in self._folder.files(prefix) if "." not in each[0].rpartition("/")[2]]
        return [Version(key, None, size, modified_at, True) for key, size, modified_at in sorted(found)]

    # --- notes ------------------------------------------------------------------------------------------------

    def _amend(self, key: str, version_id: str | None, until: datetime | None, on: bool | None) -> Stored:
        if version_id is not None or not self._folder.path(key).exists():
            raise errors.NotFoundError("the directory does not have this object")
        with translated("note"):
            self._write_note(key, self._merged(key, until, on))
        stored = self._inspect(key)
        if stored is None:
            raise errors.NotFoundError("the directory does not have this object")
        return stored

    def _note(self, key: str) -> _Note:
        with translated("note"), contextlib.suppress(FileNotFoundError):
            try:
                return _Note(**json.loads(self._folder.path(key + _NOTE).read_text()))
            except (ValueError, TypeError) as failed:
                raise errors.VerificationError(f"{key}{_NOTE} is damaged") from failed
        return _Note()

    def _merged(self, key: str, until: datetime | None, hold: bool | None) -> _Note:
        """Merge the present note with a date and a hold. The date only ever becomes later."""
        present = self._note(key)
        dates = [each for each in (present.until, until) if each is not None]
        latest = max(dates).astimezone(UTC).isoformat() if dates else None
        return _Note(latest, present.legal_hold if hold is None else hold)

    def _write_note(self, key: str, note: _Note) -> None:
        if note == self._note(key):
            return
        self._folder.replace(key + _NOTE, json.dumps(asdict(note)).encode())

    # --- probe ------------------------------------------------------------------------------------------------

    def _probe(self) -> ProbeReport:
        if not self._root.parent.is_dir():
            raise errors.DestinationError("the directory is not there")
        with translated("probe"):
            self._root.mkdir(exist_ok=True)
            self._folder.sweep_parts(self._clock.now() - _PART_KEPT)
        key = layout.canary_key(self._chance.uuid())
        source = self._folder.new_part()
        body = f"{key}\n".encode()
        try:
            with translated("probe"):
                source.write_bytes(body)
                once, twice = self._folder.place(key, source), self._folder.place(key, source)
                kept = self._folder.path(key).read_bytes() == body
        finally:
            with translated("probe"):
                source.unlink(missing_ok=True)
                self._folder.path(key).unlink(missing_ok=True)
        refused = once and not twice
        checks = (
            Check("put-once-single", refused, f"a second create {'is refused' if refused else 'replaces the first'}"),
            Check("reads-back", kept, "what was put is read back" if kept else "what was put is not what is read"),
            Check(
                "protection",
                False,
                "a directory protects nothing from root or from whoever may write there",
                fatal=False,
            ),
        )
        return ProbeReport(self.id, checks, self._clock.now())
