"""When the log has to say that it still goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from archiver.translog.heartbeat import EVERY, due, heartbeat_data, new_day

NOW = datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


@pytest.mark.parametrize(
    ("last", "silent"),
    [
        (None, True),
        (NOW - HOUR, True),
        (NOW - HOUR + SECOND, False),
        (NOW, False),
        (NOW + SECOND, True),  # a clock was set back: that heartbeat says nothing of now
    ],
)
def test_a_heartbeat_is_due_an_hour_after_the_last_one(last: datetime | None, silent: bool) -> None:
    assert EVERY == HOUR
    assert due(last, NOW) is silent
    assert due(last, NOW, EVERY) is silent
    assert due(NOW - 9 * SECOND, NOW, 10 * SECOND) is False


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/Anchorage"])
def place(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("last", "other"),
    [
        (None, True),
        (NOW - 23 * HOUR, False),
        (NOW - 24 * HOUR, True),
        (NOW + SECOND, True),
        (NOW.astimezone(timezone(timedelta(hours=2))), False),  # 1 March there, and the same day in UTC
    ],
)
@pytest.mark.usefixtures("place")
def test_a_day_is_one_of_utc_wherever_the_machine_is(last: datetime | None, other: bool) -> None:
    assert new_day(last, NOW.astimezone(timezone(-5 * HOUR))) is other


def test_a_heartbeat_names_the_tree_and_the_newest_time_stamp() -> None:
    assert heartbeat_data(7, None) == {"size": 7, "timestamp": None}
    assert heartbeat_data(7, (5, "ab")) == {"size": 7, "timestamp": {"size": 5, "token_sha256": "ab"}}
