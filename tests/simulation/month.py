"""A month at one provider in virtual time: the real simulator, adapter, poller, journal, worker and storage, watched."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from archiver.completeness import reconcile, register
from archiver.completeness.gap import profile
from archiver.completeness.issue import Issued
from archiver.completeness.observe import Watched
from archiver.completeness.watch import Watch
from archiver.demo.simulators import SimRecording, month_of_calls
from archiver.ingest import queries
from archiver.recording import Window
from tests.contract.provider_cases import sounds
from tests.faults.rig import Rig, rig

CYCLE = timedelta(hours=12)
DAYS = 30


@dataclass
class Month:
    """`reports`: after each cycle, the codes that are open or watched then. `ever`: every (code, subject) that was ever open."""

    it: Rig
    kind: str
    scopes: Sequence[str] | None = None
    cycles: int = 0
    ever: set[tuple[str, str]] = field(default_factory=set)
    stated: list[Issued] = field(default_factory=list)

    @property
    def watch(self) -> Watch:
        context = self.it.context
        return Watch(self.it.engine, context.writer, context.ledger, context.clock, context.chance)

    def watched(self) -> Watched:
        it = self.it
        now = it.clock.now()
        with it.engine.connect() as conn:
            covered = queries.covered_until(conn, it.provider.id)
        scopes = tuple(self.scopes or it.provider.scopes())
        earliest = it.poller._plan.earliest
        assert earliest is not None
        earliest = max(earliest, it.provider.facts.earliest)
        return Watched(it.provider.id, profile(self.kind), scopes, Window(earliest, covered or now))

    async def cycle(self, *, work: bool = True) -> set[str]:
        """Half a day passes: poll, fetch, look, and once a day reconcile and state. Returns what is reported then."""
        it = self.it
        await it.pass_time(CYCLE)
        await it.poll()
        if work:
            await it.work()
        await self.watch.look(self.watched())
        if self.cycles % 2:
            context = it.context
            for destination in context.destinations:
                result = await reconcile.reconcile_store(it.engine, destination.store, it.clock, lock_share=1)
                await reconcile.keep(context.writer, context.ledger, context.chance, [result])
            await reconcile.keep(context.writer, context.ledger, context.chance, [await self.custody()])
            self.stated += await self.watch.state([self.watched()])
        self.cycles += 1
        rows = self.gaps()
        self.ever |= {(str(row["code"]), str(row["subject"])) for row in rows if row["grade"] == "open"}
        return {str(row["code"]) for row in rows}

    async def custody(self) -> reconcile.Reconciled:
        return await reconcile.reconcile_custody(self.it.engine, self.it.clock)

    async def days(self, count: int) -> set[str]:
        """What is reported after so many days, or was at any time within them."""
        told: set[str] = set()
        for _ in range(2 * count):
            told |= await self.cycle()
        return told

    def gaps(self) -> list[dict[str, Any]]:
        with self.it.engine.connect() as conn:
            return [dict(row) for row in register.open_gaps(conn)]

    def reasons(self, name: str) -> list[str]:
        """Why the recording of this provider id is said to be missing."""
        subjects = {f"rec:{row['id']}" for row in self.it.rows() if row["provider_recording_id"] == name}
        return [str(row["code"]) for row in self.gaps() if row["subject"] in subjects]

    def recent(self, row: dict[str, Any]) -> bool:
        """Whether the next poll lists it again, because of the overlap, and by a margin."""
        return bool(row["call_started_at"] > self.it.clock.now() - timedelta(hours=8))

    def next_calls(self, within: timedelta = CYCLE) -> list[SimRecording]:
        """The calls of the next half day, which nobody has seen yet."""
        now = self.it.clock.now()
        return [each for each in self.it.account.recordings if now < each.started_at < now + within]


@asynccontextmanager
async def month(
    kind: str,
    folder: Path,
    url: str,
    start: datetime,
    *,
    calls: int = 150,
    change: Callable[[SimRecording], SimRecording] = lambda it: it,
) -> AsyncIterator[Month]:
    """`calls` over the thirty days from `start`, by three users; `change` alters each beforehand."""
    held = month_of_calls(
        kind,
        seed=5,
        count=calls,
        audio=sounds("voicemail-128k-mono-44100"),
        until=start + timedelta(days=DAYS),
        days=DAYS,
    )  # type: ignore[arg-type]
    dice = random.Random(7)
    owners = [f"{n:032x}" for n in range(3)]
    recordings = [change(replace(each, owner=dice.choice(owners) if kind == "kazoo" else "")) for each in held]
    # Vobiz states a total of the whole account only: it is compared when the whole account is walked.
    back = timedelta(days=3650 if kind == "vobiz" else 29)
    async with rig(kind, folder, url, start=start, recordings=recordings, back=back) as it:
        await it.poll()
        yield Month(it, kind)
