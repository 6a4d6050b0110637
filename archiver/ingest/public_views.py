"""Shows the journal as scripts see it: JSON whose fields may be added, never renamed. Nothing reads this JSON back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, union

from archiver.ingest import owed_copies, queries
from archiver.ingest import storage_proofs as proofs
from archiver.ingest.archived_recordings import CopyRow, copies_of
from archiver.ingest.day_counts import states
from archiver.ingest.search import Search, matching
from archiver.ingest.tables import FLAGGED, IN_WORK, recording, reject, unindexed
from archiver.instants import precise_or_none, to_second_or_none
from archiver.recording import Flag, Json, State
from archiver.store.port import Check


def recordings(conn: Connection, search: Search) -> Iterator[dict[str, Json]]:
    """Yield the rows as scripts see them (`archiver.recordings/v1`), oldest call first, streamed."""
    result = conn.execute(matching(search, recording).execution_options(stream_results=True))
    for rows in result.partitions(500):
        copies = copies_of(conn, [row.id for row in rows])
        for row in rows:
            yield _recording(row, copies.get(row.id, ()))


def one_recording(conn: Connection, recording_id: str) -> dict[str, Json] | None:
    """Return one recording with everything the journal knows of it."""
    row = conn.execute(select(recording).where(recording.c.id == recording_id)).one_or_none()
    if row is None:
        return None
    shown = _recording(row, copies_of(conn, [row.id]).get(row.id, ()))
    shown |= {
        "account": row.account,
        "metadata": json.loads(row.metadata),
        "media": json.loads(row.media) if row.media else None,
        "content_type": row.content_type,
        "recipients": json.loads(row.recipients) if row.recipients else [],
        "retention_rule": row.retention_rule,
        "deadline_source": row.deadline_source,
        "next_attempt_at": precise_or_none(row.next_attempt_at),
        "denials": row.denials,
        "provider_row": json.loads(row.raw),
        "copies_owed": {**owed_copies.of_recording(conn, row.id)},
    }
    return shown


def missing_recordings(conn: Connection, provider: str | None = None) -> list[dict[str, Json]]:
    """Return recordings that should be here and are not: gone, absent, quarantined, or past their deadline and still
    pending."""
    # One question for each index: a condition that joins them by OR would read every row.
    names = [provider] if provider is not None else list(states(conn))
    columns, ours = recording.c, unindexed(recording.c.provider).in_(names)
    doubtful = [
        (columns.provider.in_(names), columns.state.in_([State.GONE, State.ABSENT])),
        (ours, FLAGGED, columns.flags.contains(f'"{Flag.QUARANTINED}"')),
        (ours, IN_WORK, columns.attempts >= 3),
    ]
    ids = union(*(select(columns.id).where(*each) for each in doubtful))
    wanted = select(recording).where(columns.id.in_(ids)).order_by(columns.call_started_at)
    return [_recording(row, ()) for row in conn.execute(wanted)]


def rejects(conn: Connection, provider: str | None = None) -> list[dict[str, Json]]:
    """Return listed rows that could not be understood."""
    wanted = select(reject).order_by(reject.c.first_seen_at)
    if provider is not None:
        wanted = wanted.where(reject.c.provider == provider)
    return [
        {
            "provider": row.provider,
            "digest": row.digest,
            "problem": row.problem,
            "provider_recording_id": row.provider_recording_id,
            "bytes": len(row.raw),
            "first_seen_at": precise_or_none(row.first_seen_at),
            "last_seen_at": precise_or_none(row.last_seen_at),
        }
        for row in conn.execute(wanted)
    ]


def replicas(conn: Connection) -> list[dict[str, Json]]:
    """Return the known replicas, each with the end of its heartbeat."""
    return [
        {"id": each.id, "host": each.host, "version": each.version, "started_at": precise_or_none(each.started_at),
         "alive_until": precise_or_none(each.alive_until)}
        for each in queries.replicas(conn)
    ]  # fmt: skip


def storage_proofs(conn: Connection) -> dict[str, dict[str, Json]]:
    """Return the result of each storage's last probe."""
    return {
        storage: {
            "trusted": proof.trusted,
            "probed_at": precise_or_none(proof.probed_at),
            "checks": [_check(each) for each in proof.checks],
            "every_seconds": None if proof.every is None else round(proof.every.total_seconds()),
        }
        for storage, proof in proofs.read_proofs(conn).items()
    }


def _check(check: Check) -> dict[str, Json]:
    return {"name": check.name, "ok": check.ok, "detail": check.detail, "fatal": check.fatal}


def _copy(copy: CopyRow) -> dict[str, Json]:
    return {
        "storage": copy.storage,
        "bucket": copy.bucket,
        "key": copy.key,
        "version_id": copy.version_id,
        "size": copy.size,
        "sealed_sha256": copy.sealed_sha256,
        "checked_by": copy.checked_by,
        "lock_mode": copy.lock_mode,
        "retain_until": to_second_or_none(copy.retain_until),
        "legal_hold": copy.legal_hold,
        "stored_at": precise_or_none(copy.stored_at),
        "verified_at": precise_or_none(copy.verified_at),
    }


def _recording(row: Row[Any], copies: Sequence[CopyRow]) -> dict[str, Json]:
    """Return the stable shape of one recording (`archiver.recordings/v1`): fields may be added, never renamed."""
    return {
        "id": row.id,
        "provider": row.provider,
        "provider_recording_id": row.provider_recording_id,
        "variant": row.variant,
        "state": row.state,
        "reason": row.reason,
        "flags": json.loads(row.flags),
        "call_started_at": to_second_or_none(row.call_started_at),
        "call_ended_at": to_second_or_none(row.call_ended_at),
        "duration_ms": row.duration_ms,
        "direction": row.direction,
        "from_number": row.from_number,
        "to_number": row.to_number,
        "agent": row.agent,
        "listed_at": precise_or_none(row.listed_at),
        "delete_at": to_second_or_none(row.delete_at),
        "archive_by": to_second_or_none(row.archive_by),
        "archived_at": precise_or_none(row.archived_at),
        "retain_until": to_second_or_none(row.retain_until),
        "attempts": row.attempts,
        "last_error": row.last_error,
        "bytes": row.plaintext_bytes,
        "plaintext_sha256": row.plaintext_sha256,
        "sealed_bytes": row.sealed_bytes,
        "sealed_sha256": row.sealed_sha256,
        "copies": [_copy(each) for each in copies],
    }
