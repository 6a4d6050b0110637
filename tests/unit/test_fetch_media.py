"""What bytes are: facts of real recordings, and nothing bad passes as sound (reliability §3.2)."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from tinytag import TinyTag

from archiver.errors import UnacceptableMediaError
from archiver.fetch.media import Findings, Sniffer, judge
from archiver.recording import Flag, MediaFacts
from tests.fetch_bodies import AUDIO, INDEX, MP3, PAGES, ULAW, VBR, WAV, bad_bodies, flac, mp4, ogg_opus, untagged, wav

CLOSE = timedelta(milliseconds=50)
TEN = timedelta(seconds=10)


def sniff(body: bytes, step: int = 1 << 20) -> Findings:
    sniffer = Sniffer()
    for start in range(0, len(body), step):
        sniffer.feed(body[start : start + step])
    return sniffer.findings()


def flags(
    body: bytes,
    declared: timedelta | None = None,
    *,
    at_most: bool = False,
    framed: bool = True,
    content_type: str | None = "audio/mpeg",
    content_encoding: str | None = None,
    quarantine: bool = False,
) -> set[Flag]:
    return set(
        judge(
            sniff(body),
            declared=declared,
            at_most=at_most,
            status=200,
            content_type=content_type,
            content_encoding=content_encoding,
            framed=framed,
            quarantine=quarantine,
        )
    )


# --- facts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INDEX)
@pytest.mark.parametrize("step", [1, 13, 1000, 1 << 20])
def test_real_recordings_tell_their_duration_in_pieces_of_any_size(name: str, step: int) -> None:
    found = sniff((AUDIO / name).read_bytes(), step)
    assert found.media.duration is not None
    assert abs(found.media.duration - INDEX[name]) < CLOSE
    assert found.whole is True
    assert found.page is None


@pytest.mark.parametrize("name", INDEX)
def test_facts_agree_with_an_independent_reader(name: str) -> None:
    tag, media = TinyTag.get(AUDIO / name), sniff((AUDIO / name).read_bytes()).media
    assert (media.sample_rate, media.channels) == (tag.samplerate, tag.channels)
    assert media.container == name.rsplit(".", 1)[1]


def test_codecs_of_wav_are_named() -> None:
    assert sniff(ULAW).media.codec == "pcm_mulaw"
    assert sniff(WAV).media.codec == "pcm_s16le"
    assert sniff(wav(bytes(8000), tag=6, bits=8)).media == MediaFacts("wav", "pcm_alaw", 8000, 1, timedelta(seconds=1))


@pytest.mark.parametrize(("mp3", "name"), [(MP3, "justcall-128k-mono-44100.mp3"), (VBR, "kazoo-vbr-mono-8000.mp3")])
@pytest.mark.parametrize("step", [1, 997, 1 << 20])
def test_mp3_without_xing_header_is_timed_frame_by_frame(mp3: bytes, name: str, step: int) -> None:
    found = sniff(untagged(mp3), step)
    assert found.media.duration is not None
    assert abs(found.media.duration - INDEX[name]) < CLOSE
    assert found.whole is True


def test_mp3_with_id3v1_at_its_end_is_whole() -> None:
    for body in (MP3, untagged(MP3)):
        found = sniff(body + b"TAG" + bytes(125))
        assert found.whole is True
        assert found.media.duration is not None
        assert abs(found.media.duration - TEN) < timedelta(seconds=0.2)


def test_two_mp3_glued_together_are_as_long_as_both() -> None:
    found = sniff(MP3 + MP3)
    assert found.media.duration is not None
    assert abs(found.media.duration - 2 * INDEX["justcall-128k-mono-44100.mp3"]) < CLOSE


def test_vbri_header_states_the_length() -> None:
    body = bytearray(untagged(VBR))
    frames = 143
    body[36:40], body[46:50], body[50:54] = b"VBRI", len(body).to_bytes(4), frames.to_bytes(4)
    found = sniff(bytes(body))
    assert found.media.duration == timedelta(
        seconds=(frames - 1) * 576 / 8000
    )  # the frame that states it holds no sound
    assert sniff(bytes(body[:-500])).whole is False


@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF])
def test_streamed_wav_counts_the_bytes_that_came(stated: int) -> None:
    found = sniff(wav(bytes(32_000), data=stated, riff=stated))
    assert found.media.duration == timedelta(seconds=2)
    assert found.whole is None


def test_rf64_takes_its_length_from_ds64() -> None:
    plain = wav(bytes(16_000), data=0xFFFFFFFF)
    ds64 = b"ds64" + (28).to_bytes(4, "little") + (0).to_bytes(8, "little") + (16_000).to_bytes(8, "little") + bytes(12)
    body = b"RF64\xff\xff\xff\xffWAVE" + ds64 + plain[12:]
    assert sniff(body).media.duration == timedelta(seconds=1)
    assert sniff(body).whole is True
    assert sniff(body[:-100]).whole is False


@pytest.mark.parametrize(
    ("body", "media", "whole"),
    [
        (ogg_opus(9), MediaFacts("ogg", "opus", 48000, 2, timedelta(seconds=9)), True),
        (ogg_opus(9, ended=False), MediaFacts("ogg", "opus", 48000, 2, timedelta(seconds=9)), None),
        (mp4(9, moov_first=True), MediaFacts("mp4", "aac", 8000, 1, timedelta(seconds=9)), True),
        (mp4(9, moov_first=False), MediaFacts("mp4", "aac", 8000, 1, timedelta(seconds=9)), True),
        (flac(9), MediaFacts("flac", "flac", 8000, 1, timedelta(seconds=9)), None),
        (b".snd" + bytes.fromhex("00000018 00001f40 00000001 00001f40 00000001") + b"\xff" * 8000,
         MediaFacts("au", "pcm_mulaw", 8000, 1, timedelta(seconds=1)), True),
        (b"#!AMR\n" + bytes(325), MediaFacts("amr", "amr", 8000, 1, timedelta(seconds=0.5)), True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_other_containers_tell_their_facts(body: bytes, media: MediaFacts, whole: bool | None, step: int) -> None:
    assert (sniff(body, step).media, sniff(body, step).whole) == (media, whole)


@pytest.mark.parametrize("body", [MP3, WAV, ULAW, VBR, ogg_opus(9), mp4(9, moov_first=True), mp4(9, moov_first=False)])
def test_cut_within_the_container_is_seen_at_every_offset(body: bytes) -> None:
    for part in range(2, 64):
        cut = len(body) * part // 64 + 1
        found = sniff(body[:cut])
        assert found.whole is False, cut
        assert Flag.TRUNCATED in flags(body[:cut])


# --- verdicts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INDEX)
def test_sound_recording_gets_no_flag_even_unframed(name: str) -> None:
    declared = timedelta(seconds=round(INDEX[name].total_seconds()))
    assert flags((AUDIO / name).read_bytes(), declared) == set()
    assert flags((AUDIO / name).read_bytes(), declared, framed=False) == set()


def test_silence_is_a_recording() -> None:
    assert flags(wav(bytes(160_000)), TEN) == set()


@pytest.mark.parametrize("content_type", ["audio/mpeg", "text/html", None])
@pytest.mark.parametrize("page", PAGES)
def test_error_page_with_200_is_refused(page: str, content_type: str | None) -> None:
    with pytest.raises(UnacceptableMediaError, match="status 200"):
        flags(PAGES[page], TEN, content_type=content_type)


@pytest.mark.parametrize("page", PAGES)
def test_error_page_at_the_deadline_is_kept_and_marked(page: str) -> None:
    assert flags(PAGES[page], TEN, quarantine=True) == {Flag.QUARANTINED, Flag.NOT_AUDIO}


def test_empty_body_is_refused_even_at_the_deadline() -> None:
    for quarantine in (False, True):
        with pytest.raises(UnacceptableMediaError, match="empty"):
            flags(b"", TEN, quarantine=quarantine)


def test_refusal_repeats_nothing_of_the_page_nor_of_a_crafted_type() -> None:
    with pytest.raises(UnacceptableMediaError) as caught:
        flags(b"<html>token=hunter2</html>", content_type="text/html; session=hunter2\r\nx: y")
    assert "hunter2" not in str(caught.value)
    assert "text/html, " in str(caught.value)


def test_page_type_over_bytes_that_are_no_audio_is_refused() -> None:
    noise = b"\x01\x02\x03\x04" * 500
    with pytest.raises(UnacceptableMediaError):
        flags(noise, content_type="application/problem+json; charset=utf-8")
    assert flags(MP3, content_type="text/html") == set()


def test_no_bad_body_passes_as_sound() -> None:
    tried = 0
    for bad in bad_bodies():
        tried += 1
        try:
            doubts = flags(bad.body, bad.declared, framed=bad.framed)
        except UnacceptableMediaError:
            continue
        assert doubts, bad.name
    assert tried >= 500


def test_id3_only_and_header_only_are_not_audio() -> None:
    assert Flag.NOT_AUDIO in flags(b"ID3\x04\0\0\0\0\x07\x68" + bytes(1000))
    assert Flag.NOT_AUDIO in flags(wav(b""))
    assert Flag.NOT_AUDIO in flags(wav(b"", data=0xFFFFFFFF, riff=0xFFFFFFFF))


@pytest.mark.parametrize(
    ("seconds", "off"), [(8.1, True), (8.2, False), (10, False), (12.1, False), (12.2, True), (0, True)]
)
def test_duration_off_by_more_than_two_seconds_is_flagged(seconds: float, off: bool) -> None:
    assert (Flag.DURATION_MISMATCH in flags(MP3, timedelta(seconds=seconds))) is off


@pytest.mark.parametrize(("missing", "off"), [(0, False), (5, False), (6, True), (71, True), (-6, True)])
def test_no_share_of_an_hour_may_be_missing_but_what_clocks_drift(missing: int, off: bool) -> None:
    """Two seconds, and 3.6 s of an hour."""
    hour = timedelta(seconds=3600)
    sound = wav(bytes(8000 * (3600 - missing)), bits=8, tag=7)
    assert flags(sound, hour) == ({Flag.DURATION_MISMATCH} if off else set())


def test_hour_of_mp3_without_its_last_71_seconds_is_too_short() -> None:
    """Its frames are counted, and nothing in it says how many there should be."""
    ten = untagged(MP3)
    lasts = sniff(ten).media.duration
    assert lasts is not None
    whole, frame = 360, 417.96
    cut = (ten * whole)[: -round(71 / lasts.total_seconds() * len(ten) / frame) * 418 - 5 * 418]
    assert Flag.DURATION_MISMATCH not in flags(ten * whole, lasts * whole)
    assert Flag.DURATION_MISMATCH in flags(cut, lasts * whole)


@pytest.mark.parametrize(("seconds", "off"), [(60, False), (300, False), (10, False), (5, True), (900, True)])
def test_call_longer_than_its_recording_is_no_mismatch_unless_most_of_it_is_missing(seconds: int, off: bool) -> None:
    """JustCall's call log states the call's duration, ringing and all: an upper bound (185 s for 180 s)."""
    found = flags(MP3, timedelta(seconds=seconds), at_most=True)
    assert found == ({Flag.DURATION_MISMATCH} if off else set())


def test_unframed_body_is_not_proved_whole_by_a_calls_duration() -> None:
    assert flags(MP3, timedelta(seconds=60), at_most=True, framed=False) == {Flag.LENGTH_UNVERIFIED}


def test_unframed_body_needs_both_its_structure_and_its_duration() -> None:
    whole, unsure = untagged(MP3), wav(bytes(160_000), data=0, riff=0)
    assert flags(whole, TEN, framed=False) == set()
    assert flags(whole, None, framed=False) == {Flag.LENGTH_UNVERIFIED}
    assert flags(unsure, TEN, framed=False) == {Flag.LENGTH_UNVERIFIED}
    assert flags(whole, timedelta(seconds=60), framed=False) == {Flag.LENGTH_UNVERIFIED, Flag.DURATION_MISMATCH}


def test_encoded_body_is_kept_as_it_came() -> None:
    import gzip

    assert flags(gzip.compress(MP3, mtime=0), TEN, content_encoding="gzip") == {Flag.CONTENT_ENCODED}
    assert flags(gzip.compress(MP3, mtime=0), TEN) == {Flag.NOT_AUDIO}
    assert flags(MP3, TEN, content_encoding="identity") == set()


def test_gzip_bomb_is_not_let_off() -> None:
    import gzip

    bomb = gzip.compress(bytes(300 << 20), mtime=0)
    started = time.process_time()
    assert flags(bomb, TEN, content_encoding="gzip") == {Flag.CONTENT_ENCODED}
    assert time.process_time() - started < 0.5
