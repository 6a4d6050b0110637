"""Takes events from the queue into the log, one batch per transaction: each event exactly once, in the order of the
queue.

**What is admitted.** An entry is admitted if its writer signed it, and a host key enrolled that writer (in the log, or
earlier in the same batch) and did not retire it; if the entry is the event that its row claims; and if it fits the
subject's events in the log: no other event has its number, it names the event before it, and the event behind it names
it. Where the event before it is missing, the entry is admitted and `anomaly.gap` says so: a gap is the fault of whoever
made it, not of the writer who came after.

**What is refused.** A refused row is kept in `custody_quarantine`, byte for byte, and an anomaly event says so. Then
the row leaves the queue, so that it blocks nobody: the true writer, whose INSERT ran into a forged row of the same
number, tries again and succeeds.

**What follows a refused event.** Later events are judged by the log alone. If the refused row was forged, the true
event of that number follows, fits, and the chain has no gap. If the refused event was the writer's own (somebody rolled
the subject's head back, so that the writer continued from a wrong place), the next event finds a gap before it and is
admitted with `anomaly.gap`: a chain is never cut off for good, and each of its events is either a leaf, or in
quarantine and named by a leaf. If a writer was refused because its host key was missing from the configuration,
`reconsider` brings its events back once the key is there; they fill the gap that they left.

**Why anomalies end.** Anomaly events may be refused like any other. An anomaly about an event of the archive's own
chain is the last one: if it, too, is refused or has a gap before it, nothing more is written about it, though it is
kept. So an event is followed by two anomalies at most, whatever is wrong with our own writer or with the database. For
the same reason the archive's chain, if its head was rolled back, continues from the log's end: otherwise its anomalies
would be forks themselves.

**What the sequencer believes.** It verifies each signature but those that this very process made over the same bytes
(`custody.own`). It believes no unsigned statement of the database: an enrolment counts only as far as a
host signed it, and a row is refused because of an event in the log only if that event is itself one of ours. Where the
log's own rows are wrong, `VerificationError` names them and nothing is done: building on a tampered tree would make the
tampering look agreed to.

Any number of sequencers may run at once; the tree's row lets them through one by one (`archiver.translog.tree`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, ScalarSelect, bindparam, cast, delete, func, insert, select

from archiver.custody.chain_end import turned_back
from archiver.custody.event import ARCHIVE, Event, Type, is_subject, leaf_hash, parse, verify
from archiver.custody.ledger import Draft, Ledger
from archiver.custody.tables import BIGINT, custody_event, custody_pending, custody_subject, custody_subject_event
from archiver.database import db_now
from archiver.errors import ConfigurationError, LeaseLostError, UnavailableError, VerificationError
from archiver.recording import Json
from archiver.translog import enrolment
from archiver.translog import tree as trees
from archiver.translog.tables import custody_quarantine
from archiver.translog.tree import Leaf, Tree, open_log

__all__ = ["Integrated", "Refusal", "Sequencer", "open_log"]

_MAX_SEQ = 2**31 - 1
_TOLD = frozenset({Type.BAD_WRITER_SIG, Type.CHAIN_FORK, Type.GAP})


class Refusal(enum.StrEnum):
    """The reason why an entry is not evidence as it stands; the words in `custody_quarantine.reason`."""

    SIGNATURE = "signature"  # not an event, or not signed by the writer that it names
    WRITER = "writer"  # of a writer that no host enrolled, or that was retired
    PLACE = "place"  # another event than the row says
    FORK = "fork"  # the subject has another event of this number
    LINK = "link"  # names another event before it, or is not the one that the event behind it names


@dataclass(frozen=True, slots=True)
class Integrated:
    """The tree after a batch. `taken` rows left the queue; `quarantined` of them went into quarantine."""

    size: int
    root: bytes
    taken: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A refusal, and the event in the log that caused it, if one did; that event's number is `step` from the row's."""

    refusal: Refusal
    step: int = 0
    standing: bytes | None = None


@dataclass(slots=True)
class _Batch:
    """The outcome for the rows of one batch."""

    tree: Tree
    writers: dict[str, bool]
    leaves: list[Leaf] = field(default_factory=list)
    by_place: dict[tuple[int, int], Leaf] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)
    anomalies: list[Draft] = field(default_factory=list)
    changes: list[enrolment.Change] = field(default_factory=list)

    def beside(self, row: Row[Any], step: int) -> bytes | None:
        """Returns the subject's event in the log, or admitted in this batch, whose number is `step` from the row's."""
        leaf = self.by_place.get((row.subject_no, row.seq + step))
        entry: bytes | None = leaf.entry if leaf else getattr(row, _STEPS[step])
        return entry


