"""Engines and types, on both databases."""

from __future__ import annotations

import sqlite3
import traceback
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, insert, select, text
from sqlalchemy.exc import StatementError

from archiver.database import UtcDateTime, Writer, create_engine, db_now, read, reading
from archiver.errors import ArchiverError, ConfigurationError, UnavailableError

instants = Table("instants", MetaData(), Column("id", Integer, primary_key=True), Column("at", UtcDateTime))

TIMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC),
    datetime(2026, 11, 20, 12, 34, 56, 1, tzinfo=UTC),
    datetime(2026, 11, 20, 18, 4, 56, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]


def test_instants_come_back_equal_and_sort_as_they_are(database: Engine) -> None:
    with database.begin() as conn:
        instants.create(conn)
        conn.execute(insert(instants), [{"id": number, "at": at} for number, at in enumerate(reversed(TIMES))])
        back = list(conn.execute(select(instants.c.at).order_by(instants.c.at)).scalars())
        after = list(
            conn.execute(select(instants.c.at).where(instants.c.at > TIMES[2]).order_by(instants.c.at)).scalars()
        )
    assert back == TIMES
    assert after == TIMES[3:]
    assert all(at.tzinfo is UTC for at in back)


def test_time_without_a_zone_is_refused(database: Engine) -> None:
    with database.begin() as conn:
        instants.create(conn)
        with pytest.raises(StatementError, match="without a zone"):
            conn.execute(insert(instants).values(at=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_database_clock_is_an_instant_and_moves_within_a_transaction(database: Engine) -> None:
    with database.begin() as conn:
        first = conn.execute(select(db_now())).scalar_one()
        conn.execute(text("SELECT pg_sleep(0.01)" if database.dialect.name == "postgresql" else "SELECT 1"))
        if database.dialect.name == "sqlite":
            while conn.execute(select(db_now())).scalar_one() == first:
                pass
        second = conn.execute(select(db_now())).scalar_one()
    assert first < second
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=5)


def test_database_clock_compares_with_stored_instants(database: Engine) -> None:
    with database.begin() as conn:
        instants.create(conn)
        conn.execute(insert(instants), [{"id": 1, "at": TIMES[0]}, {"id": 2, "at": TIMES[-1]}])
        assert conn.execute(select(instants.c.id).where(instants.c.at < db_now())).scalars().all() == [1]


def test_reader_sees_one_instant(database: Engine) -> None:
    with database.begin() as conn:
        instants.create(conn)
    with reading(database) as conn:
        assert conn.execute(select(instants.c.id)).all() == []
        if database.dialect.name == "postgresql":  # a SQLite writer waits for the reader instead
            with database.begin() as other:
                other.execute(insert(instants).values(id=1))
        assert conn.execute(select(instants.c.id)).all() == []


async def test_reader_cannot_write_on_postgresql(database: Engine) -> None:
    if database.dialect.name == "sqlite":
        return
    with pytest.raises(UnavailableError, match="read-only"):
        await read(database, instants.create)


def test_sqlite_is_set_up_for_durability(tmp_path: Path) -> None:
    (tmp_path / "archiver.db").touch()
    engine = create_engine("sqlite:///archiver.db", tmp_path)
    wal = sqlite3.sqlite_version_info >= (3, 51, 3)
    expected = {
        "journal_mode": "wal" if wal else "delete",
        "synchronous": 2 if wal else 3,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "recursive_triggers": 1,
        "busy_timeout": 30000,
    }
    with reading(engine) as conn:
        assert {name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in expected} == expected
    engine.dispose()


def test_postgresql_connection_has_limits(database: Engine) -> None:
    if database.dialect.name == "sqlite":
        return
    with reading(database) as conn:
        for name, value in (
            ("statement_timeout", "30s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "1min"),
            ("application_name", "archiver"),
        ):
            assert conn.exec_driver_sql(f"SHOW {name}").scalar_one() == value


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "cannot be parsed"),
        ("mysql://user:hunter2@db/archiver", "not supported"),
        ("sqlite://", "plain file"),
        ("sqlite:///:memory:", "plain file"),
        ("sqlite:///file:x?mode=memory&uri=true", "plain file"),
        ("sqlite:///archiver.db", "needs a state_dir"),
        ("postgresql://user:hunter2@db/archiver?connect_timeout=soon", "connect_timeout"),
    ],
)
def test_url_that_cannot_be_used_is_named_without_its_password(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        create_engine(url, None)
    assert "hunter2" not in str(caught.value)


def test_postgres_scheme_of_other_tools_is_accepted() -> None:
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        engine = create_engine(f"{scheme}://u:p@db/archiver?options=-c%20search_path%3Darchive", None)
        assert engine.dialect.driver == "psycopg"
        assert "options" not in engine.url.query


async def test_unreachable_database_is_unavailable_and_says_nothing_of_the_password() -> None:
    engine = create_engine("postgresql://user:hunter2@127.0.0.1:1/archiver", None)
    with pytest.raises(UnavailableError) as caught:
        await read(engine, lambda conn: conn.execute(text("SELECT 1")))
    assert "hunter2" not in str(caught.value)


def test_error_quotes_no_value(database: Engine) -> None:
    with database.begin() as conn:
        conn.execute(text("CREATE TABLE calls (number text PRIMARY KEY, length integer NOT NULL CHECK (length > 0))"))
        conn.execute(text("INSERT INTO calls VALUES ('+49 30 1234', 1)"))
    for statement in (
        "INSERT INTO calls VALUES ('+49 30 1234', 2)",
        "INSERT INTO calls VALUES ('+49 30 1234', NULL)",
        "INSERT INTO calls VALUES (:number, -1)",
        "SELECT CAST('+49 30 1234' AS integer) FROM no_such_table",
    ):
        parameters = {"number": "+49 30 1234"} if ":number" in statement else {}
        writer = Writer(database)
        with pytest.raises(ArchiverError) as caught:
            writer.run_sync(lambda conn, s=statement, p=parameters: conn.execute(text(s), p))
        writer.close()
        assert "+49" not in "".join(traceback.format_exception(caught.value)).replace(statement, "")
