"""Large objects in one PUT, and PUTs that a storage finishes later than we wait. Requests are counted by the proxy."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver import errors
from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.s3 import S3Options, S3Store
from tests import lying_s3 as lies
from tests.lying_s3 import LyingS3
from tests.sealed_files import SealedFile, listed, pattern, read_all, sealed_file

KEY = "recordings/2026/05/ab/abcdef"
MIB = 1024 * 1024
MINUTE = timedelta(minutes=1)


class Watch(SystemClock):
    """The true time, and a stopwatch that is put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead.total_seconds()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def store(lying_s3: LyingS3, s3_options: S3Options, watch: Watch) -> AsyncIterator[S3Store]:
    """A store that proved itself before the faults begin, with the limits that it is shipped with."""
    made = S3Store(replace(s3_options, endpoint=lying_s3.endpoint), watch, SystemChance())
    assert (await made.probe()).trusted
    lying_s3.calls.clear()
    yield made
    await made.aclose()


@pytest.fixture
def large(tmp_path: Path) -> SealedFile:
    return sealed_file(tmp_path, pattern(17 * MIB))


@pytest.fixture
def lock() -> Lock:
    return Lock(LockMode.COMPLIANCE, datetime.now(UTC) + timedelta(days=2))


async def test_large_object_costs_one_put_and_one_head_and_is_not_read_back(
    store: S3Store, lying_s3: LyingS3, large: SealedFile, lock: Lock
) -> None:
    stored = await large.put(store, KEY, lock)
    assert lying_s3.calls == ["PutObject", "HeadObject"]
    assert (stored.sealed_sha256, stored.checked_by) == (large.sealed_sha256, "head-checksum")
    assert await read_all(store, stored) == large.path.read_bytes()


async def test_large_object_is_never_taken_with_bytes_that_changed_on_the_way(
    store: S3Store, lying_s3: LyingS3, large: SealedFile, lock: Lock
) -> None:
    lying_s3.lie(lies.flip_on_wire())
    with pytest.raises(errors.VerificationError):
        await large.put(store, KEY, lock)
    assert await listed(store) == []


@pytest.mark.parametrize("sign", [False, True])
async def test_large_object_is_streamed_whatever_is_signed(
    s3_options: S3Options, tmp_path: Path, lock: Lock, *, sign: bool
) -> None:
    large = sealed_file(tmp_path, pattern(18 * MIB))
    store = S3Store(replace(s3_options, sign_payload=sign), SystemClock(), SystemChance())
    assert (await store.probe()).trusted
    tracemalloc.start()
    try:
        stored = await large.put(store, KEY, lock)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        await store.aclose()
    assert stored.checked_by == "head-checksum"
    assert peak < 4 * MIB


async def test_body_that_a_proxy_calls_too_large_goes_in_parts_and_so_do_the_next(
    store: S3Store, lying_s3: LyingS3, large: SealedFile, lock: Lock
) -> None:
    lying_s3.lie(lies.refuse_large(10 * MIB))
    for key in (KEY, f"{KEY}0"):
        stored = await large.put(store, key, lock)
        assert await read_all(store, stored) == large.path.read_bytes()
    assert lying_s3.calls.count("PutObject") == 1
    assert lying_s3.calls.count("CompleteMultipartUpload") == 2


async def test_large_put_whose_answer_is_lost_is_found_and_not_sent_again(
    store: S3Store, lying_s3: LyingS3, large: SealedFile, lock: Lock
) -> None:
    lying_s3.lie(lies.lose_answer("PutObject"))
    stored = await large.put(store, KEY, lock)
    assert lying_s3.calls.count("PutObject") == 1
    assert [each.version_id for each in await listed(store)] == [stored.version_id]


async def test_large_put_that_never_arrives_goes_in_parts_until_the_storage_proves_itself_again(
    store: S3Store, lying_s3: LyingS3, large: SealedFile, lock: Lock
) -> None:
    lying_s3.lie(lies.lose_request("PutObject", times=None))
    stored = await large.put(store, KEY, lock)
    assert [each.version_id for each in await listed(store)] == [stored.version_id]
    lying_s3.faults.clear()
    await store.probe()
    lying_s3.calls.clear()
    await large.put(store, f"{KEY}0", lock)
    assert lying_s3.calls == ["PutObject", "HeadObject"]


@pytest.mark.parametrize("parts", [False, True], ids=["single", "parts"])
async def test_put_finished_late_where_conditions_are_ignored_does_not_duplicate(
    s3_options: S3Options, lying_s3: LyingS3, tmp_path: Path, lock: Lock, watch: Watch, *, parts: bool
) -> None:
    """The object comes into being after we gave up waiting; what was sent again meanwhile would be locked beside it."""
    file = sealed_file(tmp_path, pattern(6 * MIB))
    options = replace(s3_options, endpoint=lying_s3.endpoint)
    if parts:
        options = replace(options, multipart_threshold=5 * MIB, single_limit=5 * MIB, part_size=5 * MIB)
    store = S3Store(options, watch, SystemChance())
    lying_s3.lie(lies.ignore_conditions())
    assert (await store.probe()).trusted
    creating = "CompleteMultipartUpload" if parts else "PutObject"
    may, done = threading.Event(), threading.Event()
    lying_s3.lie(lies.finish_late(creating, may, done))
    lying_s3.calls.clear()
    for _ in range(2):
        with pytest.raises(errors.DestinationError, match="may still finish"):
            await file.put(store, KEY, lock)
    assert lying_s3.calls.count(creating) == 1
    may.set()
    assert done.wait(30)
    stored = await file.put(store, KEY, lock)
    assert lying_s3.calls.count(creating) == 1
    assert [each.version_id for each in await listed(store)] == [stored.version_id]
    await store.aclose()


async def test_put_that_never_arrived_where_conditions_are_ignored_is_sent_again_later(
    s3_options: S3Options, lying_s3: LyingS3, tmp_path: Path, lock: Lock, watch: Watch
) -> None:
    file = sealed_file(tmp_path, b"x")
    store = S3Store(replace(s3_options, endpoint=lying_s3.endpoint), watch, SystemChance())
    lying_s3.lie(lies.ignore_conditions())
    assert (await store.probe()).trusted
    lying_s3.lie(lies.lose_request("PutObject"))
    with pytest.raises(errors.DestinationError):
        await file.put(store, KEY, lock)
    watch.ahead = 3 * MINUTE
    stored = await file.put(store, KEY, lock)
    assert [each.version_id for each in await listed(store)] == [stored.version_id]
    await store.aclose()


async def test_put_without_an_answer_that_a_delete_marker_covers_is_found_where_conditions_are_ignored(
    s3_options: S3Options, lying_s3: LyingS3, tmp_path: Path, lock: Lock, watch: Watch
) -> None:
    file = sealed_file(tmp_path, b"x")
    store = S3Store(replace(s3_options, endpoint=lying_s3.endpoint), watch, SystemChance())
    lying_s3.lie(lies.ignore_conditions())
    assert (await store.probe()).trusted

    def covered(call: lies.Call, onward: lies.Onward) -> lies.Answer | None:
        if call.operation != "PutObject":
            return onward(call)
        onward(call)
        onward(lies.Call("DELETE", call.path, {}, b""))
        return None

    lying_s3.lie(covered)
    await file.put(store, KEY, lock)
    assert [each.is_delete_marker for each in await listed(store)] == [True, False]
    await store.aclose()
