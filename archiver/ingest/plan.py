"""Decides the next step for a recording, and the meaning of a failure. Pure: no I/O, no clock, no chance.

Retries are data: every outcome maps to one `Verdict`, and the caller writes it down. No verdict ever gives up a
recording quietly: the worst verdicts leave a row that waits with a reason, or that is gone or absent with evidence.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver import errors
from archiver.recording import Flag, Reason, State

RECHECKS = 3
RECHECK_SPACING = timedelta(hours=1)
_FIRST_DELAY = timedelta(seconds=2)
_LONGEST_DELAY = timedelta(minutes=15)
_LONGEST_OUTAGE_DELAY = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)
_PARKED_DELAY = timedelta(hours=6)
_PUZZLED_DELAY = timedelta(minutes=15)
_SOONEST = timedelta(seconds=1)
_LOOK_EVERY = timedelta(hours=1)
_LOOK_RARELY = timedelta(days=1)
_LOOKS = 24
_IN_VAIN = 200
_LOOK_FOR = timedelta(days=365)  # for a provider that keeps recordings for ever


class Step(enum.StrEnum):
    """The two possible steps for a recording that is not archived."""

    FETCH = "fetch"
    STORE = "store"


class Fate(enum.StrEnum):
    """The fate of a recording after an attempt that did not finish."""

    WAIT = "wait"
    DENIED = "denied"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Situation:
    """The known facts of one recording when a verdict is due."""

    state: State
    attempts: int
    denials: int
    denied_at: datetime | None
    called_at: datetime
    archive_by: datetime | None
    spooled: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision how to go on: `fate`, the time of the next try, its reason, and whether the attempt counts.

    `park`: the whole provider waits for this long. `flags` are added to the row.
    """

    fate: Fate
    again_at: datetime | None
    reason: Reason
    counted: bool = True
    park: timedelta | None = None
    flags: frozenset[Flag] = frozenset()


def next_step(spool_id: str | None, ours: str) -> Step:
    """Return "store" for an object sealed in our own spool, otherwise "fetch": another replica's spool cannot be read
    from here.
    """
    return Step.STORE if spool_id == ours else Step.FETCH


def backoff(attempts: int, archive_by: datetime | None, now: datetime, spread: float) -> timedelta:
    """Return an exponential delay from 2 s to a quarter of an hour with jitter (`spread` in [0, 1)), shorter near the
    deadline.

    Never more than a quarter of the time left, so that a recording at risk gets several more tries; never under a
    second.
    """
    ceiling = min(_FIRST_DELAY * 2.0 ** min(attempts - 1, 20), _LONGEST_DELAY)
    if archive_by is not None and archive_by > now:
        ceiling = min(ceiling, (archive_by - now) / 4)
    return max(_SOONEST, ceiling * (0.5 + spread / 2))


