"""Who is told what and when: the life of an alert from its first moment to its last word."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.alerts import route
from archiver.alerts.message import Message, compose
from archiver.alerts.route import LONGEST_RETRY, RETRY, SETTLE, Entry, Key, Route, Status
from archiver.alerts.rule import Alert, Kind, Severity

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LOST = Alert(Kind.RECORDING_LOST, "acme", "acme: lost", 1)
STALLED = Alert(Kind.POLL_STALLED, "acme", "acme: stalled")
ROUTES = (
    Route(frozenset({Kind.RECORDING_LOST}), ("pager", "mail"), HOUR),
    Route(frozenset({Kind.POLL_STALLED}), ("mail",), 12 * HOUR),
)


class Book:
    """The entries, with a channel that is up or down, and what it heard."""

    def __init__(self, routes: tuple[Route, ...] = ROUTES, channels: tuple[str, ...] = ("pager", "mail")) -> None:
        self.entries: dict[Key, Entry] = {}
        self.routes, self.channels = routes, channels
        self.heard: list[tuple[datetime, str, str, Key]] = []
        self.down: set[str] = set()
        self.dropped: list[Key] = []

    def tick(self, now: datetime, *firing: Alert, elsewhere: frozenset[str] = frozenset()) -> None:
        todo = route.changes(self.entries, firing, self.routes, self.channels, now, elsewhere)
        for entry in (*todo.new, *todo.changed):
            self.entries[entry.key] = entry
        for key in todo.dropped:
            del self.entries[key]
            self.dropped.append(key)
        for key, entry in list(self.entries.items()):
            if entry.due_at > now:
                continue
            if entry.channel in self.down:
                self.entries[key] = route.after_refused(entry, None, now)
                continue
            self.heard.append((now, entry.channel, entry.status, key))
            repeat = route.repeat_of(entry.alert.kind, entry.channel, self.routes) or timedelta(0)
            after = route.after_told(entry, entry, repeat, now)
            del self.entries[key]
            if after is not None:
                self.entries[key] = after

    def said(self, channel: str) -> list[tuple[float, str]]:
        return [((at - NOW) / MINUTE, status) for at, to, status, _ in self.heard if to == channel]


def every_minute(book: Book, minutes: range, *firing: Alert) -> None:
    for minute in minutes:
        book.tick(NOW + minute * MINUTE, *firing)


def test_an_alert_is_told_at_once_on_each_channel_of_its_route_and_no_other() -> None:
    book = Book()
    book.tick(NOW, LOST, STALLED)
    assert sorted((channel, key[0].value) for _, channel, _, key in book.heard) == [
        ("mail", "poll.stalled"),
        ("mail", "recording.lost"),
        ("pager", "recording.lost"),
    ]


def test_it_is_repeated_at_its_interval_and_not_in_between() -> None:
    book = Book()
    every_minute(book, range(150), LOST)
    assert book.said("pager") == [(0, "firing"), (60, "firing"), (120, "firing")]


def test_its_end_is_told_once_when_it_has_settled() -> None:
    book = Book()
    every_minute(book, range(3), LOST)
    every_minute(book, range(3, 60))
    assert book.said("pager") == [(0, "firing"), (3 + SETTLE / MINUTE, "resolved")]
    assert book.entries == {}


def test_one_that_flickers_is_one_alert() -> None:
    book = Book()
    for minute in range(40):
        book.tick(NOW + minute * MINUTE, *([LOST] if minute % 3 else []))
    assert book.said("pager") == [(1, "firing")]


def test_one_that_grows_worse_is_told_at_once() -> None:
    book = Book()
    book.tick(NOW, LOST)
    every_minute(book, range(1, 5), replace(LOST, weight=2))
    assert book.said("pager") == [(0, "firing"), (1, "firing")]


def test_one_more_after_an_acknowledgement_is_told_at_once() -> None:
    book = Book()
    book.tick(NOW, replace(LOST, weight=3))
    book.tick(NOW + MINUTE, replace(LOST, weight=1))
    book.tick(NOW + 2 * MINUTE, replace(LOST, weight=2))
    assert book.said("pager") == [(0, "firing"), (2, "firing")]


def test_one_that_came_and_went_while_its_channel_was_down_is_still_told() -> None:
    book = Book()
    book.down = {"pager"}
    every_minute(book, range(3), LOST)
    every_minute(book, range(3, 30))
    book.down = set()
    every_minute(book, range(30, 60))
    assert [status for _, status in book.said("pager")] == ["resolved"]
    assert book.said("mail") == [(0, "firing"), (8, "resolved")]


def test_a_channel_that_is_down_is_tried_again_later_and_later_and_never_given_up() -> None:
    entry = Entry(LOST, "pager", NOW, NOW)
    waits = []
    for _ in range(12):
        after = route.after_refused(entry, None, NOW)
        waits.append(after.due_at - NOW)
        entry = after
    assert waits[:4] == [RETRY, 2 * RETRY, 4 * RETRY, 8 * RETRY]
    assert waits[-1] == LONGEST_RETRY
    assert entry.failures == 12


def test_a_pause_that_was_asked_for_is_kept_within_reason() -> None:
    entry = Entry(LOST, "pager", NOW, NOW)
    assert route.after_refused(entry, 10 * MINUTE, NOW).due_at == NOW + 10 * MINUTE
    assert route.after_refused(entry, timedelta(days=9), NOW).due_at == NOW + HOUR


def test_the_backoff_is_not_cut_short_by_growing_worse() -> None:
    book = Book()
    book.tick(NOW, LOST)
    book.down = {"pager", "mail"}
    book.tick(NOW + MINUTE, replace(LOST, weight=2))
    waiting = book.entries[Kind.RECORDING_LOST, "acme", "pager"].due_at
    book.tick(NOW + MINUTE + timedelta(seconds=1), replace(LOST, weight=3))
    assert book.entries[Kind.RECORDING_LOST, "acme", "pager"].due_at == waiting


def test_one_that_returns_while_its_end_is_being_told_is_told_anew() -> None:
    over = Entry(LOST, "pager", NOW - HOUR, NOW, cleared_at=NOW - 5 * MINUTE, told_at=NOW - HOUR, told_weight=1)
    back = replace(over, cleared_at=None)
    assert route.after_told(replace(back, failures=3), over, HOUR, NOW) == Entry(LOST, "pager", NOW, NOW)


def test_what_was_told_is_remembered_with_its_weight_and_due_again_after_its_interval() -> None:
    worse = Entry(replace(LOST, weight=7), "pager", NOW - HOUR, NOW, failures=4)
    fired = replace(worse, alert=LOST)
    assert route.after_told(worse, fired, 2 * HOUR, NOW) == replace(
        worse, told_at=NOW, told_weight=1, due_at=NOW + 2 * HOUR, failures=0
    )


def test_the_most_frequent_of_the_routes_that_name_kind_and_channel_rules() -> None:
    kinds = frozenset({Kind.RECORDING_LOST})
    routes = (Route(kinds, ("a",), 3 * HOUR), Route(kinds, ("a", "b"), 2 * HOUR), Route(kinds, ("b",), HOUR))
    assert [route.repeat_of(Kind.RECORDING_LOST, each, routes) for each in "abc"] == [2 * HOUR, HOUR, None]
    assert route.repeat_of(Kind.POLL_STALLED, "a", routes) is None
    assert Kind.RECORDING_LOST in route.unrouted((Route(kinds, (), HOUR),)), "a route to nobody"


def test_one_that_ends_while_it_is_being_told_has_its_end_told_too() -> None:
    fired = Entry(LOST, "pager", NOW, NOW)
    after = route.after_told(replace(fired, cleared_at=NOW), fired, HOUR, NOW)
    assert after is not None
    assert (after.status, after.due_at) == (Status.RESOLVED, NOW + SETTLE)


def test_a_channel_taken_out_of_the_configuration_is_dropped_and_that_is_not_the_end_of_the_alert() -> None:
    book = Book()
    book.tick(NOW, LOST)
    book.channels = ("mail",)
    book.tick(NOW + 30 * MINUTE, LOST)
    assert book.dropped == [(Kind.RECORDING_LOST, "acme", "pager")]
    assert [status for _, status in book.said("pager")] == ["firing"]


def test_another_living_host_speaks_for_itself_and_a_dead_one_is_spoken_for() -> None:
    full = Alert(Kind.SPOOL_FILLING, "h2", "h2: the spool is 90 % full")
    book = Book(route.default_routes(["pager"]), ("pager",))
    book.tick(NOW, full)
    for minute in range(1, 20):
        book.tick(NOW + minute * MINUTE, elsewhere=frozenset({"h2"}))
    assert book.said("pager") == [(0, "firing")]
    for minute in range(20, 40):
        book.tick(NOW + minute * MINUTE)
    assert book.said("pager") == [(0, "firing"), (25, "resolved")]


def test_news_is_told_once() -> None:
    routes = (Route(frozenset({Kind.REPORT_MONTHLY}), ("mail",), HOUR),)
    book = Book(routes)
    (entry,) = route.note(Alert(Kind.REPORT_MONTHLY, "2026-10", "the report"), routes, book.channels, NOW)
    book.entries[entry.key] = entry
    every_minute(book, range(120))
    assert book.said("mail") == [(0, "note")]


def test_default_routes_send_everything_to_everybody() -> None:
    routes = route.default_routes(["a", "b"])
    assert route.unrouted(routes) == ()
    assert route.repeat_of(Kind.RECORDING_LOST, "a", routes) == HOUR
    assert route.repeat_of(Kind.POLL_STALLED, "b", routes) == 12 * HOUR


def test_alerts_that_no_route_names_are_known() -> None:
    assert Kind.COVERAGE_GAP in route.unrouted(ROUTES)
    assert Kind.RECORDING_LOST not in route.unrouted(ROUTES)
    assert Kind.REPORT_MONTHLY not in route.unrouted(ROUTES)


ALERTS = [LOST, replace(LOST, weight=2), STALLED, replace(LOST, subject="other")]


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sets(st.sampled_from(range(4))), st.booleans(), st.integers(1, 20)), min_size=1, max_size=30)
)
def test_whatever_fires_is_told_once_the_channel_is_up_and_silence_ends_with_no_entry(
    story: list[tuple[set[int], bool, int]],
) -> None:
    """Any sequence of alerts and outages: nothing that ever fired goes untold, and nothing is left over."""
    book, now = Book(), NOW
    fired: set[tuple[Kind, str]] = set()
    for chosen, up, minutes in story:
        alerts = list({(ALERTS[each].kind, ALERTS[each].subject): ALERTS[each] for each in sorted(chosen)}.values())
        book.down = set() if up else {"pager", "mail"}
        book.tick(now, *alerts)
        book.tick(now, *alerts)
        fired |= {(each.kind, each.subject) for each in alerts}
        now += minutes * MINUTE
    book.down = set()
    for _ in range(40):
        book.tick(now)
        now += MINUTE
    assert book.entries == {}
    assert {key[:2] for _, _, _, key in book.heard} == fired


# --- what is said ---------------------------------------------------------------------------------------------------


def test_a_message_names_the_most_urgent_first_and_each_with_its_runbook() -> None:
    entries = [Entry(STALLED, "mail", NOW, NOW), Entry(LOST, "mail", NOW, NOW)]
    message = compose("acme-prod", entries, NOW)
    assert message.title == "[acme-prod] 2 alerts, first: acme: lost"
    assert message.severity is Severity.PAGE
    assert message.text.index("acme: lost") < message.text.index("acme: stalled")
    assert "docs/runbook/recording.lost.md" in message.text
    listed = message.body["alerts"]
    assert isinstance(listed, list)
    assert [each["name"] for each in listed if isinstance(each, dict)] == ["recording.lost", "poll.stalled"]


def test_a_message_has_every_field_under_the_name_that_receivers_know() -> None:
    over = Entry(STALLED, "mail", NOW - HOUR, NOW, cleared_at=NOW - MINUTE, told_at=NOW - HOUR)
    news = Entry(Alert(Kind.REPORT_MONTHLY, "2026-10", "the report"), "mail", NOW, NOW, cleared_at=NOW)
    fires = Entry(LOST, "mail", NOW - 2 * HOUR, NOW)
    message = compose("here", [news, over, fires], NOW)
    text = (
        "acme: lost\nrecording.lost (page), since 2026-11-21 10:00 UTC\ndocs/runbook/recording.lost.md\n\n"
        "over: acme: stalled\npoll.stalled (ticket), from 2026-11-21 11:00 to 2026-11-21 11:59 UTC\n"
        "docs/runbook/poll.stalled.md\n\nthe report"
    )
    listed: Any = message.body.pop("alerts")
    assert message == Message(
        id=message.id,
        title="[here] 3 alerts, first: acme: lost",
        text=text,
        body={
            "schema": "archiver.alert/v1",
            "id": message.id,
            "instance": "here",
            "sent_at": "2026-11-21T12:00:00Z",
            "text": f"[here] 3 alerts, first: acme: lost\n\n{text}",
        },
        severity=Severity.PAGE,
        resolved=False,
    )
    assert [len(message.id), *(len(each.pop("id")) for each in listed)] == [32] * 4
    assert listed == [
        {
            "name": "recording.lost",
            "subject": "acme",
            "severity": "page",
            "status": "firing",
            "sentence": "acme: lost",
            "since": "2026-11-21T10:00:00Z",
            "over_since": None,
            "runbook": "docs/runbook/recording.lost.md",
        },
        {
            "name": "poll.stalled",
            "subject": "acme",
            "severity": "ticket",
            "status": "resolved",
            "sentence": "acme: stalled",
            "since": "2026-11-21T11:00:00Z",
            "over_since": "2026-11-21T11:59:00Z",
            "runbook": "docs/runbook/poll.stalled.md",
        },
        {
            "name": "report.monthly",
            "subject": "2026-10",
            "severity": "note",
            "status": "note",
            "sentence": "the report",
            "since": "2026-11-21T12:00:00Z",
            "over_since": None,
            "runbook": "",
        },
    ]
    assert compose("here", [fires, over, news], NOW).id == message.id, "in whatever order they come"
    assert compose("there", [fires, over, news], NOW).id != message.id


def test_what_is_over_says_from_when_to_when() -> None:
    entry = Entry(LOST, "mail", NOW - HOUR, NOW, cleared_at=NOW, told_at=NOW - HOUR)
    message = compose("acme-prod", [entry], NOW)
    assert message.title == "[acme-prod] over: acme: lost"
    assert "from 2026-11-21 11:00 to 2026-11-21 12:00 UTC" in message.text
    assert message.resolved


def test_the_same_news_has_the_same_id_when_it_is_sent_again_and_another_when_it_is_repeated() -> None:
    first = Entry(LOST, "mail", NOW, NOW)
    again = route.after_refused(first, None, NOW)
    repeated = route.after_told(first, first, HOUR, NOW)
    assert repeated is not None
    assert compose("a", [first], NOW).id == compose("a", [again], NOW + HOUR).id
    assert compose("a", [first], NOW).id != compose("a", [repeated], NOW + HOUR).id


@pytest.mark.parametrize(
    "told", ["https://hooks.example.com/x?token=s3cret", "call from +14155559876 failed", "line\nBcc: all@example.com"]
)
def test_no_secret_number_or_line_break_reaches_a_channel(told: str) -> None:
    message = compose("a", [Entry(replace(LOST, sentence=told), "mail", NOW, NOW)], NOW)
    said = f"{message.title}{message.text}{message.body}"
    assert "s3cret" not in said
    assert "4155559876" not in said
    assert "\n" not in message.title


def test_a_title_fits_on_one_line_of_a_mail_program() -> None:
    for length, title in ((146, "[a] " + "x" * 146), (147, "[a] " + "x" * 145 + "…"), (1000, "[a] " + "x" * 145 + "…")):
        message = compose("a", [Entry(replace(LOST, sentence="x" * length), "mail", NOW, NOW)], NOW)
        assert message.title == title
        assert len(title) == 150


@pytest.mark.parametrize(("failures", "minutes"), [(0, 0.25), (1, 0.5), (5, 8), (6, 15), (10, 15), (40, 15)])
def test_pause_after_a_refusal_doubles_up_to_a_quarter_of_an_hour(failures: int, minutes: float) -> None:
    entry = Entry(LOST, "mail", NOW, NOW, failures=failures)
    assert route.after_refused(entry, None, NOW).due_at == NOW + minutes * MINUTE


def test_entry_begins_when_its_alert_was_first_seen_and_news_ends_as_it_begins() -> None:
    todo = route.changes({}, [LOST], ROUTES, ["pager"], NOW)
    assert [(each.since, each.due_at, each.cleared_at) for each in todo.new] == [(NOW, NOW, None)]
    routes = (Route(frozenset({Kind.REPORT_MONTHLY}), ("mail",), HOUR),)
    (news,) = route.note(Alert(Kind.REPORT_MONTHLY, "", "a report"), routes, ["mail", "pager"], NOW)
    assert (news.channel, news.since, news.due_at, news.cleared_at) == ("mail", NOW, NOW, NOW)


def test_each_entry_is_judged_by_itself_whatever_came_before_it() -> None:
    """A channel that is gone, another host's alert, then one that is over: none ends the look at the rest."""
    local = Alert(Kind.SPOOL_FILLING, "host-b", "host-b: full")
    known = [Entry(LOST, "gone", NOW, NOW), Entry(local, "mail", NOW, NOW), Entry(STALLED, "mail", NOW, NOW)]
    todo = route.changes({each.key: each for each in known}, [], ROUTES, ["mail"], NOW + MINUTE, {"host-b"})
    assert todo.dropped == (known[0].key,)
    assert [(each.key, each.cleared_at) for each in todo.changed] == [(known[2].key, NOW + MINUTE)]


def test_end_of_an_alert_that_was_not_sent_yet_is_due_when_the_alert_was() -> None:
    entry = Entry(STALLED, "mail", NOW, NOW + HOUR)
    (after,) = route.changes({entry.key: entry}, [], ROUTES, ["mail"], NOW + MINUTE).changed
    assert (after.cleared_at, after.due_at) == (NOW + MINUTE, NOW + HOUR)
