"""Enumerates one provider: walks each due window to its last page until two walks agree, then calls the window covered.

A window is covered only when its rows are in the journal. Any failure in between leaves the window open, and the next
poll walks it again: listing is idempotent.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, func, select

from archiver import errors
from archiver.clock import Chance, Clock
from archiver.custody.ledger import Ledger
from archiver.database import Writer
from archiver.ingest import covered_spans, deadlines, journal, listing_pages, listing_rows, poll_state, rejects
from archiver.ingest.backpressure import Backpressure
from archiver.ingest.links import Links
from archiver.ingest.tables import recording
from archiver.ingest.telemetry import Telemetry
from archiver.providers.port import Provider
from archiver.recording import Listing, Page, Reject, Window
from archiver.schedule import lease
from archiver.schedule.deadline import Deadline, ProviderRetention, deadline
from archiver.schedule.window import Bounds, beginning, deep_windows, due_windows

log = structlog.get_logger("archiver.poll")

MOST_WALKS = 5
_TRIES = 4
_PAUSE = timedelta(seconds=1)
"""The pause before a walk is tried again; each further one is twice as long."""
LEASE = timedelta(seconds=60)
_DEEP_EVERY = timedelta(hours=24)
_DEEP = timedelta(days=7)
_DEEPEST = timedelta(days=92)
_LONGEST_WAIT = timedelta(days=7)
_LONGEST_REST = LEASE / 4
_PATIENCE = timedelta(seconds=30)
"""The longest Retry-After for which a walk waits."""
_PIECE = 200
"""The number of rows that are written in one transaction."""


@dataclass(frozen=True, slots=True)
class PollPlan:
    """The plan for enumerating one provider. `bytes_per_second` estimates a quota's use from durations.

    `backfill_every`: the shortest time between two pages of the past, so that catching up leaves enough requests to
    downloads. `shared`: all providers of the same account, where the account has one quota.
    """

    overlap: timedelta
    margin: timedelta
    retention: ProviderRetention
    earliest: datetime | None = None
    bytes_per_second: int = 16_000  # 128 kbit/s mono, the JustCall document's format
    backfill_every: timedelta = timedelta(0)
    shared: tuple[str, ...] = ()


class _Kind(enum.IntEnum):
    """The reason for walking a window; the values are in order of urgency."""

    NEW = 0
    PAST = 1  # never listed so far
    AGAIN = 2  # a deep walk


@dataclass(frozen=True, slots=True)
class _Due:
    """One window that must be walked now."""

    scope: str
    window: Window
    kind: _Kind


@dataclass(slots=True)
class _Walk:
    """The fingerprint of one walk. The order of rows does not matter, and a million pages need no more memory than
    one."""

    rows: int = 0
    shown: int = 0  # all rows, including those younger than the window and those not understood
    total: int | None = None
    pages: int = 0
    sum: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, page: Page, until: datetime) -> None:
        self.pages += 1
        self.total = page.total if page.total is not None else self.total
        self.shown += len(page.listings) + len(page.rejects)
        self.digest.update(bytes.fromhex(page.digest))
        for listing in page.listings:
            if listing.started_at is not None and listing.started_at >= until:
                continue  # younger than the window: the row may come and go between walks
            named = f"{listing_rows.identity(listing.ref)}{listing.revision}".encode()
            self.sum = (self.sum + int.from_bytes(hashlib.sha256(named).digest()[:8], "big")) % 2**64
            self.rows += 1

    def agrees(self, other: _Walk) -> bool:
        return (self.rows, self.sum) == (other.rows, other.sum)


class Poller:
    """Enumerates one provider for one replica. Only the holder of the provider's poll lease does anything."""

    def __init__(
        self,
        provider: Provider,
        plan: PollPlan,
        *,
        writer: Writer,
        ledger: Ledger,
        links: Links,
        telemetry: Telemetry,
        clock: Clock,
        chance: Chance,
        replica_id: str,
        backpressure: Backpressure | None = None,
    ) -> None:
        self._provider = provider
        self._plan = plan
        self._writer = writer
        self._ledger = ledger
        self._links = links
        self._telemetry = telemetry
        self._clock = clock
        self._chance = chance
        self._replica_id = replica_id
        self._backpressure = backpressure
        self._lease_name = f"poll:{provider.id}"

    async def poll(self, patience: timedelta | None = None) -> bool:
        """Do one full poll. True when every due window was covered; False when a window is left, or another replica
        polls.

        New recordings come first, in every scope. Then the past: with `patience`, for that long and at least one
        window, and the next poll goes on from there. Never raises for a provider's failure: the journal, the log and
        the metrics record it.
        """
        held = await self._writer.run(self._lease)
        if held is None:
            return False
        problems: list[str] = []
        left = 0
        deep = await self._writer.run(self._deep_due)
        await self._writer.run(
            lambda conn: journal.wake_misdated(conn, self._provider.id, self._clock.now() + _LONGEST_WAIT)
        )
        started = self._clock.monotonic()
        try:
            due = [each for scope in self._provider.scopes() for each in await self._due(scope, held, deep)]
            left = await self._enumerate(sorted(due, key=lambda each: each.kind), held, problems, patience)
        except errors.CredentialsRefusedError as refused:
            problems.append(reason := str(refused))
            until = self._clock.now() + timedelta(minutes=1)
            await self._writer.run(lambda conn: poll_state.park(conn, self._provider.id, until, reason))
            log.error("poll.credentials_refused", provider=self._provider.id, problem=reason)
        except errors.LeaseLostError:
            return False
        except errors.ArchiverError as failed:
            problems.append(str(failed))
            log.warning("poll.failed", provider=self._provider.id, problem=str(failed))
        now = self._clock.now()
        problem = "; ".join(problems)[:500] or None
        walked = deep is not None and problem is None and not left
        await self._writer.run(lambda conn: poll_state.polled(conn, self._provider.id, now, problem, deep=walked))
        self._telemetry.polled(self._provider.id, ok=problem is None, seconds=self._clock.monotonic() - started)
        return problem is None and not left

    async def _due(self, scope: str, held: lease.Held, deep: timedelta | None) -> list[_Due]:
        """Return the due windows of one scope: the new span, every hole, and at times the last `deep` once more."""
        now = self._clock.now()
        facts = self._provider.facts
        earliest = beginning(facts.earliest, self._plan.earliest, now - self._plan.overlap)
        bounds = Bounds(earliest, facts.max_window, facts.settle)
        known = await self._writer.run(lambda conn: self._known(conn, scope, held, now))
        windows = due_windows(known, now, bounds, self._plan.overlap)
        if not facts.time_filtered and (deep or not known):
            # The provider cannot filter by time: one walk sees everything.
            return [_Due(scope, Window(earliest, now), _Kind.NEW)]
        young = now - facts.settle - self._plan.overlap
        due = [_Due(scope, each, _Kind.NEW if each.until > young else _Kind.PAST) for each in windows]
        if deep is not None and known and windows:
            due += [_Due(scope, each, _Kind.AGAIN) for each in deep_windows(windows[0].since, deep, bounds)]
        return due

    async def _enumerate(
        self, due: Sequence[_Due], held: lease.Held, problems: list[str], patience: timedelta | None
    ) -> int:
        """Walk each window; a failed listing leaves the others alone. Return the count of windows left to the next
        poll."""
        rate = await self._writer.run(self._recording_rate)
        until, left, covered = math.inf, 0, 0
        for each in due:
            past = each.kind is _Kind.PAST
            if past and patience is not None and until == math.inf:
                until = self._clock.monotonic() + patience.total_seconds()
            # A window that cannot be listed must not block those behind it in the next poll too, so at least one window
            # is covered. Windows never listed come before windows listed again: a deep walk counts only once all of it
            # is done.
            if left or (past and covered and self._clock.monotonic() > until):
                left += 1
                continue
            try:
                await self._cover(each, held, rate)
                covered += past
            except errors.ListingError as unusable:
                problems.append(f"{each.scope} {each.window.since:%Y-%m-%d %H:%M}: {unusable}")
                log.warning("poll.window_open", provider=self._provider.id, scope=each.scope, problem=str(unusable))
        if left:
            log.info("poll.past_goes_on", provider=self._provider.id, windows_left=left)
        if self._plan.retention.quota_bytes is not None:
            await self._writer.run(lambda conn: self._reckon(conn, held))
        return left

    def _reckon(self, conn: Connection, held: lease.Held) -> None:
        self._fence(conn, held)
        rate = self._recording_rate(conn)
        deadlines.update_deadlines(
            conn, self._provider.id, self._clock.now(), lambda called: self._deadline(called, rate)
        )

    async def _cover(self, due: _Due, held: lease.Held, rate: float) -> None:
        """Walk the window until two walks agree, then record the window as covered.

        One page is one consistent answer and needs no second walk; keyset pages neither skip nor repeat rows. Offset
        pages shift under inserts and deletions, so only two equal walks prove that no row was skipped.
        """
        previous: _Walk | None = None
        for number in range(1, MOST_WALKS + 1):
            walk = await self._walk(due, held, rate)
            steady = walk.pages <= 1 or self._provider.facts.stable_paging
            if steady or (previous is not None and walk.agrees(previous)):
                await self._prove(due.scope, due.window, walk, number, held)
                return
            previous = walk
        raise errors.ListingError(f"{MOST_WALKS} walks of the same window never agreed")

    async def _walk(self, due: _Due, held: lease.Held, rate: float) -> _Walk:
        """Do one walk, restarted after a passing failure: rows written down stay, and a pause that was asked for is
        kept."""
        for attempt in range(1, _TRIES):
            try:
                return await self._walk_once(due, held, rate)
            except (errors.ThrottledError, errors.UnavailableError, errors.GarbledAnswerError) as passing:
                log.info("poll.again", provider=self._provider.id, attempt=attempt, problem=str(passing))
                asked = passing.retry_after or timedelta(0)
                if asked > _PATIENCE and not isinstance(passing, errors.ThrottledError):
                    raise  # the window stays open, and a later poll asks again; a throttled budget waits by itself
                await asyncio.sleep(max(_PAUSE.total_seconds() * 2 ** (attempt - 1), asked.total_seconds()))
        return await self._walk_once(due, held, rate)

    async def _walk_once(self, due: _Due, held: lease.Held, rate: float) -> _Walk:
        walk, began = _Walk(), self._clock.now()
        asked = self._clock.monotonic()
        async for page in self._provider.list(due.scope, due.window):
            await asyncio.to_thread(walk.add, page, due.window.until)
            if self._backpressure is not None:
                await self._backpressure.wait()
            await self._note(due.scope, page, began, held, rate)
            if due.kind is _Kind.PAST:
                asked = await self._rest(asked)
        if due.kind is _Kind.PAST and not walk.pages:
            await self._rest(asked)  # an empty window was asked for all the same
        return walk

    async def _rest(self, asked: float) -> float:
        """Wait until the next page of the past is due, counted from the request at `asked`. Return the time after the
        wait."""
        share = min(self._plan.backfill_every, _LONGEST_REST).total_seconds()
        await asyncio.sleep(max(0.0, share - (self._clock.monotonic() - asked)))
        return self._clock.monotonic()

    async def _note(self, scope: str, page: Page, began: datetime, held: lease.Held, rate: float) -> None:
        """Write a page down, a large page in pieces: the writer has other work too, and each piece is complete by
        itself."""
        listed, odd = listing_rows.pieces(page.listings, _PIECE), rejects.pieces(scope, page.rejects, _PIECE)
        for listings, rejected in itertools.zip_longest(listed, odd, fillvalue=()):
            await self._note_piece(scope, listings, rejected, began, held, rate)
        if page.rejects:
            log.error("poll.rows_not_understood", provider=self._provider.id, rows=len(page.rejects))

    async def _note_piece(
        self,
        scope: str,
        listings: Sequence[Listing],
        rejected: Sequence[Reject],
        began: datetime,
        held: lease.Held,
        rate: float,
    ) -> None:
        now = self._clock.now()

        def write(conn: Connection) -> listing_pages.Noted:
            self._fence(conn, held)
            rejects.understood(conn, self._provider.id, scope, listings, began)
            rejects.note(conn, self._provider.id, scope, rejected, now)
            return listing_pages.note_page(
                conn, self._ledger, self._chance, listings, now, lambda called: self._deadline(called, rate)
            )

        noted = await self._writer.run(write)
        for recording_id, listing in noted.ids.items():
            if listing.link is not None:
                self._links.keep(recording_id, listing.link)
        self._telemetry.discovered(self._provider.id, noted.new, rejected=len(rejected))

    async def _prove(self, scope: str, window: Window, walk: _Walk, number: int, held: lease.Held) -> None:
        now = self._clock.now()
        if walk.rows == 0:
            missing = await self._writer.run(lambda conn: self._known_within(conn, window, now))
            if missing:
                self._telemetry.suspicious_empty(self._provider.id)
                raise errors.ListingError(f"an empty listing where {missing} recordings were listed before")
        if walk.total is not None and walk.total > walk.shown and number == 1:
            log.warning("poll.total_differs", provider=self._provider.id, rows=walk.shown, total=walk.total)
        walked = covered_spans.Walked(scope, window, number, walk.rows, walk.total, walk.digest.hexdigest())

        def write(conn: Connection) -> None:
            self._fence(conn, held)
            covered_spans.cover(conn, self._chance, self._provider.id, walked, now)

        await self._writer.run(write)
        log.debug("poll.covered", provider=self._provider.id, scope=scope, rows=walk.rows, walks=number)

    def _lease(self, conn: Connection) -> lease.Held | None:
        return lease.acquire(conn, self._lease_name, self._replica_id, LEASE)

    def _fence(self, conn: Connection, held: lease.Held) -> None:
        """Renew the lease in the same transaction as the write that it protects."""
        renewed = self._lease(conn)
        if renewed is None or renewed.token != held.token:
            raise errors.LeaseLostError(self._lease_name)

    def _deep_due(self, conn: Connection) -> timedelta | None:
        """Return how far back to walk again now: a week every day, three months once a week; None when neither is due
        yet."""
        last, now = poll_state.deep_walk_at(conn, self._provider.id), self._clock.now()
        if last is None or last - now >= _DEEP_EVERY:  # a clock that ran ahead puts nothing off
            return _DEEPEST
        if now - last < _DEEP_EVERY:
            return None
        return _DEEP if last.toordinal() // 7 == now.toordinal() // 7 else _DEEPEST

    def _known(self, conn: Connection, scope: str, held: lease.Held, now: datetime) -> tuple[Window, ...]:
        self._fence(conn, held)
        return covered_spans.recount(conn, self._provider.id, scope, now + self._plan.overlap)

    def _recording_rate(self, conn: Connection) -> float:
        if self._plan.retention.quota_bytes is None:
            return 0.0
        return deadlines.bytes_per_day(
            conn, self._plan.shared or (self._provider.id,), self._clock.now(), self._plan.bytes_per_second
        )

    def _deadline(self, called_at: datetime, rate: float) -> Deadline | None:
        return deadline(called_at, self._plan.retention, self._plan.margin, bytes_per_day=rate)

    def _known_within(self, conn: Connection, window: Window, now: datetime) -> int:
        """Count the recordings of this window that the provider should still have. 0 with several scopes, because they
        share rows.
        """
        if len(self._provider.scopes()) > 1:
            return 0
        kept = (recording.c.delete_at.is_(None)) | (recording.c.delete_at > now)
        return conn.execute(
            select(func.count()).where(
                recording.c.provider == self._provider.id,
                recording.c.call_started_at >= window.since,
                recording.c.call_started_at < window.until,
                recording.c.state.not_in(["gone", "disposed"]),
                kept,
            )
        ).scalar_one()
