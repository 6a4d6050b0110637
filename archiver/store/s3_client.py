"""How this machine speaks to one bucket: options, the client, and S3's refusals in the archiver's error tree.

Nothing depends on boto3's defaults, which differ between releases and collide with half of the servers that speak S3
(docs/adr/0003-probe-not-brand.md). Checksums are passed as values: named without one they become a trailer, which the
Ceph gateway refuses over TLS. Payloads are not signed, since they carry a checksum; a signature costs a third hash pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from urllib3.exceptions import HTTPError as TransportError

from archiver import __version__, errors
from archiver.recording import LockMode, Secret

MIB = 1024 * 1024
CONNECT_SECONDS = 10
READ_SECONDS = 60


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach one bucket and how to write to it.

    Without keys, boto3's own chain applies (environment, profile, pod or machine role). `endpoint` None means AWS.
    `bucket_owner` is the AWS account that every call expects to own the bucket. `storage_class` is that of recordings: what
    must be read at any time (log, catalogue, canaries) has the standard one. `sign_payload` None leaves it to the probe.
    Sizes in bytes; parts of S3 are 5 MiB or more, at most 10,000 an object. What is larger than `multipart_threshold` goes in
    parts, but where a single PUT's SHA-256 is proved and kept: there only what is larger than `single_limit`.
    """

    id: str
    bucket: str
    bucket_owner: str | None = None
    endpoint: str | None = None
    region: str = "us-east-1"
    prefix: str = ""
    access_key: Secret | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None
    ca_bundle: Path | None = None
    addressing: str = "auto"
    lock_mode: LockMode = LockMode.COMPLIANCE
    storage_class: str = "STANDARD"
    sse: str | None = None
    sse_key_id: str | None = None
    required: bool = True
    multipart_threshold: int = 16 * MIB
    single_limit: int = 1024 * MIB
    part_size: int = 8 * MIB
    threads: int = 8
    sign_payload: bool | None = None


_SAID = {"404": "there is no such bucket", "403": "wrong keys, or they may not use this bucket"}


class Refused(errors.DestinationError):
    """The storage refused."""

    def __init__(self, operation: str, code: str, status: int) -> None:
        # HEAD has no body, and so no code but the status again.
        said = _SAID.get(code, "") if operation == "HeadBucket" else ""
        super().__init__(f"{operation}: {said or code} ({status})")
        self.code = code
        self.status = status

    @property
    def already_there(self) -> bool:
        """A conditional create found an object: ours from an earlier try, or someone else's."""
        return self.status == 412

    @property
    def lost_race(self) -> bool:
        """Another conditional create of the same key was under way; trying again decides it."""
        return self.status == 409

    @property
    def passing(self) -> bool:
        """True when the refusal is of the moment or of the credentials, and says nothing of the request itself."""
        return self.status >= 500 or self.code in _PASSING

    @property
    def undecided(self) -> bool:
        """True when something on the way gave up waiting: what was asked may still be done, later."""
        return self.status in {500, 502, 504}

    @property
    def too_large(self) -> bool:
        """The body is larger than the storage, or something before it, takes in one request."""
        return self.status == 413 or self.code == "EntityTooLarge"

    @property
    def damaged(self) -> bool:
        """The bytes that arrived are not those that the checksum names."""
        return self.code in _DAMAGED


_PASSING = {
    "RequestTimeTooSkewed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "TooManyRequests",
    "SlowDown",
    "RequestTimeout",
    "NoSuchBucket",
}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}


def new_session(options: S3Options) -> Any:
    """What clients are made from. Raises `ConfigurationError`, for one when AWS_PROFILE names no profile."""
    try:
        return boto3.session.Session()
    except BotoCoreError as failed:
        raise errors.ConfigurationError(f"storage {options.id}: {type(failed).__name__}") from failed


def connect(session: Any, options: S3Options, *, sign: bool, attempts: int) -> Any:
    """A client that tries each call `attempts` times in all. Raises `ConfigurationError` when none can be made.

    boto3 clients are safe between threads, sessions are not (boto/botocore#2985): one session to one `Bucket`.
    """
    if options.ca_bundle is not None and not options.ca_bundle.is_file():
        raise errors.ConfigurationError(f"storage {options.id}: ca_bundle is not a file")
    keys: dict[str, str] = {}
    if options.access_key and options.secret_key:
        keys = {
            "aws_access_key_id": options.access_key.reveal(),
            "aws_secret_access_key": options.secret_key.reveal(),
        }
        if options.session_token:
            keys["aws_session_token"] = options.session_token.reveal()
    try:
        return session.client(
            "s3",
            endpoint_url=options.endpoint,
            region_name=options.region,
            verify=str(options.ca_bundle) if options.ca_bundle else None,
            config=Config(
                user_agent=f"compliance-archiver/{__version__}",  # the SDK's own takes it a tenth of the call to spell
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                max_pool_connections=options.threads,
                retries={"mode": "standard", "total_max_attempts": attempts},
                s3={"addressing_style": options.addressing, "payload_signing_enabled": sign},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
            **keys,
        )
    except (BotoCoreError, ValueError, OSError) as failed:
        raise errors.ConfigurationError(f"storage {options.id}: {type(failed).__name__}") from failed


def make_bucket(options: S3Options) -> None:
    """Make the bucket with Object Lock (and so versioning) switched on; for the demo and for `archiver init`."""
    client = connect(new_session(options), options, sign=False, attempts=1)
    fields: dict[str, Any] = {"ObjectLockEnabledForBucket": options.lock_mode is not LockMode.OFF}
    if options.endpoint is None and options.region != "us-east-1":
        fields["CreateBucketConfiguration"] = {"LocationConstraint": options.region}
    with contextlib.closing(client), translated("CreateBucket"):
        client.create_bucket(Bucket=options.bucket, **fields)


@contextlib.contextmanager
def translated(operation: str) -> Iterator[None]:
    """No exception of the SDK passes, and no message of one either: it may quote the request."""
    try:
        yield
    except ClientError as failed:
        status = int(failed.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        raise Refused(operation, str(failed.response.get("Error", {}).get("Code", "")), status) from failed
    except (BotoCoreError, HTTPClientError, TransportError, OSError) as failed:
        raise errors.DestinationError(f"{operation}: {type(failed).__name__}") from failed
