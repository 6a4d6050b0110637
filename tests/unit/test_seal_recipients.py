"""Key files: what is taken, what is refused and with which words; keys made for `archiver init`."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from archiver.clock import SystemChance
from archiver.errors import ConfigurationError
from archiver.seal.recipients import generate_rsa_keys, load_identity, load_local_key, load_recipient, local_key_id
from tests.seal_keys import LOCAL_KEY, generate_local_key, key_file, opened, openssl, seal

_SMALL = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_CURVE = ec.generate_private_key(ec.SECP256R1())


def _public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("material", "problem"),
    [
        (b"", "neither a PEM public key nor a PEM certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "neither a PEM public key"),
        (key_file("ops.key.pem"), "this is a private key"),
        (_public(_CURVE), "not an RSA key"),
        (_public(_SMALL), "2048 bits; at least 3072"),
    ],
    ids=["empty", "broken certificate", "private key", "elliptic curve", "too small"],
)
def test_public_key_that_will_not_do_is_a_configuration_error(material: bytes, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ops-2026: .*{problem}"):
        load_recipient("ops-2026", "rsa-oaep-256", material)


@pytest.mark.parametrize(
    ("material", "problem"),
    [
        (b"", "not a PEM private key"),
        (key_file("ops.pub.pem"), "not a PEM private key"),
        (_CURVE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "not an RSA key"),
        (_SMALL.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "passphrase"),
    ],
    ids=["empty", "public key", "elliptic curve", "passphrase"],
)
def test_private_key_that_will_not_do_is_a_configuration_error(material: bytes, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ops-2026: .*{problem}"):
        load_identity("ops-2026", "rsa-oaep-256", material)


@pytest.mark.parametrize(
    ("material", "problem"),
    [
        (b"no base64!", "not base64"),
        (base64.b64encode(bytes(31)), "31 bytes"),
        (b"", "0 bytes"),
        (bytes(32), "not base64"),
    ],
)
@pytest.mark.parametrize("load", [load_recipient, load_identity])
def test_local_key_that_will_not_do_is_a_configuration_error(load: object, material: bytes, problem: str) -> None:
    assert callable(load)
    with pytest.raises(ConfigurationError, match=f"local: .*{problem}"):
        load("local", "aes-kw-256", material)


def test_unknown_kind_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="no recipients of kind 'rot13'"):
        load_recipient("x", "rot13", b"")


def test_local_key_file_may_be_wrapped_and_indented() -> None:
    text = base64.b64encode(LOCAL_KEY).decode()
    assert load_local_key(f"  {text[:20]}\r\n\t{text[20:]}\n\n".encode()) == LOCAL_KEY


def test_local_keys_are_told_apart_by_their_ids() -> None:
    made = [load_local_key(generate_local_key(SystemChance())) for _ in range(20)]
    assert len({local_key_id(key) for key in made}) == 20
    assert not any(key[:16] in local_key_id(key) for key in made)


def test_made_rsa_keys_belong_together_and_openssl_takes_them(tmp_path: Path) -> None:
    files = generate_rsa_keys("archiver ops", datetime(2026, 1, 2, tzinfo=UTC), SystemChance())
    sealed, _ = seal(b"speech", [load_recipient("a", "rsa-oaep-256", files.public_key)])
    assert opened(sealed, load_identity("a", "rsa-oaep-256", files.private_key)) == b"speech"
    (tmp_path / "key").write_bytes(files.private_key)
    (tmp_path / "certificate").write_bytes(files.certificate)
    (tmp_path / "object").write_bytes(sealed)
    done = openssl(
        "cms", "-decrypt", "-binary", "-inform", "DER", "-in", tmp_path / "object",
        "-inkey", tmp_path / "key", "-recip", tmp_path / "certificate",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"speech")
    certificate = x509.load_pem_x509_certificate(files.certificate)
    assert certificate.not_valid_after_utc.year == 9999
    private = load_pem_private_key(files.private_key, None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 3072
    assert b"PRIVATE" not in repr(files).encode()
