"""The simulators against the documents: every rule that a client can trip over, over real HTTP."""

import asyncio
import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import pytest
from plivo import RestClient, exceptions  # type: ignore[import-untyped]
from plivo.rest import client as plivo_client  # type: ignore[import-untyped]
from yarl import URL

from archiver.demo.simulators import (
    Account,
    AnswerLost,
    Credentials,
    Cut,
    Drip,
    EmptyList,
    Endless,
    ErrorBody,
    ExpiredLink,
    Frame,
    Framing,
    Gzip,
    JustCallSimulator,
    JustCallV21Simulator,
    KazooSimulator,
    LoginPage,
    Meanwhile,
    MovableClock,
    PlivoSimulator,
    RangeIgnored,
    Redirect,
    RepeatedPage,
    Reset,
    Route,
    Rows,
    ServerError,
    SimRecording,
    Simulator,
    TooManyRequests,
    UnaskedPart,
    VobizSimulator,
    WrongLength,
    month_of_calls,
)
from archiver.demo.simulators.scenario import samples

NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
GREGORIAN_NOW = int(NOW.timestamp()) + 62_167_219_200
SOUNDS = samples()
MP3 = next(each for each in SOUNDS if each.format == "mp3")
WAV = next(each for each in SOUNDS if each.format == "wav")
MAIN, SUB, SECRET, SUB_SECRET = "MA2025RK4E639VJFZAGV", "SA2025RK4E639VJFZAGV", "main-token", "sub-token"
KAZOO_ACCOUNT = "0123456789abcdef0123456789abcdef"


def call(recording_id: str = "r1", ago: timedelta = timedelta(hours=1), **facts: Any) -> SimRecording:
    known: dict[str, Any] = {"duration": MP3.duration, "audio": MP3, "call_id": f"call-of-{recording_id}"}
    return SimRecording(id=recording_id, started_at=NOW - ago, **known | facts)


def many(count: int, prefix: str = "r") -> list[SimRecording]:
    return [call(f"{prefix}{index:03}", timedelta(hours=1 + index)) for index in range(count)]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@dataclass
class Reply:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """A client of one simulator: its credentials as headers, no redirects, no decoding, one connection a request."""

    def __init__(self, sim: Simulator, session: aiohttp.ClientSession, credentials: dict[str, str]) -> None:
        self.sim, self.session, self.credentials = sim, session, credentials

    async def ask(self, path: str, method: str = "GET", *, bare: bool = False, body: Any = None, **query: Any) -> Reply:
        return await self.raw(self.sim.base_url + path, method, {} if bare else self.credentials, body, query)

    async def raw(
        self,
        url: str | URL,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: Any = None,
        query: Any = None,
    ) -> Reply:
        async with self.session.request(
            method, url, headers=headers or {}, json=body, params=query or None, allow_redirects=False
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())


@asynccontextmanager
async def calling(sim: Simulator, credentials: dict[str, str]) -> AsyncIterator[Caller]:
    connector = aiohttp.TCPConnector(force_close=True)
    async with sim, aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield Caller(sim, session, credentials)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock(NOW)


@asynccontextmanager
async def justcall(clock: MovableClock, *calls: SimRecording, **options: Any) -> AsyncIterator[Caller]:
    sim = JustCallSimulator(Account(calls), clock, api_key="key", api_secret="secret", **options)
    async with calling(sim, {"Authorization": "key:secret"}) as caller:
        yield caller


@asynccontextmanager
async def justcall_v21(clock: MovableClock, *calls: SimRecording, **options: Any) -> AsyncIterator[Caller]:
    sim = JustCallV21Simulator(Account(calls), clock, api_key="key", api_secret="secret", **options)
    async with calling(sim, {"Authorization": "key:secret"}) as caller:
        yield caller


@asynccontextmanager
async def kazoo(clock: MovableClock, *calls: SimRecording, **options: Any) -> AsyncIterator[Caller]:
    sim = KazooSimulator(Account(calls), clock, account_id=KAZOO_ACCOUNT, auth_token="fixed", **options)
    async with calling(sim, {"X-Auth-Token": "fixed"}) as caller:
        yield caller


@asynccontextmanager
async def vobiz(clock: MovableClock, *calls: SimRecording, **options: Any) -> AsyncIterator[Caller]:
    sim = VobizSimulator(Account(calls), clock, auth_id="MA_1", auth_token="token", **options)
    async with calling(sim, {"X-Auth-ID": "MA_1", "X-Auth-Token": "token"}) as caller:
        yield caller


@asynccontextmanager
async def plivo(clock: MovableClock, *calls: SimRecording, **options: Any) -> AsyncIterator[Caller]:
    subs = {SUB: SUB_SECRET}
    sim = PlivoSimulator(Account(calls), clock, auth_id=MAIN, auth_token=SECRET, subaccounts=subs, **options)
    async with calling(sim, basic(MAIN, SECRET)) as caller:
        yield caller


KAZOO_LIST = f"/v2/accounts/{KAZOO_ACCOUNT}/recordings"
VOBIZ_LIST = "/api/v1/Account/MA_1/Recording/"
PLIVO_LIST = f"/v1/Account/{MAIN}/Recording/"
KAZOO_ID = "202605-bf8a6522730f93248d41f2521cfe2b95"


# --- JustCall, as documented ----------------------------------------------------------------------------------


async def test_justcall_without_the_right_key_is_401(clock: MovableClock) -> None:
    async with justcall(clock) as caller:
        assert (await caller.ask("/v2/calls", bare=True)).status == 401
        wrong = await caller.raw(caller.sim.base_url + "/v2/calls", headers=basic("key", "secret"))
        assert wrong.status == 401
        assert wrong.json["message"] == "Invalid API key or secret."


async def test_justcall_pages_start_at_1_and_hold_25_unless_told(clock: MovableClock) -> None:
    async with justcall(clock, *many(60)) as caller:
        first = (await caller.ask("/v2/calls")).json
        assert (first["count"], first["page"], first["per_page"], first["total_pages"]) == (60, 1, 25, 3)
        ids = [row["call_id"] for page in (1, 2, 3) for row in (await caller.ask("/v2/calls", page=page)).json["data"]]
        assert sorted(ids) == [f"r{index:03}" for index in range(60)]
        assert (await caller.ask("/v2/calls", page=4)).json["data"] == []
        assert len((await caller.ask("/v2/calls", per_page=100)).json["data"]) == 60


@pytest.mark.parametrize(
    "query",
    [
        "per_page=101",
        "per_page=0",
        "page=0",
        "page=x",
        "start_date=May",
        "direction=up",
        "status=odd",
        "agent_id=Jordan",
    ],
)
async def test_justcall_value_that_the_table_does_not_allow_is_400(clock: MovableClock, query: str) -> None:
    async with justcall(clock) as caller:
        assert (await caller.ask(f"/v2/calls?{query}")).status == 400


