"""Compares each subject's rows with one another: its head, its events in log and queue, its private data. One pass, by
subject.

All rows come sorted by subject and number of the event, so that memory holds one row of each table, however long the
log is.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from archiver.custody import history
from archiver.custody.chain import explained
from archiver.custody.event import ARCHIVE, Event, Type, commitment_to_bytes, leaf_hash, parse
from archiver.custody.tables import TYPE_NUMBERS
from archiver.database import Connection
from archiver.errors import VerificationError
from archiver.verify import subject_rows
from archiver.verify.finding import Kind
from archiver.verify.leaves import Findings
from archiver.verify.raw import HIGHEST, LOWEST

_NO_END, _MANY = 2**31 - 1, 100_000

_Row = subject_rows.SubjectRow | subject_rows.PlaceRow | subject_rows.QueueRow | subject_rows.PrivateRow


def check_subjects(
    conn: Connection, log_id: int | None, found: Findings, first: int = LOWEST, last: int = HIGHEST
) -> int:
    """Check the subjects numbered `first` to `last`, and return the count of correct index rows.

    Every chain must be whole up to its head, every index row must agree with its leaf, and private data must match
    their commitments. `log_id` None: there is no log yet. The signatures of the events are not checked here (`leaves`).
    Erased private data are no fault.
    """
    streams: list[Iterator[tuple[tuple[int, int, int, int], _Row]]] = [
        (((row.number, 0, 0, 0), row) for row in subject_rows.subjects(conn, first, last)),
        (((row.number, 1, row.seq, 0), row) for row in subject_rows.places(conn, first, last)),
        (((row.number, 1, row.seq, 1), row) for row in subject_rows.waiting(conn, first, last)),
        (((row.number, 1, row.seq, 2), row) for row in subject_rows.private(conn, first, last)),
    ]
    right = 0
    scars = explained(history.of_type(conn, ARCHIVE, Type.LOG_REHOMED, _NO_END, _MANY))
    merged = heapq.merge(*streams, key=lambda each: each[0])
    for number, group in groupby(merged, key=lambda each: each[0][0]):
        subject = _Subject(number, log_id, found, scars)
        for _, row in group:
            subject.take(row)
        subject.close()
        right += subject.right
        found.result.chains += 1
    return right


class _Subject:
    """One subject's rows, taken in order."""

    def __init__(self, number: int, log_id: int | None, found: Findings, scars: Mapping[int, str]) -> None:
        self._scars = scars
        self._number = number
        self._log_id = log_id
        self._found = found
        self._row: subject_rows.SubjectRow | None = None
        self._last = -1  # number of the newest event so far; below, its bytes and its content
        self._entry: bytes | None = None
        self._event: Event | None = None
        self.right = 0
        self._take: dict[type[_Row], Callable[..., None]] = {
            subject_rows.SubjectRow: self._begin,
            subject_rows.PlaceRow: self._placed,
            subject_rows.QueueRow: self._waiting,
            subject_rows.PrivateRow: self._private,
        }

    def take(self, row: _Row) -> None:
        self._take[type(row)](row)

    def close(self) -> None:
        """Check that the chain ends where the subject's row says."""
        row = self._row
        if row is None:
            self._found(Kind.LOG_INDEX, f"custody_subject has no row {self._number}; other tables speak of it")
            return
        name = f"custody_subject {row.number}"
        if row.head_seq != self._last:
            ends = f"the chain ends with event {self._last}" if self._last >= 0 else "there is none"
            self._found(Kind.CHAIN, f"{name}: its newest event is {row.head_seq}, {ends}", row.subject)
        elif self._last >= 0 and self._entry is not None and row.head_hash != leaf_hash(self._entry):
            self._found(Kind.CHAIN, f"{name}: event {self._last} is not the one that it says is newest", row.subject)

    def _begin(self, row: subject_rows.SubjectRow) -> None:
        self._row = row

    @property
    def _name(self) -> str:
        return f"subject {self._number}" if self._row is None else self._row.subject

    def _placed(self, row: subject_rows.PlaceRow) -> None:
        name = f"custody_subject_event ({row.number}, {row.seq}, leaf {row.leaf})"
        event = None if row.entry is None else _parsed(row.entry)
        problem = self._misplaced(row, event)
        if problem:
            self._found(Kind.LOG_INDEX, f"{name} {problem}")
        else:
            self.right += 1
        if row.seq == self._last:
            self._found(Kind.LOG_INDEX, f"{name}: two leaves claim event {row.seq} of {self._name}")
            return
        self._follow(row.seq, row.entry, event, f"leaf {row.leaf}")

    def _misplaced(self, row: subject_rows.PlaceRow, event: Event | None) -> str:
        """Return the problem of an index row; empty when the row agrees with the entry."""
        if row.log_id != self._log_id:
            return f"is of log {row.log_id}"
        if row.entry is None:
            return "points to no leaf"
        if event is None:
            return ""  # reported with the leaf
        if self._row is None:
            return f"belongs to no row of custody_subject; the leaf is of {event.subject}"
        if (event.subject, event.seq) != (self._row.subject, row.seq):
            return f"points to event {event.seq} of {event.subject}"
        if event.at != row.at:
            return f"says {row.at and row.at.isoformat()}, the event {event.at.isoformat()}"
        if row.type_no != TYPE_NUMBERS.get(event.type, 0):
            return f"has type {row.type_no}, the event is {event.type}"
        return ""

    def _waiting(self, row: subject_rows.QueueRow) -> None:
        name = f"custody_pending {row.pid}"
        if row.seq == self._last and row.entry == self._entry:
            return  # a restored queue may repeat the log's events
        if row.seq <= self._last:
            self._found(Kind.LOG_QUEUE, f"{name}: there is an event {row.seq} of {self._name} already")
            return
        event = _parsed(row.entry)
        if event is not None and (self._row is None or (event.subject, event.seq) != (self._row.subject, row.seq)):
            self._found(Kind.LOG_QUEUE, f"{name} is event {event.seq} of {event.subject}")
        self._follow(row.seq, row.entry, event, name)

    def _follow(self, seq: int, entry: bytes | None, event: Event | None, where: str) -> None:
        """Add this event to the chain; report it if it does not follow the event before."""
        scar = self._scars.get(seq - 1) if self._name == ARCHIVE and event is not None else None
        if scar is not None and event is not None and event.prev == scar:
            # The missing events are kept beside the log, and an event records them.
            self._last, self._entry, self._event = seq, entry, event
            return
        if seq > self._last + 1:
            lacking = f"event {seq - 1}" if seq == self._last + 2 else f"events {self._last + 1} to {seq - 1}"
            self._found(Kind.CHAIN, f"{lacking} missing before event {seq}, {where}", self._name)
        elif seq >= 0 and event is not None and (self._entry is not None or seq == 0):
            before = None if self._entry is None else leaf_hash(self._entry).hex()
            if event.prev != before:
                self._found(Kind.CHAIN, f"event {seq}, {where}, does not follow the event before it", self._name)
        self._last, self._entry, self._event = seq, entry, event

    def _private(self, row: subject_rows.PrivateRow) -> None:
        name = f"custody_private ({row.number}, {row.seq}, {row.group})"
        if row.seq != self._last:
            self._found(Kind.COMMITMENT, f"{name}: there is no event {row.seq} of {self._name}", self._name)
        elif self._event is not None:
            committed = commitment_to_bytes(row.salt, row.data)
            if committed != self._event.priv.get(row.group):
                self._found(Kind.COMMITMENT, f"{name} is not what event {row.seq} committed to", self._name)


def _parsed(entry: bytes) -> Event | None:
    try:
        return parse(entry)
    except VerificationError:
        return None
