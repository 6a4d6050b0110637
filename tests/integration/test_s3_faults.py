"""Each effect of `put_once` fails two ways: refused, and done while the answer is lost. Neither may lose or double an object."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.s3 import S3Options, S3Store
from archiver.store.s3_values import Digests, base64_of
from tests import lying_s3 as lies
from tests.lying_s3 import Fault, LyingS3
from tests.sealed_files import SealedFile, listed, pattern, read_all, sealed_file

KEY = "recordings/2026/05/ab/abcdef"
MIB = 1024 * 1024
SINGLE, MULTIPART = 1000, 11 * MIB


@pytest.fixture
async def store(lying_s3: LyingS3, s3_options: S3Options) -> AsyncIterator[S3Store]:
    """A store that proved itself before the faults begin."""
    options = replace(
        s3_options, endpoint=lying_s3.endpoint, multipart_threshold=5 * MIB, single_limit=5 * MIB, part_size=5 * MIB
    )
    made = S3Store(options, SystemClock(), SystemChance())
    assert (await made.probe()).trusted
    lying_s3.calls.clear()
    lying_s3.headers.clear()
    yield made
    await made.aclose()


@pytest.fixture(params=[SINGLE, MULTIPART], ids=["single", "multipart"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> SealedFile:
    return sealed_file(tmp_path, pattern(request.param))


@pytest.fixture
def lock() -> Lock:
    return Lock(LockMode.COMPLIANCE, datetime.now(UTC) + timedelta(days=2))


def creating(file: SealedFile) -> str:
    """The call that brings the object into being."""
    return "PutObject" if file.size == SINGLE else "CompleteMultipartUpload"


async def test_put_is_refused_and_later_taken(store: S3Store, lying_s3: LyingS3, file: SealedFile, lock: Lock) -> None:
    lying_s3.lie(lies.refuse(creating(file), 503, "SlowDown", times=1))
    with pytest.raises(errors.DestinationError, match="SlowDown"):
        await file.put(store, KEY, lock)
    assert await listed(store) == []
    stored = await file.put(store, KEY, lock)
    assert [each.version_id for each in await listed(store)] == [stored.version_id]


async def test_request_lost_before_put_is_repeated(
    store: S3Store, lying_s3: LyingS3, file: SealedFile, lock: Lock
) -> None:
    lying_s3.lie(lies.lose_request(creating(file)))
    stored = await file.put(store, KEY, lock)
    assert await read_all(store, stored) == file.path.read_bytes()
    assert len(await listed(store)) == 1


async def test_answer_lost_after_put_does_not_duplicate(
    store: S3Store, lying_s3: LyingS3, file: SealedFile, lock: Lock
) -> None:
    lying_s3.lie(lies.lose_answer(creating(file)))
    stored = await file.put(store, KEY, lock)
    assert stored.sealed_sha256 == file.sealed_sha256
    assert stored.lock_mode is LockMode.COMPLIANCE
    assert [each.version_id for each in await listed(store)] == [stored.version_id]


async def test_every_answer_lost_after_put_does_not_duplicate(
    store: S3Store, lying_s3: LyingS3, file: SealedFile, lock: Lock
) -> None:
    """Twice in a row, as when the network dies: the caller is told to come back, and then finds the object."""
    lying_s3.lie(lies.lose_answer(creating(file), times=None), lies.lose_answer("HeadObject", None))
    with pytest.raises(errors.DestinationError):
        await file.put(store, KEY, lock)
    lying_s3.faults.clear()
    stored = await file.put(store, KEY, lock)
    assert [each.version_id for each in await listed(store)] == [stored.version_id]


async def test_error_answered_after_put_was_done_does_not_duplicate(
    store: S3Store, lying_s3: LyingS3, file: SealedFile, lock: Lock
) -> None:
    """500 after the commit; for a multipart upload S3 also says so with status 200 and an error in the body."""
    lying_s3.lie(lies.fail_after(creating(file), 500 if file.size == SINGLE else 200))
    with pytest.raises(errors.DestinationError, match="InternalError"):
        await file.put(store, KEY, lock)
    stored = await file.put(store, KEY, lock)
    assert [each.version_id for each in await listed(store)] == [stored.version_id]


async def test_answer_lost_where_conditions_are_ignored_does_not_duplicate(
    s3_options: S3Options, lying_s3: LyingS3, file: SealedFile, lock: Lock
) -> None:
    lying_s3.lie(lies.ignore_conditions())
    options = replace(
        s3_options, endpoint=lying_s3.endpoint, multipart_threshold=5 * MIB, single_limit=5 * MIB, part_size=5 * MIB
    )
    store = S3Store(options, SystemClock(), SystemChance())
    assert (await store.probe()).trusted
    assert not store.profile.conditional_single
    assert not store.profile.conditional_multipart
    lying_s3.lie(lies.lose_answer(creating(file)))
    stored = await file.put(store, KEY, lock)
    await file.put(store, KEY, lock)
    assert [each.version_id for each in await listed(store)] == [stored.version_id]
    await store.aclose()


async def test_lost_race_is_tried_again(store: S3Store, lying_s3: LyingS3, file: SealedFile, lock: Lock) -> None:
    lying_s3.lie(lies.refuse(creating(file), 409, "ConditionalRequestConflict", times=1))
    await file.put(store, KEY, lock)
    assert len(await listed(store)) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (403, "RequestTimeTooSkewed"), (400, "ExpiredToken"), (403, "InvalidAccessKeyId"),
     (404, "NoSuchBucket"), (429, "TooManyRequests"), (500, "InternalError"), (503, "SlowDown"), (507, "")],
)  # fmt: skip
async def test_refusal_blames_the_storage_not_the_object(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock, status: int, code: str
) -> None:
    file = sealed_file(tmp_path, b"a secret recording")
    lying_s3.lie(lies.refuse("PutObject", status, code))
    with pytest.raises(errors.DestinationError) as refused:
        await file.put(store, KEY, lock)
    assert code in refused.value.detail
    assert str(status) in refused.value.detail
    assert lying_s3.calls.count("PutObject") == 1, "a refusal is the caller's to repeat"


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart"])
@pytest.mark.parametrize("fault", ["refused", "request lost", "answer lost"])
async def test_upload_broken_midway_leaves_nothing_and_is_taken_later(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock, operation: str, fault: str
) -> None:
    file = sealed_file(tmp_path, pattern(MULTIPART))
    broken: dict[str, Fault] = {
        "refused": lies.refuse(operation, 403, "ExpiredToken"),
        "request lost": lies.lose_request(operation, times=None),
        "answer lost": lies.lose_answer(operation, times=None),
    }
    lying_s3.lie(broken[fault])
    with pytest.raises(errors.DestinationError):
        await file.put(store, KEY, lock)
    assert await listed(store) == []
    lying_s3.faults.clear()
    stored = await file.put(store, KEY, lock)
    assert await read_all(store, stored) == file.path.read_bytes()
    assert len(await listed(store)) == 1
    # Only a CreateMultipartUpload whose answer was lost leaves an upload that nobody can name: the sweep's work.
    left = await store.sweep_uploads(timedelta(seconds=-5))
    assert (left > 0) is ((operation, fault) == ("CreateMultipartUpload", "answer lost"))
    assert await store.sweep_uploads(timedelta(seconds=-5)) == 0


async def test_sweep_leaves_young_uploads_alone(store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock) -> None:
    file = sealed_file(tmp_path, pattern(MULTIPART))
    lying_s3.lie(lies.lose_answer("CreateMultipartUpload", times=None))
    with pytest.raises(errors.DestinationError):
        await file.put(store, KEY, lock)
    assert await store.sweep_uploads(timedelta(hours=24)) == 0
    assert await store.sweep_uploads(timedelta(seconds=-5)) > 0


@pytest.mark.parametrize("operation", ["HeadObject", "GetObject"])
async def test_read_back_that_fails_claims_nothing_and_is_made_up_later(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock, operation: str
) -> None:
    file = sealed_file(tmp_path, pattern(MULTIPART))
    lying_s3.lie(lies.refuse(operation, 503, "SlowDown"))
    with pytest.raises(errors.DestinationError):
        await file.put(store, KEY, lock)
    lying_s3.faults.clear()
    await file.put(store, KEY, lock)
    assert len(await listed(store)) == 1


@pytest.mark.parametrize("fault", ["refused", "answer lost"])
async def test_longer_lock_that_fails_is_made_up_later(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock, fault: str
) -> None:
    stored = await sealed_file(tmp_path, b"x").put(store, KEY, lock)
    assert stored.retain_until is not None
    until = stored.retain_until + timedelta(days=5)
    lying_s3.lie(
        lies.refuse("PutObjectRetention", 503, "SlowDown", times=1)
        if fault == "refused"
        else lies.lose_answer("PutObjectRetention")
    )
    with pytest.raises(errors.DestinationError):
        await store.extend(stored.key, stored.version_id, until)
    assert (await store.extend(stored.key, stored.version_id, until)).retain_until == until


@pytest.mark.parametrize("fault", ["refused", "answer lost"])
async def test_legal_hold_that_fails_is_made_up_later(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock, fault: str
) -> None:
    stored = await sealed_file(tmp_path, b"x").put(store, KEY, lock)
    lying_s3.lie(
        lies.refuse("PutObjectLegalHold", 503, "SlowDown", times=1)
        if fault == "refused"
        else lies.lose_answer("PutObjectLegalHold")
    )
    with pytest.raises(errors.DestinationError):
        await store.hold(stored.key, stored.version_id, True)
    assert (await store.hold(stored.key, stored.version_id, True)).legal_hold
    assert not (await store.hold(stored.key, stored.version_id, False)).legal_hold


async def test_body_cut_while_reading_is_an_error_not_an_end(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock
) -> None:
    stored = await sealed_file(tmp_path, pattern(3 * MIB)).put(store, KEY, lock)
    lying_s3.lie(lies.cut_on_read(after=2 * MIB + 17))
    with pytest.raises(errors.DestinationError):
        await read_all(store, stored)


async def test_storage_that_is_down_is_unreachable(s3_options: S3Options, tmp_path: Path, lock: Lock) -> None:
    store = S3Store(replace(s3_options, endpoint="http://127.0.0.1:9"), SystemClock(), SystemChance())
    with pytest.raises(errors.DestinationError):
        await store.probe()
    with pytest.raises(errors.DestinationError) as failed:
        await sealed_file(tmp_path, b"x").put(store, KEY, lock)
    assert "127.0.0.1" not in str(failed.value)
    await store.aclose()


async def test_delete_marker_over_our_object_does_not_hide_it(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock
) -> None:
    """A lock protects versions, not names (reference: Object Lock trap)."""
    file = sealed_file(tmp_path, b"x")
    stored = await file.put(store, KEY, lock)
    store._bucket.delete(stored.key)
    assert await read_all(store, stored) == b"x"
    assert await store.inspect(stored.key, None) is None
    assert [each.is_delete_marker for each in await listed(store)] == [True, False]


async def test_other_bytes_put_over_our_object_do_not_hide_it(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock
) -> None:
    file = sealed_file(tmp_path, b"ours")
    stored = await file.put(store, KEY, lock)
    store._bucket.put(stored.key, b"evil", Digests(sha256=base64_of(hashlib.sha256(b"evil").digest())))
    again = await file.put(store, KEY, lock)
    assert again.version_id == stored.version_id
    assert await read_all(store, again) == b"ours"
    assert [each.is_latest for each in await listed(store)] == [True, False]


async def test_same_bytes_put_over_our_object_do_not_replace_it(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path, lock: Lock
) -> None:
    """The oldest version counts: it is the one whose lock and version id stand in evidence."""
    file = sealed_file(tmp_path, b"ours")
    stored = await file.put(store, KEY, lock)
    store._bucket.put(stored.key, b"ours", Digests(sha256=base64_of(hashlib.sha256(b"ours").digest())))
    assert (await file.put(store, KEY, lock)).version_id == stored.version_id


async def test_body_is_hashed_once_and_sent_without_trailer(
    store: S3Store, lying_s3: LyingS3, file: SealedFile, lock: Lock
) -> None:
    """boto3 hashes the body a third time to sign it unless told otherwise; the Ceph gateway refuses trailers over TLS."""
    await file.put(store, KEY, lock)
    uploads = [
        {name.lower(): value for name, value in headers.items()}
        for operation, headers in zip(lying_s3.calls, lying_s3.headers, strict=True)
        if operation in {"PutObject", "UploadPart"}
    ]
    assert len(uploads) == (1 if file.size == SINGLE else 3)
    for headers in uploads:
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert "x-amz-trailer" not in headers
        assert ("x-amz-checksum-sha256" in headers) is (file.size == SINGLE)
        assert ("x-amz-checksum-crc32" in headers) is (file.size != SINGLE)
