"""Writes the outcome of work on one recording: the row and the custody events that justify it, in one transaction.

Each function is the body of one transaction of the claim's holder. It raises `LeaseLostError`, and nothing is kept,
when this replica no longer holds the claim; run again after a rollback, it does the same once more.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Connection, bindparam, select, update

from archiver import errors
from archiver.custody.event import Type
from archiver.custody.ledger import Ledger
from archiver.ingest import owed_copies
from archiver.ingest.claims import (
    OF_A_PAGE,
    SETTLED_BY_CONTENT,
    Claim,
    dump_flags,
    is_refetched,
    load_flags,
)
from archiver.ingest.copy_rows import keep_copies
from archiver.ingest.journal import flags_now, reflagged, settle
from archiver.ingest.outcome_events import content_events, copy_events, media_facts
from archiver.ingest.plan import RECHECKS, Fate, Verdict
from archiver.ingest.tables import recording
from archiver.ingest.twins import Twin, find_twin
from archiver.recording import DOUBTS, Flag, Received, Sealed, State, Stored

_NOTHING: Mapping[str, str] = MappingProxyType({})


def fetched(
    conn: Connection,
    ledger: Ledger,
    claim: Claim,
    received: Received,
    sealed: Sealed,
    *,
    spool_id: str,
    alone: bool = False,
) -> Twin | None:
    """Record that a recording was received and lies sealed in our spool, ready to be stored.

    Nothing is recorded, and the twin is returned, when the same content of the same recording is archived already; with
    `alone` no twin is looked for. Once the twin's copies have proved themselves, `adopted` lets them stand for this row
    too, and the spool file may go.
    """
    twin = None if alone else find_twin(conn, claim, received.plaintext_sha256)
    if twin is None:
        _spool(conn, ledger, claim, received, sealed, spool_id)
    return twin


def _spool(conn: Connection, ledger: Ledger, claim: Claim, received: Received, sealed: Sealed, spool_id: str) -> None:
    """Reach durable point 1: the sealed object is fsynced on our disk; from here on the provider may delete the
    recording."""
    settle(
        conn,
        claim,
        {
            **content_columns(received, sealed, spool_id),
            **reflagged(conn, claim, received.flags, less=SETTLED_BY_CONTENT),
        },
        keep_owner=True,
    )
    ledger.append_many(conn, content_events(claim.subject, claim, received, sealed))


def content_columns(received: Received, sealed: Sealed, spool_id: str) -> dict[str, object]:
    """Return the row's columns, without flags, for content that is sealed in our spool."""
    return {
        "state": State.SPOOLED,
        "reason": None,
        "content_type": received.content_type,
        "media": json.dumps(media_facts(received), sort_keys=True),
        "plaintext_bytes": sealed.plaintext_size,
        "plaintext_sha256": sealed.plaintext_sha256,
        "sealed_bytes": sealed.size,
        "sealed_sha256": sealed.sealed_sha256,
        "recipients": json.dumps(list(sealed.recipients)),
        "spool_id": spool_id,
        "spool_name": sealed.path.name,
        "last_error": None,
    }


def archived(
    conn: Connection,
    ledger: Ledger,
    claim: Claim,
    copies: Sequence[Stored],
    now: datetime,
    *,
    retain_until: datetime,
    rule: str,
    missing: Mapping[str, str] = _NOTHING,
    begun: Collection[str] = (),
    owner: str | None = None,
    look_again_at: datetime | None = None,
) -> None:
    """Reach durable point 2: every required copy was read back, locked, with the right digest. Nothing later may undo
    it.

    Raises `VerificationError`, and keeps nothing, when there is no copy at all. `missing`: the storages without a copy
    yet, with the reason; the row shows it, and the copy is owed. `begun`: the storages into which `owner` makes a copy
    now, which is owed, too, until it is there. `look_again_at`: the content is doubtful, and the provider could not be
    asked a second time yet.
    """
    if not copies:
        raise errors.VerificationError("no storage has a copy: nothing is archived")
    settle(
        conn,
        claim,
        {
            "state": State.ARCHIVED,
            "reason": None,
            "retain_until": retain_until,
            "retention_rule": rule,
            "archived_at": now,
            "spool_id": None,
            "spool_name": None,
            "next_attempt_at": look_again_at,
            "last_error": "; ".join(f"no copy in {name}: {why}" for name, why in missing.items() if why)[:500] or None,
            **reflagged(conn, claim, frozenset(), less=frozenset({Flag.NO_COPY})),
        },
    )
    keep_copies(conn, claim.id, copies, now)
    owed_copies.owe(conn, claim.id, claim.ref.provider, missing, now, begun=begun, owner=owner)
    if is_refetched(claim.revision):
        supersede(conn, claim.id)
    drafts = [copy_events(claim.subject, each, number, rule) for number, each in enumerate(copies, start=1)]
    ledger.append_many(conn, [draft for pair in drafts for draft in pair])


