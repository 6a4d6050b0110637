"""The base class of every section of the configuration: strict, immutable, and reporting all mistakes at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, model_validator
from pydantic_core import InitErrorDetails

from archiver.config.values import quoted, refused


@dataclass(frozen=True, slots=True)
class Context:
    """The context of a validation. `base`: the folder that relative paths start from; `resolve`: secrets are read
    too."""

    base: Path = Path()
    resolve: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """A mistake between keys that are each right by themselves. `at` is the key to change, () the section itself."""

    at: tuple[str | int, ...]
    code: str
    message: str
    hint: str = ""


class Section(BaseModel):
    """One mapping of the configuration. Unknown keys are errors; values never change.

    The text below a key says what the key means; `reference` reads it when somebody asks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def shorthand(cls, given: Any) -> Any:
        """The mapping that a short form stands for."""
        return given

    @classmethod
    def conflicts(cls, _given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yields the mistakes between keys as they are written, independent of mistakes within each key."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _everything_at_once(cls, given: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        # An ordinary "after" validator would stay silent until every single key is right.
        given = cls.shorthand(given)
        found = list(cls.conflicts(given)) if isinstance(given, Mapping) else []
        if not found:
            result: Self = handler(given)
            return result
        errors = [
            InitErrorDetails(type=refused(each.code, each.message, each.hint), loc=each.at, input=None)
            for each in found
        ]
        try:
            handler(given)
        except ValidationError as problem:
            errors += [_again(each) for each in problem.errors(include_url=False)]
        raise ValidationError.from_exception_data(cls.__name__, errors)


def _again(error: Any) -> InitErrorDetails:
    kind: Any = error["type"]
    if re.fullmatch(r"C\d{3}", kind):
        kind = refused(kind, **error["ctx"])
    return InitErrorDetails(type=kind, loc=error["loc"], input=None, ctx=error.get("ctx", {}))


def mappings(given: Mapping[str, Any], key: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The mappings in the list under `key`, with their indexes."""
    listed = given.get(key)
    if not isinstance(listed, list | tuple):
        return []
    return [(index, each) for index, each in enumerate(listed) if isinstance(each, Mapping)]


def none(given: Mapping[str, Any], key: str) -> Iterator[Conflict]:
    """Yields a conflict if the list under `key` is empty."""
    # `min_length` would not do: pydantic counts only the valid items, and would call a list of mistakes empty.
    if given.get(key) in ([], (), {}):
        yield Conflict((key,), "C102", f"'{key}' is empty", "at least one is needed")


def twice(given: Mapping[str, Any], key: str, default: str | None = None) -> Iterator[Conflict]:
    """Yields a conflict for each item of the list under `key` whose id another item has."""
    seen = []
    for index, each in mappings(given, key):
        name = each.get("id", default)
        if name is not None and name in seen:
            at = (key, index, "id") if "id" in each else (key, index)
            yield Conflict(at, "C130", f"two of {key} have the id {quoted(name)}", "give each its own")
        seen.append(name)


def exactly_one(given: Mapping[str, Any], *names: str) -> Iterator[Conflict]:
    """Yields a conflict unless exactly one of these keys is given."""
    present = [name for name in names if name in given]
    for name in present[1:]:
        yield Conflict((name,), "C130", f"'{name}' and '{present[0]}' exclude one another", "state one of them")
    if not present:
        yield Conflict((), "C102", f"missing key: one of {', '.join(names)}")