async def test_justcall_filters_of_the_parameter_table(clock: MovableClock) -> None:
    old = call("old", timedelta(days=9))
    out = call("out", direction="outbound", agent_id=7, from_number="+1999", status="busy")
    async with justcall(clock, old, out, call("in")) as caller:

        async def ids(**query: Any) -> set[str]:
            return {row["call_id"] for row in (await caller.ask("/v2/calls", **query)).json["data"]}

        assert await ids() == await ids(direction="all") == {"old", "out", "in"}
        assert await ids(start_date="2026-05-20") == {"out", "in"}
        assert await ids(end_date="2026-05-11") == {"old"}
        assert await ids(end_date="2026-05-10") == set()
        assert await ids(direction="outbound") == await ids(agent_id=7) == await ids(status="busy") == {"out"}
        assert await ids(number="+1999") == {"out"}
        assert await ids(number="+14155551234") == {"old", "in"}


async def test_justcall_null_url_until_the_recording_is_there(clock: MovableClock) -> None:
    late = call("late", available_at=NOW + timedelta(minutes=10))
    async with justcall(clock, late, call("never", audio=None)) as caller:
        rows = (await caller.ask("/v2/calls")).json["data"]
        assert [row["recording_url"] for row in rows] == [None, None]
        clock.move(timedelta(minutes=11))
        item = (await caller.ask("/v2/calls/late")).json["data"]
        assert (await caller.raw(item["recording_url"])).body == MP3.data
        assert (await caller.ask("/v2/calls/never")).json["data"]["recording_url"] is None


async def test_justcall_link_expires_after_24_hours_and_a_reread_gives_a_fresh_one(clock: MovableClock) -> None:
    async with justcall(clock, call()) as caller:
        old = (await caller.ask("/v2/calls/r1")).json["data"]["recording_url"]
        clock.move(timedelta(hours=23, minutes=59))
        assert (await caller.raw(old)).status == 200
        clock.move(timedelta(minutes=2))
        expired = await caller.raw(old)
        assert (expired.status, expired.headers["Content-Type"]) == (403, "application/xml")
        fresh = (await caller.ask("/v2/calls/r1")).json["data"]["recording_url"]
        assert fresh != old
        assert (await caller.raw(fresh)).body == MP3.data


async def test_justcall_forged_link_is_403(clock: MovableClock) -> None:
    async with justcall(clock, call("r1"), call("r2")) as caller:
        link = (await caller.ask("/v2/calls/r1")).json["data"]["recording_url"]
        assert (await caller.raw(link.replace("rec_r1", "rec_r2"))).status == 403
        assert (await caller.raw(link.partition("?")[0])).status == 403


async def test_justcall_link_on_its_own_origin_refuses_credentials(clock: MovableClock) -> None:
    async with justcall(clock, call(), apart=True) as caller:
        link = (await caller.ask("/v2/calls/r1")).json["data"]["recording_url"]
        assert link.startswith(caller.sim.media_url)
        assert caller.sim.media_url != caller.sim.base_url
        assert (await caller.raw(link, headers={"Authorization": "key:secret"})).status == 400
        assert (await caller.raw(link)).status == 200
        assert (await caller.raw(link.replace(caller.sim.media_url, caller.sim.base_url))).status == 401


async def test_media_host_names_the_other_origin(clock: MovableClock) -> None:
    async with justcall(clock, call(), apart=True, media_host="localhost") as caller:
        link = (await caller.ask("/v2/calls/r1")).json["data"]["recording_url"]
        assert (urlsplit(link).hostname, urlsplit(caller.sim.base_url).hostname) == ("localhost", "127.0.0.1")
        assert (await caller.raw(link)).body == MP3.data


async def test_justcall_retention_ends_the_recording_but_not_the_call(clock: MovableClock) -> None:
    async with justcall(clock, call()) as caller:
        caller.sim.account.retention = timedelta(days=90)
        link = (await caller.ask("/v2/calls/r1")).json["data"]["recording_url"]
        clock.move(timedelta(days=90))
        assert (await caller.ask("/v2/calls/r1")).json["data"]["recording_url"] is None
        assert (await caller.raw(link)).status == 403


async def test_justcall_example_keys(clock: MovableClock) -> None:
    row = "call_id direction from to agent_id agent_name status duration recording_url voicemail notes disposition tags"
    async with justcall(clock, call(), terse=True) as caller:
        listing, item = (await caller.ask("/v2/calls")).json, (await caller.ask("/v2/calls/r1")).json
        assert set(listing) == {"status", "count", "data", "page", "per_page", "total_pages"}
        assert set(listing["data"][0]) == {*row.split(), "started_at", "ended_at"}
        example = {"call_id", "direction", "duration", "recording_url", "recording_duration", "status"}
        assert (set(item), set(item["data"])) == ({"status", "data"}, example)
        assert (await caller.ask("/v2/calls/nope")).status == 404
    async with justcall(clock, call()) as caller:
        assert example < set((await caller.ask("/v2/calls/r1")).json["data"])


# --- JustCall, the vendor's v2.1 ------------------------------------------------------------------------------


async def test_v21_pages_start_at_0_hold_20_and_starting_at_1_misses_some(clock: MovableClock) -> None:
    async with justcall_v21(clock, *many(30)) as caller:
        first = (await caller.ask("/v2.1/calls")).json
        assert (first["count"], first["total_count"], first["current_page"], first["per_page"]) == (20, 30, 0, 20)
        assert len((await caller.ask("/v2.1/calls", page=1)).json["data"]) == 10
        following = (await caller.raw(first["next_page_link"], headers=caller.credentials)).json
        assert (following["count"], following["next_page_link"]) == (10, None)
    async with justcall_v21(clock, *many(30), first_page=1) as caller:
        assert len((await caller.ask("/v2.1/calls", page=1)).json["data"]) == 20


async def test_v21_filter_times_are_local_and_stamps_are_utc(clock: MovableClock) -> None:
    night = call("night", NOW - datetime(2026, 5, 19, 3, 30, tzinfo=UTC))
    async with justcall_v21(clock, night, timezone="America/New_York") as caller:
        found = (await caller.ask("/v2.1/calls", from_datetime="2026-05-18", to_datetime="2026-05-19")).json["data"]
        assert [(row["call_date"], row["call_time"]) for row in found] == [("2026-05-19", "03:30:00")]
        assert (found[0]["call_user_date"], found[0]["call_user_time"]) == ("2026-05-18", "23:30:00")
        assert (await caller.ask("/v2.1/calls", from_datetime="2026-05-19")).json["data"] == []
        late = (await caller.ask("/v2.1/calls", from_datetime="2026-05-18 23:00:00")).json["data"]
        assert len(late) == 1
        assert (await caller.ask("/v2.1/calls", from_datetime="yesterday")).status == 400


async def test_v21_links_redirect_to_a_signed_link_and_the_child_is_a_second_recording(clock: MovableClock) -> None:
    async with justcall_v21(clock, call(child=WAV), apart=True) as caller:
        row = (await caller.ask("/v2.1/calls")).json["data"][0]
        bodies = []
        for key in ("recording", "recording_child"):
            hop = await caller.raw(row["call_info"][key])
            assert hop.status == 302
            assert hop.headers["Location"].startswith(caller.sim.media_url)
            bodies.append((await caller.raw(hop.headers["Location"])).body)
        assert bodies == [MP3.data, WAV.data]