def supersede(conn: Connection, recording_id: str) -> None:
    """Settle the doubts of a first answer once a second answer is archived and sound.

    Does nothing unless the second answer is both. Two recordings that share an id began at different times.
    """
    columns = recording.c
    second = conn.execute(select(recording).where(columns.id == recording_id)).one()
    if not is_refetched(second.revision) or second.state != State.ARCHIVED or load_flags(second.flags) & DOUBTS:
        return
    began = (
        columns.call_started_at.is_(None)
        if second.call_started_at is None
        else columns.call_started_at == second.call_started_at
    )
    kept = columns.state.in_([State.ARCHIVED, State.SPOOLED])
    others = select(columns.id).where(columns.identity == second.identity, columns.id != second.id, began, kept)
    for other in conn.execute(others).scalars().all():
        flags = flags_now(conn, other)
        if flags & DOUBTS:
            done = dump_flags(flags | {Flag.SUPERSEDED})
            conn.execute(update(recording).where(columns.id == other).values(flags=done, segment=None))


def quarantined(
    conn: Connection,
    ledger: Ledger,
    claim: Claim,
    sealed: Sealed,
    copies: Sequence[Stored],
    verdict: Verdict,
    now: datetime,
    *,
    spool_id: str | None,
) -> None:
    """Keep the error page that is all the provider sends at the deadline; the recording still counts as not archived.

    `spool_id`: the spool that holds the page until a storage takes it; None when the page is stored.
    """
    settle(
        conn,
        claim,
        {
            "state": State.WAITING,
            "reason": verdict.reason,
            **reflagged(conn, claim, OF_A_PAGE),
            "ready": False,
            "next_attempt_at": verdict.again_at,
            "spool_id": spool_id,
            "spool_name": None if spool_id is None else sealed.path.name,
            "sealed_sha256": None if spool_id is None else sealed.sealed_sha256,
            "sealed_bytes": None if spool_id is None else sealed.size,
            "plaintext_sha256": sealed.plaintext_sha256,  # so that the same page is not kept twice
            "plaintext_bytes": sealed.plaintext_size,
            "last_error": "past its deadline the provider sends no recording; what it sends is kept in quarantine",
        },
    )
    _page_kept(conn, ledger, claim, copies, now)


def page_stored(conn: Connection, ledger: Ledger, claim: Claim, copies: Sequence[Stored], now: datetime) -> None:
    """Record that a page in quarantine went from the spool into its storages; the provider is still asked for the
    recording."""
    gone = {"spool_id": None, "spool_name": None, "sealed_sha256": None, "sealed_bytes": None}
    settle(conn, claim, gone, keep_owner=True)
    _page_kept(conn, ledger, claim, copies, now)


def _page_kept(conn: Connection, ledger: Ledger, claim: Claim, copies: Sequence[Stored], now: datetime) -> None:
    keep_copies(conn, claim.id, copies, now)
    ledger.append(
        conn,
        claim.subject,
        Type.AUDIO_INVALID,
        {"kept": [{"storage": each.storage, "key": each.key, "ct_sha256": each.sealed_sha256} for each in copies]},
    )


def unfinished(
    conn: Connection, ledger: Ledger, claim: Claim, verdict: Verdict, error: errors.ArchiverError, now: datetime
) -> State:
    """Write down why an attempt did not finish and when to try again. Return the state that follows."""
    situation = claim.situation
    values: dict[str, object] = {
        "last_error": str(error)[:500],
        **reflagged(conn, claim, verdict.flags),
        "ready": False,
        "next_attempt_at": verdict.again_at,
        "attempts": situation.attempts if verdict.counted else situation.attempts - 1,
    }
    state = State.WAITING
    if verdict.fate is Fate.ABSENT:
        state = State.ABSENT
        ledger.append(conn, claim.subject, Type.GAP, {"reason": "no_recording", "error": type(error).__name__})
    elif verdict.fate is Fate.DENIED:
        values |= {"denials": situation.denials + 1, "denied_at": now}
        ledger.append(
            conn,
            claim.subject,
            Type.MISSING_AT_PROVIDER,
            {"confirmation": situation.denials + 1, "of": RECHECKS, "error": type(error).__name__},
        )
        if situation.denials + 1 >= RECHECKS:
            state = State.GONE
            values["next_attempt_at"] = None
    elif isinstance(error, errors.VerificationError) and claim.last_error != values["last_error"]:
        ledger.append(conn, claim.subject, Type.STORE_MISMATCH, {"error": type(error).__name__})
    settle(conn, claim, {**values, "state": state, "reason": verdict.reason if state is State.WAITING else None})
    return state


def shows(conn: Connection, claim: Claim, revision: str) -> bool:
    """Say whether the API's answer for this recording's id is about this recording, not another one with the same id.

    A recording that was only ever listed without audio is completed by another revision that no other row has, as in a
    listing (`listing_pages.note_page`). For a recording that had audio, an edit cannot be told from another recording,
    so it is not believed.
    """
    if revision == claim.revision or is_refetched(claim.revision):
        return True
    if not claim.silent or conn.execute(_TAKEN, {"key": claim.identity, "shown": revision, "own": claim.id}).first():
        return False
    settle(conn, claim, {"revision": revision}, keep_owner=True)
    return True


_TAKEN = select(recording.c.id).where(
    recording.c.identity == bindparam("key"),
    recording.c.revision == bindparam("shown"),
    recording.c.id != bindparam("own"),
)


def clear_flag(conn: Connection, claim: Claim, flag: Flag) -> None:
    """Remove a flag whose doubt was settled."""
    remaining = flags_now(conn, claim.id) - {flag}
    conn.execute(update(recording).where(recording.c.id == claim.id).values(flags=dump_flags(remaining), segment=None))
