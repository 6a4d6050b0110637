"""Writes files that survive a power cut: whole or not at all, their names with them. Blocking; raises `OSError`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@contextmanager
def new_file(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Open a new file, whose content is on disk when the block ends; its name is so after `sync_folder`.

    Raises `FileExistsError`, also where a symbolic link has the name.
    """
    with os.fdopen(os.open(path, _NEW, mode), "wb") as file:
        yield file
        sync_file(file)


def create(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a new file, never over another one. Raises `FileExistsError`."""
    with _part(path, content, mode) as part:
        place(part, path)


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file in place of any that is there; a symbolic link is replaced, not followed."""
    with _part(path, content, mode) as part:
        part.replace(path)
        _sync_name(path)


def place(part: Path, target: Path) -> None:
    """Give a finished file beside it the name `target`, which must be free. Raises `FileExistsError`.

    What if we die on the way? Without the name, `part` is still there; with it, both names may be.
    """
    try:
        os.link(part, target)  # where a rename would replace another file
    except OSError as refused:
        if refused.errno not in _NO_LINKS:
            raise
        # This file system has no links, as on a USB stick. The name is taken first: the rename replaces our own empty
        # file.
        os.close(os.open(target, _NEW, 0o600))
        part.replace(target)
    else:
        part.unlink()
    _sync_name(target)


def sync_file(file: IO[bytes]) -> None:
    """Bring the content of an open file to disk. After an error it may be lost: write it anew, and never try this
    again."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _part(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """Write the content beside its place. Nothing of it is left under this other name when the block ends."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # left by a process that died half way
    try:
        with new_file(part, mode) as file:
            file.write(content)
        yield part
    finally:
        part.unlink(missing_ok=True)


def _sync_name(path: Path) -> None:
    try:
        sync_folder(path.parent)
    except OSError as refused:
        if (
            refused.errno != errno.EINVAL
        ):  # a file system without this, such as a Windows share: it keeps names as it can
            raise
