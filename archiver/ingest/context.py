"""Holds the objects that the pipe's workers share, and the rules for one provider's work."""

from __future__ import annotations

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
    beside: set[tuple[str, str]] = field(default_factory=set)
    """The copies that are made from the spool at this moment: recording and storage (`ingest.beside`)."""
