"""Facts about the archive at one instant, by which `judgement` judges. Pure: no I/O, no clock.

A new fact is added here and its rule in `judgement`: status, metrics and alerts all take the fact from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """One provider as journal, register and forecast see it. A value that is not known stays at its default.

    `gaps`: open gaps by reason code, without the acknowledged ones. `lost`: recordings that are gone, without the
    acknowledged ones. `configured`: whether the provider is polled at all. It is polled at the interval `poll_every`,
    or by a schedule: `schedule_due` is then the schedule's first time after the last complete poll. `refused`: why its
    credentials are refused. `slack`: how long all work may stand still without a loss; None with nothing to lose. It is
    negative when something is lost even at the present pace, and `first_loss_at` then says when. `quota_used` is a
    percentage.
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
    """A storage's failure as one host sees it: since when, when last seen, and the problem in words."""

    since: datetime
    at: datetime
    problem: str


@dataclass(frozen=True, slots=True)
class StorageFacts:
    """One configured storage.

    `trusted`: the verdict of its last probe, None when no probe was ever answered; `doubt`: the check that failed then.
    `every`: the interval of the probes. `failing`: puts or probes that fail now. `waiting`: recordings that lie sealed
    on a disk and in no storage. `remarks`: facts that a person should know although the storage stays trusted.
    `oldest_reading`: the last whole reading of the copy that was read longest ago; None without copies. `read_every`:
    within this time each copy is to be read again.
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
    oldest_reading: datetime | None = None
    read_every: timedelta | None = None


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One host's disk and clock, as they were at `seen_at`. `spool_used`: per cent of the spool's quota.

    `no_room`: why nothing more can be fetched there. `clock_offset`: the host's clock minus the clock of the database
    or of most other parties. `clock_wrong`: whether those clocks contradict the host's.
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

    `started_at`: since when a replica works on the archive, None when none does. `host` is this process's host,
    `elsewhere` are the hosts of the other living replicas. `integrity`: what verification found, counted by kind, until
    everything was verified again. `checkpoint_at`: when the last checkpoint was published; None where no checkpoint is
    expected yet.
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
