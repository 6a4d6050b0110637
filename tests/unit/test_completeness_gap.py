"""Reasons: which one a recording without audio gets, and when there is none to give."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.completeness.gap import Code, Gap, Grade, Known, Profile, explain, profile
from archiver.recording import DOUBTS, Flag, Reason, State

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
CALL = Known(
    id="0190f3c2-0000-7000-8000-000000000001",
    provider="p",
    state=State.LISTED,
    reason=None,
    flags=frozenset(),
    started_at=NOW - 2 * HOUR,
    ended_at=NOW - 2 * HOUR + timedelta(minutes=3),
    duration=timedelta(minutes=3),
    media=None,
    listed_at=NOW - 2 * HOUR + timedelta(minutes=4),
    delete_at=NOW + timedelta(days=88),
    archive_by=NOW + timedelta(days=85),
    attempts=1,
    denials=0,
    last_error=None,
)


def waiting(reason: Reason, **changes: object) -> Known:
    return replace(CALL, state=State.WAITING, reason=reason, **changes)  # type: ignore[arg-type]


def why(it: Known, kind: str = "justcall") -> tuple[Code, Grade] | None:
    found = explain(it, profile(kind), NOW)
    if found is None:
        return None
    assert len(found.detail.split()) > 3, "a person is told in a sentence"
    return found.code, found.grade


@pytest.mark.parametrize(
    "it",
    [
        CALL,
        waiting(Reason.RETRY),
        waiting(Reason.LINK),
        replace(CALL, state=State.SPOOLED),
        waiting(Reason.NOT_READY, ended_at=NOW - HOUR + SECOND),
        waiting(Reason.NOT_READY, ended_at=None, started_at=None, listed_at=NOW - HOUR + SECOND),
        waiting(Reason.RETRY, attempts=2),
        waiting(Reason.LINK, attempts=1),
        replace(CALL, archive_by=NOW + SECOND),
        replace(CALL, archive_by=None),
        replace(CALL, state=State.ARCHIVED, media=timedelta(minutes=3)),
        replace(CALL, state=State.DISPOSED),
    ],
)
def test_ordinary_life_is_no_gap(it: Known) -> None:
    assert why(it) is None


@pytest.mark.parametrize(
    ("it", "expected"),
    [
        (replace(CALL, state=State.GONE, denials=3), (Code.GONE, Grade.OPEN)),
        (waiting(Reason.RETRY, denials=1), (Code.GONE, Grade.WATCHED)),
        (waiting(Reason.NOT_READY, ended_at=NOW - HOUR), (Code.NOT_READY, Grade.OPEN)),
        (waiting(Reason.NOT_READY, ended_at=None, started_at=NOW - HOUR), (Code.NOT_READY, Grade.OPEN)),
        (waiting(Reason.NOT_READY, ended_at=NOW, archive_by=NOW), (Code.NOT_READY, Grade.OPEN)),
        (waiting(Reason.NOT_UNDERSTOOD, flags=frozenset({Flag.LINK_NOT_UNDERSTOOD})), (Code.LINK_NOT_UNDERSTOOD, Grade.OPEN)),
        (waiting(Reason.RETRY, flags=frozenset({Flag.NO_COPY}), denials=1), (Code.NEVER_STORED, Grade.OPEN)),
        (replace(CALL, nameless=True), (Code.NOT_FOUND_AGAIN, Grade.WATCHED)),
        (replace(CALL, nameless=True, archive_by=None), (Code.NOT_FOUND_AGAIN, Grade.WATCHED)),
        (replace(CALL, nameless=True, looked_for=True), (Code.NOT_FOUND_AGAIN, Grade.OPEN)),
        (replace(CALL, nameless=True, archive_by=NOW), (Code.NOT_FOUND_AGAIN, Grade.OPEN)),
        (waiting(Reason.LINK, attempts=2), (Code.LINK_REFUSED, Grade.OPEN)),
        (waiting(Reason.LINK, flags=frozenset({Flag.EGRESS_REFUSED})), (Code.LINK_REFUSED, Grade.OPEN)),
        (waiting(Reason.RETRY, flags=frozenset({Flag.QUARANTINED})), (Code.NOT_AUDIO, Grade.OPEN)),
        (waiting(Reason.RETRY, flags=frozenset({Flag.TOO_LARGE})), (Code.TOO_LARGE, Grade.OPEN)),
        (waiting(Reason.RETRY, attempts=3), (Code.NOT_FETCHED, Grade.WATCHED)),
        (replace(CALL, archive_by=NOW), (Code.NOT_FETCHED, Grade.OPEN)),
        (replace(CALL, state=State.SPOOLED, archive_by=NOW), (Code.NOT_FETCHED, Grade.WATCHED)),
        (replace(CALL, state=State.ABSENT, attempts=0), (Code.NOT_RECORDED, Grade.EXPLAINED)),
        (replace(CALL, state=State.ABSENT, attempts=40), (Code.NOT_RECORDED, Grade.OPEN)),
        (replace(CALL, state=State.ABSENT, attempts=40, duration=2 * SECOND), (Code.TOO_SHORT, Grade.EXPLAINED)),
        (replace(CALL, state=State.ABSENT, attempts=40, duration=2.001 * SECOND), (Code.NOT_RECORDED, Grade.OPEN)),
        (replace(CALL, state=State.ABSENT, attempts=1, duration=None), (Code.NOT_RECORDED, Grade.OPEN)),
    ],
)  # fmt: skip
def test_each_reason_is_told_from_the_others(it: Known, expected: tuple[Code, Grade]) -> None:
    assert why(it) == expected


def test_shorter_than_declared_is_truncated_at_the_provider_and_shorter_than_thought_is_not() -> None:
    short = replace(CALL, state=State.ARCHIVED, media=timedelta(minutes=1), flags=frozenset({Flag.DURATION_MISMATCH}))
    assert why(short) == (Code.TRUNCATED, Grade.OPEN)
    for longer in (timedelta(minutes=5), short.duration, None):
        assert why(replace(short, media=longer)) == (Code.DURATION_DIFFERS, Grade.OPEN)
    assert why(replace(short, duration=None)) == (Code.DURATION_DIFFERS, Grade.OPEN)
    both = replace(short, flags=frozenset({Flag.NOT_AUDIO, Flag.TRUNCATED}))
    assert why(both) == (Code.NOT_AUDIO, Grade.OPEN)
    assert why(replace(CALL, state=State.ARCHIVED, flags=frozenset({Flag.TRUNCATED}))) == (Code.TRUNCATED, Grade.OPEN)


@pytest.mark.parametrize(
    ("kind", "seconds", "cut"),
    [
        ("kazoo", 3600, True),
        ("kazoo", 3598, True),
        ("kazoo", 3602, True),
        ("kazoo", 3597, False),
        ("kazoo", 3603, False),
        ("vobiz", 3600, False),
    ],
)
def test_kazoo_recording_that_ends_at_the_time_limit_is_truncated(kind: str, seconds: int, cut: bool) -> None:
    length = timedelta(seconds=seconds)
    stated = explain(replace(CALL, state=State.ARCHIVED, duration=length, media=None), profile(kind), NOW)
    found = explain(replace(CALL, state=State.ARCHIVED, duration=HOUR / 2, media=length), profile(kind), NOW)
    assert (found is not None, stated is not None) == (cut, cut)
    if found is not None:
        assert found.code is Code.TRUNCATED
        assert "time limit of 3600 s" in found.detail
        assert found.evidence["time_limit_s"] == 3600


@pytest.mark.parametrize(
    ("started", "code"),
    [
        (datetime(2026, 10, 31, 23, 59, tzinfo=UTC), Code.MONTH_BOUNDARY),
        (datetime(2026, 11, 1, 6, 59, tzinfo=UTC), Code.MONTH_BOUNDARY),  # midnight seven hours west of Greenwich
        (datetime(2026, 10, 31, 17, 0, tzinfo=UTC) - timedelta(minutes=3), Code.MONTH_BOUNDARY),  # seven hours east
        (datetime(2026, 10, 31, 10, 0, tzinfo=UTC) - timedelta(minutes=3), Code.MONTH_BOUNDARY),  # fourteen hours east
        (datetime(2026, 11, 1, 13, 59, tzinfo=UTC), Code.MONTH_BOUNDARY),  # fourteen hours west
        (datetime(2026, 11, 1, 14, 0, tzinfo=UTC), Code.GONE),
        (datetime(2026, 10, 31, 9, 56, tzinfo=UTC), Code.GONE),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), Code.MONTH_BOUNDARY),
        (datetime(2026, 11, 14, 23, 59, tzinfo=UTC), Code.GONE),
        (datetime(2026, 11, 1, 3, 0, tzinfo=UTC), Code.GONE),
        (datetime(2027, 1, 1, 3, 0, tzinfo=UTC), Code.GONE),
    ],
)
def test_kazoo_recording_over_the_end_of_a_month_is_not_taken_for_deleted(started: datetime, code: Code) -> None:
    it = replace(CALL, state=State.GONE, started_at=started, ended_at=started + timedelta(minutes=3))
    assert why(it, "kazoo") == (code, Grade.OPEN)
    assert why(it, "plivo") == (Code.GONE, Grade.OPEN)


@pytest.mark.parametrize(
    ("deleted", "denials", "state", "said"),
    [
        (CALL.listed_at, 3, State.GONE, "past the provider's retention before it was first listed here"),
        (CALL.listed_at + SECOND, 3, State.GONE, "the provider says, repeatedly, that it does not have it"),
        (None, 3, State.GONE, "the provider says, repeatedly, that it does not have it"),
        (None, 1, State.WAITING, "the provider denied it"),
    ],
)
def test_gone_before_it_could_be_listed_is_said_to_be_so(
    deleted: datetime | None, denials: int, state: State, said: str
) -> None:
    found = explain(replace(CALL, state=state, delete_at=deleted, denials=denials), profile("justcall"), NOW)
    assert isinstance(found, Gap)
    assert found.detail == said


def test_a_gap_names_its_recording_its_time_and_what_the_verdict_rests_on() -> None:
    flags = frozenset({Flag.TRUNCATED, Flag.DURATION_MISMATCH})
    it = replace(CALL, state=State.ARCHIVED, reason=Reason.RETRY, flags=flags, media=0.0625 * SECOND, denials=2)
    found = explain(it, profile("justcall"), NOW)
    assert found == Gap(
        "p",
        f"rec:{CALL.id}",
        Code.TRUNCATED,
        Grade.OPEN,
        "what the provider sends is damaged, or ends before its own structure does",
        {
            "state": "archived",
            "reason": "retry",
            "flags": ["duration_mismatch", "truncated"],
            "attempts": 1,
            "denials": 2,
            "declared_ms": 180_000,
            "received_ms": 62,
            "time_limit_s": None,
        },
        CALL.started_at,
        CALL.ended_at,
    )
    unknown = explain(replace(it, duration=None, media=None, started_at=None, ended_at=None), profile("justcall"), NOW)
    assert unknown is not None
    assert (unknown.evidence["declared_ms"], unknown.evidence["received_ms"]) == (None, None)
    assert (unknown.since, unknown.until) == (CALL.listed_at, None)


@pytest.mark.parametrize(
    ("kind", "limits", "link_life"),
    [("kazoo", (HOUR,), None), ("justcall", (), 24 * HOUR), ("plivo", (), None), ("vobiz", (), None)],
)
def test_what_a_providers_documents_say_of_limits_and_links(
    kind: str, limits: tuple[timedelta, ...], link_life: timedelta | None
) -> None:
    assert profile(kind) == Profile(kind, HOUR, 2 * SECOND, limits, link_life)


@pytest.mark.parametrize(
    ("flag", "code"),
    [
        (Flag.NOT_AUDIO, Code.NOT_AUDIO),
        (Flag.TRUNCATED, Code.TRUNCATED),
        (Flag.DURATION_MISMATCH, Code.DURATION_DIFFERS),
        (Flag.LENGTH_UNVERIFIED, Code.LENGTH_UNVERIFIED),
    ],
)
def test_every_doubt_is_an_open_gap_until_sound_bytes_supersede_it(flag: Flag, code: Code) -> None:
    assert flag in DOUBTS
    doubted = replace(CALL, state=State.ARCHIVED, flags=frozenset({flag, Flag.ID_CONFLICT}))
    assert why(doubted) == (code, Grade.OPEN)
    assert why(replace(doubted, flags=doubted.flags | {Flag.SUPERSEDED})) is None
    assert why(replace(doubted, flags=frozenset({Flag.ID_CONFLICT}))) is None


def test_call_that_was_only_partly_recorded_is_a_gap_once_that_is_a_doubt() -> None:
    """JustCall's call log states the call's length alone: ringing and waiting are in it and not in the recording."""
    call = replace(
        CALL,
        state=State.ARCHIVED,
        of_call=True,
        flags=frozenset({Flag.DURATION_MISMATCH}),
        duration=timedelta(minutes=30),
    )
    assert why(replace(call, media=timedelta(minutes=20), flags=frozenset())) is None
    assert why(replace(call, media=timedelta(minutes=10))) == (Code.TRUNCATED, Grade.OPEN)
    for of_call, said in ((True, "less than half of the call"), (False, "shorter than the provider says")):
        found = explain(replace(call, of_call=of_call, media=timedelta(minutes=10)), profile("justcall"), NOW)
        assert found is not None
        assert said in found.detail


def test_specification_names_every_reason_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/spec/completeness-statement.md").read_text()
    named = re.findall(r"`(\w+)`", page.partition("## Reasons")[2])
    assert sorted(named) == sorted(Code)


def test_recording_that_never_had_noise_cancellation_has_no_original_and_nobody_must_act() -> None:
    """Plivo, `original: true`: the pre-denoise variant exists only where noise was cancelled."""
    original = replace(CALL, variant="original", attempts=3)
    absent = explain(replace(original, state=State.ABSENT), profile("plivo"), NOW)
    assert absent is not None
    assert (absent.code, absent.grade) == (Code.NOT_RECORDED, Grade.EXPLAINED)
    assert "noise cancellation" in absent.detail
    waiting = replace(original, state=State.WAITING, reason=Reason.NOT_READY)
    assert explain(waiting, profile("plivo"), NOW) is None
    assert explain(replace(waiting, archive_by=NOW), profile("plivo"), NOW) is not None
