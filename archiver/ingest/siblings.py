"""Keeps two answers for one recording: the second gets a row of its own, which supersedes the first when it alone is sound.

Each function is the body of a transaction, or a part of one.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from archiver.clock import Chance
from archiver.custody.event import Type
from archiver.custody.ledger import Draft, Ledger
from archiver.ingest.journal import Claim, dump_flags, flags_now, is_refetched, load_flags, refetched, settle
from archiver.ingest.outcomes import OF_THE_BYTES, supersede, telling, what_came
from archiver.ingest.tables import recording
from archiver.recording import DOUBTS, Flag, Received, Sealed

MOST_DOUBTFUL = 3
"""The number of doubtful answers kept beside the first: a provider that sends other noise each time must not fill the archive.
"""

_BLANK = ("owner", "next_attempt_at", "archived_at", "denied_at", "segment", "retain_until", "retention_rule")
_NOT_INHERITED = OF_THE_BYTES | {Flag.NO_COPY, Flag.SUPERSEDED}


def second_answer(
    conn: Connection,
    chance: Chance,
    ledger: Ledger,
    held: Claim,
    received: Received,
    sealed: Sealed,
    now: datetime,
    *,
    spool_id: str,
) -> bool:
    """Record other bytes for `held`, sealed in our spool, as a recording beside it that this replica is to store.

    False, and the spool file may go, when these bytes are kept already, or are doubtful and there are enough doubtful
    answers. Bytes that came twice came whole.
    """
    columns = recording.c
    others = conn.execute(
        select(columns.id, columns.revision, columns.flags, columns.plaintext_sha256).where(
            columns.identity == held.identity, columns.id != held.id
        )
    ).all()
    known = [each for each in others if each.plaintext_sha256 == received.plaintext_sha256]
    known = [each for each in known if Flag.QUARANTINED not in load_flags(each.flags)]
    for each in known:
        confirm_length(conn, each.id)
    doubtful = [each for each in others if is_refetched(each.revision) and load_flags(each.flags) & DOUBTS]
    if known or (received.flags & DOUBTS and len(doubtful) >= MOST_DOUBTFUL):
        return False
    row = conn.execute(select(recording).where(columns.id == held.id)).mappings().one()
    sibling, flags = chance.uuid(), flags_now(conn, held.id)
    values = {
        **row,
        **dict.fromkeys(_BLANK),
        **what_came(received, sealed, spool_id),
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
    _reflag(conn, held.id, flags | {Flag.ID_CONFLICT})
    about = {"provider": held.ref.provider, "variant": held.ref.variant, "source": "refetch", "provider_created": None}
    differs = {
        "other": f"rec:{sibling}",
        "expected_pt_sha256": row["plaintext_sha256"],
        "seen_pt_sha256": received.plaintext_sha256,
    }
    ledger.append_many(
        conn,
        [
            Draft(f"rec:{sibling}", Type.DISCOVERED, about),
            *telling(f"rec:{sibling}", held, received, sealed),
            Draft(held.subject, Type.CONTENT_DIFFERS, differs),
        ],
    )
    return True


def confirm_length(conn: Connection, recording_id: str) -> None:
    """Record that the same bytes came twice: the recording is complete."""
    flags = flags_now(conn, recording_id)
    if Flag.LENGTH_UNVERIFIED in flags:
        _reflag(conn, recording_id, flags - {Flag.LENGTH_UNVERIFIED})
        supersede(conn, recording_id)


def length_told(
    conn: Connection, held: Claim, length: timedelta, now_flags: frozenset[Flag], *, archived: bool
) -> None:
    """Record the recording's own length from the provider's single answer, where the listing gave the call's.

    `now_flags`: the row's doubts by that length, written here for an archived row; otherwise they are written with the
    received content.
    """
    text = conn.execute(select(recording.c.metadata).where(recording.c.id == held.id)).scalar_one()
    milliseconds = round(length.total_seconds() * 1000)
    metadata = {**json.loads(text), "recording_duration_ms": milliseconds}
    values: dict[str, object] = {
        "duration_ms": milliseconds,
        "metadata": json.dumps(metadata, ensure_ascii=False, sort_keys=True),
    }
    if archived:
        values["flags"] = dump_flags(flags_now(conn, held.id) - {Flag.DURATION_MISMATCH} | now_flags)
    settle(conn, held, values, keep_owner=True)


def looked_again(conn: Connection, held: Claim, again_at: datetime | None) -> None:
    """Record that a second look at an archived recording is over, or is put off until `again_at`."""
    settle(conn, held, {"ready": False, "next_attempt_at": again_at})


def _reflag(conn: Connection, recording_id: str, flags: frozenset[Flag]) -> None:
    conn.execute(update(recording).where(recording.c.id == recording_id).values(flags=dump_flags(flags), segment=None))
