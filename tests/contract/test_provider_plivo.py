"""Plivo's traps: windows in UTC, public media that may be locked, subaccounts, the original beside the denoised."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.demo.simulators import MovableClock, Route
from archiver.errors import ConfigurationError, LinkRefusedError, RecordingGoneError
from archiver.providers.plivo import Plivo, PlivoSettings
from archiver.recording import Audio, Secret, Window
from tests.contract.provider_cases import ACCOUNT, MONTH, NOW, SECRET, bench, sounds
from tests.contract.test_provider import ids, recording

SUB = "SA00000000000000000T"
OTHER = "SA00000000000000000U"


def adapter(**settings: Any) -> Plivo:
    return Plivo("p", PlivoSettings(ACCOUNT, Secret(SECRET), **settings), None, MovableClock(NOW))  # type: ignore[arg-type]


async def test_windows_are_explicit_and_in_utc_without_offset() -> None:
    async with bench("plivo", calls=45) as b:
        await b.pages(Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, 0, 0, 0, 5, UTC)))
        asked = b.simulator.seen(Route.LIST)[0].query
        assert asked == {
            "add_time__gte": "2026-11-01 00:00:00.000000",
            "add_time__lt": "2026-11-02 00:00:00.000005",
            "limit": "20",
            "offset": "0",
        }


async def test_recordings_older_than_the_default_week_are_listed() -> None:
    async with bench("plivo", calls=45) as b:
        assert ids(await b.pages()) == {each.id for each in b.account.recordings}
        assert len(b.simulator.seen(Route.LIST)) == 3


async def test_a_window_stays_below_thirty_days() -> None:
    assert adapter().facts.max_window < timedelta(days=30)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"from_number": "+1"}, "a"),
        ({"to_number": "sip:x@phone.plivo.com"}, "b"),
        ({"call_uuid": "call-of-c"}, "c"),
        ({"mpc_name": "board"}, "d"),
        ({"mpc_uuid": "m-1"}, "e"),
        ({"conference_name": "sales"}, "f"),
        ({"conference_uuid": "c-1"}, "g"),
        ({"add_time__lt": (NOW - timedelta(days=5)).strftime("%Y-%m-%d %H:%M")}, "h"),
        ({"subaccount": SUB}, "i"),
        ({"recording_storage_duration": "10"}, "h"),
        ({"recording_storage_duration__gte": "5"}, "h"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
async def test_documented_filters(filters: dict[str, str], expected: str) -> None:
    held = [
        recording("plivo", "a", from_number="+1"),
        recording("plivo", "b", to_number="sip:x@phone.plivo.com"),
        recording("plivo", "c"),
        recording("plivo", "d", mpc_name="board"),
        recording("plivo", "e", mpc_uuid="m-1"),
        recording("plivo", "f", conference_name="sales"),
        recording("plivo", "g", conference_uuid="c-1"),
        recording("plivo", "h", started_at=NOW - timedelta(days=10, hours=3)),
        recording("plivo", "i", owner=SUB),
    ]
    options = {"subaccounts": {SUB: "sub-token"}}
    async with bench("plivo", recordings=held, simulator=options, settings={"filters": filters}) as b:
        assert ids(await b.pages()) == {expected}


@pytest.mark.parametrize(
    ("filters", "since", "until"),
    [
        ({"add_time__gte": "2026-11-10 00:00"}, "2026-11-10 00:00:00.000000", None),
        ({"add_time__gt": "2026-11-10 00:00:00.5"}, "2026-11-10 00:00:00.500001", None),
        ({"add_time__lte": "2026-11-11 00:00:00"}, None, "2026-11-11 00:00:00.000001"),
        ({"add_time": "2026-11-12 01:02:03.4"}, "2026-11-12 01:02:03.400000", "2026-11-12 01:02:03.400001"),
    ],
)
async def test_add_time_filters_narrow_the_window(
    filters: dict[str, str], since: str | None, until: str | None
) -> None:
    async with bench("plivo", calls=1, settings={"filters": filters}) as b:
        await b.pages()
        asked = b.simulator.seen(Route.LIST)[0].query
        assert asked["add_time__gte"] == (since or MONTH.since.strftime("%Y-%m-%d %H:%M:%S.%f"))
        assert asked["add_time__lt"] == (until or MONTH.until.strftime("%Y-%m-%d %H:%M:%S.%f"))


async def test_a_window_outside_the_add_time_filters_asks_nothing() -> None:
    async with bench("plivo", settings={"filters": {"add_time__lt": "2020-01-01 00:00"}}) as b:
        assert await b.pages() == []
        assert b.simulator.requests == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"filters": {"recording_storage_duration": "9", "add_time__gt": "2026-01-01 00:00"}},
            "combined with add_time",
        ),
        ({"filters": {"colour": "red"}}, "unknown filter colour"),
        ({"filters": {"add_time__near": "2026-01-01 00:00"}}, "unknown filter add_time__near"),
        ({"filters": {"from_number__gt": "1"}}, "unknown filter from_number__gt"),
        ({"filters": {"callback_url": "https://x.test"}}, "unknown filter callback_url"),
        ({"filters": {"limit": "5"}}, "unknown filter limit"),
        ({"filters": {"add_time__gte": "yesterday"}}, "add_time__gte is not"),
        ({"filters": {"subaccount": SUB}, "subaccounts": (SUB,)}, "exclude one another"),
    ],
)
def test_filters_that_contradict_the_document_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        adapter(**settings)


def test_a_storage_filter_leaves_no_time_filter() -> None:
    assert not adapter(filters={"recording_storage_duration__gt": "80"}).facts.time_filtered


async def test_each_subaccount_is_a_scope_listed_through_the_parent() -> None:
    held = [recording("plivo", "main"), recording("plivo", "one", owner=SUB), recording("plivo", "two", owner=OTHER)]
    options = {"subaccounts": {SUB: "sub-token", OTHER: "other-token"}}
    async with bench("plivo", recordings=held, simulator=options, settings={"subaccounts": (SUB, OTHER)}) as b:
        assert b.provider.scopes() == ("account", f"subaccount:{SUB}", f"subaccount:{OTHER}")
        listed = await b.listed()
        assert [(each.ref.recording_id, each.ref.account) for each in listed] == [
            ("main", ACCOUNT), ("one", SUB), ("two", OTHER),
        ]  # fmt: skip
        for listing in listed:
            fresh = await b.provider.refresh(listing.ref)
            assert fresh.ref == listing.ref
            assert await b.body(fresh) == b.sound(fresh.ref)


async def test_public_media_gets_no_credentials() -> None:
    async with bench("plivo", calls=1) as b:
        listing = await b.first()
        assert await b.body(listing) == b.sound(listing.ref)
        (asked,) = b.simulator.seen(Route.MEDIA)
        assert "authorization" not in asked.headers


@pytest.mark.parametrize("apart", [False, True])
async def test_locked_media_opens_with_the_owners_own_credentials(apart: bool) -> None:
    held = [recording("plivo", "main"), recording("plivo", "sub", owner=SUB)]
    options = {"subaccounts": {SUB: "sub-token"}, "media_auth": True, "apart": apart}
    settings = {"subaccounts": (SUB,), "subaccount_tokens": {SUB: Secret("sub-token")}}
    async with bench("plivo", recordings=held, simulator=options, settings=settings) as b:
        for listing in await b.listed():
            assert await b.body(listing) == b.sound(listing.ref)
        asked = b.simulator.seen(Route.MEDIA)
        assert ["authorization" in each.headers for each in asked] == [False, True, False, True]


async def test_locked_media_of_a_subaccount_without_its_token_is_refused() -> None:
    options = {"subaccounts": {SUB: "sub-token"}, "media_auth": True}
    held = [recording("plivo", "sub", owner=SUB)]
    async with bench("plivo", recordings=held, simulator=options, settings={"subaccounts": (SUB,)}) as b:
        (listing,) = await b.listed(scope=f"subaccount:{SUB}")
        with pytest.raises(LinkRefusedError):
            await b.body(listing)


async def test_old_storage_links_never_get_credentials() -> None:
    async with bench("plivo", calls=1, simulator={"legacy_urls": True, "apart": True}) as b:
        listing = await b.first()
        assert await b.body(listing) == b.sound(listing.ref)
        assert all("authorization" not in asked.headers for asked in b.simulator.seen(Route.MEDIA))


async def test_the_original_before_noise_cancellation_is_a_variant() -> None:
    held = [recording("plivo", "both", original=sounds()[1]), recording("plivo", "plain")]
    async with bench("plivo", recordings=held, settings={"original": True}) as b:
        listed = {(each.ref.recording_id, each.ref.variant): each for each in await b.listed()}
        assert set(listed) == {("both", ""), ("both", "original"), ("plain", ""), ("plain", "original")}
        assert await b.body(listed["both", ""]) == sounds()[0].data
        assert await b.body(listed["both", "original"]) == sounds()[1].data
        fresh = await b.provider.refresh(listed["both", "original"].ref)
        assert await b.body(fresh) == sounds()[1].data
        with pytest.raises(RecordingGoneError):  # never denoised: only the media itself can say so
            await b.body(listed["plain", "original"])


def test_old_plain_http_links_are_asked_for_over_https() -> None:
    link = adapter()._link("http://s3.amazonaws.com/recordings_2013/x.mp3")
    assert link is not None
    assert link.url.reveal() == "https://s3.amazonaws.com/recordings_2013/x.mp3"


OLD = "http://s3.amazonaws.com/recordings_2013/c2.mp3"
MEDIA = f"https://media.plivo.com/v1/Account/{ACCOUNT}/Recording/c2"


@pytest.mark.parametrize(
    ("listed", "more", "asked"),
    [
        (OLD, {}, f"{MEDIA}.mp3?type=original"),
        (OLD, {"recording_format": "wav"}, f"{MEDIA}.wav?type=original"),
        (OLD, {"recording_id": "a/../b?"}, f"{MEDIA[:-2]}a%2F..%2Fb%3F.mp3?type=original"),
        (f"{MEDIA}.mp3", {}, f"{MEDIA}.mp3?type=original"),
        (f"{MEDIA}.mp3?a=b", {}, f"{MEDIA}.mp3?a=b&type=original"),
        ("s3://recordings/c2.mp3", {}, f"{MEDIA}.mp3?type=original"),
        (None, {}, None),
        ("", {}, None),
    ],
)
def test_the_original_is_asked_for_at_the_documented_media_host(
    listed: object, more: dict[str, object], asked: str | None
) -> None:
    """What is listed for old recordings is a storage that knows no `type`: it sends the denoised recording for it."""
    row = {"recording_id": "c2", "recording_format": "mp3", "recording_url": listed, **more}
    main, original = adapter(original=True)._read(row, "")
    assert (original.link.url.reveal() if original.link else None) == asked
    assert (original.ref.variant, main.ref.variant) == ("original", "")
    assert (original.audio is Audio.PRESENT) == (asked is not None)


async def test_the_original_of_an_old_recording_comes_from_the_media_host_and_not_from_the_storage() -> None:
    held = [recording("plivo", "both", original=sounds()[1])]
    async with bench("plivo", recordings=held, simulator={"legacy_urls": True}, settings={"original": True}) as b:
        listed = {each.ref.variant: each for each in await b.listed()}
        assert await b.body(listed["original"]) == sounds()[1].data
        (asked,) = b.simulator.seen(Route.MEDIA)
        assert asked.path == f"/v1/Account/{ACCOUNT}/Recording/both.mp3"
