"""What every shelf promises the custody log (archiver.store.port.Shelf), on each storage: SeaweedFS, moto, a directory."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.directory import DirectoryStore
from archiver.store.port import Shelf
from archiver.store.s3 import S3Options, S3Store
from tests.fixtures_s3 import NewBucket, bucket_at
from tests.lying_s3 import LyingS3, lose_answer, refuse

FULL = "tile/0/x001/234"
PARTIAL = "tile/0/x001/235.p/17"


@dataclass(frozen=True, slots=True)
class Place:
    """A shelf, its storage, and a way behind the shelf's back."""

    shelf: Shelf
    store: S3Store | DirectoryStore
    intrude: Callable[[str, bytes], None]
    hide: Callable[[str], None] | None = None


def client_of(options: S3Options) -> object:
    assert options.access_key
    assert options.secret_key
    return boto3.client(
        "s3",
        endpoint_url=options.endpoint,
        region_name=options.region,
        aws_access_key_id=options.access_key.reveal(),
        aws_secret_access_key=options.secret_key.reveal(),
    )


def at_bucket(store: S3Store, options: S3Options) -> Place:
    client = client_of(options)

    def intrude(name: str, data: bytes) -> None:
        client.put_object(Bucket=options.bucket, Key=f"calls/custody/{name}", Body=data)  # type: ignore[attr-defined]

    def hide(name: str) -> None:
        client.delete_object(Bucket=options.bucket, Key=f"calls/custody/{name}")  # type: ignore[attr-defined]

    return Place(store.shelf(), store, intrude, hide if options.lock_mode is not LockMode.OFF else None)


