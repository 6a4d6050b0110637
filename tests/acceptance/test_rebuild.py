"""The database is lost: bucket and keys alone bring back every row, every proof, and say what they cannot bring back."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from archiver import errors
from archiver.assembly.keys import build_identities, build_recipients
from archiver.cli.options import Options
from archiver.cli.rebuild import _rebuild
from archiver.clock import SystemChance, SystemClock
from archiver.config.load import load as load_config
from archiver.custody import history
from archiver.custody.event import ARCHIVE
from archiver.custody.tables import custody_private, custody_subject
from archiver.database import create_engine, reading, upgrade
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.demo.simulators.server import Simulator
from archiver.ingest.tables import QUEUE, catalogue_segment, copy, recording
from archiver.recovery import catalogue, restore
from archiver.recovery.rebuild import Rebuilt
from archiver.recovery.recording_replay import UNCATALOGUED, UNLOGGED
from archiver.recovery.segment import dump, load
from archiver.seal.cipher import Sealer, open_sealed
from archiver.wall import Walls
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.acceptance.test_archive import s3
from tests.fixtures_db import Server
from tests.fixtures_s3 import NewBucket
from tests.seal_keys import generate_local_key

DIRECTORY = "[{id: primary, kind: directory, path: copies}]"


@pytest.fixture
async def sims() -> AsyncIterator[dict[str, Simulator]]:
    """All providers, with a few calls each."""
    made = fleet.fleet(SystemClock(), samples(), seed=3, count=4)
    async with AsyncExitStack() as stack:
        for sim in made.values():
            await stack.enter_async_context(sim)
        yield made


def everything(url: str, state_dir: Path) -> dict[str, Any]:
    """What a rebuilt database must have again."""
    engine = create_engine(url, state_dir)
    try:
        with reading(engine) as conn:
            return {
                "rows": _rows(conn),
                "copies": [
                    dict(row) for row in conn.execute(select(copy).order_by(copy.c.recording_id, copy.c.storage)).mappings()
                ],
                "private": {
                    tuple(row)
                    for row in conn.execute(
                        select(custody_subject.c.subject, custody_private.c.seq, custody_private.c.grp, custody_private.c.salt,
                               custody_private.c.data)
                        .join_from(custody_private, custody_subject).where(custody_subject.c.subject != ARCHIVE)
                    )
                },
                "heads": {each: history.head(conn, each) for each in history.subjects(conn, prefix="rec:", limit=10_000)},
                "chains": {
                    each: [entry.raw for entry in history.entries(conn, each)]
                    for each in history.subjects(conn, prefix="rec:", limit=10_000)
                },
                "segments": [
                    tuple(row)
                    for row in conn.execute(
                        select(catalogue_segment.c.sealed_sha256, catalogue_segment.c.size, catalogue_segment.c.lines,
                               catalogue_segment.c.retain_until, catalogue_segment.c.storages)
                        .order_by(catalogue_segment.c.sealed_sha256)
                    )
                ],
            }  # fmt: skip
    finally:
        engine.dispose()


def _rows(conn: Connection) -> list[dict[str, Any]]:
    found = conn.execute(select(recording).order_by(recording.c.id)).mappings()
    return [{name: value for name, value in row.items() if name not in QUEUE - {"segment"}} for row in found]


def lose_database(archive: Archive, server: Server | None) -> str:
    """The database, and with it the whole state directory, is gone; an empty one takes its place. Returns its URL."""
    state = Path(archive.config.state_dir)
    shutil.rmtree(state)
    state.mkdir(mode=0o700)
    url = server.create() if server is not None else archive.config.database.resolve().reveal()
    database = archive.path.parent / "db"
    database.chmod(0o600)
    database.write_text(url)
    engine = create_engine(url, state)
    upgrade(engine)
    engine.dispose()
    return url


def run(archive: Archive, *arguments: str, code: int = 0) -> Any:
    done = archiver("-c", archive.path, "-o", "json", *arguments)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)["data"] if done.stdout else done.stderr


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_lost_database_comes_back_row_by_row_from_the_bucket_and_the_keys(
    kind: str, sims: dict[str, Simulator], new_bucket: NewBucket, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: Server | None = request.getfixturevalue("postgresql") if kind == "postgresql" else None
    url = server.create() if server is not None else "sqlite:///archiver.db"
    archive = make_archive(tmp_path, sims, url, s3(new_bucket(), tmp_path))
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    state = Path(archive.config.state_dir)
    before = await asyncio.to_thread(everything, url, state)
    assert {row["state"] for row in before["rows"]} >= {"archived", "waiting"}
    assert all(row["segment"] for row in before["rows"] if row["state"] in ("archived", "absent", "gone"))

    fresh = await asyncio.to_thread(lose_database, archive, server)
    found = await asyncio.to_thread(run, archive, "rebuild", "--check")
    assert found["findings"] == found["unknown_objects"] == found["uncatalogued"] == {"count": 0, "named": []}
    after = await asyncio.to_thread(everything, fresh, state)
    final = [row for row in before["rows"] if row["state"] in ("archived", "absent", "gone")]
    assert [row for row in after["rows"] if row["provider_recording_id"]] == final
    # What was not finished has a row too, without a name, so that nobody takes its day for complete.
    unnamed = {row["id"]: row["state"] for row in after["rows"] if not row["provider_recording_id"]}
    assert unnamed == {row["id"]: "listed" for row in before["rows"] if row not in final}
    assert after["heads"] == before["heads"]
    assert after["chains"] == before["chains"]
    assert after["segments"] == before["segments"]
    assert after["copies"] == before["copies"]
    described = {f"rec:{row['id']}" for row in final}
    assert after["private"] == {each for each in before["private"] if each[0] in described}
    assert set(found["unfinished"]["named"]) == {row["id"] for row in before["rows"] if row not in final}
    assert found["rows"]["archived"] == sum(row["state"] == "archived" for row in final)

    # The daemon goes on as if nothing had happened: nothing is fetched twice, and everything proves itself.
    objects = await asyncio.to_thread(run, archive, "rebuild")
    assert objects["rows"] == found["rows"]
    assert await asyncio.to_thread(run, archive, "run", "--once")
    rows = {row["id"]: row["state"] for row in await asyncio.to_thread(run, archive, "recordings", "list")}
    assert {each: state for each, state in rows.items() if state == "archived"} == {
        row["id"]: "archived" for row in final if row["state"] == "archived"
    }
    assert rows.keys() == {row["id"] for row in before["rows"]}  # what is listed again goes on under its own id
    assert (await asyncio.to_thread(run, archive, "custody", "fsck"))["findings"] == []
    assert (await asyncio.to_thread(run, archive, "verify", "--all"))["findings"] == []
    assert "journal is not empty" in await asyncio.to_thread(run, archive, "rebuild", code=77)


# --- what the bucket does not give back -------------------------------------------------------------------------


async def swept(folder: Path, sims: dict[str, Simulator]) -> Archive:
    """A small archive in a folder, after one sweep."""
    archive = make_archive(folder, {"kazoo": sims["kazoo"]}, "sqlite:///archiver.db", DIRECTORY)
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    return archive


async def rebuilt(archive: Archive) -> Rebuilt:
    return await _rebuild(Options(quiet=True), archive.config, check=False)


def segments(archive: Archive) -> list[Path]:
    return [
        each for each in (archive.path.parent / "copies" / "catalogue").rglob("*") if each.is_file() and not each.suffix
    ]


def objects(archive: Archive) -> list[str]:
    return sorted(each.name for each in (archive.path.parent / "copies" / "recordings").rglob("*") if each.is_file())


async def test_archived_recordings_without_a_segment_stay_archived_and_are_not_stored_twice(
    sims: dict[str, Simulator], tmp_path: Path
) -> None:
    archive = await swept(tmp_path, sims)
    before, stored = await archive.raw_rows(), objects(archive)
    for each in segments(archive):
        each.unlink()
    lose_database(archive, None)
    found = await rebuilt(archive)
    assert found.exit_code == errors.Exit.INTEGRITY
    assert "is in no storage" in found.findings.names[0]
    assert sorted(found.uncatalogued.names) == sorted(str(row["id"]) for row in before)
    rows = await archive.raw_rows()
    assert {row["last_error"] for row in rows} == {UNCATALOGUED}
    for name in ("id", "state", "plaintext_sha256", "sealed_sha256", "call_started_at"):
        assert {row[name] for row in rows} == {row[name] for row in before}, name
    # The provider lists them again: their content is known, and no second object is made of it.
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    assert objects(archive) == stored
    again = [row for row in await archive.rows() if row["provider_recording_id"]]
    assert {row["plaintext_sha256"] for row in again} == {row["plaintext_sha256"] for row in before}
    assert all(row["copies"] for row in again)


@pytest.mark.parametrize("at", [0, 700, -1])
async def test_changed_segment_is_named_and_none_of_it_is_used(
    sims: dict[str, Simulator], tmp_path: Path, at: int
) -> None:
    archive = await swept(tmp_path, sims)
    (path,) = segments(archive)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.unlink()
    path.write_bytes(content)
    lose_database(archive, None)
    found = await rebuilt(archive)
    assert found.exit_code == errors.Exit.INTEGRITY
    assert found.private == 0
    assert found.uncatalogued.count == 4
    assert path.name in " ".join(found.findings.names)


async def test_segment_of_which_no_published_event_tells_is_used_and_said(
    sims: dict[str, Simulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host died between the put and its note, or before the note was published."""
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "_note", _dies)
        archive = await swept(tmp_path, sims)
    before = await archive.raw_rows()
    assert segments(archive)
    lose_database(archive, None)
    found = await rebuilt(archive)
    assert (found.exit_code, found.unlogged.count, found.findings.count) == (errors.Exit.OK, 4, 0)
    rows = await archive.raw_rows()
    assert {(row["last_error"], row["segment"]) for row in rows} == {(UNLOGGED, None)}
    assert {row["provider_recording_id"] for row in rows} == {row["provider_recording_id"] for row in before}


