"""What a storage refuses, and how a disk is, on record: seen when it stands, gone when it is over, each by who saw it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, select

from archiver import errors
from archiver.clock import SystemClock
from archiver.database import Writer
from archiver.ingest import health
from archiver.ingest.destination import Destination, Outage
from archiver.ingest.health import Host
from archiver.ingest.tables import storage_state
from archiver.recording import LockMode, SealedFile, Stored
from archiver.store.port import Check, ObjectStore, ProbeReport

NOW = datetime(2028, 2, 29, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86_400))
HERE = Host("spool-1", "h1", NOW, 5, None, timedelta(milliseconds=-3))
SEALED = SealedFile(Path("x"), 1, "d")
DOWN = errors.DestinationError("PutObject: AccessDenied")


class Wall(SystemClock):
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


class Storage:
    """A storage that answers as told; what a real one answers is tested where real ones are."""

    id, required, lock_mode, answers = "primary", True, LockMode.OFF, 0

    def __init__(self, wall: Wall) -> None:
        self.wall = wall
        self.refuses: errors.ArchiverError | None = None
        self.holds = True
        self.ways = "by ship"
        self.same = True
        self.probes = 0

    async def probe(self) -> ProbeReport:
        if self.refuses is not None:
            raise self.refuses
        self.probes += 1
        return ProbeReport("primary", (Check("lock", self.holds, "deleted"),), self.wall.at, self.ways)

    def resume(self, report: ProbeReport) -> bool:
        assert report.ways == self.ways
        return self.same

    async def put_once(self, *_: Any, **__: Any) -> Stored:
        if self.refuses is not None:
            raise self.refuses
        return Stored(self.id, "", "k", None, SEALED.size, SEALED.sha256, LockMode.OFF, None)


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def storage(wall: Wall) -> Storage:
    return Storage(wall)


@pytest.fixture
def destination(storage: Storage) -> Destination:
    return Destination(cast("ObjectStore", storage))


@pytest.fixture
def writer(database: Engine) -> Iterator[Writer]:
    made = Writer(database)
    yield made
    made.close()


async def put(it: Destination, now: datetime) -> None:
    it.down_until = None
    await it.put("k", SEALED, now, now)


@pytest.mark.parametrize(
    ("asked", "rest"),
    [(None, SECOND), (SECOND / 2, SECOND), (90 * SECOND, 90 * SECOND), (400 * DAY, 5 * MINUTE)],
    ids=["nothing", "less", "more", "for ever"],
)
async def test_storage_rests_as_long_as_it_asks_and_no_longer_than_recordings_can_wait(
    destination: Destination, asked: timedelta | None, rest: timedelta
) -> None:
    destination.failed(errors.DestinationError("SlowDown", retry_after=asked), NOW)
    assert destination.down_until == NOW + rest


async def test_put_that_is_refused_is_an_outage_until_one_is_taken(
    destination: Destination, storage: Storage, wall: Wall
) -> None:
    destination.proved(await storage.probe())
    assert destination.proven
    for refusal in (DOWN, errors.NotLockedError("no lock")):
        storage.refuses = refusal
        for later in (timedelta(0), MINUTE):
            with pytest.raises(type(refusal)):
                await put(destination, NOW + later)
        assert destination.outage == Outage(NOW, NOW + MINUTE, refusal.detail)
        assert not destination.proven
        storage.refuses = None
        await put(destination, NOW + 2 * MINUTE)
        assert destination.outage is None


async def test_probe_does_not_make_up_for_a_put_while_puts_are_tried_and_does_when_nothing_is_left_to_put(
    destination: Destination, storage: Storage, wall: Wall
) -> None:
    destination.proved(await storage.probe())
    storage.refuses = DOWN
    with pytest.raises(errors.DestinationError):
        await put(destination, NOW)
    storage.refuses, wall.at = None, NOW + 10 * MINUTE
    destination.proved(await storage.probe())
    assert destination.outage is not None
    wall.at += SECOND
    destination.proved(await storage.probe())
    assert destination.proven


async def test_refused_probe_is_remembered_with_its_problem_and_its_beginning(
    writer: Writer, database: Engine, destination: Destination, storage: Storage, wall: Wall
) -> None:
    await health.keep_probe(writer, destination, wall)
    storage.refuses = errors.DestinationError("HeadBucket: 403")
    for _ in range(3):
        wall.at += 30 * SECOND
        await health.keep_probe(writer, destination, wall, force=True)
    await writer.run(lambda conn: health.record(conn, HERE, [destination], stands=health.STANDS))
    with database.connect() as conn:
        assert health.outages(conn) == {"primary": Outage(NOW + 30 * SECOND, NOW + 90 * SECOND, "HeadBucket: 403")}
        assert conn.execute(select(storage_state.c.probed_at)).scalar_one() == NOW, "the last proof keeps its date"
    storage.refuses = None
    await health.keep_probe(writer, destination, wall, force=True)
    await writer.run(lambda conn: health.record(conn, HERE, [destination]))
    with database.connect() as conn:
        assert health.outages(conn) == {}


async def test_failure_that_is_gone_by_the_next_try_is_none_and_one_that_stands_is_kept_by_each_host(
    writer: Writer, database: Engine, destination: Destination
) -> None:
    def record(at: Host, stands: timedelta, *of: Destination) -> dict[str, Outage]:
        with database.begin() as conn:
            health.record(conn, at, of, stands=stands)
            return health.outages(conn)

    destination.failed(DOWN, NOW, doing="probe")
    assert record(HERE, health.STANDS, destination) == {}
    assert record(HERE, timedelta(0), destination) == {"primary": Outage(NOW, NOW, DOWN.detail)}, (
        "a sweep has no next try"
    )
    fresh = Destination(destination.store)
    assert "primary" in record(HERE, timedelta(0), fresh), "who has not asked yet knows nothing better"
    fresh.proved(ProbeReport("primary", (), NOW))
    assert "primary" in record(replace(HERE, spool_id="spool-2"), timedelta(0), fresh), "it works from another host"
    assert record(HERE, timedelta(0), fresh) == {}


@pytest.mark.parametrize(
    ("pace", "apart", "every"),
    [(None, DAY, HOUR), (MINUTE, MINUTE, HOUR), (2 * HOUR, MINUTE, 2 * HOUR), (MINUTE, DAY, DAY), (MINUTE, 30 * DAY, 7 * DAY)],
)  # fmt: skip
async def test_proof_is_good_for_the_pace_of_who_made_it(
    writer: Writer, database: Engine, destination: Destination, wall: Wall, pace: timedelta | None, apart: timedelta,
    every: timedelta,
) -> None:  # fmt: skip
    """The daemon's hour; of single sweeps what is configured, or what is seen to be their pace."""
    await health.keep_probe(writer, destination, wall, pace=pace)
    wall.at += apart
    await health.keep_probe(writer, destination, wall, pace=pace, force=True)
    with database.connect() as conn:
        assert conn.execute(select(storage_state.c.every_s)).scalar_one() == every.total_seconds()


