"""Joins the stages for each recording: claimed → fetched → sealed → spooled → stored → archived.

Order of effects (ARCHITECTURE.md, "Life of a recording"): the sealed object is fsynced in the spool before the journal
says `spooled`; every required copy, and at least one, is read back before the journal says `archived`; the spool file
goes last, and only for copies that proved themselves. A crash between any two effects is repaired by claiming the row
again and doing whatever `next_step` says: there is no other recovery code.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog

from archiver import errors
from archiver.ingest import beside, discovery, journal, outcomes
from archiver.ingest.context import Policy, WorkerContext
from archiver.ingest.destination import Destination
from archiver.ingest.download import download
from archiver.ingest.plan import Step, Verdict, hopeless, judge, next_step
from archiver.ingest.second_look import SecondLook
from archiver.providers.port import Provider
from archiver.recording import DOUBTS, ORIGINAL, Audio, Flag, Link, Reason, Received, Sealed, State, Stored
from archiver.retention.policy import Retention, retention
from archiver.store import layout

log = structlog.get_logger("archiver.ingest")


_SEALED_AT_HAND = 4
"""The number of sealed recordings that may wait for a storage, in multiples of `concurrency`, before more go back to the queue.
"""


class Worker:
    """Brings recordings of one provider from listed to archived, most urgent first.

    `concurrency` recordings are fetched at a time, and as many stored. Saving into the spool never waits for a slow storage.
    """

    def __init__(self, provider: Provider, policy: Policy, context: WorkerContext, concurrency: int) -> None:
        self._provider = provider
        self._policy = policy
        self._context = context
        self._concurrency = concurrency
        self._looks = SecondLook(provider, policy.limits, context, self._refresh)
        self._tasks: set[asyncio.Task[None]] = set()
        self._beside: set[asyncio.Task[None]] = set()  # copies that no recording waits for
        self._sealed = 0  # tasks whose recording lies in the spool, and waits for a storage or is on its way there
        self._turn = asyncio.Semaphore(concurrency)
        # The claims at work; any other claim of this replica in the journal is orphaned (see `journal.strays`).
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
        fetching = self._room()
        claims = await context.writer.run(
            lambda conn: journal.claim(
                conn, self._provider.id, context.replica_id, context.spool.id, free, fetching=fetching, storing=storing
            )
        )
        for held in claims:
            self.held.add(held.id)
            task = asyncio.create_task(self._accession(held), name=f"accession {held.id}")
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        return len(claims)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._beside.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self.broken = bug

    def _room(self) -> bool:
        """Say whether the spool admits a recording; without room, only recordings that lie in the spool are worked on."""
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
        while (under_way := [*self._tasks, *self._beside]) and (left := until - self._context.clock.monotonic()) > 0:
            await asyncio.wait(under_way, timeout=left)  # a recording that is archived may begin a copy
        for task in (under_way := [*self._tasks, *self._beside]):
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)

    async def _accession(self, held: journal.Claim) -> None:
        """Work on one recording, as far as it goes; every outcome is written down.

        When the database does not take the outcome, the claim becomes orphaned, and housekeeping hands it back.
        """
        try:
            await self._attempt(held)
        except errors.TransientError as unwritten:
            log.warning("recording.outcome_unwritten", recording_id=held.id, problem=str(unwritten))
        finally:
            self.held.discard(held.id)
            self._looks.forget(held)

    async def _attempt(self, held: journal.Claim) -> None:
        context = self._context
        try:
            if held.situation.state is State.ARCHIVED:
                await self._looks.again(held)
                return
            if _step(held, context) is Step.STORE and not self._spool_has(held):
                log.error("recording.spool_lost", provider=self._provider.id, recording_id=held.id)
                held = _unspooled(held)
            if Flag.QUARANTINED in held.flags and held.spool_id == context.spool.id:
                held = await self._store_page(held)  # whatever the result, the provider is asked again
            settled = not self._looks.open(held)  # a worker that died before the second look did not have it
            if Flag.QUARANTINED in held.flags or _step(held, context) is Step.FETCH:
                fetched = await self._fetch(held)
                if fetched is None:
                    return
                held, settled = fetched
                if self._sealed >= _SEALED_AT_HAND * self._concurrency:
                    await context.writer.run(lambda conn: journal.hand_back(conn, held))
                    return
            with self._at_the_storages():
                async with self._turn:
                    await self._store(held, settled=settled)
        except errors.LeaseLostError:
            log.warning("recording.taken_over", provider=self._provider.id, recording_id=held.id)
        except errors.ArchiverError as error:
            await self._unfinished(held, error)
        except asyncio.CancelledError:
            await asyncio.shield(context.writer.run(lambda conn: journal.hand_back(conn, held)))
            raise

    @contextmanager
    def _at_the_storages(self) -> Iterator[None]:
        """Count a sealed recording separately, so that it takes no place from recordings to be fetched."""
        self._sealed += 1
        try:
            yield
        finally:
            self._sealed -= 1

    # --- fetch: provider → spool ------------------------------------------------------------------------------

    async def _fetch(self, held: journal.Claim) -> tuple[journal.Claim, bool] | None:
        """Receive and seal into the spool. Return the claim, and whether the content is beyond doubt or was asked for twice.

        None when the same content is archived already, or nothing is left to store.
        """
        context = self._context
        if held.ref.variant == ORIGINAL and await context.writer.run(lambda conn: outcomes.main_in_work(conn, held)):
            # The original waits, so that it can be compared with the main recording once that has come.
            raise errors.OutOfTurnError(held.ref.recording_id[:80])
        started = context.clock.monotonic()
        quarantine = hopeless(held.situation, context.clock.now())
        received, sealed = await self._receive(held, quarantine=quarantine)
        context.telemetry.fetched(self._provider.id, received.size, context.clock.monotonic() - started)
        if Flag.QUARANTINED in received.flags:
            waits = held.spool_id == context.spool.id  # one page is in the spool; no storage took it yet
            if Flag.QUARANTINED in held.flags and (waits or held.plaintext_sha256 == received.plaintext_sha256):
                await self._discard(sealed)
                raise errors.UnacceptableMediaError("past its deadline the provider still sends what is in quarantine")
            await self._quarantine(held, sealed)
            return None
        held, received, told = await self._looks.measured(held, received)
        flags = received.flags
        if await self._is_here_already(held, received, sealed, told=told):
            await self._discard(sealed)
            context.telemetry.archived(self._provider.id, None)
            return None
        held = _now_spooled(held, sealed, flags, context.spool.id)
        log.info("recording.sealed", provider=self._provider.id, recording_id=held.id, size_bytes=sealed.size)
        return await self._looks.take(held, received.plaintext_sha256) if flags & DOUBTS else (held, told)

    async def _is_here_already(self, held: journal.Claim, received: Received, sealed: Sealed, *, told: bool) -> bool:
        """Record the received content: as a twin of an archived row if that row's copies prove themselves now, else as
        a recording to store.
        """
        context, spool_id = self._context, self._context.spool.id
        twin = await context.writer.run(
            lambda conn: outcomes.fetched(conn, context.ledger, held, received, sealed, spool_id=spool_id)
        )
        if twin is None:
            return False
        if await self._proves(twin):
            now, doubted = context.clock.now(), dataclasses.replace(held, flags=received.flags)
            demanded = [each.id for each in context.destinations]
            again_at = self._looks.again_at(doubted, settled=told and not received.flags & DOUBTS)
            return await context.writer.run(
                lambda conn: outcomes.adopted(
                    conn, context.ledger, held, received, twin, now, demanded, look_again_at=again_at
                )
            )
        await context.writer.run(
            lambda conn: outcomes.fetched(conn, context.ledger, held, received, sealed, spool_id=spool_id, alone=True)
        )
        return False

    async def _proves(self, twin: outcomes.Twin) -> bool:
        """Say whether every required storage, and at least one, shows the twin's copy as recorded. Doubt counts as no."""
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
            if known is not None and seen is not None and outcomes.is_as_recorded(seen, known):
                proved += 1
            elif destination.store.required:
                return False
        return proved > 0

    async def _receive(self, held: journal.Claim, *, quarantine: bool) -> tuple[Received, Sealed]:
        """Open, download and seal; a spent link is renewed once without counting as an attempt."""
        link = self._context.links.fresh(held.id, self._context.clock.now())
        if link is None and self._provider.facts.needs_link:
            link = await self._refresh(held)
        elif link is not None or not self._provider.facts.needs_link:
            try:
                return await self._download(held, link, quarantine=quarantine)
            except errors.LinkRefusedError:
                link = await self._refresh(held)
            except errors.RecordingGoneError:
                await self._ask_again(held)
        try:
            return await self._download(held, link, quarantine=quarantine)
        except errors.RecordingGoneError:
            await self._ask_again(held)
            raise

    async def _refresh(self, held: journal.Claim) -> Link | None:
        """Return a fresh link from the provider's API, which has the last word on whether there is audio at all.

        The API is asked by id, and an id may stand for two recordings: the audio of the other recording is not accepted.
        """
        listing = await self._provider.refresh(held.ref)
        self._context.telemetry.refreshed(self._provider.id)
        self._looks.heard(held, listing)
        ours = listing.revision == held.revision or await self._context.writer.run(
            lambda conn: outcomes.shows(conn, held, listing.revision)
        )
        if not ours:
            raise errors.OtherRecordingError(held.ref.recording_id[:80])
        puzzled = Flag.LINK_NOT_UNDERSTOOD in held.flags
        if listing.audio is Audio.UNREADABLE or (puzzled and listing.audio is not Audio.PRESENT):
            # The listing shows a recording; an empty single answer does not refute the listing.
            raise errors.NotUnderstoodError(held.ref.recording_id[:80])
        if puzzled:
            await self._context.writer.run(lambda conn: outcomes.clear_flag(conn, held, Flag.LINK_NOT_UNDERSTOOD))
        if listing.audio is Audio.NONE:
            raise errors.NoRecordingError(held.ref.recording_id[:80])
        if listing.audio is Audio.NOT_YET:
            raise errors.NotReadyError(held.ref.recording_id[:80])
        if listing.link is not None:
            self._context.links.keep(held.id, listing.link)
        return listing.link

    async def _ask_again(self, held: journal.Claim) -> None:
        """Ask the API after a 404 for the audio: only the API can say that the recording is gone (this raises); else
        the audio is late.
        """
        self._context.links.drop(held.id)
        link = await self._refresh(held)
        if link is not None and link.guessed:
            raise errors.NotUnderstoodError("the link had to be mended to be asked for, and nothing is there")
        raise errors.NotReadyError("the provider lists the recording, but its audio is not there")

    async def _download(self, held: journal.Claim, link: Link | None, *, quarantine: bool) -> tuple[Received, Sealed]:
        return await download(self._provider, self._policy.limits, self._context, held, link, quarantine=quarantine)

    # --- store: spool → storages ------------------------------------------------------------------------------

    async def _store(self, held: journal.Claim, *, settled: bool) -> None:
        """Put every required copy, then record "archived"; the other copies are made beside the pipe. Where no storage is
        required, at least one copy must succeed.
        """
        context, now = self._context, self._context.clock.now()
        sealed = self._from_spool(held)
        kept = self._retention(held, now)
        key = layout.recording_key(held.id, sealed.sealed_sha256, held.situation.called_at)
        required = [each for each in context.destinations if each.store.required]
        copies, missing = await self._put_everywhere(key, sealed, kept, required or context.destinations)
        done = context.clock.now()
        again_at = self._looks.again_at(held, settled=settled)
        begun, waiting = beside.choose(context, held.id, done) if required else ([], missing)
        try:
            await context.writer.run(
                lambda conn: outcomes.archived(
                    conn, context.ledger, held, copies, done, retain_until=kept.until, rule=kept.rule, missing=waiting,
                    begun=[each.id for each in begun], owner=context.replica_id, look_again_at=again_at,
                )
            )  # fmt: skip
        except BaseException:
            beside.end(context, held.id, begun)
            raise
        if begun:
            task = asyncio.create_task(self._copy_beside(begun, held.id, key, sealed, kept, copies))
            self._beside.add(task)
            task.add_done_callback(self._finished)
        else:
            await self._discard(sealed)
        context.links.drop(held.id)
        lag = (done - held.situation.called_at).total_seconds()
        context.telemetry.archived(self._provider.id, lag)
        context.telemetry.attempted(self._provider.id, "archived")
        log.info("recording.archived", provider=self._provider.id, recording_id=held.id, copies=len(copies))

    async def _copy_beside(
        self,
        begun: Sequence[Destination],
        recording_id: str,
        key: str,
        sealed: Sealed,
        kept: Retention,
        copies: Sequence[Stored],
    ) -> None:
        """Make the copies that nothing waits for; the spool file goes when all have ended, whatever their outcome."""
        try:
            await beside.copy(self._context, begun, recording_id, key, sealed, kept.until, copies)
        except errors.TransientError as unwritten:  # the copy stays owed
            log.warning("copy.outcome_unwritten", recording_id=recording_id, problem=str(unwritten))
        finally:
            beside.end(self._context, recording_id, begun)
            await self._discard(sealed)

    async def _put_everywhere(
        self, key: str, sealed: Sealed, kept: Retention, into: Sequence[Destination]
    ) -> tuple[list[Stored], dict[str, str]]:
        """Return the copies made, and why each other storage has none. Raises when a required copy, or every copy, is missing."""
        context = self._context
        copies: list[Stored] = []
        missing: dict[str, str] = {}
        for destination in sorted(into, key=lambda each: not each.store.required):
            started, was_down = context.clock.monotonic(), destination.down_until is not None
            try:
                copies.append(await destination.put(key, sealed, kept.until, context.clock.now()))
            except (errors.DestinationError, errors.VerificationError) as failed:
                if destination.store.required:
                    raise
                missing[destination.id] = str(failed)
                continue
            context.telemetry.stored(destination.id, sealed.size, context.clock.monotonic() - started)
            if was_down:
                await context.writer.run(lambda conn: journal.wake(conn, Reason.DESTINATION))
        if not copies:  # without a required storage, nothing else would report this
            raise errors.DestinationError("; ".join(missing.values())[:500] or "there is no storage")
        return copies, missing

    async def _quarantine(self, held: journal.Claim, sealed: Sealed) -> None:
        """Keep an error page that is all there is past the deadline: locked, marked, and the provider is still asked.

        When no storage takes the page, it stays in the spool: it may be more than it looks like.
        """
        context = self._context
        copies = await self._put_page(held, sealed)
        now = context.clock.now()
        verdict = self._verdict(held, errors.UnacceptableMediaError("kept in quarantine"), now)
        spool_id = None if copies else context.spool.id
        await context.writer.run(
            lambda conn: outcomes.quarantined(
                conn, context.ledger, held, sealed, copies, verdict, now, spool_id=spool_id
            )
        )
        if copies:
            await self._discard(sealed)
        log.error("recording.quarantined", provider=self._provider.id, recording_id=held.id, copies=len(copies))

    async def _store_page(self, held: journal.Claim) -> journal.Claim:
        """Put a page in quarantine from our spool into the storages, when they take it now."""
        context, sealed = self._context, self._from_spool(held)
        copies = await self._put_page(held, sealed)
        if not copies:
            return held
        now = context.clock.now()
        await context.writer.run(lambda conn: outcomes.page_stored(conn, context.ledger, held, copies, now))
        await self._discard(sealed)
        return _unspooled(held)

    async def _put_page(self, held: journal.Claim, sealed: Sealed) -> list[Stored]:
        """Put an error page under its own key. Empty when a required storage does not take the page."""
        key = layout.quarantine_key(held.id, sealed.sealed_sha256)
        try:
            kept = self._retention(held, self._context.clock.now())
            copies, _ = await self._put_everywhere(key, sealed, kept, self._context.destinations)
        except (errors.DestinationError, errors.VerificationError) as failed:
            log.warning("recording.page_not_stored", recording_id=held.id, problem=str(failed))
            return []
        return copies

    def _spool_has(self, held: journal.Claim) -> bool:
        return (
            held.sealed is not None
            and held.spool_name is not None
            and self._context.spool.path(held.spool_name).exists()
        )

    def _from_spool(self, held: journal.Claim) -> Sealed:
        assert held.spool_name is not None
        assert held.sealed is not None
        sealed_sha256, sealed_bytes, plaintext_sha256, plaintext_bytes = held.sealed
        path = self._context.spool.path(held.spool_name)
        return Sealed(path, sealed_bytes, sealed_sha256, plaintext_bytes, plaintext_sha256, (), "")

    def _retention(self, held: journal.Claim, now: datetime) -> Retention:
        return retention(held.attributes, held.situation.called_at, self._policy.rules, self._policy.default, now)

    async def _discard(self, sealed: Sealed) -> None:
        """Remove the spool file last; a crash before this leaves a file that the next sweep removes."""
        await asyncio.get_running_loop().run_in_executor(
            self._context.executor, self._context.spool.remove, sealed.path.name
        )

    # --- outcomes ---------------------------------------------------------------------------------------------

    def _verdict(self, held: journal.Claim, error: errors.ArchiverError, now: datetime) -> Verdict:
        spread = int.from_bytes(self._context.chance.token(2), "big") / 65_536
        return judge(error, held.situation, now, spread=spread, not_ready_for=self._provider.facts.not_ready_for)

    async def _unfinished(self, held: journal.Claim, error: errors.ArchiverError) -> None:
        context, now = self._context, self._context.clock.now()
        verdict = self._verdict(held, error, now)
        try:
            state = await context.writer.run(
                lambda conn: outcomes.unfinished(conn, context.ledger, held, verdict, error, now)
            )
        except errors.LeaseLostError:
            return
        context.telemetry.attempted(self._provider.id, type(error).__name__)
        log.warning(
            "recording.unfinished",
            provider=self._provider.id,
            recording_id=held.id,
            attempt=held.situation.attempts,
            state=state.value,
            problem=str(error),
        )
        if state is State.GONE:
            context.telemetry.lost(self._provider.id, "gone")
        if verdict.park is not None:
            await self._park(verdict.park, error)

    async def _park(self, wait: timedelta, error: errors.ArchiverError) -> None:
        until = self._context.clock.now() + wait
        await self._context.writer.run(lambda conn: discovery.park(conn, self._provider.id, until, str(error)))


def _step(held: journal.Claim, context: WorkerContext) -> Step:
    return next_step(held.spool_name, held.spool_id, context.spool.id)


def _now_spooled(held: journal.Claim, sealed: Sealed, flags: frozenset[Flag], spool_id: str) -> journal.Claim:
    return dataclasses.replace(
        held,
        flags=(held.flags - outcomes.OF_THE_BYTES) | flags,
        spool_id=spool_id,
        spool_name=sealed.path.name,
        sealed=(sealed.sealed_sha256, sealed.size, sealed.plaintext_sha256, sealed.plaintext_size),
        situation=dataclasses.replace(held.situation, state=State.SPOOLED, spooled=True),
    )


def _unspooled(held: journal.Claim) -> journal.Claim:
    """Return the claim without its spool file, which is lost or stored: the provider's denial counts again."""
    situation = dataclasses.replace(held.situation, spooled=False)
    return dataclasses.replace(held, spool_id=None, spool_name=None, sealed=None, situation=situation)
