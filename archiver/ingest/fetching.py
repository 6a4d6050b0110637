"""Brings one recording from its provider into the spool, and says whether its content is beyond doubt."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import structlog

from archiver import errors
from archiver.fetch.receive import ReceiveLimits
from archiver.ingest import outcomes, twins
from archiver.ingest.claims import Claim
from archiver.ingest.context import WorkerContext
from archiver.ingest.download import download
from archiver.ingest.own_length import OwnLength
from archiver.ingest.plan import hopeless
from archiver.ingest.quarantine import Quarantine
from archiver.ingest.refresh import Refresher
from archiver.ingest.second_look import SecondLook
from archiver.providers.port import Provider
from archiver.recording import DOUBTS, ORIGINAL, Flag, Link, Received, Sealed

log = structlog.get_logger("archiver.ingest")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A recording in our spool. `settled`: its content is beyond doubt, or was asked for twice."""

    claim: Claim
    settled: bool


class Fetching:
    """Fetches recordings of one provider."""

    def __init__(
        self,
        provider: Provider,
        limits: ReceiveLimits,
        context: WorkerContext,
        *,
        refresher: Refresher,
        own_length: OwnLength,
        quarantine: Quarantine,
        second_look: SecondLook,
    ) -> None:
        self._provider = provider
        self._limits = limits
        self._context = context
        self._refresher = refresher
        self._own_length = own_length
        self._quarantine = quarantine
        self._second_look = second_look

    async def fetch(self, claim: Claim) -> Fetched | None:
        """Download, seal into the spool and record. None when the content is archived already, or is only an error
        page."""
        context = self._context
        if claim.ref.variant == ORIGINAL and await context.writer.run(lambda conn: twins.main_in_work(conn, claim)):
            # The original waits, so that it can be compared with the main recording once that has come.
            raise errors.OutOfTurnError(claim.ref.recording_id[:80])
        started = context.clock.monotonic()
        late = hopeless(claim.situation, context.clock.now())
        received, sealed = await self._download_by_link(claim, quarantine=late)
        context.telemetry.fetched(self._provider.id, received.size, context.clock.monotonic() - started)
        if Flag.QUARANTINED in received.flags:
            await self._quarantine.keep(claim, received, sealed)
            return None
        claim, received, answered = await self._own_length.check(claim, received)
        if await self._record(claim, received, sealed, answered=answered):
            await context.discard(sealed.path.name)
            context.telemetry.archived(self._provider.id, None)
            return None
        claim = claim.with_sealed(sealed, received.flags, context.spool.id)
        log.info("recording.sealed", provider=self._provider.id, recording_id=claim.id, size_bytes=sealed.size)
        if received.flags & DOUBTS:
            return Fetched(*await self._second_look.compare(claim, received.plaintext_sha256))
        return Fetched(claim, answered)

    # --- links ------------------------------------------------------------------------------------------------

    async def _download_by_link(self, claim: Claim, *, quarantine: bool) -> tuple[Received, Sealed]:
        """Download by the link at hand, or by a fresh one. A spent link is renewed once, without counting as an
        attempt."""
        link = self._context.links.fresh(claim.id, self._context.clock.now())
        if link is None and self._provider.facts.needs_link:
            link = await self._refresher.refresh(claim)
            return await self._download(claim, link, quarantine=quarantine)
        try:
            return await self._download(claim, link, quarantine=quarantine)
        except errors.LinkRefusedError:
            link = await self._refresher.refresh(claim)
        return await self._download(claim, link, quarantine=quarantine)

    async def _download(self, claim: Claim, link: Link | None, *, quarantine: bool) -> tuple[Received, Sealed]:
        try:
            return await download(self._provider, self._limits, self._context, claim, link, quarantine=quarantine)
        except errors.RecordingGoneError:
            await self._refresher.explain_missing_audio(claim)

    # --- twins ------------------------------------------------------------------------------------------------

    async def _record(self, claim: Claim, received: Received, sealed: Sealed, *, answered: bool) -> bool:
        """Record the received content. True: the copies of an archived row with the same content stand for it too.

        Otherwise it is a recording to store.
        """
        context, spool_id = self._context, self._context.spool.id
        twin = await context.writer.run(
            lambda conn: outcomes.fetched(conn, context.ledger, claim, received, sealed, spool_id=spool_id)
        )
        if twin is None:
            return False
        if await self._is_proved(twin):
            now, doubted = context.clock.now(), dataclasses.replace(claim, flags=received.flags)
            demanded = [each.id for each in context.destinations]
            look_at = self._second_look.next_at(doubted, settled=answered and not received.flags & DOUBTS)
            return await context.writer.run(
                lambda conn: twins.adopted(
                    conn, context.ledger, claim, received, twin, now, demanded, look_again_at=look_at
                )
            )
        await context.writer.run(
            lambda conn: outcomes.fetched(conn, context.ledger, claim, received, sealed, spool_id=spool_id, alone=True)
        )
        return False

    async def _is_proved(self, twin: twins.Twin) -> bool:
        """Say whether every required storage, and at least one, shows the twin's copy as recorded. Doubt counts as
        no."""
        proved = 0
        for destination in sorted(self._context.destinations, key=lambda each: not each.store.required):
            if proved and not destination.store.required:
                break  # nothing depends on its answer, and it may be slow
            known = twin.copies.get(destination.id)
            await destination.first_word()
            if not destination.usable(self._context.clock.now()):
                known = None  # the storage may hang, and newly received content must reach the disk
            try:
                seen = None if known is None else await destination.store.inspect(known.key, known.version_id)
            except (errors.DestinationError, errors.VerificationError) as failed:
                log.info("recording.twin_not_shown", storage=destination.id, problem=str(failed))
                seen = None
            if known is not None and seen is not None and twins.is_as_recorded(seen, known):
                proved += 1
            elif destination.store.required:
                return False
        return proved > 0
