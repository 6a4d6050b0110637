"""Verdicts: what each failure means for a recording, as data."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import errors
from archiver.ingest.plan import Fate, Situation, Step, backoff, hopeless, judge, next_step
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
THREE_DAYS = timedelta(hours=72)


def verdict(error: errors.ArchiverError, **known: object):  # type: ignore[no-untyped-def]
    return judge(error, dataclasses.replace(FRESH, **known), NOW, spread=0.5, not_ready_for=THREE_DAYS)


def test_what_lies_in_our_spool_is_stored_and_the_rest_is_fetched() -> None:
    assert next_step("a.sealed", "ours", "ours") is Step.STORE
    assert next_step("a.sealed", "theirs", "ours") is Step.FETCH
    assert next_step(None, None, "ours") is Step.FETCH


def test_recording_deleted_at_provider_between_list_and_fetch_is_confirmed_an_hour_apart() -> None:
    first = verdict(errors.RecordingGoneError())
    assert (first.fate, first.again_at) == (Fate.DENIED, NOW + timedelta(hours=1))
    soon = verdict(errors.RecordingGoneError(), denials=1, denied_at=NOW - timedelta(minutes=10))
    assert (soon.fate, soon.counted) == (Fate.WAIT, False)
    assert soon.again_at == NOW + timedelta(minutes=50)
    assert verdict(errors.RecordingGoneError(), denials=1, denied_at=NOW - timedelta(hours=1)).fate is Fate.DENIED


def test_a_recording_that_another_disk_holds_sealed_is_never_called_gone() -> None:
    held = verdict(errors.RecordingGoneError(), spooled=True, denials=2, denied_at=NOW - timedelta(days=1))
    assert (held.fate, held.reason) == (Fate.WAIT, Reason.DESTINATION)


def test_recording_url_null_is_absent_only_after_the_recheck_window() -> None:
    young = verdict(errors.NotReadyError(), called_at=NOW - timedelta(hours=71))
    assert (young.fate, young.reason) == (Fate.WAIT, Reason.NOT_READY)
    assert verdict(errors.NotReadyError(), called_at=NOW - timedelta(hours=73)).fate is Fate.ABSENT


def test_what_cannot_be_read_is_never_absent() -> None:
    """However old the call, and however often it was asked for."""
    for age in (timedelta(hours=1), timedelta(days=400)):
        found = verdict(errors.NotUnderstoodError(), called_at=NOW - age, attempts=99)
        assert (found.fate, found.reason, found.flags) == (
            Fate.WAIT, Reason.NOT_UNDERSTOOD, frozenset({Flag.LINK_NOT_UNDERSTOOD}),
        )  # fmt: skip
        assert found.again_at == NOW + timedelta(minutes=15)
        assert verdict(errors.GarbledAnswerError(), called_at=NOW - age).fate is Fate.WAIT


@pytest.mark.parametrize(
    ("error", "reason", "counted"),
    [
        (errors.DestinationError(), Reason.DESTINATION, False),
        (errors.NotLockedError(), Reason.DESTINATION, False),
        (errors.LinkRefusedError(), Reason.LINK, True),
        (errors.UnavailableError(), Reason.RETRY, False),
        (errors.ThrottledError(retry_after=timedelta(minutes=3)), Reason.RETRY, False),
        (errors.SpoolFullError(), Reason.RETRY, False),
        (errors.CutShortError(), Reason.RETRY, True),
        (errors.UnacceptableMediaError(), Reason.RETRY, True),
        (errors.CredentialsRefusedError(), Reason.RETRY, False),
    ],
)
def test_failures_wait_for_a_reason(error: errors.ArchiverError, reason: Reason, counted: bool) -> None:
    found = verdict(error)
    assert (found.fate, found.reason, found.counted) == (Fate.WAIT, reason, counted)
    assert found.again_at is not None
    assert found.again_at > NOW


def test_credentials_fault_parks_the_provider_and_items_keep_attempts() -> None:
    found = verdict(errors.CredentialsRefusedError())
    assert found.park is not None
    assert not found.counted


def test_retry_after_is_obeyed_but_never_for_more_than_an_hour() -> None:
    assert verdict(errors.ThrottledError(retry_after=timedelta(minutes=3))).again_at == NOW + timedelta(minutes=3)
    forever = verdict(errors.ThrottledError(retry_after=timedelta(days=10_000)))
    assert forever.again_at == NOW + timedelta(hours=1)


def test_link_host_not_on_allowlist_is_parked_with_a_flag_not_dropped() -> None:
    found = verdict(errors.EgressRefusedError())
    assert (found.fate, found.flags) == (Fate.WAIT, frozenset({Flag.EGRESS_REFUSED}))


def test_10_gb_body_is_parked_with_a_flag_not_dropped() -> None:
    found = verdict(errors.TooLargeError())
    assert (found.fate, found.flags) == (Fate.WAIT, frozenset({Flag.TOO_LARGE}))


@given(st.integers(1, 1000), st.none() | st.integers(-10_000, 10_000_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_shrinks_as_the_deadline_nears(attempts: int, left: int | None, spread: float) -> None:
    by = None if left is None else NOW + timedelta(seconds=left)
    delay = backoff(attempts, by, NOW, spread)
    assert timedelta(seconds=1) <= delay <= timedelta(minutes=15)
    if by is not None and by > NOW + timedelta(seconds=4):
        assert delay <= max(timedelta(seconds=1), (by - NOW) / 4)


def test_an_error_page_is_kept_only_past_the_deadline_and_after_three_tries() -> None:
    late = dataclasses.replace(FRESH, archive_by=NOW - timedelta(seconds=1), attempts=3)
    assert hopeless(late, NOW)
    assert not hopeless(dataclasses.replace(late, attempts=2), NOW)
    assert not hopeless(dataclasses.replace(late, archive_by=NOW + timedelta(days=1)), NOW)
