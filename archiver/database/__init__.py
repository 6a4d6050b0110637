"""Gives the only access to SQL: SQLite for a single process, PostgreSQL for any number of replicas.

Promises: writes go through one thread and are on disk when the answer comes; a write that fails leaves nothing; times
are aware UTC in and out; no exception of SQLAlchemy or of a driver passes `Writer`, `read` or `reading`, and no bound
value is in an error.
"""

from sqlalchemy import Connection, Engine

from archiver.database.connection import UtcDateTime, create_engine, db_now, metadata, read, reading
from archiver.database.schema import Upgrade, check_schema, current_revision, head_revision, revision, upgrade
from archiver.database.sessions import idle_session
from archiver.database.writer import Writer

__all__ = [
    "Connection",
    "Engine",
    "Upgrade",
    "UtcDateTime",
    "Writer",
    "check_schema",
    "create_engine",
    "current_revision",
    "db_now",
    "head_revision",
    "idle_session",
    "metadata",
    "read",
    "reading",
    "revision",
    "upgrade",
]
