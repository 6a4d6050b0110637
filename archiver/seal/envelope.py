"""Writes and reads the frame of a sealed object: CMS AuthEnvelopedData (RFC 5083, RFC 5084, RFC 5652). Pure.

    ContentInfo { id-ct-authEnvelopedData, [0] AuthEnvelopedData {
        version 0, recipientInfos, authEncryptedContentInfo { id-data, aes256-GCM, [0] ciphertext }, mac } }

Everything before the ciphertext (the header) depends on the recipients, the nonce and the length alone; the 16-byte tag
ends the object. The writer makes definite-length DER. The reader also takes BER as `openssl cms -encrypt -stream`
writes it: indefinite lengths around the content, ciphertext in pieces. docs/spec/sealed-object.md has the bytes.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from archiver.errors import VerificationError
from archiver.seal import der
from archiver.seal.der import OCTET_STRING, SEQUENCE, SET, Reader

KEY_SIZE, NONCE_SIZE, TAG_SIZE = 32, 12, 16

MAX_CONTENT = 2**36 - 32
"""The largest number of bytes that one AES-GCM message can hold (SP 800-38D: 2^39 - 256 bits)."""

HEADER_LIMIT = 1 << 16
"""The limit of a header's length: no more is kept in memory before the first byte of content."""

_VERSION_0 = der.encode(der.INTEGER, b"\x00")
_AUTH_ENVELOPED_DATA = der.oid("1.2.840.113549.1.9.16.1.23")
_DATA = der.oid("1.2.840.113549.1.7.1")
_AES_256_GCM = der.oid("2.16.840.1.101.3.4.1.46")
_AES_256_WRAP = der.encode(SEQUENCE, der.oid("2.16.840.1.101.3.4.1.45"))  # RFC 3565: parameters absent
_TAG_SIZE = der.encode(der.INTEGER, bytes([TAG_SIZE]))

_EXPLICIT_0 = der.context(0, constructed=True)
_PRIMITIVE_0 = der.context(0, constructed=False)
_KEY_ENCRYPTION = der.context(2, constructed=True)
_UNKNOWN_RECIPIENTS = frozenset(
    der.context(number, constructed=True) for number in (1, 3, 4)
)  # agreement, password, other

_MAC_ELEMENT = 2 + TAG_SIZE
_TRAILER_LIMIT = _MAC_ELEMENT + 4 * len(der.END_OF_CONTENTS)


def _oaep(hash_null: bytes, mgf_null: bytes, label: bytes) -> bytes:
    sha256 = der.oid("2.16.840.1.101.3.4.2.1")
    mgf = der.encode(SEQUENCE, der.oid("1.2.840.113549.1.1.8"), der.encode(SEQUENCE, sha256, mgf_null))
    parameters = der.encode(
        SEQUENCE,
        der.encode(_EXPLICIT_0, der.encode(SEQUENCE, sha256, hash_null)),
        der.encode(der.context(1, constructed=True), mgf),
        label,
    )
    return der.encode(SEQUENCE, der.oid("1.2.840.113549.1.1.7"), parameters)


_OAEP_SHA_256 = _oaep(b"", b"", b"")
# RFC 4055 §2.1: SHA-256 with NULL parameters means the same; some write the default, empty label too.
_EMPTY_LABEL = der.encode(
    der.context(2, constructed=True),
    der.encode(SEQUENCE, der.oid("1.2.840.113549.1.1.9"), der.encode(OCTET_STRING)),
)
_OAEP_SPELLINGS = frozenset(
    _oaep(*spelling) for spelling in itertools.product((b"", b"\x05\x00"), (b"", b"\x05\x00"), (b"", _EMPTY_LABEL))
)


# --- writing --------------------------------------------------------------------------------------------------


def key_transport(key_id: bytes, encrypted_key: bytes) -> bytes:
    """Returns a KeyTransRecipientInfo v2 by subjectKeyIdentifier, with the data key under RSAES-OAEP with SHA-256 and
    MGF1-SHA-256."""
    return der.encode(
        SEQUENCE,
        der.encode(der.INTEGER, b"\x02"),
        der.encode(_PRIMITIVE_0, key_id),
        _OAEP_SHA_256,
        der.encode(OCTET_STRING, encrypted_key),
    )


def key_encryption(key_id: bytes, wrapped_key: bytes) -> bytes:
    """Returns a KEKRecipientInfo v4, with the data key under AES-256 key wrap (RFC 3394)."""
    return der.encode(
        _KEY_ENCRYPTION,
        der.encode(der.INTEGER, b"\x04"),
        der.encode(SEQUENCE, der.encode(OCTET_STRING, key_id)),
        _AES_256_WRAP,
        der.encode(OCTET_STRING, wrapped_key),
    )


