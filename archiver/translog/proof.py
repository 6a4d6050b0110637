"""Reads and writes proof files (c2sp.org/tlog-proof@v1), which show offline that an entry is in the log. Pure:
no I/O, no clock."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from archiver.errors import VerificationError
from archiver.translog.checkpoint import parse_checkpoint
from archiver.translog.merkle import HASH_BYTES, MAX_SIZE
from archiver.translog.note import MAX_NOTE, from_base64, from_decimal, parse_note

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
MAX_PROOF = 2 * MAX_NOTE


@dataclass(frozen=True, slots=True)
class LogProof:
    """A proof that the entry at `index` is under the root of `checkpoint` (the signed note's bytes), as `hashes` show.

    `extra` is outside the proof, and nobody trusts it. Raises ValueError for values that no such file can hold.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_SIZE:
            raise ValueError("no such index")
        if len(self.hashes) > MAX_HASHES or any(len(each) != HASH_BYTES for each in self.hashes):
            raise ValueError(f"a proof has at most {MAX_HASHES} hashes of {HASH_BYTES} bytes")
        if self.extra == b"":
            raise ValueError("no extra data is said by no line")

    @property
    def text(self) -> str:
        """The text of the file, which is encoded in UTF-8."""
        extra = [] if self.extra is None else [f"extra {_base64(self.extra)}"]
        lines = [HEADER, *extra, f"index {self.index}", *map(_base64, self.hashes), ""]
        return "".join(f"{line}\n" for line in lines) + self.checkpoint.decode()


def parse_proof(raw: bytes) -> LogProof:
    """Returns the proof in a file, which may hold or not. Raises `VerificationError`."""
    if len(raw) > MAX_PROOF:
        raise VerificationError(f"a proof has at most {MAX_PROOF} bytes")
    head, blank, checkpoint = raw.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except ValueError as exc:
        raise VerificationError("not a proof") from exc
    if not blank or lines.pop(0) != HEADER:
        raise VerificationError("not a proof of version 1")
    extra = from_base64(lines.pop(0)[6:]) if lines and lines[0].startswith("extra ") else None
    if not lines or not lines[0].startswith("index "):
        raise VerificationError("a proof without its index")
    index = from_decimal(lines.pop(0)[6:])
    parse_checkpoint(parse_note(checkpoint).text)
    try:
        return LogProof(index, tuple(map(from_base64, lines)), checkpoint, extra)
    except ValueError as exc:
        raise VerificationError(f"not a proof: {exc}") from exc


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
