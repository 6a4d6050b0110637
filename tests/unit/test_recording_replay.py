"""What a recording's events alone tell of it, column by column, and how a catalogue line and the events are joined."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from archiver.custody.event import Event, Type
from archiver.recording import State
from archiver.recovery.recording_replay import NAMELESS, UNCATALOGUED, changes_a_row, rebuild_row, replay
from archiver.recovery.segment import CatalogueLine

ID = "01937f2c-8b7e-7c3a-9d1e-2f6a5b4c3d2e"
UNTIL = datetime(2033, 5, 1, tzinfo=UTC)


def at(second: int) -> datetime:
    return datetime(2026, 5, 1, 12, 0, second, tzinfo=UTC)


def events(*facts: tuple[str, dict[str, Any]]) -> list[Event]:
    return [
        Event(f"rec:{ID}", seq, None, kind, at(seq), "id", "w", data=data) for seq, (kind, data) in enumerate(facts)
    ]


DISCOVERED = (Type.DISCOVERED, {"provider": "p", "variant": "left", "provider_created": "2026-05-01T11:00:00Z"})
DOWNLOADED = (Type.DOWNLOADED, {"pt_sha256": "aa", "bytes": 100, "content_type": "audio/wav", "attempt": 2})
VERIFIED = (
    Type.VERIFIED,
    {
        "container": "wav",
        "codec": "pcm",
        "rate": 8000,
        "channels": 2,
        "duration_ms": 6,
        "flags": ["x"],
        "provider_duration_ms": 7,
    },
)
SEALED = (Type.SEALED, {"ct_sha256": "cc", "ct_bytes": 150, "recipients": ["ops"]})


def stored(storage: str = "primary", **data: Any) -> tuple[str, dict[str, Any]]:
    told_of = {"storage": storage, "bucket": "b", "key": "k", "version_id": "v", "ct_sha256": "cc", "ct_bytes": 150,
               "lock_mode": "compliance", "retain_until": "2033-05-01T00:00:00Z", "rule": "default"}  # fmt: skip
    return Type.STORED, {**told_of, **data}


def shown(storage: str = "primary") -> tuple[str, dict[str, Any]]:
    return Type.STORE_VERIFIED, {"storage": storage, "method": "head"}


ARCHIVED = events(DISCOVERED, DOWNLOADED, VERIFIED, SEALED, stored(), shown())
ROW = {
    "provider": "p", "variant": "left", "call_started_at": datetime(2026, 5, 1, 11, tzinfo=UTC), "listed_at": at(0),
    "plaintext_sha256": "aa", "plaintext_bytes": 100, "content_type": "audio/wav",
    "media": '{"channels": 2, "codec": "pcm", "container": "wav", "duration_ms": 6, "rate": 8000}', "flags": '["x"]',
    "duration_ms": 7, "recipients": '["ops"]', "sealed_sha256": "cc", "sealed_bytes": 150, "retention_rule": "default",
    "retain_until": UNTIL, "archived_at": at(5),
}  # fmt: skip
COPY = {
    "storage": "primary", "bucket": "b", "key": "k", "version_id": "v", "size": 150, "sealed_sha256": "cc",
    "lock_mode": "compliance", "retain_until": UNTIL, "legal_hold": False, "checked_by": "head", "stored_at": at(4),
}  # fmt: skip
UNKNOWN = hashlib.sha256(f"uncatalogued/{ID}".encode()).hexdigest()
BARE = {
    "identity": UNKNOWN, "revision": UNKNOWN, "provider": "", "account": "", "provider_recording_id": "", "variant": "",
    "flags": "[]", "denials": 0, "metadata": "{}", "raw": b"{}", "stable_digest": "",
}  # fmt: skip


def test_events_tell_every_column_that_they_know() -> None:
    it = replay(ARCHIVED)
    assert (it.state, it.row, it.copies) == (State.ARCHIVED, ROW, {"primary": COPY})
    assert (it.attempts, it.twin, it.quarantine) == (2, None, set())


def test_little_is_told_by_little() -> None:
    it = replay(events((Type.DISCOVERED, {"provider": "p", "variant": None}), (Type.VERIFIED, {}), (Type.STORED, {})))
    assert it.row["variant"] == ""
    assert it.row["call_started_at"] is it.row["retain_until"] is None
    assert it.row["flags"] == "[]"
    assert it.copies["None"]["retain_until"] is None
    assert it.copies["None"]["size"] == 0


def test_second_copy_keeps_the_first_ones_rule_and_time() -> None:
    later = stored("second", rule="other", retain_until="2040-01-01T00:00:00Z")
    it = replay([*ARCHIVED, *events(*[later] * 6, later, shown("second"), shown("nowhere"))[6:]])
    assert (it.row, it.state) == (ROW, State.ARCHIVED)
    assert it.copies["second"]["retain_until"] == datetime(2040, 1, 1, tzinfo=UTC)
    assert it.copies["second"]["checked_by"] == "head"
    assert set(it.copies) == {"primary", "second"}


def test_a_storage_that_shows_a_copy_of_which_nothing_is_told_makes_it_archived_still() -> None:
    it = replay(events(DISCOVERED, shown()))
    assert (it.state, it.copies, it.row["archived_at"]) == (State.ARCHIVED, {}, at(1))


@pytest.mark.parametrize(
    ("facts", "attempts"),
    [
        ([DISCOVERED], 0),
        ([(Type.DOWNLOADED, {})], 1),
        ([(Type.DOWNLOADED, {}), (Type.AUDIO_INVALID, {})], 2),
        ([(Type.MISSING_AT_PROVIDER, {"attempt": 7}), (Type.GAP, {"reason": "no_recording"})], 8),
        ([(Type.DOWNLOADED, {"attempt": 7}), (Type.DOWNLOADED, {"attempt": "9"})], 8),
        ([(Type.GAP, {"subject": "x"})], 0),
        ([(Type.VERIFIED, {"attempt": 7})], 0),
    ],
)
def test_attempts_are_the_events_that_tell_of_one_or_the_number_that_they_state(
    facts: list[tuple[str, dict[str, Any]]], attempts: int
) -> None:
    assert replay(events(*facts)).attempts == attempts


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ([(Type.MISSING_AT_PROVIDER, {"confirmation": 3, "of": 3})], State.GONE),
        ([(Type.MISSING_AT_PROVIDER, {"confirmation": 4, "of": 3})], State.GONE),
        ([(Type.MISSING_AT_PROVIDER, {"confirmation": 2, "of": 3})], State.LISTED),
        ([(Type.GAP, {"reason": "no_recording"})], State.ABSENT),
        ([(Type.GAP, {"reason": "no_separate_original"})], State.ABSENT),
        ([(Type.GAP, {"reason": "other"})], State.LISTED),
        ([(Type.GAP, {"reason": "no_recording"}), DOWNLOADED], State.LISTED),
        ([(Type.SHREDDED, {})], State.DISPOSED),
        ([(Type.PURGED, {})], State.DISPOSED),
        ([shown(), DOWNLOADED, (Type.GAP, {"reason": "no_recording"})], State.ARCHIVED),
        ([shown(), (Type.MISSING_AT_PROVIDER, {"confirmation": 3, "of": 3})], State.ARCHIVED),
        ([shown(), (Type.PURGED, {})], State.DISPOSED),
        ([("recording.invented_later", {})], State.LISTED),
    ],
)
def test_state_is_that_of_the_last_event_that_decides_it(facts: list[tuple[str, dict[str, Any]]], state: State) -> None:
    assert replay(events(*facts)).state is state


def test_denials_are_counted_as_they_were_told() -> None:
    it = replay(events((Type.MISSING_AT_PROVIDER, {"confirmation": 2, "of": 3})))
    assert it.row == {"denials": 2, "denied_at": at(0)}


def test_twin_stands_for_a_recording_from_its_download_on() -> None:
    it = replay(events(DISCOVERED, (Type.DOWNLOADED, {"same_content_as": "rec:other"})))
    assert (it.state, it.twin, it.row["archived_at"]) == (State.ARCHIVED, "rec:other", at(1))
    assert replay(events((Type.DOWNLOADED, {"same_content_as": 5}))).twin is None


def test_pages_that_were_kept_instead_are_named_by_storage_and_key() -> None:
    kept = [{"storage": "a", "key": "q/1"}, "rubbish", {"storage": "b", "key": "q/2"}]
    it = replay(events((Type.AUDIO_INVALID, {"kept": kept}), (Type.AUDIO_INVALID, {"kept": "none"})))
    assert it.quarantine == {("a", "q/1"), ("b", "q/2")}


@pytest.mark.parametrize(
    ("kind", "data", "bearing"),
    [
        (Type.STORED, {}, True),
        (Type.GAP, {"reason": "x"}, True),
        (Type.GAP, {}, False),
        (Type.ACCESSED, {"reason": "x"}, False),
    ],
)
def test_event_bears_on_a_state_when_the_story_knows_it(kind: str, data: dict[str, Any], bearing: bool) -> None:
    assert changes_a_row(events((kind, data))[0]) is bearing


# --- a row for the journal ------------------------------------------------------------------------------------


def line(seq: int = 5, copies: tuple[dict[str, Any], ...] = (COPY,), **row: Any) -> CatalogueLine:
    return CatalogueLine(
        ID, seq, at(9), {**ROW, "state": "archived", "attempts": 3, "metadata": "m", **row}, copies, ()
    )


QUEUED = {"id": ID, "ready": False, "last_seen_at": at(0), "token": 0}


def test_row_without_a_line_has_what_events_tell_and_stands_for_the_rest() -> None:
    made = rebuild_row(None, ARCHIVED, ID, replay(ARCHIVED).copies)
    assert made.row == {**BARE, **ROW, **QUEUED, "state": State.ARCHIVED, "attempts": 2, "last_error": UNCATALOGUED}
    assert (made.copies, made.findings, made.current) == ([COPY], [], False)


def test_row_of_a_twin_is_filled_from_the_copy_that_stands_for_it() -> None:
    of_twin = events(DISCOVERED, (Type.DOWNLOADED, {"pt_sha256": "aa", "same_content_as": "rec:other"}))
    made = rebuild_row(None, of_twin, ID, {"primary": {**COPY, "size": 151, "sealed_sha256": "dd"}})
    found = {name: made.row[name] for name in ("sealed_sha256", "sealed_bytes", "retain_until", "plaintext_sha256")}
    assert found == {"sealed_sha256": "dd", "sealed_bytes": 151, "retain_until": UNTIL, "plaintext_sha256": "aa"}


def test_row_that_was_only_listed_waits_to_be_listed_again() -> None:
    begun = events(DISCOVERED, DOWNLOADED, VERIFIED)
    made = rebuild_row(None, begun, ID, {"primary": COPY})
    listed = {name: ROW[name] for name in ("provider", "variant", "call_started_at", "listed_at")}
    assert made.row == {
        **BARE, **listed, **QUEUED, "state": State.LISTED, "attempts": 0, "last_error": NAMELESS, "reason": None
    }  # fmt: skip
    assert made.copies == []


@pytest.mark.parametrize(
    ("facts", "lacks"),
    [
        ([(Type.GAP, {"reason": "no_recording"})], UNCATALOGUED),
        ([(Type.MISSING_AT_PROVIDER, {"confirmation": 1, "of": 1})], UNCATALOGUED),
        ([(Type.PURGED, {})], None),
    ],
)
def test_row_says_what_it_lacks(facts: list[tuple[str, dict[str, Any]]], lacks: str | None) -> None:
    assert rebuild_row(None, events(DISCOVERED, *facts), ID, {}).row["last_error"] == lacks


def test_line_is_the_row_where_events_agree() -> None:
    made = rebuild_row(line(), ARCHIVED, ID, replay(ARCHIVED).copies)
    assert made.row == {**line().row, **QUEUED}
    assert (made.copies, made.findings, made.current) == ([COPY], [], True)


def test_events_raise_the_attempts_of_a_line() -> None:
    assert rebuild_row(line(attempts=None), ARCHIVED, ID, {}).row["attempts"] == 2


def test_line_that_is_behind_gets_what_happened_since() -> None:
    behind = line(
        0, (), state="absent", plaintext_sha256=None, archived_at=None, content_type="old", sealed_sha256="old"
    )
    made = rebuild_row(behind, ARCHIVED, ID, replay(ARCHIVED).copies)
    assert made.row == {**behind.row, **ROW, **QUEUED, "state": State.ARCHIVED}
    assert (made.copies, made.findings, made.current) == ([COPY], [], False)


def test_line_whose_recording_went_on_without_an_outcome_is_fetched_again() -> None:
    made = rebuild_row(line(2, (), state="absent"), [*ARCHIVED[:3], *events(*[DOWNLOADED] * 4)[3:]], ID, {})
    assert (made.row["state"], made.row["reason"], made.row["ready"], made.row["attempts"]) == ("listed", None, True, 0)
    assert not made.current


@pytest.mark.parametrize("name", ["plaintext_sha256", "plaintext_bytes", "sealed_sha256", "sealed_bytes"])
def test_line_that_contradicts_an_event_is_named(name: str) -> None:
    made = rebuild_row(line(**{name: "forged"}), ARCHIVED, ID, replay(ARCHIVED).copies)
    assert made.findings == [f"rec:{ID}: the catalogue's {name} is not the one that custody tells"]
    assert (made.row[name], made.current) == (ROW[name], False)


def test_what_was_not_archived_contradicts_nothing() -> None:
    absent = [*ARCHIVED[:3], *events(*[(Type.GAP, {"reason": "no_recording"})] * 4)[3:]]
    made = rebuild_row(line(3, (), state="absent", plaintext_sha256="other"), absent, ID, {})
    assert (made.row["plaintext_sha256"], made.findings, made.current) == ("other", [], True)


@pytest.mark.parametrize(
    ("extra", "current"),
    [
        (Event(f"rec:{ID}", 6, None, Type.ACCESSED, at(6), "id", "w", priv={"access": "0" * 64}), False),
        (Event(f"rec:{ID}", 6, None, Type.STORE_VERIFIED, at(6), "id", "w", data={"storage": "primary"}), False),
        (Event(f"rec:{ID}", 6, None, Type.FIXITY_CHECKED, at(6), "id", "w"), True),
    ],
)
def test_line_is_complete_until_something_is_told_that_it_lacks(extra: Event, current: bool) -> None:
    assert rebuild_row(line(), [*ARCHIVED, extra], ID, replay(ARCHIVED).copies).current is current


def test_copy_keeps_what_only_the_journal_knew() -> None:
    described = {**COPY, "stored_at": at(1), "legal_hold": True, "verified_at": at(2), "lock_mode": "none", "size": 1}
    made = rebuild_row(line(copies=(described,)), ARCHIVED, ID, replay(ARCHIVED).copies)
    assert made.copies == [{**COPY, "stored_at": at(1), "legal_hold": True, "verified_at": at(2)}]


@pytest.mark.parametrize("name", ["key", "version_id", "sealed_sha256"])
def test_copy_of_another_object_tells_nothing(name: str) -> None:
    described = {**COPY, name: "other", "legal_hold": True}
    assert rebuild_row(line(copies=(described,)), ARCHIVED, ID, replay(ARCHIVED).copies).copies == [COPY]


def test_copy_of_which_no_event_tells_is_a_finding_unless_it_is_a_page_in_quarantine() -> None:
    kept = events((Type.AUDIO_INVALID, {"kept": [{"storage": "q", "key": "q/1"}]}), *[DISCOVERED] * 6)[:1]
    page, other, forged = (
        {**COPY, "storage": storage, "key": key} for storage, key in (("q", "q/1"), ("r", "q/1"), ("s", "x"))
    )
    made = rebuild_row(line(copies=(COPY, page, other, forged)), [*kept, *ARCHIVED[1:]], ID, replay(ARCHIVED).copies)
    assert made.copies == [COPY, page]
    assert made.findings == [
        f"rec:{ID}: no event tells of the copy in {storage} that the catalogue names" for storage in ("r", "s")
    ]
    assert not made.current


def test_copy_is_none_before_its_recording_is_archived() -> None:
    assert rebuild_row(line(3, ()), ARCHIVED[:4], ID, {"primary": COPY}).copies == []


def test_disposed_recording_leaves_its_line_behind() -> None:
    purged = [*ARCHIVED, *events(*[(Type.PURGED, {})] * 7)[6:]]
    made = rebuild_row(line(metadata="names"), purged, ID, replay(purged).copies)
    assert made.row == {**BARE, **ROW, **QUEUED, "state": State.DISPOSED, "attempts": 2, "last_error": None}
    assert (made.copies, made.findings, made.current) == ([], [], False)


def test_copy_that_nobody_has_read_back_was_checked_by_nothing() -> None:
    assert replay(ARCHIVED[:5]).copies["primary"]["checked_by"] == ""


def test_second_download_forgets_what_was_sealed_before_and_keeps_what_was_listed() -> None:
    it = replay(events(DISCOVERED, DOWNLOADED, SEALED, (Type.DOWNLOADED, {"pt_sha256": "bb"}), DISCOVERED))
    assert it.row == {
        "provider": "p", "variant": "left", "call_started_at": ROW["call_started_at"], "listed_at": at(4),
        "plaintext_sha256": "bb", "plaintext_bytes": None, "content_type": None, "recipients": '["ops"]',
    }  # fmt: skip


def test_archived_recording_whose_discovery_is_not_told_has_no_provider() -> None:
    made = rebuild_row(None, [*events((Type.DISCOVERED, {})), *ARCHIVED[1:]], ID, {})
    assert (made.row["provider"], made.row["variant"]) == ("", "")
