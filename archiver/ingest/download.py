"""Receives one download and seals it into the spool as it comes."""

from __future__ import annotations

import asyncio

from archiver.fetch.receive import ReceiveLimits, receive
from archiver.ingest.claims import Claim
from archiver.ingest.context import WorkerContext
from archiver.ingest.sealing_sink import SealingSink
from archiver.providers.port import Provider
from archiver.recording import Link, Received, Sealed


async def download(
    provider: Provider,
    limits: ReceiveLimits,
    context: WorkerContext,
    claim: Claim,
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
        sink = SealingSink(part, context, believes_length=not quarantine)
        received = await receive(
            sink.opening(
                lambda offset, etag: provider.open(claim.ref, link, offset=offset, etag=etag, to_the_end=quarantine)
            ),
            sink,
            declared=claim.duration,
            at_most=claim.of_call,
            limits=limits,
            clock=context.clock,
            executor=context.executor,
            quarantine=quarantine,
        )
        return received, await sink.finish(received)
    finally:
        await loop.run_in_executor(context.executor, context.spool.abandon, part)
