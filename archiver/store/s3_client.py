"""Connects this host to one bucket: options, the client, and the SDK's errors translated into the archiver's.

Nothing depends on boto3's defaults, which differ between releases and do not fit half of the servers that speak S3
(docs/adr/0003-probe-not-brand.md). Checksums are passed as values: named without a value they become a trailer, which
the Ceph gateway refuses over TLS. Payloads are not signed, since they carry a checksum; a signature costs a third hash
pass.
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
from archiver.store.s3_answer_limit import limit_answers
from archiver.store.s3_refusal import refusal, unanswered, unreadable

MIB = 1024 * 1024
CONNECT_SECONDS = 10
READ_SECONDS = 60


@dataclass(frozen=True, slots=True)
class S3Options:
    """The options for one bucket: its address, and the way of writing to it.

    Without keys, boto3's own chain applies (environment, profile, pod or machine role). `endpoint` None means AWS.
    `bucket_owner` is the AWS account that every call expects to own the bucket. `storage_class` is that of recordings:
    objects that must be readable at any time (log, catalogue, canaries) have the standard one. `sign_payload` None
    leaves the choice to the probe. Sizes are in bytes; parts of S3 are 5 MiB or more, at most 10,000 an object. An
    object larger than `multipart_threshold` is sent in parts, except where a single PUT's SHA-256 is proved and kept:
    there only an object larger than `single_limit`.
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
    """Make the session from which clients are made. Raises `ConfigurationError`, also when AWS_PROFILE names no
    profile.

    Times stay as they were written: the SDK refuses half of the spellings that servers use, and misreads the other
    half.
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
    """Return the SDK's description of S3, a megabyte of JSON, read once for all buckets of this process: 15 ms a
    bucket, not 190."""
    return create_loader(path)


def connect(session: Any, options: S3Options, *, sign: bool, attempts: int) -> Any:
    """Make a client that tries each call `attempts` times in all. Raises `ConfigurationError` when none can be made.

    boto3 clients are safe between threads, sessions are not (boto/botocore#2985): each `Bucket` has its own session.
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
                user_agent=f"compliance-archiver/{__version__}",  # building the SDK's own costs a tenth of each call
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
    limit_answers(client)
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


# Errors that the SDK raises when it cannot read an answer. Caught around its calls only: elsewhere each is a bug of
# ours.
STUMBLES = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError,
    ValueError,
)  # fmt: skip


@contextlib.contextmanager
def translated(operation: str) -> Iterator[None]:
    """Translate the SDK's exceptions. None passes, and no message of one either: it may quote the request. An odd
    answer of one storage is that storage's failure alone."""
    try:
        yield
    except ClientError as failed:
        raise refusal(operation, failed.response) from failed
    except (BotoCoreError, HTTPClientError, TransportError, OSError) as failed:
        raise unanswered(operation, failed) from failed
    except STUMBLES as failed:
        raise unreadable(operation, failed) from failed


def _read_answer(operation_model: Any, response_dict: Any, customized_response_dict: Any, **_: Any) -> None:
    """Check a good answer before the SDK reads it: the SDK would make a bucket without objects of a web page.

    Listings are read here alone; the SDK loses the order of their entries and takes any word for "that was all".
    """
    operation, status, body = operation_model.name, response_dict["status_code"], response_dict["body"]
    headers = {str(name).lower(): str(value) for name, value in response_dict["headers"].items()}
    if status >= 300 and not leads_somewhere(status, headers, body):
        # The SDK would follow the redirect until its stack is full, or keep an invalid region for as long as it lives.
        raise refusal(operation, {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}})
    if status >= 300:
        return
    no_page(operation, headers)
    root = document(operation, body) if isinstance(body, bytes) else None
    if root is not None and operation in LISTINGS:
        customized_response_dict["Page"] = page(operation, root)
        response_dict["body"] = b""


def _with_md5(params: Any, context: Any, **_: Any) -> None:
    """Replace a given `ContentMD5`, whatever its value, by the MD5 of the body, and drop every other checksum."""
    if "Content-MD5" in params["headers"]:
        digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
        params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
        context["checksum"] = {}
