"""Brings events that our own writers put into a rolled-back database back to their chains.

Such a database lets a chain continue from an older event than its last. Events written there are true, and signed by
our own session keys; but the place of such an event, or of its session's enrolment, is taken. The log must not accuse
these events, and nobody can sign them anew: their keys are gone. So

- an event that still fits its chain goes into the log **itself**, once the host has enrolled its session key again;
- an event that does not fit is written again by the recovering session, as a **copy** at its chain's end: the same type,
  data and private groups, and `rehomed`, which names the original by number, time and leaf hash;
- an enrolment or a retirement has no meaning any more: **nothing** is written for it.

Each original is kept in `custody_quarantine`, byte for byte, and `log.rehomed` tells of it. An event whose session no
known host enrolled is left to the sequencer, which reports it in its own way.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, bindparam, delete, func, insert, select

from archiver.custody.chain_end import End
from archiver.custody.event import ARCHIVE, MAX_ENTRY, Event, Type, commits, format_time, leaf_hash, verify
from archiver.custody.ledger import Draft, Ledger
from archiver.custody.tables import (
    custody_event,
    custody_pending,
    custody_private,
    custody_subject,
    custody_subject_event,
)
from archiver.database import db_now
from archiver.errors import VerificationError
from archiver.recording import Json
from archiver.translog import enrolment
from archiver.translog.tables import custody_quarantine

ROLLED_BACK = "rolled_back"
"""The word in `custody_quarantine.reason` for an event that is not at fault, and only stood in a wrong place."""
_BY_ITS_WRITER = ("writer", "fork", "link")  # sequencer.Refusal: reasons that an older database gives
_ROOM = 512  # for `rehomed` in a copy


class Became(enum.StrEnum):
    """The outcome for an event from a rolled-back database."""

    ITSELF = "itself"
    COPY = "copy"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Rehomed:
    """The numbers of events that are in their chains again, and of events that are only kept.

    `moved` holds the new numbers of copies, by subject and number of the original.
    """

    rehomed: int = 0
    kept: int = 0
    moved: Mapping[tuple[str, int], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the queue, whose number is `pid`, or of the quarantine."""

    log_id: int
    number: int
    subject: str
    seq: int
    entry: bytes
    event: Event
    pid: int | None


@dataclass(slots=True)
class _Plan:
    """The outcome for each row, and the real end of each chain that takes a copy, whatever its head says.

    `writers`: the session keys that a host enrolled, in the log or in the queue, and whether they may still write.
    """

    writers: dict[str, bool]
    fates: list[tuple[_Row, Became]] = field(default_factory=list)
    ends: dict[str, End] = field(default_factory=dict)

    def of(self, fate: Became) -> list[_Row]:
        return [row for row, became in self.fates if became is fate]


def rehome(
    conn: Connection,
    ledger: Ledger,
    host_key: Ed25519PrivateKey,
    hosts: Collection[str],
    first: Sequence[Draft] = (),
) -> Rehomed | None:
    """Enrols `ledger`'s session, appends `first`, and brings every event from the rolled-back database to its place, in
    the caller's transaction.

    Returns None, with nothing written, when there is nothing to write. No other process may write meanwhile.
    """
    plan = _plan(conn, hosts)
    if not plan.fates and not first:
        return None
    itself, copied = plan.of(Became.ITSELF), plan.of(Became.COPY)
    strangers = sorted({row.event.writer for row in itself} - plan.writers.keys())
    copies = [_copy(conn, row) for row in copied]
    _set_aside(conn, [row for row, _ in plan.fates])
    told = [_told(row, became) for row, became in plan.fates]
    appended = ledger.append_behind(conn, plan.ends, [*first, *told, *copies], host_key, strangers)
    if itself:
        back = [{"subject_no": row.number, "seq": row.seq, "entry": row.entry} for row in itself]
        conn.execute(insert(custody_pending), back)
    if strangers:
        ledger.retire_others(conn, host_key, strangers)
    places = appended[1 + len(first) + len(told) :]
    moved = {(row.subject, row.seq): at.seq for row, at in zip(copied, places, strict=False)}
    return Rehomed(len(itself) + len(copied), len(plan.of(Became.NOTHING)), moved)


# --- which rows, and what becomes of them -------------------------------------------------------------------------


