"""Makes requests for time stamp tokens (RFC 3161), and reads and verifies the answers. Needs no network. Pure: no I/O.

Request and answer are kept exactly as they were sent, with the certificates, so that a stranger can check them with
OpenSSL alone in twenty years.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from rfc3161_client import TimeStampResponse, VerifierBuilder, decode_timestamp_response
from rfc3161_client import VerificationError as TokenError

from archiver.errors import ConfigurationError, VerificationError

_UNREADABLE = (
    TokenError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError,
    x509.InvalidVersion, x509.DuplicateExtension, x509.ExtensionNotFound, x509.AttributeNotFound, x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)  # fmt: skip
"""The errors of the libraries over unexpected bytes: a certificate of unknown version, an answer without a nonce, …"""

_PLACE = re.compile(r"anchors/(0|[1-9][0-9]{0,18})/([A-Za-z0-9_][A-Za-z0-9._-]*)")
_SHA256 = bytes.fromhex("300d06096086480165030402010500")  # AlgorithmIdentifier
_SHA256_OID = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")


def anchor_name(size: int, file: str) -> str:
    """Returns the name, on a storage, of a file of an anchor over the tree of this size."""
    return f"anchors/{size}/{file}"


def anchor_place(name: str) -> tuple[int, str] | None:
    """Returns the size and the file in an anchor's name; None for another name."""
    match = _PLACE.fullmatch(name)
    return None if match is None else (int(match[1]), match[2])


def load_roots(pem: bytes) -> list[x509.Certificate]:
    """Returns the certificates to trust. Raises `ConfigurationError` when there is none."""
    try:
        with warnings.catch_warnings():  # a system's roots are older than the rules that a few of them break
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return x509.load_pem_x509_certificates(pem)
    except _UNREADABLE as exc:
        raise ConfigurationError("the time stamping authority's certificates are not PEM") from exc


def make_request(data: bytes, nonce: int) -> bytes:
    """Returns the TimeStampReq over the SHA-256 of `data`, asking for the certificates (DER; RFC 3161 §2.4.1)."""
    imprint = _der(0x30, _SHA256 + _der(0x04, hashlib.sha256(data).digest()))
    number = _der(0x02, nonce.to_bytes(nonce.bit_length() // 8 + 1, "big"))
    return _der(0x30, _der(0x02, b"\x01") + imprint + number + _der(0x01, b"\xff"))


def verify_token(response: bytes, data: bytes, roots: Sequence[x509.Certificate], nonce: int | None = None) -> datetime:
    """Returns the time of a time stamp over `data`, by an authority under one of `roots` whose certificate was valid
    then.

    The certificate may have expired since. Raises `VerificationError`.
    """
    decoded = _decoded(response)
    with _refusing("the time stamp does not hold", why=True):
        VerifierBuilder(roots=list(roots), nonce=nonce).build().verify_message(decoded, data)
    return decoded.tst_info.gen_time


def stamped_at(response: bytes) -> datetime:
    """Returns the time that an answer names, unverified. Raises `VerificationError` when the answer names no time."""
    return _decoded(response).tst_info.gen_time


@dataclass(frozen=True, slots=True)
class Token:
    """A verified time stamp. `response` is the authority's answer; `chain` holds its certificates and our roots, in
    PEM."""

    request: bytes
    response: bytes
    chain: bytes
    at: datetime

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.response).hexdigest()


def open_token(response: bytes, data: bytes, roots: Sequence[x509.Certificate], nonce: int | None = None) -> Token:
    """Verifies a token as `verify_token` does, and returns all that is kept of it. The answer repeats the request's
    content, so that no request need be kept."""
    verify_token(response, data, roots, nonce)
    return _token(_decoded(response), response, data, roots)


def read_token(response: bytes, data: bytes) -> Token:
    """Returns the content of an answer over `data`, without verifying its signature. Raises `VerificationError` for an
    answer over something else."""
    decoded = _decoded(response)
    with _refusing("not a time stamp"):
        imprint = decoded.tst_info.message_imprint
        same = imprint.hash_algorithm == _SHA256_OID and imprint.message == hashlib.sha256(data).digest()
    if not same:
        raise VerificationError("the time stamp is over something else")
    return _token(decoded, response, data, ())


def _token(decoded: TimeStampResponse, response: bytes, data: bytes, roots: Sequence[x509.Certificate]) -> Token:
    with _refusing("the time stamp is not an answer to a request of ours"):
        certificates = [x509.load_der_x509_certificate(each) for each in decoded.signed_data.certificates]
        request = make_request(data, decoded.tst_info.nonce)
    chain = b"".join(sorted({each.public_bytes(Encoding.PEM) for each in [*certificates, *roots]}))
    return Token(request, response, chain, decoded.tst_info.gen_time)


def _decoded(response: bytes) -> TimeStampResponse:
    """Decodes an answer. Raises `VerificationError` for bytes that are not a whole answer with a token."""
    with _refusing("not a time stamp"):
        decoded = decode_timestamp_response(response)
        _ = decoded.tst_info.gen_time, decoded.signed_data
        return decoded


def refusal(response: bytes) -> int | None:
    """Returns the PKIStatus (RFC 3161 §2.4.2) of an answer that grants nothing, and so has no token."""
    try:
        return decode_timestamp_response(response).status
    except _UNREADABLE:
        return None


@contextmanager
def _refusing(what: str, *, why: bool = False) -> Iterator[None]:
    """Turns the libraries' errors over foreign bytes into `VerificationError`; with `why`, in the libraries' words."""
    try:
        with warnings.catch_warnings():  # the verdict tells which rules a stranger's certificate breaks
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            yield
    except _UNREADABLE as exc:
        raise VerificationError(f"{what}: {exc}" if why else what) from exc


def _der(tag: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([tag, len(content)]) + content
