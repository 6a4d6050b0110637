"""Reads a YAML 1.2 file into plain text values, with the place of each value.

Only the structure is YAML's: every scalar stays the text that was written, and the model decides its meaning. So `no`
is never a truth value, an account `007` keeps its zeros and `1_000` is no number. An empty value counts as not written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from archiver.config.problem import Problem, Severity
from archiver.config.values import quoted

LARGEST_FILE: Final = 256 * 1024
_MOST_NODES: Final = 20_000  # aliases multiply: a small file can describe a huge tree
_DEEPEST: Final = 32
_MOST_PROBLEMS: Final = 100

Written: TypeAlias = "str | list[Written] | dict[str, Written] | None"
Place: TypeAlias = tuple[str | int, ...]

_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
}
_PRIVATE_NAME = r"[\w-]*(?:secret|token|passw|api_?key|access_?key|auth|credential|private)[\w-]*"
_PRIVATE_TEXT = re.compile(
    rf"""(?P<name>(?:^|[\s{{,"'-]){_PRIVATE_NAME}["']?\s*:\s*)
    (?P<quote>["']?)(?!(?:env|file|cred|vault|cmd):|[{{\[\#|>]|\s|$)
    (?P<value>(?:(?<=")[^"]*|(?<=')[^']*|[^,}}\]\#"']+))""",
    re.IGNORECASE | re.VERBOSE,
)
_USERINFO = re.compile(r"(?<=://)[^/@\s\"']*:[^/@\s\"']*(?=@)")
_MASK = "•" * 11


@dataclass(frozen=True, slots=True)
class Mark:
    """The line and column at which a key, and its value, begin, counted from 1."""

    key: tuple[int, int]
    value: tuple[int, int]


@dataclass(slots=True)
class Document:
    """The content of a file, with its places. `problems` are mistakes in the YAML itself: with any, `value` is
    unreliable."""

    file: str
    lines: list[str]
    value: dict[str, Written] = field(default_factory=dict)
    marks: dict[Place, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(
        self,
        code: str,
        place: Place,
        message: str,
        hint: str = "",
        *,
        severity: Severity = Severity.ERROR,
        at_key: bool = False,
    ) -> Problem:
        """A problem with the value at `place`, or with its key; shown at the section around if nothing is written
        there."""
        known = place
        while known not in self.marks and known:
            known = known[:-1]
        mark = self.marks.get(known, Mark((1, 1), (1, 1)))
        line, column = mark.key if at_key else mark.value
        path = place[:-1] if code == "C101" else place
        return self.at(line, column, code, path, message, hint, severity)

    def at(
        self,
        line: int,
        column: int,
        code: str,
        place: Place,
        message: str,
        hint: str = "",
        severity: Severity = Severity.ERROR,
    ) -> Problem:
        """A problem at a line and column."""
        text = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        hide = _unreadable if code == "C100" else masked
        excerpt, caret = hide(text), len(hide(text[: column - 1]))
        return Problem(code, severity, message, hint, self.file, line, column, dotted(place), excerpt, caret)


def dotted(place: Place) -> str:
    """A place in words, as in `providers[0].api_secret`."""
    written = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return written.removeprefix(".")


def masked(line: str) -> str:
    """Masks a line of the file for a terminal or a ticket: literal secrets hidden, nothing unprintable."""
    clean = "".join(char if char.isprintable() else " " for char in line)
    hidden = _PRIVATE_TEXT.sub(lambda found: f"{found['name']}{found['quote']}{_MASK}", clean)
    return _USERINFO.sub(_MASK, hidden)


def _unreadable(line: str) -> str:
    """Masks a line that could not be parsed, and so may be part of a pasted key."""
    return re.sub(r"[A-Za-z0-9+/=_-]{40,}", _MASK, masked(line))


def read_document(path: Path) -> Document:
    """Reads and composes the file. OSError passes through."""
    with path.open("rb") as file:
        raw = file.read(LARGEST_FILE + 1)
    document = Document(str(path), [])
    if len(raw) > LARGEST_FILE:
        document.problems.append(document.at(1, 1, "C100", (), f"the file is larger than {LARGEST_FILE // 1024} KiB"))
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        document.problems.append(document.at(line, 1, "C100", (), "the file is not UTF-8 text"))
        return document
    document.lines = re.split(r"\r\n|\n|\r|\x85|\u2028|\u2029", text)
    _compose(document, text)
    return document


def _compose(document: Document, text: str) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # legal YAML, and the warning would print the lines as they are
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as problem:
        mark = _culprit(problem)
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        document.problems.append(
            document.at(line, column, "C100", (), "this is not valid YAML", _yaml_hint(document, problem))
        )
        return
    except ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        document.problems.append(document.at(line, 1, "C100", (), "a character that YAML does not allow"))
        return
    except (YAMLError, ValueError, RecursionError):
        document.problems.append(document.at(1, 1, "C100", (), "this is not valid YAML"))
        return
    if not isinstance(root, MappingNode):
        document.problems.append(
            document.at(1, 1, "C100", (), "the file must be a mapping of keys", "see config/archiver.example.yaml")
        )
        return
    _Builder(document).build(root)


class _Builder:
    """Turns nodes into plain values and notes their places."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def build(self, root: MappingNode) -> None:
        self._document.marks[()] = Mark(_start(root), _start(root))
        try:
            self._document.value = self._mapping(root, ())
        except (_TooMuchError, RecursionError):
            message = "the file is too deep, its aliases expand too far, or too much is wrong with it"
            self._document.problems.append(self._document.at(1, 1, "C100", (), message))

    def _value(self, node: Node, place: Place) -> Written:
        self._count(place)
        if node.tag not in _PLAIN_TAGS:
            self._refuse(node, place, "tags are not known here", "remove it, or quote the value if the ! belongs to it")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, place)
        if isinstance(node, SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self._document.marks[*place, index] = Mark(_start(item), _start(item))
                items.append(self._value(item, (*place, index)))
            return items
        if isinstance(node, ScalarNode) and not node.tag.endswith(":null"):
            return str(node.value)
        return None

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Written]:
        values: dict[str, Written] = {}
        first: dict[str, int] = {}
        for key, node_of_value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key, ScalarNode):
                self._refuse(key, place, "a key must be plain text", "quote it if it begins with { or [")
                continue
            name = str(key.value)
            if name in first:
                message, hint = f"key {quoted(name)} is here twice", f"first on line {first[name]}"
                self._add(self._document.at(*_start(key), "C105", (*place, name), message, hint))
                continue
            first[name] = _start(key)[0]
            self._document.marks[*place, name] = Mark(_start(key), _start(node_of_value))
            value = self._value(node_of_value, (*place, name))
            if value is not None:
                values[name] = value
        for merged in self._merged(node, place):
            values = {**merged, **values}
        return values

    def _merged(self, node: MappingNode, place: Place) -> list[dict[str, Written]]:
        """The mappings that `<<` merges in. The first of several wins; the keys written beside `<<` win over all of
        them."""
        found: list[dict[str, Written]] = []
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                continue
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                self._count(place)
                if isinstance(source, MappingNode):
                    own = dict(self._document.marks)
                    found.append(self._mapping(source, place))
                    self._document.marks.update(own)
                else:
                    self._refuse(source, place, "<< must name a mapping", "e.g.  <<: *common")
        return found

    def _count(self, place: Place) -> None:
        self._nodes += 1
        if self._nodes > _MOST_NODES or len(place) > _DEEPEST:
            raise _TooMuchError

    def _refuse(self, node: Node, place: Place, message: str, hint: str) -> None:
        self._add(self._document.at(*_start(node), "C100", place, message, hint))

    def _add(self, problem: Problem) -> None:
        self._document.problems.append(problem)
        if len(self._document.problems) >= _MOST_PROBLEMS:
            raise _TooMuchError


class _TooMuchError(Exception):
    """The tree is deeper or larger than any configuration."""


def _start(node: Node) -> tuple[int, int]:
    mark: StringMark = node.start_mark
    return mark.line + 1, mark.column + 1


def _culprit(problem: MarkedYAMLError) -> StringMark | None:
    """The place of the mistake: for a quote that is never closed, its beginning and not the end of the file."""
    unclosed = problem.problem == "found unexpected end of stream"
    mark: StringMark | None = problem.context_mark if unclosed else problem.problem_mark
    return mark or problem.context_mark


def _yaml_hint(document: Document, problem: MarkedYAMLError) -> str:
    mark = _culprit(problem)
    line = document.lines[mark.line] if mark is not None and mark.line < len(document.lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in str(problem.problem):
        return "indent with spaces, not tabs"
    if "alias" in str(problem.problem):
        return "there is no anchor of this name; quote the value if the * belongs to it"
    return str(problem.problem or problem.context or "")[:120]


def within(value: Written, *place: str | int) -> Written:
    """The value at `place` below `value`, or None where nothing is written."""
    for part in place:
        if isinstance(value, Mapping) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value
