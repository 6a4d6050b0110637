"""The log grows by exactly what honest writers appended, and says what else it met."""

from __future__ import annotations

import dataclasses
import random
import threading
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine, insert, text
from sqlalchemy.exc import IntegrityError

from archiver.clock import SystemChance, SystemClock
from archiver.custody import history
from archiver.custody import ledger as ledger_module
from archiver.custody.chain import check_chain, enrolled_writers
from archiver.custody.event import ARCHIVE, Event, Type, leaf_hash, sign, verify
from archiver.custody.keys import public_hex
from archiver.custody.ledger import Draft, Ledger
from archiver.custody.tables import TYPE_NUMBERS
from archiver.database import Writer, reading
from archiver.errors import ConfigurationError, LeaseLostError, NotFoundError, VerificationError
from archiver.translog import merkle, reader, sequencer, tree
from archiver.translog.sequencer import Integrated, Sequencer, open_log
from archiver.translog.tables import custody_checkpoint
from archiver.translog.tile import hashes_of
from tests.custody_examples import HOST_KEY, OTHER_KEY, OTHER_SUBJECT, SUBJECT, FixedChance, SteadyClock
from tests.log_oracle import check_log, count_events, rows, tamper

NOW = datetime(2026, 11, 20, tzinfo=UTC)
HOST = public_hex(HOST_KEY)
OTHER_HOST_KEY = Ed25519PrivateKey.from_private_bytes(b"another host".ljust(32))


