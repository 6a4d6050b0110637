"""Damage to bytes, seeded so that a run can be repeated, and how much of it a run does."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence


def times(count: int) -> int:
    """`count` inputs in CI; ARCHIVER_FUZZ=20 makes it twenty times as many, for a night before a release."""
    return max(1, int(count * float(os.environ.get("ARCHIVER_FUZZ", "1"))))


PIECES = [b"\n", b"\n\n", b" ", b"+", b"=", b"\xe2\x80\x94 ", b"\xe2\x80\x93 ", b"\r", b"\0", b"\xc2\xa0", b"\xff", b"0", b"-1",
          b"9223372036854775808", b"x000/", b".p/256", b"extra ", b"index ", b"A", b"AAAA", b"\xef\xbb\xbf", b"\\u0000", b'"'
          ]  # fmt: skip


def mutated(raw: bytes, others: Sequence[bytes], chance: random.Random, pieces: Sequence[bytes] = PIECES) -> bytes:
    """One of ten kinds of damage, some of which keep the form."""
    at, to = sorted((chance.randint(0, len(raw)), chance.randint(0, len(raw))))
    match chance.randrange(10):
        case 0 if raw:
            at = chance.randrange(len(raw))
            return raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]
        case 1 if raw:
            at = chance.randrange(len(raw))
            return raw[:at] + bytes([chance.choice(b"0129azAZ+/=- \n")]) + raw[at + 1 :]
        case 2:
            return raw[:at] + raw[to:]
        case 3:
            return raw[:at]
        case 4:
            return raw[:at] + raw[at:to] * chance.choice((2, 2, 2, 40)) + raw[to:]
        case 5:
            return raw[:at] + chance.choice(pieces) + raw[at:]
        case 6:
            return raw[:at] + chance.randbytes(chance.randint(1, 9)) + raw[to:]
        case 7:
            other = chance.choice(others)
            return raw[:at] + other[chance.randint(0, len(other)) :]
        case 8:
            lines = raw.split(b"\n")
            chance.shuffle(lines)
            return b"\n".join(lines)
        case _:
            lines = raw.split(b"\n")
            lines.insert(chance.randint(0, len(lines)), chance.choice(chance.choice(others).split(b"\n")))
            return b"\n".join(lines)
