"""Compares the database's schema with the one that we know, and upgrades it: by a command, under a lock, never at
start-up."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from archiver.database.connection import reading
from archiver.database.errors import translated
from archiver.durable import sync_folder
from archiver.errors import ConfigurationError, SchemaError

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = 0x61726368697665  # "archive"; the number that every upgrade of an archiver's database locks
_COMMAND = "archiver db upgrade"


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The result of an upgrade. `before` is None for an empty database; `backup` is the copy taken of a SQLite file."""

    before: str | None
    after: str
    backup: Path | None = None


def head_revision() -> str:
    """Returns the schema that this version of the archiver knows."""
    known = _revisions()
    if not known:
        raise SchemaError("no migrations are installed")
    return known[-1]


def current_revision(engine: Engine) -> str | None:
    """Returns the schema that the database has; None when the database is empty or not there. Raises
    `UnavailableError`."""
    path = _file(engine)
    if path is not None and not path.exists():
        return None
    with reading(engine) as conn:
        return revision(conn)


def check_schema(engine: Engine) -> None:
    """Raises `SchemaError`, naming the command that helps, unless the database has exactly the schema that we know."""
    _compare(current_revision(engine), head_revision())


def upgrade(engine: Engine) -> Upgrade:
    """Brings the database to our schema, or leaves it as it was.

    The whole upgrade is one transaction under a lock: an upgrade that is killed half way has not happened, and of two
    upgrades at once the second finds nothing to do. A SQLite file is first copied beside itself. Raises `SchemaError`
    when the database is newer than we are.
    """
    head = head_revision()
    path = _file(engine)
    if path is not None:
        _create(path)
    with translated(), engine.begin() as conn:
        if path is None:
            _lock_postgresql(conn)
        before = revision(conn)
        if before == head:
            return Upgrade(before, head)
        _refuse_unknown(before)
        backup = None
        if path is not None and inspect(conn).get_table_names():
            backup = _copy(path, path.with_name(f"{path.name}.before-{head}"))
        _migrate(conn)
    return Upgrade(before, head, backup)


def _compare(current: str | None, head: str) -> None:
    if current is None:
        raise SchemaError(f"the database is empty; run: {_COMMAND}")
    _refuse_unknown(current)
    if current != head:
        raise SchemaError(f"the database is at {current}, this version needs {head}; run: {_COMMAND}")


def _refuse_unknown(found: str | None) -> None:
    if found is not None and found not in _revisions():
        raise SchemaError(f"the database is at {found}, which this version does not know; install a newer archiver")


def revision(conn: Connection) -> str | None:
    """Returns the schema as this connection sees it; None when there is none.

    Use this function while reading: a second connection would wait for the writer that waits for the first connection.
    """
    if not inspect(conn).has_table("alembic_version"):
        return None
    found: str | None = conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def _lock_postgresql(conn: Connection) -> None:
    # Waits long for another upgrade; after that gives up soon again, since a waiting ALTER TABLE holds up everybody
    # behind it.
    conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
    conn.exec_driver_sql("SET LOCAL lock_timeout = '10min'")
    conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    conn.exec_driver_sql("SET LOCAL lock_timeout = '5s'")


def _migrate(conn: Connection) -> None:
    from alembic import command
    from alembic.util import CommandError

    config = _config()
    config.attributes["connection"] = conn
    try:
        command.upgrade(config, "head")
    except CommandError as exc:
        raise SchemaError(str(exc)) from exc


def _revisions() -> list[str]:
    """Returns all schemas that we know, oldest first, by the names of their files: every command asks, and Alembic
    takes long to load."""
    return sorted(each.name.partition("_")[0] for each in _migrations().glob("versions/[0-9]*_*.py"))


def _migrations() -> Path:
    packaged = Path(__file__).parent.parent / "_data" / "migrations"
    checkout = Path(__file__).parent.parent.parent / "migrations"
    return packaged if packaged.is_dir() else checkout


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _file(engine: Engine) -> Path | None:
    return Path(engine.url.database) if engine.dialect.name == "sqlite" and engine.url.database else None


def _create(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as exc:
        raise ConfigurationError(f"the database file {path} cannot be created: {exc.strerror}") from exc


def _copy(path: Path, target: Path) -> Path:
    """Copies the database, which nobody else can write meanwhile: the caller's transaction has reserved it. The copy is
    durable on return."""
    part = target.with_name(target.name + ".part")
    try:
        part.unlink(missing_ok=True)
        _create(part)
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
        part.replace(target)
        sync_folder(target.parent)
    except (OSError, sqlite3.Error) as exc:
        raise ConfigurationError(f"the database could not be copied to {target} before the upgrade") from exc
    return target
