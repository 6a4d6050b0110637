# ruff: noqa: E501  one mutation, one line
"""Whoever may write to a storage can put things over the log's pieces, or beside them; each object is named.

On a bucket with Object Lock nothing can be replaced: a newer version or a delete marker covers it, and a piece that is missing or
wrong was so from the beginning (its oldest version is). In a folder everything can be replaced.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.recording import LockMode
from archiver.store.directory import DirectoryStore
from archiver.store.port import ObjectStore, Shelf
from archiver.store.s3 import S3Options, S3Store
from archiver.translog.merkle import HASH_BYTES
from archiver.verify.finding import Kind, Verification
from archiver.verify.protection import ExpectedLock
from archiver.verify.published_log import check_published_log
from archiver.verify.recorded_log import recorded_log
from tests import tampering
from tests.custody_log import custody_log
from tests.fixtures_s3 import bucket_at
from tests.log_trees import LOG, ORIGIN
from tests.tampering import FORGER, Scene, everywhere, note_over

SHELF, BACK, POINT, ANCHOR = Kind.LOG_SHELF, Kind.LOG_ROLLBACK, Kind.LOG_CHECKPOINT, Kind.LOG_ANCHOR
FULL, TOP, BUNDLE, VKEY = "tile/0/001", "tile/1/000.p/2", "tile/entries/001", f"keys/{ORIGIN}.vkey"


@dataclass
class Place:
    """A storage with the scene's log, and ways behind its back."""

    scene: Scene
    pieces: dict[str, bytes]

    def point(self, number: int) -> str:
        return f"checkpoints/{self.scene.sizes[number]:020d}"

    def last(self, prefix: str) -> str:
        """The partial piece at the tree's edge."""
        return f"{prefix}.p/{self.scene.sizes[-1] % 256}"

    def flipped(self, name: str, at: int = 40) -> bytes:
        raw = bytearray(self.pieces[name])
        raw[at] ^= 1
        return bytes(raw)


Change = Callable[[Place], dict[str, bytes | None]]


@dataclass(frozen=True)
class Mutation:
    """`change` gives new contents, None for gone; `place` is what the finding must name."""

    name: str
    change: Change
    kind: Kind
    place: Callable[[Place], str]
    detail: str
    quick: bool = False


def at(name: str) -> Callable[[Place], str]:
    return lambda place: name


def point(number: int) -> Callable[[Place], str]:
    return lambda place: place.point(number)


def anchor(file: str) -> Callable[[Place], str]:
    return lambda place: f"anchors/{place.scene.sizes[0]}/{file}"


def foreign(size: int, root: bytes = bytes(32)) -> bytes:
    return note_over(size, root, FORGER)


