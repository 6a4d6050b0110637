"""Translates pydantic's errors into problems of the file: place, code, message, and a guess at the intended value.

Only an error's type, place and expected values are used, never its own text: pydantic's texts may repeat the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from archiver.config.document import Document, Place, dotted, within
from archiver.config.problem import Problem
from archiver.config.reference import Key, Part, Pattern, parts
from archiver.config.suggest import closest, did_you_mean
from archiver.config.values import quoted

_NOTES: Final = {
    "compliance": "(cannot be shortened by anyone, root account included)",
    "governance": "(can be shortened by those with a special right)",
}
_WANTED: Final = {"tuple_type": "a list", "model_type": "a mapping", "model_attributes_type": "a mapping"}


def explain(document: Document, error: Mapping[str, Any]) -> Problem:
    """The problem that one error of a `ValidationError` stands for."""
    loc: Place = error["loc"]
    kind, context = str(error["type"]), error.get("ctx", {})
    place = written_at(document, loc)
    pattern = tuple("*" if isinstance(step, int) else step for step in loc)
    if kind == "C101":
        return document.problem(kind, place, context["message"], context["hint"], at_key=True)
    if re.fullmatch(r"C\d{3}", kind):
        hint = _fix(document, place) if kind == "C110" and not context["hint"] else context["hint"]
        return document.problem(kind, place, context["message"], hint, at_key=kind == "C102")
    if kind == "extra_forbidden":
        return _unknown(document, place, pattern)
    if kind == "missing":
        key = _key(pattern)
        hint = key.meaning.split(". ")[0] if key is not None else ""
        return document.problem("C102", place[:-1], f"missing key '{place[-1]}'", hint, at_key=True)
    if kind == "union_tag_not_found":
        return document.problem("C102", place, "missing key 'kind'", _one_of(_choices(context)), at_key=True)
    if kind in {"union_tag_invalid", "literal_error", "enum"}:
        return _not_one_of(document, place, pattern, _choices(context))
    name = place[-1] if place else "the file"
    return document.problem(
        "C104", place, f"'{name}' is not {_WANTED.get(kind, 'right')}", "see the example configuration"
    )


def written_at(document: Document, loc: Place) -> Place:
    """Converts a place in the model to a place in the file: without kinds of unions, or the index of a single
    storage."""
    place: Place = ()
    for step in loc:
        around = within(document.value, *place)
        kind_of_union = isinstance(around, Mapping) and step == around.get("kind") and step not in around
        if kind_of_union or (isinstance(step, int) and isinstance(around, Mapping)):
            continue
        place = (*place, step)
    return place


@cache
def _parts() -> Mapping[Pattern, Part]:
    return {part.pattern: part for part in parts()}


def _key(pattern: Pattern) -> Key | None:
    part = _parts().get(pattern[:-1])
    return next((key for key in part.keys if key.name == pattern[-1]), None) if part is not None else None


def _unknown(document: Document, place: Place, pattern: Pattern) -> Problem:
    name = str(place[-1])
    part = _parts().get(pattern[:-1])
    present = within(document.value, *place[:-1])
    known = (
        [key.name for key in part.keys if not isinstance(present, Mapping) or key.name not in present] if part else []
    )
    hint = did_you_mean(name, known) or _elsewhere(name) or f"keys here: {' '.join(known)}"[:160]
    return document.problem("C101", place, f"unknown key {quoted(name)}", hint, at_key=True)


def _elsewhere(name: str) -> str:
    homes = [part.pattern for part in _parts().values() if any(key.name == name for key in part.keys)]
    if not homes:
        return ""
    home = min(homes, key=len)
    return (
        f"it belongs under {dotted(home).replace('.*', '[]')}" if home else "it belongs at the top, without indentation"
    )


def _not_one_of(document: Document, place: Place, pattern: Pattern, choices: list[str]) -> Problem:
    if pattern[-1] == "*":
        # The mistake is in the key `kind` of a union's member, but pydantic names the member itself.
        place, owner = (*place, "kind"), _key(pattern[:-1])
        what = f"{owner.field.title} kind" if owner is not None else "kind"
    else:
        key = _key(pattern)
        what = (key.field.title if key is not None else None) or str(pattern[-1]).replace("_", " ")
    value = within(document.value, *place)
    meant = closest(value, choices) if isinstance(value, str) else None
    hint = did_you_mean(value, choices) if isinstance(value, str) else ""
    hint = f"{hint}  {_NOTES.get(meant or '', _one_of(choices))}".strip()
    shown = quoted(value) if isinstance(value, str) else "this"
    return document.problem("C103", place, f"{shown} is not a {what}", hint)


def _choices(context: Mapping[str, Any]) -> list[str]:
    expected = str(context.get("expected") or context.get("expected_tags") or "")
    return re.findall(r"'([^']*)'", expected) or [expected]


def _one_of(choices: list[str]) -> str:
    return f"one of: {' '.join(choices)}"


def _fix(document: Document, place: Place) -> str:
    key = str(place[-1])
    owner = within(document.value, *place[:-1], "id")
    prefix = f"{owner}_" if isinstance(owner, str) and re.fullmatch(r"[a-z0-9-]{1,41}", owner) else ""
    path = f"/etc/archiver/secrets/{prefix}{key}"
    return f"fix: echo -n … > {path} (0400), then  {key}: file:{path}"
