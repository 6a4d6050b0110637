"""Learns the recording's own length where a listing states only the call's.

Some providers state the recording's length only in the answer about that one recording.
"""

from __future__ import annotations

import dataclasses

import structlog

from archiver import errors
from archiver.fetch.media import agree
from archiver.ingest import second_answers
from archiver.ingest.claims import Claim, is_refetched
from archiver.ingest.context import WorkerContext
from archiver.providers.port import Provider
from archiver.recording import Flag, Listing, Received, State

log = structlog.get_logger("archiver.ingest")


class OwnLength:
    """Asks one provider for the lengths of recordings, once each."""

    def __init__(self, provider: Provider, context: WorkerContext) -> None:
        self._provider = provider
        self._context = context
        # Single answers about recordings in work whose own length is not recorded yet.
        self._answers: dict[str, Listing] = {}

    def is_open(self, claim: Claim) -> bool:
        """Say whether the provider has still to be asked for the recording's own length."""
        return claim.of_call and self._provider.facts.tells_length

    def keep_answer(self, claim: Claim, listing: Listing) -> None:
        """Keep a single answer that was fetched for its link: the provider need not be asked again for the length."""
        if self.is_open(claim):
            self._answers[claim.id] = listing

    def forget(self, claim: Claim) -> None:
        """Forget the kept answer: the work on this recording is over for now."""
        self._answers.pop(claim.id, None)

    async def check(self, claim: Claim, received: Received) -> tuple[Claim, Received, bool]:
        """Judge the content by the recording's own length where the listing gave the call's; say also whether the
        provider answered.
        """
        measured = received.media.duration
        if measured is None or not self.is_open(claim):
            return claim, received, True
        claim, answered = await self.ask(dataclasses.replace(claim, measured=measured))
        if claim.of_call:
            return claim, received, answered
        flags = received.flags - {Flag.DURATION_MISMATCH} | _doubt_by_length(claim)
        return claim, dataclasses.replace(received, flags=flags), answered

    async def ask(self, claim: Claim) -> tuple[Claim, bool]:
        """Ask for the recording's own length, once, where only the single answer states it. False: ask again later."""
        if not self.is_open(claim):
            return claim, True
        context = self._context
        try:
            listing = self._answers.pop(claim.id, None) or await self._provider.refresh(claim.ref)
        except (errors.RecordingGoneError, errors.NoRecordingError):
            return claim, True
        except errors.ArchiverError as failed:
            log.info("recording.length_not_told", recording_id=claim.id, problem=str(failed))
            return claim, False
        if listing.revision != claim.revision and not is_refetched(claim.revision):
            return claim, True
        if listing.link is not None:
            context.links.keep(claim.id, listing.link)
        if listing.duration is None or "recording_duration_ms" not in listing.metadata:
            return claim, True
        claim = dataclasses.replace(claim, duration=listing.duration, of_call=False)
        length, doubts = listing.duration, _doubt_by_length(claim)
        archived = claim.situation.state is State.ARCHIVED
        await context.writer.run(
            lambda conn: second_answers.record_length(conn, claim, length, doubts, archived=archived)
        )
        if archived:
            claim = dataclasses.replace(claim, flags=claim.flags - {Flag.DURATION_MISMATCH} | doubts)
        return claim, True


def _doubt_by_length(claim: Claim) -> frozenset[Flag]:
    """Return the doubt, if the measured length differs from the recording's stated length."""
    if claim.measured is None or claim.duration is None or agree(claim.measured, claim.duration):
        return frozenset()
    return frozenset({Flag.DURATION_MISMATCH})
