"""Puts sealed objects from the spool into the storages, and says "archived" once every copy that must exist was read
back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

import structlog

from archiver import errors
from archiver.ingest import background_copies, journal, outcomes
from archiver.ingest.claims import Claim
from archiver.ingest.context import Policy, WorkerContext
from archiver.ingest.destination import Destination
from archiver.ingest.second_look import SecondLook
from archiver.recording import Reason, SealedFile, Stored
from archiver.retention.policy import Retention, retention
from archiver.store import layout

log = structlog.get_logger("archiver.ingest")


class Storing:
    """Stores recordings of one provider."""

    def __init__(
        self,
        provider_id: str,
        policy: Policy,
        context: WorkerContext,
        second_look: SecondLook,
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`start` lets copies go on that no recording waits for."""
        self._provider_id = provider_id
        self._policy = policy
        self._context = context
        self._second_look = second_look
        self._start = start

    async def archive(self, claim: Claim, *, settled: bool) -> None:
        """Put every required copy, then record "archived"; the other copies are made in the background. Where no
        storage is required, at least one copy must succeed.

        `settled`: nothing about the content is open, or the provider was asked about it and answered.
        """
        context, now = self._context, self._context.clock.now()
        file, keep = self.spooled_file(claim), self.retention_of(claim, now)
        key = layout.recording_key(claim.id, file.sha256, claim.situation.called_at)
        required = [each for each in context.destinations if each.store.required]
        copies, missing = await self.put(key, file, keep, required or context.destinations)
        done = context.clock.now()
        look_at = self._second_look.next_at(claim, settled=settled)
        begun, waiting = background_copies.begin(context, claim.id, done) if required else ([], missing)
        try:
            await context.writer.run(
                lambda conn: outcomes.archived(
                    conn, context.ledger, claim, copies, done, retain_until=keep.until, rule=keep.rule, missing=waiting,
                    begun=[each.id for each in begun], owner=context.replica_id, look_again_at=look_at,
                )
            )  # fmt: skip
        except BaseException:
            background_copies.end(context, claim.id, begun)
            raise
        if begun:
            self._start(self._copy(begun, claim.id, key, file, keep, copies))
        else:
            await context.discard(file.path.name)
        context.links.drop(claim.id)
        lag = (done - claim.situation.called_at).total_seconds()
        context.telemetry.archived(self._provider_id, lag)
        context.telemetry.attempted(self._provider_id, "archived")
        log.info("recording.archived", provider=self._provider_id, recording_id=claim.id, copies=len(copies))

    async def _copy(
        self,
        begun: Sequence[Destination],
        recording_id: str,
        key: str,
        file: SealedFile,
        keep: Retention,
        copies: Sequence[Stored],
    ) -> None:
        """Make the copies that nothing waits for; the spool file goes when all have ended, whatever their outcome."""
        context = self._context
        try:
            await background_copies.make(context, begun, recording_id, key, file, keep.until, copies)
        except errors.TransientError as unwritten:  # the copy stays owed
            log.warning("copy.outcome_unwritten", recording_id=recording_id, problem=str(unwritten))
        finally:
            background_copies.end(context, recording_id, begun)
            await context.discard(file.path.name)

    async def put(
        self, key: str, file: SealedFile, keep: Retention, into: Sequence[Destination]
    ) -> tuple[list[Stored], dict[str, str]]:
        """Return the copies made, and why each other storage has none. Raises when a required copy, or every copy, is
        missing."""
        context = self._context
        copies: list[Stored] = []
        missing: dict[str, str] = {}
        for destination in sorted(into, key=lambda each: not each.store.required):
            started, was_down = context.clock.monotonic(), destination.down_until is not None
            try:
                copies.append(await destination.put(key, file, keep.until, context.clock.now()))
            except (errors.DestinationError, errors.VerificationError) as failed:
                if destination.store.required:
                    raise
                missing[destination.id] = str(failed)
                continue
            context.telemetry.stored(destination.id, file.size, context.clock.monotonic() - started)
            if was_down:
                await context.writer.run(lambda conn: journal.wake(conn, Reason.DESTINATION))
        if not copies:  # without a required storage, nothing else would report this
            raise errors.DestinationError("; ".join(missing.values())[:500] or "there is no storage")
        return copies, missing

    def spooled_file(self, claim: Claim) -> SealedFile:
        """Return the sealed object of a claim whose next step is to store."""
        spooled = claim.spooled
        assert spooled is not None
        return SealedFile(self._context.spool.path(spooled.name), spooled.size, spooled.sha256)

    def retention_of(self, claim: Claim, now: datetime) -> Retention:
        """Return how long copies of this recording are kept, and by which rule."""
        policy = self._policy
        return retention(claim.attributes, claim.situation.called_at, policy.rules, policy.default, now)
