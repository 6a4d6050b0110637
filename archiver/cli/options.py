"""The options that every command understands, before or after its name."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archiver.clock import Clock, SystemClock

if TYPE_CHECKING:
    from archiver.config.model import Config


@dataclass(slots=True)
class Options:
    """The values of the shared options, and the clock that commands read; the object of every click context."""

    config: Path | None = None
    output: str = "text"
    color: bool = not os.environ.get("NO_COLOR")
    quiet: bool = False
    verbose: int = 0
    yes: bool = False
    reason: str | None = None
    actor: str | None = None
    clock: Clock = field(default_factory=SystemClock)

    def load(self, *, resolve_secrets: bool = True) -> Config:
        """Load the configuration that was asked for, or the usual one. Raises `ConfigurationError`.

        From then on warnings go to standard error, in the configured format, unless a command sets it otherwise:
        standard output is for data.
        """
        from archiver import logs
        from archiver.config.load import find, load

        config = load(find(self.config), resolve_secrets=resolve_secrets)
        logs.configure(config.logging.format, "error" if self.quiet else "warning", sys.stderr)
        return config


def shared_options(*, hidden: bool = False) -> list[click.Parameter]:
    """Return fresh option objects; hidden ones work all the same."""

    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(list(names), callback=_remember, expose_value=False, hidden=hidden, **settings)

    return [
        option("-c", "--config", type=click.Path(path_type=Path, readable=False), help="Configuration file."),
        option(
            "-o",
            "--output",
            type=click.Choice(["text", "json", "jsonl"]),
            help="Form of the output; json is versioned.",
        ),
        option(
            "--no-color", "color", is_flag=True, flag_value=False, default=None, help="Plain text, as with NO_COLOR."
        ),
        option("-q", "--quiet", is_flag=True, default=None, help="No progress, no notes."),
        option("-v", "--verbose", count=True, default=None, help="More detail; twice for debugging."),
        option("--yes", is_flag=True, default=None, help="Answer every question with yes."),
        option("--reason", help="Why; written into the chain of custody."),
        option("--actor", help="Who; written into the chain of custody. Default: the user of this machine."),
    ]


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> object:
    given = ctx.get_parameter_source(param.name or "") is click.core.ParameterSource.COMMANDLINE
    if given and param.name is not None:
        setattr(ctx.ensure_object(Options), param.name, value)
    return value