@pytest.mark.parametrize(
    ("later", "pace", "change", "probes"),
    [
        (HOUR - SECOND, MINUTE, "", 1),
        (HOUR, MINUTE, "", 2),
        (-SECOND, MINUTE, "", 2),
        (MINUTE, None, "", 2),
        (MINUTE, MINUTE, "another configuration", 2),
        (MINUTE, MINUTE, "was not trusted", 2),
        (MINUTE, MINUTE, "refused a put since", 2),
        (MINUTE, MINUTE, "older archiver", 2),
    ],
)
async def test_sweep_goes_by_a_proof_of_the_last_hour_that_nothing_speaks_against(
    writer: Writer, database: Engine, destination: Destination, storage: Storage, wall: Wall, later: timedelta,
    pace: timedelta | None, change: str, probes: int,
) -> None:  # fmt: skip
    storage.holds = change != "was not trusted"
    storage.ways = "" if change == "older archiver" else "by ship"
    await health.keep_probe(writer, destination, wall, pace=MINUTE)
    if change == "refused a put since":
        destination.failed(DOWN, NOW)
        await writer.run(lambda conn: health.record(conn, HERE, [destination]))
    wall.at += later
    storage.same = change != "another configuration"
    following = Destination(destination.store)
    await health.keep_probe(writer, following, wall, pace=pace)
    assert storage.probes == probes
    assert following.report is not None
    assert following.report.trusted is storage.holds
    with database.connect() as conn:
        proved = conn.execute(select(storage_state.c.probed_at)).scalar_one()
    assert proved == following.report.probed_at == (NOW if probes == 1 else wall.at), "a proof keeps its date"


