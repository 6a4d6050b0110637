"""Decides how long our copy of a recording is kept, by the first rule that matches. Pure: no I/O, no clock.

Retention counts from the end of the call, not from the upload (MiFID II DR 2017/565 art. 76(11)): a back-filled call of
last year gets last year's date. A date that is already near or past is moved to the shortest lock that a store can
express.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from archiver.recording import Json
from archiver.retention.span import Span
from archiver.vocabulary import Condition, meets

SHORTEST_LOCK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that keeps recordings for `keep` after the call's end, if they match all of `match`, in the words of
    `archiver.vocabulary`.

    The rule's `name` stands in custody events.
    """

    name: str
    keep: Span
    match: Mapping[str, Condition]


@dataclass(frozen=True, slots=True)
class Retention:
    """The date until which a copy must be kept, and the rule that says so."""

    until: datetime
    rule: str


def matches(rule: Rule, metadata: Mapping[str, Json], ended_at: datetime) -> bool:
    """Tells whether a recording meets every condition of the rule."""
    return all(meets(name, wanted, metadata, ended_at) for name, wanted in rule.match.items())


def retention(
    metadata: Mapping[str, Json],
    ended_at: datetime,
    rules: Sequence[Rule],
    default: Rule,
    now: datetime,
) -> Retention:
    """Returns the first matching rule's date, in whole seconds (stores keep no finer), at least a day from now."""
    rule = next((each for each in rules if matches(each, metadata, ended_at)), default)
    until = max(rule.keep.after(ended_at), now + SHORTEST_LOCK)
    whole = until.replace(microsecond=0)
    return Retention(whole if whole == until else whole + timedelta(seconds=1), rule.name)
