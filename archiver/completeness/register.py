"""Keeps gaps over time: first seen, reclassified, closed when the recording turned up, acknowledged by a person.

Each of these steps of an open gap is a custody event. All functions work inside the caller's transaction. A second
`refresh` with the same gaps changes nothing but `seen_at`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, text, update

from archiver import errors
from archiver.clock import Chance
from archiver.completeness.gap import Code, Gap, Grade
from archiver.completeness.tables import gap
from archiver.custody.event import ARCHIVE, Type, is_subject
from archiver.custody.ledger import Draft, Ledger
from archiver.ingest import journal_pages
from archiver.instants import precise_or_none
from archiver.recording import Json

JOURNAL = "journal"
_MOST_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes that one `refresh` made in the register, counted; `deferred`: new gaps left for the next one."""

    opened: int
    changed: int
    closed: int
    deferred: int


def refresh(
    conn: Connection,
    ledger: Ledger,
    chance: Chance,
    provider: str | None,
    found: Iterable[Gap],
    now: datetime,
    *,
    source: str = JOURNAL,
    whole: bool = True,
    spared: Collection[tuple[str, str]] = (),
) -> Changes:
    """Bring the register up to date with every gap that `source` sees now; gaps that it no longer sees are closed.

    `provider` None: `source` looked at all providers. Not `whole`: `found` is not everything that `source` saw, so
    nothing is closed. `spared`: provider and subject of gaps that `source` did not look at, which stay as they are.
    Explained gaps are not registered. A new reason for the same subject, or a higher count, ends the gap's
    acknowledgement.
    """
    alone(conn)
    seen = {(each.provider, each.subject): each for each in found if each.grade is not Grade.EXPLAINED}
    rows = {(row.provider, row.subject): row for row in conn.execute(select(gap).where(*_ours(provider, source)))}
    fresh = [seen[name] for name in sorted(seen.keys() - rows.keys())]
    new = [{"id": chance.uuid(), **_values(each, source, now)} for each in fresh[:_MOST_AT_ONCE]]
    drafts = [
        _event(each, str(values["id"]), "opened", source)
        for each, values in zip(fresh, new, strict=False)
        if each.grade is Grade.OPEN
    ]
    if new:
        conn.execute(insert(gap), new)
    changed = 0
    for name in sorted(seen.keys() & rows.keys()):
        drafts += _renew(conn, rows[name], seen[name], now)
        changed += rows[name].code != seen[name].code
    gone = [rows[name] for name in sorted(rows.keys() - seen.keys() - set(spared))] if whole else []
    for row in gone:
        conn.execute(update(gap).where(gap.c.id == row.id).values(closed_at=now, seen_at=now))
        if row.grade == Grade.OPEN:
            drafts.append(_event(_gap(row), row.id, "closed", row.source))
    if drafts:
        ledger.append_many(conn, drafts)
    return Changes(len(new), changed, len(gone), max(0, len(fresh) - len(new)))


def _renew(conn: Connection, row: Row[Any], it: Gap, now: datetime) -> list[Draft]:
    """Update the row of a gap that is still there, for the same reason or another one. Returns the event to write, if
    any."""
    values: dict[str, object] = {"seen_at": now}
    same = (row.code, row.grade) == (it.code, it.grade)
    if not same or row.detail != it.detail:
        values |= {name: value for name, value in _values(it, row.source, now).items() if name != "opened_at"}
    if row.code != it.code or _grew(json.loads(row.evidence), it.evidence):
        values |= {"acked_at": None, "acked_by": None, "ack_reason": None}
    conn.execute(update(gap).where(gap.c.id == row.id).values(**values))
    if same or Grade.OPEN not in {row.grade, it.grade}:
        return []
    return [_event(it, row.id, "opened" if row.grade != Grade.OPEN else "reclassified", row.source)]


def _grew(before: Mapping[str, Json], now: Mapping[str, Json]) -> bool:
    """Tell whether a gap's count of recordings or events has grown: nobody has acknowledged the additional ones."""
    pairs = ((before.get(name), now.get(name)) for name in ("recordings", "events"))
    return any(isinstance(was, int) and isinstance(count, int) and count > was for was, count in pairs)


def acknowledge(conn: Connection, ledger: Ledger, wanted: str, by: str, reason: str, now: datetime) -> list[str]:
    """Acknowledge a gap: a person has seen it and says why nothing more is to be done. Returns the ids of the gaps.

    `wanted` is an id, its beginning, or a subject. Raises `NotFoundError` unless the open gaps named by `wanted` have
    one subject, and `NotAllowedError` without a reason. The reason may name people: it is kept beside the event, which
    commits to it.
    """
    if not reason.strip():
        raise errors.NotAllowedError("an acknowledgement needs a reason")
    named = or_(gap.c.id.startswith(wanted, autoescape=True), gap.c.subject.in_([wanted, f"rec:{wanted}"]))
    rows = conn.execute(select(gap).where(gap.c.closed_at.is_(None), named)).all() if wanted else []
    if len({row.subject for row in rows}) != 1:
        raise errors.NotFoundError(f"{len(rows)} open gaps are called {wanted[:80]!r}")
    for row in rows:
        conn.execute(
            update(gap).where(gap.c.id == row.id).values(acked_at=now, acked_by=by, ack_reason=reason, seen_at=now)
        )
    private: Mapping[str, Mapping[str, Json]] = {"ack": {"user": by, "reason": reason}}
    ledger.append_many(conn, [_event(_gap(row), row.id, "acknowledged", row.source, private) for row in rows])
    about = [row.subject.removeprefix("rec:") for row in rows if row.subject.startswith("rec:")]
    # The words of an acknowledgement are private: after a loss of the database they come back only from the catalogue.
    journal_pages.describe_anew(conn, about)
    return [row.id for row in rows]


