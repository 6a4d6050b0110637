"""What may be said of a day and of a month: never "complete" of what nobody looked at, never more than was checked."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from archiver.completeness import statement
from archiver.completeness.clocks import PLIVO_TERMS, StorageCost
from archiver.compliance import words
from archiver.compliance.facts import (
    Account,
    Late,
    Missing,
    Place,
    Report,
    Stated,
    Storage,
    Verdict,
)
from archiver.compliance.month import Month, month_of, parse
from archiver.compliance.report_data import as_json, days_csv, gaps_csv
from archiver.compliance.report_html import report_html
from archiver.compliance.report_pdf import report_pdf
from archiver.compliance.rules import changed, judge, lag, longest_pause, unchecked
from archiver.recording import Window

DAY = date(2026, 10, 7)
BEGIN = datetime(2026, 10, 7, tzinfo=UTC)
HOUR, NIGHT = timedelta(hours=1), timedelta(days=1)
WHOLE = Window(BEGIN, BEGIN + NIGHT)
BEFORE, AFTER = BEGIN - 30 * NIGHT, BEGIN + 30 * NIGHT


def day(
    states: Mapping[str, int] | None = None, silent: int = 0, gaps: tuple[statement.Standing, ...] = ()
) -> statement.Day:
    return statement.Day("p", DAY, states or {}, silent, 0, 0, 0, {}, (), gaps)


def verdict(
    of: statement.Day,
    *spans: Window,
    since: datetime = BEFORE,
    now: datetime = AFTER,
    other: tuple[Window, ...] | None = None,
) -> Verdict:
    scopes = {"a": spans} if other is None else {"a": spans, "b": other}
    return judge(of, scopes, since, now, None).verdict


def test_quiet_day_that_was_listed_and_one_that_was_not_never_look_alike() -> None:
    assert verdict(day(), WHOLE) is Verdict.COMPLETE
    assert verdict(day()) is Verdict.NEVER
    assert verdict(day(), Window(BEGIN, BEGIN + 23 * HOUR)) is Verdict.PARTLY
    assert verdict(day(), Window(BEGIN - NIGHT, BEGIN), Window(BEGIN + NIGHT, BEGIN + 2 * NIGHT)) is Verdict.NEVER


def test_one_scope_that_nobody_listed_keeps_the_day_from_being_whole() -> None:
    assert verdict(day(), WHOLE, other=()) is Verdict.PARTLY
    assert judge(day(), {"a": (WHOLE,), "b": ()}, BEFORE, AFTER, None).covered == timedelta(0)
    assert judge(day(), {}, BEFORE, AFTER, None).verdict is Verdict.NEVER


def test_day_before_archiving_began_is_not_asked_for_unless_it_was_looked_at() -> None:
    assert verdict(day(), since=BEGIN + NIGHT) is Verdict.OUTSIDE
    assert verdict(day(), WHOLE, since=BEGIN + NIGHT) is Verdict.COMPLETE
    assert verdict(day(), Window(BEGIN, BEGIN + HOUR), since=BEGIN + NIGHT) is Verdict.PARTLY
    assert verdict(day(), Window(BEGIN + HOUR, WHOLE.until), since=BEGIN + HOUR) is Verdict.COMPLETE
    assert judge(day(), {"a": ()}, BEGIN + NIGHT, AFTER, None).asked == timedelta(0)


def test_day_that_is_not_over_is_not_judged() -> None:
    assert verdict(day(), WHOLE, now=WHOLE.until - HOUR) is Verdict.RUNNING
    assert verdict(day(), WHOLE, now=WHOLE.until) is Verdict.COMPLETE


def test_whole_listing_with_something_missing_is_missing() -> None:
    assert verdict(day({"archived": 3, "gone": 1}), WHOLE) is Verdict.MISSING
    assert verdict(day({"archived": 3, "listed": 1}), WHOLE) is Verdict.MISSING
    assert verdict(day({"archived": 3, "absent": 1}, silent=1), WHOLE) is Verdict.COMPLETE
    known = statement.Standing("rec:x", "gone_at_provider", "open", BEGIN, None, acknowledged=True)
    assert verdict(day({"archived": 3, "gone": 1}, gaps=(known,)), WHOLE) is Verdict.COMPLETE


def test_statement_that_says_otherwise_than_the_journal_is_named_by_what_differs() -> None:
    then = statement.facts(day({"archived": 3}))
    assert changed(day({"archived": 3}), then) == ()
    assert changed(day({"archived": 3, "listed": 1}), then) == ("complete", "listed", "states")


def test_lag_is_by_nearest_rank_and_a_clock_that_was_wrong_counts_as_none() -> None:
    assert lag([]) is None
    found = lag([float(n) for n in range(100, 0, -1)])
    assert found is not None
    assert (found.median, found.p95, found.longest) == (
        timedelta(seconds=50),
        timedelta(seconds=95),
        timedelta(seconds=100),
    )
    alone = lag([-30.0])
    assert alone is not None
    assert (alone.recordings, alone.p95) == (1, timedelta(0))


def test_silence_until_the_end_of_the_month_counts_as_a_pause() -> None:
    span = Window(BEGIN, BEGIN + 10 * NIGHT)
    assert longest_pause([], span, AFTER) is None
    assert longest_pause([BEGIN, BEGIN + HOUR], span, AFTER) == 10 * NIGHT - HOUR
    assert longest_pause([BEGIN, BEGIN + HOUR], span, BEGIN + 3 * HOUR) == 2 * HOUR


def test_late_is_past_deletion_only_when_the_provider_might_have_deleted_it() -> None:
    late = Late("x", BEGIN, BEGIN + HOUR, BEGIN + 3 * HOUR, "plan", BEGIN + 2 * HOUR)
    assert not late.past_deletion(AFTER)
    assert replace(late, archived_at=BEGIN + 4 * HOUR).past_deletion(AFTER)
    assert replace(late, archived_at=None).past_deletion(AFTER)
    assert not replace(late, archived_at=None, delete_at=None).past_deletion(AFTER)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "26-10", "2026-10-01", "", "٢٠٢٦-10", "0000-01"])
def test_month_is_nothing_but_a_year_and_a_month(text: str) -> None:
    with pytest.raises(ValueError, match="is not a month"):
        parse(text)


def test_months_follow_one_another_over_the_turn_of_the_year() -> None:
    december = parse("2026-12")
    assert (str(december.after), str(Month(2027, 1).before), december.title) == ("2027-01", "2026-12", "December 2026")
    assert december.span == Window(datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert len(parse("2028-02").days) == 29
    assert month_of(datetime.fromisoformat("2027-01-01T00:30:00+02:00")) == december


# --- the whole ------------------------------------------------------------------------------------------------------


def report(*verdicts: Verdict, stated: Stated | None = None, gaps: tuple[Missing, ...] = ()) -> Report:
    known = judge(day({"archived": 2, "absent": 1}, silent=1), {"a": (WHOLE,)}, BEFORE, AFTER, stated)
    days = tuple(
        replace(known, day=DAY + n * NIGHT, verdict=each) for n, each in enumerate(verdicts or (Verdict.COMPLETE,))
    )
    account = Account("p", True, BEFORE, 1, days, None, None, (), 0, 0, (), None, None)
    storage = Storage("primary", True, 2, 10, {"compliance": 2}, AFTER, 0, 0, 0, True, BEGIN, (), ())
    return Report("acme", "1", Month(2026, 10), AFTER, None, (account,), gaps, (storage,), None)


def gap(code: str, **changes: object) -> Missing:
    known = Missing("g1", "p", "rec:x", code, "open", "why", {"n": 1}, BEGIN, None, BEGIN, None, None, None, None, {})
    return replace(known, **changes)  # type: ignore[arg-type]


def test_report_is_complete_only_when_every_day_is_and_no_gap_is_open() -> None:
    assert report().complete
    assert report(Verdict.COMPLETE, Verdict.OUTSIDE).complete
    for each in (Verdict.NEVER, Verdict.PARTLY, Verdict.MISSING, Verdict.RUNNING):
        assert not report(Verdict.COMPLETE, each).complete
    assert not report(Verdict.OUTSIDE).complete
    assert not report(gaps=(gap("orphan"),)).complete
    assert report(
        gaps=(gap("orphan", acked_at=BEGIN), gap("orphan", closed_at=BEGIN), gap("orphan", grade="watched"))
    ).complete
    assert not replace(report(), accounts=()).complete


def test_what_contradicts_a_complete_month_is_not_smoothed_over() -> None:
    forged = report(stated=Stated(1, "ab", BEGIN, Place("log", 4, published=True), "not what was signed", ()))
    assert not forged.complete
    assert "1 statement(s) do not verify" in words.headline(forged)
    (storage,) = report().storages
    lacking = replace(report(), storages=(replace(storage, without_copy=2),))
    assert not lacking.complete
    assert "2 archived recording(s) lack a copy" in words.headline(lacking)


def test_loss_stays_a_loss_when_it_was_acknowledged() -> None:
    made = report(gaps=(gap("gone_at_provider", acked_at=BEGIN), gap("truncated_at_provider"), gap("not_fetched")))
    assert [each.loss for each in made.gaps] == ["whole", "part", None]
    assert len(made.losses) == 2
    assert made.unsettled == 2


def test_what_was_not_checked_is_said() -> None:
    said = "\n".join(unchecked(report(Verdict.NEVER, Verdict.PARTLY)))
    assert "1 day(s) were never listed" in said
    assert "1 day(s) were listed in part" in said
    assert "2 day(s) have no signed statement" in said
    assert "primary was not compared" in said
    assert "no custody log" in said
    assert "opened no recording" in said
    forged = Stated(1, "ab", BEGIN, Place("log", 4, published=True), "not the one that was signed", ())
    assert "DO NOT VERIFY" in "\n".join(unchecked(report(stated=forged)))
    assert "DOES NOT VERIFY" in report_html(report(stated=forged)).decode()
    stale = replace(forged, problem=None, changed=("states",))
    assert "has changed since 1 day(s)" in "\n".join(unchecked(report(stated=stale)))
    assert "not over" in "\n".join(unchecked(replace(report(), made_at=BEGIN)))


def test_all_but_one_in_a_million_is_not_the_whole() -> None:
    assert words.share(0.999_999_9) == "99.99 %"
    assert words.share(1.0) == "100 %"
    assert words.share(None) == "–"


def test_what_a_person_typed_is_text_on_the_page_and_in_the_spreadsheet() -> None:
    typed = "=HYPERLINK(<script>alert(1)</script>)"
    made = report(gaps=(gap("orphan", acked_at=BEGIN, acked_by="@ortega", ack_reason=typed, subject="+x"),))
    page = report_html(made).decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    (row,) = csv.DictReader(io.StringIO(gaps_csv(made).decode()))
    assert (row["ack_reason"], row["acked_by"], row["subject"]) == (f"'{typed}", "'@ortega", "'+x")
    assert report_pdf(made).startswith(b"%PDF-")


def test_forms_are_the_same_bytes_for_the_same_facts() -> None:
    made = report(Verdict.COMPLETE, Verdict.NEVER, gaps=(gap("orphan", since=None, detail="наушники"),))
    for form in (report_html, report_pdf, days_csv, gaps_csv):
        assert form(made) == form(made)
    assert "src=" not in report_html(made).decode()
    shown = as_json(made)
    assert shown["schema"] == "archiver.report/v1"
    data = shown["data"]
    assert isinstance(data, dict)
    assert (data["month"], data["complete"]) == ("2026-10", False)


def test_what_the_provider_takes_for_storage_is_in_every_form_with_its_source() -> None:
    cost = StorageCost(so_far=1_230_000, per_month=400_000, in_a_year=6_030_000)
    plain = report()
    paid = replace(plain, accounts=tuple(replace(each, storage_cost=cost) for each in plain.accounts))
    figures = dict(words.figures(paid.accounts[0]))
    assert figures["Storage at the provider"] == str(cost)
    assert "$1.23 so far" in str(cost)
    page = html.unescape(report_html(paid).decode())
    assert str(cost) in page
    data: Any = as_json(paid)["data"]
    assert data["accounts"][0]["storage_cost"] == cost.as_json()
    assert cost.as_json()["source"] == PLIVO_TERMS
    assert "Storage at the provider" not in dict(words.figures(plain.accounts[0]))
    nothing: Any = as_json(plain)["data"]
    assert nothing["accounts"][0]["storage_cost"] is None
