"""What the log's tables must say, recomputed from the entries alone and the slow way; and how to change what guards protect."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, func, select, text

from archiver.completeness.issue import Issued
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Event, verify
from archiver.custody.tables import TYPE_NUMBERS, custody_event, custody_pending
from archiver.database import UtcDateTime, reading
from archiver.translog.checkpoint import Checkpoint, open_checkpoint
from archiver.translog.merkle import verify_inclusion
from archiver.translog.note import VerifierKey
from archiver.translog.proof import LogProof


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word. `leaves` are leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def tiles(leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
    """Every tile of the tree over `leaves`, by level and index."""
    found, level = {}, 0
    while leaves:
        for start in range(0, len(leaves), 256):
            found[level, start // 256] = b"".join(leaves[start : start + 256])
        leaves = [mth(leaves[start : start + 256]) for start in range(0, len(leaves) // 256 * 256, 256)]
        level += 1
    return found


def rows(conn: Connection, query: str, **values: object) -> list[Any]:
    return list(conn.execute(text(query), values))


def check_log(engine: Engine, log_id: int = 1, *, in_order: bool = True) -> list[Event]:
    """The log's events, after checking leaves, tiles, root and index; with `in_order`, that no subject's events overtook."""
    with reading(engine) as conn:
        entries = rows(conn, "SELECT leaf_index, entry FROM custody_event WHERE log_id = :id ORDER BY 1", id=log_id)
        kept = rows(conn, "SELECT level, idx, hashes FROM custody_tile WHERE log_id = :id", id=log_id)
        tree = rows(conn, "SELECT size, root FROM custody_tree WHERE log_id = :id", id=log_id)[0]
        index = conn.execute(
            text(
                """SELECT subject, seq, leaf_index, type_no, at FROM custody_subject_event
                   JOIN custody_subject USING (subject_no) WHERE log_id = :id ORDER BY leaf_index"""
            ).columns(at=UtcDateTime()),
            {"id": log_id},
        ).all()
    assert [row.leaf_index for row in entries] == list(range(tree.size))
    leaves = [leaf(row.entry) for row in entries]
    assert tree.root == mth(leaves)
    assert {(row.level, row.idx): row.hashes for row in kept} == tiles(leaves)
    events = [verify(row.entry) for row in entries]
    assert [tuple(row) for row in index] == [
        (event.subject, event.seq, number, TYPE_NUMBERS[event.type], event.at) for number, event in enumerate(events)
    ]
    if in_order:
        last: dict[str, int] = {}
        for event in events:
            assert event.seq == last.get(event.subject, -1) + 1, event
            last[event.subject] = event.seq
    return events


@contextmanager
def unguarded(conn: Connection, table: str) -> Iterator[None]:
    """What somebody with the owner's password can do: change `table` without its triggers, which are back afterwards."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        for row in rows(
            conn, f"SELECT tgname FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND NOT tgisinternal"
        ):
            conn.exec_driver_sql(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {row.tgname}")
        return
    triggers = rows(conn, "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :t", t=table)
    for row in triggers:
        conn.exec_driver_sql(f"DROP TRIGGER {row.name}")
    yield
    for row in triggers:
        conn.exec_driver_sql(row.sql)


def tamper(engine: Engine, table: str, statement: str, **values: object) -> None:
    """One statement that the guards of `table` would refuse."""
    with engine.begin() as conn, unguarded(conn, table):
        assert conn.execute(text(statement), values).rowcount == 1


def open_proof(
    proof: LogProof, leaf: bytes, log_key: VerifierKey, witnesses: Sequence[VerifierKey] = ()
) -> tuple[Checkpoint, tuple[tuple[VerifierKey, int], ...]]:
    """Returns the checkpoint under which the leaf hash is proved to stand, and its witnesses (`open_checkpoint`).

    Raises `VerificationError`.
    """
    checkpoint, seen_by = open_checkpoint(proof.checkpoint, log_key, witnesses)
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint, seen_by


def count_events(conn: Connection) -> int:
    """The number of events in the log and in the queue."""
    return sum(
        conn.execute(select(func.count()).select_from(table)).scalar_one() for table in (custody_event, custody_pending)
    )


def signed_statements(conn: Connection, issued: Sequence[Issued]) -> dict[int, bytes]:
    """The signed entries of these statements, by their number in the chain of subject `archive`."""
    wanted = {each.seq for each in issued}
    return {each.seq: each.raw for each in history.entries(conn, ARCHIVE) if each.seq in wanted}
