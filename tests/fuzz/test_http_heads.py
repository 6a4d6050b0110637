"""Damaged heads of answers: mended into one that the strict reader takes, or left as they are; and nothing else happens."""

from __future__ import annotations

import random
import re

import pytest

from archiver.providers.http_mended import head_ends, mended
from tests.fuzz.mutator import PIECES, mutated, times

SEEDS = [
    b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/5\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    b"http/1.0 302 Found\nLocation : http://h/x\n y\nX Y: 1\nSet-Cookie: a=b\n\n",
    b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n",
]
HEAD_PIECES = [
    *PIECES, b"\r\n\r\n", b": ", b"Content-Length: 5\r\n", b"Content-Length: 6\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"HTTP/1.1 200 OK\r\n", b"X-Archiver-Stated-Length: 9\r\n", b"\r", b"\t", b",",
]  # fmt: skip
FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+: ?[^\x00-\x08\x0a-\x1f\x7f]*")


@pytest.mark.parametrize("to_the_end", [False, True])
@pytest.mark.timeout(3600)
def test_damaged_head_becomes_one_that_no_reader_doubts_or_stays_as_it_is(to_the_end: bool) -> None:
    chance, well = random.Random(to_the_end), 0
    for _ in range(times(5_000)):
        raw = chance.choice(SEEDS)
        for _ in range(chance.choice((1, 2, 3))):
            raw = mutated(raw, SEEDS, chance, HEAD_PIECES)
        if (end := head_ends(raw)) < 0:
            continue
        head = mended(raw[:end], to_the_end=to_the_end)
        if head == raw[:end] and not re.match(rb"HTTP/1\.1 \d{3} ", head):
            continue
        well += 1
        first, *fields, last, end_of_all = head.split(b"\r\n")
        assert re.fullmatch(rb"HTTP/1\.1 \d{3} [^\r\n]*", first)
        assert (last, end_of_all) == (b"", b"")
        assert all(map(FIELD.fullmatch, fields)), head
        names = [each.partition(b":")[0] for each in fields]
        assert (
            names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
        )  # one framing, or the connection's end
        assert not (to_the_end and b"content-length" in names)
    assert well > 1_000
