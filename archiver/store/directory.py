"""Objects in a folder: a second copy on another disk, a mounted archive, the demo.

A folder protects nothing from whoever may write to its disk, and this store does not pretend: `lock_mode` is always off. What
it does promise is put-once, durability on return, and that what is read back is what was put. Retention and legal hold
are noted beside the object (`KEY.lock`, JSON), so that our own disposition respects them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archiver import errors
from archiver.clock import Chance, Clock
from archiver.recording import Lock, LockMode, Stored
from archiver.store import layout
from archiver.store.port import Check, ProbeReport, Version

_PIECE = 1024 * 1024
_NOTE = ".lock"
_PARTS = ".parts"
_PART_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Note:
    """What we keep of a lock that nobody enforces. `retain_until` in ISO 8601."""

    retain_until: str | None = None
    legal_hold: bool = False

    @property
    def until(self) -> datetime | None:
        return datetime.fromisoformat(self.retain_until) if self.retain_until else None


class DirectoryStore:
    """One folder. Implements `ObjectStore`; files are mode 0400, and there are no versions."""

    lock_mode = LockMode.OFF

    def __init__(self, id: str, path: Path, *, clock: Clock, chance: Chance, required: bool = True) -> None:  # noqa: A002
        self.id = id
        self.required = required
        self._root = path
        self._clock = clock
        self._chance = chance

    async def probe(self) -> ProbeReport:
        """See `ObjectStore.probe`. Raises `DestinationError` when nothing can be written there."""
        return await asyncio.to_thread(self._probe)

    async def put_once(self, key: str, path: Path, *, size: int, sealed_sha256: str, lock: Lock) -> Stored:
        """See `ObjectStore.put_once`. Any lock mode but off raises `NotLockedError` before a byte is written."""
        if lock.mode is not LockMode.OFF:
            raise errors.NotLockedError(f"a directory cannot keep a {lock.mode} lock")
        return await asyncio.to_thread(self._put_once, layout.object_key("", key), path, size, sealed_sha256, lock)

    async def inspect(self, key: str, version_id: str | None) -> Stored | None:
        """See `ObjectStore.inspect`. Reads and hashes the whole file."""
        if version_id is not None:
            return None
        return await asyncio.to_thread(self._inspect, layout.object_key("", key))

    async def read(self, key: str, version_id: str | None) -> AsyncIterator[bytes]:
        """See `ObjectStore.read`."""
        if version_id is not None:
            raise errors.NotFoundError("a directory keeps no versions")
        with _translated("read"):
            file = await asyncio.to_thread(self._path(layout.object_key("", key)).open, "rb")
            with file:
                while piece := await asyncio.to_thread(file.read, _PIECE):
                    yield piece

    async def versions(self, prefix: str) -> AsyncIterator[Version]:
        """See `ObjectStore.versions`. Each file is the one version of its key."""
        for each in await asyncio.to_thread(lambda: list(self._listed(prefix))):
            yield each

    async def extend(self, key: str, version_id: str | None, until: datetime) -> Stored:
        """See `ObjectStore.extend`: the date is noted, and nothing enforces it. Raises `NotFoundError`."""
        return await asyncio.to_thread(self._amend, layout.object_key("", key), version_id, until, None)

    async def hold(self, key: str, version_id: str | None, on: bool) -> Stored:
        """See `ObjectStore.hold`: noted, and nothing enforces it. Raises `NotFoundError`."""
        return await asyncio.to_thread(self._amend, layout.object_key("", key), version_id, None, on)

    async def sweep_uploads(self, older_than: timedelta) -> int:  # noqa: ARG002  the port's
        """A directory has no unfinished uploads; parts left by a death go with the probe."""
        return 0

    async def aclose(self) -> None:
        """Nothing to release."""

    # --- put --------------------------------------------------------------------------------------------------

    def _put_once(self, key: str, source: Path, size: int, sha256: str, lock: Lock) -> Stored:
        placed = self._place(key, source)
        stored = self._inspect(key)
        if stored is None:
            raise errors.VerificationError("the file was written and is not there")
        if (stored.size, stored.sealed_sha256) != (size, sha256):
            if not placed:
                raise errors.ConflictError(key)
            # Ours and wrong: the source was bad, or the disk is. It must not stand in the way of the right bytes.
            with _translated("remove"):
                self._path(key).unlink(missing_ok=True)
            raise errors.VerificationError("the file holds other bytes than were sealed")
        if lock.retain_until is not None or lock.legal_hold:
            return self._amend(key, None, lock.retain_until, lock.legal_hold or None)
        return stored

    def _place(self, key: str, source: Path) -> bool:
        """Whole or not at all, and never over another file: a hard link fails where a rename would replace.

        False when the key is taken. Dying before the link leaves a part, which no listing shows and a later probe removes.
        """
        target, part = self._path(key), self._new_part()
        try:
            incoming = source.open("rb")
        except OSError as failed:
            raise errors.VerificationError(f"the file to store cannot be opened: {failed.strerror}") from failed
        with _translated("put"), incoming:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("xb") as outgoing:
                    shutil.copyfileobj(incoming, outgoing, _PIECE)
                    outgoing.flush()
                    os.fchmod(outgoing.fileno(), 0o400)
                    os.fsync(outgoing.fileno())
                os.link(part, target)
            except FileExistsError:
                return False
            finally:
                part.unlink(missing_ok=True)
                self._sync_folders(target.parent)
        return True

    def _new_part(self) -> Path:
        """Where a file grows before it gets its name. A root that is gone, such as a disk not mounted, is not made anew."""
        if not self._root.is_dir():
            raise errors.DestinationError("the directory is not there")
        parts = self._root / _PARTS
        with _translated("put"):
            parts.mkdir(exist_ok=True)
        return parts / self._chance.uuid()

    def _sync_folders(self, folder: Path) -> None:
        """A name is durable only with its folder, and that with the one above. Also on adoption: who linked it may have died."""
        while folder != self._root.parent:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            folder = folder.parent

    # --- look -------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self._root / key

    def _inspect(self, key: str) -> Stored | None:
        try:
            with _translated("inspect"), self._path(key).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except errors.NotFoundError:
            return None
        note = self._note(key)
        return Stored(
            self.id, str(self._root), key, None, size, digest, LockMode.OFF, note.until, note.legal_hold, "full-read"
        )

    def _listed(self, prefix: str) -> Iterator[Version]:
        found: list[Version] = []
        with _translated("list"):
            for folder, folders, names in os.walk(self._root):
                folders[:] = [each for each in folders if each != _PARTS]
                for name in names:
                    path = Path(folder, name)
                    key = path.relative_to(self._root).as_posix()
                    if "." in name or not key.startswith(prefix):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        facts = path.stat()
                        found.append(
                            Version(key, None, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC), True)
                        )
        return iter(sorted(found, key=lambda each: each.key))

    # --- notes ------------------------------------------------------------------------------------------------

    def _amend(self, key: str, version_id: str | None, until: datetime | None, on: bool | None) -> Stored:
        if version_id is not None or not self._path(key).exists():
            raise errors.NotFoundError("the directory does not have this object")
        with _translated("note"):
            self._write_note(key, self._merged(key, until, on))
        stored = self._inspect(key)
        if stored is None:
            raise errors.NotFoundError("the directory does not have this object")
        return stored

    def _note(self, key: str) -> _Note:
        with _translated("note"), contextlib.suppress(FileNotFoundError):
            try:
                return _Note(**json.loads(self._path(key + _NOTE).read_text()))
            except (ValueError, TypeError) as failed:
                raise errors.VerificationError(f"{key}{_NOTE} is damaged") from failed
        return _Note()

    def _merged(self, key: str, until: datetime | None, hold: bool | None) -> _Note:
        """Longer, never shorter."""
        present = self._note(key)
        dates = [each for each in (present.until, until) if each is not None]
        latest = max(dates).astimezone(UTC).isoformat() if dates else None
        return _Note(latest, present.legal_hold if hold is None else hold)

    def _write_note(self, key: str, note: _Note) -> None:
        if note == self._note(key):
            return
        target, part = self._path(key + _NOTE), self._new_part()
        try:
            with part.open("x") as file:
                json.dump(asdict(note), file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        self._sync_folders(target.parent)

    # --- probe ------------------------------------------------------------------------------------------------

    def _probe(self) -> ProbeReport:
        if not self._root.parent.is_dir():
            raise errors.DestinationError("the directory is not there")
        with _translated("probe"):
            self._root.mkdir(exist_ok=True)
            self._sweep_parts()
        key = layout.canary_key(self._chance.uuid())
        source = self._new_part()
        body = f"{key}\n".encode()
        try:
            with _translated("probe"):
                source.write_bytes(body)
                once, twice = self._place(key, source), self._place(key, source)
                kept = self._path(key).read_bytes() == body
        finally:
            with _translated("probe"):
                source.unlink(missing_ok=True)
                self._path(key).unlink(missing_ok=True)
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

    def _sweep_parts(self) -> None:
        """What a death left. A day is longer than any copy takes."""
        before = (self._clock.now() - _PART_KEPT).timestamp()
        for part in (self._root / _PARTS).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < before:
                    part.unlink()


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """The errno's name says enough; the path stays out of errors."""
    try:
        yield
    except FileNotFoundError as failed:
        raise errors.NotFoundError("the directory does not have this object") from failed
    except OSError as failed:
        name = errno.errorcode.get(failed.errno or 0, type(failed).__name__)
        raise errors.DestinationError(f"{what}: {name}") from failed
