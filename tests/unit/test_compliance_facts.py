"""The figures of a month's report, and the sentences about what nobody checked: each by its own small facts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from archiver.completeness import statement
from archiver.compliance.facts import (
    Account,
    Check,
    Checkpoint,
    Events,
    Late,
    Log,
    Missing,
    Place,
    Report,
    Run,
    Stated,
    Storage,
    Verdict,
    Vouched,
)
from archiver.compliance.month import Month, month_of, parse
from archiver.compliance.rules import judge, lag, longest_pause, unchecked
from archiver.recording import Window

BEGIN, HOUR, NIGHT = datetime(2026, 10, 7, tzinfo=UTC), timedelta(hours=1), timedelta(days=1)
WHOLE = Window(BEGIN, BEGIN + NIGHT)
PLACE = Place("log", 4, published=True)
HOLDS = Stated(1, "ab", BEGIN, PLACE, None, ())
OF = statement.Day("p", BEGIN.date(), {}, 0, 0, 0, 0, {}, (), ())
KNOWN = judge(OF, {"a": (WHOLE,)}, BEGIN - NIGHT, BEGIN + 9 * NIGHT, HOLDS)
RUN = Run(BEGIN, 1, 1, 2, {}, PLACE)
STORAGE = Storage("primary", True, 2, 10, {"compliance": 2}, None, 0, 0, 0, True, BEGIN, (), (RUN,))
POINT = Checkpoint(3, "ab", BEGIN, BEGIN)
LOG = Log("o", 3, 0, POINT, (), 1, 1, POINT, POINT, None,
          (Vouched("witness", "w", 1, BEGIN, 3), Vouched("time stamp", "t", 1, BEGIN, 3)), ())  # fmt: skip
GAP = Missing("g", "p", "rec:x", "orphan", "open", "", {}, None, None, BEGIN, None, None, None, None, {})


def account(*days: Any, **changed: Any) -> Account:
    return replace(Account("p", True, BEGIN, 1, tuple(days), None, None, (), 0, 0, (), None, None), **changed)


def report(*days: Any, **changed: Any) -> Report:
    """Of a month that is over, at one account of which everything was checked."""
    it = Report("acme", "1", Month(2026, 10), BEGIN + 40 * NIGHT, None, (account(*days),), (), (STORAGE,), LOG,
                (Check(BEGIN, "full", 1, 1, {}, PLACE),))  # fmt: skip
    return replace(it, **changed)


# --- months ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "before", "after", "days"),
    [("2026-01", "2025-12", "2026-02", 31), ("2026-03", "2026-02", "2026-04", 31), ("2026-12", "2026-11", "2027-01", 31),
     ("2028-02", "2028-01", "2028-03", 29)],
)  # fmt: skip
def test_a_month_has_neighbours_and_days(text: str, before: str, after: str, days: int) -> None:
    month = parse(text)
    assert (str(month), str(month.before), str(month.after)) == (text, before, after)
    assert month.days == tuple(date(month.year, month.number, number + 1) for number in range(days))


def test_a_month_is_that_of_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # 14 hours ahead
    time.tzset()
    try:
        assert month_of(datetime(2026, 10, 31, 23, tzinfo=UTC)) == Month(2026, 10)
        assert month_of(datetime(2026, 11, 1, 1, tzinfo=timezone(2 * HOUR))) == Month(2026, 10)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["9999-01", "0000-12", "2026-10 "])
def test_a_year_that_no_calendar_spans_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a month like 2026-10"):
        parse(text)


def test_a_month_is_titled_in_words() -> None:
    assert [Month(2026, number).title for number in (2, 10)] == ["February 2026", "October 2026"]


# --- figures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "differs", "holds"), [(None, (), True), ("x", (), False), (None, ("listed",), False)]
)
def test_a_statement_holds_when_it_verifies_and_nothing_changed(
    problem: str | None, differs: tuple[str, ...], holds: bool
) -> None:
    assert replace(HOLDS, problem=problem, changed=differs).holds is holds


def test_a_recording_at_the_very_instant_of_its_deletion_was_in_time() -> None:
    assert not Late("x", BEGIN, BEGIN, BEGIN + HOUR, None, BEGIN + HOUR).past_deletion(BEGIN)


@pytest.mark.parametrize(
    ("change", "standing"),
    [({}, "open"), ({"grade": "watched"}, "watched"), ({"acked_at": BEGIN}, "acknowledged"),
     ({"acked_at": BEGIN, "closed_at": BEGIN}, "closed")],
)  # fmt: skip
def test_a_gap_stands_as_it_was_last_left(change: dict[str, Any], standing: str) -> None:
    assert replace(GAP, **change).standing == standing


def test_figures_of_an_account_are_summed_over_its_days() -> None:
    of = replace(KNOWN, listed=10, archived=5, disposed=2, without_audio=1, asked=NIGHT, covered=6 * HOUR)
    it = account(of, replace(of, archived=2, covered=NIGHT), replace(of, verdict=Verdict.RUNNING))
    assert (it.wanted, it.safe, it.count(Verdict.COMPLETE), it.count(Verdict.RUNNING)) == (27, 18, 2, 1)
    assert it.judged == it.days[:2]
    assert it.capture == 18 / 27
    assert it.coverage == 36 / 72


def test_nothing_asked_and_nothing_wanted_is_no_share() -> None:
    assert (account().coverage, account().capture) == (None, None)


def test_events_of_a_type_are_counted() -> None:
    log = replace(LOG, events=(Events("a", 2, 0, 1), Events("b", 5, 2, 3), Events("a", 3, 4, 5)))
    assert (log.said("a"), log.said("c")) == (5, 0)


def test_a_report_is_preliminary_until_its_month_is_over() -> None:
    end = datetime(2026, 11, 1, tzinfo=UTC)
    assert [report(made_at=at).preliminary for at in (end - HOUR, end)] == [True, False]


# --- a day ----------------------------------------------------------------------------------------------------


def test_a_day_is_told_by_the_states_of_its_recordings() -> None:
    kinds = (("open", False), ("open", True), ("watched", True), ("watched", False), ("open", False))
    gaps = [statement.Standing("rec:x", "orphan", grade, None, None, acked) for grade, acked in kinds]
    states = {"archived": 1, "listed": 2, "waiting": 3, "spooled": 4, "gone": 5, "absent": 7, "disposed": 6}
    of = statement.Day("p", BEGIN.date(), states, 2, 900, 1500, 3, {}, (), gaps)
    it = judge(of, {"a": (WHOLE,)}, BEGIN - NIGHT, BEGIN + NIGHT, HOLDS)
    figures = (it.listed, it.archived, it.without_audio, it.pending, it.gone, it.absent, it.disposed, it.rejects)
    assert figures == (28, 1, 2, 9, 5, 5, 6, 3)
    assert (it.gaps_open, it.gaps_acknowledged, it.archived_bytes) == (2, 2, 900)
    assert (it.archived_for, it.stated, it.day) == (timedelta(seconds=1.5), HOLDS, BEGIN.date())


def test_a_day_of_no_recordings_is_all_zeros() -> None:
    it = judge(OF, {}, BEGIN, BEGIN + NIGHT, None)
    assert {it.archived, it.pending, it.gone, it.absent, it.disposed, it.gaps_open} == {0}
    assert (it.verdict, it.covered) == (Verdict.NEVER, timedelta(0))


@pytest.mark.parametrize(
    ("spans", "since", "now", "verdict", "asked", "covered"),
    [
        ([WHOLE], BEGIN - NIGHT, BEGIN + NIGHT, Verdict.COMPLETE, NIGHT, NIGHT),
        ([WHOLE], BEGIN - NIGHT, BEGIN + NIGHT - HOUR, Verdict.RUNNING, timedelta(0), timedelta(0)),
        ([WHOLE], BEGIN + HOUR, BEGIN + NIGHT, Verdict.COMPLETE, 23 * HOUR, 23 * HOUR),
        ([Window(BEGIN, BEGIN + HOUR)], BEGIN + 2 * HOUR, BEGIN + NIGHT, Verdict.NEVER, 22 * HOUR, timedelta(0)),
        ([Window(BEGIN, BEGIN + HOUR), Window(BEGIN + HOUR, BEGIN + 2 * HOUR)], BEGIN, BEGIN + NIGHT, Verdict.PARTLY, NIGHT,
         2 * HOUR),
        ([], BEGIN + NIGHT, BEGIN + NIGHT, Verdict.OUTSIDE, timedelta(0), timedelta(0)),
        ([WHOLE], BEGIN + NIGHT, BEGIN + NIGHT, Verdict.COMPLETE, NIGHT, NIGHT),
    ],
)  # fmt: skip
def test_time_is_asked_for_from_the_beginning_on_and_counted_once_it_is_over(
    spans: Sequence[Window], since: datetime, now: datetime, verdict: Verdict, asked: timedelta, covered: timedelta
) -> None:
    it = judge(OF, {"a": spans}, since, now, None)
    assert (it.verdict, it.asked, it.covered) == (verdict, asked, covered)


def test_lag_is_by_nearest_rank_of_whole_seconds() -> None:
    found = lag([9.0, 1.4, 2.6, -3.0])
    assert found is not None
    assert (found.recordings, found.median, found.p95, found.longest) == (
        4, timedelta(seconds=1), timedelta(seconds=9), timedelta(seconds=9),
    )  # fmt: skip
    sub = lag([0.4, 0.9])
    assert sub is not None
    assert sub.longest == timedelta(seconds=1)


def test_a_pause_lasts_from_one_signature_to_the_next() -> None:
    span = Window(BEGIN, BEGIN + 3 * NIGHT)
    assert longest_pause([BEGIN + 2 * NIGHT, BEGIN], span, BEGIN + 9 * NIGHT) == 2 * NIGHT


# --- what nobody checked ----------------------------------------------------------------------------------------

FULL = f"Everything archived was last verified, in this month, on {BEGIN:%Y-%m-%d}; what came later was not."
ITSELF = (
    "Making this report checked the signature and the digest of each statement. It opened no recording, and checked neither "
    "the log as a whole nor that each signing key was admitted: archiver verify --all and archiver custody fsck do."
)
NO_WITNESS, NO_STAMP = (
    f"{who} a checkpoint of this month: that nothing was rewritten rests on the published checkpoints."
    for who in ("No witness has cosigned", "No time stamping authority has signed")
)


def test_a_month_of_which_all_was_checked_has_only_the_limits_of_every_report() -> None:
    assert unchecked(report(KNOWN)) == [FULL, ITSELF]


@pytest.mark.parametrize(
    ("it", "says"),
    [
        (report(made_at=BEGIN),
         "The month was not over when this report was made: days that were not over are not judged."),
        (report(only="p"), "This report is about p alone; nothing is said of other providers."),
        (report(*[replace(KNOWN, verdict=Verdict.NEVER)] * 2),
         "p: 2 day(s) were never listed: whether there were calls is not known."),
        (report(replace(KNOWN, verdict=Verdict.PARTLY)),
         "p: 1 day(s) were listed in part: what the other hours hold is not known."),
        (report(replace(KNOWN, verdict=Verdict.OUTSIDE)),
         "p: 1 day(s) lie before archiving was to begin, and were not listed."),
        (report(accounts=(account(configured=False),)),
         ("p is no longer configured: it is judged by the scopes that were listed at any time; "
         "whether they were all of its scopes is not known.")),
        (report(replace(KNOWN, stated=None)),
         "p: 1 day(s) have no signed statement; their figures rest on the journal alone."),
        (report(replace(KNOWN, stated=replace(HOLDS, changed=("listed",)))),
         "p: the journal has changed since 1 day(s) were stated; they rest on the journal alone."),
        (report(replace(KNOWN, stated=replace(HOLDS, problem="x"))),
         "p: 1 statement(s) DO NOT VERIFY against their signed events."),
        (report(storages=(replace(STORAGE, runs=()),)),
         "Storage primary was not compared with the journal in this month."),
        (report(storages=(replace(STORAGE, id="custody", trusted=None, not_read_back=1, runs=()),)),
         "The custody log was not compared with the journal in this month."),
        (report(storages=(replace(STORAGE, trusted=None),)),
         "Storage primary has never been probed: whether it enforces locks is not known."),
        (report(storages=(replace(STORAGE, not_read_back=3),)),
         "Storage primary: 3 copies were not read back when they were stored."),
        (report(storages=(replace(STORAGE, locks={"off": 1}),)),
         "Storage primary: 1 copies have no Object Lock: nothing but access rights protects them."),
        (report(storages=(replace(STORAGE, copies=5, runs=(RUN, RUN)),)),
         "Storage primary: locks are read back by sample; not every lock was read in this month."),
        (report(log=None), "There is no custody log: nothing here is anchored."),
        (report(log=replace(LOG, newest=None)),
         "No checkpoint has been published: leaves are named, and nothing outside the database bears them out."),
        (report(log=replace(LOG, waiting=2)), "2 event(s) are signed and wait for the log."),
        (report(log=replace(LOG, checkpoints=0)), "No checkpoint was signed in this month."),
        (report(log=replace(LOG, vouched=LOG.vouched[1:])), NO_WITNESS),
        (report(log=replace(LOG, vouched=LOG.vouched[:1])), NO_STAMP),
    ],
)  # fmt: skip
def test_what_was_not_checked_is_said_in_one_sentence(it: Report, says: str) -> None:
    assert unchecked(it) == [says, FULL, ITSELF]


def test_what_was_counted_enough_is_not_said() -> None:
    storages = (replace(STORAGE, id="custody", copies=9), replace(STORAGE, copies=4, runs=(RUN, RUN)))
    running = replace(KNOWN, verdict=Verdict.RUNNING, stated=None)
    assert unchecked(report(running, storages=storages)) == [FULL, ITSELF]


def test_only_the_newest_verification_of_everything_is_named() -> None:
    checks = [Check(BEGIN + n * NIGHT, depth, 1, 1, {}, PLACE) for n, depth in enumerate(("full", "full", "sample"))]
    assert unchecked(report(checks=tuple(checks)))[0] == FULL.replace("10-07", "10-08")
    none = "No verification of everything archived (archiver verify --all) is on record in this month."
    assert unchecked(report(checks=tuple(checks[2:]))) == [none, ITSELF]


def test_every_account_and_storage_is_spoken_of() -> None:
    other = account(replace(KNOWN, stated=None), provider="q", configured=False)
    it = report(
        accounts=(account(replace(KNOWN, stated=None)), other),
        storages=(replace(STORAGE, runs=()), replace(STORAGE, id="b", runs=())),
    )
    assert [each.split(" ")[0] for each in unchecked(it)[:3]] == ["q", "p:", "q:"]
    assert sum("was not compared" in each for each in unchecked(it)) == 2
