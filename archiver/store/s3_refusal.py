"""Explains a storage's refusal in a sentence that says what to do, and tells what the caller may conclude from it.
Pure."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import timedelta

from archiver import errors
from archiver.store.s3_answer import Unreadable, code_of, instant, retry_after, shown

_CLOCK = "this host's clock and the storage's differ too much: set this host's clock (NTP)"
_EXPIRED = "the session token has expired: get a new one"
_UNKNOWN_KEY = "the storage does not know this access key: check access_key, and that it belongs to this storage"
_NOT_A_PAIR = (
    "the secret key does not fit the access key: check secret_key; a proxy that changes requests has the same effect"
)
_SUSPENDED = "the account or its user is suspended or disabled: ask the storage's operator, and look for an unpaid bill"
_REGION = "the bucket is in another region: set region"
_FULL = "the storage is full, or its quota or spending cap is used up: make room or raise it"
_SLOW = "the storage asks for a pause"
_BUSY = "the storage is in trouble for now"
_MISSING = "the storage does not have this function"
_NO_BUCKET = "there is no such bucket: check bucket, endpoint and region"

# Codes as AWS, Ceph, MinIO, Backblaze, Wasabi and Storj spell them. The codes below say nothing of the request itself.
_OF_THE_ACCOUNT: Mapping[str, str] = {
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": "the session token is none that the storage knows: get a new one",
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "InvalidClientTokenId": _UNKNOWN_KEY,
    "UnrecognizedClientException": _UNKNOWN_KEY,
    "SignatureDoesNotMatch": _NOT_A_PAIR,
    "UserSuspended": _SUSPENDED,
    "AccountProblem": _SUSPENDED,
    "AccountSuspended": _SUSPENDED,
    "AllAccessDisabled": _SUSPENDED,
    "NotSignedUp": _SUSPENDED,
    "InvalidPayer": _SUSPENDED,
    "UserDisabled": _SUSPENDED,
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "Redirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidRegion": _REGION,
    "QuotaExceeded": _FULL,
    "InsufficientStorage": _FULL,
    "InsufficientCapacity": _FULL,
    "XMinioStorageFull": _FULL,
    "XMinioAdminBucketQuotaExceeded": _FULL,
    "StorageCapExceeded": _FULL,
    "CapExceeded": _FULL,
    "TransactionCapExceeded": _FULL,
    "ExceededStorageLimit": _FULL,
    "NoSuchBucket": _NO_BUCKET,
}
_OF_THE_MOMENT: Mapping[str, str] = {
    "SlowDown": _SLOW,
    "TooManyRequests": _SLOW,
    "Throttling": _SLOW,
    "ThrottlingException": _SLOW,
    "RequestLimitExceeded": _SLOW,
    "BandwidthLimitExceeded": _SLOW,
    "RequestTimeout": "the storage waited too long for the body: a slow or broken way there",
    "OperationAborted": "another change of the same thing is under way",
    "InternalError": _BUSY,
    "ServiceUnavailable": _BUSY,
    "XMinioServerNotInitialized": _BUSY,
}
_NOT_THERE = frozenset(
    {"NotImplemented", "NotSupported", "UnsupportedOperation", "MethodNotAllowed", "XNotImplemented"}
)
_DAMAGED = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})

_RIGHTS: Mapping[str, str] = {
    "HeadBucket": "s3:ListBucket",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "PutObject": "s3:PutObject, with a lock s3:PutObjectRetention, with tags s3:PutObjectTagging",
    "HeadObject": "s3:GetObject, s3:GetObjectVersion",
    "GetObject": "s3:GetObject, s3:GetObjectVersion",
    "ListObjectVersions": "s3:ListBucketVersions",
    "ListObjects": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject, s3:DeleteObjectVersion",
    "PutObjectRetention": "s3:PutObjectRetention",
    "PutObjectLegalHold": "s3:PutObjectLegalHold",
    "CreateMultipartUpload": "s3:PutObject, with a lock s3:PutObjectRetention",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}


class Refused(errors.DestinationError):
    """The storage refused."""

    def __init__(
        self, operation: str, code: str, status: int, *, cause: str | None = None, pause: timedelta | None = None
    ) -> None:
        self.operation = operation
        self.code = code_of(code)
        self.status = status
        self.cause = cause = _cause(operation, self.code, status) if cause is None else cause
        proper = "" if self.nameless else self.code
        if cause:
            detail = f"{operation}: {cause} ({f'{proper}, ' if proper else ''}{status})"
        else:
            detail = f"{operation}: {proper or 'refused'} ({status})"
        super().__init__(detail, retry_after=pause)

    @property
    def nameless(self) -> bool:
        """True when the answer held no error code of S3, as no answer to a HEAD does."""
        return not self.code or self.code == str(self.status)

    @property
    def already_there(self) -> bool:
        """True when a conditional create found an object: ours from an earlier try, or someone else's."""
        return self.status == 412

    @property
    def lost_race(self) -> bool:
        """True when another conditional create of the same key was under way; trying again decides the race."""
        return self.status == 409

    @property
    def unsupported(self) -> bool:
        """True when the storage does not have this function, today and tomorrow."""
        return self.status in {405, 501} or self.code in _NOT_THERE

    @property
    def momentary(self) -> bool:
        """True when the storage may take the same request in a moment."""
        if self.unsupported or self.code in _OF_THE_ACCOUNT:
            return False
        return self.code in _OF_THE_MOMENT or self.status in {408, 429} or (self.status >= 500 and self.status != 507)

    @property
    def passing(self) -> bool:
        """True when the refusal is of the moment or of the account, and says nothing of the request itself."""
        return self.momentary or self.code in _OF_THE_ACCOUNT or self.status in {301, 302, 307, 507}

    @property
    def forbidden(self) -> bool:
        """True when these keys may not do or ask this; the refusal does not say whether the thing is so."""
        return self.status in {401, 403} and not self.passing

    @property
    def undecided(self) -> bool:
        """True when something on the way gave up waiting: the request may still be carried out, later."""
        return self.status in {500, 502, 504}

    @property
    def too_large(self) -> bool:
        """True when the body is larger than the storage, or a proxy before it, takes in one request."""
        return self.status == 413 or self.code == "EntityTooLarge"

    @property
    def damaged(self) -> bool:
        """True when the bytes that arrived are not those that the checksum names."""
        return self.code in _DAMAGED