class Archive:
    """A database with an open log, an enrolled writer and a sequencer."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ledger = Ledger.open(SteadyClock(), FixedChance())
        with engine.begin() as conn:
            self.log_id = open_log(conn, "archive.example/custody", NOW)
            self.ledger.enroll(conn, HOST_KEY)
        self.sequencer = Sequencer(self.ledger, frozenset({HOST}), self.log_id)

    def append(self, *drafts: Draft, ledger: Ledger | None = None) -> None:
        with self.engine.begin() as conn:
            (ledger or self.ledger).append_many(conn, drafts)

    def events(self, subject: str, number: int, ledger: Ledger | None = None) -> None:
        self.append(*(Draft(subject, Type.FIXITY_CHECKED, {"n": n}) for n in range(number)), ledger=ledger)

    def integrate(self, limit: int = 1000) -> Integrated:
        """One batch."""
        with self.engine.begin() as conn:
            return self.sequencer.integrate(conn, limit)

    def drain(self, rounds: int = 100) -> None:
        """Batches until none takes anything: anomalies that one batch writes come with the next."""
        for _ in range(rounds):
            if not self.integrate().taken:
                return
        pytest.fail(f"no rest after {rounds} rounds")

    def insert(self, subject: str, seq: int, entry: bytes) -> None:
        """A row of the queue that no ledger made."""
        with self.engine.begin() as conn:
            conn.execute(
                text("INSERT INTO custody_pending (subject_no, seq, entry) VALUES (:no, :seq, :entry)"),
                {"no": self.number(subject), "seq": seq, "entry": entry},
            )

    def number(self, subject: str) -> int:
        with reading(self.engine) as conn:
            number: int = rows(conn, "SELECT subject_no FROM custody_subject WHERE subject = :s", s=subject)[0][0]
        return number

    def entry(self, subject: str, seq: int) -> bytes:
        with reading(self.engine) as conn:
            return next(each.raw for each in history.entries(conn, subject) if each.seq == seq)

    def quarantine(self) -> list[tuple[str | None, int, str]]:
        with reading(self.engine) as conn:
            return [(each.subject, each.seq, each.reason) for each in reader.quarantined(conn)]

    def anomalies(self) -> list[tuple[str, str | None, int, object]]:
        """Those that the log has: type, subject, seq, and reason or first missing number."""
        return [
            (
                event.type,
                event.data["subject"],
                event.data["seq"],
                event.data.get("reason", event.data.get("missing_from")),
            )  # type: ignore[misc]
            for event in check_log(self.engine, in_order=False)
            if event.type.startswith("anomaly.")
        ]

    def check_chains(self, *extra_hosts: str) -> None:
        """As `verify` sees them: each whole, up to its head."""
        hosts = {HOST, *extra_hosts}
        with reading(self.engine) as conn:
            writers = enrolled_writers(history.entries(conn, ARCHIVE), hosts)
            for subject in history.subjects(conn):
                chain = history.entries(conn, subject)
                assert check_chain(subject, chain, writers, hosts, history.head(conn, subject)) == []


@pytest.fixture
def archive(database: Engine) -> Archive:
    return Archive(database)


def signed(key: Ed25519PrivateKey, subject: str, seq: int, prev: bytes | None, **changes: object) -> bytes:
    """An entry made outside of any ledger."""
    event = Event(
        subject, seq, prev.hex() if prev else None, Type.STORED, NOW, FixedChance(f"{seq}").uuid(), public_hex(key)
    )
    return sign(dataclasses.replace(event, **changes), key)  # type: ignore[arg-type]


# --- what honest writers appended ---------------------------------------------------------------------------------


def test_events_of_one_queue_become_one_tree_whatever_the_batches(archive: Archive) -> None:
    chance = random.Random(7)
    subjects = [f"hold:{number}" for number in range(40)]
    appended = 1
    while appended < 900:
        drafts = [Draft(chance.choice(subjects), Type.HOLD_PLACED, {"n": n}) for n in range(chance.randrange(1, 60))]
        archive.append(*drafts)
        appended += len(drafts)
        if chance.random() < 0.5:
            taken = archive.integrate(limit := chance.choice([1, 2, 3, 100, 255, 256, 257, 1000]))
            assert taken.taken <= limit
            archive.check_chains()
    archive.drain()
    assert len(check_log(archive.engine)) == appended
    archive.check_chains()
    with reading(archive.engine) as conn:
        assert (count_events(conn), reader.waiting(conn)) == (appended, 0)
    assert archive.quarantine() == []


def test_batch_says_what_it_did(archive: Archive) -> None:
    archive.events(SUBJECT, 4)
    first, second, third = archive.integrate(3), archive.integrate(3), archive.integrate(3)
    assert [(each.size, each.taken, each.quarantined) for each in (first, second, third)] == [
        (3, 3, 0),
        (5, 2, 0),
        (5, 0, 0),
    ]
    assert second.root == third.root != first.root
    with reading(archive.engine) as conn:
        assert reader.tree(conn, archive.log_id) == (5, second.root)


def test_empty_log_has_the_empty_root_and_stays_so_without_events(database: Engine) -> None:
    with database.begin() as conn:
        log_id = open_log(conn, "archive.example/custody", NOW)
        done = Sequencer(Ledger.open(SteadyClock(), FixedChance()), frozenset(), log_id).integrate(conn)
    assert (done.size, done.root, done.taken) == (0, merkle.EMPTY_ROOT, 0)


def test_rolled_back_batch_is_taken_again_whole(archive: Archive) -> None:
    archive.events(SUBJECT, 10)
    with archive.engine.connect() as conn:
        assert archive.sequencer.integrate(conn).taken == 11
        conn.rollback()
    assert archive.integrate().size == 11
    assert len(check_log(archive.engine)) == 11


def test_writer_may_be_enrolled_in_the_same_batch_or_long_before(archive: Archive) -> None:
    archive.events(SUBJECT, 1)
    assert archive.integrate().quarantined == 0
    archive.events(SUBJECT, 1)
    assert archive.integrate().quarantined == 0
    with reading(archive.engine) as conn:
        writer = rows(conn, "SELECT * FROM custody_writer")[0]
    assert (writer.key.hex(), writer.host.hex(), writer.enrolled_leaf, writer.retired_leaf) == (
        archive.ledger.writer,
        HOST,
        0,
        None,
    )


def test_second_enrolment_of_a_writer_changes_nothing(archive: Archive) -> None:
    for _ in range(2):
        with archive.engine.begin() as conn:
            archive.ledger.enroll(conn, HOST_KEY)
            archive.ledger.enroll(conn, HOST_KEY)
        archive.drain()
    archive.events(SUBJECT, 1)
    archive.drain()
    assert len(check_log(archive.engine)) == 6
    with reading(archive.engine) as conn:
        assert [row.enrolled_leaf for row in rows(conn, "SELECT * FROM custody_writer")] == [0]


def test_entries_of_this_process_are_not_verified_again_and_those_of_another_are(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[bytes] = []
    monkeypatch.setattr(sequencer, "verify", lambda entry: verified.append(entry) or verify(entry))
    archive.events(SUBJECT, 3)
    archive.drain()
    assert verified == []
    another = Ledger.open(SteadyClock(), FixedChance("another"))
    with archive.engine.begin() as conn:
        another.enroll(conn, HOST_KEY)
    archive.events(OTHER_SUBJECT, 2, ledger=another)
    archive.drain()
    assert len(verified) == 3
    check_log(archive.engine, archive.log_id)


def test_own_entry_in_a_row_of_another_place_is_refused_though_it_is_known(archive: Archive) -> None:
    archive.events(SUBJECT, 2)
    entry = archive.entry(SUBJECT, 1)
    archive.drain()
    archive.events(OTHER_SUBJECT, 1)
    archive.drain()
    archive.insert(OTHER_SUBJECT, 1, entry)
    archive.drain()
    assert archive.quarantine() == [(OTHER_SUBJECT, 1, "place")]


def test_two_sequencers_at_once_take_each_event_once(archive: Archive) -> None:
    ledger = Ledger(archive.ledger._key, SystemClock(), SystemChance())
    writers = [Writer(archive.engine) for _ in range(3)]
    stop = threading.Event()

    def integrate(writer: Writer) -> None:
        while not stop.is_set():
            writer.run_sync(lambda conn: archive.sequencer.integrate(conn, 17))

    threads = [threading.Thread(target=integrate, args=(writer,)) for writer in writers[:2]]
    for thread in threads:
        thread.start()
    for number in range(60):
        drafts = [Draft(f"hold:{number % 7}", Type.HOLD_PLACED, {"n": number}) for _ in range(5)]
        writers[2].run_sync(lambda conn, drafts=drafts: ledger.append_many(conn, drafts))  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join(30)
    for writer in writers:
        writer.close()
    archive.drain()
    assert len(check_log(archive.engine)) == 301


def test_stale_tree_is_not_grown(archive: Archive) -> None:
    archive.drain()
    with archive.engine.connect() as conn:
        held = tree.lock(conn, archive.log_id)
        leaf = tree.Leaf(1, history_event := Event(SUBJECT, 0, None, Type.STORED, NOW, "", ""), b"x", leaf_hash(b"x"))
        with pytest.raises(LeaseLostError):
            tree.grow(conn, dataclasses.replace(held, epoch=held.epoch - 1), [leaf])
        conn.rollback()
    assert history_event.seq == 0
    assert len(check_log(archive.engine)) == 1


# --- forged, foreign and misplaced rows ---------------------------------------------------------------------------


def test_forged_row_goes_to_quarantine_and_the_true_writer_succeeds_after_it(archive: Archive) -> None:
    archive.events(SUBJECT, 2)
    archive.drain()
    true = archive.entry(SUBJECT, 1)
    forged = true.replace(b'"seq":1', b'"seq":2').replace(b'"n":1', b'"n":9')
    archive.insert(SUBJECT, 2, forged)
    with pytest.raises(IntegrityError):
        archive.events(SUBJECT, 1)
    assert archive.integrate().quarantined == 1
    archive.events(SUBJECT, 1)
    archive.drain()
    archive.check_chains()
    assert archive.quarantine() == [(SUBJECT, 2, "signature")]
    assert archive.anomalies() == [("anomaly.bad_writer_sig", SUBJECT, 2, "signature")]
    with reading(archive.engine) as conn:
        assert [each.entry for each in reader.quarantined(conn)] == [forged]


@pytest.mark.parametrize(
    ("seq", "entry"),
    [(5, b""), (5, b"\x00\xff"), (5, b'{"ev":{},"sig":""}'), (-1, b"{}"), (2**31 - 1, b"[" * 16384)],
    ids=["empty", "bytes", "json", "negative", "deep"],
)
def test_rubbish_stops_nothing(archive: Archive, seq: int, entry: bytes) -> None:
    archive.events(SUBJECT, 1)
    archive.insert(SUBJECT, seq, entry)
    archive.events(SUBJECT, 1)
    archive.drain()
    assert archive.quarantine() == [(SUBJECT, seq, "signature")]
    assert archive.anomalies() == [("anomaly.bad_writer_sig", SUBJECT, seq if seq >= 0 else None, "signature")]
    archive.check_chains()


def test_row_that_no_event_could_describe_is_described_all_the_same(archive: Archive) -> None:
    """Subject and number are the forger's: neither a phone number nor a string outside the profile gets into the log."""
    with archive.engine.begin() as conn:
        conn.execute(text("INSERT INTO custody_subject (subject, head_seq) VALUES ('+49 30 1234 e\u0301', -1)"))
    huge = 2**60 if archive.engine.dialect.name == "sqlite" else 0
    archive.insert("+49 30 1234 e\u0301", huge, b"?")
    archive.drain()
    assert archive.anomalies() == [("anomaly.bad_writer_sig", None, None if huge else 0, "signature")]


