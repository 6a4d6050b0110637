"""Who acts on a command line, and why."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from archiver.cli.options import Options
    from archiver.custody.person import Person
    from archiver.recording import Json

_LOGIN_UID = Path("/proc/self/loginuid")
_UNSET = 2**32 - 1
_CLAIMS = {"user": "USER", "logname": "LOGNAME", "sudo_user": "SUDO_USER", "sudo_uid": "SUDO_UID"}


def acting(options: Options, environment: Mapping[str, str] | None = None, login_uid: Path = _LOGIN_UID) -> Person:
    """Who runs this command: the account by the system's word, everything else as claims."""
    from archiver.custody.person import Person

    environment = os.environ if environment is None else environment
    uid, login = os.getuid(), _login(login_uid)
    account = _account(uid)
    said = {"actor": options.actor} | {name: environment.get(variable) for name, variable in _CLAIMS.items()}
    claimed = {name: _text(value) for name, value in said.items() if value and value != account}
    return Person(uid, account, login, None if login is None else _account(login), claimed)


def reason(options: Options, what: str) -> str:
    """Why, as `--reason` says. Raises `UsageError`, with exit code 2, where nothing that can be kept was said."""
    if not (options.reason and options.reason.strip() and options.reason.isprintable()):
        raise click.UsageError(
            f"{what} needs --reason, one line that says why: it becomes part of the chain of custody"
        )
    return options.reason


def person_of(options: Options) -> dict[str, Json]:
    """The private group that says who gave this command and why."""
    return acting(options).group(_text(options.reason or ""))


def _login(file: Path) -> int | None:
    """The id under which somebody logged in, which root alone can change; None where the kernel keeps none."""
    try:
        found = int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None
    return None if found == _UNSET else found


def _account(uid: int) -> str | None:
    try:
        return _text(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return None


def _text(value: str) -> str:
    """As events can keep it: what an environment holds need not be UTF-8, nor be printable."""
    readable = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "\ufffd" for each in readable)[:200]
