"""Whoever owns database and bucket changes one thing of what the journal keeps of evidence, or one object: `verify` names it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import Boolean, Column, Date, Engine, LargeBinary, select, text, update

from archiver import cli, errors
from archiver.assembly.keys import hosts
from archiver.assembly.stores import build_stores
from archiver.cli.verify import _claims
from archiver.clock import SystemChance, SystemClock
from archiver.completeness import records
from archiver.completeness.tables import statement
from archiver.config.load import load
from archiver.database import UtcDateTime, create_engine
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.ingest.tables import catalogue_segment, copy, listing_window
from archiver.verify.finding import Kind, Verification
from archiver.verify.fsck import Instruments, check_chains, check_kept, check_objects
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.test_archive import s3
from tests.fixtures_s3 import NewBucket

FOLDER = "[{id: primary, kind: directory, path: copies}]"
UNSEEN = {
    "copy.stored_at": "when a row was written; the signed event says when the copy was stored",
    "copy.verified_at": "nothing rests on it",
    "listing_window.id": "a number",
    "listing_window.walks": "told to people; the digest is of the walk that counted",
    "catalogue_segment.storages": "where it was put since it was told; every one of them is read",
}
COLUMNS = [column for table in (copy, statement, listing_window, catalogue_segment) for column in table.columns]


@dataclass
class Stage:
    """A folder with a small archive: two recordings that are archived."""

    archive: Archive
    engine: Engine


async def run(archive: Archive, *command: str) -> tuple[int, dict[str, Any]]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = await asyncio.to_thread(cli.invoke, [*command, "-o", "json", "-c", str(archive.path)])
    return code, json.loads(said.getvalue())["data"]


@pytest.fixture(scope="module")
def stage(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("journal")
    shutil.copy(sqlite_template, folder / "archiver.db")
    url = f"sqlite:///{folder}/archiver.db"

    async def build() -> Archive:
        made = {"kazoo": fleet.fleet(SystemClock(), samples(), seed=5, count=2)["kazoo"]}
        async with made["kazoo"]:
            archive = make_archive(folder, made, url, FOLDER)
            await archive.sweep()
        return archive

    archive = asyncio.run(build())
    engine = create_engine(url, folder)
    yield Stage(archive, engine)
    engine.dispose()


def findings(stage: Stage, change: Any) -> list[Any]:
    """What `verify --all` finds of the journal after this change, which is taken back again."""
    result, config = Verification(), stage.archive.config
    stores = build_stores(config, SystemClock(), SystemChance())
    tools = Instruments(stores, (), hosts(config), SystemClock().now())
    with stage.engine.connect() as conn, conn.begin() as transaction:
        conn.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        if change is not None:
            assert conn.execute(change).rowcount == 1
        claims = _claims(conn, ())
        asyncio.run(check_objects(claims, tools, result))
        check_chains(conn, {each.id: each for each in claims}, tools, result, whole=True)
        check_kept(conn, records.kept_statements(conn), records.kept_windows(conn), records.kept_segments(conn), result)
        transaction.rollback()
    return result.failures


def flipped(column: Column[Any], value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(column.type, Boolean):
        return not value
    if isinstance(column.type, UtcDateTime):
        return datetime(2020, 1, 1, tzinfo=UTC)
    if isinstance(column.type, Date):
        return datetime(2020, 1, 1, tzinfo=UTC).date()
    if isinstance(column.type, LargeBinary):
        return value.replace(b":", b";", 1)
    if isinstance(column.type.python_type, type) and issubclass(column.type.python_type, int):
        return (value or 0) + 7
    return f"{value or ''}x"


def test_what_is_whole_has_no_findings(stage: Stage) -> None:
    assert findings(stage, None) == []


@pytest.mark.parametrize("column", COLUMNS, ids=str)
def test_every_column_that_evidence_rests_on_is_seen_or_says_why_not(stage: Stage, column: Column[Any]) -> None:
    table, keys = column.table, list(column.table.primary_key.columns)
    order = [table.c.completed_at.desc()] if table is listing_window else keys
    with stage.engine.connect() as conn:
        wanted = select(table).order_by(*order)
        if table is listing_window:  # one that a statement names: most calls' days are over
            named = conn.execute(select(statement.c.document)).scalars().all()
            listed = {each["completed_at"] for raw in named for each in json.loads(raw)["listings"]}
            rows = conn.execute(wanted).mappings().all()
            row = next(each for each in rows if f"{each['completed_at']:%Y-%m-%dT%H:%M:%SZ}" in listed)
        else:
            row = conn.execute(wanted).mappings().first()  # type: ignore[assignment]
    assert row is not None
    change = (
        update(table).where(*(key == row[key.name] for key in keys)).values({column: flipped(column, row[column.name])})
    )
    found = findings(stage, change)
    assert bool(found) is (str(column) not in UNSEEN), (row, found)


def test_no_column_is_unseen_that_is_not_there() -> None:
    assert UNSEEN.keys() <= {str(each) for each in COLUMNS}


async def test_a_foreign_lock_mode_in_the_journal_is_a_finding_and_no_traceback(tmp_path: Path, stage: Stage) -> None:
    archive = copied(stage, tmp_path)
    sql(archive, "UPDATE copy SET lock_mode = 'WORM' WHERE recording_id = (SELECT min(recording_id) FROM copy)")
    code, said = await run(archive, "verify", "--all")
    assert code == errors.Exit.INTEGRITY
    assert any("'WORM'" in each["detail"] for each in said["findings"])
    assert (await run(archive, "reconcile"))[0] in {errors.Exit.OK, errors.Exit.INTEGRITY, errors.Exit.LOST}


@pytest.mark.parametrize("proving", ["custody/checkpoint", "custody/tile", ""])
async def test_one_flipped_object_of_every_kind_is_named_and_so_is_each_recording_whole(
    tmp_path: Path, stage: Stage, proving: str
) -> None:
    """Without a head that opens, and tiles under it, nothing else can be proved: these are flipped by themselves."""
    archive = copied(stage, tmp_path)
    root = tmp_path / "copies"
    kinds: dict[str, Path] = {}
    for each in sorted(root.rglob("*")):
        name = each.relative_to(root).as_posix()
        if each.is_file() and not name.endswith((".note", ".json")) and "canary" not in name:
            kinds.setdefault(kind_of(name), each)
    assert {"recordings", "custody/checkpoints", "custody/tile", "custody/entries", "custody/keys"} <= kinds.keys()
    alone = ("custody/checkpoint", "custody/tile")
    kinds = {
        kind: path
        for kind, path in kinds.items()
        if (kind.startswith(proving) if proving else not kind.startswith(alone))
    }
    for path in kinds.values():
        content = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    code, said = await run(archive, "verify", "--all")
    assert code == errors.Exit.INTEGRITY
    keys = {each["key"] for each in said["findings"]}
    for kind, path in kinds.items():
        name = path.relative_to(root).as_posix()
        if kind not in {"catalogue"}:  # said of the catalogue by its own tests
            assert keys & {name, name.removeprefix("custody/")}, (kind, name, keys)
    if proving:
        return
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        await asyncio.to_thread(cli.invoke, ["verify", "--all", "-c", str(archive.path)])
    (broken,) = {each["subject"] for each in said["findings"] if each["subject"].startswith("rec:")}
    assert broken.removeprefix("rec:") in shown.getvalue(), "thirteen characters of an id are a millisecond"


def kind_of(name: str) -> str:
    first, _, rest = name.partition("/")
    if first != "custody":
        return first
    if rest.startswith("tile/entries/"):
        return "custody/entries"
    return f"custody/{rest.partition('/')[0]}"


async def test_a_newer_version_and_a_delete_marker_over_a_recording_are_named(
    tmp_path: Path, sqlite_url: str, new_bucket: NewBucket
) -> None:
    options = new_bucket()
    made = {"kazoo": fleet.fleet(SystemClock(), samples(), seed=5, count=2)["kazoo"]}
    async with made["kazoo"]:
        archive = make_archive(tmp_path, made, sqlite_url, s3(options, tmp_path))
        await archive.sweep()
    keys = sorted(each["key"] for row in await archive.rows() for each in row["copies"])  # type: ignore[attr-defined]
    assert options.access_key
    assert options.secret_key
    client: Any = boto3.client(
        "s3", endpoint_url=options.endpoint, region_name=options.region,
        aws_access_key_id=options.access_key.reveal(), aws_secret_access_key=options.secret_key.reveal(),
    )  # fmt: skip
    client.put_object(Bucket=options.bucket, Key=keys[0], Body=b"something else")
    client.delete_object(Bucket=options.bucket, Key=keys[1])
    code, said = await run(archive, "verify", "--all")
    assert code == errors.Exit.INTEGRITY
    found = {(each["kind"], each["key"]) for each in said["findings"]}
    assert found == {(Kind.LATER_VERSION.value, keys[0]), (Kind.DELETE_MARKER.value, keys[1])}


def copied(stage: Stage, folder: Path) -> Archive:
    """The scene once more, to be spoiled."""
    source = stage.archive.path.parent
    shutil.copytree(source, folder, dirs_exist_ok=True)
    (folder / "db").chmod(0o600)
    (folder / "db").write_text(f"sqlite:///{folder}/archiver.db")
    path = folder / "archiver.yaml"
    return Archive(load(path, resolve_secrets=True), path)


def sql(archive: Archive, statement: str) -> None:
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    with engine.begin() as conn:
        assert conn.execute(text(statement)).rowcount
    engine.dispose()
