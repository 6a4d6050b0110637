"""The first bytes choose the walk: each magic number, and frames that follow one another where there is none."""

from __future__ import annotations

import pytest

from archiver.fetch.boxes import Flv, Matroska, Mp4
from archiver.fetch.chunks import ASF, Aiff, Asf, Au, Caf, Sphere, Voc
from archiver.fetch.frames import Frames, TransportStream, Voice
from archiver.fetch.mpeg import Mpeg
from archiver.fetch.pages import Flac, Ogg
from archiver.fetch.probe import Tagged, choose
from archiver.fetch.riff import Avi, Riff, Wave64
from archiver.fetch.walk import Known
from archiver.recording import MediaFacts
from tests.fetch_walks import NOTHING, shape, walked

JUNK = b"\x55"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"ID3\x04", Tagged),
        (b"RIFF\0\0\0\0WAVE", Riff),
        (b"RF64\0\0\0\0WAVE", Riff),
        (b"RIFX\0\0\0\0WAVE", Riff),
        (b"RIFF\0\0\0\0AVI ", Avi),
        (b"RIFF\0\0\0\0WEBP", Mpeg),
        (b"RIFX\0\0\0\0AVI ", Mpeg),
        (b"FORM\0\0\0\0AIFF", Aiff),
        (b"FORM\0\0\0\0AIFC", Aiff),
        (b"FORM\0\0\0\0ILBM", Mpeg),
        (b".snd", Au),
        (b"caff", Caf),
        (b"fLaC", Flac),
        (b"OggS", Ogg),
        (b"\x1a\x45\xdf\xa3", Matroska),
        (b"FLV\x01", Flv),
        (b"NIST_1A\n", Sphere),
        (ASF, Asf),
        (b"Creative Voice File\x1a", Voc),
        (b"\x64\xa3\x01\0", Known),
        (b"\x64\xa3\x02\0", Known),
        (b"\0\x01\xa3\x64", Known),
        (b"\0\x02\xa3\x64", Known),
        (b"\xff\xff\xff\xffftyp", Mp4),
        (b"\xff\xff\xff\xffmoov", Mp4),
        (b"\xff\xff\xff\xffmdat", Mp4),
        (b"\xff\xff\xff\xffwide", Mp4),
        (b"\xff\xff\xff\xffstyp", Mp4),
        (b"\xff\xff\xff\xfffree", Mpeg),
        (b"\xff\xff\xffftyp", Mpeg),
        (b"riff" + bytes(20) + b"wave", Wave64),
        (b"riff" + bytes(20) + b"wavy", Mpeg),
        (b"riff" + bytes(21) + b"wave", Mpeg),
        (b"raff" + bytes(20) + b"wave", Mpeg),
        (b"#!AMR\n", Voice),
        (b"#!AMR-WB\n", Voice),
        (b"#!AMR ", Mpeg),
        (b"", Mpeg),
        (b"\xff\xfb\x90\xc0", Mpeg),
    ],
)
def test_a_magic_number_chooses_the_walk(head: bytes, kind: type) -> None:
    assert type(choose(head + JUNK * 300)) is kind


def frame(head: str, size: int) -> bytes:
    return bytes.fromhex(head).ljust(size, JUNK)


ADTS, LOAS, AC3 = frame("fff16c400c9ffc", 100), frame("56e064", 103), frame("0b77ffff00", 128)
FREE, GSM, PACKET = frame("fffb00c0", 200), frame("d5", 33), frame("47", 188)


