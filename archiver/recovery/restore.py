"""Writes the rows of a lost journal again, and brings an older journal's rows up to the log. No worker holds the rows.
Safe to repeat.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from archiver.custody import history
from archiver.custody.event import Event, is_subject, parse
from archiver.errors import NotAllowedError
from archiver.ingest.tables import catalogue_segment, copy, coverage, listing_window, provider_state, recording
from archiver.recording import State
from archiver.recovery.recording_replay import BEHIND, FINAL, ReplayedRecording, changes_a_row, rebuild_row, replay
from archiver.store import layout

# An interrupted rebuild leaves only recording rows; an archiver at work leaves traces in these tables.
_TRACES = (provider_state, listing_window, coverage)


def require_unused(conn: Connection) -> None:
    """Raise `NotAllowedError` when an archiver has polled into this database: its journal is worth more than a rebuilt
    one."""
    known = conn.execute(select(func.count()).select_from(recording)).scalar_one()
    pending = recording.c.state.in_([State.WAITING, State.SPOOLED])
    used = any(conn.execute(select(table.c.provider).limit(1)).first() for table in _TRACES)
    if used or conn.execute(select(recording.c.id).where(pending).limit(1)).first():
        raise NotAllowedError(
            f"the journal is not empty ({known} recordings, or an archiver has polled into it); rebuild into an empty database"
        )


def missing(conn: Connection, ids: Sequence[str]) -> list[str]:
    """Return those of these recordings that no row of the journal describes, in the order given."""
    there = set(conn.execute(_THERE, {"ids": list(ids)}).scalars())
    return [each for each in ids if each not in there]


def write(
    conn: Connection, rows: Iterable[Mapping[str, Any]], copies: Mapping[str, Iterable[Mapping[str, Any]]]
) -> set[str]:
    """Write rows, and the copies of each by its id. Return the ids written.

    Rows that exist already are left out, and so is a second row of the same identity and revision.
    """
    written = set()
    for row in rows:
        if conn.execute(_TAKEN, {"one": row["identity"], "of_it": row["revision"], "own": row["id"]}).first():
            continue
        for statement in (_DROP_COPIES, _DROP_ROW):
            conn.execute(statement, {"of": row["id"]})
        known = {name: value for name, value in row.items() if name in recording.c}
        if conn.execute(_ROW[conn.dialect.name], known).scalar_one_or_none() is not None:
            written.add(str(row["id"]))
    values = [
        {name: value for name, value in each.items() if name in copy.c} | {"recording_id": recording_id}
        for recording_id in sorted(written)
        for each in copies.get(recording_id, ())
    ]
    for value in values:
        conn.execute(insert(copy), value)
    return written


def advance(conn: Connection, events: Iterable[Event]) -> None:
    """Bring existing rows up to these events of their recordings, for a backup that is older than the log.

    Facts that only the catalogue has are written by `write` afterwards, over the mark left here.
    """
    ids = sorted(
        {each.subject.removeprefix("rec:") for each in events if is_subject(each.subject) and changes_a_row(each)}
    )
    for start in range(0, len(ids), _PAGE):
        rows = conn.execute(_NAMED, {"ids": ids[start : start + _PAGE]}).mappings().all()
        for row in rows:
            _advance(conn, dict(row))


def _advance(conn: Connection, row: Mapping[str, Any]) -> None:
    chain = chain_of(conn, f"rec:{row['id']}")
    replayed = replay(chain)
    if replayed.state not in FINAL or row["state"] == State.DISPOSED:
        return
    changed = _follows(row, replayed)
    copies = rebuild_row(None, chain, row["id"], copies_of(conn, replayed)).copies
    kept = {(each["storage"], each["version_id"]) for each in conn.execute(_COPIES, {"of": row["id"]}).mappings()}
    fresh = [each for each in copies if (each["storage"], each["version_id"]) not in kept]
    if not changed and not fresh:
        return
    changed |= {"segment": None, "last_error": BEHIND}
    conn.execute(update(recording).where(recording.c.id == row["id"]).values(**changed))
    for each in fresh:
        conn.execute(delete(copy).where(copy.c.recording_id == row["id"], copy.c.storage == each["storage"]))
        conn.execute(insert(copy).values(recording_id=row["id"], **each))


def _follows(row: Mapping[str, Any], replayed: ReplayedRecording) -> dict[str, Any]:
    """Return the changes that the events make to a row from an older time."""
    if row["state"] == replayed.state:
        return {}
    given = {name: value for name, value in replayed.row.items() if value is not None and name in recording.c}
    if "flags" in given:
        given["flags"] = json.dumps(sorted({*json.loads(row["flags"]), *json.loads(given["flags"])}))
    rest = {
        "reason": None,
        "ready": False,
        "next_attempt_at": None,
        "owner": None,
        "spool_id": None,
        "spool_name": None,
    }
    return (
        given
        | rest
        | {"state": replayed.state, "attempts": max(row["attempts"], replayed.attempts), "token": row["token"] + 1}
    )


def chain_of(conn: Connection, subject: str) -> list[Event]:
    """Return the subject's events. They come out of a log that was proved leaf by leaf."""
    return [parse(each.raw) for each in history.entries(conn, subject)] if is_subject(subject) else []


