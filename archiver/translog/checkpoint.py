"""Reads and writes checkpoints (c2sp.org/tlog-checkpoint): a log's statement of its root at one size. Pure: no I/O, no
clock."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from archiver.errors import VerificationError
from archiver.translog.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE
from archiver.translog.note import COSIGNATURE, ED25519, VerifierKey, from_base64, from_decimal, open_note, parse_note
from archiver.translog.rotation import LogKeys


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The statement that log `origin` has `size` entries under `root`. Raises ValueError for a statement that no log
    can make.

    `extensions` are lines that other logs may add; our log never has any.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(not line or any(char < " " for char in line) for line in (self.origin, *self.extensions)):
            raise ValueError("a line of a checkpoint is not empty and has no control character")
        if not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise ValueError("a checkpoint has a size below 2^63 and a root of 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise ValueError("the empty tree has one root")

    @property
    def body(self) -> str:
        """The text that is signed."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Returns the checkpoint whose body is `text`. Raises `VerificationError`. Does not check signatures."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop():
        raise VerificationError("a checkpoint has at least three whole lines")
    origin, size, root, *extensions = lines
    try:
        return Checkpoint(origin, from_decimal(size), from_base64(root), tuple(extensions))
    except ValueError as exc:
        raise VerificationError(f"not a checkpoint: {exc}") from exc


def open_checkpoint(
    raw: bytes, log_key: VerifierKey | LogKeys, witnesses: Sequence[VerifierKey] = ()
) -> tuple[Checkpoint, tuple[tuple[VerifierKey, int], ...]]:
    """Returns the checkpoint that the log itself signed with its key for that size, and those of `witnesses` that
    cosigned it.

    Each witness comes with the time of its cosignature in seconds since the epoch. Raises `VerificationError` unless
    the log's signature is there and good, the checkpoint's origin is the key's name, and no signature by a known key is
    bad. The caller decides how many witnesses are enough.
    """
    if log_key.kind != ED25519 or any(witness.kind != COSIGNATURE for witness in witnesses):
        raise VerificationError("a log's key is of type 1, a witness's of type 4")
    size = _stated_size(raw)  # chooses the key; the size is not believed before that key's signature is found
    own = log_key.of(size)
    opened = open_note(raw, [own, *witnesses])
    checkpoint = parse_checkpoint(opened.text)
    if checkpoint.origin != log_key.name:
        raise VerificationError("the checkpoint is another log's")
    if all(key != own for key, _ in opened.verified):
        raise VerificationError("the log did not sign its checkpoint")
    return checkpoint, tuple((key, time) for key, time in opened.verified if time is not None)


def _stated_size(raw: bytes) -> int:
    return from_decimal(parse_note(raw).text.split("\n")[1])  # a note's text has a line feed at least
