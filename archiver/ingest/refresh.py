"""Asks a provider's API about one recording: for a fresh link, and whether there is audio at all."""

from __future__ import annotations

from typing import NoReturn

from archiver import errors
from archiver.ingest import outcomes
from archiver.ingest.claims import Claim
from archiver.ingest.context import WorkerContext
from archiver.ingest.own_length import OwnLength
from archiver.providers.port import Provider
from archiver.recording import Audio, Flag, Link


class Refresher:
    """Asks one provider for single recordings. Each answer is kept for `own_length`."""

    def __init__(self, provider: Provider, context: WorkerContext, own_length: OwnLength) -> None:
        self._provider = provider
        self._context = context
        self._own_length = own_length

    async def refresh(self, claim: Claim) -> Link | None:
        """Return a fresh link from the provider's API, which has the last word on whether there is audio at all.

        The API is asked by id, and an id may stand for two recordings: the audio of the other recording is not
        accepted.
        """
        context = self._context
        listing = await self._provider.refresh(claim.ref)
        context.telemetry.refreshed(self._provider.id)
        self._own_length.keep_answer(claim, listing)
        ours = listing.revision == claim.revision or await context.writer.run(
            lambda conn: outcomes.shows(conn, claim, listing.revision)
        )
        if not ours:
            raise errors.OtherRecordingError(claim.ref.recording_id[:80])
        puzzled = Flag.LINK_NOT_UNDERSTOOD in claim.flags
        if listing.audio is Audio.UNREADABLE or (puzzled and listing.audio is not Audio.PRESENT):
            # The listing shows a recording; an empty single answer does not refute the listing.
            raise errors.NotUnderstoodError(claim.ref.recording_id[:80])
        if puzzled:
            await context.writer.run(lambda conn: outcomes.clear_flag(conn, claim, Flag.LINK_NOT_UNDERSTOOD))
        if listing.audio is Audio.NONE:
            raise errors.NoRecordingError(claim.ref.recording_id[:80])
        if listing.audio is Audio.NOT_YET:
            raise errors.NotReadyError(claim.ref.recording_id[:80])
        if listing.link is not None:
            context.links.keep(claim.id, listing.link)
        return listing.link

    async def explain_missing_audio(self, claim: Claim) -> NoReturn:
        """Ask the API after a 404 for the audio, and raise what follows from its answer.

        Only the API can say that the recording is gone; else the audio is late.
        """
        self._context.links.drop(claim.id)
        link = await self.refresh(claim)
        if link is not None and link.guessed:
            raise errors.NotUnderstoodError("the link had to be mended to be asked for, and nothing is there")
        raise errors.NotReadyError("the provider lists the recording, but its audio is not there")
