"""Runs the cycle: looks for gaps after each poll, and makes each day's statement. Reads outside the shared writer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import structlog

from archiver.clock import Chance, Clock
from archiver.completeness import copies, issue, register
from archiver.completeness.issue import Issued
from archiver.completeness.observe import Watched, not_configured, observe
from archiver.custody.ledger import Ledger
from archiver.database import Connection, Engine, Writer, read

_CONFIGURATION = "configuration"
log = structlog.get_logger("archiver.completeness")


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks for gaps and keeps the register. Any replica may do so; two at once find and write the same."""

    engine: Engine
    writer: Writer
    ledger: Ledger
    clock: Clock
    chance: Chance

    async def look(self, it: Watched) -> register.Changes:
        """Bring the register of one provider up to date. Changes between reading and writing are seen by the next
        look."""
        now = self.clock.now()
        found = await read(self.engine, lambda conn: observe(conn, it, now))
        changes = await self.writer.run(
            lambda conn: register.refresh(conn, self.ledger, self.chance, it.provider, found, now)
        )
        if changes.opened or changes.closed or changes.changed:
            log.warning(
                "gaps.changed",
                provider=it.provider,
                opened=changes.opened,
                changed=changes.changed,
                closed=changes.closed,
            )
        return changes

    async def look_beyond(self, configured: Collection[str]) -> None:
        """Bring the register up to date with providers that are not configured although their recordings wait."""
        now = self.clock.now()
        found = await read(self.engine, lambda conn: not_configured(conn, configured, now))
        await self.writer.run(
            lambda conn: register.refresh(conn, self.ledger, self.chance, None, found, now, source=_CONFIGURATION)
        )

    async def look_for_copies(self) -> register.Changes:
        """Bring the register up to date with the copies that storages lack, of all providers."""
        now = self.clock.now()
        found = await read(self.engine, copies.observe)
        return await self.writer.run(
            lambda conn: register.refresh(conn, self.ledger, self.chance, None, found, now, source=copies.SOURCE)
        )

    async def state(self, watched: Iterable[Watched], days: Sequence[date] | None = None) -> list[Issued]:
        """State every day that is over and has no true statement yet; a transaction for each day, so that nobody waits
        long."""
        now = self.clock.now()
        issued = []
        for it in watched:
            for day in await read(self.engine, self._stale(it, days, now)):
                stated = await self.writer.run(self._stating(it, day))
                if stated is not None:
                    issued.append(stated)
        if issued:
            log.info("completeness.stated", statements=len(issued))
        return issued

    def _stale(self, it: Watched, days: Sequence[date] | None, now: datetime) -> Callable[[Connection], list[date]]:
        return lambda conn: issue.stale(conn, it, issue.due(conn, it, now) if days is None else days)

    def _stating(self, it: Watched, day: date) -> Callable[[Connection], Issued | None]:
        now = self.clock.now()
        return lambda conn: issue.issue(conn, self.ledger, it, day, now)
