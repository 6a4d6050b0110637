"""Reads what the journal claims of archived recordings and their copies, for whoever checks or opens them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from archiver.ingest.tables import FLAGGED, copy, recording
from archiver.recording import Flag, State

_PAGE = 500


@dataclass(frozen=True, slots=True)
class CopyRow:
    """One copy as the journal has it. `lock_mode` is text: a damaged journal may hold any."""

    storage: str
    bucket: str
    key: str
    version_id: str | None
    size: int
    sealed_sha256: str
    lock_mode: str
    retain_until: datetime | None
    legal_hold: bool
    checked_by: str
    stored_at: datetime
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """One recording as far as its content is concerned, with its copies.

    Nothing of the content is known before it is sealed. `state` and `media` are text: a damaged journal may hold any.
    """

    id: str
    provider: str
    state: str
    media: str | None
    plaintext_sha256: str | None
    plaintext_bytes: int | None
    sealed_sha256: str | None
    sealed_bytes: int | None
    retain_until: datetime | None
    copies: tuple[CopyRow, ...]

    @property
    def container(self) -> str | None:
        """The kind of the received audio; None when it is not known."""
        return json.loads(self.media).get("container") if self.media else None


def all_archived(conn: Connection) -> Iterator[RecordingRow]:
    """Yield every archived recording, oldest call first, streamed."""
    columns = recording.c
    wanted = (
        select(recording)
        .where(columns.state == State.ARCHIVED)
        .order_by(columns.call_started_at.nulls_last(), columns.listed_at, columns.id)
    )
    for rows in conn.execute(wanted.execution_options(stream_results=True)).partitions(_PAGE):
        copies = copies_of(conn, [row.id for row in rows])
        for row in rows:
            yield _recording_row(row, copies.get(row.id, ()))


def pages_in_quarantine(conn: Connection) -> Iterator[RecordingRow]:
    """Yield the recordings that are not archived but have copies: of a page that came in the recording's place."""
    has_copy = select(copy.c.recording_id).where(copy.c.recording_id == recording.c.id).exists()
    flagged = (FLAGGED, recording.c.flags.contains(f'"{Flag.QUARANTINED}"'))
    for row in conn.execute(select(recording).where(recording.c.state != State.ARCHIVED, *flagged, has_copy)).all():
        yield _recording_row(row, copies_of(conn, [row.id]).get(row.id, ()))


def read_recording(conn: Connection, recording_id: str) -> RecordingRow | None:
    """Return one recording in whatever state; None when the journal does not know the recording."""
    row = conn.execute(select(recording).where(recording.c.id == recording_id)).one_or_none()
    return None if row is None else _recording_row(row, copies_of(conn, [row.id]).get(row.id, ()))


def copies_of(conn: Connection, ids: Sequence[str]) -> dict[str, tuple[CopyRow, ...]]:
    """Return the copies of these recordings by id, ordered by storage."""
    copies: dict[str, tuple[CopyRow, ...]] = {}
    if not ids:
        return copies
    for row in conn.execute(select(copy).where(copy.c.recording_id.in_(ids)).order_by(copy.c.storage)).mappings():
        values = {name: value for name, value in row.items() if name != "recording_id"}
        copies[row["recording_id"]] = (*copies.get(row["recording_id"], ()), CopyRow(**values))
    return copies


def _recording_row(row: Row[Any], copies: tuple[CopyRow, ...]) -> RecordingRow:
    return RecordingRow(
        id=row.id,
        provider=row.provider,
        state=row.state,
        media=row.media,
        plaintext_sha256=row.plaintext_sha256,
        plaintext_bytes=row.plaintext_bytes,
        sealed_sha256=row.sealed_sha256,
        sealed_bytes=row.sealed_bytes,
        retain_until=row.retain_until,
        copies=copies,
    )
