"""`archiver check`: finds every fault of a configuration that can be known before the daemon starts."""

from __future__ import annotations

import click

from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.errors import Exit
from archiver.recording import Json


@click.command()
@click.option("--fail-on-warning", is_flag=True, help="Treat warnings as errors.")
@click.option(
    "--online",
    is_flag=True,
    help="Also ask database, providers, storages (lock canaries), time stamps, witnesses; reach alert channels.",
)
@click.pass_obj
def check(options: Options, fail_on_warning: bool, online: bool) -> int:
    """Validate the config, its secrets, keys and certificates. Run it as the user that the daemon runs as.

    Exit 78 when the config is wrong, 69 when something asked with --online does not work or a storage does not keep its
    lock.
    """
    from archiver.cli.journal import unasked
    from archiver.cli.material import doubts
    from archiver.config.load import find, read
    from archiver.config.problem import Severity, render

    loaded = read(find(options.config), resolve_secrets=True, now=options.clock.now())
    problems = [*loaded.problems, *doubts(loaded, options.clock), *unasked(loaded, online=online)]
    failed = [each for each in problems if fail_on_warning or each.severity is Severity.ERROR]
    if failed or not online or loaded.config is None:
        emit(options, "archiver.check/v1", [each.as_json() for each in problems], lambda: render(problems))
        return Exit.CONFIGURATION if failed else Exit.OK
    from archiver.cli.online import ask

    answers = ask(loaded.config)
    shown: list[Json] = [*(each.as_json() for each in problems), *(each.as_json() for each in answers)]
    emit(options, "archiver.check/v1", shown, lambda: "\n".join([render(problems), *(each.line() for each in answers)]))
    return Exit.OK if all(each.ok or each.warning for each in answers) else Exit.UNAVAILABLE
