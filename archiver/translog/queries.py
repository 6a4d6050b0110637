"""Answers questions that reports have about the log: events of a type and a time, signatures and stamps of a span.
Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select

from archiver.custody.event import Type
from archiver.custody.tables import TYPE_NUMBERS, custody_event, custody_pending, custody_subject, custody_subject_event
from archiver.recording import Window
from archiver.translog.reader import Signed
from archiver.translog.tables import AnchorKind, custody_anchor, custody_checkpoint

_SUBJECTS = 400  # at a time, below either database's limit on parameters
_STAMP = ".tsr"
_TYPES = {number: name for name, number in TYPE_NUMBERS.items()}

_LOGGED: Select[Any] = (
    select(custody_subject_event.c.log_id, custody_subject_event.c.leaf_index, custody_event.c.entry)
    .join_from(
        custody_subject, custody_subject_event, custody_subject_event.c.subject_no == custody_subject.c.subject_no
    )
    .join(
        custody_event,
        (custody_event.c.log_id == custody_subject_event.c.log_id)
        & (custody_event.c.leaf_index == custody_subject_event.c.leaf_index),
    )
)
_QUEUED: Select[Any] = select(custody_pending.c.entry).join(custody_subject)


@dataclass(frozen=True, slots=True)
class Logged:
    """An event in a log, and its place there."""

    entry: bytes
    log_id: int
    leaf: int


@dataclass(frozen=True, slots=True)
class Counted:
    """The number of a log's events of one type, with the first and the last leaf of them."""

    type: str
    count: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time stamp over a checkpoint: the authority's name, the time that it states, and the size of the tree."""

    authority: str
    at: datetime
    size: int


def logged(
    conn: Connection, subjects: Collection[str], type_: Type, since: datetime, until: datetime | None = None
) -> Iterator[Logged]:
    """Yield the logged events of one type of these subjects, from `since` to before `until`; in order within a
    subject."""
    at, seq = custody_subject_event.c.at, custody_subject_event.c.seq
    within = [custody_subject_event.c.type_no == TYPE_NUMBERS[type_], at >= since]
    if until is not None:
        within.append(at < until)
    for some in _parts(subjects):
        wanted = _LOGGED.where(custody_subject.c.subject.in_(some), *within)
        for row in conn.execute(wanted.order_by(custody_subject_event.c.subject_no, seq)):
            yield Logged(row.entry, row.log_id, row.leaf_index)


def queued(conn: Connection, subjects: Collection[str]) -> Iterator[bytes]:
    """Yield the events of these subjects that wait for the log; in order within a subject. They may hold anything."""
    for some in _parts(subjects):
        wanted = _QUEUED.where(custody_subject.c.subject.in_(some))
        yield from conn.execute(wanted.order_by(custody_pending.c.subject_no, custody_pending.c.seq)).scalars()


def queued_event(conn: Connection, subject: str, seq: int) -> bytes | None:
    """Return one event that waits for the log; None where none of this number waits."""
    wanted = _QUEUED.where(custody_subject.c.subject == subject, custody_pending.c.seq == seq)
    return conn.execute(wanted).scalar_one_or_none()


def counted(conn: Connection, log_id: int, span: Window) -> Iterator[Counted]:
    """Yield the number of events of each type in the span."""
    columns = custody_subject_event.c
    leaf = columns.leaf_index
    rows = conn.execute(
        select(columns.type_no, func.count().label("n"), func.min(leaf).label("first"), func.max(leaf).label("last"))
        .where(columns.log_id == log_id, columns.at >= span.since, columns.at < span.until)
        .group_by(columns.type_no)
        .order_by(columns.type_no)
    )
    for row in rows:
        yield Counted(str(_TYPES.get(row.type_no, "unknown")), row.n, row.first, row.last)


def signed(conn: Connection, log_id: int, span: Window) -> Iterator[Signed]:
    """Yield the checkpoints signed in the span, by time, with one page in memory at a time."""
    columns = custody_checkpoint.c
    within = (columns.log_id == log_id, columns.signed_at >= span.since, columns.signed_at < span.until)
    wanted = select(custody_checkpoint).where(*within).order_by(columns.signed_at)
    for page in conn.execute(wanted.execution_options(stream_results=True)).partitions(2_000):
        for row in page:
            yield Signed(row.size, row.root, row.note, row.signed_at, row.published_at)


def stamps(conn: Connection, log_id: int, span: Window) -> Iterator[Stamp]:
    """Yield the time stamps of the span, by time."""
    columns = custody_anchor.c
    rows = conn.execute(
        select(columns.name, columns.at, columns.size)
        .where(columns.log_id == log_id, columns.kind == int(AnchorKind.TIMESTAMP), columns.name.endswith(_STAMP))
        .where(columns.at >= span.since, columns.at < span.until)
        .order_by(columns.at)
    )
    for row in rows:
        yield Stamp(row.name.removesuffix(_STAMP), row.at, row.size)


def _parts(subjects: Collection[str]) -> Iterator[list[str]]:
    names = sorted(subjects)
    for first in range(0, len(names), _SUBJECTS):
        yield names[first : first + _SUBJECTS]
