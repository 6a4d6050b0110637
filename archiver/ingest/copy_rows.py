"""Writes down the copies that storages have shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from archiver.ingest.tables import copy
from archiver.recording import Stored


def keep_copies(conn: Connection, recording_id: str, copies: Sequence[Stored], now: datetime) -> None:
    """Write down copies; a copy in the same storage replaces the earlier record."""
    if copies:
        conn.execute(
            _KEEP_COPY[conn.dialect.name],
            [
                {
                    "recording_id": recording_id,
                    "storage": stored.storage,
                    "bucket": stored.bucket,
                    "key": stored.key,
                    "version_id": stored.version_id,
                    "size": stored.size,
                    "sealed_sha256": stored.sealed_sha256,
                    "lock_mode": stored.lock_mode,
                    "retain_until": stored.retain_until,
                    "legal_hold": stored.legal_hold,
                    "checked_by": stored.checked_by,
                    "stored_at": now,
                }
                for stored in copies
            ],
        )


def _keep_copy(statement: Any) -> Any:
    given = [
        "bucket", "key", "version_id", "size", "sealed_sha256", "lock_mode", "retain_until", "legal_hold", "checked_by",
        "stored_at",
    ]  # fmt: skip
    same = [copy.c.recording_id, copy.c.storage]
    return statement.on_conflict_do_update(index_elements=same, set_={name: statement.excluded[name] for name in given})


_KEEP_COPY = {"sqlite": _keep_copy(sqlite.insert(copy)), "postgresql": _keep_copy(postgresql.insert(copy))}
