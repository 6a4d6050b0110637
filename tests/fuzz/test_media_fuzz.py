"""Poisoned recordings: whatever the bytes, the sniffer answers, soon, and the judge says flags or refuses."""

from __future__ import annotations

import itertools
import random
import time
from contextlib import suppress
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.errors import UnacceptableMediaError
from archiver.fetch.media import Findings, Sniffer, judge
from tests.fetch_bodies import MP3, PAGES, ULAW, VBR, WAV, flac, mp4, ogg_opus, untagged, wav
from tests.fuzz.mutator import times

MUTATIONS = times(50_000)
SEEDS = [
    body[:3000]
    for body in (
        *(MP3, VBR, WAV, ULAW, untagged(MP3), untagged(VBR)),
        *(ogg_opus(1), mp4(9, moov_first=True, payload=500), mp4(9, moov_first=False, payload=500), flac(3)),
        *(wav(bytes(500)), b".snd" + bytes.fromhex("00000018 ffffffff 00000001 00001f40 00000001") + bytes(99)),
        *PAGES.values(),
    )
]


def look(*pieces: bytes) -> Findings:
    sniffer = Sniffer()
    for piece in pieces:
        sniffer.feed(piece)
    found = sniffer.findings()
    with suppress(UnacceptableMediaError):
        judge(found, declared=timedelta(seconds=5), status=200, content_type=None, content_encoding=None, framed=False)
    return found


def mutated(body: bytes, chance: random.Random) -> bytes:
    poisoned = bytearray(body)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(min(len(poisoned), 400) if chance.random() < 0.7 else len(poisoned)) if poisoned else 0
        match chance.randrange(5):
            case 0:
                poisoned[at : at + 1] = chance.randbytes(1)
            case 1:
                poisoned[at : at + 4] = chance.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\1"]
                )
            case 2:
                del poisoned[at : at + chance.randrange(1, 50)]
            case 3:
                poisoned[at:at] = poisoned[at : at + chance.randrange(1, 50)]
            case 4:
                del poisoned[at:]
    return bytes(poisoned)


def test_mutated_recordings_never_break_the_sniffer() -> None:
    chance = random.Random(6)
    started = time.process_time()
    for _ in range(MUTATIONS):
        body = mutated(chance.choice(SEEDS), chance)
        cut = chance.randrange(len(body) + 1)
        look(body[:cut], body[cut:])
    assert time.process_time() - started < MUTATIONS * 0.002


@given(st.sampled_from(SEEDS), st.lists(st.integers(0, 3000), max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=500)
def test_pieces_of_any_size_give_the_same_findings(seed: bytes, cuts: list[int], chance: random.Random) -> None:
    body = mutated(seed, chance)
    edges = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
    pieces = [body[a:b] for a, b in itertools.pairwise(edges)]
    assert look(*pieces) == look(body)


def test_bodies_made_to_waste_time_do_not() -> None:
    """Per MiB at most a quarter of a second, whatever it is made of; ordinary audio takes a thousandth of that."""
    header = b"\xff\xfb\x90\xc0"
    poisons = {
        "sync everywhere": b"\xff\xfb" * (1 << 19),
        "headers back to back": header * (1 << 18),
        "shortest frames": (b"\xff\xf3\x14\xc0" + bytes(20)) * (1 << 15),
        "alternating rates": (b"\xff\xf3\x14\xc0" + bytes(20) + b"\xff\xf3\x24\xc0" + bytes(44)) * (1 << 14),
        "chunks of nothing": b"RIFF\0\0\0\0WAVE" + b"LIST\0\0\0\0" * (1 << 17),
        "boxes of nothing": b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * (1 << 17),
        "boxes in boxes": b"\0\0\0\x08ftyp" + b"\x7f\0\0\0moov" * (1 << 17),
        "pages of nothing": (b"OggS\0\0" + bytes(20) + b"\0") * 38_000,
        "u-law silence, bare": b"\xff" * (1 << 20),
        "tags": b"ID3\x04\0\0\0\0\0\0" * 100_000,
        "blank": b" " * (1 << 20),
        "frames of nothing": b"#!AMR\n" + b"\x7c" * (1 << 20),
        "voids": b"\x1a\x45\xdf\xa3\x80" + b"\xec\x80" * (1 << 19),
        "runs of nothing": b"\0\0\0\x08ftyp" + b"\0\0\0\x14trun\0\0\0\0\0\0\0\1\0\0\0\0" * (1 << 16),
        "flac headers": b"fLaC\x80\0\0\x22"
        + b"\x10\0" * 5
        + b"\1\xf4\x00\xf0"
        + bytes(20)
        + b"\xff\xf8\x70\x08" * (1 << 18),
    }
    for name, body in poisons.items():
        started = time.process_time()
        look(body, body, body, body)
        assert time.process_time() - started < 1, name