def header(recipient_infos: Sequence[bytes], nonce: bytes, length: int) -> bytes:
    """Returns the exact bytes before `length` bytes of ciphertext. `trailer` gives the bytes after the ciphertext."""
    return _header(recipient_infos, nonce, bytes([_PRIMITIVE_0]) + der.length(length), length)


def trailer(tag: bytes) -> bytes:
    """Returns the bytes after the ciphertext: the mac, which ends the object."""
    return der.encode(OCTET_STRING, tag)


def detached(recipient_infos: Sequence[bytes], nonce: bytes, tag: bytes) -> bytes:
    """Returns a whole envelope whose ciphertext is kept elsewhere."""
    return _header(recipient_infos, nonce, b"", 0) + trailer(tag)


def wrapped_key_sha256(recipient_infos: Sequence[bytes]) -> str:
    """Returns the digest of the wrapped data key: SHA-256 over the RecipientInfos in the order in which they stand in
    the object."""
    return hashlib.sha256(b"".join(sorted(recipient_infos))).hexdigest()


def _header(recipient_infos: Sequence[bytes], nonce: bytes, content_start: bytes, length: int) -> bytes:
    def start(tag: int, written: bytes, to_come: int) -> bytes:
        return bytes([tag]) + der.length(len(written) + to_come) + written

    parameters = der.encode(SEQUENCE, der.encode(OCTET_STRING, nonce), _TAG_SIZE)
    content = start(SEQUENCE, _DATA + der.encode(SEQUENCE, _AES_256_GCM, parameters) + content_start, length)
    recipients = der.encode(SET, *sorted(recipient_infos))  # X.690 §11.6: DER orders a SET OF by its encodings
    to_come = length + _MAC_ELEMENT
    enveloped = start(SEQUENCE, _VERSION_0 + recipients + content, to_come)
    return start(SEQUENCE, _AUTH_ENVELOPED_DATA + start(_EXPLICIT_0, enveloped, to_come), to_come)


# --- reading --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyTransport:
    """The data key under an RSA key, named by its subjectKeyIdentifier or by its certificate's issuer and serial
    (DER)."""

    key_id: bytes | None
    issuer_and_serial: bytes | None
    encrypted_key: bytes


@dataclass(frozen=True, slots=True)
class KeyEncryption:
    """The data key under an AES-256 key that both sides have."""

    key_id: bytes
    wrapped_key: bytes


@dataclass(frozen=True, slots=True)
class UnknownRecipient:
    """A way to the data key that this version does not know; another recipient may still open the object."""

    element: bytes


RecipientInfo: TypeAlias = KeyTransport | KeyEncryption | UnknownRecipient


