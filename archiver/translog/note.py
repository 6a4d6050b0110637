"""Signs and opens notes (c2sp.org/signed-note) and cosignatures (c2sp.org/tlog-cosignature, Ed25519), strictly. Pure:
no I/O, no clock.

The text of a note counts only once `open_note` has found a signature by a key that the caller trusts.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from archiver.custody.ed25519 import check_key, verifies
from archiver.errors import VerificationError

ED25519 = 0x01
COSIGNATURE = 0x04
MAX_NOTE = 64 * 1024
MAX_SIGNATURES = 32
MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A key for checking notes. Raises ValueError for a bad name, an unknown kind, or bytes that are not a sound
    Ed25519 key."""

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.kind not in {ED25519, COSIGNATURE}:
            raise ValueError(f"unknown key type {self.kind}")
        check_key(self.public)

    @property
    def first(self) -> VerifierKey:
        """This key itself, since it has no predecessor (`archiver.translog.rotation`)."""
        return self

    def of(self, size: int) -> VerifierKey:  # noqa: ARG002
        """Returns this key, for a checkpoint of any size."""
        return self

    @property
    def key_id(self) -> bytes:
        """The four bytes that say which key made a signature."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed).digest()[:4]

    @property
    def vkey(self) -> str:
        """The key as text, `name+id+key`."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._typed).decode()}"

    @property
    def _typed(self) -> bytes:
        return bytes([self.kind]) + self.public


def parse_vkey(text: str) -> VerifierKey:
    """Returns the key of a vkey. Raises `VerificationError` for any other text, also where the id does not match the
    key."""
    parts = text.split("+", 2)  # base64 may have a plus, a name may not
    if len(parts) != 3:
        raise VerificationError("a verifier key is name+id+key")
    raw = from_base64(parts[2])
    try:
        key = VerifierKey(parts[0], raw[0] if raw else -1, raw[1:])
    except ValueError as exc:
        raise VerificationError(f"not a verifier key: {exc}") from exc
    if parts[1] != key.key_id.hex():
        raise VerificationError("the verifier key's id is not its own")
    return key


@dataclass(frozen=True, slots=True)
class Signer:
    """A log's key, which signs the text itself. Its signatures are deterministic."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def key(self) -> VerifierKey:
        return VerifierKey(self.name, ED25519, self.private.public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """Returns the signature line. Raises ValueError for a text that cannot be a note's."""
        return _signature_line(self.key, self.private.sign(_check_text(text)))


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness's key, which signs that the witness saw the checkpoint, and when."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def key(self) -> VerifierKey:
        return VerifierKey(self.name, COSIGNATURE, self.private.public_key().public_bytes_raw())

    def sign(self, text: str, time: int) -> str:
        """Returns the signature line at `time`, in whole seconds since the epoch. Raises ValueError as `Signer.sign`,
        and for a time out of range."""
        if not 0 <= time <= MAX_NUMBER:
            raise ValueError("a cosignature's time is from the epoch on")
        signature = self.private.sign(_cosigned(_check_text(text), time))
        return _signature_line(self.key, time.to_bytes(8, "big") + signature)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line, not yet verified."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note, split into text and signatures. Nobody has checked the signatures."""

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A text, and those of the given keys that signed it: each key once, a cosigner's with its time in seconds since
    the epoch."""

    text: str
    verified: tuple[tuple[VerifierKey, int | None], ...]


def parse_note(raw: bytes) -> Note:
    """Returns the text and the signature lines of a note. Raises `VerificationError` for anything but the exact
    format."""
    if len(raw) > MAX_NOTE:
        raise VerificationError(f"a note has at most {MAX_NOTE} bytes")
    try:
        whole = raw.decode()
        at = whole.rfind("\n\n")
        text, lines = whole[: at + 1], whole[at + 2 :]
        _check_text(text)
    except ValueError as exc:
        raise VerificationError(f"not a note: {exc}") from exc
    if not lines.endswith("\n") or lines.count("\n") > MAX_SIGNATURES:
        raise VerificationError(f"a note ends with 1 to {MAX_SIGNATURES} signature lines")
    return Note(text, tuple(_parse_line(line) for line in lines[:-1].split("\n")))


def open_note(raw: bytes, keys: Sequence[VerifierKey]) -> Opened:
    """Returns the text of a note that at least one of `keys` signed; signatures of other keys are passed over.

    Raises `VerificationError` when none of `keys` signed, and for *any* bad signature in the name of one of them.
    """
    return open_parsed(parse_note(raw), keys)


def open_parsed(note: Note, keys: Sequence[VerifierKey]) -> Opened:
    """Does as `open_note`, for a note that was parsed before."""
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise VerificationError(f"two keys of {key.name} have the same id")
    verified: dict[VerifierKey, int | None] = {}
    for signature in note.signatures:
        trusted = known.get((signature.name, signature.key_id))
        if trusted is not None:
            time = _verify(trusted, note.text.encode(), signature.signature)
            verified.setdefault(trusted, time)
    if not verified:
        raise VerificationError("no trusted key signed the note")
    return Opened(note.text, tuple(verified.items()))


def from_base64(text: str) -> bytes:
    """Returns the bytes of RFC 4648 §4 base64 in its only canonical spelling. Raises `VerificationError`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as exc:
        raise VerificationError("not base64") from exc
    if base64.b64encode(raw).decode() != text:  # stray bits in the last digit
        raise VerificationError("not canonical base64")
    return raw


_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


def from_decimal(text: str) -> int:
    """Reads a number from 0 to 2^63 − 1 without sign or leading zeros. Raises `VerificationError`."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_NUMBER:
        raise VerificationError("not a decimal number")
    return int(text)


def _verify(key: VerifierKey, text: bytes, signature: bytes) -> int | None:
    time = None
    if key.kind == COSIGNATURE:
        time, signature = int.from_bytes(signature[:8], "big"), signature[8:]
        if time > MAX_NUMBER:
            raise VerificationError(f"the cosignature of {key.name} has no possible time")
        text = _cosigned(text, time)
    if not verifies(key.public, text, signature):
        raise VerificationError(f"the signature of {key.name} is not valid")
    return time


def _cosigned(text: bytes, time: int) -> bytes:
    return b"cosignature/v1\ntime %d\n%b" % (time, text)


def _signature_line(key: VerifierKey, signature: bytes) -> str:
    return f"— {key.name} {base64.b64encode(key.key_id + signature).decode()}\n"


def _parse_line(line: str) -> Signature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise VerificationError("not a signature line")
    try:
        _check_name(parts[1])
    except ValueError as exc:
        raise VerificationError(f"not a signature line: {exc}") from exc
    raw = from_base64(parts[2])
    if len(raw) < 5:
        raise VerificationError("a signature line without a signature")
    return Signature(parts[1], raw[:4], raw[4:])


def _check_text(text: str) -> bytes:
    """Returns the text's bytes. Raises ValueError (UnicodeEncodeError is one) unless the text can be a note's."""
    if not text.endswith("\n") or any(char < " " and char != "\n" for char in text):
        raise ValueError("a note's text ends with a line feed and has no other control character")
    return text.encode()


def _check_name(name: str) -> None:
    if not name or "+" in name or any(char.isspace() or char < " " for char in name):
        raise ValueError("a key's name is not empty and has no space, plus or control character")
    name.encode()
