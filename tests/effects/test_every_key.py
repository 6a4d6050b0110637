"""Every key of the configuration has a test of its effect, named by `@pytest.mark.effect("key", …)`; one without fails here.

An effect is what a key does to the bucket, the database, the output or the requests sent, through the shipped command; that it is
read from the file is no effect. Keys that all providers share are named without a kind.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from archiver.config.document import read_document
from archiver.config.provider import Keeps, Provider
from archiver.config.reference import Part, Pattern, _sections, parts
from tests.config_files import EXAMPLE, ROOT

_KINDS = {"justcall", "kazoo", "vobiz", "plivo"}


def spelled(pattern: Pattern) -> str:
    """`providers[](plivo).original`, `providers[].overlap`, `storage[](s3).bucket`."""
    text = ""
    for step in pattern:
        text += "[]" if step == "*" else f"({step})" if text.endswith("[]") and _is_kind(step) else f".{step}"
    return text.removeprefix(".")


def _is_kind(step: str) -> bool:
    kinds = {each for part in parts() for each in part.pattern if part.pattern and "kind" in part.section.model_fields}
    return step in kinds and step not in {
        "providers",
        "storage",
        "recipients",
        "channels",
        "*",
        "encryption",
        "alerting",
    }


def shared(part: Part, name: str) -> Pattern:
    """Where a key stands, without the kind of provider where all of them have it."""
    pattern = part.pattern
    if pattern[:1] != ("providers",) or len(pattern) < 3:
        return (*pattern, name)
    common = (*pattern[:2], *pattern[3:], name)
    if len(pattern) == 3:
        return common if name in Provider.model_fields or name == "kind" else (*pattern, name)
    if pattern[3] == "retention":
        return common if name in Keeps.model_fields else (*pattern, name)
    return common if pattern[3] == "proxy" else (*pattern, name)


def model_keys() -> set[str]:
    """Every key that holds a value of its own; a section is covered by its keys."""
    return {
        spelled(shared(part, key.name))
        for part in parts()
        for key in part.keys
        if not any(True for _ in _sections(key.field.annotation))
    }


def example_keys() -> set[str]:
    """Every key that the example shows with a value of its own, spelled as the model's."""
    document = read_document(EXAMPLE)
    found = set()
    known = {part.pattern: part for part in parts()}

    def walk(value: object, pattern: Pattern) -> Iterator[tuple[Pattern, str]]:
        if isinstance(value, dict):
            kind = value.get("kind")
            here = (*pattern, kind) if isinstance(kind, str) and (*pattern, kind) in known else pattern
            for name, below in value.items():
                if isinstance(below, dict) or (
                    isinstance(below, list) and any(isinstance(each, dict) for each in below)
                ):
                    yield from walk(below, (*here, name))
                else:
                    yield here, name
        elif isinstance(value, list):
            for each in value:
                yield from walk(each, (*pattern, "*"))

    for pattern, name in walk(document.value, ()):
        if pattern in known:
            found.add(spelled(shared(known[pattern], name)))
    return found


def registered() -> dict[str, list[str]]:
    """Key → the tests that say that they show its effect."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for key in _marked(node):
                    found.setdefault(key, []).append(f"{file.relative_to(ROOT)}::{node.name}")
    return found


def _marked(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    calls = [
        each for decorator in function.decorator_list for each in ast.walk(decorator) if isinstance(each, ast.Call)
    ]
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "effect":
            for argument in call.args:
                assert isinstance(argument, ast.Constant), f"{function.name}: keys are written out"
                yield str(argument.value)


# A section's name, where it may be written as one value.
_SHORT = {"providers[].retention", "providers[](plivo).subaccounts", "providers[](plivo).subaccounts[]"}


def test_every_key_has_a_test_of_its_effect() -> None:
    assert sorted((model_keys() | example_keys()) - _SHORT - registered().keys()) == []


def test_every_registered_key_is_one() -> None:
    assert sorted(registered().keys() - model_keys() - example_keys()) == []


def test_no_test_of_parsing_counts_as_a_test_of_an_effect() -> None:
    places = {Path(place.partition("::")[0]).name for each in registered().values() for place in each}
    assert [name for name in places if name.startswith(("test_config", "test_cli_config"))] == []
