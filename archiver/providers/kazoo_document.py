"""Reads KAZOO's recording document, as listed and as shown alone (crossbar schema call_recordings). Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from archiver.providers.normal import (
    at,
    audio_format,
    direction,
    first,
    gregorian,
    identifier,
    later,
    metadata,
    milliseconds,
    same,
    seconds,
    text,
    time_flags,
    whole_ms,
)
from archiver.providers.rows import Row, canonical, digest, redacted, stable_digest
from archiver.recording import Audio, Link, Listing, RecordingRef

_VOLATILE = frozenset({"_read_only", "content_types"})
"""Fields of the listing about attachments: they change when the media arrives, and the single document lacks them."""
_FIELDS = {
    "media_name": "name",
    "sip_from": "from",
    "sip_to": "to",
    **same("call_id cdr_id interaction_id owner_id endpoint_id caller_id_name caller_id_number callee_id_name"),
    **same("callee_id_number label origin description media_source source_type content_type request"),
}


def read(row: Row, *, provider: str, account: str, now: datetime, link: Callable[[str], Link]) -> Listing:
    """Return the listing of one document. Raises `RowError` when the document has no usable id.

    Metadata is saved before the media is uploaded: an empty list of attachments means not yet.
    """
    name = identifier(first(row, "id", "_id"))
    start = gregorian(row.get("start"))
    duration = milliseconds(row.get("duration_ms"))
    duration = duration if duration is not None else seconds(row.get("duration"))
    kind = audio_format(first(row, "media_type", "content_type"))
    attachments = row["content_types"] if "content_types" in row else at(row, "_read_only.content_types")
    kept = redacted(row)
    assert isinstance(kept, dict)
    return Listing(
        ref=RecordingRef(provider, name, "", account),
        revision=digest(kind, text(row.get("start")), whole_ms(duration)),
        audio=Audio.NOT_YET if attachments == [] else Audio.PRESENT,
        started_at=start,
        ended_at=later(start, duration),
        duration=duration,
        raw=canonical(kept),
        stable_digest=stable_digest(kept, _VOLATILE),
        metadata=metadata(
            kept,
            _FIELDS,
            direction=direction(row.get("direction")),
            from_number=text(row.get("caller_id_number")) or _user(row.get("from")),
            to_number=text(row.get("callee_id_number")) or _user(row.get("to")),
            duration_ms=whole_ms(duration),
            format=kind,
        ),
        link=link(name),
        format=kind,
        flags=time_flags(now, (row.get("start"), start)),
    )


def _user(value: object) -> str | None:
    """Return the user part of a SIP URI (RFC 3261 §19.1): user@realm."""
    return value.removeprefix("sip:").partition("@")[0] or None if isinstance(value, str) else None
