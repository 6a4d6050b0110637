"""Verdicts on small bodies and on findings made by hand: each limit, each doubt, each kind of page."""

from __future__ import annotations

import gzip
from datetime import timedelta
from typing import Any

import pytest

from archiver.errors import UnacceptableMediaError
from archiver.fetch.media import Findings, Sniffer, agree, judge
from archiver.recording import Flag, MediaFacts

JUNK = b"\x55"


def sniff(body: bytes) -> Findings:
    """The findings on the body in one piece, which must be those on it byte by byte at both ends."""
    found = []
    for pieces in ([body], [*(body[n : n + 1] for n in range(min(len(body), 40))), body[40:5000], body[5000:]]):
        sniffer = Sniffer()
        for piece in pieces:
            sniffer.feed(piece)
        found.append(sniffer.findings())
    assert found[0] == found[1]
    return found[0]


def wave(sound: bytes, stated: int | None = None) -> bytes:
    size = (len(sound) if stated is None else stated).to_bytes(4, "little")
    fmt = b"fmt \x10\0\0\0" + bytes.fromhex("01000100401f0000401f000001000800")
    return b"RIFF\0\0\0\0WAVE" + fmt + b"data" + size + sound


SECOND = wave(b"\x80\x7f" * 4000)


def test_findings_on_sound() -> None:
    media = MediaFacts("wav", "pcm_u8", 8000, 1, timedelta(seconds=1))
    assert sniff(SECOND) == Findings(8044, media, True, None)
    assert sniff(SECOND[:-4000]) == Findings(
        4044, MediaFacts("wav", "pcm_u8", 8000, 1, timedelta(seconds=0.5)), False, None
    )
    small = wave(b"\x80" * 80)
    assert sniff(small) == Findings(124, MediaFacts("wav", "pcm_u8", 8000, 1, timedelta(seconds=0.01)), True, None)


NOTHING = MediaFacts(container=None)
LONG = "The recording is not available at the moment. " * 200


@pytest.mark.parametrize(
    ("body", "page"),
    [
        (b"<html>", "html"),
        (b" \t\r\n\f\0<HTML lang=de>", "html"),
        (b"\xef\xbb\xbf<!DOCTYPE  html>", "html"),
        (b"<!-- x --><body>", "html"),
        (b"<p>gone</p>", "html"),
        (b"<pre>gone</pre>", "xml"),
        (b"<?xml version='1.0'?><Error/>", "xml"),
        (b"<!doctype error>", "xml"),
        (b"<error><head ></error>", "html"),
        (b"< error>", "text"),
        (b"{}", "json"),
        (b'{"error": 1}', "json"),
        (b"[ {", "json"),
        (b"[ -5]", "json"),
        (b"[true]", "json"),
        (b"[", "json"),
        (b"{error", "text"),
        (b"gone", "text"),
        ("Größe".encode(), "text"),
        (b"Gr\xf6\xdfe", None),
        (b"gone\x01", None),
        (b"", None),
        ("<html>".encode("utf-16"), "html"),
        ("<html>".encode("utf-16-le"), "html"),
        ("<html>".encode("utf-16-be"), "html"),
        (b"\xfe\xff" + "<html>".encode("utf-16-be"), "html"),
        ('{"a":1}'.encode("utf-16-le"), "json"),
        ('["a"]'.encode("utf-16-le"), "json"),
        ('{"a":1}'.encode("utf-16-be"), "json"),
        ('["a"]'.encode("utf-16-be"), "json"),
        (gzip.compress(b"<html>" + bytes(99_000), mtime=0), "html"),
        (gzip.compress(b"gone", mtime=0), "text"),
        (b"\x1f\x8b\x08\x00 broken", None),
        (LONG.encode(), "text"),
        (b"<html>" + LONG.encode(), "html"),
        (LONG.encode() + b"\xff", None),
        (("<html>" + LONG).encode("utf-16-le"), "html"),
        (b"<html>" + JUNK * 4090, "html"),
        (b"<html>" + JUNK * 4091, "html"),
        (b"\0" * 5000, None),
    ],
)
def test_findings_on_pages(body: bytes, page: str | None) -> None:
    assert sniff(body) == Findings(len(body), NOTHING, None, page)


def test_a_page_is_known_by_its_start() -> None:
    sniffer = Sniffer()
    sniffer.feed(b"<html>" + JUNK * 4089)
    assert sniffer.page is None
    sniffer.feed(JUNK)
    assert sniffer.page == "html"
    words = Sniffer()
    words.feed(JUNK * 5000)
    assert words.page is None
    assert words.findings().page == words.page or words.findings().page == "text"


def test_letters_before_silence_are_a_header() -> None:
    amr = b"#!AMR\n" + b"|" * 20
    assert sniff(amr).media.container == "amr"
    assert sniff(amr).page is None


@pytest.mark.parametrize(
    ("sound", "whole"),
    [
        (JUNK * 956, None),  # 1000 bytes in all
        (JUNK * 957, False),
        (JUNK * 999 + b"\x80", None),
        (JUNK * 5000 + b"\x80", None),
        (b"\x80" + JUNK * 5000, None),
        (b"\x1f" * 2000, None),
        (b"\x20" * 2000, False),
        (b"\0" * 3000 + JUNK * 990, None),
        (b"\0" * 3000 + JUNK * 991, False),
        (b"\0" * 5000 + JUNK * 5000, False),
    ],
)
def test_sound_without_any_eighth_bit_lost_it(sound: bytes, whole: bool | None) -> None:
    assert sniff(wave(sound, 0)).whole is whole


