"""History after a restore: whatever database comes back, and from when, it says what the log says, and goes on from there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from archiver import errors
from archiver.assembly.process import Assembly
from archiver.cli.custody import _fsck, _recover
from archiver.cli.options import Options
from archiver.cli.rebuild import _rebuild
from archiver.cli.reconcile import _reconcile
from archiver.cli.verify import _verify
from archiver.clock import SystemClock
from archiver.completeness import register
from archiver.completeness.gap import Code
from archiver.completeness.tables import gap, statement
from archiver.config.load import load as load_config
from archiver.custody import history
from archiver.custody.event import ARCHIVE, Type, parse
from archiver.database import create_engine, reading
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import month_of_calls, samples
from archiver.demo.simulators.server import Simulator
from archiver.evidence import verifier
from archiver.ingest import listing_pages, outcomes
from archiver.ingest.journal import claim
from archiver.ingest.plan import Fate, Verdict
from archiver.ingest.tables import recording
from archiver.recording import Audio, Listing, Reason, RecordingRef
from archiver.recovery import restore
from archiver.recovery.recording_replay import BEHIND, NAMELESS
from archiver.verify.stated import Said, problems
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.acceptance.test_rebuild import DIRECTORY, lose_database, objects, run
from tests.fixtures_db import Server

QUIET = Options(quiet=True)
DAY = timedelta(days=1)
NOON = SystemClock().now().replace(hour=12, minute=0, second=0, microsecond=0) - 2 * DAY
"""Of a day that is over, and far from its ends."""


@pytest.fixture
async def sims() -> AsyncIterator[dict[str, Simulator]]:
    """Two providers with a few calls each."""
    made = fleet.fleet(SystemClock(), samples(), seed=7, count=3)
    async with AsyncExitStack() as stack:
        for name in ("kazoo", "plivo"):
            await stack.enter_async_context(made[name])
        yield {name: made[name] for name in ("kazoo", "plivo")}


def more_calls(sims: dict[str, Simulator], seed: int) -> None:
    """New calls since the last poll."""
    calls = month_of_calls(
        "plivo", seed=seed, count=2, audio=samples(), until=SystemClock().now() - timedelta(minutes=1), days=1
    )
    sims["plivo"].account.add(*calls)


def use(archive: Archive, url: str) -> Archive:
    """The same archive on another database."""
    file = archive.path.parent / "db"
    file.chmod(0o600)
    file.write_text(url)
    return Archive(load_config(archive.path, resolve_secrets=True), archive.path)


def ask(archive: Archive, question: Callable[[Connection], Any]) -> Any:
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    try:
        with reading(engine) as conn:
            return question(conn)
    finally:
        engine.dispose()


def statements(conn: Connection) -> list[dict[str, Any]]:
    """What was stated, in the order of the chain."""
    events = (parse(each.raw) for each in history.entries(conn, ARCHIVE))
    return [
        {"seq": each.seq, **each.data}
        for each in events
        if each.type == Type.RECONCILED and each.data.get("kind") == "completeness"
    ]


def settled(conn: Connection) -> dict[str, tuple[Any, ...]]:
    """Every recording that something is claimed of."""
    names = ("provider_recording_id", "state", "plaintext_sha256", "sealed_sha256", "from_number", "attempts")
    rows = conn.execute(select(recording).where(recording.c.state.in_(["archived", "absent", "gone"]))).mappings()
    return {row["id"]: tuple(row[name] for name in names) for row in rows}


def acknowledged(conn: Connection) -> list[tuple[Any, ...]]:
    rows = conn.execute(select(gap).where(gap.c.acked_at.is_not(None), gap.c.closed_at.is_(None))).all()
    return [(row.id, row.provider, row.source, row.subject, row.code, row.acked_by, row.ack_reason) for row in rows]


async def whole_again(archive: Archive) -> None:
    """Nothing contradicts anything: storages, custody, catalogue."""
    found = await _verify(QUIET, archive.config, None, ())
    assert ([each.as_json() for each in found.findings], dict(found.unreachable)) == ([], {})
    assert found.segments > 0
    compared = await _reconcile(QUIET, archive.config, None, 1)
    assert [each["findings"] for each in compared["runs"]] == [{}] * len(compared["runs"])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_backup_of_any_time_comes_back_to_what_the_log_tells(
    kind: str,
    sims: dict[str, Simulator],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    backup: Callable[[str], str],
) -> None:
    """Before anything, before and after statements, gaps and acknowledgements; run twice each time."""
    server: Server | None = request.getfixturevalue("postgresql") if kind == "postgresql" else None
    url = server.create(migrated=True) if server is not None else f"sqlite:///{tmp_path}/now.db"
    archive = make_archive(tmp_path, sims, url, DIRECTORY)
    points = {"empty": backup(url)}
    assert (await archive.sweep()).exit_code == errors.Exit.OK
    points["a day's work"] = backup(url)
    more_calls(sims, 1)
    absent = await never_came(archive)
    await archive.sweep()
    points["a gap"] = backup(url)
    done = archiver("-c", archive.path, "gaps", "ack", absent, "--reason", "no agent was free")
    assert done.returncode == 0, done.stderr
    more_calls(sims, 2)
    await archive.sweep()
    wanted, acks, stored = ask(archive, settled), ask(archive, acknowledged), objects(archive)
    assert acks
    assert "no agent was free" in acks[0]
    said = ask(archive, statements)

    for name, old in points.items():
        restored = use(archive, old)
        recovered, filled = await _recover(QUIET, restored.config)
        assert recovered.size > recovered.had, name
        assert (filled.findings.count, filled.unopened.count, filled.uncatalogued.count) == (0, 0, 0), name
        assert ask(restored, settled) == wanted, name
        assert ask(restored, acknowledged) == acks, name
        again, refilled = await _recover(QUIET, restored.config)
        assert (again.had, refilled.segments, refilled.findings.count) == (again.size, 0, 0), name
        await whole_again(restored)
        # What is listed again is recognised, and what was stated is not stated anew as if nothing had been.
        await restored.sweep()
        assert objects(restored) == stored, name
        assert ask(restored, settled) == wanted, name
        now = ask(restored, statements)
        assert now[: len(said)] == said, name
        assert list(problems(Said(each["seq"], each) for each in now)) == [], name
        said = now
    listed = run(use(archive, points["a day's work"]), "recordings", "list")
    assert {row["id"] for row in listed} >= set(wanted)


async def note(archive: Archive, *listings: Listing) -> None:
    """As if a poll had shown these."""
    assembly = await archive.assemble()
    try:
        await assembly.writer.run(lambda conn: assembly.ledger.enroll(conn, _host(assembly)))
        await assembly.writer.run(
            lambda conn: listing_pages.note_page(
                conn, assembly.ledger, assembly.chance, listings, assembly.clock.now(), lambda _: None
            )
        )
    finally:
        await assembly.aclose()


async def never_came(archive: Archive) -> str:
    """A call of the day before that should have audio, was asked for it, and never came up with any. Returns its id."""
    assembly = await archive.assemble()
    try:
        await assembly.writer.run(lambda conn: assembly.ledger.enroll(conn, _host(assembly)))
        return await _asked_in_vain(assembly)
    finally:
        await assembly.aclose()


def _host(assembly: Assembly) -> Any:
    from archiver.assembly.keys import signing_key

    return signing_key(assembly.config)


async def _asked_in_vain(assembly: Assembly) -> str:
    now, started = assembly.clock.now(), NOON
    row = Listing(RecordingRef("kazoo", "202601-lost", "", "acct"), "rev", Audio.PRESENT, started, started + DAY / 24, DAY / 24,
                  b'{"n":"lost"}', "stable", {"from_number": "+15550000"})  # fmt: skip

    def write(conn: Connection) -> str:
        noted = listing_pages.note_page(conn, assembly.ledger, assembly.chance, [row], now, lambda _: None)
        (recording_id,) = noted.ids
        held = next(
            each
            for each in claim(conn, "kazoo", "worker", "here", 100, fetching=True, storing=True)
            if each.id == recording_id
        )
        verdict = Verdict(Fate.ABSENT, None, Reason.NOT_READY)
        outcomes.unfinished(conn, assembly.ledger, held, verdict, errors.NoRecordingError("none"), now)
        return recording_id

    return await assembly.writer.run(write)


async def test_rebuild_leaves_an_incomplete_day_incomplete_and_goes_on_from_its_last_statement(
    sims: dict[str, Simulator], tmp_path: Path
) -> None:
    """A signed gap never becomes a signed "complete" because the database was lost."""
    archive = make_archive(tmp_path, {"kazoo": sims["kazoo"]}, "sqlite:///archiver.db", DIRECTORY)
    await archive.sweep()
    absent = await never_came(archive)
    await archive.sweep()
    before = ask(archive, statements)
    day = f"{NOON:%Y-%m-%d}"
    last = [each for each in before if each["day"] == day][-1]
    assert (last["complete"], last["gaps"].get("not_recorded")) == (False, 1)

    lose_database(archive, None)
    assert (await _rebuild(QUIET, archive.config, check=False)).exit_code == errors.Exit.OK
    # Its gap is there before anybody looked again, under the id that custody knows.
    assert [row["subject"] for row in ask(archive, register.open_gaps) if row["code"] == "not_recorded"] == [
        f"rec:{absent}"
    ]
    await archive.sweep()
    after = ask(archive, statements)
    assert list(problems(Said(each["seq"], each) for each in after)) == []
    newest = [each for each in after if each["day"] == day][-1]
    assert newest["complete"] is False
    assert newest["revision"] >= last["revision"]
    if newest["seq"] != last["seq"]:
        assert newest["previous"] == {"revision": last["revision"], "sha256": last["statement_sha256"]}
    assert ask(archive, settled)[absent][-1] == 1  # attempts
    assert archiver("-c", archive.path, "verify", "--all").returncode == 0


async def test_recording_that_was_discovered_and_lost_with_the_database_stays_a_gap_until_it_is_listed_again(
    sims: dict[str, Simulator], tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, {"kazoo": sims["kazoo"]}, "sqlite:///archiver.db", DIRECTORY)
    await archive.sweep()
    started = NOON
    rows = [
        Listing(RecordingRef("kazoo", f"call-{number}", "", "acct"), f"rev-{number}", Audio.NOT_YET, started + DAY / 48 * number,
                started + DAY / 24, DAY / 24, b'{"n":%d}' % number, f"stable-{number}", {})
        for number in (1, 2)
    ]  # fmt: skip

    await note(archive, *rows)
    await archive.sweep()
    ids = {str(row["provider_recording_id"]): str(row["id"]) for row in await archive.raw_rows()}
    lose_database(archive, None)
    found = await _rebuild(QUIET, archive.config, check=False)
    assert set(found.unfinished.names) == {ids["call-1"], ids["call-2"]}
    kept = {str(row["id"]): row for row in await archive.raw_rows()}
    assert {kept[ids[name]]["last_error"] for name in ("call-1", "call-2")} == {NAMELESS}
    # Listed again, one of them goes on under its own id; the other is a gap, and its day is not complete.
    await note(archive, rows[0])
    await archive.sweep()
    again = {str(row["id"]): row for row in await archive.raw_rows()}
    assert again[ids["call-1"]]["provider_recording_id"] == "call-1"
    assert len(again) == len(kept)
    assert [row["subject"] for row in ask(archive, register.open_gaps) if row["code"] == Code.NOT_FOUND_AGAIN] == [
        f"rec:{ids['call-2']}"
    ]
    day = f"{started:%Y-%m-%d}"
    assert [each["complete"] for each in ask(archive, statements) if each["day"] == day][-1] is False


async def test_recover_that_dies_half_way_is_finished_by_the_next(
    sims: dict[str, Simulator], tmp_path: Path, backup: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its steps; and a step that was done and whose answer was lost is not done twice."""
    url = f"sqlite:///{tmp_path}/now.db"
    archive = make_archive(tmp_path, sims, url, DIRECTORY)
    await archive.sweep()
    absent = await never_came(archive)
    await archive.sweep()
    old = backup(url)
    assert archiver("-c", archive.path, "gaps", "ack", absent, "--reason", "no agent was free").returncode == 0
    more_calls(sims, 3)
    await archive.sweep()
    wanted, acks = ask(archive, settled), ask(archive, acknowledged)
    for step in ("advance", "keep_segment", "replace", "write", "settle"):
        for after in (False, True):
            restored = use(archive, backup(old))
            real = getattr(restore, step)

            def dying(*arguments: Any, real: Any = real, after: bool = after) -> Any:
                if after:
                    real(*arguments)
                raise errors.UnavailableError("told to fail")

            with monkeypatch.context() as patch, suppress(errors.UnavailableError):
                patch.setattr(restore, step, dying)
                await _recover(QUIET, restored.config)
                pytest.fail(f"{step} was not reached")
            await _recover(QUIET, restored.config)
            assert (ask(restored, settled), ask(restored, acknowledged)) == (wanted, acks), step
            assert not ask(
                restored,
                lambda conn: conn.execute(select(recording.c.id).where(recording.c.last_error == BEHIND)).all(),
            )


