"""Writes down the content of listings: new recordings, changed recordings, rows not understood, and the spans now covered.

Each function runs inside the caller's transaction, so that a row, its custody event and its place in the queue appear
together or not at all. Listing the same recordings twice changes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, select, update

from archiver.clock import Chance
from archiver.custody.event import Type
from archiver.custody.ledger import Draft, Ledger
from archiver.ingest import growth
from archiver.ingest.journal import dump_flags, flags_now, is_refetched, is_silent, load_flags
from archiver.ingest.nameless import Nameless, found_again, name
from archiver.ingest.tables import IN_WORK, coverage, listing_window, provider_state, recording
from archiver.recording import ORIGINAL, Audio, Flag, Json, Listing, Reason, RecordingRef, State, Window
from archiver.schedule.deadline import Deadline
from archiver.schedule.window import merge


@dataclass(frozen=True, slots=True)
class Noted:
    """The changes that one page made. `ids` maps our ids to the listings of recordings that are still to be fetched."""

    new: int
    changed: int
    known: int
    ids: dict[str, Listing]


def pieces(listings: Sequence[Listing], most: int) -> list[list[Listing]]:
    """Divide `listings` into pieces of about `most`. Listings with one id stay together: they decide each other's meaning."""
    together: dict[str, list[Listing]] = {}
    for each in listings:
        together.setdefault(identity(each.ref), []).append(each)
    found: list[list[Listing]] = [[]]
    for group in together.values():
        if found[-1] and len(found[-1]) + len(group) > most:
            found.append([])
        found[-1] += group
    return found


def identity(ref: RecordingRef) -> str:
    """Return a key for a recording of a provider account, whatever its content; provider ids may be too long for an index."""
    named = json.dumps([ref.provider, ref.recording_id, ref.variant], ensure_ascii=True)
    return hashlib.sha256(named.encode()).hexdigest()


def called_at(listing: Listing, now: datetime) -> datetime:
    """Return the start of the provider's clocks: the call's end, never in the future; when unstated, our first sight of it."""
    stated = listing.ended_at or listing.started_at
    return min(stated, now) if stated is not None else now


def note_page(
    conn: Connection,
    ledger: Ledger,
    chance: Chance,
    listings: Sequence[Listing],
    now: datetime,
    deadline_of: Callable[[datetime], Deadline | None],
) -> Noted:
    """Bring the journal up to date with one page.

    The same id with the same revision is the same recording. The same id with another revision is another recording
    (the Vobiz document itself shows one id with two audios), unless the known row never had audio: then the listing has
    been completed.
    """
    unique = {(identity(each.ref), each.revision): each for each in listings}
    listed_now: dict[str, set[str]] = {}
    for key, revision in unique:
        listed_now.setdefault(key, set()).add(revision)
    known: dict[str, dict[str, Row[tuple[object, ...]]]] = {}
    for row in _rows_of(conn, {key for key, _ in unique}):
        known.setdefault(row.identity, {})[row.revision] = row
    known_ids = [str(row.id) for siblings in known.values() for row in siblings.values()]
    edits = growth.Edits(conn, listings[0].ref.provider, known_ids, now) if known_ids else None
    unknown = [each for (key, _), each in unique.items() if key not in known]
    lost = Nameless(conn, unknown) if unknown else None
    fresh: list[dict[str, object]] = []
    fresh_ids: dict[str, list[str]] = {}
    drafts: list[Draft] = []
    seen: list[dict[str, object]] = []
    changed = 0
    ids: dict[str, Listing] = {}
    for (key, revision), listing in unique.items():
        siblings = known.get(key, {})
        same = siblings.get(revision) or _awaiting_audio(siblings, listed_now[key])
        if same is not None and edits is not None:
            changed += _refresh_row(conn, ledger, same, listing, now, deadline_of, edits)
            seen.append({"row": same.id, "now": now})
            if same.state not in _FETCHED:
                ids[str(same.id)] = listing
            continue
        conflict = bool(siblings) or len(listed_now[key]) > 1
        again = None if lost is None or siblings else lost.take(listing)
        if again is not None:
            name(conn, _new_row(again, key, listing, now, deadline_of, conflict))
            ledger.append_many(conn, [found_again(again, _private(listing))])
            ids[again] = listing
            changed += 1
            continue
        values = _new_row(chance.uuid(), key, listing, now, deadline_of, conflict)
        drafts.append(_discovered(str(values["id"]), listing))
        others = [str(each.id) for each in siblings.values()] + fresh_ids.get(key, [])
        fresh.append(values)
        fresh_ids.setdefault(key, []).append(str(values["id"]))
        if others:
            drafts.append(_differs(str(values["id"]), others))
        ids[str(values["id"])] = listing
        for sibling in siblings.values():
            _add_flags(conn, sibling, {Flag.ID_CONFLICT})
    if edits is not None:
        edits.save()
    if seen:
        conn.execute(_SEEN, seen)
    if fresh:
        conn.execute(insert(recording), fresh)
        ledger.append_many(conn, drafts)
    return Noted(len(fresh), changed, len(unique) - len(fresh) - changed, ids)