M = Mutation
# What can be done to a folder, or to a bucket before there was a lock.
REPLACED = [
    M("hash of a full tile changed", lambda p: {FULL: p.flipped(FULL)}, SHELF, at(FULL), "is not the one that was signed"),
    M("hash of the last tile changed", lambda p: {p.last("tile/0/002"): p.flipped(p.last("tile/0/002"))}, SHELF, lambda p: p.last("tile/0/002"), "is not the one"),
    M("hash of an upper tile changed", lambda p: {TOP: p.flipped(TOP)}, SHELF, at(TOP), "is not the one that the database has"),
    M("tiles swapped", lambda p: {"tile/0/000": p.pieces[FULL], FULL: p.pieces["tile/0/000"]}, SHELF, at("tile/0/000"), "is not the one that was signed"),
    M("tile cut", lambda p: {FULL: p.pieces[FULL][:-HASH_BYTES]}, SHELF, at(FULL), "is not 256 hashes"),
    M("tile emptied", lambda p: {FULL: b""}, SHELF, at(FULL), "is not 256 hashes"),
    M("tile deleted", lambda p: {FULL: None}, SHELF, at(FULL), "is missing"),
    M("last tile deleted", lambda p: {p.last("tile/0/002"): None}, SHELF, lambda p: p.last("tile/0/002"), "is missing"),
    M("bundle deleted", lambda p: {BUNDLE: None}, SHELF, at(BUNDLE), "is missing"),
    M("bundle cut", lambda p: {BUNDLE: p.pieces[BUNDLE][:-7]}, SHELF, at(BUNDLE), "not a bundle of 256 entries"),
    M("entry edited", lambda p: {BUNDLE: p.flipped(BUNDLE)}, SHELF, at(BUNDLE), "leaf 256 is not the entry"),
    M("bundles swapped", lambda p: {"tile/entries/000": p.pieces[BUNDLE], BUNDLE: p.pieces["tile/entries/000"]}, SHELF, at(BUNDLE), "leaf 256"),
    M("last bundle cut", lambda p: {p.last("tile/entries/002"): p.pieces[p.last("tile/entries/002")][:-3]}, SHELF, lambda p: p.last("tile/entries/002"), "not a bundle"),
    M("older partial tile changed", lambda p: {f"tile/0/000.p/{p.scene.sizes[0]}": p.flipped(f"tile/0/000.p/{p.scene.sizes[0]}")}, SHELF, lambda p: f"tile/0/000.p/{p.scene.sizes[0]}", "is not the one"),
    M("tile beyond the log", lambda p: {"tile/0/009": p.pieces[FULL]}, SHELF, at("tile/0/009"), "lies beyond the log"),
    M("wider tile than the log", lambda p: {"tile/0/002": p.pieces[FULL]}, SHELF, at("tile/0/002"), "lies beyond the log"),
    M("checkpoint signed by another key", lambda p: {p.point(2): foreign(p.scene.sizes[2])}, SHELF, point(2), "no trusted key signed"),
    M("newest checkpoint signed by another key", lambda p: {p.point(-1): foreign(p.scene.sizes[-1])}, SHELF, point(-1), "no trusted key signed", True),
    M("checkpoint made junk", lambda p: {p.point(2): b"\xff\xfe"}, SHELF, point(2), ""),
    M("checkpoint of another size", lambda p: {p.point(2): p.pieces[p.point(1)]}, SHELF, point(2), "holds the checkpoint of"),
    M("checkpoint deleted", lambda p: {p.point(3): None}, SHELF, point(3), "is missing"),
    M("newest checkpoint deleted", lambda p: {p.point(-1): None}, SHELF, point(-1), "is missing", True),
    M("newest checkpoint and pointer turned back", lambda p: {p.point(-1): None, "checkpoint": p.pieces[p.point(-2)]}, SHELF, point(-1), "is missing", True),
    M("vkey edited", lambda p: {VKEY: f"{FORGER.key.vkey}\n".encode()}, SHELF, at(VKEY), "is not the log's key"),
    M("vkey deleted", lambda p: {VKEY: None}, SHELF, at(VKEY), "is not the log's key"),
    M("time stamp edited", lambda p: {anchor("tsa.tsr")(p): b"junk"}, ANCHOR, anchor("tsa.tsr"), "not a time stamp"),
    M("time stamp with a certificate of unknown version", lambda p: {anchor("tsa.tsr")(p): p.pieces[anchor("tsa.tsr")(p)].replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020109"))}, ANCHOR, anchor("tsa.tsr"), "the time stamp"),
    M("time stamp of another checkpoint", lambda p: {anchor("tsa.tsr")(p): p.pieces[f"anchors/{p.scene.sizes[4]}/tsa.tsr"]}, ANCHOR, anchor("tsa.tsr"), "the time stamp does not hold"),
    M("time stamp deleted", lambda p: {anchor("tsa.tsr")(p): None}, ANCHOR, anchor("tsa.tsr"), "is missing"),
    M("request edited", lambda p: {anchor("tsa.tsq")(p): b"junk"}, ANCHOR, anchor("tsa.tsq"), "is not the request"),
    M("certificates edited", lambda p: {anchor("tsa.pem")(p): b"junk"}, ANCHOR, anchor("tsa.pem"), "is not certificates"),
    M("cosignature added", lambda p: {p.point(2): p.pieces[p.point(2)] + note_over(1, bytes(32), FORGER).split(b"\n\n")[1]}, SHELF, point(2), ""),
]  # fmt: skip
# What can be done anywhere: something new beside the log, or the pointer, which is there to be changed.
ADDED = [
    M("checkpoint of another history", lambda p: {"checkpoints/00000000000000000200": note_over(200, bytes(32))}, SHELF, at("checkpoints/00000000000000000200"), "is not continued by"),
    M("checkpoint that the database does not know", lambda p: {"checkpoints/00000000000000000200": note_over(200, bytes(32))}, POINT, at("checkpoints/00000000000000000200"), "custody_checkpoint has no"),
    M("checkpoint by another key", lambda p: {"checkpoints/00000000000000000200": foreign(200)}, SHELF, at("checkpoints/00000000000000000200"), "no trusted key signed"),
    M("checkpoint from the future", lambda p: {"checkpoints/00000000000000005000": note_over(5000, bytes(32))}, BACK, at("checkpoints/00000000000000005000"), "5000 leaves were published", True),
    M("checkpoint from the future by another key", lambda p: {"checkpoints/00000000000000005000": foreign(5000)}, SHELF, at("checkpoints/00000000000000005000"), "no trusted key signed", True),
    M("pointer turned back", lambda p: {"checkpoint": p.pieces[p.point(1)]}, SHELF, at("checkpoint"), "does not point to the newest", True),
    M("pointer by another key", lambda p: {"checkpoint": foreign(p.scene.sizes[-1])}, SHELF, at("checkpoint"), "no trusted key signed", True),
    M("pointer made junk", lambda p: {"checkpoint": b"junk"}, SHELF, at("checkpoint"), "", True),
    M("pointer into the future", lambda p: {"checkpoint": note_over(5000, bytes(32))}, BACK, at("checkpoints/00000000000000005000"), "5000 leaves were published", True),
    M("pointer to another history", lambda p: {"checkpoint": note_over(p.scene.sizes[-1], bytes(32))}, SHELF, at("checkpoint"), "is another note than", True),
    M("object that is no piece of the log", lambda p: {"tile/0/abc": b"x"}, SHELF, at("tile/0/abc"), "is no piece of this log"),
    M("checkpoint of an odd name", lambda p: {"checkpoints/12": b"x"}, SHELF, at("checkpoints/12"), "is no piece of this log"),
    M("another log's key", lambda p: {"keys/another.vkey": b"x"}, SHELF, at("keys/another.vkey"), "is no piece of this log"),
    M("anchor over a size that was not signed", lambda p: {"anchors/300/tsa.tsr": p.pieces[anchor("tsa.tsr")(p)]}, ANCHOR, at("anchors/300/"), "there is no checkpoints/"),
    M("anchor of an odd name", lambda p: {"anchors/x/tsa.tsr": b"x"}, SHELF, at("anchors/x/tsa.tsr"), "is no piece of this log"),
]  # fmt: skip
# What can be put over pieces that the lock keeps: bytes, or None for a delete marker.
COVERED = [
    M("version over a tile", lambda p: {FULL: p.flipped(FULL)}, SHELF, at(FULL), "has 2 versions"),
    M("version over a bundle", lambda p: {BUNDLE: b"junk"}, SHELF, at(BUNDLE), "has 2 versions"),
    M("the same bytes over a tile", lambda p: {FULL: p.pieces[FULL]}, SHELF, at(FULL), "has 2 versions"),
    M("version over a checkpoint", lambda p: {p.point(2): foreign(p.scene.sizes[2])}, SHELF, point(2), "has 2 versions"),
    M("version over the newest checkpoint", lambda p: {p.point(-1): foreign(p.scene.sizes[-1])}, SHELF, point(-1), "has 2 versions"),
    M("version over a time stamp", lambda p: {anchor("tsa.tsr")(p): b"junk"}, SHELF, anchor("tsa.tsr"), "has 2 versions"),
    M("version over the vkey", lambda p: {VKEY: b"junk"}, SHELF, at(VKEY), "has 2 versions"),
    M("version over the last tile", lambda p: {p.last("tile/0/002"): b"junk"}, SHELF, lambda p: p.last("tile/0/002"), "is covered by other bytes"),
    M("version over the last bundle", lambda p: {p.last("tile/entries/002"): b"junk"}, SHELF, lambda p: p.last("tile/entries/002"), "is covered by other bytes"),
    M("delete marker over a tile", lambda p: {FULL: None}, SHELF, at(FULL), "delete marker"),
    M("delete marker over a bundle", lambda p: {BUNDLE: None}, SHELF, at(BUNDLE), "delete marker"),
    M("delete marker over a checkpoint", lambda p: {p.point(2): None}, SHELF, point(2), "delete marker"),
    M("delete marker over the newest checkpoint", lambda p: {p.point(-1): None}, SHELF, point(-1), "delete marker"),
    M("delete marker over a time stamp", lambda p: {anchor("tsa.tsr")(p): None}, SHELF, anchor("tsa.tsr"), "delete marker"),
    M("delete marker over the pointer", lambda p: {"checkpoint": None}, SHELF, at("checkpoint"), "does not point to the newest", True),
]  # fmt: skip


class Bucket:
    """What a bucket's owner can do to the log there."""

    def __init__(self, options: S3Options) -> None:
        assert options.access_key
        assert options.secret_key
        self.options = options
        self.client: Any = boto3.client(
            "s3", endpoint_url=options.endpoint, region_name=options.region,
            aws_access_key_id=options.access_key.reveal(), aws_secret_access_key=options.secret_key.reveal(),
        )  # fmt: skip

    def key(self, name: str) -> str:
        return f"{self.options.prefix}custody/{name}"

    def change(self, name: str, data: bytes | None, **fields: Any) -> None:
        if data is None:
            self.client.delete_object(Bucket=self.options.bucket, Key=self.key(name))
        else:
            self.client.put_object(Bucket=self.options.bucket, Key=self.key(name), Body=data, **fields)

    def undo(self, name: str) -> None:
        """Take away everything but the oldest version."""
        found = self.client.list_object_versions(Bucket=self.options.bucket, Prefix=self.key(name))
        versions = [each for each in found.get("Versions", []) if each["Key"] == self.key(name)]
        markers = [each for each in found.get("DeleteMarkers", []) if each["Key"] == self.key(name)]
        oldest = min(versions, key=lambda each: each["LastModified"])
        for each in [*versions, *markers]:
            if each is not oldest:
                self.client.delete_object(Bucket=self.options.bucket, Key=self.key(name), VersionId=each["VersionId"])


@dataclass
class Stage:
    """A scene, published to a folder and to a bucket; copies of the folder are tampered with, the bucket is tidied up again."""

    folder: Path
    place: Place
    bucket: Bucket
    url: str

    def copy(self, path: Path, changes: dict[str, bytes | None]) -> DirectoryStore:
        shutil.copytree(self.folder / "shelf", path / "shelf")
        for name, data in changes.items():
            file = path / "shelf" / "custody" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            if data is not None:
                file.write_bytes(data)
        return folder_store(path)

    async def found(
        self, store: ObjectStore, tmp_path: Path, level: str = "full", locked: ExpectedLock | None = None
    ) -> list[Any]:
        """What `custody fsck` says of this storage; the database, which is whole, is only compared with."""
        result, trust = Verification(), self.place.scene.trust
        async with custody_log(self.url, tmp_path / "notary.db", [], enrol=False) as archive:
            kept = await recorded_log(archive.engine, archive.log_id, [])
            await check_published_log(
                store.shelf(in_passing=True), trust, kept, result, whole=level == "full", expected=locked
            )
        assert not result.unreachable
        assert all(each.storage == store.id for each in result.findings), result.findings
        return result.failures


def folder_store(path: Path) -> DirectoryStore:
    return DirectoryStore("shelf", path / "shelf", clock=SystemClock(), chance=SystemChance(), required=True)


def s3_store(options: S3Options) -> S3Store:
    return S3Store(options, SystemClock(), SystemChance())


@pytest.fixture(scope="module")
def stage(sqlite_template: Path, seaweedfs: str, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("stage")
    shutil.copy(sqlite_template, folder / "archiver.db")
    options = replace(bucket_at(seaweedfs), id="bucket")
    url = f"sqlite:///{folder}/archiver.db"

    async def build() -> Place:
        store, there = folder_store(folder), s3_store(options)
        for each in (store, there):
            await each.probe()
        try:
            async with tampering.stamping(folder / "tsa") as stamps:
                shelves: list[Shelf] = [store.shelf(), there.shelf()]
                scene = await tampering.build(url, folder / "notary.db", shelves, stamps)
            shelf = store.shelf()
            pieces = {name: await shelf.read(name) or b"" async for name in shelf.names("")}
            return Place(scene, pieces)
        finally:
            await there.aclose()

    return Stage(folder, asyncio.run(build()), Bucket(options), url)


def named(found: list[Any], mutation: Mutation, place: Place) -> bool:
    return any(
        each.kind is mutation.kind and each.key == mutation.place(place) and mutation.detail in each.detail
        for each in found
    )


def test_the_matrix_is_as_large_as_promised() -> None:
    assert len(COVERED) + len(ADDED) >= 20
    assert len(REPLACED) + len(ADDED) >= 20


@pytest.mark.parametrize("mutation", REPLACED + ADDED, ids=lambda each: each.name)
async def test_tampering_with_a_folder_is_named(stage: Stage, mutation: Mutation, tmp_path: Path) -> None:
    store = stage.copy(tmp_path, mutation.change(stage.place))
    for level in ["quick", "full"] if mutation.quick else ["full"]:
        found = await stage.found(store, tmp_path, level)
        assert named(found, mutation, stage.place), (level, [(each.kind, each.key, each.detail) for each in found])


@pytest.mark.parametrize("mutation", COVERED, ids=lambda each: each.name)
async def test_what_covers_a_locked_piece_is_named_and_the_piece_is_still_read(
    stage: Stage, mutation: Mutation, tmp_path: Path
) -> None:
    changes = mutation.change(stage.place)
    store = s3_store(stage.bucket.options)
    try:
        for name, data in changes.items():
            stage.bucket.change(name, data)
        for level in ["quick", "full"] if mutation.quick else ["full"]:
            found = await stage.found(store, tmp_path, level)
            assert named(found, mutation, stage.place), (level, [(each.kind, each.key, each.detail) for each in found])
            assert len(found) == 1
    finally:
        for name in changes:
            stage.bucket.undo(name) if name != "checkpoint" else stage.bucket.change(name, stage.place.pieces[name])
        await store.aclose()


@pytest.mark.parametrize("mutation", ADDED, ids=lambda each: each.name)
async def test_what_is_put_beside_the_log_in_a_bucket_is_named(
    stage: Stage, mutation: Mutation, tmp_path: Path
) -> None:
    changes = mutation.change(stage.place)
    store = s3_store(stage.bucket.options)
    try:
        for name, data in changes.items():
            stage.bucket.change(name, data)
        for level in ["quick", "full"] if mutation.quick else ["full"]:
            found = await stage.found(store, tmp_path, level)
            assert named(found, mutation, stage.place), (level, [(each.kind, each.key, each.detail) for each in found])
    finally:
        for name in changes:
            if name == "checkpoint":
                stage.bucket.change(name, stage.place.pieces[name])
            else:
                stage.bucket.undo(name)
                only = stage.bucket.client.list_object_versions(
                    Bucket=stage.bucket.options.bucket, Prefix=stage.bucket.key(name)
                )
                for each in only.get("Versions", []):
                    stage.bucket.client.delete_object(
                        Bucket=stage.bucket.options.bucket, Key=each["Key"], VersionId=each["VersionId"]
                    )
        await store.aclose()


@pytest.mark.parametrize("level", ["quick", "window", "full"])
async def test_a_clean_archive_has_no_findings(stage: Stage, tmp_path: Path, level: str) -> None:
    notary = tmp_path / "notary.db"
    shutil.copy(stage.place.scene.notary, notary)
    stores: dict[str, ObjectStore] = {"bucket": s3_store(stage.bucket.options), "shelf": folder_store(stage.folder)}
    locks = {
        "bucket": ExpectedLock(LockMode.COMPLIANCE, lambda put: put),
        "shelf": ExpectedLock(LockMode.OFF, lambda put: put),
    }
    try:
        async with custody_log(stage.url, notary, [], enrol=False) as archive:
            result = await everywhere(archive, stores, stage.place.scene.trust, level, locks)
        assert (result.findings, result.unreachable, result.unchecked) == ([], {}, {})
    finally:
        await stores["bucket"].aclose()


# --- locks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "days", "mode", "kind"),
    [
        (FULL, 3, "COMPLIANCE", Kind.LOCK_SHORTER),
        (BUNDLE, None, None, Kind.LOCK_WEAKER),
        ("checkpoint 2", 3, "COMPLIANCE", Kind.LOCK_SHORTER),
        ("checkpoint 2", None, None, Kind.LOCK_WEAKER),
        (FULL, 40, "GOVERNANCE", Kind.LOCK_WEAKER),
    ],
)
async def test_a_lock_that_is_shorter_weaker_or_absent_is_named(
    stage: Stage, seaweedfs: str, tmp_path: Path, name: str, days: int | None, mode: str | None, kind: Kind
) -> None:
    """A bucket filled anew with the same pieces, one of them locked otherwise."""
    bucket = Bucket(replace(bucket_at(seaweedfs), id="bucket"))
    odd = stage.place.point(2) if name == "checkpoint 2" else name
    now = datetime.now(UTC)
    for each, data in stage.place.pieces.items():
        if each == "checkpoint" or ".p/" in each:
            bucket.change(each, data)
        elif each != odd:
            lock = {
                "ObjectLockMode": "COMPLIANCE",
                "ObjectLockRetainUntilDate": now + timedelta(days=30),
                "ChecksumAlgorithm": "SHA256",
            }
            bucket.change(each, data, **lock)
        elif mode is not None and days is not None:
            lock = {
                "ObjectLockMode": mode,
                "ObjectLockRetainUntilDate": now + timedelta(days=days),
                "ChecksumAlgorithm": "SHA256",
            }
            bucket.change(each, data, **lock)
        else:
            bucket.change(each, data)
    store = s3_store(bucket.options)
    try:
        rules = ExpectedLock(LockMode.COMPLIANCE, lambda put: put + timedelta(days=30))
        found = await stage.found(store, tmp_path, "full", rules)
        assert [(each.kind, each.key) for each in found] == [(kind, odd)]
        longer = ExpectedLock(LockMode.COMPLIANCE, lambda put: put + timedelta(days=300))
        assert len(await stage.found(store, tmp_path, "full", longer)) == 1
    finally:
        await store.aclose()


async def test_a_shelf_is_checked_without_any_database(stage: Stage, tmp_path: Path) -> None:
    store = stage.copy(tmp_path, {FULL: stage.place.flipped(FULL)})
    result = Verification()
    await check_published_log(store.shelf(in_passing=True), stage.place.scene.trust, None, result, whole=True)
    assert [(each.kind, each.key) for each in result.failures] == [(SHELF, FULL)]
    assert LOG.key == stage.place.scene.trust.log_key
