"""How long our own copies are kept, by rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from archiver.config.fields import Ident, Keep, Text
from archiver.config.section import Conflict, Section
from archiver.retention.policy import Rule
from archiver.retention.span import Span


class Match(Section):
    """What a recording must be for a rule to hold; all of them."""

    provider: Ident | None = None
    """Provider id."""
    direction: Text | None = None
    """`inbound`, `outbound`, …, as the provider says."""
    tag: Text | None = None
    """One of the call's tags."""
    agent: Text | None = None
    """Agent, by id or name."""
    number: Text | None = None
    """Either party's number."""

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        if not given:
            yield Conflict((), "C102", "a rule must match something", "or set retention.default")

    def attributes(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.model_dump(exclude_none=True).items()}


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
            Rule(rule.reason or f"rules[{index}]", rule.keep, rule.match.attributes())
            for index, rule in enumerate(self.rules)
        )
        return rules, Rule("default", self.default, {})
