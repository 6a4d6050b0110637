"""The two dialects of JustCall's call log: parameters, ends of listings, rows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.providers.normal import (
    at,
    count,
    direction,
    earlier,
    first,
    identifier,
    instant,
    later,
    link_in,
    metadata,
    number,
    same,
    seconds,
    text,
    time_flags,
    whole_ms,
)
from archiver.providers.rows import Row, canonical, digest, redacted, stable_digest
from archiver.recording import Audio, Json, Link, Listing, RecordingRef, Window

CALLS = "calls"
SALES_DIALER = "sales_dialer"
CHILD = "child"
_SILENT = frozenset(
    [
        "missed",
        "busy",
        "failed",
        "blocked",
        "unanswered",
        "restricted",
        "abandoned",
        "abandoned before ringing",
        "not connected",
    ]
)
"""Outcomes of a call in which nobody spoke."""


@dataclass(frozen=True, slots=True)
class Context:
    """The context in which a row is read: its provider and account, the time, and the function that reads its link."""

    provider: str
    now: datetime
    link: Callable[[object], Link | None]
    account: str = ""
    child: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a walk: the rows of this page and so far, beside the counts that the provider states."""

    page: int
    rows: int
    read: int
    limit: int
    pages: int | None
    total: int | None

    def claimed(self) -> bool:
        """Tell whether the counts say that nothing follows: at least one is stated, and every stated one says so."""
        by_pages = self.pages is None or self.page >= self.pages
        by_rows = self.total is None or self.read >= self.total
        return by_pages and by_rows and (self.pages is not None or self.total is not None)

    def complete(self) -> bool:
        """Tell whether nothing can follow. The counts are hints: after a full page the next one is asked for all the
        same."""
        uncounted = self.pages is None and self.total is None and self.page > 0
        return self.rows < self.limit and (self.claimed() or uncounted)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One dialect of the call log. `first_page`: the page at which a walk starts. `filters`: the known filters;
    `filter`: one as it is sent. `paths`: scope → collection. `counts`: the numbers of pages and rows that an answer
    states."""

    first_page: int
    filters: frozenset[str]
    filter: Callable[[str, str], tuple[str, str]]
    paths: Mapping[str, str]
    window: Callable[[Window], Sequence[tuple[str, str]]]
    counts: Callable[[Row], tuple[int | None, int | None]]
    read: Callable[[Row, Context], Iterable[Listing]]


# --- v2, as documented ------------------------------------------------------------------------------------------

_DAY = timedelta(days=1)


def _window_v2(window: Window) -> Sequence[tuple[str, str]]:
    """Return bare dates, a day wider at both ends: a date may mean the account's local midnight, in any time zone."""
    return (
        ("start_date", (window.since - _DAY).date().isoformat()),
        ("end_date", (window.until + _DAY).date().isoformat()),
    )


_FIELDS_V2 = {
    "from_number": "from",
    "to_number": "to",
    **same("call_id agent_id agent_name tags notes disposition voicemail status"),
}


def _read_v2(row: Row, context: Context) -> Iterable[Listing]:
    """Yield the listing of one row. The revision rests on the call's duration alone, the only part of the content that
    both the call log and the single call state."""
    call = seconds(row.get("duration"))
    silent = _word(row.get("status")) in _SILENT or (row.get("voicemail") is False and call == timedelta(0))
    yield _listing(
        row,
        context,
        name=identifier(first(row, "call_id", "id")),
        link=link_in(context.link, row.get("recording_url")),
        silent=silent,
        started=(row.get("started_at"), instant(row.get("started_at"))),
        ended=(row.get("ended_at"), instant(row.get("ended_at"))),
        call=call,
        recording=seconds(row.get("recording_duration")),
        revision=digest(whole_ms(call)),
        known=metadata(row, _FIELDS_V2, direction=direction(row.get("direction"))),
    )


# --- v2.1, as the vendor serves it ------------------------------------------------------------------------------


def _window_v21(window: Window) -> Sequence[tuple[str, str]]:
    """Return times in the account's own zone, which the API does not tell: a day wider at both ends holds every zone.
    The rows are sorted by ascending id, so that calls made during the walk come at its end instead of shifting its
    pages."""
    return (
        ("from_datetime", (window.since - _DAY).strftime("%Y-%m-%d %H:%M:%S")),
        ("to_datetime", (window.until + _DAY).strftime("%Y-%m-%d %H:%M:%S")),
        ("sort", "id"),
        ("order", "asc"),
    )


_WORDS_V21 = {"inbound": "Incoming", "outbound": "Outgoing"}
_NAMES_V21 = {"direction": "call_direction", "number": "justcall_number"}


