"""Finds out from the SDK where the requests for one bucket go and how they are signed; it never guesses.

The SDK prepares three calls that are not sent. Where ours are not the same to the last header and letter of the
signature, the bucket has no site, and every call is the SDK's.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
from botocore.awsrequest import AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from archiver.store.s3_client import STUMBLES, S3Options
from archiver.store.s3_connection import OddAnswer
from archiver.store.s3_message import METHODS, Site, encoded_key, request_of
from archiver.store.s3_signature import Keys, Scope, authorization

_KEY = "recordings/a b+c=ü~'(é)/0"
_VERSION = "v+1/="
_DIGEST = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
_UNTIL = datetime(2030, 1, 1, tzinfo=UTC)
_CALLS: Mapping[str, Mapping[str, Any]] = {
    "PutObject": {
        "Body": b"", "ContentType": "application/octet-stream", "ChecksumSHA256": _DIGEST, "IfNoneMatch": "*",
        "ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": _UNTIL,
    },
    "HeadObject": {"VersionId": _VERSION, "ChecksumMode": "ENABLED"},
    "GetObject": {"VersionId": _VERSION},
}  # fmt: skip
_OWN = (
    "amz-sdk-",
    "user-agent",
    "expect",
    "content-length",
    "accept-encoding",
    "authorization",
    "x-amz-security-token",
)
"""The beginnings of the names of headers that do not say what is asked; none of them but the token is signed."""


class Stage:
    """Stands between a client of the SDK and the network, for one call of one thread at a time."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._here = threading.local()
        client.meta.events.register("before-send.s3", self._before_send)

    def prepared(self, operation: str, fields: Mapping[str, Any]) -> Any:
        """Return the request that the SDK would send."""
        self.answered(operation, fields, OddAnswer(200, {}, b""))
        return self._here.request

    def answered(self, operation: str, fields: Mapping[str, Any], answer: OddAnswer) -> Any:
        """Make a call whose answer has come already: the SDK reads it, and sends nothing, except where the answer
        leads it to another region."""
        self._here.answer = answer
        try:
            return _METHODS[operation](self._client)(**fields)
        finally:
            self._here.answer = None

    def _before_send(self, request: Any, **_: Any) -> AWSResponse | None:
        answer: OddAnswer | None = getattr(self._here, "answer", None)
        self._here.answer, self._here.request = None, request
        if answer is None:
            return None
        return AWSResponse(request.url, answer.status, dict(answer.headers), _Body(answer.body))


_METHODS: Mapping[str, Callable[[Any], Callable[..., Any]]] = {
    "PutObject": lambda client: client.put_object,
    "HeadObject": lambda client: client.head_object,
    "GetObject": lambda client: client.get_object,
}


class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


class Keyring:
    """Gives the keys of each request, as the SDK has them at that moment: those of a role change by themselves."""

    def __init__(self, session: Any, options: S3Options) -> None:
        if options.access_key and options.secret_key:
            token = options.session_token.reveal() if options.session_token else None
            self._of: Any = Credentials(options.access_key.reveal(), options.secret_key.reveal(), token)
        else:
            self._of = session.get_credentials()

    def now(self) -> Keys | None:
        """Return the present keys; None where there are none. May ask the network, and raise what the SDK raises."""
        if self._of is None:
            return None
        found = self._of.get_frozen_credentials()
        return Keys(found.access_key, found.secret_key, found.token)


def signing_time() -> datetime:
    """Return the time by which the SDK signs."""
    found: datetime = botocore.auth.get_current_datetime()
    return found


def find(stage: Stage, options: S3Options, keys: Keys, *, signs: bool) -> Site | None:
    """Return the bucket's site; None where a proxy stands before it, or the SDK's requests are not those that we
    make."""
    owner = {} if options.bucket_owner is None else {"ExpectedBucketOwner": options.bucket_owner}
    site: Site | None = None
    for operation, more in _CALLS.items():
        fields = {"Key": _KEY, **more, **owner}
        try:
            prepared = stage.prepared(operation, {"Bucket": options.bucket, **fields})
        except (BotoCoreError, ClientError, HTTPClientError, OSError, *STUMBLES):  # the SDK makes this bucket's calls
            return None
        site = site or _site(prepared, signs)
        if site is None or prepared.method != METHODS[operation] or not _same(prepared, site, operation, fields, keys):
            return None
    return site


def trust(session: Any, options: S3Options) -> ssl.SSLContext:
    """Return the rules for TLS, with the certificates that the SDK trusts. Raises `OSError`."""
    bundle = options.ca_bundle or session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    path = Path(get_cert_path(bundle or True))
    folder = path.is_dir()
    context = ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)  # the SDK does not insist on it either
    context.set_alpn_protocols(["http/1.1"])
    return context


def _site(prepared: Any, signs: bool) -> Site | None:
    url = urlsplit(prepared.url)
    end = f"/{encoded_key(_KEY)}"
    proof = _header(prepared, "authorization").partition("Credential=")[2].partition(",")[0].split("/")
    if url.scheme not in {"http", "https"} or not url.hostname or not url.path.endswith(end) or len(proof) < 5:
        return None
    if get_environ_proxies(prepared.url):
        return None
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 80)
    return Site(tls, url.hostname, port, url.path.removesuffix(end), Scope(proof[-3], proof[-2]), signs)


def _same(prepared: Any, site: Site, operation: str, fields: Mapping[str, Any], keys: Keys) -> bool:
    """Tell whether the SDK's request is ours."""
    request = request_of(site, operation, fields)
    if request is None:
        return False
    url = urlsplit(prepared.url)
    sent = {str(name).lower(): _header(prepared, name) for name in prepared.headers}
    stamp = sent.pop("x-amz-date", "")
    asked = {name: value for name, value in sent.items() if not name.startswith(_OWN)}
    covered = {**request.headers, "x-amz-date": stamp}
    if keys.token is not None:
        covered["x-amz-security-token"] = keys.token
    return (
        (request.path, request.query) == (url.path, url.query)
        and url.netloc in {site.authority, f"{site.host}:{site.port}"}
        and asked | {"host": site.authority} == request.headers
        and authorization(request.method, request.path, request.query, covered, keys, site.scope)
        == sent.get("authorization")
    )


def _header(prepared: Any, name: str) -> str:
    value = prepared.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)