def test_words_with_one_control_are_no_page_and_no_sound() -> None:
    body = LONG.encode() + b"\x01"
    assert sniff(body) == Findings(len(body), NOTHING, False, None)


# --- verdicts -------------------------------------------------------------------------------------------------------


def found(
    lasts: float | None = 10,
    *,
    size: int = 999,
    container: str | None = "wav",
    whole: bool | None = True,
    page: str | None = None,
) -> Findings:
    return Findings(
        size, MediaFacts(container, duration=None if lasts is None else timedelta(seconds=lasts)), whole, page
    )


def flags(of: Findings, declared: float | None = 10, **changed: Any) -> set[str]:
    asked: dict[str, Any] = {"status": 200, "content_type": "audio/wav", "content_encoding": None, "framed": True}
    length = None if declared is None else timedelta(seconds=declared)
    return {each.name for each in judge(of, declared=length, **(asked | changed))}


@pytest.mark.parametrize(
    ("of", "declared", "changed", "doubts"),
    [
        (found(), 10, {}, set()),
        (found(), None, {}, set()),
        (found(), 12.012, {}, set()),
        (found(), 12.1, {}, {"DURATION_MISMATCH"}),
        (found(None), 10, {}, set()),
        (found(None), 10, {"framed": False}, {"LENGTH_UNVERIFIED"}),
        (found(), 10, {"framed": False}, set()),
        (found(), None, {"framed": False}, {"LENGTH_UNVERIFIED"}),
        (found(whole=None), 10, {"framed": False}, {"LENGTH_UNVERIFIED"}),
        (found(whole=False), 10, {"framed": False}, {"LENGTH_UNVERIFIED", "TRUNCATED"}),
        (found(whole=False), 10, {}, {"TRUNCATED"}),
        (found(whole=None), 10, {}, set()),
        (found(0), 0, {}, {"NOT_AUDIO"}),
        (found(None, container=None, whole=None), 10, {}, {"NOT_AUDIO"}),
        (found(None, container=None, whole=None), 10, {"content_encoding": "gzip"}, {"CONTENT_ENCODED"}),
        (found(), 10, {"content_encoding": " Gzip "}, {"CONTENT_ENCODED"}),
        (found(), 10, {"content_encoding": " Identity "}, set()),
        (found(), 10, {"content_encoding": ""}, set()),
        (found(), 10, {"content_type": "text/html"}, set()),
        (found(), 10, {"content_type": None}, set()),
        (found(10), 310, {"at_most": True}, set()),
        (found(10), 310.1, {"at_most": True}, {"DURATION_MISMATCH"}),
        (found(10), 310, {}, {"DURATION_MISMATCH"}),
        (found(1000), 2000, {"at_most": True}, set()),
        (found(1000), 2001, {"at_most": True}, {"DURATION_MISMATCH"}),
        (found(10), 5, {"at_most": True}, {"DURATION_MISMATCH"}),
        (found(10), 9, {"at_most": True}, set()),
        (found(10), 300, {"at_most": True, "framed": False}, {"LENGTH_UNVERIFIED"}),
        (found(page="html"), 10, {"quarantine": True}, {"QUARANTINED", "NOT_AUDIO"}),
        (found(), 10, {"quarantine": True}, set()),
    ],
)
def test_each_doubt_is_a_flag(of: Findings, declared: float | None, changed: dict[str, Any], doubts: set[str]) -> None:
    assert flags(of, declared, **changed) == doubts


@pytest.mark.parametrize(
    ("of", "changed", "said"),
    [
        (found(size=0), {}, "the body is empty: status 200, type audio/wav, 0 bytes"),
        (found(size=0), {"quarantine": True}, "the body is empty: status 200, type audio/wav, 0 bytes"),
        (
            found(page="json"),
            {"status": 206},
            "a page (json) came instead of audio: status 206, type audio/wav, 999 bytes",
        ),
        (
            found(page="xml"),
            {"content_type": None},
            "a page (xml) came instead of audio: status 200, type unstated, 999 bytes",
        ),
        (found(page="xml"), {"content_type": "text/xml; secret"}, "type text/xml, 999 bytes"),
        (found(page="xml"), {"content_type": "secret"}, "type unstated, 999 bytes"),
        *(
            (found(container=None), {"content_type": each}, "labelled as a page and is no audio")
            for each in (
                "text/html",
                "Application/JSON",
                "application/problem+json",
                "text/xml; x",
                "application/xhtml+xml",
            )
        ),
    ],
)
def test_what_is_plainly_no_recording_is_refused(of: Findings, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UnacceptableMediaError) as caught:
        flags(of, **changed)
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", [None, "", "audio/wav", "text/plain", "application/octet-stream"])
def test_bytes_that_may_be_sound_are_kept(kind: str | None) -> None:
    assert flags(found(container=None), content_type=kind) == {Flag.NOT_AUDIO.name}


@pytest.mark.parametrize(
    ("measured", "declared", "same"),
    [(10, 10, True), (8, 10, True), (7.99, 10, True), (7.98, 10, False), (12.01, 10, True), (12.02, 10, False),
     (3600, 3605.6, True), (3600, 3605.61, False), (0, 2, True), (2, 0, True), (2.01, 0, False)],
)  # fmt: skip
def test_two_lengths_agree_within_two_seconds_and_a_thousandth(measured: float, declared: float, same: bool) -> None:
    assert agree(timedelta(seconds=measured), timedelta(seconds=declared)) is same
