"""Restores register and statements from custody events that come back into a database which had lost them.

Works inside the transaction that brings the events back, in the order of the log; replaying an event twice changes
nothing. Facts that are in no event stay unknown until somebody looks again: gaps that are only watched, a gap's detail,
a statement's own bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date, datetime

from sqlalchemy import Connection, Row, delete, insert, select, update

from archiver.completeness.gap import Code
from archiver.completeness.register import JOURNAL
from archiver.completeness.statement import told_of
from archiver.completeness.tables import LOST, gap, statement
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Event, Type, is_subject, parse
from archiver.ingest.tables import reject
from archiver.recording import Json

_LAST = 2**31 - 1
_ROW_LOST = "what was in it was lost with the database"
_DETAIL = "told by the custody log; what was known beyond that was lost with the database"


def follow(conn: Connection, events: Iterable[Event]) -> None:
    """Bring register and statements up to date with these events."""
    for event in events:
        if event.type == Type.GAP and isinstance(event.data.get("gap"), str):
            _gap(conn, event)
        elif told_of(event):
            _statement(conn, event)
        elif event.type == Type.PROVIDER_RENAMED:
            old, new = str(event.data.get("from")), str(event.data.get("to"))
            for table in (gap, statement, reject):
                conn.execute(update(table).where(table.c.provider == old).values(provider=new))


def restore_reasons(conn: Connection) -> int:
    """Restore the person and the reason of each acknowledgement from custody's private side. Returns the number
    restored."""
    rows = conn.execute(select(gap.c.id, gap.c.subject).where(gap.c.acked_at.is_not(None), gap.c.acked_by.is_(None)))
    lacking = {row.id: row.subject if is_subject(row.subject) else ARCHIVE for row in rows}
    restored = 0
    for subject in sorted(set(lacking.values())):
        for event in _acknowledgements(conn, subject):
            gap_id = str(event.data.get("gap"))
            acknowledgement = (
                history.private(conn, subject, event.seq).get("ack") if lacking.get(gap_id) == subject else None
            )
            if acknowledgement is not None:
                values = {
                    "acked_by": acknowledgement.data.get("user"),
                    "ack_reason": acknowledgement.data.get("reason"),
                }
                restored += conn.execute(update(gap).where(gap.c.id == gap_id).values(**values)).rowcount
    return restored


def _acknowledgements(conn: Connection, subject: str) -> Iterator[Event]:
    """The acknowledgements in the subject's chain, in the order in which they were made."""
    events, before = list[Event](), _LAST
    while page := history.of_type(conn, subject, Type.GAP, before):
        before = page[-1].seq
        events += [parse(each.raw) for each in page]
    waiting = [parse(each.raw) for each in history.waiting(conn, subject)]
    events = sorted({each.seq: each for each in (*events, *waiting)}.values(), key=lambda event: event.seq)
    return (each for each in events if each.type == Type.GAP and each.data.get("status") == "acknowledged")


# --- gaps -----------------------------------------------------------------------------------------------------


def _gap(conn: Connection, event: Event) -> None:
    gap_id = str(event.data["gap"])
    row = conn.execute(select(gap).where(gap.c.id == gap_id)).one_or_none()
    _reject(conn, event)
    match event.data.get("status"):
        case "closed":
            same = gap.c.id == gap_id
            conn.execute(update(gap).where(same).values(closed_at=event.at, seen_at=event.at))
        case "acknowledged":
            _stand(conn, event, row)
            if row is None or row.acked_at is None:  # a known acknowledgement keeps its person and reason
                conn.execute(update(gap).where(gap.c.id == gap_id).values(acked_at=event.at))
        case "opened" | "reclassified":
            _stand(conn, event, row)


def _stand(conn: Connection, event: Event, row: Row[tuple[object, ...]] | None) -> None:
    """Write the open gap with this reason, as `register` would have written it."""
    values = _values(event)
    if row is None:
        # An earlier gap of the same subject was only watched when it closed, so no event tells of its end.
        alike = [gap.c[name] == values[name] for name in ("provider", "source", "subject")]
        conn.execute(update(gap).where(*alike, gap.c.closed_at.is_(None)).values(closed_at=event.at, seen_at=event.at))
        conn.execute(insert(gap).values(id=event.data["gap"], detail=_DETAIL, opened_at=event.at, **values))
    elif row.closed_at is None:
        if row.code != values["code"]:
            values |= {"detail": _DETAIL, "acked_at": None, "acked_by": None, "ack_reason": None}
        conn.execute(update(gap).where(gap.c.id == row.id).values(**values))


def _reject(conn: Connection, event: Event) -> None:
    """Restore or remove the journal's record of a row that was not understood.

    The row's gap is open as long as that record exists. The row's content is lost with the database; the fact that the
    row was listed is not.
    """
    kind, _, digest = str(event.data.get("about")).partition(":")
    if kind != "reject":
        return
    named = {"provider": str(event.data.get("provider")), "digest": digest[:64]}
    same = [reject.c[name] == value for name, value in named.items()]
    if event.data.get("status") == "closed":
        conn.execute(delete(reject).where(*same, reject.c.problem == _ROW_LOST))
    elif conn.execute(select(reject.c.digest).where(*same)).first() is None:
        first = _instant(event.data.get("since")) or event.at
        last = _instant(event.data.get("until")) or first
        seen = {"raw": b"{}", "problem": _ROW_LOST, "first_seen_at": first, "last_seen_at": last}
        conn.execute(insert(reject).values(**named, **seen))


def _values(event: Event) -> dict[str, object]:
    data = event.data
    about = str(data.get("about"))
    return {
        "provider": str(data.get("provider") or ""),
        "source": str(data.get("source") or _source(str(data.get("code")), about)),
        "subject": about,
        "code": str(data.get("code")),
        "grade": str(data.get("grade")),
        "evidence": json.dumps(data.get("evidence") or {}, sort_keys=True),
        "since": _instant(data.get("since")),
        "until": _instant(data.get("until")),
        "seen_at": event.at,
    }


def _source(code: str, about: str) -> str:
    """The source of a gap by its code and subject, for old events that do not name it."""
    kind, _, rest = about.partition(":")
    if kind in ("object", "cover"):
        return f"reconcile:{rest.partition('/')[0]}"
    return "reconcile:custody" if code in (Code.CHAIN_GAP, Code.ORPHAN) else JOURNAL


def _instant(value: Json) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


# --- statements -----------------------------------------------------------------------------------------------


def _statement(conn: Connection, event: Event) -> None:
    """Restore the last statement of a day, so that the next statement continues from there."""
    data = event.data
    named = {"provider": str(data["provider"]), "day": date.fromisoformat(str(data["day"]))}
    same = [statement.c[name] == value for name, value in named.items()]
    row = conn.execute(select(statement).where(*same)).one_or_none()
    values = {
        "sha256": str(data["statement_sha256"]),
        "issued_at": event.at,
        "revision": int(str(data["revision"])),
        "event_seq": event.seq,
    }
    if row is None:
        conn.execute(insert(statement).values(**named, document=LOST, **values))
    else:
        # This also replaces what a rolled-back database stated later: the log's history is the one that counts.
        document = row.document if row.sha256 == values["sha256"] else LOST
        conn.execute(update(statement).where(*same).values(document=document, **values))