def test_hosts_are_remembered_for_a_while(database: Engine) -> None:
    with database.begin() as conn:
        old = replace(HERE, spool_id="old", host="h0", seen_at=NOW - 2 * DAY, no_room="full")
        health.record(conn, old, [])
        health.record(conn, replace(HERE, spool_percent=80, no_room="full"), [])
        health.record(conn, replace(HERE, spool_id="before", no_room="full"), [])
        health.record(conn, HERE, [])
        assert health.hosts(conn) == [old, HERE], "a disk that was replaced is not this host's any more"
        health.record(conn, replace(HERE, seen_at=NOW + SECOND), [])
        assert [each.host for each in health.hosts(conn)] == ["h1"]


class Slow(Storage):
    """One that takes as many rounds of patience as told for its probe, and says something in each, or nothing."""

    def __init__(self, wall: Wall, rounds: int, *, mute: bool) -> None:
        super().__init__(wall)
        self.rounds, self.mute, self.answers = rounds, mute, 0

    async def probe(self) -> ProbeReport:
        for _ in range(self.rounds):
            await asyncio.sleep(0.05)  # slow on purpose
            self.answers += 0 if self.mute else 1
        return await super().probe()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("GRACE", 0.02), ("SILENCE", 0.12), ("LONGEST", 2.4)):
        monkeypatch.setattr(health, name, timedelta(seconds=seconds))


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("rounds", "mute", "problem"),
    [(8, False, None), (40, True, "said nothing"), (90, False, "takes too long")],
    ids=["slow", "hangs", "endless"],
)
async def test_storage_that_is_slow_proves_itself_and_one_that_hangs_is_an_outage_since_it_was_asked(
    rounds: int, mute: bool, problem: str | None, writer: Writer, wall: Wall
) -> None:
    slow = Destination(cast("ObjectStore", Slow(wall, rounds, mute=mute)))
    async with asyncio.timeout(30):
        await health.keep_probe(writer, slow, wall)
    assert slow.proven == (problem is None)
    assert problem is None or (slow.outage is not None and problem in slow.outage.problem)


@pytest.mark.usefixtures("hurried")
async def test_what_is_sealed_waits_a_moment_for_the_first_probe_and_no_longer(writer: Writer, wall: Wall) -> None:
    quick, mute = (Destination(cast("ObjectStore", Slow(wall, n, mute=n > 1))) for n in (0, 40))
    for each, taken in ((quick, True), (mute, False)):
        probing = asyncio.create_task(health.keep_probe(writer, each, wall))
        await asyncio.sleep(0)
        if taken:
            await put(each, NOW)
        else:
            with pytest.raises(errors.DestinationError, match="has not been probed"):
                await put(each, NOW)
            assert not probing.done()
        await probing


async def test_outage_that_was_waited_for_counts_at_once(
    writer: Writer, database: Engine, destination: Destination
) -> None:
    """A probe that hangs fails once in a minute: how long it has hung is how long the failure stands."""
    destination.failed(DOWN, NOW, doing="probe", since=NOW - health.SILENCE)
    await writer.run(lambda conn: health.record(conn, HERE, [destination], stands=health.STANDS))
    with database.connect() as conn:
        assert health.outages(conn) == {"primary": Outage(NOW - health.SILENCE, NOW, DOWN.detail)}
