"""What other keys do to a running archiver: where it lies, how it logs, how often it works, what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from archiver.clock import SystemClock
from archiver.database import create_engine, upgrade
from archiver.demo.simulators import fleet
from archiver.demo.simulators.answer import Ask, Route
from archiver.demo.simulators.faults import ServerError
from archiver.demo.simulators.scenario import Account, month_of_calls, samples
from archiver.demo.simulators.server import Seen, Simulator
from tests.acceptance.test_daemon import free_port, get
from tests.effects.workspace import LOOPBACK, Workspace, swept, workspace

NOW = datetime.now(UTC).replace(microsecond=0)
SINCE = f"backfill_from: {(NOW - timedelta(days=3)).date()}"
VOBIZ = f"kind: vobiz, {LOOPBACK}, auth_id: MA_DEMO0001, auth_token: file:token, retention: none, {SINCE}"
KAZOO = (
    f"kind: kazoo, {LOOPBACK}, account_id: 0123456789abcdef0123456789abcdef, auth_token: file:token, retention: none"
)
GREGORIAN = 62_167_219_200  # seconds from the year 0 to 1970
PLIVO = f"kind: plivo, {LOOPBACK}, auth_id: MADEMODEMODEMODEMO00, auth_token: file:token, retention: none"


def sim_of(kind: str, count: int = 0, days: int = 2) -> Simulator:
    clock = SystemClock()
    sim = fleet.fleet(clock, samples(), count=0)[kind]
    sim.account = Account(month_of_calls(kind, seed=8, count=count, audio=samples(), until=clock.now(), days=days))  # type: ignore[arg-type]
    return sim


def made(folder: Path, token: str = "demo-vobiz-token") -> Workspace:
    found = workspace(folder)
    found.secret("token", token)
    return found


@pytest.mark.effect("database", "state_dir", "version")
def test_database_and_state_lie_where_they_are_said_to(tmp_path: Path) -> None:
    it = made(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    engine = create_engine("sqlite:///other.db", elsewhere)
    upgrade(engine)
    engine.dispose()
    head = ["database: sqlite:///other.db", "state_dir: elsewhere"]
    swept(it, {"v": sim_of("vobiz", 2)}, {"v": VOBIZ}, head=head)
    with closing(sqlite3.connect(elsewhere / "other.db")) as conn:
        assert conn.execute("SELECT count(*) FROM recording WHERE state = 'archived'").fetchone() == (2,)
    assert (elsewhere / "spool").is_dir()
    assert not (tmp_path / "state" / "spool").exists()
    it.file.write_text(it.file.read_text().replace("version: 1", "version: 2"))
    assert it.run("status", code=78).stdout == ""


@pytest.mark.effect("logging.format", "logging.level")
def test_the_log_has_the_form_and_the_level_that_are_said(tmp_path: Path) -> None:
    """Two archives that live through the same, news at every level among it: a provider refuses the credentials."""

    def told(name: str, logging: str) -> str:
        (tmp_path / name).mkdir()
        it = made(tmp_path / name, "wrong")
        return swept(it, {"v": sim_of("vobiz")}, {"v": VOBIZ}, more=[f"logging: {logging}"])

    as_json = told("json", "{format: json, level: info}")
    as_text = told("text", "{format: text, level: warning}")
    lines = [json.loads(line) for line in as_json.splitlines() if line.startswith("{")]
    of = {level: {each["event"] for each in lines if each["level"] == level} for level in ("info", "error")}
    assert of["info"]
    assert of["error"]
    assert not any(line.startswith("{") for line in as_text.splitlines())
    assert all(event in as_text for event in of["error"])
    assert not any(event in as_text for event in of["info"])


@pytest.mark.effect("spool.quota", "defaults.max_size")
def test_what_is_larger_than_the_spool_or_than_allowed_is_not_fetched(tmp_path: Path) -> None:
    it = made(tmp_path)
    sims = {"v": sim_of("vobiz", 1)}
    swept(it, sims, {"v": VOBIZ}, more=["spool: {quota: 10KB}"])
    assert [row["state"] for row in it.rows()] != ["archived"]
    assert not any(path.suffix == ".bin" for path in (tmp_path / "copies").rglob("recordings/*"))
    it.run("recordings", "retry", str(it.rows()[0]["id"]))
    swept(it, sims, {"v": VOBIZ}, more=["defaults: {max_size: 10KB}"])
    assert "too_large" in it.rows()[0]["flags"]


@pytest.mark.effect("providers[].overlap", "defaults.overlap")
def test_each_poll_lists_the_overlap_again(tmp_path: Path) -> None:
    it = made(tmp_path, "demo-plivo-token")
    sims = {"own": sim_of("plivo"), "common": sim_of("plivo")}
    providers = {"own": f"{PLIVO}, {SINCE}, overlap: 3h", "common": f"{PLIVO}, {SINCE}"}
    for _ in range(2):
        for sim in sims.values():
            sim.requests.clear()
        swept(it, sims, providers, more=["defaults: {overlap: 30h}"])
    for name, hours in (("own", 3), ("common", 30)):
        since = min(each.query["add_time__gte"] for each in sims[name].seen(Route.LIST))
        back = datetime.now(UTC) - datetime.fromisoformat(since).replace(tzinfo=UTC)
        assert timedelta(hours=hours) <= back < timedelta(hours=hours, minutes=20), (name, back)


@pytest.mark.effect("providers[].rate", "providers[].backfill_share")
def test_no_more_is_asked_than_the_rate_allows_and_of_the_past_no_more_than_its_share(tmp_path: Path) -> None:
    """Eight days of the past in windows of a day, at three paces in one sweep. However fast the machine is, none comes early."""
    it = made(tmp_path, "demo-kazoo-token")
    sims = {name: sim_of("kazoo", 3) for name in ("quick", "slow", "share")}
    past = f"{KAZOO}, max_window: 1d, backfill_from: {(NOW - timedelta(days=8)).date()}"
    paces = {
        "quick": "500/s, backfill_share: 100",
        "slow": "5/s, backfill_share: 100",
        "share": "500/s, backfill_share: 1",
    }
    swept(it, sims, {name: past.replace("500/s", pace) for name, pace in paces.items()})
    assert [row["state"] for row in it.rows()] == ["archived"] * 9

    def apart(asked: list[Seen]) -> list[float]:
        return [(later.at - earlier.at).total_seconds() for earlier, later in pairwise(asked)]

    def old(name: str) -> list[Seen]:
        pages, ends = sims[name].seen(Route.LIST), timedelta(days=3)
        return [
            each
            for each in pages
            if datetime.fromtimestamp(int(each.query["created_to"]) - GREGORIAN, UTC) < NOW - ends
        ]

    every = sorted(sims["slow"].requests, key=lambda each: each.at)
    assert len(every) > len(sims["slow"].seen(Route.LIST)), "downloads count: KAZOO's are requests like any other"
    assert every[-1].at - every[0].at >= timedelta(seconds=0.2) * (len(every) - 3)  # two come at once
    assert len(old("share")) == len(old("quick")) >= 4
    assert min(apart(old("quick"))) < 0.15
    for name in ("share", "slow"):  # the median: one page may be late on its way
        assert median(apart(old(name))) >= 0.19, name


@pytest.mark.effect("providers[].concurrency", "defaults.concurrency")
def test_as_many_recordings_are_in_work_as_is_said(tmp_path: Path) -> None:
    """Counted in the journal at each download: how many of the provider are somebody's."""
    it = made(tmp_path)
    most: Counter[str] = Counter()

    def counting(provider: str) -> Callable[[Ask], bool]:
        def look(_: Ask) -> bool:
            with (
                contextlib.suppress(sqlite3.Error),
                closing(sqlite3.connect(tmp_path / "state" / "archiver.db")) as conn,
            ):
                query = "SELECT count(*) FROM recording WHERE provider = ? AND owner IS NOT NULL"
                most[provider] = max(most[provider], conn.execute(query, (provider,)).fetchone()[0])
            return False

        return look

    sims = {"one": sim_of("vobiz", 6), "three": sim_of("vobiz", 6)}
    for name, sim in sims.items():
        sim.fail(Route.MEDIA, ServerError(503), times=None, when=counting(name))
    swept(it, sims, {"one": f"{VOBIZ}, concurrency: 1", "three": VOBIZ}, more=["defaults: {concurrency: 3}"])
    assert most == {"one": 1, "three": 3}


