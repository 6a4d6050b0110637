"""Whose events count: the archive, its index, its own verification and the verifier in bundles agree on shared vectors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Engine, text

from archiver.clock import SystemChance, SystemClock
from archiver.custody import history
from archiver.custody.chain import enrolled_writers
from archiver.custody.event import ARCHIVE, Entry, leaf_hash, verify
from archiver.custody.ledger import Ledger
from archiver.database import reading
from archiver.evidence.verifier import Bundle, Wrong
from archiver.evidence.verifier.primitives import parse_key
from archiver.translog import reader
from archiver.translog.note import parse_vkey
from archiver.translog.sequencer import Sequencer, open_log
from archiver.verify.finding import Kind, Verification
from archiver.verify.leaves import Findings, Leaves, Trust
from archiver.verify.log import check_log
from tests.evidence_log import ORIGIN, Log, key_of, public
from tests.log_oracle import rows

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "vectors/writers/vectors.json").read_text("utf-8")
)
vectors = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])


def make_log(vector: dict[str, Any]) -> tuple[Log, list[int]]:
    """The vector's log, written by a second implementation, and the leaves of the events in question, each its subject's only."""
    made, asked = Log(vector["name"]), []
    for step in vector["log"]:
        word, _, name = step.rpartition(" ")
        if word:
            made.enroll(key_of(name), {"enrol": "writer.enrolled", "retire": "writer.retired"}[word])
        else:
            asked.append(made.append(f"rec:{made.uuid()}", "recording.discovered", {}, key_of(name)))
    return made, asked


@vectors
@pytest.mark.parametrize("limit", [1, 1000], ids=["one by one", "in one batch"])
def test_archive_admits_exactly_what_is_ours_and_its_index_bears_verification(
    database: Engine, vector: dict[str, Any], limit: int
) -> None:
    made, asked = make_log(vector)
    own, hosts = Ledger.open(SystemClock(), SystemChance()), frozenset({made.host_hex})
    with database.begin() as conn:
        log_id = open_log(conn, ORIGIN, datetime.now(UTC))
        for entry in made.entries:
            event = verify(entry)
            if event.seq == 0:
                conn.execute(
                    text("INSERT INTO custody_subject (subject, head_seq) VALUES (:s, -1)"), {"s": event.subject}
                )
            number = rows(conn, "SELECT subject_no FROM custody_subject WHERE subject = :s", s=event.subject)[0][0]
            row = {"no": number, "seq": event.seq, "entry": entry, "hash": leaf_hash(entry)}
            conn.execute(text("INSERT INTO custody_pending (subject_no, seq, entry) VALUES (:no, :seq, :entry)"), row)
            conn.execute(
                text("UPDATE custody_subject SET head_seq = :seq, head_hash = :hash WHERE subject_no = :no"), row
            )
        own.enroll(conn, made.host)
    sequencer = Sequencer(own, hosts, log_id)
    for _ in range(100):
        with database.begin() as conn:
            if not sequencer.integrate(conn, limit).taken:
                break
    with reading(database) as conn:
        size, _ = reader.tree(conn, log_id)
        kept = list(reader.entries(conn, log_id, 0, size))
        assert [made.entries[at] in kept for at in asked] == vector["ours"]
        assert {each.reason for each in reader.quarantined(conn)} <= {"writer"}
        result = Verification()
        check_log(conn, log_id, Trust(parse_vkey(made.vkey), hosts), result)
        assert [each for each in result.findings if each.kind in {Kind.LOG_INDEX, Kind.LOG_LEAF}] == []
        writers = enrolled_writers(history.entries(conn, ARCHIVE), {made.host_hex})
    first = {step[-1]: step.split()[0] for step in reversed(vector["log"]) if " " in step}
    assert writers - {own.writer} == {public(key_of(name)).hex() for name, word in first.items() if word == "enrol"}


@vectors
def test_our_verification_names_exactly_what_is_not_ours(vector: dict[str, Any]) -> None:
    made, asked = make_log(vector)
    result = Verification()
    heard = Leaves(Trust(parse_vkey(made.vkey), frozenset({made.host_hex})), Findings(result, "log"))
    for index, entry in enumerate(made.entries):
        heard.hear(index, entry, Kind.LOG_LEAF, f"{index}")
    wrong = {int(each.detail.partition(":")[0]) for each in result.findings}
    assert [at not in wrong for at in asked] == vector["ours"]
    assert wrong <= set(asked)


@vectors
def test_bundles_verifier_names_exactly_what_is_not_ours(tmp_path: Path, vector: dict[str, Any]) -> None:
    made, asked = make_log(vector)
    note = made.checkpoint()
    files = {
        "data/log/checkpoint": note,
        "data/log/checkpoint.body": made.body().encode(),
        "data/trust/log.pem": made.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    }
    for index, entry in enumerate(made.entries):
        folder = "other" if index in asked else "data/log/archive-events"
        files[f"{folder}/{index:012d}.json"] = entry
        files[f"{folder}/{index:012d}.tlog-proof"] = made.tlog_proof(index, note)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    bundle = Bundle(tmp_path, parse_key(made.vkey, 1), [made.host_hex])

    def ours(leaf: int) -> bool:
        try:
            bundle.event(f"other/{leaf:012d}.json", f"other/{leaf:012d}.tlog-proof")
        except Wrong:
            return False
        return True

    bundle.check_checkpoint()
    bundle.check_archive()
    assert [ours(leaf) for leaf in asked] == vector["ours"]


def test_chain_of_the_archive_shows_an_event_behind_its_writers_retirement() -> None:
    made = Log("chain")
    made.enroll(key_of("a"), "writer.retired")
    made.enroll(key_of("a"))
    entries = [Entry(ARCHIVE, seq, raw) for seq, raw in enumerate(made.entries)]
    assert enrolled_writers(entries, {made.host_hex}) == frozenset()
