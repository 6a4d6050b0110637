"""The way from an empty database to the schema that the code knows."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

import archiver.custody.tables
import archiver.ingest.tables
import archiver.schedule.tables  # noqa: F401
from archiver.database import (
    check_schema,
    create_engine,
    current_revision,
    head_revision,
    metadata,
    reading,
    upgrade,
)
from archiver.errors import ConfigurationError, SchemaError, UnavailableError

ROOT = Path(__file__).parents[2]
VERSIONS = sorted((ROOT / "migrations" / "versions").glob("*.py"))

SQLITE_CATALOG = ("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name NOT LIKE 'alembic%'",)
POSTGRESQL_CATALOG = (
    """SELECT table_name, column_name, ordinal_position, data_type, character_maximum_length, is_nullable, column_default,
              identity_generation
       FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'""",
    "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'""",
    "SELECT tgrelid::regclass::text, tgname, tgenabled::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
)


def catalog(engine: Engine) -> set[tuple[object, ...]]:
    """What the database itself says of its schema, with the spelling evened out."""
    queries = SQLITE_CATALOG if engine.dialect.name == "sqlite" else POSTGRESQL_CATALOG
    with reading(engine) as conn:
        rows = [tuple(row) for query in queries for row in conn.execute(text(query))]
    return {tuple(_even(value) if isinstance(value, str) else value for value in row) for row in rows}


def _even(sql: str) -> str:
    if not sql.startswith("CREATE TABLE"):
        return re.sub(r"\s+", " ", sql).strip()
    # The order of constraints within CREATE TABLE is of no effect; that of columns is compared as it stands.
    body = re.sub(r"\s+", " ", sql).replace('"', "")
    head, _, rest = body.partition("(")
    inside, _, options = rest.rpartition(")")
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", inside)]
    columns = [part for part in parts if not part.startswith(("CONSTRAINT", "PRIMARY", "UNIQUE", "FOREIGN", "CHECK"))]
    return f"{head} {columns} {sorted(part for part in parts if part not in columns)} {options}"


def test_upgraded_database_equals_what_the_code_describes(
    empty_database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    engine = create_engine(empty_database_url, None)
    upgrade(engine)
    with engine.connect() as conn:
        assert compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), metadata) == []
    upgraded = catalog(engine)
    engine.dispose()

    if engine.dialect.name == "sqlite":
        (tmp_path / "made.db").touch()
        made = create_engine(f"sqlite:///{tmp_path}/made.db", None)
        metadata.create_all(made)
        created = catalog(made)
        made.dispose()
    else:
        server = request.getfixturevalue("postgresql")
        url = server.create()
        made = create_engine(url, None)
        metadata.create_all(made)
        created = catalog(made)
        made.dispose()
        server.drop(url)
    assert upgraded == created
    assert len(upgraded) > 30


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.name)
def test_migration_is_named_by_number_phase_and_purpose(path: Path) -> None:
    assert re.fullmatch(r"\d{4}_(expand|contract)_[a-z0-9_]+\.py", path.name)
    assert f'revision = "{path.name[:4]}"' in path.read_text()


def test_migrations_import_nothing_of_the_code_that_will_change() -> None:
    assert not [
        path.name for path in VERSIONS if re.search(r"^\s*(from|import) archiver", path.read_text(), re.MULTILINE)
    ]


def test_numbers_follow_one_another() -> None:
    assert [int(path.name[:4]) for path in VERSIONS] == list(range(1, len(VERSIONS) + 1))


def test_second_upgrade_finds_nothing_to_do(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url, None)
    first, second = upgrade(engine), upgrade(engine)
    engine.dispose()
    assert (first.before, first.after) == (None, head_revision())
    assert (second.before, second.after, second.backup) == (head_revision(), head_revision(), None)


UPGRADE = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from archiver.database import create_engine, upgrade

left = int(sys.argv[2])

@event.listens_for(Engine, "before_cursor_execute")
def die(conn, cursor, statement, *rest):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

upgrade(create_engine(sys.argv[1], None))
"""


def start_upgrade(url: str, die_before_statement: int = -1) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", UPGRADE, url, str(die_before_statement)], cwd=ROOT)


def test_two_upgrades_at_once_both_succeed(empty_database_url: str) -> None:
    processes = [start_upgrade(empty_database_url) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    engine = create_engine(empty_database_url, None)
    check_schema(engine)
    engine.dispose()


@pytest.mark.parametrize("statement", [3, 9, 20, 35])
def test_upgrade_killed_half_way_has_not_happened_and_can_be_run_again(empty_database_url: str, statement: int) -> None:
    assert start_upgrade(empty_database_url, statement).wait(60) == -9
    engine = create_engine(empty_database_url, None)
    assert current_revision(engine) is None
    assert catalog(engine) == set()
    upgrade(engine)
    check_schema(engine)
    engine.dispose()


def test_daemon_is_told_the_command_when_the_database_is_empty(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url, None)
    with pytest.raises(SchemaError, match="archiver db upgrade"):
        check_schema(engine)
    engine.dispose()


def test_looking_at_a_missing_sqlite_file_does_not_create_it(tmp_path: Path) -> None:
    engine = create_engine("sqlite:///archiver.db", tmp_path)
    with pytest.raises(SchemaError, match="archiver db upgrade"):
        check_schema(engine)
    with pytest.raises(UnavailableError), reading(engine):
        pass
    assert list(tmp_path.iterdir()) == []


def test_database_of_a_newer_version_is_refused_and_not_touched(database: Engine) -> None:
    with database.begin() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (check_schema, upgrade):
        with pytest.raises(SchemaError, match="newer"):
            act(database)
    assert current_revision(database) == "9999"


def test_sqlite_file_is_copied_before_it_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "archiver.db"
    with sqlite3.connect(path) as old:
        old.execute("CREATE TABLE kept (x)")
        old.execute("INSERT INTO kept VALUES ('before')")
    old.close()
    engine = create_engine("sqlite:///archiver.db", tmp_path)
    done = upgrade(engine)
    engine.dispose()
    assert done.backup == tmp_path / f"archiver.db.before-{head_revision()}"
    assert done.backup.stat().st_mode & 0o777 == 0o600
    copy = sqlite3.connect(done.backup)
    assert copy.execute("SELECT name FROM sqlite_master").fetchall() == [("kept",)]
    assert copy.execute("SELECT x FROM kept").fetchall() == [("before",)]
    copy.close()


def test_sqlite_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    engine = create_engine("sqlite:///archiver.db", tmp_path)
    upgrade(engine)
    engine.dispose()
    assert (tmp_path / "archiver.db").stat().st_mode & 0o777 == 0o600


def test_missing_folder_is_a_configuration_error(tmp_path: Path) -> None:
    engine = create_engine("sqlite:///no/such/folder/archiver.db", tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be created"):
        upgrade(engine)


def test_alembic_runs_from_the_checkout_for_developers(tmp_path: Path) -> None:
    (tmp_path / "dev.db").touch()
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env={"ARCHIVER_DATABASE_URL": f"sqlite:///{tmp_path}/dev.db", "PATH": ""},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/dev.db")
    assert sqlalchemy.inspect(made).has_table("custody_pending")
    made.dispose()
