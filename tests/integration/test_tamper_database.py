# ruff: noqa: E501  one mutation, one line
"""Whoever owns the database can change anything in it, and nothing without its being named: row, leaf or tile.

Each mutation is one line: what is done, and the kind and the place that the full check must name; then, where the quick check
(at every start) or the window (the last day, every hour) must find it too, their kinds and places. Nothing is committed.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Engine, LargeBinary, select, text, update

from archiver.clock import SystemChance, SystemClock
from archiver.custody.event import leaf_hash
from archiver.database import UtcDateTime, create_engine, metadata
from archiver.store.directory import DirectoryStore
from archiver.store.port import Shelf
from archiver.translog.recover import recover
from archiver.verify.finding import Kind
from tests import tampering
from tests.custody_examples import HOST_KEY
from tests.custody_log import SUBJECTS, CustodyLog, MovableClock, custody_log
from tests.fixtures_db import Server
from tests.log_oracle import mth, rows, tiles
from tests.tampering import Scene, checked, everywhere, names, run, superuser

CLEAN_RUNS = int(os.environ.get("ARCHIVER_CLEAN_RUNS", "2"))

LEAF, TILE, TREE, POINT = Kind.LOG_LEAF, Kind.LOG_TILE, Kind.LOG_TREE, Kind.LOG_CHECKPOINT
INDEX, QUEUE, REFUSED, ANCHOR = Kind.LOG_INDEX, Kind.LOG_QUEUE, Kind.LOG_QUARANTINE, Kind.LOG_ANCHOR
BACK, CHAIN, PRIVATE = Kind.LOG_ROLLBACK, Kind.CHAIN, Kind.COMMITMENT
_E, _T, _P, _Q = "custody_event", "custody_tile", "custody_pending", "custody_quarantine"
_I, _S, _C, _A = "custody_subject_event", "custody_subject", "custody_checkpoint", "custody_anchor"
_W, _V = "custody_writer", "custody_private"
_OF = "WHERE subject_no = :no AND seq = :seq"
_PLACE = "custody_subject_event ({no}, {seq}, leaf {leaf})"
_PRIV = "WHERE subject_no = :p_no AND seq = :p_seq AND grp = :p_grp"
_TSR = "WHERE size = :a0 AND name = 'tsa.tsr'"
_ANCHOR_ROW = "custody_anchor ({a0}, tsa.tsr)"


@dataclass(frozen=True)
class Mutation:
    name: str
    done: str
    kind: Kind
    place: str
    quick: tuple[Kind, str] | None = None
    window: tuple[Kind, str] | None = None

    def found_by(self, level: str) -> tuple[Kind, str] | None:
        return {"full": (self.kind, self.place), "quick": self.quick, "window": self.window or self.quick}[level]


M = Mutation
MUTATIONS = [
    # leaves
    M("entry edited", f"UPDATE {_E} SET entry = :edited WHERE leaf_index = 300", LEAF, "leaf 300: the signature"),
    M("entry emptied", f"UPDATE {_E} SET entry = :empty WHERE leaf_index = 300", LEAF, "leaf 300: not canonical"),
    M("entry made junk", f"UPDATE {_E} SET entry = :junk WHERE leaf_index = 300", LEAF, "leaf 300: not canonical"),
    M("last entry edited", f"UPDATE {_E} SET entry = :junk WHERE leaf_index = :last", LEAF, "leaf {last}: ", (TILE, "leaf {last}"), (LEAF, "leaf {last}: ")),
    M("entry replaced by another event of ours", f"UPDATE {_E} SET entry = :waiting_entry WHERE leaf_index = 300", TILE, "tile/0/001 disagrees with leaf 300"),
    M("entry replaced by a stranger's", f"UPDATE {_E} SET entry = :stranger WHERE leaf_index = 300", LEAF, "leaf 300: its writer"),
    M("entry duplicated over another", f"UPDATE {_E} SET entry = :entry300 WHERE leaf_index = 301", TILE, "tile/0/001 disagrees with leaf 301"),
    M("leaf deleted", f"DELETE FROM {_E} WHERE leaf_index = 300", LEAF, "custody_event has no leaf 300"),
    M("first leaf deleted", f"DELETE FROM {_E} WHERE leaf_index = 0", LEAF, "custody_event has no leaf 0"),
    M("leaves deleted", f"DELETE FROM {_E} WHERE leaf_index BETWEEN 300 AND 310", LEAF, "no leaves 300 to 310"),
    M("last leaf deleted", f"DELETE FROM {_E} WHERE leaf_index = :last", TILE, "goes beyond leaf {last}", (LEAF, "ends with leaf {before_last}")),
    M("all leaves deleted", f"DELETE FROM {_E}", TREE, "custody_event has 0", (LEAF, "ends with leaf -1")),
    M("young leaf deleted", f"DELETE FROM {_E} WHERE leaf_index = :young", LEAF, "no leaf {young}", None, (LEAF, "no leaf {young}")),
    M("young entry edited", f"UPDATE {_E} SET entry = :junk WHERE leaf_index = :young", LEAF, "leaf {young}: ", None, (LEAF, "leaf {young}: ")),
    M("leaf moved away", f"UPDATE {_E} SET leaf_index = 99999 WHERE leaf_index = 300", LEAF, "leaf 99999 lies beyond", (LEAF, "ends with leaf 99999")),
    M("leaves swapped", f"UPDATE {_E} SET entry = CASE leaf_index WHEN 300 THEN :entry301 ELSE :entry300 END WHERE leaf_index IN (300, 301)", TILE, "tile/0/001 disagrees with leaf 300"),
    M("forged leaf appended", f"INSERT INTO {_E} (log_id, leaf_index, entry) VALUES (1, :size, :stranger)", LEAF, "leaf {size}: its writer", (LEAF, "ends with leaf {size}")),
    M("leaf of another log", f"INSERT INTO {_E} (log_id, leaf_index, entry) VALUES (2, 0, :entry0)", TREE, "custody_event has rows of log 2", (TREE, "log 2")),
    M("leaf below zero", f"INSERT INTO {_E} (log_id, leaf_index, entry) VALUES (1, -1, :entry0)", LEAF, "leaf -1 lies beyond"),
    # tiles
    M("hash of a full tile changed", f"UPDATE {_T} SET hashes = :flip1 WHERE level = 0 AND idx = 1", TILE, "tile/0/001 disagrees with leaf 300"),
    M("hash of the last tile changed", f"UPDATE {_T} SET hashes = :flip2 WHERE level = 0 AND idx = 2", TILE, "tile/0/002 disagrees with leaf 515", (TREE, "another root")),
    M("hash of an upper tile changed", f"UPDATE {_T} SET hashes = :flip_top WHERE level = 1 AND idx = 0", TILE, "tile/1/000 disagrees with tile/0/001", (TREE, "another root")),
    M("tile cut", f"UPDATE {_T} SET hashes = :short1 WHERE level = 0 AND idx = 1", TILE, "tile/0/001 has nothing for leaf 511"),
    M("tile cut to junk", f"UPDATE {_T} SET hashes = :junk WHERE level = 0 AND idx = 2", TILE, "tile/0/002 disagrees with leaf 512", (TILE, "level 0")),
    M("tile too wide", f"UPDATE {_T} SET hashes = :long2 WHERE level = 0 AND idx = 2", TILE, "tile/0/002 goes beyond leaf {size}"),
    M("tiles swapped", f"UPDATE {_T} SET hashes = CASE idx WHEN 0 THEN :tile1 ELSE :tile0 END WHERE level = 0 AND idx < 2", TILE, "tile/0/000 disagrees with leaf 0"),
    M("tile deleted", f"DELETE FROM {_T} WHERE level = 0 AND idx = 0", TILE, "tile/0/000 is missing"),
    M("last tile deleted", f"DELETE FROM {_T} WHERE level = 0 AND idx = 2", TILE, "tile/0/002 is missing", (TILE, "level 0")),
    M("upper tile deleted", f"DELETE FROM {_T} WHERE level = 1", TILE, "tile/1/000 is missing", (TILE, "level 1")),
    M("tile inserted beyond", f"INSERT INTO {_T} (log_id, level, idx, hashes) VALUES (1, 0, 3, :root)", TILE, "tile/0/003 lies beyond"),
    M("tile inserted above", f"INSERT INTO {_T} (log_id, level, idx, hashes) VALUES (1, 2, 0, :root)", TILE, "tiles of level 2 lie beyond"),
    M("tile inserted below zero", f"INSERT INTO {_T} (log_id, level, idx, hashes) VALUES (1, 0, -1, :root)", TILE, "tile -1 of level 0 lies outside"),
    M("tile moved to another log", f"UPDATE {_T} SET log_id = 2 WHERE level = 0 AND idx = 1", TILE, "tile/0/001 is missing", (TREE, "log 2")),
    # the tree
    M("tree made smaller", "UPDATE custody_tree SET size = size - 1", TREE, "custody_tree says {last} leaves", (TREE, "another root")),
    M("tree made larger", "UPDATE custody_tree SET size = size + 1", TREE, "custody_event has {size}", (TILE, "level 0")),
    M("tree size below zero", "UPDATE custody_tree SET size = -5", TREE, "custody_tree says -5", (LEAF, "the tree with leaf -6")),
    M("root changed", "UPDATE custody_tree SET root = :bad_hash", TREE, "another root", (TREE, "another root")),
    M("tree turned back", "UPDATE custody_tree SET size = :c1, root = :root1", TREE, "custody_tree says {c1} leaves", (BACK, "checkpoint {c6} was signed")),
    M("tree deleted", "DELETE FROM custody_tree", TREE, "custody_tree has no row", (TREE, "custody_tree has no row")),
    # checkpoints
    M("note made junk", f"UPDATE {_C} SET note = 'hello' WHERE size = :c1", POINT, "checkpoint {c1}: "),
    M("newest note made junk", f"UPDATE {_C} SET note = 'hello' WHERE size = :c6", POINT, "checkpoint {c6}: ", (POINT, "checkpoint {c6}: ")),
    M("note of another size", f"UPDATE {_C} SET note = :note2 WHERE size = :c1", POINT, "checkpoint {c1}: its note is over another tree"),
    M("root of a checkpoint changed", f"UPDATE {_C} SET root = :bad_hash WHERE size = :c3", POINT, "checkpoint {c3}: its note"),
    M("size of a checkpoint changed", f"UPDATE {_C} SET size = 301 WHERE size = :c3", POINT, "checkpoint 301: its note"),
    M("checkpoint signed anew by another key", f"UPDATE {_C} SET note = :forged5 WHERE size = :c5", POINT, "checkpoint {c5}: ", None, (POINT, "checkpoint {c5}: ")),
    M("anchored checkpoint deleted", f"DELETE FROM {_C} WHERE size = :a1", ANCHOR, "no checkpoint {a1}", None, (ANCHOR, "no checkpoint {a1}")),
    M("checkpoint of another history", f"INSERT INTO {_C} (log_id, size, root, note, signed_at) SELECT 1, 540, :bad_hash, :fork_note, signed_at FROM {_C} WHERE size = :c1", POINT, "checkpoint 540 was signed over another tree", None, (POINT, "checkpoint 540 was")),
    M("checkpoint by another key", f"INSERT INTO {_C} (log_id, size, root, note, signed_at) SELECT 1, 540, :bad_hash, :forged_note, signed_at FROM {_C} WHERE size = :c1", POINT, "checkpoint 540: ", None, (POINT, "checkpoint 540: ")),
    M("checkpoint from the future", f"INSERT INTO {_C} (log_id, size, root, note, signed_at) SELECT 1, 5000, :bad_hash, :future_note, signed_at FROM {_C} WHERE size = :c1", BACK, "checkpoint 5000 was signed", (BACK, "checkpoint 5000")),
    M("checkpoint from the future by another key", f"INSERT INTO {_C} (log_id, size, root, note, signed_at) SELECT 1, 5000, :bad_hash, :forged_future, signed_at FROM {_C} WHERE size = :c1", POINT, "checkpoint 5000: ", (POINT, "checkpoint 5000: ")),
    # heads
    M("head turned back", f"UPDATE {_S} SET head_seq = head_seq - 1 WHERE subject_no = :no", CHAIN, "custody_subject {no}: its newest event is"),
    M("head moved on", f"UPDATE {_S} SET head_seq = 77 WHERE subject_no = :no", CHAIN, "its newest event is 77"),
    M("head's hash changed", f"UPDATE {_S} SET head_hash = :bad_hash WHERE subject_no = :no", CHAIN, "{subject} custody_subject {no}: event"),
    M("head's hash emptied", f"UPDATE {_S} SET head_hash = NULL WHERE subject_no = :no", CHAIN, "{subject} custody_subject {no}: event"),
    M("young head turned back", f"UPDATE {_S} SET head_seq = 0 WHERE subject_no = :no", CHAIN, "custody_subject {no}", None, (CHAIN, "custody_subject {no}")),
    M("subject renamed", f"UPDATE {_S} SET subject = :new_subject WHERE subject_no = :no", INDEX, f"{_PLACE} points to event {{seq}} of {{subject}}"),
    M("subject deleted", f"DELETE FROM {_S} WHERE subject_no = :no", INDEX, "custody_subject has no row {no}", None, (INDEX, "custody_subject has no row")),
    M("subject invented", f"INSERT INTO {_S} (subject, head_seq, head_hash) VALUES (:new_subject, 3, :bad_hash)", CHAIN, "{new_subject} custody_subject"),
    # the queue
    M("waiting event edited", f"UPDATE {_P} SET entry = :junk WHERE pid = :pid", QUEUE, "custody_pending {pid}: not canonical", None, (QUEUE, "custody_pending {pid}: ")),
    M("waiting event by a stranger", f"UPDATE {_P} SET entry = :stranger WHERE pid = :pid", QUEUE, "custody_pending {pid}: its writer", None, (QUEUE, "custody_pending {pid}: ")),
    M("waiting event replaced by another", f"UPDATE {_P} SET entry = :entry300 WHERE pid = :pid", QUEUE, "custody_pending {pid} is event"),
    M("event forged into the queue", f"INSERT INTO {_P} (subject_no, seq, entry) VALUES (:no, 500, :junk)", QUEUE, "not canonical", None, (QUEUE, "not canonical")),
    M("log event forged anew in the queue", f"INSERT INTO {_P} (subject_no, seq, entry) VALUES (:no, :seq, :junk)", QUEUE, "there is an event {seq} of {subject} already"),
    M("waiting event deleted", f"DELETE FROM {_P} WHERE pid = :pid_before", CHAIN, "missing before event {pid_last_seq}"),
    M("last waiting event deleted", f"DELETE FROM {_P} WHERE pid = :pid_last", CHAIN, "{subject} custody_subject {no}: its newest event is {pid_last_seq}"),
    M("waiting event renumbered", f"UPDATE {_P} SET seq = 400 WHERE pid = :pid", QUEUE, "custody_pending {pid} is event {pid_seq}"),
    M("waiting event given to another subject", f"UPDATE {_P} SET subject_no = :archive_no, seq = 600 WHERE pid = :pid", QUEUE, "custody_pending {pid} is event {pid_seq}"),
    # the index
    M("index leaf changed", f"UPDATE {_I} SET leaf_index = leaf_index + 1 {_OF}", INDEX, "custody_subject_event ({no}, {seq}, leaf"),
    M("index points nowhere", f"UPDATE {_I} SET leaf_index = 88888 {_OF}", INDEX, "leaf 88888) points to no leaf"),
    M("index number changed", f"UPDATE {_I} SET seq = 700 {_OF}", INDEX, "({no}, 700, leaf {leaf}) points to event {seq}"),
    M("index subject changed", f"UPDATE {_I} SET subject_no = :other, seq = 700 {_OF}", INDEX, "({other}, 700, leaf {leaf}) points to event {seq} of {subject}"),
    M("index type changed", f"UPDATE {_I} SET type_no = 3 {_OF}", INDEX, f"{_PLACE} has type 3"),
    M("index time changed", f"UPDATE {_I} SET at = :noon {_OF}", INDEX, f"{_PLACE} says 2020-01-01"),
    M("index log changed", f"UPDATE {_I} SET log_id = 2 {_OF}", INDEX, f"{_PLACE} is of log 2"),
    M("index row deleted", f"DELETE FROM {_I} {_OF}", INDEX, "no row for leaf {leaf}"),
    M("index row invented", f"INSERT INTO {_I} (subject_no, seq, log_id, leaf_index, type_no, at) SELECT subject_no, 800, log_id, 77777, type_no, at FROM {_I} {_OF}", INDEX, "({no}, 800, leaf 77777) points to no leaf"),
    M("index row doubled", f"INSERT INTO {_I} (subject_no, seq, log_id, leaf_index, type_no, at) SELECT subject_no, seq, log_id, leaf_index + 1, type_no, at FROM {_I} {_OF}", INDEX, "two leaves claim event {seq} of {subject}"),
    M("index rows swapped", f"UPDATE {_I} SET leaf_index = CASE seq WHEN :seq THEN :leaf_next ELSE :leaf END WHERE subject_no = :no AND seq IN (:seq, :seq_next)", INDEX, "({no}, {seq}, leaf {leaf_next}) points to event {seq_next}"),
    # writers
    M("writer's host changed", f"UPDATE {_W} SET host = :unknown WHERE key = :writer", INDEX, "custody_writer {writer_hex}… says"),
    M("writer's leaf changed", f"UPDATE {_W} SET enrolled_leaf = 5 WHERE key = :writer", INDEX, "custody_writer {writer_hex}…", None, (INDEX, "custody_writer {writer_hex}…: leaf 5")),
    M("writer retired in the index alone", f"UPDATE {_W} SET retired_leaf = 5 WHERE key = :writer", INDEX, "custody_writer {writer_hex}…", None, (INDEX, "custody_writer {writer_hex}…: leaf 5")),
    M("retired writer revived", f"UPDATE {_W} SET retired_leaf = NULL WHERE key = :retired", INDEX, "custody_writer {retired_hex}…"),
    M("writer deleted", f"DELETE FROM {_W} WHERE key = :writer", INDEX, "custody_writer {writer_hex}… says nothing", None, (LEAF, "was not enrolled")),
    M("writer invented", f"INSERT INTO {_W} (key, host, log_id, enrolled_leaf) VALUES (:unknown, :unknown, 1, 0)", INDEX, "custody_writer {unknown_hex}…", None, (INDEX, "custody_writer {unknown_hex}…")),
    M("writer of another log", f"UPDATE {_W} SET log_id = 2 WHERE key = :writer", INDEX, "custody_writer {writer_hex}… is of log 2"),
    # quarantine
    M("refused entry edited", f"UPDATE {_Q} SET entry = :edited WHERE id = :q0", REFUSED, "custody_quarantine {q0}: no event says"),
    M("refusal deleted", f"DELETE FROM {_Q} WHERE id = :q1", REFUSED, "was refused; custody_quarantine lacks it"),
    M("refusal invented", f"INSERT INTO {_Q} (log_id, subject_no, seq, entry, reason, at) SELECT log_id, subject_no, seq, :junk, reason, at FROM {_Q} WHERE id = :q0", REFUSED, "no event says"),
    M("refusal doubled", f"INSERT INTO {_Q} (log_id, subject_no, seq, entry, reason, at) SELECT log_id, subject_no, seq, entry, reason, at FROM {_Q} WHERE id = :q0", REFUSED, "no event says"),
    M("reason changed", f"UPDATE {_Q} SET reason = 'fork' WHERE id = :q0", REFUSED, "custody_quarantine {q0}: "),
    M("refused number changed", f"UPDATE {_Q} SET seq = 5 WHERE id = :q0", REFUSED, "custody_quarantine {q0}: "),
    M("refused subject changed", f"UPDATE {_Q} SET subject_no = :other WHERE id = :q0", REFUSED, "custody_quarantine {q0}: "),
    # private data
    M("salt changed", f"UPDATE {_V} SET salt = :bad_hash {_PRIV}", PRIVATE, "custody_private ({p_no}, {p_seq}, {p_grp}) is not"),
    M("salt cut", f"UPDATE {_V} SET salt = :empty {_PRIV}", PRIVATE, "custody_private ({p_no}, {p_seq}, {p_grp}) is not"),
    M("private data changed", f"UPDATE {_V} SET data = :junk {_PRIV}", PRIVATE, "custody_private ({p_no}, {p_seq}, {p_grp}) is not"),
    M("private data swapped", f"UPDATE {_V} SET seq = CASE seq WHEN :p_seq THEN -5 ELSE :p_seq END WHERE subject_no = :p_no AND grp = :p_grp; UPDATE {_V} SET seq = :p_seq2 WHERE seq = -5", PRIVATE, "custody_private ({p_no}, {p_seq}, {p_grp}) is not"),
    M("private data invented", f"INSERT INTO {_V} (subject_no, seq, grp, salt, data) VALUES (:no, :seq, 'made_up', :bad_hash, :junk)", PRIVATE, "custody_private ({no}, {seq}, made_up) is not"),
    M("private data of no event", f"INSERT INTO {_V} (subject_no, seq, grp, salt, data) VALUES (:no, 555, 'made_up', :bad_hash, :junk)", PRIVATE, "custody_private ({no}, 555, made_up): there is no event 555"),
    M("private group renamed", f"UPDATE {_V} SET grp = 'other' {_PRIV}", PRIVATE, "custody_private ({p_no}, {p_seq}, other) is not"),
    # anchors
    M("token made junk", f"UPDATE {_A} SET blob = :junk {_TSR}", ANCHOR, f"{_ANCHOR_ROW}: not a time stamp"),
    M("token of another checkpoint", f"UPDATE {_A} SET blob = (SELECT blob FROM {_A} WHERE size = :a1 AND name = 'tsa.tsr') {_TSR}", ANCHOR, f"{_ANCHOR_ROW}: the time stamp is over something else"),
    M("anchor moved to a size that was not signed", f"UPDATE {_A} SET size = 303 WHERE size = :a0", ANCHOR, "custody_anchor (303, tsa.tsr): custody_checkpoint has no"),
    M("anchor moved to another checkpoint", f"UPDATE {_A} SET size = :c1 WHERE size = :a0", ANCHOR, "custody_anchor ({c1}, tsa.tsr): the time stamp does not hold"),
    M("anchor renamed", f"UPDATE {_A} SET name = 'tsb.tsr' {_TSR}", ANCHOR, f"{_ANCHOR_ROW} is missing; leaf"),
    M("token deleted", f"DELETE FROM {_A} {_TSR}", ANCHOR, f"{_ANCHOR_ROW} is missing; leaf"),
    M("young token deleted", f"DELETE FROM {_A} WHERE size = :a1", ANCHOR, "custody_anchor ({a1}, tsa.tsr) is missing", None, (ANCHOR, "custody_anchor ({a1}, tsa.tsr) is missing")),
    M("kind of an anchor changed", f"UPDATE {_A} SET kind = 3 {_TSR}", ANCHOR, f"{_ANCHOR_ROW} is of kind 3"),
    M("time of an anchor changed", f"UPDATE {_A} SET at = :noon {_TSR}", ANCHOR, f"{_ANCHOR_ROW}: has another time"),
    M("request edited", f"UPDATE {_A} SET blob = :junk WHERE size = :a0 AND name = 'tsa.tsq'", ANCHOR, "custody_anchor ({a0}, tsa.tsq): is not the request"),
    M("certificates edited", f"UPDATE {_A} SET blob = :junk WHERE size = :a0 AND name = 'tsa.pem'", ANCHOR, "custody_anchor ({a0}, tsa.pem): is not certificates"),
    M("anchor of another log", f"UPDATE {_A} SET log_id = 2 WHERE size = :a0", TREE, "custody_anchor has rows of log 2", (TREE, "custody_anchor")),
    # the log's name
    M("log renamed", "UPDATE custody_log SET origin = 'another/log'", TREE, "custody_log names it", (TREE, "custody_log names it")),
    M("second log opened", "INSERT INTO custody_log (log_id, origin, opened_at) SELECT 7, 'another/log', opened_at FROM custody_log", TREE, "another open log, 7", (TREE, "another open log, 7")),
    M("log deleted", "DELETE FROM custody_log", TREE, "custody_tree has rows of log 1", (TREE, "custody_tree")),
]  # fmt: skip


class Stage:
    """The scene's database of one kind, to be looked at and never changed for good."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.engine = create_engine(scene.url, None)
        young = next(number for number in range(scene.sizes[4] + 10, scene.sizes[5]))
        noon = "2020-01-01T00:00:00.000000Z" if scene.url.startswith("sqlite") else datetime(2020, 1, 1, tzinfo=UTC)
        self.values = {
            **scene.values,
            "young": young,
            "noon": noon,
            "empty": b"",
            "before_last": scene.values["size"] - 2,
        }
        self.since = datetime.now(UTC) - timedelta(hours=24)

    def place(self, template: str) -> str:
        return template.format(**self.values)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    server: Server | None = None
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), folder / "archiver.db")
        url = f"sqlite:///{folder}/archiver.db"
    else:
        server = request.getfixturevalue("postgresql")
        url = server.create(migrated=True)

    async def build() -> Scene:
        async with tampering.stamping(folder / "tsa") as stamps, stores(folder) as (_, shelf):
            return await tampering.build(url, folder / "notary.db", [shelf], stamps)

    stage = Stage(asyncio.run(build()))
    yield stage
    stage.engine.dispose()
    if server:
        server.drop(url)


