"""Answers read-only questions about the journal: its content, pending work, risks, and spans never enumerated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, or_, select, union

from archiver import vocabulary
from archiver.ingest import discovery, owed
from archiver.ingest.day_counts import states
from archiver.ingest.journal import READY
from archiver.ingest.tables import (
    FLAGGED,
    IN_WORK,
    copy,
    coverage,
    provider_state,
    recording,
    reject,
    storage_state,
    unindexed,
)
from archiver.instants import precise_or_none, to_second_or_none
from archiver.recording import Flag, Json, Reason, State, Window
from archiver.schedule.tables import replica
from archiver.schedule.window import holes
from archiver.vocabulary import VOCABULARY

# An id that begins with some letters lies between these, filled up: a range is what an index answers in any locale, LIKE is not.
_ENDS = tuple(f"{c * 8}-{c * 4}-{c * 4}-{c * 4}-{c * 12}" for c in "0f")


@dataclass(frozen=True, slots=True)
class Search:
    """The filters of a list of recordings; every field narrows. `text` matches ids, numbers, agents and digests."""

    provider: str | None = None
    state: str | None = None
    flag: str | None = None
    number: str | None = None
    agent: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderCounts:
    """One provider's row of the status table."""

    provider: str
    states: dict[str, int]
    nearest_deadline: datetime | None
    nearest_source: str | None
    overdue: int
    lost: int
    polled_at: datetime | None
    poll_succeeded_at: datetime | None
    poll_error: str | None
    parked_until: datetime | None
    parked_reason: str | None
    rejects: int


@dataclass(frozen=True, slots=True)
class Hole:
    """A span of provider time that was never enumerated."""

    provider: str
    scope: str
    since: datetime
    until: datetime


def recordings(conn: Connection, search: Search) -> Iterator[dict[str, Json]]:
    """Yield the rows as scripts see them (`archiver.recordings/v1`), oldest call first, streamed."""
    wanted = (
        select(recording)
        .where(*_conditions(search))
        .order_by(recording.c.call_started_at.nulls_last(), recording.c.listed_at, recording.c.id)
    )
    if search.limit is not None:
        wanted = wanted.limit(search.limit)
    result = conn.execute(wanted.execution_options(stream_results=True))
    for rows in result.partitions(500):
        copies = _copies(conn, [row.id for row in rows])
        for row in rows:
            yield _public(row, copies.get(row.id, []))


def in_quarantine(conn: Connection) -> Iterator[dict[str, Json]]:
    """Yield the rows that are not archived but have copies: of a page that came in the recording's place."""
    has = select(copy.c.recording_id).where(copy.c.recording_id == recording.c.id).exists()
    flagged = (FLAGGED, recording.c.flags.contains(f'"{Flag.QUARANTINED}"'))
    for row in conn.execute(select(recording).where(recording.c.state != State.ARCHIVED, *flagged, has)).all():
        yield _public(row, _copies(conn, [row.id]).get(row.id, []))


def find(conn: Connection, wanted: str) -> list[str]:
    """Return our ids that begin with `wanted`, or whose provider id or digest is `wanted`."""
    columns = recording.c
    lowest, highest = (wanted.lower() + end[len(wanted) :] for end in _ENDS)
    named = [
        columns.id.between(lowest, highest),
        columns.provider_recording_id == wanted,
        columns.plaintext_sha256 == wanted.lower(),
        columns.sealed_sha256 == wanted.lower(),
    ]
    ids = union(*(select(columns.id).where(each).limit(50).subquery().select() for each in named))
    return [str(each) for each in conn.execute(ids.limit(50)).scalars()]


def one(conn: Connection, recording_id: str) -> dict[str, Json] | None:
    """Return one recording with everything the journal knows of it."""
    row = conn.execute(select(recording).where(recording.c.id == recording_id)).one_or_none()
    if row is None:
        return None
    shown = _public(row, _copies(conn, [row.id]).get(row.id, []))
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
        "copies_owed": {**owed.of_recording(conn, row.id)},
    }
    return shown


def knows(conn: Connection, provider: str) -> bool:
    """Say whether the journal knows anything of a provider, configured or not."""
    seen = select(recording.c.id).where(recording.c.provider == provider).limit(1)
    polled = select(provider_state.c.provider).where(provider_state.c.provider == provider)
    return any(conn.execute(each).first() is not None for each in (polled, seen))


