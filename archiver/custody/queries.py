"""Counts the events of many chains at once, for who compares the journal with custody. Reads only; interprets
nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, union_all

from archiver.custody.tables import custody_pending, custody_subject, custody_subject_event


@dataclass(frozen=True, slots=True)
class ChainLength:
    """A chain: the number of its newest event by the subject's row, and the number of events that are there."""

    head: int
    events: int


def lengths(conn: Connection, subjects: Collection[str]) -> dict[str, ChainLength]:
    """Return the length of each of these chains. An event in the log and in the queue counts once."""
    columns = custody_subject.c
    rows = conn.execute(
        select(columns.subject_no, columns.subject, columns.head_seq).where(columns.subject.in_(subjects))
    )
    heads = {row.subject_no: row for row in rows}
    if not heads:
        return {}
    places = union_all(
        *(
            select(each.c.subject_no, each.c.seq).where(each.c.subject_no.in_(list(heads)))
            for each in (custody_subject_event, custody_pending)
        )
    ).subquery()
    counts = conn.execute(
        select(places.c.subject_no, func.count(places.c.seq.distinct())).group_by(places.c.subject_no)
    )
    events = {int(number): int(count) for number, count in counts}
    return {row.subject: ChainLength(row.head_seq, events.get(number, 0)) for number, row in heads.items()}


def subjects_behind(conn: Connection, number: int, prefix: str, limit: int) -> list[tuple[int, str]]:
    """Return a page of the subjects with this prefix behind this number: number and name."""
    columns = custody_subject.c
    rows = conn.execute(
        select(columns.subject_no, columns.subject)
        .where(columns.subject_no > number, columns.subject.startswith(prefix))
        .order_by(columns.subject_no)
        .limit(limit)
    )
    return [(row.subject_no, row.subject) for row in rows]