def _filter_v21(name: str, value: str) -> tuple[str, str]:
    """Translate a documented filter into the vendor's words; numbers are sent without the plus."""
    wire = _NAMES_V21.get(name, name)
    return wire, value.removeprefix("+") if wire.endswith("_number") else _WORDS_V21.get(value, value)


_INFO = ("disposition", "notes", "rating", "missed_call_reason", "voicemail_transcription", "call_traits")
_FIELDS_V21 = {
    "status": "call_info.type",
    "archived": "call_info.status",
    "line_name": "justcall_line_name",
    **{name: f"call_info.{name}" for name in _INFO},
    **same("call_sid agent_id agent_name agent_email contact_name contact_number contact_email"),
    **same("tags campaign cost_incurred"),
}


def _read_v21(row: Row, context: Context) -> Iterable[Listing]:
    names = ("call_id", "id") if context.account == SALES_DIALER else ("id", "call_id")
    name = identifier(first(row, *names))
    stated = " ".join(filter(None, (text(row.get("call_date")), text(row.get("call_time")))))
    started = instant(stated)
    call = seconds(next(filter(_known, (at(row, f"call_duration.{k}") for k in ("total_duration", "total"))), None))
    outcome, way = _word(at(row, "call_info.type")), direction(at(row, "call_info.direction"))
    ours = first(row, "justcall_number", "sales_dialer_number")
    theirs = row.get("contact_number")
    parties = (theirs, ours) if way == "inbound" else (ours, theirs)
    known = metadata(
        row,
        _FIELDS_V21,
        call_id=name,
        direction=way,
        from_number=text(parties[0]),
        to_number=text(parties[1]),
        voicemail=outcome == "voicemail" if outcome else None,
    )
    info = row.get("call_info")
    odd = info is not None and not isinstance(info, dict)  # everything that a row says of recordings is in there
    for variant, path in ("", "call_info.recording"), (CHILD, "call_info.recording_child"):
        link = (None, Audio.UNREADABLE) if odd and not variant else link_in(context.link, at(row, path))
        if variant and (link[1] is Audio.NOT_YET or not context.child):
            continue
        yield _listing(
            row,
            context,
            name=name,
            variant=variant,
            link=link,
            silent=outcome in _SILENT or (call == timedelta(0) and outcome not in {"voicemail", "in progress"}),
            started=(stated, started),
            ended=(None, later(started, call)),
            call=call,
            recording=None,
            revision=digest(started.isoformat() if started else stated, whole_ms(call)),
            known=known,
        )


# --- both -------------------------------------------------------------------------------------------------------


def _listing(
    row: Row,
    context: Context,
    *,
    name: str,
    link: tuple[Link | None, Audio],
    silent: bool,
    started: tuple[object, datetime | None],
    ended: tuple[object, datetime | None],
    call: timedelta | None,
    recording: timedelta | None,
    revision: str,
    known: dict[str, Json],
    variant: str = "",
) -> Listing:
    kept = redacted(row)
    assert isinstance(kept, dict)
    duration = recording if recording is not None else call
    spans: dict[str, Json] = {
        "duration_ms": whole_ms(duration),
        "call_duration_ms": whole_ms(call),
        "recording_duration_ms": whole_ms(recording),
    }
    return Listing(
        ref=RecordingRef(context.provider, name, variant, context.account),
        revision=revision,
        audio=Audio.NONE if silent and link[1] is Audio.NOT_YET else link[1],
        started_at=started[1] or earlier(ended[1], call),
        ended_at=ended[1] or later(started[1], call),
        duration=duration,
        raw=canonical(kept),
        stable_digest=stable_digest(kept, frozenset()),
        metadata=known | {key: value for key, value in spans.items() if value is not None},
        link=link[0],
        format=None,
        flags=time_flags(context.now, started, ended),
    )


def _word(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def _known(value: object) -> bool:
    return number(value) is not None


DIALECTS: Mapping[str, Dialect] = {
    "v2": Dialect(
        first_page=1,
        filters=frozenset({"direction", "agent_id", "number", "status"}),
        filter=lambda name, value: (name, value),
        paths={CALLS: "/v2/calls"},
        window=_window_v2,
        counts=lambda document: (count(document.get("total_pages")), count(document.get("count"))),
        read=_read_v2,
    ),
    "v2.1": Dialect(
        first_page=0,
        filters=frozenset(
            same("direction number agent_id contact_number call_direction call_type justcall_number ivr_digit")
            | same("call_traits disposition_codes campaign_id sales_dialer_number")
        ),
        filter=_filter_v21,
        paths={CALLS: "/v2.1/calls", SALES_DIALER: "/v2.1/sales_dialer/calls"},
        window=_window_v21,
        counts=lambda document: (None, count(document.get("total_count"))),
        read=_read_v21,
    ),
}
