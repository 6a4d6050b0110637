"""`archiver completion`: prints a script for the shell's completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script by which a shell completes commands and options.

    \b
    In ~/.bashrc:                    eval "$(archiver completion bash)"
    In ~/.zshrc:                     eval "$(archiver completion zsh)"
    In ~/.config/fish/config.fish:   archiver completion fish | source
    """
    found = get_completion_class(shell)
    assert found is not None  # click knows all three
    click.echo(found(ctx.find_root().command, {}, "archiver", "_ARCHIVER_COMPLETE").source())
