"""Moves a provider's gaps and statements to another name."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from archiver.completeness.tables import gap, statement


def knows(conn: Connection, provider: str) -> bool:
    """Tell whether there are gaps or statements of this provider, which must not be mixed with another's."""
    tables = (gap, statement)
    found = (
        conn.execute(select(each.c.provider).where(each.c.provider == provider).limit(1)).first() for each in tables
    )
    return any(found)


def move(conn: Connection, old: str, new: str) -> None:
    """Give the gaps and statements of `old` to `new`."""
    for table in (gap, statement):
        conn.execute(update(table).where(table.c.provider == old).values(provider=new))
