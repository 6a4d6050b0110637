"""Whatever a storage answers is read, or becomes that storage's typed failure with a sentence; no library's exception passes."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store import s3_answer
from archiver.store.probe import Probe
from archiver.store.probe_trial import Patience
from archiver.store.s3 import S3Options, S3Store
from archiver.store.s3_answer_limit import LARGEST
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_refusal import Refused
from archiver.store.s3_upload import Item
from archiver.store.s3_values import Digests, base64_of
from archiver.store.s3_vault import Vault
from tests.http_servers import Asked, authority, says, serve
from tests.http_servers import answer as raw_answer
from tests.lying_s3 import Answer, Call, Fault, Onward, refuse
from tests.memory_s3 import (
    MemoryS3,
    changing,
    document,
    lowered,
    memory_s3,
    options_for,
    refused,
    refusing,
    saying,
)

UNTIL = datetime(2093, 6, 10, tzinfo=UTC)
LOCK = Lock(LockMode.COMPLIANCE, UNTIL)
BODY = b"x" * 1000
RETAIN = "x-amz-object-lock-retain-until-date"


@pytest.fixture(scope="module")
def server() -> Iterator[MemoryS3]:
    with memory_s3() as made:
        yield made


@pytest.fixture(scope="module")
def shared(server: MemoryS3) -> Iterator[Bucket]:
    made = Bucket(options_for(server))
    yield made
    made.close()


@pytest.fixture
def bucket(server: MemoryS3, shared: Bucket) -> Iterator[Bucket]:
    """A bucket that answers as told; clients are dear, so that it is one for all."""
    yield shared
    server.faults.clear()
    server.objects.clear()
    server.calls.clear()
    server.headers.clear()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK does not wait between its two tries."""
    monkeypatch.setattr("botocore.endpoint.time", types.SimpleNamespace(sleep=lambda _: None))


def item(key: str = "k") -> Item:
    return Item(key, BODY, len(BODY), hashlib.sha256(BODY).hexdigest(), LOCK)


def vault(bucket: Bucket, server: MemoryS3) -> Vault:
    return Vault(bucket, options_for(server), SystemClock())


# --- one object -------------------------------------------------------------------------------------------------


READ = {
    "as asked": lambda date: date,
    "milliseconds": lambda date: str(int(datetime.fromisoformat(date).timestamp() * 1000)),
    "seconds": lambda date: str(int(datetime.fromisoformat(date).timestamp())),
    "without a zone": lambda date: date[:19],
    "with a space": lambda date: f"{date[:19].replace('T', ' ')} +0000 UTC",
    "another zone": lambda _: "2093-06-10T05:30:00+05:30",
    "nanoseconds": lambda date: f"{date[:19]}.000000001Z",
    "a script's": lambda _: "Wed Jun 10 2093 00:00:00 GMT+0000 (Coordinated Universal Time)",
    "a mail's": lambda _: "Wed, 10 Jun 2093 00:00:00 GMT",
}


@pytest.mark.parametrize("spelling", READ)
def test_date_of_a_lock_is_read_however_it_is_spelled(bucket: Bucket, server: MemoryS3, spelling: str) -> None:
    server.lie(changing(RETAIN, READ[spelling]))
    assert vault(bucket, server).put_once(item()).retain_until == UNTIL


@pytest.mark.parametrize(
    "date", ["", "tomorrow", "20930610", "2093-13-40T99:00:00Z", "9" * 300, "<b>", "-1", "1e99", "NaN"]
)
def test_date_of_a_lock_that_cannot_be_read_is_the_storages_failure_and_no_lock(
    bucket: Bucket, server: MemoryS3, date: str
) -> None:
    server.lie(changing(RETAIN, lambda _: date))
    with pytest.raises(errors.DestinationError, match="the date of the lock is no time that can be read") as told:
        vault(bucket, server).put_once(item())
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("checksum", ["%%%a", "AAAA", "", "é", "a" * 10_000, "AAAA-3"])
def test_checksum_that_is_none_proves_nothing_and_the_object_is_read(
    bucket: Bucket, server: MemoryS3, checksum: str
) -> None:
    server.lie(changing("x-amz-checksum-sha256", lambda _: checksum))
    keeper = vault(bucket, server)
    keeper.profile = replace(keeper.profile, checksum_proves=True)
    assert keeper.put_once(item()).checked_by == "full-read"


