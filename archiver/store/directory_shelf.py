"""Keeps the published log files in a folder: a copy that needs no server, without protection from anyone who may write
there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from archiver import errors
from archiver.recording import Lock, LockMode
from archiver.store import layout
from archiver.store.folder import Folder, translated
from archiver.store.port import Version


class DirectoryShelf:
    """The published log files of one folder. Implements `Shelf`; made by `DirectoryStore.shelf`. There are no versions
    and no locks."""

    def __init__(self, id: str, folder: Folder, run: Callable[..., Awaitable[Any]], *, required: bool) -> None:  # noqa: A002
        self.id = id
        self.required = required
        self._folder = folder
        self._run = run

    async def put_new(self, name: str, data: bytes, until: datetime | None) -> None:  # noqa: ARG002  nothing here locks
        """See `Shelf.put_new`."""
        await self._run(self._create, layout.log_key("", name), data)

    async def put_current(self, name: str, data: bytes) -> None:
        """See `Shelf.put_current`."""
        await self._run(self._folder.replace, layout.log_key("", name), data)

    async def read(self, name: str) -> bytes | None:
        """See `Shelf.read`."""
        content: bytes | None = await self._run(self._content, layout.log_key("", name))
        return content

    async def read_current(self, name: str) -> bytes | None:
        """See `Shelf.read_current`."""
        return await self.read(name)

    async def versions(self, name: str) -> list[Version]:
        """See `Shelf.versions`. Each file is the one version of its name."""
        found: list[Version] = await self._run(self._version, name)
        return found

    async def lock(self, name: str) -> Lock | None:
        """See `Shelf.lock`: a folder has no lock."""
        return Lock(LockMode.OFF, None) if await self.versions(name) else None

    async def names(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """See `Shelf.names`."""
        for name in await self._run(self._names, prefix):
            if name > after:
                yield name

    # --- blocking ---------------------------------------------------------------------------------------------

    def _create(self, key: str, data: bytes) -> None:
        self._folder.place(key, data)
        if self._content(key) != data:
            raise errors.ConflictError(key)

    def _content(self, key: str) -> bytes | None:
        self._folder.require()
        try:
            with translated("read"):
                return self._folder.path(key).read_bytes()
        except errors.NotFoundError:
            return None

    def _version(self, name: str) -> list[Version]:
        try:
            with translated("inspect"):
                facts = self._folder.path(layout.log_key("", name)).stat()
        except errors.NotFoundError:
            return []
        return [Version(name, None, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC), True)]

    def _names(self, prefix: str) -> list[str]:
        self._folder.require()
        return sorted(layout.log_name("", key) for key, _, _ in self._folder.files(layout.log_listing("", prefix)))
