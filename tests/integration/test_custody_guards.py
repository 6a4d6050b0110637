"""What the database itself allows to be done to evidence, statement by statement: a table that is run, on both databases.

Each statement is tried as the owner of the tables, also on a connection that switched off what can be switched off without
changing the schema: PostgreSQL's replica role, SQLite's recursive triggers. What a superuser, or somebody with the file, can do
beyond that, no trigger prevents: signatures, chains and checkpoints show it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, insert, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from archiver.custody.event import Type
from archiver.custody.keys import public_hex
from archiver.custody.ledger import Draft, Ledger
from archiver.database import create_engine, metadata
from archiver.translog.sequencer import Sequencer, open_log
from archiver.translog.tables import custody_anchor, custody_checkpoint
from tests.custody_examples import HOST_KEY, SUBJECT, FixedChance, SteadyClock
from tests.fixtures_db import Server
from tests.log_oracle import check_log, rows

# Where, what comes of it, and the statement; of several, the last is in question and those before it prepare.
TABLE = r"""
# the queue
both       append-only  DELETE FROM custody_pending
both       append-only  DELETE FROM custody_pending RETURNING entry
both       append-only  UPDATE custody_pending SET entry = entry
both       append-only  UPDATE custody_pending SET seq = seq + 100
both       done         INSERT INTO {pending} SELECT subject_no, 99, entry FROM custody_pending WHERE seq = 300
both       done         INSERT INTO {pending} {leaf_3}; DELETE FROM custody_pending WHERE pid = {newest}
both       done         INSERT INTO {pending} SELECT subject_no, seq, entry FROM custody_quarantine; DELETE FROM
                        custody_pending WHERE pid = {newest}
both       append-only  INSERT INTO {pending} SELECT subject_no, seq + 900, entry FROM ({leaf_3}) x; DELETE FROM
                        custody_pending WHERE pid = {newest}
sqlite     append-only  INSERT INTO {pending} SELECT subject_no, seq, x'00' FROM ({leaf_3}) x; DELETE FROM
                        custody_pending WHERE pid = {newest}
postgresql append-only  INSERT INTO {pending} SELECT subject_no, seq, '\x00' FROM ({leaf_3}) x; DELETE FROM
                        custody_pending WHERE pid = {newest}
both       append-only  CREATE TEMP TABLE custody_quarantine AS SELECT subject_no, seq, entry FROM custody_pending;
                        DELETE FROM custody_pending
sqlite     append-only  INSERT OR REPLACE INTO custody_pending SELECT * FROM custody_pending
sqlite     append-only  REPLACE INTO custody_pending (rowid, subject_no, seq, entry) SELECT pid, subject_no, 999,
                        x'00' FROM custody_pending
postgresql append-only  TRUNCATE custody_pending
postgresql append-only  MERGE INTO custody_pending p USING custody_pending q ON p.pid = q.pid WHEN MATCHED THEN DELETE
# subjects and their heads
both       append-only  DELETE FROM custody_subject
both       append-only  UPDATE custody_subject SET head_seq = head_seq - 1
both       append-only  UPDATE custody_subject SET head_hash = NULL
both       done         UPDATE custody_subject SET head_seq = head_seq + 1
sqlite     append-only  REPLACE INTO custody_subject SELECT subject_no, subject, 0, NULL FROM custody_subject
postgresql append-only  TRUNCATE custody_subject CASCADE
# private data: erasure is allowed, change is not
both       done         DELETE FROM custody_private
both       append-only  UPDATE custody_private SET data = salt
# leaves
both       done         INSERT INTO custody_event SELECT log_id, 999, entry FROM custody_event WHERE leaf_index = 1
both       append-only  UPDATE custody_event SET entry = entry
both       append-only  UPDATE custody_event SET leaf_index = leaf_index + 1000
both       append-only  DELETE FROM custody_event WHERE leaf_index = 300
sqlite     append-only  INSERT INTO custody_event SELECT * FROM custody_event
postgresql constraint   INSERT INTO custody_event SELECT * FROM custody_event
sqlite     append-only  REPLACE INTO custody_event SELECT log_id, leaf_index, x'00' FROM custody_event
sqlite     append-only  REPLACE INTO custody_event (rowid, log_id, leaf_index, entry) SELECT rowid, log_id, 9999,
                        x'00' FROM custody_event
sqlite     append-only  UPDATE OR REPLACE custody_event SET leaf_index = 0 WHERE leaf_index = 1
sqlite     append-only  UPDATE OR REPLACE custody_event SET rowid = 1 WHERE rowid = 2
sqlite     append-only  INSERT INTO custody_event SELECT * FROM custody_event WHERE true ON CONFLICT DO UPDATE SET
                        entry = x'00'
