"""Lets archived rows with the same content share copies: the same bytes of one provider recording are kept once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, insert, or_, select

from archiver.custody.event import Type
from archiver.custody.ledger import Ledger
from archiver.ingest import owed_copies
from archiver.ingest.claims import SETTLED_BY_CONTENT, Claim, load_flags
from archiver.ingest.journal import reflagged, settle
from archiver.ingest.listing_rows import identity
from archiver.ingest.outcome_events import media_facts
from archiver.ingest.tables import copy, recording
from archiver.recording import ORIGINAL, Flag, Json, Received, State, Stored

# Columns that a row takes over from its twin.
_SHARED = (
    "plaintext_bytes", "plaintext_sha256", "sealed_bytes", "sealed_sha256", "recipients", "retain_until", "retention_rule",
)  # fmt: skip
_TWINS = select(recording.c.id, recording.c.flags, recording.c.variant).where(
    recording.c.plaintext_sha256 == bindparam("digest"),
    recording.c.provider == bindparam("of"),
    # After a rebuild, a row that only custody knows has no provider id.
    recording.c.provider_recording_id.in_([bindparam("known_as"), ""]),
    recording.c.id != bindparam("own"),
    recording.c.state == State.ARCHIVED,
)


@dataclass(frozen=True, slots=True)
class Twin:
    """Another archived row of the same provider recording with exactly the same bytes, and its copies by storage."""

    id: str
    variant: str
    copies: Mapping[str, Row[Any]]


def find_twin(conn: Connection, claim: Claim, plaintext_sha256: str) -> Twin | None:
    """Return an archived row with the same content, if one has copies."""
    wanted = {
        "digest": plaintext_sha256,
        "of": claim.ref.provider,
        "known_as": claim.ref.recording_id,
        "own": claim.id,
    }
    rows = conn.execute(_TWINS, wanted).all()
    twin = next((row for row in rows if Flag.QUARANTINED not in load_flags(row.flags)), None)
    if twin is None:
        return None
    copies = {row.storage: row for row in conn.execute(select(copy).where(copy.c.recording_id == twin.id))}
    return Twin(twin.id, twin.variant, copies) if copies else None


def is_as_recorded(seen: Stored, known: Row[Any]) -> bool:
    """Say whether a storage shows a copy with the recorded size, digest and lock."""
    same = (seen.size, seen.sealed_sha256, seen.lock_mode) == (known.size, known.sealed_sha256, known.lock_mode)
    until = known.retain_until is None or (seen.retain_until is not None and seen.retain_until >= known.retain_until)
    return same and until


def adopted(
    conn: Connection,
    ledger: Ledger,
    claim: Claim,
    received: Received,
    twin: Twin,
    now: datetime,
    demanded: Iterable[str],
    *,
    look_again_at: datetime | None = None,
) -> bool:
    """Let the row share the twin's copies, which their storages have just shown: the same content is kept once. Always
    true.

    An original with the same content as the main recording is no separate original, and the row says so. `demanded`:
    the storages that must have a copy; where the twin has none, a copy is owed.
    """
    if claim.ref.variant == ORIGINAL and twin.variant == "":
        _no_original(conn, ledger, claim, twin)
        return True
    of_twin = select(*(recording.c[name] for name in _SHARED)).where(recording.c.id == twin.id)
    shared = conn.execute(of_twin).mappings().one()
    settle(
        conn,
        claim,
        {
            **shared,
            **reflagged(conn, claim, received.flags, less=SETTLED_BY_CONTENT | {Flag.NO_COPY}),
            "state": State.ARCHIVED,
            "reason": None,
            "archived_at": now,
            "last_error": None,
            "content_type": received.content_type,
            "media": json.dumps(media_facts(received), sort_keys=True),
            "next_attempt_at": look_again_at,
            "spool_id": None,
            "spool_name": None,
        },
    )
    ledger.append(
        conn,
        claim.subject,
        Type.DOWNLOADED,
        {
            "bytes": received.size,
            "pt_sha256": received.plaintext_sha256,
            "http_status": received.status,
            "same_content_as": f"rec:{twin.id}",
            "attempt": claim.situation.attempts,
        },
    )
    for row in conn.execute(select(copy).where(copy.c.recording_id == twin.id)).mappings().all():
        conn.execute(insert(copy).values(**{**row, "recording_id": claim.id}))
    lacking = {
        name: "the recording with the same content has none there" for name in demanded if name not in twin.copies
    }
    owed_copies.owe(conn, claim.id, claim.ref.provider, lacking, now)
    return True


def _no_original(conn: Connection, ledger: Ledger, claim: Claim, main: Twin) -> None:
    """Record that the original is the main recording itself: noise was never cancelled, and nothing is missing."""
    nothing = dict.fromkeys(("reason", "next_attempt_at", "last_error", "spool_id", "spool_name"))
    settle(conn, claim, {**nothing, "state": State.ABSENT, "ready": False})
    gap: dict[str, Json] = {"reason": "no_separate_original", "same_content_as": f"rec:{main.id}"}
    ledger.append(conn, claim.subject, Type.GAP, gap)


def main_in_work(conn: Connection, claim: Claim) -> bool:
    """Say whether the main recording of this original is still to be fetched or stored, and has not failed so far."""
    columns = recording.c
    main = conn.execute(
        select(columns.id).where(
            columns.identity == identity(dataclasses.replace(claim.ref, variant="")),
            or_(
                columns.state.in_([State.LISTED, State.SPOOLED]),
                and_(columns.state == State.WAITING, columns.owner.is_not(None)),
            ),
        )
    )
    return main.first() is not None
