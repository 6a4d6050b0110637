"""The merge of journal and bucket: whatever is on either side, each key once, and every difference named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import errors
from archiver.completeness.compare import joined, judge, lock, missing, unseen
from archiver.completeness.gap import Code, Gap, Grade
from archiver.ingest.journal_pages import ClaimedCopy
from archiver.recording import Json, LockMode, Stored
from archiver.store.port import Version

T = TypeVar("T")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


def copy(key: str, version: str | None = "v1", size: int = 10) -> ClaimedCopy:
    return ClaimedCopy(
        "primary",
        key,
        version,
        f"id-of-{key}",
        "p",
        size,
        "ab" * 32,
        LockMode.COMPLIANCE,
        NOW + 30 * DAY,
        NOW - 9 * DAY,
    )


def there(
    key: str, version: str | None = "v1", size: int = 10, *, marker: bool = False, age: timedelta = DAY
) -> Version:
    return Version(key, version, size, NOW - age, True, marker)


async def stream(values: Sequence[T]) -> AsyncIterator[T]:
    for each in values:
        yield each


async def merged(
    left: Sequence[ClaimedCopy], right: Sequence[Version]
) -> list[tuple[str, list[ClaimedCopy], list[Version]]]:
    return [each async for each in joined(stream(left), stream(right))]


KEYS = st.lists(st.sampled_from("abcdefgh"), max_size=12)


@given(KEYS, KEYS)
def test_each_key_of_either_side_comes_once_with_all_that_is_under_it(left: list[str], right: list[str]) -> None:
    found = asyncio.run(merged([copy(key) for key in sorted(left)], [there(key) for key in sorted(right)]))
    assert [key for key, _, _ in found] == sorted({*left, *right})
    assert all((len(claimed), len(shown)) == (left.count(key), right.count(key)) for key, claimed, shown in found)
    assert all(each.key == key for key, claimed, shown in found for each in (*claimed, *shown))


async def test_listing_out_of_order_is_refused_rather_than_misjudged() -> None:
    with pytest.raises(errors.VerificationError, match="order"):
        await merged([], [there("b"), there("a")])


@pytest.mark.parametrize(
    ("claimed", "shown", "expected"),
    [
        ([copy("k")], [there("k")], []),
        ([copy("k"), copy("k")], [there("k")], []),
        ([copy("k", None)], [there("k", None)], []),
        ([copy("k", None)], [there("k", "other")], []),
        ([copy("k")], [there("k", size=9)], [Code.DIGEST_DIFFERS]),
        ([copy("k")], [there("k"), there("k", "v2")], [Code.EXTRA_VERSION]),
        ([copy("k")], [there("k", "m", marker=True), there("k")], [Code.DELETE_MARKER]),
        ([copy("k")], [there("k", "m", 9, marker=True), there("k")], [Code.DELETE_MARKER]),
        ([copy("k", None)], [there("k", None), there("k", "m", marker=True)], []),
        ([copy("k"), copy("k", "v2")], [there("k"), there("k", "v2")], []),
        ([copy("k"), copy("k", "v2")], [there("k", size=9), there("k", "v2", 8)], [Code.DIGEST_DIFFERS] * 2),
        ([copy("k")], [], []),
        ([copy("k")], [there("k", "v2")], [Code.EXTRA_VERSION]),
        ([copy("k")], [there("k"), there("k", "v2"), there("k", "m", marker=True)], [Code.EXTRA_VERSION]),
        ([], [there("k", age=2 * DAY)], [Code.ORPHAN]),
        ([], [there("k", age=HOUR - SECOND)], []),
        ([], [there("k", age=HOUR)], [Code.ORPHAN]),
        ([], [there("k", age=2 * DAY), there("k", "v2", age=HOUR - SECOND)], []),
        ([], [there("k", "m", marker=True)], []),
    ],
)
def test_what_stands_under_a_key_is_judged(
    claimed: list[ClaimedCopy], shown: list[Version], expected: list[Code]
) -> None:
    assert [each.code for each in judge("primary", "k", claimed, shown, NOW)] == expected


EVIDENCE: dict[str, Json] = {
    "storage": "primary",
    "key": "k",
    "version_id": "v1",
    "recording": "rec:id-of-k",
    "ct_sha256": "ab" * 32,
}


@pytest.mark.parametrize(
    ("shown", "subject", "code", "detail"),
    [
        ([there("k", size=9)], "object:primary/k", Code.DIGEST_DIFFERS, "10 bytes were stored, 9 are there"),
        ([there("k"), there("k", "v2"), there("k", "v3")], "cover:primary/k", Code.EXTRA_VERSION,
         "2 version(s) that the journal does not know stand under this key"),
        ([there("k"), there("k", "m", marker=True)], "cover:primary/k", Code.DELETE_MARKER,
         "a delete marker covers this key; what it hides may be in the storage still"),
    ],
)  # fmt: skip
def test_a_difference_names_its_copy_and_what_lies_over_it_is_told_from_it(
    shown: list[Version], subject: str, code: Code, detail: str
) -> None:
    (found,) = judge("primary", "k", [copy("k")], shown, NOW)
    assert found == Gap("p", subject, code, Grade.OPEN, detail, EVIDENCE)


@pytest.mark.parametrize(("age", "grade"), [(DAY - SECOND, Grade.WATCHED), (DAY, Grade.OPEN)])
def test_orphan_is_watched_for_a_day_before_it_is_a_gap(age: timedelta, grade: Grade) -> None:
    shown = [there("k", age=3 * DAY), there("k", "v2", age=age), there("k", "m", marker=True, age=HOUR / 2)]
    (found,) = judge("primary", "k", [], shown, NOW)
    said = "2 object version(s) that no row of the journal knows"
    evidence: dict[str, Json] = {"storage": "primary", "key": "k", "versions": 2}
    assert found == Gap("", "object:primary/k", Code.ORPHAN, grade, said, evidence)


def test_what_is_not_there_is_a_gap_of_its_copy() -> None:
    said = "called archived, and the storage does not have this version"
    assert missing(copy("k")) == Gap("p", "object:primary/k", Code.MISSING_HERE, Grade.OPEN, said, EVIDENCE)


def test_what_a_listing_does_not_show_is_to_be_asked_for_by_name() -> None:
    ours = copy("k")
    assert unseen([ours], [there("k")]) == []
    assert unseen([ours, ours], []) == [ours]
    assert unseen([ours], [there("k", "v2")]) == [ours]
    assert unseen([ours], [there("k", marker=True)]) == [ours]


UNTIL = NOW + 30 * DAY
OTHER = (Code.DIGEST_DIFFERS, "the storage shows another SHA-256 than was sealed")


@pytest.mark.parametrize(
    ("mode", "until", "digest", "expected"),
    [
        (LockMode.COMPLIANCE, UNTIL, "ab" * 32, []),
        (LockMode.COMPLIANCE, UNTIL + SECOND, "", []),
        (LockMode.GOVERNANCE, UNTIL, "ab" * 32,
         [(Code.UNLOCKED, "compliance was recorded, the storage shows governance")]),
        (LockMode.OFF, None, "", [(Code.UNLOCKED, "compliance was recorded, the storage shows off")]),
        (LockMode.COMPLIANCE, None, "",
         [(Code.UNLOCKED, "locked until 2026-12-21 12:00:00 was recorded, now not at all")]),
        (LockMode.COMPLIANCE, UNTIL - SECOND, "",
         [(Code.UNLOCKED, "locked until 2026-12-21 12:00:00 was recorded, now 2026-12-21 11:59:59")]),
        (LockMode.COMPLIANCE, UNTIL, "cd" * 32, [OTHER]),
        (LockMode.OFF, None, "cd" * 32, [OTHER, (Code.UNLOCKED, "compliance was recorded, the storage shows off")]),
    ],
)  # fmt: skip
def test_lock_and_digest_are_compared_with_what_was_recorded(
    mode: LockMode, until: datetime | None, digest: str, expected: list[tuple[Code, str]]
) -> None:
    seen = Stored("primary", "b", "k", "v1", 10, digest, mode, until)
    assert list(lock(copy("k"), seen, NOW)) == [
        Gap("p", "object:primary/k", code, Grade.OPEN, detail, EVIDENCE) for code, detail in expected
    ]


@pytest.mark.parametrize(
    ("claimed", "now", "missed"),
    [
        (copy("k"), UNTIL - SECOND, True),
        (copy("k"), UNTIL, False),
        (replace(copy("k"), lock_mode=LockMode.OFF), NOW, False),
        (replace(copy("k"), retain_until=None), NOW, False),
    ],
)
def test_a_lock_that_has_run_out_or_was_never_recorded_is_not_missed(
    claimed: ClaimedCopy, now: datetime, missed: bool
) -> None:
    seen = Stored("primary", "b", "k", "v1", 10, "", LockMode.OFF, None)
    assert bool(list(lock(claimed, seen, now))) is missed
