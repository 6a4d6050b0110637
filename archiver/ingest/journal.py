"""The queue and its outcomes: who works on which recording, and what came of it.

A claim gives a token; every later write names it, so that a replica that was paused or cut off changes nothing once somebody
else has taken over (`LeaseLostError`). The attempt is counted by the claim, before the work: a recording that kills its worker
is counted too. Custody events are appended in the same transaction as the state they justify.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Row, Update, and_, case, func, insert, or_, select, text, update

from archiver import errors
from archiver.clock import Chance
from archiver.custody.ledger import Ledger
from archiver.database import db_now
from archiver.ingest.plan import RECHECKS, Fate, Situation, Verdict, backoff
from archiver.ingest.tables import copy, provider_state, recording
from archiver.recording import Flag, Json, Reason, Received, RecordingRef, Sealed, State, Stored
from archiver.schedule.tables import replica

_CRASH_LIMIT = 3
# As the partial index says it: SQLite does not see that "ready = 1", SQLAlchemy's way, is the same, and would sort every row.
READY = text("recording.ready")


@dataclass(frozen=True, slots=True)
class Claim:
    """One recording that is ours to work on until we say what came of it."""

    id: str
    token: int
    owner: str
    ref: RecordingRef
    identity: str
    situation: Situation
    listed_at: datetime
    format: str | None
    duration: timedelta | None
    attributes: Mapping[str, Json]
    flags: frozenset[Flag]
    spool_id: str | None
    spool_name: str | None
    sealed: tuple[str, int, str, int] | None  # sealed digest and size, plaintext digest and size
    last_error: str | None

    @property
    def subject(self) -> str:
        return f"rec:{self.id}"


def wake_due(conn: Connection) -> int:
    """Make ready what was to be looked at again by now."""
    due = and_(
        recording.c.next_attempt_at.is_not(None), recording.c.next_attempt_at <= db_now(), recording.c.owner.is_(None)
    )
    return conn.execute(update(recording).where(due).values(ready=True, next_attempt_at=None)).rowcount


def wake(conn: Connection, reason: Reason, provider: str | None = None) -> int:
    """What it waited for is there again: no need to wait out the delay."""
    waits = [recording.c.next_attempt_at.is_not(None), recording.c.reason == reason, recording.c.owner.is_(None)]
    if provider is not None:
        waits.append(recording.c.provider == provider)
    return conn.execute(update(recording).where(*waits).values(ready=True, next_attempt_at=None)).rowcount


def release_dead(conn: Connection, now: datetime) -> int:
    """Take back the claims of replicas whose heartbeat ended. What kills its worker again and again has to wait longer."""
    alive = select(replica.c.id).where(replica.c.alive_until > db_now())
    orphaned = and_(recording.c.owner.is_not(None), recording.c.owner.not_in(alive))
    released = conn.execute(
        update(recording)
        .where(orphaned, recording.c.attempts <= _CRASH_LIMIT)
        .values(owner=None, ready=True, next_attempt_at=None)
    ).rowcount
    for row in conn.execute(select(recording.c.id, recording.c.attempts).where(orphaned)).all():
        again = now + backoff(row.attempts, None, now, 1.0)
        released += conn.execute(
            update(recording)
            .where(recording.c.id == row.id, orphaned)
            .values(owner=None, ready=False, next_attempt_at=again, last_error="its worker ended without an outcome")
        ).rowcount
    return released


def claim(
    conn: Connection, provider: str, owner: str, spool_id: str, limit: int, *, fetching: bool, storing: bool
) -> list[Claim]:
    """Up to `limit` recordings of `provider`, most urgent first, now ours.

    `fetching` false when the spool is full, `storing` false while the storage is down: each leaves out the rows whose next step
    that is. What another living replica holds sealed is left to it.
    """
    dead_spools = recording.c.spool_id.not_in(select(replica.c.spool_id).where(replica.c.alive_until > db_now()))
    fetchable = or_(recording.c.spool_id.is_(None), and_(recording.c.spool_id != spool_id, dead_spools))
    storable = recording.c.spool_id == spool_id
    steps = [condition for condition, wanted in ((fetchable, fetching), (storable, storing)) if wanted]
    if not steps:
        return []
    chosen = (
        select(recording.c.id)
        .where(READY, recording.c.provider == provider, or_(*steps))
        .order_by(recording.c.archive_by.nulls_last(), recording.c.listed_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = conn.execute(
        update(recording)
        .where(recording.c.id.in_(chosen), recording.c.ready)
        .values(owner=owner, ready=False, token=recording.c.token + 1, attempts=recording.c.attempts + 1)
        .returning(*recording.c)
    ).all()
    return sorted((_claim(row) for row in rows), key=_urgency)


def spooled(
    conn: Connection,
    ledger: Ledger,
    held: Claim,
    received: Received,
    sealed: Sealed,
    *,
    flags: frozenset[Flag],
    spool_id: str,
) -> None:
    """Durable point 1: the sealed object is fsynced on our disk; from here the provider may delete the recording."""
    _settle(
        conn,
        held,
        {
            "state": State.SPOOLED,
            "reason": None,
            "flags": dump_flags(held.flags | flags),
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
        },
        keep_owner=True,
    )
    took = received.finished_at - received.started_at
    ledger.append(
        conn,
        held.subject,
        "recording.downloaded",
        {
            "bytes": received.size,
            "pt_sha256": received.plaintext_sha256,
            "http_status": received.status,
            "etag": _plain(received.etag),
            "content_type": _plain(received.content_type),
            "attempt": held.situation.attempts,
            "duration_ms": round(took.total_seconds() * 1000),
        },
    )
    ledger.append(
        conn,
        held.subject,
        "recording.verified",
        {
            **_media(received),
            "provider_duration_ms": _milliseconds(held.duration),
            "flags": [str(flag) for flag in sorted(flags)],
        },
    )
    ledger.append(
        conn,
        held.subject,
        "recording.sealed",
        {
            "alg": sealed.algorithm,
            "recipients": list(sealed.recipients),
            "wrapped_dek_sha256": sealed.wrapped_key_sha256,
            "pt_sha256": sealed.plaintext_sha256,
            "pt_bytes": sealed.plaintext_size,
            "ct_sha256": sealed.sealed_sha256,
            "ct_bytes": sealed.size,
        },
    )


def archived(
    conn: Connection,
    ledger: Ledger,
    held: Claim,
    copies: Sequence[Stored],
    now: datetime,
    *,
    retain_until: datetime,
    rule: str,
    missing: str | None = None,
) -> None:
    """Durable point 2: every required copy was read back, locked, with the right digest. Nothing later may undo it.

    `missing` says which optional copy could not be made; a person sees it on the row.
    """
    _settle(
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
            "last_error": missing,
        },
    )
    for number, stored in enumerate(copies, start=1):
        keep_copy(conn, held.id, stored, now)
        copy_stored(conn, ledger, held.subject, stored, number, rule)


def copy_stored(conn: Connection, ledger: Ledger, subject: str, stored: Stored, number: int, rule: str) -> None:
    """The two events that justify calling a copy stored: what was sent, and what the storage showed when asked."""
    ledger.append(
        conn,
        subject,
        "recording.stored",
        {
            "storage": stored.storage,
            "bucket": stored.bucket,
            "key": stored.key,
            "version_id": stored.version_id,
            "ct_sha256": stored.sealed_sha256,
            "ct_bytes": stored.size,
            "lock_mode": stored.lock_mode,
            "retain_until": _rfc3339(stored.retain_until),
            "rule": rule,
            "copy_no": number,
        },
    )
    ledger.append(
        conn,
        subject,
        "recording.store_verified",
        {
            "storage": stored.storage,
            "method": stored.checked_by,
            "result": "ok",
            "ct_sha256": stored.sealed_sha256,
            "version_id": stored.version_id,
        },
    )


def keep_copy(conn: Connection, recording_id: str, stored: Stored, now: datetime) -> None:
    """Write down one copy; the same copy again replaces what was known of it."""
    values = {
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
    same = and_(copy.c.recording_id == recording_id, copy.c.storage == stored.storage)
    if conn.execute(update(copy).where(same).values(**values)).rowcount == 0:
        conn.execute(insert(copy).values(recording_id=recording_id, storage=stored.storage, **values))


def twin_of(conn: Connection, held: Claim, plaintext_sha256: str) -> Row[tuple[object, ...]] | None:
    """Another row of the same provider recording that is archived with exactly these bytes."""
    return conn.execute(
        select(recording)
        .where(
            recording.c.plaintext_sha256 == plaintext_sha256,
            recording.c.provider == held.ref.provider,
            recording.c.provider_recording_id == held.ref.recording_id,
            recording.c.id != held.id,
            recording.c.state == State.ARCHIVED,
            ~func.coalesce(recording.c.flags, "").contains(Flag.QUARANTINED.value),
        )
        .limit(1)
    ).one_or_none()


def adopted(conn: Connection, ledger: Ledger, held: Claim, received: Received, now: datetime) -> bool:
    """Same content once: when the same recording's bytes are archived already, point to that copy. False when they are not."""
    twin = twin_of(conn, held, received.plaintext_sha256)
    if twin is None:
        return False
    same = {
        name: getattr(twin, name)
        for name in (
            "plaintext_bytes", "plaintext_sha256", "sealed_bytes", "sealed_sha256", "recipients", "retain_until",
            "retention_rule",
        )
    }  # fmt: skip
    _settle(
        conn,
        held,
        {
            **same,
            "state": State.ARCHIVED,
            "reason": None,
            "archived_at": now,
            "last_error": None,
            "content_type": received.content_type,
            "media": json.dumps(_media(received), sort_keys=True),
        },
    )
    ledger.append(
        conn,
        held.subject,
        "recording.downloaded",
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
    return True


def quarantined(
    conn: Connection, ledger: Ledger, held: Claim, copies: Sequence[Stored], verdict: Verdict, now: datetime
) -> None:
    """At its deadline all that the provider gives is an error page: kept as bytes, and the recording is still not archived."""
    _settle(
        conn,
        held,
        {
            "state": State.WAITING,
            "reason": verdict.reason,
            "flags": dump_flags(held.flags | {Flag.QUARANTINED, Flag.NOT_AUDIO}),
            "ready": False,
            "next_attempt_at": verdict.again_at,
            "spool_id": None,
            "spool_name": None,
            "plaintext_sha256": None,
            "plaintext_bytes": None,
            "last_error": "past its deadline the provider sends no recording; what it sends is kept in quarantine",
        },
    )
    for stored in copies:
        keep_copy(conn, held.id, stored, now)
    ledger.append(
        conn,
        held.subject,
        "anomaly.audio_invalid",
        {"kept": [{"storage": each.storage, "key": each.key, "ct_sha256": each.sealed_sha256} for each in copies]},
    )


def unfinished(
    conn: Connection, ledger: Ledger, held: Claim, verdict: Verdict, error: errors.ArchiverError, now: datetime
) -> State:
    """Write down why an attempt did not finish and when to look again. Returns the state that follows."""
    it = held.situation
    values: dict[str, object] = {
        "last_error": str(error)[:500],
        "flags": dump_flags(held.flags | verdict.flags),
        "ready": False,
        "next_attempt_at": verdict.again_at,
        "attempts": it.attempts if verdict.counted else it.attempts - 1,
    }
    state = State.WAITING
    if verdict.fate is Fate.ABSENT:
        state = State.ABSENT
        ledger.append(conn, held.subject, "anomaly.gap", {"reason": "no_recording", "error": type(error).__name__})
    elif verdict.fate is Fate.DENIED:
        values |= {"denials": it.denials + 1, "denied_at": now}
        ledger.append(
            conn,
            held.subject,
            "anomaly.missing_at_provider",
            {"confirmation": it.denials + 1, "of": RECHECKS, "error": type(error).__name__},
        )
        if it.denials + 1 >= RECHECKS:
            state = State.GONE
            values["next_attempt_at"] = None
    elif isinstance(error, errors.VerificationError) and held.last_error != values["last_error"]:
        ledger.append(conn, held.subject, "anomaly.store_mismatch", {"error": type(error).__name__})
    _settle(conn, held, {**values, "state": state, "reason": verdict.reason if state is State.WAITING else None})
    return state


def hand_back(conn: Connection, held: Claim) -> None:
    """Give the recording back untouched, as at shutdown: the attempt did not happen."""
    _settle(conn, held, {"ready": True, "attempts": held.situation.attempts - 1})


def strays(conn: Connection, owner: str, working: frozenset[str]) -> frozenset[str]:
    """What the journal says is ours though nobody here works on it: an answer to a claim or to an outcome was lost."""
    return frozenset(conn.execute(select(recording.c.id).where(recording.c.owner == owner)).scalars()) - working


def take_back(conn: Connection, owner: str, ids: frozenset[str]) -> int:
    """Return strays to the queue under a new token."""
    return conn.execute(
        update(recording)
        .where(recording.c.owner == owner, recording.c.id.in_(ids))
        .values(owner=None, ready=True, next_attempt_at=None, token=recording.c.token + 1)
    ).rowcount


def retry_now(conn: Connection, recording_id: str) -> bool:
    """A person asks for another try: gone and absent rows are looked at again too. False when nothing waits."""
    again = [State.LISTED, State.WAITING, State.SPOOLED, State.ABSENT, State.GONE]
    found = conn.execute(
        update(recording)
        .where(recording.c.id == recording_id, recording.c.state.in_(again), recording.c.owner.is_(None))
        .values(
            ready=True,
            next_attempt_at=None,
            denials=0,
            denied_at=None,
            state=func.coalesce(_resumed_state(), recording.c.state),
        )
    )
    return found.rowcount == 1


def referenced_spool(conn: Connection, spool_id: str) -> frozenset[str]:
    """The spool files of ours that rows still point to."""
    found = conn.execute(select(recording.c.spool_name).where(recording.c.spool_id == spool_id))
    return frozenset(found.scalars())


def parked(conn: Connection, provider: str) -> datetime | None:
    """Until when this provider's work rests, if it does."""
    return conn.execute(
        select(provider_state.c.parked_until).where(
            provider_state.c.provider == provider, provider_state.c.parked_until > db_now()
        )
    ).scalar_one_or_none()


def sibling_for(conn: Connection, chance: Chance, ledger: Ledger, held: Claim, digest: str, now: datetime) -> str:
    """The provider sent two different audios for one recording: a second row keeps the second one (DESIGN §1, invariant 4)."""
    row = conn.execute(select(recording).where(recording.c.id == held.id)).mappings().one()
    sibling_id = chance.uuid()
    flags = dump_flags({*load_flags(row["flags"]), Flag.ID_CONFLICT})
    values = {**row, "id": sibling_id, "revision": digest, "flags": flags, "listed_at": now}
    blank = (
        "content_type", "media", "plaintext_bytes", "plaintext_sha256", "sealed_bytes", "sealed_sha256", "recipients",
        "spool_id", "spool_name", "owner", "reason", "next_attempt_at", "last_error", "archived_at", "denied_at",
    )  # fmt: skip
    values |= dict.fromkeys(blank)
    values |= {"state": State.LISTED, "ready": True, "attempts": 0, "denials": 0, "token": 0}
    same = and_(recording.c.identity == held.identity, recording.c.revision == digest)
    existing = conn.execute(select(recording.c.id).where(same)).scalar_one_or_none()
    if existing is not None:
        return str(existing)
    conn.execute(insert(recording).values(**values))
    conn.execute(update(recording).where(recording.c.id == held.id).values(flags=flags))
    ledger.append(
        conn,
        f"rec:{sibling_id}",
        "recording.discovered",
        {"provider": held.ref.provider, "variant": held.ref.variant, "source": "refetch", "provider_created": None},
    )
    ledger.append(
        conn,
        held.subject,
        "anomaly.content_differs",
        {"other": f"rec:{sibling_id}", "expected_pt_sha256": row["plaintext_sha256"], "seen_pt_sha256": digest},
    )
    return sibling_id


def clear_flag(conn: Connection, held: Claim, flag: Flag) -> None:
    """A doubt was settled."""
    row = conn.execute(select(recording.c.flags).where(recording.c.id == held.id)).one()
    remaining = load_flags(row.flags) - {flag}
    conn.execute(update(recording).where(recording.c.id == held.id).values(flags=dump_flags(remaining)))


def load_flags(text: str) -> frozenset[Flag]:
    return frozenset(Flag(name) for name in json.loads(text))


def dump_flags(flags: Iterable[Flag]) -> str:
    return json.dumps(sorted(flags))


def _settle(conn: Connection, held: Claim, values: Mapping[str, object], *, keep_owner: bool = False) -> None:
    """The one fenced write: nothing changes unless the claim is still ours."""
    fenced: Update = update(recording).where(
        recording.c.id == held.id, recording.c.token == held.token, recording.c.owner == held.owner
    )
    changed = dict(values) if keep_owner else {"owner": None, **values}
    if conn.execute(fenced.values(**changed)).rowcount != 1:
        raise errors.LeaseLostError(held.id)


def _claim(row: Row[tuple[object, ...]]) -> Claim:
    sealed = None
    if row.spool_name is not None and row.sealed_sha256 is not None:
        sealed = (row.sealed_sha256, row.sealed_bytes, row.plaintext_sha256, row.plaintext_bytes)
    attributes: dict[str, Json] = json.loads(row.metadata)
    return Claim(
        id=row.id,
        token=row.token,
        owner=row.owner,
        ref=RecordingRef(row.provider, row.provider_recording_id, row.variant, row.account),
        identity=row.identity,
        situation=Situation(
            state=State(row.state),
            attempts=row.attempts,
            denials=row.denials,
            denied_at=row.denied_at,
            called_at=row.call_ended_at or row.call_started_at or row.listed_at,
            archive_by=row.archive_by,
            spooled=row.spool_name is not None,
        ),
        listed_at=row.listed_at,
        format=row.format,
        duration=None if row.duration_ms is None else timedelta(milliseconds=row.duration_ms),
        attributes={"provider": row.provider, "variant": row.variant, **attributes},
        flags=load_flags(row.flags),
        spool_id=row.spool_id,
        spool_name=row.spool_name,
        sealed=sealed,
        last_error=row.last_error,
    )


def _urgency(held: Claim) -> tuple[bool, datetime, datetime]:
    by = held.situation.archive_by
    return (by is None, by or held.listed_at, held.listed_at)


def _resumed_state() -> ColumnElement[str | None]:
    return case((recording.c.state.in_([State.ABSENT, State.GONE]), State.LISTED.value))


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


def _rfc3339(instant: datetime | None) -> str | None:
    return None if instant is None else instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _plain(text: str | None) -> str | None:
    """Printable ASCII of at most 200 characters: a header is a stranger's text and stands in signed evidence."""
    return None if text is None else "".join(c for c in text[:200] if " " <= c <= "~")
