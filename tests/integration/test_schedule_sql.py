"""Leases, heartbeats and rate budgets by the database's clock, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, select, update

from archiver.schedule import budget, lease, tables
from archiver.schedule.budget import Rate
from archiver.schedule.tables import replica

MINUTE = timedelta(minutes=1)


def alive(database: Engine, name: str, spool: str, lasting: timedelta = MINUTE) -> None:
    with database.begin() as conn:
        lease.beat(conn, name, spool_id=spool, host="h", version="v", lasting=lasting)


def test_a_lease_has_one_holder_until_its_time_is_over(database: Engine) -> None:
    with database.begin() as conn:
        first = lease.acquire(conn, "poll:x", "a", MINUTE)
        assert first is not None
        assert lease.acquire(conn, "poll:x", "b", MINUTE) is None
        again = lease.acquire(conn, "poll:x", "a", MINUTE)
    assert again is not None
    assert again.token == first.token


def test_a_new_holder_gets_a_higher_token_so_that_the_old_one_is_outdated(database: Engine) -> None:
    with database.begin() as conn:
        first = lease.acquire(conn, "poll:x", "a", timedelta(seconds=-1))
        second = lease.acquire(conn, "poll:x", "b", MINUTE)
    assert first is not None
    assert second is not None
    assert second.token == first.token + 1


def test_a_replica_that_leaves_gives_back_its_leases_at_once_and_no_other(database: Engine) -> None:
    with database.begin() as conn:
        assert lease.acquire(conn, "poll:x", "a", MINUTE) is not None
        lease.leave(conn, "b")
        assert lease.acquire(conn, "poll:x", "b", MINUTE) is None
        lease.leave(conn, "a")
    with database.begin() as conn:
        assert lease.acquire(conn, "poll:x", "b", MINUTE) is not None


def test_whoever_used_our_spool_before_us_is_buried_and_others_live_on(database: Engine) -> None:
    alive(database, "dead", "our-spool")
    alive(database, "other", "their-spool")
    with database.begin() as conn:
        assert lease.acquire(conn, "poll:x", "dead", MINUTE) is not None
    alive(database, "ours", "our-spool")
    with database.begin() as conn:
        assert lease.bury(conn, "ours", "our-spool") == 1
        assert set(conn.execute(select(replica.c.id)).scalars()) == {"ours", "other"}
    with database.begin() as conn:
        assert lease.acquire(conn, "poll:x", "ours", MINUTE) is not None


def test_a_replica_that_leaves_gives_its_leases_back(database: Engine) -> None:
    alive(database, "a", "spool")
    with database.begin() as conn:
        assert lease.acquire(conn, "poll:x", "a", MINUTE) is not None
        lease.leave(conn, "a")
    with database.begin() as conn:
        assert lease.acquire(conn, "poll:x", "b", MINUTE) is not None
        assert conn.execute(select(replica.c.id)).all() == []


def test_a_burst_goes_at_once_and_the_next_request_waits_its_turn(database: Engine) -> None:
    rate = Rate(60, MINUTE, burst=3)
    with database.begin() as conn:
        waits = [budget.reserve(conn, "key", rate, 1) for _ in range(5)]
    assert waits[:3] == [timedelta(0)] * 3
    assert timedelta(0) < waits[3] <= timedelta(seconds=1)
    assert waits[3] < waits[4] <= timedelta(seconds=2)


def test_a_provider_that_says_stop_stops_every_replica_burst_or_not(database: Engine) -> None:
    rate = Rate(60, MINUTE, burst=10)
    with database.begin() as conn:
        budget.postpone(conn, "key", rate, timedelta(seconds=30))
        budget.postpone(conn, "key", rate, timedelta(seconds=1))  # never shortens
        wait = budget.reserve(conn, "key", rate, 1)
    assert timedelta(seconds=25) < wait <= timedelta(seconds=30)


def test_a_pause_of_ages_is_an_hour_at_most(database: Engine) -> None:
    rate = Rate(60, MINUTE)
    with database.begin() as conn:
        budget.postpone(conn, "key", rate, timedelta(days=10_000))
        assert budget.reserve(conn, "key", rate, 1) <= timedelta(hours=1)


# --- the database's clock was years ahead for a while ---------------------------------------------------------------

YEARS = timedelta(days=3650)


def test_lease_that_a_clock_far_ahead_gave_to_a_replica_now_dead_is_taken_over(database: Engine) -> None:
    with database.begin() as conn:
        ahead = lease.acquire(conn, "poll:x", "dead", MINUTE + YEARS)
        taken = lease.acquire(conn, "poll:x", "living", MINUTE)
        assert ahead is not None
        assert taken is not None
        assert taken.token == ahead.token + 1
        assert lease.acquire(conn, "poll:x", "third", MINUTE) is None


def test_lease_is_kept_for_its_holder_while_the_clock_is_set_right_by_moments(database: Engine) -> None:
    with database.begin() as conn:
        assert lease.acquire(conn, "poll:x", "a", MINUTE + timedelta(seconds=30)) is not None
        assert lease.acquire(conn, "poll:x", "b", MINUTE) is None


def test_lease_taken_for_long_is_kept_from_who_would_take_it_for_less(database: Engine) -> None:
    with database.begin() as conn:
        assert lease.acquire(conn, "report:2026-10", "a", timedelta(days=35)) is not None
        assert lease.acquire(conn, "report:2026-10", "b", MINUTE, longest=timedelta(days=35)) is None


def test_replica_that_seems_to_live_for_years_dies_unless_it_says_that_it_lives(database: Engine) -> None:
    alive(database, "dead", "a spool", MINUTE + YEARS)
    alive(database, "slow", "another spool", MINUTE + timedelta(seconds=30))
    alive(database, "ours", "our spool")
    with database.begin() as conn:
        until = {row.id: row.alive_until - lease.database_time(conn) for row in conn.execute(select(replica))}
    assert timedelta(0) < until["dead"] <= 2 * MINUTE
    assert until["slow"] > MINUTE
    with database.begin() as conn:
        conn.execute(update(replica).values(alive_until=lease.database_time(conn) + YEARS))
    alive(database, "dead", "a spool")  # it lives after all, and its claims were not taken from it meanwhile
    with database.begin() as conn:
        assert all(row.alive_until - lease.database_time(conn) <= MINUTE for row in conn.execute(select(replica)))


@pytest.mark.parametrize("first", ["a request", "a pause"])
def test_turn_that_a_clock_far_ahead_booked_is_not_waited_for(database: Engine, first: str) -> None:
    rate = Rate(60, MINUTE)
    with database.begin() as conn:
        budget.reserve(conn, "key", rate, 1)
        conn.execute(update(tables.budget).values(next_free=lease.database_time(conn) + YEARS))
        if first == "a pause":
            budget.postpone(conn, "key", rate, timedelta(seconds=30))
            assert timedelta(seconds=25) < budget.reserve(conn, "key", rate, 1) <= timedelta(seconds=30)
        else:
            assert budget.reserve(conn, "key", rate, 1) == timedelta(0)
            assert timedelta(0) < budget.reserve(conn, "key", rate, 1) <= timedelta(seconds=1)


def test_long_queue_at_a_slow_credential_is_waited_for(database: Engine) -> None:
    rate = Rate(10, timedelta(hours=1))
    with database.begin() as conn:
        waits = [budget.reserve(conn, "key", rate, 1) for _ in range(200)]
    assert waits[-1] > timedelta(hours=19)
