"""Looks up names that a person gives on a command line, in the configuration and in the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archiver import errors

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.database import Connection


def known_provider(conn: Connection, config: Config, name: str | None) -> None:
    """Raise `NotFoundError` for a provider that is neither configured nor known to the journal; None passes."""
    from archiver.config.suggest import did_you_mean
    from archiver.ingest import survey

    configured = [each.id for each in config.providers]
    if name is None or name in configured or survey.knows(conn, name):
        return
    hint = did_you_mean(name, configured) or f"there are: {', '.join(configured)}"
    raise errors.NotFoundError(f"no provider is called {name[:80]!r}; {hint}")
