"""Asks again for doubtful audio: one answer is not believed when its bytes speak against it.

The second download follows at once. While a doubt stands, others follow ever more rarely, up to the provider's
deletion. The first bytes are kept in any case; other bytes become a recording beside them, and when the other bytes are
sound, the doubt is settled.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeAlias

import structlog

from archiver import errors
from archiver.fetch.media import agree
from archiver.fetch.receive import ReceiveLimits
from archiver.ingest import journal, siblings
from archiver.ingest.context import WorkerContext
from archiver.ingest.download import download
from archiver.ingest.plan import hopeless, look_again
from archiver.providers.port import Provider
from archiver.recording import DOUBTS, Flag, Link, Listing, Received, Sealed, State

log = structlog.get_logger("archiver.ingest")

Refresh: TypeAlias = Callable[[journal.Claim], Awaitable[Link | None]]


class SecondLook:
    """Downloads doubtful recordings of one provider again. `refresh` gets a fresh link, or raises the provider's refusal."""

    def __init__(self, provider: Provider, limits: ReceiveLimits, context: WorkerContext, refresh: Refresh) -> None:
        self._provider = provider
        self._limits = limits
        self._context = context
        self._refresh = refresh
        # The single answers for recordings in work whose own length is not recorded yet.
        self._heard: dict[str, Listing] = {}

    async def take(self, held: journal.Claim, digest: str) -> tuple[journal.Claim, bool]:
        """Download once more and compare. Other bytes are kept from this very download: they may never come again.

        Past the deadline a broken answer counts as other bytes too, if it is longer than the kept one; it confirms
        nothing. False when the provider did not answer: then it is asked again soon.
        """
        context = self._context
        late = hopeless(held.situation, context.clock.now())
        try:
            link = await self._refresh(held) if self._provider.facts.needs_link else None
            received, sealed = await download(self._provider, self._limits, context, held, link, quarantine=late)
        except errors.LeaseLostError:
            raise
        except (errors.RecordingGoneError, errors.NoRecordingError) as ended:
            log.warning("recording.second_look_denied", recording_id=held.id, problem=str(ended))
            return held, True
        except errors.ArchiverError as failed:
            log.info("recording.second_look_failed", recording_id=held.id, problem=str(failed))
            return held, False
        kept = 0 if held.sealed is None else held.sealed[3]
        if Flag.QUARANTINED in received.flags or (received.cut and received.size <= kept):
            await self._discard(sealed)
            return held, True
        if received.plaintext_sha256 == digest:
            await self._discard(sealed)
            await context.writer.run(lambda conn: siblings.confirm_length(conn, held.id))
            return dataclasses.replace(held, flags=held.flags - {Flag.LENGTH_UNVERIFIED}), True
        return dataclasses.replace(held, flags=held.flags | await self._differs(held, received, sealed)), True

    async def _differs(self, held: journal.Claim, received: Received, sealed: Sealed) -> frozenset[Flag]:
        """Keep the other bytes too. A crash before they are in the journal leaves a spool file that a sweep removes."""
        context, now = self._context, self._context.clock.now()
        new = await context.writer.run(
            lambda conn: siblings.second_answer(
                conn, context.chance, context.ledger, held, received, sealed, now, spool_id=context.spool.id
            )
        )
        if not new:
            await self._discard(sealed)
            return frozenset()
        log.error("recording.content_differs", provider=self._provider.id, recording_id=held.id)
        return frozenset({Flag.ID_CONFLICT})

    async def again(self, held: journal.Claim) -> None:
        """Do the next look at an archived recording that is doubtful, or about which the provider had still to be asked."""
        digest = held.plaintext_sha256
        assert digest is not None
        held, answered = await self.told(held)
        if held.flags & DOUBTS and Flag.SUPERSEDED not in held.flags:
            held, answered = await self.take(held, digest)
        again_at = self.again_at(held, settled=answered)
        await self._context.writer.run(lambda conn: siblings.looked_again(conn, held, again_at))

    def again_at(self, held: journal.Claim, *, settled: bool) -> datetime | None:
        """Return when to ask again; None when nothing is open. `settled`: the provider was asked, and answered.

        A second answer is not asked for by itself: the looks at the first answer show it.
        """
        if Flag.SUPERSEDED in held.flags or journal.is_refetched(held.revision):
            return None
        if settled and not held.flags & DOUBTS:
            return None
        now = self._context.clock.now()
        kept_at = held.archived_at or now
        return look_again(kept_at, now, held.delete_at, held.situation.attempts, answered=settled)

    # --- the recording's own length -------------------------------------------------------------------------------

    def open(self, held: journal.Claim) -> bool:
        """Say whether a question about the sealed content is still open: its worker may have died before asking."""
        return bool(held.flags & DOUBTS) or self._untold(held)

    def heard(self, held: journal.Claim, listing: Listing) -> None:
        """Keep a single answer that was fetched for its link: the provider need not be asked again for the length."""
        if self._untold(held):
            self._heard[held.id] = listing

    def forget(self, held: journal.Claim) -> None:
        """Forget the kept answer: the work on this recording is over for now."""
        self._heard.pop(held.id, None)

    async def measured(self, held: journal.Claim, received: Received) -> tuple[journal.Claim, Received, bool]:
        """Judge the content by the recording's own length where the listing gave the call's; say also whether the
        provider answered.
        """
        came = received.media.duration
        if came is None or not self._untold(held):
            return held, received, True
        held, answered = await self.told(dataclasses.replace(held, measured=came))
        if held.of_call:
            return held, received, answered
        flags = received.flags - {Flag.DURATION_MISMATCH} | _by_length(held)
        return held, dataclasses.replace(received, flags=flags), answered

    async def told(self, held: journal.Claim) -> tuple[journal.Claim, bool]:
        """Ask for the recording's own length, once, where only the single answer states it. False: ask again later."""
        if not self._untold(held):
            return held, True
        context = self._context
        try:
            listing = self._heard.pop(held.id, None) or await self._provider.refresh(held.ref)
        except (errors.RecordingGoneError, errors.NoRecordingError):
            return held, True
        except errors.ArchiverError as failed:
            log.info("recording.length_not_told", recording_id=held.id, problem=str(failed))
            return held, False
        if listing.revision != held.revision and not journal.is_refetched(held.revision):
            return held, True
        if listing.link is not None:
            context.links.keep(held.id, listing.link)
        if listing.duration is None or "recording_duration_ms" not in listing.metadata:
            return held, True
        held = dataclasses.replace(held, duration=listing.duration, of_call=False)
        length, flags, archived = listing.duration, _by_length(held), held.situation.state is State.ARCHIVED
        await context.writer.run(lambda conn: siblings.length_told(conn, held, length, flags, archived=archived))
        if archived:
            held = dataclasses.replace(held, flags=held.flags - {Flag.DURATION_MISMATCH} | flags)
        return held, True

    def _untold(self, held: journal.Claim) -> bool:
        return held.of_call and self._provider.facts.tells_length

    async def _discard(self, sealed: Sealed) -> None:
        await asyncio.get_running_loop().run_in_executor(
            self._context.executor, self._context.spool.remove, sealed.path.name
        )


def _by_length(held: journal.Claim) -> frozenset[Flag]:
    """Return the doubt, if the measured length differs from the recording's stated length."""
    if held.measured is None or held.duration is None or agree(held.measured, held.duration):
        return frozenset()
    return frozenset({Flag.DURATION_MISMATCH})
