"""The fault table of enumeration (reliability §3.1), row by row: adapter, poll, journal and worker together.

Each group of tests has its row's name; what one part alone must do is proved beside that part.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import shutil
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select

from archiver.clock import SystemChance, SystemClock
from archiver.custody.ledger import Ledger
from archiver.demo.simulators import (
    AnswerLost,
    Body,
    Delay,
    EmptyList,
    ErrorBody,
    JsonChange,
    LoginPage,
    Meanwhile,
    RepeatedPage,
    Reset,
    Route,
    Rows,
    ServerError,
    TooManyRequests,
    month_of_calls,
)
from archiver.demo.simulators.answer import Answer
from archiver.demo.simulators.faults import Effect
from archiver.errors import ListingError
from archiver.ingest import listing_pages
from archiver.ingest.tables import edited_row, recording
from archiver.providers import recording_object, walk
from archiver.providers.rows import sift
from archiver.recording import Flag
from archiver.schedule.deadline import ProviderRetention
from tests.contract.provider_cases import sounds
from tests.contract.test_provider import OnAndOn
from tests.faults.rig import ADAPTERS, PLAIN, QUICK, Rig, call, peak_memory, rig

HOUR = timedelta(hours=1)
WITH_ITEM_IDS = ("justcall", "kazoo", "vobiz", "plivo")  # the v2.1 simulator makes its ids out of the content


# --- same recording_id, different content -------------------------------------------------------------------------


@pytest.mark.parametrize("case", WITH_ITEM_IDS)
async def test_same_recording_id_different_content_keeps_both_and_says_conflict(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """One id, two audios (the Vobiz document's own sample): a second revision, flagged on both, never overwritten."""
    one = call(case, "same")
    voice = sounds("plivo-48k-stereo-22050")[0]
    other = replace(one, audio=voice, duration=voice.duration, started_at=one.started_at + timedelta(minutes=7))
    async with rig(case, tmp_path, sqlite_url, recordings=[one]) as it:
        assert await it.poll()
        await it.settle()
        (first,) = it.rows()
        it.account.add(other)
        assert await it.poll()
        await it.settle()
        rows = it.rows()
        assert it.digests() == it.truth()
        assert len({row["revision"] for row in rows}) == 2
        assert all(Flag.ID_CONFLICT in row["flags"] for row in rows)
        kept = next(row for row in rows if row["id"] == first["id"])
        unchanged = ("plaintext_sha256", "sealed_sha256", "archived_at", "revision", "raw")
        assert {name: kept[name] for name in unchanged} == {name: first[name] for name in unchanged}


@pytest.mark.parametrize("case", WITH_ITEM_IDS)
async def test_same_recording_id_different_content_is_in_the_chain_of_custody(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """… and the conflict is an event, not a flag alone: flags are working state."""
    one = call(case, "same")
    other = replace(one, started_at=one.started_at + timedelta(minutes=7), duration=one.duration + timedelta(seconds=9))
    async with rig(case, tmp_path, sqlite_url, recordings=[one, other]) as it:
        assert await it.poll()
        told = [event for row in it.rows() for event in it.events(row, "anomaly.content_differs")]
        assert told


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "recording_id": st.sampled_from(["a", "b"]),
            "add_time": st.sampled_from(["2026-11-01 10:00:00+05:30", "2026-11-01 10:00:01+05:30"]),
            "recording_duration_ms": st.sampled_from(["7880.00000", "9000"]),
            "recording_format": st.sampled_from(["mp3", "wav"]),
            "recording_storage_duration": st.integers(0, 3),
        }
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200)
@given(rows=ROWS, cuts=st.lists(st.integers(1, 7), max_size=2))
def test_same_recording_id_different_content_in_any_order_is_one_row_per_content(
    rows: list[dict[str, Any]], cuts: list[int], journal: Engine
) -> None:
    """However the rows come, on whichever pages, once or again: as many recordings as (id, content) pairs."""
    clock, chance = SystemClock(), SystemChance()
    ledger = Ledger.open(clock, chance)
    wanted = Counter(
        (row["recording_id"], row["add_time"], row["recording_duration_ms"], row["recording_format"]) for row in rows
    )
    edges = sorted({0, *cuts, len(rows)})
    read = lambda row: [recording_object.read(row, provider="p", account="", now=clock.now(), link=lambda _: None)]  # noqa: E731
    with journal.begin() as conn:
        conn.execute(delete(recording))
        conn.execute(delete(edited_row))
        for _ in range(2):
            for since, until in pairwise(edges):
                page = sift(rows[since:until], read)
                listing_pages.note_page(
                    conn, ledger, chance, [_heard(each) for each in page.listings], clock.now(), lambda _: None
                )
        found = [dict(row) for row in conn.execute(select(recording)).mappings()]
        assert len({(row["provider_recording_id"], row["revision"]) for row in found}) == len(found) == len(wanted)
        names = Counter(name for name, *_ in wanted)
        assert all((Flag.ID_CONFLICT in row["flags"]) == (names[row["provider_recording_id"]] > 1) for row in found)


def _heard(listing: Any) -> Any:
    from archiver.recording import Audio

    return replace(listing, audio=Audio.PRESENT)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Any:
    from archiver.database import create_engine

    folder = tmp_path_factory.mktemp("journal")
    shutil.copy(sqlite_template, folder / "archiver.db")
    engine = create_engine(f"sqlite:///{folder}/archiver.db", None)
    yield engine
    engine.dispose()


# --- same id, same content, re-listed -----------------------------------------------------------------------------


