"""Leases, heartbeats and rate budgets by the database's clock, on both databases."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, select

from archiver.schedule import budget, lease
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
