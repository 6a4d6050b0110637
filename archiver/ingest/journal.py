"""The queue: who works on which recording, and the one fenced write that settles what came of it.

A claim gives a token; every later write names it, so that a replica that was paused or cut off changes nothing once somebody
else has taken over (`LeaseLostError`). The attempt is counted by the claim, before the work: a recording that kills its worker
is counted too.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Update, and_, bindparam, case, func, or_, select, text, update
from sqlalchemy.sql.dml import ReturningUpdate

from archiver import errors
from archiver.database import db_now
from archiver.ingest.catalogue_rows import QUEUE
from archiver.ingest.plan import Situation, backoff
from archiver.ingest.tables import provider_state, recording
from archiver.recording import Flag, Json, Reason, RecordingRef, State
from archiver.schedule.tables import replica

_CRASH_LIMIT = 3
_NAMED_AT_ONCE = 2_000
# As the partial index says it: SQLite does not see that "ready = 1", SQLAlchemy's way, is the same, and would sort every row.
READY = text("recording.ready")


# What a worker does not ask about; the raw row may be long.
_UNNEEDED = frozenset({"raw", "stable_digest", "last_seen_at", "recipients"})


@dataclass(frozen=True, slots=True)
class Claim:
    """One recording that is ours to work on until we say what came of it."""

    id: str
    token: int
    owner: str
    ref: RecordingRef
    identity: str
    revision: str
    silent: bool  # it has been listed without audio only
    situation: Situation
    listed_at: datetime
    format: str | None
    duration: timedelta | None
    of_call: bool  # `duration` is the whole call's: the recording may be shorter
    attributes: Mapping[str, Json]  # as `archiver.vocabulary` reads them
    flags: frozenset[Flag]
    spool_id: str | None
    spool_name: str | None
    sealed: tuple[str, int, str, int] | None  # sealed digest and size, plaintext digest and size
    last_error: str | None
    plaintext_sha256: str | None  # of what is archived, or kept in quarantine
    delete_at: datetime | None
    archived_at: datetime | None = None
    measured: timedelta | None = None  # how long what came lasts

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


def name_want_of_room(conn: Connection, provider: str, problem: str) -> int:
    """What could be fetched but for the room says so. It stays ready; the next claim takes it as soon as there is some."""
    unsaid = or_(recording.c.reason.is_(None), recording.c.reason != Reason.ROOM)
    wanted = (READY, recording.c.provider == provider, recording.c.spool_id.is_(None), unsaid)
    some = select(recording.c.id).where(*wanted).limit(_NAMED_AT_ONCE)
    named = update(recording).where(recording.c.id.in_(some)).values(reason=Reason.ROOM, last_error=problem[:500])
    return conn.execute(named).rowcount


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
    """Up to `limit` recordings of `provider`, most urgent first, now ours. None while the provider is parked.

    `fetching` false when the spool is full, `storing` false while the storage is down: each leaves out the rows whose next step
    that is. What another living replica holds sealed is left to it.
    """
    if not (fetching or storing):
        return []
    values = {"of": provider, "to": owner, "here": spool_id, "most": limit}
    rows = conn.execute(_claiming(fetching, storing), values).all()
    return sorted((_claim(row) for row in rows), key=_urgency)


# Statements of the hot path are built once: building one costs more than running it.
@functools.cache
def _claiming(fetching: bool, storing: bool) -> ReturningUpdate[Any]:
    here = bindparam("here", type_=recording.c.spool_id.type)
    dead_spools = recording.c.spool_id.not_in(select(replica.c.spool_id).where(replica.c.alive_until > db_now()))
    # The provider is asked for what is in quarantine, whether a storage took the page or it lies in the spool still.
    page = and_(recording.c.spool_id == here, recording.c.flags.contains(f'"{Flag.QUARANTINED}"'))
    fetchable = or_(recording.c.spool_id.is_(None), and_(recording.c.spool_id != here, dead_spools), page)
    steps = [
        condition for condition, wanted in ((fetchable, fetching), (recording.c.spool_id == here, storing)) if wanted
    ]
    resting = select(provider_state.c.provider).where(provider_state.c.parked_until > db_now())
    chosen = (
        select(recording.c.id)
        .where(READY, recording.c.provider == bindparam("of"), recording.c.provider.not_in(resting), or_(*steps))
        .order_by(recording.c.archive_by.nulls_last(), recording.c.listed_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )
    return (
        update(recording)
        .where(recording.c.id.in_(chosen), recording.c.ready)
        .values(owner=bindparam("to"), ready=False, token=recording.c.token + 1, attempts=recording.c.attempts + 1)
        .returning(*(column for column in recording.c if column.name not in _UNNEEDED))
    )


def hand_back(conn: Connection, held: Claim) -> None:
    """Give the recording back untouched, as at shutdown: the attempt did not happen."""
    settle(conn, held, {"ready": True, "attempts": held.situation.attempts - 1})


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
        .where(recording.c.provider_recording_id != "")  # nobody can be asked for what has lost its name
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


def settle(conn: Connection, held: Claim, values: Mapping[str, object], *, keep_owner: bool = False) -> None:
    """The one fenced write: raises `LeaseLostError`, and nothing changes, unless the claim is still ours."""
    changed = dict(values) if keep_owner else {"owner": None, **values}
    if not changed.keys() <= _UNSAID:
        changed["segment"] = None
    fence = {"held_id": held.id, "held_token": held.token, "held_owner": held.owner}
    statement = _settling(tuple(sorted(changed)))
    if conn.execute(statement, fence | {f"new_{name}": value for name, value in changed.items()}).rowcount != 1:
        raise errors.LeaseLostError(held.id)


# What changes without the catalogue having to say so anew; how often was tried is only of use once there is an outcome.
_UNSAID = QUEUE | {"attempts"}


@functools.cache
def _settling(columns: tuple[str, ...]) -> Update:
    fenced = update(recording).where(
        recording.c.id == bindparam("held_id"),
        recording.c.token == bindparam("held_token"),
        recording.c.owner == bindparam("held_owner"),
    )
    return fenced.values({name: bindparam(f"new_{name}", type_=recording.c[name].type) for name in columns})


def flags_now(conn: Connection, recording_id: str) -> frozenset[Flag]:
    """The row's flags, which nobody else changes until this transaction ends."""
    return load_flags(conn.execute(_FLAGS, {"of": recording_id}).scalar_one())