async def test_v21_sales_dialer_calls_are_a_collection_of_their_own(clock: MovableClock) -> None:
    async with justcall_v21(clock, call("plain"), call("dialled", sales_dialer=True)) as caller:
        plain = (await caller.ask("/v2.1/calls")).json["data"]
        dialled = (await caller.ask("/v2.1/sales_dialer/calls")).json["data"]
        assert [len(plain), len(dialled)] == [1, 1]
        assert "call_id" in dialled[0]
        assert "id" in plain[0]
        assert (await caller.ask(f"/v2.1/calls/{plain[0]['id']}")).json["data"]["id"] == plain[0]["id"]
        assert (await caller.ask(f"/v2.1/calls/{dialled[0]['call_id']}")).status == 404


async def test_v21_last_call_id_fetched_leaves_out_what_was_had(clock: MovableClock) -> None:
    async with justcall_v21(clock, *many(5)) as caller:
        ids = [row["id"] for row in (await caller.ask("/v2.1/calls")).json["data"]]
        assert ids == sorted(ids, reverse=True)
        rest = (await caller.ask("/v2.1/calls", last_call_id_fetched=ids[1])).json["data"]
        assert [row["id"] for row in rest] == ids[2:]


# --- KAZOO ----------------------------------------------------------------------------------------------------


async def test_kazoo_unknown_api_key_is_404_and_a_login_gives_a_token_that_ends(clock: MovableClock) -> None:
    async with kazoo(clock, call(KAZOO_ID), credentials=Credentials(api_key="right")) as caller:
        refused = await caller.ask("/v2/api_auth", "PUT", body={"data": {"api_key": "wrong"}})
        assert (refused.status, refused.json["message"], refused.json["error"]) == (404, "bad_identifier", "404")
        login = await caller.ask("/v2/api_auth", "PUT", body={"data": {"api_key": "right"}})
        assert login.status == 201
        held = {"X-Auth-Token": login.json["auth_token"]}
        url = caller.sim.base_url + KAZOO_LIST
        listing = await caller.raw(url, headers=held)
        assert listing.json["auth_token"] == held["X-Auth-Token"]
        clock.move(timedelta(hours=1))
        assert (await caller.raw(url, headers=held)).status == 401
        assert (await caller.raw(url, headers={"Authorization": "Bearer fixed"})).status == 200
        assert (await caller.raw(url)).status == 401
        assert isinstance(caller.sim, KazooSimulator)
        caller.sim.tokens.revoke()
        assert (await caller.ask(KAZOO_LIST)).status == 401


@pytest.mark.parametrize(("method", "digest"), [("md5", hashlib.md5), ("sha", hashlib.sha1)])
async def test_kazoo_user_auth_hashes_the_lower_cased_name(
    clock: MovableClock, method: str, digest: Callable[[bytes], Any]
) -> None:
    async with kazoo(clock, credentials=Credentials(user="Archiver", password="Pass")) as caller:

        async def login(text: str, **who: str) -> int:
            data = {"credentials": digest(text.encode()).hexdigest(), "method": method, **who}
            return (await caller.ask("/v2/user_auth", "PUT", body={"data": data})).status

        assert await login("archiver:Pass", account_name="acme") == 201
        assert await login("archiver:Pass", account_realm="acme.example.com") == 201
        assert await login("Archiver:Pass", account_name="acme") == 401
        assert await login("archiver:Pass", account_name="other") == 404
        assert await login("archiver:Pass") == 400


async def test_kazoo_restricted_token_reads_but_does_not_delete(clock: MovableClock) -> None:
    async with kazoo(clock, call(KAZOO_ID), credentials=Credentials(api_key="k")) as caller:
        body = {"data": {"api_key": "k", "restrictions": {"get": [f"accounts/{KAZOO_ACCOUNT}/recordings/#"]}}}
        token = (await caller.ask("/v2/api_auth", "PUT", body=body)).json["auth_token"]
        url = f"{caller.sim.base_url}{KAZOO_LIST}/{KAZOO_ID}"
        assert (await caller.raw(url, headers={"X-Auth-Token": token})).status == 200
        assert (await caller.raw(url, "DELETE", {"X-Auth-Token": token})).status == 403
        users = caller.sim.base_url + f"/v2/accounts/{KAZOO_ACCOUNT}/users/u1/recordings"
        assert (await caller.raw(users, headers={"X-Auth-Token": token})).status == 403
        assert (await caller.ask("/v2/accounts/other/recordings")).status == 403


async def test_kazoo_keyset_pages_stay_true_while_rows_come_and_go(clock: MovableClock) -> None:
    rows = [call(f"202605-{index:032x}", timedelta(hours=1 + index)) for index in range(7)]
    async with kazoo(clock, *rows) as caller:
        for order, expected in (({}, rows), ({"ascending": "true"}, rows[::-1]), ({"descending": "false"}, rows[::-1])):
            ids: list[str] = []
            query: dict[str, Any] = dict(order)
            while True:
                page = (await caller.ask(KAZOO_LIST, page_size=3, **query)).json
                ids += [row["id"] for row in page["data"]]
                assert page["page_size"] == len(page["data"])
                if "next_start_key" not in page:
                    break
                query["start_key"] = page["next_start_key"]
            assert ids == [each.id for each in expected]
        page = (await caller.ask(KAZOO_LIST, page_size=3)).json
        caller.sim.account.add(call("202605-" + "f" * 32, timedelta(minutes=1)))
        caller.sim.account.remove(rows[1].id)
        following = (await caller.ask(KAZOO_LIST, page_size=3, start_key=page["next_start_key"])).json
        assert [row["id"] for row in following["data"]] == [each.id for each in rows[3:6]]
        assert (await caller.ask(KAZOO_LIST, start_key="!!")).status == 400


async def test_kazoo_page_holds_50_unless_told(clock: MovableClock) -> None:
    rows = [call(f"202605-{index:032x}", timedelta(minutes=5 + index)) for index in range(55)]
    async with kazoo(clock, *rows) as caller:
        page = (await caller.ask(KAZOO_LIST)).json
        assert (page["page_size"], len(page["data"])) == (50, 50)
        everything = (await caller.ask(KAZOO_LIST, paginate="false")).json
        assert len(everything["data"]) == 55
        assert "next_start_key" not in everything


async def test_kazoo_window_is_gregorian_inclusive_and_at_most_31_days_and_an_hour(clock: MovableClock) -> None:
    at = call(KAZOO_ID, appears_at=NOW - timedelta(days=2))
    edge = GREGORIAN_NOW - 2 * 86_400
    async with kazoo(clock, at) as caller:

        async def count(**window: Any) -> int:
            return len((await caller.ask(KAZOO_LIST, **window)).json["data"])

        assert await count() == 1
        assert await count(created_from=edge, created_to=edge) == 1
        assert await count(created_from=edge + 1) == 0
        assert await count(created_from=edge - 100, created_to=edge - 1) == 0
        assert await count(created_to=GREGORIAN_NOW, created_from=GREGORIAN_NOW - 2_682_000) == 1
        long = await caller.ask(KAZOO_LIST, created_to=GREGORIAN_NOW, created_from=GREGORIAN_NOW - 2_682_001)
        assert long.status == 400
        assert "2682000 seconds" in long.json["data"]["created_from"]["date_range"]["message"]
        assert (await caller.ask(KAZOO_LIST, created_from=edge, created_to=edge - 1)).status == 400
        # a unix time is some instant of the year 56: a window of two thousand years
        assert (await caller.ask(KAZOO_LIST, created_from=int(NOW.timestamp()))).status == 400
        assert await count(created_from=0) == 1
        assert await count(created_from="garbage") == 1


