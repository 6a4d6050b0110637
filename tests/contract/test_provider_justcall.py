"""JustCall's traps: two dialects, dates that may be local, links that live a day, recordings that turn up later."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.demo.simulators import (
    ExpiredLink,
    JsonChange,
    JustCallV21Simulator,
    MovableClock,
    RepeatedPage,
    Route,
    ServerError,
)
from archiver.demo.simulators.answer import Answer, Ask
from archiver.errors import ConfigurationError, CredentialsRefusedError, LinkRefusedError, ListingError
from archiver.providers.justcall import JustCall, JustCallSettings
from archiver.recording import Audio, Secret, Window
from tests.contract import provider_cases
from tests.contract.provider_cases import KEY, MONTH, NOW, SECRET, bench, sounds
from tests.contract.test_provider import ids, recording, walked

HOUR = Window(NOW - timedelta(hours=3), NOW - timedelta(hours=2))


async def test_dates_overlap_by_a_day_at_both_ends() -> None:
    async with bench("justcall") as b:
        await b.pages(Window(datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 3, 11, 6, tzinfo=UTC)))
        (asked,) = b.simulator.seen(Route.LIST)
        assert asked.query == {
            "start_date": "2026-03-09", "end_date": "2026-03-12", "page": "1", "per_page": "100",
        }  # fmt: skip
        assert asked.headers["authorization"] == f"{KEY}:{SECRET}"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Niue", "America/New_York"])
@pytest.mark.parametrize("first_page", [0, 1])
async def test_filter_times_in_the_accounts_own_zone_hide_nothing(zone: str, first_page: int) -> None:
    inside = recording("justcall", "inside", started_at=HOUR.since + timedelta(minutes=30))
    options = {"timezone": zone, "first_page": first_page}
    async with bench("justcall-v2.1", recordings=[inside], simulator=options) as b:
        assert ids(await b.pages(HOUR)) == {b.name(inside)}


@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1"])
async def test_refused_media_on_another_port_never_gets_the_key(case: str) -> None:
    """A signed link needs no credentials; its host gets none, although the operator lists it and it is the API's own host."""
    async with bench(case, calls=1) as b:
        hosts = tuple(b.simulator.url(origin).partition("://")[2] for origin in b.simulator.origins)
        listing = await b.first()
        assert isinstance(b.provider, JustCall)
        settings = JustCallSettings(
            Secret(KEY),
            Secret(SECRET),
            base_url="http://127.0.0.1:9",
            media_hosts=("127.0.0.1", *hosts),
            allow_http=True,
        )
        b.simulator.fail(Route.MEDIA, ExpiredLink(), times=None)
        provider = JustCall("case", settings, b.provider._client, MovableClock(NOW))
        with pytest.raises(LinkRefusedError):
            async with provider.open(listing.ref, listing.link):
                raise AssertionError("a link that is refused")
        assert all("authorization" not in asked.headers for asked in b.simulator.seen(Route.MEDIA))
        assert b.simulator.seen(Route.MEDIA)


async def test_pages_that_count_from_one_lose_no_rows() -> None:
    async with bench("justcall-v2.1", calls=245, simulator={"first_page": 1}) as b:
        assert ids(await b.pages()) == {b.name(each) for each in b.account.recordings}


class TakesZeroForOne(JustCallV21Simulator):
    """Counts from 1 and answers page 0 with page 1."""

    def answer(self, ask: Ask) -> Answer:
        page = max(int(ask.query.get("page", "1")), 1)
        return super().answer(replace(ask, query={**ask.query, "page": str(page)}))


@pytest.mark.parametrize("calls", [1, 99, 100, 101, 245])
async def test_page_zero_that_equals_page_one_is_read_once(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_cases, "JustCallV21Simulator", TakesZeroForOne)
    async with bench("justcall-v2.1", calls=calls, simulator={"first_page": 1}) as b:
        listed = [listing.ref.recording_id for listing in await b.listed()]
        assert sorted(listed) == sorted(b.name(each) for each in b.account.recordings)