@pytest.mark.parametrize("mode", ["WORM", "GOVERNANCE", "é", "compliant"])
def test_mode_that_is_not_the_one_asked_for_is_no_lock(bucket: Bucket, server: MemoryS3, mode: str) -> None:
    server.lie(changing("x-amz-object-lock-mode", lambda _: mode))
    with pytest.raises(errors.NotLockedError):
        vault(bucket, server).put_once(item())


def test_head_without_a_length_is_made_up_for_by_a_part_of_the_object(bucket: Bucket, server: MemoryS3) -> None:
    server.lie(changing("content-length", lambda _: None, "HeadObject"))
    assert vault(bucket, server).put_once(item()).size == len(BODY)


HTML = b"<!DOCTYPE html><html><body><form action=login>Sign in<br></form></body></html>"
XHTML = b"<html><body><p>Sign in</p></body></html>"


@pytest.mark.parametrize("operation", ["HeadObject", "GetObject"])
def test_login_page_in_an_objects_place_accuses_nobody_of_other_bytes(
    bucket: Bucket, server: MemoryS3, operation: str
) -> None:
    server.lie(saying(HTML, Content_Type="text/html")(operation))
    with pytest.raises(errors.DestinationError, match="a web page came instead of S3's answer"):
        vault(bucket, server).put_once(item())


# --- listings ---------------------------------------------------------------------------------------------------


def entry(key: str = "k", version: str = "v1", time: str = "2026-11-29T20:20:00.000Z", size: str = "5") -> str:
    return (
        f"<Version><Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>{time}</LastModified><Size>{size}</Size></Version>"
    )


def listing(*entries: str, more: str = "false", then: str = "", root: str = "ListVersionsResult") -> Answer:
    truncated = f"<IsTruncated>{more}</IsTruncated>" if more else ""
    return document(f"<{root}>{truncated}{then}{''.join(entries)}</{root}>")


def pages(*answers: Answer) -> Fault:
    """One after the other, the last for ever."""
    left = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda call, onward: next(left) if call.operation == "ListObjectVersions" else onward(call)


def then(key: str, version: str = "") -> str:
    part = f"<NextVersionIdMarker>{version}</NextVersionIdMarker>" if version else ""
    return f"<NextKeyMarker>{key}</NextKeyMarker>{part}"


@pytest.mark.parametrize(
    "time", ["2026-11-29 20:20:00 +0000 UTC", "1795983600", "2026-11-29T20:20:00", "Sun, 29 Nov 2026 20:20:00 GMT"]
)
def test_time_of_an_entry_is_read_however_it_is_spelled(bucket: Bucket, server: MemoryS3, time: str) -> None:
    server.lie(pages(listing(entry(time=time))))
    [[found]] = bucket.versions("")
    assert found.modified_at == datetime(2026, 11, 29, 20, 20, tzinfo=UTC)


@pytest.mark.parametrize("truncated", ["TRUE", " true ", "1"])
def test_more_that_follows_is_not_left_out_for_how_it_is_spelled(
    bucket: Bucket, server: MemoryS3, truncated: str
) -> None:
    server.lie(pages(listing(entry("a"), more=truncated), listing(entry("b"))))
    assert [each.key for page in bucket.versions("") for each in page] == ["a", "b"]


