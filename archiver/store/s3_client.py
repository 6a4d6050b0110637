"""How this machine speaks to one bucket: options, the client, and what its calls raise, in the archiver's error tree.

Nothing depends on boto3's defaults, which differ between releases and collide with half of the servers that speak S3
(docs/adr/0003-probe-not-brand.md). Checksums are passed as values: named without one they become a trailer, which the
Ceph gateway refuses over TLS. Payloads are not signed, since they carry a checksum; a signature costs a third hash pass.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.loaders import Loader, create_loader
from urllib3.exceptions import HTTPError as TransportError

from archiver import __version__, errors
from archiver.recording import LockMode, Secret
from archiver.store.s3_answer import LISTINGS, document, leads_somewhere, no_page, page
from archiver.store.s3_refusal import refusal, unanswered, unreadable

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


def new_session(options: S3Options) -> Any:
    """What clients are made from. Raises `ConfigurationError`, for one when AWS_PROFILE names no profile.

    Times come as they were written: the SDK refuses half of what servers write, and takes the other half for what it is not.
    """
    try:
        session = botocore.session.get_session()
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
        session.register_component("data_loader", _models(session.get_config_variable("data_path")))
    except BotoCoreError as failed:
        raise errors.ConfigurationError(f"storage {options.id}: {type(failed).__name__}") from failed
    return session


@functools.cache
def _models(path: str | None) -> Loader:
    """The SDK's description of S3, a megabyte of JSON, read once for all buckets of this process: 15 ms a bucket, not 190."""
    return create_loader(path)


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
        client = session.create_client(
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
    client.meta.events.register("before-parse.s3", _read_answer)
    for operation in ("PutObjectRetention", "PutObjectLegalHold"):
        client.meta.events.register(f"before-call.s3.{operation}", _with_md5)
    return client


def make_bucket(options: S3Options) -> None:
    """Make the bucket with Object Lock (and so versioning) switched on; for the demo and for `archiver init`."""
    client = connect(new_session(options), options, sign=False, attempts=1)
    fields: dict[str, Any] = {"ObjectLockEnabledForBucket": options.lock_mode is not LockMode.OFF}
    if options.endpoint is None and options.region != "us-east-1":
        fields["CreateBucketConfiguration"] = {"LocationConstraint": options.region}
    with contextlib.closing(client), translated("CreateBucket"):
        client.create_bucket(Bucket=options.bucket, **fields)


# What reading an answer may raise when it is none. Around the SDK's calls only: elsewhere each of these is a bug of ours.
_STUMBLES = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError,
    ValueError,
)  # fmt: skip


@contextlib.contextmanager
def translated(operation: str) -> Iterator[None]:
    """No exception of the SDK passes, and no message of one either: it may quote the request. One party's odd answer is its own
    failure."""
    try:
        yield
    except ClientError as failed:
        raise refusal(operation, failed.response) from failed
    except (BotoCoreError, HTTPClientError, TransportError, OSError) as failed:
        raise unanswered(operation, failed) from failed
    except _STUMBLES as failed:
        raise unreadable(operation, failed) from failed


def _read_answer(operation_model: Any, response_dict: Any, customized_response_dict: Any, **_: Any) -> None:
    """Look at a good answer before the SDK makes of it what it can: a page for people would become a bucket without objects.

    Listings are read here alone; the SDK loses the order of their entries and takes any word for "that was all".
    """
    operation, status, body = operation_model.name, response_dict["status_code"], response_dict["body"]
    headers = {str(name).lower(): str(value) for name, value in response_dict["headers"].items()}
    if status >= 300 and not leads_somewhere(status, headers, body):
        # The SDK would go round in a circle until its stack is full, or take a region that is none for the rest of its life.
        raise refusal(operation, {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}})
    if status >= 300:
        return
    no_page(operation, headers)
    root = document(operation, body) if isinstance(body, bytes) else None
    if root is not None and operation in LISTINGS:
        customized_response_dict["Page"] = page(operation, root)
        response_dict["body"] = b""


def _with_md5(params: Any, context: Any, **_: Any) -> None:
    """Where `ContentMD5` was given, whatever it was: the MD5 of what is sent, and no other checksum."""
    if "Content-MD5" in params["headers"]:
        digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
        params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
        context["checksum"] = {}
