"""KAZOO's traps: tokens, Gregorian windows, media under the document's URL, media that comes after its document."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.demo.simulators import ErrorBody, JsonChange, MovableClock, Route, ServerError
from archiver.demo.simulators.kazoo_auth import Credentials
from archiver.errors import (
    ConfigurationError,
    CredentialsRefusedError,
    NotAllowedError,
    NotReadyError,
    RecordingGoneError,
    UnacceptableMediaError,
    UnavailableError,
)
from archiver.providers.kazoo import Kazoo, KazooSettings
from archiver.providers.kazoo_login import ApiKey, Login, Token, User
from archiver.recording import Audio, Secret, Window
from tests.contract.provider_cases import NOW, bench, sounds
from tests.contract.test_provider import ids, recording

API_KEY = ApiKey(Secret("k-e-y"))
HELD = Credentials(api_key="k-e-y", user="Archiver", password="pass-word")


def logged_in(login: Login, **settings: Any) -> dict[str, Any]:
    return {"simulator": {"credentials": HELD}, "settings": {"login": login, **settings}}


async def test_windows_are_gregorian_seconds_and_every_page_repeats_them() -> None:
    async with bench("kazoo", calls=245) as b:
        window = Window(datetime(2026, 10, 25, tzinfo=UTC), NOW)
        await b.pages(window)
        asked = b.simulator.seen(Route.LIST)
        assert len(asked) == 3
        assert {each.query["created_from"] for each in asked} == {str(63_960_105_600)}
        assert {(each.query["created_to"], each.query["ascending"]) for each in asked} == {
            (str(62_167_219_200 + int(NOW.timestamp()) + 1), "true")
        }
        assert "start_key" not in asked[0].query
        assert asked[1].query["start_key"] != asked[2].query["start_key"]


@pytest.mark.parametrize(
    "login",
    [
        API_KEY,
        User(Secret("ARCHIVER"), Secret("pass-word"), account_name="acme"),
        User(Secret("archiver"), Secret("pass-word"), account_realm="acme.example.com", method="sha"),
        User(Secret("archiver"), Secret("pass-word"), phone_number="+14155550000"),
    ],
    ids=["api_key", "md5", "sha", "phone_number"],
)
async def test_tokens_by_api_key_and_by_user_credentials(login: Login) -> None:
    async with bench("kazoo", **logged_in(login)) as b:
        assert len(await b.listed()) == 45
        assert await b.body(await b.first()) == b.sound((await b.first()).ref)
        assert len(b.simulator.seen(Route.AUTH)) == 1
        assert b.budget.taken >= 35


@pytest.mark.parametrize(
    "login",
    [ApiKey(Secret("wrong")), User(Secret("archiver"), Secret("wrong"), account_name="acme"), Token(Secret("wrong"))],
    ids=["unknown key is 404", "wrong password", "token"],
)
async def test_refused_credentials_say_so(login: Login) -> None:
    async with bench("kazoo", **logged_in(login)) as b:
        with pytest.raises(CredentialsRefusedError) as refused:
            await b.listed()
        assert "wrong" not in str(refused.value)


async def test_many_requests_at_once_log_in_once() -> None:
    async with bench("kazoo", **logged_in(API_KEY)) as b:
        await asyncio.gather(*(b.listed() for _ in range(10)))
        assert len(b.simulator.seen(Route.AUTH)) == 1


async def test_a_token_is_renewed_before_its_hour_is_over() -> None:
    async with bench("kazoo", **logged_in(API_KEY)) as b:
        await b.listed()
        b.clock.move(timedelta(minutes=49))
        await b.listed()
        assert len(b.simulator.seen(Route.AUTH)) == 1
        b.clock.move(timedelta(minutes=2))
        await b.listed()
        assert len(b.simulator.seen(Route.AUTH)) == 2
        assert {asked.status for asked in b.simulator.seen(Route.LIST)} == {200}


async def test_a_refused_token_is_renewed_once_for_everyone() -> None:
    async with bench("kazoo", **logged_in(API_KEY)) as b:
        await b.listed()
        b.clock.move(timedelta(minutes=5))
        b.simulator.tokens.revoke()
        await asyncio.gather(*(b.listed() for _ in range(8)))
        assert len(b.simulator.seen(Route.AUTH)) == 2


async def test_a_token_refused_within_a_minute_of_its_login_costs_one_login_more_and_no_third() -> None:
    async with bench("kazoo", **logged_in(API_KEY)) as b:
        await b.listed()
        b.simulator.tokens.revoke()
        await b.listed()
        assert len(b.simulator.seen(Route.AUTH)) == 2
        for _ in range(5):
            b.simulator.tokens.revoke()
            with pytest.raises(CredentialsRefusedError):
                await b.listed()
        assert len(b.simulator.seen(Route.AUTH)) == 2
        b.clock.move(timedelta(seconds=61))
        await b.listed()
        assert len(b.simulator.seen(Route.AUTH)) == 3
        b.simulator.tokens.revoke()
        await b.listed()  # the minute that is over counts no more
        assert len(b.simulator.seen(Route.AUTH)) == 4


async def test_a_token_that_ends_between_list_and_fetch_costs_one_login() -> None:
    async with bench("kazoo", **logged_in(API_KEY)) as b:
        listing = await b.first()
        b.clock.move(timedelta(minutes=5))
        b.simulator.tokens.revoke()
        assert await b.body(listing) == b.sound(listing.ref)
        assert len(b.simulator.seen(Route.AUTH)) == 2


async def test_a_login_that_fails_is_tried_again() -> None:
    async with bench("kazoo", **logged_in(API_KEY)) as b:
        b.simulator.fail(Route.AUTH, ServerError(503))
        with pytest.raises(UnavailableError):
            await b.listed()
        b.simulator.fail(Route.AUTH, ErrorBody("json"))
        with pytest.raises(UnavailableError, match="no token"):
            await b.listed()
        assert len(await b.listed()) == 45


async def test_read_only_tokens_list_and_fetch_and_cannot_delete() -> None:
    async with bench("kazoo", **logged_in(API_KEY, read_only=True)) as b:
        listing = await b.first()
        assert await b.body(listing) == b.sound(listing.ref)
        with pytest.raises(NotAllowedError):
            await b.provider.delete(listing.ref)
        sent = json.loads(b.simulator.seen(Route.AUTH)[0].body)
        assert sent == {"data": {"api_key": "k-e-y", "restrictions": {"get": ["#"]}}}


async def test_each_users_recordings_are_a_scope() -> None:
    held = [recording("kazoo", name, owner=owner) for name, owner in (("a", "u1"), ("b", "u2"), ("c", ""), ("d", "u1"))]
    async with bench("kazoo", recordings=held, settings={"users": ("u1", "u2")}) as b:
        assert b.provider.scopes() == ("user:u1", "user:u2")
        assert ids(await b.pages(scope="user:u1")) == {"202611-a", "202611-d"}
        assert ids(await b.pages(scope="user:u2")) == {"202611-b"}


async def test_generic_filters() -> None:
    async with bench("kazoo", settings={"filters": {"filter_direction": "inbound"}}) as b:
        assert ids(await b.pages()) == {each.id for each in b.account.recordings if each.direction == "inbound"}


def test_unknown_filters_are_refused_by_name() -> None:
    settings = KazooSettings("http://k:8000", "a", API_KEY, filters={"created_from": "1"})
    with pytest.raises(ConfigurationError, match="created_from"):
        Kazoo("k", settings, None, MovableClock(NOW))  # type: ignore[arg-type]


async def test_media_that_comes_after_its_document_is_not_ready_yet() -> None:
    late = recording("kazoo", "late", available_at=NOW + timedelta(minutes=40))
    async with bench("kazoo", recordings=[late]) as b:
        before = await b.first()
        assert before.audio is Audio.NOT_YET
        with pytest.raises(NotReadyError):
            await b.body(before)
        b.clock.move(timedelta(minutes=45))
        after = await b.first()
        assert (after.audio, after.revision, after.stable_digest) == (
            Audio.PRESENT, before.revision, before.stable_digest,
        )  # fmt: skip
        assert await b.body(after) == sounds()[0].data


async def test_media_is_asked_for_by_header_and_by_query() -> None:
    async with bench("kazoo", calls=1) as b:
        await b.body(await b.first())
        (asked,) = b.simulator.seen(Route.MEDIA)
        assert (asked.headers["accept"], asked.query) == ("audio/mpeg", {"accept": "audio/mpeg"})


async def test_the_document_in_place_of_the_audio_is_never_taken_for_it() -> None:
    async with bench("kazoo", calls=1) as b:
        listing = await b.first()
        b.simulator.fail(Route.MEDIA, ErrorBody("json"))
        with pytest.raises(UnacceptableMediaError):
            await b.body(listing)


async def test_a_recording_across_the_months_end_is_listed_and_gone() -> None:
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    crossing = recording("kazoo", "x", started_at=midnight - timedelta(seconds=1))
    async with bench("kazoo", recordings=[crossing], simulator={"month_defect": True}) as b:
        listing = await b.first()
        assert listing.raw
        with pytest.raises(RecordingGoneError):
            await b.provider.refresh(listing.ref)
        with pytest.raises(RecordingGoneError):
            await b.body(listing)


async def test_a_bucket_that_runs_low_pauses_everyone() -> None:
    async with bench("kazoo", calls=1) as b:
        b.simulator.fail(Route.LIST, JsonChange(lambda d: d | {"tokens": {"consumed": 1, "remaining": 5}}))
        await b.listed()
        assert b.budget.pauses == [timedelta(seconds=1)]
        await b.listed()
        assert len(b.budget.pauses) == 1
