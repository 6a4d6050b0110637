"""Keeps the entries in SQL, and the right to send them: a claim for a while, so that two replicas do not send the same
alert.

The claim is made by `UPDATE … WHERE` in the transaction that brings the entries up to date. When a replica dies with a
claim, another one takes over when the claim has run out: an alert may then be sent a second time, but is never left
unsent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, exists, insert, or_, select, update

from archiver.alerts import route
from archiver.alerts.route import Entry, Key, Route
from archiver.alerts.rule import Alert, Kind
from archiver.alerts.tables import alert_state

_KINDS = [each.value for each in Kind]


def bring_up(
    conn: Connection,
    firing: Sequence[Alert],
    routes: Sequence[Route],
    channels: Collection[str],
    now: datetime,
    elsewhere: Collection[str] = (),
) -> tuple[Key, ...]:
    """Make the entries agree with the alerts that hold now. Returns the entries that no route sends any more, now
    removed.

    When two replicas insert the same entry at once, the primary key lets one through; the other transaction is run
    again.
    """
    todo = route.changes(_known(conn), firing, routes, channels, now, elsewhere)
    for entry in todo.new:
        _insert(conn, entry)
    for entry in todo.changed:
        conn.execute(update(alert_state).where(_is(entry.key)).values(**_changing(entry)))
    for key in todo.dropped:
        conn.execute(delete(alert_state).where(_is(key)))
    return todo.dropped


def add(conn: Connection, entries: Sequence[Entry]) -> None:
    """Queue news. An entry that is already queued under the same key stays as it is."""
    known = _known(conn)
    for entry in entries:
        if entry.key not in known:
            _insert(conn, entry)


def claim(
    conn: Connection, token: str, channels: Collection[str], now: datetime, lasting: timedelta
) -> dict[str, list[Entry]]:
    """Claim, for `lasting`, the entries that are due on these channels and that nobody else has claimed.

    Returns them by channel.
    """
    free = or_(alert_state.c.claimed_until.is_(None), alert_state.c.claimed_until <= now)
    rows = conn.execute(
        update(alert_state)
        .where(
            alert_state.c.kind.in_(_KINDS),
            alert_state.c.channel.in_(channels),
            alert_state.c.due_at <= now,
            free,
        )
        .values(claim=token, claimed_until=now + lasting)
        .returning(*alert_state.c)
    )
    found: dict[str, list[Entry]] = {}
    for row in rows:
        found.setdefault(row.channel, []).append(_entry(row))
    return found


def settle(
    conn: Connection,
    token: str,
    sent: Sequence[Entry],
    routes: Sequence[Route],
    now: datetime,
    *,
    arrived: bool,
    retry_after: timedelta | None = None,
) -> int:
    """Record the outcome for the entries claimed under `token`, and release the claim. Returns the number still claimed
    so."""
    known = _known(conn, token)
    for told in sent:
        entry = known.get(told.key)
        if entry is None:
            continue
        if not arrived:
            after: Entry | None = route.after_refused(entry, retry_after, now)
        else:
            repeat = route.repeat_of(told.alert.kind, told.channel, routes) or timedelta(0)
            after = route.after_told(entry, told, repeat, now)
        if after is None:
            conn.execute(delete(alert_state).where(_is(told.key)))
        else:
            values = {**_changing(after), "claim": None, "claimed_until": None}
            conn.execute(update(alert_state).where(_is(told.key)).values(**values))
    return len(known)


def entries(conn: Connection) -> list[Entry]:
    """All entries, the oldest first."""
    rows = conn.execute(select(alert_state).where(alert_state.c.kind.in_(_KINDS)).order_by(alert_state.c.since))
    return [_entry(row) for row in rows]


def rename(conn: Connection, old: str, new: str) -> None:
    """Give the entries about a provider another subject; where `new` has an entry of its own, that of `old` goes."""
    others = alert_state.alias()
    there = exists().where(
        others.c.kind == alert_state.c.kind, others.c.channel == alert_state.c.channel, others.c.subject == new
    )
    of_provider = (alert_state.c.subject == old, alert_state.c.kind != Kind.STORAGE_NOT_TRUSTED)
    conn.execute(delete(alert_state).where(*of_provider, there))
    conn.execute(update(alert_state).where(*of_provider).values(subject=new))


def _known(conn: Connection, token: str | None = None) -> Mapping[Key, Entry]:
    """The entries, locked: another replica's changes are waited for and seen. Kinds of a newer version are left
    alone."""
    wanted = select(alert_state).where(alert_state.c.kind.in_(_KINDS))
    if token is not None:
        wanted = wanted.where(alert_state.c.claim == token)
    # In one order, so that two replicas cannot wait for each other.
    ordered = wanted.order_by(alert_state.c.kind, alert_state.c.subject, alert_state.c.channel).with_for_update()
    found = [_entry(row) for row in conn.execute(ordered)]
    return {entry.key: entry for entry in found}


def _insert(conn: Connection, entry: Entry) -> None:
    kind, subject, channel = entry.key
    conn.execute(
        insert(alert_state).values(kind=kind.value, subject=subject, channel=channel, **_changing(entry), claim=None)
    )


def _is(key: Key) -> ColumnElement[bool]:
    kind, subject, channel = key
    return and_(alert_state.c.kind == kind.value, alert_state.c.subject == subject, alert_state.c.channel == channel)


def _changing(entry: Entry) -> dict[str, Any]:
    return {
        "sentence": entry.alert.sentence,
        "weight": entry.alert.weight,
        "since": entry.since,
        "due_at": entry.due_at,
        "cleared_at": entry.cleared_at,
        "told_at": entry.told_at,
        "told_weight": entry.told_weight,
        "failures": entry.failures,
    }


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        alert=Alert(Kind(row.kind), row.subject, row.sentence, row.weight),
        channel=row.channel,
        since=row.since,
        due_at=row.due_at,
        cleared_at=row.cleared_at,
        told_at=row.told_at,
        told_weight=row.told_weight,
        failures=row.failures,
    )
