"""Writes custody events in the caller's own transaction, so that a change and its event are kept together or not at
all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql

from archiver.clock import Chance, Clock
from archiver.custody.chain_end import End, turned_back
from archiver.custody.event import ARCHIVE, Event, Type, commitment, leaf_hash, private_bytes, sign
from archiver.custody.keys import generate_signing_key, public_hex
from archiver.custody.own import OwnEntries
from archiver.custody.person import GROUP as PERSON
from archiver.custody.tables import custody_pending, custody_private, custody_subject
from archiver.recording import Json

OPERATOR = "operator"
"""The kind of actor in the events that a person's command writes."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_ENDS: Mapping[str, End] = MappingProxyType({})
_PAGE = 500  # rows per statement, well below both databases' limits on parameters


@dataclass(frozen=True, slots=True)
class Draft:
    """The content of an event that is to be written. `private` groups are kept beside the event, which commits to
    them."""

    subject: str
    type: str
    data: Mapping[str, Json] = field(default_factory=lambda: _NOTHING)
    private: Mapping[str, Mapping[str, Json]] = field(default_factory=lambda: _NOTHING)
    op: str | None = None
    outcome: str = "ok"
    actor_kind: str = "worker"
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """The place of an event in its chain."""

    subject: str
    seq: int
    leaf_hash: bytes


@dataclass(slots=True)
class _Head:
    number: int
    seq: int
    hash: bytes | None


class Ledger:
    """Appends signed events. Holds the process's session key, which is lost when the process ends, and the newest
    entries that it signed (`own`), which nobody needs to verify again.

    Everything happens on the caller's connection, in the caller's transaction: nothing is stored until the transaction
    commits. An append may be repeated after a rollback. Concurrent appends to one subject wait for one another on the
    subject's row. `person` is the private group that says who gave the command; every event of an operator carries this
    group, so that no command can omit it.
    """

    def __init__(
        self, session_key: Ed25519PrivateKey, clock: Clock, chance: Chance, person: Mapping[str, Json] | None = None
    ) -> None:
        self._key = session_key
        self._clock = clock
        self._chance = chance
        self._person: Mapping[str, Mapping[str, Json]] = {} if person is None else {PERSON: person}
        self.own = OwnEntries()

    @classmethod
    def open(cls, clock: Clock, chance: Chance, person: Mapping[str, Json] | None = None) -> Self:
        """Returns a ledger with a fresh session key; call `enroll` before anything else is appended."""
        return cls(generate_signing_key(chance), clock, chance, person)

    @property
    def writer(self) -> str:
        """The session's public key in hex."""
        return public_hex(self._key)

    def sign(self, data: bytes) -> bytes:
        """Returns the session key's bare signature over `data`, for files that are handed out beside the log."""
        return self._key.sign(data)

    def enroll(self, conn: Connection, host_key: Ed25519PrivateKey) -> Appended:
        """Writes the enrolment of this session, signed by the host key.

        Where the head of the archive's chain was rolled back, the chain continues from its real end, and an anomaly
        event says so.
        """
        end = turned_back(conn)
        enrolled = self._append(conn, [(enrolment(self.writer), host_key)], _of_archive(end))[0]
        if end is not None:
            self.append(conn, ARCHIVE, Type.DB_ROLLBACK, {"subject": ARCHIVE, "head": end.head, "last": end.last})
        return enrolled

    def retire(self, conn: Connection, host_key: Ed25519PrivateKey) -> Appended:
        """Writes the retirement of this session, signed by the host key: any later event of the session is refused."""
        return self._append(conn, [(retirement(self.writer), host_key)])[0]

    @contextmanager
    def once(self, conn: Connection, host_key: Ed25519PrivateKey) -> Iterator[None]:
        """Enrols the session before the block and retires it afterwards, for a caller that writes in one transaction
        only."""
        self.enroll(conn, host_key)
        yield
        self.retire(conn, host_key)

    def append(
        self,
        conn: Connection,
        subject: str,
        type: str,  # noqa: A002  the field's name in the format
        data: Mapping[str, Json],
        *,
        op: str | None = None,
        outcome: str = "ok",
        private: Mapping[str, Mapping[str, Json]] | None = None,
        actor_kind: str = "worker",
        user: str | None = None,
    ) -> Appended:
        """Adds one event to `subject`'s chain, which begins with this event if there is no chain yet.

        Raises ValueError, with nothing written, when the event is outside the format.
        """
        draft = Draft(subject, type, data, private or _NOTHING, op, outcome, actor_kind, user)
        return self._append(conn, [(draft, self._key)])[0]

    def append_many(self, conn: Connection, drafts: Sequence[Draft], end: End | None = None) -> list[Appended]:
        """Adds many events in few statements; events of one subject follow each other in the order given.

        `end` is the real end of the archive's chain, if the chain's head states another.
        """
        return self._append(conn, [(draft, self._key) for draft in drafts], _of_archive(end))

    def append_behind(
        self,
        conn: Connection,
        ends: Mapping[str, End],
        ours: Sequence[Draft],
        host_key: Ed25519PrivateKey,
        admitting: Sequence[str],
    ) -> list[Appended]:
        """Appends, for a recovery, this session's enrolment, then `ours`, then the enrolment of the session keys in
        `admitting`, in hex.

        `ends` says where chains end, whatever their heads say; each of these chains must grow past its head.
        """
        first = [(enrolment(self.writer), host_key)]
        last = [(enrolment(key), host_key) for key in admitting]
        return self._append(conn, [*first, *((draft, self._key) for draft in ours), *last], ends)

    def retire_others(self, conn: Connection, host_key: Ed25519PrivateKey, keys: Sequence[str]) -> None:
        """Writes the retirement of these session keys, in hex, signed by the host key."""
        self._append(conn, [(retirement(key), host_key) for key in keys])

    def _append(
        self,
        conn: Connection,
        signed: Sequence[tuple[Draft, Ed25519PrivateKey]],
        ends: Mapping[str, End] = _NO_ENDS,
    ) -> list[Appended]:
        heads = _lock_heads(conn, {draft.subject for draft, _ in signed})
        for subject, end in ends.items():
            if subject in heads:
                heads[subject].seq, heads[subject].hash = end.last, end.hash
        appended, events, private = [], [], []
        for draft, key in signed:
            head = heads[draft.subject]
            seq = head.seq + 1
            groups = {**draft.private, **self._person} if draft.actor_kind == OPERATOR else draft.private
            salted = [(name, self._chance.token(32), group) for name, group in groups.items()]
            event = Event(
                subject=draft.subject,
                seq=seq,
                prev=head.hash.hex() if head.hash else None,
                type=draft.type,
                at=self._clock.now(),
                id=self._chance.uuid(),
                writer=public_hex(key),
                actor_kind=draft.actor_kind,
                user=draft.user,
                op=draft.op,
                outcome=draft.outcome,
                data=draft.data,
                priv={name: commitment(salt, group) for name, salt, group in salted},
            )
            entry = sign(event, key)
            self.own.add(entry, event)
            head.seq, head.hash = seq, leaf_hash(entry)
            appended.append(Appended(draft.subject, seq, head.hash))
            events.append({"subject_no": head.number, "seq": seq, "entry": entry})
            private += [
                {"subject_no": head.number, "seq": seq, "grp": name, "salt": salt, "data": private_bytes(group)}
                for name, salt, group in salted
            ]
        _insert(conn, events, private, heads.values())
        return appended


