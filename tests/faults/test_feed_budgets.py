"""Budgets before work: what an answer may become is limited before it is made, and made beside the event loop, in pieces."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from archiver.demo.simulators import Route
from archiver.demo.simulators.answer import Answer
from archiver.demo.simulators.faults import Effect
from archiver.errors import AnswerTooLargeError
from archiver.ingest import listing_pages
from archiver.ingest.links import Links
from archiver.providers import http_answer, rows, walk
from archiver.recording import Link, Secret
from tests.faults.rig import call, peak_memory, rig

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MIB = 1 << 20
FIVE_MILLION = b'{"meta":{"total_count":9999999},"objects":[' + b"{}," * 5_500_000 + b"{}]}"
"""16 MiB, of which 16 kB come over the wire."""


class Packed(Effect):
    """200 and this document, packed."""

    def __init__(self, document: bytes) -> None:
        self._packed = gzip.compress(document, 9)

    def refuse(self) -> Answer:
        return Answer(200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, self._packed)


def page(names: Iterator[str] | list[str]) -> bytes:
    listed = [
        {
            "recording_id": name, "recording_url": f"https://media.vobiz.ai/{name}.mp3", "recording_duration_ms": "1000",
            "add_time": NOW.isoformat(),
        }
        for name in names
    ]  # fmt: skip
    return json.dumps({"meta": {"total_count": len(listed), "next": None}, "objects": listed}).encode()


@contextmanager
def longest_stall() -> Iterator[list[float]]:
    """How long the event loop did not turn at a time, in seconds."""
    gaps = [0.0]

    async def ticks() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)  # how late this ends is what is measured
            last, before = time.monotonic(), last
            gaps[0] = max(gaps[0], last - before - 0.005)

    ticking = asyncio.create_task(ticks())
    try:
        yield gaps
    finally:
        ticking.cancel()


async def test_packed_answer_that_would_become_millions_of_rows_stops_nothing_and_fills_no_memory(
    tmp_path: Path, sqlite_url: str
) -> None:
    bomb = Packed(FIVE_MILLION)
    async with rig("vobiz", tmp_path, sqlite_url, recordings=[call("vobiz", "r")]) as it:
        it.simulator.fail(Route.LIST, bomb, times=None)
        before = peak_memory()
        with longest_stall() as stall:
            assert not await it.poll()  # the window stays open, and says so
        assert stall[0] < 3
        assert peak_memory() - before < 64 * MIB
        assert len(it.simulator.seen(Route.LIST)) < 20
        it.simulator.heal()
        assert await it.poll()
        assert [row["provider_recording_id"] for row in it.rows()] == ["r"]


async def test_page_of_thousands_of_rows_is_written_in_pieces_and_the_writer_serves_others_between(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    note_page = listing_pages.note_page

    def spied(conn: Connection, ledger: Any, chance: Any, listings: Any, *rest: Any) -> listing_pages.Noted:
        sizes.append(len(listings))
        return note_page(conn, ledger, chance, listings, *rest)

    monkeypatch.setattr(listing_pages, "note_page", spied)
    names = [f"r{n}" for n in range(1000)]
    async with rig("vobiz", tmp_path, sqlite_url, start=NOW + timedelta(days=1)) as it:
        it.simulator.fail(Route.LIST, Packed(page([*names, names[0]])), times=None)
        polling = asyncio.create_task(it.poll())
        served = 0
        while not polling.done():
            await it.context.writer.run(lambda _conn: None)
            served += 1
            await asyncio.sleep(0)
        assert await polling
        assert served > 3
        assert len(it.rows()) == 1000
    assert (max(sizes), sum(sizes)) == (200, 1001)


@pytest.mark.parametrize("case", ["vobiz", "plivo", "kazoo", "justcall"])
async def test_pages_become_rows_beside_the_event_loop(
    case: str, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_loop: list[str] = []

    def spied(real: Any, *given: Any, **more: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            on_the_loop.append(real.__name__)
        return real(*given, **more)

    for name in ("parse", "sift"):
        monkeypatch.setattr(walk, name, functools.partial(spied, getattr(rows, name)))
    async with rig(case, tmp_path, sqlite_url) as it:
        assert await it.poll()
        assert len(it.rows()) == 3
    assert on_the_loop == []


def test_rows_and_values_are_counted_before_anything_is_made_of_them() -> None:
    began = time.process_time()
    with pytest.raises(AnswerTooLargeError, match="values"):
        rows.parse(FIVE_MILLION)
    assert time.process_time() - began < 1  # making them takes ten
    with pytest.raises(AnswerTooLargeError, match="10001 rows"):
        walk.row_list({"data": [{}] * 10_001}, "data")
    with pytest.raises(AnswerTooLargeError, match="10001 rows"):
        walk.row_list({"data": {str(n): {} for n in range(10_001)}}, "data")
    assert len(walk.row_list({"data": [{}] * 10_000}, "data")) == 10_000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, gzip"])
def test_growth_of_a_packed_answer_is_limited_while_it_is_unpacked(coding: str) -> None:
    packed = bytes(15 * MIB)
    for each in coding.split(", "):
        packed = gzip.compress(packed, 9) if each == "gzip" else zlib.compress(packed, 9)
    answer = http_answer.Answer(200, {"content-encoding": coding}, packed, None)
    with pytest.raises(AnswerTooLargeError):
        http_answer.decoded(answer, "h", 16 * MIB)


def test_honest_listing_however_well_it_packs_is_unpacked() -> None:
    honest = page([f"{n:032x}" for n in range(10_000)])
    packed = gzip.compress(honest, 9)
    assert len(honest) > 10 * len(packed)
    got = http_answer.decoded(http_answer.Answer(200, {"content-encoding": "gzip"}, packed, None), "h", 16 * MIB)
    assert got.body == honest


# --- links --------------------------------------------------------------------------------------------------------


def link(length: int, name: str = "x") -> Link:
    return Link(Secret(f"https://h/{name}".ljust(length, "y")), NOW)


def test_links_are_counted_against_their_limits_before_they_are_kept() -> None:
    kept = Links(most=3, longest=100, room=250)
    kept.keep("long", link(101))
    assert kept.fresh("long", NOW) is None
    for name in "abc":
        kept.keep(name, link(100, name))
    assert [kept.fresh(name, NOW) is None for name in "abc"] == [True, False, False]  # the oldest made room
    kept.keep("b", link(60, "b2"))  # takes the place of its own
    kept.keep("d", link(50, "d"))
    assert [kept.fresh(name, NOW) is None for name in "bcd"] == [False, False, False]
    kept.keep("e", link(20, "e"))  # a fourth
    assert [kept.fresh(name, NOW) is None for name in "bcde"] == [False, True, False, False]
    for name in "bde":
        kept.drop(name)
        kept.drop(name)
    for name in "fg":
        kept.keep(name, link(100, name))
    assert [kept.fresh(name, NOW) is None for name in "fg"] == [False, False]


def test_links_of_the_largest_size_take_no_more_than_their_room() -> None:
    kept = Links()
    for n in range(5_000):
        kept.keep(str(n), link(16_000, str(n)))
    size = sum(len(each.url.reveal()) for n in range(5_000) if (each := kept.fresh(str(n), NOW)) is not None)
    assert 30 * MIB < size <= 32 * MIB