def test_row_whose_subject_was_deleted_is_refused_and_not_overlooked(archive: Archive) -> None:
    archive.events(SUBJECT, 1)
    number = archive.number(SUBJECT)
    with archive.engine.connect() as raw:  # a pragma has no effect within a transaction
        if archive.engine.dialect.name == "sqlite":
            raw.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
            raw.exec_driver_sql("DROP TRIGGER custody_subject_delete")
        else:
            raw.exec_driver_sql("SET LOCAL session_replication_role = replica")
            raw.exec_driver_sql("ALTER TABLE custody_subject DISABLE TRIGGER USER")
        raw.execute(text("DELETE FROM custody_subject WHERE subject_no = :no"), {"no": number})
        raw.commit()
        if archive.engine.dialect.name == "sqlite":
            raw.connection.driver_connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[union-attr]
    archive.drain()
    assert archive.quarantine() == [(None, 0, "place")]
    assert archive.anomalies() == [("anomaly.chain_fork", None, 0, "place")]


def test_event_of_a_stranger_is_refused_although_well_signed(archive: Archive) -> None:
    archive.events(SUBJECT, 1)
    archive.insert(SUBJECT, 1, signed(OTHER_KEY, SUBJECT, 1, leaf_hash(archive.entry(SUBJECT, 0))))
    archive.insert(ARCHIVE, 1, signed(OTHER_KEY, ARCHIVE, 1, leaf_hash(archive.entry(ARCHIVE, 0)),
                                      type=Type.WRITER_ENROLLED, data={"writer": public_hex(OTHER_KEY)}))  # fmt: skip
    archive.drain()
    assert archive.quarantine() == [(SUBJECT, 1, "writer"), (ARCHIVE, 1, "writer")]
    assert [each[0] for each in archive.anomalies()] == ["anomaly.bad_writer_sig"] * 2
    archive.check_chains()


def test_host_key_signs_enrolments_and_nothing_else(archive: Archive) -> None:
    archive.events(SUBJECT, 1)
    archive.insert(SUBJECT, 1, signed(HOST_KEY, SUBJECT, 1, leaf_hash(archive.entry(SUBJECT, 0))))
    archive.drain()
    assert archive.quarantine() == [(SUBJECT, 1, "writer")]


def test_writer_that_was_retired_writes_no_more(archive: Archive) -> None:
    other = Ledger.open(SteadyClock(), FixedChance("other"))
    with archive.engine.begin() as conn:
        other.enroll(conn, HOST_KEY)
        other.append(conn, SUBJECT, Type.DISCOVERED, {})
        other.retire_others(conn, HOST_KEY, [other.writer])
        other.append(conn, SUBJECT, Type.STORED, {})
    archive.drain()
    with archive.engine.begin() as conn:
        other.enroll(conn, HOST_KEY)  # does not bring it back
        other.append(conn, SUBJECT, Type.STORED, {})
    archive.drain()
    assert archive.quarantine() == [(SUBJECT, 1, "writer"), (SUBJECT, 2, "writer")]
    with reading(archive.engine) as conn:
        assert rows(conn, "SELECT retired_leaf FROM custody_writer WHERE enrolled_leaf > 0")[0].retired_leaf == 3