@pytest.mark.parametrize("case", ADAPTERS)
async def test_same_id_same_content_re_listed_makes_no_new_object_and_no_new_event(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """The same rows again, an hour and a day later."""
    async with rig(case, tmp_path, sqlite_url, recordings=[call(case, name) for name in "abc"]) as it:
        assert await it.poll()
        await it.settle()
        before = ([(row["id"], it.events(row)) for row in it.rows()], it.stored())
        assert len(before[1]) == 3
        for later in (HOUR, timedelta(days=1)):
            await it.pass_time(later)
            assert await it.poll()
            await it.settle()
        assert ([(row["id"], it.events(row)) for row in it.rows()], it.stored()) == before


# --- meta.next without the base's /api ----------------------------------------------------------------------------


NEXT: tuple[Any, ...] = (
    "/v1/Account/MA/Recording/?limit=100&offset=0", "/../../admin", "https://evil.example/v1/", "//evil.example/",
    "http://169.254.169.254/latest/", "?offset=0", 7, {"href": "/v1"}, True,
)  # fmt: skip


@pytest.mark.parametrize("case", ["vobiz", "plivo"])
async def test_meta_next_is_a_hint_and_the_offsets_are_our_own(case: str, tmp_path: Path, sqlite_url: str) -> None:
    """`meta.next` is `/v1/…` while the base is `/api/v1/…` (the Vobiz document): never followed, nothing left out."""
    told: list[Any] = []

    def change(document: dict[str, Any]) -> Any:
        meta = document["meta"]
        if not meta["next"]:
            return document
        told.append(NEXT[len(told) % len(NEXT)])
        return document | {"meta": meta | {"next": told[-1]}}

    async with rig(case, tmp_path, sqlite_url, calls=560 if case == "vobiz" else 110) as it:
        it.simulator.fail(Route.LIST, JsonChange(change), times=None)
        assert await it.poll()
        assert {row["provider_recording_id"] for row in it.rows()} == {each.id for each in it.account.recordings}
        assert len(told) >= len(NEXT)
        assert {seen.path for seen in it.simulator.requests} == {seen.path for seen in it.simulator.seen(Route.LIST)}


# --- Plivo's windows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [8, 31, 91])
@pytest.mark.parametrize("seed", [1, 2])
async def test_plivo_windows_find_everything_of_an_outage(
    days: int, seed: int, tmp_path: Path, sqlite_url: str
) -> None:
    """No filter means 7 days, more than 30 are refused, pages hold 20, filters are UTC though `add_time` is +05:30."""
    recent = [call("plivo", "before")]
    async with rig("plivo", tmp_path, sqlite_url, recordings=recent, back=timedelta(days=2)) as it:
        assert await it.poll()
        covered = it.covered()[-1].until
        asked = len(it.simulator.seen(Route.LIST))
        await it.pass_time(timedelta(days=days))
        it.account.add(*month_of_calls("plivo", seed=seed, count=50, audio=sounds(), until=it.clock.now(), days=days))
        assert await it.poll()
        assert {row["provider_recording_id"] for row in it.rows()} == {each.id for each in it.account.recordings}
        (whole,) = it.covered()
        assert whole.until > it.clock.now() - HOUR
        for seen in it.simulator.seen(Route.LIST):
            since, until = (datetime.fromisoformat(f"{seen.query[f'add_time__{end}']}+00:00") for end in ("gte", "lt"))
            assert until - since < timedelta(days=30)
            assert int(seen.query["limit"]) == 20
        first = min(seen.query["add_time__gte"] for seen in it.simulator.seen(Route.LIST)[asked:])
        assert datetime.fromisoformat(f"{first}+00:00") <= covered - 2 * HOUR


async def test_plivo_windows_stay_open_until_a_walk_was_full(tmp_path: Path, sqlite_url: str) -> None:
    """The watermark never passes a window whose last page was not seen; what was read is kept."""
    now = SystemClock().now()
    held = month_of_calls("plivo", seed=4, count=45, audio=sounds(), until=now - timedelta(days=2), days=20)
    async with rig("plivo", tmp_path, sqlite_url, recordings=held) as it:
        it.simulator.fail(Route.LIST, LoginPage(), times=None, when=lambda ask: ask.query["offset"] == "40")
        assert not await it.poll()
        assert len(it.rows()) == 40
        assert all(window.since > now - timedelta(days=2) for window in it.covered())
        it.simulator.heal()
        assert await it.poll()
        assert len(it.rows()) == 45
        assert len(it.covered()) == 1


# --- offset pages shift while walking -----------------------------------------------------------------------------


def second_page(case: str) -> Any:
    """Tells the second page of a walk that has more than two."""
    wanted = {
        "vobiz": ("offset", "100"),
        "plivo": ("offset", "20"),
        "justcall": ("page", "2"),
        "justcall-v2.1": ("page", "1"),
    }
    name, value = wanted[case]
    return lambda ask: ask.query.get(name) == value


@pytest.mark.parametrize("change", ["insert", "delete", "both"])
@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1", "vobiz", "plivo"])
async def test_offset_pages_shift_while_walking_and_nothing_is_stepped_over(
    case: str, change: str, tmp_path: Path, sqlite_url: str
) -> None:
    """An insert doubles a row, a deletion skips one: walk again until two walks agree."""
    many = 50 if case == "plivo" else 230
    dice = random.Random(f"{case} {change}")
    async with rig(case, tmp_path, sqlite_url, recordings=_older(case, many)) as it:

        def shift() -> None:
            if change in ("insert", "both"):
                it.account.add(*_older(case, 3, seed=dice.randrange(999), spread=2))
            if change in ("delete", "both"):
                for each in sorted(it.account.recordings, key=lambda one: one.started_at)[-9:-4]:
                    it.account.delete(each.id)

        rule = it.simulator.fail(Route.LIST, Meanwhile(shift), when=second_page(case))
        assert await it.poll()
        assert rule.hits == 1
        known = {row["provider_recording_id"] for row in it.rows()}
        shown = {_listed_name(case, each) for each in it.account.recordings if not each.deleted}
        assert shown <= known


@pytest.mark.parametrize("case", ["vobiz", "plivo"])
async def test_offset_pages_shift_while_walking_for_ever_leaves_the_window_open_and_says_so(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """Five walks that never agree: not covered, an error for people, and every row that was seen is kept."""
    many = 50 if case == "plivo" else 230
    async with rig(case, tmp_path, sqlite_url, recordings=_older(case, many)) as it:
        numbers = count()
        shift = Meanwhile(lambda: it.account.add(*_older(case, 1, seed=next(numbers), spread=2)))
        it.simulator.fail(Route.LIST, shift, times=None, when=second_page(case))
        assert not await it.poll()
        assert "never agreed" in str(it.status().poll_error)
        assert len(it.rows()) >= many
        assert not any(window.until - window.since > timedelta(days=2) for window in it.covered())


def _older(case: str, number: int, *, seed: int = 0, spread: int = 25) -> list[Any]:
    """Calls that ended two days ago or earlier: within the window that is walked page by page."""
    kind: Any = case.partition("-")[0]
    until = SystemClock().now() - timedelta(days=2)
    return month_of_calls(kind, seed=seed, count=number, audio=sounds()[:1], until=until, days=spread)


def _listed_name(case: str, each: Any) -> str:
    from archiver.demo.simulators.justcall_v21 import call_number

    return str(call_number(each)) if case == "justcall-v2.1" else each.id


# --- recording_url: null ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1"])
@pytest.mark.parametrize("after", [timedelta(minutes=20), timedelta(hours=20), timedelta(hours=71)])
async def test_recording_url_null_is_asked_for_again_until_it_is_there(
    case: str, after: timedelta, tmp_path: Path, sqlite_url: str
) -> None:
    """Not yet ready: rechecked on schedule, archived when it appears, up to three days later."""
    late = call(case, "late", available_at=SystemClock().now() + after)
    async with rig(case, tmp_path, sqlite_url, recordings=[late]) as it:
        assert await it.poll()
        await it.work()
        (row,) = it.rows()
        assert (row["state"], row["reason"]) == ("waiting", "not_ready")
        await it.settle(rounds=30, each=timedelta(hours=4))
        assert it.digests() == it.truth()


@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1"])
async def test_recording_url_null_for_72_hours_is_absent_with_evidence_and_counted(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """Too short, switched off or lost: terminal only after the recheck window, never before."""
    never = call(case, "never", ago=timedelta(minutes=5), audio=None)
    async with rig(case, tmp_path, sqlite_url, recordings=[never]) as it:
        assert await it.poll()
        await it.settle(rounds=17, each=timedelta(hours=4))
        assert it.rows()[0]["state"] == "waiting"
        await it.settle(rounds=2, each=timedelta(hours=4))
        (row,) = it.rows()
        assert row["state"] == "absent"
        assert len(it.simulator.seen(Route.ITEM)) > 10
        assert len(it.events(row, "anomaly.gap")) == 1
        assert it.status().states == {"absent": 1}
        # The call is still watched: what turns up in spite of all is archived.
        voice = sounds()[0]
        it.account.replace(never.id, audio=voice)
        assert await it.poll()
        await it.settle()
        assert it.digests() == [voice.digest]


# --- plan limit ---------------------------------------------------------------------------------------------------


async def test_plan_limit_of_storage_binds_before_the_ninety_days(tmp_path: Path, sqlite_url: str) -> None:
    """JustCall Team: 5 GB are 87 hours of talk. At 8 hours a day the deadline is some 11 days after the call."""
    team = ProviderRetention("JustCall plan team", timedelta(days=90), None, 5 * 10**9)
    busy = [
        call(
            "justcall",
            f"c{day}",
            ago=timedelta(days=day, hours=9),
            duration=8 * HOUR,
            extra={"recording_duration": 28_800},
        )
        for day in range(1, 29)
    ]
    async with rig("justcall", tmp_path, sqlite_url, recordings=busy, retention=team) as it:
        assert await it.poll()
        await it.pass_time(HOUR)
        assert await it.poll()  # the forecast knows the rate once the first listing has been read
        for row in it.rows():
            assert row["delete_at"] - row["call_ended_at"] < timedelta(days=14), row["deadline_source"]
            assert "quota" in row["deadline_source"]


async def test_plan_limit_or_retention_the_oldest_deadline_goes_first(tmp_path: Path, sqlite_url: str) -> None:
    """Earliest deadline first, whatever the order of the listing."""
    calls = [call("justcall", f"c{day}", ago=timedelta(days=day, hours=1)) for day in (3, 20, 1, 11, 7)]
    async with rig("justcall", tmp_path, sqlite_url, recordings=calls, concurrency=1) as it:
        assert await it.poll()
        await it.work()
        order = [seen.path for seen in it.simulator.seen(Route.MEDIA)]
        assert order == [f"/rec_c{day}.mp3" for day in (20, 11, 7, 3, 1)]


# --- pagination loop, a page that repeats itself, pages without end -----------------------------------------------


@pytest.mark.parametrize("case", ADAPTERS)
async def test_pagination_loop_keeps_what_was_read_and_leaves_the_window_open(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """The first page again and again."""
    async with rig(case, tmp_path, sqlite_url, recordings=_older(case, 230)) as it:
        # the newest day, which is listed first, is empty: it is the page after it that comes again and again
        it.simulator.fail(Route.LIST, RepeatedPage(), times=None, after={"vobiz": 0, "justcall-v2.1": 2}.get(case, 1))
        assert not await it.poll()
        assert all(window.since > it.clock.now() - timedelta(days=2) for window in it.covered())
        assert len(it.simulator.seen(Route.LIST)) < 20
        it.simulator.heal()
        assert await it.poll()
        assert len(it.rows()) == 230


@pytest.mark.parametrize("case", ADAPTERS)
async def test_pagination_loop_of_ever_new_pages_stops_at_the_limit(case: str, tmp_path: Path, sqlite_url: str) -> None:
    """A way on for ever: stopped, kept, not covered."""
    async with rig(case, tmp_path, sqlite_url, recordings=[call(case, "one")], max_pages=25) as it:
        it.simulator.fail(Route.LIST, OnAndOn(), times=None)
        assert not await it.poll()
        assert it.covered() == ()
        assert len(it.rows()) >= 25
        assert "no end after" in str(it.status().poll_error)


async def test_pagination_loop_of_a_million_rows_stays_in_bounded_memory() -> None:
    """The limit of one walk, 50,000 pages, all different: an end, and no more memory than for the digests."""
    trail, seen = walk.Trail(), 0

    async def ask(offset: int, limit: int) -> walk.Batch:
        return walk.Batch([{"recording_id": f"r{offset + n}"} for n in range(2)], 10**9, None)

    async def walked() -> None:
        nonlocal seen
        async for page in walk.offset_walk(ask, _by_name, limit=20, trail=trail):
            seen += len(page.listings)

    before = peak_memory()
    with pytest.raises(ListingError, match="no end after 50000 pages"):
        await walked()
    assert seen == 100_000
    assert peak_memory() - before < 64 << 20


def _by_name(row: dict[str, object]) -> list[Any]:
    return [recording_object.read(row, provider="p", account="", now=_NOW, link=lambda _: None)]


_NOW = SystemClock().now()


# --- an empty 200 after a history of volume -----------------------------------------------------------------------


@pytest.mark.parametrize("case", ADAPTERS)
async def test_empty_200_after_a_history_is_suspicious_and_covers_nothing(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """`{"objects": []}` where recordings were listed an hour ago: an alarm, and the window stays open."""
    calls = [call(case, f"c{n}", ago=timedelta(hours=n)) for n in range(2, 8)]
    async with rig(case, tmp_path, sqlite_url, recordings=calls) as it:
        assert await it.poll()
        covered = it.covered()
        await it.pass_time(HOUR)
        it.simulator.fail(Route.LIST, EmptyList(), times=None)
        assert not await it.poll()
        assert it.covered() == covered
        assert it.told.count["suspicious_empty"] == 1
        assert "empty listing" in str(it.status().poll_error)
        it.simulator.heal()
        assert await it.poll()
        assert it.covered()[-1].until > covered[-1].until


# --- 401/403/429/5xx/timeouts -------------------------------------------------------------------------------------

STATUSES = (400, 401, 403, 404, 405, 408, 409, 410, 423, 425, 429, 500, 502, 503)
REFUSED = (401, 403)
OUTAGES = (408, 429, 500, 502, 503)
FAILURES: Mapping[str, Effect] = {
    **{str(status): ServerError(status, b'{"error": "no"}', "application/json") for status in STATUSES},
    "reset": Reset(),
    "answer lost": AnswerLost(),
    "timeout": Delay(4),
}


@pytest.mark.parametrize("stage", ["list", "refresh", "media"])
async def test_401_403_429_5xx_timeouts_lose_nothing_and_cost_only_what_they_should(
    stage: str, tmp_path: Path, sqlite_template: Path
) -> None:
    """14 statuses and three silences × three stages; the pauses in between overlap, so all run side by side."""
    check = {"list": _fails_at_list, "refresh": _fails_at_refresh, "media": _fails_at_media}[stage]

    async def one(name: str, effect: Effect) -> None:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(sqlite_template, folder / "archiver.db")
        url = f"sqlite:///{folder}/archiver.db"
        async with rig("plivo", folder, url, recordings=[call("plivo", "one")], limits=QUICK) as it:
            await check(it, name, effect)
            await it.settle()
            (row,) = it.rows()
            assert (row["state"], it.digests()) == ("archived", it.truth())
            assert it.spool_is_empty()

    ends = await asyncio.gather(*(one(name, effect) for name, effect in FAILURES.items()), return_exceptions=True)
    failed = [problem for problem in ends if isinstance(problem, Exception)]
    if failed:
        raise ExceptionGroup(f"at {stage}", failed)


async def _fails_at_list(it: Rig, name: str, effect: Effect) -> None:
    """Credentials park the provider; an outage is walked through; everything else leaves the window open."""
    it.simulator.fail(Route.LIST, effect)
    done = await it.poll()
    status = it.status()
    passing = not name.isdigit() or int(name) in OUTAGES
    assert done == passing
    assert (status.parked_until is not None) == (name in map(str, REFUSED))
    assert (status.poll_error is None) == passing
    if name == "429":
        assert it.budget.pauses
    if not passing:
        assert len(it.covered()) < 2
        await it.pass_time(timedelta(minutes=2))
        assert await it.poll()


async def _fails_at_refresh(it: Rig, name: str, effect: Effect) -> None:
    """A recording keeps its attempts through outages and refused credentials; "not found" is not believed at once."""
    assert await it.poll()
    it.context.links.drop(it.rows()[0]["id"])
    it.simulator.fail(Route.ITEM, effect, times=_tries(name))
    await it.work()
    (row,) = it.rows()
    assert row["state"] == "waiting"
    counted = name.isdigit() and int(name) not in (*OUTAGES, *REFUSED)
    assert row["attempts"] == (1 if counted else 0)
    assert row["denials"] == (1 if name in ("404", "410") else 0)
    assert (it.status().parked_until is not None) == (name in map(str, REFUSED))


def _tries(name: str) -> int:
    """The HTTP library itself repeats an idempotent request once when the connection ends without an answer."""
    return 2 if name in ("reset", "answer lost") else 1


async def _fails_at_media(it: Rig, name: str, effect: Effect) -> None:
    """A refused link is renewed in the same attempt; an outage costs none; a 404 is checked with the API."""
    assert await it.poll()
    it.simulator.fail(Route.MEDIA, effect, times=_tries(name))
    await it.work()
    (row,) = it.rows()
    if name in ("400", "401", "403", "405", "410"):  # a status that is not known means what 400 means (RFC 9110 §15)
        assert (row["state"], row["attempts"]) == ("archived", 1)
        return
    assert row["state"] == "waiting"
    assert row["attempts"] == (1 if name in ("404", "409", "423", "425") else 0)
    assert row["denials"] == 0


@pytest.mark.parametrize("asked", [7, "date", 10**9, "1e9", "-5", "soon", "Fri, 31 Dec 9999 23:59:59 GMT", None])
async def test_401_403_429_5xx_timeouts_retry_after_is_obeyed_up_to_an_hour(
    asked: Any, tmp_path: Path, sqlite_url: str
) -> None:
    """Retry-After in seconds, as a date, absurd or absent: a pause for the credential, at most an hour."""
    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", "one")]) as it:
        assert await it.poll()
        it.context.links.drop(it.rows()[0]["id"])
        now = it.clock.now()
        header = format_datetime(now + timedelta(seconds=7), usegmt=True) if asked == "date" else asked
        it.simulator.fail(Route.ITEM, TooManyRequests(header))
        await it.work()
        (row,) = it.rows()
        (pause,) = it.budget.pauses
        assert timedelta(0) < pause <= HOUR
        rests = row["next_attempt_at"] - now
        assert timedelta(0) < rests <= HOUR + timedelta(minutes=1)
        if asked in (7, "date"):
            assert timedelta(seconds=5) <= pause <= timedelta(seconds=8)
            assert rests >= timedelta(seconds=5)
        assert row["attempts"] == 0
        await it.settle(each=HOUR + timedelta(minutes=2))
        assert it.digests() == it.truth()


# --- odd timestamps -----------------------------------------------------------------------------------------------

DOUBTFUL_TIMES: tuple[Any, ...] = (
    "2999-01-01 00:00:00+00:00", "1970-01-01 00:00:00+00:00", "garbage", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00", "2026-02-30T00:00:00Z", "00000000", "1" * 60, "2026-13-01 00:00:00", 20261101, -1, {}, [1],
)  # fmt: skip
PLAIN_TIMES = (
    "2026-11-01 01:30:00", "2026-03-08T02:30:00", "2026-11-01 10:00:00+0530", "2026-11-01 10:00:00+05:30", "2026-11-01",
    "2026-11-01 4:05:06 PM", None, "",
)  # fmt: skip
TIME_FIELDS = {
    "justcall": ("started_at", "ended_at"),
    "justcall-v2.1": ("call_date",),
    "kazoo": ("start",),
    "vobiz": ("add_time", "recording_start_ms", "recording_end_ms"),
    "plivo": ("add_time", "recording_start_ms", "recording_end_ms"),
}


@pytest.mark.parametrize("case", ADAPTERS)
async def test_odd_timestamps_are_archived_now_kept_as_stated_and_flagged(
    case: str, tmp_path: Path, database_url: str
) -> None:
    """Future, 1970, garbage, naive, DST-ambiguous, no colon: only what is scheduled is clamped, never the evidence."""
    calls = {
        f"{field}-{index}": (field, value)
        for field in TIME_FIELDS[case]
        for index, value in enumerate([*DOUBTFUL_TIMES, *PLAIN_TIMES])
    }
    held = [call(case, name.replace("_", ""), extra={field: value}) for name, (field, value) in calls.items()]
    async with rig(case, tmp_path, database_url, recordings=held) as it:
        assert await it.poll(), it.status().poll_error
        await it.settle()
        rows = it.rows()
        assert len(rows) == len(calls)
        assert it.rejects() == []
        assert {row["state"] for row in rows} == {"archived"}
        now = it.clock.now()
        by_name = dict(zip((each.id for each in held), calls.values(), strict=True))
        for row in rows:
            assert row["archive_by"] is not None
            assert row["archive_by"] <= now + timedelta(days=90)
            if case == "justcall-v2.1":
                continue
            field, value = by_name[row["provider_recording_id"]]
            assert json.loads(row["raw"])[field] == value
            if value in ("2999-01-01 00:00:00+00:00", "1970-01-01 00:00:00+00:00", "garbage"):
                assert Flag.TIME_IMPLAUSIBLE in row["flags"], (field, value)


# --- null fields, wrong types, strings for numbers, unknown keys --------------------------------------------------

ODD_VALUES: tuple[Any, ...] = (
    None, "", {}, [], True, False, -1, 0, 10**17, "7880.00000", "x" * 3000, [None], {"a": {"b": None}}, "NaN", "1e99", " ", "\t",
)  # fmt: skip
NEEDED = {"recording_id", "recording_url", "call_id", "id", "call_info", "_read_only", "content_types"}


@pytest.mark.parametrize("case", ADAPTERS)
async def test_null_fields_wrong_types_and_unknown_keys_still_archive_the_recording(
    case: str, tmp_path: Path, sqlite_url: str, sqlite_template: Path
) -> None:
    """Every field of the row in turn, with every odd value in turn, and one more key that nobody documents."""
    async with rig(case, tmp_path, sqlite_url, recordings=[call(case, "plain")]) as it:
        assert await it.poll()
        fields = sorted(json.loads(it.rows()[0]["raw"]).keys() - NEEDED)
    pairs = [
        (field, ODD_VALUES[(at + step) % len(ODD_VALUES)]) for at, field in enumerate(fields) for step in (0, 5, 11)
    ]
    unknown = {"new_field": {"of": ["2027", 1.5e300]}}
    held = [
        call(case, f"odd{n}", ago=2 * HOUR + timedelta(seconds=n), extra=unknown | {field: value})
        for n, (field, value) in enumerate(pairs)
    ]
    shutil.copy(sqlite_template, tmp_path / "second.db")
    async with rig(case, tmp_path, f"sqlite:///{tmp_path}/second.db", recordings=held) as it:
        assert await it.poll(), it.status().poll_error
        await it.settle()
        rows = [row for row in it.rows() if "odd" in row["provider_recording_id"] or case == "justcall-v2.1"]
        unfinished = [
            (row["state"], row["reason"], row["last_error"], row["raw"]) for row in rows if row["state"] != "archived"
        ]
        assert unfinished == []
        assert len([row for row in rows if b"new_field" in row["raw"]]) == len(pairs)
        assert it.rejects() == []


@pytest.mark.parametrize("case", ADAPTERS)
async def test_null_fields_where_the_id_should_be_are_quarantined_with_their_bytes(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """Without an id nothing can be asked for: the row is kept for a person, counted, and its page goes on."""
    nameless: dict[str, Any] = dict.fromkeys(("id", "call_id", "recording_id"))
    async with rig(case, tmp_path, sqlite_url, recordings=[call(case, "good")]) as it:
        change = Rows(lambda rows: [*rows, {**nameless, "notes": "canary"}] if rows else rows)
        it.simulator.fail(Route.LIST, change, times=None)
        assert await it.poll()
        assert await it.poll()
        await it.settle()
        (kept,) = it.rejects()
        assert b"canary" in kept["raw"]
        assert it.status().rejects == 1
        assert it.digests() == it.truth()


# --- invalid UTF-8 and other hostile JSON -------------------------------------------------------------------------

DEEP = 100_000
HOSTILE: Mapping[str, bytes] = {
    "a number": b"1",
    "a text": b'"x"',
    "null": b"null",
    "true": b"true",
    "an empty list": b"[]",
    "lists": b"[[[]]]",
    "an empty object": b"{}",
    "id null": b'{"recording_id": null}',
    "id empty": b'{"recording_id": ""}',
    "id blank": b'{"recording_id": " \\t "}',
    "id an object": b'{"recording_id": {}}',
    "id a list": b'{"recording_id": ["a"]}',
    "id true": b'{"recording_id": true}',
    "id the folder above": b'{"recording_id": ".."}',
    "id of 10 kB": b'{"recording_id": "' + b"x" * 10_000 + b'"}',
    "id with a surrogate": b'{"recording_id": "\\ud800"}',
    "id with a NUL": b'{"recording_id": "a\\u0000b"}',
    "id with invalid UTF-8": b'{"recording_id": "\xff\xfe"}',
    "id twice": b'{"recording_id": "a", "recording_id": "b"}',
    "id NaN": b'{"recording_id": NaN}',
    "invalid UTF-8": b'{"recording_id": "h1", "notes": "\xc3\x28"}',
    "overlong UTF-8": b'{"recording_id": "h2", "notes": "\xc0\xaf"}',
    "cut UTF-8": b'{"recording_id": "h3", "notes": "\xe2\x82"}',
    "a surrogate": b'{"recording_id": "h4", "notes": "\\ud800"}',
    "surrogates the wrong way round": b'{"recording_id": "h5", "notes": "\\udc00\\ud800"}',
    "a surrogate in a key": b'{"recording_id": "h6", "\\udfff": 1}',
    "a NUL": b'{"recording_id": "h7", "notes": "a\\u0000b"}',
    "a raw NUL": b'{"recording_id": "h8", "notes": "a\x00b"}',
    "a NUL in a key": b'{"recording_id": "h9", "a\\u0000": 1}',
    "a NUL deep inside": b'{"recording_id": "h10", "notes": {"x": ["\\u0000"]}}',
    "a text of 1 MB": b'{"recording_id": "h11", "notes": "' + b"x" * 1_000_000 + b'"}',
    "a key of 300 kB": b'{"recording_id": "h12", "' + b"k" * 300_000 + b'": 1}',
    "a number of 5,000 digits": b'{"recording_id": "h13", "duration": ' + b"9" * 5000 + b"}",
    "a fraction of 5,000 digits": b'{"recording_id": "h14", "duration": 0.' + b"9" * 5000 + b"}",
    "NaN": b'{"recording_id": "h15", "duration": NaN}',
    "Infinity": b'{"recording_id": "h16", "duration": -Infinity}',
    "100,000 lists": b'{"recording_id": "h17", "notes": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "100,000 objects": b'{"recording_id": "h18", "notes": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "a key twice": b'{"recording_id": "h19", "notes": "a", "notes": "b"}',
    "a key twice deep inside": b'{"recording_id": "h20", "notes": {"x": 1, "x": 2}}',
}


@dataclass(frozen=True)
class Raw(Effect):
    """These bytes among the rows of the page."""

    rows: bytes

    def alter(self, answer: Answer) -> Answer:
        return replace(answer, body=answer.body.replace(b'"objects": [', b'"objects": [' + self.rows + b", ", 1))


NAMED = re.compile(rb'^{"recording_id": "(h\d+)"')
"""Rows with a good id: what is wrong with them is nothing that saving them needs."""


async def test_invalid_utf_8_and_its_like_quarantine_their_rows_or_are_mended_and_the_page_goes_on(
    tmp_path: Path, database_url: str
) -> None:
    """40 rows that no database, log or person should meet, in one page with good ones, on both databases."""
    assert len(HOSTILE) == 40
    mended = sum(NAMED.match(row) is not None for row in HOSTILE.values())
    async with rig("vobiz", tmp_path, database_url, recordings=[call("vobiz", name) for name in "abc"]) as it:
        it.simulator.fail(Route.LIST, Raw(b", ".join(HOSTILE.values())), times=None)
        before = peak_memory()
        assert await it.poll(), it.status().poll_error
        assert await it.poll()
        assert peak_memory() - before < 200 << 20
        await it.work()
        assert it.digests() == it.truth()
        assert len(it.rejects()) == len(HOSTILE) - mended
        assert all(each["problem"] and len(each["raw"]) < 100_000 for each in it.rejects())
        assert sum("field_mended" in row["flags"] for row in it.rows()) == mended == 20


@pytest.mark.parametrize("name", HOSTILE)
async def test_invalid_utf_8_and_its_like_alone(name: str, tmp_path: Path, sqlite_url: str) -> None:
    """Each of the 40 by itself, so that none hides behind another."""
    async with rig("vobiz", tmp_path, sqlite_url, recordings=[call("vobiz", "good")]) as it:
        it.simulator.fail(Route.LIST, Raw(HOSTILE[name]), times=None)
        assert await it.poll(), it.status().poll_error
        named = NAMED.match(HOSTILE[name])
        ids = {row["provider_recording_id"] for row in it.rows()}
        assert ids == ({"good", named[1].decode()} if named else {"good"})
        assert len(it.rejects()) == (0 if named else 1)


BLEMISHES: Mapping[str, bytes] = {
    "a cut emoji": b'"Anna \\ud83d"', "a NUL": b'"Anna \\u0000"', "NaN": b"NaN", "many digits": b"0." + b"1" * 50,
    "Latin-1": b'"M\xe4rz"', "a long note": b'"' + b"x" * 300_000 + b'"', "twice the same": b'"a", "notes": "a"',
    "twice another": b'"a", "notes": "b"', "deep": b"[" * 50 + b"]" * 50,
}  # fmt: skip


@dataclass(frozen=True)
class Written(Effect):
    """The bytes of a row's notes as a test wants them."""

    def alter(self, answer: Answer) -> Answer:
        body = answer.body
        for n, value in enumerate(BLEMISHES.values()):
            body = body.replace(f'"@@{n}@@"'.encode(), value)
        return replace(answer, body=body)


@pytest.mark.parametrize("case", ["justcall", "kazoo", "vobiz", "plivo"])
async def test_blemish_in_a_field_that_nothing_needs_keeps_no_recording_out(
    case: str, tmp_path: Path, database_url: str
) -> None:
    """The odd field is kept as text or named, and the recording archived with exactly its bytes."""
    held = [
        call(case, f"n{n}", ago=2 * HOUR + timedelta(minutes=n), extra={"notes": f"@@{n}@@"})
        for n in range(len(BLEMISHES))
    ]
    async with rig(case, tmp_path, database_url, recordings=held) as it:
        for route in (Route.LIST, Route.ITEM):
            it.simulator.fail(route, Written(), times=None)
        assert await it.poll(), it.status().poll_error
        await it.work()
        assert (it.digests(), it.rejects()) == (it.truth(), [])
        flagged = [row["provider_recording_id"] for row in it.rows() if row["flags"] == {"field_mended"}]
        assert len(flagged) == len(BLEMISHES) - 1  # the same twice is no blemish
        assert all(row["flags"] <= {"field_mended"} for row in it.rows())


async def test_row_of_10_mb_is_cut_to_what_a_person_needs_and_the_page_goes_on(tmp_path: Path, sqlite_url: str) -> None:
    async with rig("vobiz", tmp_path, sqlite_url, recordings=[call("vobiz", name) for name in "abc"]) as it:
        it.simulator.fail(Route.LIST, Raw(_enormous(10_000_000)), times=None)
        before = peak_memory()
        assert await it.poll(), it.status().poll_error
        assert peak_memory() - before < 200 << 20
        assert it.rejects() == []
        assert len(it.row("x")["raw"]) < 10_000
        await it.work()
        assert it.digests() == it.truth()


@pytest.mark.parametrize(
    "encoding", ["UTF-8", "none", "aws-chunked", "identity", "binary", "gzip", "gzip, identity", "deflate", "raw"]
)
async def test_listing_under_an_encoding_that_is_none_or_any_that_is_one_is_read(
    encoding: str, tmp_path: Path, sqlite_url: str
) -> None:
    pack: dict[str, Any] = {"deflate": zlib.compress, "raw": lambda body: zlib.compress(body, wbits=-15)}
    packed = pack.get(encoding, gzip.compress if encoding.startswith("gzip") else bytes)

    @dataclass(frozen=True)
    class Under(Effect):
        def alter(self, answer: Answer) -> Answer:
            headers = {**answer.headers, "Content-Encoding": encoding.replace("raw", "deflate")}
            return replace(answer, body=packed(answer.body), headers=headers)

    async with rig("plivo", tmp_path, sqlite_url, recordings=[call("plivo", name) for name in "ab"]) as it:
        it.simulator.fail(Route.LIST, Under(), times=None)
        assert await it.poll(), it.status().poll_error
        await it.work()
        assert it.digests() == it.truth()


@pytest.mark.parametrize("case", ["justcall", "vobiz", "plivo", "kazoo"])
async def test_list_as_a_numbered_object_is_a_list_and_null_beside_a_total_of_nothing_an_empty_one(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    def shaped(document: dict[str, Any]) -> Any:
        name = "objects" if "objects" in document else "data"
        rows = document[name]
        return {**document, name: {str(n + 1): row for n, row in enumerate(rows)} if rows else None}

    async with rig(case, tmp_path, sqlite_url, recordings=[call(case, name) for name in "ab"]) as it:
        it.simulator.fail(Route.LIST, JsonChange(shaped), times=None)
        assert await it.poll(), it.status().poll_error
        await it.work()
        assert it.digests() == it.truth()


@dataclass(frozen=True)
class Among(Effect):
    """Another row at `positions` of the whole listing, as the offset and limit of each page show them."""

    positions: tuple[int, ...]
    row: bytes

    def alter(self, answer: Answer) -> Answer:
        document = json.loads(answer.body)
        meta = document["meta"]
        here = [each - meta["offset"] for each in self.positions if 0 <= each - meta["offset"] < meta["limit"]]
        if not here:
            return answer
        rows = [json.dumps(row).encode() for row in document["objects"]]
        for place in here:
            rows[place] = self.row
        return replace(
            answer, body=json.dumps(document | {"objects": []}).encode().replace(b"[]", b"[" + b", ".join(rows) + b"]")
        )


@pytest.mark.parametrize("case", ["vobiz", "plivo"])
async def test_row_larger_than_any_answer_hides_none_but_itself(case: str, tmp_path: Path, sqlite_url: str) -> None:
    """It stands for recording 30 of 60: smaller pages bring all the others, before it and after it."""
    async with rig(case, tmp_path, sqlite_url, calls=60) as it:
        it.simulator.fail(Route.LIST, Among((30,), _enormous(17 << 20)), times=None)
        assert await it.poll(), it.status().poll_error
        assert len(it.rows()) == 59
        assert [each["problem"] for each in it.rejects()] == ["is too large to be read"]


@pytest.mark.parametrize("case", ["vobiz", "plivo"])
async def test_several_enormous_rows_are_as_many_rejects_however_often_and_behind_whatever_they_are_listed(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    async with rig(case, tmp_path, sqlite_url, calls=60) as it:
        it.simulator.fail(Route.LIST, Among((30, 31, 45), _enormous(17 << 20)), times=None)
        assert await it.poll(), it.status().poll_error
        assert len(it.rows()) == 57
        assert len(it.rejects()) == 3
        await it.poll()
        assert len(it.rejects()) == 3


@pytest.mark.parametrize("case", ["justcall", "kazoo"])
async def test_page_of_many_large_rows_is_read_in_smaller_pages(case: str, tmp_path: Path, sqlite_url: str) -> None:
    """60 rows of 200 kB each where an answer may hold 8 MB."""

    def longer(rows: Any) -> Any:
        return [{**row, "notes": "n" * 200_000} for row in rows]

    small = replace(PLAIN, max_answer=8_000_000)
    async with rig(case, tmp_path, sqlite_url, calls=60, limits=small) as it:
        it.simulator.fail(Route.LIST, Rows(longer), times=None)
        assert await it.poll(), it.status().poll_error
        assert {row["provider_recording_id"] for row in it.rows()} == {each.id for each in it.account.recordings}


@pytest.mark.parametrize("case", ADAPTERS)
async def test_maintenance_page_in_place_of_a_listing_is_asked_again_in_the_same_poll(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    async with rig(case, tmp_path, sqlite_url) as it:
        it.simulator.fail(Route.LIST, LoginPage(), times=1)
        assert await it.poll(), it.status().poll_error
        assert len(it.rows()) == 3


async def test_server_that_sends_too_much_whatever_is_asked_leaves_the_window_open(
    tmp_path: Path, sqlite_url: str
) -> None:
    async with rig("vobiz", tmp_path, sqlite_url, recordings=[call("vobiz", "good")]) as it:
        it.simulator.fail(Route.LIST, Raw(_enormous(17 << 20)), times=None)
        assert not await it.poll()
        assert it.covered() == ()
        assert "more than 16777216 bytes" in str(it.status().poll_error)
        it.simulator.heal()
        assert await it.poll()


def _enormous(size: int) -> bytes:
    return b'{"recording_id": "x", "notes": "' + b"x" * size + b'"}'


# --- path traversal and odd ids -----------------------------------------------------------------------------------

ODD_IDS = (
    "../", "../../../../tmp/evil", "..%2f..%2fetc", "%2e%2e", "%2e%2e%2f", "a/b", "/etc/passwd", "a\\b", "CON", "nul.txt",
    "x" * 4000, "\u202egnp.exe", "~root", "-rf", "a b", "?x=1", "#frag", "日本語", "a;b", "*", "'; DROP TABLE recording;--",
    "<script>", "a:b", "$(reboot)", "`id`", "a\nb", "0", "recordings/2026/01", ".hidden", "...", "é" * 100, "\u200b",
)  # fmt: skip


@pytest.mark.parametrize("case", ["justcall", "vobiz", "plivo"])
async def test_path_traversal_and_odd_ids_never_reach_a_path_or_a_key(
    case: str, tmp_path: Path, database_url: str
) -> None:
    """Keys come from our own id and the content's digest; the provider's stands in the database only."""
    folder = tmp_path / "archive"
    folder.mkdir()
    held = [call(case, name, ago=2 * HOUR + timedelta(seconds=n)) for n, name in enumerate(ODD_IDS)]
    async with rig(case, folder, database_url, recordings=held) as it:
        assert await it.poll(), it.status().poll_error
        await it.settle()
        unfinished = [
            (row["provider_recording_id"], row["last_error"]) for row in it.rows() if row["state"] != "archived"
        ]
        assert unfinished == []
        assert {row["provider_recording_id"] for row in it.rows()} == set(ODD_IDS)
        keys = [str(path.relative_to(folder / "copies")) for path in it.stored()]
        assert len(keys) == len(ODD_IDS)
        assert all(re.fullmatch(r"[a-z0-9/_-]{1,200}", key) for key in keys)
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "archiver.db"}
    assert {path.name for path in folder.iterdir()} == {"copies", "spool"}


# --- a login page with 200 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        LoginPage(),
        ErrorBody("html", claimed="application/json"),
        ErrorBody("json"),
        ErrorBody("xml"),
        Body(b'{"login": "/sso", "authenticated": false}'),
        Body(b""),
    ],
    ids=["login", "html as json", "json", "xml", "json login", "nothing"],
)
@pytest.mark.parametrize("case", ADAPTERS)
async def test_login_page_with_200_is_no_empty_list(case: str, page: Effect, tmp_path: Path, sqlite_url: str) -> None:
    """A schema error: nothing is covered, a person is told, and the next poll has everything."""
    async with rig(case, tmp_path, sqlite_url, recordings=[call(case, "one")]) as it:
        it.simulator.fail(Route.LIST, page, times=None)
        assert not await it.poll()
        assert (it.covered(), it.rows()) == ((), [])
        assert it.status().poll_error
        it.simulator.heal()
        assert await it.poll()
        assert len(it.rows()) == 1


# --- deleted between list and fetch -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("case", WITH_ITEM_IDS)
async def test_recording_deleted_at_provider_between_list_and_fetch_is_gone_after_three_confirmations(
    case: str, status: int, tmp_path: Path, sqlite_url: str
) -> None:
    """Believed of the metadata API only, three times, an hour apart; then gone, with events, an alarm and a count."""
    async with rig(case, tmp_path, sqlite_url, recordings=[call(case, "one")]) as it:
        assert await it.poll()
        it.account.delete(it.account.recordings[0].id)
        if status == 410:
            for route in (Route.ITEM, Route.MEDIA):
                it.simulator.fail(route, ServerError(410, b'{"error": "gone"}', "application/json"), times=None)
        for confirmed in (1, 2):
            await it.work()
            (row,) = it.rows()
            assert (row["state"], row["denials"]) == ("waiting", confirmed)
            await it.pass_time(timedelta(minutes=30))
            await it.work()
            assert it.rows()[0]["denials"] == confirmed
            await it.pass_time(timedelta(minutes=31))
        await it.work()
        (row,) = it.rows()
        assert (row["state"], row["denials"]) == ("gone", 3)
        assert len(it.events(row, "anomaly.missing_at_provider")) == 3
        assert it.told.count["lost: gone"] == 1
        assert it.status().lost == 1
        assert it.simulator.seen(Route.ITEM)


@pytest.mark.parametrize("case", WITH_ITEM_IDS)
async def test_recording_deleted_at_provider_as_its_media_says_while_the_api_lists_it_is_never_gone(
    case: str, tmp_path: Path, sqlite_url: str
) -> None:
    """A 404 of the audio alone is a late upload until the API says otherwise."""
    async with rig(case, tmp_path, sqlite_url, recordings=[call(case, "one", ago=timedelta(minutes=10))]) as it:
        assert await it.poll()
        missing = it.simulator.fail(Route.MEDIA, ServerError(404), times=None)
        await it.settle(rounds=8)
        (row,) = it.rows()
        assert (row["state"], row["denials"]) == ("waiting", 0)
        assert missing.hits > 4
        it.simulator.heal()
        await it.settle()
        assert it.digests() == it.truth()