_FETCHED = frozenset({State.SPOOLED, State.ARCHIVED, State.DISPOSED})
_SEEN = (
    update(recording)
    .where(recording.c.id == bindparam("row"))
    .values(last_seen_at=bindparam("now", type_=recording.c.last_seen_at.type))
)


@dataclass(frozen=True, slots=True)
class Walked:
    """A window that was enumerated to its last page, with the effort that took."""

    scope: str
    window: Window
    walks: int
    rows: int
    total: int | None
    digest: str


def cover(conn: Connection, chance: Chance, provider: str, walked: Walked, now: datetime) -> None:
    """Record that a window is covered; only called after a full, stable walk whose rows are already written down."""
    conn.execute(
        insert(listing_window).values(
            id=chance.uuid(),
            provider=provider,
            scope=walked.scope,
            since=walked.window.since,
            until=walked.window.until,
            walks=walked.walks,
            rows=walked.rows,
            total=walked.total,
            digest=walked.digest,
            completed_at=now,
        )
    )
    before = covered(conn, provider, walked.scope)
    after = merge([*before, walked.window])
    ours = (coverage.c.provider == provider) & (coverage.c.scope == walked.scope)
    for span in set(before) - set(after):
        conn.execute(delete(coverage).where(ours, coverage.c.since == span.since))
    for span in set(after) - set(before):
        conn.execute(insert(coverage).values(provider=provider, scope=walked.scope, since=span.since, until=span.until))


def covered(conn: Connection, provider: str, scope: str) -> tuple[Window, ...]:
    """Return the spans of `scope` known to be enumerated, disjoint and ordered."""
    found = conn.execute(
        select(coverage.c.since, coverage.c.until)
        .where(coverage.c.provider == provider, coverage.c.scope == scope)
        .order_by(coverage.c.since)
    )
    return tuple(Window(row.since, row.until) for row in found)


def recount(conn: Connection, provider: str, scope: str, latest: datetime) -> tuple[Window, ...]:
    """Return the covered spans of `scope`, rebuilt when they contradict the listings up to `latest`.

    A clock that ran ahead has covered time that had not come; a clock that fell behind knows too little. So only
    windows that ended and were walked by `latest` count; the others count again when their time has come.
    """
    known, windows = covered(conn, provider, scope), listing_window.c
    believed = and_(
        windows.provider == provider,
        windows.scope == scope,
        windows.until <= latest,
        windows.completed_at <= latest,
    )
    newest = conn.execute(select(windows.until).where(believed).order_by(windows.until.desc()).limit(1)).scalar()
    if newest == (known[-1].until if known else None):
        return known
    spans = merge(
        Window(row.since, row.until) for row in conn.execute(select(windows.since, windows.until).where(believed))
    )
    conn.execute(delete(coverage).where(coverage.c.provider == provider, coverage.c.scope == scope))
    for span in spans:
        conn.execute(insert(coverage).values(provider=provider, scope=scope, since=span.since, until=span.until))
    return spans


