"""The texts of a month's report: one small fact, one text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.completeness import statement
from archiver.completeness.clocks import StorageCost
from archiver.compliance import words
from archiver.compliance.facts import (
    Access,
    Account,
    Check,
    Checkpoint,
    Kept,
    Lag,
    Log,
    Missing,
    Place,
    Report,
    Run,
    Standing,
    Stated,
    Storage,
    Verdict,
)
from archiver.compliance.month import Month
from archiver.compliance.rules import judge
from archiver.recording import Window

BEGIN, HOUR, NIGHT = datetime(2026, 10, 7, tzinfo=UTC), timedelta(hours=1), timedelta(days=1)
LATER = BEGIN + NIGHT + HOUR
PLACE = Place("log", 4, published=True)
HOLDS = Stated(1, "ab", BEGIN, PLACE, None, ())
OF = statement.Day("p", BEGIN.date(), {}, 0, 0, 0, 0, {}, (), ())
QUIET = judge(OF, {"a": (Window(BEGIN, BEGIN + NIGHT),)}, BEGIN - NIGHT, BEGIN + 9 * NIGHT, HOLDS)
DAY = replace(
    QUIET,
    listed=9,
    archived=3,
    disposed=1,
    without_audio=2,
    pending=1,
    gone=1,
    absent=1,
    rejects=4,
    archived_bytes=1500,
)
STORAGE = Storage("primary", True, 2, 1500, {"compliance": 2, "off": 1}, LATER, 3, 0, 0, True, BEGIN, (), ())
GAP = Missing("g", "p", "rec:x", "orphan", "open", "", {}, BEGIN, None, BEGIN, None, None, None, None, {})
POINT = Checkpoint(3, "ab", BEGIN, BEGIN)
LOG = Log("origin", 3, 0, POINT, (), 1, 1, POINT, POINT, None, (), ())


def account(*days: Any, **changed: Any) -> Account:
    return replace(Account("p", True, BEGIN, 2, tuple(days), None, None, (), 0, 0, (), None, None), **changed)


def report(*days: Any, **changed: Any) -> Report:
    it = Report("acme", "1", Month(2026, 10), BEGIN + 40 * NIGHT, None, (account(*days),), (), (), None)
    return replace(it, **changed)


WHOLE = "Complete: every day was listed to its last page, and nothing that should have audio is missing unexplained."


@pytest.mark.parametrize(
    ("it", "says"),
    [
        (report(QUIET), WHOLE),
        (report(QUIET, standing=Standing("at risk", "It burns", ("a",))), f"{WHOLE} When this was made: It burns."),
        (report(QUIET, standing=Standing("at risk", "It burns", ("a", "b", "c"))),
         f"{WHOLE} When this was made: It burns (and 2 more)."),
        (report(QUIET, standing=Standing("at risk", "It burns", ("a", "b"))),
         f"{WHOLE} When this was made: It burns (and 1 more)."),
        (report(accounts=()), "There is no provider to report on."),
        (report(), "Not complete: no day was to be archived."),
        (report(replace(QUIET, verdict=Verdict.RUNNING), made_at=BEGIN), "Not complete: the month is not over."),
        (report(QUIET, replace(QUIET, verdict=Verdict.NEVER), replace(QUIET, verdict=Verdict.OUTSIDE)),
         "Not complete: 1 of 2 provider days are not complete."),
        (report(QUIET, gaps=(GAP,)), "Not complete: 1 gap(s) are open and not acknowledged."),
        (report(replace(QUIET, stated=replace(HOLDS, problem="x"))),
         "Not complete: 1 statement(s) do not verify against their signed events."),
        (report(QUIET, storages=(replace(STORAGE, without_copy=2),)),
         "Not complete: 2 archived recording(s) lack a copy in a required storage."),
        (report(replace(QUIET, verdict=Verdict.NEVER), gaps=(replace(GAP, code="gone_at_provider"),)),
         ("Not complete: 1 of 1 provider days are not complete; 1 gap(s) are open and not acknowledged; "
          "1 loss(es) are on record.")),
    ],
)  # fmt: skip
def test_headline_says_what_keeps_the_month_from_being_whole(it: Report, says: str) -> None:
    assert words.headline(it) == says


def test_report_rests_on_the_newest_published_checkpoint() -> None:
    nothing = "Nothing outside the database: no checkpoint of a custody log has been published."
    assert [words.rests_on(report(log=log)) for log in (None, replace(LOG, newest=None))] == [nothing, nothing]
    assert words.rests_on(report(log=LOG)) == (
        "Signed statements and events in the log origin, as far as the checkpoint of 3 leaves, root ab, signed "
        "2026-10-07 00:00:00 UTC. A leaf beyond it, or an event that waits, is marked."
    )


def test_figures_of_an_account_are_pairs_in_this_order() -> None:
    stale = replace(DAY, verdict=Verdict.NEVER, covered=timedelta(0), stated=replace(HOLDS, changed=("x",)))
    lag = Lag(4, HOUR, 2 * HOUR, 3 * HOUR)
    kept = (Kept("", 1, None, None), Kept("pci", 2, BEGIN, LATER), Kept("half", 3, BEGIN, None))
    cost = StorageCost(so_far=1, per_month=2, in_a_year=3)
    it = account(DAY, stale, replace(DAY, verdict=Verdict.RUNNING), replace(DAY, stated=None), after_call=lag, kept=kept,
                 poll_succeeded_at=BEGIN, storage_cost=cost, late_total=3, past_deletion=1)  # fmt: skip
    assert words.figures(it) == [
        ("Days", "2 complete, 1 never looked, 1 not over"),
        ("Time listed", "75.00 % of what was to be listed, in 2 scope(s)"),
        ("Recordings", "36 listed, 8 of them without audio by the provider's word"),
        ("Archived", "16 of 28 (57.14 %), 6.0 kB"),
        ("Not archived", "4 pending, 4 gone, 4 never came up"),
        ("Rejected rows", "16"),
        ("Lag after the call", "median 1 h, 95 % within 2 h, longest 3 h (4 recordings)"),
        ("Lag after listing", "nothing was archived"),
        ("Deadlines", "3 not safe by their time; 1 of them past what the provider keeps"),
        ("Signed statements", "2 of 3 days; 1 verify and still hold"),
        ("Last good poll", "2026-10-07 00:00:00 UTC"),
        ("Storage at the provider", str(cost)),
        ("Kept by rule (none)", "1 recording(s), until no end"),
        ("Kept by rule pci", "2 recording(s), until 2026-10-07 to 2026-10-08"),
        ("Kept by rule half", "3 recording(s), until no end"),
    ]


def test_account_without_anything_says_so() -> None:
    found = dict(words.figures(account()))
    assert (found["Days"], found["Deadlines"], found["Last good poll"]) == ("", "none missed", "none on record")
    assert found["Archived"] == "0 of 0 (–), 0 bytes"


@pytest.mark.parametrize(
    ("stated", "text"),
    [
        (None, "the journal alone"),
        (HOLDS, "statement 1, leaf 4"),
        (replace(HOLDS, problem="forged", changed=("a",)), "statement 1, leaf 4: DOES NOT VERIFY, forged"),
        (replace(HOLDS, changed=("a", "b")), "statement 1, leaf 4; since changed: a, b"),
    ],
)
def test_day_rests_on_its_statement_or_on_the_journal(stated: Stated | None, text: str) -> None:
    assert words.rest(replace(DAY, stated=stated)) == text


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (None, "not signed"),
        (Place("log", None), "signed, waiting for the log"),
        (PLACE, "leaf 4"),
        (replace(PLACE, published=False), "leaf 4, not under a published checkpoint yet"),
    ],
)
def test_place_of_an_event_is_as_sure_as_it_is(place: Place | None, text: str) -> None:
    assert words.place(place) == text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"since": None}, "rec:x"),
        ({"until": LATER}, "rec:x, 2026-10-07 00:00"),
        ({"subject": "window:a"}, "window:a, 2026-10-07 00:00"),
        ({"subject": "window:a", "until": LATER}, "window:a, 2026-10-07 00:00 to 2026-10-08 01:00"),
    ],
)
def test_gap_is_about_a_subject_and_its_time(change: dict[str, Any], text: str) -> None:
    assert words.about(replace(GAP, **change)) == text


def test_gap_has_a_history_with_places() -> None:
    assert words.history(GAP) == "opened 2026-10-07 00:00"
    known = replace(GAP, acked_at=BEGIN + HOUR, closed_at=LATER)
    assert words.history(known) == (
        "opened 2026-10-07 00:00; acknowledged 2026-10-07 01:00 by ?: the reason was lost with the database; "
        "closed 2026-10-08 01:00"
    )
    cited = replace(
        known, acked_by="ana", ack_reason="known", events=dict.fromkeys(("opened", "acknowledged", "closed"), PLACE)
    )
    assert words.history(cited) == (
        "opened 2026-10-07 00:00 (leaf 4); acknowledged 2026-10-07 01:00 by ana: known (leaf 4); closed 2026-10-08 01:00 (leaf 4)"
    )


def test_evidence_of_a_gap_is_what_it_holds() -> None:
    held: dict[str, Any] = {"n": 1, "a": ["x", 2], "none": None, "empty": [], "blank": "", "zero": 0}
    assert words.evidence(replace(GAP, evidence=held)) == "a x 2, n 1, zero 0"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "2 copies, 1.5 kB; locks: 2 compliance, 1 off; first lock ends 2026-10-08; 3 under legal hold"),
        ({"locks": {}, "first_until": None, "without_copy": 2},
         "2 copies, 1.5 kB; locks: no copies; 3 under legal hold; 2 archived recording(s) WITHOUT A COPY HERE"),
    ],
)  # fmt: skip
def test_storage_is_told_by_copies_locks_and_holds(change: dict[str, Any], text: str) -> None:
    assert words.protection(replace(STORAGE, **change)) == text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "trusted at its last probe, 2026-10-07 00:00:00 UTC"),
        ({"trusted": False, "failed": ("lock", "read")},
         "NOT TRUSTED at its last probe, 2026-10-07 00:00:00 UTC; failed: lock, read"),
        ({"trusted": None}, "never probed"),
        ({"probed_at": None}, "never probed"),
    ],
)  # fmt: skip
def test_probe_is_told_with_its_time(change: dict[str, Any], text: str) -> None:
    assert words.probe(replace(STORAGE, **change)) == text


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (Run(BEGIN, 1, 2, 3, {}, PLACE), "1 copies against 2 versions, 3 locks read: as recorded"),
        (Run(BEGIN, 0, 2, 0, {"b": 1, "a": 2}, PLACE), "0 copies against 2 versions, 0 locks read: a 2, b 1"),
        (Run(BEGIN, 1, 0, 0, {}, PLACE), "1 copies against 0 versions, 0 locks read: as recorded"),
        (Run(BEGIN, 0, 0, 0, {}, PLACE), "as recorded"),
    ],
)
def test_comparison_is_told_by_what_was_counted_and_found(run: Run, text: str) -> None:
    assert words.run(run) == f"2026-10-07 00:00:00 UTC, {text} (leaf 4)"


@pytest.mark.parametrize(
    ("depth", "failures", "text"),
    [
        ("full", {}, "everything: 7 recordings, 8 objects read: no mismatch"),
        ("partly", {"b": 1, "a": 2}, "everything, not all of it readable: 7 recordings, 8 objects read: a 2, b 1"),
        ("sample", {}, "a sample: 7 recordings, 8 objects read: no mismatch"),
        ("rolling", {}, "the copies that were due to be read again: 7 recordings, 8 objects read: no mismatch"),
        ("named", {}, "single recordings: 7 recordings, 8 objects read: no mismatch"),
    ],
)
def test_verification_is_told_by_its_depth(depth: str, failures: dict[str, int], text: str) -> None:
    assert words.check(Check(BEGIN, depth, 7, 8, failures, PLACE)) == f"2026-10-07 00:00:00 UTC, {text} (leaf 4)"


@pytest.mark.parametrize(
    ("delivered", "reason", "text"),
    [
        (None, None, "x heard by ana"),
        (True, "why", "x heard by ana: why"),
        (False, "why", "x heard, not finished by ana: why"),
    ],
)
def test_access_is_told_with_person_and_reason(delivered: bool | None, reason: str | None, text: str) -> None:
    it = Access(BEGIN, "heard", "x", "ana", reason, None, delivered, PLACE)
    assert words.access(it) == f"2026-10-07 00:00:00 UTC, {text} (leaf 4)"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("recording.sealed", "Encrypted"),
        ("anomaly.store_mismatch", "Anomaly: store mismatch"),
        ("key.rotated_again", "key: rotated again"),
    ],
)
def test_event_is_told_in_words_or_by_its_name(kind: str, text: str) -> None:
    assert words.event(kind) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (1.0, "100 %"), (1.5, "100 %"), (0.99999, "99.99 %"), (0.5, "50.00 %"), (0.0, "0.00 %"), (0.00019, "0.01 %")],
)  # fmt: skip
def test_share_is_rounded_down(value: float | None, text: str) -> None:
    assert words.share(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (10**6 - 1, "1000.0 kB"), (10**6, "1.0 MB"), (10**9, "1.0 GB"),
     (25 * 10**11, "2.5 TB")],
)  # fmt: skip
def test_size_is_told_in_its_unit(count: int, text: str) -> None:
    assert words.size(count) == text


def test_pause_is_told_when_there_is_one() -> None:
    assert (words.pause(None), words.pause(2 * HOUR)) == ("–", "2 h")


def test_month_is_laid_out_from_monday_to_sunday() -> None:
    days = [replace(QUIET, day=BEGIN.date() + n * NIGHT) for n in range(6)]  # a Wednesday to a Monday
    first, second = words.weeks(account(*days))
    assert first == [None, None, *days[:5]]
    assert second == [days[5], *[None] * 6]
    assert words.weeks(account(*days[:5])) == [[None, None, *days[:5]]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "4/7"),
        ({"gaps_open": 1}, "4/7, 1 gap"),
        ({"gaps_open": 2}, "4/7, 2 gaps"),
        ({"listed": 2}, "2 without audio"),
        ({"listed": 2, "gaps_open": 1}, "2 without audio, 1 gap"),
        ({"listed": 0}, "no calls"),
        ({"listed": 0, "verdict": Verdict.PARTLY, "gaps_open": 2}, "none listed, 2 gaps"),
        ({"listed": 0, "verdict": Verdict.MISSING, "gaps_open": 1}, "no calls, 1 gap"),
        *[
            ({"listed": 0, "gaps_open": 1, "verdict": each}, "")
            for each in (Verdict.RUNNING, Verdict.OUTSIDE, Verdict.NEVER)
        ],
        ({"verdict": Verdict.NEVER}, "4/7"),
    ],
)
def test_day_in_the_calendar_says_how_much_of_it_is_here(change: dict[str, Any], text: str) -> None:
    assert words.cell(replace(DAY, **change)) == text
