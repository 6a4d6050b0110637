"""Creates and loads Ed25519 signing keys: the host's key in a file, the process's key in memory only, and the log's
key."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from archiver.clock import Chance
from archiver.custody.ed25519 import check_key
from archiver.errors import KeyUnavailableError


def generate_signing_key(chance: Chance) -> Ed25519PrivateKey:
    """Returns a fresh key."""
    return Ed25519PrivateKey.from_private_bytes(chance.token(32))


def derive_log_key(host_key: Ed25519PrivateKey, origin: str) -> Ed25519PrivateKey:
    """Returns the log's key where none is configured: always the same for one host key and one log (HKDF-SHA-256, RFC
    5869).

    So an archive of one host has one secret to keep, and its log can be continued from that secret alone.
    """
    info = b"compliance-archiver/log-key/v1\n" + origin.encode()
    return Ed25519PrivateKey.from_private_bytes(
        HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(host_key.private_bytes_raw())
    )


def load_signing_key(pem: bytes) -> Ed25519PrivateKey:
    """Returns the host key in an unencrypted PKCS#8 PEM file. Raises `KeyUnavailableError`, which never repeats the
    file's contents."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnavailableError("the signing key is not an unencrypted PKCS#8 PEM private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnavailableError("the signing key is not an Ed25519 key")
    return key


def load_public_key(pem: bytes) -> Ed25519PublicKey:
    """Returns the public half of a signing key, from SPKI PEM, for hosts that only verify. Raises
    `KeyUnavailableError`."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnavailableError("the verification key is not a PEM public key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnavailableError("the verification key is not an Ed25519 key")
    try:
        check_key(key.public_bytes_raw())
    except ValueError as unsound:
        raise KeyUnavailableError(f"the verification key cannot be used: {unsound}") from None
    return key


def to_pem(key: Ed25519PrivateKey) -> bytes:
    """Returns the key as unencrypted PKCS#8 PEM, for a file that only the archiver's user may read."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_hex(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    """Returns the 32-byte public key in hex, as events name it."""
    public = key if isinstance(key, Ed25519PublicKey) else key.public_key()
    return public.public_bytes_raw().hex()
