"""A machine whose clock is two years ahead, between others whose clocks are right: nothing is signed about days to come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from archiver.alerts.judgement import Concern
from archiver.alerts.rule import Kind, Level
from archiver.assembly.process import assemble
from archiver.clock import SystemChance, SystemClock
from archiver.completeness.tables import statement
from archiver.daemon.supervise import Daemon
from archiver.database import create_engine, read
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.demo.simulators.server import Simulator
from archiver.errors import DestinationError
from archiver.hours import Hours
from archiver.ingest.tables import coverage
from archiver.recording import Secret
from archiver.store.s3 import S3Options, S3Store
from tests.acceptance.archive import Archive, make_archive
from tests.http_servers import answer, says, serve

YEARS = timedelta(days=730)


class Ahead(SystemClock):
    """The clock of a machine that somebody set wrong."""

    def now(self) -> datetime:
        return super().now() + YEARS


@pytest.fixture
async def kazoo() -> AsyncIterator[dict[str, Simulator]]:
    made = {"kazoo": fleet.fleet(SystemClock(), samples(), seed=11, count=3)["kazoo"]}
    async with made["kazoo"]:
        yield made


async def sweep(archive: Archive, clock: SystemClock) -> Sequence[Concern]:
    """`run --once` on a machine with this clock; what all faces say of it."""
    assembly = await assemble(archive.config, clock=clock)
    try:
        await Daemon(assembly).once()
        return [each for each in (await assembly.report()).judgement.concerns if each.kind is Kind.CLOCK_SKEW]
    finally:
        await assembly.aclose()


async def stated(archive: Archive) -> list[date]:
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    try:
        return await read(engine, lambda conn: list(conn.execute(select(statement.c.day)).scalars()))
    finally:
        engine.dispose()


async def covered_until(archive: Archive) -> datetime:
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    try:
        return await read(engine, lambda conn: max(conn.execute(select(coverage.c.until)).scalars()))
    finally:
        engine.dispose()


async def test_a_clock_years_ahead_states_no_day_to_come_and_says_so_until_it_is_right(
    tmp_path: Path, database_url: str, kazoo: dict[str, Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.daemon.times.PATIENCE", timedelta(0))
    archive = make_archive(tmp_path, kazoo, database_url, "[{id: primary, kind: directory, path: copies}]")
    today = datetime.now(UTC).date()
    (wrong,) = await sweep(archive, Ahead())
    assert (wrong.level, "730 d ahead" in wrong.sentence) == (Level.AT_RISK, True), wrong.sentence
    days = await stated(archive)
    assert days
    assert max(days) <= today
    assert {row["state"] for row in await archive.rows()} == {"archived"}, "nothing is late by the others' clocks"
    assert await sweep(archive, SystemClock()) == []
    assert max(await stated(archive)) <= today
    assert (await covered_until(archive)).date() <= today + timedelta(days=1)
    assert {row["state"] for row in await archive.rows()} == {"archived"}


async def test_a_storage_tells_the_time_with_every_answer_and_with_a_refusal_too() -> None:
    hours = Hours(Ahead())
    refusal = answer(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", "Date: Sat, 21 Nov 2026 12:00:00 GMT")
    async with serve(says(refusal)) as server:
        keys = {"access_key": Secret("x" * 16), "secret_key": Secret("y" * 16)}
        store = S3Store(
            S3Options(id="primary", bucket="b", endpoint=server.origin, **keys), hours.raw, SystemChance(),
            lambda text: hours.heard_date("storage primary", text),
        )  # fmt: skip
        with pytest.raises(DestinationError):
            await store.probe()
        await store.aclose()
    assert abs(hours.now() - datetime(2026, 11, 21, 12, tzinfo=UTC)) < timedelta(minutes=1)
