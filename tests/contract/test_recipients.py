"""What every recipient and its identity promise (archiver.seal.recipients), on each kind: RSA key, certificate, AES, AWS KMS."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from archiver.errors import ConfigurationError, KeyUnavailableError, VerificationError
from archiver.seal import envelope
from archiver.seal.envelope import KeyTransport
from archiver.seal.kms import KmsIdentity, kms_recipient
from archiver.seal.recipients import Identity, Recipient, load_recipient, unwrap
from tests.seal_keys import LOCAL, LOCAL_IDENTITY, OPS, OPS_IDENTITY, OTHER, OTHER_IDENTITY, key_file, opened, seal

_SERVER = Path(__file__).parents[1] / "kms_server.py"
_DATA_KEY = hashlib.sha256(b"data key").digest()


@dataclass(frozen=True, slots=True)
class Kms:
    endpoint: str
    client: Any

    def new_key(self, spec: str = "RSA_3072", usage: str = "ENCRYPT_DECRYPT") -> str:
        key: str = self.client.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]
        return key

    def recipient(self, key: str) -> Recipient:
        return kms_recipient("kms", key, region="eu-west-1", endpoint=self.endpoint)

    def identity(self, key: str, endpoint: str | None = None) -> Identity:
        return KmsIdentity("kms", key, region="eu-west-1", endpoint=endpoint or self.endpoint)


def _free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    port = _free_port()
    log = tmp_path_factory.mktemp("kms") / "log"
    with pytest.MonkeyPatch.context() as patch, log.open("wb") as output:
        patch.setenv("AWS_ACCESS_KEY_ID", "loopback")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "loopback")
        process = subprocess.Popen(
            [sys.executable, str(_SERVER), str(port)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            for _ in range(300):
                with closing(socket.socket()) as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)  # moto does not say when it listens
            else:
                pytest.fail(f"the KMS server did not start: {log.read_text()[-500:]}")
            endpoint = f"http://127.0.0.1:{port}"
            yield Kms(endpoint, boto3.client("kms", region_name="eu-west-1", endpoint_url=endpoint))
        finally:
            process.kill()
            process.wait()


@pytest.fixture(params=["rsa", "certificate", "aes", "kms"])
def pair(request: pytest.FixtureRequest) -> tuple[Recipient, Identity]:
    match request.param:
        case "rsa":
            return OPS, OPS_IDENTITY
        case "certificate":
            return load_recipient("ops", "rsa-oaep-256", key_file("ops.cert.pem")), OPS_IDENTITY
        case "aes":
            return LOCAL, LOCAL_IDENTITY
        case _:
            server: Kms = request.getfixturevalue("kms")
            key = server.new_key()
            return server.recipient(key), server.identity(key)


def _info(wrapped: bytes) -> envelope.RecipientInfo:
    header = envelope.header([wrapped], bytes(12), 0)
    return envelope.parse(header + envelope.trailer(bytes(16))).recipients[0]


def test_identity_unwraps_what_its_recipient_wrapped(pair: tuple[Recipient, Identity]) -> None:
    recipient, identity = pair
    assert identity.unwrap(_info(recipient.wrap(_DATA_KEY))) == _DATA_KEY
    assert identity.id == recipient.id


def test_object_opens_through_it_among_others(pair: tuple[Recipient, Identity]) -> None:
    recipient, identity = pair
    sealed, result = seal(b"speech", [OTHER, recipient])
    assert result.recipients == ("other", recipient.id)
    assert opened(sealed, identity) == b"speech"


def test_what_is_for_someone_else_is_left_alone(pair: tuple[Recipient, Identity]) -> None:
    _, identity = pair
    for stranger in (OTHER.wrap(_DATA_KEY), load_recipient("x", "aes-kw-256", b"A" * 43 + b"=").wrap(_DATA_KEY)):
        assert identity.unwrap(_info(stranger)) is None


def test_damaged_wrapped_key_is_refused(pair: tuple[Recipient, Identity]) -> None:
    recipient, identity = pair
    wrapped = bytearray(recipient.wrap(_DATA_KEY))
    wrapped[-1] ^= 1
    with pytest.raises(VerificationError):
        identity.unwrap(_info(bytes(wrapped)))


def test_what_was_wrapped_is_no_data_key(pair: tuple[Recipient, Identity]) -> None:
    recipient, identity = pair
    with pytest.raises(VerificationError):
        identity.unwrap(_info(recipient.wrap(bytes(24))))


def test_second_identity_opens_when_the_first_one_cannot(kms: Kms) -> None:
    key = kms.new_key()
    sealed, _ = seal(b"speech", [kms.recipient(key), LOCAL])
    kms.client.disable_key(KeyId=key)
    assert opened(sealed, kms.identity(key), LOCAL_IDENTITY) == b"speech"


def test_object_for_others_says_which_keys_were_tried() -> None:
    sealed, _ = seal(b"speech", [OPS])
    with pytest.raises(KeyUnavailableError, match=r"none of the keys at hand \(other, local\)"):
        opened(sealed, OTHER_IDENTITY, LOCAL_IDENTITY)
    with pytest.raises(KeyUnavailableError, match=r"\(none\)"):
        opened(sealed)


def test_certificate_that_states_its_own_key_identifier_is_followed() -> None:
    odd = load_recipient("ops", "rsa-oaep-256", key_file("ops.cert.pem"))
    odd.key_id = b"odd"  # type: ignore[attr-defined]  # as such a certificate would have it
    info = _info(odd.wrap(_DATA_KEY))
    assert isinstance(info, KeyTransport)
    assert info.key_id == b"odd"
    assert unwrap([info], [OPS_IDENTITY]).key == _DATA_KEY


# --- AWS KMS refuses, is away, or its answer is lost ----------------------------------------------------------


def test_disabled_key_is_unavailable(kms: Kms) -> None:
    key = kms.new_key()
    info = _info(kms.recipient(key).wrap(_DATA_KEY))
    kms.client.disable_key(KeyId=key)
    with pytest.raises(KeyUnavailableError, match="DisabledException"):
        kms.identity(key).unwrap(info)


def test_unknown_key_is_unavailable(kms: Kms) -> None:
    with pytest.raises(KeyUnavailableError, match="NotFoundException"):
        kms.recipient("11111111-2222-3333-4444-555555555555")
    with pytest.raises(KeyUnavailableError, match="NotFoundException"):
        kms.identity("11111111-2222-3333-4444-555555555555").unwrap(_info(OPS.wrap(_DATA_KEY)))


def test_unreachable_kms_makes_the_key_unavailable(kms: Kms) -> None:
    closed = f"http://127.0.0.1:{_free_port()}"
    with pytest.raises(KeyUnavailableError, match="EndpointConnectionError"):
        kms.identity("any", closed).unwrap(_info(OPS.wrap(_DATA_KEY)))


def test_answer_lost_on_its_way_is_asked_for_again(kms: Kms) -> None:
    key = kms.new_key()
    info = _info(kms.recipient(key).wrap(_DATA_KEY))
    with closing(_LosesFirstDecrypt(kms.endpoint)) as between:
        assert kms.identity(key, between.endpoint).unwrap(info) == _DATA_KEY
        assert between.lost == 1


@pytest.mark.parametrize(
    ("spec", "usage", "problem"),
    [
        ("RSA_2048", "ENCRYPT_DECRYPT", "2048 bits"),
        ("RSA_3072", "SIGN_VERIFY", "does not encrypt"),
        ("ECC_NIST_P256", "SIGN_VERIFY", "does not encrypt"),
    ],
)
def test_kms_key_that_cannot_serve_is_a_configuration_error(kms: Kms, spec: str, usage: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        kms.recipient(kms.new_key(spec, usage))


def test_sealing_needs_no_kms_once_the_public_key_is_known(kms: Kms) -> None:
    key = kms.new_key()
    recipient = kms.recipient(key)
    kms.client.disable_key(KeyId=key)
    sealed, _ = seal(b"speech", [recipient])
    kms.client.enable_key(KeyId=key)
    assert opened(sealed, kms.identity(key)) == b"speech"


def test_no_region_is_a_configuration_error(kms: Kms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="NoRegionError"):
        kms_recipient("kms", "any")


class _LosesFirstDecrypt:
    """Passes connections on to `endpoint`; hangs up instead of passing back the first answer to a Decrypt."""

    def __init__(self, endpoint: str) -> None:
        target = urlsplit(endpoint)
        self._target = (target.hostname, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.lost = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with caller:
                self._pass_on(caller)

    def _pass_on(self, caller: socket.socket) -> None:
        """One request and its answer a connection."""
        request = caller.recv(65_536)
        head, _, body = request.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            body += caller.recv(65_536)
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:"))
        with socket.create_connection(self._target) as server:
            server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            answer = b""
            while part := server.recv(65_536):
                answer += part
        if b"trentservice.decrypt" in head.lower() and not self.lost:
            self.lost = 1
            return
        caller.sendall(answer)