def _dies(*_: object) -> int:
    raise errors.UnavailableError("told to fail")


async def test_forged_segment_that_the_log_does_not_tell_of_changes_nothing(
    sims: dict[str, Simulator], tmp_path: Path
) -> None:
    """Whoever has the public keys can seal; only what signed events commit to counts."""
    archive = await swept(tmp_path, sims)
    (path,) = segments(archive)

    async def chunks() -> AsyncIterator[bytes]:
        yield path.read_bytes()

    identities = build_identities(archive.config, Walls(SystemClock()))
    lines = list(load(b"".join([each async for each in open_sealed(chunks, identities, None)])))
    forged = dump([replace(each, row={**each.row, "raw": b'{"a":"lie"}', "from_number": "+1666"}) for each in lines])
    path.unlink()
    target = path.parent / ("f" * 64)
    with target.open("w+b") as file:
        sealer = Sealer(file, build_recipients(archive.config, Walls(SystemClock())), SystemChance(), len(forged))
        sealer.write(forged)
        sealer.finish()
    lose_database(archive, None)
    found = await rebuilt(archive)
    assert found.unlogged.count == 0
    assert found.uncatalogued.count == 4
    assert "+1666" not in str(await archive.raw_rows())


async def test_object_that_no_event_knows_is_counted_and_named(sims: dict[str, Simulator], tmp_path: Path) -> None:
    archive = await swept(tmp_path, sims)
    stray = tmp_path / "copies" / "recordings" / "2026" / "01" / "ab" / ("ab" * 32)
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stored after the last published event")
    lose_database(archive, None)
    found = await rebuilt(archive)
    assert found.exit_code == errors.Exit.OK
    assert found.unknown_objects.names == [f"primary: recordings/2026/01/ab/{'ab' * 32}"]


