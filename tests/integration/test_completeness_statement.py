"""The statement of a day, on both databases: signed, stated once, stated anew when a recording turns up late, checked offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, update

from archiver import errors
from archiver.clock import SystemChance
from archiver.completeness import issue, register, statement
from archiver.completeness.clocks import VOBIZ_TERMS, Held
from archiver.completeness.gap import profile
from archiver.completeness.holdings import backlog, clocks_of, forecast_of, held, quota_of, storage_cost_of
from archiver.completeness.issue import Issued
from archiver.completeness.observe import Watched, observe, utc_day
from archiver.custody import history
from archiver.custody.event import parse, verify
from archiver.custody.ledger import Ledger
from archiver.demo.simulators import MovableClock
from archiver.ingest import covered_spans, deadlines, listing_pages
from archiver.ingest.covered_spans import Walked
from archiver.ingest.tables import recording
from archiver.recording import Audio, Listing, RecordingRef, Window
from archiver.schedule.deadline import Deadline, ProviderRetention
from tests.log_oracle import signed_statements

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
YESTERDAY = (NOW - DAY).date()
SPAN = utc_day(YESTERDAY)


@dataclass
class Desk:
    """A journal with a day in it."""

    conn: Connection
    clock: MovableClock
    chance: SystemChance
    ledger: Ledger
    scope: str = "account"

    @property
    def watched(self) -> Watched:
        return Watched("p", profile("justcall"), (self.scope,), Window(NOW - 9 * DAY, NOW))

    def list(self, name: str, at: datetime, audio: Audio = Audio.PRESENT, minutes: int = 3) -> str:
        length = timedelta(minutes=minutes)
        listing = Listing(RecordingRef("p", name), "r", audio, at, at + length, length, b"{}", "d" * 64)
        due = lambda called: Deadline(called + 90 * DAY, called + 87 * DAY, "plan")  # noqa: E731
        noted = listing_pages.note_page(self.conn, self.ledger, self.chance, [listing], at + DAY / 2, due)
        return next(iter(noted.ids))

    def archive(self, *ids: str) -> None:
        values = {"state": "archived", "ready": False, "plaintext_bytes": 48_000, "archived_at": NOW}
        self.conn.execute(update(recording).where(recording.c.id.in_(ids)).values(**values))

    def cover(self, window: Window, rows: int = 2) -> None:
        walked = Walked(self.scope, window, 1, rows, None, "ab" * 32)
        covered_spans.cover(self.conn, self.chance, "p", walked, self.clock.now())

    def look(self) -> None:
        register.refresh(
            self.conn,
            self.ledger,
            self.chance,
            "p",
            observe(self.conn, self.watched, self.clock.now()),
            self.clock.now(),
        )

    def state(self) -> Issued | None:
        self.look()
        return issue.issue(self.conn, self.ledger, self.watched, YESTERDAY, self.clock.now())


def value(stated: Issued | None) -> dict[str, Any]:
    assert stated is not None
    document: dict[str, Any] = json.loads(stated.document)
    return document


@pytest.fixture
def desk(database: Engine) -> Iterator[Desk]:
    clock, chance = MovableClock(NOW), SystemChance()
    with database.begin() as conn:
        yield Desk(conn, clock, chance, Ledger.open(clock, chance))


def test_day_that_is_all_there_is_stated_complete_once(desk: Desk) -> None:
    desk.archive(desk.list("a", SPAN.since + DAY / 4), desk.list("b", SPAN.since + DAY / 3))
    desk.list("missed", SPAN.since + DAY / 2, Audio.NONE)
    desk.list("today", NOW - DAY / 8)
    desk.cover(Window(NOW - 9 * DAY, NOW))
    stated = value(first := desk.state())
    assert stated["complete"] is True
    assert (stated["listed"], stated["states"], stated["without_audio"]) == (3, {"archived": 2, "absent": 1}, 1)
    assert (stated["archived_bytes"], stated["archived_ms"]) == (96_000, 360_000)
    assert [each["sha256"] for each in stated["listings"]] == ["ab" * 32]
    assert desk.state() is None
    assert first is not None
    assert issue.stale(desk.conn, desk.watched, [YESTERDAY]) == []


def test_statement_verifies_from_its_bytes_and_the_signed_entry_alone(desk: Desk) -> None:
    desk.cover(Window(NOW - 9 * DAY, NOW))
    assert desk.state() is not None
    (kept,) = issue.statements(desk.conn, "p", YESTERDAY, NOW.date())
    event = verify(signed_statements(desk.conn, [kept])[kept.seq])
    assert statement.check(kept.document, event.data)["day"] == YESTERDAY.isoformat()
    assert issue.statements(desk.conn, "other", YESTERDAY, NOW.date()) == []
    for forged in (kept.document.replace(b'"listed":0', b'"listed":1'), kept.document[:-1], b"{}"):
        with pytest.raises(errors.VerificationError):
            statement.check(forged, event.data)
    with pytest.raises(errors.VerificationError):
        statement.check(kept.document, {**event.data, "complete": not event.data["complete"]})


def test_late_recording_makes_a_second_revision(desk: Desk) -> None:
    desk.archive(desk.list("a", SPAN.since + DAY / 4))
    desk.cover(Window(NOW - 9 * DAY, NOW))
    assert value(desk.state())["revision"] == 1
    late = desk.list("late", SPAN.since + DAY / 3)
    pending = value(desk.state())
    assert (pending["revision"], pending["complete"], pending["states"]) == (2, False, {"archived": 1, "listed": 1})
    desk.archive(late)
    assert value(desk.state()) | {"revision": 3, "complete": True} == value(
        issue.statements(desk.conn, "p", YESTERDAY, NOW.date())[0]
    )


def test_day_that_nobody_listed_is_not_called_quiet(desk: Desk) -> None:
    desk.cover(Window(NOW - 9 * DAY, SPAN.since + DAY / 4))
    desk.cover(Window(SPAN.until, NOW))
    stated = value(desk.state())
    assert stated["complete"] is False
    assert stated["holes"] == [{"scope": "account", "since": "2026-11-20T06:00:00Z", "until": "2026-11-21T00:00:00Z"}]
    assert [each["code"] for each in stated["gaps"]] == ["never_listed"]


def test_gap_with_its_reason_stands_in_the_statement_until_it_is_acknowledged(desk: Desk) -> None:
    lost = desk.list("lost", SPAN.since + DAY / 4)
    desk.conn.execute(update(recording).where(recording.c.id == lost).values(state="gone", denials=3, ready=False))
    desk.cover(Window(NOW - 9 * DAY, NOW))
    stated = value(desk.state())
    assert (stated["complete"], [each["code"] for each in stated["gaps"]]) == (False, ["gone_at_provider"])
    register.acknowledge(desk.conn, desk.ledger, f"rec:{lost}", "me", "deleted on request", NOW)
    stated = value(desk.state())
    assert (stated["complete"], stated["gaps"][0]["acknowledged"]) == (True, True)
    (kept,) = issue.statements(desk.conn, "p", YESTERDAY, NOW.date())
    assert parse(signed_statements(desk.conn, [kept])[kept.seq]).data["gaps"] == {"gone_at_provider": 1}


def test_thousands_of_gaps_fit_behind_one_event(desk: Desk) -> None:
    desk.cover(Window(NOW - 9 * DAY, NOW))
    for n in range(400):
        desk.list(f"call-{n}", SPAN.since + DAY / 4 + timedelta(seconds=n))
    desk.conn.execute(update(recording).values(state="gone", denials=3, ready=False))
    stated = desk.state()
    assert len(value(stated)["gaps"]) == 400
    assert stated is not None
    assert len(stated.document) > 16 * 1024
    assert len(signed_statements(desk.conn, [stated])[stated.seq]) < 2048


# --- clocks that are wrong --------------------------------------------------------------------------------------------

TEN_YEARS = 3653 * DAY


def stated_as_the_watch_does(desk: Desk) -> list[Issued]:
    """A poll that covers everything by our clock, a look, and every statement that is due."""
    now = desk.clock.now()
    covered_spans.recount(desk.conn, "p", desk.scope, now + DAY)
    desk.cover(Window(NOW - 9 * DAY, now))
    it = replace(desk.watched, whole=Window(NOW - 9 * DAY, now))
    register.refresh(desk.conn, desk.ledger, desk.chance, "p", observe(desk.conn, it, now), now)
    done = [
        issue.issue(desk.conn, desk.ledger, it, day, now)
        for day in issue.stale(desk.conn, it, issue.due(desk.conn, it, now))
    ]
    return [each for each in done if each is not None]


def test_statements_by_a_clock_ten_years_ahead_are_taken_back_one_by_one_when_it_is_right_again(desk: Desk) -> None:
    desk.archive(desk.list("a", SPAN.since + DAY / 2))
    assert {value(each)["complete"] for each in stated_as_the_watch_does(desk)} == {True}
    desk.clock.move(TEN_YEARS)
    ahead = stated_as_the_watch_does(desk)
    assert {each.day.year for each in ahead} == {2036}
    assert {value(each)["complete"] for each in ahead} == {True}, "it cannot know better"

    desk.clock.move(DAY - TEN_YEARS)
    after = stated_as_the_watch_does(desk)
    taken_back = {each.day: each for each in after if each.day.year == 2036}
    assert taken_back.keys() == {each.day for each in ahead}
    for each in taken_back.values():
        assert (each.revision, value(each)["complete"]) == (2, False)
        assert value(each)["holes"], "nobody has looked at a day that has not come"
        verify(signed_statements(desk.conn, [each])[each.seq])
    first = {each.seq for each in ahead}
    assert len(signed_statements(desk.conn, ahead)) == len(first), "what was said stays said"
    assert stated_as_the_watch_does(desk) == [], "once"


def test_days_after_a_clock_ran_ahead_are_not_complete_until_a_person_has_explained_it(desk: Desk) -> None:
    stated_as_the_watch_does(desk)
    desk.clock.move(TEN_YEARS)
    stated_as_the_watch_does(desk)
    desk.clock.move(DAY - TEN_YEARS)
    stated_as_the_watch_does(desk)
    (jumped,) = [each for each in register.open_gaps(desk.conn, "p") if each["code"] == "clock_jumped"]
    desk.clock.move(2 * DAY)
    tomorrow = {each.day: each for each in stated_as_the_watch_does(desk)}[(NOW + 2 * DAY).date()]
    assert not value(tomorrow)["complete"]
    assert [each["code"] for each in value(tomorrow)["gaps"]] == ["clock_jumped"]
    register.acknowledge(desk.conn, desk.ledger, str(jumped["id"]), "me", "the battery was dead", desk.clock.now())
    again = {each.day: each for each in stated_as_the_watch_does(desk)}[(NOW + 2 * DAY).date()]
    assert value(again)["complete"]
    assert value(again)["gaps"][0]["acknowledged"]


def test_gap_opened_by_a_clock_ahead_closes_by_the_right_one_and_both_are_said(desk: Desk) -> None:
    lost = desk.list("late", SPAN.since + DAY / 2, Audio.NOT_YET)
    desk.clock.move(TEN_YEARS)
    desk.look()
    (row,) = register.of_subject(desk.conn, f"rec:{lost}")
    assert str(row["opened_at"]).startswith("2036")
    desk.clock.move(-TEN_YEARS)
    desk.archive(lost)
    desk.look()
    (row,) = register.of_subject(desk.conn, f"rec:{lost}")
    assert (str(row["opened_at"])[:4], str(row["closed_at"])[:4]) == ("2036", "2026")
    said = [parse(each.raw) for each in history.entries(desk.conn, f"rec:{lost}")]
    assert [each.data["status"] for each in said if each.type == "anomaly.gap"] == ["opened", "closed"]


# --- what an account holds ----------------------------------------------------------------------------------------


def test_holdings_are_weighed_where_they_can_be_and_estimated_elsewhere(desk: Desk) -> None:
    team = ProviderRetention("team", 90 * DAY, None, 5 * 10**9)
    desk.archive(desk.list("a", NOW - 10 * DAY))
    desk.list("b", NOW - 5 * DAY)
    desk.list("old", NOW - 91 * DAY)
    assert held(desk.conn, ["p"], team, NOW) == Held(48_000, 180.0, 48_000 + 180 * 16_000, 10.0)
    found = quota_of(desk.conn, ["p"], team, NOW)
    assert found is not None
    assert found.full_at is None
    assert quota_of(desk.conn, ["p"], replace(team, quota_bytes=None), NOW) is None
    cost = storage_cost_of(desk.conn, "p", "plivo", NOW)
    assert cost is not None
    assert cost.per_month == 3 * 400
    assert storage_cost_of(desk.conn, "p", "vobiz", NOW) is None


def test_quota_of_an_account_counts_what_every_entry_of_it_lists_and_each_recording_once(desk: Desk) -> None:
    """JustCall's gigabytes are the account's: calls and dialer, or one entry for each filter."""
    team = ProviderRetention("team", 90 * DAY, None, 10_000_000)
    desk.list("a", NOW - 10 * DAY)
    desk.list("b", NOW - 5 * DAY)
    for other in ("dialer", "inbound"):
        for name in ("b", "c") if other == "inbound" else ("d",):
            listing = Listing(
                RecordingRef(other, name, "", "sales_dialer" if other == "dialer" else ""), "r", Audio.PRESENT, NOW - 5 * DAY,
                NOW - 5 * DAY, timedelta(minutes=3), b"{}", "d" * 64,
            )  # fmt: skip
            listing_pages.note_page(desk.conn, desk.ledger, desk.chance, [listing], NOW, lambda _: None)
    three_minutes = 180 * 16_000
    alone = quota_of(desk.conn, ["p"], team, NOW)
    shared = quota_of(desk.conn, ["p", "dialer", "inbound"], team, NOW)
    assert alone is not None
    assert shared is not None
    assert (alone.used, shared.used) == (2 * three_minutes, 4 * three_minutes)
    assert deadlines.bytes_per_day(desk.conn, ["p", "dialer"], NOW, 16_000) == 3 * three_minutes / 30
    assert alone.full_at is not None
    assert alone.full_at > NOW
    assert shared.full_at == NOW


def test_vobiz_storage_costs_what_its_rows_say(desk: Desk) -> None:
    """A price for each row: two rates are two sums, and a row without one is not reckoned."""
    rates = {"a": "0.005", "b": "0.005", "c": "0.02", "d": None, "e": "much"}
    for n, (name, rate) in enumerate(rates.items()):
        metadata = {"recording_storage_rate": rate} if rate is not None else {}
        at = NOW - 60 * DAY + timedelta(minutes=n)
        listing = Listing(
            RecordingRef("v", name), "r", Audio.PRESENT, at, at, timedelta(seconds=61), b"{}", "d" * 64, metadata
        )
        listing_pages.note_page(desk.conn, desk.ledger, desk.chance, [listing], NOW, lambda _: None)
    cost = storage_cost_of(desk.conn, "v", "vobiz", NOW)
    assert cost is not None
    assert (cost.per_month, cost.source, cost.currency) == (2 * (2 * 5_000 + 20_000), VOBIZ_TERMS, None)
    assert cost.so_far == pytest.approx(2 * cost.per_month, rel=0.05)


def test_three_clocks_of_a_recording_each_with_its_source(desk: Desk) -> None:
    team = ProviderRetention("JustCall plan team", 90 * DAY, None, 5 * 10**9)
    recording_id = desk.list("a", NOW - 10 * DAY)
    desk.list("long", NOW - 5 * DAY, minutes=6000)
    found = clocks_of(desk.conn, recording_id, team, profile("justcall"), NOW)
    ended, listed = NOW - 10 * DAY + timedelta(minutes=3), NOW - 10 * DAY + DAY / 2
    assert [(each.kind.value, each.source, each.fatal) for each in found] == [
        ("link", "the link that was listed last", False),
        ("quota", "JustCall plan team", True),
        ("retention", "JustCall plan team", True),
    ]
    assert (found[0].at, found[2].at) == (listed + DAY, ended + 90 * DAY)
    assert clocks_of(desk.conn, recording_id, ProviderRetention("none"), profile("kazoo"), NOW) == []
    assert clocks_of(desk.conn, "nobody", team, profile("justcall"), NOW) == []


def test_backlog_is_summed_by_the_hour_and_forecast(desk: Desk) -> None:
    for n in range(3):
        desk.list(f"c{n}", NOW - 80 * DAY + timedelta(minutes=n))
    desk.archive(desk.list("done", NOW - 80 * DAY))
    desk.list("silent", NOW - 80 * DAY, Audio.NOT_YET)
    (pending,) = backlog(desk.conn, "p")
    assert (pending.count, pending.size) == (3, 180 * 16_000)
    assert forecast_of(desk.conn, "p", NOW, 5.0).safe
    slow = forecast_of(desk.conn, "p", NOW, 1e-6)
    assert slow.first_loss == pending.deadline
    assert slow.lost > 0
    assert forecast_of(desk.conn, "p", NOW, 5.0, [Window(NOW, NOW + 11 * DAY)]).lost == 3
    assert desk.conn.execute(select(recording.c.id)).all()