@asynccontextmanager
async def daemon(it: Workspace) -> AsyncIterator[None]:
    """`archiver run` until the block ends, then stopped in good order."""
    with (it.folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "archiver", "-c", str(it.file), "run", stdout=log, stderr=log
        )
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0, (it.folder / "log").read_text()[-2000:]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.effect(
    "providers[].poll_every",
    "providers[].poll_cron",
    "defaults.poll_every",
    "web.listen",
    "web.names",
    "custody.checkpoint_every",
)
def test_a_daemon_polls_each_provider_as_often_as_is_said_and_listens_where_it_is_told(tmp_path: Path) -> None:
    it, port = made(tmp_path), free_port()
    sims = {name: sim_of("vobiz", 1) for name in ("often", "seldom", "yearly")}

    async def watch() -> None:
        async with sims["often"], sims["seldom"], sims["yearly"]:
            own = {"often": "", "seldom": ", poll_every: 1h", "yearly": ", poll_cron: 0 0 29 2 *"}
            it.write(
                [f'id: {name}, base_url: "{sims[name].base_url}", {VOBIZ}{more}' for name, more in own.items()],
                custody="{signing_key: file:custody.pem, checkpoint_every: 1h}",
                more=["defaults: {poll_every: 1s}", f"web: {{listen: '127.0.0.1:{port}', names: [archive.example]}}"],
            )
            async with daemon(it):
                await until(
                    lambda: polls("seldom") > 0 and polls("yearly") > 0 and polls("often") > 3 * polls("seldom")
                )
                assert (await asyncio.to_thread(get, port, "/-/healthy"))[0] == 200
                for name, status in (("archive.example:80", 200), ("other.example", 421)):
                    assert (await asyncio.to_thread(get, port, "/-/healthy", name))[0] == status
                rests, often = (polls("seldom"), polls("yearly")), polls("often")
                await until(lambda: polls("often") >= often + 2)
                assert (polls("seldom"), polls("yearly")) == rests, "after the first poll they rest"
                assert it.rows("SELECT count(*) AS n FROM custody_checkpoint")[0]["n"] <= 1, "one checkpoint an hour"

    def polls(name: str) -> int:
        return len(sims[name].seen(Route.LIST))

    asyncio.run(watch())


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        await asyncio.sleep(0.2)  # what another process does is seen from outside alone
    raise AssertionError("not within two minutes")
