"""Defines who can open a sealed object: a recipient wraps the data key, an identity unwraps it.

`rsa-oaep-256`: the sealing side has the public key alone. `aes-kw-256`: one secret key on both sides.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from archiver.clock import Chance
from archiver.errors import ConfigurationError, KeyUnavailableError, VerificationError
from archiver.seal import envelope
from archiver.seal.envelope import KEY_SIZE, KeyEncryption, KeyTransport, RecipientInfo

RSA_OAEP_256 = "rsa-oaep-256"
AES_KW_256 = "aes-kw-256"

_MIN_RSA_BITS = 3072
_KEY_ID_CONTEXT = b"compliance-archiver aes-kw-256 key id v1\n"
_NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280 §4.1.2.5: no well-defined expiration date

_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


class Recipient(Protocol):
    """Someone to whom sealed objects are addressed. Safe for use by several threads."""

    @property
    def id(self) -> str:
        """The recipient's name in the configuration and in evidence."""

    def wrap(self, data_key: bytes) -> bytes:
        """Returns a RecipientInfo that carries the data key. Never touches the network."""


class Identity(Protocol):
    """Someone who can open sealed objects. Safe for use by several threads."""

    @property
    def id(self) -> str:
        """The identity's name in the configuration and in evidence."""

    def unwrap(self, info: RecipientInfo) -> bytes | None:
        """Returns the data key; None when `info` is for someone else.

        May block. Raises `VerificationError` when `info` is for this identity and does not open, `KeyUnavailableError`
        when the key cannot be used now.
        """


class RsaOaepRecipient:
    """An RSA public key of 3072 bits or more (RFC 8017 RSAES-OAEP, SHA-256 and MGF1-SHA-256, empty label).

    `key_id` names the key in the object: subjectKeyIdentifier by RFC 5280 §4.2.1.2 (1), or as the certificate states
    it.
    """

    def __init__(self, id: str, public_key: rsa.RSAPublicKey, key_id: bytes | None = None) -> None:  # noqa: A002
        if public_key.key_size < _MIN_RSA_BITS:
            raise ConfigurationError(
                f"{id}: an RSA key of {public_key.key_size} bits; at least {_MIN_RSA_BITS} are needed"
            )
        self.id = id
        self.key_id = subject_key_identifier(public_key) if key_id is None else key_id
        self._public_key = public_key

    @classmethod
    def from_pem(cls, id: str, pem: bytes) -> RsaOaepRecipient:  # noqa: A002
        """Makes a recipient from a SubjectPublicKeyInfo or an X.509 certificate. Raises `ConfigurationError`."""
        if b"PRIVATE KEY-----" in pem:
            raise ConfigurationError(f"{id}: this is a private key; sealing needs the public key or certificate only")
        public_key: object
        key_id = None
        try:
            if b"-----BEGIN CERTIFICATE-----" in pem:
                certificate = x509.load_pem_x509_certificate(pem)
                public_key, key_id = certificate.public_key(), _stated_key_id(certificate)
            else:
                public_key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise ConfigurationError(f"{id}: neither a PEM public key nor a PEM certificate") from exc
        if not isinstance(public_key, rsa.RSAPublicKey):
            raise ConfigurationError(f"{id}: not an RSA key")
        return cls(id, public_key, key_id)

    def wrap(self, data_key: bytes) -> bytes:
        return envelope.key_transport(self.key_id, self._public_key.encrypt(data_key, _OAEP))


class RsaIdentity:
    """An RSA private key. It also tries keys that are addressed to others: a certificate may state any key
    identifier."""

    def __init__(self, id: str, private_key: rsa.RSAPrivateKey) -> None:  # noqa: A002
        self.id = id
        self._private_key = private_key
        self._key_id = subject_key_identifier(private_key.public_key())

    @classmethod
    def from_pem(cls, id: str, pem: bytes) -> RsaIdentity:  # noqa: A002
        """Makes an identity from an unencrypted PEM private key (PKCS#8). Raises `ConfigurationError`."""
        try:
            private_key = serialization.load_pem_private_key(pem, password=None)
        except TypeError as exc:
            raise ConfigurationError(f"{id}: the private key is under a passphrase; give it without one") from exc
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise ConfigurationError(f"{id}: not a PEM private key") from exc
        if not isinstance(private_key, rsa.RSAPrivateKey):
            raise ConfigurationError(f"{id}: not an RSA key")
        return cls(id, private_key)

    def unwrap(self, info: RecipientInfo) -> bytes | None:
        if not isinstance(info, KeyTransport) or len(info.encrypted_key) != (self._private_key.key_size + 7) // 8:
            return None
        try:
            return _checked(self._private_key.decrypt(info.encrypted_key, _OAEP))
        except ValueError as exc:
            if info.key_id != self._key_id:
                return None
            raise VerificationError(f"the data key wrapped for {self.id} does not open") from exc


class AesKwRecipient:
    """An AES-256 key that the sealing and the opening side share (RFC 3394)."""

    def __init__(self, id: str, key: bytes) -> None:  # noqa: A002
        self.id = id
        self.key_id = local_key_id(key)
        self._key = key

    def wrap(self, data_key: bytes) -> bytes:
        return envelope.key_encryption(self.key_id, keywrap.aes_key_wrap(self._key, data_key))


