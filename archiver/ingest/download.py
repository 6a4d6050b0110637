"""Receives one download and seals it into the spool as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from archiver.fetch.receive import OpenMedia, ReceiveLimits, receive
from archiver.fetch.spool import Part
from archiver.ingest.context import WorkerContext
from archiver.ingest.journal import Claim
from archiver.providers.port import Media, Provider
from archiver.recording import Link, Received, Sealed
from archiver.seal.cipher import Sealer


async def download(
    provider: Provider,
    limits: ReceiveLimits,
    context: WorkerContext,
    held: Claim,
    link: Link | None,
    *,
    quarantine: bool = False,
) -> tuple[Received, Sealed]:
    """Receive a recording and seal it into our spool, durably under a name that the journal does not know yet.

    `quarantine`: the deadline has come. Every body is kept then, read to the end of the connection, whatever length was
    stated. Raises what `receive` raises; after an error the spool keeps nothing of the download.
    """
    loop = asyncio.get_running_loop()
    part = context.spool.part()  # one open(2): in a thread, a cancelled caller would never learn of its reservation
    try:
        sink = _SealingSink(part, context, believes_length=not quarantine)
        received = await receive(
            sink.opening(
                lambda offset, etag: provider.open(held.ref, link, offset=offset, etag=etag, to_the_end=quarantine)
            ),
            sink,
            declared=held.duration,
            at_most=held.of_call,
            limits=limits,
            clock=context.clock,
            executor=context.executor,
            quarantine=quarantine,
        )
        return received, await sink.finish(received)
    finally:
        await loop.run_in_executor(context.executor, context.spool.abandon, part)


class _SealingSink:
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
        if self._sealer is None:
            self._sealer = Sealer(self._part.file, self._context.recipients, self._context.chance, self._length)
        self._sealer.write(data)

    async def finish(self, received: Received) -> Sealed:
        """Close the envelope and make the file durable under its final name."""

        def close() -> Sealed:
            if self._sealer is None:
                self.write(b"")
            assert self._sealer is not None
            result = self._sealer.finish()
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
