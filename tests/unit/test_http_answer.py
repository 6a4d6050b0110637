"""What an answer's headers ask for and which of them may be kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.providers.http_answer import (
    flatten,
    http_date,
    is_strong,
    kept_headers,
    range_start,
    retry_after,
    wait_asked,
    wait_due,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
DEFAULT = timedelta(seconds=5)
HOUR = 3600.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 5.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 1.0),
        ({"retry-after": "1000000000"}, HOUR),
        ({"retry-after": "1e9"}, 5.0),
        ({"retry-after": "-5"}, 5.0),
        ({"retry-after": "nan"}, 5.0),
        ({"retry-after": "٧"}, 5.0),
        ({"retry-after": "soon"}, 5.0),
        ({"retry-after": "9" * 400}, 5.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT", "date": "Fri, 02 Jan 2026 03:04:25 GMT"}, 10.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT"}, 1.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, HOUR),
        ({"retry-after": "Fri, 99 Foo 2026 03:04:35 GMT"}, 5.0),
        ({"x-ratelimit-reset": str(EPOCH + 40)}, 40.0),
        ({"x-ratelimit-reset": str((EPOCH + 40) * 1000)}, 40.0),
        ({"x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-reset": str(EPOCH - 40)}, 5.0),
        ({"x-rate-limit-burst-reset": str(EPOCH + 20), "x-rate-limit-reset": str(EPOCH + 900)}, 20.0),
        (
            {
                "x-rate-limit-burst-reset": str(EPOCH + 20),
                "x-rate-limit-reset": str(EPOCH + 900),
                "x-rate-limit-remaining": "0",
            },
            900.0,
        ),
        ({"retry-after": "3", "x-ratelimit-reset": str(EPOCH + 40)}, 3.0),
        ({"x-ratelimit-reset": str(EPOCH + 999_999)}, HOUR),
    ],
)
def test_a_429_is_waited_out_as_long_as_it_asks_but_an_hour_at_most(headers: dict[str, str], seconds: float) -> None:
    assert wait_asked(headers, NOW, DEFAULT).total_seconds() == seconds


def test_their_reset_is_read_by_their_clock() -> None:
    skewed = {"x-ratelimit-reset": str(EPOCH + 630), "date": "Fri, 02 Jan 2026 03:14:05 GMT"}
    assert wait_asked(skewed, NOW, DEFAULT) == timedelta(seconds=30)


def test_limit_used_up_pauses_before_the_429_comes() -> None:
    assert wait_due({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(EPOCH + 9)}, NOW) == timedelta(seconds=9)
    assert wait_due({"x-ratelimit-remaining": "1", "x-ratelimit-reset": str(EPOCH + 9)}, NOW) is None
    assert wait_due({"x-ratelimit-remaining": "0"}, NOW) is None


def test_no_retry_after_is_none() -> None:
    assert retry_after({}, NOW) is None


@given(
    st.dictionaries(st.sampled_from(["retry-after", "date", "x-ratelimit-reset", "x-ratelimit-remaining"]), st.text())
)
def test_no_header_can_ask_for_more_than_an_hour_or_break_the_reader(headers: dict[str, str]) -> None:
    assert timedelta(seconds=1) <= wait_asked(headers, NOW, DEFAULT) <= timedelta(hours=1)
    due = wait_due(headers, NOW)
    assert due is None or due <= timedelta(hours=1)


@pytest.mark.parametrize(
    "text", [None, "", "yesterday", "Fri, 02 Jan 2026 03:04:05 -0000", "Fri, 32 Jan 2026 03:04:05 GMT", "\x00"]
)
def test_date_that_is_none_is_not_guessed(text: str | None) -> None:
    assert http_date(text) is None


def test_kept_headers_hold_no_cookie_location_or_file_name() -> None:
    sent = [
        ("Content-Type", "audio/mpeg"),
        ("ETag", '"abc"'),
        ("Set-Cookie", "session=CANARY"),
        ("Location", "https://x/?sig=CANARY"),
        ("X-Auth-Token", "CANARY"),
        ("Content-Disposition", 'attachment; filename="+14155551234-CANARY.mp3"'),
        ("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT"),
        ("Server", "a\x7fb\xff" + "x" * 9000),
    ]
    kept = kept_headers(flatten(sent))
    assert "CANARY" not in str(kept)
    assert kept["content-disposition"] == "attachment"
    assert kept["content-type"] == "audio/mpeg"
    assert kept["server"].startswith("a?b?x")
    assert len(kept["server"]) == 512


def test_repeated_header_is_joined() -> None:
    assert flatten([("Via", "a"), ("VIA", "b")]) == {"via": "a, b"}


@pytest.mark.parametrize(
    ("value", "start"),
    [
        ("bytes 5-9/10", 5),
        ("bytes 5-9/*", 5),
        ("Bytes 0-0/1", 0),
        ("bytes */10", None),
        ("5-9/10", None),
        ("", None),
        ("bytes -5-9/10", None),
    ],
)
def test_content_range_tells_where_a_part_starts(value: str, start: int | None) -> None:
    assert range_start({"content-range": value}) == start


@pytest.mark.parametrize(
    ("etag", "strong"),
    [
        ('"abc"', True),
        ('""', True),
        ('W/"abc"', False),
        ("abc", False),
        (None, False),
        ('"a"b"', False),
        ('"a\r\nX: y"', False),
    ],
)
def test_parts_are_joined_on_a_strong_etag_only(etag: str | None, strong: bool) -> None:
    assert is_strong(etag) is strong
