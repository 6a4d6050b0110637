"""Joins the stages for each recording: claimed → fetched → sealed → spooled → stored → archived.

Order of effects (ARCHITECTURE.md, "Life of a recording"): the sealed object is fsynced in the spool before the journal
says `spooled`; every required copy, and at least one, is read back before the journal says `archived`; the spool file
goes last, and only for copies that proved themselves. A crash between any two effects is repaired by claiming the row
again and doing whatever `next_step` says: there is no other recovery code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import structlog

from archiver import errors
from archiver.ingest import journal, outcomes, poll_state
from archiver.ingest.claims import Claim
from archiver.ingest.context import Policy, WorkerContext
from archiver.ingest.fetching import Fetching
from archiver.ingest.own_length import OwnLength
from archiver.ingest.plan import Step, judge
from archiver.ingest.quarantine import Quarantine
from archiver.ingest.refresh import Refresher
from archiver.ingest.second_look import SecondLook
from archiver.ingest.storing import Storing
from archiver.providers.port import Provider
from archiver.recording import Flag, State

log = structlog.get_logger("archiver.ingest")


_SEALED_AT_HAND = 4
"""The number of sealed recordings that may wait for a storage, in multiples of `concurrency`, before more go back to
the queue.
"""


class Worker:
    """Brings recordings of one provider from listed to archived, most urgent first.

    `concurrency` recordings are fetched at a time, and as many stored. Saving into the spool never waits for a slow
    storage.
    """

    def __init__(self, provider: Provider, policy: Policy, context: WorkerContext, concurrency: int) -> None:
        self._provider = provider
        self._context = context
        self._concurrency = concurrency
        self._own_length = OwnLength(provider, context)
        refresher = Refresher(provider, context, self._own_length)
        self._second_look = SecondLook(provider, policy.limits, context, refresher, self._own_length)
        self._storing = Storing(
            provider.id, policy, context, self._second_look, lambda copies: self._start(copies, self._copying)
        )
        self._quarantine = Quarantine(provider, context, self._storing)
        self._fetching = Fetching(
            provider,
            policy.limits,
            context,
            refresher=refresher,
            own_length=self._own_length,
            quarantine=self._quarantine,
            second_look=self._second_look,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._copying: set[asyncio.Task[None]] = set()  # copies that no recording waits for
        self._sealed = 0  # tasks whose recording lies in the spool, and waits for a storage or is on its way there
        self._turn = asyncio.Semaphore(concurrency)
        # The claims at work; any other claim of this replica in the journal is orphaned (see
        # `journal.orphaned_claims`).
        self.held: set[str] = set()
        self.broken: BaseException | None = None

    @property
    def busy(self) -> int:
        """The number of recordings in work."""
        return len(self._tasks)

    async def fill(self) -> int:
        """Claim as many recordings as there are free places and start on them. Return their count."""
        free = self._concurrency - (len(self._tasks) - self._sealed)
        if free <= 0:
            return 0
        context, now = self._context, self._context.clock.now()
        usable = {each.id for each in context.destinations if each.usable(now)}
        able = bool(usable) and all(each.id in usable for each in context.destinations if each.store.required)
        storing = able and self._sealed < self._concurrency
        fetching = self._has_room()
        claims = await context.writer.run(
            lambda conn: journal.claim(
                conn, self._provider.id, context.replica_id, context.spool.id, free, fetching=fetching, storing=storing
            )
        )
        for claim in claims:
            self.held.add(claim.id)
            self._start(self._work(claim), self._tasks)
        return len(claims)

    def _start(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._copying.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self.broken = bug

    def _has_room(self) -> bool:
        """Say whether the spool admits a recording; without room, only recordings that lie in the spool are worked
        on."""
        try:
            self._context.spool.admit()
        except errors.ArchiverError:
            return False
        return True

    async def changed(self) -> None:
        """Wait until one of the recordings in work is done."""
        if self._tasks:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def drain(self, within: timedelta) -> None:
        """Let the recordings and copies in work finish for a while; unfinished ones are handed back untouched."""
        until = self._context.clock.monotonic() + within.total_seconds()
        while (under_way := [*self._tasks, *self._copying]) and (left := until - self._context.clock.monotonic()) > 0:
            await asyncio.wait(under_way, timeout=left)  # a recording that is archived may begin a copy
        for task in (under_way := [*self._tasks, *self._copying]):
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)

    # --- one recording ----------------------------------------------------------------------------------------

    async def _work(self, claim: Claim) -> None:
        """Work on one recording, as far as it goes; every outcome is written down.

        When the database does not take the outcome, the claim becomes orphaned, and housekeeping hands it back.
        """
        try:
            await self._settle(claim)
        except errors.TransientError as unwritten:
            log.warning("recording.outcome_unwritten", recording_id=claim.id, problem=str(unwritten))
        finally:
            self.held.discard(claim.id)
            self._own_length.forget(claim)

    async def _settle(self, claim: Claim) -> None:
        """Take the steps that are left, from the provider into the spool and into the storages, or write down what
        failed."""
        try:
            if claim.situation.state is not State.ARCHIVED:
                claim = await self._check_spool(claim)
                settled = not self._second_look.is_open(
                    claim
                )  # a worker that died before the second look did not have it
                if Flag.QUARANTINED in claim.flags or claim.step(self._context.spool.id) is Step.FETCH:
                    fetched = await self._fetching.fetch(claim)
                    if fetched is None:
                        return
                    claim, settled = fetched.claim, fetched.settled
                    if self._sealed >= _SEALED_AT_HAND * self._concurrency:
                        await self._hand_back(claim)
                        return
                with self._at_the_storages():
                    async with self._turn:
                        await self._storing.archive(claim, settled=settled)
            else:
                await self._second_look.look(claim)
        except errors.LeaseLostError:
            log.warning("recording.taken_over", provider=self._provider.id, recording_id=claim.id)
        except errors.ArchiverError as error:
            await self._record_failure(claim, error)
        except asyncio.CancelledError:
            await asyncio.shield(self._hand_back(claim))
            raise

    async def _check_spool(self, claim: Claim) -> Claim:
        """Return the claim without its spool file when that file is lost, or was a page in quarantine that is stored
        now."""
        spool = self._context.spool
        if claim.step(spool.id) is Step.STORE and not self._storing.spooled_file(claim).path.exists():
            log.error("recording.spool_lost", provider=self._provider.id, recording_id=claim.id)
            claim = claim.without_spooled()
        if Flag.QUARANTINED in claim.flags and claim.is_spooled_in(spool.id):
            claim = await self._quarantine.store_spooled(claim)  # whatever the result, the provider is asked again
        return claim

    async def _hand_back(self, claim: Claim) -> None:
        await self._context.writer.run(lambda conn: journal.hand_back(conn, claim))

    @contextmanager
    def _at_the_storages(self) -> Iterator[None]:
        """Count a sealed recording separately, so that it takes no place from recordings to be fetched."""
        self._sealed += 1
        try:
            yield
        finally:
            self._sealed -= 1

    async def _record_failure(self, claim: Claim, error: errors.ArchiverError) -> None:
        """Write down why the recording is not archived yet, and when to try again."""
        context, now = self._context, self._context.clock.now()
        verdict = judge(
            error,
            claim.situation,
            now,
            spread=context.spread(),
            not_ready_for=self._provider.facts.not_ready_for,
        )
        try:
            state = await context.writer.run(
                lambda conn: outcomes.unfinished(conn, context.ledger, claim, verdict, error, now)
            )
        except errors.LeaseLostError:
            return
        context.telemetry.attempted(self._provider.id, type(error).__name__)
        log.warning(
            "recording.unfinished",
            provider=self._provider.id,
            recording_id=claim.id,
            attempt=claim.situation.attempts,
            state=state.value,
            problem=str(error),
        )
        if state is State.GONE:
            context.telemetry.lost(self._provider.id, "gone")
        if verdict.park is not None:
            await self._park(verdict.park, error)

    async def _park(self, wait: timedelta, error: errors.ArchiverError) -> None:
        until = self._context.clock.now() + wait
        await self._context.writer.run(lambda conn: poll_state.park(conn, self._provider.id, until, str(error)))
