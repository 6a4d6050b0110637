"""Limits growth that cannot be undone: each edit of a listed row is an event in locked storage, each unreadable row a
gap.

One provider can make us keep only so much for ever in a day. Beyond that budget the journal stays as it is, and the
newest state is taken over when there is room again: edits in between coalesce. Recordings are saved all the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from archiver.ingest.tables import edited_row, feed_day

EDITS_A_DAY = 10_000
"""The number of edits of one provider's rows that are recorded in a UTC day."""
EDITS_EACH = 4
"""The number of edits of one recording that are recorded in a UTC day."""
CONTENTS_EACH = 16
"""The number of new contents under one known id that become recordings of their own in a UTC day."""

_CONTENTS = "id:"  # no id of a row begins so


def day_of(now: datetime) -> str:
    """Return the UTC day by which budgets are counted."""
    return f"{now.astimezone(UTC):%Y-%m-%d}"


def spend(conn: Connection, provider: str, now: datetime, *, edits: int = 0, rejects: int = 0) -> tuple[int, int]:
    """Count edits and rejects of this provider's day. Return the counts from before."""
    today = day_of(now)
    ours = (feed_day.c.provider == provider, feed_day.c.day == today)
    row = conn.execute(select(feed_day.c.edits, feed_day.c.rejects).where(*ours)).one_or_none()
    if row is None:
        conn.execute(delete(feed_day).where(feed_day.c.provider == provider, feed_day.c.day < today))
        over = (edited_row.c.provider == provider, edited_row.c.day < today, edited_row.c.deferred_since.is_(None))
        conn.execute(delete(edited_row).where(*over))
        conn.execute(insert(feed_day).values(provider=provider, day=today, edits=edits, rejects=rejects))
        return 0, 0
    if edits or rejects:
        more = {"edits": feed_day.c.edits + edits, "rejects": feed_day.c.rejects + rejects}
        conn.execute(update(feed_day).where(*ours).values(**more))
    return row.edits, row.rejects


@dataclass(frozen=True, slots=True)
class _EditCount:
    day: str
    times: int
    deferred_since: datetime | None


class EditBudget:
    """The edits that one page makes to known rows: decides which are recorded now, and counts them when the page is
    written."""

    def __init__(self, conn: Connection, provider: str, rows: Collection[str], now: datetime) -> None:
        self._conn = conn
        self._provider = provider
        self._now = now
        self._today = day_of(now)
        columns = edited_row.c
        edited = conn.execute(select(edited_row).where(columns.recording_id.in_(list(rows)))) if rows else ()
        self._known = {row.recording_id: _EditCount(row.day, row.told, row.deferred_since) for row in edited}
        self._changed: dict[str, _EditCount] = {}
        self._left: int | None = None
        self._spent = 0

    def admits(self, recording_id: str, *, as_another: bool = False) -> bool:
        """Say whether this edit may be recorded now. When the provider's day is used up, the recording is marked as
        deferred.

        `as_another`: the listing shows another recording under a known id, by which `recording_id` counts. It is
        deferred, too, when the id's own number for the day is used up: nothing of it is in the journal yet.
        """
        if self._left is None:
            self._left = EDITS_A_DAY - spend(self._conn, self._provider, self._now)[0]
        known = self._known.get(recording_id)
        times = known.times if known is not None and known.day == self._today else 0
        if times >= EDITS_EACH and not as_another:
            return False  # the next day's listing shows the latest state
        if self._left <= 0 or (as_another and times >= CONTENTS_EACH):
            since = known.deferred_since if known is not None and known.deferred_since is not None else self._now
            self._changed[recording_id] = _EditCount(self._today, times, since)
            return False
        self._left -= 1
        self._spent += 1
        self._changed[recording_id] = _EditCount(self._today, times + 1, None)
        return True

    def unchanged(self, recording_id: str) -> None:
        """Clear a deferred edit: the listing shows the known state again."""
        known = self._known.get(recording_id)
        if known is not None and known.deferred_since is not None:
            self._changed[recording_id] = _EditCount(known.day, known.times, None)

    def save(self) -> None:
        """Write down the recorded and the deferred edits, in the transaction of the page."""
        if self._spent:
            spend(self._conn, self._provider, self._now, edits=self._spent)
        if self._changed:
            self._conn.execute(delete(edited_row).where(edited_row.c.recording_id.in_(list(self._changed))))
            values = [
                {
                    "recording_id": name, "provider": self._provider, "day": edit.day, "told": edit.times,
                    "deferred_since": edit.deferred_since,
                }
                for name, edit in self._changed.items()
            ]  # fmt: skip
            self._conn.execute(insert(edited_row), values)


def content_budget(identity: str) -> str:
    """Return the name under which the new contents of one id are counted, apart from the edits of its rows."""
    return f"{_CONTENTS}{identity[:32]}"


def deferred(conn: Connection, provider: str) -> tuple[int, datetime | None]:
    """Count this provider's recordings with a deferred edit; return the count and the time of the oldest."""
    return _deferred(conn, provider, ~edited_row.c.recording_id.startswith(_CONTENTS))


def deferred_contents(conn: Connection, provider: str) -> tuple[int, datetime | None]:
    """Count this provider's ids with contents that are not taken over; return the count and the time of the oldest."""
    return _deferred(conn, provider, edited_row.c.recording_id.startswith(_CONTENTS))


def _deferred(conn: Connection, provider: str, of: ColumnElement[bool]) -> tuple[int, datetime | None]:
    owed = (edited_row.c.provider == provider, edited_row.c.deferred_since.is_not(None), of)
    row = conn.execute(select(func.count(), func.min(edited_row.c.deferred_since)).where(*owed)).one()
    return int(row[0]), row[1]