_FLAGS = select(recording.c.flags).where(recording.c.id == bindparam("of")).with_for_update()


def reflagged(
    conn: Connection, held: Claim, add: frozenset[Flag], less: frozenset[Flag] = frozenset()
) -> dict[str, object]:
    """What `settle` is to write so that the row has `add` and not `less`, whatever flags others gave it since the claim."""
    if (held.flags - less) | add == held.flags:
        return {}
    return {"flags": dump_flags((flags_now(conn, held.id) - less) | add)}


def recatalogue(conn: Connection, recording_id: str) -> None:
    """Make the row due for the catalogue again: for whoever changes what a segment says of it other than through `settle`."""
    conn.execute(_RECATALOGUE, {"changed": recording_id})


_RECATALOGUE = update(recording).where(recording.c.id == bindparam("changed")).values(segment=None)


def refetched(digest: str) -> str:
    """The revision of a row that no listing showed: the provider sent other audio when asked again. A listing's is hex alone."""
    return f"refetched:{digest[:54]}"


def is_refetched(revision: str) -> bool:
    return revision.startswith("refetched:")


def is_silent(row: Row[Any]) -> bool:
    """Whether this row, given its `state` and `reason`, has never had audio that could be fetched."""
    return row.state == State.ABSENT or (row.state == State.WAITING and row.reason in _WITHOUT_AUDIO)


_WITHOUT_AUDIO = frozenset({Reason.NOT_READY, Reason.NOT_UNDERSTOOD})


def is_of_call(duration_ms: int | None, metadata: Mapping[str, Json]) -> bool:
    """Whether the only length that is stated is the whole call's, which the recording may fall short of."""
    return (
        duration_ms is not None
        and metadata.get("call_duration_ms") == duration_ms
        and metadata.get("recording_duration_ms") is None
    )


def media_length(media: str | None) -> timedelta | None:
    """How long what came lasts, by what the row remembers of it."""
    milliseconds = json.loads(media).get("duration_ms") if media else None
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)


def load_flags(text: str) -> frozenset[Flag]:
    return frozenset(Flag(name) for name in json.loads(text))


def dump_flags(flags: Iterable[Flag]) -> str:
    return json.dumps(sorted(flags))


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
        revision=row.revision,
        silent=is_silent(row),
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
        of_call=is_of_call(row.duration_ms, attributes),
        attributes={**attributes, "provider": row.provider, "variant": row.variant, "account": row.account},
        flags=load_flags(row.flags),
        spool_id=row.spool_id,
        spool_name=row.spool_name,
        sealed=sealed,
        last_error=row.last_error,
        plaintext_sha256=row.plaintext_sha256,
        delete_at=row.delete_at,
        archived_at=row.archived_at,
        measured=media_length(row.media),
    )


def _urgency(held: Claim) -> tuple[bool, datetime, datetime]:
    by = held.situation.archive_by
    return (by is None, by or held.listed_at, held.listed_at)


def _resumed_state() -> ColumnElement[str | None]:
    return case((recording.c.state.in_([State.ABSENT, State.GONE]), State.LISTED.value))
