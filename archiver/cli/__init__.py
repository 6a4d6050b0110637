"""The command line: one file per noun, loaded only when it is used, so that help and version answer at once."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import Any, Final

import click

from archiver import __version__, errors
from archiver.cli.options import Options, shared_options
from archiver.leaving import REST, LastResort

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("archiver.cli.init:init", "Write a commented config, create keys and database; never overwrites."),
    "check": ("archiver.cli.check:check", "Validate the config; --online also providers, storages, database."),
    "run": ("archiver.cli.run:run", "Run the daemon in the foreground, or one sweep with --once."),
    "status": ("archiver.cli.status:status", "Show the deadline runway; --check turns it into an exit code."),
    "recordings": ("archiver.cli.recordings:recordings", "List, show, decrypt (with a reason) or retry recordings."),
    "access": ("archiver.cli.access:access", "Show who heard or exported which recording, when, and why."),
    "gaps": ("archiver.cli.gaps:gaps", "Show what is missing and what was never looked at."),
    "reconcile": (
        "archiver.cli.reconcile:reconcile",
        "Compare listings, journal, storages and custody; say what is missing.",
    ),
    "verify": ("archiver.cli.verify:verify", "Re-hash objects, open them, check locks and custody chains."),
    "export": ("archiver.cli.export:export", "Hand over recordings with everything that proves them."),
    "witness": ("archiver.cli.witness:witness", "Cosign another archive's checkpoints, as its witness."),
    "custody": ("archiver.cli.custody:custody", "Read the log of custody events, prove from it, check it, recover it."),
    "keys": ("archiver.cli.keys:keys", "Show the keys that sign the custody log, replace one."),
    "rebuild": ("archiver.cli.rebuild:rebuild", "Make journal and ledger anew from the storages and the keys."),
    "providers": ("archiver.cli.providers:providers", "List providers, test one, rename one."),
    "alerts": ("archiver.cli.alerts:alerts", "Show what is being told to whom, try the channels."),
    "config": ("archiver.cli.config:config", "Show the effective config, its schema."),
    "db": ("archiver.cli.db:db", "Create or upgrade the database."),
    "doctor": ("archiver.cli.doctor:doctor", "Diagnose the environment."),
    "healthcheck": (
        "archiver.cli.healthcheck:healthcheck",
        "Ask the running daemon whether it is alive, for containers.",
    ),
    "completion": ("archiver.cli.completion:completion", "Print what makes a shell complete commands and options."),
    "version": ("archiver.cli.version:version", "Show the version."),
}
"""Commands by name: the place of the code, and the help text that needs no loading."""


class Lazy(click.Group):
    """A group whose commands are imported when they run. Shared options are understood before and after the command."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:
                return None
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        _share(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _share(command: click.Command) -> None:
    """Give a command, and all commands below it, the shared options whose names it does not use itself."""
    taken = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    command.params += [option for option in shared_options(hidden=True) if not taken & set(option.opts)]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            # A whole sentence in the list of commands: click would cut it at the width of one line.
            sentence = (below.help or "").partition("\n\n")[0].partition(". ")[0]
            below.short_help = below.short_help or " ".join(sentence.split()).rstrip(".") + "."
            _share(below)


@click.version_option(__version__, "-V", "--version", message="archiver %(version)s")
@click.command(cls=Lazy, params=shared_options(), context_settings={"help_option_names": ["-h", "--help"]})
def archiver() -> None:
    """Saves call recordings before the telephony provider deletes them: sealed, locked, and with a chain of custody."""


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with the code that `archiver.errors.Exit` gives its outcome, even while a storage
    hangs."""
    code = invoke(arguments)
    if sys.stdout is not None:
        _discard_output()  # before the time limit: a slow reader of the output is no hanging storage
    LastResort().leave_within(REST, code)
    sys.exit(code)


def invoke(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. Expected errors are told in one line, never as a traceback."""
    options = Options()
    try:
        outcome: Any = archiver.main(arguments, prog_name="archiver", standalone_mode=False, obj=options)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as problem:
        problem.show()
        return errors.Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("archiver: interrupted", err=True)
        return errors.Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has closed it; Python would complain once more while closing the stream.
        sys.stdout = None
        return errors.Exit.OK
    except errors.ArchiverError as problem:
        click.echo(f"archiver: {problem}", err=True)
        return problem.exit_code
    except OSError as problem:
        # A full disk, a file that may not be written: the operator must act, and a traceback does not help. -vv shows
        # it.
        if options.verbose > 1:
            raise
        click.echo(f"archiver: {problem.filename or 'input or output'}: {problem.strerror or problem}", err=True)
        _discard_output()
        return errors.Exit.UNEXPECTED
    except Exception as bug:  # noqa: BLE001  the last handler: a bug of ours ends the process and shows no secret
        from archiver.logs import last_words

        click.echo(f"archiver: this is a bug, please report it: {last_words(bug)}", err=True)
        return errors.Exit.UNEXPECTED
    return outcome if isinstance(outcome, int) else errors.Exit.OK


def _discard_output() -> None:
    """Discard output that could not be written: Python would complain of it once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    sys.stdout = None
