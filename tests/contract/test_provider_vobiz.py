"""Vobiz's traps: one id twice, no time filter, a `next` link to nowhere, media that redirect and need the headers."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from archiver.demo.simulators import JsonChange, MovableClock, Route, Rows, ServerError
from archiver.demo.simulators.answer import Answer
from archiver.demo.simulators.faults import Effect
from archiver.errors import (
    ConfigurationError,
    CredentialsRefusedError,
    LinkRefusedError,
    ListingError,
    NotAllowedError,
)
from archiver.providers.vobiz import Vobiz, VobizSettings
from archiver.recording import RecordingRef, Secret, Window
from tests.contract.provider_cases import MONTH, NOW, SECRET, bench, sounds
from tests.contract.test_provider import ids, recording, walked

EVER = Window(NOW - timedelta(days=36_500), NOW)


async def test_paths_have_the_exact_case_and_the_last_slash() -> None:
    async with bench("vobiz", calls=1) as b:
        listing = await b.first()
        await b.provider.refresh(listing.ref)
        listed, read = b.simulator.requests
        assert listed.path == "/api/v1/Account/MA_XXXXXXXX/Recording/"
        assert read.path == f"/api/v1/Account/MA_XXXXXXXX/Recording/{listing.ref.recording_id}/"
        assert (listed.headers["x-auth-id"], listed.headers["x-auth-token"]) == ("MA_XXXXXXXX", SECRET)


async def test_a_next_link_without_the_api_prefix_is_only_a_hint() -> None:
    async with bench("vobiz", calls=245) as b:
        await b.pages(EVER)
        assert [asked.query["offset"] for asked in b.simulator.seen(Route.LIST)] == ["0", "100", "200"]
        assert {asked.status for asked in b.simulator.requests} == {200}


async def test_a_server_that_caps_the_limit_loses_no_rows() -> None:
    async with bench("vobiz", calls=150) as b:
        b.simulator.fail(Route.LIST, Rows(lambda rows: rows[:20]), times=None)
        assert ids(await b.pages(EVER)) == {each.id for each in b.account.recordings}


async def test_a_server_that_caps_the_limit_and_says_nothing_loses_no_rows() -> None:
    async with bench("vobiz", calls=60) as b:
        b.simulator.fail(Route.LIST, Rows(lambda rows: rows[:20]), times=None)
        b.simulator.fail(Route.LIST, JsonChange(lambda d: {"objects": d["objects"]}), times=None)
        assert ids(await b.pages(EVER)) == {each.id for each in b.account.recordings}


@pytest.mark.parametrize("shape", ["full", "brief", "older"])
@pytest.mark.parametrize("calls", [0, 1, 100, 245])
async def test_every_documented_shape_of_the_listing(shape: str, calls: int) -> None:
    async with bench("vobiz", calls=calls, simulator={"shape": shape}) as b:
        listed = await b.listed(EVER)
        assert {listing.ref.recording_id for listing in listed} == {each.id for each in b.account.recordings}
        for listing in listed[:2]:
            assert await b.body(listing) == b.sound(listing.ref)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_flat_and_wrapped_single_recordings(wrapped: bool) -> None:
    async with bench("vobiz", calls=1, simulator={"wrapped": wrapped}) as b:
        listing = await b.first()
        assert (await b.provider.refresh(listing.ref)).raw == listing.raw


async def test_without_time_filter_the_walk_stops_where_the_order_proves_the_rest_older() -> None:
    async with bench("vobiz", calls=500) as b:
        recent = Window(NOW - timedelta(days=2), NOW)
        assert {each.id for each in b.account.recordings if each.listed_at >= recent.since} <= ids(
            await b.pages(recent)
        )
        assert len(b.simulator.seen(Route.LIST)) == 2
        assert {page.total for page in await b.pages(recent)} == {None}
        assert (await b.pages(EVER))[-1].total == 500


async def test_total_is_the_windows_even_where_the_backfill_begins_late() -> None:
    """The account's count, less the rows that came and are older: so it can be held against what the window showed."""
    async with bench("vobiz", calls=500) as b:
        late = Window(NOW - timedelta(days=20), NOW)
        near = sum(each.started_at >= late.since - timedelta(days=3) for each in b.account.recordings)
        b.simulator.fail(Route.LIST, Counting(500, disorder=True), times=None)
        pages = await b.pages(late)
        assert 0 < near < 500
        assert (pages[-1].total, {page.total for page in pages[:-1]}) == (near, {None})


@dataclass(frozen=True)
class Counting(Effect):
    """The provider counts so many; `disorder` makes the order doubtful, so that the walk goes on to the end."""

    total: int
    disorder: bool = False

    def alter(self, answer: Answer) -> Answer:
        document = json.loads(answer.body)
        document["meta"]["total_count"] = self.total
        if self.disorder:
            document["objects"].reverse()
        else:
            document["meta"]["next"] = "/v1/more"
        return replace(answer, body=json.dumps(document).encode())


