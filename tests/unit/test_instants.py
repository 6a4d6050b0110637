"""Each field of JSON has one shape, also at the one instant in a million that has no fraction of a second."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from archiver.cli.output import envelope
from archiver.completeness import register
from archiver.completeness.gap import Code, Gap, Grade
from archiver.completeness.reconcile import Reconciled
from archiver.compliance.facts import Account, Kept, Late, Report, Storage
from archiver.compliance.month import Month
from archiver.compliance.report_data import as_json as month_json
from archiver.custody.event import format_time
from archiver.ingest import public_views
from archiver.instants import precise, to_second, with_offset
from archiver.recovery.rebuild import Rebuilt
from archiver.status.report import as_json as status_json
from tests.unit.test_status_report import report as status

WHOLE = datetime(2026, 11, 30, 7, 8, 9, tzinfo=UTC)
BROKEN = WHOLE + timedelta(microseconds=120_000)
INDIA = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize("write", [precise, to_second, with_offset, format_time])
def test_instant_has_one_shape_and_is_in_utc(write: Callable[[datetime], str]) -> None:
    assert _shape(write(WHOLE)) == _shape(write(BROKEN))
    assert write(WHOLE.astimezone(INDIA)) == write(WHOLE)
    assert datetime.fromisoformat(write(WHOLE)) == WHOLE


@pytest.mark.parametrize("write", [precise, to_second, with_offset, format_time])
def test_instant_without_a_zone_is_refused(write: Callable[[datetime], str]) -> None:
    with pytest.raises(ValueError, match="without a zone"):
        write(WHOLE.replace(tzinfo=None))


class _Row(SimpleNamespace):
    """A row of any table, in which every other column is empty JSON."""

    def __getattr__(self, name: str) -> Any:
        return "[]" if name in {"flags", "evidence"} else None


def _recording(at: datetime) -> Any:
    names = (
        "call_started_at", "call_ended_at", "listed_at", "delete_at", "archive_by", "archived_at", "retain_until",
    )  # fmt: skip
    return public_views._recording(_Row(**dict.fromkeys(names, at)), [])  # type: ignore[arg-type]


def _gap(at: datetime) -> Any:
    names = ("since", "until", "opened_at", "seen_at", "closed_at", "acked_at")
    return register._public(_Row(**dict.fromkeys(names, at)))  # type: ignore[arg-type]


def _found_gap(at: datetime) -> Any:
    return register.shown(Gap("p", "rec:a", Code.GONE, Grade.OPEN, "", {}, at, at), None)


def _month(at: datetime) -> Any:
    kept = Kept("rule", 1, at, at)
    late = Late("a", at, at, at, "config", at)
    account = Account("p", True, at, 1, (), None, None, (late,), 1, 0, (kept,), at, at)
    storage = Storage("primary", True, 2, 10, {"compliance": 2}, at, 0, 0, 0, True, at, (), ())
    return month_json(Report("acme", "1", Month(2026, 10), at, None, (account,), (), (storage,), None))


def _reconciled(at: datetime) -> Any:
    return Reconciled("primary", at, at).as_json()


def _rebuilt(at: datetime) -> Any:
    return Rebuilt(known_until=at).as_json()


def _status(at: datetime) -> Any:
    (one,) = status().providers
    one = replace(one, covered_until=at, counts=replace(one.counts, nearest_deadline=at, polled_at=at))
    return status_json(replace(status(), at=at, providers=(one,)))


def _envelope(at: datetime) -> Any:
    return envelope("archiver.x/v1", None, SimpleNamespace(now=lambda: at, monotonic=lambda: 0.0))


@pytest.mark.parametrize(
    ("make", "precisely", "to_the_second"),
    [
        (_recording, {"listed_at", "archived_at"},
         {"call_started_at", "call_ended_at", "delete_at", "archive_by", "retain_until"}),
        (_gap, {"since", "until", "opened_at", "seen_at", "closed_at", "acked_at"}, set()),
        (_found_gap, {"since", "until"}, set()),
        (_month, {"generated_at", "made_at", "polled_at", "poll_succeeded_at", "archived_at", "probed_at"},
         {"since", "called_at", "archive_by", "delete_at", "first_until", "last_until"}),
        (_reconciled, {"started_at", "finished_at"}, set()),
        (_rebuilt, {"known_until"}, set()),
        (_status, {"covered_until", "polled_at", "poll_succeeded_at"}, {"nearest_deadline"}),
        (_envelope, set(), {"generated_at"}),
    ],
)  # fmt: skip
def test_field_of_json_has_its_shape_at_every_instant(
    make: Callable[[datetime], Any], precisely: set[str], to_the_second: set[str]
) -> None:
    whole, broken = dict(_instants(make(WHOLE))), dict(_instants(make(BROKEN)))
    assert whole == broken
    assert {name for name, shape in whole.items() if shape == "0-0-0T0:0:0.0Z"} == precisely
    assert {name for name, shape in whole.items() if shape == "0-0-0T0:0:0Z"} == to_the_second


def _shape(text: str) -> str:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?(Z|\+00:00)", text)
    return re.sub(r"\d+", "0", text)


def _instants(value: Any, name: str = "") -> Any:
    """Name and shape of each instant in a JSON value."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _instants(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _instants(each, name)
    elif isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        yield name, _shape(value)