def _plan(conn: Connection, hosts: Collection[str]) -> _Plan:
    found = sorted(_rows(conn), key=lambda row: (row.subject, row.seq, row.pid is None))
    writers = enrolment.find(conn, {row.event.writer for row in found}, hosts)
    ours = writers.keys() | {key for row in found if row.event.writer in hosts and (key := enrolment.enrols(row.event))}
    plan, by_subject = (
        _Plan(writers),
        dict[str, list[_Row]]({ARCHIVE: []}),
    )  # the archive's chain first: its enrolments count for the others
    for row in found:
        by_host = row.event.type in enrolment.BY_HOST
        if row.event.writer in (hosts if by_host else ours) and (row.event.subject, row.event.seq) == (
            row.subject,
            row.seq,
        ):
            by_subject.setdefault(row.subject, []).append(row)
    for subject, rows in by_subject.items():
        _judge(conn, plan, subject, rows)
    order = {Became.NOTHING: 0, Became.COPY: 1, Became.ITSELF: 2}
    plan.fates.sort(key=lambda each: (order[each[1]], each[0].subject, each[0].seq))
    return plan


def _judge(conn: Connection, plan: _Plan, subject: str, rows: Sequence[_Row]) -> None:
    """Judges the rows of one subject, in the order of their numbers, against the subject's chain in the log."""
    end, logged, writers = _end(conn, subject), _places(conn, subject, [row.seq for row in rows]), plan.writers
    torn = False
    for row in rows:
        if logged.get(row.seq) == row.entry:
            continue  # stands in the log already
        event, stays = row.event, row.pid is not None
        fits = not torn and (row.seq, event.prev) == (end.last + 1, end.hash.hex() or None)
        hole = not torn and stays and row.seq > end.last + 1
        if fits or hole:
            end = End(end.head, row.seq, leaf_hash(row.entry))
            if stays and (key := enrolment.enrols(event)) is not None:
                writers.setdefault(key, True)
            if hole or (stays and (event.type in enrolment.BY_HOST or writers.get(event.writer, False))):
                continue  # waits in its place, or the sequencer reports it
            if event.type not in enrolment.BY_HOST and writers.get(event.writer, True):
                plan.fates.append((row, Became.ITSELF))
                continue
        else:
            torn = True
        plan.fates.append((row, Became.NOTHING if event.type in enrolment.BY_HOST else Became.COPY))
    if subject == ARCHIVE or any(each.subject == subject and fate is Became.COPY for each, fate in plan.fates):
        # Rows that stay in the queue hold their numbers, forged ones too: an event behind those is admitted with a gap.
        gone = {row.pid for row, _ in plan.fates}
        stay = {row.seq: row.entry for row in conn.execute(_QUEUED, {"of": subject}) if row.pid not in gone}
        while end.last + 1 in stay:
            end = End(end.head, end.last + 1, leaf_hash(stay[end.last + 1]))
        plan.ends[subject] = end


def _rows(conn: Connection) -> Iterable[_Row]:
    """Yields the waiting rows, and the refused rows that a rolled-back database explains and that no recovery returned
    before."""
    waiting = set()
    for row in conn.execute(_WAITING):
        if (event := _verified(row.entry)) is not None and row.subject is not None:
            waiting.add(row.entry)
            yield _Row(row.log_id, row.subject_no, row.subject, row.seq, row.entry, event, row.pid)
    for row in conn.execute(_REFUSED):
        event = _verified(row.entry)
        if event is not None and row.subject is not None and row.entry not in waiting:
            waiting.add(row.entry)  # once, though it was refused twice
            yield _Row(row.log_id, row.subject_no, row.subject, row.seq, row.entry, event, None)


def _end(conn: Connection, subject: str) -> End:
    """Returns the end of the chain in the log; its `head` is the statement of the subject's row."""
    head = conn.execute(_HEAD, {"of": subject}).one_or_none()
    last = conn.execute(_LAST, {"of": subject}).scalar_one()
    if last is None:
        return End(-1 if head is None else head.head_seq, -1, b"")
    (entry,) = _places(conn, subject, [last]).values()
    return End(-1 if head is None else head.head_seq, last, leaf_hash(entry))


def _places(conn: Connection, subject: str, seqs: Sequence[int]) -> dict[int, bytes]:
    """Returns the subject's events of these numbers in the log."""
    return {row.seq: row.entry for row in conn.execute(_LOGGED, {"of": subject, "seqs": list(seqs)})}


# --- the acts -----------------------------------------------------------------------------------------------------