def open_gaps(conn: Connection, provider: str | None = None, *, closed: bool = False) -> list[dict[str, Json]]:
    """The open gaps as scripts see them (`archiver.gaps/v1`, member `gaps`), oldest first; `closed` adds the closed
    ones."""
    wanted = select(gap).order_by(gap.c.opened_at, gap.c.id)
    if provider is not None:
        wanted = wanted.where(gap.c.provider == provider)
    if not closed:
        wanted = wanted.where(gap.c.closed_at.is_(None))
    return [_public(row) for row in conn.execute(wanted)]


def unsettled(conn: Connection) -> dict[str, dict[str, int]]:
    """The number of open gaps that nobody has acknowledged, by provider ("" for gaps of no provider) and reason
    code."""
    found: dict[str, dict[str, int]] = {}
    wanted = (gap.c.closed_at.is_(None), gap.c.acked_at.is_(None), gap.c.grade == Grade.OPEN)
    rows = conn.execute(
        select(gap.c.provider, gap.c.code, func.count()).where(*wanted).group_by(gap.c.provider, gap.c.code)
    )
    for provider, code, count in rows:
        found.setdefault(provider, {})[code] = count
    return found


def settled_losses(conn: Connection) -> dict[str, int]:
    """The number of recordings that are gone and whose loss somebody has acknowledged, by provider."""
    said = (gap.c.closed_at.is_(None), gap.c.acked_at.is_not(None), gap.c.code.in_([Code.GONE, Code.MONTH_BOUNDARY]))
    rows = conn.execute(select(gap.c.provider, func.count()).where(*said).group_by(gap.c.provider))
    return {row[0]: row[1] for row in rows}


def of_source(conn: Connection, source: str) -> list[dict[str, Json]]:
    """The open gaps of `source`, as the register has them."""
    return [_public(row) for row in conn.execute(select(gap).where(*_ours(None, source)))]


def of_subject(conn: Connection, subject: str) -> list[dict[str, Json]]:
    """All gaps of one subject in the register, open and closed, newest first."""
    rows = conn.execute(select(gap).where(gap.c.subject == subject).order_by(gap.c.opened_at.desc()))
    return [_public(row) for row in rows]


def find(conn: Connection, wanted: str) -> dict[str, Json] | None:
    """The one gap, open or closed, whose id begins with `wanted`; None when there is none, or more than one."""
    rows = conn.execute(select(gap).where(gap.c.id.startswith(wanted, autoescape=True)).limit(2)).all()
    return _public(rows[0]) if wanted and len(rows) == 1 else None


def shown(it: Gap, registered: Mapping[str, Json] | None) -> dict[str, Json]:
    """A gap in the register's form; values that the register does not know yet are null."""
    blank = dict.fromkeys(("id", "opened_at", "seen_at", "closed_at", "acked_at", "acked_by", "ack_reason"))
    return {
        **(registered or {**blank, "source": JOURNAL}),
        "provider": it.provider,
        "subject": it.subject,
        "code": str(it.code),
        "grade": str(it.grade),
        "detail": it.detail,
        "evidence": dict(it.evidence),
        "since": precise_or_none(it.since),
        "until": precise_or_none(it.until),
    }


def alone(conn: Connection) -> None:
    """Lock the register until the transaction ends, after waiting for other writers: a command, or another replica."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("LOCK TABLE gap IN SHARE ROW EXCLUSIVE MODE"))


def _ours(provider: str | None, source: str) -> Sequence[Any]:
    ours = (gap.c.source == source, gap.c.closed_at.is_(None))
    return ours if provider is None else (*ours, gap.c.provider == provider)


def _values(it: Gap, source: str, now: datetime) -> dict[str, object]:
    return {
        "provider": it.provider,
        "source": source,
        "subject": it.subject,
        "code": it.code,
        "grade": it.grade,
        "detail": it.detail,
        "evidence": json.dumps(dict(it.evidence), sort_keys=True),
        "since": it.since,
        "until": it.until,
        "opened_at": now,
        "seen_at": now,
    }


def _gap(row: Row[Any]) -> Gap:
    return Gap(
        row.provider, row.subject, row.code, row.grade, row.detail, json.loads(row.evidence), row.since, row.until
    )


def _event(
    it: Gap, gap_id: str, status: str, source: str, private: Mapping[str, Mapping[str, Json]] | None = None
) -> Draft:
    """The event about a gap: on the recording's own chain if the gap is about a recording, otherwise on the archive's.

    `detail` is left out, since it may quote a provider.
    """
    data: dict[str, Json] = {
        "gap": gap_id,
        "status": status,
        "code": str(it.code),
        "grade": str(it.grade),
        "provider": it.provider,
        "source": source,
        "about": it.subject[:200],
        "since": precise_or_none(it.since),
        "until": precise_or_none(it.until),
        "evidence": dict(it.evidence),
    }
    subject = it.subject if is_subject(it.subject) else ARCHIVE
    kind = "operator" if private else "worker"
    return Draft(subject, Type.GAP, data, private or {}, actor_kind=kind)


def _public(row: Row[Any]) -> dict[str, Json]:
    return {
        "id": row.id,
        "provider": row.provider,
        "subject": row.subject,
        "code": row.code,
        "grade": row.grade,
        "detail": row.detail,
        "evidence": json.loads(row.evidence),
        "since": precise_or_none(row.since),
        "until": precise_or_none(row.until),
        "opened_at": precise_or_none(row.opened_at),
        "seen_at": precise_or_none(row.seen_at),
        "closed_at": precise_or_none(row.closed_at),
        "acked_at": precise_or_none(row.acked_at),
        "acked_by": row.acked_by,
        "ack_reason": row.ack_reason,
        "source": row.source,
    }