async def test_recover_without_a_private_key_fills_in_what_the_log_says_and_says_what_is_missing(
    sims: dict[str, Simulator], tmp_path: Path, backup: Callable[[str], str]
) -> None:
    url = f"sqlite:///{tmp_path}/now.db"
    archive = make_archive(tmp_path, sims, url, DIRECTORY)
    old = backup(url)
    await archive.sweep()
    wanted = ask(archive, settled)
    text = archive.path.read_text()
    archive.path.write_text(text.replace("identities: [{id: local, key: file:seal.key}]", "identities: []"))
    restored = use(archive, old)
    done = archiver("-c", restored.path, "custody", "recover")
    assert done.returncode == errors.Exit.UNAVAILABLE, done.stderr
    assert "segment(s) are sealed for keys that are not here, and what they say of calls is missing" in done.stdout
    bare = ask(restored, settled)
    assert {each: row[1:4] for each, row in bare.items() if wanted[each][1] == "archived"} == {
        each: row[1:4] for each, row in wanted.items() if row[1] == "archived"
    }
    assert {row[0] for row in bare.values()} == {""}
    # Where a key is, the rest comes back too; and nothing that a host without one wrote stands before it.
    archive.path.write_text(text)
    done = archiver("-c", restored.path, "custody", "recover")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ask(restored, settled) == wanted
    await whole_again(use(archive, old))


