"""Leads a walk through bytes made by hand, and tells what it says of them. For tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from archiver.fetch.walk import Follower, Shape, Walk
from archiver.recording import MediaFacts

_SINGLE = 250  # so many bytes at both ends come by themselves
NOTHING = Shape(MediaFacts(container=None), None)


def walked(walk: Callable[[], Walk], body: bytes) -> Shape:
    """The walk's statements, which must be the same for a body in one piece and byte by byte (long sound excepted)."""
    follower, slow = Follower(walk()), Follower(walk())
    follower.feed(body)
    for start in range(min(len(body), _SINGLE)):
        slow.feed(body[start : start + 1])
    slow.feed(body[_SINGLE:-_SINGLE])
    for start in range(max(len(body) - _SINGLE, _SINGLE), len(body)):
        slow.feed(body[start : start + 1])
    assert slow.shape() == follower.shape()
    return follower.shape()


def shape(
    container: str | None,
    codec: str | None = None,
    rate: int | None = None,
    channels: int | None = None,
    lasts: float | None = None,
    *,
    whole: bool | None = None,
) -> Shape:
    """A shape in one line. `lasts` is in seconds."""
    return Shape(
        MediaFacts(container, codec, rate, channels, None if lasts is None else timedelta(seconds=lasts)), whole
    )
