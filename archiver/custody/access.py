"""Tells who heard or exported which recording, when and why, from the signed events and their private groups. Reads
only."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from archiver.custody.event import Event, Type, commitment, parse
from archiver.custody.person import GROUP, described
from archiver.custody.tables import (
    TYPE_NUMBERS,
    custody_event,
    custody_pending,
    custody_private,
    custody_subject,
    custody_subject_event,
)
from archiver.errors import VerificationError
from archiver.recording import Json

_TYPES = (Type.ACCESSED, Type.EXPORT_PREPARED, Type.EXPORT_DELIVERED)
_GROUPS = ("access", "ack", GROUP)  # the first two are of events that an earlier version wrote
_PAGE = 400  # subjects in one statement, below either database's limit on parameters


@dataclass(frozen=True, slots=True)
class Who:
    """The statement of an event's private groups about who acted and why. `group` is empty where the groups were
    erased, or where they differ from the event's commitment (`false`); `promised` is False where the event commits to
    none."""

    group: Mapping[str, Json] = field(default_factory=dict)
    false: bool = False
    promised: bool = True

    @property
    def said(self) -> str:
        """A description for people."""
        if self.false:
            return "NOT WHAT WAS LOGGED"
        return described(self.group) if self.group else "erased" if self.promised else "not on record"

    @property
    def reason(self) -> str | None:
        """The reason that was given at the time, if any."""
        found = self.group.get("reason")
        return None if found is None else str(found)


@dataclass(frozen=True, slots=True)
class Access:
    """One access to one recording by one person. `leaf` is None while the event waits for the log; `delivered_at` is,
    for an export, the time at which the bundle was finished."""

    event: Event
    leaf: int | None
    who: Who
    delivered_at: datetime | None = None

    @property
    def recording(self) -> str:
        return self.event.subject.removeprefix("rec:")

    @property
    def what(self) -> str:
        return "heard" if self.event.type == Type.ACCESSED else "exported"


# Built once: making statements costs more than running them.
_LOGGED: Select[Any] = (
    select(custody_subject.c.subject, custody_subject_event.c.leaf_index, custody_event.c.entry)
    .join_from(
        custody_subject, custody_subject_event, custody_subject_event.c.subject_no == custody_subject.c.subject_no
    )
    .join(
        custody_event,
        (custody_event.c.log_id == custody_subject_event.c.log_id)
        & (custody_event.c.leaf_index == custody_subject_event.c.leaf_index),
    )
    .where(custody_subject_event.c.type_no.in_([TYPE_NUMBERS[each] for each in _TYPES]))
)
_QUEUED: Select[Any] = select(custody_subject.c.subject, custody_pending.c.entry).join_from(
    custody_subject, custody_pending, custody_pending.c.subject_no == custody_subject.c.subject_no
)
_PRIVATE = (
    select(
        custody_subject.c.subject,
        custody_private.c.seq,
        custody_private.c.grp,
        custody_private.c.salt,
        custody_private.c.data,
    )
    .join_from(custody_subject, custody_private, custody_private.c.subject_no == custody_subject.c.subject_no)
    .where(
        custody_private.c.grp.in_(_GROUPS),
        custody_subject.c.subject.in_(bindparam("subjects", expanding=True)),
    )
)


def accesses(
    conn: Connection, since: datetime | None = None, until: datetime | None = None, subject: str | None = None
) -> list[Access]:
    """Returns every access to a recording in [since, until), of one subject or of all, oldest first."""
    found = [
        (event, leaf)
        for event, leaf in _events(conn, subject)
        if (since is None or event.at >= since) and (until is None or event.at < until)
    ]
    delivered = {
        (event.subject, event.data.get("request")): event.at
        for event, _ in _events(conn, subject)
        if event.type == Type.EXPORT_DELIVERED
    }
    acts = [(event, leaf) for event, leaf in found if event.type != Type.EXPORT_DELIVERED]
    known = who(conn, [event for event, _ in acts])
    made = [
        Access(event, leaf, known[event.id], delivered.get((event.subject, event.data.get("request"))))
        for event, leaf in acts
    ]
    return sorted(made, key=lambda each: (each.event.at, each.event.subject, each.event.seq))


def who(conn: Connection, events: Iterable[Event]) -> dict[str, Who]:
    """Returns, by the id of the event, who acted and why; `promised` is False for events that commit to no such
    group."""
    asked = {(each.subject, each.seq): each for each in events if not each.priv.keys().isdisjoint(_GROUPS)}
    groups: dict[str, dict[str, Json]] = {each.id: {} for each in asked.values()}
    false: set[str] = set()
    for row in _rows(conn, {subject for subject, _ in asked}):
        event = asked.get((row.subject, row.seq))
        if event is None or row.grp not in event.priv:
            continue
        group = _committed(row.salt, row.data, event.priv[row.grp])
        if group is None:
            false.add(event.id)
        else:
            groups[event.id] |= group
    return {name: Who({} if name in false else group, name in false) for name, group in groups.items()} | {
        each.id: Who(promised=False) for each in events if each.id not in groups
    }


def _committed(salt: bytes, data: bytes, promised: str) -> dict[str, Json] | None:
    """Returns the group, if the event commits to it; else None."""
    try:
        group: dict[str, Json] = json.loads(data)
        return group if commitment(salt, group) == promised else None
    except (ValueError, TypeError):
        return None


def _events(conn: Connection, subject: str | None) -> Iterator[tuple[Event, int | None]]:
    logged, queued = _LOGGED, _QUEUED
    if subject is not None:
        logged, queued = (each.where(custody_subject.c.subject == subject) for each in (logged, queued))
    seen: set[str] = set()
    for row in conn.execute(logged):
        event = parse(row.entry)
        seen.add(event.id)
        yield event, row.leaf_index
    for row in conn.execute(queued):
        try:
            event = parse(row.entry)
        except VerificationError:  # what waits in the queue is not evidence yet, and may be anything
            continue
        if event.type in _TYPES and event.id not in seen:
            yield event, None


def _rows(conn: Connection, subjects: Collection[str]) -> Iterator[Any]:
    ordered = sorted(subjects)
    for first in range(0, len(ordered), _PAGE):
        yield from conn.execute(_PRIVATE, {"subjects": ordered[first : first + _PAGE]})
