"""Guards the published log files of a storage: nothing is written before the storage has proved itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime

from archiver.errors import DestinationError
from archiver.recording import Lock
from archiver.store.port import Shelf, Version

Doubt = Callable[[str], Awaitable[str | None]]
"""A function that returns the reason why a storage, by its id, must not be written to; None when it may be."""


class GuardedShelf:
    """Passes all calls on to `shelf`; calls that write raise `DestinationError` while there is a doubt. Implements
    `Shelf`."""

    def __init__(self, shelf: Shelf, doubt: Doubt) -> None:
        self.id = shelf.id
        self.required = shelf.required
        self._shelf = shelf
        self._doubt = doubt

    async def put_new(self, name: str, data: bytes, until: datetime | None) -> None:
        """See `Shelf.put_new`."""
        await self._sure()
        await self._shelf.put_new(name, data, until)

    async def put_current(self, name: str, data: bytes) -> None:
        """See `Shelf.put_current`."""
        await self._sure()
        await self._shelf.put_current(name, data)

    async def read(self, name: str) -> bytes | None:
        """See `Shelf.read`."""
        return await self._shelf.read(name)

    async def read_current(self, name: str) -> bytes | None:
        """See `Shelf.read_current`."""
        return await self._shelf.read_current(name)

    async def versions(self, name: str) -> list[Version]:
        """See `Shelf.versions`."""
        return await self._shelf.versions(name)

    async def lock(self, name: str) -> Lock | None:
        """See `Shelf.lock`."""
        return await self._shelf.lock(name)

    def names(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """See `Shelf.names`."""
        return self._shelf.names(prefix, after)

    async def _sure(self) -> None:
        if (doubt := await self._doubt(self.id)) is not None:
            raise DestinationError(f"the log is not written to {self.id}, which is not trusted: {doubt}")
