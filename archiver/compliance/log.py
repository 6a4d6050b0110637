"""Reads the custody log for the report: the places of events, the events of a month, and its cosignatures. Reads only."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from archiver import errors
from archiver.compliance import rules
from archiver.compliance.facts import Checkpoint, Events, Log, Place, Refused, Vouched
from archiver.custody.event import ARCHIVE, Event, Type, parse
from archiver.custody.tables import TYPE_NUMBERS, custody_event, custody_pending, custody_subject, custody_subject_event
from archiver.recording import Window
from archiver.translog import reader as custody
from archiver.translog.note import VerifierKey, open_note, parse_note
from archiver.translog.tables import AnchorKind, custody_anchor, custody_checkpoint

_SUBJECTS = 400  # at a time, below either database's limit on parameters
_STAMP = ".tsr"
_TYPES = {number: name for name, number in TYPE_NUMBERS.items()}

_SAID: Select[Any] = (
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
class Trail:
    """Finds events in the logs. `published`: the size of each log's newest published checkpoint."""

    conn: Connection
    logs: Mapping[int, custody.Log]
    published: Mapping[int, int]

    def event(self, subject: str, seq: int) -> tuple[bytes | None, Place]:
        """The entry as it was signed, or None without one, and its place."""
        place = custody.index_of(self.conn, subject, seq)
        if place is not None:
            return custody.entry(self.conn, *place), self._place(*place)
        queued = _QUEUED.where(custody_subject.c.subject == subject, custody_pending.c.seq == seq)
        return self.conn.execute(queued).scalar_one_or_none(), self._queue()

    def archive_events(self, type_: Type, span: Window) -> Iterator[tuple[Event, Place]]:
        """Yields the events of subject `archive` in the span, in order; events that still wait for the log come last."""
        at = custody_subject_event.c.at
        rows = self.conn.execute(
            _SAID.where(
                custody_subject.c.subject == ARCHIVE,
                custody_subject_event.c.type_no == TYPE_NUMBERS[type_],
                at >= span.since,
                at < span.until,
            ).order_by(custody_subject_event.c.seq)
        )
        for row in rows:
            yield parse(row.entry), self._place(row.log_id, row.leaf_index)
        queued = _QUEUED.where(custody_subject.c.subject == ARCHIVE).order_by(custody_pending.c.seq)
        for raw in self.conn.execute(queued).scalars():
            event = _readable(raw)
            if event is not None and event.type == type_ and span.since <= event.at < span.until:
                yield event, self._queue()

    def gap_events(self, subjects: Collection[str], since: datetime | None) -> dict[str, dict[str, Place]]:
        """The places of each gap's events since `since`, by the gap's id and the event's status.

        The status is `opened`, `reclassified`, `acknowledged` or `closed`.
        """
        found: dict[str, dict[str, Place]] = {}
        if since is None:
            return found
        chains = sorted({each if each.startswith("rec:") else ARCHIVE for each in subjects})
        for first in range(0, len(chains), _SUBJECTS):
            named = custody_subject.c.subject.in_(chains[first : first + _SUBJECTS])
            gap = custody_subject_event.c.type_no == TYPE_NUMBERS[Type.GAP]
            rows = self.conn.execute(_SAID.where(named, gap, custody_subject_event.c.at >= since))
            said = [(row.entry, self._place(row.log_id, row.leaf_index)) for row in rows]
            said += [(raw, self._queue()) for raw in self.conn.execute(_QUEUED.where(named)).scalars()]
            for raw, place in said:
                event = _readable(raw)
                if event is not None and event.type == Type.GAP:
                    found.setdefault(str(event.data.get("gap")), {})[str(event.data.get("status"))] = place
        return found

    def _place(self, log_id: int, leaf: int) -> Place:
        return Place(self.logs[log_id].origin, leaf, leaf < self.published.get(log_id, 0))

    def _queue(self) -> Place:
        newest = self.newest
        return Place("" if newest is None else newest.origin, None)

    @property
    def newest(self) -> custody.Log | None:
        """The log to which events are written now."""
        return max(self.logs.values(), key=lambda each: each.opened_at, default=None)


def trail(conn: Connection) -> Trail:
    """Reads the logs in their present state."""
    logs = {each.log_id: each for each in custody.logs(conn)}
    newest = {log_id: custody.newest_checkpoint(conn, log_id, published=True) for log_id in logs}
    return Trail(conn, logs, {log_id: each.size for log_id, each in newest.items() if each is not None})