sqlite     constraint   INSERT INTO custody_event VALUES (1, 999, 'text')
sqlite     constraint   INSERT INTO custody_event VALUES (1, 999, zeroblob(16385))
sqlite     constraint   INSERT INTO custody_event VALUES (1, -1, x'00')
postgresql append-only  INSERT INTO custody_event SELECT * FROM custody_event ON CONFLICT (log_id, leaf_index) DO
                        UPDATE SET entry = ''
postgresql constraint   INSERT INTO custody_event VALUES (1, 999, convert_to(repeat('x', 16385), 'UTF8'))
postgresql append-only  TRUNCATE custody_event
postgresql append-only  MERGE INTO custody_event e USING custody_tree t ON e.leaf_index = 3 WHEN MATCHED THEN UPDATE
                        SET entry = ''
# where events stand
both       append-only  UPDATE custody_subject_event SET leaf_index = 5 WHERE leaf_index = 4
both       append-only  DELETE FROM custody_subject_event
sqlite     append-only  REPLACE INTO custody_subject_event SELECT subject_no, seq, log_id, leaf_index, 0, at FROM
                        custody_subject_event
sqlite     append-only  UPDATE OR REPLACE custody_subject_event SET seq = 1
postgresql append-only  TRUNCATE custody_subject_event
# tiles: only longer
both       done         UPDATE custody_tile SET hashes = {grown} WHERE level = 0 AND idx = 1
both       append-only  UPDATE custody_tile SET hashes = hashes WHERE level = 0 AND idx = 1
both       append-only  UPDATE custody_tile SET hashes = substr(hashes, 1, 32) WHERE level = 0 AND idx = 1
both       append-only  UPDATE custody_tile SET hashes = (SELECT hashes FROM custody_tile WHERE level = 0 AND idx = 0)
                        WHERE level = 0 AND idx = 1
both       append-only  UPDATE custody_tile SET hashes = {grown}, idx = 7 WHERE level = 0 AND idx = 1
both       append-only  DELETE FROM custody_tile
sqlite     append-only  REPLACE INTO custody_tile SELECT log_id, level, idx, zeroblob(32) FROM custody_tile
sqlite     append-only  UPDATE OR REPLACE custody_tile SET idx = 0 WHERE level = 0
both       constraint   INSERT INTO custody_tile SELECT log_id, 5, idx, substr(hashes, 1, 31) FROM custody_tile
both       constraint   UPDATE custody_tile SET hashes = {grown} WHERE level = 0 AND idx = 0
postgresql append-only  TRUNCATE custody_tile
postgresql append-only  INSERT INTO custody_tile SELECT * FROM custody_tile ON CONFLICT (log_id, level, idx) DO UPDATE
                        SET hashes = substr(EXCLUDED.hashes, 1, 32)
# the tree: only larger
both       done         UPDATE custody_tree SET size = size + 1, epoch = epoch + 1
both       append-only  UPDATE custody_tree SET size = size + 1
both       append-only  UPDATE custody_tree SET epoch = epoch + 1
both       append-only  UPDATE custody_tree SET size = size - 1, epoch = epoch + 1
both       append-only  UPDATE custody_tree SET root = root
both       append-only  DELETE FROM custody_tree
sqlite     append-only  REPLACE INTO custody_tree SELECT log_id, 0, root, 0 FROM custody_tree
postgresql append-only  TRUNCATE custody_tree
# logs: closed once
both       done         UPDATE custody_log SET closed_at = opened_at
both       append-only  UPDATE custody_log SET closed_at = opened_at; UPDATE custody_log SET closed_at = NULL
both       append-only  UPDATE custody_log SET origin = 'another'
both       append-only  DELETE FROM custody_log
sqlite     append-only  REPLACE INTO custody_log SELECT 2, origin, opened_at, NULL FROM custody_log
postgresql append-only  TRUNCATE custody_log CASCADE
# checkpoints: published once
both       done         UPDATE custody_checkpoint SET published_at = signed_at WHERE size = 300
both       append-only  UPDATE custody_checkpoint SET published_at = signed_at WHERE size = 200
both       append-only  UPDATE custody_checkpoint SET published_at = NULL WHERE size = 200
both       append-only  UPDATE custody_checkpoint SET note = note, published_at = signed_at, root = root, size = 301
                        WHERE size = 300
both       append-only  UPDATE custody_checkpoint SET note = 'x', published_at = signed_at WHERE size = 300
both       append-only  DELETE FROM custody_checkpoint
sqlite     append-only  REPLACE INTO custody_checkpoint SELECT log_id, size, root, 'x', signed_at, NULL FROM
                        custody_checkpoint
sqlite     append-only  UPDATE OR REPLACE custody_checkpoint SET size = 200, published_at = signed_at WHERE size = 300
postgresql append-only  TRUNCATE custody_checkpoint
# anchors
both       append-only  UPDATE custody_anchor SET blob = blob
both       append-only  DELETE FROM custody_anchor
sqlite     append-only  REPLACE INTO custody_anchor SELECT log_id, size, kind, name, zeroblob(1), at FROM
                        custody_anchor
