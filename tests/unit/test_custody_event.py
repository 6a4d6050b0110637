"""The event format: exact bytes, and nothing else accepted."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.custody.event import (
    MAX_ENTRY,
    Event,
    Type,
    commitment,
    commits,
    format_time,
    is_subject,
    leaf_hash,
    parse,
    private_bytes,
    sign,
    verify,
)
from archiver.errors import VerificationError
from tests.custody_examples import KEY, OTHER_KEY, SUBJECT, WRITER, events

ROOT = Path(__file__).parents[2]
EVENT = Event(
    subject=SUBJECT,
    seq=7,
    prev="ab" * 32,
    type=Type.STORED,
    at=datetime(2026, 11, 20, 12, 34, 56, 123456, tzinfo=UTC),
    id="01937f2c-8b7e-7c3a-9d1e-2f6a5b4c3d2e",
    writer=WRITER,
    op="job:8841",
    data={"ct_bytes": 1843216, "version_id": "x"},
    priv={"parties": "cd" * 32},
)


def changed(**fields: Any) -> bytes:
    """EVENT's entry with members of `ev` changed and signed again, whatever they are."""
    ev = {**json.loads(sign(EVENT, KEY))["ev"], **fields}
    return signed({name: value for name, value in ev.items() if value is not ...})


def signed(ev: Any) -> bytes:
    body = json.dumps(ev, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    kind = b"application/vnd.compliance-archiver.custody-event.v1+json"
    signature = KEY.sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body))
    return b'{"ev":' + body + b',"sig":"' + base64.b64encode(signature) + b'"}'


@given(events())
def test_what_was_signed_parses_and_verifies_equal(event: Event) -> None:
    entry = sign(event, KEY)
    assert verify(entry) == parse(entry) == event
    assert sign(event, KEY) == entry


