"""Rows as evidence: one bad row never loses its page, and nothing secret is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from archiver.errors import ListingError
from archiver.providers import rows
from archiver.providers.normal import identifier
from archiver.providers.rows import Row, canonical, digest, parse, redacted, sift, stable_digest
from archiver.recording import Audio, Flag, Listing, Page, RecordingRef

GOOD = '{"id": "good"}'


def listing(row: Row) -> Iterable[Listing]:
    kept = redacted(row)
    ref = RecordingRef("p", identifier(row.get("id")))
    yield Listing(ref, "", Audio.PRESENT, None, None, None, canonical(kept), digest(kept))


def sifted(*texts: str | bytes) -> Page:
    body = b"[" + b",".join(text.encode() if isinstance(text, str) else text for text in texts) + b"]"
    document = parse(body)
    assert isinstance(document, list)
    return sift(document, listing)


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (r'{"id": "x", "notes": "\ud800"}', {"notes": "\ufffd"}),
        (b'{"id": "x", "notes": "M\xe4rz"}', {"notes": "M\ufffdrz"}),
        (r'{"id": "x", "notes": "a\u0000b"}', {"notes": "a\ufffdb"}),
        ('{"id": "x", "notes": "' + "n" * 1_000_000 + '"}', {"notes": "n" * 4096 + "… (1000000 characters)"}),
        ('{"id": "x", "duration": ' + "9" * 5000 + "}", {"duration": "(a number of 5000 digits)"}),
        ('{"id": "x", "duration": NaN}', {"duration": "(NaN)"}),
        ('{"id": "x", "duration": -Infinity}', {"duration": "(-Infinity)"}),
        ('{"id": "x", "tag": 1, "tag": 2}', {"tag": "(a key that stands twice)"}),
        ('{"id": "x", "deep": {"a": ["\\u0000"]}}', {"deep": {"a": ["\ufffd"]}}),
        ('{"id": "x", "a\\u0000": 1}', {"a\ufffd": 1}),
    ],
    ids=range(10),
)
def test_a_blemish_in_a_field_is_mended_and_said(row: str | bytes, kept: dict[str, object]) -> None:
    page = sifted(GOOD, row, '{"id": "after"}')
    assert [found.ref.recording_id for found in page.listings] == ["good", "x", "after"]
    assert page.rejects == ()
    assert [found.flags for found in page.listings] == [frozenset(), frozenset({Flag.FIELD_MENDED}), frozenset()]
    assert json.loads(page.listings[1].raw) == {"id": "x", **kept}


@pytest.mark.parametrize("deep", ["[" * 100_000 + "]" * 100_000, '{"a":' * 500 + "1" + "}" * 500])
def test_what_is_nested_too_deep_is_cut_and_the_row_kept(deep: str) -> None:
    (found,) = sifted(f'{{"id": "x", "deep": {deep}}}').listings
    assert (found.ref.recording_id, found.flags) == ("x", {Flag.FIELD_MENDED})
    assert rows.blemish(json.loads(found.raw)) is None


def test_a_key_that_stands_twice_with_one_value_is_that_value() -> None:
    (found,) = sifted('{"id": "x", "tag": "a", "tag": "a", "id": "x"}').listings
    assert (json.loads(found.raw), found.flags) == ({"id": "x", "tag": "a"}, frozenset())


@pytest.mark.parametrize("value", ['"https://h.test/\\u0000x"', "NaN", '["https://h.test/\\ud800"]'])
def test_a_link_that_had_to_be_mended_stays_marked_and_is_no_link(value: str) -> None:
    def read(row: Row) -> Iterable[Listing]:
        link = row["recording_url"]
        assert isinstance(link[0] if isinstance(link, list) else link, rows.Blemish)
        return listing(row)

    document = parse(f'[{{"id": "x", "recording_url": {value}}}]'.encode())
    assert isinstance(document, list)
    assert len(sift(document, read).listings) == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (r'{"id": "\ud800"}', "surrogate"),
        (r'{"id": "a\u0000b"}', "NUL"),
        ('{"id": "a", "id": "b"}', "twice"),
        (r'{"id": "x", "call_id": "\ud800"}', "surrogate"),
        ('{"id": ""}', "no recording id"),
        ('{"id": null}', "no recording id"),
        ('{"id": [1]}', "no recording id"),
        ('"a string"', "not a JSON object"),
        ("null", "not a JSON object"),
        ("[[]]", "not a JSON object"),
    ],
    ids=range(10),
)
def test_an_unusable_row_is_kept_and_the_page_goes_on(row: str | bytes, problem: str) -> None:
    page = sifted(GOOD, row, '{"id": "after"}')
    assert [found.ref.recording_id for found in page.listings] == ["good", "after"]
    (reject,) = page.rejects
    assert problem in reject.problem
    assert len(reject.raw) < 10_000
    json.loads(reject.raw)


def test_a_reject_names_its_recording_when_it_can() -> None:
    page = sifted('{"recording_id": "r7", "id": NaN}', '{"id": NaN}', '{"call_id": 12, "x": "\\u0000"}')
    assert [reject.recording_id for reject in page.rejects] == ["r7", None, "12"]


@pytest.mark.parametrize("body", [b"", b"<html>login</html>", b'{"a":', b"\xff\xfe", b"[1] trailing", b"[" * 100_000])
def test_a_login_page_or_cut_answer_is_no_listing(body: bytes) -> None:
    with pytest.raises(ListingError):
        parse(body)


def test_numbers_keep_the_spelling_of_the_provider() -> None:
    text = '{"a":7880.00000,"b":0.0004,"c":1e3,"d":123456789012345678901,"e":-0.0,"f":3}'
    assert canonical(parse(text.encode())).decode() == text


def test_canonical_json_has_one_spelling() -> None:
    assert (
        canonical(parse('{"b": [1, true, null, "ü/\\u00fc"],\n "a": {}}'.encode()))
        == '{"a":{},"b":[1,true,null,"ü/ü"]}'.encode()
    )


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        ("https://recordings.justcall.io/rec.mp3?token=signed", "https://recordings.justcall.io/rec.mp3"),
        ("https://user:pw@push.example.test/in/1.mp3", "https://push.example.test/in/1.mp3"),
        ("/v1/Recording/x/?signature=abc", "/v1/Recording/x/"),
        ("see https://s3.test/x?X-Amz-Signature=abc&y=1 there", "see https://s3.test/x there"),
        ("he asked: is 1/2 a number?", "he asked: is 1/2 a number?"),
        ("call https://crm.example.test/deal?id=7 back", "call https://crm.example.test/deal?id=7 back"),
    ],
)
def test_signed_queries_and_passwords_never_reach_the_kept_row(stated: str, kept: str) -> None:
    assert redacted({"deep": [{"x": stated}]}) == {"deep": [{"x": kept}]}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["http://a", "http://a?", "a/", "https://x?token", "?#", "@://", "//", " /?"])
def test_a_text_made_to_stall_the_redaction_does_not(piece: str) -> None:
    text = piece * (rows.MAX_TEXT // len(piece))
    assert isinstance(rows.without_signature(text), str)
    assert isinstance(rows.without_signature(text + "\n"), str)


def test_tokens_are_cut_out_by_name() -> None:
    row = {"auth_token": "abc", "Token": "t", "handler_props": {"secret": "s"}, "tokens": 3, "api_key": None}
    assert redacted(row) == {
        "auth_token": "(removed)", "Token": "(removed)", "handler_props": "(removed)", "tokens": 3, "api_key": None,
    }  # fmt: skip


def test_the_stable_digest_ignores_what_ticks_by_itself() -> None:
    volatile = frozenset({"recording_storage_duration"})
    one = stable_digest({"id": "a", "recording_storage_duration": 6}, volatile)
    assert one == stable_digest({"id": "a", "recording_storage_duration": 7}, volatile)
    assert one != stable_digest({"id": "a", "notes": "edited", "recording_storage_duration": 6}, volatile)


def test_a_page_digest_tells_rows_and_their_order() -> None:
    a, b = '{"id": "a"}', '{"id": "b"}'
    assert sifted(a, b).digest == sifted(a, b).digest
    assert len({sifted(a, b).digest, sifted(b, a).digest, sifted(a).digest, sifted("null").digest}) == 4


def test_deep_pages_prune_only_what_is_deep() -> None:
    assert rows.parse(b'{"a": [' + b"[" * 20 + b'"\\"]"' + b"]" * 20 + b'], "b": "[[["}') is not None