def test_events_of_a_host_missing_from_the_configuration_come_back_when_it_is_added(archive: Archive) -> None:
    other = Ledger.open(SteadyClock(), FixedChance("other"))
    archive.events(SUBJECT, 2)
    with archive.engine.begin() as conn:
        other.enroll(conn, OTHER_HOST_KEY)
    archive.events(SUBJECT, 3, ledger=other)
    archive.events(SUBJECT, 2)
    archive.drain()
    assert archive.quarantine() == [(ARCHIVE, 1, "writer"), *[(SUBJECT, seq, "writer") for seq in (2, 3, 4)]]
    assert ("anomaly.gap", SUBJECT, 5, 2) in archive.anomalies()
    with archive.engine.begin() as conn:
        assert archive.sequencer.reconsider(conn) == 0  # nothing has changed yet

    archive.sequencer = Sequencer(archive.ledger, frozenset({HOST, public_hex(OTHER_HOST_KEY)}), archive.log_id)
    for back in (4, 0):
        with archive.engine.begin() as conn:
            assert archive.sequencer.reconsider(conn) == back
            assert archive.sequencer.reconsider(conn) == 0
        archive.drain()
    archive.check_chains(public_hex(OTHER_HOST_KEY))
    assert len(archive.quarantine()) == 4  # what happened is not undone


def test_events_of_a_missing_host_come_back_though_their_writer_has_retired(archive: Archive) -> None:
    """A command that enrols, writes and retires in one transaction, on a host that nobody configured here yet."""
    other = Ledger.open(SteadyClock(), FixedChance("other"))
    with archive.engine.begin() as conn, other.once(conn, OTHER_HOST_KEY):
        other.append(conn, SUBJECT, Type.ACCESSED, {})
    archive.drain()
    assert archive.quarantine() == [(ARCHIVE, 1, "writer"), (SUBJECT, 0, "writer"), (ARCHIVE, 2, "writer")]
    archive.sequencer = Sequencer(archive.ledger, frozenset({HOST, public_hex(OTHER_HOST_KEY)}), archive.log_id)
    with archive.engine.begin() as conn:
        assert archive.sequencer.reconsider(conn) == 3
    archive.drain()
    archive.check_chains(public_hex(OTHER_HOST_KEY))
    assert len(archive.quarantine()) == 3
    archive.append(Draft(SUBJECT, Type.ACCESSED), ledger=other)
    archive.drain()
    assert archive.quarantine()[3:] == [(SUBJECT, 1, "writer")]


def test_forged_rows_are_not_reconsidered_for_ever(archive: Archive) -> None:
    archive.insert(ARCHIVE, 5, signed(OTHER_HOST_KEY, ARCHIVE, 2, b"x" * 32, type=Type.WRITER_ENROLLED, data={}))
    archive.drain()
    archive.sequencer = Sequencer(archive.ledger, frozenset({HOST, public_hex(OTHER_HOST_KEY)}), archive.log_id)
    for back in (1, 0):
        with archive.engine.begin() as conn:
            assert archive.sequencer.reconsider(conn) == back
        archive.drain()
    assert archive.quarantine() == [(ARCHIVE, 5, "writer"), (ARCHIVE, 5, "place")]


def test_true_event_in_another_row_is_refused(archive: Archive) -> None:
    archive.events(SUBJECT, 2)
    archive.events(OTHER_SUBJECT, 1)
    archive.insert(OTHER_SUBJECT, 1, archive.entry(SUBJECT, 1))
    archive.insert(SUBJECT, 2, archive.entry(SUBJECT, 0))
    archive.drain()
    assert archive.quarantine() == [(OTHER_SUBJECT, 1, "place"), (SUBJECT, 2, "place")]
    assert [each[0] for each in archive.anomalies()] == ["anomaly.chain_fork"] * 2
    archive.check_chains()


# --- forks and holes -----------------------------------------------------------------------------------------------


def test_row_that_the_log_has_already_leaves_the_queue_quietly(archive: Archive) -> None:
    """As after a restored backup, whose queue holds what was integrated since."""
    archive.events(SUBJECT, 3)
    archive.drain()
    for seq in (0, 2):
        archive.insert(SUBJECT, seq, archive.entry(SUBJECT, seq))
    archive.check_chains()
    done = archive.integrate()
    assert (done.taken, done.quarantined, done.size) == (2, 0, 4)
    archive.check_chains()
    assert archive.anomalies() == []


def test_subject_turned_back_is_a_fork_and_its_chain_goes_on(archive: Archive) -> None:
    archive.events(SUBJECT, 5)
    archive.drain()
    tamper(archive.engine, "custody_subject", "UPDATE custody_subject SET head_seq = 2, head_hash = :h WHERE subject = :s",
           s=SUBJECT, h=leaf_hash(archive.entry(SUBJECT, 2)))  # fmt: skip
    archive.events(SUBJECT, 6)
    archive.drain()
    assert archive.quarantine() == [(SUBJECT, 3, "fork"), (SUBJECT, 4, "fork"), (SUBJECT, 5, "link")]
    assert archive.anomalies() == [
        ("anomaly.chain_fork", SUBJECT, 3, "fork"),
        ("anomaly.chain_fork", SUBJECT, 4, "fork"),
        ("anomaly.chain_fork", SUBJECT, 5, "link"),
        ("anomaly.gap", SUBJECT, 6, 5),
    ]
    events = check_log(archive.engine, in_order=False)
    assert [event.seq for event in events if event.subject == SUBJECT] == [0, 1, 2, 3, 4, 6, 7, 8]
    archive.events(SUBJECT, 2)
    archive.drain()
    assert len(archive.quarantine()) == 3