@pytest.mark.parametrize("calls", [0, 1, 100, 200, 245])
@pytest.mark.parametrize(
    "change",
    [
        lambda d: {k: v for k, v in d.items() if k not in ("total_pages", "count", "total_count", "next_page_link")},
        lambda d: d | {"total_pages": 1},
        lambda d: d | {"count": len(d["data"])},
        lambda d: {**d, "count": len(d["data"]), "total_count": len(d["data"]), "total_pages": 1},
        lambda d: d | {"total_pages": "many", "count": None, "total_count": -1},
    ],
    ids=["none", "one page", "count of this page", "both of this page", "nonsense"],
)
@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1"])
async def test_totals_are_hints_and_the_walk_ends_on_raw_rows(case: str, calls: int, change: Any) -> None:
    async with bench(case, calls=calls) as b:
        b.simulator.fail(Route.LIST, JsonChange(change), times=None)
        assert ids(await b.pages()) == {b.name(each) for each in b.account.recordings}


@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1"])
async def test_a_server_that_caps_per_page_and_says_nothing_loses_no_rows(case: str) -> None:
    first = 1 if case == "justcall" else 0
    async with bench(case, calls=60) as b:
        everything: list[Any] = []

        def capped(document: dict[str, Any]) -> Any:
            everything.extend(document["data"] if not everything else ())
            start = 20 * (int(b.simulator.requests[-1].query["page"]) + 1 - first) if b.simulator.requests else 0
            return {"status": "success", "data": everything[start : start + 20]}

        b.simulator.fail(Route.LIST, JsonChange(capped), times=None)
        assert ids(await b.pages()) == {b.name(each) for each in b.account.recordings}


async def test_a_page_past_the_stated_end_may_be_refused_or_repeat_the_last() -> None:
    for effect, after in ((ServerError(404, b"{}", "application/json"), 1), (RepeatedPage(), 0)):
        async with bench("justcall", calls=100) as b:
            b.simulator.fail(Route.LIST, effect, after=after, times=None)
            assert len(ids(await b.pages())) == 100
            assert len(b.simulator.seen(Route.LIST)) == 2


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"direction": "inbound"}, lambda call: call.direction == "inbound"),
        ({"direction": "all"}, lambda call: True),
        ({"agent_id": "41"}, lambda call: call.agent_id == 41),
        ({"status": "voicemail"}, lambda call: call.status == "voicemail"),
        ({"number": "+14155551003"}, lambda call: "+14155551003" in (call.from_number, call.to_number)),
    ],
)
@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1"])
async def test_documented_filters(case: str, filters: dict[str, str], expected: Any) -> None:
    if case == "justcall-v2.1" and "status" in filters:
        filters = {"call_type": "INCOMING_VOICEMAIL"}
    async with bench(case, settings={"filters": filters}) as b:
        assert ids(await b.pages()) == {b.name(each) for each in b.account.recordings if expected(each)}


async def test_unknown_filters_are_refused_by_name() -> None:
    settings = JustCallSettings(Secret(KEY), Secret(SECRET), filters={"colour": "red", "agent_id": "1"})
    with pytest.raises(ConfigurationError, match="justcall v2: unknown filter colour"):
        JustCall("j", settings, None, MovableClock(NOW))  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1"])
async def test_an_expired_link_is_refused_and_a_fresh_one_opens(case: str) -> None:
    async with bench(case, calls=1) as b:
        listing = await b.first()
        assert listing.link is not None
        assert not listing.link.half_spent(NOW + timedelta(hours=11))
        assert listing.link.half_spent(NOW + timedelta(hours=13))
        b.clock.move(timedelta(hours=25))
        if case == "justcall":  # the vendor's links lead to a redirector, which does not expire
            with pytest.raises(LinkRefusedError):
                await b.body(listing)
        assert await b.body(await b.provider.refresh(listing.ref)) == b.sound(listing.ref)


@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1"])
async def test_a_null_recording_that_appears_later_is_the_same_revision(case: str) -> None:
    late = recording("justcall", "late", available_at=NOW + timedelta(hours=5))
    async with bench(case, recordings=[late]) as b:
        before = await b.first()
        assert (before.audio, before.link) == (Audio.NOT_YET, None)
        with pytest.raises(LinkRefusedError):
            await b.body(before)
        b.clock.move(timedelta(hours=6))
        after = await b.first()
        assert (after.audio, after.ref, after.revision) == (Audio.PRESENT, before.ref, before.revision)
        assert await b.body(after) == sounds()[0].data