# --- statements that contradict one another ---------------------------------------------------------------------


async def test_day_that_was_stated_twice_is_a_finding_of_verify_and_of_the_bundle_and_is_exported_all_the_same(
    sims: dict[str, Simulator], tmp_path: Path
) -> None:
    """As versions did that forgot, with the database, what they had stated."""
    archive = make_archive(tmp_path, {"plivo": sims["plivo"]}, "sqlite:///archiver.db", DIRECTORY)
    await archive.sweep()
    wanted = run(archive, "recordings", "list", "--state", "archived")[0]
    day = str(wanted["call_started_at"])[:10]
    started = datetime.fromisoformat(wanted["call_started_at"])
    late = Listing(
        RecordingRef("plivo", "late", "", "acct"), "rev", Audio.NOT_YET, started, started, DAY / 24, b"{}", "s", {}
    )
    await note(archive, late)
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    with engine.begin() as conn:
        conn.execute(statement.delete())
    engine.dispose()
    await archive.sweep()
    stated = [each for each in ask(archive, statements) if each["day"] == day]
    assert [each["revision"] for each in stated].count(1) == 2

    found = run(archive, "verify", "--all", code=65)
    said = [each["detail"] for each in found["findings"] if each["kind"] == "statements_disagree"]
    assert any(f"completeness of plivo {day}: revision 1 was stated twice" in each for each in said)
    target = tmp_path / "case"
    done = archiver(
        "-c", archive.path, "export", "evidence", wanted["id"], "-O", str(target), "--reason", "Subpoena", "--yes"
    )
    assert done.returncode == 0, done.stderr
    assert "revision 1 was stated twice" in done.stdout
    key = run(archive, "custody", "checkpoint")["vkey"]
    failed = [text for mark, text in verifier.examine(target, key).lines if mark == "FAIL"]
    assert len(failed) == 1
    assert failed[0].startswith(f"history of statement plivo-{day}.json: revision 1 was stated twice")