def test_archive_chain_turned_back_comes_to_rest(archive: Archive) -> None:
    """The anomalies are themselves of the subject that was turned back."""
    archive.events(ARCHIVE, 6)
    archive.drain()
    tamper(archive.engine, "custody_subject", "UPDATE custody_subject SET head_seq = 0, head_hash = :h WHERE subject = :s",
           s=ARCHIVE, h=leaf_hash(archive.entry(ARCHIVE, 0)))  # fmt: skip
    archive.events(ARCHIVE, 2)
    archive.drain(rounds=3)
    assert archive.quarantine() == [(ARCHIVE, 1, "fork"), (ARCHIVE, 2, "fork")]
    assert archive.anomalies() == [("anomaly.chain_fork", ARCHIVE, seq, "fork") for seq in (1, 2)]
    archive.events(ARCHIVE, 2)
    archive.drain(rounds=2)
    archive.check_chains()  # it went on from the log's end


TURNED_BACK = "UPDATE custody_subject SET head_seq = :n, head_hash = :h WHERE subject = :s"


@pytest.mark.parametrize("waiting", [0, 3], ids=["all in the log", "some in the queue"])
@pytest.mark.parametrize("to", [0, 2, 5], ids=["to the start", "by some", "only its hash"])
def test_process_that_starts_on_an_archive_chain_turned_back_writes_on_and_says_so(
    archive: Archive, to: int, waiting: int
) -> None:
    archive.events(ARCHIVE, 5)
    archive.drain()
    archive.events(ARCHIVE, waiting)
    last = 5 + waiting
    tamper(archive.engine, "custody_subject", TURNED_BACK, s=ARCHIVE, n=to, h=b"x" * 32)
    following = Archive.__new__(Archive)
    following.engine, following.log_id = archive.engine, archive.log_id
    following.ledger = Ledger.open(SteadyClock(), FixedChance("the next process"))
    following.sequencer = Sequencer(following.ledger, frozenset({HOST}), archive.log_id)
    with archive.engine.begin() as conn:
        assert following.ledger.enroll(conn, HOST_KEY).seq == last + 1
    following.events(SUBJECT, 3)
    following.drain()
    assert following.quarantine() == []
    told = [event.data for event in check_log(archive.engine, in_order=True) if event.type.startswith("anomaly.")]
    assert told == [{"subject": ARCHIVE, "head": to, "last": last}]
    following.check_chains()


def test_forged_row_where_the_next_process_would_begin_keeps_it_from_nothing(archive: Archive) -> None:
    archive.events(ARCHIVE, 5)
    archive.drain()
    archive.insert(ARCHIVE, 6, b"forged")
    following = Ledger.open(SteadyClock(), FixedChance("the next process"))
    with archive.engine.begin() as conn:
        assert following.enroll(conn, HOST_KEY).seq == 7
    archive.events(SUBJECT, 3, ledger=following)
    archive.drain()
    assert archive.quarantine() == [(ARCHIVE, 6, "signature")]
    assert [event.writer for event in check_log(archive.engine, in_order=False) if event.subject == SUBJECT] == [
        following.writer
    ] * 3


@pytest.mark.parametrize("skipping", [0, 1], ids=["another before it", "a hole before it"])
@pytest.mark.parametrize("subject", [ARCHIVE, SUBJECT], ids=["the archive", "a recording"])
def test_own_writer_that_links_wrongly_does_not_feed_the_log_for_ever(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, subject: str, skipping: int
) -> None:
    """Its anomalies are as wrong as the events that they tell of."""
    lock_heads = ledger_module._lock_heads

    def wrong_heads(conn: Connection, subjects: set[str]) -> dict[str, ledger_module._Head]:
        heads = lock_heads(conn, subjects)
        for head in heads.values():
            if head.hash:
                head.seq, head.hash = head.seq + skipping, b"x" * 32
        return heads

    archive.drain()
    monkeypatch.setattr(ledger_module, "_lock_heads", wrong_heads)
    for written in range(3, 19, 3):
        archive.events(subject, 3)
        archive.drain(rounds=4)
        kept = len(archive.quarantine()) + len(check_log(archive.engine, in_order=False))
        assert 1 + written <= kept <= 1 + 3 * written, written  # each event once, in the log or in quarantine
    assert archive.anomalies()


def test_head_that_is_turned_back_again_and_again_does_not_feed_the_log_for_ever(archive: Archive) -> None:
    archive.events(ARCHIVE, 6)
    archive.drain()
    head = leaf_hash(archive.entry(ARCHIVE, 0))
    for written in range(1, 6):
        archive.events(ARCHIVE, 1)
        for _ in range(8):
            tamper(archive.engine, "custody_subject",
                   "UPDATE custody_subject SET head_seq = 0, head_hash = :h WHERE subject = :s", s=ARCHIVE, h=head)  # fmt: skip
            archive.integrate()
        assert archive.integrate().taken == 0
        kept = len(archive.quarantine()) + len(check_log(archive.engine, in_order=False)) - 7
        assert written <= kept <= 3 * written


