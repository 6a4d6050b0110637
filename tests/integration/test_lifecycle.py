"""The rules of docs/howto/prepare-the-bucket.md, done to a bucket with a log in it: nothing is missed, nothing reported."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from archiver.clock import SystemChance, SystemClock
from archiver.recording import LockMode
from archiver.store.s3 import S3Options, S3Store
from archiver.verify.finding import Verification
from archiver.verify.leaves import Trust
from archiver.verify.protection import ExpectedLock
from archiver.verify.published_log import check_published_log
from archiver.verify.recorded_log import recorded_log
from tests.config_files import ROOT
from tests.custody_log import HOSTS, custody_log
from tests.custody_log import check_shelf as read_all
from tests.fixtures_s3 import bucket_at
from tests.log_trees import LOG


def partial_rule() -> dict[str, Any]:
    page = (ROOT / "docs" / "howto" / "prepare-the-bucket.md").read_text()
    block = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert block is not None
    (rule,) = [each for each in json.loads(block[1])["Rules"] if each["ID"] == "partial-tiles"]
    found: dict[str, Any] = rule
    return found


class Lifecycle:
    """What S3 does by such a rule, all at once instead of after 30 days."""

    def __init__(self, options: S3Options) -> None:
        assert options.access_key
        assert options.secret_key
        self._bucket = options.bucket
        self._client: Any = boto3.client(
            "s3", endpoint_url=options.endpoint, region_name=options.region,
            aws_access_key_id=options.access_key.reveal(), aws_secret_access_key=options.secret_key.reveal(),
        )  # fmt: skip
        tag = partial_rule()["Filter"]["Tag"]
        self.matching = [
            (each["Key"], each["VersionId"])
            for each in self._versions()
            if self._tags(each["Key"]).get(tag["Key"]) == tag["Value"]
        ]

    def expire(self) -> None:
        """`Expiration`: in a versioned bucket, a delete marker."""
        assert "Days" in partial_rule()["Expiration"]
        for key in {key for key, _ in self.matching}:
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def expire_noncurrent(self) -> tuple[list[str], list[str]]:
        """`NoncurrentVersionExpiration`: for good, but never against a lock. What went, and what stayed."""
        assert "NoncurrentVersionExpiration" in partial_rule()
        gone, stayed = [], []
        for key, version in self.matching:
            try:
                self._client.delete_object(Bucket=self._bucket, Key=key, VersionId=version)
                gone.append(key)
            except ClientError:
                stayed.append(key)
        return gone, stayed

    def _versions(self) -> Iterator[dict[str, Any]]:
        for page in self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket):
            yield from page.get("Versions", [])

    def _tags(self, key: str) -> dict[str, str]:
        found = self._client.get_object_tagging(Bucket=self._bucket, Key=key)["TagSet"]
        return {each["Key"]: each["Value"] for each in found}


@pytest.mark.parametrize("pinned", [True, False])
async def test_partial_tiles_that_expire_hide_nothing_and_old_ones_are_no_finding(
    seaweedfs: str, sqlite_url: str, tmp_path: Path, pinned: bool
) -> None:
    """Pinned: the archive stands still afterwards. Else it goes on, so that wider tiles take the place of what went."""
    options = replace(bucket_at(seaweedfs), id="bucket")
    store = S3Store(options, SystemClock(), SystemChance())
    await store.probe()
    try:
        async with custody_log(sqlite_url, tmp_path / "notary.db", [store.shelf()]) as archive:

            async def publish(count: int) -> int:
                await archive.grow(count)
                issued = await archive.publisher.publish(archive.clock.now() + timedelta(days=30))
                assert issued is not None
                return issued.checkpoint.size

            async def findings() -> list[Any]:
                result, trust = Verification(), Trust(LOG.key, HOSTS)
                kept = await recorded_log(archive.engine, archive.log_id, [])
                locked = ExpectedLock(LockMode.COMPLIANCE, lambda put: put)
                await check_published_log(store.shelf(), trust, kept, result, whole=True, expected=locked)
                assert not result.unreachable
                return result.failures

            await archive.publisher.start()
            await publish(100)
            size = await publish(200)
            if pinned:
                await archive.publisher.pin(size, archive.clock.now() + timedelta(days=30))
            rules = Lifecycle(options)
            assert {f"tile/0/001.p/{size - 256}", "tile/1/000.p/1"} <= {
                key.partition("custody/")[2] for key, _ in rules.matching
            }
            assert all(".p/" in key for key, _ in rules.matching)

            rules.expire()  # within a day, which no rule does: of what the tree ends with, that is said
            edge = {f"tile/0/001.p/{size - 256}", "tile/1/000.p/1", f"tile/entries/001.p/{size - 256}"}
            assert {(each.key, "delete marker" in each.detail) for each in await findings()} == {
                (name, True) for name in edge
            }
            await read_all(store.shelf(), size)

            if not pinned:
                size = await publish(300)
            gone, stayed = rules.expire_noncurrent()
            assert gone
            assert bool(stayed) is pinned
            assert {each.key for each in await findings()} == (edge if pinned else set())
            await read_all(store.shelf(), size)
    finally:
        await store.aclose()