class AesKwIdentity:
    """The opening side of `AesKwRecipient`."""

    def __init__(self, id: str, key: bytes) -> None:  # noqa: A002
        self.id = id
        self._key_id = local_key_id(key)
        self._key = key

    def unwrap(self, info: RecipientInfo) -> bytes | None:
        if not isinstance(info, KeyEncryption):
            return None
        try:
            return _checked(keywrap.aes_key_unwrap(self._key, info.wrapped_key))
        except (keywrap.InvalidUnwrap, ValueError) as exc:
            if info.key_id != self._key_id:
                return None
            raise VerificationError(f"the data key wrapped for {self.id} does not open") from exc


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key and the id of the identity that opened it."""

    key: bytes
    identity: str


def unwrap(infos: Sequence[RecipientInfo], identities: Sequence[Identity]) -> DataKey:
    """Returns the data key, by the first identity that opens one of `infos`.

    When no identity opens it, raises the error of the first failing identity, `VerificationError` or
    `KeyUnavailableError`; raises `KeyUnavailableError` when the object is addressed to none of them.
    """
    failure: VerificationError | KeyUnavailableError | None = None
    for identity in identities:
        for info in infos:
            try:
                key = identity.unwrap(info)
            except (VerificationError, KeyUnavailableError) as exc:
                failure = failure or exc  # a damaged copy of the key, or a KMS that is down: another may still open it
            else:
                if key is not None:
                    return DataKey(key, identity.id)
    if failure is not None:
        raise failure
    names = ", ".join(identity.id for identity in identities) or "none"
    raise KeyUnavailableError(f"the object is addressed to none of the keys at hand ({names})")


# --- key files ------------------------------------------------------------------------------------------------


def load_recipient(id: str, kind: str, material: bytes) -> Recipient:  # noqa: A002
    """Returns the recipient of this kind from the contents of its key file. Raises `ConfigurationError`."""
    if kind == RSA_OAEP_256:
        return RsaOaepRecipient.from_pem(id, material)
    return AesKwRecipient(id, _local_key(id, kind, material))


def load_identity(id: str, kind: str, material: bytes) -> Identity:  # noqa: A002
    """Returns the identity of this kind from the contents of its key file. Raises `ConfigurationError`."""
    if kind == RSA_OAEP_256:
        return RsaIdentity.from_pem(id, material)
    return AesKwIdentity(id, _local_key(id, kind, material))


def opens(identity: Identity, recipient: Recipient) -> bool:
    """Tells whether `identity` opens objects that are sealed to `recipient`, by trying it."""
    data_key = bytes(KEY_SIZE)
    header = envelope.detached([recipient.wrap(data_key)], bytes(envelope.NONCE_SIZE), bytes(envelope.TAG_SIZE))
    try:
        return any(identity.unwrap(info) == data_key for info in envelope.parse(header).recipients)
    except VerificationError:
        return False


def load_local_key(material: bytes) -> bytes:
    """Returns the 32-byte key of a local key file, which holds the key in base64. Raises `ConfigurationError`."""
    try:
        key = base64.b64decode(b"".join(material.split()), validate=True)
    except binascii.Error as exc:
        raise ConfigurationError("a local key file is 32 bytes in base64; this is not base64") from exc
    if len(key) != KEY_SIZE:
        raise ConfigurationError(f"a local key file is 32 bytes in base64; this is {len(key)} bytes")
    return key


@dataclass(frozen=True, slots=True)
class RsaKeyFiles:
    """The PEM files of one RSA key. The certificate is for `openssl cms -recip`; it certifies nothing."""

    private_key: bytes
    public_key: bytes
    certificate: bytes

    def __repr__(self) -> str:
        return "RsaKeyFiles(**redacted**)"


def generate_rsa_keys(name: str, now: datetime, chance: Chance, *, bits: int = _MIN_RSA_BITS) -> RsaKeyFiles:
    """Returns a fresh RSA key: PKCS#8 (no passphrase), SubjectPublicKeyInfo, and a self-signed certificate without
    end."""
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    public_key = private_key.public_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(subject, subject, public_key)
        .serial_number(1 + (int.from_bytes(chance.token(16), "big") >> 1))
        .not_valid_before(now)
        .not_valid_after(_NO_END)
        .add_extension(x509.SubjectKeyIdentifier(subject_key_identifier(public_key)), critical=False)
        .sign(private_key, hashes.SHA256())
    )
    return RsaKeyFiles(
        private_key=private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        public_key=public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        certificate=certificate.public_bytes(Encoding.PEM),
    )


def subject_key_identifier(public_key: rsa.RSAPublicKey) -> bytes:
    """Returns the SHA-1 of the public key's bits (RFC 5280 §4.2.1.2, method 1). It is a name, not a protection."""
    return x509.SubjectKeyIdentifier.from_public_key(public_key).digest


def local_key_id(key: bytes) -> bytes:
    """Returns a name for a local key that reveals nothing of the key: 16 bytes of SHA-256 over a context string and the
    key."""
    return hashlib.sha256(_KEY_ID_CONTEXT + key).digest()[:16]


def _stated_key_id(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None


def _local_key(id: str, kind: str, material: bytes) -> bytes:  # noqa: A002
    if kind != AES_KW_256:
        raise ConfigurationError(f"{id}: no recipients of kind {kind!r}")
    try:
        return load_local_key(material)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{id}: {exc.detail}") from exc


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_SIZE:
        raise ValueError(f"a data key of {len(key)} bytes")
    return key
