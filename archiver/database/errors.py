"""Translates the database's errors for callers, and keeps the data out of them."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard

from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from archiver.errors import ArchiverError, UnavailableError

if TYPE_CHECKING:
    import psycopg


@contextmanager
def translated() -> Iterator[None]:
    """Turns every exception of SQLAlchemy inside the block into an error of the archiver."""
    try:
        yield
    except SQLAlchemyError as exc:
        # Not `from exc`: PostgreSQL's DETAIL line quotes the row, and tracebacks end up in logs.
        raise translate(exc).with_traceback(exc.__traceback__) from None


def translate(exc: SQLAlchemyError) -> ArchiverError:
    """Returns `UnavailableError` when trying again may help, otherwise `ArchiverError`: a bug, or evidence that refused
    to change."""
    if isinstance(exc, OperationalError | InterfaceError | InternalError | DisconnectionError | PoolTimeoutError):
        return UnavailableError(f"database: {describe(exc)}")
    return ArchiverError(f"database: {describe(exc)}")


def describe(exc: SQLAlchemyError) -> str:
    """Returns the error's kind and, where the message cannot quote data, its message."""
    cause = exc.orig if isinstance(exc, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        return f"{type(cause).__name__} {getattr(cause, 'sqlite_errorname', '')}: {cause}"
    if _of_postgresql(cause):
        state = cause.sqlstate or ""
        # Class 22 (data exception) quotes the value in its primary message; the others quote it in DETAIL only.
        message = (cause.diag.message_primary if state else str(cause).partition("\n")[0]) or ""
        return f"{type(cause).__name__} {state}: {'' if state.startswith('22') else message}".rstrip(": ")
    return type(exc).__name__


def undoes_all(exc: SQLAlchemyError) -> bool:
    """Tells whether the whole transaction is lost, or another try, alone, may well succeed.

    So it is with deadlock and serialization failures, a lost connection, a disk error, and two transactions that insert
    the same key.
    """
    if isinstance(exc, DBAPIError) and exc.connection_invalidated:
        return True
    cause = getattr(exc, "orig", None)
    if _of_postgresql(cause):
        return (cause.sqlstate or "40").startswith("40") or cause.sqlstate == "23505"
    return isinstance(exc, OperationalError)


def surely_not_committed(exc: SQLAlchemyError) -> bool:
    """Tells whether the answer to COMMIT says that nothing was kept. Any other answer leaves that open: never guess
    from a message."""
    cause = getattr(exc, "orig", None)
    if _of_postgresql(cause):
        state = cause.sqlstate or ""
        return state.startswith(("40", "23")) and state != "40003"
    # SQLite answers BUSY before it has written anything of the commit, and a deferred foreign key before that.
    busy = getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    return busy or isinstance(exc, IntegrityError)


def _of_postgresql(cause: object) -> TypeGuard[psycopg.Error]:
    """Tells whether `cause` is an error of the PostgreSQL driver, which is loaded only where there is such a
    database."""
    driver = sys.modules.get("psycopg")
    return driver is not None and isinstance(cause, driver.Error)
