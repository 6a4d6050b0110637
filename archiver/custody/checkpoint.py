"""Checkpoints (c2sp.org/tlog-checkpoint): what a log says its whole tree is at one size. Pure: no I/O, no clock."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from archiver.custody.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE
from archiver.custody.note import COSIGNATURE, ED25519, VerifierKey, from_base64, from_decimal, open_note, parse_note
from archiver.custody.rotation import LogKeys
from archiver.errors import VerificationError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log `origin` has `size` entries under `root`. ValueError for what no log can say.

    `extensions` are lines that other logs may add; ours never has any.
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
    """The checkpoint whose body is `text`. Raises `VerificationError`. Says nothing of signatures."""
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
    """The checkpoint that the log itself signed, with the key that it had at this size, and who of `witnesses` cosigned it.

    Each witness comes with the time in seconds since the epoch.
    Raises `VerificationError` unless the log's signature is there and good, its origin is the key's name, and no signature
    by a known key is bad. How many witnesses are enough is the caller's to say.
    """
    if log_key.kind != ED25519 or any(witness.kind != COSIGNATURE for witness in witnesses):
        raise VerificationError("a log's key is of type 1, a witness's of type 4")
    size = _stated_size(raw)  # says which key to ask; nothing of it is believed before that key's signature is found
    own = log_key.of(size)
    opened = open_note(raw, [own, *witnesses])
    checkpoint = parse_checkpoint(opened.text)
    if checkpoint.origin != log_key.name:
        raise VerificationError("the checkpoint is another log's")
    if all(key != own for key, _ in opened.verified):
        raise VerificationError("the log did not sign its checkpoint")
    return checkpoint, tuple((key, time) for key, time in opened.verified if time is not None)


def _stated_size(raw: bytes) -> int:
    lines = parse_note(raw).text.split("\n")
    return from_decimal(lines[1]) if len(lines) > 1 else 0
