"""What every storage promises (archiver.store.port), on each of them: SeaweedFS, moto, a directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.directory import DirectoryStore
from archiver.store.port import ObjectStore
from archiver.store.s3 import S3Store
from tests.fixtures_s3 import bucket_at
from tests.sealed_files import SealedFile, listed, pattern, read_all, sealed_file

KEY = "recordings/2026/05/ab/abcdef"
MIB = 1024 * 1024


@pytest.fixture(params=["seaweedfs", "seaweedfs-unprobed", "seaweedfs-off", "moto", "directory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    clock, chance = SystemClock(), SystemChance()
    name = str(request.param)
    made: ObjectStore
    if name == "directory":
        made = DirectoryStore("second", tmp_path / "store", clock=clock, chance=chance)
    else:
        server = name.partition("-")[0]
        # moto lets a compliance lock be shortened, which makes it untrusted there; in governance mode that is a warning.
        mode = {"moto": LockMode.GOVERNANCE, "seaweedfs-off": LockMode.OFF}.get(name, LockMode.COMPLIANCE)
        endpoint = request.getfixturevalue(server)
        made = S3Store(
            bucket_at(endpoint, lock_mode=mode, multipart_threshold=5 * MIB, single_limit=5 * MIB, part_size=5 * MIB),
            clock,
            chance,
        )
    if not name.endswith("unprobed"):
        report = await made.probe()
        assert report.trusted, report
    yield made
    await made.aclose()


@pytest.fixture
def file(tmp_path: Path) -> SealedFile:
    return sealed_file(tmp_path, pattern(100_000))


def lock_for(store: ObjectStore, days: int = 2) -> Lock:
    if store.lock_mode is LockMode.OFF:
        return Lock(LockMode.OFF, None)
    return Lock(store.lock_mode, datetime.now(UTC) + timedelta(days=days))


async def test_what_was_stored_is_shown_and_read_back(store: ObjectStore, file: SealedFile) -> None:
    lock = lock_for(store)
    stored = await file.put(store, KEY, lock)
    assert (stored.storage, stored.size, stored.sealed_sha256) == (store.id, file.size, file.sealed_sha256)
    assert stored.key.endswith(KEY)
    assert stored.lock_mode is store.lock_mode
    assert stored.checked_by in {"head-checksum", "full-read"}
    if lock.retain_until:
        assert stored.version_id is not None
        assert stored.retain_until is not None
        assert stored.retain_until >= lock.retain_until
    assert await read_all(store, stored) == file.path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1, 12 * MIB + 7])
async def test_any_size_is_stored_whole(store: ObjectStore, tmp_path: Path, size: int) -> None:
    file = sealed_file(tmp_path, pattern(size))
    stored = await file.put(store, KEY, lock_for(store))
    assert (stored.size, stored.sealed_sha256) == (size, file.sealed_sha256)
    pieces = [piece async for piece in store.read(stored.key, stored.version_id)]
    assert all(len(piece) <= MIB for piece in pieces)
    assert b"".join(pieces) == file.path.read_bytes()


@pytest.mark.parametrize("size", [1000, 6 * MIB])
async def test_putting_again_adopts_what_is_there(store: ObjectStore, tmp_path: Path, size: int) -> None:
    file = sealed_file(tmp_path, pattern(size))
    first = await file.put(store, KEY, lock_for(store))
    again = await file.put(store, KEY, lock_for(store))
    assert (again.version_id, again.sealed_sha256) == (first.version_id, first.sealed_sha256)
    assert len(await listed(store)) == 1


async def test_putting_again_for_longer_extends_the_lock(store: ObjectStore, file: SealedFile) -> None:
    first = await file.put(store, KEY, lock_for(store, days=2))
    again = await file.put(store, KEY, lock_for(store, days=3))
    assert again.version_id == first.version_id
    if first.retain_until:
        assert again.retain_until is not None
        assert again.retain_until > first.retain_until


@pytest.mark.parametrize("size", [1000, 6 * MIB])
async def test_other_bytes_under_the_key_are_a_conflict(store: ObjectStore, tmp_path: Path, size: int) -> None:
    ours = sealed_file(tmp_path, pattern(size, 1), "ours")
    other = sealed_file(tmp_path, pattern(size, 2), "other")
    stored = await ours.put(store, KEY, lock_for(store))
    with pytest.raises(errors.ConflictError):
        await other.put(store, KEY, lock_for(store))
    assert await read_all(store, stored) == ours.path.read_bytes()
    assert len(await listed(store)) == 1


async def test_puts_at_the_same_time_make_one_version(store: ObjectStore, file: SealedFile) -> None:
    stored = await asyncio.gather(*(file.put(store, KEY, lock_for(store)) for _ in range(6)))
    assert {each.sealed_sha256 for each in stored} == {file.sealed_sha256}
    # An unprobed bucket is not presumed to refuse a second version: the store can only look first.
    if not (isinstance(store, S3Store) and not store.profile.conditional_single):
        assert len({each.version_id for each in stored}) == 1
        assert len(await listed(store)) == 1


async def test_a_file_shorter_than_sealed_is_not_stored(store: ObjectStore, file: SealedFile) -> None:
    file.path.write_bytes(file.path.read_bytes()[:-1])
    with pytest.raises(errors.VerificationError):
        await file.put(store, KEY, lock_for(store))
    assert await store.inspect(KEY, None) is None or not isinstance(store, DirectoryStore)


async def test_a_file_changed_since_sealing_is_never_called_stored(store: ObjectStore, file: SealedFile) -> None:
    content = bytearray(file.path.read_bytes())
    content[500] ^= 1
    file.path.write_bytes(bytes(content))
    with pytest.raises(errors.VerificationError):
        await file.put(store, KEY, lock_for(store))


async def test_a_file_that_is_gone_is_said_so(store: ObjectStore, file: SealedFile) -> None:
    file.path.unlink()
    with pytest.raises(errors.VerificationError):
        await file.put(store, KEY, lock_for(store))


async def test_what_is_not_there_is_not_found(store: ObjectStore) -> None:
    assert await store.inspect(KEY, None) is None
    with pytest.raises(errors.NotFoundError):
        _ = [piece async for piece in store.read(KEY, None)]
    with pytest.raises(errors.NotFoundError):
        await store.extend(KEY, None, datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(errors.NotFoundError):
        await store.hold(KEY, None, True)


async def test_a_version_that_never_was_is_not_found(store: ObjectStore, file: SealedFile) -> None:
    await file.put(store, KEY, lock_for(store))
    assert await store.inspect(KEY, "00000000-0000-0000-0000-000000000000") is None
    with pytest.raises(errors.NotFoundError):
        _ = [piece async for piece in store.read(KEY, "00000000-0000-0000-0000-000000000000")]


async def test_inspecting_shows_the_same_as_putting(store: ObjectStore, file: SealedFile) -> None:
    stored = await file.put(store, KEY, lock_for(store))
    seen = await store.inspect(stored.key, stored.version_id)
    assert seen is not None
    assert (seen.key, seen.version_id, seen.size) == (stored.key, stored.version_id, stored.size)
    assert (seen.lock_mode, seen.retain_until) == (stored.lock_mode, stored.retain_until)
    assert seen.sealed_sha256 in {stored.sealed_sha256, ""}


async def test_a_lock_gets_longer_and_never_shorter(store: ObjectStore, file: SealedFile) -> None:
    stored = await file.put(store, KEY, lock_for(store, days=2))
    later = datetime.now(UTC) + timedelta(days=9)
    longer = await store.extend(stored.key, stored.version_id, later)
    if store.lock_mode is LockMode.OFF and isinstance(store, S3Store):
        assert (longer.lock_mode, longer.retain_until) == (LockMode.OFF, None)
        return
    assert longer.retain_until is not None
    assert longer.retain_until >= later
    same = await store.extend(stored.key, stored.version_id, later - timedelta(days=8))
    assert same.retain_until == longer.retain_until


async def test_a_legal_hold_is_set_and_lifted(store: ObjectStore, file: SealedFile) -> None:
    stored = await file.put(store, KEY, lock_for(store))
    assert not stored.legal_hold
    for on in (True, True, False, False):
        assert (await store.hold(stored.key, stored.version_id, on)).legal_hold is on
        seen = await store.inspect(stored.key, stored.version_id)
        assert seen is not None
        assert seen.legal_hold is on


async def test_an_object_can_be_put_with_a_legal_hold(store: ObjectStore, file: SealedFile) -> None:
    lock = lock_for(store)
    stored = await file.put(store, KEY, Lock(lock.mode, lock.retain_until, legal_hold=True))
    assert stored.legal_hold
    await store.hold(stored.key, stored.version_id, False)


async def test_versions_lists_what_is_under_the_prefix_by_key(store: ObjectStore, tmp_path: Path) -> None:
    names = ["recordings/2026/06/bb/b", "recordings/2026/05/aa/a", "recordings/undated/cc/c", "quarantine/dd/d"]
    for n, name in enumerate(names):
        await sealed_file(tmp_path, pattern(50, n)).put(store, name, lock_for(store))
    keys = [each.key for each in await listed(store, "recordings/")]
    assert [key.partition("recordings/")[2] for key in keys] == ["2026/05/aa/a", "2026/06/bb/b", "undated/cc/c"]
    one = await listed(store, keys[0])
    assert [(each.key, each.is_latest, each.is_delete_marker, each.size) for each in one] == [
        (keys[0], True, False, 50)
    ]
    assert abs(one[0].modified_at - datetime.now(UTC)) < timedelta(minutes=5)


async def test_a_read_left_early_holds_nothing_up(store: ObjectStore, tmp_path: Path) -> None:
    file = sealed_file(tmp_path, pattern(4 * MIB))
    stored = await file.put(store, KEY, lock_for(store))
    for _ in range(12):
        pieces = store.read(stored.key, stored.version_id)
        assert await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
    assert await read_all(store, stored) == file.path.read_bytes()


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../b", "a//b", "A", "a.b", "a/", "ä", "a" * 201])
async def test_a_key_of_another_shape_is_refused(store: ObjectStore, file: SealedFile, key: str) -> None:
    with pytest.raises(errors.NotAllowedError):
        await file.put(store, key, lock_for(store))


async def test_probing_again_finds_the_same(store: ObjectStore) -> None:
    first, second = await store.probe(), await store.probe()
    assert [(each.name, each.ok) for each in first.checks] == [(each.name, each.ok) for each in second.checks]
    assert second.probed_at > first.probed_at
