"""The configuration of retention: the time for which the archive's copies are kept, by rule."""

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
    """The conditions of a rule; a recording must meet all of them. Letter case, spaces and the `+` of numbers do not
    matter."""

    provider: Ident | None = None
    """Provider id."""
    account: Text | None = None
    """The account, subaccount or collection at the provider that the recording belongs to."""
    variant: Text | None = None
    """Variant: `original` (Plivo, before noise cancellation) or `child` (JustCall, a call's second recording)."""
    direction: Direction | None = None
    """Direction of the call; `Incoming` and `Outgoing` are understood too. `internal`: within KAZOO's own network, as
    the recording's `origin` says."""
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
    """Name of a label, line, campaign, conference or multiparty call."""
    disposition: Text | None = None
    """Disposition that the agent gave the call."""
    status: Text | None = None
    """Outcome of the call: `completed`, `missed`, `voicemail`, `busy`, …"""
    voicemail: Flag | None = None
    """`true`: only calls that went to voicemail; `false`: only calls that did not."""
    origin: Text | None = None
    """Origin of the recording (KAZOO), e.g. `inbound from offnet to account`."""
    type: Text | None = None
    """Type of recording, e.g. `conference`, `normal`, `trunk`, `call`."""
    call: Text | None = None
    """One call, by any of its ids."""
    format: Text | None = None
    """Format by the provider's word: `mp3` or `wav`."""
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
        """The conditions that are stated, in the spelling of `archiver.vocabulary`."""
        stated = {name: value for name, value in self if value is not None}
        return {name: vocabulary.spelled(name, value) for name, value in stated.items()}


class RetentionRule(Section):
    """An exception to the default retention."""

    match: Match
    """Conditions that select recordings."""
    keep: Keep
    """The time for which copies are kept, from the call's end on."""
    reason: Text | None = None
    """The reason for the rule, which evidence contains."""


class Retention(Section):
    """The time for which the archive's copies are kept and locked. The first rule that matches is used."""

    default: Keep = Span(years=7)
    """The time for which copies are kept, from the call's end on, unless a rule says otherwise."""
    rules: tuple[RetentionRule, ...] = ()
    """Exceptions, in order."""

    def policy(self) -> tuple[tuple[Rule, ...], Rule]:
        """The rules and the default, in the form of `archiver.retention.policy`."""
        rules = tuple(
            Rule(rule.reason or f"rules[{index}]", rule.keep, rule.match.conditions())
            for index, rule in enumerate(self.rules)
        )
        return rules, Rule("default", self.default, {})
