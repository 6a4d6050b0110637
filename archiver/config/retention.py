"""How long our own copies are kept, by rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias

from archiver import vocabulary
from archiver.config.fields import Duration, Flag, Ident, Instant, Keep, Text, Written
from archiver.config.section import Conflict, Section
from archiver.config.suggest import did_you_mean
from archiver.config.values import quoted, refused
from archiver.retention.policy import Rule
from archiver.retention.span import Span

_WAYS = (vocabulary.INBOUND, vocabulary.OUTBOUND, vocabulary.INTERNAL)


def _direction(value: Any, _context: object) -> str:
    found = vocabulary.direction(value) if isinstance(value, str) else ""
    if found in _WAYS:
        return found
    hint = did_you_mean(str(value), vocabulary.DIRECTIONS) or f"one of: {' '.join(_WAYS)}"
    raise refused("C103", f"{quoted(value)} is not a direction" if isinstance(value, str) else "no direction", hint)


Direction: TypeAlias = Annotated[str, Written(_direction, "`inbound`, `outbound`, `internal`")]


class Match(Section):
    """What a recording must be for a rule to hold; all of them. Letter case, spaces and the `+` of numbers do not matter."""

    provider: Ident | None = None
    """Provider id."""
    account: Text | None = None
    """The account, subaccount or collection at the provider that the recording belongs to."""
    variant: Text | None = None
    """`original` (Plivo, before noise cancellation), `child` (JustCall, a call's second recording)."""
    direction: Direction | None = None
    """`Incoming` and `Outgoing` are understood too. `internal`: within KAZOO's own network, as its `origin` says."""
    tag: Text | None = None
    """One of the call's tags."""
    agent: Text | None = None
    """Agent or user, by id, name or mail address."""
    number: Text | None = None
    """Either party's number."""
    from_number: Text | None = None
    """The caller's number."""
    to_number: Text | None = None
    """The called number."""
    label: Text | None = None
    """Label, line, campaign, conference or multiparty call, by name."""
    disposition: Text | None = None
    """Disposition that the agent gave the call."""
    status: Text | None = None
    """Outcome of the call: `completed`, `missed`, `voicemail`, `busy`, …"""
    voicemail: Flag | None = None
    """Whether the call went to voicemail."""
    origin: Text | None = None
    """What began the recording (KAZOO), e.g. `inbound from offnet to account`."""
    type: Text | None = None
    """Type of recording, e.g. `conference`, `normal`, `trunk`, `call`."""
    call: Text | None = None
    """One call, by any of its ids."""
    format: Text | None = None
    """`mp3` or `wav`, as the provider says."""
    longer_than: Duration | None = None
    """Only recordings longer than this."""
    shorter_than: Duration | None = None
    """Only recordings shorter than this."""
    since: Instant | None = None
    """Only calls that ended at this time or later, UTC."""
    until: Instant | None = None
    """Only calls that ended before this time, UTC."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        if not given:
            yield Conflict((), "C102", "a rule must match something", "or set retention.default")

    def conditions(self) -> dict[str, vocabulary.Condition]:
        """What is demanded, in the vocabulary's spelling."""
        stated = {name: value for name, value in self if value is not None}
        return {name: vocabulary.spelled(name, value) for name, value in stated.items()}


class RetentionRule(Section):
    """An exception to the default retention."""

    match: Match
    """Which recordings."""
    keep: Keep
    """How long, from the call's end."""
    reason: Text | None = None
    """Why; stands in evidence."""


class Retention(Section):
    """How long our own copies are kept and locked. The first matching rule holds."""

    default: Keep = Span(years=7)
    """How long, from the call's end, unless a rule says otherwise."""
    rules: tuple[RetentionRule, ...] = ()
    """Exceptions, in order."""

    def policy(self) -> tuple[tuple[Rule, ...], Rule]:
        """The rules and the default, as `archiver.retention.policy` takes them."""
        rules = tuple(
            Rule(rule.reason or f"rules[{index}]", rule.keep, rule.match.conditions())
            for index, rule in enumerate(self.rules)
        )
        return rules, Rule("default", self.default, {})
