"""Keeps sealed objects on this machine's disk, safe before they are stored (ARCHITECTURE.md, durable point 1).

A file is called `<uuid>.part` while it is written and `<uuid>.sealed` once it is whole: fsync, rename, fsync of the
directory, in this order, so that a name ending in `.sealed` always stands for a whole object, even after a power
failure. The files hold ciphertext only. Every call here blocks; call it from a thread. A `Spool` may be used by many
threads, but by one process only (`lock_state_dir`).
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from archiver import durable
from archiver.clock import Chance, Clock
from archiver.errors import (
    ArchiverError,
    ConfigurationError,
    NotAllowedError,
    NotFoundError,
    SpoolFullError,
    TooLargeError,
    UnavailableError,
)

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ID = re.compile(_UUID)
_SEALED = re.compile(_UUID + r"\.sealed")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNKNOWN_SIZE = 4 << 20  # reserved for a recording of unstated size, until its size shows
_STEP = 1 << 20  # a reservation that proves too small grows by this
_RESERVE = 16 << 20
_REMEMBERED = timedelta(minutes=5)  # a recording that found no room is tried again each minute


@contextmanager
def lock_state_dir(state_dir: Path) -> Iterator[None]:
    """Hold `state_dir` for this process alone; made if missing, mode 0700. The kernel releases it when the process
    ends.

    Raises `NotAllowedError` when another process holds `state_dir`.
    """
    with _translated():
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state_dir / "archiver.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with _translated():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise NotAllowedError(f"another archiver uses {state_dir}") from exc
        yield
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of a spool, in bytes.

    `used`: sealed objects; `reserved`: for objects being written; `quota`: the limit; `free` and `size`: of the disk.
    `files`: the count of sealed objects. `unwritten`: the part of `reserved` that is not on the disk yet.
    """

    files: int
    used: int
    reserved: int
    quota: int
    free: int
    size: int
    unwritten: int = 0

    @property
    def floor(self) -> int:
        """The bytes that must stay free on the disk for its other users: the database's journal, logs."""
        return min(_RESERVE, self.size // 20)

    @property
    def percent(self) -> int:
        """The percentage in use of what the spool may take: its quota, or less where the disk has less."""
        most = min(self.quota, self.used + max(0, self.free - self.floor))
        return 100 * self.used // max(1, most)

    def shortage(self, wanted: int | None = None) -> str | None:
        """Return why `wanted` more bytes (None: a recording of unknown size) find no room now; None when they do."""
        wanted = min(_UNKNOWN_SIZE, self.quota) if wanted is None else wanted
        if self.used + self.reserved + wanted > self.quota:
            return f"{_mib(wanted)} wanted; {_mib(self.used)} used and {_mib(self.reserved)} reserved of {_mib(self.quota)}"
        left = self.free - self.unwritten - wanted
        if left < self.floor:
            return f"{_mib(wanted)} wanted; the disk has {_mib(self.free)} free, and {_mib(self.floor)} must stay so"
        return None


def _mib(size: int) -> str:
    """Format a size coarsely, so that the message about a full disk stays the same for a while."""
    return f"{size / 2**20:.0f} MiB"


def measure(directory: Path, quota: int) -> Usage:
    """Measure how full the spool in `directory` is, for a process that does not hold the spool. Raises
    `UnavailableError`."""
    with _translated():
        sizes = [
            each.stat(follow_symlinks=False).st_size for each in os.scandir(directory) if _SEALED.fullmatch(each.name)
        ]
        disk = os.statvfs(directory)
    return Usage(len(sizes), sum(sizes), 0, quota, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)


class Part:
    """A sealed object being written. A context manager: an object that was not committed by its end is removed.

    `file` is open for reading and writing; its writes raise `SpoolFullError`, `TooLargeError` or `UnavailableError`.
    """

    def __init__(self, spool: Spool, path: Path, reserved: int) -> None:
        self.path = path
        self.reserved = reserved
        self.extent = 0
        self._spool = spool
        self._raw = _Metered(self)
        self.file = io.BufferedRandom(self._raw)

    def grow(self, extent: int) -> None:
        """Reserve room before the file becomes `extent` bytes long."""
        self._spool.grow(self, extent)

    def discard_file(self) -> None:
        """Close without flushing: the buffer may hold what the disk refused."""
        with suppress(OSError):
            self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._spool.abandon(self)


class _Metered(io.FileIO):
    """A new file, mode 0600, that asks its `Part` before it grows and raises the archiver's errors."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.path, "x+", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600))
        self._part = part

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # typeshed says ReadableBuffer, which has no public name
        with _translated():
            self._part.grow(self.tell() + view.nbytes)
            return super().write(view)

    def readinto(self, buffer: object, /) -> int:
        with _translated():
            return super().readinto(buffer)  # type: ignore[arg-type]  # as above


class Spool:
    """Keeps the files in `directory` within `quota` bytes and the disk above its reserve.

    `id` names this spool to the journal: only a process with this disk can store its sealed objects.
    """

    def __init__(self, directory: Path, quota: int, *, clock: Clock, chance: Chance) -> None:
        """Open the spool; its directory is made if missing, mode 0700. Raises `UnavailableError`, `SpoolFullError`,
        `ConfigurationError`.
        """
        self._directory = directory
        self._quota = quota
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._parts: set[Part] = set()
        self._refusal: tuple[datetime, str] | None = None
        with _translated():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            self.id = self._identity()
            self._sealed = {
                entry.name: entry.stat(follow_symlinks=False).st_size
                for entry in os.scandir(directory)
                if _SEALED.fullmatch(entry.name)
            }

    def _identity(self) -> str:
        path = self._directory / "spool.id"
        try:
            name = path.read_text("ascii", errors="replace").strip()
        except FileNotFoundError:
            name = self._chance.uuid()
            durable.replace(path, name.encode("ascii"))
        if not _ID.fullmatch(name):
            raise ConfigurationError(f"{path} holds no spool id; without the file a new spool begins")
        return name

    # --- room ---------------------------------------------------------------------------------------------------

    def usage(self) -> Usage:
        """Return how full the spool is now."""
        with self._lock:
            return self._usage()

    def trouble(self) -> str | None:
        """Return why nothing can be fetched into the spool: no room although no recording is in work, or a recent
        refusal. None otherwise.
        """
        try:
            if not self._parts:
                self.admit()
        except ArchiverError as refused:
            return refused.detail or str(refused)
        if self._refusal is not None and self._clock.now() - self._refusal[0] < _REMEMBERED:
            return self._refusal[1]
        return None

    def admit(self, expected: int | None = None) -> None:
        """Say whether `expected` bytes (None: unknown) would find room now. Raises what `part` raises."""
        with self._lock:
            self._check_room(self._wanted(expected))

    def _usage(self) -> Usage:
        disk = self._disk()
        unwritten = sum(part.reserved - part.extent for part in self._parts)
        free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        return Usage(len(self._sealed), self._used(), self._reserved(), self._quota, free, size, unwritten)

    def _used(self) -> int:
        return sum(self._sealed.values())

    def _reserved(self) -> int:
        return sum(part.reserved for part in self._parts)

    def _wanted(self, expected: int | None) -> int:
        return min(_UNKNOWN_SIZE, self._quota) if expected is None else expected

    def _check_room(self, wanted: int, whole: int | None = None) -> None:
        """Raise unless there is room in the quota and on the disk, beside all objects in work."""
        whole = wanted if whole is None else whole
        if whole > self._quota:
            raise TooLargeError(f"{whole} bytes; the spool's quota is {self._quota}")
        if (problem := self._usage().shortage(wanted)) is not None:
            raise SpoolFullError(problem)

    def grow(self, part: Part, extent: int) -> None:
        """Reserve what `part` needs to become `extent` bytes long. Raises `SpoolFullError`, `TooLargeError`."""
        with self._lock:
            if extent > part.reserved:
                more = extent - part.reserved
                with self._remembering(part):
                    self._check_room(more, extent)
                spare = self._quota - self._used() - self._reserved()
                part.reserved += min(max(more, _STEP), spare)
            part.extent = max(part.extent, extent)

    @contextmanager
    def _remembering(self, part: Part | None = None) -> Iterator[None]:
        """Remember a refusal for `trouble`, unless only other recordings in work stand in the way."""
        try:
            yield
        except (SpoolFullError, UnavailableError) as refused:
            if isinstance(refused, UnavailableError) or not self._parts - {part}:
                self._refusal = (self._clock.now(), refused.detail or str(refused))
            raise

    def _disk(self) -> os.statvfs_result:
        with _translated():
            return os.statvfs(self._directory)

    # --- life of an object --------------------------------------------------------------------------------------

    def part(self, expected: int | None = None) -> Part:
        """Begin an object of about `expected` bytes (None: unknown), its room reserved.

        Raises `SpoolFullError` (no room now), `TooLargeError` (never any room), `UnavailableError` (the disk fails).
        """
        path = self._directory / f"{self._chance.uuid()}.part"
        with self._lock, self._remembering():
            wanted = self._wanted(expected)
            self._check_room(wanted)
            with _translated():
                part = Part(self, path, wanted)
            self._parts.add(part)
            return part

    def commit(self, part: Part) -> Path:
        """Make the object durable under its final name. After a failure nothing of the object is left, and it must be
        made anew.

        Raises `SpoolFullError` or `UnavailableError`.
        """
        sealed = part.path.with_suffix(".sealed")
        try:
            with self._remembering(part), _translated():
                durable.sync_file(part.file)
                size = os.fstat(part.file.fileno()).st_size
                part.file.close()
                part.path.rename(sealed)
                durable.sync_folder(self._directory)
        except ArchiverError:
            # Whole or not, no caller will know of the file; if it cannot be removed now, a later sweep removes it.
            with suppress(OSError):
                sealed.unlink(missing_ok=True)
            self.abandon(part)
            raise
        with self._lock:
            self._parts.discard(part)
            self._sealed[sealed.name] = size
        return sealed

    def abandon(self, part: Part) -> None:
        """Remove a part and free its room. A committed part is left alone."""
        part.discard_file()
        with self._lock:
            if part not in self._parts:
                return
            self._parts.discard(part)
        with suppress(OSError):  # a file that cannot be removed now is removed by a later sweep
            part.path.unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        """Return the path of the sealed object `name`, which may be missing. Raises `NotFoundError` for an impossible
        name."""
        if not _SEALED.fullmatch(name):
            raise NotFoundError("no sealed object has such a name")
        return self._directory / name

    def remove(self, name: str) -> None:
        """Remove the sealed object `name` for good. A missing object is no error. Raises `UnavailableError`."""
        path = self.path(name)
        with _translated():
            path.unlink(missing_ok=True)
            durable.sync_folder(self._directory)
        with self._lock:
            self._sealed.pop(name, None)

    def sweep(self, keep: Collection[str], grace: timedelta = timedelta(hours=1)) -> tuple[str, ...]:
        """Remove orphaned files: parts that nobody writes, and sealed objects not in `keep` that are older than
        `grace`.

        Between commit and the journal's transaction no `keep` names the object: the grace covers that time. Returns the
        names removed. Raises `UnavailableError`.
        """
        oldest = (self._clock.now() - grace).timestamp()
        removed: list[str] = []
        with _translated():
            with self._lock:  # no part may begin between the look and the removal
                writing = {part.path.name for part in self._parts}
                for entry in list(os.scandir(self._directory)):
                    dead = entry.name.endswith(".part") and entry.name not in writing
                    if _SEALED.fullmatch(entry.name) and entry.name not in keep:
                        dead = entry.stat(follow_symlinks=False).st_mtime < oldest
                    if dead:
                        Path(entry).unlink(missing_ok=True)
                        self._sealed.pop(entry.name, None)
                        removed.append(entry.name)
            durable.sync_folder(self._directory)
        return tuple(sorted(removed))


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the disk's errors into the archiver's. The path's name is no secret; the bytes are never shown."""
    try:
        yield
    except OSError as exc:
        detail = f"spool: {os.strerror(exc.errno) if exc.errno else 'input/output error'}"
        raise (SpoolFullError if exc.errno in _FULL else UnavailableError)(detail) from exc