def judge(  # noqa: PLR0911  one line for each kind of failure reads best
    error: errors.ArchiverError, situation: Situation, now: datetime, *, spread: float, not_ready_for: timedelta
) -> Verdict:
    """Return the verdict that `error` means for this recording."""
    delay = backoff(max(situation.attempts, 1), situation.archive_by, now, spread)
    asked = error.retry_after if isinstance(error, errors.TransientError) and error.retry_after else timedelta(0)
    again = now + max(delay, min(asked, _LONGEST_PAUSE))
    # An outage says nothing of this recording: its attempts are not counted, and it is tried soon after the outage
    # ends.
    soon = now + max(min(delay, _LONGEST_OUTAGE_DELAY), min(asked, _LONGEST_PAUSE))
    match error:
        case errors.RecordingGoneError():
            return _denied(situation, now)
        case errors.NoRecordingError() | errors.NotReadyError() if now - situation.called_at > not_ready_for:
            return Verdict(Fate.ABSENT, None, Reason.NOT_READY)
        case errors.NoRecordingError() | errors.NotReadyError():
            return Verdict(Fate.WAIT, again, Reason.NOT_READY)
        case errors.NotUnderstoodError():
            # Neither "none" nor "not yet": the recording is asked for again for as long as it takes, and a person is
            # told.
            rests = max(again, now + _PUZZLED_DELAY)
            return Verdict(Fate.WAIT, rests, Reason.NOT_UNDERSTOOD, flags=frozenset({Flag.LINK_NOT_UNDERSTOOD}))
        case errors.LinkRefusedError() | errors.OtherRecordingError():
            # A link's first refusal is the ordinary end of its life and was renewed at no cost; here a fresh link is
            # refused too.
            return Verdict(Fate.WAIT, again, Reason.LINK)
        case errors.DestinationError() | errors.VerificationError():
            return Verdict(Fate.WAIT, soon, Reason.DESTINATION, counted=False)
        case errors.SpoolFullError() | errors.ThrottledError() | errors.KeyUnavailableError():
            return Verdict(Fate.WAIT, soon, Reason.RETRY, counted=False)
        case errors.UnavailableError():
            return Verdict(Fate.WAIT, soon, Reason.RETRY, counted=False)
        case errors.CredentialsRefusedError():
            return Verdict(Fate.WAIT, soon, Reason.RETRY, counted=False, park=timedelta(minutes=1))
        case errors.EgressRefusedError():
            return Verdict(Fate.WAIT, now + _PARKED_DELAY, Reason.LINK, flags=frozenset({Flag.EGRESS_REFUSED}))
        case errors.TooLargeError():
            # At the deadline as much is kept as the limit allows, and a length that was only stated is not believed.
            parked = now + _PARKED_DELAY
            rests = min(parked, max(again, situation.archive_by or parked))
            return Verdict(Fate.WAIT, rests, Reason.RETRY, flags=frozenset({Flag.TOO_LARGE}))
    return Verdict(Fate.WAIT, again, Reason.RETRY)


def look_again(
    kept_at: datetime, now: datetime, delete_at: datetime | None, attempts: int, *, answered: bool
) -> datetime | None:
    """Return when to ask again for doubtful content kept since `kept_at`; None when no further look makes sense.

    After an answer that left the doubt standing: an hour later, then two, four and so on, a dozen downloads in the
    ninety days that a provider keeps a recording, the last one an hour before the provider deletes it. After no answer:
    within the hour, later within the day.
    """
    if now >= (kept_at + _LOOK_FOR if delete_at is None else delete_at):
        return None
    if not answered:
        return now + (_LOOK_EVERY if attempts < _LOOKS else _LOOK_RARELY)
    again = now + max(_LOOK_EVERY, now - kept_at)
    if delete_at is not None:
        again = min(again, delete_at - _LOOK_EVERY)
    return again if again > now else None


def _denied(situation: Situation, now: datetime) -> Verdict:
    """Handle the provider's denial: believed after three confirmations, each at least an hour after the last."""
    if situation.spooled:
        # Another replica's disk holds the sealed object: the provider may well have deleted its own, and nothing is
        # lost.
        return Verdict(Fate.WAIT, now + RECHECK_SPACING, Reason.DESTINATION, counted=False)
    fresh = situation.denied_at is None or now - situation.denied_at >= RECHECK_SPACING
    if not fresh and situation.denied_at is not None:
        return Verdict(Fate.WAIT, situation.denied_at + RECHECK_SPACING, Reason.RETRY, counted=False)
    return Verdict(Fate.DENIED, now + RECHECK_SPACING, Reason.RETRY)


def hopeless(situation: Situation, now: datetime) -> bool:
    """Say whether any body is better kept, marked as what it is, than lost: at the deadline after several tries.

    Without a deadline, many failed tries count the same: two days of them at the pace of `backoff`.
    """
    if situation.archive_by is None:
        return situation.attempts >= _IN_VAIN
    return now >= situation.archive_by and situation.attempts >= RECHECKS
