"""Finds providers that the journal knows and the configuration leaves out, where the database can be read cheaply."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.config.problem import Severity
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from archiver.config.load import Loaded
    from archiver.config.model import Config
    from archiver.config.problem import Problem
    from archiver.database import Connection


def unasked(loaded: Loaded, *, online: bool) -> list[Problem]:
    """Return a warning, `C231`, for each provider in the journal and not in the configuration, if its recordings wait.

    A provider is also warned of if a new one without recordings is configured for the same account: then it was
    renamed. A database on this host is read; a server is asked with `online` alone. A database that cannot be read
    gives no warning.
    """
    from archiver.assembly.database import database
    from archiver.database import check_schema, reading

    if loaded.config is None:
        return []
    try:
        with database(loaded.config, checked=False) as engine:
            here = engine.dialect.name == "sqlite"
            if not (online or here) or (here and not Path(str(engine.url.database)).is_file()):
                return []
            check_schema(engine)
            with reading(engine) as conn:
                said = [*_told(conn, loaded.config)]
    except ArchiverError:
        return []
    warning = Severity.WARNING
    return [loaded.document.problem("C231", ("providers",), what, hint, severity=warning) for what, hint in said]


def _told(conn: Connection, config: Config) -> Iterator[tuple[str, str]]:
    from archiver.assembly.providers import accounts
    from archiver.ingest.provider_names import accounts_of, strangers

    fresh = [each for each in config.providers if not accounts_of(conn, each.id)]
    for each in strangers(conn, [known.id for known in config.providers]):
        owners = accounts_of(conn, each.provider)
        new = next((settings.id for settings in fresh if accounts(settings) & owners), None)
        if not each.pending and new is None:
            continue  # removed on purpose, and none of its recordings is missing
        waiting = f", {each.pending} of them not archived yet" if each.pending else ""
        first = f"; the first is deleted there at {each.nearest:%Y-%m-%d %H:%M} UTC" if each.nearest else ""
        yield (
            f"{each.provider} is not configured, and {each.recordings} recording(s) of it are known{waiting}{first}",
            f"is it {new} now? then everything is listed and stored again: archiver providers rename {each.provider} {new}"
            if new
            else f"if it only has another name now: archiver providers rename {each.provider} NEW",
        )
