"""Lines of the catalogue, and what events say of a recording."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.custody.event import Event
from archiver.errors import VerificationError
from archiver.ingest.tables import QUEUE, copy, recording
from archiver.recording import State
from archiver.recovery.recording_replay import UNCATALOGUED, rebuild_row, replay
from archiver.recovery.segment import CatalogueLine, DueRow, PrivateGroup, dump, grouped, load

AT = datetime(2026, 5, 1, 12, 0, 0, 123456, UTC)
ID = "01937f2c-8b7e-7c3a-9d1e-2f6a5b4c3d2e"
COPY: dict[str, Any] = {
    "storage": "primary", "bucket": "b", "key": "recordings/k", "version_id": "v1", "size": 150, "sealed_sha256": "cc",
    "lock_mode": "compliance", "retain_until": AT, "legal_hold": True, "checked_by": "head-checksum", "stored_at": AT,
    "verified_at": None,
}  # fmt: skip


def line(**row: Any) -> CatalogueLine:
    columns = {each.name: None for each in recording.c if each.name not in QUEUE | {"id"}}
    filled = {"provider": "p", "raw": b'{"a": "\xc3\xbc"}', "listed_at": AT, "state": "archived", "attempts": 1,
              "plaintext_sha256": "aa",
              "plaintext_bytes": 100, "sealed_sha256": "cc", "sealed_bytes": 150,
              "metadata": '{"x": "Ünicode\u2028"}'}  # fmt: skip
    private = (PrivateGroup(0, "parties", b"s" * 32, b'{"from_number":"+1"}'),)
    return CatalogueLine(ID, 5, AT, {**columns, **filled, **row}, (COPY,), private)


def events(*facts: tuple[str, dict[str, Any]]) -> list[Event]:
    return [
        Event(f"rec:{ID}", seq, None, kind, AT + timedelta(seconds=seq), "id", "w", data=data)
        for seq, (kind, data) in enumerate(facts)
    ]


DISCOVERED = ("recording.discovered", {"provider": "p", "variant": "", "provider_created": None, "source": "list"})
DOWNLOADED = ("recording.downloaded", {"pt_sha256": "aa", "bytes": 100, "content_type": "audio/wav"})
VERIFIED = ("recording.verified", {"container": "wav", "flags": [], "provider_duration_ms": 7})
SEALED = ("recording.sealed", {"pt_sha256": "aa", "ct_sha256": "cc", "ct_bytes": 150, "recipients": ["ops"]})
STORED = ("recording.stored", {"storage": "primary", "bucket": "b", "key": "recordings/k", "version_id": "v1", "ct_sha256": "cc",
                               "ct_bytes": 150, "lock_mode": "compliance", "retain_until": "2026-05-01T12:00:00.123456Z",
                               "rule": "default", "copy_no": 1})  # fmt: skip
SHOWN = ("recording.store_verified", {"storage": "primary", "method": "head-checksum", "result": "ok"})
ARCHIVED = events(DISCOVERED, DOWNLOADED, VERIFIED, SEALED, STORED, SHOWN)


def test_line_has_every_column_that_is_not_the_queues() -> None:
    """Whoever adds a column decides: it belongs to the queue, or it is in the catalogue and its type is known there."""
    for table in (recording, copy):
        for column in table.c:
            value: Any = {"UtcDateTime": AT, "LargeBinary": b"\x00\xff", "Boolean": True}.get(
                type(column.type).__name__, "text"
            )
            if column.name in QUEUE | {"recording_id", "id"}:
                continue
            written = CatalogueLine(ID, 0, AT, {column.name: value}, (), ())
            assert next(load(dump([written]))).row == {column.name: value}, column.name
    assert {each.name for each in recording.c} > QUEUE


def test_segment_reads_back_as_it_was_written() -> None:
    written = [line(), line(state="absent", archived_at=AT)]
    content = dump(written)
    assert content.count(b"\n") == 2
    assert list(load(content)) == written


def test_a_line_is_json_with_its_members_in_order() -> None:
    written = CatalogueLine(
        ID, 5, AT, {"raw": b"{}", "b": "\u00fc", "a": AT}, ({"z": None, "size": 1},), line().private
    )
    assert dump([written]).decode() == (
        '{"copies": [{"size": 1, "z": null}], "id": "' + ID + '", "private": [{"data": "{\\"from_number\\":\\"+1\\"}", '
        '"group": "parties", "salt": "' + "73" * 32 + '", "seq": 0}], '
        '"row": {"a": "2026-05-01T12:00:00.123456Z", "b": "\u00fc", "raw": "e30="}, "seq": 5, "v": 1, '
        '"written_at": "2026-05-01T12:00:00.123456Z"}\n'
    )


@pytest.mark.parametrize(
    "content",
    [
        b"".join(dump([line()]).partition(b'"raw": "')[:2]) + b"!" + dump([line()]).partition(b'"raw": "')[2],
        b"x\n",
        b"[]\n",
        b"{}\n",
        b'{"v":2}\n',
        dump([line()]).replace(b'"v": 1', b'"v": 9'),
        dump([line()])[:-40] + b"\n",
    ],
)
def test_what_is_no_catalogue_line_is_refused_in_our_words(content: bytes) -> None:
    with pytest.raises(VerificationError, match="line 1"):
        list(load(content))


def test_segments_hold_one_month_and_no_more_rows_or_bytes_than_told() -> None:
    def due(number: int, day: int, size: int = 10) -> DueRow:
        return DueRow(str(number), datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day), size)

    rows = [due(1, 40), due(2, 0), due(3, 30), due(4, 31), *(due(number, 60, 40) for number in range(5, 9))]
    groups = [[each.id for each in group] for group in grouped(rows, 3, 100)]
    assert groups == [["2", "3"], ["4", "1"], ["5", "6"], ["7", "8"]]
    assert [len(group) for group in grouped([due(n, 0, 1) for n in range(7)], 3, 100)] == [3, 3, 1]
    assert [len(group) for group in grouped([due(n, 0, 50) for n in range(4)], 3, 100)] == [2, 2]
    assert [len(group) for group in grouped([due(1, 0, 999), due(2, 0, 999)], 3, 100)] == [1, 1]


def test_events_alone_tell_where_it_is_and_what_it_is() -> None:
    it = replay(ARCHIVED)
    assert it.state is State.ARCHIVED
    made = rebuild_row(None, ARCHIVED, ID, it.copies)
    assert (made.row["state"], made.row["last_error"]) == ("archived", UNCATALOGUED)
    assert (made.row["plaintext_sha256"], made.row["sealed_bytes"], made.row["retain_until"]) == ("aa", 150, AT)
    assert made.row["archived_at"] == AT + timedelta(seconds=5)
    assert [each["key"] for each in made.copies] == ["recordings/k"]


def test_line_and_events_that_agree_give_the_row_as_it_was() -> None:
    made = rebuild_row(line(), ARCHIVED, ID, replay(ARCHIVED).copies)
    assert made.findings == []
    assert made.current
    assert made.copies == [COPY]
    assert {name: made.row[name] for name in line().row} == dict(line().row)


@pytest.mark.parametrize("name", ["plaintext_sha256", "plaintext_bytes", "sealed_sha256", "sealed_bytes"])
def test_line_that_contradicts_a_signed_event_is_named_and_the_event_wins(name: str) -> None:
    made = rebuild_row(line(**{name: "forged"}), ARCHIVED, ID, replay(ARCHIVED).copies)
    assert made.row[name] == line().row[name]
    assert name in made.findings[0]
    assert not made.current


def test_copy_of_which_no_event_tells_is_named_and_left_out() -> None:
    forged = CatalogueLine(ID, 5, AT, line().row, (COPY, {**COPY, "storage": "elsewhere"}), ())
    made = rebuild_row(forged, ARCHIVED, ID, replay(ARCHIVED).copies)
    assert made.copies == [COPY]
    assert "elsewhere" in made.findings[0]


def test_what_happened_after_the_line_is_taken_from_events() -> None:
    absent = CatalogueLine(
        ID, 0, AT, line(state="absent", plaintext_sha256=None, sealed_sha256=None, last_error="none").row, (), ()
    )
    made = rebuild_row(absent, ARCHIVED, ID, replay(ARCHIVED).copies)
    assert (made.row["state"], made.row["plaintext_sha256"], made.current) == ("archived", "aa", False)
    begun = rebuild_row(absent, ARCHIVED[:4], ID, {})
    assert (begun.row["state"], begun.row["ready"]) == (State.LISTED, True)


def test_new_private_group_after_the_line_makes_it_due_again() -> None:
    accessed = Event(f"rec:{ID}", 6, None, "recording.accessed", AT, "id", "w", priv={"access": "0" * 64})
    assert not rebuild_row(line(), [*ARCHIVED, accessed], ID, replay(ARCHIVED).copies).current
    silent = Event(f"rec:{ID}", 6, None, "recording.fixity_checked", AT, "id", "w")
    assert rebuild_row(line(), [*ARCHIVED, silent], ID, replay(ARCHIVED).copies).current


def test_what_was_disposed_of_does_not_come_back_from_a_segment() -> None:
    purged = [*ARCHIVED, *events(*[("recording.purged", {})] * 7)[6:]]
    made = rebuild_row(line(from_number="+1555"), purged, ID, replay(purged).copies)
    assert made.row["state"] == State.DISPOSED
    assert made.copies == []
    assert "+1555" not in str(made.row)


def test_three_denials_are_gone_and_one_is_not() -> None:
    denied = [("anomaly.missing_at_provider", {"confirmation": number, "of": 3}) for number in (1, 2, 3)]
    assert replay(events(DISCOVERED, *denied[:2])).state is State.LISTED
    assert replay(events(DISCOVERED, *denied)).state is State.GONE
    assert replay(events(DISCOVERED, ("anomaly.gap", {"reason": "no_recording"}))).state is State.ABSENT


def test_what_was_sealed_and_lost_before_a_second_download_is_forgotten() -> None:
    twin = ("recording.downloaded", {"pt_sha256": "bb", "bytes": 1, "same_content_as": "rec:other"})
    it = replay(events(DISCOVERED, DOWNLOADED, VERIFIED, SEALED, twin))
    assert (it.state, it.twin, it.row["plaintext_sha256"]) == (State.ARCHIVED, "rec:other", "bb")
    assert "sealed_sha256" not in it.row