class Sequencer:
    """Grows one log from the queue. `hosts` are the host keys that may enrol writers, in hex, including those of old
    hosts.

    `ledger` writes the anomaly events, which come to the log with a later batch like any other event.
    """

    def __init__(self, ledger: Ledger, hosts: frozenset[str], log_id: int) -> None:
        self._ledger = ledger
        self._hosts = hosts
        self._log_id = log_id

    def knows(self, host: str) -> bool:
        """Tells whether this host key, in hex, may enrol and retire writers here."""
        return host in self._hosts

    def integrate(self, conn: Connection, limit: int = 1000, *, telling: bool = True) -> Integrated:
        """Takes up to `limit` rows, in the caller's transaction. Fewer taken rows mean that the queue is empty.

        Raises `VerificationError` when the log's rows are not what they were, or the queue does not keep what is
        written to it; `ConfigurationError` when our own writer was refused; `LeaseLostError` when another sequencer did
        the same work. Without `telling`, for a writer that writes no more, raises `UnavailableError` when an anomaly
        must be written. The caller rolls back.
        """
        if conn.execute(_ANY).first() is None:
            tree = trees.read(conn, self._log_id)
            return Integrated(tree.size, tree.root, 0, 0)
        tree = trees.lock(conn, self._log_id)  # before the queue is read: rows taken by others are gone by then
        rows = conn.execute(_TAKE, {"limit": limit}).all()
        events = [self._ledger.own.event(row.entry) or _verified(row.entry) for row in rows]
        batch = _Batch(tree, enrolment.find(conn, enrolment.keys_of(events), self._hosts))
        for row, event in zip(rows, events, strict=True):
            self._judge(conn, batch, row, event)
        if batch.anomalies and not telling:
            raise UnavailableError("the queue has rows that an anomaly must tell of: left to the next process")
        return self._keep(conn, batch, rows)

    def reconsider(self, conn: Connection) -> int:
        """Puts rows back into the queue that were refused for their writer, where that writer is one of ours by now.
        Returns their number.

        Use this after a host key was added to the configuration. The rows go back in the order in which they came, so
        that the events of a writer stand between its enrolment and its retirement again. Integrate and call again until
        nothing is found.
        """
        found = last = 0
        writers: dict[str, bool] = {}
        while rows := conn.execute(_REFUSED, {"after": last}).all():
            events = [_verified(row.entry) for row in rows]
            writers = enrolment.find(conn, enrolment.keys_of(events), self._hosts) | writers
            back = {}
            for row, event in zip(rows, events, strict=True):
                if event and self._may_write(event, writers):
                    back[row.subject_no, row.seq] = row.entry
                    enrolment.learn(writers, event, 0)
            if back:
                conn.execute(
                    _PUT_BACK, [{"subject_no": no, "seq": seq, "entry": raw} for (no, seq), raw in back.items()]
                )
            found += len(back)
            last = rows[-1].id
        return found

    def _may_write(self, event: Event, writers: Mapping[str, bool]) -> bool:
        return event.writer in self._hosts if event.type in enrolment.BY_HOST else writers.get(event.writer, False)

    def _judge(self, conn: Connection, batch: _Batch, row: Row[Any], event: Event | None) -> None:
        if batch.beside(row, 0) == row.entry:
            return  # stands in the log already: the queue is older than the log, as after a restored backup
        verdict = self._verdict(batch, row, event)
        if verdict is None:
            assert event is not None
            self._admit(conn, batch, row, event)
            return
        self._check_standing(conn, batch, row, verdict)
        if verdict.refusal is Refusal.WRITER and event and event.writer == self._ledger.writer:
            # Anomalies would never end: each one that we wrote about the row would be refused in turn.
            raise ConfigurationError("this process's own writer is not enrolled by a known host key")
        batch.refused.append({"log_id": self._log_id, "subject_no": row.subject_no, "seq": row.seq,
                              "entry": row.entry, "reason": str(verdict.refusal)})  # fmt: skip
        if not (event and _is_last_word(event) and self._may_write(event, batch.writers)):
            batch.anomalies.append(_refusal(row, verdict))

    def _verdict(self, batch: _Batch, row: Row[Any], event: Event | None) -> _Verdict | None:
        """Returns None where the event may stand in the log; else the verdict."""
        if event is None:
            return _Verdict(Refusal.SIGNATURE)
        if not self._may_write(event, batch.writers):
            return _Verdict(Refusal.WRITER)
        if (event.subject, event.seq) != (row.subject, row.seq):
            return _Verdict(Refusal.PLACE)
        before, same, behind = (batch.beside(row, step) for step in (-1, 0, 1))
        if same is not None:
            return _Verdict(Refusal.FORK, 0, same)
        if before is not None and event.prev != leaf_hash(before).hex():
            return _Verdict(Refusal.LINK, -1, before)
        if behind is not None and _prev(behind) != leaf_hash(row.entry).hex():
            return _Verdict(Refusal.LINK, 1, behind)
        return None

    def _check_standing(self, conn: Connection, batch: _Batch, row: Row[Any], verdict: _Verdict) -> None:
        """Raises `VerificationError` when a row would be refused for the sake of a log row that was tampered with."""
        seq = row.seq + verdict.step
        if verdict.standing is None or (row.subject_no, seq) in batch.by_place:
            return
        event = _verified(verdict.standing)
        if event is None or (event.subject, event.seq) != (row.subject, seq):
            raise VerificationError(f"what the log has as event {seq} of {row.subject} is not that event")
        writers = self._hosts if event.type in enrolment.BY_HOST else enrolment.find(conn, {event.writer}, self._hosts)
        if event.writer not in writers:
            raise VerificationError(
                f"event {seq} of {row.subject}, in the log, is by a writer that no known host enrolled"
            )

    def _admit(self, conn: Connection, batch: _Batch, row: Row[Any], event: Event) -> None:
        if event.seq and batch.beside(row, -1) is None and not _is_last_word(event):
            batch.anomalies.append(_gap(row, _last_below(conn, batch, row)))
        at = batch.tree.size + len(batch.leaves)
        leaf = Leaf(row.subject_no, event, row.entry, leaf_hash(row.entry))
        batch.leaves.append(leaf)
        batch.by_place[row.subject_no, row.seq] = leaf
        if (change := enrolment.learn(batch.writers, event, at)) is not None:
            batch.changes.append(change)

    def _keep(self, conn: Connection, batch: _Batch, rows: Sequence[Row[Any]]) -> Integrated:
        grown = trees.grow(conn, batch.tree, batch.leaves)
        enrolment.record(conn, self._log_id, batch.changes)
        if batch.refused:
            conn.execute(_QUARANTINE, batch.refused)
        if rows and conn.execute(_LEAVE, {"pids": [row.pid for row in rows]}).rowcount != len(rows):
            raise LeaseLostError("another sequencer took the same events")
        if batch.anomalies:
            self._tell(conn, batch.anomalies)
        return Integrated(grown.size, grown.root, len(rows), len(batch.refused))

    def _tell(self, conn: Connection, anomalies: Sequence[Draft]) -> None:
        """Writes the anomalies. Raises `VerificationError` where the queue changes them, since each would be refused
        and reported in turn."""
        appended = self._ledger.append_many(conn, anomalies, turned_back(conn))
        kept = conn.execute(_KEPT, {"of": ARCHIVE, "first": appended[0].seq, "last": appended[-1].seq}).all()
        if [(row.seq, leaf_hash(row.entry)) for row in kept] != [(each.seq, each.leaf_hash) for each in appended]:
            raise VerificationError("custody_pending does not keep events as they are written")


