"""Rows of a lost journal, written again: only ever into a database in which no archiver has worked yet. Safe to repeat."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from archiver.errors import NotAllowedError
from archiver.ingest.tables import catalogue_segment, copy, coverage, listing_window, provider_state, recording
from archiver.recording import State

# How far an interrupted rebuild came shows in its rows; that somebody has worked here, in these.
_TRACES = (provider_state, listing_window, coverage)


def require_unused(conn: Connection) -> None:
    """Raise `NotAllowedError` when an archiver has polled into this database: its journal is worth more than a rebuilt one."""
    known = conn.execute(select(func.count()).select_from(recording)).scalar_one()
    pending = recording.c.state.in_([State.WAITING, State.SPOOLED])
    used = any(conn.execute(select(table.c.provider).limit(1)).first() for table in _TRACES)
    if used or conn.execute(select(recording.c.id).where(pending).limit(1)).first():
        raise NotAllowedError(
            f"the journal is not empty ({known} recordings, or an archiver has polled into it); rebuild into an empty database"
        )


def missing(conn: Connection, ids: Sequence[str]) -> list[str]:
    """Those of these recordings that no row of the journal describes, in the order given."""
    there = set(conn.execute(_THERE, {"ids": list(ids)}).scalars())
    return [each for each in ids if each not in there]


def write(
    conn: Connection, rows: Iterable[Mapping[str, Any]], copies: Mapping[str, Iterable[Mapping[str, Any]]]
) -> set[str]:
    """Write rows, and the copies of each by its id. Returns the ids written.

    Left out is what is there already, and a second row of the same identity and revision.
    """
    written = set()
    for row in rows:
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


def keep_segment(
    conn: Connection, sealed_sha256: str, size: int, lines: int, until: datetime, storages: str, sealed_at: datetime
) -> None:
    """Note a segment that the log tells of."""
    values = {"sealed_sha256": sealed_sha256, "size": size, "lines": lines, "retain_until": until, "storages": storages,
              "sealed_at": sealed_at}  # fmt: skip
    conn.execute(_SEGMENT[conn.dialect.name], values)


def has_segment(conn: Connection, sealed_sha256: str) -> bool:
    """Whether the segment is noted already."""
    same = catalogue_segment.c.sealed_sha256 == sealed_sha256
    return conn.execute(select(catalogue_segment.c.lines).where(same)).first() is not None


def unknown_keys(conn: Connection, storage: str, keys: Collection[str]) -> list[str]:
    """Those of these keys under which the journal claims no copy, in order."""
    known = set(conn.execute(_KNOWN_KEYS, {"in_storage": storage, "keys": sorted(keys)}).scalars())
    return sorted(set(keys) - known)


def counts(conn: Connection) -> dict[str, int]:
    """How many rows there are by state, and copies."""
    by_state = select(recording.c.state, func.count()).group_by(recording.c.state)
    found: dict[str, int] = {str(state): number for state, number in conn.execute(by_state)}
    return found | {"copies": conn.execute(select(func.count()).select_from(copy)).scalar_one()}


_ROW = {
    "sqlite": sqlite.insert(recording).on_conflict_do_nothing().returning(recording.c.id),
    "postgresql": postgresql.insert(recording).on_conflict_do_nothing().returning(recording.c.id),
}
_SEGMENT = {
    "sqlite": sqlite.insert(catalogue_segment).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(catalogue_segment).on_conflict_do_nothing(),
}
# A row that only events gave has no provider's id, and makes way for whatever describes it.
_BARE = recording.c.provider_recording_id == ""
_THERE = select(recording.c.id).where(recording.c.id.in_(bindparam("ids", expanding=True)), ~_BARE)
_BARE_ID = select(recording.c.id).where(recording.c.id == bindparam("of"), _BARE)
_DROP_COPIES = delete(copy).where(copy.c.recording_id.in_(_BARE_ID))
_DROP_ROW = delete(recording).where(recording.c.id.in_(_BARE_ID))
_KNOWN_KEYS = select(copy.c.key).where(
    copy.c.storage == bindparam("in_storage"), copy.c.key.in_(bindparam("keys", expanding=True))
)
