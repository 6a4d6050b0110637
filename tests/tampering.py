"""An archive with something of everything in its log, for tests that then tamper with it; and what a superuser can do."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from archiver.clock import SystemChance
from archiver.custody import event
from archiver.custody.event import ARCHIVE, Type, sign
from archiver.custody.ledger import Draft, Ledger
from archiver.database import metadata, reading
from archiver.store.port import ObjectStore, Shelf
from archiver.translog import publication_rows, reader
from archiver.translog.anchor import Anchorer, Authority
from archiver.translog.checkpoint import Checkpoint
from archiver.translog.http import Client
from archiver.translog.note import Signer
from archiver.translog.timestamp import load_roots
from archiver.verify.everywhere import check_everywhere
from archiver.verify.finding import Finding, Kind, Verification
from archiver.verify.leaves import Trust
from archiver.verify.log import check_log, find_log
from archiver.verify.protection import ExpectedLock
from archiver.verify.recent import check_edge, check_window
from tests.custody_examples import HOST_KEY, OTHER_KEY
from tests.custody_log import HOSTS, SUBJECTS, CustodyLog, MovableClock, custody_log
from tests.log_oracle import rows, unguarded
from tests.log_trees import LOG, ORIGIN, private_key
from tests.timestamps import authority

TABLES = sorted(name for name in metadata.tables if name.startswith("custody_"))
FORGER = Signer(ORIGIN, private_key("forger"))
QUARANTINED, REFUSED_SEQ = SUBJECTS[39], 900


async def retire(archive: CustodyLog, ledger: Ledger) -> None:
    """Say, signed by the host, that a session writes no more."""
    draft = Draft(ARCHIVE, Type.WRITER_RETIRED, {"writer": ledger.writer}, actor_kind="host")
    await archive.writer.run(lambda conn: ledger._append(conn, [(draft, HOST_KEY)]))


async def another_writer(archive: CustodyLog) -> Ledger:
    ledger = Ledger.open(archive.clock, SystemChance())
    await archive.writer.run(lambda conn: ledger.enroll(conn, HOST_KEY))
    return ledger


async def speak(archive: CustodyLog, ledger: Ledger, subject: str, number: int, **private: Mapping[str, Any]) -> None:
    drafts = [Draft(subject, Type.VERIFIED, {"n": n}, private) for n in range(number)]
    await archive.writer.run(lambda conn: ledger.append_many(conn, drafts))


async def forge(archive: CustodyLog, subject: str, seq: int, entry: bytes) -> None:
    """A row of the queue that no ledger of ours made."""
    row = {"subject": subject, "seq": seq, "entry": entry}
    query = """INSERT INTO custody_pending (subject_no, seq, entry)
               SELECT subject_no, :seq, :entry FROM custody_subject WHERE subject = :subject"""
    await archive.writer.run(lambda conn: conn.execute(text(query), row))


async def beat(archive: CustodyLog) -> None:
    await archive.writer.run(
        lambda conn: publication_rows.beat(conn, archive.ledger, archive.log_id, archive.clock.now())
    )


@dataclass
class Stamping:
    """A time stamping authority for any number of archives."""

    authority: Authority
    trust: Trust

    async def anchor(self, archive: CustodyLog) -> None:
        await Anchorer(
            archive.engine,
            archive.writer,
            archive.log_id,
            self.authority,
            archive.shelves,
            archive.ledger,
            archive.clock,
        ).anchor(archive.clock.now() + timedelta(days=30))


@asynccontextmanager
async def stamping(folder: Path) -> AsyncIterator[Stamping]:
    async with authority(folder) as server, Client(timeout=timedelta(seconds=20)) as client:
        roots = tuple(load_roots(server.root.pem))
        yield Stamping(Authority("tsa", server.url, roots, client, SystemChance()), Trust(LOG.key, HOSTS, roots))


async def publish(archive: CustodyLog) -> int:
    await archive.integrate()
    issued = await archive.publisher.publish(archive.clock.now() + timedelta(days=30))
    assert issued is not None
    return issued.checkpoint.size


@dataclass
class Scene:
    """Where things stand in the archive of `build`."""

    url: str
    notary: Path
    trust: Trust
    sizes: list[int] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


async def build(url: str, notary: Path, shelves: Sequence[Shelf], stamps: Stamping) -> Scene:
    """Some 560 leaves, seven checkpoints, two of them anchored, two refused rows, a retired writer, a queue, private data."""
    clock = MovableClock()
    clock.later = timedelta(days=-2)
    scene = Scene(url, notary, stamps.trust)
    async with custody_log(url, notary, shelves, clock=clock) as archive:
        await archive.publisher.start()
        retired = await another_writer(archive)
        await archive.append(60)
        await speak(archive, retired, SUBJECTS[3], 2, parties={"caller": "+4912345"}, agent={"name": "A"})
        scene.sizes.append(await publish(archive))
        await stamps.anchor(archive)
        await retire(archive, retired)
        await archive.append(200)
        await beat(archive)
        scene.sizes.append(await publish(archive))
        await forge(archive, QUARANTINED, REFUSED_SEQ, b"no event at all")
        stranger = log_entry(archive, QUARANTINED, REFUSED_SEQ + 1)
        await forge(archive, QUARANTINED, REFUSED_SEQ + 1, stranger)
        await archive.append(150)
        scene.sizes.append(await publish(archive))
        clock.later = timedelta(days=-1, hours=-12)
        await archive.append(40)
        scene.sizes.append(await publish(archive))
        clock.later = timedelta(hours=-2)
        await beat(archive)
        await speak(archive, archive.ledger, SUBJECTS[5], 2, parties={"caller": "+4954321"})
        scene.sizes.append(await publish(archive))
        await stamps.anchor(archive)
        await archive.append(60)
        scene.sizes.append(await publish(archive))
        await archive.append(30)
        scene.sizes.append(await publish(archive))
        await archive.append(80)  # two of each subject wait
        await speak(archive, archive.ledger, SUBJECTS[6], 1, parties={"caller": "+490"})
        with reading(archive.engine) as conn:
            scene.values = _values(conn, archive, retired, scene.sizes)
    return scene


def log_entry(archive: CustodyLog, subject: str, seq: int) -> bytes:
    """An entry by somebody whom no host enrolled."""
    from archiver.custody.event import Event
    from archiver.custody.keys import public_hex

    said = Event(subject, seq, "0" * 64, Type.STORED, archive.clock.now(), SystemChance().uuid(), public_hex(OTHER_KEY))
    return sign(said, OTHER_KEY)


def note_over(size: int, root: bytes, signer: Signer = LOG) -> bytes:
    body = Checkpoint(ORIGIN, size, root).body
    return f"{body}\n{signer.sign(body)}".encode()


def _values(conn: Connection, archive: CustodyLog, retired: Ledger, sizes: list[int]) -> dict[str, Any]:
    size, root = reader.tree(conn, archive.log_id)
    entry = {number: reader.entry(conn, 1, number) for number in (0, 300, 301, size - 1)}
    numbers = {row.subject: row.subject_no for row in rows(conn, "SELECT subject, subject_no FROM custody_subject")}
    waiting = rows(conn, "SELECT pid, subject_no, seq, entry FROM custody_pending ORDER BY pid")
    tile = {(row.level, row.idx): row.hashes for row in rows(conn, "SELECT level, idx, hashes FROM custody_tile")}
    of = numbers[SUBJECTS[7]]
    place = rows(conn, "SELECT seq, leaf_index FROM custody_subject_event WHERE subject_no = :no ORDER BY seq", no=of)
    private = rows(conn, "SELECT subject_no, seq, grp FROM custody_private ORDER BY subject_no, seq, grp")
    refused = rows(conn, "SELECT id FROM custody_quarantine ORDER BY id")
    note = {row.size: row for row in rows(conn, "SELECT size, root, note FROM custody_checkpoint")}
    anchored = [row[0] for row in rows(conn, "SELECT DISTINCT size FROM custody_anchor ORDER BY 1")]
    last = {row.subject_no: (row.pid, row.seq) for row in waiting}
    other_root = bytes(32)
    return {
        "size": size, "last": size - 1, "entry0": entry[0], "entry300": entry[300], "entry301": entry[301],
        "edited": entry[300].replace(b'"outcome":"ok"', b'"outcome":"no"'), "waiting_entry": waiting[9].entry,
        "stranger": log_entry(archive, SUBJECTS[7], 1), "junk": b"\xff\xfe junk",
        "bad_hash": bytes(32), "flip1": _flip(tile[0, 1], 44), "flip2": _flip(tile[0, 2], 3), "flip_top": _flip(tile[1, 0], 1),
        "short1": tile[0, 1][:-32], "tile0": tile[0, 0], "tile1": tile[0, 1], "long2": tile[0, 2] + bytes(32),
        "c0": sizes[0], "c1": sizes[1], "c3": sizes[3], "c5": sizes[5], "c6": sizes[6],
        "root1": note[sizes[1]].root, "note1": note[sizes[1]].note, "note2": note[sizes[2]].note, "root": root,
        "forged_note": note_over(540, other_root, FORGER).decode(), "fork_note": note_over(540, other_root).decode(),
        "future_note": note_over(5000, other_root).decode(),
        "forged_future": note_over(5000, other_root, FORGER).decode(),
        "forged5": note_over(sizes[5], note[sizes[5]].root, FORGER).decode(),
        "no": of, "other": numbers[SUBJECTS[8]], "archive_no": numbers[ARCHIVE], "subject": SUBJECTS[7], "subject8": SUBJECTS[8],
        "new_subject": "rec:01937f2c-8b7e-7c3a-9d1e-ffffffffffff",
        "seq": place[2].seq, "leaf": place[2].leaf_index, "leaf_next": place[3].leaf_index, "seq_next": place[3].seq,
        "pid": waiting[5].pid, "pid_seq": waiting[5].seq, "pid_no": waiting[5].subject_no,
        "pid_last": last[of][0], "pid_last_seq": last[of][1],
        "pid_before": next(row.pid for row in waiting if row.subject_no == of),
        "pid_gone": last[numbers[SUBJECTS[6]]][1],
        "retired": bytes.fromhex(retired.writer), "writer": bytes.fromhex(archive.ledger.writer),
        "writer_hex": archive.ledger.writer[:16],
        "retired_hex": retired.writer[:16], "unknown": bytes(31) + b"\x01", "unknown_hex": "0" * 16,
        "q0": refused[0].id, "q1": refused[1].id, "refused_no": numbers[QUARANTINED],
        "p_no": private[0].subject_no, "p_seq": private[0].seq, "p_grp": private[0].grp, "p_seq2": private[2].seq,
        "a0": anchored[0], "a1": anchored[1],
    }  # fmt: skip


def _flip(hashes: bytes, slot: int) -> bytes:
    at = slot * 32
    return hashes[:at] + bytes([hashes[at] ^ 1]) + hashes[at + 1 :]


# --- what a superuser can do --------------------------------------------------------------------------------------


@contextmanager
def superuser(conn: Connection) -> Iterator[None]:
    """No guard, no foreign key and no check holds inside; the guards are there again afterwards. To be rolled back."""
    with ExitStack() as stack:
        for table in TABLES:
            stack.enter_context(unguarded(conn, table))
        if conn.dialect.name == "postgresql":
            conn.exec_driver_sql("SET LOCAL session_replication_role = replica")
            checks = """SELECT conrelid::regclass::text AS owner, conname FROM pg_constraint
                        WHERE contype = 'c' AND conrelid::regclass::text LIKE 'custody_%'"""
            identities = """SELECT table_name, column_name FROM information_schema.columns
                            WHERE is_identity = 'YES' AND table_name LIKE 'custody_%'"""
            for row in rows(conn, identities):
                conn.exec_driver_sql(f"ALTER TABLE {row[0]} ALTER COLUMN {row[1]} SET GENERATED BY DEFAULT")
            for row in rows(conn, checks):
                conn.exec_driver_sql(f"ALTER TABLE {row.owner} DROP CONSTRAINT {row.conname}")
        else:
            conn.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
            conn.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        yield


def run(conn: Connection, statements: str, values: Mapping[str, Any]) -> None:
    """Each of the statements, divided by semicolons, changes something."""
    for statement in statements.split(";"):
        assert conn.execute(text(statement.strip()), values).rowcount != 0, statement


_remembered = tuple((name, functools.lru_cache(8192)(getattr(event, name))) for name in ("_split", "verifies"))


@contextmanager
def remembering() -> Iterator[None]:
    """What bytes say and whether a signature is good depends on nothing else: found out once for entries that stay the same."""
    with pytest.MonkeyPatch.context() as patch:
        for name, known in _remembered:
            patch.setattr(event, name, known)
        yield


@remembering()
def checked(conn: Connection, trust: Trust, level: str, since: Any = None) -> Verification:
    """What `custody fsck` finds in the database."""
    result = Verification()
    log_id = find_log(conn, trust)
    if level == "full" or log_id is None:
        check_log(conn, log_id, trust, result)
        return result
    check_edge(conn, log_id, trust, result)
    if level == "window":
        check_window(conn, log_id, trust, since, result)
    return result


async def everywhere(
    archive: CustodyLog,
    stores: Mapping[str, ObjectStore],
    trust: Trust,
    level: str = "full",
    locks: Mapping[str, ExpectedLock] | None = None,
) -> Verification:
    """What `custody fsck` finds in database, storages and notary."""
    result = Verification()
    since = archive.clock.now() - timedelta(hours=24)
    with remembering():
        await check_everywhere(
            archive.engine, stores, trust, result,
            notary=archive.notary, on_record=(), locks=locks or {}, level=level, since=since,
        )  # fmt: skip
    return result


def names(result: Verification, kind: Kind, place: str) -> list[Finding]:
    """The findings of this kind that name this place."""
    return [each for each in result.failures if each.kind is kind and place in f"{each.subject} {each.detail}"]


async def publish_all(archive: CustodyLog) -> None:
    """Publish, if there is anything to publish."""
    await archive.integrate()
    await archive.publisher.publish(archive.clock.now() + timedelta(days=30))


async def forge_next(archive: CustodyLog, subject: str, entry: bytes) -> None:
    """Junk in the queue under a number that the subject does not have yet."""
    with reading(archive.engine) as conn:
        found = rows(conn, "SELECT head_seq FROM custody_subject WHERE subject = :s", s=subject)
    if found:
        await forge(archive, subject, found[0].head_seq + 1000, entry)
