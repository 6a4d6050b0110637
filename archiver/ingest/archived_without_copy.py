"""Finds rows that an older version called archived although no storage had taken a copy, and asks for them again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from archiver import errors
from archiver.custody import history
from archiver.custody.event import Type, parse
from archiver.custody.ledger import Ledger
from archiver.ingest.claims import dump_flags
from archiver.ingest.journal import flags_now
from archiver.ingest.tables import copy, recording
from archiver.recording import Flag, Reason, State

_COPY = select(copy.c.recording_id).where(copy.c.recording_id == recording.c.id).exists()
_UNPROVED = (recording.c.state == State.ARCHIVED, recording.c.owner.is_(None), ~_COPY)


def search(conn: Connection) -> list[str]:
    """Return the recordings called archived of which neither journal nor custody knows a copy. Walks the whole journal.

    Where custody knows a copy, the journal has lost it: `verify` and `rebuild` deal with that, not the provider.
    """
    ids = conn.execute(select(recording.c.id).where(*_UNPROVED).order_by(recording.c.id)).scalars().all()
    return [each for each in ids if not _was_stored(conn, each)]


def disown(conn: Connection, ledger: Ledger, ids: Sequence[str]) -> int:
    """Put such recordings back into the queue, flagged and with an event each. Return the count of those still
    found."""
    count = 0
    for each in ids:
        values = {
            "state": State.WAITING,
            "reason": Reason.RETRY,
            "ready": True,
            "next_attempt_at": None,
            "attempts": 0,
            "denials": 0,
            "denied_at": None,
            "archived_at": None,
            "retain_until": None,
            "retention_rule": None,
            "segment": None,
            "flags": dump_flags(flags_now(conn, each) | {Flag.NO_COPY}),
            "last_error": "an older version called it archived, and no storage has a copy",
        }
        if conn.execute(update(recording).where(recording.c.id == each, *_UNPROVED).values(**values)).rowcount:
            ledger.append(conn, f"rec:{each}", Type.GAP, {"reason": "no_copy"})
            count += 1
    return count


def _was_stored(conn: Connection, recording_id: str) -> bool:
    """Say whether custody knows a copy; in doubt it does."""
    try:
        return any(parse(each.raw).type == Type.STORED for each in history.entries(conn, f"rec:{recording_id}"))
    except errors.VerificationError:
        return True
