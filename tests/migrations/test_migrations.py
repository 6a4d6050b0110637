"""The way from an empty database to the schema that the code knows."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from archiver.custody.keys import public_hex
from archiver.custody.ledger import Draft, Ledger
from archiver.database import (
    Writer,
    check_schema,
    create_engine,
    current_revision,
    head_revision,
    metadata,
    reading,
    upgrade,
)
from archiver.database.schema import _config
from archiver.errors import ConfigurationError, SchemaError, UnavailableError
from archiver.translog.sequencer import Sequencer, open_log
from tests.custody_examples import HOST_KEY, FixedChance, SteadyClock
from tests.log_oracle import check_log

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


def test_newest_schema_by_the_files_names_is_the_one_that_alembic_upgrades_to() -> None:
    assert ScriptDirectory.from_config(_config()).get_current_head() == head_revision()


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


# --- from one schema to the next, with evidence in it --------------------------------------------------------------


def upgrade_to(engine: Engine, revision: str) -> None:
    if engine.dialect.name == "sqlite":
        Path(engine.url.database or "").touch()
    config = _config()
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        alembic.command.upgrade(config, revision)


def chains(engine: Engine) -> dict[str, list[bytes]]:
    """Every event by subject, read in a way that both schemas have."""
    query = "SELECT subject, seq, entry FROM custody_pending JOIN custody_subject USING (subject_no)"
    if current_revision(engine) != "0001":
        query += """ UNION ALL SELECT subject, seq, entry FROM custody_subject_event JOIN custody_subject USING (subject_no)
                     JOIN custody_event USING (log_id, leaf_index)"""
    found: dict[str, list[bytes]] = {}
    with reading(engine) as conn:
        for row in conn.execute(text(f"{query} ORDER BY subject, seq")):
            found.setdefault(row.subject, []).append(row.entry)
    return found


@pytest.fixture
def of_0001(empty_database_url: str) -> Iterator[tuple[Engine, Ledger]]:
    """A database as the first version left it, and a ledger that goes on writing as the first version does."""
    engine = create_engine(empty_database_url, None)
    upgrade_to(engine, "0001")
    ledger = Ledger.open(SteadyClock(), FixedChance())
    with engine.begin() as conn:
        ledger.enroll(conn, HOST_KEY)
        ledger.append_many(conn, [Draft(f"hold:{n % 7}", "hold.placed", {"n": n}) for n in range(300)])
    yield engine, ledger
    engine.dispose()


def test_events_of_0001_become_the_first_leaves(of_0001: tuple[Engine, Ledger]) -> None:
    engine, ledger = of_0001
    before = chains(engine)
    assert upgrade(engine).before == "0001"
    assert chains(engine) == before
    with engine.begin() as conn:
        log_id = open_log(conn, "archive.example/custody", SteadyClock().now())
        assert Sequencer(ledger, frozenset({public_hex(HOST_KEY)}), log_id).integrate(conn).size == 301
    assert chains(engine) == before
    assert len(check_log(engine)) == 301


def test_replica_of_0001_goes_on_appending_while_the_others_are_new_already(of_0001: tuple[Engine, Ledger]) -> None:
    engine, ledger = of_0001
    writer = Writer(engine)  # its connections are older than the upgrade
    writer.run_sync(lambda conn: ledger.append(conn, "hold:1", "hold.placed", {}))
    upgrade(engine)
    writer.run_sync(lambda conn: ledger.append(conn, "hold:1", "hold.released", {}))
    sequencer = Sequencer(ledger, frozenset({public_hex(HOST_KEY)}), 1)
    with engine.begin() as conn:
        open_log(conn, "archive.example/custody", SteadyClock().now())
        sequencer.integrate(conn)
    writer.run_sync(lambda conn: ledger.append(conn, "hold:1", "hold.placed", {}))
    writer.close()
    with engine.begin() as conn:
        assert sequencer.integrate(conn).taken == 1
    assert len(check_log(engine)) == 304


def test_daemon_of_0002_refuses_0001(of_0001: tuple[Engine, Ledger]) -> None:
    with pytest.raises(SchemaError, match=r"at 0001, this version needs .*archiver db upgrade"):
        check_schema(of_0001[0])


@pytest.mark.parametrize("statement", [6, 14, 25, 45])
def test_upgrade_of_evidence_killed_half_way_has_not_happened(of_0001: tuple[Engine, Ledger], statement: int) -> None:
    engine, _ = of_0001
    before, schema = chains(engine), catalog(engine)
    url = engine.url.render_as_string(hide_password=False)
    assert start_upgrade(url, statement).wait(60) == -9
    assert (current_revision(engine), catalog(engine), chains(engine)) == ("0001", schema, before)
    upgrade(engine)
    check_schema(engine)
    assert chains(engine) == before


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
