"""Reads custody events as they were kept, without interpreting their bytes. Imports nothing that writes.

A subject's chain is its events in the log and, behind them, those that still wait in the queue;
`archiver.translog.reader` knows the place of an event in the log. Refused rows belong to neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select, union

from archiver.custody.chain import Head
from archiver.custody.event import Entry, Type
from archiver.custody.tables import (
    TYPE_NUMBERS,
    custody_event,
    custody_pending,
    custody_private,
    custody_subject,
    custody_subject_event,
)
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


@dataclass(frozen=True, slots=True)
class Disclosed:
    """The number of a subject's newest event, and the subject's private groups: (seq, name, group), in the order of the
    events."""

    head_seq: int
    groups: list[tuple[int, str, Private]]


# Built once: making statements costs more than running them.
_IN_LOG: Select[Any] = select(
    custody_event.c.log_id,
    custody_event.c.leaf_index,
    custody_subject.c.subject,
    custody_subject_event.c.seq,
    custody_event.c.entry,
).select_from(
    custody_subject.join(
        custody_subject_event, custody_subject_event.c.subject_no == custody_subject.c.subject_no
    ).join(
        custody_event,
        (custody_event.c.log_id == custody_subject_event.c.log_id)
        & (custody_event.c.leaf_index == custody_subject_event.c.leaf_index),
    )
)
_WAITING: Select[Any] = select(
    custody_pending.c.pid, custody_subject.c.subject, custody_pending.c.seq, custody_pending.c.entry
).join(custody_subject)

# One statement sees one instant, in which an event is in the log or in the queue. UNION, not UNION ALL: a restored
# queue may hold what the log has.
_OF_SUBJECT = union(
    _IN_LOG.with_only_columns(custody_subject.c.subject, custody_subject_event.c.seq, custody_event.c.entry).where(
        custody_subject.c.subject == bindparam("of")
    ),
    _WAITING.with_only_columns(custody_subject.c.subject, custody_pending.c.seq, custody_pending.c.entry).where(
        custody_subject.c.subject == bindparam("of")
    ),
).order_by("seq")
_ONE = union(
    _IN_LOG.with_only_columns(custody_subject.c.subject, custody_subject_event.c.seq, custody_event.c.entry).where(
        custody_subject.c.subject == bindparam("of"), custody_subject_event.c.seq == bindparam("number")
    ),
    _WAITING.with_only_columns(custody_subject.c.subject, custody_pending.c.seq, custody_pending.c.entry).where(
        custody_subject.c.subject == bindparam("of"), custody_pending.c.seq == bindparam("number")
    ),
)


def entries(conn: Connection, subject: str) -> list[Entry]:
    """Returns the subject's events, in the order of `seq`; an empty list when there is no such subject."""
    return [_entry(row) for row in conn.execute(_OF_SUBJECT, {"of": subject})]


def entry(conn: Connection, subject: str, seq: int) -> Entry | None:
    """Returns one event of the subject; None when the subject has no event of this number."""
    row = conn.execute(_ONE, {"of": subject, "number": seq}).first()
    return None if row is None else _entry(row)


def head(conn: Connection, subject: str) -> Head | None:
    """Returns the place of the subject's newest event, as the subject's own row states it; None when nothing was ever
    appended."""
    row = conn.execute(select(custody_subject).where(custody_subject.c.subject == subject)).one_or_none()
    return None if row is None or row.head_seq < 0 else Head(row.head_seq, row.head_hash)


def subjects(conn: Connection, *, prefix: str = "", after: str = "", limit: int = _PAGE) -> list[str]:
    """Returns up to `limit` subjects that begin with `prefix` and sort (by code point) behind `after`. An empty list is
    the end."""
    name = custody_subject.c.subject
    # PostgreSQL would otherwise sort by the database's locale, and a page could step over a subject.
    order = name.collate("C") if conn.dialect.name == "postgresql" else name
    query = select(name).where(order > after, name.startswith(prefix, autoescape=True)).order_by(order).limit(limit)
    return list(conn.execute(query).scalars())


def private(conn: Connection, subject: str, seq: int) -> dict[str, Private]:
    """Returns the private groups of one event that were not erased, by name."""
    table = custody_private
    query = (
        select(table.c.grp, table.c.salt, table.c.data)
        .join(custody_subject)
        .where(custody_subject.c.subject == subject, table.c.seq == seq)
    )
    return {row.grp: Private(row.salt, row.data) for row in conn.execute(query)}


def of_type(conn: Connection, subject: str, kind: Type, before: int, limit: int = _PAGE) -> list[Entry]:
    """Returns up to `limit` of the subject's events of this type in the log, below number `before`, the newest
    first."""
    wanted = {"of": subject, "kind": TYPE_NUMBERS[kind], "before": before, "most": limit}
    return [Entry(row.subject, row.seq, row.entry) for row in conn.execute(_OF_TYPE, wanted)]


def waiting(conn: Connection, subject: str) -> list[Entry]:
    """Returns the subject's events that are not in the log yet, in the order of the queue."""
    return [_entry(row) for row in conn.execute(_OF_QUEUE, {"of": subject})]


_OF_QUEUE = _WAITING.where(custody_subject.c.subject == bindparam("of")).order_by(custody_pending.c.pid)
_OF_TYPE = (
    _IN_LOG.with_only_columns(custody_subject.c.subject, custody_subject_event.c.seq, custody_event.c.entry)
    .where(
        custody_subject.c.subject == bindparam("of"),
        custody_subject_event.c.type_no == bindparam("kind"),
        custody_subject_event.c.seq < bindparam("before"),
    )
    .order_by(custody_subject_event.c.seq.desc())
    .limit(bindparam("most"))
)


def disclosures(conn: Connection, names: Sequence[str]) -> dict[str, Disclosed]:
    """Returns, for each of these subjects that exists, its newest event's number and all its groups that were not
    erased."""
    found = {row.subject: Disclosed(row.head_seq, []) for row in conn.execute(_HEADS, {"subjects": list(names)})}
    for row in conn.execute(_DISCLOSED, {"subjects": list(names)}):
        found[row.subject].groups.append((row.seq, row.grp, Private(row.salt, row.data)))
    return found


_NAMED = custody_subject.c.subject.in_(bindparam("subjects", expanding=True))
_HEADS = select(custody_subject.c.subject, custody_subject.c.head_seq).where(_NAMED)
_DISCLOSED = (
    select(
        custody_subject.c.subject,
        custody_private.c.seq,
        custody_private.c.grp,
        custody_private.c.salt,
        custody_private.c.data,
    )
    .join(custody_subject)
    .where(_NAMED)
    .order_by(custody_private.c.subject_no, custody_private.c.seq, custody_private.c.grp)
)


def _entry(row: Row[Any]) -> Entry:
    return Entry(row.subject, row.seq, row.entry)
