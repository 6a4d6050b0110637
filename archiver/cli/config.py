"""`archiver config`: shows the configuration in effect, and the schema of the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from archiver.cli.options import Options
from archiver.cli.output import emit, table
from archiver.recording import Json

if TYPE_CHECKING:
    from archiver.config.document import Document, Place


@click.group()
def config() -> None:
    """Show the effective config, its schema."""


@config.command()
@click.pass_obj
def show(options: Options) -> None:
    """Every value in effect and where it comes from. Secrets show as their references."""
    from archiver.config.load import find, read
    from archiver.config.problem import InvalidConfigurationError

    loaded = read(find(options.config), resolve_secrets=False)
    if loaded.config is None:
        raise InvalidConfigurationError(loaded.problems)
    from archiver.config.reference import plain

    rows = list(_values(loaded.document, plain(loaded.config), ()))
    data: Json = [{"path": path, "value": value, "origin": origin} for path, value, origin in rows]
    emit(
        options,
        "archiver.config/v1",
        data,
        lambda: table(("key", "value", "from"), [tuple(map(_plain, row)) for row in rows]),
    )


@config.command()
def schema() -> None:
    """JSON Schema of the file, for editors."""
    from archiver.config.reference import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def _values(document: Document, value: Json, place: Place) -> Iterator[tuple[str, Json, str]]:
    """Yield path, value and origin of everything below `value`, in the order of the model."""
    from archiver.config.document import dotted, within
    from archiver.config.explain import written_at

    written = written_at(document, place)
    mark = document.marks.get(written)
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if below:
        for step, inner in below:
            yield from _values(document, inner, (*place, step))
        return
    if below is not None:
        short = within(document.value, *written)
        if not isinstance(short, str):
            return
        value = short
    origin = f"{document.file}:{mark.key[0]}" if mark is not None else "default"
    yield dotted(place), value, origin


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
