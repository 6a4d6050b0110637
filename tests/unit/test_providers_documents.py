"""The examples of the providers' own documents, and the traps in them, read exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archiver.providers import kazoo_document, recording_object
from archiver.providers.justcall_dialects import DIALECTS, Context
from archiver.providers.rows import Row, parse, sift
from archiver.recording import Audio, Flag, Link, Listing, Page, Secret

DATA = Path(__file__).parent.parent / "data" / "providers"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def link(value: object) -> Link | None:
    return Link(Secret(value), NOW) if isinstance(value, str) and value.startswith("http") else None


def shared(row: Row) -> Iterable[Listing]:
    yield recording_object.read(row, provider="p", account="MA1", now=NOW, link=link)


def kazoo(row: Row) -> Iterable[Listing]:
    yield kazoo_document.read(row, provider="k", account="a1", now=NOW, link=lambda name: Link(Secret(name), NOW))


def justcall(dialect: str, **kwargs: Any) -> Callable[[Row], Iterable[Listing]]:
    return lambda row: DIALECTS[dialect].read(row, Context("j", NOW, link, **kwargs))


def document(name: str) -> Row:
    value = parse((DATA / f"{name}.json").read_bytes())
    assert isinstance(value, dict)
    return value


def rows_of(name: str) -> list[Any]:
    whole = document(name)
    rows = whole["data"] if "data" in whole else recording_object.batch(whole).rows
    assert isinstance(rows, list)
    return rows


def page(name: str, read: Callable[[Row], Iterable[Listing]]) -> Page:
    listed = sift(rows_of(name), read)
    assert not listed.rejects
    return listed


def test_justcall_call_log_example() -> None:
    (call,) = page("justcall-calls", justcall("v2")).listings
    assert (call.ref.recording_id, call.ref.variant, call.ref.account) == ("call_8f3a2b1c", "", "")
    assert call.audio is Audio.PRESENT
    assert call.started_at == datetime(2026, 3, 10, 14, 22, tzinfo=UTC)
    assert call.ended_at == datetime(2026, 3, 10, 14, 25, 5, tzinfo=UTC)
    assert call.duration == timedelta(seconds=185)
    assert call.flags == frozenset()
    assert call.metadata == {
        "call_id": "call_8f3a2b1c",
        "direction": "inbound",
        "from_number": "+14155559876",
        "to_number": "+14155551234",
        "agent_id": 42,
        "agent_name": "Jordan Lee",
        "status": "completed",
        "voicemail": False,
        "notes": "Customer asked about upgrading to Business plan.",
        "disposition": "Interested",
        "tags": ["upgrade", "pricing"],
        "duration_ms": 185_000,
        "call_duration_ms": 185_000,
    }
    rows = rows_of("justcall-calls")
    assert json.loads(call.raw) == rows[0]


def test_justcall_single_call_keeps_the_recordings_own_duration_and_the_revision() -> None:
    row = document("justcall-call")["data"]
    (single,) = sift([row], justcall("v2")).listings
    (listed,) = page("justcall-calls", justcall("v2")).listings
    assert single.duration == timedelta(seconds=180)
    assert single.metadata["call_duration_ms"] == 185_000
    assert single.revision == listed.revision
    assert single.ref == listed.ref


@pytest.mark.parametrize(
    ("change", "audio"),
    [
        ({}, Audio.NOT_YET),
        ({"recording_url": ""}, Audio.NOT_YET),
        ({"status": "missed"}, Audio.NONE),
        ({"status": "busy"}, Audio.NONE),
        ({"status": "voicemail", "voicemail": True, "duration": 0}, Audio.NOT_YET),
        ({"duration": 0}, Audio.NONE),
        ({"duration": 0, "voicemail": None}, Audio.NOT_YET),
        ({"status": "missed", "recording_url": "https://recordings.justcall.io/x.mp3"}, Audio.PRESENT),
    ],
)
def test_recording_url_null_is_not_yet_unless_nobody_spoke(change: Row, audio: Audio) -> None:
    rows = rows_of("justcall-calls")
    (call,) = sift([{**rows[0], "recording_url": None, **change}], justcall("v2")).listings
    assert call.audio is audio
    assert (call.link is None) == (audio is not Audio.PRESENT)


def test_justcall_v21_times_are_utc_with_unpadded_hours_and_the_child_is_a_variant() -> None:
    first, child, silent = page("justcall-v21-calls", justcall("v2.1")).listings
    assert first.started_at == datetime(2026, 3, 10, 8, 25, 43, tzinfo=UTC)
    assert first.duration == timedelta(seconds=155)
    assert first.ended_at == datetime(2026, 3, 10, 8, 28, 18, tzinfo=UTC)
    assert first.metadata["direction"] == "inbound"
    assert first.metadata["from_number"] == "13801136000"
    assert first.metadata["to_number"] == "12707705000"
    assert first.metadata["disposition"] == "Sales: Lead"
    assert first.metadata["cost_incurred"] == "0.005"
    assert (child.ref.recording_id, child.ref.variant) == (first.ref.recording_id, "child") == ("1001", "child")
    assert child.link != first.link
    assert silent.audio is Audio.NONE
    assert silent.metadata["direction"] == "outbound"
    assert silent.metadata["from_number"] == "12707705000"


def test_justcall_v21_without_child_lists_the_call_once() -> None:
    listed = page("justcall-v21-calls", justcall("v2.1", child=False)).listings
    assert [call.ref.variant for call in listed] == ["", ""]


def test_sales_dialer_calls_are_another_collection_with_their_own_ids() -> None:
    rows = rows_of("justcall-v21-calls")
    read = justcall("v2.1", account="sales_dialer", child=False)
    (call,) = sift([{**rows[0], "call_id": 77}], read).listings
    assert (call.ref.recording_id, call.ref.account) == ("77", "sales_dialer")


def test_plivo_recording_object_example() -> None:
    row = document("plivo-recording")
    (recording,) = sift([row], shared).listings
    assert recording.ref.recording_id == "c2186400-1c8c-11e4-a664-0026b945b52x"
    assert recording.started_at == datetime(2014, 8, 5, 10, 39, 23, 907000, UTC)
    assert recording.ended_at == datetime(2014, 8, 5, 10, 45, 9, 7000, UTC)
    assert recording.duration == timedelta(milliseconds=345_100)
    assert recording.format == "mp3"
    assert recording.metadata["recording_storage_rate"] == "0.0004"
    assert recording.metadata["rounded_recording_duration"] == "3456"
    assert recording.metadata["add_time"] == "2020-08-05 16:15:15.852059+05:30"
    assert json.loads(recording.raw) == row


def test_plivo_retrieve_and_object_examples_are_the_same_recording() -> None:
    (whole,) = sift([document("plivo-recording")], shared).listings
    (retrieved,) = sift([document("plivo-retrieve")], shared).listings
    assert (retrieved.ref, retrieved.revision) == (whole.ref, whole.revision)
    assert retrieved.stable_digest == whole.stable_digest
    assert retrieved.raw != whole.raw


def test_plivo_list_example_has_no_start_so_it_follows_from_add_time() -> None:
    batch = recording_object.batch(document("plivo-list"))
    assert (batch.total, batch.last) == (948, False)
    (recording,) = page("plivo-list", shared).listings
    assert recording.ended_at == datetime(2022, 8, 5, 10, 45, 15, 852059, UTC)
    assert recording.started_at == recording.ended_at - timedelta(milliseconds=345_100)


def test_plivo_duplicate_id_that_differs_only_in_a_number_is_one_revision() -> None:
    first, second, third = page("plivo-duplicate", shared).listings
    assert second.ref == third.ref != first.ref
    assert second.revision == third.revision != first.revision
    assert second.raw != third.raw
    assert recording_object.batch(document("plivo-duplicate")).ends(3)  # total_count 2, three rows


def test_vobiz_same_id_with_different_content_is_two_revisions() -> None:
    wav, mp3 = page("vobiz-list", shared).listings
    assert wav.ref == mp3.ref
    assert wav.revision != mp3.revision
    assert (wav.format, mp3.format) == ("wav", "mp3")
    assert wav.duration == timedelta(milliseconds=7880)
    assert wav.ended_at == datetime(2026, 5, 7, 4, 15, 35, 792760, UTC)
    assert wav.started_at == wav.ended_at - timedelta(milliseconds=7880)
    assert mp3.started_at == datetime(2026, 5, 2, 4, 42, 7, 178000, UTC)
    assert mp3.ended_at == datetime(2026, 5, 2, 4, 42, 38, 218000, UTC)
    assert wav.metadata["recording_storage_rate"] == "0.005"
    assert b'"recording_storage_rate":0.005' in wav.raw


def test_vobiz_storage_counters_change_neither_revision_nor_stable_digest() -> None:
    rows = recording_object.batch(document("vobiz-list")).rows
    row = rows[0]
    assert isinstance(row, dict)
    (before,) = sift([row], shared).listings
    older = {**row, "recording_storage_duration": 99, "monthly_recording_storage_amount": 4, "api_id": "z"}
    (after,) = sift([{**older, "recording_url": f"{row['recording_url']}?token=fresh"}], shared).listings
    assert (after.revision, after.stable_digest) == (before.revision, before.stable_digest)
    (edited,) = sift([{**row, "from_number": "+910000000000"}], shared).listings
    assert edited.revision == before.revision
    assert edited.stable_digest != before.stable_digest


def test_vobiz_openapi_example_with_other_names_and_without_meta() -> None:
    batch = recording_object.batch(document("vobiz-openapi"))
    assert (batch.total, batch.last) == (None, None)
    assert batch.ends(1)
    (recording,) = page("vobiz-openapi", shared).listings
    assert (recording.duration, recording.format) == (timedelta(seconds=120), "mp3")
    assert recording.started_at is None
    assert recording.flags == frozenset()
    assert recording.audio is Audio.PRESENT


def test_vobiz_older_list_shape() -> None:
    row: Row = {
        "id": "r1",
        "url": "https://media.vobiz.ai/r1.wav",
        "created_at": "2026-05-02T04:42:39Z",
        "file_size": 9,
    }
    batch = recording_object.batch({"recordings": [row], "pagination": {"total": 12, "has_more": True}})
    assert (batch.total, batch.last) == (12, False)
    (recording,) = sift(batch.rows, shared).listings
    assert recording.ended_at == datetime(2026, 5, 2, 4, 42, 39, tzinfo=UTC)
    assert recording.metadata["file_size"] == 9


def test_kazoo_documents_with_gregorian_seconds_and_no_token_kept() -> None:
    stored, late = page("kazoo-list", kazoo).listings
    assert stored.ref.recording_id == "202603-bf8a6522730f93248d41f2521cfe2b95"
    assert stored.started_at == datetime(2026, 3, 10, 18, 35, 20, tzinfo=UTC)
    assert stored.duration == timedelta(milliseconds=31_040)
    assert stored.format == "mp3"
    assert stored.metadata["from_number"] == "+14155559876"
    assert stored.metadata["caller_id_name"] == "Ada"
    assert stored.metadata["label"] == "sales"
    assert stored.metadata["media_name"] == "call_recording_a1b2.mp3"
    assert b"pw@" not in stored.raw
    assert b"sig=" not in stored.raw
    assert late.audio is Audio.NOT_YET
    assert stored.audio is Audio.PRESENT


def test_kazoo_single_document_without_content_types_is_the_same_revision() -> None:
    rows = rows_of("kazoo-list")
    alone = {key: value for key, value in rows[0].items() if key != "_read_only"}
    (listed, single) = sift([rows[0], alone], kazoo).listings
    assert (single.revision, single.stable_digest) == (listed.revision, listed.stable_digest)
    assert single.audio is Audio.PRESENT


def test_a_unix_time_where_gregorian_seconds_belong_is_flagged() -> None:
    (recording,) = sift([{"id": "202603-aa", "start": 1_773_152_120}], kazoo).listings
    assert recording.started_at is not None
    assert recording.started_at.year == 56
    assert recording.flags == {Flag.TIME_IMPLAUSIBLE}


@pytest.mark.parametrize(
    ("read", "key"),
    [(shared, "recording_id"), (kazoo, "id"), (justcall("v2"), "call_id"), (justcall("v2.1"), "id")],
    ids=["plivo-vobiz", "kazoo", "justcall", "justcall-v2.1"],
)
@pytest.mark.parametrize("value", [None, "", 0, -1, 3, "x", [], [1], {}, {"a": None}, True, "9" * 30, "1e99", "-"])
def test_null_fields_wrong_types_and_strings_for_numbers_leave_the_recording_usable(
    read: partial[Any], key: str, value: object
) -> None:
    files = ("justcall-calls", "justcall-v21-calls", "kazoo-list", "plivo-duplicate", "vobiz-list", "vobiz-openapi")
    names = {name for file in files for row in rows_of(file) for name in row}
    row: Row = dict.fromkeys(names, value) | {key: "usable"}
    listed = sift([row], read)
    assert not listed.rejects
    assert {recording.ref.recording_id for recording in listed.listings} == {"usable"}