async def test_kazoo_default_window_forgets_what_is_older_than_31_days(clock: MovableClock) -> None:
    async with kazoo(clock, call(KAZOO_ID, timedelta(days=32))) as caller:
        assert (await caller.ask(KAZOO_LIST)).json["data"] == []


async def test_kazoo_gives_json_unless_audio_is_asked_for_by_name(clock: MovableClock) -> None:
    async with kazoo(clock, call(KAZOO_ID, audio=WAV, media_name="one two.wav")) as caller:
        url = f"{caller.sim.base_url}{KAZOO_LIST}/{KAZOO_ID}"

        async def get(header: str, **query: Any) -> Reply:
            return await caller.raw(url, headers={**caller.credentials, "Accept": header}, query=query)

        for accept in ("*/*", "application/json"):
            document = await get(accept)
            assert document.headers["Content-Type"] == "application/json"
            assert document.json["data"]["id"] == KAZOO_ID
            assert "_read_only" not in document.json["data"]
        for audio in (await get("audio/mpeg"), await get("audio/mp3"), await get("*/*", accept="audio/mpeg")):
            assert (audio.status, audio.body, audio.headers["Content-Type"]) == (200, WAV.data, "audio/x-wav")
            assert audio.headers["Content-Disposition"] == "attachment; filename=one two.wav"
        inline = await get("audio/mpeg", inline="true")
        assert inline.headers["Content-Disposition"].startswith("inline")
        assert (await get("audio/wav")).status == 406


async def test_kazoo_late_media_shows_as_no_content_types_and_404(clock: MovableClock) -> None:
    async with kazoo(clock, call(KAZOO_ID, available_at=NOW + timedelta(minutes=5))) as caller:
        path = f"{KAZOO_LIST}/{KAZOO_ID}"
        assert (await caller.ask(KAZOO_LIST)).json["data"][0]["_read_only"] == {"content_types": []}
        missing = await caller.ask(path, accept="audio/mpeg")
        assert (missing.status, missing.json["message"]) == (404, "bad_identifier")
        assert (await caller.ask(path)).status == 200
        clock.move(timedelta(minutes=5))
        assert (await caller.ask(KAZOO_LIST)).json["data"][0]["_read_only"] == {"content_types": ["audio/mpeg"]}
        assert (await caller.ask(path, accept="audio/mpeg")).body == MP3.data


async def test_kazoo_ranges(clock: MovableClock) -> None:
    async with kazoo(clock, call(KAZOO_ID)) as caller:
        url = f"{caller.sim.base_url}{KAZOO_LIST}/{KAZOO_ID}?accept=audio/mpeg"
        size = len(MP3.data)

        async def get(asked: str) -> Reply:
            return await caller.raw(url, headers={**caller.credentials, "Range": asked})

        part = await get("bytes=100-")
        assert (part.status, part.headers["Content-Range"]) == (206, f"bytes 100-{size - 1}/{size}")
        assert part.body == MP3.data[100:]
        assert (await get("bytes=0-")).status == 200
        assert (await get("bytes=1-2,4-5")).body == MP3.data
        assert (await get(f"bytes={size}-")).status == 416


async def test_kazoo_delete_is_soft_and_the_second_is_404(clock: MovableClock) -> None:
    async with kazoo(clock, call(KAZOO_ID)) as caller:
        path = f"{KAZOO_LIST}/{KAZOO_ID}"
        gone = await caller.ask(path, "DELETE")
        assert (gone.status, gone.json["data"]["_read_only"]) == (200, {"deleted": True})
        assert (await caller.ask(path, "DELETE")).status == 404
        assert (await caller.ask(path)).status == 404
        assert (await caller.ask(KAZOO_LIST)).json["data"] == []
        assert [each.deleted for each in caller.sim.truth()] == [True]


async def test_kazoo_users_recordings_are_those_with_that_owner(clock: MovableClock) -> None:
    rows = [call("202605-a", owner="u1"), call("202605-b")]
    async with kazoo(clock, *rows, users=["u2"]) as caller:
        users = f"/v2/accounts/{KAZOO_ACCOUNT}/users"
        assert [row["id"] for row in (await caller.ask(f"{users}/u1/recordings")).json["data"]] == ["202605-a"]
        assert (await caller.ask(f"{users}/u2/recordings")).json["data"] == []
        assert (await caller.ask(f"{users}/nobody/recordings")).status == 404


async def test_kazoo_id_without_its_month_is_404_and_so_is_one_of_the_wrong_month(clock: MovableClock) -> None:
    async with kazoo(clock, call("bf8a"), call("202604-c"), month_defect=True) as caller:
        assert len((await caller.ask(KAZOO_LIST)).json["data"]) == 2
        assert (await caller.ask(f"{KAZOO_LIST}/bf8a")).status == 404
        assert (await caller.ask(f"{KAZOO_LIST}/202604-c")).status == 404


async def test_kazoo_three_quick_logins_empty_the_bucket(clock: MovableClock) -> None:
    async with kazoo(clock, limited=True) as caller:
        body = {"data": {"api_key": "kazoo-api-key"}}
        statuses = [(await caller.ask("/v2/api_auth", "PUT", body=body)).status for _ in range(3)]
        assert statuses == [201, 201, 429]
        clock.move(timedelta(seconds=1))
        refilled = await caller.ask("/v2/api_auth", "PUT", body=body)
        assert refilled.status == 201
        assert refilled.json["tokens"]["remaining"] == 5


async def test_kazoo_envelope_and_generic_filters(clock: MovableClock) -> None:
    async with kazoo(clock, call("202605-a"), call("202605-b", direction="outbound")) as caller:
        page = (await caller.ask(KAZOO_LIST, filter_direction="outbound")).json
        keys = "data status request_id auth_token revision timestamp node version tokens page_size"
        assert set(page) == set(keys.split())
        assert [row["id"] for row in page["data"]] == ["202605-b"]
        other = (await caller.ask(KAZOO_LIST, filter_not_direction="outbound")).json
        assert [row["id"] for row in other["data"]] == ["202605-a"]
        assert (await caller.ask(KAZOO_LIST, has_key="owner_id")).json["data"] == []


# --- Vobiz ----------------------------------------------------------------------------------------------------


async def test_vobiz_lower_case_or_a_missing_slash_is_401(clock: MovableClock) -> None:
    async with vobiz(clock, call()) as caller:
        assert (await caller.ask(VOBIZ_LIST)).status == 200
        for path in (VOBIZ_LIST.rstrip("/"), VOBIZ_LIST.lower().replace("ma_1", "MA_1"), VOBIZ_LIST + "r1"):
            assert (await caller.ask(path)).status == 401
        assert (await caller.ask(VOBIZ_LIST, bare=True)).status == 401
        assert (await caller.ask(VOBIZ_LIST.replace("MA_1", "MA_2"))).status == 401


