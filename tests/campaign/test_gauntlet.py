"""Tests of the tests: each bug that is planted must be found by the campaign, and named by the invariant that it breaks.

Each trap is also set without the bug: then nothing may be found, so that it is the bug that is seen and not the trap.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from archiver.demo.simulators import Route
from archiver.demo.simulators.faults import ServerError
from tests.campaign.conftest import NewWorld
from tests.campaign.points import Action, Order
from tests.campaign.sabotage import BUGS
from tests.campaign.world import Change, World, one_id_twice, unchanged

KILL, POWER = Action.KILL, Action.POWER


def not_found(it: World) -> None:
    """The media and the API both say 404 of what the listing shows."""
    for route in (Route.MEDIA, Route.ITEM):
        it.sims["vobiz"].fail(route, ServerError(404), times=None, when=lambda ask: "22222222" in ask.path)


@dataclass(frozen=True, slots=True)
class Trap:
    """How a bug shows. `breaks`: the number of the invariant. `lie`: what goes wrong around the archiver, bug or no bug.

    `at_once`: not to be looked at after a recovery, because the archiver rightly takes its time with it.
    """

    bug: str
    breaks: str
    orders: tuple[Order, ...] = ()
    storage: str = "directory"
    database: str = "sqlite"
    lie: str | None = None
    before: Callable[[World], object] | None = None
    change: Change = unchanged
    at_once: bool = False

    @property
    def odd(self) -> bool:
        """Whether it is more than a death, which the kill campaign tries without any bug."""
        return self.lie is not None or self.before is not None or self.change is not unchanged


def at(point: str, action: Action = KILL) -> tuple[Order, ...]:
    return (Order(point, 1, action),)


TRAPS = (
    Trap("archived_before_stored", "2", at("archived.commit/after")),
    Trap("last_page_skipped", "1"),
    Trap("covered_before_noted", "1", at("polled.commit/after")),
    Trap("nonce_repeated", "9"),
    Trap("spool_file_not_synced", "1", at("spooled.commit/after", POWER)),
    Trap("spool_folder_not_synced", "1", at("spooled.commit/after", POWER)),
    Trap("store_folder_not_synced", "2", at("archived.commit/after", POWER)),
    Trap("lock_not_read_back", "2", storage="single", lie="lie_lock_dropped"),
    Trap("sweep_keeps_nothing", "12", at("spooled.commit/after")),
    Trap("link_printed", "9"),
    Trap("plaintext_spilled", "9", at("seal.write/after")),
    Trap("chain_over_other_bytes", "6", at("archived.commit/after")),
    Trap("key_not_of_content", "4", at("put.request/after"), storage="single", database="postgresql"),
    Trap("gone_at_once", "1", at("unfinished.commit/after"), before=not_found, at_once=True),
    Trap("same_id_same_recording", "1", change=one_id_twice),
    Trap("retention_from_today", "2"),
)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.bug)
def test_a_planted_bug_is_found_and_named(new_world: NewWorld, trap: Trap) -> None:
    bugs = trap.bug if trap.lie is None else f"{trap.lie}+{trap.bug}"
    found = spring(new_world, trap, bugs)
    assert trap.breaks in {each.partition(":")[0] for each in found}, found


@pytest.mark.parametrize("trap", [trap for trap in TRAPS if trap.odd], ids=lambda trap: trap.bug)
def test_the_trap_without_the_bug_finds_nothing(new_world: NewWorld, trap: Trap) -> None:
    assert spring(new_world, trap, trap.lie) == []


def spring(new_world: NewWorld, trap: Trap, bugs: str | None) -> list[str]:
    """What the oracle finds after the death or, where it finds nothing there, after the recovery."""
    with new_world(trap.storage, trap.database, sabotage=bugs, change=trap.change) as it:
        it.stale_links = 0 if trap.change is one_id_twice else 1
        if trap.before is not None:
            trap.before(it)
        it.run(*trap.orders)
        assert all(order.point in it.fired() for order in trap.orders), (it.folder / "log").read_text()[-2000:]
        found = it.wrong()
        if found or trap.at_once:
            return found
        it.withdraw()
        return it.recover()


def test_a_token_that_is_not_compared_is_found(new_world: NewWorld) -> None:
    """The paused replica of the kill campaign, unfenced."""
    with new_world("single", "postgresql", sabotage="token_not_compared") as it:
        it.hurry_sessions()
        pid = it.shared.parent.start(it.ordered(Order("media.request/after", 1, Action.STOP), alive=1.0))
        it.shared.parent.wait(pid)
        other = it.replica()
        time.sleep(1.2)  # its heartbeat and its leases run out: by the database's clock, which nobody can turn
        it.shared.parent.run(other)
        assert it.wrong() == []
        it.shared.parent.go_on(pid)
        it.shared.parent.wait(pid)
        assert it.wrong() + it.recover() != []


def test_every_bug_has_a_trap() -> None:
    trapped = {trap.bug for trap in TRAPS} | {trap.lie for trap in TRAPS} | {"token_not_compared"}
    assert trapped - {None} == BUGS.keys()