def _beside(step: int) -> ScalarSelect[Any]:
    """Returns a subquery for the entry in the log whose number is `step` from the row's.

    Each row has its own subquery, so that the entry is always looked up by key: the statistics of a queue that is full
    and empty again within a second mislead a planner. The number is cast, because the largest number has a next one
    too.
    """
    place = custody_subject_event.alias()
    return (
        select(custody_event.c.entry)
        .join_from(
            place,
            custody_event,
            (custody_event.c.log_id == place.c.log_id) & (custody_event.c.leaf_index == place.c.leaf_index),
        )
        .where(
            place.c.subject_no == custody_pending.c.subject_no,
            place.c.seq == cast(custody_pending.c.seq, BIGINT) + step,
        )
        .order_by(place.c.log_id, place.c.leaf_index)
        .limit(1)
        .scalar_subquery()
    )


_STEPS = {-1: "before", 0: "same", 1: "behind"}

# Built once: making statements costs more than running them.
_ANY = select(custody_pending.c.pid).order_by(custody_pending.c.pid).limit(1)
_TAKE = (
    select(
        custody_pending.c.pid,
        custody_pending.c.subject_no,
        custody_pending.c.seq,
        custody_pending.c.entry,
        custody_subject.c.subject,
        *(_beside(step).label(name) for step, name in _STEPS.items()),
    )
    .outerjoin_from(custody_pending, custody_subject)  # a row without its subject is refused, not overlooked
    .order_by(custody_pending.c.pid)
    .limit(bindparam("limit"))
)
_LEAVE = delete(custody_pending).where(custody_pending.c.pid.in_(bindparam("pids", expanding=True)))
_QUARANTINE = insert(custody_quarantine).values(at=db_now())
_LAST_BELOW = select(func.max(custody_subject_event.c.seq)).where(
    custody_subject_event.c.subject_no == bindparam("no"), custody_subject_event.c.seq < bindparam("seq")
)
_KEPT = (
    select(custody_pending.c.seq, custody_pending.c.entry)
    .join_from(custody_pending, custody_subject)
    .where(custody_subject.c.subject == ARCHIVE, custody_pending.c.seq.between(bindparam("first"), bindparam("last")))
    .order_by(custody_pending.c.seq)
)
_refused, _again = custody_quarantine, custody_quarantine.alias()
_REFUSED = (  # for the writer alone, and since then neither put back nor refused for something else
    select(_refused.c.id, _refused.c.subject_no, _refused.c.seq, _refused.c.entry)
    .where(
        _refused.c.id > bindparam("after"),
        _refused.c.reason == str(Refusal.WRITER),
        *(
            ~select(table.c.seq)
            .where(table.c.subject_no == _refused.c.subject_no, table.c.seq == _refused.c.seq, *more)
            .exists()
            for table, more in (
                (custody_pending, ()),
                (custody_subject_event, ()),
                (_again, (_again.c.entry == _refused.c.entry, _again.c.reason != str(Refusal.WRITER))),
            )
        ),
    )
    .order_by(_refused.c.id)
    .limit(500)
)
_PUT_BACK = insert(custody_pending)


