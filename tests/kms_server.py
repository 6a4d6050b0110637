"""moto's KMS, as a program, with the one thing that moto leaves out: Decrypt with an RSA key.

moto makes real RSA keys and gives out their public halves, but its Decrypt knows its own ciphertext only.
https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html
"""

from __future__ import annotations

import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from moto.core.exceptions import JsonRESTError
from moto.kms.exceptions import InvalidCiphertextException
from moto.kms.models import KmsBackend
from moto.server import main

_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def _decrypt(
    self: KmsBackend, ciphertext_blob: bytes, encryption_context: dict[str, str], key_id: str | None = None
) -> tuple[bytes, str]:
    key = self.keys[self.any_id_to_key_id(key_id or "")]
    if not key.enabled:
        raise JsonRESTError("DisabledException", f"{key.arn} is disabled.")
    try:
        return key.private_key.private_key.decrypt(ciphertext_blob, _OAEP), key.arn  # type: ignore[attr-defined]
    except ValueError as exc:
        raise InvalidCiphertextException from exc


if __name__ == "__main__":
    KmsBackend.decrypt = _decrypt  # type: ignore[method-assign]
    main(["-H", "127.0.0.1", "-p", sys.argv[1]])
