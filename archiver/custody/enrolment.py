"""Whose events count: session keys that a host key enrolled in the log, and has not retired.

`custody_writer` is an index over `writer.enrolled` and `writer.retired`: it finds an enrolment, but the host's signature on the
leaf is what counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, update

from archiver.custody.event import ARCHIVE, Event, Type, verify
from archiver.custody.log_tables import custody_event, custody_writer
from archiver.errors import VerificationError

BY_HOST = frozenset({Type.WRITER_ENROLLED, Type.WRITER_RETIRED})


@dataclass(frozen=True, slots=True)
class Change:
    """An enrolment or a retirement at `leaf`, by `host`; both keys in hex."""

    key: str
    host: str
    leaf: int


# Built once: making statements costs more than running them.
_WRITERS = (
    select(custody_writer.c.key, custody_writer.c.enrolled_leaf, custody_writer.c.retired_leaf, custody_event.c.entry)
    .outerjoin_from(
        custody_writer,
        custody_event,
        (custody_event.c.log_id == custody_writer.c.log_id)
        & (custody_event.c.leaf_index == custody_writer.c.enrolled_leaf),
    )
    .where(custody_writer.c.key.in_(bindparam("keys", expanding=True)))
)
_THERE = select(custody_writer.c.key).where(custody_writer.c.key.in_(bindparam("keys", expanding=True))).limit(1)
_ENROL = insert(custody_writer)
_RETIRE = (
    update(custody_writer)
    .where(custody_writer.c.key == bindparam("of"), custody_writer.c.retired_leaf.is_(None))
    .values(retired_leaf=bindparam("leaf"))
)


def find(conn: Connection, keys: Iterable[str], hosts: Collection[str]) -> dict[str, bool]:
    """Those of `keys` that one of `hosts` enrolled, and whether they may still write; all in hex.

    Raises `VerificationError` when the index names a leaf that is no enrolment of the key.
    """
    found: dict[str, bool] = {}
    for row in conn.execute(_WRITERS, {"keys": [bytes.fromhex(key) for key in sorted(keys)]}):
        key = row.key.hex()
        try:
            event = verify(row.entry or b"")
        except VerificationError:
            event = None
        if event is None or enrols(event) != key:
            raise VerificationError(f"custody_writer: leaf {row.enrolled_leaf} does not enrol {key[:16]}…")
        if event.writer in hosts:
            found[key] = row.retired_leaf is None
    return found


def record(conn: Connection, log_id: int, enrolled: Sequence[Change], retired: Sequence[Change]) -> None:
    """Index what the leaves say. Raises `VerificationError` when a key is there that `find` did not find."""
    if enrolled:
        rows = [{"key": bytes.fromhex(each.key), "host": bytes.fromhex(each.host), "log_id": log_id,
                 "enrolled_leaf": each.leaf} for each in enrolled]  # fmt: skip
        if stray := conn.execute(_THERE, {"keys": [row["key"] for row in rows]}).scalar_one_or_none():
            raise VerificationError(f"custody_writer: {stray.hex()[:16]}… is there before a known host enrolled it")
        conn.execute(_ENROL, rows)
    if retired:
        conn.execute(_RETIRE, [{"of": bytes.fromhex(each.key), "leaf": each.leaf} for each in retired])


def keys_of(events: Iterable[Event | None]) -> set[str]:
    """The keys that `events` are signed with or speak about."""
    known = [event for event in events if event]
    spoken_of = {key for event in known for key in (enrols(event), retires(event)) if key}
    return {event.writer for event in known} | spoken_of


def enrols(event: Event) -> str | None:
    """The key that this event enrols, if it is an enrolment and says one."""
    return _key_in(event, Type.WRITER_ENROLLED)


def retires(event: Event) -> str | None:
    """The key that this event retires, if it is a retirement and says one."""
    return _key_in(event, Type.WRITER_RETIRED)


def _key_in(event: Event, type_: Type) -> str | None:
    key = event.data.get("writer")
    if (event.subject, event.type) != (ARCHIVE, type_) or not isinstance(key, str):
        return None
    try:
        return key if len(key) == 64 and bytes.fromhex(key).hex() == key else None
    except ValueError:
        return None
