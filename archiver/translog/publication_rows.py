"""Writes and reads the rows of publishing: checkpoints, anchors, heartbeats. Works on the caller's connection, in the
caller's transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from archiver.custody import history
from archiver.custody.event import ARCHIVE, Type, leaf_hash, parse, verify
from archiver.custody.ledger import Appended, Ledger
from archiver.custody.tables import TYPE_NUMBERS, custody_pending, custody_subject, custody_subject_event
from archiver.errors import VerificationError
from archiver.translog import heartbeat, reader
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.rotation import Rotation, parse_rotation
from archiver.translog.tables import AnchorKind, custody_anchor, custody_checkpoint


@dataclass(frozen=True, slots=True)
class Anchor:
    """One file of an anchor: `name` is its file name, `at` the time that it proves."""

    size: int
    name: str
    blob: bytes
    at: datetime


def keep_signed(conn: Connection, log_id: int, checkpoint: Checkpoint, note: str, now: datetime) -> str:
    """Keeps a signed checkpoint. Returns the note that counts for this size, which is an earlier note if there is
    one."""
    kept = conn.execute(
        select(custody_checkpoint.c.note, custody_checkpoint.c.root).where(
            custody_checkpoint.c.log_id == log_id, custody_checkpoint.c.size == checkpoint.size
        )
    ).one_or_none()
    if kept is None:
        row = {"log_id": log_id, "size": checkpoint.size, "root": checkpoint.root, "note": note, "signed_at": now}
        conn.execute(insert(custody_checkpoint).values(row))
        return note
    if kept.root != checkpoint.root:
        raise VerificationError(f"custody_checkpoint has another root for {checkpoint.size} leaves")
    standing: str = kept.note
    return standing


def keep_published(conn: Connection, log_id: int, size: int, now: datetime) -> None:
    """Records that every required storage has this checkpoint. Recording it again changes nothing."""
    conn.execute(
        update(custody_checkpoint)
        .where(
            custody_checkpoint.c.log_id == log_id,
            custody_checkpoint.c.size == size,
            custody_checkpoint.c.published_at.is_(None),
        )
        .values(published_at=now)
    )


def published_over(conn: Connection, subject: str, seq: int) -> int | None:
    """Returns the size of the newest published checkpoint, if that checkpoint covers this event; else None."""
    place = reader.index_of(conn, subject, seq)
    if place is None:
        return None
    newest = reader.newest_checkpoint(conn, place[0], published=True)
    return newest.size if newest is not None and newest.size > place[1] else None


def keep_anchor(
    conn: Connection, log_id: int, kind: AnchorKind, anchors: Mapping[str, bytes], size: int, at: datetime
) -> bool:
    """Keeps the files of one anchor. Returns False when this size has a file of one of these names already."""
    there = conn.execute(
        select(custody_anchor.c.name).where(
            custody_anchor.c.log_id == log_id,
            custody_anchor.c.size == size,
            custody_anchor.c.kind == int(kind),
            custody_anchor.c.name.in_(list(anchors)),
        )
    ).first()
    if there is not None:
        return False
    conn.execute(
        insert(custody_anchor),
        [
            {"log_id": log_id, "size": size, "kind": int(kind), "name": name, "blob": blob, "at": at}
            for name, blob in anchors.items()
        ],
    )
    return True


def newest_anchor(conn: Connection, log_id: int, kind: AnchorKind, name: str | None = None) -> Anchor | None:
    """Returns the anchor file over the largest tree: of this name, or any time stamp token (`.tsr`)."""
    named = custody_anchor.c.name.endswith(".tsr") if name is None else custody_anchor.c.name == name
    row = conn.execute(
        select(custody_anchor)
        .where(custody_anchor.c.log_id == log_id, custody_anchor.c.kind == int(kind), named)
        .order_by(custody_anchor.c.size.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Anchor(row.size, row.name, row.blob, row.at)


def newest_rotation(conn: Connection) -> tuple[Rotation, Appended] | None:
    """Returns the newest rotation of a log's key, in the queue or in the log, and the place of its event."""
    archive = select(custody_subject.c.subject_no).where(custody_subject.c.subject == ARCHIVE).scalar_subquery()
    waiting = select(custody_pending.c.entry).where(custody_pending.c.subject_no == archive)
    queued = conn.execute(waiting.order_by(custody_pending.c.seq.desc())).scalars().all()
    logged = history.of_type(conn, ARCHIVE, Type.LOG_KEY_ROTATED, 2**31 - 1, 10)
    for entry in (*queued, *(each.raw for each in logged)):
        try:
            event = verify(entry)
            if event.type == Type.LOG_KEY_ROTATED:
                rotation = parse_rotation(str(event.data.get("note")).encode())
                return rotation, Appended(ARCHIVE, event.seq, leaf_hash(entry))
        except VerificationError:  # the sequencer judges the entry, or its note has another form
            continue
    return None


def beat(
    conn: Connection, ledger: Ledger, log_id: int, now: datetime, every: timedelta = heartbeat.EVERY
) -> Appended | None:
    """Appends `log.heartbeat` if a heartbeat is due."""
    if not heartbeat.due(_last_heartbeat(conn), now, every):
        return None
    size, _ = reader.tree(conn, log_id)
    token = newest_anchor(conn, log_id, AnchorKind.TIMESTAMP)
    stamped = None if token is None else (token.size, hashlib.sha256(token.blob).hexdigest())
    return ledger.append(conn, ARCHIVE, Type.LOG_HEARTBEAT, heartbeat.heartbeat_data(size, stamped))


def _last_heartbeat(conn: Connection) -> datetime | None:
    """Returns the time of the newest heartbeat, in the queue or in the log. The search passes at most an hour's events
    of the archive."""
    archive = select(custody_subject.c.subject_no).where(custody_subject.c.subject == ARCHIVE).scalar_subquery()
    waiting = select(custody_pending.c.entry).where(custody_pending.c.subject_no == archive)
    for entry in conn.execute(waiting.order_by(custody_pending.c.seq.desc())).scalars():
        try:
            event = parse(entry)
        except VerificationError:  # the sequencer judges the entry
            continue
        if event.type == Type.LOG_HEARTBEAT:
            return event.at
    at: datetime | None = conn.execute(
        select(custody_subject_event.c.at)
        .where(
            custody_subject_event.c.subject_no == archive,
            custody_subject_event.c.type_no == TYPE_NUMBERS[Type.LOG_HEARTBEAT],
        )
        .order_by(custody_subject_event.c.seq.desc())
        .limit(1)
    ).scalar_one_or_none()
    return at
