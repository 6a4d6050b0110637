"""Decides when each channel is told of which alert. Pure: entries in, entries out; `state` keeps them, `dispatch` sends
them.

An entry is one alert on its way to one channel. It is due at once; it is sent, then sent again every `repeat` while the
alert holds, and at once when the alert grows worse. When the alert has been over for a while, that is sent once. An
entry is removed only after its end was sent: an alert that came and went while its channel was down is still sent, as
an alert that is over.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from archiver.alerts.rule import LOCAL, Alert, Kind, Severity

SETTLE = timedelta(minutes=5)
"""The time for which an alert must be over before its end is sent: an alert that flickers counts as one alert."""
RETRY = timedelta(seconds=15)
LONGEST_RETRY = timedelta(minutes=15)
_LONGEST_ASKED = timedelta(hours=1)

Key: TypeAlias = tuple[Kind, str, str]
"""The key of an entry: kind, subject, channel."""


class Status(enum.StrEnum):
    """The state of an alert in a message."""

    FIRING = "firing"
    RESOLVED = "resolved"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Route:
    """Sends alerts of these kinds to these channels, again every `repeat` for as long as they hold."""

    when: frozenset[Kind]
    to: tuple[str, ...]
    repeat: timedelta


@dataclass(frozen=True, slots=True)
class Entry:
    """One alert on its way to one channel. `told_weight` is its weight when last sent, `failures` the failures in a
    row."""

    alert: Alert
    channel: str
    since: datetime
    due_at: datetime
    cleared_at: datetime | None = None
    told_at: datetime | None = None
    told_weight: int = 0
    failures: int = 0

    @property
    def key(self) -> Key:
        return self.alert.kind, self.alert.subject, self.channel

    @property
    def status(self) -> Status:
        if self.alert.kind.severity is Severity.NOTE:
            return Status.NOTE
        return Status.FIRING if self.cleared_at is None else Status.RESOLVED


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes that make the entries agree with the alerts.

    `new` and `changed` entries are to be written; `dropped` entries are to be removed and sent to nobody.
    """

    new: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    dropped: tuple[Key, ...]


def default_routes(channels: Sequence[str]) -> tuple[Route, ...]:
    """Routes that send every alert to every channel: alerts that wake people every hour, the rest twice a day."""
    pages = frozenset(kind for kind in Kind if kind.severity is Severity.PAGE)
    to = tuple(channels)
    return (Route(pages, to, timedelta(hours=1)), Route(frozenset(Kind) - pages, to, timedelta(hours=12)))


def unrouted(routes: Sequence[Route]) -> tuple[Kind, ...]:
    """The alerts that would reach nobody."""
    covered = frozenset(kind for route in routes for kind in route.when if route.to)
    return tuple(kind for kind in Kind if kind not in covered and kind.severity is not Severity.NOTE)


def repeat_of(kind: Kind, channel: str, routes: Sequence[Route]) -> timedelta | None:
    """The interval at which this channel is told of this kind, by the most frequent route. None without a route."""
    return min((each.repeat for each in routes if kind in each.when and channel in each.to), default=None)


def changes(
    known: Mapping[Key, Entry],
    firing: Sequence[Alert],
    routes: Sequence[Route],
    channels: Collection[str],
    now: datetime,
    elsewhere: Collection[str] = (),
) -> Changes:
    """Bring the entries up to date with the alerts that hold now. Idempotent: a second call with the same changes
    nothing.

    `elsewhere`: hosts of other living replicas. Only its own replica can say that a host's alert is over.
    """
    wanted = {
        (alert.kind, alert.subject, channel): alert
        for alert in firing
        for channel in channels
        if repeat_of(alert.kind, channel, routes) is not None
    }
    new = tuple(Entry(alert, key[2], now, now) for key, alert in wanted.items() if key not in known)
    changed, dropped = [], []
    holding = {(alert.kind, alert.subject) for alert in firing}
    for key, entry in known.items():
        if key[0] in LOCAL and key[1] in elsewhere:
            continue
        if key[2] not in channels or (key not in wanted and key[:2] in holding):
            dropped.append(key)  # the configuration no longer sends the alert there; the alert itself is not over
            continue
        repeat = repeat_of(key[0], key[2], routes) or timedelta(0)
        after = _over(entry, now) if key not in wanted else _holds(entry, wanted[key], repeat, now)
        if after != entry:
            changed.append(after)
    return Changes(new, tuple(changed), tuple(dropped))


def note(alert: Alert, routes: Sequence[Route], channels: Collection[str], now: datetime) -> tuple[Entry, ...]:
    """The entries of news, which is sent once to each channel of its routes and is then over."""
    to = [each for each in channels if repeat_of(alert.kind, each, routes) is not None]
    return tuple(Entry(alert, channel, now, now, cleared_at=now) for channel in to)


def after_told(entry: Entry, told: Entry, repeat: timedelta, now: datetime) -> Entry | None:
    """The entry after a message has arrived; None when nothing is left to send.

    `told` is the entry as it was when the message was made, `entry` as it is now.
    """
    if told.status is not Status.FIRING:
        if entry.cleared_at is not None:
            return None
        return replace(entry, since=now, due_at=now, told_at=None, told_weight=0, failures=0)  # the alert came back
    due = now + (repeat if entry.cleared_at is None else SETTLE)
    return replace(entry, told_at=now, told_weight=told.alert.weight, due_at=due, failures=0)


def after_refused(entry: Entry, retry_after: timedelta | None, now: datetime) -> Entry:
    """The entry after its channel failed: due again later, with growing pauses, for as long as it takes."""
    wait = min(RETRY * 2 ** min(entry.failures, 10), LONGEST_RETRY)
    if retry_after is not None:
        wait = max(wait, min(retry_after, _LONGEST_ASKED))
    return replace(entry, due_at=now + wait, failures=entry.failures + 1)


def _holds(entry: Entry, alert: Alert, repeat: timedelta, now: datetime) -> Entry:
    due = entry.due_at
    if entry.told_at is not None and not entry.failures:
        worse = alert.weight > entry.told_weight
        due = min(due, now) if worse else entry.told_at + repeat
    # An acknowledgement lowers the weight: the next increase counts from there, and is sent at once.
    return replace(entry, alert=alert, cleared_at=None, due_at=due, told_weight=min(entry.told_weight, alert.weight))


def _over(entry: Entry, now: datetime) -> Entry:
    if entry.cleared_at is not None:
        return entry
    # An alert that was not sent yet stays due, and is sent as one that is over. Otherwise its end waits until it has
    # settled.
    due = entry.due_at if entry.told_at is None else now + SETTLE
    return replace(entry, cleared_at=now, due_at=due)
