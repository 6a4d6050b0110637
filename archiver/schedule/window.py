"""Which spans of provider time to enumerate next. Pure: no I/O, no clock.

Coverage is a set of disjoint spans that were listed to their last page. What is not covered was never looked at, however quiet
it may have been: "no calls" and "never looked" are different facts (DESIGN §1, invariant 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.recording import Window


@dataclass(frozen=True, slots=True)
class Bounds:
    """What can be listed: nothing before `earliest`, no span longer than `longest`, nothing younger than now − `settle`."""

    earliest: datetime
    longest: timedelta
    settle: timedelta = timedelta(0)


def merge(spans: Iterable[Window]) -> tuple[Window, ...]:
    """The same coverage as disjoint, ordered spans; touching spans become one."""
    merged: list[Window] = []
    for span in sorted(spans, key=lambda each: (each.since, each.until)):
        if span.until <= span.since:
            continue
        if merged and span.since <= merged[-1].until:
            merged[-1] = Window(merged[-1].since, max(merged[-1].until, span.until))
        else:
            merged.append(span)
    return tuple(merged)


def holes(covered: Iterable[Window], whole: Window) -> tuple[Window, ...]:
    """What of `whole` no span covers, oldest first."""
    missing: list[Window] = []
    at = whole.since
    for span in merge(covered):
        if span.until <= at or span.since >= whole.until:
            continue
        if span.since > at:
            missing.append(Window(at, span.since))
        at = max(at, span.until)
    if at < whole.until:
        missing.append(Window(at, whole.until))
    return tuple(missing)


def split(span: Window, longest: timedelta) -> tuple[Window, ...]:
    """`span` in consecutive pieces no longer than `longest`."""
    pieces: list[Window] = []
    at = span.since
    while span.until - at > longest:
        pieces.append(Window(at, at + longest))
        at += longest
    pieces.append(Window(at, span.until))
    return tuple(pieces)


def due_windows(covered: Sequence[Window], now: datetime, bounds: Bounds, overlap: timedelta) -> tuple[Window, ...]:
    """The windows of one poll, in order: the newest stretch first, then every hole, oldest first.

    The newest stretch reaches `overlap` back into what is covered, because rows appear late. It goes first so that a long
    back-fill never hides today's calls; the holes follow oldest first, because the oldest is deleted first.
    """
    end = now - bounds.settle
    whole = Window(bounds.earliest, end)
    if whole.until <= whole.since:
        return ()
    known = merge(covered)
    newest = max((span.until for span in known if span.until <= end + overlap), default=None)
    recent_since = end - overlap if newest is None else min(newest, end) - overlap
    recent = Window(max(recent_since, bounds.earliest), end)
    planned = [*split(recent, bounds.longest)]
    for hole in holes([*known, recent], whole):
        planned.extend(split(hole, bounds.longest))
    return tuple(planned)


def deep_windows(before: datetime, back: timedelta, bounds: Bounds) -> tuple[Window, ...]:
    """The `back` before `before` once more, newest first, whatever is covered: some rows appear days after their call.

    They end in the past, where nothing is inserted any more, so that a long walk finds two that agree; a walk that reaches up to
    now and far back at once might never.
    """
    since = max(bounds.earliest, before - back)
    return tuple(reversed(split(Window(since, before), bounds.longest))) if since < before else ()


def beginning(oldest: datetime, stated: datetime | None, latest: datetime) -> datetime:
    """Where the first walk begins: as stated, but neither before there can be anything nor after `latest`.

    A day that has not come must not keep what is new from being listed until it has.
    """
    return max(oldest, min(stated, latest)) if stated is not None else oldest


def watermark(covered: Iterable[Window], earliest: datetime) -> datetime | None:
    """The instant up to which nothing is unlooked-at since `earliest`; None while the start itself is not covered."""
    for span in merge(covered):
        if span.since <= earliest < span.until:
            return span.until
    return None