def refusal(operation: str, answer: Mapping[str, object]) -> Refused:
    """Make a `Refused` from an error answer of the SDK."""
    metadata, error = _mapping(answer.get("ResponseMetadata")), _mapping(answer.get("Error"))
    headers = {str(name).lower(): str(value) for name, value in _mapping(metadata.get("HTTPHeaders")).items()}
    code, told = str(error.get("Code") or ""), metadata.get("HTTPStatusCode")
    status = told if isinstance(told, int) else 0
    cause = _cause(operation, code_of(code), status)
    if cause == _CLOCK:
        cause = _skew(error) + cause
    region = headers.get("x-amz-bucket-region") or str(error.get("Region") or "")
    if region and (cause == _REGION or status in {301, 302, 307}):
        cause = f"the bucket is in another region: set region: {code_of(region)}"
    return Refused(operation, code, status, cause=cause, pause=retry_after(headers))


def unanswered(operation: str, failed: BaseException) -> errors.DestinationError:
    """Make an error that says why no answer came, as far as that can be told."""
    name = type(failed).__name__
    why = next((said for each in _chain(failed) if (said := _why(each))), None) or _BY_NAME.get(name)
    return errors.DestinationError(f"{operation}: {why} ({name})" if why else f"{operation}: {name}")


def unreadable(operation: str, failed: BaseException) -> errors.DestinationError:
    """Make an error for an answer that the SDK could not read."""
    return Unreadable(f"{operation}: the answer cannot be read ({type(failed).__name__})")


# --- within ---------------------------------------------------------------------------------------------------