def _set_aside(conn: Connection, rows: Sequence[_Row]) -> None:
    """Moves the rows' bytes from the queue into the quarantine, for a reason that accuses nobody; rows refused before
    are kept again."""
    if rows:
        conn.execute(
            _KEEP,
            [{"log_id": row.log_id, "subject_no": row.number, "seq": row.seq, "entry": row.entry} for row in rows],
        )
    if waiting := [{"of": row.pid} for row in rows if row.pid is not None]:
        conn.execute(_LEAVE, waiting)


def _told(row: _Row, became: Became) -> Draft:
    data: dict[str, Json] = {
        "subject": row.subject, "seq": row.seq, "leaf_hash": leaf_hash(row.entry).hex(), "type": row.event.type,
        "reason": ROLLED_BACK, "became": str(became),
    }  # fmt: skip
    return Draft(ARCHIVE, Type.LOG_REHOMED, data, actor_kind="operator")


def _copy(conn: Connection, row: _Row) -> Draft:
    """Returns a draft that repeats the event. Its private groups move with it, out of the place that belongs to another
    event."""
    event = row.event
    private: dict[str, Mapping[str, Json]] = {}
    for each in conn.execute(_PRIVATE, {"no": row.number, "at": row.seq}).all():
        if commits(event.priv.get(each.grp), each.salt, each.data):
            private[each.grp] = json.loads(each.data)
            conn.execute(_FORGET, {"no": row.number, "at": row.seq, "group": each.grp})
    origin: dict[str, Json] = {"at": format_time(event.at), "seq": row.seq, "leaf_hash": leaf_hash(row.entry).hex()}
    data = dict(event.data) if len(row.entry) + _ROOM <= MAX_ENTRY else {}
    return Draft(row.subject, event.type, {**data, "rehomed": origin}, private, event.op, event.outcome,
                 event.actor_kind, event.user)  # fmt: skip


def _verified(entry: bytes) -> Event | None:
    try:
        return verify(entry)
    except VerificationError:
        return None


_home = custody_quarantine.alias()
_subject_of: Any = custody_subject.c.subject == bindparam("of")
_WAITING = (
    select(custody_pending, custody_subject.c.subject)
    .outerjoin_from(custody_pending, custody_subject)
    .order_by(custody_pending.c.pid)
)
_QUEUED = (
    select(custody_pending.c.pid, custody_pending.c.seq, custody_pending.c.entry)
    .join_from(custody_pending, custody_subject)
    .where(custody_subject.c.subject == bindparam("of"))
)
_REFUSED = (
    select(custody_quarantine, custody_subject.c.subject)
    .outerjoin_from(
        custody_quarantine, custody_subject, custody_subject.c.subject_no == custody_quarantine.c.subject_no
    )
    .where(
        custody_quarantine.c.reason.in_(_BY_ITS_WRITER),
        ~select(_home.c.id).where(_home.c.reason == ROLLED_BACK, _home.c.entry == custody_quarantine.c.entry).exists(),
    )
    .order_by(custody_quarantine.c.id)
)
_IN_LOG = (
    custody_subject.join(
        custody_subject_event, custody_subject_event.c.subject_no == custody_subject.c.subject_no
    ).join(
        custody_event,
        (custody_event.c.log_id == custody_subject_event.c.log_id)
        & (custody_event.c.leaf_index == custody_subject_event.c.leaf_index),
    )
)  # fmt: skip
_LOGGED = (
    select(custody_subject_event.c.seq, custody_event.c.entry)
    .select_from(_IN_LOG)
    .where(_subject_of, custody_subject_event.c.seq.in_(bindparam("seqs", expanding=True)))
)
_LAST = (
    select(func.max(custody_subject_event.c.seq))
    .join_from(
        custody_subject_event, custody_subject, custody_subject.c.subject_no == custody_subject_event.c.subject_no
    )
    .where(_subject_of)
)
_HEAD = select(custody_subject.c.head_seq).where(_subject_of)
_KEEP = insert(custody_quarantine).values(reason=ROLLED_BACK, at=db_now())
_LEAVE = delete(custody_pending).where(custody_pending.c.pid == bindparam("of"))
_its_place = (custody_private.c.subject_no == bindparam("no"), custody_private.c.seq == bindparam("at"))
_PRIVATE = select(custody_private).where(*_its_place)
_FORGET = delete(custody_private).where(*_its_place, custody_private.c.grp == bindparam("group"))