def counts(conn: Connection, providers: Sequence[str], now: datetime) -> list[ProviderCounts]:
    """Return one row per provider, configured or remembered: a provider removed from the configuration stays visible."""
    grouped: dict[str, dict[str, int]] = {name: {} for name in providers} | states(conn)
    polled = {row.provider: row for row in conn.execute(select(provider_state))}
    rejects: dict[str, int] = dict(
        conn.execute(select(reject.c.provider, func.count()).group_by(reject.c.provider)).all()
    )
    return [
        _provider_counts(conn, name, by_state, polled.get(name), rejects.get(name, 0), now)
        for name, by_state in grouped.items()
    ]


def runway(conn: Connection, now: datetime, edges: Sequence[timedelta]) -> list[int]:
    """Count the pending recordings with less time left than each edge; the last count is of those with more, or no deadline."""
    bucket = case(*((recording.c.archive_by < now + edge, index) for index, edge in enumerate(edges)), else_=len(edges))
    found: dict[int, int] = dict(conn.execute(select(bucket, func.count()).where(IN_WORK).group_by(bucket)).all())
    return [found.get(index, 0) for index in range(len(edges) + 1)]


def uncovered(conn: Connection, provider: str, scopes: Sequence[str], whole: Window) -> list[Hole]:
    """Return the holes of `whole` that no listing has covered, scope by scope."""
    return [
        Hole(provider, scope, hole.since, hole.until)
        for scope in scopes
        for hole in holes(discovery.covered(conn, provider, scope), whole)
    ]


def covered_until(conn: Connection, provider: str) -> datetime | None:
    """Return the end of the newest covered span; of several scopes, the one that lags most."""
    per_scope = (
        select(func.max(coverage.c.until).label("until"))
        .where(coverage.c.provider == provider)
        .group_by(coverage.c.scope)
        .subquery()
    )
    result: datetime | None = conn.execute(select(func.min(per_scope.c.until))).scalar()
    return result


def gaps(conn: Connection, provider: str | None = None) -> list[dict[str, Json]]:
    """Return recordings that should be here and are not: gone, absent, quarantined, or past their deadline and still pending."""
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
    return [_public(row, []) for row in conn.execute(wanted)]


def rejected(conn: Connection, provider: str | None = None) -> list[dict[str, Json]]:
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


def pending_soon(conn: Connection, provider: str, until: datetime) -> int:
    """Count the recordings in work, ready, or ready before `until`. Audio that the provider does not have yet is not
    waited for.
    """
    waits = func.coalesce(recording.c.reason, "") != Reason.NOT_READY.value
    # One query for each partial index, so that a long history costs nothing.
    ours = unindexed(recording.c.provider) == provider
    parts = (
        (ours, READY),
        (ours, recording.c.owner.is_not(None)),
        (ours, recording.c.next_attempt_at.is_not(None), recording.c.next_attempt_at <= until, waits),
    )
    return sum(conn.execute(select(func.count()).where(*part)).scalar_one() for part in parts)


def unfinished(conn: Connection, providers: Sequence[str]) -> int:
    """Count the recordings with audio that are not archived yet, without those that have no provider id and cannot be
    asked for.
    """
    return conn.execute(
        select(func.count()).where(
            unindexed(recording.c.provider).in_(providers),
            unindexed(recording.c.provider_recording_id) != "",
            IN_WORK,
            func.coalesce(recording.c.reason, "") != Reason.NOT_READY.value,
        )
    ).scalar_one()


def sealed(conn: Connection) -> int:
    """Count the recordings that lie sealed on a host's disk and in no storage."""
    waiting = select(func.count()).where(IN_WORK, recording.c.spool_name.is_not(None))
    return conn.execute(waiting).scalar_one()


def replicas(conn: Connection) -> list[dict[str, Json]]:
    """Return the known replicas, each with the end of its heartbeat."""
    return [
        {"id": row.id, "host": row.host, "version": row.version, "started_at": precise_or_none(row.started_at),
         "alive_until": precise_or_none(row.alive_until)}
        for row in conn.execute(select(replica).order_by(replica.c.started_at))
    ]  # fmt: skip


