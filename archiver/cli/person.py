"""Finds the person who acts on a command line, and the reason."""

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
    """Return the person who runs this command: the account by the system's word, everything else as claims."""
    from archiver.custody.person import Person

    environment = os.environ if environment is None else environment
    uid, login = os.getuid(), _login(login_uid)
    account = _account(uid)
    said = {"actor": options.actor} | {name: environment.get(variable) for name, variable in _CLAIMS.items()}
    claimed = {name: _text(value) for name, value in said.items() if value and value != account}
    return Person(uid, account, login, None if login is None else _account(login), claimed)


def reason(options: Options, what: str) -> str:
    """Return the reason that `--reason` gives. Raises `UsageError`, with exit code 2, where it is missing or cannot be
    kept."""
    if not (options.reason and options.reason.strip() and options.reason.isprintable()):
        raise click.UsageError(
            f"{what} needs --reason, one line that says why: it becomes part of the chain of custody"
        )
    return options.reason


def person_of(options: Options) -> dict[str, Json]:
    """Return the private group that holds the person who gave this command, and the reason."""
    return acting(options).group(_text(options.reason or ""))


def _login(file: Path) -> int | None:
    """Return the id under which somebody logged in, which root alone can change; None where the kernel keeps none."""
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
    """Return a text as events can keep it: values from an environment need not be UTF-8, nor printable."""
    readable = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "\ufffd" for each in readable)[:200]
