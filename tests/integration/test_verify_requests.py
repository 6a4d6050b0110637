"""What verification asks of a storage: pages of its listing where they will do, each key where they will not."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archiver.clock import SystemChance, SystemClock
from archiver.recording import Lock, LockMode
from archiver.store.s3 import S3Options, S3Store
from archiver.store.s3_values import Digests, base64_of
from archiver.verify.finding import Claimed, Kind, Verification
from archiver.verify.fsck import Instruments, check_objects
from tests import lying_s3 as lies
from tests.lying_s3 import Answer, Call, Fault, LyingS3, Onward
from tests.sealed_files import sealed_file

RECORDINGS = 5


@pytest.fixture
async def store(lying_s3: LyingS3, s3_options: S3Options) -> AsyncIterator[S3Store]:
    made = S3Store(replace(s3_options, endpoint=lying_s3.endpoint), SystemClock(), SystemChance())
    assert (await made.probe()).trusted
    yield made
    await made.aclose()


@pytest.fixture
async def claims(store: S3Store, tmp_path: Path) -> list[Claimed]:
    """Five recordings, the second under a newer version, the third under a delete marker, and one page in quarantine."""
    lock = Lock(LockMode.COMPLIANCE, datetime.now(UTC) + timedelta(days=2))
    claimed = []
    for n in range(RECORDINGS):
        file = sealed_file(tmp_path, f"recording {n}".encode())
        key = f"quarantine/ab/{n}" if n == RECORDINGS - 1 else f"recordings/2026/0{n + 1}/ab/{n}"
        stored = await file.put(store, key, lock)
        claimed.append(
            Claimed(
                f"r{n}", "plivo", "archived", None, 0, file.sealed_sha256, file.size, stored.retain_until, (stored,)
            )
        )
        if n == 1:
            store._bucket.put(stored.key, b"evil", Digests(sha256=base64_of(hashlib.sha256(b"evil").digest())))
        if n == 2:
            store._bucket.delete(stored.key)
    return claimed


async def verified(store: S3Store, claims: list[Claimed], *, by_pages: bool) -> Verification:
    result = Verification()
    await check_objects(claims, Instruments({"primary": store}, (), frozenset(), by_pages=by_pages), result)
    return result


def told(result: Verification) -> list[tuple[str, Kind]]:
    return sorted((each.subject, each.kind) for each in result.findings)


COVERED = [("rec:r1", Kind.LATER_VERSION), ("rec:r2", Kind.DELETE_MARKER)]


async def test_verification_lists_pages_and_finds_what_it_finds_by_asking_for_each_key(
    store: S3Store, lying_s3: LyingS3, claims: list[Claimed]
) -> None:
    counted = {}
    for by_pages in (False, True):
        lying_s3.calls.clear()
        result = await verified(store, claims, by_pages=by_pages)
        assert told(result) == COVERED
        assert not result.unreachable
        counted[by_pages] = lying_s3.calls.count("ListObjectVersions")
    assert counted == {False: RECORDINGS, True: 2}, "one page of recordings, one of quarantine"


def refuse_folders() -> Fault:
    """Listing is allowed below a whole key only."""

    def refuse(call: Call, onward: Onward) -> Answer | None:
        if call.operation == "ListObjectVersions" and "/ab/" not in call.query["prefix"][0]:
            return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
        return onward(call)

    return refuse


def lose_keys() -> Fault:
    """A listing of folders that shows nothing, as one page that is no listing does."""

    def lose(call: Call, onward: Onward) -> Answer | None:
        if call.operation == "ListObjectVersions" and "/ab/" not in call.query["prefix"][0]:
            return onward(replace(call, target=call.target.replace("prefix=", "prefix=none")))
        return onward(call)

    return lose


@pytest.mark.parametrize("fault", [refuse_folders, lose_keys])
async def test_key_that_no_page_shows_is_asked_for_by_itself(
    store: S3Store, lying_s3: LyingS3, claims: list[Claimed], fault: Callable[[], Fault]
) -> None:
    lying_s3.lie(fault())
    result = await verified(store, claims, by_pages=True)
    assert told(result) == COVERED
    assert not result.unreachable


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
async def test_storage_that_lists_no_versions_is_asked_what_lies_on_top_and_the_rest_is_said_to_be_unread(
    store: S3Store, lying_s3: LyingS3, claims: list[Claimed], status: int, code: str
) -> None:
    lying_s3.lie(lies.refuse("ListObjectVersions", status, code))
    result = await verified(store, claims, by_pages=True)
    assert told(result) == COVERED
    assert result.objects_read == RECORDINGS
    assert sum(result.unreachable.values()) == RECORDINGS
    assert not result.clean


@pytest.mark.parametrize("size", [3, 1000])
async def test_log_that_is_read_in_passing_shows_what_it_shows_by_name_for_a_fraction_of_the_listings(
    store: S3Store, lying_s3: LyingS3, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Pages of three cut the versions of one name in two; a name that is not there, and one in another folder, are asked for."""
    plain, until = store.shelf(), datetime.now(UTC) + timedelta(days=2)
    names = [f"checkpoints/{n:020d}" for n in range(8, 13)] + [
        "tile/0/000",
        "tile/0/000.p/5",
        "tile/0/x001/234",
        "tile/entries/000",
    ]
    for n, name in enumerate(names):
        await plain.put_new(name, name.encode(), until)
        for _ in range(n % 3):
            await plain.put_current(name, b"over it")
    store._bucket.delete(f"calls/custody/{names[4]}")
    client = store._bucket._twice
    whole_page = client.list_object_versions
    monkeypatch.setattr(client, "list_object_versions", lambda **fields: whole_page(**{**fields, "MaxKeys": size}))
    passing = store.shelf(in_passing=True)
    counted = []
    for shelf in (plain, passing):
        lying_s3.calls.clear()
        shown = [
            (await shelf.versions(name), await shelf.lock(name), await shelf.read(name))
            for name in [*names, "checkpoints/7", "tile/0/x001/235", names[0]]
        ]
        counted.append((shown, lying_s3.calls.count("ListObjectVersions")))
    assert counted[0][0] == counted[1][0]
    assert [len(versions) for versions, _, _ in counted[1][0]] == [1, 2, 3, 1, 3, 3, 1, 2, 3, 0, 0, 1]
    if size == 1000:
        assert counted[1][1] <= 12 < counted[0][1]
