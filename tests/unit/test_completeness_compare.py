"""The merge of journal and bucket: whatever is on either side, each key once, and every difference named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import errors
from archiver.completeness.compare import Copy, joined, judge, lock, unseen
from archiver.completeness.gap import Code, Grade
from archiver.recording import LockMode, Stored
from archiver.store.port import Version

T = TypeVar("T")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def copy(key: str, version: str | None = "v1", size: int = 10) -> Copy:
    return Copy(
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


async def merged(left: Sequence[Copy], right: Sequence[Version]) -> list[tuple[str, list[Copy], list[Version]]]:
    return [each async for each in joined(stream(left), stream(right))]


KEYS = st.lists(st.sampled_from("abcdefgh"), max_size=12)


@given(KEYS, KEYS)
def test_each_key_of_either_side_comes_once_with_all_that_is_under_it(left: list[str], right: list[str]) -> None:
    found = asyncio.run(merged([copy(key) for key in sorted(left)], [there(key) for key in sorted(right)]))
    assert [key for key, _, _ in found] == sorted({*left, *right})
    assert all((len(claimed), len(shown)) == (left.count(key), right.count(key)) for key, claimed, shown in found)


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
        ([copy("k")], [there("k"), there("k", "m", marker=True)], [Code.DELETE_MARKER]),
        ([copy("k")], [there("k"), there("k", "v2"), there("k", "m", marker=True)], [Code.EXTRA_VERSION]),
        ([], [there("k", age=2 * DAY)], [Code.ORPHAN]),
        ([], [there("k", age=timedelta(minutes=5))], []),
        ([], [there("k", "m", marker=True)], []),
    ],
)
def test_what_stands_under_a_key_is_judged(claimed: list[Copy], shown: list[Version], expected: list[Code]) -> None:
    assert [each.code for each in judge("primary", "k", claimed, shown, NOW)] == expected


def test_orphan_is_watched_for_a_day_before_it_is_a_gap() -> None:
    (young,) = judge("primary", "k", [], [there("k", age=timedelta(hours=2))], NOW)
    (old,) = judge("primary", "k", [], [there("k", age=2 * DAY)], NOW)
    assert (young.grade, old.grade) == (Grade.WATCHED, Grade.OPEN)


def test_what_a_listing_does_not_show_is_to_be_asked_for_by_name() -> None:
    ours = copy("k")
    assert unseen([ours], [there("k")]) == []
    assert unseen([ours, ours], []) == [ours]
    assert unseen([ours], [there("k", "v2")]) == [ours]
    assert unseen([ours], [there("k", marker=True)]) == [ours]


@pytest.mark.parametrize(
    ("mode", "until", "digest", "expected"),
    [
        (LockMode.COMPLIANCE, NOW + 30 * DAY, "ab" * 32, []),
        (LockMode.COMPLIANCE, NOW + 60 * DAY, "", []),
        (LockMode.GOVERNANCE, NOW + 30 * DAY, "ab" * 32, [Code.UNLOCKED]),
        (LockMode.OFF, None, "", [Code.UNLOCKED]),
        (LockMode.COMPLIANCE, NOW + 29 * DAY, "", [Code.UNLOCKED]),
        (LockMode.COMPLIANCE, NOW + 30 * DAY, "cd" * 32, [Code.DIGEST_DIFFERS]),
    ],
)
def test_lock_and_digest_are_compared_with_what_was_recorded(
    mode: LockMode, until: datetime | None, digest: str, expected: list[Code]
) -> None:
    seen = Stored("primary", "b", "k", "v1", 10, digest, mode, until)
    assert [each.code for each in lock(copy("k"), seen, NOW)] == expected


def test_lock_that_has_run_out_is_not_missed() -> None:
    seen = Stored("primary", "b", "k", "v1", 10, "", LockMode.OFF, None)
    assert list(lock(copy("k"), seen, NOW + 31 * DAY)) == []
