"""Loads a file into a `Config`, or into the list of all its mistakes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from archiver.config.document import Document, Place, read_document
from archiver.config.explain import explain, written_at
from archiver.config.model import Config
from archiver.config.problem import InvalidConfigurationError, Problem, Severity
from archiver.config.secrets import SecretRef
from archiver.config.section import Context, Section
from archiver.config.sense import doubts
from archiver.config.warn import warnings
from archiver.errors import ConfigurationError

_MOST_ERRORS: Final = 200


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of reading a file. `config` is None exactly when there are errors."""

    path: Path
    document: Document
    config: Config | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(each for each in self.problems if each.severity is Severity.ERROR)


def load(path: Path, *, resolve_secrets: bool) -> Config:
    """Loads the configuration. Raises `InvalidConfigurationError` with all problems found; warnings alone are ignored.

    With `resolve_secrets`, every reference is tried, so that a missing secret stops the start and not the first poll.
    """
    loaded = read(path, resolve_secrets=resolve_secrets)
    if loaded.config is None:
        raise InvalidConfigurationError(loaded.problems)
    return loaded.config


def read(path: Path, *, resolve_secrets: bool, now: datetime | None = None) -> Loaded:
    """Reads the file with all its errors and warnings; with `now`, its dates are judged too.

    Raises `ConfigurationError` only when the file cannot be read.
    """
    try:
        document = read_document(path)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "not a path"
        raise ConfigurationError(f"{path} cannot be read: {reason}") from problem
    if document.problems:
        return Loaded(path, document, None, tuple(document.problems))
    found = list(warnings(document))
    try:
        context = Context(path.absolute().parent, resolve_secrets)
        config = Config.model_validate(document.value, context=context)
    except ValidationError as problem:
        # Only place and type of an error, and this project's own words, are used: pydantic's texts may contain the
        # values.
        every = problem.errors(include_url=False, include_input=False)[:_MOST_ERRORS]
        errors = [explain(document, error) for error in every]
        return Loaded(path, document, None, tuple(dict.fromkeys([*errors, *found])))
    if resolve_secrets:
        found += _doubts(document, config)
    for each in doubts(config, now):
        place = written_at(document, each.place)
        found.append(document.problem(each.code, place, each.message, each.hint, severity=each.severity))
    wrong = any(each.severity is Severity.ERROR for each in found)
    return Loaded(path, document, None if wrong else config, tuple(dict.fromkeys(found)))


def find(explicit: Path | None = None) -> Path:
    """Finds the configuration: the `explicit` path, `$ARCHIVER_CONFIG`, or the first usual place that has a file.

    Raises `ConfigurationError` when there is none.
    """
    named = explicit or (Path(value) if (value := os.environ.get("ARCHIVER_CONFIG")) else None)
    if named is not None:
        return named
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (Path("archiver.yaml"), home / "archiver" / "archiver.yaml", Path("/etc/archiver/archiver.yaml"))
    found = next((each for each in places if each.is_file()), None)
    if found is None:
        looked = ", ".join(map(str, places))
        raise ConfigurationError(f"there is none at {looked}; name one with -c, or make one with: archiver init")
    return found


def references(value: object, place: Place = ()) -> Iterator[tuple[Place, SecretRef]]:
    """Yields every reference in a configuration or in a part of one, with its place."""
    if isinstance(value, SecretRef):
        yield place, value
    elif isinstance(value, Section):
        for name, below in value:
            yield from references(below, (*place, name))
    elif isinstance(value, tuple):
        for index, below in enumerate(value):
            yield from references(below, (*place, index))


def _doubts(document: Document, config: Config) -> Iterator[Problem]:
    for place, ref in references(config):
        doubt = ref.doubt()
        if doubt:
            yield document.problem("C209", written_at(document, place), doubt, severity=Severity.WARNING)