# --- the catalogue is verified ----------------------------------------------------------------------------------


async def test_flipped_byte_in_a_segment_of_the_catalogue_is_a_finding(
    sims: dict[str, Simulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archiver.recovery import catalogue

    monkeypatch.setattr(catalogue, "_ROWS", 2)
    archive = make_archive(tmp_path, sims, "sqlite:///archiver.db", DIRECTORY)
    await archive.sweep()
    segments = sorted(
        each for each in (tmp_path / "copies" / "catalogue").rglob("*") if each.is_file() and not each.suffix
    )
    assert len(segments) >= 3
    clean = await _verify(QUIET, archive.config, None, ())
    assert (clean.findings, clean.segments) == ([], len(segments))
    first = segments[0]
    content = first.read_bytes()
    for at in (0, len(content) // 2, len(content) - 1):
        flipped = bytearray(content)
        flipped[at] ^= 1
        first.chmod(0o600)
        first.write_bytes(flipped)
        result = await _verify(QUIET, archive.config, None, ())
        assert [(str(each.kind), Path(str(each.key)).name) for each in result.failures] == [
            ("catalogue_differs", first.name)
        ]
    first.unlink()
    found = run(archive, "verify", "--all", code=65)
    assert [each["kind"] for each in found["findings"]] == ["catalogue_missing"]
    checked = await _fsck(archive.config, "full", DAY)
    assert [str(each.kind) for each in checked.findings] == ["catalogue_missing"]
    # What was not looked at is said.
    for less in (await _verify(QUIET, archive.config, 0.5, ()), await _fsck(archive.config, "quick", DAY)):
        assert any(each.startswith("the catalogue, which a rebuild needs") for each in less.unchecked)
    first.write_bytes(content)
    text = archive.path.read_text()
    archive.path.write_text(text.replace("identities: [{id: local, key: file:seal.key}]", "identities: []"))
    blind = load_config(archive.path, resolve_secrets=True)
    partly = await _verify(QUIET, blind, None, ())
    assert any(each.startswith("opening segments of the catalogue: no private key") for each in partly.unchecked)
    assert (partly.findings, partly.segments) == ([], len(segments))


async def test_segment_that_says_something_else_than_journal_or_events_is_a_finding(
    sims: dict[str, Simulator], tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, {"plivo": sims["plivo"]}, "sqlite:///archiver.db", DIRECTORY)
    await archive.sweep()
    (first, *_) = [row for row in await archive.raw_rows() if row["state"] == "archived"]
    engine = create_engine(archive.config.database.resolve().reveal(), Path(archive.config.state_dir))
    with engine.begin() as conn:
        conn.execute(
            recording.update()
            .where(recording.c.id == first["id"])
            .values(from_number="+1666", segment=first["segment"])
        )
    found = await _verify(QUIET, archive.config, None, ())
    assert [(str(each.kind), each.detail) for each in found.findings] == [
        ("catalogue_contradicts", f"rec:{first['id']}: the journal has another from_number")
    ]
    with engine.begin() as conn:
        conn.execute(recording.update().where(recording.c.id == first["id"]).values(segment="0" * 64))
    found = await _verify(QUIET, archive.config, None, ())
    assert [str(each.kind) for each in found.findings] == ["catalogue_differs"]
    engine.dispose()