@asynccontextmanager
async def stores(folder: Path) -> AsyncIterator[tuple[dict[str, DirectoryStore], Shelf]]:
    store = DirectoryStore("shelf", folder / "shelf", clock=SystemClock(), chance=SystemChance(), required=True)
    await store.probe()
    yield {"shelf": store}, store.shelf()


def test_a_clean_log_has_no_findings(stage: Stage) -> None:
    for level in ("quick", "window", "full"):
        with stage.engine.connect() as conn:
            result = checked(conn, stage.scene.trust, level, stage.since)
        assert (result.findings, result.unchecked) == ([], {})
        assert result.leaves == {"quick": 0, "full": stage.values["size"]}.get(level, result.leaves)
        assert level != "window" or 0 < result.leaves < stage.values["size"]


def test_the_matrix_is_as_large_as_promised() -> None:
    assert len({each.name for each in MUTATIONS}) == len(MUTATIONS) >= 40


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_tampering_is_named(stage: Stage, mutation: Mutation) -> None:
    with stage.engine.connect() as conn, conn.begin() as transaction:
        with superuser(conn):
            run(conn, mutation.done, stage.values)
        for level in ("full", "quick", "window"):
            expected = mutation.found_by(level)
            if expected is not None:
                result = checked(conn, stage.scene.trust, level, stage.since)
                kind, place = expected[0], stage.place(expected[1])
                assert names(result, kind, place), (
                    level,
                    kind,
                    place,
                    [(each.kind, each.subject, each.detail) for each in result.findings],
                )
        transaction.rollback()


