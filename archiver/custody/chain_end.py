"""Finds the end of the archive's own chain when the row that states it was changed.

Every process begins with an event of this chain. If that event were a fork, everything that the process writes would be
refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from archiver.custody.event import ARCHIVE, leaf_hash, verify
from archiver.custody.tables import custody_event, custody_pending, custody_subject, custody_subject_event
from archiver.errors import VerificationError


@dataclass(frozen=True, slots=True)
class End:
    """The real end of a chain: its head names event `head` as the newest, but the newest is event `last`, whose leaf
    hash is `hash`."""

    head: int
    last: int
    hash: bytes


def turned_back(conn: Connection) -> End | None:
    """Returns the real end of the archive's chain: in the log, which is signed, or behind it in the queue.

    Returns None where the head agrees, or names a later event. Locks the head until the transaction ends.
    """
    head = conn.execute(_HEAD).one_or_none()
    if head is None:
        return None
    # Before the log is read: an event that a sequencer takes from the queue meanwhile is then found in both, not in
    # neither.
    queue = {row.seq: row.entry for row in conn.execute(_QUEUE, {"no": head.subject_no})}
    end = _logged(conn, head.subject_no)
    if end is None:
        return None  # an empty log vouches for nothing
    last, entry = end
    # Forged rows, too: an event of their number could not be written, and an event behind them is admitted with a gap.
    while last + 1 in queue:
        last, entry = last + 1, queue[last + 1]
    if head.head_seq > last or (head.head_seq, head.head_hash) == (last, leaf_hash(entry)):
        return None
    return End(head.head_seq, last, leaf_hash(entry))


def _logged(conn: Connection, number: int) -> tuple[int, bytes] | None:
    """Returns the newest event of the chain in the log; None if the leaf there is no such event."""
    row = conn.execute(_LOGGED, {"no": number}).one_or_none()
    if row is None:
        return None
    try:
        event = verify(row.entry)
    except VerificationError:
        return None
    return (row.seq, row.entry) if (event.subject, event.seq) == (ARCHIVE, row.seq) else None


# Built once: making statements costs more than running them.
_HEAD = select(custody_subject).where(custody_subject.c.subject == ARCHIVE).with_for_update()
_QUEUE = select(custody_pending.c.seq, custody_pending.c.entry).where(custody_pending.c.subject_no == bindparam("no"))
_LOGGED = (
    select(custody_subject_event.c.seq, custody_event.c.entry)
    .join_from(
        custody_subject_event,
        custody_event,
        (custody_event.c.log_id == custody_subject_event.c.log_id)
        & (custody_event.c.leaf_index == custody_subject_event.c.leaf_index),
    )
    .where(custody_subject_event.c.subject_no == bindparam("no"))
    .order_by(custody_subject_event.c.seq.desc())
    .limit(1)
)