def test_page_without_a_marker_is_gone_on_from_behind_its_own_last_entry(bucket: Bucket, server: MemoryS3) -> None:
    asked_for: list[dict[str, list[str]]] = []

    def note(call: Call, onward: Onward) -> Answer | None:
        asked_for.append(call.query)
        return onward(call)

    server.lie(note, pages(listing(entry("a", "v2"), entry("a", "v1"), more="true"), listing(entry("b"))))
    assert [each.key for page in bucket.versions("") for each in page] == ["a", "a", "b"]
    assert (asked_for[1]["key-marker"], asked_for[1]["version-id-marker"]) == (["a"], ["v1"])


ENDLESS = {
    "the same page for ever": ([listing(entry(), more="true", then=then("k", "v1"))], "stands still"),
    "the same page, without a marker": ([listing(entry(), more="true")], "stands still"),
    "one marker for ever, other entries": (
        [listing(entry(f"k{n}"), more="true", then=then("k")) for n in range(5)],
        "stands still",
    ),
    "round and round within a key": (
        [listing(entry("k", f"v{n % 3}"), more="true", then=then("k", f"v{n % 3}")) for n in range(9)],
        "stands still",
    ),
    "back": ([listing(entry(k), more="true", then=then(k, "v1")) for k in "acb"], "goes back"),
    "empty pages with promises": (
        [listing(more="true", then=then(f"k{n:09}")) for n in range(s3_answer.EMPTY_PAGES + 9)],
        "show nothing",
    ),
    "more, and not where": ([listing(more="true")], "not where"),
    "no word whether it is all": ([listing(entry(), more="")], "is no listing"),
    "a word that says neither": ([listing(entry(), more="perhaps")], "is no listing"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_listing_without_a_provable_end_ends_as_a_failure(bucket: Bucket, server: MemoryS3, kind: str) -> None:
    answers, words = ENDLESS[kind]
    server.lie(pages(*answers))
    with pytest.raises(errors.DestinationError, match=words):
        for _ in bucket.versions(""):
            pass
    assert len(server.calls) <= s3_answer.EMPTY_PAGES + 2


NO_LISTING = {
    "a login page": Answer(200, {"Content-Type": "text/html"}, HTML),
    "a login page in XML": Answer(200, {}, XHTML),
    "nothing": Answer(200, {}, b""),
    "JSON": Answer(200, {"Content-Type": "application/json"}, b'{"Versions": []}'),
    "another document": document("<ListAllMyBucketsResponse/>"),
    "half a document": Answer(200, {}, b"<ListVersionsResult><IsTruncated>false</IsTrunc"),
    "an unknown encoding": Answer(200, {}, b'<?xml version="1.0" encoding="x-klingon"?><ListVersionsResult/>'),
    "zeros": Answer(200, {}, bytes(100)),
    "no time": listing(entry(time="")),
    "no size": listing(entry(size="many")),
    "no key": listing(entry(key="")),
}


@pytest.mark.parametrize("kind", NO_LISTING)
def test_page_that_is_no_listing_is_no_empty_bucket(bucket: Bucket, server: MemoryS3, kind: str, at_once: None) -> None:
    server.lie(pages(NO_LISTING[kind]))
    with pytest.raises(errors.DestinationError, match="ListObjectVersions"):
        list(bucket.versions(""))


def test_uploads_are_walked_to_a_provable_end_too(bucket: Bucket, server: MemoryS3) -> None:
    upload = "<Upload><Key>k</Key><UploadId>u</UploadId><Initiated>2026-11-29 20:20:00 +0000 UTC</Initiated></Upload>"
    for more in ("false", "true"):
        page = listing(upload, more=more, root="ListMultipartUploadsResult")
        server.lie(lambda call, onward, page=page: page if "uploads" in call.query else onward(call))  # type: ignore[misc]
        if more == "false":
            assert list(bucket.uploads("")) == [("k", "u", datetime(2026, 11, 29, 20, 20, tzinfo=UTC))]
        else:
            server.faults.reverse()
            with pytest.raises(errors.DestinationError, match="stands still"):
                list(bucket.uploads(""))


# --- everything at every verb -----------------------------------------------------------------------------------

DEEP = b"<a>" * 3000 + b"</a>" * 3000
BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "' + b"a" * 1000 + b'">]><ListVersionsResult>' + b"&a;" * 100 + b"</ListVersionsResult>"
)
ODD = [
    Answer(200, {}, b""), Answer(200, {}, XHTML), Answer(200, {"Content-Type": "text/html"}, HTML), Answer(200, {}, DEEP),
    Answer(200, {}, BOMB), Answer(200, {}, b"\xff\xfe\x00"), Answer(204, {}, b""), Answer(203, {}, b"<x/>"),
    Answer(200, {"Date": "2026-11-29T20:20:00Z", "Content-Type": ""}, b"<x/>"), Answer(200, {"Date": "yesterday"}, b"{}"),
    Answer(200, {"x-amz-version-id": "\xe9" * 50, "ETag": ""}, b"<ETag/>"),
    Answer(200, {"Last-Modified": "x", "Expires": "x", "x-amz-missing-meta": "x", "x-amz-mp-parts-count": "x"}, b"<x/>"),
    Answer(200, {"x-amz-server-side-encryption-bucket-key-enabled": "x", "Content-Range": "x"}, b"<x/>"),
    Answer(301, {}, b""), Answer(301, {"Location": "x", "x-amz-bucket-region": "<b>"}, XHTML), Answer(304, {}, b""),
    Answer(307, {"Location": "x"}, b"<Error><Code>TemporaryRedirect</Code><Region>\n</Region></Error>"),
    Answer(400, {}, b"<Error><Code><a><b/></a></Code></Error>"), Answer(400, {}, b"<Error/>"), Answer(400, {}, DEEP),
    Answer(403, {"Content-Type": "text/html"}, HTML), Answer(403, {"Retry-After": "soon"}, b'{"Error": 1}'),
    Answer(404, {}, b"<Error><Code>@here &amp; &lt;b&gt;</Code></Error>"), Answer(409, {}, b"<x>" * 10),
    Answer(429, {"Retry-After": "9" * 400}, b""), Answer(503, {"Retry-After": "Sun, 99 Nov 2026"}, b""), Answer(999, {}, b"?"),
    Answer(200, {}, b"<Error><Code>InternalError</Code></Error>"),
]  # fmt: skip
DIGESTS = Digests(sha256=base64_of(hashlib.sha256(BODY).digest()))
VERBS: dict[str, Callable[[Bucket], object]] = {
    "clock": lambda it: it.clock_skew(SystemClock().now),
    "owner": lambda it: it.refuses_owner("000000000000"),
    "versioning": lambda it: it.versioning(),
    "object lock": lambda it: it.lock_rules(),
    "put": lambda it: it.put("k", BODY, DIGESTS, lock=LOCK, if_absent=True, tags="a=b"),
    "head": lambda it: it.head("k", "v", checksum=True),
    "head plain": lambda it: it.head("k", None),
    "read": lambda it: list(it.read("k", None)),
    "versions": lambda it: list(it.versions("k")),
    "delete": lambda it: it.delete("k", "v", bypass=True),
    "retain": lambda it: it.retain("k", "v", LockMode.COMPLIANCE, UNTIL),
    "hold": lambda it: it.hold("k", "v", on=True, md5=True),
    "create upload": lambda it: it.create_upload("k", LOCK),
    "part": lambda it: it.upload_part("k", "u", 1, BODY, Digests(crc32="AAAAAA==")),
    "complete": lambda it: it.complete_upload("k", "u", [], if_absent=True),
    "abort": lambda it: it.abort_upload("k", "u"),
    "uploads": lambda it: list(it.uploads("")),
}


