"""Makes the recording object that Plivo and Vobiz share, with its times, sizes and prices as text."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

from archiver.demo.simulators.answer import Ask, Json, whole_number
from archiver.demo.simulators.scenario import SimRecording

INDIA = timezone(timedelta(hours=5, minutes=30))


def milliseconds(span: timedelta) -> str:
    """Returns the milliseconds as in the documents: `"345100.00000"`."""
    whole, rest = divmod(span // timedelta(microseconds=1), 1000)
    return f"{whole}.{rest:03}00"


def since_epoch(at: datetime) -> str:
    return milliseconds(at - datetime(1970, 1, 1, tzinfo=UTC))


def offset_text(at: datetime, offset: timezone = INDIA) -> str:
    """Returns the time as in the documents: `2020-08-05 16:15:15.852059+05:30`."""
    return at.astimezone(offset).isoformat(" ", "microseconds")


def shortened(text: str) -> str:
    """Returns the same instant without the last zeros of its fraction, as Vobiz prints it."""
    stamp, offset = text[:-6], text[-6:]
    return stamp.rstrip("0").rstrip(".") + offset


def days_stored(recording: SimRecording, now: datetime) -> int:
    return max((now - recording.listed_at).days, 0)


def rounded_seconds(recording: SimRecording) -> int:
    """Returns the seconds, rounded up to the next whole minute."""
    return math.ceil(recording.duration.total_seconds() / 60) * 60


def page_of(
    rows: list[SimRecording], ask: Ask, path: str, limit: int, offset: int
) -> tuple[list[SimRecording], dict[str, Json]]:
    """Returns the rows of one page and the `meta` that goes with it; links carry the other parameters along."""

    def link(start: int) -> str:
        others = "".join(f"&{k}={v}" for k, v in ask.query.items() if k not in ("limit", "offset"))
        return f"{path}?limit={limit}&offset={start}{others}"

    meta: dict[str, Json] = {
        "limit": limit,
        "next": link(offset + limit) if offset + limit < len(rows) else None,
        "offset": offset,
        "previous": link(max(offset - limit, 0)) if offset else None,
        "total_count": len(rows),
    }
    return rows[offset : offset + limit], meta


def paging(ask: Ask, most: int) -> tuple[int, int] | None:
    """Returns `limit` (default 20, at most `most`) and `offset`; None when they are not allowed."""
    limit, offset = whole_number(ask.query.get("limit"), 20), whole_number(ask.query.get("offset"), 0)
    return (limit, offset) if limit and limit <= most and offset is not None else None