async def test_vobiz_pages_newest_first_and_next_lacks_the_api_prefix(clock: MovableClock) -> None:
    async with vobiz(clock, *many(45)) as caller:
        ids, offset = [], 0
        while True:
            page = (await caller.ask(VOBIZ_LIST, offset=offset)).json
            ids += [row["recording_id"] for row in page["objects"]]
            if page["meta"]["next"] is None:
                break
            assert page["meta"]["next"] == f"/v1/Account/MA_1/Recording/?limit=20&offset={offset + 20}"
            offset += 20
        assert ids == [f"r{index:03}" for index in range(45)]
        assert page["meta"]["total_count"] == 45
        assert page["meta"]["previous"] == "/v1/Account/MA_1/Recording/?limit=20&offset=20"
        assert (await caller.ask(VOBIZ_LIST, limit=101)).status == 400
        assert (await caller.ask(page["meta"]["previous"])).status == 404


async def test_vobiz_has_two_filters_and_none_for_time(clock: MovableClock) -> None:
    async with vobiz(clock, call("a", timedelta(days=400)), call("b", kind="trunk")) as caller:

        async def ids(**query: Any) -> list[str]:
            return [row["recording_id"] for row in (await caller.ask(VOBIZ_LIST, **query)).json["objects"]]

        assert await ids() == await ids(add_time__gte="2026-05-01 00:00") == ["b", "a"]
        assert await ids(recording_type="trunk") == ["b"]
        assert await ids(call_uuid="call-of-a") == ["a"]


async def test_vobiz_shapes(clock: MovableClock) -> None:
    keys = """add_time call_uuid conference_name from_number monthly_recording_storage_amount recording_duration_ms
        recording_end_ms recording_format recording_id recording_start_ms recording_storage_duration to_number
        recording_storage_rate recording_type recording_url resource_uri rounded_recording_duration"""
    trunk = call(kind="trunk", appears_at=NOW.replace(microsecond=792760))
    clock.move(timedelta(seconds=1))
    async with vobiz(clock, trunk) as caller:
        listing = (await caller.ask(VOBIZ_LIST)).json
        assert set(listing) == {"api_id", "meta", "objects"}
        assert set(listing["objects"][0]) == set(keys.split())
        assert listing["objects"][0]["add_time"] == "2026-05-20 17:30:00.79276+05:30"
        assert listing["objects"][0]["recording_end_ms"] is None
        assert (await caller.ask(VOBIZ_LIST + "r1/")).json == listing["objects"][0]
    async with vobiz(clock, call(), shape="brief", wrapped=True) as caller:
        listing = (await caller.ask(VOBIZ_LIST)).json
        brief = {"recording_id", "recording_url", "duration", "file_format"}
        assert (set(listing), set(listing["objects"][0])) == ({"objects"}, brief)
        assert (await caller.ask(VOBIZ_LIST + "r1/")).json["objects"][0]["recording_id"] == "r1"
    async with vobiz(clock, call(), shape="older", india=False) as caller:
        assert (await caller.ask(VOBIZ_LIST)).json["pagination"] == {"total": 1, "has_more": False}


async def test_vobiz_media_needs_the_headers_and_may_lead_to_storage(clock: MovableClock) -> None:
    async with vobiz(clock, call(), apart=True, redirects=True) as caller:
        link = (await caller.ask(VOBIZ_LIST)).json["objects"][0]["recording_url"]
        assert (await caller.raw(link)).status == 401
        hop = await caller.raw(link, headers=caller.credentials)
        assert hop.status == 302
        assert hop.headers["Location"].startswith(caller.sim.url("storage"))
        assert len({caller.sim.base_url, caller.sim.media_url, caller.sim.url("storage")}) == 3
        assert (await caller.raw(hop.headers["Location"])).body == MP3.data
        clock.move(timedelta(hours=1))
        assert (await caller.raw(hop.headers["Location"])).status == 403


async def test_vobiz_delete_is_204_then_404(clock: MovableClock) -> None:
    async with vobiz(clock, call()) as caller:
        link = (await caller.ask(VOBIZ_LIST)).json["objects"][0]["recording_url"]
        assert (await caller.ask(VOBIZ_LIST + "r1/", "DELETE")).status == 204
        again = await caller.ask(VOBIZ_LIST + "r1/", "DELETE")
        assert (again.status, again.json["error"]) == (404, "Recording not found")
        assert (await caller.raw(link, headers=caller.credentials)).status == 404


async def test_vobiz_one_id_with_two_audios_has_two_rows_and_two_links(clock: MovableClock) -> None:
    async with vobiz(clock, call(), call(audio=WAV)) as caller:
        rows = (await caller.ask(VOBIZ_LIST)).json["objects"]
        assert [row["recording_id"] for row in rows] == ["r1", "r1"]
        bodies = {(await caller.raw(row["recording_url"], headers=caller.credentials)).body for row in rows}
        assert bodies == {MP3.data, WAV.data}


# --- Plivo ----------------------------------------------------------------------------------------------------


async def test_plivo_wants_basic_auth_of_that_account(clock: MovableClock) -> None:
    async with plivo(clock) as caller:
        url = caller.sim.base_url + PLIVO_LIST
        assert (await caller.raw(url, headers=basic(MAIN, "wrong"))).status == 401
        assert (await caller.raw(url, headers=basic(SUB, SUB_SECRET))).status == 401
        assert (await caller.raw(url)).status == 401
        assert (await caller.ask(PLIVO_LIST)).status == 200


async def test_plivo_pages_hold_20_at_most(clock: MovableClock) -> None:
    async with plivo(clock, *many(45)) as caller:
        page = (await caller.ask(PLIVO_LIST, offset=20)).json
        assert len(page["objects"]) == 20
        assert page["meta"] == {
            "limit": 20,
            "next": f"{PLIVO_LIST}?limit=20&offset=40",
            "offset": 20,
            "previous": f"{PLIVO_LIST}?limit=20&offset=0",
            "total_count": 45,
        }
        for query in ({"limit": 21}, {"limit": 0}, {"offset": -1}, {"limit": "many"}):
            assert (await caller.ask(PLIVO_LIST, **query)).status == 400


async def test_plivo_looks_back_7_days_unless_told_and_30_at_most(clock: MovableClock) -> None:
    async with plivo(clock, call("new"), call("old", timedelta(days=8)), call("ancient", timedelta(days=60))) as caller:

        async def ids(**query: Any) -> list[str]:
            answer = (await caller.ask(PLIVO_LIST, **query)).json
            return [row["recording_id"] for row in answer["objects"]]

        assert await ids() == ["new"]
        assert await ids(call_uuid="call-of-old") == []
        assert await ids(add_time__gte="2026-04-20 12:00:00") == ["new", "old"]
        assert await ids(add_time__gte="2026-03-01 00:00", add_time__lt="2026-03-31 00:00") == ["ancient"]
        too_long = await caller.ask(PLIVO_LIST, add_time__gte="2026-04-20 11:59:59")
        assert too_long.status == 400
        assert set(too_long.json) == {"api_id", "error"}
        wide: dict[str, Any] = {"add_time__gt": "2026-03-01 00:00", "add_time__lte": "2026-03-31 00:00:00.000001"}
        assert (await caller.ask(PLIVO_LIST, **wide)).status == 400