postgresql append-only  TRUNCATE custody_anchor
# writers: retired once
both       done         UPDATE custody_writer SET retired_leaf = 9
both       append-only  UPDATE custody_writer SET retired_leaf = 9; UPDATE custody_writer SET retired_leaf = NULL
both       append-only  UPDATE custody_writer SET enrolled_leaf = 9
both       append-only  UPDATE custody_writer SET host = key, retired_leaf = 9
both       append-only  DELETE FROM custody_writer
sqlite     append-only  REPLACE INTO custody_writer SELECT key, key, log_id, 1, NULL FROM custody_writer
postgresql append-only  TRUNCATE custody_writer
# quarantine
both       append-only  UPDATE custody_quarantine SET reason = 'none'
both       append-only  DELETE FROM custody_quarantine
sqlite     append-only  REPLACE INTO custody_quarantine SELECT id, log_id, subject_no, seq, x'00', reason, at FROM
                        custody_quarantine
postgresql append-only  TRUNCATE custody_quarantine
"""

# Bytes joined to bytes are text on SQLite.
GROWN = {"sqlite": "CAST(hashes || substr(hashes, 1, 32) AS BLOB)", "postgresql": "hashes || substr(hashes, 1, 32)"}
WORDS = {
    "{pending}": "custody_pending (subject_no, seq, entry)",
    "{newest}": "(SELECT max(pid) FROM custody_pending)",
    "{leaf_3}": """SELECT s.subject_no, s.seq, e.entry FROM custody_subject_event s
                   JOIN custody_event e ON e.log_id = s.log_id AND e.leaf_index = s.leaf_index WHERE s.leaf_index = 3""",
}


def table(kind: str) -> Iterator[tuple[str, list[str]]]:
    """The rows for a kind of database: what comes of it, and the statements."""
    joined = re.sub(r"\n {12,}", " ", re.sub(r"^#.*\n", "", TABLE.strip() + "\n", flags=re.MULTILINE))
    for line in joined.splitlines():
        where, expected, statements = line.split(maxsplit=2)
        for word, meaning in {**WORDS, "{grown}": GROWN[kind]}.items():
            statements = statements.replace(word, meaning)
        if where in {"both", kind}:
            yield expected, statements.split(";")


@pytest.fixture
def archive(database: Engine) -> Engine:
    """301 leaves in two tiles, two events in the queue, one in quarantine, two checkpoints, one of them published, an anchor."""
    ledger = Ledger.open(SteadyClock(), FixedChance())
    clock = SteadyClock()
    with database.begin() as conn:
        log_id = open_log(conn, "archive.example/custody", clock.now())
        sequencer = Sequencer(ledger, frozenset({public_hex(HOST_KEY)}), log_id)
        ledger.enroll(conn, HOST_KEY)
        ledger.append_many(
            conn, [Draft(SUBJECT, Type.FIXITY_CHECKED, {"n": n}, {"meta": {"n": n}}) for n in range(300)]
        )
        sequencer.integrate(conn)
        conn.exec_driver_sql(
            """INSERT INTO custody_pending (subject_no, seq, entry) SELECT subject_no, 500, entry
               FROM custody_subject CROSS JOIN custody_event WHERE leaf_index = 7 AND subject = 'archive'"""
        )
        sequencer.integrate(conn)
        ledger.append(conn, SUBJECT, Type.STORED, {})
        for size, published in ((200, clock.now()), (300, None)):
            conn.execute(
                insert(custody_checkpoint).values(
                    log_id=log_id, size=size, root=b"r" * 32, note="n", signed_at=clock.now(), published_at=published
                )
            )
        conn.execute(
            insert(custody_anchor).values(log_id=log_id, size=200, kind=2, name="tsa", blob=b"t", at=clock.now())
        )
        assert rows(conn, "SELECT count(*) AS n FROM custody_pending")[0].n == 2
    return database


@contextmanager
def determined(engine: Engine, how: str) -> Iterator[Connection]:
    """A connection that evades what it can; whatever it does is undone."""
    with engine.connect() as conn:
        raw = conn.connection.driver_connection
        if engine.dialect.name == "sqlite":
            assert raw is not None
            raw.execute(f"PRAGMA recursive_triggers={'OFF' if how == 'evading' else 'ON'}")
        conn.begin()
        if engine.dialect.name == "postgresql" and how == "evading":
            conn.exec_driver_sql("SET LOCAL session_replication_role = replica")
        try:
            yield conn
        finally:
            conn.rollback()


@pytest.mark.parametrize("how", ["plainly", "evading"])
def test_database_allows_exactly_this(archive: Engine, how: str) -> None:
    wrong = []
    for expected, (*prepare, last) in table(archive.dialect.name):
        with determined(archive, how) as conn:
            for statement in prepare:
                conn.exec_driver_sql(statement)
            if (got := outcome(conn, last)) != expected:
                wrong.append(f"{last}: {got}, not {expected}")
    assert wrong == []
    assert len(check_log(archive)) == 301


def outcome(conn: Connection, statement: str) -> str:
    try:
        done = conn.exec_driver_sql(statement)
    except IntegrityError as refused:
        return "append-only" if "append-only" in str(refused.orig) else "constraint"
    changed = len(done.all()) if done.returns_rows else done.rowcount
    assert changed, f"shows nothing, for it finds nothing: {statement}"
    return "done"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_table_of_evidence_is_tried(kind: str) -> None:
    refused = [statements[-1] for expected, statements in table(kind) if expected == "append-only"]
    wholesale = "REPLACE INTO" if kind == "sqlite" else "TRUNCATE"
    for name in (each.name for each in metadata.sorted_tables if each.name.startswith("custody_")):
        verbs = ["UPDATE"] if name == "custody_private" else ["UPDATE", "DELETE FROM", wholesale]  # which may be erased
        for verb in verbs:
            assert any(re.search(rf"{verb} {name}\b", statement) for statement in refused), f"{verb} {name}"


# --- the documented role of the daemon ----------------------------------------------------------------------------

FORBIDDEN = [
    "UPDATE custody_pending SET seq = 9",
    "UPDATE custody_event SET entry = ''",
    "DELETE FROM custody_event",
    "TRUNCATE custody_event",
    "DROP TABLE custody_event",
    "ALTER TABLE custody_event DISABLE TRIGGER ALL",
    "INSERT INTO custody_event SELECT * FROM custody_event ON CONFLICT (log_id, leaf_index) DO UPDATE SET entry = ''",
    "UPDATE custody_subject_event SET seq = 9",
    "DELETE FROM custody_subject_event",
    "UPDATE custody_tile SET idx = 9",
    "DELETE FROM custody_tile",
    "UPDATE custody_tree SET log_id = 9",
    "DELETE FROM custody_tree",
    "UPDATE custody_log SET closed_at = opened_at",
    "UPDATE custody_checkpoint SET note = ''",
    "DELETE FROM custody_checkpoint",
    "UPDATE custody_anchor SET blob = ''",
    "UPDATE custody_writer SET host = key",
    "DELETE FROM custody_writer",
    "UPDATE custody_quarantine SET reason = ''",
    "DELETE FROM custody_quarantine",
    "DELETE FROM custody_subject",
    "SET session_replication_role = replica",
]


def test_documented_role_sequences_and_can_do_no_more(postgresql: Server) -> None:
    url = postgresql.create(migrated=True)
    howto = (Path(__file__).parents[2] / "docs/howto/postgres-roles.md").read_text("utf-8")
    snippet = howto.partition("```sql\n")[2].partition("```")[0].replace("archiver_daemon", "archiver_sequences")
    owner = create_engine(url, None)
    ledger = Ledger.open(SteadyClock(), FixedChance())
    try:
        with owner.begin() as conn:
            conn.exec_driver_sql(snippet.replace("%", "%%"))
        for batch in range(3):
            with owner.begin() as conn:
                conn.exec_driver_sql("SET LOCAL ROLE archiver_sequences")
                log_id = open_log(conn, "archive.example/custody", SteadyClock().now())
                if not batch:
                    ledger.enroll(conn, HOST_KEY)
                ledger.append_many(conn, [Draft(SUBJECT, Type.FIXITY_CHECKED) for _ in range(300)])
                conn.execute(text("INSERT INTO custody_pending (subject_no, seq, entry)"
                                  " SELECT subject_no, 9999, '' FROM custody_subject LIMIT 1"))  # fmt: skip
                Sequencer(ledger, frozenset({public_hex(HOST_KEY)}), log_id).integrate(conn)
        assert len(check_log(owner)) == 903
        for statement in FORBIDDEN:
            with pytest.raises(ProgrammingError, match="InsufficientPrivilege"):
                as_role(owner, statement)
        for statement in (
            "DELETE FROM custody_pending",
            "UPDATE custody_tile SET hashes = ''",
            "UPDATE custody_tree SET size = 0",
        ):
            with pytest.raises(IntegrityError, match="append-only"):
                as_role(owner, statement)
    finally:
        owner.dispose()
        postgresql.drop(url)
        postgresql.execute("DROP ROLE archiver_sequences")


def as_role(engine: Engine, statement: str) -> None:
    with engine.begin() as conn:
        conn.exec_driver_sql("SET LOCAL ROLE archiver_sequences")
        conn.exec_driver_sql(statement)
