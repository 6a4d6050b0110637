"""The forecast in figures: what is lost, when, by how much, and what would save it; each on both sides of its threshold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from archiver.completeness.forecast import Capacity, Forecast, Pending, forecast, remedies
from archiver.recording import Window

NOW = datetime(2028, 2, 29, 12, tzinfo=UTC)
ONE = Capacity(bytes_per_second=1000, items_per_second=1)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def span(begin: float, end: float) -> Window:
    return Window(at(begin), at(end))


@pytest.mark.parametrize(
    ("size", "count", "takes"),
    [(0, 1, 1), (1000, 1, 1), (1001, 1, 1.001), (5000, 1, 5), (5000, 3, 15), (10, 4, 4)],
)
def test_bytes_or_requests_bind_whichever_is_slower(size: int, count: int, takes: float) -> None:
    assert ONE.takes(Pending(NOW, size, count)) == pytest.approx(takes)


def test_nothing_to_save_is_nothing_to_lose() -> None:
    assert forecast([], NOW, ONE) == Forecast(0, None, None, 0, 0.0, None, 0)
    assert forecast([], NOW, ONE).safe


@pytest.mark.parametrize(
    ("deadlines", "first_loss", "lost", "slack", "speed"),
    [
        ([10], None, 0, 9, 0.1),
        ([1], None, 0, 0, 1.0),
        ([2, 2], None, 0, 0, 1.0),
        ([2, 2, 2], 2, 1, -1, 1.5),
        ([2, 2, 2, 10], 2, 1, -1, 1.5),
        ([1, 1, 1, 1], 1, 3, -3, 4.0),
        ([5, 1, 3], None, 0, 0, 1.0),  # the earliest first, whatever order they come in
    ],
)
def test_first_loss_slack_and_speed(
    deadlines: list[float], first_loss: float | None, lost: int, slack: float, speed: float
) -> None:
    found = forecast([Pending(at(each), 1000) for each in deadlines], NOW, ONE)
    assert found.first_loss == (None if first_loss is None else at(first_loss))
    assert (found.lost, found.slack, found.safe) == (lost, timedelta(seconds=slack), first_loss is None)
    assert found.speed == pytest.approx(speed)
    assert (found.recordings, found.done_at, found.doomed) == (len(deadlines), at(len(deadlines)), 0)


def test_the_longest_is_given_up_first_and_batches_one_by_one() -> None:
    long_and_short = [Pending(at(5), 4000), Pending(at(5), 1000, count=4)]
    assert forecast(long_and_short, NOW, ONE).lost == 1
    assert forecast([Pending(at(3), 1000, count=7)], NOW, ONE).lost == 4
    assert forecast([Pending(at(3), 2000, count=3)], NOW, ONE).lost == 2


def test_what_is_past_its_deadline_counts_for_nothing_else() -> None:
    found = forecast([Pending(at(0), 9000, count=2), Pending(at(-5), 9000), Pending(at(4), 1000)], NOW, ONE)
    assert (found.recordings, found.doomed, found.lost, found.slack) == (4, 3, 0, timedelta(seconds=3))
    assert forecast([Pending(NOW, 1)], NOW, ONE) == Forecast(1, None, None, 0, 0.0, None, 1)


@pytest.mark.parametrize(
    ("outages", "slack", "done", "lost"),
    [
        ([], 8, 2, 0),
        ([span(-10, -5)], 8, 2, 0),  # over
        ([span(-10, 3)], 5, 5, 0),
        ([span(1, 4)], 5, 5, 0),
        ([span(1, 4), span(2, 6)], 3, 7, 0),  # merged
        ([span(2, 4)], 6, 2, 0),  # done just before it begins
        ([span(9, 99)], 7, 2, 0),
        ([span(0, 9)], -1, 11, 1),
    ],
)
def test_nothing_is_done_during_outages(outages: list[Window], slack: float, done: float, lost: int) -> None:
    found = forecast([Pending(at(10), 1000, count=2)], NOW, ONE, outages)
    assert (found.slack, found.done_at, found.lost) == (timedelta(seconds=slack), at(done), lost)


def test_no_speed_saves_what_falls_into_an_outage() -> None:
    found = forecast([Pending(at(10), 1000)], NOW, ONE, [span(0, 11)])
    assert found.speed == float("inf")
    assert remedies(found, [span(0, 11)]) == [
        "end the outage 0.0 h earlier",
        "have the provider keep recordings 0.0 h longer (larger plan, larger quota)",
    ]


def test_remedies_say_how_much_is_missing_the_surest_first() -> None:
    hour = Capacity(bytes_per_second=1, items_per_second=1 / 3600)
    late = forecast([Pending(at(3600), 1, count=49)], NOW, hour)
    assert remedies(late) == [
        "work 49.0 times as fast: raise rate and concurrency, or stop the back-fill",
        "have the provider keep recordings 2.0 days longer (larger plan, larger quota)",
    ]
    assert "47.0 h longer" in remedies(forecast([Pending(at(3600), 1, count=48)], NOW, hour))[1]
    assert remedies(forecast([Pending(at(3600), 1)], NOW, hour)) == []
    assert remedies(forecast([], NOW, hour)) == []
