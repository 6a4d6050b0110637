"""Keeps two answers for one recording: the second gets a row of its own, which supersedes the first when it alone is
sound.

Each function is the body of a transaction, or a part of one.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from archiver.clock import Chance
from archiver.custody.event import Type
from archiver.custody.ledger import Draft, Ledger
from archiver.ingest.claims import OF_THE_BYTES, Claim, dump_flags, is_refetched, load_flags, refetched
from archiver.ingest.journal import flags_now, settle
from archiver.ingest.outcome_events import content_events
from archiver.ingest.outcomes import content_columns, supersede
from archiver.ingest.tables import recording
from archiver.recording import DOUBTS, Flag, Received, Sealed

MOST_DOUBTFUL = 3
"""The number of doubtful answers kept beside the first: a provider that sends other noise each time must not fill the
archive.
"""

_BLANK = ("owner", "next_attempt_at", "archived_at", "denied_at", "segment", "retain_until", "retention_rule")
_NOT_INHERITED = OF_THE_BYTES | {Flag.NO_COPY, Flag.SUPERSEDED}


def keep_second_answer(
    conn: Connection,
    chance: Chance,
    ledger: Ledger,
    claim: Claim,
    received: Received,
    sealed: Sealed,
    now: datetime,
    *,
    spool_id: str,
) -> bool:
    """Record other bytes for `claim`, sealed in our spool, as a recording beside it that this replica is to store.

    False, and the spool file may go, when these bytes are kept already, or are doubtful and there are enough doubtful
    answers. Bytes that came twice came whole.
    """
    columns = recording.c
    others = conn.execute(
        select(columns.id, columns.revision, columns.flags, columns.plaintext_sha256).where(
            columns.identity == claim.identity, columns.id != claim.id
        )
    ).all()
    known = [each for each in others if each.plaintext_sha256 == received.plaintext_sha256]
    known = [each for each in known if Flag.QUARANTINED not in load_flags(each.flags)]
    for each in known:
        confirm_length(conn, each.id)
    doubtful = [each for each in others if is_refetched(each.revision) and load_flags(each.flags) & DOUBTS]
    if known or (received.flags & DOUBTS and len(doubtful) >= MOST_DOUBTFUL):
        return False
    row = conn.execute(select(recording).where(columns.id == claim.id)).mappings().one()
    sibling, flags = chance.uuid(), flags_now(conn, claim.id)
    values = {
        **row,
        **dict.fromkeys(_BLANK),
        **content_columns(received, sealed, spool_id),
        "id": sibling,
        "revision": refetched(received.plaintext_sha256),
        "flags": dump_flags(flags - _NOT_INHERITED | received.flags | {Flag.ID_CONFLICT}),
        "listed_at": now,
        "ready": True,
        "attempts": 0,
        "denials": 0,
        "token": 0,
    }
    conn.execute(insert(recording).values(**values))
    _reflag(conn, claim.id, flags | {Flag.ID_CONFLICT})
    about = {
        "provider": claim.ref.provider,
        "variant": claim.ref.variant,
        "source": "refetch",
        "provider_created": None,
    }
    differs = {
        "other": f"rec:{sibling}",
        "expected_pt_sha256": row["plaintext_sha256"],
        "seen_pt_sha256": received.plaintext_sha256,
    }
    ledger.append_many(
        conn,
        [
            Draft(f"rec:{sibling}", Type.DISCOVERED, about),
            *content_events(f"rec:{sibling}", claim, received, sealed),
            Draft(claim.subject, Type.CONTENT_DIFFERS, differs),
        ],
    )
    return True


def confirm_length(conn: Connection, recording_id: str) -> None:
    """Record that the same bytes came twice: the recording is complete."""
    flags = flags_now(conn, recording_id)
    if Flag.LENGTH_UNVERIFIED in flags:
        _reflag(conn, recording_id, flags - {Flag.LENGTH_UNVERIFIED})
        supersede(conn, recording_id)


def record_length(
    conn: Connection, claim: Claim, length: timedelta, doubts: frozenset[Flag], *, archived: bool
) -> None:
    """Record the recording's own length from the provider's single answer, where the listing gave the call's.

    `doubts`: the row's doubts by that length, written here for an archived row; otherwise they are written with the
    received content.
    """
    text = conn.execute(select(recording.c.metadata).where(recording.c.id == claim.id)).scalar_one()
    milliseconds = round(length.total_seconds() * 1000)
    metadata = {**json.loads(text), "recording_duration_ms": milliseconds}
    values: dict[str, object] = {
        "duration_ms": milliseconds,
        "metadata": json.dumps(metadata, ensure_ascii=False, sort_keys=True),
    }
    if archived:
        values["flags"] = dump_flags(flags_now(conn, claim.id) - {Flag.DURATION_MISMATCH} | doubts)
    settle(conn, claim, values, keep_owner=True)


def record_look(conn: Connection, claim: Claim, look_at: datetime | None) -> None:
    """Record that a second look at an archived recording is over, or is put off until `look_at`."""
    settle(conn, claim, {"ready": False, "next_attempt_at": look_at})


def _reflag(conn: Connection, recording_id: str, flags: frozenset[Flag]) -> None:
    conn.execute(update(recording).where(recording.c.id == recording_id).values(flags=dump_flags(flags), segment=None))
