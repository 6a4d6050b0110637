"""Earliest deadline first loses nothing that the best order could have saved, and the forecast knows how much that is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.alerts.facts import Facts, ProviderFacts
from archiver.alerts.judgement import judge
from archiver.alerts.rule import Kind, Thresholds
from archiver.completeness.forecast import Capacity, Pending, forecast, remedies
from archiver.recording import Window

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ONE = Capacity(bytes_per_second=1, items_per_second=1_000_000)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


PENDING = st.builds(lambda due, size: Pending(after(due), size), st.integers(1, 30), st.integers(1, 10))
OUTAGE = st.builds(
    lambda since, lasts: Window(after(since), after(since + lasts)), st.integers(-5, 30), st.integers(1, 10)
)
OUTAGES = st.lists(OUTAGE, max_size=3)


def working(until: datetime, outages: Sequence[Window]) -> int:
    """Seconds in which work is done, counted one by one."""
    seconds = [after(n) for n in range(int((until - NOW) / SECOND))]
    return sum(not any(out.since <= at < out.until for out in outages) for at in seconds)


def all_saved(chosen: Sequence[Pending], outages: Sequence[Window]) -> bool:
    """Whether this set can be saved: no span up to a deadline holds more work than time."""
    return all(
        sum(each.size for each in chosen if each.deadline <= due.deadline) <= working(due.deadline, outages)
        for due in chosen
    )


@settings(max_examples=150)
@given(st.lists(PENDING, max_size=7), OUTAGES)
def test_as_many_are_lost_as_the_best_order_loses(backlog: list[Pending], outages: list[Window]) -> None:
    found = forecast(backlog, NOW, ONE, outages)
    best = max(n for n in range(len(backlog) + 1) for each in combinations(backlog, n) if all_saved(each, outages))
    assert found.lost == len(backlog) - best
    assert found.safe is (found.lost == 0)


@settings(max_examples=150)
@given(st.lists(PENDING, min_size=1, max_size=12), OUTAGES)
def test_what_is_said_to_save_it_saves_it(backlog: list[Pending], outages: list[Window]) -> None:
    found = forecast(backlog, NOW, ONE, outages)
    assert found.slack is not None
    assert bool(remedies(found, outages)) is not found.safe
    if found.safe:
        return
    later = [Pending(each.deadline - found.slack, each.size) for each in backlog]
    assert forecast(later, NOW, ONE, []).safe or outages
    if found.speed != float("inf"):
        fast = Capacity(found.speed * 1.0001, 1e9)
        assert forecast(backlog, NOW, fast, outages).safe
        slower = Capacity(found.speed * 0.99, 1e9)
        assert not forecast(backlog, NOW, slower, outages).safe


@settings(max_examples=100)
@given(st.lists(PENDING, min_size=1, max_size=8), OUTAGES)
def test_batches_are_no_different_from_their_recordings(backlog: list[Pending], outages: list[Window]) -> None:
    batched = [Pending(each.deadline, each.size, 3) for each in backlog]
    single = [Pending(each.deadline, each.size) for each in backlog for _ in range(3)]
    left, right = forecast(batched, NOW, ONE, outages), forecast(single, NOW, ONE, outages)
    assert (left.first_loss, left.lost, left.recordings) == (right.first_loss, right.lost, right.recordings)


@settings(max_examples=150)
@given(st.lists(PENDING, min_size=1, max_size=12), st.integers(1, 30))
def test_slack_is_how_long_a_standstill_may_last(backlog: list[Pending], lasts: int) -> None:
    slack = forecast(backlog, NOW, ONE).slack
    assert slack is not None
    stood_still = forecast(backlog, NOW, ONE, [Window(NOW, after(lasts))])
    assert stood_still.safe is (slack >= lasts * SECOND)


HOURS = 240


@settings(max_examples=60)
@given(
    usual=st.lists(st.integers(0, 2), min_size=HOURS, max_size=HOURS),
    burst_at=st.integers(0, HOURS - 1),
    outages=st.lists(st.tuples(st.integers(0, HOURS - 1), st.integers(1, 60)), max_size=3),
    keeps=st.integers(24, 72),
    rate=st.integers(1, 4),
)
def test_burst_and_outages_lose_only_what_nobody_could_save_and_never_without_warning(
    usual: list[int], burst_at: int, outages: list[tuple[int, int]], keeps: int, rate: int
) -> None:
    """Hour by hour: calls come, ten times as many in one hour, the provider is away at times; the queue goes by deadline."""
    lead, hour = timedelta(hours=12), timedelta(hours=1)
    down = {n for since, lasts in outages for n in range(since, since + lasts)}
    capacity = Capacity(1e12, rate / 3600)
    came = [count * (10 if n == burst_at else 1) for n, count in enumerate(usual)]
    queue: list[int] = []  # the hours at which they are deleted; a list in order of arrival is one by deadline
    lost: list[int] = []
    warned: list[int] = []
    saved = 0
    for n in range(HOURS + keeps + 1):
        lost += [due for due in queue if due <= n]
        queue = [due for due in queue if due > n]
        queue += [n + keeps] * (came[n] if n < HOURS else 0)
        now = after(3600 * n)
        ahead = forecast([Pending(after(3600 * due), 1) for due in queue], now, capacity)
        facts = ProviderFacts("p", poll_succeeded_at=now, slack=ahead.slack, first_loss_at=ahead.first_loss)
        told = judge(Facts(now, now, providers=[facts]), Thresholds(warning=lead, critical=hour)).alerts
        if Kind.FORECAST_LOSS in {each.kind for each in told}:
            warned.append(n)
        if n not in down:
            saved += len(queue[:rate])
            queue = queue[rate:]
    assert len(lost) + saved == sum(came)
    assert saved == _best(came, down, keeps, rate)
    for due in lost:
        assert any(due - keeps <= n <= due - lead / hour for n in warned)


def _best(came: Sequence[int], down: set[int], keeps: int, rate: int) -> int:
    """The most that any order saves, by filling each call's hours from the last one backwards (a transversal matroid)."""
    free = {n: rate for n in range(len(came) + keeps) if n not in down}
    slots: dict[int, list[int]] = {n: [] for n in free}

    def place(call: int, tried: set[int]) -> bool:
        for n in range(call, call + keeps):
            if n in free and n not in tried:
                tried.add(n)
                if len(slots[n]) < rate:
                    slots[n].append(call)
                    return True
                for index, other in enumerate(slots[n]):
                    if other != call and place(other, tried):
                        slots[n][index] = call
                        return True
        return False

    return sum(place(call, set()) for call, count in enumerate(came) for _ in range(count))
