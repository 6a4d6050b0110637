"""The machine forms of the report, member by member: each fact under its name, in its one shape."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from archiver.completeness.clocks import StorageCost
from archiver.compliance.facts import (
    Access,
    Account,
    Check,
    Checkpoint,
    Day,
    Events,
    Kept,
    Lag,
    Late,
    Log,
    Missing,
    Place,
    Refused,
    Report,
    Run,
    Stated,
    Storage,
    Verdict,
    Vouched,
)
from archiver.compliance.month import Month
from archiver.compliance.report_data import as_json, days_csv, gaps_csv, report_json
from archiver.compliance.rules import unchecked

HOUR = timedelta(hours=1)


def at(day: int, micros: int = 250_000) -> datetime:
    """An instant of October 2026 with a fraction of a second, which some fields show and others leave out."""
    return datetime(2026, 10, day, 9, 30, 15, micros, UTC)


STATED = Stated(3, "ab" * 32, at(9), Place("log-1", 41, published=True), "not what was signed", ("listed", "states"))
DAYS = (
    Day(date(2026, 10, 7), Verdict.PARTLY, 24 * HOUR, 16 * HOUR, 7, 3, 1, 2, 4, 5, 1, 6, 8, 9, 48_000, 95 * HOUR / 60, STATED),
    Day(date(2026, 10, 8), Verdict.NEVER, timedelta(0), timedelta(0), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, timedelta(0), None),
)  # fmt: skip
LAG = Lag(3, timedelta(seconds=61.5), timedelta(seconds=120), HOUR)
ACCOUNT = Account(
    "justcall-sales", True, at(1), 2, DAYS, LAG, None,
    (Late("rec-1", at(2), at(3), at(4), "plan", at(5)), Late("rec-2", at(2), at(3), None, None, None)), 2, 1,
    (Kept("default", 3, at(6), at(7)), Kept("short", 1, None, None)), at(8), None,
    StorageCost(1_230_000, 400_000, 6_030_000, source="terms", currency="EUR"),
)  # fmt: skip
QUIET = Account("vobiz-in", False, None, 0, (), None, LAG, (), 0, 0, (), None, at(10))
LOST = Missing(
    "gap-1", "justcall-sales", "rec:x", "gone_at_provider", "open", "наушники", {"b": [1, "zwei"], "a": None}, at(11), at(12),
    at(13), at(14), at(15), "r.ortega", "=known",
    {"opened": Place("log-1", 5), "acknowledged": Place("log-1", None), "closed": Place("log-1", 9)},
)  # fmt: skip
SAVABLE = Missing(
    "gap-2", "vobiz-in", "span:y", "never_listed", "watched", "why", {}, None, None, at(16), None, None, None, None,
    {"acknowledged": Place("log-1", 6)},
)  # fmt: skip
STORAGE = Storage(
    "primary", True, 4, 900, {"compliance": 3, "off": 1}, at(17), 1, 2, 3, False, at(18), ("lock", "versions"),
    (Run(at(19), 4, 5, 3, {"orphan": 1}, Place("log-1", 7, published=True)),),
)  # fmt: skip
LOG = Log(
    "example.org/log", 50, 2, Checkpoint(48, "cd" * 32, at(20), at(21)), (Events("recording.stored", 4, 8, 12),), 9, 8,
    Checkpoint(10, "ef" * 32, at(1), None), None, timedelta(minutes=90, seconds=0.75), (Vouched("witness", "w1", 7, at(22), 48),),
    (Refused(1, None, 2, "signature", at(23)),),
)  # fmt: skip
REPORT = Report(
    "acme", "1.0", Month(2026, 10), datetime(2026, 11, 2, 8, tzinfo=UTC), "justcall-sales", (ACCOUNT, QUIET), (LOST, SAVABLE),
    (STORAGE,), LOG, (Check(at(24), "sample", 5, 4, {"digest": 1}, Place("log-1", None)),),
    accesses=(Access(at(25), "heard", "rec-1", "r.ortega", None, None, None, Place("log-1", 13)),),
)  # fmt: skip


def precise(day: int) -> str:
    return f"2026-10-{day:02}T09:30:15.250000Z"


def to_second(day: int) -> str:
    return f"2026-10-{day:02}T09:30:15Z"


def place(leaf: int | None, *, published: bool = False) -> dict[str, object]:
    return {"log": "log-1", "leaf": leaf, "published": published}


LAG_SHOWN = {"recordings": 3, "median": 61, "p95": 120, "longest": 3600}
EXPECTED: dict[str, Any] = {
    "instance": "acme",
    "version": "1.0",
    "month": "2026-10",
    "made_at": "2026-11-02T08:00:00.000000Z",
    "only": "justcall-sales",
    "accounts": [
        {
            "provider": "justcall-sales",
            "configured": True,
            "since": to_second(1),
            "scopes": 2,
            "days": [
                {
                    "day": "2026-10-07", "verdict": "partly", "asked": 86400, "covered": 57600, "listed": 7, "archived": 3,
                    "without_audio": 1, "pending": 2, "gone": 4, "absent": 5, "disposed": 1, "gaps_open": 6,
                    "gaps_acknowledged": 8, "rejects": 9, "archived_bytes": 48_000, "archived_for": 5700,
                    "stated": {
                        "revision": 3, "sha256": "ab" * 32, "at": precise(9), "place": place(41, published=True),
                        "problem": "not what was signed", "changed": ["listed", "states"],
                    },
                },
                {
                    "day": "2026-10-08", "verdict": "never", "asked": 0, "covered": 0, "listed": 0, "archived": 0,
                    "without_audio": 0, "pending": 0, "gone": 0, "absent": 0, "disposed": 0, "gaps_open": 0,
                    "gaps_acknowledged": 0, "rejects": 0, "archived_bytes": 0, "archived_for": 0, "stated": None,
                },
            ],
            "after_call": LAG_SHOWN,
            "after_listing": None,
            "late": [
                {
                    "recording": "rec-1", "called_at": to_second(2), "archive_by": to_second(3), "delete_at": to_second(4),
                    "source": "plan", "archived_at": precise(5),
                },
                {
                    "recording": "rec-2", "called_at": to_second(2), "archive_by": to_second(3), "delete_at": None,
                    "source": None, "archived_at": None,
                },
            ],
            "late_total": 2,
            "past_deletion": 1,
            "kept": [
                {"rule": "default", "recordings": 3, "first_until": to_second(6), "last_until": to_second(7)},
                {"rule": "short", "recordings": 1, "first_until": None, "last_until": None},
            ],
            "polled_at": precise(8),
            "poll_succeeded_at": None,
            "storage_cost": {
                "currency": "EUR", "so_far_micro_usd": 1_230_000, "per_month_micro_usd": 400_000,
                "in_a_year_micro_usd": 6_030_000, "source": "terms",
            },
            "coverage": 0.666666,
            "capture": 0.666666,
        },
        {
            "provider": "vobiz-in", "configured": False, "since": None, "scopes": 0, "days": [], "after_call": None,
            "after_listing": LAG_SHOWN, "late": [], "late_total": 0, "past_deletion": 0, "kept": [], "polled_at": None,
            "poll_succeeded_at": precise(10), "storage_cost": None, "coverage": None, "capture": None,
        },
    ],
    "gaps": [
        {
            "id": "gap-1", "provider": "justcall-sales", "subject": "rec:x", "code": "gone_at_provider", "grade": "open",
            "detail": "наушники", "evidence": {"b": [1, "zwei"], "a": None}, "since": precise(11), "until": precise(12),
            "opened_at": precise(13), "closed_at": precise(14), "acked_at": precise(15), "acked_by": "r.ortega",
            "ack_reason": "=known", "events": {"opened": place(5), "acknowledged": place(None), "closed": place(9)},
        },
        {
            "id": "gap-2", "provider": "vobiz-in", "subject": "span:y", "code": "never_listed", "grade": "watched",
            "detail": "why", "evidence": {}, "since": None, "until": None, "opened_at": precise(16), "closed_at": None,
            "acked_at": None, "acked_by": None, "ack_reason": None, "events": {"acknowledged": place(6)},
        },
    ],
    "storages": [
        {
            "id": "primary", "required": True, "copies": 4, "bytes": 900, "locks": {"compliance": 3, "off": 1},
            "first_until": to_second(17), "on_hold": 1, "not_read_back": 2, "without_copy": 3, "trusted": False,
            "probed_at": precise(18), "failed": ["lock", "versions"],
            "runs": [
                {
                    "at": precise(19), "copies": 4, "versions": 5, "locks_read": 3, "findings": {"orphan": 1},
                    "place": place(7, published=True),
                },
            ],
        },
    ],
    "log": {
        "origin": "example.org/log", "size": 50, "waiting": 2,
        "newest": {"size": 48, "root": "cd" * 32, "signed_at": precise(20), "published_at": precise(21)},
        "events": [{"type": "recording.stored", "count": 4, "first": 8, "last": 12}],
        "checkpoints": 9, "published": 8,
        "first": {"size": 10, "root": "ef" * 32, "signed_at": precise(1), "published_at": None},
        "last": None, "longest_pause": 5400,
        "vouched": [{"kind": "witness", "name": "w1", "count": 7, "last_at": precise(22), "size": 48}],
        "refused": [{"number": 1, "subject": None, "seq": 2, "reason": "signature", "at": precise(23)}],
    },
    "checks": [
        {
            "at": precise(24), "depth": "sample", "recordings": 5, "objects_read": 4, "failures": {"digest": 1},
            "place": place(None),
        },
    ],
    "standing": {"level": "on time", "sentence": "Nothing is at risk", "concerns": []},
    "accesses": [
        {
            "at": precise(25), "what": "heard", "recording": "rec-1", "who": "r.ortega", "reason": None, "export": None,
            "delivered": None, "place": place(13),
        },
    ],
    "preliminary": False,
    "complete": False,
    "unsettled": 0,
    "losses": ["gap-1"],
}  # fmt: skip


def test_each_fact_stands_in_the_json_under_its_name_in_its_one_shape() -> None:
    made = as_json(REPORT)
    data: Any = made.pop("data")
    assert made == {"schema": "archiver.report/v1", "generated_at": "2026-11-02T08:00:00.000000Z"}
    said = data.pop("not_checked")
    assert said == list(unchecked(REPORT))
    assert len(said) > 3
    assert data == EXPECTED
    assert type(data["accounts"][0]["days"][0]["verdict"]) is str


def test_a_month_that_is_not_over_is_preliminary_in_the_json() -> None:
    early: Any = as_json(replace(REPORT, made_at=at(20), gaps=(replace(LOST, closed_at=None, acked_at=None),)))["data"]
    assert (early["preliminary"], early["unsettled"], early["made_at"]) == (True, 1, precise(20))


def test_a_complete_month_is_complete_in_the_json() -> None:
    day = replace(DAYS[0], verdict=Verdict.COMPLETE, stated=replace(STATED, problem=None, changed=()))
    whole = replace(REPORT, accounts=(replace(ACCOUNT, days=(day,)),), storages=(replace(STORAGE, without_copy=0),))
    shown: Any = as_json(whole)["data"]
    assert shown["complete"] is True


@pytest.mark.parametrize(
    ("covered", "share"),
    [(86_400, 1.0), (0, 0.0), (86_399, 0.999988), (28_800, 0.333333), (86_400 - 1e-5, 0.999999)],
)
def test_only_the_whole_is_shown_as_one(covered: float, share: float) -> None:
    day = replace(DAYS[0], covered=timedelta(seconds=covered))
    shown: Any = as_json(replace(REPORT, accounts=(replace(ACCOUNT, days=(day,)),)))["data"]
    assert shown["accounts"][0]["coverage"] == share


def test_the_json_file_is_text_that_people_can_read_and_ends_its_line() -> None:
    text = report_json(REPORT)
    assert json.loads(text) == as_json(REPORT)
    lines = text.decode().split("\n")
    assert lines[:4] == [
        "{",
        '  "schema": "archiver.report/v1",',
        '  "generated_at": "2026-11-02T08:00:00.000000Z",',
        '  "data": {',
    ]
    assert lines[-2:] == ["}", ""]
    assert '        "detail": "наушники",' in lines


DAYS_CSV = [
    (
        "provider,day,verdict,asked_s,covered_s,listed,archived,without_audio,pending,gone,absent,disposed,gaps_open,"
        "gaps_acknowledged,rejects,archived_bytes,archived_s,statement_revision,statement_sha256,statement_leaf,"
        "statement_published,statement_problem,changed_since"
    ),
    (
        f"justcall-sales,2026-10-07,partly,86400,57600,7,3,1,2,4,5,1,6,8,9,48000,5700,3,{'ab' * 32},41,True,not what was signed,"
        "listed states"
    ),
    "justcall-sales,2026-10-08,never,0,0,0,0,0,0,0,0,0,0,0,0,0,0,,,,,,",
    "",
]


def test_the_table_of_days_has_a_line_for_each_day_with_its_proof() -> None:
    assert days_csv(REPORT).decode().split("\r\n") == DAYS_CSV


GAPS = {
    "id": ("gap-1", "gap-2"),
    "provider": ("justcall-sales", "vobiz-in"),
    "subject": ("rec:x", "span:y"),
    "code": ("gone_at_provider", "never_listed"),
    "standing": ("closed", "watched"),
    "loss": ("whole", ""),
    "detail": ("наушники", "why"),
    "evidence": ('{"a": null, "b": [1, "zwei"]}', "{}"),
    "since": (precise(11), ""),
    "until": (precise(12), ""),
    "opened_at": (precise(13), precise(16)),
    "closed_at": (precise(14), ""),
    "acked_at": (precise(15), ""),
    "acked_by": ("r.ortega", ""),
    "ack_reason": ("'=known", ""),
    "opened_leaf": ("5", ""),
    "acknowledged_leaf": ("", "6"),
    "closed_leaf": ("9", ""),
}


def test_the_table_of_gaps_has_a_line_for_each_gap_with_the_leaves_of_its_events() -> None:
    head, *rows = csv.reader(io.StringIO(gaps_csv(REPORT).decode()))
    assert head == list(GAPS)
    assert rows == [[column[number] for column in GAPS.values()] for number in range(2)]


def test_the_tables_of_an_empty_report_are_their_heads() -> None:
    empty = replace(REPORT, accounts=(), gaps=())
    assert days_csv(empty).decode() == f"{DAYS_CSV[0]}\r\n"
    assert gaps_csv(empty).decode() == ",".join(GAPS) + "\r\n"
