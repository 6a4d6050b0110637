"""Pages of the reference that are made from the program: `python -m tests.docs.generated` writes them anew."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from archiver.cli import COMMANDS, archiver
from archiver.status.metrics import Metrics

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
_COMMAND_LINE = """\
# Command line

<!-- Generated: python -m tests.docs.generated -->

`archiver [OPTIONS] COMMAND …`. These options are understood before and after each command; exit codes are in the
[README](../../README.md#exit-codes).
"""
_METRICS = """\
# Metrics

<!-- Generated: python -m tests.docs.generated -->

Served at `/metrics` in Prometheus' text format. Labels are names from the configuration, states and outcomes; never a number,
an agent or a recording. Alert rules: [alerts.yml](../../config/prometheus/alerts.yml).

| metric | type | labels | meaning |
|---|---|---|---|"""


def command_line() -> str:
    """docs/reference/command-line.md: each command with its arguments and options."""
    written = [_COMMAND_LINE, "\n".join(_options(archiver, hidden=False)) + "\n"]
    with click.Context(archiver, info_name="archiver") as ctx:
        for name in sorted(COMMANDS):
            command = archiver.get_command(ctx, name)
            assert command is not None
            written += _command(command, ctx, name)
    return "\n".join(written)


def metrics() -> str:
    """docs/reference/metrics.md: each metric with its kind, labels and meaning."""
    rows = []
    for each in Metrics("0").registry._collector_to_names:
        (family,) = each.describe() if hasattr(each, "describe") else ()
        labels = ", ".join(f"`{name}`" for name in each._labelnames) or "–"
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join([_METRICS, *sorted(rows), ""])


PAGES = {"command-line.md": command_line, "metrics.md": metrics}


def _command(command: click.Command, above: click.Context, name: str) -> Iterator[str]:
    with click.Context(command, info_name=name, parent=above) as ctx:
        if isinstance(command, click.Group):
            yield f"## archiver {name}\n\n{_prose(command)}\n"
            for below in sorted(command.commands):
                yield from _command(command.commands[below], ctx, below)
            return
        depth = "##" if above.command is archiver else "###"
        usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
        yield f"{depth} {ctx.command_path}\n\n```\n{usage}\n```\n\n{_prose(command)}\n"
        if options := list(_options(command, hidden=False)):
            yield "\n".join(options) + "\n"


def _options(command: click.Command, *, hidden: bool) -> Iterator[str]:
    head = ["| option | meaning |", "|---|---|"]
    for param in command.params:
        if not isinstance(param, click.Option) or param.hidden != hidden:
            continue
        with click.Context(command) as ctx:
            record = param.get_help_record(ctx)
        if record is not None:
            yield from head
            head = []
            names, meaning = (" ".join(each.split()).replace("|", "\\|") for each in record)
            yield f"| `{names}` | {meaning} |"


def _prose(command: click.Command) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    # Markdown, as the terminal does, breaks lines itself; \b keeps those of an example.
    return "\n\n".join(each.replace("\b\n", "") if "\b" in each else " ".join(each.split()) for each in paragraphs)


if __name__ == "__main__":
    for page, make in PAGES.items():
        (REFERENCE / page).write_text(make())