async def test_plivo_bad_filter_is_400_even_when_there_is_nothing_to_filter(clock: MovableClock) -> None:
    async with plivo(clock) as caller:
        for text in ("2026-05-01T00:00", "2026-05-01", "2026-05-01 00:00+05:30", "2026-13-01 00:00"):
            assert (await caller.ask(PLIVO_LIST, add_time__gte=text)).status == 400
        mixed: dict[str, Any] = {"add_time__gte": "2026-05-19 00:00", "recording_storage_duration__gt": "1"}
        assert (await caller.ask(PLIVO_LIST, **mixed)).status == 400


async def test_plivo_time_filters_are_utc_though_add_time_is_not(clock: MovableClock) -> None:
    at = datetime(2026, 5, 19, 10, 45, 15, 852059, tzinfo=UTC)
    async with plivo(clock, call(appears_at=at)) as caller:

        async def found(**query: Any) -> list[str]:
            return [row["add_time"] for row in (await caller.ask(PLIVO_LIST, **query)).json["objects"]]

        text = "2026-05-19 10:45:15.852059"
        assert await found(add_time__gte=text) == ["2026-05-19 16:15:15.852059+05:30"]
        assert await found(add_time=text) == await found(add_time__lte=text) == await found(add_time__gte=text)
        assert await found(add_time__gt=text) == await found(add_time__lt=text) == []


async def test_plivo_filters_by_party_conference_and_storage(clock: MovableClock) -> None:
    meeting = call("meeting", conference_name="noname", conference_uuid="c-1", mpc_name="mpc", mpc_uuid="m-1")
    async with plivo(clock, meeting, call("old", timedelta(days=40), from_number="sip:bob@example.com")) as caller:

        async def ids(**query: Any) -> list[str]:
            return [row["recording_id"] for row in (await caller.ask(PLIVO_LIST, **query)).json["objects"]]

        for name, value in (("conference_name", "noname"), ("conference_uuid", "c-1"), ("mpc_name", "mpc")):
            assert (await ids(**{name: value}), await ids(**{name: "x"})) == (["meeting"], [])
        assert await ids(mpc_uuid="m-1") == await ids(call_uuid="call-of-meeting") == ["meeting"]
        assert await ids(from_number="+14155559876") == await ids(to_number="+14155551234") == ["meeting"]
        assert await ids(recording_storage_duration__gte=39) == ["old"]
        assert await ids(recording_storage_duration__lt=39) == await ids(recording_storage_duration=0) == ["meeting"]


async def test_plivo_subaccount_rows_and_media_belong_to_the_subaccount(clock: MovableClock) -> None:
    async with plivo(clock, call("own"), call("theirs", owner=SUB), media_auth=True) as caller:
        row = (await caller.ask(PLIVO_LIST, subaccount=SUB)).json["objects"][0]
        assert row["recording_id"] == "theirs"
        assert f"/Account/{SUB}/" in row["recording_url"]
        assert [each["recording_id"] for each in (await caller.ask(PLIVO_LIST)).json["objects"]] == ["own"]
        assert (await caller.raw(row["recording_url"], headers=caller.credentials)).status == 401
        assert (await caller.raw(row["recording_url"], headers=basic(SUB, SUB_SECRET))).body == MP3.data
        listing = caller.sim.base_url + PLIVO_LIST.replace(MAIN, SUB)
        mine = (await caller.raw(listing, headers=basic(SUB, SUB_SECRET))).json["objects"]
        assert [each["recording_id"] for each in mine] == ["theirs"]
        assert (await caller.ask(PLIVO_LIST, subaccount="SA0")).status == 400


async def test_plivo_media_is_public_by_default_and_original_is_another_audio(clock: MovableClock) -> None:
    async with plivo(clock, call("denoised", original=WAV), call("plain")) as caller:
        plain, denoised = sorted(
            (row["recording_url"] for row in (await caller.ask(PLIVO_LIST)).json["objects"]), reverse=True
        )
        assert (await caller.raw(denoised)).body == MP3.data
        assert (await caller.raw(denoised + "?type=original")).body == WAV.data
        assert (await caller.raw(plain + "?type=original")).status == 404


async def test_plivo_legacy_links_lead_to_storage_that_refuses_credentials(clock: MovableClock) -> None:
    async with plivo(clock, call(), legacy_urls=True, apart=True) as caller:
        link = (await caller.ask(PLIVO_LIST)).json["objects"][0]["recording_url"]
        assert urlsplit(link).path == "/recordings_2013/r1.mp3"
        assert (await caller.raw(link, headers=caller.credentials)).status == 400
        assert (await caller.raw(link)).body == MP3.data


async def test_plivo_example_keys(clock: MovableClock) -> None:
    row = "add_time call_uuid conference_name recording_duration_ms recording_format recording_id recording_type"
    listed = {*row.split(), "recording_url"}
    got = listed | {"api_id", "recording_end_ms", "recording_start_ms", "resource_uri"}
    cost = {"recording_storage_duration", "recording_storage_rate", "monthly_recording_storage_amount"}
    async with plivo(clock, call(), terse=True) as caller:
        listing = (await caller.ask(PLIVO_LIST)).json
        assert (set(listing), set(listing["objects"][0])) == ({"api_id", "meta", "objects"}, listed)
        assert set((await caller.ask(PLIVO_LIST + "r1/")).json) == got
    async with plivo(clock, call()) as caller:
        whole = got | cost | {"rounded_recording_duration", "from_number", "to_number"}
        assert set((await caller.ask(PLIVO_LIST + "r1/")).json) == whole
        row = (await caller.ask(PLIVO_LIST)).json["objects"][0]
        start, end, duration = (Decimal(row[f"recording_{which}_ms"]) for which in ("start", "end", "duration"))
        assert end - start == duration
        assert re.fullmatch(r"\d+\.\d{5}", row["recording_duration_ms"])


# --- the vendor's own client ----------------------------------------------------------------------------------


@pytest.fixture
def plivo_sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Simulator], RestClient]]:
    """plivo's SDK has its host as a constant, and asks the fallbacks when the first fails."""
    clients: list[RestClient] = []

    def client(sim: Simulator) -> RestClient:
        for name in ("API_VOICE_BASE_URI", "API_VOICE_BASE_URI_FALLBACK_1", "API_VOICE_BASE_URI_FALLBACK_2"):
            monkeypatch.setattr(plivo_client, name, f"{sim.base_url}/v1/Account")
        clients.append(RestClient(MAIN, SECRET))
        return clients[-1]

    yield client
    for each in clients:
        each.__exit__(None, None, None)


