"""Checks that a subject's events are complete, in order, and from enrolled writers. Pure: no I/O.

A chain alone cannot show that its *end* was cut off: compare with the head, and with an anchor outside the database.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from archiver.custody.event import ARCHIVE, Entry, Event, Type, leaf_hash, parse, verify
from archiver.errors import VerificationError
from archiver.recording import Json

_REHOMED = f'"{Type.LOG_REHOMED}"'.encode()
_BY_HOST = frozenset({Type.WRITER_ENROLLED, Type.WRITER_RETIRED})


class Fault(enum.StrEnum):
    """A kind of fault in a chain."""

    FORMAT = "format"
    SIGNATURE = "signature"
    WRITER = "writer"
    PLACE = "place"
    GAP = "gap"
    LINK = "link"
    HEAD = "head"


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault at one event of one subject."""

    subject: str
    seq: int
    fault: Fault
    detail: str

    def __str__(self) -> str:
        return f"{self.subject} event {self.seq}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Head:
    """The claimed newest event of a subject."""

    seq: int
    leaf_hash: bytes


def check_chain(
    subject: str,
    entries: Iterable[Entry],
    writers: Collection[str],
    hosts: Collection[str],
    head: Head | None = None,
) -> list[Problem]:
    """Returns every problem of `subject`'s events, which come in the order of their rows' `seq`; an empty list means a
    whole chain.

    `writers` are the enrolled session keys (`enrolled_writers`), `hosts` the host keys that may enrol them, all in hex.
    Host keys sign enrolments and retirements, and nothing else. In the archive's own chain, which holds the
    retirements, no event of a writer may follow that writer's retirement; for other chains the log's order decides
    (`archiver.verify`). Never raises for bad entries: finding them is its purpose.
    """
    problems: list[Problem] = []
    retired: set[Json] = set()

    def found(seq: int, fault: Fault, detail: str) -> None:
        problems.append(Problem(subject, seq, fault, detail))

    entries = list(entries)
    scars = explained(entries) if subject == ARCHIVE else {}
    expected, prev = 0, b""
    for entry in entries:
        expected = _past(scars, expected, entry)
        if entry.seq > expected:
            missing = f"event {expected}" if entry.seq == expected + 1 else f"events {expected} to {entry.seq - 1}"
            found(entry.seq, Fault.GAP, f"{missing} missing before it")
        elif entry.seq < expected:
            found(entry.seq, Fault.GAP, "two events have this number, or they are out of order")
        event = _opened(entry, found)
        if event is not None:
            if (event.subject, event.seq) != (subject, entry.seq):
                found(entry.seq, Fault.PLACE, f"is event {event.seq} of {event.subject}, standing in another's place")
            follows = {prev.hex() or None, scars.get(entry.seq - 1)}
            if entry.seq == expected and event.prev not in follows:
                found(entry.seq, Fault.LINK, "does not follow the event before it")
            if event.writer not in (hosts if event.type in _BY_HOST else writers):
                found(entry.seq, Fault.WRITER, f"signed by {event.writer[:16]}…, which was not enrolled")
            elif event.writer in retired:
                found(entry.seq, Fault.WRITER, f"signed by {event.writer[:16]}…, which was retired before it")
            elif subject == ARCHIVE and event.type == Type.WRITER_RETIRED and isinstance(event.data.get("writer"), str):
                retired.add(event.data["writer"])
        expected, prev = entry.seq + 1, leaf_hash(entry.raw)
    if head is not None and (head.seq + 1, head.leaf_hash) != (expected, prev):
        found(head.seq, Fault.HEAD, f"the chain should end with this event, but ends with {expected - 1}")
    return problems


def explained(archive: Iterable[Entry]) -> dict[int, str]:
    """Returns the events of the archive's own chain that are in no log, as number and leaf hash, according to
    `log.rehomed` events.

    An earlier version continued the archive's chain from an event that it had written into a rolled-back database.
    """
    scars: dict[int, str] = {}
    for entry in archive:
        try:
            event = verify(entry.raw) if _REHOMED in entry.raw else None
        except VerificationError:
            continue
        if event is not None and event.type == Type.LOG_REHOMED and event.data.get("subject") == ARCHIVE:
            match event.data.get("seq"), event.data.get("leaf_hash"):
                case int(seq), str(digest):
                    scars[seq] = digest
    return scars


def _past(scars: Mapping[int, str], expected: int, entry: Entry) -> int:
    """Returns the number to expect: this entry's own, if the event before it is kept beside the log, and this entry
    names that event's leaf hash."""
    if entry.seq != expected + 1 or expected not in scars:
        return expected
    try:
        return entry.seq if parse(entry.raw).prev == scars[expected] else expected
    except VerificationError:
        return expected


def enrolled_writers(archive: Iterable[Entry], hosts: Collection[str]) -> frozenset[str]:
    """Returns the session keys, in hex, that the events of subject `archive`, in order, enrol and have not retired
    before.

    Only events that one of `hosts` really signed count; `check_chain` reports what is wrong with the others.
    """
    writers: set[str] = set()
    retired: set[str] = set()
    for entry in archive:
        try:
            if parse(entry.raw).type not in _BY_HOST:
                continue
            event = verify(entry.raw)
        except VerificationError:
            continue
        if event.writer in hosts and isinstance(writer := event.data.get("writer"), str):
            if event.type == Type.WRITER_RETIRED:
                retired.add(writer)
            elif writer not in retired:
                writers.add(writer)
    return frozenset(writers)


def _opened(entry: Entry, found: Callable[[int, Fault, str], None]) -> Event | None:
    try:
        event = parse(entry.raw)
    except VerificationError as exc:
        found(entry.seq, Fault.FORMAT, exc.detail)
        return None
    try:
        verify(entry.raw)
    except VerificationError as exc:
        found(entry.seq, Fault.SIGNATURE, exc.detail)
    return event
