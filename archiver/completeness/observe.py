"""Finds gaps in journal and coverage: questions in SQL, verdicts by the pure rules of `gap` and `listing`. Reads
only."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select, union

from archiver.completeness import listing
from archiver.completeness.gap import Code, Gap, Grade, Known, Profile, explain
from archiver.completeness.listing import Listed, Walk
from archiver.ingest import covered_spans
from archiver.ingest.claims import is_of_call, load_flags, media_length
from archiver.ingest.daily_budget import CONTENTS_EACH, EDITS_A_DAY, deferred, deferred_contents
from archiver.ingest.day_counts import day_counts
from archiver.ingest.provider_names import strangers
from archiver.ingest.rejects import COUNTED_A_DAY, KEPT_A_DAY
from archiver.ingest.tables import (
    DENIED,
    FLAGGED,
    IN_WORK,
    listing_window,
    provider_state,
    recording,
    reject,
    unindexed,
)
from archiver.recording import Json, Reason, State, Window
from archiver.schedule.window import holes, merge

_HABIT = timedelta(weeks=9)
_COUNTED = timedelta(days=8)
_DEEP_TAKES = timedelta(hours=2)
_DOUBLES = timedelta(days=3)  # how far beyond its window a listing by whole days, in any zone, may show


@dataclass(frozen=True, slots=True)
class Watched:
    """One provider account to watch: its present scopes, and the whole span of provider time that should be covered."""

    provider: str
    profile: Profile
    scopes: Sequence[str]
    whole: Window


def observe(conn: Connection, it: Watched, now: datetime) -> list[Gap]:
    """All gaps of this provider, one for each subject. A recording's own reason comes before a listing's."""
    state = conn.execute(select(provider_state).where(provider_state.c.provider == it.provider)).one_or_none()
    walks = newest_walks(conn, it.provider, it.scopes, now)
    found = [
        *recordings(conn, it, now),
        *rejects(conn, it.provider),
        *edits(conn, it.provider),
        *listing.never_listed(it.provider, uncovered(conn, it)),
        *listing.empty(it.provider, None if state is None else state.poll_error, now),
        *listing.totals(it.provider, newest_walks(conn, it.provider, it.scopes, now, counted=True)),
        *unlisted(conn, it.provider, walks, now),
        *unlisted(conn, it.provider, deep_walks(conn, it, state), now),
        *listing.volume(it.provider, daily(conn, it.provider, now), covered_days(conn, it, now)),
        *listing.clock(it.provider, newest_time(conn, it.provider), now),
    ]
    by_subject: dict[str, Gap] = {}
    for each in found:
        by_subject.setdefault(each.subject, each)
    return list(by_subject.values())


def not_configured(conn: Connection, configured: Collection[str], now: datetime) -> list[Gap]:
    """The gaps of waiting recordings whose provider is not polled any more: removed from the configuration, or
    renamed."""
    found = []
    for each in strangers(conn, configured, pending_only=True):
        name, first = each.provider, None if each.nearest is None else f"{each.nearest:%Y-%m-%dT%H:%M:%SZ}"
        detail = (
            f"{each.pending} recording(s) wait and the provider is not configured: configure it again, or, if it only has "
            f"another name now, archiver providers rename {name} NEW"
        )
        evidence: dict[str, Json] = {"pending": each.pending, "first_deleted_at": first}
        code, subject = Code.PROVIDER_NOT_CONFIGURED, f"provider:{name}"
        found.append(Gap(name, subject, code, Grade.OPEN, detail, evidence, now, each.nearest))
    return found


def recordings(conn: Connection, it: Watched, now: datetime) -> Iterator[Gap]:
    """Yields the gaps of recordings. Calls without audio by the provider's own log are counted in `queries.counts`
    instead."""
    columns = recording.c
    # One question for each index: a condition that joins them by OR would read every row.
    here, ours = columns.provider == it.provider, unindexed(columns.provider) == it.provider
    doubtful: list[tuple[Any, ...]] = [
        (ours, IN_WORK),
        (here, columns.state == State.GONE),
        (ours, DENIED),
        (ours, FLAGGED),
        *((here, columns.duration_ms.between(_ms(each) - 2000, _ms(each) + 2000)) for each in it.profile.time_limits),
    ]
    ids = union(*(select(columns.id).where(*each) for each in doubtful))
    told_silent = and_(columns.state == State.ABSENT, columns.attempts == 0)
    rows = conn.execute(
        select(
            columns.id, columns.provider, columns.variant, columns.state, columns.reason, columns.flags, columns.call_started_at,
            columns.call_ended_at, columns.duration_ms, columns.media, columns.listed_at, columns.delete_at, columns.archive_by,
            columns.attempts, columns.denials, columns.last_error, columns.metadata, columns.provider_recording_id,
        ).where(columns.id.in_(ids), ~told_silent),
        execution_options={"stream_results": True},
    )  # fmt: skip
    for page in rows.partitions(1000):
        for row in page:
            seen = known(row)
            if seen.nameless:
                seen = replace(seen, looked_for=_listed_since(conn, it, seen.called_at))
            gap = explain(seen, it.profile, now)
            if gap is not None:
                yield gap


def known(row: Any) -> Known:
    """Converts a journal row for the rules of `gap`."""
    return Known(
        id=row.id,
        provider=row.provider,
        state=State(row.state),
        reason=None if row.reason is None else Reason(row.reason),
        flags=load_flags(row.flags),
        started_at=row.call_started_at,
        ended_at=row.call_ended_at,
        duration=_span(row.duration_ms),
        media=media_length(row.media),
        listed_at=row.listed_at,
        delete_at=row.delete_at,
        archive_by=row.archive_by,
        attempts=row.attempts,
        denials=row.denials,
        last_error=row.last_error,
        of_call=is_of_call(row.duration_ms, json.loads(row.metadata)),
        variant=row.variant,
        nameless=row.provider_recording_id == "",
    )


def _listed_since(conn: Connection, it: Watched, instant: datetime) -> bool:
    """Tells whether every scope has listed this instant to the last page, as far as this database knows."""
    there = Window(instant, instant + timedelta(seconds=1))
    return all(not holes(covered_spans.covered(conn, it.provider, scope), there) for scope in it.scopes)


def rejects(conn: Connection, provider: str) -> list[Gap]:
    """The gaps of listed rows that were not understood, until the recording that a row names is in the journal after
    all.

    The rows of a day beyond those that are kept make one gap, with their number.
    """
    here = select(recording.c.id).where(
        recording.c.provider == provider, recording.c.provider_recording_id == reject.c.provider_recording_id
    )
    rows = conn.execute(
        select(reject).where(reject.c.provider == provider, ~here.exists()).order_by(reject.c.first_seen_at)
    )
    found: list[Gap] = []
    days: dict[date, list[Row[Any]]] = {}
    for row in rows:
        if row.raw:
            found.append(_not_understood(provider, row))
        else:
            days.setdefault(row.first_seen_at.astimezone(UTC).date(), []).append(row)
    return [*found, *(_many_not_understood(provider, day, more) for day, more in days.items())]


def _not_understood(provider: str, row: Row[Any]) -> Gap:
    detail = f"a listed row was not understood: {row.problem}"[:300]
    evidence: dict[str, Json] = {"row_sha256": hashlib.sha256(row.raw).hexdigest(), "bytes": len(row.raw)}
    subject = f"reject:{row.digest}"
    return Gap(
        provider, subject, Code.ROW_NOT_UNDERSTOOD, Grade.OPEN, detail, evidence, row.first_seen_at, row.last_seen_at
    )


def _many_not_understood(provider: str, day: date, rows: Sequence[Row[Any]]) -> Gap:
    kept, counted = KEPT_A_DAY, len(rows)
    total = f"{kept + counted}" if kept + counted < COUNTED_A_DAY else f"{COUNTED_A_DAY} or more"
    detail = f"{counted} more listed rows were not understood on {day} ({total} in all); the first {kept} of the day are kept"
    evidence: dict[str, Json] = {"rows": counted, "kept": kept}
    subject, last = f"reject:more@{day}", max(row.last_seen_at for row in rows)
    first = rows[0].first_seen_at
    return Gap(provider, subject, Code.ROW_NOT_UNDERSTOOD, Grade.OPEN, detail, evidence, first, last)


def edits(conn: Connection, provider: str) -> list[Gap]:
    """The gaps of what a day's budget put off: edits of rows, and further contents under known ids.

    Each lasts until a later listing is taken over, or shows the old values.
    """
    found = []
    waiting, since = deferred(conn, provider)
    if waiting:
        detail = (
            f"the details of {waiting} recordings were changed and are not taken over yet: more than {EDITS_A_DAY} edits "
            "in a day; recordings are saved all the same"
        )
        evidence: dict[str, Json] = {"deferred": waiting, "a_day": EDITS_A_DAY}
        found.append(Gap(provider, "edits:deferred", Code.EDITS_DEFERRED, Grade.OPEN, detail, evidence, since))
    waiting, since = deferred_contents(conn, provider)
    if waiting:
        detail = (
            f"{waiting} ids are listed with ever new contents: {CONTENTS_EACH} a day of each are saved, and the others "
            "are not saved yet"
        )
        evidence = {"deferred": waiting, "a_day": CONTENTS_EACH}
        found.append(Gap(provider, "contents:deferred", Code.CONTENTS_DEFERRED, Grade.OPEN, detail, evidence, since))
    return found


def uncovered(conn: Connection, it: Watched) -> dict[str, tuple[Window, ...]]:
    """The holes in the span that should be covered, by scope."""
    return {scope: holes(covered_spans.covered(conn, it.provider, scope), it.whole) for scope in it.scopes}


def newest_walks(
    conn: Connection, provider: str, scopes: Sequence[str], now: datetime, *, counted: bool = False
) -> list[Walk]:
    """The newest window of each scope that was walked to its end; [] unless every scope has one.

    `counted`: only walks for which the provider stated a total; some providers state it for the whole account only.
    """
    found = []
    for scope in scopes:
        windows = listing_window.c
        wanted = select(listing_window).where(
            windows.provider == provider, windows.scope == scope, windows.completed_at <= now
        )
        if counted:
            wanted = wanted.where(windows.total.is_not(None), windows.completed_at > now - _COUNTED)
        newest = wanted.order_by(windows.until.desc(), windows.completed_at.desc()).limit(1)
        latest = conn.execute(newest).one_or_none()
        # One poller at a time walks a provider, one window after the other: this walk began after that one was
        # complete.
        before = None if latest is None else _completed_before(conn, provider, latest.completed_at)
        if latest is None or before is None:
            return []
        window = Window(latest.since, latest.until)
        seen = _seen_ids(conn, provider, window, before, latest.completed_at) if counted else 0
        found.append(Walk(scope, window, latest.completed_at, before, latest.total, latest.rows, seen, latest.digest))
    return found


def deep_walks(conn: Connection, it: Watched, state: Row[Any] | None) -> list[Walk]:
    """The last span that the last deep walk showed, of each scope; [] unless every scope has one.

    Ordinary polls shortly before may be included: recordings that they showed count as shown, and no gap is invented.
    """
    ended = None if state is None else state.deep_walk_at
    if ended is None:
        return []
    found = []
    for scope in it.scopes:
        windows = listing_window.c
        rows = conn.execute(
            select(listing_window).where(
                windows.provider == it.provider, windows.scope == scope,
                windows.completed_at > ended - _DEEP_TAKES, windows.completed_at <= ended,
            )
        ).all()  # fmt: skip
        before = _completed_before(conn, it.provider, min(row.completed_at for row in rows)) if rows else None
        spans = merge(Window(row.since, row.until) for row in rows)
        if before is None or not spans:
            return []
        found.append(Walk(scope, spans[-1], ended, before, None, 0, 0, ""))
    return found


def _completed_before(conn: Connection, provider: str, instant: datetime) -> datetime | None:
    windows = listing_window.c
    before: datetime | None = conn.execute(
        select(func.max(windows.completed_at)).where(windows.provider == provider, windows.completed_at < instant)
    ).scalar()
    return before


def _seen_ids(conn: Connection, provider: str, window: Window, before: datetime, completed: datetime) -> int:
    """Counts the provider's recordings known by `completed` that were listed since `before`, understood or not.

    An id that Vobiz lists with two contents counts as two, as in Vobiz's own total. Recordings that later or unfinished
    walks listed are included: they may hide a recording that this walk did not show, and never invent a gap.
    """
    columns = recording.c
    shown = (columns.provider == provider, columns.last_seen_at > before, columns.listed_at <= completed)
    near = columns.call_started_at.between(window.since - _DOUBLES, window.until + _DOUBLES)
    named = (columns.provider_recording_id + columns.revision).label("named")
    distinct = union(*(select(named).where(*shown, when) for when in (near, columns.call_started_at.is_(None))))
    ids = select(func.count()).select_from(distinct.subquery())
    odd = select(func.count()).where(
        reject.c.provider == provider, reject.c.last_seen_at > before, reject.c.first_seen_at <= completed
    )
    return int(conn.execute(ids).scalar_one() + conn.execute(odd).scalar_one())


def unlisted(conn: Connection, provider: str, walks: Sequence[Walk], now: datetime) -> list[Gap]:
    """The gaps of recordings that the newest walks should have shown, and did not."""
    shown = listing.span(walks)
    if shown is None:
        return []
    window, before = shown
    columns = recording.c
    rows = conn.execute(
        select(columns.id, columns.state, columns.agent, columns.account, columns.metadata, columns.last_seen_at).where(
            columns.provider == provider,
            columns.call_started_at >= window.since,
            columns.call_started_at < window.until,
            columns.listed_at <= before,
            columns.state.not_in([State.GONE, State.DISPOSED]),
            or_(columns.delete_at.is_(None), columns.delete_at > now),
        )
    )
    safe = {State.ARCHIVED, State.SPOOLED, State.ABSENT}
    found = [Listed(row.id, _party(row), State(row.state) in safe, row.last_seen_at > before) for row in rows]
    return listing.unlisted(provider, window, found)


def _party(row: Any) -> str:
    return str(row.agent or json.loads(row.metadata).get("owner_id") or row.account or "")


def daily(conn: Connection, provider: str, now: datetime) -> dict[date, int]:
    """The number of recordings by UTC day of the call, over the weeks that define an account's habit."""
    found: Counter[date] = Counter()
    for each in day_counts(conn, provider, (now - _HABIT).astimezone(UTC).date()):
        found[each.day] += each.n
    return found


def covered_days(conn: Connection, it: Watched, now: datetime) -> list[date]:
    """The whole UTC days of the last nine weeks that every scope has covered."""
    spans = [covered_spans.covered(conn, it.provider, scope) for scope in it.scopes]
    first = max(now - _HABIT, it.whole.since).astimezone(UTC).date() + timedelta(days=1)
    days = [first + timedelta(days=n) for n in range(max(0, (now.date() - first).days))]
    return [day for day in days if all(not holes(each, utc_day(day)) for each in spans)]


def utc_day(day: date) -> Window:
    """The span of one UTC day."""
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Window(since, since + timedelta(days=1))


def newest_time(conn: Connection, provider: str) -> datetime | None:
    """The latest time of a completed listing in the journal."""
    newest: datetime | None = conn.execute(
        select(func.max(listing_window.c.completed_at)).where(listing_window.c.provider == provider)
    ).scalar()
    return newest


def _span(milliseconds: int | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)


def _ms(length: timedelta) -> int:
    return round(length.total_seconds() * 1000)
