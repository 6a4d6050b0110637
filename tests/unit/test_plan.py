"""Verdicts: what each failure means for a recording, as one table."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import errors
from archiver.ingest.plan import (
    RECHECKS,
    Fate,
    Situation,
    Step,
    Verdict,
    backoff,
    hopeless,
    judge,
    look_again,
    next_step,
)
from archiver.recording import Flag, Reason, State

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FRESH = Situation(
    state=State.LISTED,
    attempts=1,
    denials=0,
    denied_at=None,
    called_at=NOW - timedelta(hours=1),
    archive_by=None,
    spooled=False,
)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
THREE_DAYS = 3 * DAY
QUARTER = (
    675 * SECOND
)  # the longest of our own delays: a quarter of an hour, three quarters of it at a spread of one half


def verdict(error: errors.ArchiverError, **known: object) -> Verdict:
    it = dataclasses.replace(FRESH, **known)  # type: ignore[arg-type]
    return judge(error, it, NOW, spread=0.5, not_ready_for=THREE_DAYS)


def test_what_lies_in_our_spool_is_stored_and_the_rest_is_fetched() -> None:
    assert next_step("ours", "ours") is Step.STORE
    assert next_step("theirs", "ours") is Step.FETCH
    assert next_step(None, "ours") is Step.FETCH


WAIT, R = Fate.WAIT, Reason
GONE = errors.RecordingGoneError
LONG_AGO = NOW - 400 * DAY


@pytest.mark.parametrize(
    ("error", "known", "found"),
    [
        # its own failure counts, and is tried again after ever longer pauses
        (errors.CutShortError(), {"attempts": 0}, Verdict(WAIT, NOW + 1.5 * SECOND, R.RETRY)),
        (errors.CutShortError(), {"attempts": 1}, Verdict(WAIT, NOW + 1.5 * SECOND, R.RETRY)),
        (errors.CutShortError(), {"attempts": 2}, Verdict(WAIT, NOW + 3 * SECOND, R.RETRY)),
        (errors.CutShortError(), {"attempts": 9}, Verdict(WAIT, NOW + 384 * SECOND, R.RETRY)),
        (errors.CutShortError(), {"attempts": 9, "archive_by": NOW + 400 * SECOND}, Verdict(WAIT, NOW + 75 * SECOND, R.RETRY)),
        (errors.UnacceptableMediaError(), {"attempts": 99}, Verdict(WAIT, NOW + QUARTER, R.RETRY)),
        (errors.TooSlowError(), {"attempts": 9999}, Verdict(WAIT, NOW + QUARTER, R.RETRY)),
        (errors.GarbledAnswerError(), {"called_at": LONG_AGO}, Verdict(WAIT, NOW + 1.5 * SECOND, R.RETRY)),
        (errors.LinkRefusedError(), {"attempts": 9}, Verdict(WAIT, NOW + 384 * SECOND, R.LINK)),
        (errors.OtherRecordingError(), {"attempts": 9}, Verdict(WAIT, NOW + 384 * SECOND, R.LINK)),
        # an outage says nothing of this recording: not counted, and at most a minute
        *(
            (error, {"attempts": attempts}, Verdict(WAIT, NOW + after, reason, counted=False))
            for attempts, after in ((1, 1.5 * SECOND), (9, MINUTE))
            for error, reason in (
                (errors.DestinationError(), R.DESTINATION),
                (errors.VerificationError(), R.DESTINATION),
                (errors.NotLockedError(), R.DESTINATION),
                (errors.SpoolFullError(), R.RETRY),
                (errors.ThrottledError(), R.RETRY),
                (errors.KeyUnavailableError(), R.RETRY),
                (errors.UnavailableError(), R.RETRY),
            )
        ),
        (errors.CredentialsRefusedError(), {"attempts": 9}, Verdict(WAIT, NOW + MINUTE, R.RETRY, counted=False, park=MINUTE)),
        # what the other side asks for is obeyed, for an hour at most
        (errors.CutShortError(retry_after=3 * MINUTE), {}, Verdict(WAIT, NOW + 3 * MINUTE, R.RETRY)),
        (errors.CutShortError(retry_after=SECOND), {}, Verdict(WAIT, NOW + 1.5 * SECOND, R.RETRY)),
        (errors.CutShortError(retry_after=10_000 * DAY), {}, Verdict(WAIT, NOW + HOUR, R.RETRY)),
        (errors.ThrottledError(retry_after=3 * MINUTE), {}, Verdict(WAIT, NOW + 3 * MINUTE, R.RETRY, counted=False)),
        (errors.ThrottledError(retry_after=10_000 * DAY), {}, Verdict(WAIT, NOW + HOUR, R.RETRY, counted=False)),
        # no audio is believed only after the time in which it may still come
        (errors.NotReadyError(), {"called_at": NOW - THREE_DAYS}, Verdict(WAIT, NOW + 1.5 * SECOND, R.NOT_READY)),
        (errors.NoRecordingError(), {"called_at": NOW - THREE_DAYS}, Verdict(WAIT, NOW + 1.5 * SECOND, R.NOT_READY)),
        (errors.NotReadyError(), {"called_at": NOW - THREE_DAYS - SECOND}, Verdict(Fate.ABSENT, None, R.NOT_READY)),
        (errors.NoRecordingError(), {"called_at": LONG_AGO}, Verdict(Fate.ABSENT, None, R.NOT_READY)),
        # what cannot be read is never "none", however old the call, and however often it was asked for
        *(
            (errors.NotUnderstoodError(retry_after=asked), known, Verdict(
                WAIT, NOW + after, R.NOT_UNDERSTOOD, flags=frozenset({Flag.LINK_NOT_UNDERSTOOD})))
            for known in ({}, {"called_at": LONG_AGO, "attempts": 99})
            for asked, after in ((None, 15 * MINUTE), (20 * MINUTE, 20 * MINUTE))
        ),
        # a denial is believed when it was confirmed, each time an hour after the last
        (GONE(), {}, Verdict(Fate.DENIED, NOW + HOUR, R.RETRY)),
        (GONE(), {"denied_at": NOW - 10 * MINUTE}, Verdict(WAIT, NOW + 50 * MINUTE, R.RETRY, counted=False)),
        (GONE(), {"denied_at": NOW - HOUR + SECOND}, Verdict(WAIT, NOW + SECOND, R.RETRY, counted=False)),
        (GONE(), {"denied_at": NOW - HOUR}, Verdict(Fate.DENIED, NOW + HOUR, R.RETRY)),
        # what another disk holds sealed is never called gone
        (GONE(), {"spooled": True, "denied_at": LONG_AGO}, Verdict(WAIT, NOW + HOUR, R.DESTINATION, counted=False)),
        # parked with a flag, never dropped
        (errors.EgressRefusedError(), {}, Verdict(WAIT, NOW + 6 * HOUR, R.LINK, flags=frozenset({Flag.EGRESS_REFUSED}))),
        *(
            (errors.TooLargeError(), {"archive_by": by}, Verdict(WAIT, NOW + after, R.RETRY, flags=frozenset({Flag.TOO_LARGE})))
            for by, after in ((None, 6 * HOUR), (NOW + DAY, 6 * HOUR), (NOW + HOUR, HOUR), (NOW - HOUR, 1.5 * SECOND))
        ),
    ],
)  # fmt: skip
def test_each_failure_has_one_verdict(error: errors.ArchiverError, known: dict[str, object], found: Verdict) -> None:
    assert verdict(error, **known) == found


@pytest.mark.parametrize(
    ("attempts", "left", "spread", "delay"),
    [
        (1, None, 0.0, 1.0),
        (1, None, 1.0, 2.0),
        (9, None, 0.0, 256.0),
        (9, None, 1.0, 512.0),
        (10, None, 1.0, 900.0),
        (9, 400.0, 1.0, 100.0),  # a quarter of what is left
        (9, 400.0, 0.0, 50.0),
        (9, 3.0, 0.0, 1.0),  # never under a second
        (9, 0.0, 1.0, 512.0),  # at the deadline and past it there is nothing to be shortened for
        (9, -10.0, 1.0, 512.0),
    ],
)
def test_a_pause_doubles_with_each_attempt_and_shrinks_as_the_deadline_nears(
    attempts: int, left: float | None, spread: float, delay: float
) -> None:
    by = None if left is None else NOW + left * SECOND
    assert backoff(attempts, by, NOW, spread) == delay * SECOND


@given(st.integers(1, 1000), st.none() | st.integers(-10_000, 10_000_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_shrinks_as_the_deadline_nears(attempts: int, left: int | None, spread: float) -> None:
    by = None if left is None else NOW + timedelta(seconds=left)
    delay = backoff(attempts, by, NOW, spread)
    assert timedelta(seconds=1) <= delay <= timedelta(minutes=15)
    if by is not None and by > NOW + timedelta(seconds=4):
        assert delay <= max(timedelta(seconds=1), (by - NOW) / 4)


@pytest.mark.parametrize(
    ("archive_by", "attempts", "kept"),
    [
        (NOW, 3, True),
        (NOW - DAY, 9, True),
        (NOW, 2, False),
        (NOW + SECOND, 3, False),
        (None, 199, False),
        (None, 200, True),
    ],
)
def test_what_comes_is_kept_however_it_is_only_past_the_deadline_and_after_three_tries_or_without_one_after_two_days(
    archive_by: datetime | None, attempts: int, kept: bool
) -> None:
    assert hopeless(dataclasses.replace(FRESH, archive_by=archive_by, attempts=attempts), NOW) is kept
    assert RECHECKS == 3


@pytest.mark.parametrize(
    ("kept_for", "deleted_in", "attempts", "answered", "again_in"),
    [
        # answered, and still doubtful: after as long again as it has been kept, an hour at least
        (timedelta(0), None, 1, True, HOUR),
        (HOUR, None, 1, True, HOUR),
        (2 * HOUR, None, 99, True, 2 * HOUR),
        (40 * DAY, None, 1, True, 40 * DAY),
        # the last look is an hour before the provider deletes it
        (40 * DAY, 2 * DAY, 1, True, 2 * DAY - HOUR),
        (40 * DAY, HOUR + SECOND, 1, True, SECOND),
        (40 * DAY, HOUR, 1, True, None),
        (40 * DAY, SECOND, 1, True, None),
        (400 * DAY, 400 * DAY, 1, True, 400 * DAY - HOUR),
        # not answered: within the hour, and after a day of that within the day
        (DAY, None, 23, False, HOUR),
        (DAY, None, 24, False, DAY),
        (DAY, MINUTE, 1, False, HOUR),
        # no further look: the provider has deleted it, or keeps it for ever and a year is over
        (DAY, timedelta(0), 1, False, None),
        (DAY, timedelta(0), 1, True, None),
        (365 * DAY - SECOND, None, 99, False, DAY),
        (365 * DAY, None, 1, False, None),
        (365 * DAY, None, 1, True, None),
        (366 * DAY, DAY, 1, False, HOUR),
    ],
)
def test_what_is_doubtful_is_looked_at_again_while_the_provider_has_it(
    kept_for: timedelta, deleted_in: timedelta | None, attempts: int, answered: bool, again_in: timedelta | None
) -> None:
    again = look_again(
        NOW - kept_for, NOW, None if deleted_in is None else NOW + deleted_in, attempts, answered=answered
    )
    assert again == (None if again_in is None else NOW + again_in)
