"""Uses RSA keys that never leave AWS KMS: sealing asks for the public key once, opening makes one Decrypt call per
object.

https://docs.aws.amazon.com/kms/latest/APIReference/API_GetPublicKey.html and API_Decrypt.html. No other module of
`seal` uses boto3.
"""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from archiver.errors import ConfigurationError, KeyUnavailableError, VerificationError
from archiver.seal.envelope import KEY_SIZE, KeyTransport, RecipientInfo
from archiver.seal.recipients import RsaOaepRecipient, subject_key_identifier

_ALGORITHM = "RSAES_OAEP_SHA_256"
_DOES_NOT_OPEN = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


def kms_recipient(
    id: str,  # noqa: A002
    key_id: str,
    *,
    region: str | None = None,
    endpoint: str | None = None,
) -> RsaOaepRecipient:
    """Returns a recipient for the KMS key `key_id` (id, ARN or alias). Calls KMS once now, and never when sealing.

    Credentials are found as boto3 finds them. Raises `KeyUnavailableError`, and `ConfigurationError` when the key is
    not an RSA key of 3072 bits or more for encryption.
    """
    return RsaOaepRecipient(id, _Key(id, key_id, region, endpoint).public_key())


class KmsIdentity:
    """The KMS key `key_id` as an identity. Calls KMS when it opens something, not before."""

    def __init__(
        self,
        id: str,  # noqa: A002
        key_id: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
    ) -> None:
        self.id = id
        self._key = _Key(id, key_id, region, endpoint)
        self._lock = threading.Lock()
        self._name: bytes | None = None

    def unwrap(self, info: RecipientInfo) -> bytes | None:
        if not isinstance(info, KeyTransport) or info.key_id != self._key_name():
            return None
        data_key = self._key.decrypt(info.encrypted_key)
        if len(data_key) != KEY_SIZE:
            raise VerificationError(f"{self.id}: what was wrapped is {len(data_key)} bytes and no data key")
        return data_key

    def _key_name(self) -> bytes:
        with self._lock:
            if self._name is None:
                self._name = subject_key_identifier(self._key.public_key())
            return self._name


class _Key:
    """One key in KMS; its methods raise the archiver's errors."""

    def __init__(self, name: str, key_id: str, region: str | None, endpoint: str | None) -> None:
        self._name = name
        self._key_id = key_id
        config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
        try:
            self._client = boto3.client("kms", region_name=region, endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as exc:
            raise ConfigurationError(f"{name}: no client for AWS KMS ({type(exc).__name__})") from exc

    def public_key(self) -> rsa.RSAPublicKey:
        answer = self._call("get_public_key")
        if _ALGORITHM not in answer.get("EncryptionAlgorithms", ()):
            raise ConfigurationError(f"{self._name}: the KMS key does not encrypt with {_ALGORITHM}")
        try:
            public_key = serialization.load_der_public_key(answer["PublicKey"])
        except ValueError as exc:
            raise KeyUnavailableError(f"{self._name}: KMS answered with something that is no public key") from exc
        if not isinstance(public_key, rsa.RSAPublicKey):
            raise ConfigurationError(f"{self._name}: the KMS key is not an RSA key")
        return public_key

    def decrypt(self, encrypted_key: bytes) -> bytes:
        answer = self._call("decrypt", CiphertextBlob=encrypted_key, EncryptionAlgorithm=_ALGORITHM)
        plaintext: bytes = answer["Plaintext"]
        return plaintext

    def _call(self, operation: str, **arguments: object) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(KeyId=self._key_id, **arguments)
        except ClientError as exc:
            code = exc.response.get("Error", {}).get("Code", "unknown")
            if operation == "decrypt" and code in _DOES_NOT_OPEN:
                raise VerificationError(f"the data key wrapped for {self._name} does not open ({code})") from exc
            raise KeyUnavailableError(f"{self._name}: KMS refused {operation} ({code})") from exc
        except BotoCoreError as exc:
            raise KeyUnavailableError(f"{self._name}: KMS cannot be asked ({type(exc).__name__})") from exc
        return answer
