"""Seals the bytes of one download into the spool as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from archiver.fetch.receive import OpenMedia
from archiver.fetch.spool import Part
from archiver.ingest.context import WorkerContext
from archiver.providers.port import Media
from archiver.recording import Received, Sealed
from archiver.seal.cipher import Sealer


class SealingSink:
    """Seals the receiver's bytes into a part of the spool. The sealer is made when the body's length is known."""

    def __init__(self, part: Part, context: WorkerContext, *, believes_length: bool) -> None:
        self._part = part
        self._context = context
        self._believes_length = believes_length
        self._sealer: Sealer | None = None
        self._length: int | None = None

    def opening(self, opener: OpenMedia) -> OpenMedia:
        """Return an opener like `opener` that also records the length in the first answer."""

        @asynccontextmanager
        async def opened(offset: int, etag: str | None) -> AsyncIterator[Media]:
            async with opener(offset, etag) as media:
                if self._sealer is None and self._believes_length:
                    self._length = media.length
                yield media

        return opened

    def write(self, data: bytes) -> None:
        self._open_sealer().write(data)

    async def finish(self, received: Received) -> Sealed:
        """Close the envelope and make the file durable under its final name."""

        def close() -> Sealed:
            result = self._open_sealer().finish()
            path = self._context.spool.commit(self._part)
            return Sealed(
                path=path,
                size=result.size,
                sealed_sha256=result.sealed_sha256,
                plaintext_size=received.size,
                plaintext_sha256=received.plaintext_sha256,
                recipients=result.recipients,
                wrapped_key_sha256=result.wrapped_key_sha256,
            )

        return await asyncio.get_running_loop().run_in_executor(self._context.executor, close)

    def _open_sealer(self) -> Sealer:
        if self._sealer is None:
            context = self._context
            self._sealer = Sealer(self._part.file, context.recipients, context.chance, self._length)
        return self._sealer
