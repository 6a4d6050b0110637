"""The follower leads any walk through a body in pieces, and no body makes it walk forever."""

from __future__ import annotations

from datetime import timedelta

import pytest

from archiver.fetch.walk import DONE, Follower, Known, Shape, lasting, seconds
from archiver.recording import MediaFacts
from tests.fetch_walks import shape


class Steps:
    """A walk over headers of `need` bytes, each so far behind the last, that remembers what it was shown."""

    def __init__(self, apart: int, need: int = 4, at: int = 0) -> None:
        self.at, self.need, self.apart = at, need, apart
        self.seen: list[bytes] = []

    def step(self, window: bytes, here: int) -> None:
        assert here + self.need <= len(window)
        self.seen.append(window[here : here + self.need])
        self.at += self.apart

    def shape(self, size: int) -> Shape:
        return shape("x", "y", 1, 2, size, whole=self.at == size)


BODY = bytes(range(256)) * 5


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 255, 256, 257, 511, 512, 513, 1280])
@pytest.mark.parametrize(
    ("apart", "need"), [(4, 4), (10, 4), (16, 16), (16, 300), (300, 300), (64, 512), (1, 1), (257, 5)]
)
def test_a_walk_sees_the_same_headers_in_pieces_of_any_size(step: int, apart: int, need: int) -> None:
    walk = Steps(apart, need)
    follower = Follower(walk)
    for start in range(0, len(BODY), step):
        follower.feed(BODY[start : start + step])
    ends = range(0, len(BODY) - need + 1, apart)
    assert walk.seen == [BODY[at : at + need] for at in ends]
    assert follower.shape() == shape("x", "y", 1, 2, 1280, whole=walk.at == 1280)


def test_a_walk_may_begin_behind_the_start_and_end_before_the_end() -> None:
    walk = Steps(DONE, at=9)
    follower = Follower(walk)
    for start in range(0, 60, 3):
        follower.feed(BODY[start : start + 3])
    assert walk.seen == [BODY[9:13]]


@pytest.mark.parametrize(
    ("size", "apart", "steps"),
    [
        (50_000, 1, 50_000),
        (50_100, 1, 50_000 + 50_100 // 24),
        (60_000, 1, 52_500),
        (1_200_000, 24, 50_000),
        (1_200_000, 8, 100_000),
    ],
)
def test_a_body_gets_so_many_steps_by_its_size(size: int, apart: int, steps: int) -> None:
    walk = Steps(apart, 1)
    follower = Follower(walk)
    follower.feed(bytes(size))
    assert len(walk.seen) == min(steps, size // apart)
    exhausted = size // apart > steps
    expected = shape("x", "y", 1, 2) if exhausted else shape("x", "y", 1, 2, size, whole=True)
    assert follower.shape() == expected
    assert walk.at == (DONE if exhausted else size)


def test_steps_are_counted_over_all_pieces() -> None:
    walk = Steps(1, 1)
    follower = Follower(walk)
    for _ in range(100):
        follower.feed(bytes(1200))
    assert len(walk.seen) == 52_200  # used up in the 44th piece: 50,000, and one for each 24 of its 52,800 bytes
    assert follower.shape() == shape("x", "y", 1, 2)


@pytest.mark.parametrize(
    ("units", "rate", "lasts"),
    [
        (5, 2, 2.5),
        (0, 2, 0),
        (5, 0, None),
        (5, -1, None),
        (-1, 2, None),
        (5, 0.5, 10),
        (3660 * 86400, 1, 3660 * 86400),
        (3660 * 86400 + 1, 1, None),
        (1 << 64, 1, None),
        (1, 1, 1),
    ],
)
def test_numbers_that_cannot_be_a_duration_are_none(units: int, rate: float, lasts: float | None) -> None:
    expected = None if lasts is None else timedelta(seconds=lasts)
    assert seconds(units, rate) == expected
    assert lasting(units, rate) == expected


def test_no_bytes_last_no_time_whatever_the_rate() -> None:
    assert lasting(0, 0) == timedelta(0)
    assert lasting(0, -1) == timedelta(0)


def test_a_known_container_is_not_followed() -> None:
    follower = Follower(Known(MediaFacts("ircam")))
    follower.feed(BODY)
    follower.feed(BODY)
    assert follower.shape() == shape("ircam")
