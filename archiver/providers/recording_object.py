"""Reads the recording object that Plivo and Vobiz share, field for field. Pure.

Both list rows with fewer fields than they show for one recording, so the revision rests on the fields that both always
state: format, creation time, duration and type. Vobiz's document lists one id with two such contents; Plivo's SDK
fixture lists one content twice, with two callers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from archiver.providers.normal import (
    audio_format,
    count,
    earlier,
    first,
    identifier,
    instant,
    later,
    link_in,
    metadata,
    milliseconds,
    same,
    seconds,
    since_epoch_ms,
    text,
    time_flags,
    whole_ms,
)
from archiver.providers.rows import Row, canonical, digest, redacted, stable_digest
from archiver.providers.walk import Batch, row_list
from archiver.recording import Audio, Link, Listing, RecordingRef

VOLATILE = frozenset(
    same("api_id resource_uri rounded_recording_duration")
    | same("recording_storage_duration recording_storage_rate monthly_recording_storage_amount")
)
"""Fields that say nothing of the recording: billing figures, some of which change by themselves, the request's id, the
resource's place."""

LINKS = ("recording_url", "url", "download_path")
"""Fields in which a row may keep its link. A row always has one of them; null in it means "not yet"."""

_FIELDS = (
    same("direction from_number to_number call_uuid conference_name conference_uuid mpc_name mpc_uuid recording_type")
    | same("rounded_recording_duration recording_storage_duration recording_storage_rate")
    | same("monthly_recording_storage_amount add_time created_at resource_uri label origin status tags file_size")
)


def batch(document: Row) -> Batch:
    """Return the rows and the end hints of a listing, in the current shape or in Vobiz's older one.

    Raises `ListingError` when there is no list of rows.
    """
    meta, paging = document.get("meta"), document.get("pagination")
    total, last = None, None
    if isinstance(meta, dict):
        total, last = count(meta.get("total_count")), meta.get("next") in (None, "") if "next" in meta else None
    elif isinstance(paging, dict):
        more = paging.get("has_more")
        total, last = count(paging.get("total")), not more if isinstance(more, bool) else None
    return Batch(row_list(document, "objects", "recordings", total=total), total, last)


def read(
    row: Row, *, provider: str, account: str, now: datetime, link: Callable[[object], Link | None], variant: str = ""
) -> Listing:
    """Return the listing of one recording object. Raises `RowError` when the object has no usable id.

    Where start and end are not stated (Plivo's listing, Vobiz's trunk captures) they follow from `add_time`, which is
    the end of the recording to within seconds. `add_time` carries a real offset; without one it is UTC.
    """
    name = identifier(first(row, "recording_id", "id"))
    stated_add, stated_start, stated_end = (
        first(row, "add_time", "created_at"), row.get("recording_start_ms"), row.get("recording_end_ms"),
    )  # fmt: skip
    added, started, finished = instant(stated_add), since_epoch_ms(stated_start), since_epoch_ms(stated_end)
    duration = milliseconds(row.get("recording_duration_ms")) or seconds(row.get("duration"))
    ended = finished or later(started, duration) or added
    kind = audio_format(first(row, "recording_format", "file_format", "format"))
    places = [row[name] for name in LINKS if name in row]
    address, audio = link_in(link, *places)
    known = redacted(row)
    assert isinstance(known, dict)
    return Listing(
        ref=RecordingRef(provider, name, variant, account),
        revision=digest(
            kind, added.isoformat() if added else text(stated_add), whole_ms(duration), text(row.get("recording_type"))
        ),
        audio=audio if places else Audio.UNREADABLE,
        started_at=started or earlier(ended, duration) or added,
        ended_at=ended,
        duration=duration,
        raw=canonical(known),
        stable_digest=stable_digest(known, VOLATILE),
        metadata=metadata(known, _FIELDS, duration_ms=whole_ms(duration), format=kind),
        link=address,
        format=kind,
        flags=time_flags(now, (stated_add, added), (stated_start, started), (stated_end, finished)),
    )
