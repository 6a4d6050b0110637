"""Stock OpenSSL and we read each other (DESIGN §5). A missing `openssl` fails these tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.errors import KeyUnavailableError
from archiver.seal import envelope
from archiver.seal.recipients import local_key_id
from tests.seal_keys import (
    LOCAL,
    LOCAL_IDENTITY,
    LOCAL_KEY,
    OPS,
    OPS_IDENTITY,
    OTHER,
    VECTORS,
    opened,
    openssl,
    seal,
    verified,
)

_SIZES = [0, 1, 15, 16, 127, 128, 65_535, 65_536, 65_537, (1 << 20) + 7, 5_000_000, 17_000_000]
_RSA = ("-inkey", VECTORS / "ops.key.pem", "-recip", VECTORS / "ops.cert.pem")
_SECRET = ("-secretkey", LOCAL_KEY.hex(), "-secretkeyid", local_key_id(LOCAL_KEY).hex())
_OAEP = ("-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")


def _plaintext(size: int) -> bytes:
    return hashlib.shake_128(b"plaintext").digest(size)


def _decrypt(folder: Path, sealed: bytes, *arguments: str | Path) -> tuple[int, bytes]:
    source, target = folder / "object", folder / "recording"
    source.write_bytes(sealed)
    done = openssl("cms", "-decrypt", "-binary", "-inform", "DER", "-in", source, "-out", target, *arguments)
    return done.returncode, target.read_bytes() if target.exists() else b""


def _encrypt(folder: Path, plaintext: bytes, *arguments: str | Path) -> bytes:
    source, target = folder / "recording", folder / "object"
    source.write_bytes(plaintext)
    done = openssl(
        "cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "DER", "-in", source, "-out", target, *arguments
    )
    assert done.returncode == 0, done.stderr
    return target.read_bytes()


@pytest.mark.parametrize("key", [_RSA, _SECRET], ids=["rsa", "secretkey"])
@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unknown"])
@pytest.mark.parametrize("size", _SIZES)
def test_openssl_opens_what_we_sealed(tmp_path: Path, size: int, pinned: bool, key: tuple[str | Path, ...]) -> None:
    sealed, _ = seal(_plaintext(size), [OPS, OTHER, LOCAL], pinned=pinned)
    code, plaintext = _decrypt(tmp_path, sealed, *key)
    assert code == 0
    assert plaintext == _plaintext(size)


@pytest.mark.parametrize("recipients", [(OPS,), (LOCAL,), (LOCAL, OPS)])
def test_openssl_takes_the_frame_for_definite_der(tmp_path: Path, recipients: tuple[envelope.RecipientInfo]) -> None:
    sealed, _ = seal(_plaintext(100), recipients)  # type: ignore[arg-type]
    source = tmp_path / "object"
    source.write_bytes(sealed)
    shown = openssl("asn1parse", "-inform", "DER", "-in", source)
    assert shown.returncode == 0
    assert b"l=inf" not in shown.stdout
    again = openssl("cms", "-cmsout", "-inform", "DER", "-in", source, "-outform", "DER")
    assert again.stdout == sealed


def test_openssl_opens_the_detached_form(tmp_path: Path) -> None:
    code, plaintext = _decrypt(
        tmp_path, (VECTORS / "detached.der").read_bytes(), "-content", VECTORS / "detached.body", *_SECRET
    )
    assert (code, plaintext) == (0, b"This call is recorded for compliance purposes.\n")


@pytest.mark.parametrize("where", ["ciphertext", "tag", "wrapped key", "end cut"])
@pytest.mark.parametrize("key", [_RSA, _SECRET], ids=["rsa", "secretkey"])
def test_openssl_refuses_a_changed_object(tmp_path: Path, where: str, key: tuple[str | Path, ...]) -> None:
    sealed, _ = seal(_plaintext(1000), [OPS] if key is _RSA else [LOCAL])
    content_at = envelope.parse(sealed).content_at
    at = {"ciphertext": content_at + 500, "tag": -1, "wrapped key": content_at - 70, "end cut": 0}[where]
    changed = bytearray(sealed)
    changed[at] ^= 1
    code, _ = _decrypt(tmp_path, sealed[:-1] if where == "end cut" else bytes(changed), *key)
    assert code != 0


def _by_openssl() -> Iterator[tuple[str, tuple[str | Path, ...]]]:
    certificate = VECTORS / "ops.cert.pem"
    for stream in ((), ("-stream",)):
        name = "stream" if stream else "whole"
        yield f"{name}-issuer-serial", (*stream, "-recip", certificate, *_OAEP)
        yield f"{name}-keyid", (*stream, "-keyid", "-recip", certificate, *_OAEP)
        yield f"{name}-secretkey", (*stream, *_SECRET)
        yield f"{name}-secretkey-of-another-name", (*stream, "-secretkey", LOCAL_KEY.hex(), "-secretkeyid", "0123")


@pytest.mark.parametrize("arguments", [pytest.param(each, id=name) for name, each in _by_openssl()])
@pytest.mark.parametrize("size", [0, 1, 4096, 65_536, 1_200_000])
def test_we_open_what_openssl_sealed(tmp_path: Path, size: int, arguments: tuple[str | Path, ...]) -> None:
    if size == 0:
        arguments = tuple(each for each in arguments if each != "-stream")  # OpenSSL 3.0 does not stream nothing
    sealed = _encrypt(tmp_path, _plaintext(size), *arguments)
    digest = hashlib.sha256(_plaintext(size)).hexdigest()
    assert opened(sealed, LOCAL_IDENTITY, OPS_IDENTITY, expect=digest) == _plaintext(size)
    facts = verified(sealed, LOCAL_IDENTITY, OPS_IDENTITY, step=999)
    assert (facts.plaintext_size, facts.plaintext_sha256) == (size, digest)
    assert facts.sealed_sha256 == hashlib.sha256(sealed).hexdigest()


def test_recipients_of_other_kinds_do_not_hide_ours(tmp_path: Path) -> None:
    """A recipient under PKCS #1 v1.5 padding, OpenSSL's default, stands beside ours."""
    sealed = _encrypt(tmp_path, b"speech", "-recip", VECTORS / "ops.cert.pem", *_SECRET)
    assert len(envelope.parse(sealed).recipients) == 2
    assert opened(sealed, OPS_IDENTITY, LOCAL_IDENTITY) == b"speech"
    with pytest.raises(KeyUnavailableError):
        opened(sealed, OPS_IDENTITY)
