"""The reading side of custody: bytes as they were kept, never interpreted here. Imports nothing that writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from archiver.custody.chain import Head
from archiver.custody.event import Entry
from archiver.custody.tables import custody_pending, custody_private, custody_subject
from archiver.recording import Json

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Private:
    """A private group of one event: its salt and the canonical bytes that, together, give the event's commitment."""

    salt: bytes
    raw: bytes

    @property
    def data(self) -> Mapping[str, Json]:
        """The group as a value."""
        value: Mapping[str, Json] = json.loads(self.raw)
        return value


def entries(conn: Connection, subject: str) -> list[Entry]:
    """The subject's events, in the order of `seq`; empty when there is no such subject."""
    query = _entries().where(custody_subject.c.subject == subject).order_by(custody_pending.c.seq)
    return [_entry(row) for row in conn.execute(query)]


def head(conn: Connection, subject: str) -> Head | None:
    """The newest event's place, as the subject's own row says it; None when nothing was ever appended."""
    row = conn.execute(select(custody_subject).where(custody_subject.c.subject == subject)).one_or_none()
    return None if row is None or row.head_seq < 0 else Head(row.head_seq, row.head_hash)


def subjects(conn: Connection, *, prefix: str = "", after: str = "", limit: int = _PAGE) -> list[str]:
    """Up to `limit` subjects that begin with `prefix` and sort (by code point) behind `after`. An empty list is the end."""
    name = custody_subject.c.subject
    # PostgreSQL would otherwise sort by the database's locale, and a page could step over a subject.
    order = name.collate("C") if conn.dialect.name == "postgresql" else name
    query = select(name).where(order > after, name.startswith(prefix, autoescape=True)).order_by(order).limit(limit)
    return list(conn.execute(query).scalars())


def walk(conn: Connection) -> Iterator[Entry]:
    """Every event in the order of arrival, a page in memory at a time.

    Use one `reading()` connection for the whole walk: a page read later, in another transaction, could miss an event that got
    its number early and was committed late.
    """
    pid = 0
    while True:
        page = conn.execute(
            _entries().where(custody_pending.c.pid > pid).order_by(custody_pending.c.pid).limit(_PAGE)
        ).all()
        if not page:
            return
        yield from map(_entry, page)
        pid = page[-1].pid


def count(conn: Connection) -> int:
    """How many events there are."""
    return conn.execute(select(func.count()).select_from(custody_pending)).scalar_one()


def private(conn: Connection, subject: str, seq: int) -> dict[str, Private]:
    """The private groups of one event that were not erased, by name."""
    table = custody_private
    query = (
        select(table.c.grp, table.c.salt, table.c.data)
        .join(custody_subject)
        .where(custody_subject.c.subject == subject, table.c.seq == seq)
    )
    return {row.grp: Private(row.salt, row.data) for row in conn.execute(query)}


def _entries() -> Select[Any]:
    return select(
        custody_pending.c.pid, custody_subject.c.subject, custody_pending.c.seq, custody_pending.c.entry
    ).join(custody_subject)


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.subject, row.seq, row.entry)
