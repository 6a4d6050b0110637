"""Opening a sealed object by RFC 5652, RFC 5083 and RFC 3394 alone: a reader of fifty lines that shares nothing with ours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

_KEK_RECIPIENT = 0xA2


class UnopenableError(Exception):
    """Not a sealed object, not ours, or not whole."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a sealed object holds."""

    audio: bytes = field(repr=False)
    nonce: bytes
    data_key: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.audio).hexdigest()


def open_sealed(data: bytes, key: bytes) -> Opened:
    """The plaintext, its tag verified, by the 256-bit key-wrapping key. Raises `UnopenableError`."""
    try:
        (content_info,) = _elements(data)
        _, explicit = _elements(content_info[1])
        (enveloped,) = _elements(explicit[1])
        _version, recipients, content, mac = _elements(enveloped[1])
        _type, algorithm, ciphertext = _elements(content[1])
        parameters = _elements(algorithm[1])[1]
        nonce = _elements(parameters[1])[0][1]
        wrapped = [_elements(body)[3][1] for tag, body in _elements(recipients[1]) if tag == _KEK_RECIPIENT]
        data_key = aes_key_unwrap(key, wrapped[0])
        return Opened(AESGCM(data_key).decrypt(nonce, ciphertext[1] + mac[1], None), nonce, data_key)
    except (ValueError, IndexError, InvalidTag, InvalidUnwrap) as problem:
        raise UnopenableError(type(problem).__name__) from problem


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """The tag and contents of each DER element, one after the other. Raises ValueError or IndexError."""
    found, at = [], 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size > 0x80:
            size, at = int.from_bytes(data[at : at + size - 0x80], "big"), at + size - 0x80
        if at + size > len(data):
            raise ValueError("cut short")
        found.append((tag, data[at : at + size]))
        at += size
    return found
