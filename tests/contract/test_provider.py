"""One suite for every adapter: what `archiver.providers.port.Provider` promises, at the simulator of its documents."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from archiver.demo.simulators import (
    AnswerLost,
    Body,
    EmptyList,
    ErrorBody,
    JsonChange,
    LoginPage,
    Meanwhile,
    Redirect,
    RepeatedPage,
    Reset,
    Route,
    Rows,
    ServerError,
    SimRecording,
    TooManyRequests,
)
from archiver.demo.simulators.answer import Answer, as_json
from archiver.demo.simulators.faults import Effect
from archiver.errors import (
    ArchiverError,
    CredentialsRefusedError,
    ListingError,
    NotAllowedError,
    NotUnderstoodError,
    RecordingGoneError,
    ThrottledError,
    UnavailableError,
)
from archiver.recording import Audio, Page, Window
from tests.contract.provider_cases import CASES, KEY, MONTH, NOW, SECRET, bench, sounds

DELETES = ("kazoo", "vobiz", "plivo")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    """Every adapter, unless a test names its own."""
    return str(request.param)


def recording(case: str, name: str, **changes: Any) -> SimRecording:
    """One recording of two hours ago; KAZOO's ids begin with the month."""
    started = changes.pop("started_at", NOW - timedelta(hours=2))
    sound = sounds()[0]
    full = f"{started:%Y%m}-{name}" if case == "kazoo" else name
    plain = SimRecording(full, started, sound.duration, sound, call_id=f"call-of-{name}")
    return replace(plain, **changes)


async def walked(pages: Any) -> tuple[list[Page], ArchiverError | None]:
    """What a walk gave before it ended or failed."""
    seen: list[Page] = []
    try:
        async for page in pages:
            seen.append(page)  # noqa: PERF401 - what was read before the failure is the point
    except ArchiverError as exc:
        return seen, exc
    return seen, None


def ids(pages: list[Page]) -> set[str]:
    return {listing.ref.recording_id for page in pages for listing in page.listings}


# --- enumeration --------------------------------------------------------------------------------------------------


async def test_a_window_lists_every_recording_once_to_its_last_page(case: str) -> None:
    async with bench(case, calls=245) as b:
        pages = await b.pages()
        listed = [listing.ref.recording_id for page in pages for listing in page.listings]
        assert Counter(listed) == Counter(b.name(each) for each in b.account.recordings)
        assert len(pages) > 1
        assert not any(page.rejects for page in pages)
        assert pages[-1].total == (None if case == "kazoo" else 245)


async def test_two_walks_of_an_unchanged_account_agree(case: str) -> None:
    async with bench(case, calls=130) as b:
        first, second = await b.pages(), await b.pages()
        assert [page.digest for page in first] == [page.digest for page in second]
        assert len({page.digest for page in first}) == len(first)


async def test_listed_values_are_the_truth(case: str) -> None:
    async with bench(case) as b:
        truth = {b.name(each): each for each in b.account.recordings}
        for listing in await b.listed():
            held = truth[listing.ref.recording_id]
            assert held.audio is not None
            assert listing.audio is Audio.PRESENT
            assert listing.started_at is not None
            assert abs(listing.started_at - held.started_at) <= timedelta(seconds=10)
            assert listing.ended_at is not None
            assert abs(listing.ended_at - held.ended_at) <= timedelta(seconds=5)
            assert listing.duration is not None
            assert abs(listing.duration - held.duration) <= timedelta(seconds=6)
            assert listing.flags == frozenset()
            numbers = {str(listing.metadata["from_number"]), str(listing.metadata.get("to_number", held.to_number))}
            assert {n.removeprefix("+") for n in numbers} <= {
                n.removeprefix("+") for n in (held.from_number, held.to_number)
            }
            json.dumps(dict(listing.metadata))


async def test_raw_rows_are_kept_whole_less_tokens_and_signed_urls(case: str) -> None:
    async with bench(case, recordings=[recording(case, "one", extra={"new_field": {"of": [1, "x"]}})]) as b:
        listing = await b.first()
        row = json.loads(listing.raw)
        assert row["new_field"] == {"of": [1, "x"]}
        for secret in (KEY, SECRET, "token=", "auth_token"):
            assert secret not in listing.raw.decode()
            assert secret not in repr(listing)


