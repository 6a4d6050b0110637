"""TLS towards a database on another machine, with its name verified, unless the URL says otherwise."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from archiver.database import check_schema, create_engine
from archiver.database.transport import tls_doubt, tls_settings
from archiver.errors import UnavailableError

FULL = {"sslmode": "verify-full", "sslrootcert": "system"}


@pytest.fixture(autouse=True)
def _nobodys_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)


@pytest.mark.parametrize(
    ("url", "settings", "doubted"),
    [
        ("postgresql+psycopg://u:p@db.example/a", FULL, False),
        ("postgresql://u@10.0.0.1:5433/a", FULL, False),
        ("postgresql:///a?host=/run/pg,db.example", FULL, False),
        ("postgresql://u@localhost.evil.example/a", FULL, False),
        ("postgresql://u@[2001:db8::5]/a", FULL, False),
        ("postgresql://u@db.example/a?sslrootcert=/ca.pem", {"sslmode": "verify-full"}, False),
        ("postgresql://u@db.example/a?sslmode=verify-full", {}, False),
        ("postgresql://u@db.example/a?sslmode=require", {}, True),
        ("postgresql://u@db.example/a?sslmode=disable", {}, True),
        ("postgresql://u@localhost/a", {}, False),
        ("postgresql://u@127.0.0.1:5433/a?sslmode=disable", {}, False),
        ("postgresql://u@[::1]/a", {}, False),
        ("postgresql:///a", {}, False),
        ("postgresql:///a?host=/run/postgresql", {}, False),
        ("sqlite:///a.db", {}, False),
    ],
)
def test_another_machine_is_verified_unless_the_url_says_otherwise(
    url: str, settings: dict[str, str], doubted: bool
) -> None:
    parsed = make_url(url)
    assert (parsed.drivername == "sqlite" and not settings) or tls_settings(parsed) == settings
    assert (tls_doubt(url) is not None) == doubted


def test_certificates_of_ones_own_are_taken(tmp_path: Path) -> None:
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").write_text("")
    assert tls_settings(make_url("postgresql://u@db.example/a")) == {"sslmode": "verify-full"}


@pytest.fixture
def plain() -> Iterator[tuple[int, list[bytes]]]:
    """A database without TLS, and what was said to it."""
    heard: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            try:
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        heard.append(peer.recv(8))
                        peer.sendall(b"N")
                        heard.append(peer.recv(1000))
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], heard


def test_nothing_is_said_in_clear_to_a_database_beyond_this_machine(plain: tuple[int, list[bytes]]) -> None:
    port, heard = plain
    engine = create_engine(f"postgresql://tell-nobody@db.example:{port}/a?hostaddr=127.0.0.1", None)
    with pytest.raises(UnavailableError):
        check_schema(engine)
    engine.dispose()
    assert heard
    assert b"tell-nobody" not in b"".join(heard)