class Form(enum.Enum):
    """The place of the ciphertext in the object."""

    WHOLE = "within it"
    IN_PIECES = "within it, in pieces"
    DETACHED = "kept elsewhere"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A header as read. `ends` says where the four nested elements end, outermost first, None when indefinite.

    `content_at` is the offset of the first byte of content, `content_end` the offset of its end, None when indefinite.
    """

    recipients: tuple[RecipientInfo, ...]
    recipients_sha256: str
    nonce: bytes
    form: Form
    content_at: int
    content_end: int | None
    ends: tuple[int | None, int | None, int | None, int | None]


def parse(data: bytes) -> Envelope:
    """Reads the header from the object's first bytes: `HEADER_LIMIT` of them, or the whole object when it is shorter.

    Raises `VerificationError` on anything but the format above.
    """
    reader = Reader(data)

    def step_into(tag: int) -> int | None:
        size = reader.start(tag, indefinite=True)
        return None if size is None else reader.at + size

    outermost = step_into(SEQUENCE)
    reader.expect(_AUTH_ENVELOPED_DATA)
    explicit = step_into(_EXPLICIT_0)
    enveloped = step_into(SEQUENCE)
    reader.expect(_VERSION_0)
    recipients = reader.enter(SET)
    elements: list[bytes] = []
    while not recipients.done:
        elements.append(recipients.element())
    content = step_into(SEQUENCE)
    reader.expect(_DATA)
    nonce = _nonce(reader.enter(SEQUENCE))
    content_end: int | None
    if reader.at == content or (content is None and reader.peek() == der.END_OF_CONTENTS[0]):
        form, content_end = Form.DETACHED, reader.at
    elif reader.peek() == _EXPLICIT_0:
        form, content_end = Form.IN_PIECES, step_into(_EXPLICIT_0)
    else:
        form, content_end = Form.WHOLE, step_into(_PRIMITIVE_0)
        if content_end is None:
            raise VerificationError("content of indefinite length that is not in pieces")
    return Envelope(
        recipients=tuple(_recipient(each) for each in elements),
        recipients_sha256=hashlib.sha256(b"".join(elements)).hexdigest(),
        nonce=nonce,
        form=form,
        content_at=reader.at,
        content_end=content_end,
        ends=(outermost, explicit, enveloped, content),
    )


def _nonce(algorithm: Reader) -> bytes:
    algorithm.expect(_AES_256_GCM)
    parameters = algorithm.enter(SEQUENCE)
    algorithm.finish()
    nonce = parameters.contents(OCTET_STRING)
    parameters.expect(_TAG_SIZE)
    parameters.finish()
    if len(nonce) != NONCE_SIZE:
        raise VerificationError(f"a nonce of {len(nonce)} bytes instead of {NONCE_SIZE}")
    return nonce


def _recipient(element: bytes) -> RecipientInfo:
    tag = element[0]
    if tag in _UNKNOWN_RECIPIENTS:
        return UnknownRecipient(element)
    if tag not in (SEQUENCE, _KEY_ENCRYPTION):
        raise VerificationError(f"a recipient of tag {tag:#04x}")
    reader = Reader(element).enter(tag)
    version = reader.contents(der.INTEGER)
    if tag == _KEY_ENCRYPTION:
        return _key_encryption(reader, version, element)
    named = reader.peek() == _PRIMITIVE_0
    if version != (b"\x02" if named else b"\x00"):
        raise VerificationError("a key transport recipient whose version does not fit")
    key_id = reader.contents(_PRIMITIVE_0) if named else None
    issuer_and_serial = None if named else reader.enter(SEQUENCE).rest()
    algorithm = reader.element()
    encrypted_key = reader.contents(OCTET_STRING)
    reader.finish()
    if algorithm not in _OAEP_SPELLINGS:
        return UnknownRecipient(element)
    return KeyTransport(key_id, issuer_and_serial, encrypted_key)


def _key_encryption(reader: Reader, version: bytes, element: bytes) -> RecipientInfo:
    if version != b"\x04":
        raise VerificationError("a key encryption recipient whose version does not fit")
    identifier = reader.enter(SEQUENCE)
    key_id = identifier.contents(OCTET_STRING)
    identifier.finish()
    algorithm = reader.element()
    wrapped_key = reader.contents(OCTET_STRING)
    reader.finish()
    return KeyEncryption(key_id, wrapped_key) if algorithm == _AES_256_WRAP else UnknownRecipient(element)


class Content:
    """Follows an object from the end of its header to its last byte: gives the ciphertext, then the tag."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._at = envelope.content_at
        self._between = envelope.form is Form.IN_PIECES
        self._left = 0 if self._between or envelope.content_end is None else envelope.content_end - self._at
        self._start = bytearray()
        self._trailer = bytearray()

    def feed(self, data: memoryview) -> Iterator[memoryview]:
        """Yields the ciphertext within the object's next bytes, in pieces that share their memory."""
        while data:
            if self._left:
                piece = data[: self._left]
                self._left -= len(piece)
                self._at += len(piece)
                data = data[len(piece) :]
                yield piece
            elif self._between:
                data = self._read_start(data)
            else:
                self._trailer += data[: _TRAILER_LIMIT + 1]
                if len(self._trailer) > _TRAILER_LIMIT:
                    raise VerificationError(
                        "more bytes than a tag follow the content (attributes are not part of the format)"
                    )
                return

    def tag(self) -> bytes:
        """Returns the tag, after the last byte. Raises `VerificationError` when the object is cut short or has a wrong
        end."""
        self._read_start(memoryview(b""))
        if self._left or self._between:
            raise VerificationError(f"cut short within the content, at byte {self._at}")
        trailer = Reader(bytes(self._trailer))
        *outer, content = self._envelope.ends

        def close(end: int | None) -> None:
            if end is None:
                trailer.expect(der.END_OF_CONTENTS)
            elif end != self._at + trailer.at:
                raise VerificationError(
                    f"an element that should end at byte {end} ends at byte {self._at + trailer.at}"
                )

        close(content)
        tag = trailer.contents(OCTET_STRING)
        for end in reversed(outer):
            close(end)
        trailer.finish()
        if len(tag) != TAG_SIZE:
            raise VerificationError(f"a tag of {len(tag)} bytes instead of {TAG_SIZE}")
        return tag

    def _read_start(self, data: memoryview) -> memoryview:
        """Steps over the tag and length of the next piece, or over the end of all pieces; the bytes may come one by
        one."""
        end = self._envelope.content_end
        while self._between:
            if self._at == end:
                self._between = False
                break
            if not data:
                break
            self._start.append(data[0])
            self._at += 1
            data = data[1:]
            if len(self._start) < 2 or len(self._start) < 2 + (self._start[1] & 0x7F if self._start[1] > 0x7F else 0):
                continue
            start, self._start = bytes(self._start), bytearray()
            if end is None and start == der.END_OF_CONTENTS:
                self._between = False
                break
            size = Reader(start).start(OCTET_STRING)
            assert size is not None
            if end is not None and self._at + size > end:
                raise VerificationError(f"a piece that ends after the content does, at byte {self._at}")
            self._left = size
            if size:
                break
        return data
