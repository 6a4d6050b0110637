"""Decides what a listing means for the journal's rows and for custody. Pure: no I/O, no clock."""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from archiver.custody.event import Type
from archiver.custody.ledger import Draft
from archiver.ingest.claims import dump_flags, is_refetched, is_silent, load_flags
from archiver.recording import ORIGINAL, Audio, Flag, Json, Listing, Reason, RecordingRef, State
from archiver.schedule.deadline import Deadline

DeadlineOf: TypeAlias = Callable[[datetime], Deadline | None]
"""Returns the deadline of a recording whose call ended at the given time."""


def pieces(listings: Sequence[Listing], most: int) -> list[list[Listing]]:
    """Divide `listings` into pieces of about `most`. Listings with one id stay together: they decide each other's
    meaning."""
    together: dict[str, list[Listing]] = {}
    for each in listings:
        together.setdefault(identity(each.ref), []).append(each)
    divided: list[list[Listing]] = [[]]
    for group in together.values():
        if divided[-1] and len(divided[-1]) + len(group) > most:
            divided.append([])
        divided[-1] += group
    return divided


def identity(ref: RecordingRef) -> str:
    """Return a key for a recording of a provider account, whatever its content; provider ids may be too long for an
    index."""
    named = json.dumps([ref.provider, ref.recording_id, ref.variant], ensure_ascii=True)
    return hashlib.sha256(named.encode()).hexdigest()


def called_at(listing: Listing, now: datetime) -> datetime:
    """Return the start of the provider's clocks: the call's end, never in the future; when unstated, our first sight of
    it."""
    stated = listing.ended_at or listing.started_at
    return min(stated, now) if stated is not None else now


def awaiting_audio(siblings: dict[str, Any], listed_now: set[str]) -> Any | None:
    """Return the row that this listing completes: a row without audio so far that is not itself listed beside it."""
    for revision, row in siblings.items():
        if is_silent(row) and revision not in listed_now and not is_refetched(revision):
            return row
    return None


def audio_change(row: Any, listing: Listing, *, edited: bool) -> dict[str, object]:
    """Return the changes to a row without audio when its listing shows audio, unreadable audio, or none any more.

    A flag that says "not understood" stays until audio has come, so that the gap based on the flag does not come and
    go.
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
        is_news = row.state == State.GONE or (is_silent(row) and not puzzled)
        kept = dump_flags(flags | {Flag.LINK_NOT_UNDERSTOOD})
        return {"state": State.WAITING, "reason": Reason.NOT_UNDERSTOOD, "flags": kept, **again} if is_news else {}
    if not edited or Flag.LINK_NOT_UNDERSTOOD not in flags:
        return {}
    less: dict[str, object] = {"flags": dump_flags(flags - {Flag.LINK_NOT_UNDERSTOOD})}
    return {"reason": Reason.NOT_READY, **less, **again} if puzzled else less


def keep_own_length(row: Any, listing: Listing) -> dict[str, object]:
    """Keep the recording's own length, which only a single answer stated, when an edit of the call's metadata is taken
    over."""
    own_length = json.loads(str(row.metadata)).get("recording_duration_ms")
    if (
        own_length is None
        or row.revision != listing.revision
        or listing.metadata.get("recording_duration_ms") is not None
    ):
        return {}
    about = {**listing.metadata, "recording_duration_ms": own_length}
    return {"duration_ms": own_length, "metadata": json.dumps(about, ensure_ascii=False, sort_keys=True)}


def refuses_egress(row: Any) -> bool:
    """Say whether the provider's links lead where the archiver may not go, which only a person can change."""
    return Flag.EGRESS_REFUSED in load_flags(str(row.flags))


def new_row(
    row_id: str,
    key: str,
    listing: Listing,
    now: datetime,
    deadline_of: DeadlineOf,
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
        **described(listing, now, deadline_of),
    }


def described(listing: Listing, now: datetime, deadline_of: DeadlineOf) -> dict[str, object]:
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


def discovered_event(row_id: str, listing: Listing) -> Draft:
    return Draft(
        subject=f"rec:{row_id}",
        type=Type.DISCOVERED,
        data={
            "provider": listing.ref.provider,
            "variant": listing.ref.variant,
            "provider_created": listing.started_at.isoformat() if listing.started_at else None,
            "source": "list",
        },
        private=private_groups(listing),
    )


def differs_event(row_id: str, others: Sequence[str]) -> Draft:
    """Return the event that the provider lists other audio under an id that it used before."""
    data: dict[str, Json] = {"others": [f"rec:{each}" for each in sorted(others)[:20]], "source": "list"}
    return Draft(f"rec:{row_id}", Type.CONTENT_DIFFERS, data)


def private_groups(listing: Listing) -> dict[str, dict[str, Json]]:
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


def _text(value: Json) -> str | None:
    """Shorten a value for an indexed column: PostgreSQL's B-tree takes no entry over some 2.7 kB; `metadata` has the
    whole value.
    """
    return None if value is None else str(value)[:256]
