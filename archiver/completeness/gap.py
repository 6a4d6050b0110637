"""Explains each missing recording or span of time by one reason code, with its evidence. Pure: no I/O, no clock.

A gap is derived, never stored as truth: it exists as long as the facts say so, and closes by itself when they change.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from archiver.recording import ORIGINAL, Flag, Json, Reason, State

_NOTHING: Mapping[str, Json] = MappingProxyType({})
_NEAR = timedelta(seconds=2)


class Code(enum.StrEnum):
    """The reason codes. Scripts and evidence rely on them: codes are added, never removed."""

    # one recording at its provider
    NOT_RECORDED = "not_recorded"
    TOO_SHORT = "too_short"
    NOT_READY = "not_ready"
    LINK_REFUSED = "link_refused"
    LINK_NOT_UNDERSTOOD = "link_not_understood"
    GONE = "gone_at_provider"
    TRUNCATED = "truncated_at_provider"
    MONTH_BOUNDARY = "month_boundary"
    NOT_AUDIO = "not_audio"
    TOO_LARGE = "too_large"
    NOT_FETCHED = "not_fetched"
    NO_LONGER_LISTED = "no_longer_listed"
    PROVIDER_NOT_CONFIGURED = "provider_not_configured"
    DURATION_DIFFERS = "duration_differs"
    LENGTH_UNVERIFIED = "length_unverified"
    NOT_FOUND_AGAIN = "not_found_again"
    # a listing
    NEVER_LISTED = "never_listed"
    SUSPICIOUS_EMPTY = "suspicious_empty"
    TOTAL_DIFFERS = "total_differs"
    HISTORY_GONE = "history_gone"
    CREDENTIALS_NARROWED = "credentials_narrowed"
    VOLUME_ZERO = "volume_zero"
    VOLUME_DROPPED = "volume_dropped"
    ROW_NOT_UNDERSTOOD = "row_not_understood"
    EDITS_DEFERRED = "edits_deferred"
    CONTENTS_DEFERRED = "contents_deferred"
    CLOCK_JUMPED = "clock_jumped"
    # copies in storages and their custody
    NEVER_STORED = "never_stored"
    COPY_MISSING = "copy_missing"
    MISSING_HERE = "missing_here"
    UNLOCKED = "unlocked"
    EXTRA_VERSION = "extra_version"
    DELETE_MARKER = "delete_marker"
    ORPHAN = "orphan"
    DIGEST_DIFFERS = "digest_differs"
    CHAIN_GAP = "chain_gap"
    # the custody log, its witnesses and time stamps
    LOG_FORKED = "log_forked"
    WITNESS_SILENT = "witness_silent"
    TIMESTAMP_SILENT = "timestamp_silent"
    EVENTS_REFUSED = "events_refused"
    # the answers of any party
    ANSWER_NOT_UNDERSTOOD = "answer_not_understood"


class Grade(enum.StrEnum):
    """The grade of a gap.

    EXPLAINED: no audio was to be expected. WATCHED: the gap may still close by itself. OPEN: a person must act or
    acknowledge.
    """

    EXPLAINED = "explained"
    WATCHED = "watched"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Gap:
    """One thing that should be in the archive and is not. `subject` names the gap among all gaps of its provider:

    `rec:<id>`, `span:<scope>@<since>`, `listing:<scope>`, `reject:<name>`, `edits:deferred`, `volume:<day>`,
    `provider:<id>`, `copies:<storage>`, `object:<storage>/<key>`, `log:<who shows another history>`, `log:refused`,
    `witness:<name>`, `timestamp:<name>`, `<kind of party>:<its name>/<call>`. `detail` is for a person and holds
    nothing personal; `evidence` holds the facts behind the verdict.
    """

    provider: str
    subject: str
    code: Code
    grade: Grade
    detail: str
    evidence: Mapping[str, Json] = field(default_factory=lambda: _NOTHING)
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """The documented habits of a provider. `kind` as in the configuration.

    `patience`: the usual delay of audio. `too_short`: calls up to this long need not have audio. `time_limits`: lengths
    at which the provider stops recording (KAZOO documents 3600 s). `link_life`: how long a listed link works; None
    where the documents set no limit.
    """

    kind: str
    patience: timedelta = timedelta(hours=1)
    too_short: timedelta = timedelta(seconds=2)
    time_limits: tuple[timedelta, ...] = ()
    link_life: timedelta | None = None


def profile(kind: str) -> Profile:
    """The profile that the provider's documents give.

    Vobiz's 60 s are no time limit here: they are a default of one API call, too often intended to be taken for a cut.
    """
    if kind == "kazoo":
        return Profile(kind, time_limits=(timedelta(hours=1),))
    return Profile(kind, link_life=timedelta(hours=24) if kind == "justcall" else None)


@dataclass(frozen=True, slots=True)
class Known:
    """One recording as the journal knows it.

    `media` is the length of the received audio, None while none has come. `of_call`: the stated length is that of the
    whole call, ringing and waiting included, as in JustCall's call log. `nameless`: the recording is known from custody
    alone, since the database was lost; `looked_for`: its time has been listed since then, without the recording.
    """

    id: str
    provider: str
    state: State
    reason: Reason | None
    flags: frozenset[Flag]
    started_at: datetime | None
    ended_at: datetime | None
    duration: timedelta | None
    media: timedelta | None
    listed_at: datetime
    delete_at: datetime | None
    archive_by: datetime | None
    attempts: int
    denials: int
    last_error: str | None
    of_call: bool = False
    variant: str = ""
    nameless: bool = False
    looked_for: bool = False

    @property
    def subject(self) -> str:
        return f"rec:{self.id}"

    @property
    def called_at(self) -> datetime:
        return self.ended_at or self.started_at or self.listed_at


def explain(it: Known, of: Profile, now: datetime) -> Gap | None:
    """The gap of a recording that is not archived whole; None when it is, or when nothing is unusual yet."""
    if it.state in {State.ARCHIVED, State.DISPOSED}:
        return _doubted(it, of)
    if it.state is State.GONE:
        return _denied(it, of, Grade.OPEN)
    if it.state is State.ABSENT:
        return _absent(it, of)
    return _not_found_again(it, now) if it.nameless else _pending(it, of, now)


def _not_found_again(it: Known, now: datetime) -> Gap:
    late = it.archive_by is not None and now >= it.archive_by
    detail = "custody tells that it was discovered; the database was lost, and its provider has not listed it since"
    return _gap(it, Code.NOT_FOUND_AGAIN, Grade.OPEN if late or it.looked_for else Grade.WATCHED, detail)


def _pending(it: Known, of: Profile, now: datetime) -> Gap | None:  # noqa: PLR0911  one line for each reason
    """The gap of a recording that is not archived yet and is still being tried; None when nothing is unusual."""
    late = it.archive_by is not None and now >= it.archive_by
    if Flag.NO_COPY in it.flags:
        return _gap(
            it, Code.NEVER_STORED, Grade.OPEN, "called archived once, and no storage has a copy; asked for again"
        )
    if it.denials:
        return _denied(it, of, Grade.WATCHED)
    if (flag := next((each for each in _SAID_BY if each in it.flags), None)) is not None:
        return _gap(it, _SAID_BY[flag][0], Grade.OPEN, _SAID_BY[flag][1])
    if it.reason is Reason.LINK and (it.attempts > 1 or Flag.EGRESS_REFUSED in it.flags):
        return _gap(it, Code.LINK_REFUSED, Grade.OPEN, "its link is refused, a fresh one too")
    if it.reason is Reason.NOT_READY:
        if it.variant == ORIGINAL and not late:
            return None  # most recordings never had noise cancellation
        if now - it.called_at >= of.patience or late:
            return _gap(it, Code.NOT_READY, Grade.OPEN, "the provider lists it and has no audio for it yet")
        return None
    if it.state is State.SPOOLED:
        return (
            _gap(it, Code.NOT_FETCHED, Grade.WATCHED, "sealed on this host, not yet in every storage") if late else None
        )
    if late:
        return _gap(it, Code.NOT_FETCHED, Grade.OPEN, "not fetched, and its archive-by time has passed")
    if it.attempts >= 3:
        return _gap(it, Code.NOT_FETCHED, Grade.WATCHED, "fetching it has failed so far")
    return None


_SAID_BY = {
    Flag.QUARANTINED: (Code.NOT_AUDIO, "only an error page comes in place of the recording; it is kept"),
    Flag.TOO_LARGE: (Code.TOO_LARGE, "larger than max_size; nothing of it is kept"),
    Flag.LINK_NOT_UNDERSTOOD: (
        Code.LINK_NOT_UNDERSTOOD,
        "the provider shows something for it that cannot be read; that is not to say that there is none",
    ),
}
"""The reason code and the words for each flag of a recording that is not archived yet."""


def _denied(it: Known, of: Profile, grade: Grade) -> Gap:
    if of.kind == "kazoo" and it.started_at and it.ended_at and _crosses_month(it.started_at, it.ended_at):
        return _gap(
            it, Code.MONTH_BOUNDARY, grade,
            "it began in one month and ended in the next: KAZOO lists it in one month's database and looks for it in the other",
        )  # fmt: skip
    if it.delete_at is not None and it.delete_at <= it.listed_at:
        detail = "past the provider's retention before it was first listed here"
    else:
        detail = (
            "the provider says, repeatedly, that it does not have it"
            if grade is Grade.OPEN
            else "the provider denied it"
        )
    return _gap(it, Code.GONE, grade, detail)


def _absent(it: Known, of: Profile) -> Gap:
    if it.variant == ORIGINAL:
        return _gap(
            it, Code.NOT_RECORDED, Grade.EXPLAINED, "the provider has nothing from before noise cancellation for it"
        )
    if it.attempts == 0:
        return _gap(it, Code.NOT_RECORDED, Grade.EXPLAINED, "the provider's call log says that this call has no audio")
    if it.duration is not None and it.duration <= of.too_short:
        return _gap(it, Code.TOO_SHORT, Grade.EXPLAINED, "too short a call to have a recording")
    return _gap(it, Code.NOT_RECORDED, Grade.OPEN, "a call that should have audio never came up with any")


def _doubted(it: Known, of: Profile) -> Gap | None:
    """The gap of a recording archived as it came, when it may be incomplete or another recording; otherwise None."""
    if Flag.SUPERSEDED in it.flags:
        return None  # intact audio came later, and has a row of its own
    declared, came = it.duration, it.media
    length = came if came is not None else declared
    limit = next((each for each in of.time_limits if length is not None and abs(length - each) <= _NEAR), None)
    code = Code.TRUNCATED
    if limit is not None:
        detail = f"it ends at the provider's time limit of {limit.total_seconds():.0f} s: the call may have gone on"
    elif Flag.NOT_AUDIO in it.flags:
        code, detail = (
            Code.NOT_AUDIO,
            "what the provider sends is nothing that can be played; it is kept, and asked for again",
        )
    elif Flag.TRUNCATED in it.flags:
        detail = "what the provider sends is damaged, or ends before its own structure does"
    elif Flag.DURATION_MISMATCH in it.flags and declared is not None and came is not None and came < declared:
        detail = (
            "less than half of the call was recorded" if it.of_call else "it is shorter than the provider says it is"
        )
    elif Flag.DURATION_MISMATCH in it.flags:
        code, detail = Code.DURATION_DIFFERS, "it is longer than the provider says it is: it may be another recording"
    elif Flag.LENGTH_UNVERIFIED in it.flags:
        code, detail = (
            Code.LENGTH_UNVERIFIED,
            "it came without a stated length, or with another than its own, and has not come twice yet: its end may be missing",
        )
    else:
        return None
    return _gap(it, code, Grade.OPEN, detail, {"time_limit_s": None if limit is None else round(limit.total_seconds())})


def _crosses_month(started: datetime, ended: datetime) -> bool:
    """Tells whether a call crosses a month's end, in any zone: a server's local time may differ from UTC by up to 14
    h."""
    zone = timedelta(hours=14)
    return any(
        ((started + shift).year, (started + shift).month) != ((ended + shift).year, (ended + shift).month)
        for shift in (-zone, -zone / 2, timedelta(0), zone / 2, zone)
    )


def _gap(it: Known, code: Code, grade: Grade, detail: str, more: Mapping[str, Json] = _NOTHING) -> Gap:
    evidence: dict[str, Json] = {
        "state": it.state,
        "reason": it.reason,
        "flags": [str(each) for each in sorted(it.flags)],
        "attempts": it.attempts,
        "denials": it.denials,
        "declared_ms": _ms(it.duration),
        "received_ms": _ms(it.media),
        **more,
    }
    return Gap(it.provider, it.subject, code, grade, detail, evidence, it.started_at or it.listed_at, it.ended_at)


def _ms(length: timedelta | None) -> int | None:
    return None if length is None else round(length.total_seconds() * 1000)
