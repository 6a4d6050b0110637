"""`archiver db`: creates and upgrades the database's schema, and shows its version."""

from __future__ import annotations

from pathlib import Path

import click

from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.errors import ConfigurationError, Exit, SchemaError
from archiver.recording import Json


@click.group()
def db() -> None:
    """Create and upgrade the database."""


@db.command()
@click.pass_obj
def upgrade(options: Options) -> int:
    """Bring the schema to this version's, under a lock. SQLite files are copied first."""
    from archiver import database
    from archiver.assembly import database as opened

    config = options.load(resolve_secrets=False)
    try:
        Path(config.state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigurationError(f"state_dir {config.state_dir} cannot be made: {problem.strerror}") from problem
    with opened.database(config, checked=False) as engine:
        done = database.upgrade(engine)
    data: dict[str, Json] = {
        "before": done.before,
        "after": done.after,
        "backup": str(done.backup) if done.backup else None,
    }
    changed = f"{done.before or 'empty'} → {done.after}" if done.before != done.after else f"already at {done.after}"
    emit(
        options,
        "archiver.db/v1",
        data,
        lambda: f"database {changed}" + (f", copy in {done.backup}" if done.backup else ""),
    )
    return Exit.OK


@db.command()
@click.pass_obj
def current(options: Options) -> int:
    """Show the schema's version and this program's."""
    from archiver import database
    from archiver.assembly import database as opened

    with opened.database(options.load(resolve_secrets=False), checked=False) as engine:
        have, want = database.current_revision(engine), database.head_revision()
    emit(
        options,
        "archiver.db/v1",
        {"current": have, "head": want},
        lambda: f"database {have or 'empty'}, archiver {want}",
    )
    return Exit.OK


@db.command()
@click.pass_obj
def check(options: Options) -> int:
    """Say whether the daemon would start on this schema (exit 78 when not)."""
    from archiver.assembly import database as opened

    try:
        with opened.database(options.load(resolve_secrets=False)):
            pass
    except SchemaError as wrong:
        problem = str(wrong)
        emit(options, "archiver.db/v1", {"ok": False, "problem": problem}, lambda: f"✗ {problem}")
        return Exit.CONFIGURATION
    emit(options, "archiver.db/v1", {"ok": True, "problem": None}, lambda: "✓ the schema is this version's")
    return Exit.OK