MANGLING = {
    "sqlite": ["""CREATE TRIGGER mangle AFTER INSERT ON custody_pending BEGIN
        UPDATE custody_pending SET entry = CAST(substr(entry, 2) AS BLOB) WHERE pid = NEW.pid; END"""],
    "postgresql": ["""CREATE FUNCTION mangle() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.entry = substr(NEW.entry, 2); RETURN NEW; END $$""",
        "CREATE TRIGGER mangle BEFORE INSERT ON custody_pending FOR EACH ROW EXECUTE FUNCTION mangle()"],
}  # fmt: skip


def test_queue_that_changes_what_is_written_to_it_stops_the_log_and_loses_nothing(archive: Archive) -> None:
    """Every anomaly would be changed, too, and refused, and told of."""
    archive.drain()
    with archive.engine.begin() as conn:
        if archive.engine.dialect.name == "sqlite":
            conn.exec_driver_sql("DROP TRIGGER custody_pending_update")
        for statement in MANGLING[archive.engine.dialect.name]:
            conn.exec_driver_sql(statement)
    archive.events(SUBJECT, 2)
    for _ in range(3):
        with pytest.raises(VerificationError, match="does not keep events as they are written"):
            archive.integrate()
    assert archive.quarantine() == []
    with reading(archive.engine) as conn:
        assert reader.waiting(conn) == 2


@pytest.mark.parametrize("integrated", [True, False], ids=["after the ones before", "in one batch"])
def test_hole_is_named_and_later_events_are_not_held_up(archive: Archive, integrated: bool) -> None:
    archive.events(SUBJECT, 3)
    if integrated:
        archive.drain()
    archive.events(SUBJECT, 4)
    for seq in (3, 4):
        tamper(archive.engine, "custody_pending", "DELETE FROM custody_pending WHERE subject_no = :no AND seq = :seq",
               no=archive.number(SUBJECT), seq=seq)  # fmt: skip
    archive.drain()
    assert archive.anomalies() == [("anomaly.gap", SUBJECT, 5, 3)]
    assert archive.quarantine() == []


def test_missing_event_that_turns_up_fills_its_hole(archive: Archive) -> None:
    archive.events(SUBJECT, 5)
    missing = archive.entry(SUBJECT, 2)
    false = missing.replace(b'"n":2', b'"n":3')
    tamper(archive.engine, "custody_pending", "DELETE FROM custody_pending WHERE subject_no = :no AND seq = 2",
           no=archive.number(SUBJECT))  # fmt: skip
    archive.drain()
    archive.insert(SUBJECT, 2, false)
    archive.drain()
    archive.insert(SUBJECT, 2, missing)
    archive.drain()
    archive.check_chains()
    assert archive.quarantine() == [(SUBJECT, 2, "signature")]
    assert [each[0] for each in archive.anomalies()] == ["anomaly.gap", "anomaly.bad_writer_sig"]


def test_hole_is_not_filled_with_what_its_neighbours_do_not_name(archive: Archive) -> None:
    archive.events(SUBJECT, 4)
    for seq in (1, 2):
        tamper(archive.engine, "custody_pending", "DELETE FROM custody_pending WHERE subject_no = :no AND seq = :seq",
               no=archive.number(SUBJECT), seq=seq)  # fmt: skip
    archive.drain()
    key = archive.ledger._key
    archive.insert(SUBJECT, 2, signed(key, SUBJECT, 2, b"x" * 32))  # event 3 names another
    archive.insert(SUBJECT, 1, signed(key, SUBJECT, 1, b"x" * 32))  # does not name event 0
    archive.drain()
    assert archive.quarantine() == [(SUBJECT, 2, "link"), (SUBJECT, 1, "link")]


# --- a log that was tampered with is not built upon ---------------------------------------------------------------


def test_own_writer_that_is_not_enrolled_stops_everything_and_refuses_nothing(archive: Archive) -> None:
    stranger = Ledger.open(SteadyClock(), FixedChance("stranger"))
    archive.drain()
    archive.events(SUBJECT, 1, ledger=stranger)
    archive.sequencer = Sequencer(stranger, frozenset({HOST}), archive.log_id)
    with pytest.raises(ConfigurationError, match="not enrolled"):
        archive.integrate()
    assert archive.quarantine() == []
    with reading(archive.engine) as conn:
        assert reader.waiting(conn) == 1


FLIP = {
    "sqlite": "CAST(substr({0}, 1, {1}) || x'00' || substr({0}, {1} + 2) AS BLOB)",
    "postgresql": "set_byte({0}, {1}, 0)",
}
TILE = "UPDATE custody_tile SET hashes = {} WHERE level = {} AND idx = {}"
TAMPERED = {
    "leaf hash at the edge": ("custody_tile", TILE.format("{flip_40}", 0, 2), "tile/0/002 does not agree with leaf 513"),
    "inner hash at the edge": ("custody_tile", TILE.format("{flip_40}", 1, 0), "tile/1/000 does not agree with tile/0/001"),
    "edge cut": ("custody_tile", TILE.format("substr(hashes, 1, 32)", 0, 2), "tile/0/002 has 1 hashes where a tree of 520"),
    "edge extended": ("custody_tile", TILE.format("{blob}hashes || substr(hashes, 1, 32){end}", 0, 2), "tile/0/002 has 9 hashes"),
    "edge deleted": ("custody_tile", "DELETE FROM custody_tile WHERE level = 1", "tile/1/000 is missing"),
    "tile beyond": ("custody_tile", "INSERT INTO custody_tile SELECT log_id, 0, 3, hashes FROM custody_tile WHERE level = 1",
                    "tile/0/003 has 2 hashes"),
    "level beyond": ("custody_tile", "UPDATE custody_tile SET level = 2 WHERE level = 1", "tile/1/000 is missing"),
    "root": ("custody_tree", "UPDATE custody_tree SET root = {flip_root}", "the root in custody_tree"),
    "size": ("custody_tree", "UPDATE custody_tree SET size = size - 1", "has 519 leaves, but custody_event ends with leaf 519"),
    "last leaf deleted": ("custody_event", "DELETE FROM custody_event WHERE leaf_index = 519", "ends with leaf 518"),
    "leaf beyond": ("custody_event", ("INSERT INTO custody_event SELECT log_id, 520, entry FROM custody_event"
                    " WHERE leaf_index = 5"), "ends with leaf 520"),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED)