async def test_recordings_outside_the_window_are_not_walked_for_ever(case: str) -> None:
    async with bench(case, calls=245) as b:
        week = Window(NOW - timedelta(days=7), NOW)
        pages = await b.pages(week)
        inside = {b.name(each) for each in b.account.recordings if each.listed_at >= week.since}
        assert inside <= ids(pages)
        assert len(ids(pages)) < 245


async def test_an_empty_window_is_an_empty_walk(case: str) -> None:
    async with bench(case, recordings=[]) as b:
        assert await b.pages() == []


async def test_offset_pages_shift_while_walking_and_the_next_walk_has_everything(case: str) -> None:
    async with bench(case, calls=245) as b:
        new = recording(case, "slipped-in", started_at=NOW - timedelta(minutes=30))
        b.simulator.fail(Route.LIST, Meanwhile(lambda: b.account.add(new)))
        before = {b.name(each) for each in b.account.recordings}
        pages, error = await walked(b.provider.list(b.provider.scopes()[0], MONTH))
        assert error is None
        assert before <= ids(pages)
        assert ids(await b.pages()) == before | {b.name(new)}


IDS = ("id", "call_id", "recording_id")


async def test_an_unusable_row_does_not_lose_its_page(case: str) -> None:
    async with bench(case, calls=15) as b:
        nameless: dict[str, Any] = dict.fromkeys(IDS)

        def spoiled(rows: Any) -> Any:
            return [nameless, *rows, "text", {**rows[0], **dict.fromkeys(IDS, "\ud800")}]

        b.simulator.fail(Route.LIST, Rows(spoiled), times=None)
        (page,) = await b.pages()
        assert len(page.listings) == 15
        assert len(page.rejects) == 3


async def test_a_row_listed_twice_is_the_same_recording_and_revision(case: str) -> None:
    async with bench(case, calls=1) as b:
        b.simulator.fail(Route.LIST, Rows(lambda rows: [*rows, *rows]), times=None)
        first, again = await b.listed()
        assert (first.ref, first.revision) == (again.ref, again.revision)


@pytest.mark.parametrize("case", ["justcall", *DELETES])  # the v2.1 simulator makes its ids out of the content
async def test_same_recording_id_with_different_content_is_two_revisions(case: str) -> None:
    one = recording(case, "same")
    other = replace(one, audio=sounds()[1], duration=sounds()[1].duration + timedelta(seconds=3), kind="conference")
    async with bench(case, recordings=[one, other]) as b:
        first, second = await b.listed()
        assert first.ref == second.ref
        assert first.revision != second.revision


async def test_a_refreshed_listing_is_of_the_same_revision(case: str) -> None:
    terse = {"terse": True} if case in {"justcall", "plivo"} else {}
    async with bench(case, calls=3, simulator=terse) as b:
        for listing in await b.listed():
            fresh = await b.provider.refresh(listing.ref)
            assert (fresh.ref, fresh.revision) == (listing.ref, listing.revision)
            assert await b.body(fresh) == b.sound(listing.ref)


async def test_page_repeats_itself_keeps_what_was_read_and_fails_the_walk(case: str) -> None:
    async with bench(case, calls=245) as b:
        b.simulator.fail(Route.LIST, RepeatedPage(), times=None)
        pages, error = await walked(b.provider.list(b.provider.scopes()[0], MONTH))
        assert isinstance(error, ListingError)
        assert len(pages) == 1
        assert pages[0].listings


@dataclass
class OnAndOn(Effect):
    """The first page's rows for ever, under a new id and with a new way on each time."""

    pages: int = 0
    first: bytes = b""

    def alter(self, answer: Answer) -> Answer:
        self.first = self.first or answer.body
        self.pages += 1
        document: dict[str, Any] = json.loads(self.first)
        rows = "objects" if "objects" in document else "data"
        name = next(key for key in ("recording_id", "id", "call_id") if key in document[rows][0])
        document[rows] = [{**row, name: f"202611-{self.pages}"} for row in document[rows]]
        counts = {key: 10**6 for key in ("total_pages", "count", "total_count") if key in document}
        if "meta" in document:
            document["meta"] |= {"next": "/v1/more", "total_count": 10**6}
        return as_json(document | counts | {"next_start_key": f"k{self.pages}"})


async def test_pagination_without_end_stops_at_the_limit(case: str) -> None:
    async with bench(case, calls=1, max_pages=5) as b:
        effect = OnAndOn()
        b.simulator.fail(Route.LIST, effect, times=None)
        pages, error = await walked(b.provider.list(b.provider.scopes()[0], MONTH))
        assert isinstance(error, ListingError)
        assert [listing.ref.recording_id for page in pages for listing in page.listings] == [
            f"202611-{n}" for n in range(1, 6)
        ]
        assert effect.pages <= 6


