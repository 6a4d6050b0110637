"""Writes files that appear whole or not at all and survive a power cut, for the directory store and its log files.
Blocking."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from archiver import durable, errors
from archiver.clock import Chance

_PIECE = 1024 * 1024
_PARTS = ".parts"


class Folder:
    """A root with files under keys; unfinished files are kept apart until they are whole. Safe for use by several
    threads.

    Raises `DestinationError`, also when the root is gone, as with a disk that is not mounted: the root is not made
    anew.
    """

    def __init__(self, root: Path, chance: Chance) -> None:
        self.root = root
        self._chance = chance

    def path(self, key: str) -> Path:
        """Return the path of the file under this key."""
        return self.root / key

    def require(self) -> None:
        """Raise unless the root is there: a disk that is not mounted must not look like an empty one."""
        if not self.root.is_dir():
            raise errors.DestinationError("the directory is not there")

    def new_part(self) -> Path:
        """Return a path for an unfinished file, which gets its name later."""
        self.require()
        parts = self.root / _PARTS
        with translated("put"):
            parts.mkdir(exist_ok=True)
        return parts / self._chance.uuid()

    def place(self, key: str, source: Path | bytes) -> bool:
        """Write a file whole or not at all, and never over another file: a hard link fails where a rename would
        replace.

        Returns False when the key is taken. A process that dies before the link leaves a part, which no listing shows
        and a later sweep removes.
        """
        target, part = self.path(key), self.new_part()
        try:
            incoming = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        except OSError as failed:
            raise errors.VerificationError(f"the file to store cannot be opened: {failed.strerror}") from failed
        with translated("put"), incoming:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _fill(part, incoming)
                os.link(part, target)
            except FileExistsError:
                return False
            finally:
                part.unlink(missing_ok=True)
                self.sync(target.parent)
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Write a file whole or not at all, over any file that is there."""
        target, part = self.path(key), self.new_part()
        with translated("put"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _fill(part, io.BytesIO(data))
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
            self.sync(target.parent)

    def sync(self, folder: Path) -> None:
        """Make the names in `folder`, and those of the folders above it, durable. Also called when another process made
        the link, for that process may have died before its own sync."""
        while folder != self.root.parent:
            durable.sync_folder(folder)
            folder = folder.parent

    def files(self, prefix: str) -> Iterator[tuple[str, int, datetime]]:
        """Yield key, size and time of every file whose key begins with `prefix`; in no order."""
        with translated("list"):
            # Only the folder that the prefix names can hold such keys, so a log of millions of files is not walked for
            # one key.
            for folder, folders, names in os.walk(self.path(prefix.rpartition("/")[0])):
                folders[:] = [each for each in folders if each != _PARTS]
                for name in names:
                    path = Path(folder, name)
                    key = path.relative_to(self.root).as_posix()
                    if key.startswith(prefix):
                        with contextlib.suppress(FileNotFoundError):
                            facts = path.stat()
                            yield key, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC)

    def sweep_parts(self, before: datetime) -> None:
        """Remove unfinished files, older than `before`, of processes that died."""
        for part in (self.root / _PARTS).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < before.timestamp():
                    part.unlink()


def _fill(part: Path, incoming: io.BufferedReader | io.BytesIO) -> None:
    with durable.new_file(part, 0o400) as outgoing:
        shutil.copyfileobj(incoming, outgoing, _PIECE)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate `OSError` in the block. The errno's name says enough; the path stays out of errors."""
    try:
        yield
    except FileNotFoundError as failed:
        raise errors.NotFoundError("the directory does not have this object") from failed
    except OSError as failed:
        name = errno.errorcode.get(failed.errno or 0, type(failed).__name__)
        raise errors.DestinationError(f"{what}: {name}") from failed
