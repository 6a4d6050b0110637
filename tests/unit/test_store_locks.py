"""When a lock that was read back is the lock that was asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.recording import Lock, LockMode
from archiver.store.s3_vault import satisfies, whole_second

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
COMPLIANCE, GOVERNANCE, OFF = LockMode.COMPLIANCE, LockMode.GOVERNANCE, LockMode.OFF


@pytest.mark.parametrize(
    ("shown", "asked", "enough"),
    [
        (Lock(COMPLIANCE, LATER), Lock(COMPLIANCE, LATER), True),
        (Lock(COMPLIANCE, LATER), Lock(COMPLIANCE, NOW), True),
        (Lock(COMPLIANCE, NOW), Lock(COMPLIANCE, LATER), False),
        (Lock(GOVERNANCE, LATER), Lock(COMPLIANCE, NOW), False),
        (Lock(COMPLIANCE, LATER), Lock(GOVERNANCE, LATER), True),
        (Lock(OFF, None), Lock(COMPLIANCE, NOW), False),
        (Lock(OFF, None), Lock(GOVERNANCE, NOW), False),
        (Lock(OFF, None), Lock(OFF, None), True),
        (Lock(COMPLIANCE, LATER), Lock(OFF, None), True),
        (Lock(COMPLIANCE, None), Lock(COMPLIANCE, NOW), False),
        (Lock(COMPLIANCE, LATER), Lock(COMPLIANCE, None), False),
        (Lock(COMPLIANCE, LATER), Lock(COMPLIANCE, NOW, legal_hold=True), False),
        (Lock(COMPLIANCE, LATER, legal_hold=True), Lock(COMPLIANCE, NOW), True),
        (Lock(OFF, None), Lock(OFF, None, legal_hold=True), False),
    ],
)
def test_lock_read_back_counts_only_when_it_refuses_as_much(shown: Lock, asked: Lock, enough: bool) -> None:
    assert satisfies(shown, asked) is enough


@given(st.integers(0, 2**36), st.integers(0, 999_999), st.sampled_from([UTC, timezone(timedelta(hours=-7))]))
def test_date_is_rounded_up_to_the_second_never_down(seconds: int, micros: int, zone: timezone) -> None:
    instant = (NOW + timedelta(seconds=seconds, microseconds=micros)).astimezone(zone)
    whole = whole_second(instant)
    assert whole.microsecond == 0
    assert whole.tzinfo is UTC
    assert timedelta(0) <= whole - instant < timedelta(seconds=1)
