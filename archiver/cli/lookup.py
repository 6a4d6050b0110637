"""Looks up what a person names on a command line, in the configuration, in the journal and in the custody events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archiver import errors

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.database import Connection


def known_provider(conn: Connection, config: Config, name: str | None) -> None:
    """Raise `NotFoundError` for a provider that is neither configured nor known to the journal; None passes."""
    from archiver.config.suggest import did_you_mean
    from archiver.ingest import queries

    configured = [each.id for each in config.providers]
    if name is None or name in configured or queries.knows(conn, name):
        return
    hint = did_you_mean(name, configured) or f"there are: {', '.join(configured)}"
    raise errors.NotFoundError(f"no provider is called {name[:80]!r}; {hint}")


def resolve(conn: Connection, wanted: str) -> str:
    """Return our id of the one recording that `wanted` names.

    Raises `NotFoundError` when there is none, `UsageError` with the candidates when there are several.
    """
    from archiver.ingest import search

    found = search.find(conn, wanted) if wanted else []
    if wanted in found:
        return wanted
    if len(found) == 1:
        return found[0]
    if not found:
        raise errors.NotFoundError(f"no recording is called {wanted[:80]!r}")
    shown = ", ".join(found[:10]) + (", …" if len(found) > 10 else "")
    raise click.UsageError(f"{wanted[:80]!r} may be any of {len(found)} recordings; give more of the id: {shown}")


def proved_digest(conn: Connection, config: Config, recording_id: str) -> str | None:
    """Return the plaintext digest that a recording's signed events state. Raises `VerificationError` for a broken
    chain."""
    from archiver.assembly.keys import hosts
    from archiver.custody import history
    from archiver.custody.chain import check_chain, enrolled_writers
    from archiver.custody.event import ARCHIVE, Type, parse

    subject, trusted = f"rec:{recording_id}", hosts(config)
    entries = history.entries(conn, subject)
    writers = enrolled_writers(history.entries(conn, ARCHIVE), trusted)
    if problems := check_chain(subject, entries, writers, trusted, history.head(conn, subject)):
        raise errors.VerificationError(f"chain of custody, event {problems[0].seq}: {problems[0].detail}")
    digest = None
    for event in (parse(each.raw) for each in entries):
        # An adopted recording shares an object that another recording's events seal; its own events state the digest.
        if event.type == Type.SEALED or (event.type == Type.DOWNLOADED and "same_content_as" in event.data):
            digest = event.data.get("pt_sha256")
    return digest if isinstance(digest, str) else None