def copies_of(conn: Connection, replayed: ReplayedRecording) -> dict[str, dict[str, Any]]:
    """Return a recording's copies by its events; for a recording with the same content as another, also that one's
    copies."""
    copies, seen = dict(replayed.copies), set[str]()
    while replayed.twin is not None and replayed.twin not in seen:
        seen.add(replayed.twin)
        replayed = replay(chain_of(conn, replayed.twin))
        copies = replayed.copies | copies
    return copies


def behind(conn: Connection, ids: Sequence[str], sealed_at: datetime) -> set[str]:
    """Return those of these recordings whose row, from a backup, is older than a segment of this time and not described
    since."""
    return set(conn.execute(_BEHIND, {"ids": list(ids), "at": sealed_at}).scalars())


def replace(conn: Connection, row: Mapping[str, Any], copies: Iterable[Mapping[str, Any]]) -> None:
    """Write a row of a backup anew, with its copies."""
    known = {name: value for name, value in row.items() if name in recording.c and name not in ("id", "token")}
    conn.execute(update(recording).where(recording.c.id == row["id"]).values(**(known | _AT_REST)))
    conn.execute(delete(copy).where(copy.c.recording_id == row["id"]))
    for each in copies:
        value = {name: value for name, value in each.items() if name in copy.c} | {"recording_id": row["id"]}
        conn.execute(insert(copy).values(**value))


def settle(conn: Connection) -> int:
    """Clear the marks of rows still behind, once every description has been read: no better data exist. Return their
    count."""
    return conn.execute(update(recording).where(recording.c.last_error == BEHIND).values(last_error=None)).rowcount


def known_segment_keys(conn: Connection) -> set[str]:
    """Return the keys of the segments that the journal knows."""
    return {layout.catalogue_key(each) for each in conn.execute(select(catalogue_segment.c.sealed_sha256)).scalars()}


def keep_segment(
    conn: Connection, sealed_sha256: str, size: int, lines: int, until: datetime, storages: str, sealed_at: datetime
) -> None:
    """Record a segment that the log mentions."""
    values = {"sealed_sha256": sealed_sha256, "size": size, "lines": lines, "retain_until": until, "storages": storages,
              "sealed_at": sealed_at}  # fmt: skip
    conn.execute(_SEGMENT[conn.dialect.name], values)


def has_segment(conn: Connection, sealed_sha256: str) -> bool:
    """Say whether the journal knows the segment."""
    same = catalogue_segment.c.sealed_sha256 == sealed_sha256
    return conn.execute(select(catalogue_segment.c.lines).where(same)).first() is not None


def unknown_keys(conn: Connection, storage: str, keys: Collection[str]) -> list[str]:
    """Return those of these keys under which the journal claims no copy, in order."""
    known = set(conn.execute(_KNOWN_KEYS, {"in_storage": storage, "keys": sorted(keys)}).scalars())
    return sorted(set(keys) - known)


def counts(conn: Connection) -> dict[str, int]:
    """Count the rows by state, and the copies."""
    by_state = select(recording.c.state, func.count()).group_by(recording.c.state)
    numbers: dict[str, int] = {str(state): number for state, number in conn.execute(by_state)}
    return numbers | {"copies": conn.execute(select(func.count()).select_from(copy)).scalar_one()}


_ROW = {
    "sqlite": sqlite.insert(recording).on_conflict_do_nothing().returning(recording.c.id),
    "postgresql": postgresql.insert(recording).on_conflict_do_nothing().returning(recording.c.id),
}
_SEGMENT = {
    "sqlite": sqlite.insert(catalogue_segment).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(catalogue_segment).on_conflict_do_nothing(),
}
_PAGE = 400
_AT_REST: dict[str, Any] = dict.fromkeys(("reason", "next_attempt_at", "owner", "spool_id", "spool_name"))
_COPIES = select(copy).where(copy.c.recording_id == bindparam("of"))
# A row made from events alone has no provider id, and makes way for any row that describes the recording.
_BARE = recording.c.provider_recording_id == ""
_NAMED = select(recording).where(recording.c.id.in_(bindparam("ids", expanding=True)), ~_BARE).order_by(recording.c.id)
_OLDER = select(catalogue_segment.c.sealed_sha256).where(
    catalogue_segment.c.sealed_sha256 == recording.c.segment,
    catalogue_segment.c.sealed_at < bindparam("at", type_=catalogue_segment.c.sealed_at.type),
)
_BEHIND = select(recording.c.id).where(
    recording.c.id.in_(bindparam("ids", expanding=True)), ~_BARE, (recording.c.last_error == BEHIND) | _OLDER.exists()
)
_THERE = select(recording.c.id).where(recording.c.id.in_(bindparam("ids", expanding=True)), ~_BARE)
_TAKEN = select(recording.c.id).where(
    recording.c.identity == bindparam("one"),
    recording.c.revision == bindparam("of_it"),
    recording.c.id != bindparam("own"),
)
_BARE_ID = select(recording.c.id).where(recording.c.id == bindparam("of"), _BARE)
_DROP_COPIES = delete(copy).where(copy.c.recording_id.in_(_BARE_ID))
_DROP_ROW = delete(recording).where(recording.c.id.in_(_BARE_ID))
_KNOWN_KEYS = select(copy.c.key).where(
    copy.c.storage == bindparam("in_storage"), copy.c.key.in_(bindparam("keys", expanding=True))
)