@pytest.mark.parametrize(
    ("head", "kind", "container"),
    [
        (b"#!AMR\n" + b"\x3c" + JUNK * 31, Voice, "amr"),
        (b"#!AMR-WB\n" + b"\x04" + JUNK * 17, Voice, "amr"),
        (ADTS, Frames, "adts"),
        (ADTS * 5, Frames, "adts"),
        (ADTS * 2 + ADTS[:50], Frames, "adts"),
        (ADTS * 2 + JUNK * 6, Frames, None),
        (ADTS * 2 + JUNK * 7, Mpeg, None),
        (JUNK + ADTS * 2, Mpeg, None),
        (LOAS * 2, Frames, "loas"),
        (LOAS, Mpeg, None),
        (LOAS * 3 + JUNK * 2, Frames, "loas"),
        (LOAS * 3 + JUNK * 3, Mpeg, None),
        (AC3 * 2, Frames, "ac3"),
        (AC3, Mpeg, None),
        (AC3 * 3 + JUNK * 5, Mpeg, None),
        (AC3 * 3 + JUNK * 4, Frames, "ac3"),
        (GSM * 9, Voice, "gsm"),
        (GSM * 8 + b"\xd5", Voice, "gsm"),
        (GSM * 8, Mpeg, None),
        (GSM * 9 + JUNK, Mpeg, None),
        (GSM * 4 + JUNK * 33 + GSM * 6, Mpeg, None),
        (FREE * 3, Frames, "mp3"),
        (FREE, Mpeg, None),
        (PACKET * 2, TransportStream, "mpegts"),
        (PACKET + b"\x47", TransportStream, "mpegts"),
        (PACKET, Mpeg, None),
        (PACKET * 3 + b"\x48", Mpeg, None),
        (b"\x48" + PACKET[1:] + PACKET, Mpeg, None),
    ],
)
def test_frames_that_follow_one_another_choose_the_walk(head: bytes, kind: type, container: str | None) -> None:
    assert type(choose(head)) is kind
    assert walked(lambda: choose(head), head).media.container == container


def test_the_chosen_walk_knows_its_facts() -> None:
    def facts(head: bytes) -> object:
        return walked(lambda: choose(head), head)

    assert facts(b"#!AMR\n" + (b"\x3c" + JUNK * 31) * 5) == shape("amr", "amr", 8000, 1, 0.1, whole=True)
    assert facts(b"#!AMR-WB\n" + (b"\x04" + JUNK * 17) * 5) == shape("amr", "amr", 16000, 1, 0.1, whole=True)
    assert facts(ADTS * 5) == shape("adts", "aac", 8000, 1, 0.64, whole=True)
    assert facts(LOAS * 5) == shape("loas", "aac", None, 1, whole=True)
    assert facts(AC3 * 5) == shape("ac3", "ac3", 48000, 2, 0.16, whole=True)
    assert facts(GSM * 10) == shape("gsm", "gsm", 8000, 1, 0.2, whole=True)
    assert facts(FREE * 10) == shape("mp3", "mp3", 44100, 1, 0.261224, whole=True)
    assert facts(PACKET * 5) == shape("mpegts", whole=True)
    assert facts(b"\x64\xa3\x01\0" + JUNK * 99) == shape("ircam")
    wave = b"RIFX\0\0\0\0WAVEfmt \0\0\0\x10" + bytes.fromhex("0001 0001 00001f40 00003e80 0002 0010")
    assert facts(wave + b"data" + (1600).to_bytes(4) + JUNK * 1600) == shape(
        "wav", "pcm_s16be", 8000, 1, 0.1, whole=True
    )


# --- behind a tag ---------------------------------------------------------------------------------------------------


def id3(length: int) -> bytes:
    return b"ID3\x04\0\0\0\0" + bytes([length >> 7, length & 127]) + JUNK * length


AU = b".snd" + bytes.fromhex("00000018 00003e80 00000003 00001f40 00000001") + JUNK * 16_000
SOUND = shape("au", "pcm_s16be", 8000, 1, 1, whole=True)


@pytest.mark.parametrize("tags", [id3(0), id3(30), id3(300), id3(3) + id3(30)])
def test_any_sound_may_stand_behind_tags(tags: bytes) -> None:
    assert walked(Tagged, tags + AU) == SOUND
    assert walked(Tagged, tags + AU[:-8000]).whole is False
    assert walked(Tagged, tags + b"OggS" + JUNK * 90) == shape("ogg", whole=False)
    frame = b"\xff\xfb\x90\xc0".ljust(417, JUNK)
    assert walked(Tagged, tags + frame * 5) == shape("mp3", "mp3", 44100, 1, 0.130612, whole=True)


def test_a_tag_alone_is_no_sound() -> None:
    for body in (b"", id3(90), id3(90)[:50], id3(90) + AU[:63]):
        assert walked(Tagged, body) == NOTHING
    assert walked(Tagged, id3(30) + JUNK * 90).media == MediaFacts(None)