def unjam(conn: Connection, provider: str, latest: datetime) -> int:
    """Make rows ready that are to rest until after `latest`: no rest is that long, so a clock was wrong. Return their count."""
    columns = recording.c
    jammed = and_(columns.provider == provider, columns.next_attempt_at > latest, columns.owner.is_(None))
    return conn.execute(update(recording).where(jammed).values(ready=True, next_attempt_at=None)).rowcount


def polled(conn: Connection, provider: str, now: datetime, error: str | None, *, deep: bool = False) -> None:
    """Record the end of a poll, successful or not."""
    values: dict[str, object] = {"polled_at": now, "poll_error": error}
    if error is None:
        values["poll_succeeded_at"] = now
        values["parked_until"] = None
        values["parked_reason"] = None
    if deep:
        values["deep_walk_at"] = now
    _upsert_provider(conn, provider, values)


def deep_walk_at(conn: Connection, provider: str) -> datetime | None:
    """Return when all listings of this provider were last walked from end to end; None when they never were."""
    return conn.execute(
        select(provider_state.c.deep_walk_at).where(provider_state.c.provider == provider)
    ).scalar_one_or_none()


def park(conn: Connection, provider: str, until: datetime, reason: str) -> None:
    """Make the whole provider wait: its credentials were refused."""
    _upsert_provider(conn, provider, {"parked_until": until, "parked_reason": reason})


def _upsert_provider(conn: Connection, provider: str, values: dict[str, object]) -> None:
    same = provider_state.c.provider == provider
    if conn.execute(update(provider_state).where(same).values(**values)).rowcount == 0:
        conn.execute(insert(provider_state).values(provider=provider, **values))


def reckon_deadlines(
    conn: Connection, provider: str, now: datetime, deadline_of: Callable[[datetime], Deadline | None]
) -> int:
    """Bring the deadlines of pending recordings up to date; return the count of those that moved by an hour or more.

    A quota is reached sooner the more is recorded, and the rate of recording shows only once recordings are listed.
    """
    moved = []
    for row in conn.execute(_PENDING, {"of": provider}):
        stated = row.call_ended_at or row.call_started_at
        due = deadline_of(min(stated, now) if stated is not None else row.listed_at)
        before = row.delete_at
        if due is not None and (before is None or abs(due.delete_at - before) >= timedelta(hours=1)):
            moved.append({"row": row.id, "at": due.delete_at, "by": due.archive_by, "why": due.source})
    if moved:
        conn.execute(_MOVE, moved)
    return len(moved)


_PENDING = select(
    recording.c.id, recording.c.call_ended_at, recording.c.call_started_at, recording.c.listed_at, recording.c.delete_at
).where(recording.c.provider == bindparam("of"), IN_WORK)
_MOVE = (
    update(recording)
    .where(recording.c.id == bindparam("row"))
    .values(
        delete_at=bindparam("at", type_=recording.c.delete_at.type),
        archive_by=bindparam("by", type_=recording.c.archive_by.type),
        deadline_source=bindparam("why"),
    )
)


def bytes_per_day(conn: Connection, providers: Sequence[str], now: datetime, bytes_per_second: int) -> float:
    """Return the account's present rate of recording, from the durations listed over the last 30 days."""
    days = 30
    milliseconds = conn.execute(
        select(func.sum(recording.c.duration_ms)).where(
            recording.c.provider.in_(providers), recording.c.call_started_at >= now - timedelta(days=days)
        )
    ).scalar()
    return float(milliseconds or 0) / 1000 * bytes_per_second / days


def _rows_of(conn: Connection, identities: set[str]) -> list[Row[tuple[object, ...]]]:
    if not identities:
        return []
    columns = recording.c
    return list(
        conn.execute(
            select(
                columns.id, columns.identity, columns.revision, columns.stable_digest, columns.state, columns.reason,
                columns.flags, columns.token, columns.owner, columns.ready, columns.account, columns.metadata,
            ).where(columns.identity.in_(identities))
        )
    )  # fmt: skip


def _awaiting_audio(
    siblings: dict[str, Row[tuple[object, ...]]], listed_now: set[str]
) -> Row[tuple[object, ...]] | None:
    """Return the row that this listing completes: a row without audio so far that is not itself listed beside it."""
    for revision, row in siblings.items():
        if is_silent(row) and revision not in listed_now and not is_refetched(revision):
            return row
    return None


