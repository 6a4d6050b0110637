"""Events in the database: appended in the caller's transaction, chained, and never changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from archiver.clock import SystemChance, SystemClock
from archiver.custody import history
from archiver.custody.chain import check_chain, enrolled_writers
from archiver.custody.event import ARCHIVE, Type, commitment, verify
from archiver.custody.keys import public_hex
from archiver.custody.ledger import Draft, Ledger
from archiver.database import Writer, create_engine, reading
from archiver.errors import ArchiverError
from tests.custody_examples import HOST_KEY, KEY, OTHER_SUBJECT, SUBJECT, FixedChance, SteadyClock
from tests.fixtures_db import Server
from tests.log_oracle import count_events

HOSTS = {public_hex(HOST_KEY)}


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(KEY, SteadyClock(), FixedChance())


def check_all(engine: Engine) -> int:
    """Check every chain as `verify` will; returns how many events there are."""
    with reading(engine) as conn:
        writers = enrolled_writers(history.entries(conn, ARCHIVE), HOSTS)
        for subject in history.subjects(conn):
            entries = history.entries(conn, subject)
            assert check_chain(subject, entries, writers, HOSTS, history.head(conn, subject)) == []
        return count_events(conn)


def test_events_of_a_subject_form_a_chain_from_zero(database: Engine, ledger: Ledger) -> None:
    with database.begin() as conn:
        assert ledger.enroll(conn, HOST_KEY).seq == 0
        first = ledger.append(conn, SUBJECT, Type.DISCOVERED, {"provider": "plivo-us"})
        second = ledger.append(
            conn, SUBJECT, "recording.stored", {"bucket": "b"}, op="job:1", outcome="failed", user="u-1"
        )
    assert (first.seq, second.seq) == (0, 1)
    with reading(database) as conn:
        events = [verify(entry.raw) for entry in history.entries(conn, SUBJECT)]
        assert history.head(conn, SUBJECT) is not None
        enrolled = verify(history.entries(conn, ARCHIVE)[0].raw)
    assert [event.prev for event in events] == [None, first.leaf_hash.hex()]
    assert (events[1].op, events[1].outcome, events[1].user, events[1].writer) == (
        "job:1",
        "failed",
        "u-1",
        ledger.writer,
    )
    assert (enrolled.writer, enrolled.data, enrolled.actor_kind) == (
        public_hex(HOST_KEY),
        {"writer": ledger.writer},
        "host",
    )
    assert check_all(database) == 3


def test_event_is_there_only_if_the_change_that_it_witnesses_is(database: Engine, ledger: Ledger) -> None:
    with database.begin() as conn:
        ledger.append(conn, SUBJECT, Type.DISCOVERED, {})
    with database.connect() as conn:
        ledger.append(conn, SUBJECT, Type.STORED, {}, private={"parties": {"a": "b"}})
        conn.rollback()
    with database.begin() as conn:
        assert ledger.append(conn, SUBJECT, Type.STORED, {}).seq == 1
        assert len(history.entries(conn, SUBJECT)) == 2


def test_event_outside_the_format_writes_nothing(database: Engine, ledger: Ledger) -> None:
    with database.begin() as conn:
        for subject, type_, data in (
            ("rec:1", Type.STORED, {}),
            (SUBJECT, "no.such_type", {}),
            (SUBJECT, Type.STORED, {"a": 0.5}),
        ):
            with pytest.raises(ValueError):
                ledger.append(conn, subject, type_, data)  # type: ignore[arg-type]
        assert count_events(conn) == 0


def test_many_events_at_once_keep_their_order_within_each_subject(database: Engine, ledger: Ledger) -> None:
    ids = SystemChance()
    subjects = [f"rec:{ids.uuid()}" for _ in range(700)]
    with database.begin() as conn:
        ledger.enroll(conn, HOST_KEY)
        ledger.append(conn, subjects[0], Type.DISCOVERED, {"n": -1})
        drafts = [Draft(subject, Type.DISCOVERED, {"n": n}, {"meta": {"n": n}}) for n, subject in enumerate(subjects)]
        appended = ledger.append_many(
            conn, [*drafts, Draft(subjects[0], Type.DOWNLOADED), Draft(subjects[0], Type.SEALED)]
        )
        assert ledger.append_many(conn, []) == []
    assert [a.seq for a in appended[:2]] == [1, 0]
    assert [a.seq for a in appended[-2:]] == [2, 3]
    assert check_all(database) == 704
    with reading(database) as conn:
        assert [verify(e.raw).type for e in history.entries(conn, subjects[0])] == [
            "recording.discovered",
            "recording.discovered",
            "recording.downloaded",
            "recording.sealed",
        ]
        assert count_events(conn) == 704
        pages, after = [], ""
        while page := history.subjects(conn, prefix="rec:", after=after, limit=99):
            pages += page
            after = page[-1]
        assert pages == sorted(subjects)


def test_private_groups_answer_their_commitments_and_can_be_erased(database: Engine, ledger: Ledger) -> None:
    groups: Mapping[str, Mapping[str, Any]] = {
        "parties": {"from_number": "+49 30 1234"},
        "meta": {"row": "e\u0301\u0000"},
    }
    with database.begin() as conn:
        ledger.enroll(conn, HOST_KEY)
        ledger.append(conn, SUBJECT, Type.DISCOVERED, {}, private=groups)
    with reading(database) as conn:
        kept = history.private(conn, SUBJECT, 0)
        event = verify(history.entries(conn, SUBJECT)[0].raw)
    assert {name: group.data for name, group in kept.items()} == groups
    assert {name: commitment(group.salt, group.data) for name, group in kept.items()} == event.priv
    assert len({group.salt for group in kept.values()}) == 2
    with database.begin() as conn:
        conn.execute(text("DELETE FROM custody_private"))
    with reading(database) as conn:
        assert history.private(conn, SUBJECT, 0) == {}
    assert check_all(database) == 2


def test_eight_threads_appending_to_one_subject_leave_one_chain(database: Engine, ledger: Ledger) -> None:
    ledger = Ledger(KEY, SystemClock(), SystemChance())
    with database.begin() as conn:
        ledger.enroll(conn, HOST_KEY)
    writers = [Writer(database) for _ in range(4)]  # four replicas, two callers each

    def work(number: int) -> None:
        for _ in range(25):
            writers[number % 4].run_sync(lambda conn: ledger.append(conn, SUBJECT, Type.FIXITY_CHECKED, {"by": number}))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for writer in writers:
        writer.close()
    assert check_all(database) == 201


def test_two_replicas_creating_the_same_subjects_in_opposite_order_both_succeed(database: Engine) -> None:
    if database.dialect.name == "sqlite":
        return
    ledger = Ledger(KEY, SystemClock(), SystemChance())
    with database.begin() as conn:
        ledger.enroll(conn, HOST_KEY)
    barrier = threading.Barrier(2)
    subjects = [f"hold:{number:02}" for number in range(40)]

    def work(order: list[str]) -> None:
        writer = Writer(database)
        barrier.wait(10)
        for _ in range(10):
            writer.run_sync(lambda conn: ledger.append_many(conn, [Draft(s, Type.HOLD_PLACED) for s in order]))
        writer.close()

    threads = [threading.Thread(target=work, args=(order,)) for order in (subjects, subjects[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert check_all(database) == 801


EVERYWHERE = [
    "UPDATE custody_pending SET entry = entry",
    "UPDATE custody_pending SET seq = seq + 100",
    "UPDATE custody_pending SET log_id = 2",
    "DELETE FROM custody_pending",
    "DELETE FROM custody_pending WHERE seq = 0",
    "UPDATE custody_subject SET head_seq = head_seq",
    "UPDATE custody_subject SET head_seq = head_seq - 1",
    "UPDATE custody_subject SET head_hash = NULL",
    "UPDATE custody_subject SET subject = 'archive2', head_seq = head_seq + 1 WHERE subject = 'archive'",
    "DELETE FROM custody_subject",
    "UPDATE custody_private SET data = salt",
    "INSERT INTO custody_pending (subject_no, seq, entry) SELECT subject_no, seq, entry FROM custody_pending",
]
ON_SQLITE = [
    "INSERT OR REPLACE INTO custody_pending SELECT * FROM custody_pending",
    "INSERT OR REPLACE INTO custody_pending (subject_no, seq, entry) SELECT subject_no, seq, x'00' FROM custody_pending",
    "REPLACE INTO custody_pending (pid, subject_no, seq, entry) SELECT pid, subject_no, 99, x'00' FROM custody_pending",
    "UPDATE OR REPLACE custody_pending SET pid = 1 WHERE pid = 2",
    "INSERT OR REPLACE INTO custody_subject SELECT subject_no, subject, 99, x'00' FROM custody_subject",
    "INSERT INTO custody_pending (subject_no, seq, entry) VALUES (1, 99, 'text is no blob')",
]
ON_POSTGRESQL = [
    "TRUNCATE custody_pending",
    "TRUNCATE custody_subject CASCADE",
    """INSERT INTO custody_pending (subject_no, seq, entry) SELECT subject_no, seq, entry FROM custody_pending
       ON CONFLICT (subject_no, seq) DO UPDATE SET entry = ''""",
]


def refused(conn: Connection, statement: str) -> None:
    with pytest.raises(IntegrityError), conn.begin_nested():
        conn.exec_driver_sql(statement)


@pytest.fixture
def kept(database: Engine, ledger: Ledger) -> Engine:
    with database.begin() as conn:
        ledger.enroll(conn, HOST_KEY)
        for subject in (SUBJECT, OTHER_SUBJECT):
            ledger.append(conn, subject, Type.DISCOVERED, {}, private={"parties": {"a": "b"}})
            ledger.append(conn, subject, Type.STORED, {})
    return database


@pytest.mark.parametrize("statement", EVERYWHERE + ON_SQLITE + ON_POSTGRESQL)
def test_statement_that_would_change_evidence_is_refused(kept: Engine, statement: str) -> None:
    if statement in (ON_POSTGRESQL if kept.dialect.name == "sqlite" else ON_SQLITE):
        return
    with kept.begin() as conn:
        refused(conn, statement)
    assert check_all(kept) == 5


@pytest.mark.parametrize("statement", [*EVERYWHERE[:-1], *ON_POSTGRESQL[:2]])
def test_postgresql_refuses_even_in_replica_role(kept: Engine, statement: str) -> None:
    if kept.dialect.name == "sqlite":
        return
    with kept.begin() as conn:
        conn.exec_driver_sql("SET LOCAL session_replication_role = replica")
        refused(conn, statement)
    assert check_all(kept) == 5


@pytest.mark.parametrize("statement", ON_SQLITE)
def test_sqlite_refuses_on_a_connection_that_asked_for_nothing(kept: Engine, statement: str) -> None:
    if kept.dialect.name == "postgresql":
        return
    with kept.begin() as conn:
        conn.connection.driver_connection.execute("PRAGMA recursive_triggers=OFF")  # type: ignore[union-attr]
        refused(conn, statement)
        conn.connection.driver_connection.execute("PRAGMA recursive_triggers=ON")  # type: ignore[union-attr]
    assert check_all(kept) == 5


def test_oversized_entry_is_refused_by_the_table_too(kept: Engine) -> None:
    with kept.begin() as conn:
        conn.execute(
            text("INSERT INTO custody_pending (subject_no, seq, entry) VALUES (1, 98, :entry)"), {"entry": b"x" * 16384}
        )
        with pytest.raises(IntegrityError), conn.begin_nested():
            conn.execute(
                text("INSERT INTO custody_pending (subject_no, seq, entry) VALUES (1, 99, :entry)"),
                {"entry": b"x" * 16385},
            )


def test_refusal_reaches_the_caller_as_our_error(kept: Engine) -> None:
    writer = Writer(kept)
    with pytest.raises(ArchiverError, match="append-only"):
        writer.run_sync(lambda conn: conn.exec_driver_sql("DELETE FROM custody_pending"))
    writer.close()


def test_documented_daemon_role_can_append_and_nothing_more(postgresql: Server, ledger: Ledger) -> None:
    url = postgresql.create(migrated=True)
    howto = (Path(__file__).parents[2] / "docs/howto/postgres-roles.md").read_text("utf-8")
    snippet = howto.partition("```sql\n")[2].partition("```")[0]
    owner = create_engine(url, None)
    try:
        with owner.begin() as conn:
            conn.exec_driver_sql(snippet.replace("%", "%%"))
        with owner.begin() as conn:
            conn.exec_driver_sql("SET LOCAL ROLE archiver_daemon")
            ledger.enroll(conn, HOST_KEY)
            ledger.append_many(conn, [Draft(SUBJECT, Type.DISCOVERED, {}, {"parties": {"a": "b"}})])
            conn.execute(text("UPDATE provider_state SET parked_reason = NULL"))
        for statement in ("UPDATE custody_pending SET seq = 9", "DELETE FROM custody_event", "DROP TABLE custody_pending",
                          "ALTER TABLE custody_pending DISABLE TRIGGER ALL", "TRUNCATE custody_subject CASCADE",
                          "DELETE FROM custody_subject", "UPDATE alembic_version SET version_num = ''"):  # fmt: skip
            with pytest.raises(ArchiverError, match="InsufficientPrivilege"):
                run_as_daemon(owner, statement)
        assert check_all(owner) == 2
    finally:
        owner.dispose()
        postgresql.drop(url)
        postgresql.execute("DROP ROLE archiver_daemon")


def run_as_daemon(engine: Engine, statement: str) -> None:
    writer = Writer(engine)
    try:
        writer.run_sync(
            lambda conn: (conn.exec_driver_sql("SET LOCAL ROLE archiver_daemon"), conn.exec_driver_sql(statement))
        )
    finally:
        writer.close()