@pytest.mark.parametrize("verb", VERBS)
def test_no_answer_to_any_verb_raises_anything_but_a_typed_failure_with_plain_words(
    bucket: Bucket, server: MemoryS3, verb: str, at_once: None
) -> None:
    odd: list[Answer] = []
    server.lie(lambda *_: odd[0])
    for each in ODD:
        odd[:] = [each]
        told = outcome(VERBS[verb], bucket)
        if told is None:
            continue
        said, pause = str(told), getattr(told, "retry_after", None)
        assert isinstance(told, (errors.DestinationError, errors.NotFoundError)), each
        assert said.isprintable(), each
        assert not set("<>@&") & set(said), said
        assert len(said) < 300, said
        assert pause is None or pause < timedelta(days=40 * 365), each


def outcome(act: Callable[[Bucket], object], bucket: Bucket) -> errors.ArchiverError | None:
    try:
        act(bucket)
    except errors.ArchiverError as told:
        return told
    return None


# --- what passes has a passing effect ---------------------------------------------------------------------------


def probe(bucket: Bucket, options: S3Options, pauses: list[float]) -> Probe:
    return Probe(bucket, options, SystemClock(), SystemChance(), pauses.append)


@pytest.mark.parametrize(
    "operation", ["PutObject", "CreateMultipartUpload", "PutObjectRetention", "PutObjectLegalHold"]
)
def test_one_503_to_one_canary_is_waited_for_as_long_as_the_storage_asks(
    bucket: Bucket, server: MemoryS3, operation: str
) -> None:
    slow = Answer(503, {"Retry-After": "7"}, b"<Error><Code>SlowDown</Code></Error>")
    left = [slow]
    server.lie(lambda call, onward: left.pop() if call.operation == operation and left else onward(call))
    pauses: list[float] = []
    made = probe(bucket, options_for(server), pauses)
    report = made.run()
    assert report.trusted, report
    assert [each.name for each in report.checks if not each.ok] == []
    assert pauses == [7.0]


