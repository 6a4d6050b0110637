"""Times, numbers, identifiers and links as providers really write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.providers import normal
from archiver.providers.rows import NumberText, RowError
from archiver.recording import Flag

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stated", "moment"),
    [
        ("2020-08-05 16:15:15.852059+05:30", datetime(2020, 8, 5, 10, 45, 15, 852059, UTC)),
        ("2026-05-07 09:45:35.79276+05:30", datetime(2026, 5, 7, 4, 15, 35, 792760, UTC)),
        ("2026-05-07 09:45:35.7+0530", datetime(2026, 5, 7, 4, 15, 35, 700000, UTC)),
        ("2026-05-07 09:45:35.123456789-01", datetime(2026, 5, 7, 10, 45, 35, 123456, UTC)),
        ("2012-02-04T23:33:08.079231", datetime(2012, 2, 4, 23, 33, 8, 79231, UTC)),
        ("2026-03-10T14:22:00Z", datetime(2026, 3, 10, 14, 22, tzinfo=UTC)),
        ("2026-03-10 8:25:43", datetime(2026, 3, 10, 8, 25, 43, tzinfo=UTC)),
        ("2026-03-10", datetime(2026, 3, 10, tzinfo=UTC)),
        ("2026-12-31 23:59:60", datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_every_written_time_becomes_the_same_instant(stated: str, moment: datetime) -> None:
    assert normal.instant(stated) == moment


@pytest.mark.parametrize(
    "stated",
    ["", "soon", "2026-13-01", "0000-00-00 00:00:00", "2026-02-30 10:00:00",
     "9999-12-31 23:59:59-23:00", None, 5, "x" * 99],
)  # fmt: skip
def test_a_garbage_time_is_none(stated: object) -> None:
    assert normal.instant(stated) is None


def test_milliseconds_since_the_epoch_come_as_decimal_text() -> None:
    assert normal.since_epoch_ms("1407235163907.00000") == datetime(2014, 8, 5, 10, 39, 23, 907000, UTC)
    assert normal.since_epoch_ms(None) is None
    assert normal.since_epoch_ms("9" * 29) is None


def test_gregorian_seconds_count_from_year_zero() -> None:
    assert normal.gregorian(62_167_219_200 + 86_400) == datetime(1970, 1, 2, tzinfo=UTC)
    assert normal.gregorian("63940386920") == datetime(2026, 3, 10, 18, 35, 20, tzinfo=UTC)
    assert normal.gregorian(0) is None
    moment = datetime(2026, 3, 10, 14, 22, 1, 999999, UTC)
    assert normal.gregorian(normal.to_gregorian(moment)) == moment.replace(microsecond=0)


def test_durations_tolerate_text_and_refuse_nonsense() -> None:
    assert normal.milliseconds("7880.00000") == timedelta(milliseconds=7880)
    assert normal.milliseconds(NumberText("345100.5")) == timedelta(milliseconds=345100, microseconds=500)
    assert normal.seconds(185) == timedelta(seconds=185)
    assert normal.seconds("-1") is None
    assert normal.milliseconds("1e25") is None
    assert normal.seconds(True) is None
    assert normal.seconds({"a": 1}) is None


@pytest.mark.parametrize(
    ("stated", "doubtful"),
    [
        ("2026-11-22 11:00:00", False),
        ("2026-11-22 13:00:00", True),
        ("1970-01-01 00:00:00", True),
        ("1999-12-31 23:59:59", True),
        ("garbage", True),
        ("", False),
        (None, False),
    ],
)
def test_future_1970_or_garbage_timestamps_are_flagged_not_dropped(stated: object, doubtful: bool) -> None:
    flags = normal.time_flags(NOW, (stated, normal.instant(stated)))
    assert flags == (frozenset({Flag.TIME_IMPLAUSIBLE}) if doubtful else frozenset())


@pytest.mark.parametrize("name", ["../", "%2e%2e", "a/b", "CON", "\u202egnp", "x" * 4096, 1001, "Ünï"])
def test_odd_ids_stay_what_they_are(name: object) -> None:
    assert normal.identifier(name) == str(name)


@pytest.mark.parametrize("name", ["", "  ", None, ".", "..", True, {}, "x" * 9000])
def test_an_id_that_cannot_be_asked_for_refuses_the_row(name: object) -> None:
    with pytest.raises(RowError):
        normal.identifier(name)


def test_formats_and_directions_have_one_name() -> None:
    assert {normal.audio_format(name) for name in ("mp3", ".mp3", "MP3", "audio/mpeg")} == {"mp3"}
    assert {normal.audio_format(name) for name in ("wav", "audio/x-wav", "audio/wave")} == {"wav"}
    assert normal.direction("Incoming") == "inbound"
    assert normal.direction("outbound") == "outbound"
    assert normal.direction(3) is None


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers()), st.dictionaries(st.text(), st.text()),
    st.from_regex(r"[+-]?\d{0,35}(\.\d{0,35})?(e[+-]?\d{0,3})?", fullmatch=True),
    st.from_regex(r"\d{4}-\d{1,2}-\d{1,2}[T ]\d{1,2}:\d{1,2}(:\d{1,2}(\.\d{0,9})?)?(Z|[+-]\d\d:?\d\d)?", fullmatch=True),
)  # fmt: skip


@given(anything)
def test_no_value_makes_a_reader_fail(value: object) -> None:
    for read in (normal.instant, normal.since_epoch_ms, normal.gregorian):
        moment = read(value)
        assert moment is None or moment.tzinfo is UTC
    for span in (normal.seconds(value), normal.milliseconds(value)):
        assert span is None or timedelta(0) <= span <= timedelta(days=366)
    normal.count(value)
    normal.direction(value)
    normal.audio_format(value)
    normal.plain(value)
