"""Sets up engines so that a commit is durable and a reader sees one instant, on both databases."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import Connection, DateTime, Dialect, Engine, MetaData, Text, TypeDecorator, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from archiver.database.errors import translated
from archiver.database.transport import tls_settings
from archiver.errors import ConfigurationError
from archiver.instants import precise

T = TypeVar("T")

# Constraint names are part of the schema: migrations drop them by name.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

# Each connection states how SQLite starts its transaction; a writer that began as a reader could meet SQLITE_BUSY half
# way.
BEGIN = "archiver_begin"

# WAL can corrupt the file before this version when two connections checkpoint at once (sqlite.org/wal.html, "WAL-reset
# bug").
_WAL_SAFE = (3, 51, 3)

_POSTGRESQL_LIMITS = "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s"


class UtcDateTime(TypeDecorator[datetime]):
    """A column type for instants: aware values in, aware UTC values out, whole microseconds.

    It is `timestamptz` on PostgreSQL, and text of fixed width on SQLite, so that comparing text compares instants. A
    naive value is refused with ValueError: guessing a zone would move deadlines.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        instant = value.astimezone(UTC)
        if dialect.name == "sqlite":
            return precise(value)
        return instant

    def process_result_value(self, value: datetime | str | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
        return instant.astimezone(UTC)


class db_now(FunctionElement[datetime]):  # noqa: N801  reads as the SQL function that it is
    """The database's clock at the statement, not at the transaction's start: leases of several hosts need one clock.

    Its resolution is microseconds on PostgreSQL, milliseconds on SQLite.
    """

    type = UtcDateTime()
    inherit_cache = True


@compiles(db_now, "postgresql")
def _postgresql_now(_element: db_now, _compiler: SQLCompiler, **_options: object) -> str:
    return "clock_timestamp()"


@compiles(db_now, "sqlite")
def _sqlite_now(_element: db_now, _compiler: SQLCompiler, **_options: object) -> str:
    return "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')"


def create_engine(url: str, state_dir: Path | None) -> Engine:
    """Returns an engine for `url`; connects to nothing yet and creates no file.

    `sqlite:///archiver.db` is relative to `state_dir`, `sqlite:////var/lib/archiver.db` is absolute; `postgresql://`
    means psycopg 3, over TLS that verifies the server where it is another machine (`?sslmode=…` says otherwise). Raises
    `ConfigurationError` for anything else, and never repeats the URL, which may hold a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError("the database URL cannot be parsed") from None
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite":
        return _sqlite(parsed, state_dir)
    if kind in {"postgresql", "postgres"}:
        return _postgresql(parsed)
    raise ConfigurationError(f"database {kind!r} is not supported; use sqlite or postgresql")


def _sqlite(url: URL, state_dir: Path | None) -> Engine:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ConfigurationError("SQLite needs a plain file, as in sqlite:///archiver.db")
    path = Path(url.database)
    if not path.is_absolute():
        if state_dir is None:
            raise ConfigurationError("a relative SQLite path needs a state_dir")
        path = state_dir / path
    # mode=rw: only `upgrade` creates the file, so that looking at a missing database does not leave an empty one
    # behind.
    address = f"file:{quote(str(path.absolute()))}?mode=rw"
    engine = sqlalchemy.create_engine(
        URL.create("sqlite", database=str(path)),
        creator=lambda: sqlite3.connect(address, uri=True, timeout=30, isolation_level=None, check_same_thread=False),
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    wal = sqlite3.sqlite_version_info >= _WAL_SAFE
    for pragma in (
        "busy_timeout=30000",
        "foreign_keys=ON",
        "trusted_schema=OFF",
        "recursive_triggers=ON",  # else INSERT OR REPLACE deletes rows without firing their delete triggers
        f"journal_mode={'WAL' if wal else 'DELETE'}",
        f"synchronous={'FULL' if wal else 'EXTRA'}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(conn: Connection) -> None:
    conn.exec_driver_sql(conn.get_execution_options().get(BEGIN, "BEGIN IMMEDIATE"))


def _postgresql(url: URL) -> Engine:
    options = url.query.get("options", "")
    connect_timeout = str(url.query.get("connect_timeout", "10"))
    if not connect_timeout.isdecimal():
        raise ConfigurationError("connect_timeout in the database URL is not a number of seconds")
    return sqlalchemy.create_engine(
        url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
        connect_args={
            "options": f"{_POSTGRESQL_LIMITS} {options if isinstance(options, str) else ' '.join(options)}".rstrip(),
            "application_name": url.query.get("application_name", "archiver"),
            "connect_timeout": int(connect_timeout),
            "keepalives": 1,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            **tls_settings(url),
            "prepare_threshold": None,  # prepared statements do not survive a transaction pooler such as PgBouncer
        },
        pool_pre_ping=True,
        hide_parameters=True,
    )


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Opens a connection that sees one instant of the database and, on PostgreSQL, cannot write.

    Keep the block short: on SQLite a reader may hold up the writer. Raises `UnavailableError`.
    """
    with translated(), engine.connect() as conn:
        if engine.dialect.name == "sqlite":
            yield conn.execution_options(**{BEGIN: "BEGIN"})
        else:
            yield conn.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


async def read(engine: Engine, fn: Callable[[Connection], T]) -> T:
    """Runs `fn` over one instant of the database, in a thread. Raises `UnavailableError`, and whatever `fn` raises."""

    def blocking() -> T:
        with reading(engine) as conn:
            return fn(conn)

    return await asyncio.to_thread(blocking)