def test_storage_that_asks_for_more_than_a_probe_can_wait_is_left_alone_for_as_long(
    bucket: Bucket, server: MemoryS3
) -> None:
    server.lie(saying(b"<Error><Code>SlowDown</Code></Error>", 503, Retry_After="90")("PutObject"))
    pauses: list[float] = []
    with pytest.raises(Refused, match="asks for a pause") as told:
        probe(bucket, options_for(server), pauses).run()
    assert told.value.retry_after == timedelta(seconds=90)
    assert pauses == []


def test_storage_that_stays_in_trouble_is_given_up_in_time(bucket: Bucket, server: MemoryS3) -> None:
    server.lie(refuse("PutObject", 500, "InternalError"))
    pauses: list[float] = []
    with pytest.raises(Refused, match="InternalError"):
        probe(bucket, options_for(server), pauses).run()
    assert 0 < sum(pauses) < Patience.LONGEST


def test_one_400_to_a_head_costs_the_checksum_of_one_answer_only(bucket: Bucket, server: MemoryS3) -> None:
    pauses: list[float] = []
    made = probe(bucket, options_for(server), pauses)
    assert made.run().trusted
    keeper = vault(bucket, server)
    keeper.profile = made.profile
    left = [Answer(400, {}, b"")]

    def passing(call: Call, onward: Onward) -> Answer | None:
        asks = "x-amz-checksum-mode" in lowered(call)
        return left.pop() if left and asks else onward(call)

    server.lie(passing)
    assert keeper.put_once(item("one")).checked_by == "full-read"
    assert keeper.put_once(item("two")).checked_by == "head-checksum"


@pytest.mark.parametrize("nth", [1, 2, 4, 6])
def test_one_400_to_a_head_of_the_probe_changes_nothing(bucket: Bucket, server: MemoryS3, nth: int) -> None:
    heads = itertools.count(1)
    server.lie(
        lambda call, onward: (
            Answer(400, {}, b"") if call.operation == "HeadObject" and next(heads) == nth else onward(call)
        )
    )
    made = probe(bucket, options_for(server), [])
    report = made.run()
    assert next(heads) > nth
    assert [each.name for each in report.checks if not each.ok] == []
    assert made.profile.shows_checksum
    assert made.profile.checksum_proves


