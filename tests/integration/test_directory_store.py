"""The directory: what its files look like, what a death leaves, what a full or missing disk does."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.directory import DirectoryStore
from tests.sealed_files import SealedFile, listed, pattern, read_all, sealed_file

KEY = "recordings/2026/05/ab/abcdef"
NO_LOCK = Lock(LockMode.OFF, None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore("second", root, clock=SystemClock(), chance=SystemChance())


@pytest.fixture
def file(tmp_path: Path) -> SealedFile:
    return sealed_file(tmp_path, pattern(50_000))


async def test_stored_file_is_read_only_and_says_that_it_is_not_locked(
    store: DirectoryStore, root: Path, file: SealedFile
) -> None:
    stored = await file.put(store, KEY, NO_LOCK)
    assert stat.S_IMODE((root / KEY).stat().st_mode) == 0o400
    assert (stored.lock_mode, stored.version_id, stored.bucket) == (LockMode.OFF, None, str(root))


async def test_lock_that_a_directory_cannot_keep_is_refused(
    store: DirectoryStore, root: Path, file: SealedFile
) -> None:
    with pytest.raises(errors.NotLockedError):
        await file.put(store, KEY, Lock(LockMode.COMPLIANCE, datetime.now(UTC) + timedelta(days=1)))
    assert not (root / KEY).exists()


async def test_retention_and_hold_are_noted_beside_the_object(
    store: DirectoryStore, root: Path, file: SealedFile
) -> None:
    until = datetime(2033, 1, 1, tzinfo=UTC)
    stored = await file.put(store, KEY, Lock(LockMode.OFF, until, legal_hold=True))
    assert (stored.retain_until, stored.legal_hold) == (until, True)
    again = DirectoryStore("second", root, clock=SystemClock(), chance=SystemChance())
    assert (await again.hold(KEY, None, False)).retain_until == until
    assert [each.key for each in await listed(again)] == [KEY], "a note is no object"


async def test_damaged_note_is_told_not_guessed(store: DirectoryStore, root: Path, file: SealedFile) -> None:
    await file.put(store, KEY, Lock(LockMode.OFF, datetime(2033, 1, 1, tzinfo=UTC)))
    (root / f"{KEY}.lock").write_text("{")
    with pytest.raises(errors.VerificationError):
        await store.inspect(KEY, None)


async def test_flipped_byte_shows_in_inspect_and_conflicts_on_put(
    store: DirectoryStore, root: Path, file: SealedFile
) -> None:
    await file.put(store, KEY, NO_LOCK)
    path = root / KEY
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(bytes(content))
    seen = await store.inspect(KEY, None)
    assert seen is not None
    assert seen.sealed_sha256 != file.sealed_sha256
    with pytest.raises(errors.ConflictError):
        await file.put(store, KEY, NO_LOCK)
    assert path.read_bytes() == bytes(content), "evidence is never removed, not even when it looks wrong"


@pytest.mark.parametrize("step", ["link", "fsync"])
async def test_death_while_putting_is_repaired_by_putting_again(
    store: DirectoryStore, file: SealedFile, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Refused before the link, or done with the folder not yet synced: either way the next call makes it whole."""

    def fail(*_: object) -> NoReturn:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        with pytest.raises(errors.DestinationError, match="EIO"):
            await file.put(store, KEY, NO_LOCK)
    stored = await file.put(store, KEY, NO_LOCK)
    assert await read_all(store, stored) == file.path.read_bytes()
    assert [each.key for each in await listed(store, "")] == [KEY]


async def test_link_done_but_folder_not_synced_is_adopted(
    store: DirectoryStore, file: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fail_on_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(5, "Input/output error")
        real(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail_on_folders)
        with pytest.raises(errors.DestinationError):
            await file.put(store, KEY, NO_LOCK)
    assert (await store.inspect(KEY, None)) is not None, "the effect happened"
    await file.put(store, KEY, NO_LOCK)
    assert len(await listed(store)) == 1


async def test_parts_left_by_a_death_are_no_objects_and_are_swept_after_a_day(
    store: DirectoryStore, root: Path, file: SealedFile
) -> None:
    await store.probe()
    old, young = root / ".parts" / "old", root / ".parts" / "young"
    for each in (old, young):
        each.write_bytes(b"half")
    day_ago = datetime.now(UTC).timestamp() - 90_000
    os.utime(old, (day_ago, day_ago))
    assert await listed(store, "") == []
    await store.probe()
    assert not old.exists()
    assert young.exists()


async def test_disk_that_is_full_blames_the_storage(
    store: DirectoryStore, file: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(errors.DestinationError, match="ENOSPC"):
        await file.put(store, KEY, NO_LOCK)
    assert await listed(store, "") == []


async def test_disk_that_is_not_mounted_is_not_replaced_by_a_folder(tmp_path: Path, file: SealedFile) -> None:
    store = DirectoryStore("second", tmp_path / "mnt" / "worm", clock=SystemClock(), chance=SystemChance())
    with pytest.raises(errors.DestinationError):
        await store.probe()
    with pytest.raises(errors.DestinationError):
        await file.put(store, KEY, NO_LOCK)
    assert not (tmp_path / "mnt").exists()


async def test_probe_says_that_a_directory_protects_nothing(store: DirectoryStore) -> None:
    report = await store.probe()
    assert report.trusted
    assert {each.name: (each.ok, each.fatal) for each in report.checks}["protection"] == (False, False)
    assert await listed(store, "") == []