def month(
    conn: Connection, known: Trail, span: Window, now: datetime, witnesses: Sequence[VerifierKey] = ()
) -> Log | None:
    """The newest log's events and signatures in the month; None without a log.

    `witnesses`: the keys whose cosignatures count, if they verify.
    """
    newest = known.newest
    if newest is None:
        return None
    log_id, signed_at = newest.log_id, custody_checkpoint.c.signed_at
    size, _ = custody.tree(conn, log_id)
    last = custody.newest_checkpoint(conn, log_id, published=True)
    within = (custody_checkpoint.c.log_id == log_id, signed_at >= span.since, signed_at < span.until)
    ends = select(custody_checkpoint).where(*within).limit(1)
    published = select(func.count()).where(*within, custody_checkpoint.c.published_at.is_not(None))
    signed, cosigned = _signed(
        conn, select(custody_checkpoint).where(*within).order_by(signed_at), newest.origin, witnesses
    )
    return Log(
        origin=newest.origin,
        size=size,
        waiting=custody.waiting(conn),
        newest=None if last is None else Checkpoint(last.size, last.root.hex(), last.signed_at, last.published_at),
        events=tuple(_events(conn, log_id, span)),
        checkpoints=len(signed),
        published=conn.execute(published).scalar_one(),
        first=_checkpoint(conn.execute(ends.order_by(custody_checkpoint.c.size)).one_or_none()),
        last=_checkpoint(conn.execute(ends.order_by(custody_checkpoint.c.size.desc())).one_or_none()),
        longest_pause=rules.longest_pause(signed, span, now),
        vouched=(*cosigned, *_stamped(conn, log_id, span)),
        refused=tuple(
            Refused(each.number, each.subject, each.seq, each.reason, each.at)
            for each in custody.quarantined(conn)
            if span.since <= each.at < span.until
        ),
    )


def _events(conn: Connection, log_id: int, span: Window) -> Iterator[Events]:
    columns = custody_subject_event.c
    leaf = columns.leaf_index
    rows = conn.execute(
        select(columns.type_no, func.count().label("n"), func.min(leaf).label("first"), func.max(leaf).label("last"))
        .where(columns.log_id == log_id, columns.at >= span.since, columns.at < span.until)
        .group_by(columns.type_no)
        .order_by(columns.type_no)
    )
    for row in rows:
        yield Events(str(_TYPES.get(row.type_no, "unknown")), row.n, row.first, row.last)


def _signed(
    conn: Connection, wanted: Select[Any], origin: str, witnesses: Sequence[VerifierKey]
) -> tuple[list[datetime], list[Vouched]]:
    """The times of the checkpoints, and the signatures of others: verified cosignatures, and lines that nobody can check.

    Anybody who can write to the database can put a name under a note; the name alone proves nothing.
    """
    signed: list[datetime] = []
    true: dict[str, Vouched] = {}
    unchecked: dict[str, Vouched] = {}
    for rows in conn.execute(wanted.execution_options(stream_results=True)).partitions(2_000):
        for row in rows:
            signed.append(row.signed_at)
            good, names = cosigners(row.note.encode(), witnesses)
            for name in good:
                _count(true, "witness", name, row.signed_at, row.size)
            for name in names - good - {origin}:
                _count(unchecked, "unverified signature", name, row.signed_at, row.size)
    return signed, [*true.values(), *unchecked.values()]


def cosigners(note: bytes, witnesses: Sequence[VerifierKey]) -> tuple[set[str], set[str]]:
    """The names of the witnesses whose cosignature under a note verifies, and all names under the note."""
    try:
        names = {each.name for each in parse_note(note).signatures}
    except errors.VerificationError:
        return set(), set()
    good: set[str] = set()
    for key in witnesses:
        with contextlib.suppress(errors.VerificationError):  # the cosignature does not verify
            if key.name in names and open_note(note, [key]).verified:
                good.add(key.name)
    return good, names


def _stamped(conn: Connection, log_id: int, span: Window) -> list[Vouched]:
    columns = custody_anchor.c
    found: dict[str, Vouched] = {}
    rows = conn.execute(
        select(columns.name, columns.at, columns.size)
        .where(columns.log_id == log_id, columns.kind == int(AnchorKind.TIMESTAMP), columns.name.endswith(_STAMP))
        .where(columns.at >= span.since, columns.at < span.until)
        .order_by(columns.at)
    )
    for row in rows:
        _count(found, "time stamp", row.name.removesuffix(_STAMP), row.at, row.size)
    return list(found.values())


def _count(found: dict[str, Vouched], kind: str, name: str, at: datetime, size: int) -> None:
    before = found.get(name)
    found[name] = Vouched(kind, name, 1 if before is None else before.count + 1, at, size)


def _checkpoint(row: Row[Any] | None) -> Checkpoint | None:
    return None if row is None else Checkpoint(row.size, row.root.hex(), row.signed_at, row.published_at)


def _readable(raw: bytes) -> Event | None:
    """Parses an entry of the queue; None if it cannot be read. An entry in the queue is not evidence yet, and may be anything."""
    try:
        return parse(raw)
    except errors.VerificationError:
        return None
