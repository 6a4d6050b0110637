"""Prints the output of commands: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import click

from archiver.cli.options import Options
from archiver.clock import Clock
from archiver.instants import to_second
from archiver.recording import Json


def envelope(schema: str, data: Json, clock: Clock) -> dict[str, Json]:
    """Return the form of every JSON answer. `schema` is like `archiver.recordings/v1`; within a version `data` only
    grows."""
    return {"schema": schema, "generated_at": to_second(clock.now()), "data": data}


def emit(options: Options, schema: str, data: Json, text: Callable[[], str]) -> None:
    """Print `data` as JSON, as one JSON line for each item, or as `text()` for a person."""
    if options.output == "json":
        click.echo(json.dumps(envelope(schema, data, options.clock), ensure_ascii=False, indent=2))
    elif options.output == "jsonl":
        for line in [{"type": "item", "data": item} for item in data] if isinstance(data, list) else []:
            click.echo(json.dumps(line, ensure_ascii=False))
        summary: Json = {"count": len(data)} if isinstance(data, list) else data
        click.echo(json.dumps({"type": "summary", **envelope(schema, summary, options.clock)}, ensure_ascii=False))
    else:
        written = text()
        if written:
            click.echo(written)


def note(options: Options, text: str) -> None:
    """Print a remark for the person at the terminal."""
    if not options.quiet:
        click.echo(text, err=True)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return columns as wide as their widest cell; numbers to the right. Control characters become visible."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[index]) for row in [list(head), *cells]) for index in range(len(head))]
    right = [bool(rows) and all(isinstance(row[index], int | float) for row in rows) for index in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if num else cell.ljust(width) for cell, width, num in zip(row, widths, right, strict=True)
        )
        for row in [list(head), *cells]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    text = "–" if value is None else str(value)
    return "".join(char if char.isprintable() else "�" for char in text)
