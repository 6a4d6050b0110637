"""Implements the few rules of DER (X.690) that a sealed object needs. Pure.

The reader is strict and bounded: minimal lengths, no recursion, and every failure is a `VerificationError`. The reader
follows indefinite lengths only where its caller allows them.
"""

from __future__ import annotations

from archiver.errors import VerificationError

INTEGER, OCTET_STRING, OID = 0x02, 0x04, 0x06
SEQUENCE, SET = 0x30, 0x31
END_OF_CONTENTS = b"\x00\x00"

_LENGTH_BYTES = 6  # no object reaches 2^48 bytes
_INDEFINITE = 0x80


def context(number: int, *, constructed: bool) -> int:
    """Returns the context-specific tag [`number`]."""
    return 0x80 | (0x20 if constructed else 0) | number


def length(size: int) -> bytes:
    """Returns length octets in the definite, shortest form."""
    if size < 0x80:
        return bytes([size])
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def encode(tag: int, *parts: bytes) -> bytes:
    """Returns one element whose contents are `parts` in a row."""
    contents = b"".join(parts)
    return bytes([tag]) + length(len(contents)) + contents


def oid(dotted: str) -> bytes:
    """Returns an object identifier as a whole element."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        body += bytes(reversed(groups))
    return encode(OID, bytes(body))


class Reader:
    """Reads elements one after another from `data`, from offset `at` to `end`."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self._data = data
        self._at = at
        self._end = len(data) if end is None else end

    @property
    def at(self) -> int:
        """The offset of the next element."""
        return self._at

    @property
    def done(self) -> bool:
        return self._at == self._end

    def peek(self) -> int | None:
        """Returns the next element's tag; None at the end."""
        return None if self.done else self._data[self._at]

    def start(self, tag: int, *, indefinite: bool = False) -> int | None:
        """Steps into the element, past its tag and length. Returns the length, None for an indefinite one.

        The contents need not be in `data`; a caller that steps into an element checks where the element ends.
        """
        if self._byte() != tag:
            raise VerificationError(f"no element of tag {tag:#04x} at byte {self._at - 1}")
        first = self._byte()
        if first < _INDEFINITE:
            return first
        if first == _INDEFINITE:
            if not indefinite:
                raise VerificationError(f"indefinite length at byte {self._at - 1}, where none may be")
            return None
        count = first & 0x7F
        if count > _LENGTH_BYTES:
            raise VerificationError(f"length without measure at byte {self._at - 1}")
        size = int.from_bytes(bytes(self._byte() for _ in range(count)), "big")
        if size < 0x80 or size.bit_length() <= 8 * (count - 1):
            raise VerificationError(f"length not in its shortest form before byte {self._at}")
        return size

    def enter(self, tag: int) -> Reader:
        """Returns a reader of the contents of the next element, which this reader steps over."""
        size = self.start(tag)
        assert size is not None
        inner = Reader(self._data, self._at, self._at + size)
        self._skip(size)
        return inner

    def contents(self, tag: int) -> bytes:
        """Returns the contents of the next element."""
        return self.enter(tag).rest()

    def rest(self) -> bytes:
        """Returns all bytes that are left."""
        begin, self._at = self._at, self._end
        return self._data[begin : self._end]

    def element(self) -> bytes:
        """Returns the whole next element, whatever its tag."""
        begin = self._at
        tag = self.peek()
        if tag is None:
            raise VerificationError(f"nothing where an element should be, at byte {begin}")
        self.enter(tag)
        return self._data[begin : self._at]

    def expect(self, octets: bytes) -> None:
        """Steps over exactly these bytes. Raises `VerificationError` for other bytes."""
        begin = self._at
        self._skip(len(octets))
        if self._data[begin : self._at] != octets:
            raise VerificationError(f"unexpected bytes at byte {begin}")

    def finish(self) -> None:
        """Raises `VerificationError` when any byte is left."""
        if not self.done:
            raise VerificationError(f"unexpected bytes at byte {self._at}")

    def _byte(self) -> int:
        self._skip(1)
        return self._data[self._at - 1]

    def _skip(self, size: int) -> None:
        if size > self._end - self._at:
            raise VerificationError(f"cut short: {size} bytes expected at byte {self._at}")
        self._at += size
