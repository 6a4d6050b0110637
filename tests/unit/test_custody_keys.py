"""Key files."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from archiver.custody.keys import (
    derive_log_key,
    generate_signing_key,
    load_public_key,
    load_signing_key,
    public_hex,
    to_pem,
)
from archiver.errors import KeyUnavailableError
from tests.custody_examples import KEY, FixedChance


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """Returns the public half of the key as SPKI PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_key_file_round_trip() -> None:
    key = generate_signing_key(FixedChance())
    assert public_hex(load_signing_key(to_pem(key))) == public_hex(load_public_key(public_pem(key))) == public_hex(key)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        public_pem(KEY),
    ],
)
def test_file_that_is_no_signing_key_is_refused_without_repeating_it(pem: bytes) -> None:
    with pytest.raises(KeyUnavailableError) as caught:
        load_signing_key(pem)
    assert "c2Vj" not in str(caught.value)


def test_private_key_file_is_no_verification_key() -> None:
    with pytest.raises(KeyUnavailableError):
        load_public_key(to_pem(KEY))


def test_derived_log_key_is_the_same_for_ever_and_another_for_every_log() -> None:
    assert (
        public_hex(derive_log_key(KEY, "acme/custody"))
        == "fe94d08756c444d6eada424d154a503e7da1452590c1afde24bf5cca4f2f8858"
    )
    assert public_hex(derive_log_key(KEY, "acme/custody")) != public_hex(derive_log_key(KEY, "acme/other"))
    assert public_hex(derive_log_key(KEY, "acme/custody")) != public_hex(KEY)