async def test_tags_refused_once_are_tried_again(server: MemoryS3, bucket: Bucket) -> None:
    store = S3Store(options_for(server), SystemClock(), SystemChance())
    left = [refused(400, "InvalidTag")]
    server.lie(lambda call, onward: left.pop() if left and "x-amz-tagging" in lowered(call) else onward(call))
    shelf = store.shelf()
    for name in ("tile/0/000.p/1", "tile/0/000.p/2"):
        await shelf.put_current(name, b"x")
    await store.aclose()
    assert [server.objects[f"calls/custody/{name}"][-1].tags for name in ("tile/0/000.p/1", "tile/0/000.p/2")] == [
        "",
        "partial=1",
    ]


# --- causes -----------------------------------------------------------------------------------------------------

CAUSES = {
    "a clock that differs": (
        refused(403, "RequestTimeTooSkewed", RequestTime="20261129T202000Z", ServerTime="2026-11-29T21:20:00Z"),
        "this host's clock and the storage's differ too much: set this host's clock",
    ),
    "by how much": (
        refused(403, "RequestTimeTooSkewed", RequestTime="2026-11-29T20:20:00Z", ServerTime="2026-11-29T21:20:00Z"),
        "3600 s behind: this host's clock",
    ),
    "an expired token": (refused(400, "ExpiredToken"), "the session token has expired: get a new one"),
    "an unknown key": (refused(403, "InvalidAccessKeyId"), "check access_key"),
    "a wrong secret": (refused(403, "SignatureDoesNotMatch"), "check secret_key"),
    "a suspended user (Ceph)": (refused(403, "UserSuspended"), "suspended or disabled: ask the storage's operator"),
    "a suspended account (AWS)": (refused(403, "AccountProblem"), "suspended or disabled"),
    "another region": (refused(301, "PermanentRedirect"), "the bucket is in another region: set region"),
    "another region, by its header": (
        replace(refused(301, "PermanentRedirect"), headers={"x-amz-bucket-region": "eu-central-1"}),
        "set region: eu-central-1",
    ),
    "another region, by its error": (
        refused(400, "AuthorizationHeaderMalformed", Region="eu-west-3"),
        "set region: eu-west-3",
    ),
    "a quota (Ceph)": (refused(403, "QuotaExceeded"), "make room or raise it"),
    "a full disk (MinIO)": (refused(507, "XMinioStorageFull"), "make room or raise it"),
    "a full disk (WebDAV's status)": (Answer(507, {}, b""), "make room or raise it"),
    "a spending cap (B2)": (refused(403, "TransactionCapExceeded"), "spending cap"),
    "no such bucket": (refused(404, "NoSuchBucket"), "there is no such bucket: check bucket"),
    "a missing right": (refused(403, "AccessDenied"), "s3:PutObjectRetention"),
    "a function that is not there": (refused(501, "NotImplemented"), "does not have this function"),
    "a pause": (refused(503, "SlowDown"), "asks for a pause"),
    "a gateway's error": (Answer(502, {"Content-Type": "text/html"}, HTML), "a proxy or a gateway"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_refusal_says_why_and_what_to_do_and_keeps_code_and_status(
    bucket: Bucket, server: MemoryS3, cause: str, at_once: None
) -> None:
    answer, words = CAUSES[cause]
    server.lie(lambda *_: answer)
    with pytest.raises(Refused) as told:
        bucket.put("k", BODY, DIGESTS, lock=LOCK)
    assert words in told.value.detail
    assert str(answer.status) in told.value.detail
    assert told.value.code in told.value.detail or told.value.nameless


@pytest.mark.parametrize("cause", ["by how much", "an expired token", "a wrong secret", "a suspended user (Ceph)"])
def test_head_tells_no_reason_and_one_get_does(bucket: Bucket, server: MemoryS3, cause: str) -> None:
    answer, words = CAUSES[cause]
    server.lie(lambda call, _: replace(answer, body=b"") if call.method == "HEAD" else answer)
    for ask in (VERBS["clock"], VERBS["head plain"]):
        with pytest.raises(Refused, match="Head") as told:
            ask(bucket)
        assert words in told.value.detail
        assert told.value.passing


@pytest.mark.parametrize("status", [200, 403, 503])
@pytest.mark.parametrize("verb", ["versioning", "versions", "read"])
async def test_answer_without_an_end_is_given_up_before_it_fills_the_memory(
    server: MemoryS3, at_once: None, status: int, verb: str
) -> None:
    """The SDK by itself reads on for as long as bytes come."""
    taken = 0

    async def endless(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        writer.write(b"HTTP/1.1 %d Odd\r\nContent-Type: application/xml\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
        while taken < 1 << 30:  # so that a failure of this test does not fill the memory either
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            taken += 0x10000
            await writer.drain()

    asks: dict[str, Callable[[Bucket], object]] = {
        "versioning": lambda it: it.versioning(),
        "versions": lambda it: list(it.versions("recordings/")),
        "read": lambda it: it.read("recordings/x", None).__next__(),
    }
    async with serve(endless) as odd:
        bucket = Bucket(replace(options_for(server), endpoint=odd.origin))
        try:
            if (verb, status) != ("read", 200):  # whoever reads an object has its own limit
                with pytest.raises(errors.DestinationError):
                    await asyncio.to_thread(asks[verb], bucket)
            assert taken < 4 * (LARGEST + (8 << 20))
        finally:
            bucket.close()


@pytest.mark.parametrize("allowed", [False, True])
def test_bucket_that_may_not_be_looked_at_is_a_missing_right_only_when_nothing_is_allowed(
    bucket: Bucket, server: MemoryS3, allowed: bool
) -> None:
    server.lie(refusing(403, "AccessDenied", lambda call: call.method == "HEAD" or not allowed))
    if allowed:
        skew = bucket.clock_skew(SystemClock().now)
        assert skew is not None
        assert abs(skew) < timedelta(minutes=1)
    else:
        with pytest.raises(Refused, match="may not use this bucket"):
            bucket.clock_skew(SystemClock().now)


def unreached(options: S3Options) -> str:
    bucket = Bucket(options)
    try:
        with pytest.raises(errors.DestinationError) as told:
            bucket.versioning()
        return told.value.detail
    finally:
        bucket.close()


def test_endpoint_that_is_not_there_says_why(server: MemoryS3, at_once: None) -> None:
    options = options_for(server)
    assert "the name of the endpoint is not found" in unreached(replace(options, endpoint="http://s3.nowhere.invalid"))
    assert "nobody listens at the endpoint" in unreached(replace(options, endpoint="http://127.0.0.1:9"))
    told = unreached(replace(options, endpoint=server.endpoint.replace("http:", "https:")))
    assert "TLS fails" in told


async def test_certificate_that_is_not_trusted_says_why(tmp_path: Path, server: MemoryS3, at_once: None) -> None:
    made = authority(tmp_path)
    told = {}
    for name, context, bundle in [
        ("unknown", made.context(), None),
        ("expired", made.context(days=-1), made.bundle),
        ("other", made.context(names=("s3.example",)), made.bundle),
    ]:
        async with serve(says(raw_answer(200)), context) as tls:
            options = replace(options_for(server), endpoint=tls.origin, ca_bundle=bundle)
            told[name] = await asyncio.to_thread(unreached, options)
    assert "set ca_bundle" in told["unknown"]
    assert "it has expired" in told["expired"]
    assert "it is for another" in told["other"]
