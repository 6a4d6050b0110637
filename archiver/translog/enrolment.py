"""Finds and records the session keys whose events count: those that a host key enrolled in the log, and has not
retired.

`custody_writer` is an index over `writer.enrolled` and `writer.retired`: the index finds an enrolment, but only the
host's signature on the leaf counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, update

from archiver.custody.event import ARCHIVE, Event, Type, verify
from archiver.custody.tables import custody_event
from archiver.errors import VerificationError
from archiver.translog.tables import custody_writer

BY_HOST = frozenset({Type.WRITER_ENROLLED, Type.WRITER_RETIRED})


@dataclass(frozen=True, slots=True)
class Change:
    """The change that the event at `leaf`, signed by `host`, makes to `key`; both keys in hex. `begins`: no event spoke
    of the key before. `ends`: the key is retired. Both: the key was retired before any event enrolled it, and never
    writes."""

    key: str
    host: str
    leaf: int
    begins: bool
    ends: bool


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


def find(conn: Connection, keys: Iterable[str], hosts: Collection[str] | None) -> dict[str, bool]:
    """Returns those of `keys` that one of `hosts` (None: any) enrolled or retired, and whether they may still write;
    all in hex.

    Raises `VerificationError` when the index names a leaf that does not say so.
    """
    found: dict[str, bool] = {}
    for row in conn.execute(_WRITERS, {"keys": [bytes.fromhex(key) for key in sorted(keys)]}):
        key = row.key.hex()
        try:
            event = verify(row.entry or b"")
        except VerificationError:
            event = None
        begins = retires if row.retired_leaf == row.enrolled_leaf else enrols
        if event is None or begins(event) != key:
            raise VerificationError(f"custody_writer: leaf {row.enrolled_leaf} does not enrol {key[:16]}…")
        if hosts is None or event.writer in hosts:
            found[key] = row.retired_leaf is None
    return found


def learn(writers: dict[str, bool], event: Event, leaf: int) -> Change | None:
    """Updates `writers`, as `find` gave them, from a host's event. Returns the change, or None if there is none.

    A key that was retired stays retired, whatever enrols it later.
    """
    enrolled, retired = enrols(event), retires(event)
    key = enrolled or retired
    if key is None or not writers.get(key, True) or (enrolled and key in writers):
        return None
    change = Change(key, event.writer, leaf, begins=key not in writers, ends=retired is not None)
    writers[key] = not change.ends
    return change


def record(conn: Connection, log_id: int, changes: Sequence[Change]) -> None:
    """Writes the changes into the index. Raises `VerificationError` when a key is there that `find` did not find."""
    rows = [{"key": bytes.fromhex(each.key), "host": bytes.fromhex(each.host), "log_id": log_id,
             "enrolled_leaf": each.leaf} for each in changes if each.begins]  # fmt: skip
    if rows:
        if stray := conn.execute(_THERE, {"keys": [row["key"] for row in rows]}).scalar_one_or_none():
            raise VerificationError(f"custody_writer: {stray.hex()[:16]}… is there before a known host enrolled it")
        conn.execute(_ENROL, rows)
    if retired := [{"of": bytes.fromhex(each.key), "leaf": each.leaf} for each in changes if each.ends]:
        conn.execute(_RETIRE, retired)


def keys_of(events: Iterable[Event | None]) -> set[str]:
    """Returns the keys that `events` are signed with or speak about."""
    known = [event for event in events if event]
    spoken_of = {key for event in known for key in (enrols(event), retires(event)) if key}
    return {event.writer for event in known} | spoken_of


def enrols(event: Event) -> str | None:
    """Returns the key that this event enrols, if the event is an enrolment and names a key."""
    return _key_in(event, Type.WRITER_ENROLLED)


def retires(event: Event) -> str | None:
    """Returns the key that this event retires, if the event is a retirement and names a key."""
    return _key_in(event, Type.WRITER_RETIRED)


def _key_in(event: Event, type_: Type) -> str | None:
    key = event.data.get("writer")
    if (event.subject, event.type) != (ARCHIVE, type_) or not isinstance(key, str):
        return None
    try:
        return key if len(key) == 64 and bytes.fromhex(key).hex() == key else None
    except ValueError:
        return None
