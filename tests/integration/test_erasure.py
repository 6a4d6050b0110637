"""T13: personal data are erased, and every proof stays whole. The log never had any: its leaves, tiles, names are searched.

Erasure is at the level of rows here: what an event commits to (`custody_private`, salts included) and what the journal knows.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, select, update

from archiver.clock import SystemChance, SystemClock
from archiver.custody.event import parse
from archiver.custody.tables import custody_private
from archiver.database import create_engine, metadata, reading
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import samples
from archiver.demo.simulators.server import Simulator
from archiver.evidence import verifier
from archiver.ingest.listing_pages import note_page
from archiver.ingest.tables import recording, reject
from archiver.recording import Audio, Json, Listing, RecordingRef
from archiver.store.port import Shelf
from archiver.verify import log_rows
from archiver.verify.finding import Verification
from archiver.verify.log import Trust, check_log
from archiver.verify.published_log import check_published_log
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.custody_log import HOSTS, CustodyLog, custody_log, folder_shelf
from tests.log_trees import LOG

TRUST = Trust(LOG.key, HOSTS)
_DIRECTORY = "[{id: primary, kind: directory, path: copies}]"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OPAQUE = re.compile(rf"{_UUID}|\b[0-9a-f]{{64}}\b|\d{{4}}-\d\d-\d\d(?:T[0-9:.]+(?:Z|\+00:00)?)?|\d{{16,}}")
_PERSONAL = {
    "phone": re.compile(r"(?<![0-9A-Za-z])\+?\(?\d[\d\s().-]{5,17}\d(?![0-9A-Za-z])"),
    "e-mail": re.compile(r"[^\s@/]+@[^\s@/]+\.[a-z]{2,}", re.IGNORECASE),
}


def _erase(engine: Engine) -> None:
    """Forget the persons of every recording; the database gives up the pages, too."""
    known = dict.fromkeys(("from_number", "to_number", "agent"), None)
    with engine.begin() as conn:
        conn.execute(delete(custody_private))
        conn.execute(delete(reject))
        conn.execute(update(recording).values(**known, metadata="{}", raw=b"{}", last_error=None))
    with engine.connect() as conn:
        raw = conn.connection.driver_connection
        assert raw is not None
        if engine.dialect.name == "sqlite":
            raw.execute("VACUUM")
        else:
            raw.autocommit = True
            raw.execute("VACUUM FULL")


# Whom the tests put into their archives.
_ANYONE = re.compile(rb"1415555\d{4}|1415777|1415888|Ximena|ximena|Agent N|agent\d*@")

# --- searching ------------------------------------------------------------------------------------------------------


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for each in pair for text in _strings(each))
    elif isinstance(value, list):
        yield from (text for each in value for text in _strings(each))


def _personal(text: str) -> list[str]:
    """What in a text is about a person, by its look."""
    plain = _OPAQUE.sub(" ", text)
    return [f"{kind}: {match[0]}" for kind, look in _PERSONAL.items() if (match := look.search(plain))]


def _in_leaf(entry: bytes, known: re.Pattern[bytes]) -> list[str]:
    value = json.loads(entry)
    value.pop("sig")  # base64 looks like anything
    found = [each for text in _strings(value) for each in _personal(text)]
    return found + [f"known: {each[0]!r}" for each in known.finditer(entry)]


def _in_log(conn: Connection, log_id: int, known: re.Pattern[bytes]) -> list[str]:
    """Every leaf, and every tile besides, which nobody should be able to smuggle a name into."""
    found = [
        f"leaf {leaf.index}: {each}" for leaf in log_rows.leaves(conn, log_id) for each in _in_leaf(leaf.entry, known)
    ]
    for level in log_rows.tile_levels(conn, log_id):
        for tile in log_rows.tiles(conn, log_id, level):
            found += [f"tile {level}/{tile.index}: {each[0]!r}" for each in known.finditer(tile.hashes)]
    return found


def _in_folder(folder: Path, known: re.Pattern[bytes]) -> list[str]:
    """Every name of a storage, what checkpoints say, and what is known in every file, whatever it is."""
    found = []
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found += [f"{name}: {each}" for each in _personal(name)]
        if path.is_file():
            content = path.read_bytes()
            found += [f"in {name}: {each[0]!r}" for each in known.finditer(content)]
            if path.parent.name == "checkpoints":
                origin, size, *_ = content.decode().splitlines()
                found += [f"in {name}: {each}" for line in (origin, size) for each in _personal(line)]
    return found


def _in_database(engine: Engine, look: re.Pattern[bytes]) -> list[str]:
    """Where any column of any table has such a thing."""
    found = []
    with reading(engine) as conn:
        for table in metadata.sorted_tables:
            for row in conn.execute(select(table)).mappings():
                for name, value in row.items():
                    raw = value if isinstance(value, bytes) else str(value).encode()
                    found += [f"{table.name}.{name}"] * bool(look.search(raw))
    return found


def _salts(engine: Engine) -> list[bytes]:
    with reading(engine) as conn:
        return list(conn.execute(select(custody_private.c.salt)).scalars())


@pytest.mark.parametrize(
    "text",
    ["+14155550123", "415-555-0123", "(415) 555 0123", "call from 14155550123 at noon", "j.lee@example.com"],
)
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert _in_leaf(json.dumps({"ev": {"data": {"note": [text]}}, "sig": ""}).encode(), _ANYONE)
    assert _in_leaf(json.dumps({"ev": {"data": {text: 1}}, "sig": ""}).encode(), _ANYONE)


# --- a thousand recordings ------------------------------------------------------------------------------------------


def _listed(number: int) -> Listing:
    people: dict[str, Json] = {
        "from_number": f"+1415{5550000 + number}",
        "agent_name": f"Agent Nº{number} Ñandú",
        "agent_id": number,
    }
    raw = json.dumps({**people, "email": f"agent{number}@example.com"}, ensure_ascii=False).encode()
    now = SystemClock().now() - timedelta(days=1)
    ref = RecordingRef("plivo", f"CA{number:06d}")
    return Listing(ref, "r", Audio.PRESENT, now, now, timedelta(seconds=9), raw, f"{number:064x}", people)


def _check(archive: CustodyLog) -> Verification:
    result = Verification()
    with reading(archive.engine) as conn:
        check_log(conn, archive.log_id, TRUST, result)
    return result


async def test_a_thousand_recordings_are_forgotten_and_the_log_proves_as_before(
    database_url: str, tmp_path: Path
) -> None:
    shelf: Shelf = await folder_shelf(tmp_path / "shelf")
    listings = [_listed(number) for number in range(1000)]
    async with custody_log(database_url, tmp_path / "notary.db", [shelf]) as archive:
        chance, now = SystemChance(), SystemClock().now()
        await archive.publisher.start()
        for start in range(0, 1000, 100):
            page = listings[start : start + 100]
            noted = await archive.writer.run(
                lambda conn: note_page(conn, archive.ledger, chance, page, now, lambda _at: None)  # noqa: B023
            )
            assert noted.new == 100
        assert await archive.integrate() == 1001
        await archive.publisher.publish(None)
        tree, events = archive.tree(), archive.all_events()
        salts = _salts(archive.engine)
        assert len(salts) == 2000
        assert {each.partition(".")[0] for each in _in_database(archive.engine, _ANYONE)} == {
            "recording",
            "custody_private",
        }

        await asyncio.to_thread(_erase, archive.engine)
        remains = re.compile(b"|".join([_ANYONE.pattern, *map(re.escape, salts[::100])]))
        assert _in_database(archive.engine, remains) == []
        with reading(archive.engine) as conn:
            assert _in_log(conn, archive.log_id, remains) == []
        for path in [*(tmp_path / "shelf").rglob("*"), *tmp_path.glob("archiver.db*")]:
            assert not (path.is_file() and remains.search(path.read_bytes())), path
        assert _in_folder(tmp_path / "shelf", remains) == []

        assert archive.tree() == tree
        assert archive.all_events() == events
        assert all(len(event.priv) == 2 for event in events if event.subject != "archive")  # still committed to
        archive.check_chains()
        result = _check(archive)
        await check_published_log(shelf, TRUST, None, result, whole=True)
        assert result.findings == []


# --- a whole archive ------------------------------------------------------------------------------------------------


def _people(sims: Mapping[str, Simulator]) -> None:
    """Give each call its own people, as far as each provider tells of any."""
    for number, (kind, sim) in enumerate(sims.items()):
        for index, each in enumerate(sim.account.recordings):
            line = f"{number}{index:02d}"
            sim.account.remove(each.id)
            sim.account.add(
                replace(
                    each,
                    from_number=f"+1415777{line}1",
                    to_number=f"+1415888{line}2",
                    agent_name=f"Ximena {kind} {line}",
                    notes=f"asks for ximena{line}@example.com",
                )
            )


@pytest.fixture
async def swept(tmp_path: Path) -> Archive:
    """All five dialects, archived by the real daemon."""
    sims = fleet.fleet(SystemClock(), samples(), seed=11, count=3)
    _people(sims)
    async with AsyncExitStack() as stack:
        for sim in sims.values():
            await stack.enter_async_context(sim)
        archive = make_archive(tmp_path, sims, "sqlite:///archiver.db", _DIRECTORY)
        assert (await archive.sweep()).exit_code == 0
    return archive


def _run(archive: Archive, *arguments: str) -> Any:
    done = archiver("-c", archive.path, "-o", "json", *arguments)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)["data"]


def test_an_archive_forgets_its_people_and_old_bundles_still_prove_themselves(swept: Archive, tmp_path: Path) -> None:
    ids = [row["id"] for row in _run(swept, "recordings", "list", "--state", "archived")][:3]
    bundle = tmp_path / "outside" / "case"
    bundle.parent.mkdir()
    _run(swept, "export", "evidence", *ids, "-O", str(bundle), "--reason", "Subpoena", "--yes")
    key = _run(swept, "custody", "checkpoint")["vkey"]
    engine = create_engine(f"sqlite:///{tmp_path}/state/archiver.db", None)
    salts = _salts(engine)
    assert len(salts) >= 2 * 12
    assert {"recording.raw", "recording.metadata", "custody_private.data"} <= set(_in_database(engine, _ANYONE))

    _erase(engine)

    remains = re.compile(b"|".join([_ANYONE.pattern, *map(re.escape, salts)]))
    assert _in_database(engine, remains) == []
    with reading(engine) as conn:
        assert _in_log(conn, 1, remains) == []
        types = {parse(leaf.entry).type for leaf in log_rows.leaves(conn, 1)}
    assert {"recording.discovered", "recording.sealed", "recording.stored", "export.delivered"} <= types
    engine.dispose()
    assert _in_folder(tmp_path / "copies", remains) == []
    assert _in_folder(tmp_path / "state", remains) == []

    assert _run(swept, "custody", "fsck", "--level", "full")["findings"] == []
    verified = _run(swept, "verify")
    assert verified["findings"] == []
    assert "private data that has been erased" in verified["not_checked"]
    found = verifier.examine(bundle, key)
    assert [line for line in found.lines if line[0] != "PASS"] == []