# --- answers that are no listing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "effect",
    [
        LoginPage(),
        Body(b'{"status": "success"}'),
        Body(b'{"error": "please log in"}'),
        Body(b"[]"),
        Body(b""),
        Body(b'{"data": {"message": "x"}, "objects": null}'),
        Body(b"[" * 100_000),
        Redirect("https://login.example.test/"),
        ErrorBody("xml"),
        ServerError(400, b'{"message": "bad date"}', "application/json"),
        ServerError(404, b"", "text/plain"),
        ServerError(416, b"", "text/plain"),
    ],
    ids=lambda effect: type(effect).__name__,
)
async def test_html_or_json_login_page_with_200_is_no_empty_list(case: str, effect: Any) -> None:
    async with bench(case, calls=3) as b:
        b.simulator.fail(Route.LIST, effect, times=None)
        pages, error = await walked(b.provider.list(b.provider.scopes()[0], MONTH))
        if case == "justcall-v2.1" and isinstance(effect, ServerError) and effect.status in {400, 404}:
            assert len(b.simulator.seen(Route.LIST)) == 2  # page 0 refused: page 1 is asked for, and refused too
        assert isinstance(error, ListingError)
        assert pages == []


async def test_objects_empty_is_an_empty_list(case: str) -> None:
    async with bench(case, calls=3) as b:
        b.simulator.fail(Route.LIST, EmptyList(), times=None)
        assert await b.pages() == []


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (ServerError(401, b'{"error": "who?"}', "application/json"), CredentialsRefusedError),
        (ServerError(403, b'{"error": "who?"}', "application/json"), CredentialsRefusedError),
        (TooManyRequests(retry_after=3), ThrottledError),
        (TooManyRequests(retry_after=10**9), ThrottledError),
        (TooManyRequests(), ThrottledError),
        (ServerError(500), UnavailableError),
        (ServerError(502), UnavailableError),
        (ServerError(503), UnavailableError),
        (ServerError(504), UnavailableError),
        (Reset(), UnavailableError),
        (AnswerLost(), UnavailableError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_401_403_429_5xx_and_timeouts_name_what_the_caller_must_do(
    case: str, effect: Any, expected: type[ArchiverError]
) -> None:
    async with bench(case, calls=3) as b:
        ref = (await b.first()).ref
        for route in (Route.LIST, Route.ITEM):
            b.simulator.fail(route, effect, times=None)
        _, error = await walked(b.provider.list(b.provider.scopes()[0], MONTH))
        assert type(error) is expected
        with pytest.raises(expected):
            await b.provider.refresh(ref)
        assert SECRET not in str(error)
        if expected is ThrottledError:
            assert all(timedelta(0) < wait <= timedelta(hours=1) for wait in b.budget.pauses)
            assert b.budget.pauses


async def test_a_failed_page_ends_the_walk_after_what_was_read(case: str) -> None:
    async with bench(case, calls=245) as b:
        b.simulator.fail(Route.LIST, ServerError(503), after=1, times=None)
        pages, error = await walked(b.provider.list(b.provider.scopes()[0], MONTH))
        assert isinstance(error, UnavailableError)
        assert len(pages) == 1
        b.simulator.heal()
        assert len(ids(await b.pages())) == 245


# --- one recording ------------------------------------------------------------------------------------------------


async def test_the_audio_is_what_the_provider_holds(case: str) -> None:
    async with bench(case, calls=5) as b:
        for listing in await b.listed():
            assert await b.body(listing) == b.sound(listing.ref)


async def test_an_interrupted_download_goes_on_where_it_stopped(case: str) -> None:
    async with bench(case, calls=1) as b:
        listing = await b.first()
        whole = b.sound(listing.ref)
        async with b.provider.open(listing.ref, listing.link) as media:
            etag = media.etag
            assert (media.offset, media.length, media.framed) == (0, len(whole), True)
        async with b.provider.open(listing.ref, listing.link, offset=1000, etag=etag) as media:
            assert media.offset == 1000
            assert b"".join([chunk async for chunk in media.chunks()]) == whole[1000:]


async def test_recording_deleted_between_list_and_fetch_is_gone(case: str) -> None:
    async with bench(case, calls=3) as b:
        listing = await b.first()
        held = next(each for each in b.account.recordings if b.name(each) == listing.ref.recording_id)
        b.account.delete(held.id)
        with pytest.raises(RecordingGoneError):
            await b.provider.refresh(listing.ref)
        with pytest.raises(RecordingGoneError):
            await b.body(listing)


async def test_an_answer_about_another_recording_is_not_believed(case: str) -> None:
    async with bench(case, calls=2) as b:
        one, other = [listing.ref for listing in await b.listed()]
        answer = next(each for each in b.account.recordings if b.name(each) == other.recording_id)
        b.simulator.fail(Route.ITEM, JsonChange(lambda document: _renamed(document, b.name(answer))))
        with pytest.raises(NotUnderstoodError):
            await b.provider.refresh(one)


def _renamed(document: dict[str, Any], name: str) -> Any:
    row = document.get("data", document)
    for key in ("recording_id", "call_id", "id"):
        if key in row:
            row[key] = name
    return document


@pytest.mark.parametrize("name", ["../", "..%2f..", "%2e%2e", "a/b", "a?b#c", "CON", "ü\u202e", "x" * 2000])
async def test_odd_ids_stay_one_path_segment(case: str, name: str) -> None:
    async with bench(case, calls=1) as b:
        ref = replace((await b.first()).ref, recording_id=name)
        b.simulator.requests.clear()
        with pytest.raises(RecordingGoneError):
            await b.provider.refresh(ref)
        (asked,) = b.simulator.requests
        assert asked.route is Route.ITEM
        assert asked.path.count("/") == {"justcall": 3, "justcall-v2.1": 3, "kazoo": 5, "vobiz": 7, "plivo": 6}[case]


async def test_credentials_never_leave_for_another_origin(case: str) -> None:
    async with bench(case, calls=2) as b, bench("plivo", calls=0) as elsewhere:
        listing = await b.first()
        b.simulator.fail(Route.MEDIA, Redirect(f"{elsewhere.simulator.base_url}/stolen.mp3"), times=None)
        with pytest.raises(ArchiverError):
            await b.body(listing)
        assert elsewhere.simulator.requests == []


# --- deletion -----------------------------------------------------------------------------------------------------


async def test_delete_removes_one_and_again_is_success(case: str) -> None:
    async with bench(case, calls=3) as b:
        listing = await b.first()
        assert b.provider.facts.deletes is (case in DELETES)
        if case not in DELETES:
            with pytest.raises(NotAllowedError):
                await b.provider.delete(listing.ref)
            return
        await b.provider.delete(listing.ref)
        await b.provider.delete(listing.ref)
        assert [each.id for each in b.account.recordings if each.deleted] == [listing.ref.recording_id]


@pytest.mark.parametrize("case", DELETES)
async def test_delete_whose_answer_was_lost_is_success_when_repeated(case: str) -> None:
    async with bench(case, calls=3) as b:
        listing = await b.first()
        b.simulator.fail(Route.ITEM, AnswerLost(), times=None)
        with pytest.raises(UnavailableError):
            await b.provider.delete(listing.ref)
        b.simulator.heal()
        await b.provider.delete(listing.ref)
        assert sum(each.deleted for each in b.account.recordings) == 1


@pytest.mark.parametrize("case", DELETES)
async def test_a_refused_delete_removes_nothing(case: str) -> None:
    async with bench(case, calls=3) as b:
        listing = await b.first()
        for status, expected in ((401, CredentialsRefusedError), (403, NotAllowedError), (503, UnavailableError)):
            b.simulator.heal()
            b.simulator.fail(Route.ITEM, ServerError(status, b"{}", "application/json"), times=None)
            with pytest.raises(expected):
                await b.provider.delete(listing.ref)
        assert not any(each.deleted for each in b.account.recordings)


# --- declared facts -----------------------------------------------------------------------------------------------


async def test_the_longest_window_is_accepted(case: str) -> None:
    async with bench(case, calls=3) as b:
        span = min(b.provider.facts.max_window, timedelta(days=400))
        assert len(ids(await b.pages(Window(NOW - span, NOW)))) == 3


async def test_callback_url_is_never_sent(case: str) -> None:
    async with bench(case, calls=25) as b:
        listing = await b.first()
        await b.provider.refresh(listing.ref)
        assert all("callback_url" not in asked.query for asked in b.simulator.requests)
