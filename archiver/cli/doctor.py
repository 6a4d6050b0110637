"""`archiver doctor`: shows the machine, the database, the keys and the storages, each in a line. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import ssl
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from archiver.alerts.rule import Kind
from archiver.cli.options import Options
from archiver.cli.output import emit
from archiver.errors import ArchiverError, ConfigurationError, Exit, SchemaError

if TYPE_CHECKING:
    from archiver.config.model import Config
    from archiver.database import Connection, Engine

_SKEW = timedelta(seconds=2)
_DOUBTFUL_FILE = "C209"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: ✓ good, ! look at it, ✗ the archiver cannot work like this."""

    mark: Literal["✓", "!", "✗"]
    name: str
    text: str


@click.command()
@click.pass_obj
def doctor(options: Options) -> int:
    """Diagnose the environment. Run it as the daemon's user. Exit 69 when something must be mended: a line with ✗."""
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
        # A secret that only the daemon's environment holds should not hide the state of disk and database.
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
        yield from _database(lenient, options.clock.now())


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
    if (shortage := _shortage(path / "spool", config.spool.quota)) is not None:
        yield Finding("✗", "disk", f"no room for another recording: {shortage}")
    else:
        yield Finding("✓" if free >= config.spool.quota else "!", "disk", room)


def _shortage(spool: Path, quota: int) -> str | None:
    """Return the reason why nothing more can be fetched; None where there is room, or no spool before the first run."""
    from archiver.fetch.spool import measure

    try:
        return measure(spool, quota).shortage() if spool.exists() else None
    except ArchiverError as problem:
        return str(problem)


def _database(config: Config, now: datetime) -> Iterator[Finding]:
    from archiver.assembly.database import database

    try:
        with database(config, checked=False) as engine:
            yield from _schema(engine, config, now)
    except ArchiverError as problem:
        yield Finding("✗", "database", str(problem))


def _schema(engine: Engine, config: Config, now: datetime) -> Iterator[Finding]:
    from archiver.database import check_schema, head_revision, reading

    try:
        check_schema(engine)
    except SchemaError as problem:
        yield Finding("✗", "schema", problem.detail)
        return
    with reading(engine) as conn:
        schema = Finding("✓", "schema", head_revision())
        found = [_server(conn), schema, _clock(conn, now), *_judged(conn, config, now)]
    yield from found


def _server(conn: Connection) -> Finding:
    if conn.dialect.name == "sqlite":
        version = conn.exec_driver_sql("SELECT sqlite_version()").scalar_one()
        return Finding("✓", "database", f"SQLite {version}: for one daemon on this host")
    return Finding("✓", "database", f"PostgreSQL {conn.exec_driver_sql('SHOW server_version').scalar_one()}")


def _clock(conn: Connection, now: datetime) -> Finding:
    if conn.dialect.name == "sqlite":
        return Finding("✓", "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC (nothing to compare it with; run NTP)")
    skew = abs(conn.exec_driver_sql("SELECT clock_timestamp()").scalar_one() - now)
    if skew > _SKEW:
        return Finding("!", "clock", f"{skew.total_seconds():.1f} s apart from the database's; run NTP on both")
    return Finding("✓", "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, as the database's")


def _judged(conn: Connection, config: Config, now: datetime) -> Iterator[Finding]:
    """Yield the faults that status and alerts report too, and each storage that is fine."""
    from archiver.alerts.judgement import unproven
    from archiver.assembly.facts import look_from_outside
    from archiver.assembly.reports import judged

    report, facts = judged(conn, config, {}, now, look_from_outside(conn, config, now))
    for storage in facts.storages:
        if unproven(storage, now) is None:
            yield Finding(
                "✓", "storage", f"{storage.storage}: passed its probe at {storage.probed_at:%Y-%m-%d %H:%M} UTC"
            )
        yield from (Finding("!", "storage", f"{storage.storage}: {remark}") for remark in storage.remarks)
    for each in report.judgement.concerns:
        mark: Literal["✗", "!"] = "✗" if each.level.red else "!"
        if each.kind is Kind.STORAGE_NOT_TRUSTED:
            yield Finding(mark, "storage", f"{each.subject}: {each.detail}   → {each.remedy}")
        else:
            name = each.subject or "archive"
            yield Finding(mark, name, each.line.removeprefix(f"{name}: "))