def test_our_own_reconstruction_of_the_specification_gives_the_same_bytes() -> None:
    assert changed() == sign(EVENT, KEY)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"v": 2}, "v is"),
        ({"v": True}, "v is"),
        ({"v": "1"}, "v is"),
        ({"subject": "rec:1"}, "subject"),
        ({"subject": "rec:01937F2C-8B7E-7C3A-9D1E-2F6A5B4C3D2E"}, "subject"),
        ({"subject": "hold:"}, "subject"),
        ({"subject": "hold:a/b"}, "subject"),
        ({"subject": "archive\n"}, "subject"),
        ({"subject": None}, "subject"),
        ({"seq": -1}, "seq"),
        ({"seq": True}, "seq"),
        ({"seq": "7"}, "seq"),
        ({"seq": 0}, "prev"),
        ({"prev": None}, "prev"),
        ({"prev": "AB" * 32}, "prev"),
        ({"prev": "ab" * 31}, "prev"),
        ({"prev": ""}, "prev"),
        ({"type": "stored"}, "type"),
        ({"type": "Recording.stored"}, "type"),
        ({"at": "2026-11-20T12:34:56Z"}, "at is"),
        ({"at": "2026-11-20T12:34:56.123456+00:00"}, "at is"),
        ({"at": "2026-13-20T12:34:56.123456Z"}, "month"),
        ({"at": 0}, "at is"),
        ({"id": "x"}, "id is"),
        ({"op": ""}, "op"),
        ({"op": 5}, "op"),
        ({"outcome": "OK"}, "outcome"),
        ({"outcome": None}, "outcome"),
        ({"data": []}, "data"),
        ({"data": None}, "data"),
        ({"priv": {"parties": "salted"}}, "priv"),
        ({"priv": {"parties": None}}, "priv"),
        ({"priv": None}, "priv"),
        ({"actor": {"kind": "worker", "writer": WRITER}}, "actor"),
        ({"actor": {"kind": "worker", "writer": WRITER, "user": None, "more": 1}}, "actor"),
        ({"actor": {"kind": "Worker", "writer": WRITER, "user": None}}, "actor.kind"),
        ({"actor": {"kind": "worker", "writer": WRITER[:-1], "user": None}}, "actor.writer"),
        ({"actor": {"kind": "worker", "writer": WRITER, "user": ""}}, "actor.user"),
        ({"more": 1}, "other fields"),
        ({"op": ...}, "other fields"),
    ],
)
def test_event_outside_the_grammar_is_refused_and_its_field_named(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(VerificationError, match=says):
        parse(changed(**fields))


@pytest.mark.parametrize(
    "fields", [{"data": {"a": 1.5}}, {"data": {"A": 1}}, {"data": {"a": "e\u0301"}}, {"seq": 2**53}]
)
def test_event_outside_the_canonical_profile_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(VerificationError, match="canonical"):
        parse(changed(**fields))


def test_unknown_type_is_read_but_never_written() -> None:
    assert verify(changed(type="recording.invented_later")).type == "recording.invented_later"
    with pytest.raises(ValueError, match="unknown event type"):
        sign(replace(EVENT, type="recording.invented_later"), KEY)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seq": 0}, "prev"),
        ({"subject": "rec:nobody"}, "subject"),
        ({"data": {"a": 0.5}}, "float"),
        ({"data": {"number": "x" * MAX_ENTRY}}, "bytes"),
        ({"at": datetime(2026, 1, 1)}, "zone"),  # noqa: DTZ001
        ({"writer": "00" * 32}, "another writer"),
    ],
)
def test_event_outside_the_format_is_not_signed(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sign(replace(EVENT, **change), KEY)


def test_signature_of_another_key_is_refused() -> None:
    entry = sign(EVENT, KEY)
    body = entry[len(b'{"ev":') : entry.index(b',"sig"')]
    forged = base64.b64encode(OTHER_KEY.sign(body))
    with pytest.raises(VerificationError, match="writer's"):
        verify(entry[: entry.index(b',"sig":"') + 8] + forged + b'"}')


@pytest.mark.parametrize("sig", ['"AAAA"', "null", "5", '"' + "A" * 88 + '"', '"' + "A" * 84 + "AB==" + '"'])
def test_malformed_signature_is_refused(sig: str) -> None:
    entry = sign(EVENT, KEY)
    with pytest.raises(VerificationError, match=r"canonical base64|not a custody event"):
        parse(entry[: entry.index(b'"sig":') + 6] + sig.encode() + b"}")


@settings(max_examples=300)
@given(st.data())
def test_no_flipped_bit_goes_unnoticed(data: st.DataObject) -> None:
    entry = bytearray(sign(EVENT, KEY))
    entry[data.draw(st.integers(0, len(entry) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(VerificationError):
        verify(bytes(entry))


@given(
    st.binary(max_size=300) | st.builds(lambda a, b: b'{"ev":' + a + b',"sig":"' + b + b'"}', st.binary(), st.binary())
)
def test_parser_meets_rubbish_with_nothing_but_refusal(raw: bytes) -> None:
    with pytest.raises(VerificationError):
        parse(raw)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_parser_meets_any_json_with_nothing_but_refusal(value: Any) -> None:
    for raw in (
        json.dumps(value).encode("utf-8", "surrogatepass"),
        signed_or_not(value),
        json.dumps({"ev": value, "sig": value}).encode(),
    ):
        with pytest.raises(VerificationError):
            verify(raw)


def signed_or_not(value: Any) -> bytes:
    try:
        return signed(value)
    except UnicodeEncodeError:
        return b""


def test_the_largest_entry_has_16_kib() -> None:
    spare = MAX_ENTRY - len(sign(replace(EVENT, data={"number": ""}), KEY))
    largest = replace(EVENT, data={"number": "x" * spare})
    assert len(sign(largest, KEY)) == MAX_ENTRY == 16_384
    assert parse(sign(largest, KEY)) == largest
    with pytest.raises(ValueError, match="16385 bytes"):
        sign(replace(EVENT, data={"number": "x" * (spare + 1)}), KEY)


@pytest.mark.parametrize(
    ("subject", "known"), [("archive", True), (SUBJECT, True), ("hold:a", True), ("", False), ("rec:1", False)]
)
def test_a_subject_is_known_by_its_name(subject: str, known: bool) -> None:
    assert is_subject(subject) is known


def test_oversized_entry_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(VerificationError, match="more than 16384"):
        parse(b"[" * (MAX_ENTRY + 1))


def test_leaf_hash_is_rfc_6962s() -> None:
    assert leaf_hash(b"entry") == hashlib.sha256(b"\x00entry").digest()


def test_commitment_binds_salt_and_group() -> None:
    salt, group = b"s" * 32, {"to_number": "+49 30 1234"}
    said = commitment(salt, group)
    assert said == hashlib.sha256(b"custody-priv-v1\x00" + salt + b'{"to_number":"+49 30 1234"}').hexdigest()
    assert said != commitment(b"t" * 32, group)
    assert said != commitment(salt, {"to_number": "+49 30 1235"})
    with pytest.raises(ValueError, match="32"):
        commitment(b"short", group)


def test_a_private_group_is_checked_against_its_commitment() -> None:
    salt, group = b"s" * 32, {"name": "Zoe\u0308"}
    data, promised = private_bytes(group), commitment(salt, group)
    assert data == '{"name":"Zoe\u0308"}'.encode()
    assert commits(promised, salt, data)
    assert not commits(promised, b"t" * 32, data)
    assert not commits(promised, salt, private_bytes({"name": "Zo\u00eb"}))
    assert not commits(promised, salt, data.replace(b":", b": "))
    assert not commits(None, salt, data)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"5", b"[]", b'{"A":1}', b"1.5"])
def test_rubbish_is_no_private_group(data: bytes) -> None:
    assert not commits("ab" * 32, b"s" * 32, data)


def test_time_is_written_in_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert format_time(datetime(2026, 1, 2, 12, tzinfo=UTC)) == "2026-01-02T12:00:00.000000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_time_is_written_with_four_digit_year_and_six_of_fraction() -> None:
    assert format_time(datetime(999, 1, 2, tzinfo=UTC)) == "0999-01-02T00:00:00.000000Z"


def test_specification_lists_exactly_the_types_that_are_written() -> None:
    spec = (ROOT / "docs" / "spec" / "custody-event.md").read_text()
    table = spec.partition("## Types")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table)) == set(Type)
