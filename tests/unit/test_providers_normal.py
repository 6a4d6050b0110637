"""Times, numbers, identifiers and links as providers really write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.providers import normal
from archiver.providers.address import OddLinkError
from archiver.providers.rows import NumberText, RowError
from archiver.recording import Audio, Flag, Link, Secret

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
        ("2026-03-10 08:25:43 +05:45", datetime(2026, 3, 10, 2, 40, 43, tzinfo=UTC)),
        ("2026-03-10 08:25:43-09:30", datetime(2026, 3, 10, 17, 55, 43, tzinfo=UTC)),
        ("2026-03-10 08:25:43 GMT", datetime(2026, 3, 10, 8, 25, 43, tzinfo=UTC)),
        ("2026-03-10".ljust(63), datetime(2026, 3, 10, tzinfo=UTC)),
    ],
)
def test_every_written_time_becomes_the_same_instant(stated: str, moment: datetime) -> None:
    read = normal.instant(stated)
    assert read == moment
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    "stated",
    ["", "soon", "2026-13-01", "0000-00-00 00:00:00", "2026-02-30 10:00:00",
     "9999-12-31 23:59:59-23:00", None, 5, "x" * 99, "2026-03-10".ljust(64)],
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
    assert normal.to_gregorian(moment) == 63_940_371_721
    before_the_epoch = datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC)
    assert normal.to_gregorian(before_the_epoch) == normal.GREGORIAN_EPOCH - 1


YEAR = timedelta(days=366)


@pytest.mark.parametrize(
    ("stated", "lasts"),
    [
        (0, timedelta(0)),
        (185, timedelta(seconds=185)),
        ("0.5", timedelta(milliseconds=500)),
        ("7880.00000", timedelta(seconds=7880)),
        (NumberText("345.1005"), timedelta(seconds=345, microseconds=100_500)),
        (366 * 86_400, YEAR),
        ("31622400.000001", None),
        ("-0.001", None),
        ("1e25", None),
        (True, None),
        ({"a": 1}, None),
        (None, None),
    ],
)
def test_a_duration_is_read_from_text_and_is_neither_negative_nor_longer_than_a_year(
    stated: object, lasts: timedelta | None
) -> None:
    assert normal.seconds(stated) == lasts


@pytest.mark.parametrize(
    ("stated", "lasts"),
    [
        ("7880.00000", timedelta(seconds=7, milliseconds=880)),
        (NumberText("345100.5"), timedelta(milliseconds=345_100, microseconds=500)),
        (0, timedelta(0)),
        ("31622400000", YEAR),
        (31_622_400_001, None),
        ("-1", None),
        ("1e99", None),
        (None, None),
        (True, None),
    ],
)
def test_milliseconds_have_the_same_bounds(stated: object, lasts: timedelta | None) -> None:
    assert normal.milliseconds(stated) == lasts


@pytest.mark.parametrize(
    ("stated", "total"),
    [(0, 0), ("0", 0), (7, 7), ("7.0", 7), ("1e3", 1000), (2**63 - 1, 2**63 - 1), (2**63, None),
     ("7.5", None), (-1, None), ("", None), (True, None), ([], None)],
)  # fmt: skip
def test_a_total_is_a_whole_number_from_nought(stated: object, total: int | None) -> None:
    assert normal.count(stated) == total


@pytest.mark.parametrize(
    ("stated", "doubtful"),
    [
        ("2026-11-22 12:00:00", False),
        ("2026-11-22 12:00:00.000001", True),
        ("2000-01-01 00:00:00", False),
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


@pytest.mark.parametrize("name", ["../", "%2e%2e", "a/b", "CON", "\u202egnp", "x" * 8192, 1001, "Ünï"])
def test_odd_ids_stay_what_they_are(name: object) -> None:
    assert normal.identifier(name) == str(name)


@pytest.mark.parametrize("name", ["", "  ", None, ".", "..", True, {}, "x" * 8193])
def test_an_id_that_cannot_be_asked_for_refuses_the_row(name: object) -> None:
    with pytest.raises(RowError):
        normal.identifier(name)


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("mp3", "mp3"), (".mp3", "mp3"), (" MP3 ", "mp3"), ("audio/mpeg", "mp3"), ("audio/x-mpeg", "mp3"), ("wav", "wav"),
        ("audio/x-wav", "wav"), ("audio/wave", "wav"), ("audio/vnd.wave", "wav"), ("xspf", "xspf"), ("", None), ("audio/", None),
        (None, None), (3, None),
    ],
)  # fmt: skip
def test_a_format_has_one_name(stated: object, name: str | None) -> None:
    assert normal.audio_format(stated) == name


def test_a_direction_has_one_name() -> None:
    assert normal.direction("Incoming") == "inbound"
    assert normal.direction("outbound") == "outbound"
    assert normal.direction("") is None
    assert normal.direction(3) is None


def test_an_end_is_counted_from_a_beginning_and_back_when_both_are_known_and_the_calendar_reaches_that_far() -> None:
    hour, eternity = timedelta(hours=1), timedelta(days=999_999_999)
    assert normal.later(NOW, hour) == datetime(2026, 11, 21, 13, tzinfo=UTC)
    assert normal.earlier(NOW, hour) == datetime(2026, 11, 21, 11, tzinfo=UTC)
    for shift in (normal.later, normal.earlier):
        assert [shift(None, hour), shift(NOW, None), shift(None, None), shift(NOW, eternity)] == [None] * 4


def test_a_span_is_told_in_whole_milliseconds() -> None:
    assert normal.whole_ms(timedelta(seconds=1, microseconds=2999)) == 1002
    assert isinstance(normal.whole_ms(timedelta(0)), int)
    assert normal.whole_ms(None) is None


def link(value: object) -> Link | None:
    if value == "odd":
        raise OddLinkError
    return Link(Secret(str(value)), NOW) if value else None


@pytest.mark.parametrize(
    ("values", "found", "audio"),
    [
        ((), None, Audio.NOT_YET),
        ((None, ""), None, Audio.NOT_YET),
        (("odd",), None, Audio.UNREADABLE),
        (("odd", None), None, Audio.UNREADABLE),
        ((None, "b", "c"), "b", Audio.PRESENT),
        (("odd", "c"), "c", Audio.PRESENT),
    ],
)
def test_what_cannot_be_read_as_a_link_is_never_taken_for_none(
    values: tuple[object, ...], found: str | None, audio: Audio
) -> None:
    read, says = normal.link_in(link, *values)
    assert (read and read.url.reveal(), says) == (found, audio)


ROW = {"a": "", "b": None, "c": 0, "d": {"e": {"f": "deep"}, "g": []}, "h": "said", "i": NumberText("0.10")}


@pytest.mark.parametrize(
    ("path", "value"),
    [("h", "said"), ("d.e.f", "deep"), ("d.e", {"f": "deep"}), ("h.x", None), ("x.y", None), ("d.x", None), ("", None)],
)
def test_a_dotted_path_leads_into_the_row_or_to_nothing(path: str, value: object) -> None:
    assert normal.at(ROW, path) == value


def test_the_first_field_that_says_something_is_taken_and_nought_is_something() -> None:
    assert normal.first(ROW, "x", "a", "b", "c", "h") == 0
    assert normal.first(ROW, "a", "b", "x") is None


def test_metadata_holds_what_is_said_under_our_names_and_nothing_empty() -> None:
    fields = {**normal.same("a b h"), "nested": "d.e.f", "list": "d.g", "zero": "c", "rate": "i", "gone": "x.y"}
    assert normal.metadata(ROW, fields, variant="", known=True, parts={}) == {
        "h": "said", "nested": "deep", "zero": 0, "rate": "0.10", "known": True,
    }  # fmt: skip
    assert normal.metadata(ROW, {"h": "h"}, h="better") == {"h": "better"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None), (True, True), (False, False), ("x", "x"), (0, 0), (-(2**53) + 1, -(2**53) + 1), (2**53 - 1, 2**53 - 1),
        (2**53, "9007199254740992"), (-(2**53), "-9007199254740992"), (0.5, "0.5"), (NumberText("7.0"), "7.0"),
        ([1, [2.5], None], [1, ["2.5"], None]), ({1: {"a": 2.5}}, {"1": {"a": "2.5"}}),
    ],
)  # fmt: skip
def test_what_json_readers_round_is_kept_as_text(value: object, kept: object) -> None:
    plain = normal.plain(value)
    assert plain == kept
    assert type(plain) is type(kept)


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