async def test_official_plivo_sdk_lists_filters_pages_gets_and_deletes(
    clock: MovableClock, plivo_sdk: Callable[[Simulator], RestClient]
) -> None:
    calls = [*many(25), call("theirs", owner=SUB), call("old", timedelta(days=20), from_number="+1999")]
    async with plivo(clock, *calls) as caller:
        recordings = plivo_sdk(caller.sim).recordings

        def work() -> None:
            page = recordings.list()
            assert [each.recording_id for each in page] == [f"r{index:03}" for index in range(20)]
            assert page.meta.total_count == 25
            rest = recordings.list(limit=20, offset=int(parse_qs(urlsplit(page.meta.next).query)["offset"][0]))
            assert [each.recording_id for each in rest] == [f"r{index:03}" for index in range(20, 25)]
            assert rest.meta.next is None
            since = NOW.replace(tzinfo=None) - timedelta(days=29)
            old = recordings.list(add_time__gte=since, from_number="+1999")
            assert [each.recording_id for each in old] == ["old"]
            assert [each.recording_id for each in recordings.list(subaccount=SUB)] == ["theirs"]
            assert [each.recording_id for each in recordings.list(call_uuid="call-of-r003")] == ["r003"]
            assert recordings.get("r004").call_uuid == "call-of-r004"
            recordings.delete("r004")
            with pytest.raises(exceptions.ResourceNotFoundError):
                recordings.get("r004")
            with pytest.raises(exceptions.ResourceNotFoundError):
                recordings.delete("r004")
            with pytest.raises(exceptions.ValidationError, match="30 days"):
                recordings.list(add_time__gte=since - timedelta(days=10))

        await asyncio.to_thread(work)
        walked = await asyncio.to_thread(lambda: [each.recording_id for each in recordings])
        assert sorted(walked) == [f"r{index:03}" for index in range(25) if index != 4]


async def test_official_plivo_sdk_with_a_wrong_token_is_refused(
    clock: MovableClock, plivo_sdk: Callable[[Simulator], RestClient]
) -> None:
    async with plivo(clock) as caller:
        sdk = plivo_sdk(caller.sim)
        sdk.session.auth = (MAIN, "wrong")
        with pytest.raises(exceptions.AuthenticationError):
            await asyncio.to_thread(sdk.recordings.list)


# --- media and faults, alike for all --------------------------------------------------------------------------


@asynccontextmanager
async def media(clock: MovableClock) -> AsyncIterator[tuple[Caller, str]]:
    async with plivo(clock, call()) as caller:
        yield caller, (await caller.ask(PLIVO_LIST)).json["objects"][0]["recording_url"]


async def test_media_ranges_and_validators(clock: MovableClock) -> None:
    async with media(clock) as (caller, link):
        whole = await caller.raw(link)
        tag = whole.headers["ETag"]
        assert (whole.headers["Content-Length"], whole.headers["Accept-Ranges"]) == (str(len(MP3.data)), "bytes")
        part = await caller.raw(link, headers={"Range": "bytes=10-19", "If-Range": tag})
        assert (part.status, part.body) == (206, MP3.data[10:20])
        assert (await caller.raw(link, headers={"Range": "bytes=-5"})).body == MP3.data[-5:]
        changed = await caller.raw(link, headers={"Range": "bytes=10-19", "If-Range": '"another"'})
        assert (changed.status, changed.body) == (200, MP3.data)
        head = await caller.raw(link, "HEAD")
        assert (head.headers["Content-Length"], head.body) == (str(len(MP3.data)), b"")
        caller.sim.account.replace("r1", audio=WAV)
        assert (await caller.raw(link)).headers["ETag"] != tag


@pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED])
async def test_cut_body_is_an_error_where_the_framing_tells(clock: MovableClock, framing: Framing) -> None:
    async with media(clock) as (caller, link):
        rule = caller.sim.fail(Route.MEDIA, Cut(at=1000, framing=framing))
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.raw(link)
        assert (await caller.raw(link)).body == MP3.data
        assert rule.hits == 1


async def test_cut_body_looks_whole_where_the_framing_does_not_tell(clock: MovableClock) -> None:
    async with media(clock) as (caller, link):
        caller.sim.fail(Route.MEDIA, Cut(at=1000, framing=Framing.CLOSE))
        cut = await caller.raw(link)
        assert (cut.status, cut.body) == (200, MP3.data[:1000])
        assert "Content-Length" not in cut.headers
        caller.sim.fail(Route.MEDIA, Frame(Framing.CLOSE))
        assert (await caller.raw(link)).body == MP3.data


async def test_reset_refuses_and_a_lost_answer_does_not(clock: MovableClock) -> None:
    async with plivo(clock, call()) as caller:
        for effect, deleted in ((Reset(), False), (AnswerLost(), True)):
            caller.sim.fail(Route.ITEM, effect, times=2)  # aiohttp asks twice
            with pytest.raises(aiohttp.ClientConnectionError):
                await caller.ask(PLIVO_LIST + "r1/", "DELETE")
            assert [each.deleted for each in caller.sim.truth()] == [deleted]
        assert [seen.status for seen in caller.sim.requests] == [0, 0, 0, 0]


async def test_wrong_length_shows_both_ways(clock: MovableClock) -> None:
    async with media(clock) as (caller, link):
        caller.sim.fail(Route.MEDIA, WrongLength(+5))
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.raw(link)
        caller.sim.fail(Route.MEDIA, WrongLength(-5))
        host = urlsplit(link)
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        writer.write(f"GET {host.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert f"Content-Length: {len(MP3.data) - 5}".encode() in head
        assert body == MP3.data


async def test_throttling_with_seconds_date_or_nothing(clock: MovableClock) -> None:
    async with plivo(clock) as caller:
        burst = {"X-Rate-Limit-Burst-Remaining": "0"}
        caller.sim.fail(Route.LIST, TooManyRequests(retry_after=3))
        caller.sim.fail(Route.LIST, TooManyRequests(retry_after=NOW + timedelta(minutes=1)))
        caller.sim.fail(Route.LIST, TooManyRequests(headers=burst))
        told = [await caller.ask(PLIVO_LIST) for _ in range(4)]
        assert [each.status for each in told] == [429, 429, 429, 200]
        waits = [each.headers.get("Retry-After") for each in told[:3]]
        assert waits == ["3", "Wed, 20 May 2026 12:01:00 GMT", None]
        assert told[2].headers["X-Rate-Limit-Burst-Remaining"] == "0"


async def test_answers_that_are_no_audio(clock: MovableClock) -> None:
    async with media(clock) as (caller, link):
        effects = [LoginPage(), ErrorBody("xml", claimed="audio/mpeg"), ErrorBody("json"), ExpiredLink()]
        for effect in [*effects, ServerError(502), Redirect("http://169.254.169.254/latest/")]:
            caller.sim.fail(Route.MEDIA, effect)
        got = [await caller.raw(link) for _ in range(6)]
        assert [each.status for each in got] == [200, 200, 200, 403, 502, 302]
        assert b"<html>" in got[0].body
        assert (got[1].headers["Content-Type"], got[1].body[:5]) == ("audio/mpeg", b"<?xml")
        assert got[5].headers["Location"] == "http://169.254.169.254/latest/"


async def test_unasked_encoding_and_ranges(clock: MovableClock) -> None:
    async with media(clock) as (caller, link):
        caller.sim.fail(Route.MEDIA, Gzip())
        zipped = await caller.raw(link, headers={"Accept-Encoding": "identity"})
        assert (zipped.headers["Content-Encoding"], zipped.body[:2]) == ("gzip", b"\x1f\x8b")
        caller.sim.fail(Route.MEDIA, RangeIgnored())
        ignored = await caller.raw(link, headers={"Range": "bytes=5-"})
        assert (ignored.status, ignored.body) == (200, MP3.data)
        caller.sim.fail(Route.MEDIA, UnaskedPart(7))
        part = await caller.raw(link)
        assert (part.status, part.body) == (206, MP3.data[7:])


async def test_slow_and_endless_bodies(clock: MovableClock) -> None:
    async with media(clock) as (caller, link):
        caller.sim.fail(Route.MEDIA, Drip(size=1, every=0.05))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.raw(link), 0.3)
        caller.sim.fail(Route.MEDIA, Endless(), times=2)
        async with caller.session.get(link) as endless:
            assert len(await endless.content.readexactly(3_000_000)) == 3_000_000
        caller.sim.fail(Route.MEDIA, Endless(declared=10**10))


