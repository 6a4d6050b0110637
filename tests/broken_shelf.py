"""A shelf that fails where it is told to: refused before the effect, or done with the answer lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime

from archiver.errors import DestinationError
from archiver.recording import Lock
from archiver.store.port import Shelf, Version


class BrokenShelf:
    """Passes everything on to `shelf`. `before` and `after` are called around every put, with the name."""

    def __init__(
        self,
        shelf: Shelf,
        before: Callable[[str], None] = lambda name: None,
        after: Callable[[str], None] = lambda name: None,
        reading: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.id = shelf.id
        self.required = shelf.required
        self._shelf = shelf
        self.before = before
        self.after = after
        self.reading = reading

    async def put_new(self, name: str, data: bytes, until: datetime | None) -> None:
        self.before(name)
        await self._shelf.put_new(name, data, until)
        self.after(name)

    async def put_current(self, name: str, data: bytes) -> None:
        self.before(name)
        await self._shelf.put_current(name, data)
        self.after(name)

    async def read(self, name: str) -> bytes | None:
        self.reading(name)
        return await self._shelf.read(name)

    async def read_current(self, name: str) -> bytes | None:
        self.reading(name)
        return await self._shelf.read_current(name)

    async def versions(self, name: str) -> list[Version]:
        return await self._shelf.versions(name)

    async def lock(self, name: str) -> Lock | None:
        return await self._shelf.lock(name)

    def names(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        return self._shelf.names(prefix, after)


def fails(prefix: str, at: int = 1, error: Exception | None = None) -> Callable[[str], None]:
    """Raise at the `at`-th name that begins with `prefix`, and only then."""
    seen = 0

    def check(name: str) -> None:
        nonlocal seen
        if name.startswith(prefix):
            seen += 1
            if seen == at:
                raise error or DestinationError("told to fail")

    return check
