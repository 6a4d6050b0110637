"""Holds the objects that the pipe's workers share, and the rules for one provider's work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from archiver.clock import Chance, Clock
from archiver.custody.ledger import Ledger
from archiver.database import Writer
from archiver.fetch.receive import ReceiveLimits
from archiver.fetch.spool import Spool
from archiver.ingest.destination import Destination
from archiver.ingest.links import Links
from archiver.ingest.telemetry import Telemetry
from archiver.retention.policy import Rule
from archiver.seal.recipients import Recipient


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of one provider's recordings, and the rules for how long their copies are kept."""

    limits: ReceiveLimits
    rules: Sequence[Rule]
    default: Rule


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The context that every worker of this process shares."""

    writer: Writer
    ledger: Ledger
    spool: Spool
    recipients: Sequence[Recipient]
    destinations: Sequence[Destination]
    links: Links
    telemetry: Telemetry
    clock: Clock
    chance: Chance
    executor: Executor
    replica_id: str
    copying: set[tuple[str, str]] = field(default_factory=set)
    """The copies that are made from the spool at this moment: recording and storage (`ingest.background_copies`)."""

    def spread(self) -> float:
        """Return a random number in [0, 1), by which retries that are due together are spread."""
        return int.from_bytes(self.chance.token(2), "big") / 65_536

    async def discard(self, spool_name: str) -> None:
        """Remove a spool file that no row needs; a crash before this leaves a file that the next sweep removes."""
        await asyncio.get_running_loop().run_in_executor(self.executor, self.spool.remove, spool_name)
