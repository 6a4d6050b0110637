"""A bucket that locks by itself: what is to stay is locked no shorter than that, what is not to stay is locked for a day."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store import s3_ways
from archiver.store.port import Check
from archiver.store.s3 import S3Options, S3Store
from archiver.store.s3_default import DefaultRetention, stated
from tests.lying_s3 import Answer, Call, LyingS3
from tests.memory_s3 import MemoryS3, document, memory_s3, options_for
from tests.sealed_files import sealed_file

DAY = timedelta(days=1)
SLACK = timedelta(minutes=5)
TEN_YEARS = DefaultRetention(LockMode.COMPLIANCE, years=10)
COMPLIANCE, GOVERNANCE, OFF = LockMode.COMPLIANCE, LockMode.GOVERNANCE, LockMode.OFF


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("default", "now", "until"),
    [
        (DefaultRetention(COMPLIANCE, days=30), "2026-11-30T12:00", "2026-12-31T00:00"),
        (DefaultRetention(COMPLIANCE, days=30), "2026-11-30T23:59:59", "2026-12-31T00:00"),
        (TEN_YEARS, "2026-11-30T00:00", "2036-12-01T00:00"),
        (TEN_YEARS, "2028-02-28T12:00", "2038-03-01T00:00"),
        (DefaultRetention(COMPLIANCE, years=4), "2028-02-28T12:00", "2032-03-01T00:00"),
    ],
)
def test_lock_by_default_ends_at_midnight_and_never_before_the_buckets_own(
    default: DefaultRetention, now: str, until: str
) -> None:
    assert default.until(at(now)) == at(until)
    short, long = Lock(COMPLIANCE, at(now) + DAY), Lock(COMPLIANCE, at("2099-01-01"))
    assert default.at_least(short, at(now)).retain_until == at(until)
    assert default.at_least(long, at(now)) == long
    assert default.at_least(Lock(OFF, None), at(now)) == Lock(OFF, None)


@pytest.mark.parametrize(
    ("rule", "default"),
    [
        ({"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 10}}, TEN_YEARS),
        ({"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}, DefaultRetention(GOVERNANCE, days=1)),
        (None, None),
        ({}, None),
        ({"DefaultRetention": {"Mode": "SOMETHING", "Days": 1}}, None),
        ({"DefaultRetention": {"Mode": "COMPLIANCE"}}, None),
        ({"DefaultRetention": {"Mode": "COMPLIANCE", "Days": -1}}, None),
        ({"DefaultRetention": "x"}, None),
    ],
)
def test_default_is_read_as_buckets_state_it(rule: object, default: DefaultRetention | None) -> None:
    assert stated(rule) == default


@dataclass
class Defaulting(MemoryS3):
    """Locks by itself for ten years. `overrides`: also what states a shorter lock."""

    overrides: bool = False

    def _bucket(self, call: Call, query: dict[str, str]) -> Answer:
        if "object-lock" in query:
            rule = "<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Years>10</Years></DefaultRetention></Rule>"
            enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
            return document(f"<ObjectLockConfiguration>{enabled}{rule}</ObjectLockConfiguration>")
        return super()._bucket(call, query)

    def _keep(self, key: str, headers: Mapping[str, str], body: bytes, checksum: str | None = None) -> Answer:
        if self.overrides or "x-amz-object-lock-mode" not in headers:
            until = f"{datetime.now(UTC) + timedelta(days=3652):%Y-%m-%dT%H:%M:%SZ}"
            headers = {**headers, "x-amz-object-lock-mode": "COMPLIANCE", "x-amz-object-lock-retain-until-date": until}
        return super()._keep(
            key, headers, body, checksum if checksum is not None else headers.get("x-amz-checksum-sha256", "")
        )


async def probed(server: MemoryS3, mode: LockMode) -> tuple[S3Store, Check, bool]:
    store = S3Store(options_for(server, mode), SystemClock(), SystemChance())
    report = await store.probe()
    (check,) = [each for each in report.checks if each.name == "default-retention"]
    await store.aclose()
    return store, check, report.trusted


def locked_for_long(server: MemoryS3) -> list[str]:
    brief = datetime.now(UTC) + DAY + SLACK
    return [key for key, kept in server.objects.items() for each in kept if each.until and each.until > brief]


@pytest.mark.parametrize("mode", [COMPLIANCE, GOVERNANCE, OFF])
async def test_probe_reads_the_default_warns_of_it_and_leaves_nothing_locked_for_years(mode: LockMode) -> None:
    with memory_s3(Defaulting) as server:
        store, check, trusted = await probed(server, mode)
    assert trusted
    assert (check.ok, check.fatal) == (False, False)
    assert "10 years in compliance mode" in check.detail
    assert store.profile.default == TEN_YEARS
    assert server.objects
    assert locked_for_long(server) == []


async def test_default_that_may_not_be_asked_for_is_seen_by_what_states_no_lock() -> None:
    with memory_s3(Defaulting) as server:
        ask = lambda call: call.operation == "GET bucket" and "object-lock" in call.query  # noqa: E731
        server.lie(lambda call, onward: denied() if ask(call) else onward(call))
        store = S3Store(options_for(server), SystemClock(), SystemChance())
        for _ in range(2):
            report = await store.probe()
        await store.aclose()
    assert report.trusted
    assert "default-retention" in {each.name for each in report.checks if not each.ok}
    assert store.profile.default is not None
    assert store.profile.default.until(datetime.now(UTC)) > datetime.now(UTC) + timedelta(days=3650)
    assert len(locked_for_long(server)) == 1, "the second probe knows already"


def denied() -> Answer:
    return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")


async def test_bucket_that_overrides_shorter_locks_is_told_of() -> None:
    with memory_s3(Defaulting) as server:
        assert isinstance(server, Defaulting)
        server.overrides = True
        _, check, _ = await probed(server, COMPLIANCE)
    assert "overrides shorter locks" in check.detail


async def test_bucket_without_a_default_locks_nothing_by_itself(s3_options: S3Options) -> None:
    store = S3Store(s3_options, SystemClock(), SystemChance())
    report = await store.probe()
    assert {each.ok for each in report.checks if each.name == "default-retention"} == {True}
    assert store.profile.default is None
    await store.aclose()


def test_default_is_kept_with_the_ways_of_a_proof() -> None:
    options = options_for(memory_s3_at_rest())
    profile = replace(S3Store(options, SystemClock(), SystemChance()).profile, default=TEN_YEARS, lock_md5=True)
    assert s3_ways.read(s3_ways.written(options, profile, signs=True), options) == s3_ways.Ways(profile, True)
    assert s3_ways.read(s3_ways.written(options, profile, signs=True), replace(options, prefix="x/")) is None
    assert s3_ways.read("", options) is None
    assert s3_ways.read('{"profile": {"default": null}, "signs": 1, "of": ""}', options) is None


def memory_s3_at_rest() -> LyingS3:
    class Nowhere(MemoryS3):
        endpoint = "http://127.0.0.1:9"

    return Nowhere("", None, None)  # type: ignore[arg-type]


# --- a real server ------------------------------------------------------------------------------------------------


@pytest.fixture
async def store(lying_s3: LyingS3, s3_options: S3Options) -> AsyncIterator[S3Store]:
    """Over a bucket of SeaweedFS that locks for thirty days by itself."""
    made = S3Store(replace(s3_options, endpoint=lying_s3.endpoint), SystemClock(), SystemChance())
    lock_by_default(made, days=30)
    assert (await made.probe()).trusted
    lying_s3.calls.clear()
    yield made
    await made.aclose()


def lock_by_default(store: S3Store, days: int) -> None:
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}}
    store._bucket._once.put_object_lock_configuration(
        Bucket=store._bucket.name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )


async def test_recordings_and_the_log_are_locked_no_shorter_than_the_default_and_what_is_shown_is_recorded(
    store: S3Store, lying_s3: LyingS3, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    file, lock = sealed_file(tmp_path, b"a recording"), Lock(COMPLIANCE, now + 2 * DAY)
    stored = await file.put(store, "recordings/2026/05/ab/abcdef", lock)
    assert stored.retain_until is not None
    assert now + 30 * DAY <= stored.retain_until <= now + 31 * DAY
    shown = await store.inspect(stored.key, stored.version_id)
    assert shown is not None
    assert (shown.lock_mode, shown.retain_until) == (stored.lock_mode, stored.retain_until)
    again = await file.put(store, "recordings/2026/05/ab/abcdef", lock)
    assert again.retain_until == stored.retain_until
    assert "PutObjectRetention" not in lying_s3.calls, "asked for twice a day, it is the same"
    await store.shelf().put_new("checkpoints/00000000000000000007", b"seven", now + 2 * DAY)
    kept = await store.shelf().lock("checkpoints/00000000000000000007")
    assert kept is not None
    assert kept.retain_until is not None
    assert kept.retain_until >= now + 30 * DAY


@pytest.mark.parametrize("name", ["checkpoint", "tile/0/000.p/5"])
async def test_pointer_and_partial_tiles_are_locked_for_a_day_and_not_for_as_long_as_the_default(
    store: S3Store, lying_s3: LyingS3, name: str
) -> None:
    await store.shelf().put_current(name, b"seven")
    assert await store.shelf().read_current(name) == b"seven"
    lock = await store.shelf().lock(name)
    assert lock is not None
    assert lock.retain_until is not None
    assert lock.retain_until <= datetime.now(UTC) + DAY + SLACK
    # Keys that may state no lock publish all the same.
    locked = lambda call: any(each.lower().startswith("x-amz-object-lock") for each in call.headers)  # noqa: E731
    lying_s3.lie(lambda call, onward: denied() if locked(call) else onward(call))
    await store.shelf().put_current(name, b"eight")
    assert await store.shelf().read_current(name) == b"eight"


async def test_probe_of_a_bucket_that_locks_by_itself_leaves_its_canaries_locked_for_a_day(store: S3Store) -> None:
    left = [each async for each in store.versions("canary/") if not each.is_delete_marker]
    assert left
    for each in left:
        seen = await store.inspect(each.key, each.version_id)
        assert seen is not None
        assert seen.retain_until is not None
        assert seen.retain_until <= datetime.now(UTC) + DAY + SLACK
