"""`archiver check`: everything about a configuration that can be known before the daemon starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.errors import ArchiverError, Exit
from archiver.recording import Json

if TYPE_CHECKING:
    from archiver.config.load import Loaded
    from archiver.config.problem import Problem


@click.command()
@click.option("--fail-on-warning", is_flag=True, help="Treat warnings as errors.")
@click.option("--online", is_flag=True, help="Also ask the providers, the storages (lock canaries) and the database.")
@click.pass_obj
def check(options: Options, fail_on_warning: bool, online: bool) -> int:
    """Validate the config, its secrets and its keys. Run it as the user that the daemon runs as.

    Exit 78 when the config is wrong, 69 when something asked with --online does not work or a storage does not keep its lock.
    """
    from archiver.config.load import find, read
    from archiver.config.problem import Severity, render

    loaded = read(find(options.config), resolve_secrets=True)
    problems = [*loaded.problems, *_keys(loaded)]
    failed = [each for each in problems if fail_on_warning or each.severity is Severity.ERROR]
    if failed or not online or loaded.config is None:
        emit(options, "archiver.check/v1", [each.as_json() for each in problems], lambda: render(problems))
        return Exit.CONFIGURATION if failed else Exit.OK
    from archiver.cli.online import ask

    answers = ask(loaded.config)
    shown: list[Json] = [*(each.as_json() for each in problems), *(each.as_json() for each in answers)]
    emit(options, "archiver.check/v1", shown, lambda: "\n".join([render(problems), *(each.line() for each in answers)]))
    return Exit.OK if all(each.ok or each.warning for each in answers) else Exit.UNAVAILABLE


def _keys(loaded: Loaded) -> Iterator[Problem]:
    """Keys that are where the configuration says, but are not keys."""
    if loaded.config is None:
        return
    from archiver.config.load import references
    from archiver.custody.keys import load_signing_key
    from archiver.seal.recipients import load_identity, load_recipient

    kinds = {each.id: each.kind for each in loaded.config.encryption.recipients}
    for place, ref in references(loaded.config):
        try:
            material = ref.resolve().reveal().encode()
            match place:
                case ("custody", "signing_key"):
                    load_signing_key(material)
                case ("encryption", "recipients", int(index), "public_key" | "key"):
                    recipient = loaded.config.encryption.recipients[index]
                    load_recipient(recipient.id, recipient.kind, material)
                case ("encryption", "identities", int(index), "private_key" | "key"):
                    identity = loaded.config.encryption.identities[index]
                    load_identity(identity.id, kinds[identity.id], material)
        except ArchiverError as problem:
            yield loaded.document.problem("C112", place, problem.detail, "archiver init makes good keys")
