"""`archiver doctor`: the machine, the database, the keys and the storages, each in a line. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import ssl
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.errors import ArchiverError, ConfigurationError, Exit, SchemaError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from archiver.config.model import Config

_SKEW = timedelta(seconds=2)
_DOUBTFUL_FILE = "C209"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: ✓ good, ! look at it, ✗ the archiver cannot work like this."""

    mark: Literal["✓", "!", "✗"]
    name: str
    text: str


@click.command()
@click.pass_obj
def doctor(options: Options) -> int:
    """Diagnose the environment. Run it as the daemon's user. Exit 69 when something keeps the archiver from working."""
    found = [*_platform(), *_configured(options)]
    emit(
        options,
        "archiver.doctor/v1",
        [asdict(each) for each in found],
        lambda: "\n".join(f"{each.mark} {each.name:<10} {each.text}" for each in found),
    )
    return Exit.UNAVAILABLE if any(each.mark == "✗" for each in found) else Exit.OK


def _platform() -> Iterator[Finding]:
    from cryptography.hazmat.backends.openssl import backend

    from archiver import __version__

    yield Finding("✓", "archiver", __version__)
    yield Finding("✓", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("✓", "openssl", f"{backend.openssl_version_text()} (sealing), {ssl.OPENSSL_VERSION} (TLS)")


def _configured(options: Options) -> Iterator[Finding]:
    from archiver.config.load import find, read
    from archiver.config.problem import Severity

    try:
        loaded = read(find(options.config), resolve_secrets=True)
        # A secret that only the daemon's environment has should not hide the state of disk and database.
        lenient = loaded.config or read(loaded.path, resolve_secrets=False).config
    except ConfigurationError as problem:
        yield Finding("✗", "config", str(problem))
        return
    warned = [each for each in loaded.problems if each.severity is Severity.WARNING and each.code != _DOUBTFUL_FILE]
    if loaded.errors:
        yield Finding("✗", "config", f"{loaded.path}: {len(loaded.errors)} error(s)   → archiver check")
    elif warned:
        yield Finding("!", "config", f"{loaded.path}: {len(warned)} warning(s)   → archiver check")
    else:
        yield Finding("✓", "config", str(loaded.path))
    doubts = [each for each in loaded.problems if each.code == _DOUBTFUL_FILE]
    yield from (Finding("!", "keys", f"{each.path}: {each.message}") for each in doubts)
    if not doubts and not loaded.errors:
        yield Finding("✓", "keys", "only their owner can read them")
    if lenient is not None:
        yield from _state_dir(lenient)
        yield from _database(lenient)


def _state_dir(config: Config) -> Iterator[Finding]:
    path = Path(config.state_dir)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        free = shutil.disk_usage(path).free
    except OSError as problem:
        yield Finding("✗", "state_dir", f"{path}: {problem.strerror}")
        return
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("✗", "state_dir", f"{path} cannot be written by this user")
    elif mode & 0o077:
        yield Finding("!", "state_dir", f"{path} is open to others (mode {mode:04o}); chmod 0700 it")
    else:
        yield Finding("✓", "state_dir", f"{path} (mode {mode:04o})")
    room = f"{free / 2**30:.1f} GiB free, the spool may take {config.spool.quota / 2**30:.1f} GiB"
    yield Finding("✓" if free >= config.spool.quota else "!", "disk", room)


def _database(config: Config) -> Iterator[Finding]:
    from archiver.assembly.reports import open_database

    try:
        engine = open_database(config)
    except ArchiverError as problem:
        yield Finding("✗", "database", str(problem))
        return
    try:
        yield from _schema(engine, config)
    except ArchiverError as problem:
        yield Finding("✗", "database", str(problem))
    finally:
        engine.dispose()


def _schema(engine: Engine, config: Config) -> Iterator[Finding]:
    from archiver.database import check_schema, head_revision, reading

    try:
        check_schema(engine)
    except SchemaError as problem:
        yield Finding("✗", "schema", problem.detail)
        return
    with reading(engine) as conn:
        found = [_server(conn), Finding("✓", "schema", head_revision()), _clock(conn), *_storages(conn, config)]
    yield from found


def _server(conn: Connection) -> Finding:
    if conn.dialect.name == "sqlite":
        version = conn.exec_driver_sql("SELECT sqlite_version()").scalar_one()
        return Finding("✓", "database", f"SQLite {version}: for one daemon on this host")
    return Finding("✓", "database", f"PostgreSQL {conn.exec_driver_sql('SHOW server_version').scalar_one()}")


def _clock(conn: Connection) -> Finding:
    from archiver.clock import SystemClock

    now = SystemClock().now()
    if conn.dialect.name == "sqlite":
        return Finding("✓", "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC (nothing to compare it with; run NTP)")
    skew = abs(conn.exec_driver_sql("SELECT clock_timestamp()").scalar_one() - now)
    if skew > _SKEW:
        return Finding("!", "clock", f"{skew.total_seconds():.1f} s apart from the database's; run NTP on both")
    return Finding("✓", "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, as the database's")


def _storages(conn: Connection, config: Config) -> Iterator[Finding]:
    from archiver.ingest import survey

    proofs = survey.storages(conn)
    for each in config.storage:
        proof = proofs.get(each.id)
        if proof is None:
            yield Finding("!", "storage", f"{each.id}: never probed   → archiver check --online")
        elif proof["trusted"]:
            yield Finding("✓", "storage", f"{each.id}: proved itself at {proof['probed_at']}")
        else:
            yield Finding(
                "✗", "storage", f"{each.id}: not trusted since {proof['probed_at']}   → archiver check --online"
            )
