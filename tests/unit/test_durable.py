"""Files are whole or not there, never over another unless that is asked for, and their names are on disk with them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from archiver import durable, hearing
from archiver.errors import NotAllowedError

OLD, NEW = b"the other's", b"ours"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files and folders that were synced, by name and in order."""
    found: list[str] = []
    real = os.fsync

    def sync(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    return found


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_created_file_is_whole_private_and_on_disk_with_its_name(tmp_path: Path, synced: list[str]) -> None:
    durable.create(tmp_path / "key", NEW)
    assert (tmp_path / "key").read_bytes() == NEW
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert synced == [".key.part", tmp_path.name]
    assert names(tmp_path) == ["key"]


@pytest.mark.parametrize("link", [False, True], ids=["a file", "a dangling link"])
def test_name_that_is_taken_is_refused_and_what_has_it_stays(tmp_path: Path, link: bool) -> None:
    taken = tmp_path / "taken"
    if link:
        taken.symlink_to(tmp_path / "nothing")
    else:
        taken.write_bytes(OLD)
    with pytest.raises(FileExistsError):
        durable.create(taken, NEW)
    assert names(tmp_path) == ["taken"]
    assert taken.is_symlink() if link else taken.read_bytes() == OLD


def test_replaced_file_is_on_disk_with_its_name_and_a_link_is_not_followed(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "elsewhere").write_bytes(OLD)
    (tmp_path / "note").symlink_to(tmp_path / "elsewhere")
    durable.replace(tmp_path / "note", NEW, 0o644)
    assert ((tmp_path / "note").read_bytes(), (tmp_path / "elsewhere").read_bytes()) == (NEW, OLD)
    assert synced == [".note.part", tmp_path.name]


def test_part_of_a_process_that_died_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".note.part").write_bytes(b"half")
    durable.replace(tmp_path / "note", NEW)
    assert (names(tmp_path), (tmp_path / "note").read_bytes()) == (["note"], NEW)


def test_file_that_cannot_be_written_leaves_the_old_one_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "note").write_bytes(OLD)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        durable.replace(tmp_path / "note", NEW)
    assert (names(tmp_path), (tmp_path / "note").read_bytes()) == (["note"], OLD)


def test_file_system_without_links_refuses_a_taken_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_names: Path) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", unable)
    durable.create(tmp_path / "free", NEW)
    (tmp_path / "taken").write_bytes(OLD)
    with pytest.raises(FileExistsError):
        durable.create(tmp_path / "taken", NEW)
    assert names(tmp_path) == ["free", "taken"]
    assert [(tmp_path / each).read_bytes() for each in names(tmp_path)] == [NEW, OLD]


@pytest.mark.parametrize(("number", "refused"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_share_that_cannot_sync_a_folder_takes_the_file_and_a_broken_disk_does_not(
    number: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    if refused:
        with pytest.raises(OSError, match="Input/output error"):
            durable.create(tmp_path / "key", NEW)
    else:
        durable.create(tmp_path / "key", NEW)
        assert (tmp_path / "key").read_bytes() == NEW


async def _audio() -> AsyncIterator[bytes]:
    yield b" and the rest"


async def test_audio_is_written_whole_and_its_name_is_on_disk(tmp_path: Path, synced: list[str]) -> None:
    assert await hearing._write(tmp_path / "a.mp3", b"first", _audio()) == len(b"first and the rest")  # type: ignore[arg-type]
    assert ((tmp_path / "a.mp3").read_bytes(), names(tmp_path)) == (b"first and the rest", ["a.mp3"])
    assert synced[-1] == tmp_path.name


async def test_file_that_appears_at_the_last_moment_is_not_overwritten_by_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look whether the name is free and a rename there is always such a moment."""
    target, real = tmp_path / "a.mp3", os.link

    def late(part: Path, name: Path) -> None:
        target.write_bytes(OLD)
        real(part, name)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(NotAllowedError, match="never overwrites"):
        await hearing._write(target, b"first", _audio())  # type: ignore[arg-type]
    assert (target.read_bytes(), names(tmp_path)) == (OLD, ["a.mp3"])