def storages(conn: Connection) -> dict[str, dict[str, Json]]:
    """Return the result of each storage's last probe."""
    return {
        row.storage: {
            "trusted": row.trusted,
            "probed_at": precise_or_none(row.probed_at),
            "checks": json.loads(row.report),
            "every_seconds": row.every_s,
        }
        for row in conn.execute(select(storage_state))
    }


def _conditions(search: Search) -> list[ColumnElement[bool]]:
    columns, found = recording.c, []
    if search.provider:
        found.append(columns.provider == search.provider)
    if search.state:
        found.append(columns.state == search.state)
    if search.flag:
        found += [FLAGGED, columns.flags.contains(f'"{search.flag}"', autoescape=True)]
    if search.number:
        spellings = _spellings(search.number)
        found.append(or_(columns.from_number.in_(spellings), columns.to_number.in_(spellings)))
    if search.agent:
        said = [_pair(name, search.agent) for name in VOCABULARY["agent"].keys]
        named = [columns.metadata.contains(each, autoescape=True) for each in said]
        found.append(or_(columns.agent == search.agent, *named))
    if search.since:
        found.append(columns.call_started_at >= search.since)
    if search.until:
        found.append(columns.call_started_at < search.until)
    for name, value in search.metadata:
        found.append(columns.metadata.contains(_pair(name, value), autoescape=True))
    if search.text:
        found.append(
            or_(
                columns.id.startswith(search.text, autoescape=True),
                columns.provider_recording_id.contains(search.text, autoescape=True),
                columns.plaintext_sha256 == search.text.lower(),
                columns.sealed_sha256 == search.text.lower(),
                columns.metadata.contains(json.dumps(search.text, ensure_ascii=False)[1:-1], autoescape=True),
            )
        )
    return found


def _pair(name: str, value: str) -> str:
    """Return a name and its value in the spelling of the journal's metadata."""
    return json.dumps({name: value}, ensure_ascii=False)[1:-1]


def _spellings(number: str) -> list[str]:
    """Return a telephone number as given, and as providers write it: with and without an international prefix."""
    digits = vocabulary.number(number)
    return [number, digits, f"+{digits}", f"00{digits}"]


def _provider_counts(
    conn: Connection,
    name: str,
    states: dict[str, int],
    row: Row[tuple[object, ...]] | None,
    rejects: int,
    now: datetime,
) -> ProviderCounts:
    pending = and_(unindexed(recording.c.provider) == name, IN_WORK)
    nearest = conn.execute(
        select(recording.c.delete_at, recording.c.deadline_source)
        .where(pending, recording.c.delete_at.is_not(None))
        .order_by(recording.c.delete_at)
        .limit(1)
    ).one_or_none()
    overdue = conn.execute(select(func.count()).where(pending, recording.c.archive_by < now)).scalar_one()
    return ProviderCounts(
        provider=name,
        states=states,
        nearest_deadline=nearest.delete_at if nearest else None,
        nearest_source=nearest.deadline_source if nearest else None,
        overdue=overdue,
        lost=states.get(State.GONE, 0),
        polled_at=row.polled_at if row else None,
        poll_succeeded_at=row.poll_succeeded_at if row else None,
        poll_error=row.poll_error if row else None,
        parked_until=row.parked_until if row else None,
        parked_reason=row.parked_reason if row else None,
        rejects=rejects,
    )


def _copies(conn: Connection, ids: Sequence[str]) -> dict[str, list[dict[str, Json]]]:
    found: dict[str, list[dict[str, Json]]] = {}
    if not ids:
        return found
    for row in conn.execute(select(copy).where(copy.c.recording_id.in_(ids)).order_by(copy.c.storage)):
        found.setdefault(row.recording_id, []).append(
            {
                "storage": row.storage,
                "bucket": row.bucket,
                "key": row.key,
                "version_id": row.version_id,
                "size": row.size,
                "sealed_sha256": row.sealed_sha256,
                "checked_by": row.checked_by,
                "lock_mode": row.lock_mode,
                "retain_until": to_second_or_none(row.retain_until),
                "legal_hold": row.legal_hold,
                "stored_at": precise_or_none(row.stored_at),
                "verified_at": precise_or_none(row.verified_at),
            }
        )
    return found


def _public(row: Row[tuple[object, ...]], copies: list[dict[str, Json]]) -> dict[str, Json]:
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
        "copies": list(copies),
    }
