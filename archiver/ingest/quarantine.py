"""Keeps an error page that is all there is past the deadline: locked and marked, while the provider is still asked."""

from __future__ import annotations

import structlog

from archiver import errors
from archiver.ingest import outcomes
from archiver.ingest.claims import Claim
from archiver.ingest.context import WorkerContext
from archiver.ingest.plan import judge
from archiver.ingest.storing import Storing
from archiver.providers.port import Provider
from archiver.recording import Flag, Received, Sealed, SealedFile, Stored
from archiver.store import layout

log = structlog.get_logger("archiver.ingest")


class Quarantine:
    """Keeps pages that one provider sends in a recording's place. Each page may be more than it looks like."""

    def __init__(self, provider: Provider, context: WorkerContext, storing: Storing) -> None:
        self._provider = provider
        self._context = context
        self._storing = storing

    async def keep(self, claim: Claim, received: Received, sealed: Sealed) -> None:
        """Keep the page; when no storage takes the page, it stays in the spool.

        Raises `UnacceptableMediaError` when the page is kept already, or another page waits in the spool.
        """
        context = self._context
        waits = claim.is_spooled_in(context.spool.id)
        if Flag.QUARANTINED in claim.flags and (waits or claim.plaintext_sha256 == received.plaintext_sha256):
            await context.discard(sealed.path.name)
            raise errors.UnacceptableMediaError("past its deadline the provider still sends what is in quarantine")
        copies = await self._put(claim, sealed.file)
        now = context.clock.now()
        verdict = judge(
            errors.UnacceptableMediaError("kept in quarantine"),
            claim.situation,
            now,
            spread=context.spread(),
            not_ready_for=self._provider.facts.not_ready_for,
        )
        spool_id = None if copies else context.spool.id
        await context.writer.run(
            lambda conn: outcomes.quarantined(
                conn, context.ledger, claim, sealed, copies, verdict, now, spool_id=spool_id
            )
        )
        if copies:
            await context.discard(sealed.path.name)
        log.error("recording.quarantined", provider=self._provider.id, recording_id=claim.id, copies=len(copies))

    async def store_spooled(self, claim: Claim) -> Claim:
        """Put a page from our spool into the storages, when they take it now. Return the claim as it is then."""
        context, file = self._context, self._storing.spooled_file(claim)
        copies = await self._put(claim, file)
        if not copies:
            return claim
        now = context.clock.now()
        await context.writer.run(lambda conn: outcomes.page_stored(conn, context.ledger, claim, copies, now))
        await context.discard(file.path.name)
        return claim.without_spooled()

    async def _put(self, claim: Claim, file: SealedFile) -> list[Stored]:
        """Put the page under its own key. Empty when a required storage does not take the page."""
        key = layout.quarantine_key(claim.id, file.sha256)
        keep = self._storing.retention_of(claim, self._context.clock.now())
        try:
            copies, _ = await self._storing.put(key, file, keep, self._context.destinations)
        except (errors.DestinationError, errors.VerificationError) as failed:
            log.warning("recording.page_not_stored", recording_id=claim.id, problem=str(failed))
            return []
        return copies
