"""Until when a copy is kept, and by which rule: one table from what is known of a call to the date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from archiver.retention.policy import SHORTEST_LOCK, Retention, Rule, retention
from archiver.retention.span import Span

CALL = datetime(2025, 6, 1, 12, 0, 0, tzinfo=UTC)
DAY, SECOND, MICROSECOND = timedelta(days=1), timedelta(seconds=1), timedelta(microseconds=1)
WEEK = Rule("week", Span(rest=timedelta(days=7)), {"tag": "card"})
NOTHING = Rule("nothing", Span(), {"tag": "card"})
YEARS = Rule("default", Span(7), {})
CARD, PLAIN = {"tags": ["card"]}, {"tags": ["other"]}


@pytest.mark.parametrize(
    ("metadata", "ended_at", "rules", "now", "kept"),
    [
        # whose rule
        (CARD, CALL, [WEEK], CALL, Retention(CALL + 7 * DAY, "week")),
        (CARD, CALL, [NOTHING, WEEK], CALL, Retention(CALL + DAY, "nothing")),
        (PLAIN, CALL, [WEEK], CALL, Retention(datetime(2032, 6, 1, 12, tzinfo=UTC), "default")),
        (CARD, CALL, [], CALL, Retention(datetime(2032, 6, 1, 12, tzinfo=UTC), "default")),
        # from the call's end, not from now; at least a day from now
        (CARD, CALL, [WEEK], CALL + 6 * DAY, Retention(CALL + 7 * DAY, "week")),
        (CARD, CALL, [WEEK], CALL + 6 * DAY + SECOND, Retention(CALL + 7 * DAY + SECOND, "week")),
        (CARD, CALL, [WEEK], CALL + 400 * DAY, Retention(CALL + 401 * DAY, "week")),
        # whole seconds, never earlier
        (CARD, CALL + MICROSECOND, [WEEK], CALL, Retention(CALL + 7 * DAY + SECOND, "week")),
        (CARD, CALL - MICROSECOND, [WEEK], CALL, Retention(CALL + 7 * DAY, "week")),
        (CARD, CALL, [WEEK], CALL + 6 * DAY + MICROSECOND, Retention(CALL + 7 * DAY + SECOND, "week")),
    ],
)
def test_a_copy_is_kept_by_the_first_rule_met_from_the_end_of_the_call(
    metadata: dict[str, list[str]], ended_at: datetime, rules: list[Rule], now: datetime, kept: Retention
) -> None:
    assert retention(metadata, ended_at, rules, YEARS, now) == kept


def test_a_call_of_yesterday_is_never_kept_for_less_than_the_shortest_lock_of_a_store() -> None:
    assert SHORTEST_LOCK == DAY
    now = CALL.astimezone(timezone(timedelta(hours=14)))
    assert retention(CARD, CALL - DAY, [NOTHING], YEARS, now).until == CALL + DAY
