"""The kill campaign: a run dies at each named point, an ordinary run follows, and the oracle must find nothing.

Looked at twice: just after the death, when whatever the journal claims must be true already, and after the recovery, when
everything must be done. Between the two the provider withdraws the audio of all that the journal calls safe.

`ARCHIVER_CAMPAIGN_SEEDS` raises the number of passes: each takes the points at other times, in other storages and in other pairs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pytest

from archiver.demo.simulators import Route
from archiver.demo.simulators.faults import Delay
from tests.campaign.conftest import NewWorld
from tests.campaign.failpoints import EFFECTS, Effect
from tests.campaign.oracle import read_database
from tests.campaign.parent import Ended
from tests.campaign.points import Action, Order
from tests.campaign.world import STORAGES, World, one_id_twice

SEEDS = range(int(os.environ.get("ARCHIVER_CAMPAIGN_SEEDS", "1")))
DATABASES = ("sqlite", "postgresql")
KILLED, DONE = Ended(signal.SIGKILL, None), Ended(None, 0)


@dataclass(frozen=True, slots=True)
class Case:
    """`action` at the `nth` time that a run comes to `point`, in one kind of world."""

    effect: Effect
    point: str
    nth: int
    storage: str
    database: str

    def order(self, action: Action) -> tuple[Order, ...]:
        """What the run must meet."""
        return (Order(self.point, self.nth, action), *([self.effect.along] if self.effect.along else []))

    def __str__(self) -> str:
        return f"{self.point}-{self.nth}-{self.storage}-{self.database}"


def cases(effects: Iterable[Effect] = EFFECTS, databases: Sequence[str] = DATABASES) -> list[Case]:
    """Each point once a seed on each database; from seed to seed at another time and in another storage."""
    points = [(effect, point) for effect in effects for point in effect.points]
    return [
        Case(effect, point, 1 + (turn + seed) % effect.times, each(effect.storage, number + turn + seed), database)
        for seed in SEEDS
        for number, (effect, point) in enumerate(points)
        for turn, database in enumerate(databases)
    ]


def faults() -> list[Case]:
    """Each effect that can fail, refused and with its answer lost, on the databases by turns."""
    points = [(effect, f"{effect.name}/{side}") for effect in EFFECTS if effect.faults for side in ("before", "after")]
    return [
        Case(effect, point, 1 + pick % effect.times, each(effect.storage, pick), each(DATABASES, pick // 2 + pick))
        for seed in SEEDS
        for pick, (effect, point) in enumerate(points, start=seed)
    ]


def each(choices: Sequence[str], number: int) -> str:
    return choices[number % len(choices)]


def fault_name(case: Case) -> str:
    outcome = "refused" if case.point.endswith("before") else "answer_lost"
    return f"{case.effect.name}_{outcome}-{case.nth}-{case.storage}-{case.database}"


def tail(it: World) -> str:
    """The end of what the runs said."""
    log = it.folder / "log"
    return log.read_text()[-4000:] if log.exists() else ""


def die(it: World, *orders: Order) -> None:
    """A run that must not survive its orders."""
    assert it.run(*orders) == KILLED, tail(it)


def recovers(it: World) -> None:
    """What is claimed just after the death is true, and an ordinary run does the rest without what is safe already."""
    assert it.wrong() == [], tail(it)
    it.withdraw()
    assert it.recover() == [], tail(it)


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("storage", STORAGES)
def test_an_undisturbed_run_leaves_nothing_to_find(new_world: NewWorld, storage: str, database: str) -> None:
    with new_world(storage, database) as it:
        assert it.run() == DONE
        assert it.wrong(at_rest=True) == []
        recovers(it)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_killed_there_the_next_run_finishes_everything(new_world: NewWorld, case: Case) -> None:
    with new_world(case.storage, case.database) as it:
        if case.effect.earlier is not None:
            die(it, Order(case.effect.earlier, 1, Action.KILL))
        die(it, *case.order(Action.KILL))
        recovers(it)


@pytest.mark.parametrize("case", faults(), ids=fault_name)
def test_an_effect_that_fails_once_costs_nothing(new_world: NewWorld, case: Case) -> None:
    with new_world(case.storage, case.database) as it:
        if case.effect.earlier is not None:
            die(it, Order(case.effect.earlier, 1, Action.KILL))
        ended = it.run(*case.order(Action.FAIL))
        assert case.point in it.fired(), tail(it)
        # A COMMIT that fails may end the run or leave a row for the next one; everything else mends itself.
        assert ended == DONE or ("commit" in case.point and ended.code in (75, 143)), tail(it)
        recovers(it)


POWER = [effect for effect in EFFECTS if effect.name.startswith(("seal.f", "spool", "store.", "archived.", "unspool."))]


@pytest.mark.parametrize("case", cases(POWER, ["sqlite"]), ids=str)
def test_a_power_cut_takes_only_what_nobody_was_told_is_safe(new_world: NewWorld, case: Case) -> None:
    with new_world("directory", case.database) as it:
        die(it, *case.order(Action.POWER))
        recovers(it)


def pairs() -> list[tuple[Case, Case]]:
    dice = random.Random(f"pairs {SEEDS}")
    first = [case for case in cases() if case.effect.earlier is None and case.effect.along is None]
    chosen = [(dice.choice(first), dice.choice(cases())) for _ in range(12 * len(SEEDS))]
    return [(one, replace(other, storage=one.storage, database=one.database)) for one, other in chosen]


@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: f"{pair[0]}+{pair[1].point}")
def test_killed_again_in_the_recovery(new_world: NewWorld, pair: tuple[Case, Case]) -> None:
    first, second = pair
    with new_world(first.storage, first.database) as it:
        die(it, *first.order(Action.KILL))
        assert it.wrong() == [], tail(it)
        it.withdraw()
        ended = it.run(*second.order(Action.KILL))  # where the recovery does not come by, it finishes
        assert ended in (KILLED, DONE), tail(it)
        recovers(it)


@pytest.mark.parametrize(("links", "database"), [("fresh", "sqlite"), ("fresh", "postgresql"), ("stale", "sqlite")])
def test_one_id_for_two_recordings_keeps_both(new_world: NewWorld, links: str, database: str) -> None:
    """The provider's API, asked for a fresh link by the id alone, knows the newer of the two only."""
    with new_world("directory", database, change=one_id_twice) as it:
        it.stale_links = 0 if links == "fresh" else 1000
        ended = it.run()
        if links == "stale":
            assert ended.code == 75, "the older one can only wait for a listing whose link is good"
            assert it.wrong() == [], tail(it)
            it.stale_links = 0
            ended = it.run()
        assert ended == DONE
        assert it.wrong(at_rest=True) == [], tail(it)


