"""Follows a log's keys over time: each key is introduced by its predecessor, in a signed note. Pure: no I/O, no clock.

The note (docs/spec/checkpoint.md) states the size at which the log passes from one key to the next. Both keys sign it.
Somebody who trusts any key of the chain can find the others, and the key that must have signed a checkpoint of a given
size.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from archiver.errors import VerificationError
from archiver.translog.merkle import HASH_BYTES
from archiver.translog.note import Signer, VerifierKey, from_base64, from_decimal, open_note, parse_note, parse_vkey

HEADER = "compliance-archiver/log-key-rotation/v1"


@dataclass(frozen=True, slots=True)
class Rotation:
    """A change of a log's key: the old key signs checkpoints of up to `size` leaves, the new key larger ones.

    `hosts`: the old and the new host key, in hex.
    """

    old: VerifierKey
    new: VerifierKey
    hosts: tuple[str, str]
    size: int
    root: bytes
    note: bytes


def introduce(old: Signer, new: Signer, hosts: tuple[str, str], size: int, root: bytes) -> Rotation:
    """Returns the rotation by which `old` introduces `new`. Its note is deterministic: made again, it is the same."""
    text = (
        f"{HEADER}\n{new.name}\n{size}\n{base64.b64encode(root).decode()}\n"
        f"old {old.key.vkey}\nnew {new.key.vkey}\nhosts {' '.join(hosts)}\n"
    )
    return parse_rotation(f"{text}\n{old.sign(text)}{new.sign(text)}".encode())


_HOSTS = re.compile(r"hosts ([0-9a-f]{64}) ([0-9a-f]{64})")


def parse_rotation(raw: bytes) -> Rotation:
    """Returns the rotation in a note that both keys signed. Raises `VerificationError` for anything else."""
    lines = parse_note(raw).text.split("\n")
    if len(lines) != 8 or lines[0] != HEADER or not (lines[4].startswith("old ") and lines[5].startswith("new ")):
        raise VerificationError("not a note of a key's rotation")
    old, new, hosts = parse_vkey(lines[4][4:]), parse_vkey(lines[5][4:]), _HOSTS.fullmatch(lines[6])
    root = from_base64(lines[3])
    if {lines[1], old.name, new.name} != {lines[1]} or old == new or hosts is None or len(root) != HASH_BYTES:
        raise VerificationError("a rotation is from one key of a log to another")
    signed = {key for key, _ in open_note(raw, [old, new]).verified}
    if signed != {old, new}:
        raise VerificationError("a key's rotation is signed by the old key and the new one")
    return Rotation(old, new, (hosts[1], hosts[2]), from_decimal(lines[2]), root, raw)


@dataclass(frozen=True, slots=True)
class LogKeys:
    """A log's key, `current`, and its predecessors, by the `rotations` that led to it, oldest first."""

    current: VerifierKey
    rotations: tuple[Rotation, ...] = ()

    @property
    def name(self) -> str:
        return self.current.name

    @property
    def kind(self) -> int:
        return self.current.kind

    @property
    def first(self) -> VerifierKey:
        """The key that the log began with."""
        return self.rotations[0].old if self.rotations else self.current

    def of(self, size: int) -> VerifierKey:
        """Returns the key that must have signed a checkpoint of this size."""
        return next((each.old for each in self.rotations if size <= each.size), self.current)


def log_keys(current: VerifierKey, notes: Iterable[bytes]) -> LogKeys:
    """Returns the chain of keys that ends in `current`. Raises `VerificationError` for a note that is no rotation, or
    does not belong to the chain."""
    left = [parse_rotation(each) for each in dict.fromkeys(notes)]
    chain: list[Rotation] = []
    key = current
    while (found := next((each for each in left if each.new == key), None)) is not None:
        left.remove(found)
        chain.insert(0, found)
        key = found.old
    if left:
        raise VerificationError("a rotation does not lead to the log's key")
    if [each.size for each in chain] != sorted(each.size for each in chain):
        raise VerificationError("rotations do not follow one another")
    return LogKeys(current, tuple(chain))