def test_tampered_edge_is_named_and_stops_growth(archive: Archive, case: str) -> None:
    table, statement, message = TAMPERED[case]
    archive.events(SUBJECT, 519)
    archive.drain()
    flip = FLIP[archive.engine.dialect.name]
    blob, end = ("CAST(", " AS BLOB)") if archive.engine.dialect.name == "sqlite" else ("", "")
    spelled = {"flip_40": flip.format("hashes", 40), "flip_root": flip.format("root", 0), "blob": blob, "end": end}
    tamper(archive.engine, table, statement.format(**spelled))
    archive.events(SUBJECT, 300)
    with pytest.raises(VerificationError, match=message):
        archive.integrate()
    with reading(archive.engine) as conn:
        assert reader.waiting(conn) == 300


def test_tampered_full_tile_below_the_edge_is_named_when_its_hash_is_doubted(archive: Archive) -> None:
    archive.events(SUBJECT, 511)
    archive.drain()
    flip = FLIP[archive.engine.dialect.name].format("hashes", 40)
    tamper(archive.engine, "custody_tile", TILE.format(flip, 0, 0))
    archive.events(SUBJECT, 1)
    assert archive.integrate().taken == 1  # nothing of it is needed to grow
    tamper(
        archive.engine,
        "custody_tree",
        f"UPDATE custody_tree SET root = {FLIP[archive.engine.dialect.name].format('root', 0)}",
    )
    archive.events(SUBJECT, 1)
    with pytest.raises(VerificationError, match="tile/1/000 does not agree with tile/0/000"):
        archive.integrate()


def test_index_row_of_a_stranger_does_not_get_a_true_event_refused(archive: Archive) -> None:
    archive.events(SUBJECT, 3)
    archive.drain()
    with archive.engine.begin() as conn:
        conn.execute(text("INSERT INTO custody_subject_event SELECT subject_no, 3, log_id, 1, type_no, at"
                          " FROM custody_subject_event WHERE leaf_index = 3"))  # fmt: skip
    archive.events(SUBJECT, 1)
    with pytest.raises(VerificationError, match=f"event 3 of {SUBJECT}"):
        archive.integrate()
    assert archive.quarantine() == []


def test_edited_event_in_the_log_does_not_get_its_successor_refused(archive: Archive) -> None:
    archive.events(SUBJECT, 3)
    archive.drain()
    edited = archive.entry(SUBJECT, 2).replace(b'"n":2', b'"n":7')
    tamper(
        archive.engine, "custody_event", "UPDATE custody_event SET entry = :entry WHERE leaf_index = 3", entry=edited
    )
    archive.events(SUBJECT, 1)
    with pytest.raises(VerificationError, match=f"event 2 of {SUBJECT}"):
        archive.integrate()
    assert archive.quarantine() == []


def test_strangers_event_in_the_log_does_not_get_its_successor_refused(archive: Archive) -> None:
    archive.events(SUBJECT, 2)
    archive.drain()
    false = signed(OTHER_KEY, SUBJECT, 1, leaf_hash(archive.entry(SUBJECT, 0)))
    tamper(archive.engine, "custody_event", "UPDATE custody_event SET entry = :entry WHERE leaf_index = 2", entry=false)
    archive.events(SUBJECT, 1)
    with pytest.raises(VerificationError, match=f"event 1 of {SUBJECT}, in the log, is by a writer"):
        archive.integrate()


def test_writer_that_only_the_index_knows_is_not_believed(archive: Archive) -> None:
    archive.events(SUBJECT, 1)
    archive.drain()
    with archive.engine.begin() as conn:
        conn.execute(text("INSERT INTO custody_writer (key, host, enrolled_leaf) VALUES (:key, :host, 0)"),
                     {"key": bytes.fromhex(public_hex(OTHER_KEY)), "host": bytes.fromhex(HOST)})  # fmt: skip
    archive.insert(SUBJECT, 1, signed(OTHER_KEY, SUBJECT, 1, leaf_hash(archive.entry(SUBJECT, 0))))
    with pytest.raises(VerificationError, match="custody_writer: leaf 0 does not enrol"):
        archive.integrate()


def test_index_row_by_an_unknown_host_does_not_pass_for_an_enrolment(archive: Archive) -> None:
    key = bytes.fromhex(public_hex(OTHER_KEY))
    archive.events(SUBJECT, 2)
    archive.drain()
    false = signed(OTHER_HOST_KEY, ARCHIVE, 9, b"x" * 32, type=Type.WRITER_ENROLLED, data={"writer": key.hex()})
    tamper(archive.engine, "custody_event", "UPDATE custody_event SET entry = :entry WHERE leaf_index = 1", entry=false)
    with archive.engine.begin() as conn:
        conn.execute(text("INSERT INTO custody_writer (key, host, enrolled_leaf) VALUES (:key, :host, 1)"),
                     {"key": key, "host": bytes.fromhex(public_hex(OTHER_HOST_KEY))})  # fmt: skip
    archive.insert(SUBJECT, 2, signed(OTHER_KEY, SUBJECT, 2, leaf_hash(archive.entry(SUBJECT, 1))))
    archive.drain()
    assert archive.quarantine() == [(SUBJECT, 2, "writer")]

    # Nor does it get the key's true enrolment lost.
    with archive.engine.begin() as conn:
        Ledger(OTHER_KEY, SteadyClock(), FixedChance("other")).enroll(conn, HOST_KEY)
    with pytest.raises(VerificationError, match="is there before a known host enrolled it"):
        archive.integrate()


