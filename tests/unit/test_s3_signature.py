"""Our signatures are those of the SDK, to the last letter; and our requests ask in the SDK's words, or are left to it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote

import botocore.auth
import botocore.session
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from archiver.recording import Secret
from archiver.store import s3_message, s3_site
from archiver.store.s3_client import S3Options, connect, new_session
from archiver.store.s3_message import ASKED, TOLD, Site, encoded_key, plain, request_of, signed, status_of
from archiver.store.s3_signature import UNSIGNED, Keys, Scope, authorization
from archiver.store.s3_site import Stage, find

NAMES = [
    "a", "recordings/2026/05/ab/cd", "with space", "two  spaces", " lead", "plus+and=equals&more", "ünïcödé/日本語/🎧",
    "tilde~'(*)!", "percent%2Fencoded", "a//b", "a/../b", "./a", "a/.", "question?mark#hash", "quote\"<>\\^`{|}", "@:;,$",
    "e\u0301 and é", "\x01control", "x" * 900,
]  # fmt: skip
KEYS = [Keys("AKID", "secret"), Keys("AKID/+", "s/+=ecret " * 3, "token//+==" * 20)]
SCOPES = [Scope("us-east-1"), Scope("eu-central-1"), Scope("cn-north-1"), Scope("garage", "s3")]
TIMES = [
    datetime(2026, 5, 1, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2028, 2, 29, tzinfo=UTC),
]
SITE = Site(True, "s3.example", 443, "/bucket", Scope("us-east-1"), signs=False)
UNTIL = datetime(2033, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("scope", SCOPES)
def test_every_signature_is_the_sdks(keys: Keys, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    for at, name, host in itertools.product(TIMES, NAMES, ["s3.example", "bucket.s3.example:8333", "[::1]:9000"]):
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda at=at: at)
        for method, version in (("PUT", None), ("HEAD", "v+1/=ü "), ("GET", "")):
            query = "" if version is None else f"versionId={quote(version, safe='-._~')}"
            headers = (
                {"content-type": "application/octet-stream", "x-amz-checksum-sha256": "a  b"} if method == "PUT" else {}
            )
            path = f"/{encoded_key(name)}"
            asked = AWSRequest(
                method=method, url=f"https://{host}{path}{'?' if query else ''}{query}", headers=dict(headers)
            )
            asked.context.update(payload_signing_enabled=False)
            asked.context["client_config"] = _Unsigned
            S3SigV4Auth(Credentials(keys.access, keys.secret, keys.token), scope.service, scope.region).add_auth(asked)
            stamp = at.strftime("%Y%m%dT%H%M%SZ")
            ours = {**headers, "host": host, "x-amz-date": stamp, "x-amz-content-sha256": UNSIGNED}
            if keys.token is not None:
                ours["x-amz-security-token"] = keys.token
            assert authorization(method, path, query, ours, keys, scope) == asked.headers["Authorization"], (
                name,
                method,
            )


class _Unsigned:
    s3: ClassVar = {"payload_signing_enabled": False}


FULL: dict[str, Any] = {
    "ContentType": "application/octet-stream", "ChecksumSHA256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg==", "IfNoneMatch": "*", "ObjectLockMode": "GOVERNANCE",
    "ObjectLockRetainUntilDate": UNTIL + timedelta(hours=3), "ObjectLockLegalHoldStatus": "ON", "StorageClass": "GLACIER_IR",
    "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu-central-1:1:key/a b", "ExpectedBucketOwner": "123456789012",
}  # fmt: skip
PLACES: list[dict[str, Any]] = [
    {"endpoint": "http://127.0.0.1:9000"}, {"endpoint": "https://s3.example", "addressing": "virtual"},
    {"endpoint": "https://s3.example:8443/under/a/path", "addressing": "path"}, {"endpoint": "http://[::1]:9000"},
    {"region": "eu-central-1"}, {"region": "us-east-1"}, {"region": "us-east-1", "bucket": "with.dots"}, {"region": "cn-north-1"},
    {"endpoint": "http://127.0.0.1:9000", "sign_payload": True},
    {"endpoint": "http://127.0.0.1:80", "session_token": Secret("t/+=")},
]  # fmt: skip


def options(**more: Any) -> S3Options:
    return replace(S3Options("a", "bucket-x", access_key=Secret("AKID"), secret_key=Secret("s/+")), **more)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_request_is_the_sdks_wherever_the_bucket_is(place: dict[str, Any]) -> None:
    asked = options(**place)
    signs = bool(asked.sign_payload)
    client = connect(new_session(asked), asked, sign=signs, attempts=1)
    stage = Stage(client)
    keys = Keys("AKID", "s/+", asked.session_token.reveal() if asked.session_token else None)
    site = find(stage, asked, keys, signs=signs)
    assert site is not None
    calls: list[tuple[str, dict[str, Any]]] = [("PutObject", {"Body": b"", **FULL}), ("GetObject", {})]
    calls += [("HeadObject", {"VersionId": "a/b+c=", "ChecksumMode": "ENABLED", "ExpectedBucketOwner": "123456789012"})]
    for operation, fields in calls:
        for name in NAMES:
            prepared = stage.prepared(operation, {"Bucket": asked.bucket, "Key": name, **fields})
            sent = {n.lower(): v.decode() if isinstance(v, bytes) else str(v) for n, v in prepared.headers.items()}
            request = request_of(site, operation, {"Key": name, **fields})
            assert request is not None
            at = datetime.strptime(sent["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            lines = signed(request, site, keys, at, 0 if operation == "PutObject" else None).decode().split("\r\n")
            ours = dict(line.split(": ", 1) for line in lines[1:] if line)
            for only_theirs in ("expect", "amz-sdk-invocation-id", "amz-sdk-request"):
                sent.pop(only_theirs, None)
            assert ours.pop("host") == site.authority
            if operation != "PutObject":
                assert ours.pop("accept-encoding") == "identity"
            assert ours == sent | {"content-length": "0"} if operation == "PutObject" else ours == sent, name
            assert lines[0].split(" ")[1] == "/" + prepared.url.split("://", 1)[1].split("/", 1)[1]
    client.close()


def test_fields_are_spelled_as_the_sdks_own_description_of_s3_spells_them() -> None:
    model = botocore.session.get_session().get_service_model("s3")
    inputs = [model.operation_model(each).input_shape.members for each in s3_message.METHODS]
    output = model.operation_model("HeadObject").output_shape.members
    for name, header in ASKED.items():
        assert {each[name].serialization["name"].lower() for each in inputs if name in each} == {header}
    for name, header in TOLD.items():
        assert output[name].serialization["name"].lower() == header


@pytest.mark.parametrize(
    "fields",
    [
        {"Tagging": "a=b"},
        {"Range": "bytes=0-0"},
        {"SSECustomerKey": "k"},
        {"StorageClass": "a\r\nx-evil: 1"},
        {"StorageClass": ""},
        {"StorageClass": "é"},
        {"StorageClass": " a"},
        {"ObjectLockRetainUntilDate": UNTIL + timedelta(microseconds=1)},
        {"ObjectLockRetainUntilDate": UNTIL.replace(tzinfo=None)},
        {"IfNoneMatch": None},
    ],
)
def test_what_is_not_asked_in_plain_words_is_left_to_the_sdk(fields: dict[str, Any]) -> None:
    assert request_of(SITE, "PutObject", {"Key": "k", "Body": b"", **FULL, **fields}) is None


def test_a_body_is_signed_by_its_checksum_and_without_one_the_sdk_signs() -> None:
    site = replace(SITE, signs=True)
    request = request_of(site, "PutObject", {"Key": "k", **FULL})
    assert request is not None
    assert request.headers["x-amz-content-sha256"].startswith("e3b0c442")
    for checksum in ("", "AAAA", "%%%"):
        assert (
            request_of(
                site,
                "PutObject",
                {"Key": "k", "IfNoneMatch": "*", **({"ChecksumSHA256": checksum} if checksum else {})},
            )
            is None
        )
    assert request_of(site, "DeleteObject", {"Key": "k"}) is None


def test_a_bucket_whose_requests_the_sdk_makes_otherwise_has_no_site(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = options(endpoint="http://127.0.0.1:9000")
    keys = Keys("AKID", "s/+")
    client = connect(new_session(asked), asked, sign=False, attempts=1)
    stage = Stage(client)
    assert find(stage, asked, keys, signs=False) is not None
    assert find(stage, asked, Keys("AKID", "another"), signs=False) is None, "another secret key"
    assert find(stage, asked, Keys("AKID", "s/+", "token"), signs=False) is None, "a token too many"
    assert find(stage, asked, keys, signs=True) is None, "signed bodies"
    client.meta.events.register("before-sign.s3", lambda request, **_: request.headers.add_header("x-amz-new", "1"))
    assert find(stage, asked, keys, signs=False) is None, "a header that we do not know"
    client.close()


def test_a_bucket_behind_a_proxy_or_in_another_class_of_buckets_has_no_site(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys("AKID", "s/+")
    express = options(bucket="name--use1-az4--x-s3")
    client = connect(new_session(express), express, sign=False, attempts=1)
    assert find(Stage(client), express, keys, signs=False) is None, "its keys are those of a session"
    client.close()
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    asked = options(endpoint="http://s3.example:9000")
    client = connect(new_session(asked), asked, sign=False, attempts=1)
    assert find(Stage(client), asked, keys, signs=False) is None
    monkeypatch.setenv("NO_PROXY", "s3.example")
    assert find(Stage(client), asked, keys, signs=False) is not None
    client.close()


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-amz-version-id: v1\r\nDate: x\r\n\r\n"


def test_plain_head_is_read_in_the_sdks_fields() -> None:
    found = plain(GOOD)
    assert found is not None
    assert found.fields() == {"VersionId": "v1", "ContentLength": 5}
    assert found.kept
    closing = plain(GOOD.replace(b"Date: x", b"Connection: close"))
    assert closing is not None
    assert not closing.kept


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"200 OK", b"204 OK"),
        (b"200 OK", b"2000 OK"),
        (b"Content-Length: 5\r\n", b""),
        (b": 5", b": five"),
        (b": 5", b": -5"),
        (b": 5", b": 5, 5"),
        (b"Date: x", b"Transfer-Encoding: chunked"),
        (b"Date: x", b"Content-Encoding: gzip"),
        (b"Date: x", b"Content-Length: 6"),
        (b"Date: x", b"x-amz-version-id: v2"),
        (b"Date: x", b" folded"),
        (b"Date: x", b"no colon"),
        (b"Date: x", b"Date : x"),
        (b"Date: x", b": x"),
        (b"Date: x", b"a: b\nc: d"),
        (b"Date: x", b"a: \0"),
        (b"Date: x", b"\r\n".join(b"a%d: x" % n for n in range(200))),
    ],
)
def test_head_that_leaves_room_for_another_reading_is_not_plain(old: bytes, new: bytes) -> None:
    assert plain(GOOD.replace(old, new, 1)) is None


def test_head_without_its_end_is_not_plain() -> None:
    assert plain(GOOD[:-2]) is None
    assert plain(GOOD.removesuffix(b"\r\n\r\n")) is None


def test_status_of_what_is_no_answer_is_none() -> None:
    assert [status_of(each) for each in (GOOD, b"", b"HTTP/1.1 20", b"HTTP/1.1 404\r\n\r\n", b"<html>")] == [
        200,
        0,
        0,
        404,
        0,
    ]


def test_keys_do_not_stand_in_their_text() -> None:
    assert "secret" not in repr(KEYS[1]).replace("secret=", "")
    assert "token" not in repr(KEYS[1])


def test_time_of_a_signature_is_the_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the SDK takes it from: a server refuses a request whose time is not its own."""
    then = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: then)
    assert s3_site.signing_time() == then
