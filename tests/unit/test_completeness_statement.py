"""A day's statement: its bytes, when it calls the day complete, and what its signed event repeats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from archiver.completeness.statement import (
    Before,
    Day,
    Enumerated,
    Standing,
    because,
    canonical_loads,
    check,
    document,
    facts,
    is_complete,
    summary,
    told_of,
)
from archiver.custody import canonical
from archiver.custody.event import Event, Type
from archiver.errors import VerificationError
from archiver.recording import Window


def at(hour: int) -> datetime:
    return datetime(2028, 2, 29, hour, tzinfo=UTC)


def gap(subject: str, code: str = "not_recorded", *, acknowledged: bool = False, grade: str = "open") -> Standing:
    return Standing(subject, code, grade, at(1), at(9), acknowledged)


def listing(scope: str, since: int) -> Enumerated:
    return Enumerated(scope, Window(at(since), at(since + 1)), 5, None, "ab" * 32, at(since + 2))


EMPTY = Day("p", date(2028, 2, 29), {}, 0, 0, 0, 0, {}, (), ())
RICH = replace(
    EMPTY,
    states={"listed": 1, "archived": 2, "absent": 1},
    silent=1,
    archived_bytes=900,
    archived_ms=70,
    rejects=3,
    holes={"z": [Window(at(3), at(4)), Window(at(5), at(6))], "Zoe\u0308": [Window(at(1), at(2))], "none": []},
    listings=[listing("b", 3), listing("b", 2), listing("Zoe\u0308", 4)],
    gaps=[gap("rec:b", "z"), gap("rec:b", "a", acknowledged=True), gap("Zoe\u0308", "z", grade="note")],
)
FIGURES = {
    "listed": 4,
    "archived": 2,
    "without_audio": 1,
    "gaps": {"a": 1, "z": 2},
    "acknowledged": 1,
    "holes": 3,
}


def test_a_statement_is_these_facts_in_this_order_and_all_text_in_one_spelling() -> None:
    told = {"since": "2028-02-29T01:00:00Z", "until": "2028-02-29T09:00:00Z"}
    assert json.loads(document(RICH)) == {
        "schema": "archiver.completeness/v1",
        "provider": "p",
        "day": "2028-02-29",
        "revision": 1,
        "previous": None,
        "because": {},
        "listed": 4,
        "states": {"absent": 1, "archived": 2, "listed": 1},
        "without_audio": 1,
        "archived_bytes": 900,
        "archived_ms": 70,
        "rejects": 3,
        "holes": [
            {"scope": "Zo\u00eb", "since": "2028-02-29T01:00:00Z", "until": "2028-02-29T02:00:00Z"},
            {"scope": "z", "since": "2028-02-29T03:00:00Z", "until": "2028-02-29T04:00:00Z"},
            {"scope": "z", "since": "2028-02-29T05:00:00Z", "until": "2028-02-29T06:00:00Z"},
        ],
        "gaps": [
            {"subject": "Zo\u00eb", "code": "z", "grade": "note", "acknowledged": False, **told},
            {"subject": "rec:b", "code": "a", "grade": "open", "acknowledged": True, **told},
            {"subject": "rec:b", "code": "z", "grade": "open", "acknowledged": False, **told},
        ],
        "complete": False,
        "listings": [
            {
                "scope": scope,
                "since": f"2028-02-29T0{since}:00:00Z",
                "until": f"2028-02-29T0{since + 1}:00:00Z",
                "rows": 5,
                "total": None,
                "sha256": "ab" * 32,
                "completed_at": f"2028-02-29T0{since + 2}:00:00Z",
            }
            for scope, since in (("Zo\u00eb", 4), ("b", 2), ("b", 3))
        ],
    }
    assert list(facts(RICH)["states"]) == ["absent", "archived", "listed"]  # type: ignore[arg-type]


def test_the_signed_event_names_the_document_and_repeats_its_figures() -> None:
    raw = document(RICH)
    said = summary(RICH, raw)
    assert said == {
        "kind": "completeness",
        "provider": "p",
        "day": "2028-02-29",
        "revision": 1,
        "previous": None,
        "because": {},
        "statement_sha256": hashlib.sha256(raw).hexdigest(),
        "statement_bytes": len(raw),
        "complete": False,
        "listings": 3,
        **FIGURES,
    }
    assert list(said["gaps"]) == ["a", "z"]  # type: ignore[arg-type]
    assert check(raw, said) == canonical_loads(raw)
    assert summary(EMPTY, b"")["archived"] == 0


def test_a_revision_names_the_one_before_and_tells_why_only_when_the_day_becomes_complete() -> None:
    whole = replace(EMPTY, states={"archived": 2})
    was = {"complete": False, "listed": 2}
    assert summary(whole, b"", Before(4, "cd" * 32, was))["because"] == {"recordings_settled": 2}
    assert summary(whole, b"", Before(4, "cd" * 32))["because"] == {"recordings_settled": 2}
    assert summary(whole, b"", Before(4, "cd" * 32, {"complete": True}))["because"] == {}
    assert summary(RICH, b"", Before(4, "cd" * 32, was))["because"] == {}
    for made in (summary(RICH, b"", Before(4, "cd" * 32, was)), json.loads(document(RICH, Before(4, "cd" * 32, was)))):
        assert (made["revision"], made["previous"]) == (5, {"revision": 4, "sha256": "cd" * 32})


@pytest.mark.parametrize(
    ("change", "complete"),
    [
        ({}, True),  # nobody called
        ({"states": {"listed": 1}}, False),
        ({"states": {"archived": 2, "disposed": 1}}, True),
        ({"states": {"archived": 2, "listed": 1}}, False),
        ({"states": {"archived": 2, "absent": 1}}, False),
        ({"states": {"archived": 2, "absent": 1}, "silent": 1}, True),
        ({"states": {"archived": 2, "absent": 1}, "gaps": [gap("rec:a", acknowledged=True)]}, True),
        ({"states": {"archived": 2, "absent": 2}, "gaps": [gap("rec:a", acknowledged=True)]}, False),
        ({"states": {"archived": 2, "absent": 1}, "gaps": [gap("window:a", acknowledged=True)]}, False),
        ({"states": {"archived": 2, "absent": 1}, "gaps": [gap("rec:a", grade="note")]}, False),
        ({"states": {"archived": 2}, "gaps": [gap("rec:a")]}, False),
        ({"states": {"archived": 2}, "gaps": [gap("rec:a", grade="note")]}, True),
        ({"states": {"archived": 2}, "gaps": [gap("rec:a", acknowledged=True), gap("rec:b")]}, False),
        ({"states": {"archived": 2}, "holes": {"": [Window(at(1), at(2))]}}, False),
        ({"states": {"archived": 2}, "holes": {"": []}}, True),
    ],
)
def test_a_day_is_complete_when_every_recording_is_here_or_excused_and_every_minute_was_listed(
    change: dict[str, Any], complete: bool
) -> None:
    day = replace(EMPTY, **change)
    assert is_complete(day) is complete
    assert facts(day)["complete"] is complete


@pytest.mark.parametrize(
    ("before", "now", "reasons"),
    [
        ({"gaps": {"a": 2}}, {"gaps": {"b": 5}}, {"gaps_closed": 2}),
        ({"gaps": ["a"], "holes": "3"}, {}, {"gaps_regraded": 1}),
        ({"gaps": {"a": "2", "b": 1}}, {}, {"gaps_closed": 1}),
        ({"acknowledged": 1, "holes": 2}, {"acknowledged": 3, "holes": 1}, {"gaps_acknowledged": 2, "holes_listed": 1}),
        ({"archived": 1, "without_audio": 2}, {"archived": 2, "without_audio": 2}, {"recordings_settled": 1}),
        ({"archived": 3, "listed": 2}, {"archived": 2, "listed": 3}, {"gaps_regraded": 1}),
    ],
)
def test_what_other_versions_said_is_counted_as_far_as_it_are_numbers(
    before: Mapping[str, Any], now: Mapping[str, Any], reasons: Mapping[str, int]
) -> None:
    assert because(before, now) == reasons


@pytest.mark.parametrize("name", ["provider", "day", "revision", "complete", "listed"])
def test_a_statement_that_differs_from_its_event_is_named_by_the_figure(name: str) -> None:
    raw = document(RICH)
    with pytest.raises(VerificationError, match=f"differ in {name}"):
        check(raw, {**summary(RICH, raw), name: "other"})


def test_a_statement_that_was_not_signed_is_refused() -> None:
    raw = document(RICH)
    with pytest.raises(VerificationError, match="not the one that was signed"):
        check(document(EMPTY), summary(RICH, raw))
    with pytest.raises(VerificationError, match="not the one that was signed"):
        check(raw, {})


@pytest.mark.parametrize("value", [[], 5, {}, {"schema": "archiver.completeness/v2"}, {"provider": "p"}], ids=str)
def test_what_is_no_statement_is_refused(value: object) -> None:
    raw = canonical.dumps(value)
    for read in (
        lambda: canonical_loads(raw),
        lambda: check(raw, {"statement_sha256": hashlib.sha256(raw).hexdigest()}),
    ):
        with pytest.raises(VerificationError, match="not a completeness statement"):
            read()


@pytest.mark.parametrize(
    ("change", "lacking", "told"),
    [
        ({}, (), True),
        ({"subject": "rec:x"}, (), False),
        ({"type": Type.GAP}, (), False),
        ({}, ("kind",), False),
        ({}, ("provider",), False),
        ({}, ("day",), False),
        ({}, ("revision",), False),
        ({}, ("statement_sha256",), False),
    ],
)
def test_an_event_signs_a_statement_when_it_names_all_of_it(
    change: dict[str, Any], lacking: Sequence[str], told: bool
) -> None:
    data = {name: value for name, value in summary(RICH, b"").items() if name not in lacking}
    event = Event("archive", 3, "ab" * 32, Type.RECONCILED, at(1), "", "", data=data)
    assert told_of(replace(event, **change)) is told
