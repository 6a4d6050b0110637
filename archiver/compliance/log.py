"""Reads the custody log for the report: the places of events, the events of a month, and its cosignatures. Reads
only."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from archiver import errors
from archiver.compliance import rules
from archiver.compliance.facts import Checkpoint, Events, Log, Place, Refused, Vouched
from archiver.custody.event import ARCHIVE, Event, Type, parse
from archiver.database import Connection
from archiver.recording import Window
from archiver.translog import queries
from archiver.translog import reader as custody
from archiver.translog.note import VerifierKey, open_note, parse_note
from archiver.translog.reader import Signed


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
        return queries.queued_event(self.conn, subject, seq), self._queue()

    def archive_events(self, type_: Type, span: Window) -> Iterator[tuple[Event, Place]]:
        """Yields the events of subject `archive` in the span, in order; events that still wait for the log come
        last."""
        for each in queries.logged(self.conn, [ARCHIVE], type_, span.since, span.until):
            yield parse(each.entry), self._place(each.log_id, each.leaf)
        for raw in queries.queued(self.conn, [ARCHIVE]):
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
        chains = {each if each.startswith("rec:") else ARCHIVE for each in subjects}
        logged = queries.logged(self.conn, chains, Type.GAP, since)
        said = [(each.entry, self._place(each.log_id, each.leaf)) for each in logged]
        said += [(raw, self._queue()) for raw in queries.queued(self.conn, chains)]
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
    log_id = newest.log_id
    size, _ = custody.tree(conn, log_id)
    last = custody.newest_checkpoint(conn, log_id, published=True)
    signed = _signed(conn, log_id, span, newest.origin, witnesses)
    return Log(
        origin=newest.origin,
        size=size,
        waiting=custody.waiting(conn),
        newest=_checkpoint(last),
        events=tuple(
            Events(each.type, each.count, each.first, each.last) for each in queries.counted(conn, log_id, span)
        ),
        checkpoints=len(signed.at),
        published=signed.published,
        first=_checkpoint(signed.first),
        last=_checkpoint(signed.last),
        longest_pause=rules.longest_pause(signed.at, span, now),
        vouched=(*signed.vouched, *_stamped(conn, log_id, span)),
        refused=tuple(
            Refused(each.number, each.subject, each.seq, each.reason, each.at)
            for each in custody.quarantined(conn)
            if span.since <= each.at < span.until
        ),
    )


@dataclass(slots=True)
class _OfMonth:
    """The checkpoints of the month: their times, how many are published, the smallest and the largest, and who
    vouched."""

    at: list[datetime] = field(default_factory=list)
    published: int = 0
    first: Signed | None = None
    last: Signed | None = None
    vouched: Sequence[Vouched] = ()


def _signed(conn: Connection, log_id: int, span: Window, origin: str, witnesses: Sequence[VerifierKey]) -> _OfMonth:
    """The checkpoints of the month, and the signatures of others: verified cosignatures, and lines that nobody can
    check.

    Anybody who can write to the database can put a name under a note; the name alone proves nothing.
    """
    found = _OfMonth()
    true: dict[str, Vouched] = {}
    unchecked: dict[str, Vouched] = {}
    for each in queries.signed(conn, log_id, span):
        found.at.append(each.signed_at)
        found.published += each.published_at is not None
        found.first = each if found.first is None or each.size < found.first.size else found.first
        found.last = each if found.last is None or each.size > found.last.size else found.last
        good, names = cosigners(each.note.encode(), witnesses)
        for name in good:
            _count(true, "witness", name, each.signed_at, each.size)
        for name in names - good - {origin}:
            _count(unchecked, "unverified signature", name, each.signed_at, each.size)
    found.vouched = [*true.values(), *unchecked.values()]
    return found


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
    found: dict[str, Vouched] = {}
    for each in queries.stamps(conn, log_id, span):
        _count(found, "time stamp", each.authority, each.at, each.size)
    return list(found.values())


def _count(found: dict[str, Vouched], kind: str, name: str, at: datetime, size: int) -> None:
    before = found.get(name)
    found[name] = Vouched(kind, name, 1 if before is None else before.count + 1, at, size)


def _checkpoint(it: Signed | None) -> Checkpoint | None:
    return None if it is None else Checkpoint(it.size, it.root.hex(), it.signed_at, it.published_at)


def _readable(raw: bytes) -> Event | None:
    """Parses an entry of the queue; None if it cannot be read. An entry in the queue is not evidence yet, and may be
    anything."""
    try:
        return parse(raw)
    except errors.VerificationError:
        return None