def test_a_flag_that_comes_while_the_recording_is_in_work_stays(new_world: NewWorld) -> None:
    """The second page shows that the id stands for two recordings, while the first of them is being downloaded."""
    with new_world("directory", "sqlite", change=one_id_twice) as it:
        it.stale_links = 0
        it.sims["vobiz"].fail(Route.LIST, Delay(0.7), after=1)
        it.sims["vobiz"].fail(Route.MEDIA, Delay(2.0), times=2)
        assert it.run() == DONE
        same = [
            row for row in read_database(it.database)["recording"] if row["provider_recording_id"] == "11111111-aaaa"
        ]
        assert [json.loads(row["flags"]) for row in same] == [["id_conflict"]] * 2


@pytest.mark.parametrize("number", range(8 * len(SEEDS)))
def test_killed_at_any_moment(new_world: NewWorld, number: int) -> None:
    moment = random.Random(f"moment {number}").uniform(0.02, 0.5)
    with new_world(STORAGES[number % 3], DATABASES[number % 2]) as it:
        ended = it.run(kill_after=moment)
        assert ended in (KILLED, DONE), tail(it)
        recovers(it)


@pytest.mark.parametrize(
    "point",
    [
        "claim.commit/after",
        "media.request/after",
        "spool.rename/after",
        "spooled.commit/after",
        "put.request/after",
        "archived.commit/before",
    ],
)
def test_a_replica_that_was_paused_and_replaced_changes_nothing(new_world: NewWorld, point: str) -> None:
    """It wakes when another has done its work: its claims are void, and what it does yet is done by nobody."""
    with new_world("single", "postgresql") as it:
        it.hurry_sessions()
        pid = it.shared.parent.start(it.ordered(Order(point, 1, Action.STOP), alive=1.0))
        assert it.shared.parent.wait(pid) == Ended(signal.SIGSTOP, None), tail(it)
        other = it.replica()
        time.sleep(1.2)  # its heartbeat and its leases run out
        # Paused within a statement it holds its locks for as long as the database lets it: the other is started again until then.
        assert any(it.shared.parent.run(other) == DONE for _ in range(12)), tail(it)
        assert it.wrong() == []
        it.shared.parent.go_on(pid)
        assert it.shared.parent.wait(pid).signal is None, tail(it)
        assert it.wrong() == [], tail(it)
        assert it.recover() == [], tail(it)