def _verified(entry: bytes) -> Event | None:
    try:
        return verify(entry)
    except VerificationError:
        return None


def _prev(entry: bytes) -> str | None:
    try:
        return parse(entry).prev
    except VerificationError:
        return None


def _is_last_word(event: Event) -> bool:
    """Tells whether the event reports on the archive's own chain: anomalies about such events could follow one another
    for ever."""
    return event.subject == ARCHIVE and event.type in _TOLD and event.data.get("subject") == ARCHIVE


def _last_below(conn: Connection, batch: _Batch, row: Row[Any]) -> int:
    """Returns the largest number below the row's that the subject has in the log; -1 if it has none."""
    kept = conn.execute(_LAST_BELOW, {"no": row.subject_no, "seq": row.seq}).scalar_one()
    here = [seq for no, seq in batch.by_place if no == row.subject_no and seq < row.seq]
    return max([-1 if kept is None else kept, *here])


def _refusal(row: Row[Any], verdict: _Verdict) -> Draft:
    data = {**_place(row), "reason": str(verdict.refusal), "leaf_hash": leaf_hash(row.entry).hex()}
    if verdict.standing is not None:
        data["standing"] = leaf_hash(verdict.standing).hex()
    forged = verdict.refusal in {Refusal.SIGNATURE, Refusal.WRITER}
    return Draft(ARCHIVE, Type.BAD_WRITER_SIG if forged else Type.CHAIN_FORK, data)


def _gap(row: Row[Any], last: int) -> Draft:
    return Draft(ARCHIVE, Type.GAP, {**_place(row), "missing_from": last + 1, "leaf_hash": leaf_hash(row.entry).hex()})


def _place(row: Row[Any]) -> Mapping[str, Json]:
    """Returns the row's claim, as far as an event can repeat it; whoever forged the row chose both values."""
    return {
        "subject": row.subject if row.subject is not None and is_subject(row.subject) else None,
        "seq": row.seq if 0 <= row.seq <= _MAX_SEQ else None,
    }