async def test_rows_that_the_total_counts_and_no_page_shows_are_told() -> None:
    async with bench("vobiz", calls=500) as b:
        late = Window(NOW - timedelta(days=27), NOW)
        b.simulator.fail(Route.LIST, Counting(507), times=None)
        assert (await b.pages(late))[-1].total == 507


@pytest.mark.parametrize(
    "disorder", ["oldest first", "one row out of order", "a row without a time", "a row that is none"]
)
async def test_a_listing_in_doubtful_order_is_walked_to_its_end(disorder: str) -> None:
    def change(rows: Any) -> Any:
        match disorder:
            case "oldest first":
                return rows[::-1]
            case "one row out of order":
                return [rows[1], rows[0], *rows[2:]]
            case "a row without a time":
                return [{**rows[0], "add_time": None}, *rows[1:]]
            case _:
                return ["none", *rows[1:]]

    async with bench("vobiz", calls=500) as b:
        b.simulator.fail(Route.LIST, Rows(change), times=None)
        await b.pages(Window(NOW - timedelta(days=2), NOW))
        assert len(b.simulator.seen(Route.LIST)) == 5


async def test_same_recording_id_with_different_content_gives_two_audios() -> None:
    one = recording("vobiz", "same", kind="trunk")
    other = replace(
        one,
        audio=sounds()[1],
        duration=sounds()[1].duration,
        kind="call",
        started_at=one.started_at + timedelta(days=-5),
    )
    async with bench("vobiz", recordings=[one, other]) as b:
        listed = await b.listed()
        assert len({listing.ref for listing in listed}) == 1
        assert len({listing.revision for listing in listed}) == 2
        assert {await b.body(listing) for listing in listed} == {one.audio.data, other.audio.data}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"recording_type": "trunk"}, lambda each: each.kind == "trunk"),
        ({"call_uuid": "call-of-b"}, lambda each: each.call_id == "call-of-b"),
    ],
)
async def test_documented_filters(filters: dict[str, str], expected: Any) -> None:
    held = [recording("vobiz", "a", kind="trunk"), recording("vobiz", "b"), recording("vobiz", "c", kind="trunk")]
    async with bench("vobiz", recordings=held, settings={"filters": filters}) as b:
        assert ids(await b.pages()) == {each.id for each in held if expected(each)}


def test_unknown_filters_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="add_time"):
        Vobiz("v", VobizSettings("MA", Secret("x"), filters={"add_time__gte": "2026-01-01"}), None, MovableClock(NOW))  # type: ignore[arg-type]


async def test_media_redirect_to_storage_gets_no_headers() -> None:
    async with bench("vobiz", calls=1, simulator={"apart": True, "redirects": True}) as b:
        listing = await b.first()
        assert await b.body(listing) == b.sound(listing.ref)
        first, second = b.simulator.seen(Route.MEDIA)
        assert "x-auth-token" in first.headers
        assert {"x-auth-token", "x-auth-id"}.isdisjoint(second.headers)


async def test_media_on_an_unlisted_port_gets_no_headers() -> None:
    async with bench("vobiz", calls=1, simulator={"apart": True}, settings={"media_hosts": ()}) as b:
        listing = await b.first()
        with pytest.raises(LinkRefusedError):
            await b.body(listing)
        assert all("x-auth-token" not in asked.headers for asked in b.simulator.seen(Route.MEDIA))


@pytest.mark.parametrize("name", ["BulkDelete", "bulkdelete", "BulkDelete/", "%42ulkDelete/../BulkDelete", ""])
async def test_no_id_addresses_the_bulk_deletion(name: str) -> None:
    async with bench("vobiz", calls=3) as b:
        with pytest.raises(NotAllowedError):
            await b.provider.delete(RecordingRef("case", name))
        assert b.simulator.requests == []


async def test_401_points_at_the_path_too() -> None:
    async with bench("vobiz", settings={"auth_id": "ma_xxxxxxxx"}) as b:
        _, error = await walked(b.provider.list("account", MONTH))
        assert isinstance(error, CredentialsRefusedError)
        assert "slash" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b'{"api_id": "x", "error": "Recording not found"}',
        b'{"status": "error", "error": {"code": 422, "message": "limit is wrong", "details": {}}, "requestId": "r"}',
    ],
)
async def test_both_error_shapes_are_read(body: bytes) -> None:
    async with bench("vobiz") as b:
        b.simulator.fail(Route.LIST, ServerError(422, body, "application/json"), times=None)
        _, error = await walked(b.provider.list("account", MONTH))
        assert isinstance(error, ListingError)
        assert "422" in str(error)
        assert "not found" in str(error) or "limit is wrong" in str(error)


async def test_a_listing_without_meta_that_ignores_offsets_fails_instead_of_looping() -> None:
    async with bench("vobiz", calls=100) as b:
        first: list[Any] = []

        def change(document: dict[str, Any]) -> Any:
            first.append(document["objects"])
            return {"objects": first[0]}

        b.simulator.fail(Route.LIST, JsonChange(change), times=None)
        pages, error = await walked(b.provider.list("account", EVER))
        assert isinstance(error, ListingError)
        assert len(ids(pages)) == 100
