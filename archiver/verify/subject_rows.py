"""Reads every row of the chains' tables as it stands: subjects, places in the log, queue and private data.

No content of a column can stop a check (`archiver.verify.raw`). All rows come in pages of one statement each. Use one
`reading()` connection for a whole check: between transactions events move from the queue to the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from archiver.custody.tables import (
    custody_event,
    custody_pending,
    custody_private,
    custody_subject,
    custody_subject_event,
)
from archiver.verify.raw import HIGHEST, LOWEST, PAGE, as_text, as_time, behind, kept, number, paged


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """A row of `custody_subject`."""

    number: int
    subject: str
    head_seq: int
    head_hash: bytes | None


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """A row of `custody_subject_event`, with the entry at that leaf, if there is one."""

    number: int
    seq: int
    log_id: int
    leaf: int
    type_no: int
    at: datetime | None
    entry: bytes | None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A row of `custody_pending`; `number` is the subject's number. Nobody writes `log_id`: the column's default stands
    in every row."""

    pid: int
    log_id: int
    number: int
    seq: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class PrivateRow:
    """A row of `custody_private`."""

    number: int
    seq: int
    group: str
    salt: bytes
    data: bytes


def subjects(conn: Connection, first: int = LOWEST, last: int = HIGHEST) -> Iterator[SubjectRow]:
    """Yields the subjects from number `first` to `last`."""
    for row in paged(conn, _SUBJECTS, {"subject_no": first - 1 if first > LOWEST else first}, last=last):
        yield SubjectRow(row.subject_no, as_text(row.subject), row.head_seq, row.head_hash)


def subject_number(conn: Connection, subject: str) -> int | None:
    """Returns the number of the subject of this name."""
    return conn.execute(_SUBJECT_NUMBER, {"of": subject}).scalar_one_or_none()


def places(conn: Connection, first: int = LOWEST, last: int = HIGHEST) -> Iterator[PlaceRow]:
    """Yields the index rows of the subjects `first` to `last`, of whatever log, by subject and number of the event."""
    after = {"subject_no": first, "seq": LOWEST, "log_id": LOWEST, "leaf_index": LOWEST}
    for row in paged(conn, _PLACES, after, last=last):
        yield PlaceRow(row.subject_no, row.seq, row.log_id, row.leaf_index, row.type_no, as_time(row.at), row.entry)


def unplaced(conn: Connection, log_id: int) -> Iterator[int]:
    """Yields the leaves that no row of the index points to."""
    yield from conn.execute(_UNPLACED, {"log": log_id}).scalars()


def queue(conn: Connection) -> Iterator[QueueRow]:
    """Yields every event that waits, in the order of arrival."""
    for row in paged(conn, _QUEUE, {"pid": LOWEST}):
        yield QueueRow(row.pid, row.log_id, row.subject_no, row.seq, row.entry)


def waiting(conn: Connection, first: int = LOWEST, last: int = HIGHEST) -> Iterator[QueueRow]:
    """Yields the events of the subjects `first` to `last` that wait, by subject and number of the event."""
    for row in paged(conn, _WAITING, {"subject_no": first, "seq": LOWEST, "pid": LOWEST}, last=last):
        yield QueueRow(row.pid, row.log_id, row.subject_no, row.seq, row.entry)


def private(conn: Connection, first: int = LOWEST, last: int = HIGHEST) -> Iterator[PrivateRow]:
    """Yields the private groups of the events of the subjects `first` to `last`, by subject and number of the event."""
    for row in paged(conn, _PRIVATE, {"subject_no": first, "seq": LOWEST}, last=last):
        yield PrivateRow(row.subject_no, row.seq, as_text(row.grp), row.salt, row.data)


# Statements, built once.
_leaf, _subject, _place = custody_event.c, custody_subject.c, custody_subject_event.c
_pending, _private = custody_pending.c, custody_private.c
_OF_LOG = number("log")

_SUBJECTS = (
    select(_subject.subject_no, kept(_subject.subject), _subject.head_seq, _subject.head_hash)
    .where(behind(_subject.subject_no), _subject.subject_no <= number("last"))
    .order_by(_subject.subject_no)
    .limit(PAGE)
)
_SUBJECT_NUMBER = select(_subject.subject_no).where(_subject.subject == bindparam("of"))
_PLACE_KEY = (_place.subject_no, _place.seq, _place.log_id, _place.leaf_index)
_PAGE_OF_PLACES = (
    select(custody_subject_event)
    .where(behind(*_PLACE_KEY), _place.subject_no <= number("last"))
    .order_by(*_PLACE_KEY)
    .limit(PAGE)
    .subquery()
)
_placed = _PAGE_OF_PLACES.c
_PLACES = (
    select(
        _placed.subject_no, _placed.seq, _placed.log_id, _placed.leaf_index, _placed.type_no, kept(_placed.at),
        _leaf.entry,
    )
    .outerjoin_from(
        _PAGE_OF_PLACES,
        custody_event,
        (_leaf.log_id == _placed.log_id) & (_leaf.leaf_index == _placed.leaf_index),
    )
    .order_by(_placed.subject_no, _placed.seq, _placed.log_id, _placed.leaf_index)
)  # fmt: skip
_UNPLACED = (
    select(_leaf.leaf_index)
    .outerjoin_from(
        custody_event,
        custody_subject_event,
        (_leaf.log_id == _place.log_id) & (_leaf.leaf_index == _place.leaf_index),
    )
    .where(_leaf.log_id == _OF_LOG, _place.leaf_index.is_(None))
    .order_by(_leaf.leaf_index)
)
_ROWS_WAITING = select(_pending.pid, _pending.log_id, _pending.subject_no, _pending.seq, _pending.entry).limit(PAGE)
_QUEUE = _ROWS_WAITING.where(behind(_pending.pid)).order_by(_pending.pid)
_WAITING_KEY = (_pending.subject_no, _pending.seq, _pending.pid)
_WAITING = _ROWS_WAITING.where(behind(*_WAITING_KEY), _pending.subject_no <= number("last")).order_by(*_WAITING_KEY)
_PAGE_OF_EVENTS = (  # whole events: the names of groups are not for comparing
    select(_private.subject_no, _private.seq)
    .where(behind(_private.subject_no, _private.seq), _private.subject_no <= number("last"))
    .distinct()
    .order_by(_private.subject_no, _private.seq)
    .limit(PAGE)
    .subquery()
)
_PRIVATE = (
    select(_private.subject_no, _private.seq, kept(_private.grp), _private.salt, _private.data)
    .join_from(
        custody_private,
        _PAGE_OF_EVENTS,
        (_private.subject_no == _PAGE_OF_EVENTS.c.subject_no) & (_private.seq == _PAGE_OF_EVENTS.c.seq),
    )
    .order_by(_private.subject_no, _private.seq)
)
