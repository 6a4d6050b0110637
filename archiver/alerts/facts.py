"""The archive at one instant, as it is judged. Pure: no I/O, no clock.

Who adds a fact adds it here and its rule in `judgement`: all faces take it from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """One provider as journal, register and forecast see it. What is not known stays at its default.

    `gaps`: open gaps by reason code, less those that a person acknowledged. `lost`: recordings that are gone, less the same.
    `configured`: whether it is to be polled at all. It is polled `poll_every`, or by a schedule: then `schedule_due` is when that
    was due first after the last complete poll. `refused`: why its credentials are refused; `parked`: whether it rests.
    `slack`: how long everything may stand still without losing anything, negative when something is lost even at the present
    pace, and then `first_loss_at` says when; None with nothing to lose. `quota_used` is a percentage.
    """

    provider: str
    gaps: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
    overdue: int = 0
    nearest_deadline: datetime | None = None
    nearest_source: str | None = None
    configured: bool = True
    poll_succeeded_at: datetime | None = None
    poll_every: timedelta | None = None
    schedule_due: datetime | None = None
    refused: str | None = None
    slack: timedelta | None = None
    first_loss_at: datetime | None = None
    loses: int = 0
    remedies: Sequence[str] = ()
    quota_used: int | None = None
    quota_full_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failing:
    """A storage that does not do its work, as one host sees it: since when, when last, and what it said."""

    since: datetime
    at: datetime
    problem: str


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """One configured storage.

    `trusted`: what its last probe said, None when none was ever answered; `doubt`: the check that failed then. A probe is to come
    `every`. `failing`: puts or probes that fail now. `waiting`: recordings that lie sealed on a disk and in no storage.
    `remarks`: what a person should know of it that costs it no trust.
    """

    storage: str
    required: bool
    trusted: bool | None = None
    doubt: str | None = None
    probed_at: datetime | None = None
    every: timedelta = timedelta(hours=1)
    failing: Failing | None = None
    waiting: int = 0
    remarks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One host's disk and clock, `seen_at`. `spool_used`: per cent of its quota.

    `no_room`: why nothing more can be fetched there. `clock_offset`: its clock less the database's, or less
    what others say; `clock_wrong`: that they contradict it.
    """

    host: str
    seen_at: datetime
    spool_used: int = 0
    no_room: str | None = None
    clock_offset: timedelta = timedelta(0)
    clock_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """The archive at one instant.

    `started_at`: since when anybody works on it, None when nobody does. `host` is ours, `elsewhere` those of the other living
    replicas. `integrity`: what verification found, by kind, until all was verified anew. `checkpoint_at`: the last one published;
    None where none is expected yet.
    """

    now: datetime
    started_at: datetime | None = None
    host: str = ""
    elsewhere: frozenset[str] = frozenset()
    providers: Sequence[ProviderFacts] = ()
    storages: Sequence[StorageFacts] = ()
    hosts: Sequence[HostFacts] = ()
    integrity: Mapping[str, int] = field(default_factory=dict)
    checkpoint_at: datetime | None = None