def _refresh_row(
    conn: Connection,
    ledger: Ledger,
    row: Row[tuple[object, ...]],
    listing: Listing,
    now: datetime,
    deadline_of: Callable[[datetime], Deadline | None],
    edits: growth.Edits,
) -> bool:
    """Take over changes, and wake the row when audio has turned up. True when more than `last_seen_at` changed.

    An edit beyond the day's budget is left for a later listing; audio that the edit shows is fetched all the same.
    """
    values: dict[str, object] = {}
    edited = row.stable_digest != listing.stable_digest
    told = edited and edits.admits(str(row.id))
    if not edited:
        edits.unchanged(str(row.id))
    if told:
        values |= _described(listing, now, deadline_of) | _told_once(row, listing) | {"segment": None}
        ledger.append(
            conn, f"rec:{row.id}", Type.SOURCE_REFRESHED, {"why": "metadata changed"}, private=_private(listing)
        )
    turned = _turned(row, listing, edited=edited) if row.owner is None else {}
    waits_for_link = row.state == State.WAITING and row.reason == Reason.LINK and not row.ready
    if turned:
        values |= turned
    elif waits_for_link and listing.link is not None and row.owner is None and not _refused_egress(row):
        # The link in this listing may be the only one there is.
        values |= {"ready": True, "next_attempt_at": None}
    if values:
        conn.execute(update(recording).where(recording.c.id == row.id).values(**values))
    return told or bool(turned)


def _turned(row: Row[tuple[object, ...]], listing: Listing, *, edited: bool) -> dict[str, object]:
    """Return the changes to a row without audio when its listing shows audio, unreadable audio, or none any more.

    A flag that says "not understood" stays until audio has come, so that the gap based on the flag does not come and go.
    """
    puzzled = row.state == State.WAITING and row.reason == Reason.NOT_UNDERSTOOD
    flags = load_flags(str(row.flags))
    again: dict[str, object] = {"ready": True, "next_attempt_at": None, "denials": 0}
    if listing.audio is Audio.PRESENT:
        tried = listing.link is not None and listing.link.guessed and not edited  # that very guess led nowhere
        late = row.state == State.WAITING and row.reason == Reason.NOT_READY
        # An original has a link whether it exists or not: only an edit of the recording is a reason to ask again.
        given_up = row.state in (State.ABSENT, State.GONE) and (edited or listing.ref.variant != ORIGINAL)
        woken = given_up or (late and edited) or (puzzled and not tried)
        return {"state": State.LISTED, "reason": None, **again} if woken else {}
    if listing.audio is Audio.UNREADABLE:
        turned = row.state == State.GONE or (is_silent(row) and not puzzled)
        kept = dump_flags(flags | {Flag.LINK_NOT_UNDERSTOOD})
        return {"state": State.WAITING, "reason": Reason.NOT_UNDERSTOOD, "flags": kept, **again} if turned else {}
    if not edited or Flag.LINK_NOT_UNDERSTOOD not in flags:
        return {}
    less: dict[str, object] = {"flags": dump_flags(flags - {Flag.LINK_NOT_UNDERSTOOD})}
    return {"reason": Reason.NOT_READY, **less, **again} if puzzled else less


def _told_once(row: Row[tuple[object, ...]], listing: Listing) -> dict[str, object]:
    """Keep the recording's own length, which only a single answer stated, when an edit of the call's metadata is taken over."""
    told = json.loads(str(row.metadata)).get("recording_duration_ms")
    if told is None or row.revision != listing.revision or listing.metadata.get("recording_duration_ms") is not None:
        return {}
    about = {**listing.metadata, "recording_duration_ms": told}
    return {"duration_ms": told, "metadata": json.dumps(about, ensure_ascii=False, sort_keys=True)}


def _refused_egress(row: Row[tuple[object, ...]]) -> bool:
    """Say whether the provider's links lead where the archiver may not go, which only a person can change."""
    return Flag.EGRESS_REFUSED in load_flags(str(row.flags))