async def test_rows_that_come_and_go_between_pages(clock: MovableClock) -> None:
    async with plivo(clock, *many(30)) as caller:
        new = call("new", timedelta(minutes=1))
        caller.sim.fail(Route.LIST, Meanwhile(lambda: caller.sim.account.add(new)))
        pages = [(await caller.ask(PLIVO_LIST, offset=offset)).json["objects"] for offset in (0, 20)]
        ids = [row["recording_id"] for page in pages for row in page]
        assert ids.count("r019") == 2
        caller.sim.fail(Route.LIST, Meanwhile(lambda: caller.sim.account.remove("r000")))
        pages = [(await caller.ask(PLIVO_LIST, offset=offset)).json["objects"] for offset in (0, 20)]
        assert "r019" not in [row["recording_id"] for page in pages for row in page]


async def test_listings_that_lie(clock: MovableClock) -> None:
    async with plivo(clock, *many(30)) as caller:
        caller.sim.fail(Route.LIST, EmptyList())
        empty = (await caller.ask(PLIVO_LIST)).json
        assert (empty["objects"], empty["meta"]["total_count"], empty["meta"]["next"]) == ([], 0, None)
        caller.sim.fail(Route.LIST, Rows(lambda rows: [None, {"recording_id": 7}, *rows]))
        assert (await caller.ask(PLIVO_LIST)).json["objects"][:2] == [None, {"recording_id": 7}]
        caller.sim.fail(Route.LIST, RepeatedPage(), times=None)
        same = [(await caller.ask(PLIVO_LIST, offset=offset)).body for offset in (0, 20, 40)]
        assert len(set(same)) == 1
        caller.sim.heal()
        assert (await caller.ask(PLIVO_LIST, offset=40)).json["objects"] == []


async def test_faults_strike_when_and_as_often_as_told(clock: MovableClock) -> None:
    async with plivo(clock, *many(30)) as caller:
        caller.sim.fail(Route.LIST, ServerError(), when=lambda ask: ask.query.get("offset") == "20")
        caller.sim.fail(Route.LIST, ServerError(500), after=2)
        statuses = [(await caller.ask(PLIVO_LIST, offset=offset)).status for offset in (0, 20, 20, 0)]
        assert statuses == [200, 503, 200, 500]
        seen = caller.sim.requests[1]
        assert (seen.route, seen.method, seen.query, seen.status) == (Route.LIST, "GET", {"offset": "20"}, 503)
        assert seen.headers["authorization"] == basic(MAIN, SECRET)["Authorization"]


@pytest.mark.parametrize("odd", ["../../etc/passwd", "a/b", "%2e%2e", "CON", "r\u00e9c \u202e", "?token=1#x"])
async def test_odd_ids_can_be_asked_for_when_quoted(clock: MovableClock, odd: str) -> None:
    quoted = quote(odd, safe="")
    async with justcall(clock, call(odd)) as caller:
        item = await caller.raw(
            URL(f"{caller.sim.base_url}/v2/calls/{quoted}", encoded=True), headers=caller.credentials
        )
        assert item.json["data"]["call_id"] == odd
        assert (await caller.raw(URL(item.json["data"]["recording_url"], encoded=True))).body == MP3.data
    async with plivo(clock, call(odd)) as caller:
        link = (await caller.ask(PLIVO_LIST)).json["objects"][0]["recording_url"]
        assert (await caller.raw(URL(link, encoded=True))).body == MP3.data


async def test_odd_rows_are_served_as_told(clock: MovableClock) -> None:
    odd = call(extra={"recording_duration_ms": 7880.5, "surprise": [1]}, without=frozenset({"call_uuid"}))
    async with plivo(clock, odd) as caller:
        row = (await caller.ask(PLIVO_LIST)).json["objects"][0]
        assert (row["recording_duration_ms"], row["surprise"], "call_uuid" in row) == (7880.5, [1], False)


# --- scenario and process -------------------------------------------------------------------------------------


def test_month_of_calls_is_the_same_for_the_same_seed() -> None:
    first, again, other = (month_of_calls("kazoo", seed=seed, count=20, audio=[MP3], until=NOW) for seed in (1, 1, 2))
    assert first == again != other
    assert all(NOW - timedelta(days=30) <= each.started_at <= each.ended_at <= NOW for each in first)
    assert all(each.id.startswith(f"{each.started_at:%Y%m}-") for each in first)


def test_reused_id_keeps_both_recordings() -> None:
    account = Account([call(), replace(call(), audio=WAV)])
    assert [each.file for each in account.recordings] == ["r1", "r1-2"]
    newest = account.find("r1", NOW)
    assert newest is not None
    assert newest.audio == WAV


async def test_a_person_can_run_all_of_them_and_another_process_can_order_faults() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "archiver.demo.simulators", "--port", "0", "--count", "3", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        assert set(told["simulators"]) == {"justcall", "justcall_v21", "kazoo", "vobiz", "plivo"}
        control, kazoo_sim = told["control"], told["simulators"]["kazoo"]
        url = f"{kazoo_sim['base_url']}/v2/accounts/{kazoo_sim['account_id']}/recordings"
        token = {"X-Auth-Token": kazoo_sim["auth_token"]}
        async with aiohttp.ClientSession() as session:

            async def send(method: str, path: str, order: Any = None) -> tuple[int, Any]:
                async with session.request(method, control + path, json=order) as answer:
                    return answer.status, await answer.json()

            async def listed() -> tuple[int, list[str]]:
                async with session.get(url, headers=token) as answer:
                    rows = await answer.json() if answer.status == 200 else {"data": []}
                    return answer.status, [row["id"] for row in rows["data"]]

            _, truth = await send("GET", "/kazoo/recordings")
            assert sorted((await listed())[1]) == sorted(each["id"] for each in truth)
            _, added = await send("POST", "/kazoo/recordings", {"count": 1, "seed": 9})
            assert added[0]["id"] in (await listed())[1]
            order = {"fault": "ServerError", "with": {"status": 500}, "route": "list"}
            assert (await send("POST", "/kazoo/faults", order))[0] == 200
            assert [(await listed())[0], (await listed())[0]] == [500, 200]
            assert (await send("POST", "/kazoo/faults", {"fault": "Nonsense"}))[0] == 400
            await send("POST", "/clock", {"forward_seconds": 40 * 86_400})
            assert (await listed())[1] == []
            _, requests = await send("GET", "/kazoo/requests")
            assert [each["status"] for each in requests] == [200, 200, 500, 200, 200]
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