def enrolment(key: str) -> Draft:
    """Returns the draft that enrols this session key, in hex; a host key must sign it."""
    return Draft(ARCHIVE, Type.WRITER_ENROLLED, {"writer": key}, actor_kind="host")


def retirement(key: str) -> Draft:
    """Returns the draft that retires this session key, in hex; a host key must sign it."""
    return Draft(ARCHIVE, Type.WRITER_RETIRED, {"writer": key}, actor_kind="host")


def _of_archive(end: End | None) -> Mapping[str, End]:
    return _NO_ENDS if end is None else {ARCHIVE: end}


# Built once: making statements costs more than running them.
_HEADS = (
    select(custody_subject)
    .where(custody_subject.c.subject.in_(bindparam("subjects", expanding=True)))
    .order_by(custody_subject.c.subject)  # everybody locks in one order, so that nobody deadlocks
    .with_for_update()
)
# The usual case has its own statement: a list of parameters is expanded into new SQL at every execution.
_HEAD = select(custody_subject).where(custody_subject.c.subject == bindparam("of")).with_for_update()
_BEGIN = insert(custody_subject).returning(custody_subject.c.subject_no, custody_subject.c.subject)
_BEGIN_UNLESS_THERE = (
    postgresql.insert(custody_subject)
    .on_conflict_do_nothing()
    .returning(custody_subject.c.subject_no, custody_subject.c.subject)
)
_EVENT = insert(custody_pending)
_PRIVATE = insert(custody_private)
_ADVANCE = (
    update(custody_subject)
    .where(custody_subject.c.subject_no == bindparam("number"))
    .values(head_seq=bindparam("new_seq"), head_hash=bindparam("new_hash"))
)


def _lock_heads(conn: Connection, subjects: set[str]) -> dict[str, _Head]:
    """Returns the heads of `subjects`, locked until the transaction ends; missing subjects are created, with no event
    yet."""
    heads = _select_heads(conn, subjects)
    if missing := subjects - heads.keys():
        # On PostgreSQL another replica may be creating the same subject; SQLite's writer is alone.
        begin = _BEGIN_UNLESS_THERE if conn.dialect.name == "postgresql" else _BEGIN
        created = conn.execute(begin, [{"subject": subject, "head_seq": -1} for subject in sorted(missing)])
        heads |= {row.subject: _Head(row.subject_no, -1, None) for row in created}
        heads |= _select_heads(conn, subjects - heads.keys())
    return heads


def _select_heads(conn: Connection, subjects: Iterable[str]) -> dict[str, _Head]:
    ordered = sorted(subjects)
    if len(ordered) == 1:
        rows = conn.execute(_HEAD, {"of": ordered[0]}).all()
    else:
        pages = (ordered[start : start + _PAGE] for start in range(0, len(ordered), _PAGE))
        rows = [row for page in pages for row in conn.execute(_HEADS, {"subjects": page})]
    return {row.subject: _Head(row.subject_no, row.head_seq, row.head_hash) for row in rows}


def _insert(
    conn: Connection, events: list[dict[str, Any]], private: list[dict[str, Any]], heads: Iterable[_Head]
) -> None:
    if events:
        conn.execute(_EVENT, events)
        conn.execute(_ADVANCE, [{"number": head.number, "new_seq": head.seq, "new_hash": head.hash} for head in heads])
    if private:
        conn.execute(_PRIVATE, private)
