"""Mistakes in the configuration, and the texts that show them to a person."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from archiver.errors import ConfigurationError
from archiver.recording import Json


class Severity(enum.StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: its stable code, its place in the file, the message and a hint at the right value.

    `excerpt` is the line with literal secrets masked, `caret` the index of the mistake in `excerpt`. Lines and columns
    count from 1.
    """

    code: str
    severity: Severity
    message: str
    hint: str
    file: str
    line: int
    col: int
    path: str
    excerpt: str = ""
    caret: int = 0

    def render(self) -> str:
        """The text of the problem: an error with its line and a caret, a warning in words alone."""
        title = f"{self.severity}[{self.code}]: {self.message}".ljust(53)
        place = f"{self.file}:{self.line}:{self.col}".ljust(15)
        head = f"{title} {place} {self.path}".rstrip()
        if self.severity is Severity.WARNING:
            return f"{head}\n{' ' * 15}{self.hint}" if self.hint else head
        number = f"{self.line:>3}"
        pointer = f"{' ' * len(number)} | {' ' * self.caret}^ {self.hint}".rstrip()
        return f"{head}\n{number} | {self.excerpt}\n{pointer}"

    def as_json(self) -> dict[str, Json]:
        return {
            "code": self.code,
            "severity": str(self.severity),
            "message": self.message,
            "hint": self.hint,
            "file": self.file,
            "line": self.line,
            "col": self.col,
            "path": self.path,
        }


class InvalidConfigurationError(ConfigurationError):
    """The configuration cannot be used."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        file = self.problems[0].file if self.problems else ""
        super().__init__(f"{file}\n{render(self.problems)}")


def render(problems: Sequence[Problem]) -> str:
    """The text of all problems, errors first, then their number."""
    ordered = sorted(problems, key=lambda each: (each.severity is Severity.WARNING, each.line, each.col))
    return "\n".join([*(each.render() for each in ordered), summary(problems)])


def summary(problems: Iterable[Problem]) -> str:
    """The number of problems, as in `6 errors, 1 warning; the running daemon keeps its current config.`"""
    severities = [each.severity for each in problems]
    errors, warnings = severities.count(Severity.ERROR), severities.count(Severity.WARNING)
    counted = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    return f"{counted}; the running daemon keeps its current config." if errors else counted
