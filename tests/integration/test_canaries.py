"""Canaries go when their day is over: every version of theirs, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.s3 import S3Options, S3Store
from archiver.store.s3_bucket import Bucket
from archiver.store.s3_canary import listed, spent, sweep
from archiver.store.s3_values import Digests, base64_of
from tests.lying_s3 import lose_answer, refuse
from tests.memory_s3 import Kept, MemoryS3, memory_s3, options_for

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
UUID = "01a22a58-7aa5-74be-8606-73304a11c5b"
OLD = [f"calls/canary/{UUID}{n}" for n in range(5)]
OTHERS = [
    "calls/canary/notes",
    f"calls/canary/{UUID}",
    f"calls/canary/{UUID}0/x",
    f"calls/canary/{UUID}00",
    f"calls/recordings/{UUID}0",
    f"canary/{UUID}0",
    f"other/calls/canary/{UUID}0",
    "calls/custody/checkpoint",
]


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    """Five canaries two days old: plain, covered twice, still held, still locked, one more; and other things."""
    with memory_s3() as made:
        old, until = datetime.now(UTC) - 2 * DAY, datetime.now(UTC) - DAY
        for n, key in enumerate(OLD):
            made.objects[key] = [Kept(f"c{n}", b"canary", mode="COMPLIANCE", until=until, at=old)]
        made.objects[OLD[1]] += [Kept("over", b"", at=old), Kept("marker", marker=True, at=old)]
        made.objects[OLD[2]][0].hold = True
        made.objects[OLD[3]][0].until = datetime.now(UTC) + DAY
        for key in OTHERS:
            made.objects[key] = [Kept("o", b"not ours to delete", at=old)]
        made.objects[f"calls/canary/{UUID}9"] = [Kept("young", b"canary", at=datetime.now(UTC) - 23 * HOUR)]
        yield made


def swept(bucket: Bucket, now: datetime) -> int:
    return sweep(bucket, spent(listed(bucket, "calls/"), "calls/", now))


def left(server: MemoryS3) -> dict[str, list[str]]:
    return {key: [each.version for each in kept] for key, kept in server.objects.items() if kept}


KEPT = {**{key: ["o"] for key in OTHERS}, OLD[3]: ["c3"], f"calls/canary/{UUID}9": ["young"]}


def test_every_version_of_a_canary_goes_when_its_lock_has_ended_and_nothing_else(server: MemoryS3) -> None:
    bucket = Bucket(options_for(server))
    assert swept(bucket, datetime.now(UTC)) == 6
    assert left(server) == KEPT
    assert swept(bucket, datetime.now(UTC)) == 0
    bucket.close()


async def test_each_probe_takes_the_canaries_of_earlier_ones_with_it(server: MemoryS3) -> None:
    store = S3Store(options_for(server), SystemClock(), SystemChance())
    assert (await store.probe()).trusted
    assert {key: versions for key, versions in left(server).items() if key in {*OTHERS, *OLD}} == {
        key: versions for key, versions in KEPT.items() if not key.endswith("9")
    }
    await store.aclose()


@pytest.mark.parametrize("fault", [refuse("DeleteObject", 503, "SlowDown"), lose_answer("DeleteObject", None)])
def test_deletion_that_fails_or_whose_answer_is_lost_is_made_up_for_by_the_next(
    server: MemoryS3, fault: object
) -> None:
    bucket = Bucket(options_for(server))
    server.lie(fault)  # type: ignore[arg-type]
    swept(bucket, datetime.now(UTC))
    server.faults.clear()
    swept(bucket, datetime.now(UTC))
    assert left(server) == KEPT
    bucket.close()


async def test_listing_that_is_forbidden_costs_no_trust(server: MemoryS3) -> None:
    server.lie(
        lambda call, onward: (
            refuse("ListObjectVersions", 403, "AccessDenied")(call, onward)
            if call.query.get("prefix") == ["calls/canary/"]
            else onward(call)
        )
    )
    store = S3Store(options_for(server), SystemClock(), SystemChance())
    assert (await store.probe()).trusted
    assert len(left(server)) > len(KEPT)
    await store.aclose()


async def test_canary_of_a_real_server_stays_while_it_is_locked_and_goes_afterwards(s3_options: S3Options) -> None:
    bucket, body = Bucket(s3_options), b"canary"
    digests = Digests(sha256=base64_of(hashlib.sha256(body).digest()))
    lock = Lock(LockMode.COMPLIANCE, datetime.now(UTC) + timedelta(seconds=3))
    bucket.put(OLD[0], body, digests, lock=lock)
    bucket.put(OLD[0], body, digests)
    tomorrow = datetime.now(UTC) + 2 * DAY
    assert swept(bucket, tomorrow) == 1
    give_up = SystemClock().monotonic() + 30
    while swept(bucket, tomorrow) == 0:
        assert SystemClock().monotonic() < give_up
    assert [each for page in bucket.versions("calls/canary/") for each in page] == []
    bucket.close()