async def test_rebuild_that_dies_half_way_is_finished_by_the_next(
    sims: dict[str, Simulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "_ROWS", 1)
    archive = await swept(tmp_path, sims)
    before = everything("sqlite:///archiver.db", tmp_path / "state")
    assert len(before["segments"]) == 4
    lose_database(archive, None)
    left = 3

    def dying(*arguments: Any) -> set[str]:
        nonlocal left
        left -= 1
        if left == 0:
            raise errors.UnavailableError("told to fail")
        return write(*arguments)

    write = restore.write
    with monkeypatch.context() as patch:
        patch.setattr(restore, "write", dying)
        with pytest.raises(errors.UnavailableError):
            await rebuilt(archive)
    assert len(await archive.raw_rows()) == 2
    assert (await rebuilt(archive)).exit_code == errors.Exit.OK
    after = everything("sqlite:///archiver.db", tmp_path / "state")
    assert {name: after[name] for name in before} == before


async def test_what_rebuilding_needs_and_does_not_have_is_said_in_a_sentence(
    sims: dict[str, Simulator], tmp_path: Path
) -> None:
    archive = await swept(tmp_path, sims)
    before = everything("sqlite:///archiver.db", tmp_path / "state")
    with pytest.raises(errors.NotAllowedError, match="journal is not empty"):
        await rebuilt(archive)
    lose_database(archive, None)
    other = tmp_path / "other.key"
    other.write_bytes(generate_local_key(SystemChance()))
    other.chmod(0o400)
    text, other_key = archive.path.read_text(), "identities: [{id: local, key: file:other.key}]"

    def changed(old: str, new: str) -> Archive:
        archive.path.write_text(text.replace(old, new))
        return Archive(load_config(archive.path, resolve_secrets=True), archive.path)

    with pytest.raises(errors.KeyUnavailableError, match=r"encryption\.identities"):
        await rebuilt(changed("identities: [{id: local, key: file:seal.key}]", "identities: []"))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(errors.ConfigurationError, match="no storage has anything of the log"):
        await rebuilt(changed("path: copies", "path: nothing"))
    found = await rebuilt(changed("identities: [{id: local, key: file:seal.key}]", other_key))
    assert (found.exit_code, found.unopened.count, found.uncatalogued.count) == (errors.Exit.UNAVAILABLE, 1, 4)
    found = await rebuilt(changed("", ""))
    assert (found.exit_code, found.uncatalogued.count) == (errors.Exit.OK, 0)
    after = everything("sqlite:///archiver.db", tmp_path / "state")
    assert {name: after[name] for name in before} == before
