"""Reads columns that may hold anything, as bytes first, and interprets the bytes only as far as possible. Reads in
pages by key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    bindparam,
    tuple_,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

PAGE = 1000
LOWEST, HIGHEST = -(2**63), 2**63 - 1


class _bytes_of(FunctionElement[bytes]):  # noqa: N801  reads as the SQL function that it is
    type = LargeBinary()
    inherit_cache = True


@compiles(_bytes_of, "sqlite")
def _in_sqlite(element: _bytes_of, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS BLOB)"


@compiles(_bytes_of, "postgresql")
def _in_postgresql(element: _bytes_of, compiler: SQLCompiler, **options: Any) -> str:
    return f"convert_to(CAST({compiler.process(element.clauses, **options)} AS TEXT), 'UTF8')"


def kept(column: ColumnElement[Any]) -> Any:
    """Returns the bytes of a column of text or time, under the column's name. A driver would raise on text that is not
    UTF-8."""
    return _bytes_of(column).label(str(column.key))


def as_text(raw: bytes) -> str:
    """Returns printable text in every case, since it goes to terminals and tickets: all other bytes and characters are
    escaped."""
    text = raw.decode(errors="backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def as_time(raw: bytes) -> datetime | None:
    """Returns the instant; None for bytes that are no time with a zone."""
    try:
        at = datetime.fromisoformat(raw.decode())
    except ValueError:
        return None
    return None if at.tzinfo is None else at


def number(name: str) -> BindParameter[int]:
    """Returns a parameter for any integer column, whatever its width."""
    return bindparam(name, type_=BigInteger)


def behind(*key: Column[int]) -> Any:
    """Returns the condition that a row's key is larger than the `cursor`'s."""
    after = [number(f"after_{column.name}") for column in key]
    return key[0] > after[0] if len(key) == 1 else tuple_(*key) > tuple_(*after)


def cursor(after: dict[str, int]) -> dict[str, int]:
    """Returns the parameters that `behind` compares with."""
    return {f"after_{name}": value for name, value in after.items()}


def paged(conn: Connection, query: Select[Any], after: dict[str, int], **fixed: int) -> Iterator[Any]:
    """Yields the rows of `query`, which is limited and ordered by key, behind the key `after`; one page is in memory at
    a time."""
    while page := conn.execute(query, {**cursor(after), **fixed}).all():
        yield from page
        after = {name: getattr(page[-1], name) for name in after}