def _cause(operation: str, code: str, status: int) -> str:  # noqa: PLR0911 - a table with conditions
    named = _OF_THE_ACCOUNT.get(code) or _OF_THE_MOMENT.get(code)
    if named:
        return named
    if code in _NOT_THERE or status == 501:
        return _MISSING
    nameless = not code or code == str(status)
    if status in {401, 403}:
        needs = f": they need {_RIGHTS[operation]}" if operation in _RIGHTS else ""
        if not nameless:
            return f"these keys may not {'use this bucket' if operation == 'HeadBucket' else 'do this'}{needs}"
        return (
            "wrong keys, or they may not use this bucket" if operation == "HeadBucket" else "the keys may not do this"
        )
    if status in {301, 302, 307}:
        return _REGION
    if status == 507:
        return _FULL
    if status == 404 and operation == "HeadBucket":
        return _NO_BUCKET
    if status in {429, 503}:
        return _SLOW
    if nameless and not operation.startswith("Head") and status != 412:
        return "the answer has no error code of S3's: a proxy or a gateway may have answered in its place"
    return _BUSY if status >= 500 else ""


def _skew(error: Mapping[str, object]) -> str:
    try:
        ours, theirs = (instant(error.get(each, ""), each) for each in ("RequestTime", "ServerTime"))
    except Unreadable:
        return ""
    seconds = (theirs - ours).total_seconds()
    return f"{abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead'}: "


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _chain(failed: BaseException) -> Iterator[BaseException]:
    """Return the error and its causes, however libraries wrap them in one another, the innermost first, which says
    most."""
    seen: list[BaseException] = []
    waiting: list[object] = [failed]
    while waiting and len(seen) < 20:
        each = waiting.pop()
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            waiting += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
    return iter(reversed(seen))


_CERTIFICATE: Mapping[int, str] = {
    9: "it is not valid yet: check this host's clock",
    10: "it has expired: its owner must renew it",
    18: "it vouches for itself: set ca_bundle to it",
    19: "its authority is not known here: set ca_bundle to the authority's certificate",
    20: "its authority is not known here: set ca_bundle to the authority's certificate",
    21: "its authority is not known here: set ca_bundle to the authority's certificate",
    62: "it is for another name: check endpoint and addressing",
    64: "it is for another address: check endpoint",
}
_BY_NAME: Mapping[str, str] = {
    "ConnectTimeoutError": "the endpoint does not answer: check endpoint, network and firewall",
    "ReadTimeoutError": "no answer came in time",
    "ConnectionClosedError": "the connection was closed before an answer came",
    "ConnectionResetError": "the connection was closed before an answer came",
    "BrokenPipeError": "the connection was closed before an answer came",
    "TimeoutError": "no answer came in time",
    "EndedEarlyError": "the connection ended before the answer did",
    "EndpointConnectionError": "the endpoint cannot be reached: check endpoint and network",
    "ProxyConnectionError": "the proxy cannot be reached: check HTTPS_PROXY and NO_PROXY",
    "NoCredentialsError": "there are no keys: set access_key and secret_key, or give this machine a role",
    "PartialCredentialsError": "there is half a pair of keys: set access_key and secret_key",
    "CredentialRetrievalError": "the machine's own credentials cannot be had: check its profile or role",
    "TokenRetrievalError": "the machine's own credentials cannot be had: sign in again",
    "UnauthorizedSSOTokenError": "the machine's own credentials cannot be had: sign in again",
    "SSOTokenLoadError": "the machine's own credentials cannot be had: sign in again",
    "ResponseParserError": "the answer is not the XML of S3",
    "IncompleteReadError": "the connection ended in the midst of the answer",
    "ResponseStreamingError": "the connection ended in the midst of the answer",
}
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})


def _why(failed: BaseException) -> str | None:
    if isinstance(failed, socket.gaierror):
        return "the name of the endpoint is not found: check endpoint and DNS"
    if isinstance(failed, ssl.SSLCertVerificationError):
        said = _CERTIFICATE.get(failed.verify_code, shown(failed.verify_message))
        return f"the storage's certificate is not trusted; {said}"
    if type(failed).__name__ == "CertificateError":  # the transport's own class for a name that does not match
        return f"the storage's certificate is not trusted; {_CERTIFICATE[62]}"
    if isinstance(failed, ssl.SSLError):
        return "TLS fails: check that the endpoint speaks https on this port"
    if isinstance(failed, ConnectionRefusedError):
        return "nobody listens at the endpoint: check endpoint and port"
    if isinstance(failed, OSError) and failed.errno in _NO_WAY:
        return "the network knows no way to the endpoint"
    return None
