"""The lifecycle rules that operators copy: S3 takes them, and they let go nothing that must stay."""

from __future__ import annotations

import json
import re
from typing import Any

import boto3
from moto import mock_aws

from tests.config_files import ROOT


def test_s3_takes_the_rules_and_they_keep_partial_tiles_for_thirty_days() -> None:
    page = (ROOT / "docs" / "howto" / "prepare-the-bucket.md").read_text()
    block = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert block is not None
    asked: dict[str, Any] = json.loads(block[1])
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        client.create_bucket(Bucket="bucket", ObjectLockEnabledForBucket=True)
        client.put_bucket_lifecycle_configuration(Bucket="bucket", LifecycleConfiguration=asked)
        rules = {each["ID"]: each for each in client.get_bucket_lifecycle_configuration(Bucket="bucket")["Rules"]}
    assert rules["partial-tiles"]["Filter"] == {"Tag": {"Key": "partial", "Value": "1"}}
    assert rules["partial-tiles"]["Expiration"]["Days"] >= 30
    assert rules["partial-tiles"]["NoncurrentVersionExpiration"]["NoncurrentDays"] >= 30
    assert rules["old-checkpoint-pointers"]["Filter"] == {"Prefix": "custody/checkpoint"}
    assert "Expiration" not in rules["old-checkpoint-pointers"]
