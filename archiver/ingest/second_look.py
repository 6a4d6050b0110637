"""Asks again for doubtful audio: one answer is not believed when its bytes speak against it.

The second download follows at once. While a doubt stands, others follow ever more rarely, up to the provider's
deletion. The first bytes are kept in any case; other bytes become a recording beside them, and when the other bytes are
sound, the doubt is settled.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

import structlog

from archiver import errors
from archiver.fetch.receive import ReceiveLimits
from archiver.ingest import second_answers
from archiver.ingest.claims import Claim, is_refetched
from archiver.ingest.context import WorkerContext
from archiver.ingest.download import download
from archiver.ingest.own_length import OwnLength
from archiver.ingest.plan import hopeless, look_again
from archiver.ingest.refresh import Refresher
from archiver.providers.port import Provider
from archiver.recording import DOUBTS, Flag, Received, Sealed

log = structlog.get_logger("archiver.ingest")


class SecondLook:
    """Downloads doubtful recordings of one provider again."""

    def __init__(
        self,
        provider: Provider,
        limits: ReceiveLimits,
        context: WorkerContext,
        refresher: Refresher,
        own_length: OwnLength,
    ) -> None:
        self._provider = provider
        self._limits = limits
        self._context = context
        self._refresher = refresher
        self._own_length = own_length

    def is_open(self, claim: Claim) -> bool:
        """Say whether a question about the sealed content is still open: its worker may have died before asking."""
        return bool(claim.flags & DOUBTS) or self._own_length.is_open(claim)

    async def compare(self, claim: Claim, digest: str) -> tuple[Claim, bool]:
        """Download once more and compare. Other bytes are kept from this very download: they may never come again.

        Past the deadline a broken answer counts as other bytes too, if it is longer than the kept one; it confirms
        nothing. False when the provider did not answer: then it is asked again soon.
        """
        context = self._context
        late = hopeless(claim.situation, context.clock.now())
        try:
            link = await self._refresher.refresh(claim) if self._provider.facts.needs_link else None
            received, sealed = await download(self._provider, self._limits, context, claim, link, quarantine=late)
        except errors.LeaseLostError:
            raise
        except (errors.RecordingGoneError, errors.NoRecordingError) as ended:
            log.warning("recording.second_look_denied", recording_id=claim.id, problem=str(ended))
            return claim, True
        except errors.ArchiverError as failed:
            log.info("recording.second_look_failed", recording_id=claim.id, problem=str(failed))
            return claim, False
        kept_size = 0 if claim.spooled is None else claim.spooled.plaintext_size
        if Flag.QUARANTINED in received.flags or (received.cut and received.size <= kept_size):
            await context.discard(sealed.path.name)
            return claim, True
        if received.plaintext_sha256 == digest:
            await context.discard(sealed.path.name)
            await context.writer.run(lambda conn: second_answers.confirm_length(conn, claim.id))
            return dataclasses.replace(claim, flags=claim.flags - {Flag.LENGTH_UNVERIFIED}), True
        return dataclasses.replace(claim, flags=claim.flags | await self._keep_other(claim, received, sealed)), True

    async def _keep_other(self, claim: Claim, received: Received, sealed: Sealed) -> frozenset[Flag]:
        """Keep the other bytes too. A crash before they are in the journal leaves a spool file that a sweep removes."""
        context, now = self._context, self._context.clock.now()
        is_new = await context.writer.run(
            lambda conn: second_answers.keep_second_answer(
                conn, context.chance, context.ledger, claim, received, sealed, now, spool_id=context.spool.id
            )
        )
        if not is_new:
            await context.discard(sealed.path.name)
            return frozenset()
        log.error("recording.content_differs", provider=self._provider.id, recording_id=claim.id)
        return frozenset({Flag.ID_CONFLICT})

    async def look(self, claim: Claim) -> None:
        """Do the next look at an archived recording that is doubtful, or about which the provider had still to be
        asked."""
        digest = claim.plaintext_sha256
        assert digest is not None
        claim, answered = await self._own_length.ask(claim)
        if claim.flags & DOUBTS and Flag.SUPERSEDED not in claim.flags:
            claim, answered = await self.compare(claim, digest)
        next_at = self.next_at(claim, settled=answered)
        await self._context.writer.run(lambda conn: second_answers.record_look(conn, claim, next_at))

    def next_at(self, claim: Claim, *, settled: bool) -> datetime | None:
        """Return when to ask again; None when nothing is open. `settled`: the provider was asked, and answered.

        A second answer is not asked for by itself: the looks at the first answer show it.
        """
        if Flag.SUPERSEDED in claim.flags or is_refetched(claim.revision):
            return None
        if settled and not claim.flags & DOUBTS:
            return None
        now = self._context.clock.now()
        kept_at = claim.archived_at or now
        return look_again(kept_at, now, claim.delete_at, claim.situation.attempts, answered=settled)
