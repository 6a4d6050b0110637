"""What the keys of `storage` do, as the storage itself is asked and shows it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from archiver.clock import SystemClock
from archiver.demo.simulators import fleet
from archiver.demo.simulators.scenario import Account, month_of_calls, samples
from archiver.demo.simulators.server import Simulator
from tests.acceptance.archive import Archive, make_archive
from tests.acceptance.cli import archiver
from tests.acceptance.test_archive import s3
from tests.fixtures_s3 import NewBucket
from tests.http_servers import answer, authority, says, serve
from tests.lying_s3 import Answer, Call, LyingS3, Onward


@pytest.fixture
async def plivo() -> AsyncIterator[dict[str, Simulator]]:
    """One provider with two calls."""
    clock = SystemClock()
    sim = fleet.fleet(clock, samples(), count=0)["plivo"]
    sim.account = Account(month_of_calls("plivo", seed=5, count=2, audio=samples(), until=clock.now(), days=5))
    async with sim:
        yield {"plivo": sim}


def behind(lying_s3: LyingS3, new_bucket: NewBucket, folder: Path, more: str) -> str:
    """The storage section for a fresh bucket that is reached through the proxy, with `more` keys."""
    from dataclasses import replace

    section = s3(replace(new_bucket(), endpoint=lying_s3.endpoint), folder)
    return section.replace("[{", f"[{{{more}, ")


async def once(archive: Archive) -> None:
    told = await asyncio.to_thread(archiver, "-c", archive.path, "run", "--once")
    assert told.returncode == 0, told.stderr


def named(headers: dict[str, str], name: str) -> str | None:
    return next((value for header, value in headers.items() if header.lower() == name), None)


@pytest.mark.effect("storage[](s3).storage_class")
async def test_storage_class_is_that_of_recordings_and_of_nothing_that_is_read_at_any_time(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    asked: dict[str, str | None] = {}

    def note(call: Call, onward: Onward) -> Answer | None:
        if call.operation in {"PutObject", "CreateMultipartUpload"}:
            asked[call.path] = named(call.headers, "x-amz-storage-class")
        return onward(call.without("x-amz-storage-class"))

    lying_s3.lie(note)
    storage = behind(lying_s3, new_bucket, tmp_path, "storage_class: GLACIER_IR")
    await once(make_archive(tmp_path, plivo, sqlite_url, storage))
    kinds: dict[str, set[str | None]] = {}
    for path, storage_class in asked.items():
        kinds.setdefault(path.split("/")[3], set()).add(storage_class)
    assert kinds.pop("recordings") == {"GLACIER_IR"}
    assert kinds == {"canary": {None}, "custody": {None}, "catalogue": {None}}


OWNER = "111122223333"


def owned(call: Call, onward: Onward) -> Answer | None:
    """What AWS does with a bucket of that owner."""
    if named(call.headers, "x-amz-expected-bucket-owner") in {None, OWNER}:
        return onward(call.without("x-amz-expected-bucket-owner"))
    return Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")


@pytest.mark.effect("storage[](s3).bucket_owner")
async def test_every_call_names_the_owner_and_a_bucket_of_another_owner_gets_nothing(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    lying_s3.lie(owned)
    archive = make_archive(
        tmp_path, plivo, sqlite_url, behind(lying_s3, new_bucket, tmp_path, f'bucket_owner: "{OWNER}"')
    )
    await once(archive)
    assert {row["state"] for row in await archive.rows()} == {"archived"}
    owners = [named(headers, "x-amz-expected-bucket-owner") for headers in lying_s3.headers]
    assert set(owners) == {OWNER, "000000000000"}
    assert owners.count("000000000000") == 1  # the probe's own question, whether owners are checked at all
    # The same name, but somebody else's bucket.
    archive.path.write_text(archive.path.read_text().replace(OWNER, "444455556666"))
    before = len(lying_s3.calls)
    told = await asyncio.to_thread(archiver, "-c", archive.path, "check", "--online")
    assert told.returncode == 69
    assert "may not use this bucket" in told.stdout
    assert "PutObject" not in lying_s3.calls[before:]


async def test_a_storage_that_ignores_the_expected_owner_is_said_to_do_so(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    lying_s3.lie(lambda call, onward: onward(call.without("x-amz-expected-bucket-owner")))
    storage = behind(lying_s3, new_bucket, tmp_path, f'bucket_owner: "{OWNER}"')
    archive = make_archive(tmp_path, plivo, sqlite_url, storage)
    told = await asyncio.to_thread(archiver, "-c", archive.path, "check", "--online")
    assert "bucket_owner protects nothing here" in told.stdout


@pytest.mark.effect("storage[](s3).sse.mode", "storage[](s3).sse.key_id")
async def test_every_upload_asks_for_the_encryption_that_is_said(
    plivo: dict[str, Simulator], lying_s3: LyingS3, new_bucket: NewBucket, sqlite_url: str, tmp_path: Path
) -> None:
    asked: set[tuple[str | None, str | None]] = set()

    def note(call: Call, onward: Onward) -> Answer | None:
        if call.operation in {"PutObject", "CreateMultipartUpload"}:
            asked.add(
                (
                    named(call.headers, "x-amz-server-side-encryption"),
                    named(call.headers, "x-amz-server-side-encryption-aws-kms-key-id"),
                )
            )
        return onward(call.without("x-amz-server-side-encryption"))

    lying_s3.lie(note)
    storage = behind(lying_s3, new_bucket, tmp_path, "sse: {mode: 'aws:kms', key_id: alias/acme}")
    await once(make_archive(tmp_path, plivo, sqlite_url, storage))
    assert asked == {("aws:kms", "alias/acme")}


@pytest.mark.effect("storage[](s3).id", "storage[](s3).required")
async def test_a_bucket_that_refuses_holds_things_up_only_when_it_is_required_and_is_spoken_of_by_its_id(
    plivo: dict[str, Simulator], sqlite_url: str, tmp_path: Path
) -> None:
    no = answer(403, b"<Error><Code>AccessDenied</Code></Error>", "Content-Type: application/xml")
    (tmp_path / "s3").write_text("secret")
    (tmp_path / "s3").chmod(0o400)
    async with serve(says(no)) as server:
        bucket = f"kind: s3, endpoint: '{server.origin}', bucket: acme, access_key: AKEXAMPLE, secret_key: file:s3"
        storage = f"[{{kind: directory, path: copies}}, {{id: frankfurt, required: true, {bucket}}}]"
        archive = make_archive(tmp_path, plivo, sqlite_url, storage)

        async def swept() -> set[str]:
            told = await asyncio.to_thread(archiver, "-c", archive.path, "-o", "json", "run", "--once")
            concerns = json.loads(told.stdout)["data"]["concerns"]
            return {each["subject"] for each in concerns if each["kind"] == "storage.not_trusted"}

        assert await swept() == {"frankfurt"}
        assert "archived" not in {row["state"] for row in await archive.rows()}
        text = archive.path.read_text()
        archive.path.write_text(text.replace("frankfurt, required: true", "nuremberg, required: false"))
        assert await swept() == {"nuremberg"}
        assert {row["state"] for row in await archive.rows()} == {"archived"}


@pytest.mark.effect(
    "storage[](s3).region", "storage[](s3).session_token", "storage[](s3).ca_bundle", "storage[](s3).addressing"
)
async def test_requests_are_signed_for_the_region_with_the_session_and_go_to_a_server_of_the_trusted_authority(
    plivo: dict[str, Simulator], sqlite_url: str, tmp_path: Path
) -> None:
    """Four storages, which differ in these keys only, each on a server of its own that writes down what it is asked."""
    ca = authority(tmp_path)
    for name in ("s3", "session"):
        (tmp_path / name).write_text(f"secret-{name}")
        (tmp_path / name).chmod(0o400)
    own = {
        "full": "region: eu-west-7, session_token: file:session, ca_bundle: ca.pem, addressing: path",
        "plain": "ca_bundle: ca.pem, addressing: path",
        "stranger": "addressing: path",
        "virtual": "ca_bundle: ca.pem, addressing: virtual",
    }
    hosts = {"virtual": "0.0.1"}  # the bucket before it is the one name of this machine that needs no resolver
    no = says(answer(403, b"<Error><Code>AccessDenied</Code></Error>", "Content-Type: application/xml"))
    async with AsyncExitStack() as stack:
        context = ca.context(names=("127.0.0.1", "localhost"))
        servers = {name: await stack.enter_async_context(serve(no, tls=context)) for name in own}
        storages = [
            f"{{id: {name}, kind: s3, endpoint: 'https://{hosts.get(name, 'localhost')}:{servers[name].port}', "
            f"bucket: '127', access_key: AKEXAMPLE, secret_key: file:s3, {more}}}"
            for name, more in own.items()
        ]
        archive = make_archive(tmp_path, plivo, sqlite_url, f"[{', '.join(storages)}]")
        told = await asyncio.to_thread(archiver, "-c", archive.path, "check", "--online")
    heard = {name: "".join(asked.raw.decode("latin-1") for asked in each.asked) for name, each in servers.items()}
    assert "/eu-west-7/s3/aws4_request" in heard["full"]
    assert "x-amz-security-token: secret-session" in heard["full"].lower()
    assert "HEAD /127 " in heard["full"]
    assert "/us-east-1/s3/aws4_request" in heard["plain"]
    assert "x-amz-security-token" not in heard["plain"].lower()
    assert heard["stranger"] == "", "no authority that this machine trusts"
    assert f"HEAD / HTTP/1.1\r\nHost: 127.0.0.1:{servers['virtual'].port}\r\n" in heard["virtual"], told.stdout
