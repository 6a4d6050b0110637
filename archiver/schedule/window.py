"""Plans which spans of provider time to list next. Pure: no I/O, no clock.

Coverage is a set of disjoint spans that were listed to their last page. A span that is not covered was never looked at,
however quiet it may have been: "no calls" and "never looked" are different facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.recording import Window


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of listing: nothing before `earliest`, no span longer than `longest`, nothing younger than now −
    `settle`."""

    earliest: datetime
    longest: timedelta
    settle: timedelta = timedelta(0)


def merge(spans: Iterable[Window]) -> tuple[Window, ...]:
    """Returns the same coverage as disjoint, ordered spans; touching spans become one."""
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
    """Returns the parts of `whole` that no span covers, oldest first."""
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
    """Returns `span` in consecutive pieces no longer than `longest`."""
    pieces: list[Window] = []
    at = span.since
    while span.until - at > longest:
        pieces.append(Window(at, at + longest))
        at += longest
    pieces.append(Window(at, span.until))
    return tuple(pieces)


def due_windows(covered: Sequence[Window], now: datetime, bounds: Bounds, overlap: timedelta) -> tuple[Window, ...]:
    """Returns the windows of one poll, in order: the newest span first, then every gap, oldest first.

    The newest span reaches `overlap` back into the covered time, because rows appear late. It goes first so that a long
    back-fill never hides today's calls; the gaps follow oldest first, because the oldest recordings are deleted first.
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
    """Returns the windows of the `back` before `before` again, newest first, whatever is covered: some rows appear days
    after their call.

    The windows end in the past, where no row is inserted any more, so that a long walk finds two listings that agree; a
    walk that reaches up to now and far back at once might never find them.
    """
    since = max(bounds.earliest, before - back)
    return tuple(reversed(split(Window(since, before), bounds.longest))) if since < before else ()


def beginning(oldest: datetime, stated: datetime | None, latest: datetime) -> datetime:
    """Returns the beginning of the first walk: as stated, but neither before there can be anything nor after `latest`.

    A stated day in the future must not keep new recordings from being listed until that day.
    """
    return max(oldest, min(stated, latest)) if stated is not None else oldest