def _new_row(
    row_id: str,
    key: str,
    listing: Listing,
    now: datetime,
    deadline_of: Callable[[datetime], Deadline | None],
    conflict: bool,
) -> dict[str, object]:
    flags = set(listing.flags) | ({Flag.ID_CONFLICT} if conflict else set())
    flags |= {Flag.LINK_NOT_UNDERSTOOD} if listing.audio is Audio.UNREADABLE else set()
    state, reason = {
        Audio.PRESENT: (State.LISTED, None),
        Audio.NOT_YET: (State.WAITING, Reason.NOT_READY),
        Audio.NONE: (State.ABSENT, None),
        # Asked for by id at once: that answer may be readable.
        Audio.UNREADABLE: (State.WAITING, Reason.NOT_UNDERSTOOD),
    }[listing.audio]
    return {
        "id": row_id,
        "identity": key,
        "provider": listing.ref.provider,
        "provider_recording_id": listing.ref.recording_id,
        "variant": listing.ref.variant,
        "state": state,
        "reason": reason,
        "flags": dump_flags(flags),
        "listed_at": now,
        "last_seen_at": now,
        "ready": listing.audio in (Audio.PRESENT, Audio.UNREADABLE),
        "next_attempt_at": now + timedelta(minutes=1) if listing.audio is Audio.NOT_YET else None,
        "attempts": 0,
        "denials": 0,
        "token": 0,
        **_described(listing, now, deadline_of),
    }


def _described(
    listing: Listing, now: datetime, deadline_of: Callable[[datetime], Deadline | None]
) -> dict[str, object]:
    """Return the columns that follow from the listing alone."""
    due = deadline_of(called_at(listing, now))
    about = listing.metadata
    return {
        "account": listing.ref.account,
        "revision": listing.revision,
        "call_started_at": listing.started_at,
        "call_ended_at": listing.ended_at,
        "duration_ms": None if listing.duration is None else round(listing.duration.total_seconds() * 1000),
        "format": listing.format,
        "direction": _text(about.get("direction")),
        "from_number": _text(about.get("from_number")),
        "to_number": _text(about.get("to_number")),
        "agent": _text(about.get("agent_id") or about.get("agent_name")),
        "metadata": json.dumps(dict(about), ensure_ascii=False, sort_keys=True),
        "raw": listing.raw,
        "stable_digest": listing.stable_digest,
        "delete_at": due.delete_at if due else None,
        "deadline_source": due.source if due else None,
        "archive_by": due.archive_by if due else None,
    }


def _discovered(row_id: str, listing: Listing) -> Draft:
    return Draft(
        subject=f"rec:{row_id}",
        type=Type.DISCOVERED,
        data={
            "provider": listing.ref.provider,
            "variant": listing.ref.variant,
            "provider_created": listing.started_at.isoformat() if listing.started_at else None,
            "source": "list",
        },
        private=_private(listing),
    )


def _differs(row_id: str, others: Sequence[str]) -> Draft:
    """Return the event that the provider lists other audio under an id that it used before."""
    data: dict[str, Json] = {"others": [f"rec:{each}" for each in sorted(others)[:20]], "source": "list"}
    return Draft(f"rec:{row_id}", Type.CONTENT_DIFFERS, data)


def _private(listing: Listing) -> dict[str, dict[str, Json]]:
    """Return the personal data: the provider's row as received and the parties, each under its own commitment."""
    parties = {
        name: unicodedata.normalize("NFC", str(listing.metadata[name]))
        for name in ("from_number", "to_number", "agent_id", "agent_name")
        if listing.metadata.get(name) is not None
    }
    return {
        "provider_meta": {"row_base64": base64.b64encode(listing.raw).decode()},
        "parties": dict(parties),
    }


def _add_flags(conn: Connection, row: Row[tuple[object, ...]], flags: set[Flag]) -> None:
    present = flags_now(conn, str(row.id))
    if not flags <= present:
        conn.execute(
            update(recording).where(recording.c.id == row.id).values(flags=dump_flags(present | flags), segment=None)
        )


def _text(value: Json) -> str | None:
    """Shorten a value for an indexed column: PostgreSQL's B-tree takes no entry over some 2.7 kB; `metadata` has the
    whole value.
    """
    return None if value is None else str(value)[:256]