# --- every column, whatever it is -------------------------------------------------------------------------------------

UNSEEN = {
    "custody_pending.pid": "the order of arrival; a chain's order is in its events",
    "custody_quarantine.id": "a number",
    "custody_quarantine.at": "the signed event that tells of the refusal says when",
    "custody_tree.epoch": "counts batches; nothing rests on it",
    "custody_log.opened_at": "the leaf log.opened says when",
    "custody_log.closed_at": "a log that is closed is verified like an open one",
    "custody_checkpoint.published_at": "what was published, the storages tell",
}
COLUMNS = [column for name in tampering.TABLES for column in metadata.tables[name].columns]


def flipped(column: Column[Any], value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(column.type, UtcDateTime):
        return datetime(2020, 1, 1, tzinfo=UTC)
    if isinstance(column.type, LargeBinary):
        return bytes([value[0] ^ 1]) + value[1:] if value else bytes(32)
    if isinstance(value, str):
        return f"{value}x"
    return (value or 0) + 7_001


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_every_column_of_the_log_is_seen_or_says_why_not(stage: Stage, column: Column[Any]) -> None:
    table = column.table
    keys = list(table.primary_key.columns)
    with stage.engine.connect() as conn:
        there = conn.execute(select(table).order_by(*keys)).mappings().all()
    assert there
    for row in {0: there[0], 1: there[len(there) // 2], 2: there[-1]}.values():
        with stage.engine.connect() as conn, conn.begin() as transaction:
            with superuser(conn):
                same = [key == row[key.name] for key in keys]
                changed = conn.execute(update(table).where(*same).values({column: flipped(column, row[column.name])}))
                assert changed.rowcount == 1
            result = checked(conn, stage.scene.trust, "full")
            transaction.rollback()
        assert bool(result.failures) is (str(column) not in UNSEEN), row


def test_no_column_is_unseen_that_is_not_there() -> None:
    assert UNSEEN.keys() <= {str(each) for each in COLUMNS}


# --- another tree, whole in itself --------------------------------------------------------------------------------


def regrow(conn: Connection) -> None:
    """Make tiles, root and index agree with whatever the leaves are now."""
    entries = [row.entry for row in rows(conn, f"SELECT entry FROM {_E} ORDER BY leaf_index")]
    leaves = [leaf_hash(entry) for entry in entries]
    conn.execute(text(f"DELETE FROM {_T}"))
    for (level, idx), hashes in tiles(leaves).items():
        row = {"level": level, "idx": idx, "hashes": hashes}
        conn.execute(text(f"INSERT INTO {_T} (log_id, level, idx, hashes) VALUES (1, :level, :idx, :hashes)"), row)
    conn.execute(text("UPDATE custody_tree SET size = :size, root = :root"), {"size": len(leaves), "root": mth(leaves)})
    conn.execute(text(f"DELETE FROM {_I} WHERE leaf_index >= :size"), {"size": len(leaves)})
    for row in rows(conn, f"SELECT subject_no, subject FROM {_S}"):
        last = conn.execute(
            text(f"SELECT max(seq) FROM {_I} WHERE subject_no = :no"), {"no": row.subject_no}
        ).scalar_one()
        entry = conn.execute(
            text(f"SELECT entry FROM {_E} JOIN {_I} USING (log_id, leaf_index) WHERE subject_no = :no AND seq = :seq"),
            {"no": row.subject_no, "seq": last},
        ).scalar_one()
        head = {"no": row.subject_no, "seq": last, "hash": leaf_hash(entry)}
        conn.execute(text(f"UPDATE {_S} SET head_seq = :seq, head_hash = :hash WHERE subject_no = :no"), head)


CUT = f"DELETE FROM {_P}; DELETE FROM {_V}; DELETE FROM {_E} WHERE leaf_index >= :c5"
SWAPPED = (
    f"DELETE FROM {_P}; DELETE FROM {_V};"
    f" UPDATE {_E} SET entry = CASE leaf_index WHEN 300 THEN :entry301 ELSE :entry300 END WHERE leaf_index IN (300, 301);"
    f" UPDATE {_I} SET leaf_index = 601 - leaf_index WHERE leaf_index IN (300, 301)"
)
UNSIGNED = f"DELETE FROM {_C} WHERE size > 300; DELETE FROM {_A} WHERE size > 300"


def test_a_log_cut_off_and_grown_anew_is_named_by_the_checkpoints(stage: Stage) -> None:
    with stage.engine.connect() as conn, conn.begin() as transaction:
        with superuser(conn):
            run(conn, CUT, stage.values)
            regrow(conn)
        for level in ("full", "quick", "window"):
            result = checked(conn, stage.scene.trust, level, stage.since)
            assert {each.kind for each in result.failures} == {BACK}
            assert names(result, BACK, stage.place("checkpoint {c6} was signed"))
        transaction.rollback()


def test_a_log_grown_anew_with_other_leaves_is_named_by_the_checkpoints(stage: Stage) -> None:
    with stage.engine.connect() as conn, conn.begin() as transaction:
        with superuser(conn):
            run(conn, SWAPPED, stage.values)
            regrow(conn)
        result = checked(conn, stage.scene.trust, "full")
        assert {each.kind for each in result.failures} == {POINT}
        assert len(result.failures) == len([size for size in stage.scene.sizes if size > 300])
        transaction.rollback()


@pytest.mark.parametrize("done", [CUT, SWAPPED], ids=["cut", "swapped"])
@pytest.mark.parametrize("level", ["quick", "window", "full"])
async def test_a_log_grown_anew_without_its_checkpoints_is_named_by_bucket_and_notary(
    stage: Stage, backup: Any, tmp_path: Path, done: str, level: str
) -> None:
    stage.engine.dispose()
    notary = tmp_path / "notary.db"
    shutil.copy(stage.scene.notary, notary)
    async with (
        custody_log(backup(stage.scene.url), notary, [], enrol=False) as archive,
        stores(stage.scene.notary.parent) as (there, _),
    ):
        with archive.engine.begin() as conn, superuser(conn):
            run(conn, f"{done}; {UNSIGNED}", stage.values)
            regrow(conn)
        result = await everywhere(archive, there, stage.scene.trust, level)
    kinds = {(each.kind, each.storage or each.subject) for each in result.failures}
    newest = f"checkpoints/{stage.values['c6']:020d}"
    if done == CUT:
        assert {(BACK, "shelf"), (BACK, "notary")} <= kinds
    else:
        assert {(Kind.LOG_SHELF, "shelf"), (Kind.LOG_NOTARY, "notary")} <= kinds
    assert any(each.key == newest for each in result.failures)


# --- rubbish ------------------------------------------------------------------------------------------------------

_COLUMNS = [(table, column.name) for table in tampering.TABLES for column in metadata.tables[table].c]


def _rubbish(engine: Engine, table: str, column: str) -> list[str]:
    """SQL values that the column's type lets in."""
    kind = metadata.tables[table].c[column].type
    lite = engine.dialect.name == "sqlite"
    if isinstance(kind, UtcDateTime):
        texts = ["CAST(x'fffe00' AS TEXT)", "'yesterday'", "''", "'2026-11-20'", "'9999-12-31T23:59:59.999999-23:59'"]
        return texts if lite else ["'infinity'", "'-infinity'", "'0044-03-15 00:00:00 BC'", "'9999-12-31 23:59:59+00'"]
    if isinstance(kind, LargeBinary):
        return (
            ["x''", "x'ff'", "zeroblob(20000)"] if lite else [r"'\x'", r"'\xff'", r"decode(repeat('00', 20000), 'hex')"]
        )
    if kind.python_type is int:
        width = "" if lite else str(kind.compile(engine.dialect))
        largest = {"SMALLINT": 2**15, "INTEGER": 2**31}.get(width, 2**63) - 1
        return ["-1", str(largest), str(-largest)]
    odd = ["''", r"'rec:\u0000'", "'\x1b[2J'", "'\u202e\ufeff'"]
    return [*odd, "CAST(x'fffe41' AS TEXT)", "CAST(x'004100' AS TEXT)"] if lite else odd


@pytest.mark.parametrize(("table", "column"), _COLUMNS)
def test_rubbish_in_any_column_is_no_reason_to_fall_over(stage: Stage, table: str, column: str) -> None:
    """Each value in a row of its own, as far as there are rows; the others then in one of them."""
    key = [each.name for each in metadata.tables[table].primary_key]
    values = _rubbish(stage.engine, table, column)
    with stage.engine.connect() as conn:
        kept = rows(conn, f"SELECT {', '.join(key)} FROM {table} ORDER BY {', '.join(key)} LIMIT {len(values)}")
    where = " AND ".join(f"{name} = :key_{name}" for name in key)
    for start in range(0, len(values), len(kept)):
        with stage.engine.connect() as conn, conn.begin() as transaction:
            with superuser(conn):
                for value, row in zip(values[start : start + len(kept)], kept, strict=False):
                    changed = conn.execute(
                        text(f"UPDATE {table} SET {column} = {value.replace(':', chr(92) + ':')} WHERE {where}"),
                        {f"key_{name}": each for name, each in row._asdict().items()},
                    )
                    assert changed.rowcount == 1
            for level in ("full", "window") if stage.engine.dialect.name == "sqlite" else ("full",):
                for each in checked(conn, stage.scene.trust, level, stage.since).failures:
                    assert each.detail.isprintable()
            transaction.rollback()


# --- no false alarm -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(CLEAN_RUNS))
async def test_an_honest_log_raises_no_alarm(database_url: str, backup: Any, tmp_path: Path, seed: int) -> None:
    """Batches of any size, restarts, forged rows refused, heartbeats, anchors, erasure; and a database that was rolled back."""
    chance = random.Random(seed)
    clock = MovableClock()
    clock.later = timedelta(days=-3)
    url, old = database_url, None
    async with tampering.stamping(tmp_path / "tsa") as stamps, stores(tmp_path) as (there, shelf):
        for life in range(chance.randint(2, 4)):
            async with custody_log(
                url, tmp_path / "notary.db", [shelf], clock=clock, enrol=old is None or url != old
            ) as archive:
                if old is not None and url == old:
                    done = await recover(archive.writer, archive.notary, [shelf], archive.ledger, HOST_KEY, clock)
                    if done.size == done.had:  # else it enrolled us
                        await archive.writer.run(lambda conn: archive.ledger.enroll(conn, HOST_KEY))
                await archive.publisher.start()
                for _ in range(chance.randint(3, 7)):
                    await _something(archive, stamps, chance)
                    clock.later += timedelta(hours=chance.randint(0, 9))
                for level in ("quick", "window", "full"):
                    result = await everywhere(archive, there, stamps.trust, level)
                    assert (result.findings, result.unreachable) == ([], {}), (seed, life, level)
                    assert all("rolled back" in each for each in result.unchecked), result.unchecked
                signed = archive.notary.last(archive.publisher.origin).size
            if old is None and signed and chance.random() < 0.7:
                old = backup(url)
            elif old is not None:
                url = old


async def _something(archive: CustodyLog, stamps: tampering.Stamping, chance: random.Random) -> None:
    match chance.randrange(9):
        case 0:
            await tampering.beat(archive)
        case 1:
            await tampering.publish_all(archive)
            await stamps.anchor(archive)
        case 2:
            await archive.append(1)
            await tampering.forge_next(archive, SUBJECTS[0], b"junk %d" % chance.randrange(10**9))
            await archive.integrate()
        case 3:
            await tampering.speak(
                archive, archive.ledger, SUBJECTS[5], 3, parties={"caller": f"+{chance.randrange(10**9)}"}
            )
        case 4:
            with archive.engine.begin() as conn:
                conn.execute(text("DELETE FROM custody_private WHERE seq > 2"))
        case 5:
            writer = await tampering.another_writer(archive)
            await tampering.speak(archive, writer, SUBJECTS[6], chance.randint(1, 20))
            await tampering.retire(archive, writer)
        case 6:
            await tampering.publish_all(archive)
        case 7:
            await archive.grow(chance.choice([1, 255, 256, 300]))
        case _:
            await archive.append(chance.randint(1, 90))
