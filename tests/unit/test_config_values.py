"""Durations, sizes, rates and the rest: what is understood, and what is refused with which hint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from archiver.config import values
from archiver.retention.span import Span


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", timedelta(minutes=10)),
        ("1h30m", timedelta(minutes=90)),
        ("90d", timedelta(days=90)),
        ("2w", timedelta(days=14)),
        ("1y", timedelta(days=365)),
        ("0s", timedelta(0)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert values.parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "90", "90 day", "-1h", "1.5h", "1h 30m", "h", "1mo", "９d", "99999999y", None, ["1h"], True]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(PydanticCustomError) as refusal:
        values.parse_duration(text)
    assert refusal.value.type == "C121"


@given(st.integers(min_value=0, max_value=10**9))
def test_a_shown_duration_reads_back_as_itself(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert values.parse_duration(values.show_duration(duration)) == duration


def test_years_of_a_span_are_calendar_years() -> None:
    seven = values.parse_span("7y")
    assert seven.after(datetime(2020, 2, 28, 12, tzinfo=UTC)) == datetime(2027, 2, 28, 12, tzinfo=UTC)
    assert values.show_span(values.parse_span("1y90d")) == "1y90d"
    with pytest.raises(PydanticCustomError, match="no time at all"):
        values.parse_span("0d")


def test_a_span_from_29_february_is_never_shorter_than_asked() -> None:
    assert Span(years=1).after(datetime(2024, 2, 29, tzinfo=UTC)) == datetime(2025, 3, 1, tzinfo=UTC)
    assert Span(years=4).after(datetime(2024, 2, 29, tzinfo=UTC)) == datetime(2028, 2, 29, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda each: each.year < 9000), st.integers(0, 30))
def test_a_span_is_at_least_365_days_for_each_year(instant: datetime, years: int) -> None:
    assert Span(years).after(instant) - instant >= timedelta(days=365 * years)


@pytest.mark.parametrize(("text", "size"), [("2GiB", 2**31), ("5GB", 5 * 10**9), ("500 MB", 5 * 10**8), ("10B", 10)])
def test_sizes(text: str, size: int) -> None:
    assert values.parse_size(text) == size
    assert values.parse_size(str(values.parse_size(text))) == size


@pytest.mark.parametrize("text", ["5", "5G", "0GB", "-1GB", "1.5GB", "GB", "5gb", None])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(PydanticCustomError) as refusal:
        values.parse_size(text)
    assert refusal.value.type == "C122"


@pytest.mark.parametrize("text", ["60/min", "10/s", "1800/h"])
def test_rates_show_as_written(text: str) -> None:
    assert str(values.parse_rate(text)) == text


@pytest.mark.parametrize("text", ["60", "0/s", "60/day", "/s", "60 / min", None])
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(PydanticCustomError) as refusal:
        values.parse_rate(text)
    assert refusal.value.type == "C123"


@pytest.mark.parametrize("text", ["*/10 7-20 * * mon-sat", "0 3 1 * *", "0,30 0-23/2 * jan-mar sun"])
def test_cron_expressions_that_the_scheduler_takes(text: str) -> None:
    from apscheduler.triggers.cron import CronTrigger

    assert values.parse_cron(text) == text
    CronTrigger.from_crontab(text, timezone=UTC)


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "* * 0 * *", "* * * * 1", "*/0 * * * *", "5-1 * * * *", "x * * * *", None]
)
def test_what_is_no_cron_expression_is_refused(text: object) -> None:
    with pytest.raises(PydanticCustomError):
        values.parse_cron(text)


def test_instants_without_an_offset_are_utc() -> None:
    assert values.parse_instant("2026-01-01") == datetime(2026, 1, 1, tzinfo=UTC)
    assert values.parse_instant("2026-01-01T01:00:00+01:00") == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("text", "host", "port"), [("127.0.0.1:8484", "127.0.0.1", 8484), ("[::1]:80", "::1", 80)])
def test_listen_addresses(text: str, host: str, port: int) -> None:
    listen = values.parse_listen(text)
    assert (listen.host, listen.port, str(listen)) == (host, port, text)
