"""A power cut: what was not synced is gone. SIGKILL alone forgives a missing fsync, because the page cache outlives a process.

The worst that POSIX allows: a file written after its last fsync comes back empty, and a name that was made, moved or removed
without an fsync of its folder afterwards is back where it was. The database's own files are left alone: it is trusted to sync.
"""

from __future__ import annotations

import itertools
import os
import signal
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Disk:
    """Watches the folders `roots` from now on. `stash`, on the same file system, keeps what was removed."""

    def __init__(self, roots: Sequence[Path], stash: Path) -> None:
        self._roots = [root.resolve() for root in roots]
        self._stash = stash
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._synced = {path.stat().st_ino: path.stat().st_mtime_ns for path in self._files()}
        self._undo: list[tuple[Path, Callable[[], object]]] = []
        self._fsync, self._link, self._unlink = os.fsync, os.link, Path.unlink
        self._rename, self._replace = Path.rename, Path.replace

    def watch(self) -> None:
        """Put the wrappers in place, beneath any failpoint that comes later."""
        disk = self

        def rename(path: Path, target: Path) -> Path:
            return disk.move(path, Path(target), disk._rename)

        def replace(path: Path, target: Path) -> Path:
            return disk.move(path, Path(target), disk._replace)

        def unlink(path: Path, missing_ok: bool = False) -> None:
            disk.remove(path, missing_ok)

        for owner, call in ((os, self.fsync), (os, self.link), (Path, rename), (Path, replace), (Path, unlink)):
            setattr(owner, call.__name__, call)

    def cut(self) -> None:
        """The power goes. Does not return."""
        self._lock.acquire()
        for _, undo in reversed(self._undo):
            undo()
        for path in self._files():
            facts = path.stat()
            if self._synced.get(facts.st_ino) != facts.st_mtime_ns:
                path.chmod(0o600)
                os.truncate(path, 0)
        os.kill(os.getpid(), signal.SIGKILL)

    def fsync(self, descriptor: Any) -> None:
        with self._lock:
            self._fsync(descriptor)
            facts = os.fstat(descriptor)
            if stat.S_ISDIR(facts.st_mode):
                folder = Path(f"/proc/self/fd/{descriptor}").readlink()
                self._undo = [(each, undo) for each, undo in self._undo if each != folder]
            else:
                self._synced[facts.st_ino] = facts.st_mtime_ns

    def link(self, source: Any, target: Any, **options: Any) -> None:
        with self._lock:
            self._link(source, target, **options)
            self._remember(Path(target), lambda: self._unlink(Path(target)))

    def move(self, path: Path, target: Path, original: Callable[[Path, Path], Path]) -> Path:
        with self._lock:
            before = self._kept(target)
            moved = original(path, target)

            def undo() -> None:
                self._rename(target, path)
                if before is not None:
                    self._link(before, target)

            self._remember(target, undo)
            return moved

    def remove(self, path: Path, missing_ok: bool) -> None:
        with self._lock:
            before = self._kept(path)
            self._unlink(path, missing_ok)
            if before is not None:
                self._remember(path, lambda: None if path.exists() else self._link(before, path))

    def _kept(self, path: Path) -> Path | None:
        """Another name for a file that is about to lose this one."""
        if not (self._ours(path) and path.is_file()):
            return None
        kept = self._stash / f"{next(self._numbers)}-{path.name}"
        self._link(path, kept)
        return kept

    def _remember(self, path: Path, undo: Callable[[], object]) -> None:
        if self._ours(path):
            self._undo.append((path.parent.resolve(), undo))

    def _ours(self, path: Path) -> bool:
        return any(path.resolve().is_relative_to(root) for root in self._roots)

    def _files(self) -> list[Path]:
        return [path for root in self._roots for path in root.rglob("*") if path.is_file()]
