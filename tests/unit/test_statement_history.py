"""Statements of one day follow one another, or it is a finding: by `verify` and by the verifier in a bundle, which agree."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from archiver.completeness.statement import Before, Day, Standing, because, document, summary
from archiver.evidence.verifier.events import check_succession
from archiver.evidence.verifier.primitives import Wrong
from archiver.verify.stated import Renamed, Said, problems

DAY = date(2028, 2, 29)
FULL, LACKING = (
    Day("p", DAY, {"archived": 2}, 0, 9, 9, 0, {}, (), ()),
    Day("p", DAY, {"listed": 2}, 0, 0, 0, 0, {}, (), ()),
)


def chain(*days: Day) -> list[dict[str, Any]]:
    """What the archive states, one after the other."""
    found: list[dict[str, Any]] = []
    before = None
    for each in days:
        said = summary(each, document(each, before), before)
        found.append(dict(said))
        before = Before(int(str(said["revision"])), str(said["statement_sha256"]), said)
    return found


def told(events: list[dict[str, Any]]) -> tuple[list[str], str]:
    """What each of the two says of it; nothing, and "", when all is well."""
    ours = [sentence for _, sentence in problems(Said(10 + seq, data) for seq, data in enumerate(events))]
    try:
        check_succession([{"seq": 10 + seq, "data": data} for seq, data in enumerate(events)])
    except Wrong as wrong:
        return ours, str(wrong)
    return ours, ""


def old(revision: int, digest: str, *, complete: bool) -> dict[str, Any]:
    """As versions stated that did not name the statement before."""
    return {
        "provider": "p",
        "day": "2028-02-29",
        "revision": revision,
        "statement_sha256": digest * 64,
        "complete": complete,
    }


def test_statements_name_the_one_before_and_why_a_day_is_whole_after_all() -> None:
    first, second, third = chain(LACKING, FULL, LACKING)
    assert (first["revision"], first["previous"], first["because"]) == (1, None, {})
    assert second["previous"] == {"revision": 1, "sha256": first["statement_sha256"]}
    assert second["because"] == {"recordings_settled": 2}
    assert (third["revision"], third["because"]) == (3, {})
    assert told([first, second, third]) == ([], "")


@pytest.mark.parametrize(
    ("before", "now", "reasons"),
    [
        ({"gaps": {"a": 2, "b": 1}}, {"gaps": {"a": 1}}, {"gaps_closed": 2}),
        ({"gaps": {"a": 1}}, {"gaps": {"a": 1}, "acknowledged": 1}, {"gaps_acknowledged": 1}),
        ({"holes": 3}, {"holes": 0}, {"holes_listed": 3}),
        ({"listed": 3, "archived": 1}, {"listed": 3, "archived": 2, "without_audio": 1}, {"recordings_settled": 2}),
        ({"listed": 3, "archived": 2}, {"listed": 2, "archived": 2}, {"recordings_moved": 1}),
        ({"gaps": {"a": 1}}, {"gaps": {"a": 1}}, {"gaps_regraded": 1}),
        ({}, {}, {"gaps_regraded": 1}),
    ],
)
def test_reason_of_a_turn_is_counted_from_both_signed_events(
    before: Mapping[str, Any], now: Mapping[str, Any], reasons: Mapping[str, int]
) -> None:
    assert because(before, now) == reasons


def test_acknowledged_gap_is_a_reason_and_stays_in_the_statement() -> None:
    gap = Standing("rec:x", "not_recorded", "open", None, None, False)
    seen = Day("p", DAY, {"archived": 1, "absent": 1}, 0, 9, 9, 0, {}, (), (gap,))
    acked = Standing("rec:x", "not_recorded", "open", None, None, True)
    first, second = chain(seen, Day("p", DAY, {"archived": 1, "absent": 1}, 0, 9, 9, 0, {}, (), (acked,)))
    assert (first["complete"], second["complete"], second["because"]) == (False, True, {"gaps_acknowledged": 1})
    assert told([first, second]) == ([], "")


def test_statements_of_before_are_read_as_they_are() -> None:
    early = [old(1, "a", complete=False), old(2, "b", complete=True), old(2, "b", complete=True)]
    assert told(early) == ([], "")
    before = Before(2, "b" * 64, early[1])
    assert told([*early[:2], dict(summary(LACKING, document(LACKING, before), before))]) == ([], "")


def test_revision_stated_twice_with_another_content_is_a_finding() -> None:
    ours, theirs = told([old(1, "a", complete=False), old(2, "b", complete=False), old(1, "c", complete=True)])
    assert ours == ["revision 1 was stated twice, of different content, again by event 12"]
    assert "revision 1 was stated twice, of different content, again by event 12" in theirs


def test_turn_to_complete_without_a_reason_is_a_finding() -> None:
    first, second = chain(LACKING, FULL)
    for silent in ({**second, "because": {}}, {name: value for name, value in second.items() if name != "because"}):
        ours, theirs = told([first, silent])
        assert ours == ["event 11 calls it complete, which it was not, and states no reason"]
        assert "states no reason" in theirs
    # Who leaves the member out as early versions did gains nothing, once the day was stated with it.
    bare = {name: value for name, value in second.items() if name not in ("because", "previous")}
    assert told([first, bare])[0] == ["event 11 calls it complete, which it was not, and states no reason"]


@pytest.mark.parametrize("change", ["left out", "another", "none", "backwards"])
def test_statement_that_does_not_follow_the_one_before_it_is_a_finding(change: str) -> None:
    first, second, third = chain(LACKING, FULL, LACKING)
    events = {
        "left out": [first, third],
        "another": [first, {**second, "previous": {"revision": 1, "sha256": "0" * 64}}],
        "none": [first, {**second, "previous": None}],
        "backwards": [old(5, "a", complete=False), old(4, "b", complete=False)],
    }[change]
    ours, theirs = told(events)
    assert len(ours) == 1
    assert theirs


def test_statement_of_a_turned_back_database_counts_where_it_fits_and_is_no_finding_where_it_does_not() -> None:
    first, second, third = chain(LACKING, FULL, LACKING)
    home = {"rehomed": {"seq": 4}}
    assert told([first, {**second, **home}, third]) == ([], "")
    astray = {**chain(LACKING, LACKING)[1], **home, "statement_sha256": "f" * 64}
    assert told([first, second, astray, third]) == ([], "")


def test_statements_of_an_account_that_was_renamed_go_on_under_its_new_name() -> None:
    first, second = chain(LACKING, FULL)
    under = {**second, "provider": "new"}
    assert list(problems([Said(1, first), Said(9, under)], [Renamed(5, "p", "new")])) == []
    assert len(list(problems([Said(1, first), Said(9, under)]))) == 1
    check_succession([{"seq": 9, "data": under}], renamed=True)
    with pytest.raises(Wrong):
        check_succession([{"seq": 9, "data": under}])
