"""Writes down what a page of a listing shows: new recordings, and changes to known ones.

A page is written in the caller's transaction, so that a row, its custody event and its place in the queue appear
together or not at all. Listing the same recordings twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from archiver.clock import Chance
from archiver.custody.event import Type
from archiver.custody.ledger import Draft, Ledger
from archiver.ingest import daily_budget
from archiver.ingest.claims import dump_flags
from archiver.ingest.journal import flags_now
from archiver.ingest.listing_rows import (
    DeadlineOf,
    audio_change,
    awaiting_audio,
    described,
    differs_event,
    discovered_event,
    identity,
    keep_own_length,
    new_row,
    private_groups,
    refuses_egress,
)
from archiver.ingest.nameless import Nameless, found_again, name
from archiver.ingest.tables import recording
from archiver.recording import Flag, Listing, Reason, State


@dataclass(frozen=True, slots=True)
class Noted:
    """The changes that one page made. `ids` maps our ids to the listings of recordings that are still to be fetched."""

    new: int
    changed: int
    known: int
    ids: dict[str, Listing]


def note_page(
    conn: Connection,
    ledger: Ledger,
    chance: Chance,
    listings: Sequence[Listing],
    now: datetime,
    deadline_of: DeadlineOf,
) -> Noted:
    """Bring the journal up to date with one page.

    The same id with the same revision is the same recording. The same id with another revision is another recording
    (the Vobiz document itself shows one id with two audios), unless the known row never had audio: then the listing has
    been completed. An id that is listed with ever new revisions has a few a day: each makes a row and events for ever.
    """
    unique = {(identity(each.ref), each.revision): each for each in listings}
    listed_now: dict[str, set[str]] = {}
    for key, revision in unique:
        listed_now.setdefault(key, set()).add(revision)
    known: dict[str, dict[str, Row[tuple[object, ...]]]] = {}
    for row in _rows_of(conn, {key for key, _ in unique}):
        known.setdefault(row.identity, {})[row.revision] = row
    known_ids = [str(row.id) for siblings in known.values() for row in siblings.values()]
    known_ids += [daily_budget.content_budget(key) for key in known]
    edits = daily_budget.EditBudget(conn, listings[0].ref.provider, known_ids, now) if known_ids else None
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
        same = siblings.get(revision) or awaiting_audio(siblings, listed_now[key])
        if same is not None and edits is not None:
            changed += _refresh_row(conn, ledger, same, listing, now, deadline_of, edits)
            seen.append({"row": same.id, "now": now})
            if same.state not in _FETCHED:
                ids[str(same.id)] = listing
            continue
        conflict = bool(siblings) or len(listed_now[key]) > 1
        again = None if lost is None or siblings else lost.take(listing)
        if again is not None:
            name(conn, new_row(again, key, listing, now, deadline_of, conflict))
            ledger.append_many(conn, [found_again(again, private_groups(listing))])
            ids[again] = listing
            changed += 1
            continue
        if siblings and edits is not None and not edits.admits(daily_budget.content_budget(key), as_another=True):
            continue  # a later day's listing shows it again
        values = new_row(chance.uuid(), key, listing, now, deadline_of, conflict)
        drafts.append(discovered_event(str(values["id"]), listing))
        others = [str(each.id) for each in siblings.values()] + fresh_ids.get(key, [])
        fresh.append(values)
        fresh_ids.setdefault(key, []).append(str(values["id"]))
        if others:
            drafts.append(differs_event(str(values["id"]), others))
        ids[str(values["id"])] = listing
        for sibling in siblings.values():
            _add_flags(conn, sibling, {Flag.ID_CONFLICT})
    if edits is not None:
        edits.save()
    _write(conn, ledger, seen, fresh, drafts)
    return Noted(len(fresh), changed, len(unique) - len(fresh) - changed, ids)


_FETCHED = frozenset({State.SPOOLED, State.ARCHIVED, State.DISPOSED})
_SEEN = (
    update(recording)
    .where(recording.c.id == bindparam("row"))
    .values(last_seen_at=bindparam("now", type_=recording.c.last_seen_at.type))
)


def _write(
    conn: Connection,
    ledger: Ledger,
    seen: Sequence[Mapping[str, object]],
    fresh: Sequence[Mapping[str, object]],
    drafts: Sequence[Draft],
) -> None:
    if seen:
        conn.execute(_SEEN, seen)
    if fresh:
        conn.execute(insert(recording), fresh)
        ledger.append_many(conn, drafts)


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


def _refresh_row(
    conn: Connection,
    ledger: Ledger,
    row: Row[tuple[object, ...]],
    listing: Listing,
    now: datetime,
    deadline_of: DeadlineOf,
    edits: daily_budget.EditBudget,
) -> bool:
    """Take over changes, and wake the row when audio has turned up. True when more than `last_seen_at` changed.

    An edit beyond the day's budget is left for a later listing; audio that the edit shows is fetched all the same.
    """
    values: dict[str, object] = {}
    edited = row.stable_digest != listing.stable_digest
    admitted = edited and edits.admits(str(row.id))
    if not edited:
        edits.unchanged(str(row.id))
    if admitted:
        values |= described(listing, now, deadline_of) | keep_own_length(row, listing) | {"segment": None}
        ledger.append(
            conn, f"rec:{row.id}", Type.SOURCE_REFRESHED, {"why": "metadata changed"}, private=private_groups(listing)
        )
    change = audio_change(row, listing, edited=edited) if row.owner is None else {}
    waits_for_link = row.state == State.WAITING and row.reason == Reason.LINK and not row.ready
    if change:
        values |= change
    elif waits_for_link and listing.link is not None and row.owner is None and not refuses_egress(row):
        # The link in this listing may be the only one there is.
        values |= {"ready": True, "next_attempt_at": None}
    if values:
        conn.execute(update(recording).where(recording.c.id == row.id).values(**values))
    return admitted or bool(change)


def _add_flags(conn: Connection, row: Row[tuple[object, ...]], flags: set[Flag]) -> None:
    present = flags_now(conn, str(row.id))
    if not flags <= present:
        conn.execute(
            update(recording).where(recording.c.id == row.id).values(flags=dump_flags(present | flags), segment=None)
        )
