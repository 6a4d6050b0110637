"""Writes the outcome of work on one recording: the row and the custody events that justify it, in one transaction.

Each function is the body of one transaction of the claim's holder. It raises `LeaseLostError`, and nothing is kept,
when this replica no longer holds the claim; run again after a rollback, it does the same once more.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from archiver import errors
from archiver.custody.event import Type
from archiver.custody.ledger import Draft, Ledger
from archiver.ingest import owed
from archiver.ingest.discovery import identity
from archiver.ingest.journal import Claim, dump_flags, flags_now, is_refetched, load_flags, reflagged, settle
from archiver.ingest.plan import RECHECKS, Fate, Verdict
from archiver.ingest.tables import copy, recording
from archiver.instants import precise_or_none
from archiver.recording import DOUBTS, ORIGINAL, Flag, Json, Received, Sealed, State, Stored

_NOTHING: Mapping[str, str] = MappingProxyType({})

OF_A_PAGE = frozenset({Flag.QUARANTINED, Flag.NOT_AUDIO})
"""The flags of an error page in a recording's place; they go when other content comes."""

OF_THE_BYTES = DOUBTS | OF_A_PAGE | {Flag.CONTENT_ENCODED}
"""The flags that describe the received bytes; they go when other bytes come."""


def fetched(
    conn: Connection,
    ledger: Ledger,
    held: Claim,
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
    twin = None if alone else _twin(conn, held, received.plaintext_sha256)
    if twin is None:
        _spool(conn, ledger, held, received, sealed, spool_id)
    return twin


_SETTLED = OF_THE_BYTES | {Flag.LINK_NOT_UNDERSTOOD, Flag.TOO_LARGE}
"""The flags that no longer apply once a recording has come."""


def _spool(conn: Connection, ledger: Ledger, held: Claim, received: Received, sealed: Sealed, spool_id: str) -> None:
    """Reach durable point 1: the sealed object is fsynced on our disk; from here on the provider may delete the recording."""
    settle(
        conn,
        held,
        {**what_came(received, sealed, spool_id), **reflagged(conn, held, received.flags, less=_SETTLED)},
        keep_owner=True,
    )
    ledger.append_many(conn, telling(held.subject, held, received, sealed))


def what_came(received: Received, sealed: Sealed, spool_id: str) -> dict[str, object]:
    """Return the row's columns, without flags, for content that is sealed in our spool."""
    return {
        "state": State.SPOOLED,
        "reason": None,
        "content_type": received.content_type,
        "media": json.dumps(_media(received), sort_keys=True),
        "plaintext_bytes": sealed.plaintext_size,
        "plaintext_sha256": sealed.plaintext_sha256,
        "sealed_bytes": sealed.size,
        "sealed_sha256": sealed.sealed_sha256,
        "recipients": json.dumps(list(sealed.recipients)),
        "spool_id": spool_id,
        "spool_name": sealed.path.name,
        "last_error": None,
    }


def telling(subject: str, held: Claim, received: Received, sealed: Sealed) -> list[Draft]:
    """Return the three events about the content that came for `held`: downloaded, verified, sealed."""
    took = received.finished_at - received.started_at
    downloaded: dict[str, Json] = {
        "bytes": received.size,
        "pt_sha256": received.plaintext_sha256,
        "http_status": received.status,
        "etag": _plain(received.etag),
        "content_type": _plain(received.content_type),
        "attempt": held.situation.attempts,
        "duration_ms": _milliseconds(took),
    }
    verified: dict[str, Json] = {
        **_media(received),
        "provider_duration_ms": _milliseconds(held.duration),
        "flags": [str(flag) for flag in sorted(received.flags)],
    }
    envelope: dict[str, Json] = {
        "alg": sealed.algorithm,
        "recipients": list(sealed.recipients),
        "wrapped_dek_sha256": sealed.wrapped_key_sha256,
        "pt_sha256": sealed.plaintext_sha256,
        "pt_bytes": sealed.plaintext_size,
        "ct_sha256": sealed.sealed_sha256,
        "ct_bytes": sealed.size,
    }
    return [
        Draft(subject, Type.DOWNLOADED, downloaded),
        Draft(subject, Type.VERIFIED, verified),
        Draft(subject, Type.SEALED, envelope),
    ]


def archived(
    conn: Connection,
    ledger: Ledger,
    held: Claim,
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
    """Reach durable point 2: every required copy was read back, locked, with the right digest. Nothing later may undo it.

    Raises `VerificationError`, and keeps nothing, when there is no copy at all. `missing`: the storages without a copy
    yet, with the reason; the row shows it, and the copy is owed. `begun`: the storages into which `owner` makes a copy now,
    which is owed, too, until it is there. `look_again_at`: the content is doubtful, and the
    provider could not be asked a second time yet.
    """
    if not copies:
        raise errors.VerificationError("no storage has a copy: nothing is archived")
    settle(
        conn,
        held,
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
            **reflagged(conn, held, frozenset(), less=frozenset({Flag.NO_COPY})),
        },
    )
    keep_copies(conn, held.id, copies, now)
    owed.owe(conn, held.id, held.ref.provider, missing, now, begun=begun, owner=owner)
    if is_refetched(held.revision):
        supersede(conn, held.id)
    drafts = [stored_events(held.subject, each, number, rule) for number, each in enumerate(copies, start=1)]
    ledger.append_many(conn, [draft for pair in drafts for draft in pair])


def supersede(conn: Connection, recording_id: str) -> None:
    """Settle the doubts of a first answer once a second answer is archived and sound.

    Does nothing unless the second answer is both. Two recordings that share an id began at different times.
    """
    columns = recording.c
    it = conn.execute(select(recording).where(columns.id == recording_id)).one()
    if not is_refetched(it.revision) or it.state != State.ARCHIVED or load_flags(it.flags) & DOUBTS:
        return
    began = (
        columns.call_started_at.is_(None)
        if it.call_started_at is None
        else columns.call_started_at == it.call_started_at
    )
    kept = columns.state.in_([State.ARCHIVED, State.SPOOLED])
    others = select(columns.id).where(columns.identity == it.identity, columns.id != it.id, began, kept)
    for other in conn.execute(others).scalars().all():
        flags = flags_now(conn, other)
        if flags & DOUBTS:
            done = dump_flags(flags | {Flag.SUPERSEDED})
            conn.execute(update(recording).where(columns.id == other).values(flags=done, segment=None))


def stored_events(subject: str, stored: Stored, number: int, rule: str) -> list[Draft]:
    """Return the two events that justify calling a copy stored: the bytes sent, and the storage's answer when asked."""
    sent: dict[str, Json] = {
        "storage": stored.storage,
        "bucket": stored.bucket,
        "key": stored.key,
        "version_id": stored.version_id,
        "ct_sha256": stored.sealed_sha256,
        "ct_bytes": stored.size,
        "lock_mode": stored.lock_mode,
        "retain_until": precise_or_none(stored.retain_until),
        "rule": rule,
        "copy_no": number,
    }
    shown: dict[str, Json] = {
        "storage": stored.storage,
        "method": stored.checked_by,
        "result": "ok",
        "ct_sha256": stored.sealed_sha256,
        "version_id": stored.version_id,
    }
    return [Draft(subject, Type.STORED, sent), Draft(subject, Type.STORE_VERIFIED, shown)]


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


def _twin(conn: Connection, held: Claim, plaintext_sha256: str) -> Twin | None:
    wanted = {
        "digest": plaintext_sha256,
        "of": held.ref.provider,
        "known_as": held.ref.recording_id,
        "own": held.id,
    }
    rows = conn.execute(_TWINS, wanted).all()
    found = next((row for row in rows if Flag.QUARANTINED not in load_flags(row.flags)), None)
    if found is None:
        return None
    copies = {row.storage: row for row in conn.execute(select(copy).where(copy.c.recording_id == found.id))}
    return Twin(found.id, found.variant, copies) if copies else None


def is_as_recorded(seen: Stored, known: Row[Any]) -> bool:
    """Say whether a storage shows a copy with the recorded size, digest and lock."""
    same = (seen.size, seen.sealed_sha256, seen.lock_mode) == (known.size, known.sealed_sha256, known.lock_mode)
    until = known.retain_until is None or (seen.retain_until is not None and seen.retain_until >= known.retain_until)
    return same and until


def adopted(
    conn: Connection,
    ledger: Ledger,
    held: Claim,
    received: Received,
    twin: Twin,
    now: datetime,
    demanded: Iterable[str],
    *,
    look_again_at: datetime | None = None,
) -> bool:
    """Let the row share the twin's copies, which their storages have just shown: the same content is kept once. Always true.

    An original with the same content as the main recording is no separate original, and the row says so. `demanded`:
    the storages that must have a copy; where the twin has none, a copy is owed.
    """
    if held.ref.variant == ORIGINAL and twin.variant == "":
        _no_original(conn, ledger, held, twin)
        return True
    of_twin = select(*(recording.c[name] for name in _SHARED)).where(recording.c.id == twin.id)
    shared = conn.execute(of_twin).mappings().one()
    settle(
        conn,
        held,
        {
            **shared,
            **reflagged(conn, held, received.flags, less=_SETTLED | {Flag.NO_COPY}),
            "state": State.ARCHIVED,
            "reason": None,
            "archived_at": now,
            "last_error": None,
            "content_type": received.content_type,
            "media": json.dumps(_media(received), sort_keys=True),
            "next_attempt_at": look_again_at,
            "spool_id": None,
            "spool_name": None,
        },
    )
    ledger.append(
        conn,
        held.subject,
        Type.DOWNLOADED,
        {
            "bytes": received.size,
            "pt_sha256": received.plaintext_sha256,
            "http_status": received.status,
            "same_content_as": f"rec:{twin.id}",
            "attempt": held.situation.attempts,
        },
    )
    for row in conn.execute(select(copy).where(copy.c.recording_id == twin.id)).mappings().all():
        conn.execute(insert(copy).values(**{**row, "recording_id": held.id}))
    lacking = {
        name: "the recording with the same content has none there" for name in demanded if name not in twin.copies
    }
    owed.owe(conn, held.id, held.ref.provider, lacking, now)
    return True


def _no_original(conn: Connection, ledger: Ledger, held: Claim, main: Twin) -> None:
    """Record that the original is the main recording itself: noise was never cancelled, and nothing is missing."""
    nothing = dict.fromkeys(("reason", "next_attempt_at", "last_error", "spool_id", "spool_name"))
    settle(conn, held, {**nothing, "state": State.ABSENT, "ready": False})
    told: dict[str, Json] = {"reason": "no_separate_original", "same_content_as": f"rec:{main.id}"}
    ledger.append(conn, held.subject, Type.GAP, told)


def main_in_work(conn: Connection, held: Claim) -> bool:
    """Say whether the main recording of this original is still to be fetched or stored, and has not failed so far."""
    columns = recording.c
    found = conn.execute(
        select(columns.id).where(
            columns.identity == identity(dataclasses.replace(held.ref, variant="")),
            or_(
                columns.state.in_([State.LISTED, State.SPOOLED]),
                and_(columns.state == State.WAITING, columns.owner.is_not(None)),
            ),
        )
    )
    return found.first() is not None


def quarantined(
    conn: Connection,
    ledger: Ledger,
    held: Claim,
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
        held,
        {
            "state": State.WAITING,
            "reason": verdict.reason,
            **reflagged(conn, held, OF_A_PAGE),
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
    _page_kept(conn, ledger, held, copies, now)


def page_stored(conn: Connection, ledger: Ledger, held: Claim, copies: Sequence[Stored], now: datetime) -> None:
    """Record that a page in quarantine went from the spool into its storages; the provider is still asked for the recording."""
    gone = {"spool_id": None, "spool_name": None, "sealed_sha256": None, "sealed_bytes": None}
    settle(conn, held, gone, keep_owner=True)
    _page_kept(conn, ledger, held, copies, now)


def _page_kept(conn: Connection, ledger: Ledger, held: Claim, copies: Sequence[Stored], now: datetime) -> None:
    keep_copies(conn, held.id, copies, now)
    ledger.append(
        conn,
        held.subject,
        Type.AUDIO_INVALID,
        {"kept": [{"storage": each.storage, "key": each.key, "ct_sha256": each.sealed_sha256} for each in copies]},
    )


def unfinished(
    conn: Connection, ledger: Ledger, held: Claim, verdict: Verdict, error: errors.ArchiverError, now: datetime
) -> State:
    """Write down why an attempt did not finish and when to try again. Return the state that follows."""
    it = held.situation
    values: dict[str, object] = {
        "last_error": str(error)[:500],
        **reflagged(conn, held, verdict.flags),
        "ready": False,
        "next_attempt_at": verdict.again_at,
        "attempts": it.attempts if verdict.counted else it.attempts - 1,
    }
    state = State.WAITING
    if verdict.fate is Fate.ABSENT:
        state = State.ABSENT
        ledger.append(conn, held.subject, Type.GAP, {"reason": "no_recording", "error": type(error).__name__})
    elif verdict.fate is Fate.DENIED:
        values |= {"denials": it.denials + 1, "denied_at": now}
        ledger.append(
            conn,
            held.subject,
            Type.MISSING_AT_PROVIDER,
            {"confirmation": it.denials + 1, "of": RECHECKS, "error": type(error).__name__},
        )
        if it.denials + 1 >= RECHECKS:
            state = State.GONE
            values["next_attempt_at"] = None
    elif isinstance(error, errors.VerificationError) and held.last_error != values["last_error"]:
        ledger.append(conn, held.subject, Type.STORE_MISMATCH, {"error": type(error).__name__})
    settle(conn, held, {**values, "state": state, "reason": verdict.reason if state is State.WAITING else None})
    return state


def shows(conn: Connection, held: Claim, revision: str) -> bool:
    """Say whether the API's answer for this recording's id is about this recording, not another one with the same id.

    A recording that was only ever listed without audio is completed by another revision that no other row has, as in a
    listing (`discovery.note_page`). For a recording that had audio, an edit cannot be told from another recording, so
    it is not believed.
    """
    if revision == held.revision or is_refetched(held.revision):
        return True
    if not held.silent or conn.execute(_TAKEN, {"key": held.identity, "shown": revision, "own": held.id}).first():
        return False
    settle(conn, held, {"revision": revision}, keep_owner=True)
    return True


_TAKEN = select(recording.c.id).where(
    recording.c.identity == bindparam("key"),
    recording.c.revision == bindparam("shown"),
    recording.c.id != bindparam("own"),
)


def clear_flag(conn: Connection, held: Claim, flag: Flag) -> None:
    """Remove a flag whose doubt was settled."""
    remaining = flags_now(conn, held.id) - {flag}
    conn.execute(update(recording).where(recording.c.id == held.id).values(flags=dump_flags(remaining), segment=None))


def _media(received: Received) -> dict[str, Json]:
    facts = received.media
    return {
        "container": facts.container,
        "codec": facts.codec,
        "rate": facts.sample_rate,
        "channels": facts.channels,
        "duration_ms": _milliseconds(facts.duration),
    }


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration.total_seconds() * 1000)


def _plain(text: str | None) -> str | None:
    """Keep printable ASCII of at most 200 characters: a header is a stranger's text and stands in signed evidence."""
    return None if text is None else "".join(c for c in text[:200] if " " <= c <= "~")