# --- opening and reading -------------------------------------------------------------------------------------------


def test_log_is_opened_once_and_not_beside_another(database: Engine) -> None:
    with database.begin() as conn:
        assert [open_log(conn, "archive.example/a", NOW) for _ in range(2)] == [1, 1]
        with pytest.raises(ConfigurationError, match=r"'archive.example/a', not 'archive.example/b'"):
            open_log(conn, "archive.example/b", NOW)
        conn.execute(text("UPDATE custody_log SET closed_at = opened_at"))
        assert open_log(conn, "archive.example/b", NOW) == 2
        assert [each.origin for each in reader.logs(conn)] == ["archive.example/a", "archive.example/b"]
        assert reader.tree(conn, 2) == (0, merkle.EMPTY_ROOT)


def test_what_is_not_there_is_not_found(archive: Archive) -> None:
    archive.events(SUBJECT, 1)
    archive.drain()
    archive.events(SUBJECT, 1)
    with reading(archive.engine) as conn:
        for read in (
            lambda: reader.tree(conn, 9),
            lambda: tree.read(conn, 9),
            lambda: reader.entry(conn, archive.log_id, 2),
            lambda: list(reader.entries(conn, archive.log_id, 0, 3)),
        ):
            with pytest.raises(NotFoundError):
                read()
        assert reader.read_tile(conn, archive.log_id)(0, 1) == b""
        assert reader.index_of(conn, SUBJECT, 1) is None  # waits in the queue
        assert reader.index_of(conn, OTHER_SUBJECT, 0) is None
        assert reader.newest_checkpoint(conn, archive.log_id) is None


def test_readers_find_entries_places_and_proofs(archive: Archive) -> None:
    archive.events(SUBJECT, 700)
    archive.drain()
    with reading(archive.engine) as conn:
        size, root = reader.tree(conn, archive.log_id)
        entries = list(reader.entries(conn, archive.log_id, 0, size))
        hashes = hashes_of(reader.read_tile(conn, archive.log_id))
        for seq in (0, 254, 255, 256, 699):
            found = reader.index_of(conn, SUBJECT, seq)
            assert found == (archive.log_id, seq + 1)
            entry = reader.entry(conn, *found)
            assert entry == entries[seq + 1] == archive.entry(SUBJECT, seq)
            proof = merkle.inclusion_proof(found[1], size, hashes)
            merkle.verify_inclusion(leaf_hash(entry), found[1], size, proof, root)
        assert list(reader.entries(conn, archive.log_id, 5, 5)) == []
        assert list(reader.entries(conn, archive.log_id, 499, 502)) == entries[499:502]


def test_checkpoints_are_read_in_order_of_size(archive: Archive) -> None:
    archive.drain()
    with archive.engine.begin() as conn:
        for size, at in ((256, NOW), (2, NOW), (1000, None)):
            conn.execute(
                insert(custody_checkpoint).values(
                    log_id=archive.log_id, size=size, root=b"r" * 32, note="note", signed_at=NOW, published_at=at
                )
            )
    with reading(archive.engine) as conn:
        assert [each.size for each in reader.checkpoints(conn, archive.log_id)] == [2, 256, 1000]
        assert [each.size for each in reader.checkpoints(conn, archive.log_id, after=2)] == [256, 1000]
        assert reader.newest_checkpoint(conn, archive.log_id) == reader.Signed(1000, b"r" * 32, "note", NOW, None)
        assert reader.newest_checkpoint(conn, archive.log_id, published=True) == reader.Signed(
            256, b"r" * 32, "note", NOW, NOW
        )


def test_numbers_of_types_are_for_ever() -> None:
    """A type that is new stands at the end: these numbers are in databases."""
    assert list(TYPE_NUMBERS)[:42] == [
        "recording.discovered", "recording.source_refreshed", "recording.downloaded", "recording.verified", "recording.sealed",
        "recording.stored", "recording.store_verified", "recording.fixity_checked", "recording.accessed", "recording.rewrapped",
        "recording.shredded", "recording.purged", "provider.delete_intended", "provider.deleted", "provider.delete_confirmed",
        "export.prepared", "export.delivered", "hold.placed", "hold.released", "retention.set", "retention.extended",
        "disposition.approved", "key.rotated", "anomaly.content_differs", "anomaly.missing_at_provider", "anomaly.gap",
        "anomaly.audio_invalid", "anomaly.store_mismatch", "anomaly.clock_skew", "anomaly.chain_fork", "anomaly.bad_writer_sig",
        "anomaly.db_rollback", "reconcile.completed", "writer.enrolled", "writer.retired", "config.changed", "schema.migrated",
        "log.opened", "log.heartbeat", "log.anchored", "log.key_rotated", "log.restored",
    ]  # fmt: skip
    assert list(TYPE_NUMBERS.values()) == list(range(1, len(Type) + 1))