@pytest.fixture(params=["seaweedfs", "seaweedfs-unprobed", "seaweedfs-off", "moto", "directory"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    clock, chance = SystemClock(), SystemChance()
    name = str(request.param)
    made: Place
    if name == "directory":
        store = DirectoryStore("second", tmp_path / "store", clock=clock, chance=chance, required=False)

        def intrude(name: str, data: bytes) -> None:
            path = tmp_path / "store" / "custody" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(data)

        made = Place(store.shelf(), store, intrude)
    else:
        # moto lets a compliance lock be shortened, which makes it untrusted there; in governance mode that is a warning.
        mode = {"moto": {"lock_mode": LockMode.GOVERNANCE, "id": "moto"}, "seaweedfs-off": {"locked": False}}.get(
            name, {}
        )
        options = bucket_at(request.getfixturevalue(name.partition("-")[0]), **mode)  # type: ignore[arg-type]
        made = at_bucket(S3Store(options, clock, chance), options)
    if not name.endswith("unprobed"):
        await made.store.probe()
    yield made
    await made.store.aclose()


@pytest.fixture
def shelf(place: Place) -> Shelf:
    return place.shelf


def soon(days: int = 2) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


async def names(shelf: Shelf, prefix: str = "", after: str = "") -> list[str]:
    return [name async for name in shelf.names(prefix, after)]


async def test_shelf_is_known_by_its_storages_id_and_need(place: Place) -> None:
    assert (place.shelf.id, place.shelf.required) == (place.store.id, place.store.required)


async def test_what_was_put_is_read_back_from_under_the_logs_prefix(place: Place) -> None:
    await place.shelf.put_new(FULL, b"\x00\xff" * 4096, soon())
    assert await place.shelf.read(FULL) == b"\x00\xff" * 4096
    listed = [each.key async for each in place.store.versions("custody/tile/")]
    assert [key.removeprefix("calls/") for key in listed] == [f"custody/{FULL}"]


async def test_what_is_not_there_reads_as_nothing(shelf: Shelf) -> None:
    await shelf.put_new(f"{FULL}.p/5", b"a longer name is not this name", None)
    assert await shelf.read(FULL) is None
    assert await shelf.read_current(FULL) is None
    assert await shelf.versions(FULL) == []
    assert await shelf.lock(FULL) is None


async def test_same_bytes_put_again_leave_one_version(shelf: Shelf) -> None:
    for _ in range(3):
        await shelf.put_new(FULL, b"tile", soon())
    versions = await shelf.versions(FULL)
    assert [(each.key, each.size, each.is_delete_marker) for each in versions] == [(FULL, 4, False)]


async def test_other_bytes_of_the_same_length_are_a_conflict_and_change_nothing(shelf: Shelf) -> None:
    await shelf.put_new(FULL, b"tile", soon())
    with pytest.raises(errors.ConflictError):
        await shelf.put_new(FULL, b"lite", soon())
    assert await shelf.read(FULL) == b"tile"
    assert len(await shelf.versions(FULL)) == 1


async def test_creations_at_the_same_time_have_one_winner(place: Place) -> None:
    if isinstance(place.store, S3Store):
        await place.store.probe()  # a bucket that was not probed is not presumed to refuse a second version
    contents = [f"tile {n}".encode() for n in range(6)]
    ends = await asyncio.gather(*(place.shelf.put_new(FULL, each, soon()) for each in contents), return_exceptions=True)
    won = [content for content, end in zip(contents, ends, strict=True) if end is None]
    assert len(won) == 1
    assert await place.shelf.read(FULL) == won[0]
    assert all(isinstance(end, errors.ConflictError) for end in ends if end is not None)


async def test_current_follows_and_read_stays_with_the_oldest(place: Place) -> None:
    for content in (b"10", b"11", b"12"):
        await place.shelf.put_current("checkpoint", content)
        assert await place.shelf.read_current("checkpoint") == content
    kept = len(await place.shelf.versions("checkpoint"))
    assert await place.shelf.read("checkpoint") == (b"10" if kept == 3 else b"12")
    assert kept == (1 if isinstance(place.store, DirectoryStore) or place.hide is None else 3)


async def test_version_put_over_an_immutable_name_is_seen_and_not_believed(place: Place) -> None:
    await place.shelf.put_new(FULL, b"tile", soon())
    place.intrude(FULL, b"forged")
    versions = await place.shelf.versions(FULL)
    if place.hide is None:  # no versions here: nothing but proof protects
        assert await place.shelf.read(FULL) == b"forged"
        with pytest.raises(errors.ConflictError):
            await place.shelf.put_new(FULL, b"tile", soon())
        return
    assert [each.size for each in versions] == [4, 6]
    assert await place.shelf.read(FULL) == b"tile"
    await place.shelf.put_new(FULL, b"tile", soon())
    assert len(await place.shelf.versions(FULL)) == 2


async def test_delete_marker_hides_nothing_from_read_and_listing(place: Place) -> None:
    await place.shelf.put_new("checkpoints/00000000000000000007", b"seven", soon())
    if place.hide is None:  # no versions here, so no delete markers
        return
    place.hide("checkpoints/00000000000000000007")
    assert await place.shelf.read("checkpoints/00000000000000000007") == b"seven"
    assert await place.shelf.read_current("checkpoints/00000000000000000007") is None
    assert await names(place.shelf, "checkpoints/") == ["checkpoints/00000000000000000007"]
    assert [each.is_delete_marker for each in await place.shelf.versions("checkpoints/00000000000000000007")] == [
        False,
        True,
    ]


async def test_partial_put_as_current_can_be_made_to_stay(shelf: Shelf) -> None:
    await shelf.put_current(PARTIAL, b"hashes")
    await shelf.put_new(PARTIAL, b"hashes", soon())
    assert await shelf.read(PARTIAL) == b"hashes"
    assert len(await shelf.versions(PARTIAL)) == 1


async def test_names_come_in_order_and_from_where_asked(shelf: Shelf) -> None:
    sizes = [f"checkpoints/{size:020d}" for size in (1, 9, 10, 255, 256, 70_000)]
    for name in reversed(sizes):
        await shelf.put_new(name, name.encode(), None)
    await shelf.put_current("checkpoint", b"pointer")
    await shelf.put_new("keys/archive.example/custody/2026.vkey", b"vkey", None)
    assert await names(shelf, "checkpoints/") == sizes
    assert await names(shelf, "checkpoints/", after=sizes[2]) == sizes[3:]
    if shelf.id != "moto":  # which takes a marker that is no key for one too many
        assert await names(shelf, "checkpoints/", after=f"checkpoints/{11:020d}") == sizes[3:]
    assert await names(shelf, "checkpoints/", after=sizes[-1]) == []
    assert await names(shelf) == ["checkpoint", *sizes, "keys/archive.example/custody/2026.vkey"]
    assert await names(shelf, "anchors/") == []


@pytest.mark.parametrize(
    "name", ["", "/tile", "../x", "tile/../x", "tile//0", "tile/.hidden", ".parts/x", "ä", "a" * 201]
)
async def test_name_that_the_log_does_not_make_is_refused(shelf: Shelf, name: str) -> None:
    for act in (shelf.put_new(name, b"x", None), shelf.put_current(name, b"x"), shelf.read(name), shelf.versions(name)):
        with pytest.raises(errors.NotAllowedError):
            await act


# --- locks --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def locked(new_bucket: NewBucket) -> AsyncIterator[tuple[S3Store, Shelf]]:
    store = S3Store(new_bucket(), SystemClock(), SystemChance())
    await store.probe()
    yield store, store.shelf()
    await store.aclose()


async def test_immutable_piece_is_locked_as_long_as_asked_and_only_ever_longer(locked: tuple[S3Store, Shelf]) -> None:
    _, shelf = locked
    for days, at_least in ((2, 2), (5, 5), (3, 5)):
        until = soon(days)
        await shelf.put_new(FULL, b"tile", until)
        lock = await shelf.lock(FULL)
        assert lock is not None
        assert lock.mode is LockMode.COMPLIANCE
        assert lock.retain_until is not None
        assert lock.retain_until >= soon(at_least) - timedelta(minutes=1)


async def test_pointer_and_partial_are_not_locked_and_the_partial_is_tagged(new_bucket: NewBucket) -> None:
    options = new_bucket()
    store = S3Store(options, SystemClock(), SystemChance())
    shelf = store.shelf()
    await shelf.put_current(PARTIAL, b"hashes")
    await shelf.put_current("checkpoint", b"pointer")
    client = client_of(options)
    for name, tags in ((PARTIAL, [{"Key": "partial", "Value": "1"}]), ("checkpoint", [])):
        key = f"calls/custody/{name}"
        assert await shelf.lock(name) == Lock(LockMode.OFF, None)
        answer = client.get_object_tagging(Bucket=options.bucket, Key=key)  # type: ignore[attr-defined]
        assert answer["TagSet"] == tags
    await store.aclose()


# --- answers lost, servers down -------------------------------------------------------------------------------------


async def test_answer_lost_after_creation_does_not_duplicate(lying_s3: LyingS3, new_bucket: NewBucket) -> None:
    options = new_bucket()
    store = S3Store(replace(options, endpoint=lying_s3.endpoint), SystemClock(), SystemChance())
    await store.probe()
    shelf = store.shelf()
    lying_s3.lie(lose_answer("PutObject"))
    await shelf.put_new(FULL, b"tile", soon())
    assert await shelf.read(FULL) == b"tile"
    assert len(await shelf.versions(FULL)) == 1
    await store.aclose()


async def test_disk_that_is_not_mounted_does_not_look_like_an_empty_log(tmp_path: Path) -> None:
    store = DirectoryStore("second", tmp_path / "store", clock=SystemClock(), chance=SystemChance())
    await store.probe()
    shelf = store.shelf()
    await shelf.put_new(FULL, b"tile", None)
    shutil.rmtree(tmp_path / "store")
    for act in (shelf.read(FULL), shelf.read_current(FULL), names(shelf), shelf.put_new(FULL, b"tile", None)):
        with pytest.raises(errors.DestinationError):
            await act
    assert not (tmp_path / "store").exists()


async def test_server_that_is_down_is_a_destination_error(new_bucket: NewBucket) -> None:
    options = new_bucket()
    store = S3Store(replace(options, endpoint="http://127.0.0.1:9"), SystemClock(), SystemChance())
    shelf = store.shelf()
    for act in (shelf.read(FULL), names(shelf, "tile/"), shelf.put_current("checkpoint", b"x")):
        with pytest.raises(errors.DestinationError):
            await act
    await store.aclose()


async def test_partial_is_put_without_a_tag_where_tags_are_refused(lying_s3: LyingS3, new_bucket: NewBucket) -> None:
    store = S3Store(replace(new_bucket(), endpoint=lying_s3.endpoint), SystemClock(), SystemChance())
    shelf = store.shelf()
    lying_s3.lie(refuse("PutObject", 403, "AccessDenied", times=1))
    await shelf.put_current(PARTIAL, b"hashes")
    assert await shelf.read(PARTIAL) == b"hashes"
    lying_s3.lie(refuse("PutObject", 403, "AccessDenied"))
    with pytest.raises(errors.DestinationError):
        await shelf.put_current(PARTIAL, b"hashes")
    await store.aclose()