@pytest.mark.parametrize("case", ["justcall", "justcall-v2.1"])
async def test_signed_links_on_their_own_host_get_no_credentials(case: str) -> None:
    async with bench(case, calls=1, simulator={"apart": True}) as b:
        listing = await b.first()
        assert await b.body(listing) == b.sound(listing.ref)
        assert all("authorization" not in asked.headers for asked in b.simulator.seen(Route.MEDIA))


async def test_media_that_needs_the_credentials_is_asked_again_with_them() -> None:
    async with bench("justcall", calls=1) as b:
        listing = await b.first()
        b.simulator.fail(Route.MEDIA, ServerError(401), when=lambda ask: "authorization" not in ask.headers, times=None)
        assert await b.body(listing) == b.sound(listing.ref)
        assert ["authorization" in asked.headers for asked in b.simulator.seen(Route.MEDIA)] == [False, True]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"status":"error","message":"per_page must be at most 100","error":"Bad Request"}', ListingError),
        (b'{"status":"error","message":"start_date has a wrong format"}', ListingError),
        (b'{"status":"error","message":"Invalid API key or secret."}', CredentialsRefusedError),
        (b'{"status":"error","message":"Forbidden"}', CredentialsRefusedError),
        (b"", CredentialsRefusedError),
    ],
)
async def test_403_that_speaks_of_parameters_is_no_credentials_fault(body: bytes, expected: type[Exception]) -> None:
    async with bench("justcall") as b:
        b.simulator.fail(Route.LIST, ServerError(403, body, "application/json"), times=None)
        pages, error = await walked(b.provider.list("calls", MONTH))
        assert type(error) is expected
        assert pages == []


async def test_the_child_recording_is_a_variant_with_its_own_audio() -> None:
    call = recording("justcall", "both", child=sounds()[1])
    async with bench("justcall-v2.1", recordings=[call], simulator={"apart": True}) as b:
        parent, child = await b.listed()
        assert (parent.ref.variant, child.ref.variant) == ("", "child")
        assert await b.body(parent) == sounds()[0].data
        assert await b.body(child) == sounds()[1].data
        assert await b.body(await b.provider.refresh(child.ref)) == sounds()[1].data


async def test_sales_dialer_calls_are_their_own_scope() -> None:
    calls = [recording("justcall", "plain"), recording("justcall", "dialled", sales_dialer=True)]
    async with bench("justcall-v2.1", recordings=calls, settings={"sales_dialer": True}) as b:
        assert b.provider.scopes() == ("calls", "sales_dialer")
        plain, dialled = await b.listed()
        assert (plain.ref.account, dialled.ref.account) == ("", "sales_dialer")
        assert await b.body(await b.provider.refresh(dialled.ref)) == sounds()[0].data
        b.simulator.fail(Route.LIST, ServerError(403, b"{}", "application/json"), times=None)
        _, error = await walked(b.provider.list("sales_dialer", MONTH))
        assert isinstance(error, ListingError)  # a plan without the dialer must not park the account


def test_sales_dialer_needs_the_vendors_dialect() -> None:
    settings = JustCallSettings(Secret(KEY), Secret(SECRET), sales_dialer=True)
    with pytest.raises(ConfigurationError, match="sales_dialer"):
        JustCall("j", settings, None, MovableClock(NOW))  # type: ignore[arg-type]


@pytest.mark.parametrize(("plan", "days"), [("team", 731), ("pro", 731), ("business", 731)])
def test_whatever_the_plan_is_now_the_longest_one_is_looked_through(plan: Any, days: int) -> None:
    settings = JustCallSettings(Secret(KEY), Secret(SECRET), plan=plan)
    facts = JustCall("j", settings, None, MovableClock(NOW)).facts  # type: ignore[arg-type]
    assert NOW - facts.earliest == timedelta(days=days)
