"""The database counts recordings by day itself: whatever changes a row, the counts are those of the rows."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, text, update

from archiver.database import create_engine, reading, upgrade
from archiver.ingest.day_counts import day_counts, recount, states, wrong
from archiver.ingest.tables import recording, recording_day

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def _row(name: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"{name:036d}", "identity": f"i{name}", "revision": "r", "provider": "p", "account": "a",
        "provider_recording_id": f"r{name}", "variant": "", "state": "listed", "flags": "[]", "call_started_at": NOON,
        "duration_ms": 61_000, "metadata": "{}", "raw": b"{}", "stable_digest": "d" * 64, "listed_at": NOON,
        "last_seen_at": NOON, "ready": True, **changes,
    }  # fmt: skip


def test_each_change_of_a_row_moves_it_to_the_count_that_it_belongs_to(database: Engine) -> None:
    with database.begin() as conn:
        conn.execute(
            insert(recording),
            [_row(1), _row(2, call_started_at=None), _row(3, metadata='{"recording_storage_rate": 0.002}')],
        )
        conn.execute(
            update(recording).where(recording.c.id == f"{1:036d}").values(state="archived", plaintext_bytes=480_000)
        )
        conn.execute(update(recording).where(recording.c.id == f"{2:036d}").values(state="absent"))
    with reading(database) as conn:
        found = {(each.state, each.silent, each.rate): each for each in day_counts(conn, "p")}
        assert {key: each.n for key, each in found.items()} == {
            ("archived", False, ""): 1, ("absent", True, ""): 1, ("listed", False, "0.002"): 1,
        }  # fmt: skip
        kept = found["archived", False, ""]
        assert (kept.bytes, kept.ms, kept.minutes, kept.unweighed_ms) == (480_000, 61_000, 2, 0)
        assert found["listed", False, "0.002"].unweighed_ms == 61_000
        assert found["absent", True, ""].minutes == 0  # a call of which nobody knows when it began has no price
        assert states(conn) == {"p": {"archived": 1, "absent": 1, "listed": 1}}
        assert wrong(conn) == []


def test_any_sequence_of_changes_leaves_counts_that_the_rows_agree_with(database: Engine) -> None:
    rng = random.Random(20261130)
    alive: list[int] = []
    with database.begin() as conn:
        for step in range(400):
            choice = rng.random()
            if choice < 0.5 or not alive:
                started = None if rng.random() < 0.1 else NOON + timedelta(hours=rng.randrange(-80, 80))
                odd = rng.choice(
                    ["{}", '{"recording_storage_rate": "0.01"}', '{"note": "\\u0000 : \\ud800"}', "no JSON"]
                )
                conn.execute(
                    insert(recording), [_row(step, call_started_at=started, metadata=odd, provider=rng.choice("pq"))]
                )
                alive.append(step)
            elif choice < 0.9:
                conn.execute(update(recording).where(recording.c.id == f"{rng.choice(alive):036d}").values(_edit(rng)))
            else:
                conn.execute(delete(recording).where(recording.c.id == f"{alive.pop(rng.randrange(len(alive))):036d}"))
        conn.execute(update(recording).where(recording.c.provider == "q").values(provider="renamed"))
        assert wrong(conn) == []
        assert sum(each.n for each in day_counts(conn)) == len(alive)


def _edit(rng: random.Random) -> dict[str, Any]:
    return rng.choice(
        [
            {"state": rng.choice(["listed", "waiting", "spooled", "archived", "absent", "gone"])},
            {"attempts": rng.randrange(3)},
            {"plaintext_bytes": rng.choice([None, 5_000])},
            {"duration_ms": rng.choice([None, 0, 59_000, 61_000])},
            {"call_started_at": NOON + timedelta(hours=rng.randrange(-80, 80))},
            {"last_seen_at": NOON + timedelta(hours=1)},
            {"variant": rng.choice(["", "original"])},
        ]
    )


def test_days_are_those_of_utc_and_a_span_leaves_out_its_end(database: Engine) -> None:
    east = datetime.fromisoformat("2026-11-22T01:00:00+05:30")  # still the 21st in UTC
    with database.begin() as conn:
        conn.execute(
            insert(recording), [_row(1, call_started_at=east), _row(2, call_started_at=NOON + timedelta(days=1))]
        )
        assert [each.day for each in day_counts(conn)] == [date(2026, 11, 21), date(2026, 11, 22)]
        assert [each.day for each in day_counts(conn, "p", date(2026, 11, 21), date(2026, 11, 22))] == [
            date(2026, 11, 21)
        ]
        assert list(day_counts(conn, "other")) == []


def test_a_change_that_is_rolled_back_leaves_the_counts(database: Engine) -> None:
    with database.begin() as conn:
        conn.execute(insert(recording), [_row(1)])
    with database.connect() as conn, conn.begin() as transaction:
        conn.execute(insert(recording), [_row(2)])
        transaction.rollback()
    with reading(database) as conn:
        assert (states(conn), wrong(conn)) == ({"p": {"listed": 1}}, [])


def test_a_count_that_was_changed_by_hand_is_named_and_made_anew(database: Engine) -> None:
    with database.begin() as conn:
        conn.execute(insert(recording), [_row(1)])
        conn.execute(update(recording_day).values(n=recording_day.c.n + 4))
        assert wrong(conn) == ["p 2026-11-21 listed: 5 counted", "p 2026-11-21 listed: 1 there"]
        recount(conn)
        assert wrong(conn) == []


def test_an_older_database_is_counted_when_it_is_upgraded(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url, None)
    upgrade(engine)
    with engine.begin() as conn:
        conn.execute(insert(recording), [_row(1), _row(2, state="archived", plaintext_bytes=7)])
        _back_to_9(conn)
    upgrade(engine)
    with reading(engine) as conn:
        assert (states(conn), wrong(conn)) == ({"p": {"listed": 1, "archived": 1}}, [])
    engine.dispose()


def _back_to_9(conn: Connection) -> None:
    where = " ON recording" if conn.dialect.name == "postgresql" else ""
    names = ["insert", "delete", "update"] if conn.dialect.name == "sqlite" else ["rows", "update"]
    for name in names:
        conn.execute(text(f"DROP TRIGGER recording_day_{name}{where}"))
    for name in ("order", "provider_id", "sealed", "length", "archived", "denied", "flagged_order"):
        conn.execute(text(f"DROP INDEX recording_{name}"))
    for name in ("unread", "read"):
        conn.execute(text(f"DROP INDEX copy_{name}"))
    conn.execute(text("DROP TABLE recording_day"))
    conn.execute(text("UPDATE alembic_version SET version_num = '0009'"))
